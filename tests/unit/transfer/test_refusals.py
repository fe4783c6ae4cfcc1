"""The errors for statuses, by server and identity."""

from __future__ import annotations

from types import NoneType

import pytest

from labctl.model.errors import MissingError
from labctl.transfer import refusals
from labctl.transfer.failures import TransientError
from labctl.transfer.refusals import ANONYMOUS, Identity

HUB, QUAY = "https://registry-1.docker.io/v2/library/nginx/manifests/1", "https://quay.io/v2/a/manifests/1?token=hush"
ME = Identity("registry-1.docker.io", "as me")


@pytest.mark.parametrize(
    ("response", "identity", "kind", "words_expected"),
    [
        ((HUB, 200, ""), ANONYMOUS, NoneType, ("",)),
        ((HUB, 429, ""), ANONYMOUS, MissingError, ("rate-limited", "Docker Hub", "`docker login`")),
        ((HUB, 429, "30"), ANONYMOUS, TransientError, ("rate-limited", "Docker Hub", "30 s")),
        ((HUB, 429, ""), ME, MissingError, ("rate-limited",)),
        ((QUAY, 429, ""), ANONYMOUS, TransientError, ("rate-limited", "quay.io")),
        ((QUAY, 401, ""), ANONYMOUS, MissingError, ("login-needed", "`docker login quay.io`", "DENIED: no")),
        ((HUB, 403, ""), ME, MissingError, ("login-refused", "as me", "`docker login`", "DENIED: no")),
        ((QUAY, 404, ""), ANONYMOUS, MissingError, ("source-not-found", "quay.io")),
        ((QUAY, 502, ""), ANONYMOUS, TransientError, ("source-failing", "502")),
        ((QUAY, 408, ""), ANONYMOUS, TransientError, ("source-failing", "408")),
        ((QUAY, 304, ""), ANONYMOUS, MissingError, ("source-refused", "304")),
    ],
)
def test_a_status_becomes_one_error(
    response: tuple[str, int, str], identity: Identity, kind: type, words_expected: tuple[str, ...]
) -> None:
    url, status, after = response
    content = b'{"errors": [{"code": "DENIED", "message": "no"}]}'

    error = refusals.from_response(status, {"Retry-After": after} if after else {}, content, url, identity)

    assert type(error) is kind
    identifier, *words = words_expected
    assert (error.id if error else "") == identifier
    text = f"{error.message} {error.hint} {error.details}" if error else ""
    assert [word for word in words if word not in text] == []
    assert ("Docker Hub" in text) == ("Docker Hub" in words_expected)
    assert "hush" not in text
