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
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; no other folder has the file."""
    for name in ("CI", "LABCTL_UPSTREAM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(upstream, "BESIDE", tmp_path / "nowhere")
    monkeypatch.setattr(upstream, "KEPT", tmp_path / "kept")
    return tmp_path / "kept"


def released(monkeypatch: pytest.MonkeyPatch, url: str, content: bytes = RELEASED) -> None:
    monkeypatch.setitem(upstream.FILES, NAME, File(url, hashlib.sha256(content).hexdigest()))


def test_a_file_is_downloaded_once(site: str, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released(monkeypatch, f"{site}/deploy.yaml")
    assert upstream.content(NAME) == RELEASED

    released(monkeypatch, f"{site}/gone")
    assert upstream.content(NAME) == RELEASED
    assert [path.name for path in kept.iterdir()] == [NAME]


def test_a_folder_that_is_named_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released(monkeypatch, "http://127.0.0.1:9")
    (tmp_path / NAME).write_bytes(RELEASED)
    monkeypatch.setenv("LABCTL_UPSTREAM", str(tmp_path))

    assert upstream.content(NAME) == RELEASED


def test_another_content_is_refused_and_not_kept(site: str, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released(monkeypatch, f"{site}/deploy.yaml", b"another one")

    with pytest.raises(AssertionError, match="SHA-256"):
        upstream.content(NAME)
    assert not kept.exists()


@pytest.mark.parametrize(
    ("variables", "ends"), [({}, pytest.skip.Exception), ({"CI": "true"}, pytest.fail.Exception)], ids=["alone", "CI"]
)
def test_what_cannot_be_downloaded_skips_the_test_and_fails_it_in_ci(
    site: str, variables: dict[str, str], ends: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    released(monkeypatch, f"{site}/gone")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ends, match="LABCTL_UPSTREAM"):
        upstream.content(NAME)
