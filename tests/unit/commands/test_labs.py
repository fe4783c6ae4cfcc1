"""Which lab is meant, where its steps happen, and how a run ends."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn

import pytest
from fakes import lab

from labctl import config
from labctl.commands import labs
from labctl.commands.labs import GlobalOptions
from labctl.config import saved_lab
from labctl.context import Context
from labctl.doctor import preflight
from labctl.host import caller, locks, log, paths
from labctl.isolation.isolation import Isolation
from labctl.model.errors import MissingError, NotReadyError, Terminated, UsageError
from labctl.model.events import HostsEntry, Progress
from labctl.plans.plan import Outcome, Plan, Step

SESSION = GlobalOptions(config_file=None, lab_name=None, output="json", verbosity=0)
pytestmark = pytest.mark.usefixtures("home")


class ReplacedError(Exception):
    """Another program is in this process's place from here on."""


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which labs' namespaces, which are all there, this process has entered; what happens in them is told here too."""
    acts: list[str] = []

    def enter(isolation: Isolation) -> None:
        acts.append(f"entered {isolation.namespace}")
        monkeypatch.setattr(Isolation, "is_entered", lambda _isolation: True)

    monkeypatch.setattr(Isolation, "exists", lambda _isolation: True)
    monkeypatch.setattr(Isolation, "enter", enter)
    return acts


def _machine(monkeypatch: pytest.MonkeyPatch, *, engine: bool, root: bool) -> None:
    monkeypatch.setattr(labs, "engine_answers", lambda: engine)
    monkeypatch.setattr(preflight, "may_isolate", lambda: root)


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


# Which lab


@pytest.mark.parametrize(
    ("engine", "root", "asked", "isolated"),
    [
        (True, True, False, False),
        (False, True, False, True),
        (False, False, False, False),
        (True, True, True, True),
    ],
)
def test_a_new_lab_is_isolated_if_asked_or_where_root_has_no_engine(
    monkeypatch: pytest.MonkeyPatch,
    engine: bool,  # noqa: FBT001 - a column of the table
    root: bool,  # noqa: FBT001 - the same
    asked: bool,  # noqa: FBT001 - the same
    isolated: bool,  # noqa: FBT001 - the same
) -> None:
    _machine(monkeypatch, engine=engine, root=root)

    assert labs.requested(SESSION, config.Overrides(), isolated=asked).isolated is isolated


@pytest.mark.parametrize("isolated", [False, True])
def test_a_lab_that_was_made_stays_where_it_is(monkeypatch: pytest.MonkeyPatch, *, isolated: bool) -> None:
    _machine(monkeypatch, engine=isolated, root=True)
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(), isolated))

    assert labs.requested(SESSION, config.Overrides()).isolated is isolated


def test_a_run_in_the_labs_own_network_is_about_an_isolated_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, engine=True, root=True)
    monkeypatch.setattr(Isolation, "is_entered", lambda _isolation: True)

    assert labs.requested(SESSION, config.Overrides()).isolated


def test_options_say_more_than_the_file_and_a_bundle_is_found_from_anywhere(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    _machine(monkeypatch, engine=True, root=True)
    (home / "labctl.yaml").write_text("name: file\nworkers: 3\n")

    context = labs.requested(
        replace(SESSION, lab_name="option"), config.Overrides(workers=2), bundle=Path("stick"), may_install=True
    )

    assert (context.lab.name, context.lab.workers) == ("option", 2)
    assert context.folder == home / "state" / "labctl" / "option"
    assert context.bundle_folder == home / "stick"
    assert context.may_install


def test_a_lab_keeps_the_bundle_that_it_was_made_from(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, engine=True, root=True)
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(), isolated=False, bundle=Path("/stick")))

    assert labs.requested(SESSION, config.Overrides()).bundle_folder == Path("/stick")
    assert labs.requested(SESSION, config.Overrides(), bundle=Path("/other")).bundle_folder == Path("/other")
    monkeypatch.setenv(paths.BUNDLE, "/named")
    assert labs.requested(SESSION, config.Overrides()).bundle_folder == Path("/named")
    assert labs.requested(SESSION, config.Overrides(), bundle=Path("/other")).bundle_folder == Path("/other")


@pytest.mark.parametrize(("written", "provider"), [("provider: auto\n", "docker"), ("provider: libvirt\n", "libvirt")])
def test_a_provider_of_auto_is_the_one_that_the_lab_has(
    home: Path, monkeypatch: pytest.MonkeyPatch, written: str, provider: str
) -> None:
    _machine(monkeypatch, engine=True, root=True)
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(provider="docker"), isolated=False))
    (home / "labctl.yaml").write_text(written)

    assert labs.requested(SESSION, config.Overrides()).lab.provider == provider


def test_an_existing_lab_is_the_one_that_was_made_whatever_the_file_says_now(home: Path) -> None:
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(workers=2), isolated=True, bundle=Path("/stick")))
    (home / "labctl.yaml").write_text("workers: 5\n")

    context = labs.saved(SESSION)

    assert (context.lab.workers, context.isolated, context.bundle_folder) == (2, True, Path("/stick"))


def test_a_lab_that_was_never_made_is_not_found() -> None:
    with pytest.raises(MissingError, match="no lab demo") as raised:
        labs.saved(SESSION)

    assert raised.value.id == "lab-not-found"


@pytest.mark.parametrize("name", ["../demo", "/etc", "..", "a/b", "Demo"])
def test_a_name_that_no_lab_can_have_is_refused_before_it_becomes_a_path(home: Path, name: str) -> None:
    saved_lab.write(home / "demo", saved_lab.SavedLab(lab(), isolated=False))

    with pytest.raises(UsageError, match="name"):
        labs.saved(replace(SESSION, lab_name=name))


# Through sudo


@pytest.fixture
def through_sudo(monkeypatch: pytest.MonkeyPatch) -> dict[Path, int]:
    """Root, called through sudo by the user 1000. Returns whose each path is, root's where it does not say."""
    owners: dict[Path, int] = {}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", "1000")
    monkeypatch.setenv("SUDO_GID", "1000")
    monkeypatch.setattr(caller, "owns", lambda path: any(owners.get(each) for each in (path, *path.parents)))
    monkeypatch.setattr(saved_lab, "_is_roots", lambda path: owners.get(path) == 0)
    return owners


@pytest.mark.parametrize(
    ("users", "is_refused"),
    [([], False), ([""], True), (["state"], True), (["cache"], True), (["elsewhere"], False)],
    ids=["root's own home", "the user's home", "its state", "its cache", "another folder of the user's"],
)
@pytest.mark.parametrize("find", [labs.saved, partial(labs.requested, overrides=config.Overrides())])
def test_root_makes_nothing_in_the_home_of_the_user_who_called_sudo(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    through_sudo: dict[Path, int],
    find: Callable[[GlobalOptions], Context],
    users: list[str],
    *,
    is_refused: bool,
) -> None:
    _machine(monkeypatch, engine=True, root=True)
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(), isolated=False))
    through_sudo.update({home / name: 1000 for name in users})

    if is_refused:
        with pytest.raises(UsageError) as raised:
            find(SESSION)
        assert (raised.value.exit_code, raised.value.id) == (2, "sudo-not-needed")
    else:
        assert find(SESSION).lab.name == "demo"


def test_what_root_made_there_before_can_be_destroyed_by_root(home: Path, through_sudo: dict[Path, int]) -> None:
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(), isolated=False))
    through_sudo.update({home: 1000, paths.state("demo") / "lab.json": 0})

    assert labs.saved(SESSION).lab.name == "demo"


# Where steps happen


def test_every_step_of_a_lab_on_this_machines_network_happens_here(
    context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    acts: list[str] = []

    labs.run(SESSION, context, _plan(acts))

    assert acts == ["outside", "inside"]
    (result,) = _results(capsys)
    assert (result["ok"], result["changed"], result["urls"]) == (True, True, ["http://my-app.local"])


def test_what_tools_say_during_a_plan_is_in_the_labs_log(context: Context) -> None:
    def act(_context: Context, _say: Progress) -> Outcome:
        log.write(4711, "said")
        return Outcome(changed=False)

    labs.run(SESSION, context, (Step("act", "says something", act),))

    assert context.log.read_text().endswith(" [4711] said\n")
    assert log.location() is None


def test_an_isolated_lab_goes_on_inside(
    context: Context, entered: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    labs.run(SESSION, replace(context, isolated=True), _plan(entered))

    assert entered == ["outside", "entered labctl-demo", "inside"]
    (result,) = _results(capsys)
    assert (result["ok"], result["changed"], result["urls"]) == (True, True, ["http://my-app.local"])


def test_a_run_that_begins_inside_leaves_out_what_belongs_outside(
    context: Context, entered: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Isolation, "is_entered", lambda _isolation: True)

    labs.run(SESSION, replace(context, isolated=True), _plan(entered))

    assert entered == ["entered labctl-demo", "inside"]
    assert _results(capsys)[0]["changed"] is False


def test_a_lab_cannot_be_taken_away_from_within(
    context: Context, entered: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Isolation, "is_entered", lambda _isolation: True)

    with pytest.raises(SystemExit) as end:
        labs.run(SESSION, replace(context, isolated=True), _plan(entered)[:1])

    assert (end.value.code, entered) == (2, [])
    assert _results(capsys)[0]["error"]["id"] == "inside-lab"


@pytest.mark.parametrize("state", ["written", "pending", "not needed"])
def test_the_result_says_what_a_step_made_of_the_hosts_file(
    context: Context, capsys: pytest.CaptureFixture[str], state: Literal["written", "pending", "not needed"]
) -> None:
    step: Step[Context] = Step("hosts", "", lambda _context, _say: Outcome(changed=False, hosts=HostsEntry(state)))

    labs.run(SESSION, context, (step, Step("verify", "", lambda _context, _say: Outcome(changed=False))))

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
        labs.run(SESSION, changed, tuple(Step(name, "", fail) for name in names))

    assert _results(capsys)[0]["hosts"] == state


def test_a_step_asks_before_the_first_one_and_never_a_script(context: Context) -> None:
    acts: list[str] = []

    def asking(name: str) -> Step[Context]:
        def act(_context: Context, _say: Progress) -> Outcome:
            acts.append(name)
            return Outcome(changed=False)

        return Step(name, "", act, ask=lambda _context: acts.append(f"{name} asks"))

    for output in ("text", "json"):
        labs.run(replace(SESSION, output=output), context, (asking("one"), asking("two")))

    assert acts == ["one asks", "two asks", "one", "two", "one", "two"]


def test_a_plan_without_a_step_inside_ends_here_without_urls(
    context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    acts: list[str] = []

    labs.run(SESSION, replace(context, isolated=True), _plan(acts)[:1])

    (result,) = _results(capsys)
    assert (result["ok"], result["urls"]) == (True, [])


@pytest.mark.usefixtures("entered")
def test_an_isolated_lab_whose_network_is_gone_does_not_run(
    context: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Isolation, "exists", lambda _isolation: False)

    with pytest.raises(SystemExit) as end:
        labs.run(SESSION, replace(context, isolated=True), _plan([]))

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
        labs.run(SESSION, context, _plan([], fails=failure))

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
        labs.run(replace(SESSION, verbosity=verbosity), context, _plan([], fails=ZeroDivisionError("by nought")))

    error = _results(capsys)[0]["error"]
    assert str(context.log) in error["message"]
    assert "Traceback (most recent call last):" in context.log.read_text()
    assert ("Traceback (most recent call last):" in error["details"]) is (verbosity > 0)


def test_two_runs_do_not_work_on_one_lab_at_once(
    context: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(labs, "LOCK_SECONDS", 0.01)
    acts: list[str] = []

    with locks.alone(context.folder / "lock", labs.silent, timeout=0), pytest.raises(SystemExit) as end:
        labs.run(SESSION, context, _plan(acts))

    assert end.value.code == 6
    assert acts == []
    waiting, result = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (waiting["step"], waiting["state"]) == ("outside", "progress")
    assert f"(pid {os.getpid()})" in waiting["text"]
    assert result["error"]["id"] == "locked"
    assert f"(pid {os.getpid()})" in result["error"]["message"]


# Other programs


def test_a_program_takes_labctls_place_with_what_it_needs(
    context: Context, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    program = home / "kubectl"
    program.touch(mode=0o755)
    seen: list[tuple[str, list[str], dict[str, str]]] = []

    def become(*call: Any) -> NoReturn:  # noqa: ANN401 - whatever it is called with
        seen.append(call)
        raise ReplacedError

    monkeypatch.setattr(os, "execve", become)

    with pytest.raises(ReplacedError):
        labs.replace_process(context, ["kubectl", "get"], {"PATH": str(home), "KUBECONFIG": "x"})

    path, line, environment = seen[0]
    assert (path, line) == (str(program), ["kubectl", "get"])
    assert environment["KUBECONFIG"] == "x"
    assert environment["HOME"] == str(home)


def test_a_program_that_is_not_there_is_missing(context: Context, home: Path) -> None:
    with pytest.raises(MissingError, match="no program kubectl on PATH"):
        labs.replace_process(context, ["kubectl"], {"PATH": str(home)})


def test_a_question_that_nobody_answers_is_a_no() -> None:
    with pytest.raises(UsageError, match="not confirmed"):
        labs.confirm("Destroy?")


@pytest.mark.parametrize(
    ("text", "name"), [("name: class\nworker: 2", "class"), ("apps: [", "demo"), ("name: Demo", "demo"), ("", "demo")]
)
def test_versions_are_those_of_the_lab_that_is_named_as_far_as_it_can_be_read(
    monkeypatch: pytest.MonkeyPatch, home: Path, text: str, name: str
) -> None:
    _machine(monkeypatch, engine=True, root=True)
    (home / "labctl.yaml").write_text(text)

    assert labs.known_or_default(SESSION).lab.name == name
    assert labs.known_or_default(replace(SESSION, lab_name="other")).lab.name == "other"
