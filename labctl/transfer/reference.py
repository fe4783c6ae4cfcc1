"""References to manifests in registries, `[HOST/]REPOSITORY[:TAG][@DIGEST]`, parsed as Docker parses them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from labctl.model.errors import UsageError
from labctl.transfer.documents import DIGEST
from labctl.transfer.mirrors import DOCKER_HUB

_HOST = re.compile(r"(?:localhost|[\w-]+(?:\.[\w-]+)+|[\w-]+(?=:)|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?", re.ASCII)
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_LONGEST = 255
_OFFICIAL = "library"
_OTHER_NAMES = {"index.docker.io": DOCKER_HUB}


@dataclass(frozen=True, slots=True)
class Reference:
    """A repository in a registry, and one of its manifests by tag or digest; the digest takes precedence."""

    host: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.repository}{tag}{f'@{self.digest}' if self.digest else ''}"

    @property
    def wanted(self) -> str | None:
        """The digest, else the tag; None if the reference has neither."""
        return self.digest or self.tag


def parse(text: str) -> Reference:
    """Parse a reference; the default host is Docker Hub. Raises UsageError `reference-invalid`."""
    rest, at, digest = text.partition("@")
    if at and not DIGEST.fullmatch(digest):
        raise _invalid(text, f"{digest!r} is not a digest of the form sha256:HEX")
    first, slash, others = rest.partition("/")
    host, path = (first, others) if slash and _HOST.fullmatch(first) else (DOCKER_HUB, rest)
    host = _OTHER_NAMES.get(host.lower(), host.lower())
    repository, colon, tag = path.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise _invalid(text, f"{tag!r} is not a tag")
    if host == DOCKER_HUB and repository and "/" not in repository:
        repository = f"{_OFFICIAL}/{repository}"
    if not _REPOSITORY.fullmatch(repository) or len(repository) > _LONGEST:
        raise _invalid(
            text,
            f"{repository!r} is not the name of a repository: lower-case letters, digits, and . _ - / between them",
        )
    return Reference(host, repository, tag or None, digest or None)


def require_wanted(reference: Reference) -> str:
    """Return the digest, else the tag. Raises UsageError `reference-without-tag` if the reference has neither."""
    if reference.wanted is None:
        raise UsageError(
            f"{reference} names neither a tag nor a digest",
            id="reference-without-tag",
            hint=f"Write {reference}:TAG or {reference}@sha256:DIGEST.",
        )
    return reference.wanted


def _invalid(text: str, problem: str) -> UsageError:
    return UsageError(
        f"{text!r} is not a reference: {problem}",
        id="reference-invalid",
        hint="Write HOST/REPOSITORY:TAG, such as registry.example/labs/kubernetes:1.37.",
    )
