"""The JSON of every command: scripts rely on its keys and types."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from fake_trace import hop
from fakes import FakeProvider, bundle
from generator.documents import ANSWERS, documents
from golden_files import Golden
from json_types import differences, keys
from recorded_machine import Recorded

from labctl import cli, doctor, trace, ui
from labctl.bundle.format import write
from labctl.bundle.oci import file
from labctl.bundle.oci.pull import PullResult
from labctl.bundle.oci.push import PushResult
from labctl.cli import demos
from labctl.cli.argv import EVENTS_FOLLOW
from labctl.cli.tree import Root, commands, tree
from labctl.commands import browser, images, labs, moving, runner, versions
from labctl.context import Context
from labctl.model.demo_reports import DemoReport
from labctl.model.errors import BrokenError, ExitCode, LabError
from labctl.model.reports import Document, ErrorDocument, ImageEntry, ResultEvent, StepEvent, TraceReport
from labctl.plans import boxes, bundle_choice, hosts_steps, plan
from labctl.plans.plan import Outcome, Step
from labctl.trace import HOPS

pytestmark = pytest.mark.usefixtures("home", "machine")
ROOT = tree(cli.app)
COMMANDS = {words for words, command in commands(ROOT) if not hasattr(command, "commands")}
OTHER_PROGRAMS = {"exec", "ssh"}
"""Commands that print another program's output."""
TRACE: TraceReport = {"version": 1, "hostname": "my-app.local", "ok": True, "hops": [hop(name) for name in HOPS]}
DEMO: DemoReport = {
    "version": 1,
    "demo": "tour",
    "lab": "demo",
    "ok": False,
    "seconds": 1.0,
    "scenes": [
        {
            "title": "One",
            "say": None,
            "ok": False,
            "seconds": 0.5,
            "commands": [{"command": "kubectl get pods", "code": None, "seconds": 0.5}],
            "expectations": [{"text": "200", "ok": False, "measured": "404", "seconds": 0.0}],
            "load": None,
        }
    ],
    "cleanup": [],
    "error": {"id": "demo-failed", "message": "it failed", "hint": "", "details": ["404"]},
}


IMAGE: ImageEntry = {
    "image": "docker.io/library/shop:1",
    "digest": "sha256:…",
    "MiB": 1,
    "architecture": "amd64",
    "source": "loaded",
    "nodes": ["demo-worker-1"],
}


@dataclass(frozen=True)
class Case:
    """A command line, and its exit code with the fixture `world`."""

    line: str
    answer: str = ""
    """Its name in ANSWERS if it writes a document; a run, which writes events, has none."""
    code: int = 0

    @property
    def document(self) -> type[Document]:
        return documents()[ANSWERS[self.answer]]


RUNS = tuple(
    Case(line)
    for line in (
        "up",
        "halt",
        "resume",
        "destroy --yes",
        "app add shop",
        "app remove my-app",
        "bundle build",
        "bundle prune --yes",
        "bundle export out.tar",
        "bundle push registry.test/labs:1",
        "bundle pull registry.test/labs:1",
        "bundle import out.tar",
        "bundle download",
        "bundle remove kubernetes-1.37.2",
        "image load shop.tar",
        "image remove shop:1",
    )
)
DOCUMENTS = (
    Case("up --dry-run", "up --dry-run"),
    Case("list", "list"),
    Case("status", "status", 8),
    Case("trace", "trace"),
    Case("open", "open"),
    Case("doctor", "doctor"),
    Case("logs", "logs"),
    Case("logs --export out", "logs --export"),
    Case("kubeconfig", "kubeconfig"),
    Case("kubeconfig --merge", "kubeconfig --merge"),
    Case("hosts show", "hosts show"),
    Case("hosts sync", "hosts sync"),
    Case("hosts remove", "hosts remove"),
    Case("app list", "app list"),
    Case("demo list", "demo list"),
    Case("demo run failover", "demo run", 8),
    Case("bundle list", "bundle list"),
    Case("bundle verify", "bundle verify"),
    Case("image list", "image list"),
    Case("init", "init"),
    Case("render --out out", "render"),
    Case("schema", "schema"),
    Case("completion zsh", "completion"),
    Case("version", "version"),
)
CASES = (*RUNS, *DOCUMENTS)
EXAMINED = [
    doctor.Examined(doctor.CHECKS[0], doctor.Finding(doctor.State.OK, "vagrant, docker")),
    doctor.Examined(doctor.CHECKS[1], doctor.Finding(doctor.State.WARNING, "seen", "fix it", "a-cause")),
]


@pytest.fixture
def labctl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], Any]:
    """Return a function that runs a command line in this process with -o json and returns exit code and stdout."""
    monkeypatch.setattr(signal, "signal", lambda *_arguments: None)

    def run(line: str) -> tuple[int, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["labctl", *line.split(), "-o", "json"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), capsys.readouterr().out

    return run


@pytest.fixture
def world(keyed: Context, provider: FakeProvider, home: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """Return a lab with keys and a log, a bundle in the cache, and fakes for everything that runs a program."""
    for name in (
        "requested",
        "saved",
        "entered",
        "entered_if_up",
        "saved_or_configured",
        "saved_or_configured_entered",
    ):
        monkeypatch.setattr(labs, name, lambda *_arguments, **_options: keyed)
    carried = bundle(home / "cache" / "labctl" / "bundles" / "kubernetes-1.37.2")
    write(carried)
    keyed.log.write_text("[1] $ vagrant up\n")
    for door, fake in {"provider": provider, "cluster": keyed.cluster, "bundle": keyed.bundle}.items():
        monkeypatch.setattr(Context, door, fake)
    opened = {"version": 1, "url": "http://my-app.local", "browser": "firefox", "warnings": [hop("pod")]}
    monkeypatch.setattr(versions, "_first_line", lambda *_arguments: None)
    monkeypatch.setattr(browser, "open_page", lambda *_arguments: opened)
    monkeypatch.setattr(trace, "traces", lambda *_arguments, **_options: iter([TRACE]))
    performance = SimpleNamespace(report=DEMO, error=BrokenError("it failed", id="demo-failed"))
    monkeypatch.setattr(demos, "perform", lambda *_arguments: performance)
    monkeypatch.setattr(doctor, "examine", lambda *_arguments: EXAMINED)
    monkeypatch.setattr(hosts_steps, "write_hosts", lambda _context: Outcome(changed=False))
    monkeypatch.setattr(boxes, "Machine", partial(Recorded, absent={"vagrant"}))
    monkeypatch.setattr(bundle_choice, "build_bundle", lambda *_arguments: Outcome(changed=False))
    monkeypatch.setattr(moving, "_artefact", lambda *_arguments: None)
    monkeypatch.setattr(file, "export", lambda *_arguments: 1)
    monkeypatch.setattr(moving, "push_bundle", lambda *_arguments: PushResult("sha256:a", "sha256:b", 1, changed=True))
    monkeypatch.setattr(moving, "pull_bundle", lambda *_arguments, **_options: PullResult(carried, "sha256:a"))
    monkeypatch.setattr(file, "import_bundle", lambda *_arguments: carried)
    downloaded = Outcome(changed=False, text="kubernetes-1.37.2")
    monkeypatch.setattr(bundle_choice, "download_bundle", lambda *_arguments: downloaded)
    step: Step[Context] = Step("images", "reads", lambda *_arguments: Outcome(changed=False))
    for name in ("load", "remove"):
        monkeypatch.setattr(images, name, lambda *_arguments: (keyed, (step,)))
    monkeypatch.setattr(images, "list_images", lambda _context: [IMAGE])
    return keyed


def test_every_command_has_a_case() -> None:
    assert isinstance(ROOT, Root)
    named = {words for words in COMMANDS for case in CASES if f"{case.line} ".startswith(f"{words} ")}

    assert named == COMMANDS - OTHER_PROGRAMS
    assert {case.answer for case in DOCUMENTS} == ANSWERS.keys()
    assert all(case.line.startswith(EVENTS_FOLLOW) for case in RUNS)


def test_the_keys_and_types_of_every_document_and_event_are_pinned(golden: Golden) -> None:
    documents = {f"labctl {case.answer}": case.document for case in DOCUMENTS}
    others = {"a command that fails": ErrorDocument, "a step": StepEvent, "the result of a run": ResultEvent}

    golden(
        "\n".join(line for name, each in {**documents, **others}.items() for line in (f"{name}:", *keys(each, "  ")))
    )


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("case", DOCUMENTS, ids=lambda case: case.line)
def test_a_document_has_the_keys_and_types_of_its_kind(case: Case, labctl: Callable[[str], Any]) -> None:
    code, out = labctl(case.line)

    assert code == case.code, out
    assert list(differences(json.loads(out), case.document)) == []


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("case", RUNS, ids=lambda case: case.line)
def test_a_run_writes_one_event_per_line_and_its_result_last(case: Case, labctl: Callable[[str], Any]) -> None:
    code, out = labctl(case.line)
    *events, result = (json.loads(line) for line in out.splitlines())

    assert code == 0, out
    assert (result["ok"], result["error"]) == (True, None)
    assert list(differences(result, ResultEvent)) == []
    assert events
    for event in events:
        assert list(differences(event, StepEvent)) == []
        assert ("changed" in event) is (event["state"] == "done")
        assert ("seconds" in event) is (event["state"] in {"done", "failed"})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.line)
def test_a_command_that_fails_ends_with_an_error(case: Case, labctl: Callable[[str], Any]) -> None:
    code, out = labctl(f"{case.line} --no-such-option")

    assert code == ExitCode.USAGE
    assert _error(case, out)["id"] == "usage"


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.line)
def test_a_bug_ends_with_an_error(case: Case, labctl: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_options: object) -> NoReturn:
        raise ZeroDivisionError

    for module, name in ((ui, "document"), (runner, "execute"), (plan, "execute")):
        monkeypatch.setattr(module, name, fail)
    code, out = labctl(case.line)

    assert code == ExitCode.BUG
    assert _error(case, out)["id"] == "bug"


def test_an_error_carries_its_details(labctl: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> NoReturn:
        raise LabError("no", id="no", hint="Do it.", details=("line 1", "line 2"))

    monkeypatch.setattr(labs, "list_labs", fail)
    _, out = labctl("list")

    assert _error(DOCUMENTS[1], out) == {"id": "no", "message": "no", "hint": "Do it.", "details": ["line 1", "line 2"]}


def test_a_bug_before_a_run_still_ends_with_a_result(
    labctl: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> NoReturn:
        raise ZeroDivisionError

    monkeypatch.setattr(labs, "requested", fail)
    code, out = labctl("up")

    assert code == ExitCode.BUG
    assert _error(RUNS[0], out)["id"] == "bug"


def _error(case: Case, out: str) -> dict[str, Any]:
    """Return the error from the last line of a run, or from the only document of another command."""
    document = json.loads(out.splitlines()[-1] if case in RUNS else out)
    assert list(differences(document, ResultEvent if case in RUNS else ErrorDocument)) == []
    error: dict[str, Any] = document["error"]
    return error
