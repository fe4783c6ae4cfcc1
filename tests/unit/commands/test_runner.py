"""The network in which each step of a plan runs, and the result of a run."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from labctl import ui
from labctl.bundle.oci import pull as pulling
from labctl.bundle.oci.pull import PullResult
from labctl.commands import runner
from labctl.context import BundlePolicy, Context
from labctl.host import locks, log
from labctl.isolation.isolation import Isolation
from labctl.model.errors import MissingError, NotReadyError, Terminated, UsageError
from labctl.model.events import HostsEntry, Progress
from labctl.model.options import GlobalOptions
from labctl.plans.plan import Outcome, Plan, Step
from labctl.transfer.reference import Reference, parse

OPTIONS = GlobalOptions(config_file=None, lab_name=None, output="json", verbosity=0)
pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let all namespaces exist, and record those that this process enters, and what tests append."""
    acts: list[str] = []

    def enter(isolation: Isolation) -> None:
        acts.append(f"entered {isolation.namespace}")
        monkeypatch.setattr(Isolation, "is_entered", lambda _isolation: True)

    monkeypatch.setattr(Isolation, "exists", lambda _isolation: True)
    monkeypatch.setattr(Isolation, "enter", enter)
    return acts


def _run(options: GlobalOptions, context: Context, plan: Plan[Context]) -> None:
    runner.run(options, context, plan, ui.watching(options))


def _plan(acts: list[str], *, fails: BaseException | None = None) -> Plan[Context]:
    def run(name: str, *, changed: bool) -> Outcome:
        acts.append(name)
        if fails and name == "inside":
            raise fails
        return Outcome(changed)

    def outer(_context: Context, _report: Progress) -> Outcome:
        return run("outside", changed=True)

    def inner(_context: Context, _report: Progress) -> Outcome:
        return run("inside", changed=False)

    return (
        Step("outside", "is done on this machine", outer, inside=False),
        Step("verify", "is done in the lab", inner),
    )


def _results(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in lines if line["event"] == "result"]


# The network of each step


def test_all_steps_of_a_lab_that_is_not_isolated_run_on_this_machine(
    context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    acts: list[str] = []

    _run(OPTIONS, context, _plan(acts))

    assert acts == ["outside", "inside"]
    (result,) = _results(capsys)
    assert (result["ok"], result["changed"], result["urls"]) == (True, True, ["http://my-app.local"])


def test_output_of_tools_during_a_plan_is_in_the_labs_log(context: Context) -> None:
    def act(_context: Context, _report: Progress) -> Outcome:
        log.write(4711, "said")
        return Outcome(changed=False)

    _run(OPTIONS, context, (Step("act", "says something", act),))

    assert context.log.read_text().endswith(" [4711] said\n")
    assert log.location() is None


def test_inner_steps_of_an_isolated_lab_run_in_its_network(
    context: Context, entered: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _run(OPTIONS, replace(context, isolated=True), _plan(entered))

    assert entered == ["outside", "entered labctl-demo", "inside"]
    (result,) = _results(capsys)
    assert (result["ok"], result["changed"], result["urls"]) == (True, True, ["http://my-app.local"])


def test_a_run_inside_the_labs_network_skips_outer_steps(
    context: Context, entered: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Isolation, "is_entered", lambda _isolation: True)

    _run(OPTIONS, replace(context, isolated=True), _plan(entered))

    assert entered == ["entered labctl-demo", "inside"]
    assert _results(capsys)[0]["changed"] is False


def test_a_plan_of_outer_steps_is_refused_inside_the_labs_network(
    context: Context, entered: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Isolation, "is_entered", lambda _isolation: True)

    with pytest.raises(SystemExit) as end:
        _run(OPTIONS, replace(context, isolated=True), _plan(entered)[:1])

    assert (end.value.code, entered) == (2, [])
    assert _results(capsys)[0]["error"]["id"] == "inside-lab"


@pytest.mark.parametrize("state", ["written", "pending", "not needed"])
def test_the_result_has_the_state_of_the_hosts_file(
    context: Context, capsys: pytest.CaptureFixture[str], state: Literal["written", "pending", "not needed"]
) -> None:
    step: Step[Context] = Step("hosts", "", lambda _context, _report: Outcome(changed=False, hosts=HostsEntry(state)))

    _run(OPTIONS, context, (step, Step("verify", "", lambda _context, _report: Outcome(changed=False))))

    assert _results(capsys)[0]["hosts"] == state


@pytest.mark.parametrize(
    ("apps", "names", "state"),
    [(1, ["boot", "hosts"], "pending"), (0, ["boot", "hosts"], "not needed"), (1, ["boot"], "not needed")],
)
def test_the_hosts_file_is_pending_if_a_run_fails_before_the_step_hosts(
    context: Context, capsys: pytest.CaptureFixture[str], apps: int, names: list[str], state: str
) -> None:
    def fail(_context: Context, _report: Progress) -> Outcome:
        raise MissingError("no", id="no")

    changed = replace(context, lab=replace(context.lab, apps=context.lab.apps[:apps]))
    with pytest.raises(SystemExit):
        _run(OPTIONS, changed, tuple(Step(name, "", fail) for name in names))

    assert _results(capsys)[0]["hosts"] == state


def test_steps_ask_before_the_first_step_runs_and_never_with_json(context: Context) -> None:
    acts: list[str] = []

    def step_that_asks(name: str) -> Step[Context]:
        def act(_context: Context, _report: Progress) -> Outcome:
            acts.append(name)
            return Outcome(changed=False)

        return Step(name, "", act, ask=lambda _context: acts.append(f"{name} asks"))

    for output in ("text", "json"):
        _run(replace(OPTIONS, output=output), context, (step_that_asks("one"), step_that_asks("two")))

    assert acts == ["one asks", "two asks", "one", "two", "one", "two"]


def test_a_plan_of_outer_steps_has_no_urls(context: Context, capsys: pytest.CaptureFixture[str]) -> None:
    acts: list[str] = []

    _run(OPTIONS, replace(context, isolated=True), _plan(acts)[:1])

    (result,) = _results(capsys)
    assert (result["ok"], result["urls"]) == (True, [])


@pytest.mark.usefixtures("entered")
def test_a_run_on_an_isolated_lab_without_its_network_is_refused(
    context: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Isolation, "exists", lambda _isolation: False)

    with pytest.raises(SystemExit) as end:
        _run(OPTIONS, replace(context, isolated=True), _plan([]))

    assert end.value.code == 3
    assert _results(capsys)[0]["error"]["id"] == "lab-not-running"


# How a run ends


@pytest.mark.parametrize(
    ("failure", "code", "identity"),
    [
        (NotReadyError("no node", id="not-ready", hint="Wait."), 6, "not-ready"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Terminated("terminated"), 143, "terminated"),
        (ZeroDivisionError("by nought"), 1, "bug"),
    ],
)
def test_a_failure_determines_the_result_and_the_exit_code(
    context: Context, capsys: pytest.CaptureFixture[str], failure: BaseException, code: int, identity: str
) -> None:
    with pytest.raises(SystemExit) as end:
        _run(OPTIONS, context, _plan([], fails=failure))

    assert end.value.code == code
    (result,) = _results(capsys)
    assert result["ok"] is False
    assert result["changed"] is True, "the step before the failure changed something"
    assert result["error"]["id"] == identity


@pytest.mark.parametrize("verbosity", [0, 1])
def test_the_traceback_of_a_bug_is_in_the_log_and_in_verbose_output(
    context: Context, capsys: pytest.CaptureFixture[str], verbosity: int
) -> None:
    with pytest.raises(SystemExit):
        _run(replace(OPTIONS, verbosity=verbosity), context, _plan([], fails=ZeroDivisionError("by nought")))

    error = _results(capsys)[0]["error"]
    assert str(context.log) in error["message"]
    assert "Traceback (most recent call last):" in context.log.read_text()
    assert ("Traceback (most recent call last):" in error["details"]) is (verbosity > 0)


def test_a_second_run_on_a_locked_lab_fails(
    context: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "LOCK_SECONDS", 0.01)
    acts: list[str] = []

    with locks.exclusive(context.folder / "lock", lambda _text: None, timeout=0), pytest.raises(SystemExit) as end:
        _run(OPTIONS, context, _plan(acts))

    assert end.value.code == 6
    assert acts == []
    waiting, result = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (waiting["step"], waiting["state"]) == ("outside", "progress")
    assert f"(pid {os.getpid()})" in waiting["text"]
    assert result["error"]["id"] == "locked"
    assert f"(pid {os.getpid()})" in result["error"]["message"]


def test_a_run_in_the_cache_uses_the_configured_mirrors_and_refuses_an_invalid_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tables: list[tuple[tuple[str, str], ...]] = []

    def record_mirrors(context: Context, _report: Progress) -> Outcome:
        tables.append(context.lab.mirrors)
        return Outcome(changed=False)

    other = replace(OPTIONS, config_file=Path("other.yaml"))
    for file, host, options in (("labctl.yaml", "quay.io", OPTIONS), ("other.yaml", "docker.io", other)):
        Path(file).write_text(f"mirrors: {{{host}: 'https://a.test'}}")
        runner.run_in_cache(options, ui.watching(options), (Step("note", "", record_mirrors),))
    assert tables == [(("quay.io", "https://a.test"),), (("docker.io", "https://a.test"),)]

    Path("labctl.yaml").write_text("mirrors: 5")
    with pytest.raises(UsageError) as raised:
        runner.run_in_cache(OPTIONS, ui.watching(OPTIONS), (Step("note", "", record_mirrors),))
    assert raised.value.id == "config-invalid"
    assert len(tables) == 2


def test_a_bundle_is_pulled_before_the_first_step(
    context: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pulls: list[Any] = []

    def pull(reference: Reference, *_arguments: object, **options: bool) -> PullResult:
        pulls.append((str(reference), options))
        return PullResult(replace(context.bundle, folder=context.folder / "pulled"), "sha256:0", changed=True)

    def look(given: Context, _report: Progress) -> Outcome:
        return Outcome(changed=False, text=str(given.bundle_folder))

    monkeypatch.setattr(pulling, "pull", pull)
    plan = (Step("look", "looks", look, inside=False),)
    runner.run(OPTIONS, context, plan, ui.watching(OPTIONS), parse("registry.test/labs:1"))

    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["step"], each["text"]) for each in events if each.get("state") == "done"] == [
        ("pull", context.bundle.id),
        ("look", str(context.folder / "pulled")),
    ]
    assert events[-1]["changed"]
    assert pulls == [("registry.test/labs:1", {"may_move": False, "needs_registry": False})]

    offline = replace(context, policy=BundlePolicy(offline=True))
    with pytest.raises(SystemExit):
        runner.run(OPTIONS, offline, plan, ui.watching(OPTIONS), parse("registry.test/labs:1"))
    *_, result = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert result["error"]["id"] == "bundle-not-pulled"
    assert len(pulls) == 1
