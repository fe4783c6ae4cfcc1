"""In which network the steps of a plan run, and how a run ends."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from labctl import ui
from labctl.bundle.oci import pull as pulling
from labctl.bundle.oci.pull import Arrived
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
    """Record the namespaces that this process enters, which all exist, and what tests append."""
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

    def outer(_context: Context, _say: Progress) -> Outcome:
        return run("outside", changed=True)

    def inner(_context: Context, _say: Progress) -> Outcome:
        return run("inside", changed=False)

    return (
        Step("outside", "is done on this machine", outer, inside=False),
        Step("verify", "is done in the lab", inner),
    )


def _results(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in lines if line["event"] == "result"]


# The network of each step


def test_every_step_of_a_lab_on_this_machines_network_happens_here(
    context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    acts: list[str] = []

    _run(OPTIONS, context, _plan(acts))

    assert acts == ["outside", "inside"]
    (result,) = _results(capsys)
    assert (result["ok"], result["changed"], result["urls"]) == (True, True, ["http://my-app.local"])


def test_what_tools_say_during_a_plan_is_in_the_labs_log(context: Context) -> None:
    def act(_context: Context, _say: Progress) -> Outcome:
        log.write(4711, "said")
        return Outcome(changed=False)

    _run(OPTIONS, context, (Step("act", "says something", act),))

    assert context.log.read_text().endswith(" [4711] said\n")
    assert log.location() is None


def test_an_isolated_lab_goes_on_inside(
    context: Context, entered: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _run(OPTIONS, replace(context, isolated=True), _plan(entered))

    assert entered == ["outside", "entered labctl-demo", "inside"]
    (result,) = _results(capsys)
    assert (result["ok"], result["changed"], result["urls"]) == (True, True, ["http://my-app.local"])


def test_a_run_that_begins_inside_leaves_out_what_belongs_outside(
    context: Context, entered: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Isolation, "is_entered", lambda _isolation: True)

    _run(OPTIONS, replace(context, isolated=True), _plan(entered))

    assert entered == ["entered labctl-demo", "inside"]
    assert _results(capsys)[0]["changed"] is False


def test_a_lab_cannot_be_taken_away_from_within(
    context: Context, entered: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Isolation, "is_entered", lambda _isolation: True)

    with pytest.raises(SystemExit) as end:
        _run(OPTIONS, replace(context, isolated=True), _plan(entered)[:1])

    assert (end.value.code, entered) == (2, [])
    assert _results(capsys)[0]["error"]["id"] == "inside-lab"


@pytest.mark.parametrize("state", ["written", "pending", "not needed"])
def test_the_result_says_what_a_step_made_of_the_hosts_file(
    context: Context, capsys: pytest.CaptureFixture[str], state: Literal["written", "pending", "not needed"]
) -> None:
    step: Step[Context] = Step("hosts", "", lambda _context, _say: Outcome(changed=False, hosts=HostsEntry(state)))

    _run(OPTIONS, context, (step, Step("verify", "", lambda _context, _say: Outcome(changed=False))))

    assert _results(capsys)[0]["hosts"] == state


@pytest.mark.parametrize(
    ("apps", "names", "state"),
    [(1, ["boot", "hosts"], "pending"), (0, ["boot", "hosts"], "not needed"), (1, ["boot"], "not needed")],
)
def test_a_run_that_fails_before_leaves_the_hosts_file_to_a_later_one(
    context: Context, capsys: pytest.CaptureFixture[str], apps: int, names: list[str], state: str
) -> None:
    def fail(_context: Context, _say: Progress) -> Outcome:
        raise MissingError("no", id="no")

    changed = replace(context, lab=replace(context.lab, apps=context.lab.apps[:apps]))
    with pytest.raises(SystemExit):
        _run(OPTIONS, changed, tuple(Step(name, "", fail) for name in names))

    assert _results(capsys)[0]["hosts"] == state


def test_a_step_asks_before_the_first_one_and_never_a_script(context: Context) -> None:
    acts: list[str] = []

    def asking(name: str) -> Step[Context]:
        def act(_context: Context, _say: Progress) -> Outcome:
            acts.append(name)
            return Outcome(changed=False)

        return Step(name, "", act, ask=lambda _context: acts.append(f"{name} asks"))

    for output in ("text", "json"):
        _run(replace(OPTIONS, output=output), context, (asking("one"), asking("two")))

    assert acts == ["one asks", "two asks", "one", "two", "one", "two"]


def test_a_plan_without_a_step_inside_ends_here_without_urls(
    context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    acts: list[str] = []

    _run(OPTIONS, replace(context, isolated=True), _plan(acts)[:1])

    (result,) = _results(capsys)
    assert (result["ok"], result["urls"]) == (True, [])


@pytest.mark.usefixtures("entered")
def test_an_isolated_lab_whose_network_is_gone_does_not_run(
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
def test_a_failure_is_the_result_and_the_exit_code(
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
def test_the_traceback_of_a_bug_is_in_the_log_and_shown_to_those_who_ask(
    context: Context, capsys: pytest.CaptureFixture[str], verbosity: int
) -> None:
    with pytest.raises(SystemExit):
        _run(replace(OPTIONS, verbosity=verbosity), context, _plan([], fails=ZeroDivisionError("by nought")))

    error = _results(capsys)[0]["error"]
    assert str(context.log) in error["message"]
    assert "Traceback (most recent call last):" in context.log.read_text()
    assert ("Traceback (most recent call last):" in error["details"]) is (verbosity > 0)


def test_two_runs_do_not_work_on_one_lab_at_once(
    context: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "LOCK_SECONDS", 0.01)
    acts: list[str] = []

    with locks.alone(context.folder / "lock", lambda _text: None, timeout=0), pytest.raises(SystemExit) as end:
        _run(OPTIONS, context, _plan(acts))

    assert end.value.code == 6
    assert acts == []
    waiting, result = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (waiting["step"], waiting["state"]) == ("outside", "progress")
    assert f"(pid {os.getpid()})" in waiting["text"]
    assert result["error"]["id"] == "locked"
    assert f"(pid {os.getpid()})" in result["error"]["message"]


def test_what_runs_in_the_cache_has_the_mirrors_of_the_file_and_refuses_a_broken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tables: list[tuple[tuple[str, str], ...]] = []

    def note(context: Context, _say: Progress) -> Outcome:
        tables.append(context.lab.mirrors)
        return Outcome(changed=False)

    other = replace(OPTIONS, config_file=Path("other.yaml"))
    for file, host, options in (("labctl.yaml", "quay.io", OPTIONS), ("other.yaml", "docker.io", other)):
        Path(file).write_text(f"mirrors: {{{host}: 'https://a.test'}}")
        runner.run_in_cache(options, ui.watching(options), (Step("note", "", note),))
    assert tables == [(("quay.io", "https://a.test"),), (("docker.io", "https://a.test"),)]

    Path("labctl.yaml").write_text("mirrors: 5")
    with pytest.raises(UsageError) as raised:
        runner.run_in_cache(OPTIONS, ui.watching(OPTIONS), (Step("note", "", note),))
    assert raised.value.id == "config-invalid"
    assert len(tables) == 2


def test_a_bundle_is_pulled_before_the_first_step_which_then_has_it(
    context: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def pull(reference: Reference, *_arguments: object, **options: bool) -> Arrived:
        asked.append((str(reference), options))
        return Arrived(replace(context.bundle, folder=context.folder / "pulled"), "sha256:0", changed=True)

    def look(given: Context, _say: Progress) -> Outcome:
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
    assert asked == [("registry.test/labs:1", {"may_move": False, "needs_registry": False})]

    offline = replace(context, policy=BundlePolicy(offline=True))
    with pytest.raises(SystemExit):
        runner.run(OPTIONS, offline, plan, ui.watching(OPTIONS), parse("registry.test/labs:1"))
    *_, result = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert result["error"]["id"] == "bundle-not-pulled"
    assert len(asked) == 1
