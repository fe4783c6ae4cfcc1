"""Command lines: their options, exit codes and output."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import typer
from fakes import ADDRESS
from golden_files import Golden

from labctl import cli
from labctl.cli.argv import move_global_options_first, wants_json
from labctl.commands import endings, labs
from labctl.context import Context
from labctl.host import paths
from labctl.model.errors import (
    BrokenError,
    HostsError,
    LabError,
    MissingError,
    NotReadyError,
    ProviderError,
    RefusedError,
    Terminated,
    UsageError,
)

Run = Callable[..., int]
pytestmark = pytest.mark.usefixtures("home", "machine")


@pytest.fixture
def labctl(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Return a function that runs a command line in this process and returns its exit code."""

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["labctl", *arguments])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def selected_lab(monkeypatch: pytest.MonkeyPatch, keyed: Context) -> Context:
    """Let every command select this lab."""
    for name in ("requested", "saved", "entered", "entered_if_up"):
        monkeypatch.setattr(labs, name, lambda *_arguments, **_options: keyed)
    return keyed


@pytest.fixture
def replaced_processes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """The programs that would have replaced labctl, with the variables added for each."""
    calls: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(labs, "replace_process", lambda _context, line, added: calls.append((line, added)))
    return calls


def _raise(error: BaseException) -> Callable[..., NoReturn]:
    def run(*_arguments: object) -> NoReturn:
        raise error

    return run


# Errors and exit codes


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (LabError, 1),
        (UsageError, 2),
        (MissingError, 3),
        (ProviderError, 4),
        (RefusedError, 5),
        (NotReadyError, 6),
        (HostsError, 7),
        (BrokenError, 8),
    ],
)
def test_every_kind_of_failure_has_its_exit_code_and_is_printed_on_stderr(
    kind: type[LabError], code: int, labctl: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = kind("the disk sda is full", id="disk-full", hint="Make room.", details=("No space left",))
    monkeypatch.setattr(labs, "list_labs", _raise(error))

    assert labctl("list") == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: the disk sda is full\n  No space left\nhint: Make room.\n"


@pytest.mark.parametrize("arguments", [("list", "-o", "json"), ("--output=json", "list"), ("-o", "json", "list")])
def test_with_json_an_error_is_one_document_on_stdout(
    arguments: tuple[str, ...], labctl: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(labs, "list_labs", _raise(MissingError("no disk", id="disk-missing", hint="Buy one.")))

    assert labctl(*arguments) == 3
    out, err = capsys.readouterr()
    error = {"id": "disk-missing", "message": "no disk", "hint": "Buy one.", "details": []}
    assert json.loads(out) == {"version": 1, "error": error}
    assert err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("fly",),
        ("up", "--fly"),
        ("up", "--workers", "many"),
        ("up", "--bundle", "https://registry.test/bundle", "--dry-run"),
        ("up", "--bundle", "oci://registry.test/NOT:a:reference", "--dry-run"),
        ("up", "--bundle", "oci://registry.test/without-tag", "--dry-run"),
        ("up", "--bundle", "stick", "--recipe", "recipe.yaml", "--dry-run"),
        ("-o", "xml", "list"),
        ("list", "--name"),
        ("-v", "-q", "list"),
        ("trace", "--wait", "nan"),
        ("completion", "tcsh"),
    ],
)
def test_unknown_arguments_are_a_usage_error(labctl: Run, arguments: tuple[str, ...]) -> None:
    assert labctl(*arguments) == 2


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt(), 130), (Terminated("terminated"), 143)])
def test_an_interrupted_command_exits_with_128_plus_the_signal(
    stop: BaseException, code: int, labctl: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(labs, "list_labs", _raise(stop))

    assert labctl("list") == code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("failure", "code", "identity"),
    [
        (MissingError("no disk", id="disk-missing"), 3, "disk-missing"),
        (Terminated("terminated"), 143, "terminated"),
        (KeyError("node"), 1, "bug"),
    ],
)
def test_a_run_that_fails_before_its_first_step_ends_with_a_result_event(
    failure: BaseException,
    code: int,
    identity: str,
    labctl: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(labs, "saved", _raise(failure))

    assert labctl("halt", "-o", "json") == code
    (result,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (result["event"], result["ok"], result["error"]["id"]) == ("result", False, identity)


def test_sigterm_is_distinguished_from_ctrl_c(labctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labs, "list_labs", lambda: signal.raise_signal(signal.SIGTERM))

    assert labctl("list") == 143


@pytest.mark.parametrize("options", [(), ("-v",)])
def test_a_bug_is_one_message_and_its_traceback_is_in_the_log(
    options: tuple[str, ...], labctl: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(labs, "list_labs", _raise(KeyError("node")))

    assert labctl("list", *options) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert str(endings.common_log()) in err.splitlines()[0]
    assert ("Traceback" in err) is bool(options)
    assert "KeyError: 'node'" in endings.common_log().read_text()


def test_a_bug_is_reported_even_if_no_log_can_be_written(
    labctl: Run, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "state").write_text("no folder")
    monkeypatch.setattr(labs, "list_labs", _raise(KeyError("node")))

    assert labctl("list", "-o", "json") == 1
    assert json.loads(capsys.readouterr().out)["error"]["id"] == "bug"


def test_an_invalid_configuration_is_a_usage_error_with_every_problem(
    labctl: Run, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    (home / "labctl.yaml").write_text("workers: many\ncolour: red\n")

    assert labctl("up", "--dry-run") == 2
    err = capsys.readouterr().err
    assert "workers" in err
    assert "colour" in err


@pytest.mark.parametrize(("file", "target"), [("labctl.yml", "/dev/null"), ("labctl.yaml", "gone")])
@pytest.mark.parametrize("line", [("destroy", "--yes"), ("up",), ("app", "add", "shop")])
def test_an_unreadable_configuration_never_selects_the_default_lab(
    labctl: Run, capsys: pytest.CaptureFixture[str], home: Path, file: str, target: str, line: tuple[str, ...]
) -> None:
    (home / file).symlink_to(target)

    assert labctl(*line) == 2
    assert file in capsys.readouterr().err
    assert [path.name for path in home.iterdir()] == [file]


@pytest.mark.parametrize("line", [("logs",), ("logs", "worker-1")], ids=" ".join)
@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [("name: class\nworker: 2", 3, "class"), ("apps: [", 2, "labctl.yaml"), ("name: Demo", 2, "Demo")],
)
@pytest.mark.usefixtures("context")
def test_logs_are_those_of_the_configured_lab_or_an_error(
    labctl: Run,
    capsys: pytest.CaptureFixture[str],
    home: Path,
    line: tuple[str, ...],
    text: str,
    code: int,
    expected: str,
) -> None:
    (home / "state" / "labctl" / "demo" / "log").write_text("of another lab")
    (home / "labctl.yaml").write_text(text)

    assert labctl(*line) == code
    out, err = capsys.readouterr()
    assert expected in err
    assert not out


def test_labs_are_listed_even_if_the_configuration_is_invalid(labctl: Run, home: Path) -> None:
    (home / "labctl.yaml").write_text("apps: [")

    assert labctl("list") == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--provider", "existing"), ""),
        (("--provider", "libvirt"), "memory: 512"),
        (("--provider", "virtualbox"), "cpus: 0"),
        (("--ingress", "contour"), ""),
        ((), "provider: libvirt\nmemory: 1GiB"),
        ((), "provider: existing"),
        ((), "ingress: contour"),
        ((), "apps: [{name: kubernetes}]"),
    ],
)
def test_up_refuses_an_unsupported_configuration_before_creating_anything(
    labctl: Run, capsys: pytest.CaptureFixture[str], home: Path, options: tuple[str, ...], text: str
) -> None:
    (home / "labctl.yaml").write_text(text)

    assert labctl("up", *options, "-o", "json") == 2
    assert '"config-invalid"' in capsys.readouterr().out
    assert [path.name for path in home.iterdir()] == ["labctl.yaml"]


def test_an_unknown_lab_is_missing(labctl: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert labctl("--name", "nowhere", "status") == 3
    assert "nowhere" in capsys.readouterr().err


# Options before and after the command


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["status", "-o", "json"], ["-o", "json", "status"]),
        (["-o", "json", "status"], ["-o", "json", "status"]),
        (["status", "-ojson"], ["-o", "json", "status"]),
        (["status", "--output=json", "-v"], ["--output=json", "-v", "status"]),
        (["up", "--name", "two", "--workers", "2"], ["--name", "two", "up", "--workers", "2"]),
        (["hosts", "show", "--name=two"], ["--name=two", "hosts", "show"]),
        (["exec", "--", "curl", "-v", "-o", "json"], ["exec", "--", "curl", "-v", "-o", "json"]),
        (["-q", "exec", "curl", "-v"], ["-q", "exec", "curl", "-v"]),
        (["--name", "exec", "status", "-q"], ["--name", "exec", "-q", "status"]),
        (["ssh", "worker-1", "--name", "two", "ip", "-o", "a"], ["--name", "two", "ssh", "worker-1", "ip", "-o", "a"]),
        (["ssh", "-q", "worker-1", "ls", "-v"], ["-q", "ssh", "worker-1", "ls", "-v"]),
        (["ssh", "worker-1", "--", "ls", "--name", "x"], ["ssh", "worker-1", "--", "ls", "--name", "x"]),
        (["exec", "--name", "two", "-v", "--", "curl", "-v"], ["--name", "two", "-v", "exec", "--", "curl", "-v"]),
        (["app", "add", "ssh", "-o", "json"], ["-o", "json", "app", "add", "ssh"]),
        (["status", "-o"], ["-o", "", "status"]),
    ],
)
def test_global_options_can_follow_the_command_but_not_within_another_programs_arguments(
    typed: list[str], expected: list[str]
) -> None:
    assert move_global_options_first(typed) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-o", "json", "status"], True),
        (["--output=json", "status"], True),
        (["--name", "two", "-o", "json", "exec", "true"], True),
        (["-o", "text", "status"], False),
        (["status"], False),
        (["exec", "--", "curl", "-o", "json"], False),
        (["exec", "curl", "--output=json"], False),
    ],
)
def test_errors_are_json_if_the_option_is_labctls_and_not_the_started_programs(
    arguments: list[str],
    expected: bool,  # noqa: FBT001 - what is expected
) -> None:
    assert wants_json(arguments) is expected


# up and destroy


def test_up_reports_every_step_and_the_result_as_json_lines(
    labctl: Run, selected_lab: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    assert labctl("up", "-o", "json") == 0

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {"event": "step", "step": "preflight", "state": "started", "text": ""}
    assert lines[-1].pop("seconds") >= 0
    urls = ["http://my-app.local"]
    assert lines[-1] == {
        "event": "result",
        "version": 1,
        "ok": True,
        "changed": True,
        "urls": urls,
        "hosts": "written",
        "error": None,
    }
    assert {line["step"] for line in lines if line.get("state") == "done"} >= {"boot", "verify"}
    assert ADDRESS in selected_lab.lab.hosts_file.read_text()


def test_a_failed_up_ends_with_its_error_as_json(
    labctl: Run, selected_lab: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    selected_lab.lab.hosts_file.write_text("# BEGIN labctl demo\n")

    assert labctl("-o", "json", "up") == 7
    *_, failed, result = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (failed["step"], failed["state"]) == ("hosts", "failed")
    assert result["ok"] is False
    assert result["error"]["id"]


def test_a_dry_run_shows_the_steps_and_does_nothing(
    labctl: Run, selected_lab: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    assert labctl("-q", "up") == 0
    capsys.readouterr()
    before = set(selected_lab.folder.rglob("*"))

    assert labctl("up", "--dry-run", "--from", "apps", "-o", "json") == 0

    assert [step["step"] for step in json.loads(capsys.readouterr().out)["steps"]] == ["apps", "hosts", "verify"]
    assert set(selected_lab.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "folder", "version", "identity"),
    [
        ((), "nowhere", "1.37.2", "bundle-not-found"),
        ((), None, "1.36.0", "bundle-version"),
        (("--from", "apps"), None, "1.37.2", "lab-not-found"),
    ],
)
def test_a_dry_run_is_refused_if_up_could_not_begin(
    labctl: Run,
    selected_lab: Context,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    folder: str | None,
    version: str,
    identity: str,
) -> None:
    chosen = replace(
        selected_lab,
        lab=replace(selected_lab.lab, kubernetes=version),
        bundle_folder=Path(folder) if folder else None,
        cache=selected_lab.folder / "empty",
    )
    monkeypatch.setattr(labs, "requested", lambda *_arguments, **_options: chosen)
    before = set(selected_lab.folder.rglob("*"))

    assert labctl("up", "--dry-run", *words, "-o", "json") == 3
    assert json.loads(capsys.readouterr().out)["error"]["id"] == identity
    assert set(selected_lab.folder.rglob("*")) == before

    # The bundle of a reference is yet to be pulled.
    assert labctl("up", "--dry-run", "--bundle", "oci://registry.test/labs/kubernetes:1.37", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["steps"][0]["step"] == "pull"


@pytest.mark.usefixtures("selected_lab")
def test_an_unknown_step_is_a_usage_error(labctl: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert labctl("up", "--only", "fly") == 2
    assert "Steps: preflight, bundle" in capsys.readouterr().err


def test_destroy_without_confirmation_does_nothing(
    labctl: Run, selected_lab: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    labctl("-q", "up")

    assert labctl("destroy") == 2
    assert "not confirmed" in capsys.readouterr().err
    assert selected_lab.provider.running()


def test_destroy_with_yes_removes_the_lab(labctl: Run, selected_lab: Context) -> None:
    labctl("-q", "up")

    assert labctl("destroy", "--yes", "--purge") == 0
    assert not selected_lab.folder.exists()


def test_purge_after_destroy_removes_the_kept_files_and_runs_no_other_step(
    labctl: Run, selected_lab: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    labctl("-q", "up")
    labctl("-q", "destroy", "--yes")
    selected_lab.log.write_text("kept\n")
    capsys.readouterr()

    assert labctl("-o", "json", "destroy", "--yes", "--purge") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {event["step"] for event in events if event["event"] == "step"} == {"state"}
    assert not selected_lab.folder.exists()


@pytest.mark.parametrize("options", [(), ("--force",)], ids=["in order", "at once"])
def test_halt_stops_only_the_named_nodes(
    labctl: Run, selected_lab: Context, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], golden: Golden
) -> None:
    labctl("-q", "up")
    capsys.readouterr()

    assert labctl("-o", "json", "halt", "worker-1", *options) == 0
    *steps, result = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    golden([step["text"] for step in steps if step["state"] == "progress"])
    assert (result["changed"], result["urls"]) == (True, [])
    assert selected_lab.provider.running() == {"demo-control-plane"}


def test_halt_refuses_an_unknown_node(labctl: Run, selected_lab: Context, capsys: pytest.CaptureFixture[str]) -> None:
    labctl("-q", "up")

    assert labctl("halt", "worker-1", "worker-9") == 2
    assert "worker-9" in capsys.readouterr().err
    assert len(selected_lab.provider.running()) == 2


# Output


@pytest.mark.usefixtures("rendered", "selected_lab")
def test_status_of_a_broken_lab_is_a_document_and_an_exit_code(labctl: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert labctl("-o", "json", "status") == 8

    report = json.loads(capsys.readouterr().out)
    assert list(report) == ["version", "lab", "ok", "nodes", "addresses", "ingress", "apps", "problems"]
    assert report["nodes"][0] == {
        "name": "demo-control-plane",
        "role": "control-plane",
        "address": "192.168.56.10",
        "ready": False,
    }
    assert report["problems"][0]["id"] == "node-not-running"


def test_status_of_a_healthy_lab_has_no_problem(
    labctl: Run, selected_lab: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    labctl("-q", "up")
    capsys.readouterr()
    _announce(selected_lab)

    assert labctl("-o", "json", "status") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert report["problems"] == []
    assert report["apps"] == [{"name": "my-app", "url": "http://my-app.local", "http": 200}]


@pytest.mark.usefixtures("selected_lab")
def test_the_lines_in_the_hosts_file_can_be_shown_removed_and_rewritten(
    labctl: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    labctl("-q", "up")
    shown: dict[str, Any] = {}
    for command in ("show", "remove", "sync"):
        capsys.readouterr()
        assert labctl("hosts", command, "-o", "json") == 0
        shown[command] = json.loads(capsys.readouterr().out)["lines"]

    assert shown == {"show": [f"{ADDRESS} my-app.local"], "remove": [], "sync": [f"{ADDRESS} my-app.local"]}


@pytest.mark.usefixtures("rendered")
def test_the_kubeconfig_is_printed_or_merged(
    labctl: Run, selected_lab: Context, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    assert labctl("kubeconfig") == 0
    assert capsys.readouterr().out == (selected_lab.folder / "kubeconfig").read_text()

    assert labctl("kubeconfig", "--merge") == 0
    assert capsys.readouterr().out == f"file: {home / '.kube' / 'config'}\n"


@pytest.mark.usefixtures("selected_lab")
def test_render_writes_into_another_folder_and_starts_nothing(
    labctl: Run, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert labctl("render", "--out", "out", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == {"version": 1, "folder": str(home / "out")}
    assert (home / "out" / "Vagrantfile").exists()


def test_init_writes_a_valid_configuration_and_never_overwrites_one(
    labctl: Run, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert labctl("init") == 0
    assert capsys.readouterr().out.startswith("file: labctl.yaml\nschema: ")
    assert labctl("status") == 3  # it was read: the lab that it describes does not exist

    before = (home / "labctl.yaml").read_text()
    assert labctl("init") == 2
    assert (home / "labctl.yaml").read_text() == before


def test_a_bundle_can_be_set_by_an_environment_variable(
    labctl: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(paths.BUNDLE, "named")

    assert labctl("bundle", "verify", "-o", "json") == 3
    assert "bundle-not-found" in capsys.readouterr().out


def test_every_command_with_the_bundle_option_reads_the_environment_variable() -> None:
    pending: list[Any] = [typer.main.get_command(cli.app)]
    variables = []
    while pending:
        command = pending.pop()
        pending += getattr(command, "commands", {}).values()
        variables += [parameter.envvar for parameter in command.params if "--bundle" in parameter.opts]

    assert len(variables) > 2
    assert {*variables} == {paths.BUNDLE}


def test_without_labs_and_bundles_the_lists_are_empty(labctl: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for command, key in ((("list",), "labs"), (("bundle", "list"), "bundles"), (("bundle", "verify"), "bundles")):
        assert labctl(*command, "-o", "json") == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["version"], document[key]) == (1, [])


# Programs in the lab


def test_exec_passes_options_to_the_program(
    labctl: Run, selected_lab: Context, replaced_processes: list[tuple[list[str], dict[str, str]]]
) -> None:
    assert labctl("exec", "--", "curl", "-v", "-o", "json", "--name", "x") == 0

    line, environment = replaced_processes[0]
    assert line == ["curl", "-v", "-o", "json", "--name", "x"]
    assert environment["KUBECONFIG"] == str(selected_lab.folder / "kubeconfig")
    assert environment["PATH"].startswith(str(selected_lab.bundle.folder / "bin"))


@pytest.mark.usefixtures("selected_lab")
@pytest.mark.parametrize("name", ["worker-1", "demo-worker-1"])
def test_ssh_accepts_node_names_with_or_without_the_name_of_the_lab(
    labctl: Run, name: str, replaced_processes: list[tuple[list[str], dict[str, str]]]
) -> None:
    assert labctl("ssh", name, "--", "uname", "-a") == 0

    assert replaced_processes[0][0] == ["ssh", "demo-worker-1", "uname", "-a"]


@pytest.mark.usefixtures("selected_lab", "replaced_processes")
def test_ssh_to_an_unknown_node_lists_the_nodes(labctl: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert labctl("ssh", "worker-9") == 2
    assert "demo-control-plane, demo-worker-1" in capsys.readouterr().err


def test_help_names_every_command(labctl: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert labctl("--help") == 0

    out = capsys.readouterr().out
    for command in (
        "up",
        "destroy",
        "status",
        "list",
        "init",
        "render",
        "kubeconfig",
        "ssh",
        "exec",
        "hosts",
        "bundle",
    ):
        assert f"\n  {command} " in out


def _announce(context: Context) -> None:
    """Put MetalLB's record of the node that announces the address, and of the pool."""
    service = {"serviceNamespace": "ingress-nginx", "serviceName": "ingress-nginx-controller"}
    cluster: Any = context.cluster
    cluster.put("metallb.io/v1beta1", "ServiceL2Status", "l2-1", "metallb-system", status={"node": "w", **service})
