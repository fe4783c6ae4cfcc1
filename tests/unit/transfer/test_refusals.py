"""The errors for statuses, by server and identity."""

from __future__ import annotations

from types import NoneType

import pytest

from labctl.model.errors import MissingError
from labctl.transfer import refusals
from labctl.transfer.failures import PassingError
from labctl.transfer.refusals import ANYBODY, Identity

HUB, QUAY = "https://registry-1.docker.io/v2/library/nginx/manifests/1", "https://quay.io/v2/a/manifests/1?token=hush"
ME = Identity("registry-1.docker.io", "as me")


@pytest.mark.parametrize(
    ("response", "identity", "kind", "words_expected"),
    [
        ((HUB, 200, ""), ANYBODY, NoneType, ("",)),
        ((HUB, 429, ""), ANYBODY, MissingError, ("rate-limited", "Docker Hub", "`docker login`")),
        ((HUB, 429, "30"), ANYBODY, PassingError, ("rate-limited", "Docker Hub", "30 s")),
        ((HUB, 429, ""), ME, MissingError, ("rate-limited",)),
        ((QUAY, 429, ""), ANYBODY, PassingError, ("rate-limited", "quay.io")),
        ((QUAY, 401, ""), ANYBODY, MissingError, ("login-needed", "`docker login quay.io`", "DENIED: no")),
        ((HUB, 403, ""), ME, MissingError, ("login-refused", "as me", "`docker login`", "DENIED: no")),
        ((QUAY, 404, ""), ANYBODY, MissingError, ("source-not-found", "quay.io")),
        ((QUAY, 502, ""), ANYBODY, PassingError, ("source-failing", "502")),
        ((QUAY, 408, ""), ANYBODY, PassingError, ("source-failing", "408")),
        ((QUAY, 304, ""), ANYBODY, MissingError, ("source-refused", "304")),
    ],
)
def test_a_status_becomes_one_error(
    response: tuple[str, int, str], identity: Identity, kind: type, words_expected: tuple[str, ...]
) -> None:
    url, status, after = response
    content = b'{"errors": [{"code": "DENIED", "message": "no"}]}'

    error = refusals.of(status, {"Retry-After": after} if after else {}, content, url, identity)

    assert type(error) is kind
    identifier, *words = words_expected
    assert (error.id if error else "") == identifier
    text = f"{error.message} {error.hint} {error.details}" if error else ""
    assert [word for word in words if word not in text] == []
    assert ("Docker Hub" in text) == ("Docker Hub" in words_expected)
    assert "hush" not in text
