"""Registry credentials that `docker login` stored in config.json or with a credential helper."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labctl.host import paths
from labctl.model.errors import MissingError

HELPER_SECONDS = 10.0
"""Time limit of a helper; some ask for a passphrase."""
_DOCKER_HUB = ("https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io")
"""The keys of Docker Hub's login: first Docker's own, which credential helpers use, then those of other tools."""
_TOKEN_USER = "<token>"  # noqa: S105 - how a helper marks an identity token
_HELPER = re.compile(r"[\w.-]+", re.ASCII)
_UNKNOWN = "credentials not found"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The user's credentials for a registry: a name and a password, or an identity token."""

    source: str
    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"as {self.user or 'the owner of an identity token'}, from {self.source}"

    @property
    def basic(self) -> str:
        """The value of an Authorization header for basic authentication."""
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"


def lookup(host: str, environment: Mapping[str, str] = os.environ) -> Credentials | None:
    """Return the credentials for a registry, by its host and port; None if the user has none.

    Raises MissingError `docker-config-invalid` or `credential-helper-failed`.
    """
    path = _folder(environment) / "config.json"
    config = _read(path)
    keys = _DOCKER_HUB if host in _DOCKER_HUB else (host,)
    helpers = {key: helper for key, helper in _table(config, "credHelpers", path).items() if helper}
    own = next((key for key in keys if key in helpers), keys[0])
    if helper := helpers.get(own) or config.get("credsStore"):
        return _from_helper(str(helper), own, path)
    entry = _entry(_table(config, "auths", path), keys)
    return _from_entry(entry, host, path) if entry else None


def _folder(environment: Mapping[str, str]) -> Path:
    return Path(named) if (named := environment.get("DOCKER_CONFIG")) else paths.home() / ".docker"


def _read(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(paths.content(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _invalid(path, getattr(error, "strerror", None) or "it is not JSON") from error
    if not isinstance(config, dict):
        raise _invalid(path, "it is not a JSON object")
    return config


def _table(config: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    table = config.get(key) or {}
    if not isinstance(table, dict):
        raise _invalid(path, f"{key} is not an object")
    return table


def _entry(entries: Mapping[str, Any], keys: Sequence[str]) -> object:
    """Return the entry of one of the keys, else one whose host matches: some keys are URLs or name a repository."""
    exact = (entries[key] for key in keys if key in entries)
    return next(filter(None, (*exact, *(entry for key, entry in entries.items() if _host(key) in keys))), None)


def _host(key: str) -> str:
    """Return the host of a key; old versions of Docker wrote URLs."""
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]


def _from_entry(entry: object, host: str, path: Path) -> Credentials | None:
    if not isinstance(entry, dict):
        raise _invalid(path, f"auths has no object for {host}")
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if encoded := entry.get("auth"):
        try:
            user, _, password = base64.b64decode(str(encoded), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise _invalid(path, f"the auth of {host} is not base64 of USER:PASSWORD") from error
    token = str(entry.get("identitytoken") or "")
    return Credentials(str(path), user, password.rstrip("\0"), token) if user or token else None


def _from_helper(name: str, key: str, path: Path) -> Credentials | None:
    program = f"docker-credential-{name}"
    if not _HELPER.fullmatch(name):
        raise _invalid(path, f"{name!r} is not the name of a credential helper")
    try:
        # Not `process.run`, which would write the secret to the log.
        finished = subprocess.run(
            [program, "get"], input=key.encode(), capture_output=True, timeout=HELPER_SECONDS, check=False
        )
    except OSError as error:
        raise _helper_failed(program, key, path, error.strerror or str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise _helper_failed(program, key, path, f"no answer within {HELPER_SECONDS:.0f} s") from error
    if finished.returncode:
        output = (finished.stdout + finished.stderr).decode(errors="replace").strip()
        if _UNKNOWN in output:
            return None
        raise _helper_failed(program, key, path, f"exit code {finished.returncode}: {output[-200:]}")
    try:
        answer = json.loads(finished.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise _helper_failed(program, key, path, "its answer has no Username and Secret") from error
    return Credentials(program, identity_token=secret) if user == _TOKEN_USER else Credentials(program, user, secret)


def _invalid(path: Path, problem: str) -> MissingError:
    return MissingError(
        f"Docker's configuration {path} cannot be used: {problem}",
        id="docker-config-invalid",
        hint="Correct it, or remove it and run `docker login` again; or set DOCKER_CONFIG to another folder.",
    )


def _helper_failed(program: str, key: str, path: Path, problem: str) -> MissingError:
    return MissingError(
        f"`{program} get`, which {path} names, has no credentials for {key}: {problem}",
        id="credential-helper-failed",
        hint=f"Install or unlock {program}, or remove it from {path} and run `docker login` again.",
    )
