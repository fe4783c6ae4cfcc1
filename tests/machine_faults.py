"""Faults of a machine (missing, full, closed or odd files, streams, variables), and how each command reacts to them."""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest
from fakes import lab
from typer.core import TyperArgument, TyperCommand, TyperOption

from labctl import cli
from labctl.cli.tree import commands, tree
from labctl.config import saved_lab
from labctl.demo import script
from labctl.host import lab_folder, paths
from labctl.host import machine as host_machine
from labctl.model.errors import ExitCode

ROOT = tree(cli.app)
COMMANDS = {words: command for words, command in commands(ROOT) if isinstance(command, TyperCommand)}
NEEDED = {"shell": "bash"}
"""Values of required arguments that accept only some words; all others get any word."""
NUMBERS = itertools.count()
NO_PROCESSES = Path("/nowhere")
SHORT_DEMOS = Path(__file__).parent / "short_demos"
ODD_WORDS = ("", "x" * 5000, "a/" * 3000, "\udcff\udcfe", "a\x1b[2J\nb\r\t\x07", "-", "a..b", "*", "\N{SNOWMAN}", "1e9")


@dataclass
class Machine:
    """A user's folders and standard streams, as a fault changed them."""

    home: Path
    monkeypatch: pytest.MonkeyPatch
    options: tuple[str, ...] = ()
    """Options that every command gets in addition to its own."""
    stdout: io.TextIOWrapper | None = field(default_factory=lambda: _stream("utf-8"))
    stderr: io.TextIOWrapper | None = field(default_factory=lambda: _stream("utf-8"))
    stdin: io.TextIOWrapper | None = field(default_factory=lambda: io.TextIOWrapper(io.BytesIO()))
    around: Callable[[], AbstractContextManager[None]] = nullcontext
    """A context manager that is active while the command runs."""

    @property
    def folder(self) -> Path:
        """The state folder of the lab `demo`."""
        return self.home / "state" / "labctl" / "demo"


def _stream(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)


FAULTS: dict[str, Callable[[Machine], object]] = {}


def fault(make: Callable[[Machine], object]) -> Callable[[Machine], object]:
    """Register a fault that every command is run with."""
    FAULTS[make.__name__] = make
    return make


# The configuration file


@fault
def empty_machine(_machine: Machine) -> None:
    """No lab, no configuration and no tools."""


@fault
def configuration_in_a_folder_that_is_missing(machine: Machine) -> None:
    machine.options = ("--config", "missing/labctl.yaml")


@fault
def configuration_below_a_file(machine: Machine) -> None:
    (machine.home / "file").write_text("")
    machine.options = ("--config", "file/labctl.yaml")


@fault
def configuration_is_a_folder(machine: Machine) -> None:
    (machine.home / "labctl.yaml").mkdir()


@fault
def configuration_is_a_fifo(machine: Machine) -> None:
    os.mkfifo(machine.home / "labctl.yaml")


@fault
def configuration_is_a_device(machine: Machine) -> None:
    machine.options = ("--config", "/dev/zero")


@fault
def configuration_is_a_link_to_itself(machine: Machine) -> None:
    (machine.home / "labctl.yaml").symlink_to("labctl.yaml")


@fault
def configuration_has_too_long_a_name(machine: Machine) -> None:
    machine.options = ("--config", "x" * 5000)


@fault
def configuration_is_no_text(machine: Machine) -> None:
    (machine.home / "labctl.yaml").write_bytes(b"name: \xff\xfe\n\x00")


@fault
def configuration_is_deep(machine: Machine) -> None:
    (machine.home / "labctl.yaml").write_text("[" * 400)


@fault
def configuration_has_odd_values(machine: Machine) -> None:
    (machine.home / "labctl.yaml").write_text(
        'name: "a\\0b"\nhosts_file: "/tmp/\\0"\nworkers: .inf\nmemory: 1e999\napps: [{name: "\\uD800"}, 3, null]\n'
        "network: [1]\npool: {}\nkubernetes: 2026-01-01\n"
    )


@fault
def configuration_of_another_user(machine: Machine) -> None:
    (machine.home / "labctl.yaml").write_text("workers: 1\n")
    _forbid(machine, machine.home / "labctl.yaml")


# The state folder and the cache


@fault
def state_is_a_file(machine: Machine) -> None:
    (machine.home / "state").write_text("")


@fault
def state_of_another_user(machine: Machine) -> None:
    _save_lab(machine)
    _forbid(machine, machine.home / "state")


@fault
def state_is_a_link_to_itself(machine: Machine) -> None:
    (machine.home / "state").symlink_to("state")


@fault
def state_has_too_long_a_name(machine: Machine) -> None:
    machine.monkeypatch.setenv("XDG_STATE_HOME", str(machine.home / ("x" * 300)))


@fault
def cache_is_a_file(machine: Machine) -> None:
    _save_lab(machine)
    (machine.home / "cache").write_text("")


@fault
def cache_of_another_user(machine: Machine) -> None:
    (machine.home / "cache" / "labctl" / "bundles" / "x").mkdir(parents=True)
    _forbid(machine, machine.home / "cache")


@fault
def cache_has_a_broken_bundle(machine: Machine) -> None:
    for name, content in {"a": "schema: 9\n", "b": "[" * 400, "c": "\0"}.items():
        folder = machine.home / "cache" / "labctl" / "bundles" / name
        folder.mkdir(parents=True)
        (folder / "bundle.yaml").write_text(content)


@fault
def cache_has_a_bundle_that_is_a_fifo(machine: Machine) -> None:
    folder = machine.home / "cache" / "labctl" / "bundles" / "a"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "bundle.yaml")


@fault
def lab_without_tools(machine: Machine) -> None:
    _save_lab(machine)


@fault
def record_is_damaged(machine: Machine) -> None:
    _save_lab(machine)
    (machine.folder / lab_folder.RECORD).write_text('{"lab": ')


@fault
def record_is_no_text(machine: Machine) -> None:
    _save_lab(machine)
    (machine.folder / lab_folder.RECORD).write_bytes(b"\xff\xfe{")


@fault
def record_is_deep(machine: Machine) -> None:
    _save_lab(machine)
    (machine.folder / lab_folder.RECORD).write_text("[" * 100_000)


@fault
def record_is_of_another_version(machine: Machine) -> None:
    _save_lab(machine)
    path = machine.folder / lab_folder.RECORD
    path.write_text(path.read_text().replace('"workers": 1', '"workers": {"count": 1}, "colour": "red"'))


@fault
def record_is_a_folder(machine: Machine) -> None:
    (machine.folder / lab_folder.RECORD).mkdir(parents=True)


@fault
def record_is_a_fifo(machine: Machine) -> None:
    machine.folder.mkdir(parents=True)
    os.mkfifo(machine.folder / lab_folder.RECORD)


@fault
def record_of_another_user(machine: Machine) -> None:
    _save_lab(machine)
    _forbid(machine, machine.folder / lab_folder.RECORD)


@fault
def kubeconfigs_are_fifos(machine: Machine) -> None:
    _save_lab(machine)
    os.mkfifo(machine.folder / "kubeconfig")
    os.mkfifo(machine.home / "theirs")
    machine.monkeypatch.setenv("KUBECONFIG", str(machine.home / "theirs"))


@fault
def log_and_lock_are_folders(machine: Machine) -> None:
    _save_lab(machine)
    (machine.folder / "log").mkdir()
    (machine.folder / "lock").mkdir()


@fault
def log_and_lock_are_fifos(machine: Machine) -> None:
    _save_lab(machine)
    os.mkfifo(machine.folder / "log")
    os.mkfifo(machine.folder / "lock")


@fault
def hosts_file_is_a_fifo(machine: Machine) -> None:
    os.mkfifo(machine.home / "hosts")
    _save_lab(machine)


@fault
def hosts_file_is_missing(machine: Machine) -> None:
    _save_lab(machine)
    (machine.home / "hosts").unlink()


# The disk, the current folder and the environment


@fault
def disk_is_full(machine: Machine) -> None:
    _refuse_to_open_for_writing(machine, errno.ENOSPC)


@fault
def disk_fills_up_while_a_file_is_written(machine: Machine) -> None:
    machine.around = _limit_file_size


@fault
def disk_is_read_only(machine: Machine) -> None:
    _save_lab(machine)
    _refuse_to_open_for_writing(machine, errno.EROFS)


@fault
def no_more_files_can_be_opened(machine: Machine) -> None:
    _save_lab(machine)
    _refuse_to_open_for_writing(machine, errno.EMFILE)


@fault
def current_folder_is_gone(machine: Machine) -> None:
    gone = machine.home / "gone"
    gone.mkdir()
    machine.monkeypatch.chdir(gone)
    gone.rmdir()


@fault
def home_is_not_set(machine: Machine) -> None:
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        machine.monkeypatch.delenv(name, raising=False)
    machine.monkeypatch.setattr("pwd.getpwuid", _no_such_user)


@fault
def home_is_empty(machine: Machine) -> None:
    home_is_not_set(machine)
    machine.monkeypatch.setenv("HOME", "")


@fault
def home_is_relative(machine: Machine) -> None:
    home_is_not_set(machine)
    machine.monkeypatch.setenv("HOME", "home")


@fault
def xdg_folders_are_odd(machine: Machine) -> None:
    for name, value in {"XDG_STATE_HOME": "relative", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": "/dev/null"}.items():
        machine.monkeypatch.setenv(name, value)


@fault
def xdg_folders_are_no_text(machine: Machine) -> None:
    machine.monkeypatch.setenv("XDG_STATE_HOME", str(machine.home / "st\udcffate"))
    machine.monkeypatch.setenv("XDG_CACHE_HOME", str(machine.home / "ca\udcffche"))
    _save_lab(machine)


@fault
def path_is_empty(machine: Machine) -> None:
    _save_lab(machine)
    machine.monkeypatch.setenv("PATH", "")


# The standard streams


@fault
def output_is_closed(machine: Machine) -> None:
    machine.stdout = None


@fault
def every_stream_is_closed(machine: Machine) -> None:
    machine.stdout = machine.stderr = machine.stdin = None


@fault
def errors_cannot_be_written(machine: Machine) -> None:
    machine.stderr = Path("/dev/full").open("w")  # noqa: SIM115 - open as long as the machine exists


@fault
def output_is_full(machine: Machine) -> None:
    machine.stdout = Path("/dev/full").open("w")  # noqa: SIM115 - open as long as the machine exists


@fault
def output_has_no_reader(machine: Machine) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    machine.stdout = os.fdopen(writer, "w")


@fault
def streams_are_ascii(machine: Machine) -> None:
    machine.stdout, machine.stderr = _stream("ascii"), _stream("ascii")
    machine.options = ("--name", "\N{SNOWMAN}\udcff")
    machine.monkeypatch.setenv("LANG", "C")


@dataclass(frozen=True)
class Outcome:
    """The exit code of a command, and its output where it can be read."""

    code: int
    out: str | None
    err: str | None


@contextmanager
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make starting a program and opening a socket fail, and hide all processes, because reading each takes time."""

    def refuse(number: int) -> Callable[..., NoReturn]:
        def refused(*_arguments: object, **_options: object) -> NoReturn:
            raise OSError(number, os.strerror(number))

        return refused

    monkeypatch.setattr(subprocess.Popen, "__init__", refuse(errno.ENOENT))
    monkeypatch.setattr(socket.socket, "__init__", refuse(errno.EPERM))
    monkeypatch.setattr(os, "execve", refuse(errno.ENOEXEC))
    monkeypatch.setattr(host_machine, "PROCESSES", NO_PROCESSES)
    monkeypatch.setattr(script, "OWN_DEMOS", SHORT_DEMOS)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def violations(fault: str, form: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Run every command with the fault; return, by the command's words, how it violated the contract."""
    wrong = {}
    for number, (words, command) in enumerate(COMMANDS.items()):
        with monkeypatch.context() as patch, bare(patch):
            machine = _machine(home / str(number), patch)
            FAULTS[fault](machine)
            outcome = run(machine, [*machine.options, "-o", form, *words.split(), *_required_arguments(command)])
        if violation := _violation(outcome, form) or _half_written(machine.home):
            wrong[words] = violation
    return wrong


def violations_with_word(word: str, form: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Run every command with the word as each of its arguments and options; return how it violated the contract."""
    wrong = {}
    globally = [("--config", word), ("--name", word), ("-o", word)]
    for words, command in COMMANDS.items():
        needed = _required_arguments(command)
        lines = [[*option, *words.split(), *needed] for option in globally]
        lines += [[*words.split(), *needed[:place], word, *needed[place + 1 :]] for place in range(len(needed) + 1)]
        lines += [[*words.split(), *needed, option, word] for option in _options_with_value(command)]
        for line in lines:
            with monkeypatch.context() as patch, bare(patch):
                machine = _machine(home / str(next(NUMBERS)), patch)
                _save_lab(machine)
                outcome = run(machine, ["-o", form, *line])
            if violation := _violation(outcome, "" if line[0] == "-o" else form):
                wrong[repr(line)[:200]] = violation
    return wrong


def _machine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    for name in ("STATE", "CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))
    for name in ("KUBECONFIG", "DOCKER_HOST", "LABCTL_INSIDE", "LABCTL_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    return Machine(home, monkeypatch)


def run(machine: Machine, arguments: list[str]) -> Outcome:
    for name in ("stdin", "stdout", "stderr"):
        machine.monkeypatch.setattr(sys, name, getattr(machine, name))
    machine.monkeypatch.setattr(sys, "argv", ["labctl", *arguments])
    with machine.around(), pytest.raises(SystemExit) as end:
        cli.main()
    return Outcome(int(end.value.code or 0), _output_of(machine.stdout), _output_of(machine.stderr))


def _output_of(stream: io.TextIOWrapper | None) -> str | None:
    if stream is None or not isinstance(stream.buffer, io.BytesIO):
        return None
    return stream.buffer.getvalue().decode()


def _violation(outcome: Outcome, form: str) -> str:
    """Return how a command's exit code or output violated the contract, or an empty text."""
    output = f"{outcome.out or ''}\n{outcome.err or ''}"
    if outcome.code not in set(ExitCode) - {ExitCode.BUG}:
        return f"exit code {outcome.code}: {output}"
    if "Traceback" in output or "a bug in labctl" in output:
        return output
    if form == "json" and outcome.out:
        documents = outcome.out.splitlines() if outcome.out.startswith('{"event"') else [outcome.out]
        error = json.loads(documents[-1]).get("error")
        failed = outcome.code not in {ExitCode.OK, ExitCode.BROKEN}
        return (
            f"exit code {outcome.code}, {outcome.out}"
            if failed and not (error and error["id"] and error["message"])
            else ""
        )
    if form == "text" and outcome.err is not None and outcome.code not in {ExitCode.OK, ExitCode.BROKEN, ExitCode.PIPE}:
        return "" if outcome.err.count("error: ") == 1 else f"exit code {outcome.code}, {outcome.err}"
    return ""


def _half_written(home: Path) -> str:
    """Return what a failed write left behind: a temporary file, or an empty file of labctl's."""
    files = [Path(folder) / name for folder, _, names in os.walk(home) for name in names]
    empty = {"labctl.yaml", "Vagrantfile", "kubeconfig", lab_folder.RECORD}
    left = [
        path
        for path in files
        if path.is_file() and (path.name.startswith(".") or (path.name in empty and not path.stat().st_size))
    ]
    return f"left behind: {', '.join(map(str, left))}" if left else ""


def _options_with_value(command: TyperCommand) -> list[str]:
    """Return the command's options that take a value, except `--wait`, which makes it wait."""
    options = (parameter for parameter in command.params if isinstance(parameter, TyperOption))
    return [option.opts[0] for option in options if not option.is_flag and option.name != "wait"]


def _required_arguments(command: TyperCommand) -> list[str]:
    """Return values for the command's required arguments."""
    return [
        NEEDED.get(parameter.name or "", "word")
        for parameter in command.params
        if isinstance(parameter, TyperArgument) and parameter.required
    ]


def _save_lab(machine: Machine) -> None:
    """Save a lab of which nothing runs."""
    (machine.home / "hosts").touch()
    new_lab = lab(hosts_file=str(machine.home / "hosts"))
    saved_lab.write(paths.state(new_lab.name), saved_lab.SavedLab(new_lab, isolated=False))


def _forbid(machine: Machine, folder: Path) -> None:
    """Deny access to a folder or file. Patch the calls, because permissions do not stop root."""
    access = os.access

    def may(path: str | Path, mode: int, **options: bool) -> bool:
        return not Path(path).is_relative_to(folder) and access(path, mode, **options)

    machine.monkeypatch.setattr(os, "access", may)
    _refuse(machine, errno.EACCES, lambda path, _mode: Path(path).is_relative_to(folder))


def _refuse_to_open_for_writing(machine: Machine, number: int) -> None:
    def is_for_writing(_path: str, mode: object) -> bool:
        return bool(mode & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) if isinstance(mode, int) else mode != "r"

    _refuse(machine, number, is_for_writing)


def _refuse(machine: Machine, number: int, chosen: Callable[[str, object], bool]) -> None:
    """Make system calls fail for the chosen paths and modes, as if the kernel refused them."""
    for module, name in (
        *((os, name) for name in ("open", "stat", "lstat", "mkdir", "chmod", "scandir", "listdir", "readlink")),
        (io, "open"),
        (builtins, "open"),
    ):
        machine.monkeypatch.setattr(module, name, _refusing(getattr(module, name), name, number, chosen))


def _refusing(
    act: Callable[..., object], name: str, number: int, chosen: Callable[[str, object], bool]
) -> Callable[..., object]:
    def refusing(path: object = ".", *arguments: object, **options: object) -> object:
        mode = arguments[0] if arguments else options.get("mode", "r")
        how = mode if name == "open" else ("w" if name == "mkdir" else "r")
        name_of = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if name_of and name_of != os.devnull and chosen(os.path.normpath(Path.cwd() / name_of), how):
            raise OSError(number, os.strerror(number), name_of)
        return act(path, *arguments, **options)

    return refusing


@contextmanager
def _limit_file_size() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def _no_such_user(number: int) -> NoReturn:
    raise KeyError(number)
