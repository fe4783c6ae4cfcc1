"""The tree of commands: groups, examples and shell completion."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import lab

from labctl import __version__, cli, config
from labctl.cli import complete
from labctl.cli.tree import COMPLETE, EXAMPLES, GROUPS, Root, commands, tree
from labctl.config import saved_lab
from labctl.demo import script
from labctl.host import paths
from labctl.plans import up

Run = Callable[..., int]
pytestmark = pytest.mark.usefixtures("home")
COMMANDS = dict(commands(tree(cli.app)))


# Groups


def test_every_command_has_a_group_and_examples() -> None:
    root: Any = COMMANDS[""]

    assert sorted(name for names in GROUPS.values() for name in names) == sorted(root.commands)
    assert set(EXAMPLES) == set(COMMANDS)
    assert all(EXAMPLES.values())


# Version and schema


@pytest.mark.parametrize("arguments", [("--version",), ("status", "--version"), ("--version", "-o", "json")])
def test_the_version_is_one_line(arguments: tuple[str, ...], labctl: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert labctl(*arguments) == 0
    assert capsys.readouterr().out == f"labctl {__version__}\n"


def test_schema_prints_the_schema_of_the_configuration(labctl: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert labctl("schema") == 0
    assert json.loads(capsys.readouterr().out) == config.schema()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_completion_script_calls_labctl(shell: str, labctl: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert labctl("completion", shell) == 0
    assert f"{COMPLETE}=complete_{shell}" in capsys.readouterr().out


def test_an_unsupported_shell_is_a_usage_error(labctl: Run) -> None:
    assert labctl("completion", "tcsh") == 2


# Completion


@pytest.fixture
def complete_line(
    labctl: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], list[str]]:
    """Return a function that returns bash's completions of a line. Completing must print nothing to stderr."""

    def run(line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv(COMPLETE, "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        capsys.readouterr()
        labctl()
        out, err = capsys.readouterr()
        assert err == ""
        return out.split()

    return run


@pytest.fixture
def two_labs(home: Path) -> None:
    """Configure a lab that is not up, and save another one that is up."""
    saved_lab.write(paths.state("two"), saved_lab.SavedLab(lab(name="two", workers=2), isolated=True))
    (home / "labctl.yaml").write_text("name: class\nworkers: 0\napps: [{name: shop, hostname: shop.test}]\n")


@pytest.mark.usefixtures("two_labs")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("labctl st", ["status"]),
        ("labctl --name two st", ["status"]),
        ("labctl app ", ["add", "list", "remove"]),
        ("labctl --name ", ["two"]),
        ("labctl halt --name ", ["two"]),
        ("labctl exec -- curl -o ", []),
        ("labctl -o ", ["json", "text"]),
        ("labctl status -o j", ["json"]),
        ("labctl ssh ", ["control-plane"]),
        ("labctl --name two ssh ", ["control-plane", "worker-1", "worker-2"]),
        ("labctl halt --name two w", ["worker-1", "worker-2"]),
        ("labctl --name two halt worker-1 w", ["worker-1", "worker-2"]),
        ("labctl trace ", ["shop.test"]),
        ("labctl --name two open ", ["my-app.local"]),
        ("labctl app remove ", ["shop"]),
        ("labctl up --only b", ["boot", "bundle"]),
        ("labctl up --from met", ["metallb"]),
        ("labctl up --provider l", ["libvirt"]),
        ("labctl render --ingress t", ["traefik"]),
        ("labctl demo run fail", ["failover"]),
        ("labctl completion f", ["fish"]),
        ("labctl trace --wat", ["--watch"]),
    ],
)
def test_existing_names_are_completed(
    line: str, expected: list[str], complete_line: Callable[[str], list[str]]
) -> None:
    assert sorted(complete_line(line)) == expected


@pytest.mark.parametrize(
    "line", ["labctl ssh ", "labctl trace ", "labctl app remove ", "labctl --config /nowhere ssh "]
)
def test_an_invalid_configuration_gives_no_completions_and_no_message(
    line: str, home: Path, complete_line: Callable[[str], list[str]]
) -> None:
    (home / "labctl.yaml").write_text("workers: [\n")

    assert complete_line(line) == []


def test_an_incomplete_completion_request_is_not_a_bug(labctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMPLETE, "complete_bash")
    monkeypatch.delenv("COMP_WORDS", raising=False)

    assert labctl() == 1


def test_completed_values_are_those_that_the_configuration_allows() -> None:
    keys = config.schema()["properties"]

    assert list(complete.PROVIDERS) == keys["provider"]["enum"]
    assert list(complete.CONTROLLERS) == keys["ingress"]["enum"]


def test_completed_steps_and_demos_are_the_existing_ones(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    folder = home / "config" / "labctl" / "demos"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("about: Mine\nscenes: [{title: One}]\n")
    context: Any = None

    assert list(complete.STEPS) == [step.name for step in up.up(isolated=True)]
    assert complete.demos(context, [], "") == [each["demo"] for each in script.list_demos()["demos"]]


def test_the_program_itself_has_examples() -> None:
    assert isinstance(COMMANDS[""], Root)
