"""The JSON of every command, pinned by its keys: scripts read it."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_trace import hop
from fakes import FakeProvider, bundle

from labctl import cli, doctor, trace
from labctl.bundle.format import write
from labctl.cli.tree import Root, commands, tree
from labctl.commands import browser, labs, versions
from labctl.context import Context
from labctl.demo import play
from labctl.model.errors import ExitCode
from labctl.model.reports import DemoReport, TraceReport
from labctl.plans import hosts_steps, up
from labctl.plans.plan import Outcome
from labctl.trace import HOPS

pytestmark = pytest.mark.usefixtures("home", "machine")
ROOT = tree(cli.app)
COMMANDS = {words for words, command in commands(ROOT) if not hasattr(command, "commands")}
OTHER_PROGRAMS = {"exec", "ssh"}
"""What these print is not labctl's."""
APP = {"name", "image", "hostname", "port", "replicas", "path", "url"}
BUNDLE = {"id", "kubernetes", "metallb", "traefik", "nginx", "architecture", "MiB", "folder"}
HOSTS = {"": {"version", "file", "lines"}}
CHECK = {"id", "state", "cause", "seen", "why", "fix", "fixed"}
ERROR = {"id", "message", "hint", "details"}
HOP = {"hop", "state", "cause", "fix", "commands", "evidence"}
RESULT = {"event", "version", "ok", "changed", "seconds", "urls", "hosts", "error"}
EVENT_OF = {"started": set(), "progress": set(), "done": {"changed", "seconds"}, "failed": {"seconds"}}
TRACE: TraceReport = {"hostname": "my-app.local", "ok": True, "hops": [hop(name) for name in HOPS]}
DEMO: DemoReport = {"demo": "tour", "lab": "demo", "ok": True, "seconds": 1.0, "scenes": [], "cleanup": []}


@dataclass(frozen=True)
class Case:
    """A command line, and the keys of its document by where they are; of a run there is nothing to say but its end."""

    line: str
    keys: Mapping[str, set[str]] | None = None
    code: int = 0


CASES = (
    Case("up"),
    Case("halt"),
    Case("resume"),
    Case("destroy --yes"),
    Case("app add shop"),
    Case("app remove my-app"),
    Case("bundle build"),
    Case("up --dry-run", {"": {"version", "steps"}, "steps": {"step", "does"}}),
    Case("list", {"": {"version", "labs"}, "labs": {"lab", "nodes", "network", "pool", "isolated", "urls", "problem"}}),
    Case(
        "status",
        {
            "": {"version", "lab", "ok", "nodes", "addresses", "ingress", "apps", "problems"},
            "nodes": {"name", "role", "address", "ready"},
            "apps": {"name", "url", "http"},
            "problems": {"id", "state", "text", "fix", "commands"},
        },
        8,
    ),
    Case("trace", {"": {"version", "hostname", "ok", "hops"}, "hops": HOP}),
    Case("open", {"": {"version", "url", "browser", "warnings"}}),
    Case("doctor", {"": {"version", "lab", "ok", "checks"}, "checks": CHECK}),
    Case("logs", {"": {"version", "lab", "lines"}}),
    Case("logs --export out", {"": {"version", "lab", "folder", "files", "missing"}, "missing": {"file", "reason"}}),
    Case("kubeconfig", {"": {"version", "file", "kubeconfig"}}),
    Case("kubeconfig --merge", {"": {"version", "file"}}),
    Case("hosts show", HOSTS),
    Case("hosts sync", HOSTS),
    Case("hosts remove", HOSTS),
    Case("app list", {"": {"version", "apps"}, "apps": APP}),
    Case("demo list", {"": {"version", "demos"}, "demos": {"demo", "about", "file"}}),
    Case("demo run failover", {"": {"version", "demo", "lab", "ok", "seconds", "scenes", "cleanup"}}),
    Case("bundle list", {"": {"version", "bundles"}, "bundles": BUNDLE}),
    Case("bundle verify", {"": {"version", "bundles"}, "bundles": BUNDLE}),
    Case("init", {"": {"version", "file", "schema"}}),
    Case("render --out out", {"": {"version", "folder"}}),
    Case("schema", {"": {"version", "schema"}}),
    Case("completion zsh", {"": {"version", "shell", "script"}}),
    Case("version", {"": {"version", "labctl", "bundle", "kubernetes", "metallb", "vagrant", "engine"}}),
)
OPENED = {"url": "http://my-app.local", "browser": "firefox", "warnings": []}
FOUND = doctor.Examined(doctor.CHECKS[0], doctor.Finding(doctor.State.OK, "vagrant, docker"))
DOCUMENTS = [case for case in CASES if case.keys]
RUNS = [case for case in CASES if not case.keys]


@pytest.fixture
def labctl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], Any]:
    """Runs a command line in this process, with -o json; returns its exit code and what it printed."""
    monkeypatch.setattr(signal, "signal", lambda *_arguments: None)

    def run(line: str) -> tuple[int, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["labctl", *line.split(), "-o", "json"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), capsys.readouterr().out

    return run


@pytest.fixture
def world(rendered: Context, provider: FakeProvider, home: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """A lab that was made and has a log, a bundle in the cache, and no tool that is really run."""
    for name in ("requested", "saved", "entered", "entered_if_up", "known", "known_and_entered"):
        monkeypatch.setattr(labs, name, lambda *_arguments, **_options: rendered)
    write(bundle(home / "cache" / "labctl" / "bundles" / "kubernetes-1.37.2"))
    rendered.log.write_text("[1] $ vagrant up\n")
    for door, fake in {"provider": provider, "cluster": rendered.cluster, "bundle": rendered.bundle}.items():
        monkeypatch.setattr(Context, door, fake)
    monkeypatch.setattr(versions, "_answer", lambda *_arguments: None)
    monkeypatch.setattr(browser, "opened", lambda *_arguments: OPENED)
    monkeypatch.setattr(trace, "traces", lambda *_arguments, **_options: iter([TRACE]))
    monkeypatch.setattr(play, "play", lambda *_arguments: play.Ended(DEMO))
    monkeypatch.setattr(doctor, "examine", lambda *_arguments: [FOUND])
    monkeypatch.setattr(hosts_steps, "write_hosts", lambda _context: Outcome(changed=False))
    monkeypatch.setattr(up, "build_bundle", lambda *_arguments: Outcome(changed=False))
    return rendered


def test_every_command_is_here() -> None:
    assert isinstance(ROOT, Root)
    named = {words for words in COMMANDS for case in CASES if f"{case.line} ".startswith(f"{words} ")}

    assert named == COMMANDS - OTHER_PROGRAMS


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("case", DOCUMENTS, ids=lambda case: case.line)
def test_a_document_has_exactly_these_keys(case: Case, labctl: Callable[[str], Any]) -> None:
    code, out = labctl(case.line)
    document = json.loads(out)

    assert code == case.code, out
    assert document["version"] == 1
    for place, keys in (case.keys or {}).items():
        for each in document[place] if place else [document]:
            assert set(each) == keys, place or "the document"


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("case", RUNS, ids=lambda case: case.line)
def test_a_run_writes_an_event_a_line_and_its_result_last(case: Case, labctl: Callable[[str], Any]) -> None:
    code, out = labctl(case.line)
    *events, result = (json.loads(line) for line in out.splitlines())

    assert code == 0, out
    assert set(result) == RESULT
    assert (result["event"], result["version"], result["ok"], result["error"]) == ("result", 1, True, None)
    assert events
    assert all(set(event) - EVENT_OF[event["state"]] == {"event", "step", "state", "text"} for event in events)
    assert all(EVENT_OF[event["state"]] <= set(event) for event in events)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.line)
def test_a_command_that_fails_ends_with_an_error(case: Case, labctl: Callable[[str], Any]) -> None:
    code, out = labctl(f"{case.line} --no-such-option")
    document = json.loads(out)

    assert code == ExitCode.USAGE
    assert set(document) == ({"version", "error"} if case.keys else RESULT)
    assert set(document["error"]) == ERROR
    assert document["error"]["id"] == "usage"
