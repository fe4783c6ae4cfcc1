"""Headers for logins and retries, and the credentials that Docker stores."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest

from labctl.model.errors import LabError
from labctl.transfer.challenges import Challenge, challenges, retry_after
from labctl.transfer.credentials import Credentials, lookup

NOW = 1_800_000_000.0  # 15 January 2027, 08:00:00 UTC
AUTH = base64.b64encode(b"me:hush:hush").decode()
TOKEN = "eyJ.token"  # noqa: S105 - not a real one


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", ()),
        ("Basic", (Challenge("basic"),)),
        ('Basic realm="a, b"', (Challenge("basic", {"realm": "a, b"}),)),
        (
            'Bearer realm="https://auth.test/token",service="reg.test",scope="repository:a/b:pull,push"',
            (
                Challenge(
                    "bearer",
                    {"realm": "https://auth.test/token", "service": "reg.test", "scope": "repository:a/b:pull,push"},
                ),
            ),
        ),
        ("bearer REALM=x , error=invalid_token", (Challenge("bearer", {"realm": "x", "error": "invalid_token"}),)),
        (
            r'Negotiate, Basic realm="\"quoted\"", Bearer realm="x"',
            (Challenge("negotiate"), Challenge("basic", {"realm": '"quoted"'}), Challenge("bearer", {"realm": "x"})),
        ),
        ('="nothing"', ()),
    ],
)
def test_challenges_of_a_registry_are_parsed(header: str, expected: tuple[Challenge, ...]) -> None:
    assert challenges(header) == expected


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("0", 0),
        (" 120 ", 120),
        ("Fri, 15 Jan 2027 08:02:00 GMT", 120),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
        ("Friday, 15-Jan-27 08:02:00 GMT", 120),
        ("Fri Jan 15 08:02:00 2027", 120),
    ],
)
def test_retry_after_is_seconds_or_a_date(
    monkeypatch: pytest.MonkeyPatch, header: str | None, seconds: float | None
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert retry_after(header, NOW) == seconds
    time.tzset()


@pytest.mark.parametrize(
    ("entries", "host", "expected"),
    [
        ({}, "quay.io", None),
        ({"quay.io": {}}, "quay.io", None),
        ({"quay.io": {"auth": AUTH}}, "quay.io", ("me", "hush:hush", "")),
        ({"https://quay.io/v1/": {"auth": AUTH}}, "quay.io", ("me", "hush:hush", "")),
        ({"reg.test:5000": {"username": "me", "password": "p"}}, "reg.test:5000", ("me", "p", "")),
        ({"reg.test:5000": {"auth": AUTH}}, "reg.test", None),
        ({"reg.test": {"auth": AUTH, "identitytoken": TOKEN}}, "reg.test", ("me", "hush:hush", TOKEN)),
        ({"https://index.docker.io/v1/": {"auth": AUTH}}, "registry-1.docker.io", ("me", "hush:hush", "")),
        ({"docker.io": {"auth": AUTH}}, "registry-1.docker.io", ("me", "hush:hush", "")),
        (
            {
                "https://index.docker.io/v1/": {"auth": AUTH},
                "https://index.docker.io/v1/access-token": {"username": "me", "password": "of the web login"},
                "https://index.docker.io/v1/refresh-token": {"username": "me", "password": "of the web login"},
            },
            "registry-1.docker.io",
            ("me", "hush:hush", ""),
        ),
        (
            {"quay.io/team": {"username": "team", "password": "p"}, "quay.io": {"auth": AUTH}},
            "quay.io",
            ("me", "hush:hush", ""),
        ),
    ],
)
def test_a_login_is_read_from_dockers_configuration(
    tmp_path: Path, entries: dict[str, object], host: str, expected: tuple[str, str, str] | None
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": entries}))

    login = lookup(host, {"DOCKER_CONFIG": str(tmp_path)})

    assert (login and (login.user, login.password, login.identity_token)) == expected
    assert "hush" not in f"{login}{login!r}"
    assert lookup(host, {"DOCKER_CONFIG": str(tmp_path / "none")}) is None


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"auths": [1]}',
        '{"auths": {"quay.io": "x"}}',
        '{"auths": {"quay.io": {"auth": "?"}}}',
        '{"credsStore": "../x"}',
    ],
)
def test_an_unusable_docker_configuration_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)

    with pytest.raises(LabError) as failed:
        lookup("quay.io", {"DOCKER_CONFIG": str(tmp_path)})

    assert (failed.value.id, str(tmp_path) in failed.value.message) == ("docker-config-invalid", True)


def test_a_password_with_a_colon_is_sent_unchanged() -> None:
    assert Credentials("x", "me", "hush:hush").basic == f"Basic {AUTH}"
