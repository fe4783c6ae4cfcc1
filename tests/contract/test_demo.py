"""Demos with real programs and a real web server, and their recordings in asciinema."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from fakes import FakeCluster, FakeProvider, bundle, with_fakes

from labctl.cli.demos import perform
from labctl.config import from_values
from labctl.context import Context
from labctl.demo.play import Performance
from labctl.demo.script import find
from labctl.host.http_load import Load
from labctl.host.http_probe import ProbeResult
from labctl.host.process import STOP_SECONDS
from labctl.model.errors import ExitCode
from labctl.model.options import GlobalOptions

KUBECTL = """\
#!/bin/sh
case "$1" in
  read) cat ;;
  colours) printf 'one\\033[32m two\\033[0m\\n'; echo three >&2; exit 3 ;;
  environment) echo "$KUBECONFIG $FORCE_COLOR" ;;
  interrupt)
    trap 'echo ended in order; exit 0' INT
    kill -INT "$2"
    for _ in $(seq 300); do kill -0 "$2" || exit 1; sleep 0.1; done  # give up after 30 s
    exit 1 ;;
  *) echo "$@" ;;
esac
"""


@pytest.fixture
def lab(home: Path) -> Context:
    """A lab with a fake kubectl."""
    programs = home / "bin"
    programs.mkdir()
    (programs / "kubectl").write_text(KUBECTL)
    (programs / "kubectl").chmod(0o755)
    context = Context(from_values({}), home / "state", home / "cache")
    context.folder.mkdir()
    provider = FakeProvider()
    provider.nodes |= {node.name for node in context.lab.nodes}
    return with_fakes(context, provider, FakeCluster(), bundle(home / "bundle"))


@pytest.fixture
def environment(lab: Context, home: Path) -> dict[str, str]:
    path = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "KUBECONFIG": str(lab.folder / "kubeconfig")}


class Page(BaseHTTPRequestHandler):
    """Answers 200 with the name of a pod; while `away` is set, it does not answer."""

    away = threading.Event()
    back = threading.Event()

    def do_GET(self) -> None:
        if self.away.is_set():
            self.back.wait(10)
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("X-Pod-Name", "page-1")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Log nothing."""


@pytest.fixture
def site() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    Page.away.clear()
    Page.back.clear()
    yield server
    Page.back.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_commands_run_exactly_as_written(
    lab: Context, environment: dict[str, str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = {
        "title": "Commands",
        "run": [
            "kubectl $app 'a  b' '$$HOME' *",
            {"command": "kubectl read", "input": "kind: $app\nname: x\n"},
            {"command": "kubectl colours", "code": 3},
            "kubectl environment",
            "labctl demo list",
        ],
    }
    demo(home, scene)

    performance = play(lab, environment, home / "a.cast")

    assert performance.error is None
    out = capsys.readouterr().out
    assert "$ kubectl my-app 'a  b' '$HOME' *\nmy-app a  b $HOME *\n" in out
    assert "$ kubectl read\n  kind: my-app\n  name: x\nkind: my-app\nname: x\n" in out
    assert "\none two\nthree\n" in out
    assert f"{lab.folder / 'kubeconfig'} 1\n" in out
    recorded = "".join(text for _, _, text in events(home / "a.cast"))
    assert "one\x1b[32m two\x1b[0m\r\nthree\r\n" in recorded


def test_a_failed_command_is_shown_with_its_output(
    lab: Context, environment: dict[str, str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo(home, {"title": "Fails", "run": [{"command": "kubectl colours", "input": "x"}]})

    performance = play(lab, environment)

    assert exit_code(performance) is ExitCode.BROKEN
    assert "three\n" in capsys.readouterr().out
    (scene,) = performance.report["scenes"]
    assert [(command["command"], command["code"]) for command in scene["commands"]] == [("kubectl colours", 3)]
    assert "`kubectl colours`" in str(performance.error)


def test_a_missing_program_is_an_error(lab: Context, home: Path) -> None:
    demo(home, {"title": "Fails", "run": ["kubectl get pods"]})

    performance = play(lab, {"PATH": str(home)})

    assert exit_code(performance) is ExitCode.PROVIDER
    assert performance.error is not None
    assert performance.error.id == "tool-not-started"


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_stops_the_command_cleanly_and_runs_the_cleanup(
    lab: Context, environment: dict[str, str], home: Path
) -> None:
    demo(home, {"title": "One", "run": [f"kubectl interrupt {os.getpid()}"]}, "kubectl cleaned up")

    performance = play(lab, environment)

    assert exit_code(performance) is ExitCode.INTERRUPTED
    assert performance.report["scenes"][0]["seconds"] < STOP_SECONDS
    assert [(each["command"], each["code"]) for each in performance.report["cleanup"]] == [("kubectl cleaned up", 0)]


def test_the_load_client_measures_how_long_a_server_is_away(site: ThreadingHTTPServer) -> None:
    port = site.server_address[1]
    load = Load("my-app.local", lambda _name: fetch_page(port))
    began = time.monotonic()
    load.start(0.3)
    Page.away.set()
    threading.Event().wait(0.8)
    Page.away.clear()
    load.finish(0.3)
    Page.back.set()
    report = load.stop()

    assert 0.7 <= report["gap"] < time.monotonic() - began
    assert report["answers"] >= 5
    assert report["failures"] == 0  # requests that hang have not failed yet
    assert not [each.name for each in threading.enumerate() if each.name.startswith("load")]


def test_listing_demos_needs_no_kubernetes_client() -> None:
    line = "import sys; from labctl import ui; from labctl.demo import script; script.list_demos(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", line], check=True, capture_output=True, text=True).stdout.split()

    assert "labctl.demo.script" in loaded
    assert not {"kubernetes", "rich", "vagrant"} & set(loaded)


@pytest.mark.skipif(shutil.which("asciinema") is None, reason="asciinema is not installed")
def test_asciinema_plays_the_recording(lab: Context, environment: dict[str, str], home: Path) -> None:
    demo(home, {"title": "One", "run": ["kubectl hello"]})
    play(lab, environment, home / "a.cast")

    output = subprocess.run(
        ["asciinema", "cat", str(home / "a.cast")], check=True, capture_output=True, text=True
    ).stdout

    assert "hello" in output


def play(lab: Context, environment: Mapping[str, str], record: Path | None = None) -> Performance:
    return perform(find("./tour.yaml"), lab, environment, GlobalOptions(None, None, "text", 0), record)


def exit_code(performance: Performance) -> ExitCode:
    return ExitCode.OK if performance.error is None else performance.error.exit_code


def fetch_page(port: int) -> ProbeResult:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        return ProbeResult(response.status, response.getheader("X-Pod-Name"))
    except (OSError, HTTPException) as error:
        return ProbeResult(None, failure=str(error))
    finally:
        connection.close()


def demo(home: Path, scene: Mapping[str, object], *cleanup: str) -> None:
    text = yaml.safe_dump({"about": "The tour", "scenes": [scene], "cleanup": list(cleanup)})
    (home / "tour.yaml").write_text(text)


def events(path: Path) -> list[tuple[float, str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[1:]]
