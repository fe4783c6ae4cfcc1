"""Sources of other projects' manifests for the tests, and the result if one is unavailable."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import upstream
from upstream import File

NAME = "ingress-nginx-cloud.yaml"
RELEASED = b"kind: Service\n"


class Release(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/deploy.yaml" else 404)
        self.end_headers()
        if self.path == "/deploy.yaml":
            self.wfile.write(RELEASED)

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Release) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; no other folder has the file."""
    for name in ("CI", "LABCTL_UPSTREAM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(upstream, "SIBLING", tmp_path / "nowhere")
    monkeypatch.setattr(upstream, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


def set_release(monkeypatch: pytest.MonkeyPatch, url: str, content: bytes = RELEASED) -> None:
    monkeypatch.setitem(upstream.FILES, NAME, File(url, hashlib.sha256(content).hexdigest()))


def test_a_file_is_downloaded_once(site: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_release(monkeypatch, f"{site}/deploy.yaml")
    assert upstream.content(NAME) == RELEASED

    set_release(monkeypatch, f"{site}/gone")
    assert upstream.content(NAME) == RELEASED
    assert [path.name for path in cache.iterdir()] == [NAME]


def test_a_named_folder_takes_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_release(monkeypatch, "http://127.0.0.1:9")
    (tmp_path / NAME).write_bytes(RELEASED)
    monkeypatch.setenv("LABCTL_UPSTREAM", str(tmp_path))

    assert upstream.content(NAME) == RELEASED


def test_content_with_another_checksum_is_refused_and_not_cached(
    site: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_release(monkeypatch, f"{site}/deploy.yaml", b"another one")

    with pytest.raises(AssertionError, match="SHA-256"):
        upstream.content(NAME)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("variables", "outcome"),
    [({}, pytest.skip.Exception), ({"CI": "true"}, pytest.fail.Exception)],
    ids=["alone", "CI"],
)
def test_an_unavailable_file_skips_the_test_and_fails_it_in_ci(
    site: str, variables: dict[str, str], outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_release(monkeypatch, f"{site}/gone")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(outcome, match="LABCTL_UPSTREAM"):
        upstream.content(NAME)
