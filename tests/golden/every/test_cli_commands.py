"""Every command: its help, its examples, and its errors for invalid values and missing files."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import Watched

from labctl import cli
from labctl.cli.tree import EXAMPLES, commands, tree
from labctl.commands import labs, versions
from labctl.config import saved_lab
from labctl.context import Context
from labctl.plans import up
from labctl.plans.plan import execute, select

Run = Callable[..., int]
pytestmark = pytest.mark.usefixtures("home", "machine")
COMMANDS = dict(commands(tree(cli.app)))
REDIRECTIONS = (">", "|")


@pytest.mark.parametrize("words", COMMANDS)
def test_help_fits_a_terminal_of_80_columns_and_explains_every_parameter(
    words: str, labctl: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert labctl(*words.split(), "--help") == 0
    out = capsys.readouterr().out

    assert all(len(line) <= 80 for line in out.splitlines())
    assert "\x1b" not in out
    assert not any(line.endswith("...") for line in out.splitlines()[2:]), "a summary is cut"
    assert all(example in out for example in EXAMPLES[words])
    unexplained = [parameter.name for parameter in COMMANDS[words].params if not getattr(parameter, "help", None)]
    assert unexplained == []


@pytest.mark.parametrize("words", COMMANDS)
def test_h_is_help(words: str, labctl: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert labctl(*words.split(), "--help") == 0
    expected = capsys.readouterr().out

    assert labctl(*words.split(), "-h") == 0
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_labctl_accepts_every_example(line: str) -> None:
    words = shlex.split(line.removeprefix("source <(").removesuffix(")"))
    words = words[words.index("labctl") + 1 :]
    ends = [index for index, word in enumerate(words) if word in REDIRECTIONS]
    root: Any = COMMANDS[""]

    context = root.make_context("labctl", words[: ends[0]] if ends else words)
    rest = [*context._protected_args, *context.args]
    while rest:
        name, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
        rest = [*context._protected_args, *context.args] if hasattr(command, "commands") else []

    assert not hasattr(context.command, "commands"), f"{line} names no command"


@pytest.mark.parametrize("written", ["1_0", "010", "+1", " 1", "1.0", "1e1", "\uff11", ""])
@pytest.mark.parametrize(
    "line", [("up", "--dry-run", "--workers"), ("app", "add", "a", "--port"), ("app", "add", "a", "--replicas")]
)
def test_a_number_in_another_notation_is_a_usage_error(
    labctl: Run, capsys: pytest.CaptureFixture[str], line: tuple[str, ...], written: str
) -> None:
    assert labctl(*line, written) == 2
    assert f"{written}: " in capsys.readouterr().err


FOR_A_SAVED_LAB = (
    *(("halt",), ("halt", "worker-1"), ("resume",), ("destroy", "--yes"), ("status",), ("trace",), ("open",)),
    *(
        ("kubeconfig",),
        ("kubeconfig", "--merge"),
        ("ssh", "worker-1"),
        ("exec", "--", "true"),
    ),
    *(("hosts", "show"), ("hosts", "sync"), ("hosts", "remove"), ("demo", "run", "scale")),
)
"""Commands that need a lab that exists."""


@pytest.mark.parametrize("line", FOR_A_SAVED_LAB, ids=" ".join)
def test_a_command_for_a_saved_lab_reads_only_its_name_from_the_configuration(
    labctl: Run, capsys: pytest.CaptureFixture[str], home: Path, line: tuple[str, ...]
) -> None:
    (home / "labctl.yaml").write_text("name: class\nworker: 010\ningress: contour\ncpus: 1\ncpus: 2\n")

    assert labctl(*line) == 3
    assert "lab class" in capsys.readouterr().err


@pytest.mark.parametrize("line", [*FOR_A_SAVED_LAB, ("up",), ("render",), ("doctor",), ("app", "list")], ids=" ".join)
def test_no_command_uses_the_default_lab_if_the_name_cannot_be_read(
    labctl: Run, capsys: pytest.CaptureFixture[str], home: Path, line: tuple[str, ...]
) -> None:
    (home / "labctl.yaml").write_text("apps: [")

    assert labctl(*line) == 2
    assert "labctl.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("list", 0),
        ("exec -- curl http://my-app.local", 0),
        ("ssh worker-1", 0),
        ("kubeconfig", 0),
        ("logs", 0),
        ("app list", 0),
        ("hosts show", 0),
        ("hosts sync", 0),
        ("status", 0),
        ("version", 0),
        ("halt", 0),
        ("image list", 3),
        ("image remove shop:1", 3),
        ("app add shop", 3),
        ("demo run failover", 3),
        ("resume", 3),
    ],
)
def test_a_command_for_a_running_lab_needs_the_bundle_only_if_it_uses_it(
    line: str,
    code: int,
    rendered: Context,
    home: Path,
    labctl: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = saved_lab.SavedLab(rendered.lab, rendered.isolated, home / "gone")
    saved_lab.write(rendered.folder, gone)
    rendered.log.write_text("[1] $ vagrant up\n")
    provider, cluster = rendered.provider, rendered.cluster
    execute(select(up.up(isolated=False), "boot", None), rendered, Watched())
    for name, door in {"provider": provider, "cluster": cluster}.items():
        monkeypatch.setattr(Context, name, door)
    monkeypatch.setattr(versions, "_first_line", lambda *_arguments: None)
    monkeypatch.setattr(labs, "replace_process", lambda *_arguments: None)

    assert labctl(*line.split(), "-o", "json") == code

    if code:
        out = capsys.readouterr().out
        error = json.loads(out.splitlines()[-1] if line in {"app add shop", "image remove shop:1", "resume"} else out)[
            "error"
        ]
        assert error["id"] == "bundle-not-found"
        assert str(home / "gone") in error["message"]
