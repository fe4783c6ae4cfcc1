"""The hosts file of a user without write permission: changed through sudo, or by commands that the user runs."""

from __future__ import annotations

import errno
import io
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from fakes import ADDRESS, Watched, lab

from labctl.context import Context
from labctl.host import files as rewriting
from labctl.host import hosts_as_root, hosts_entry, sudo
from labctl.host import hosts_file as hosts
from labctl.host.process import Finished
from labctl.model.errors import HostsError, MissingError
from labctl.model.events import NO_HOSTS, Event, HostsEntry
from labctl.plans import hosts_steps, ingress_step, teardown, up
from labctl.plans.plan import Outcome, execute

NAMES = {"my-app.local": IPv4Address(ADDRESS), "shop.test": IPv4Address(ADDRESS)}
LINES = (f"{ADDRESS} my-app.local", f"{ADDRESS} shop.test")
PASSWORD_REQUIRED = Finished(1, "", ("sudo: a password is required",))
Sudo = Callable[[Finished | None], list[list[str]]]


@pytest.fixture
def set_up_sudo(monkeypatch: pytest.MonkeyPatch) -> Sudo:
    """Let the user only read the hosts file. sudo returns the given result, or runs labctl's program if it is None.

    Return a function that sets this up and returns the list of sudo's command lines.
    """

    rewrite = rewriting.rewrite

    def set_up(result: Finished | None) -> list[list[str]]:
        started: list[list[str]] = []
        rights = [False]

        def guarded_rewrite(path: Path, old: bytes, new: bytes, fault: str) -> None:
            if not rights[0]:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            rewrite(path, old, new, fault)

        def try_run(line: list[str]) -> Finished:
            started.append(line)
            if result is not None:
                return result
            rights[0] = True
            code = hosts_as_root.main(line[4:])
            rights[0] = False
            return Finished(code, "", ())

        monkeypatch.setattr(hosts, "rewrite", guarded_rewrite)
        monkeypatch.setattr(sudo, "is_root", lambda: False)
        monkeypatch.setattr(sudo, "try_run", try_run)
        monkeypatch.setattr(os, "access", lambda _path, mode: mode == os.R_OK)
        return started

    return set_up


@pytest.fixture
def sudo_without_password(set_up_sudo: Sudo) -> list[list[str]]:
    return set_up_sudo(PASSWORD_REQUIRED)


# Through sudo


def test_sudo_runs_one_program_that_ignores_the_users_environment(
    context: Context, hosts_file: Path, set_up_sudo: Sudo
) -> None:
    started = set_up_sudo(None)
    before, backup = hosts_file.read_bytes(), context.folder / "hosts.before"

    assert hosts.sync(hosts_file, "demo", NAMES, backup=backup)
    assert (hosts.show(hosts_file, "demo"), backup.read_bytes()) == (LINES, before)
    assert hosts.remove(hosts_file, "demo", backup=backup)
    assert hosts_file.read_bytes() == before

    assert [line[1:3] for line in started] == [["-I", "-B"]] * 2
    assert [line[4:] for line in started] == [
        ["sync", str(hosts_file), "demo", ADDRESS, "my-app.local", ADDRESS, "shop.test"],
        ["remove", str(hosts_file), "demo"],
    ]


def test_an_error_of_the_root_program_is_raised_unchanged(
    context: Context, hosts_file: Path, set_up_sudo: Sudo
) -> None:
    error_fields = {"id": "hosts-damaged", "message": "line 1", "hint": "mend it"}
    set_up_sudo(Finished(7, json.dumps(error_fields), ()))

    with pytest.raises(HostsError) as raised:
        hosts.sync(hosts_file, "demo", NAMES, backup=context.folder / "hosts.before")

    assert {key: getattr(raised.value, key) for key in error_fields} == error_fields


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["sync"],
        ["sync", "{file}"],
        ["sync", "{file}", "demo"],
        ["sync", "{file}", "demo", ADDRESS],
        ["sync", "{file}", "demo", "my-app.local", ADDRESS],
        ["sync", "{file}", "demo", "::1", "my-app.local"],
        ["sync", "{file}", "demo", ADDRESS, "a b"],
        ["sync", "{file}", "demo", ADDRESS, "a\n0.0.0.0 b"],
        ["sync", "{file}", "demo\n0.0.0.0 b", ADDRESS, "a"],
        ["sync", "{file}", "", ADDRESS, "a"],
        ["sync", "hosts", "demo", ADDRESS, "a"],
        ["sync", "{folder}/../{name}/hosts", "demo", ADDRESS, "a"],
        ["sync", "{folder}/link", "demo", ADDRESS, "a"],
        ["sync", "{folder}", "demo", ADDRESS, "a"],
        ["sync", "{folder}/absent", "demo", ADDRESS, "a"],
        ["remove", "{file}", "demo", ADDRESS, "a"],
        ["remove", "{file}", "demo two"],
        ["write", "{file}", "demo"],
        ["--", "sync", "{file}", "demo", ADDRESS, "a"],
    ],
    ids=" ".join,
)
def test_the_root_program_refuses_unexpected_arguments(
    tmp_path: Path, hosts_file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    (tmp_path / "link").symlink_to(hosts_file)
    before = hosts_file.read_bytes()
    words = [word.format(file=hosts_file, folder=tmp_path, name=tmp_path.name) for word in arguments]

    assert hosts_as_root.main(words) == 7

    assert set(json.loads(capsys.readouterr().out)) == {"id", "message", "hint"}
    assert hosts_file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hosts", "link"]


def test_a_check_changes_nothing(hosts_file: Path) -> None:
    before = hosts_file.stat()

    assert hosts_as_root.main(["check", str(hosts_file), "demo"]) == 0

    assert (hosts_file.stat().st_ino, hosts_file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


# Commands for the user


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        ("", ["my-app.local", "shop.test"]),
        (f"{ADDRESS} my-app.local shop.test\n", []),
        (f"{ADDRESS}\tMY-APP.local # mine\n{ADDRESS} shop.test", []),
        (f"# BEGIN labctl demo\n{ADDRESS} my-app.local\n# END labctl demo\n", ["shop.test"]),
        (f"127.0.0.1 my-app.local\n{ADDRESS} my-app.local shop.test\n", ["my-app.local"]),
        (f"::1 my-app.local\n{ADDRESS} my-app.local shop.test\n", []),
        (f"#{ADDRESS} my-app.local shop.test\n", ["my-app.local", "shop.test"]),
        (f"::ffff:{ADDRESS} my-app.local\n", ["shop.test"]),
        (f"nonsense my-app.local\n{ADDRESS} my-app.local\n", ["shop.test"]),
        ("\n  \n192.168.56.100\n", ["my-app.local", "shop.test"]),
    ],
)
def test_the_first_line_with_a_name_decides_whether_it_is_missing(
    hosts_file: Path, content: str, missing: list[str]
) -> None:
    hosts_file.write_text(content)

    assert list(hosts_entry.missing(hosts_file, NAMES)) == missing


@pytest.mark.parametrize("content", ["127.0.0.1 localhost\n", "127.0.0.1 localhost", "", "127.0.0.1 localhost\r\n"])
def test_the_printed_commands_add_the_names(hosts_file: Path, content: str) -> None:
    hosts_file.write_bytes(content.encode())
    text_after = content

    for command in hosts_entry.commands_to_add(hosts_file, NAMES):
        echo, *text, pipe, privileged, tee, append, file = shlex.split(command)
        assert (echo, pipe, privileged, tee, append, file) == ("echo", "|", "sudo", "tee", "-a", str(hosts_file))
        text_after += " ".join(text) + "\n"
    hosts_file.write_bytes(text_after.encode())

    assert text_after.startswith(content)
    assert hosts_entry.missing(hosts_file, NAMES) == {}


@pytest.mark.usefixtures("machine", "sudo_without_password", "keyed")
def test_a_lab_is_created_and_destroyed_without_write_access_to_the_hosts_file(
    context: Context, watched: Watched, hosts_file: Path
) -> None:
    before = hosts_file.read_bytes()

    execute(up.up(isolated=False), context, watched)

    entry = _entry(watched)
    assert (entry.state, entry.lines) == ("pending", (f"{ADDRESS} my-app.local",))
    assert entry.commands == (f"echo '{ADDRESS} my-app.local' | sudo tee -a {hosts_file}",)
    assert hosts_file.read_bytes() == before
    assert _done(watched, "verify").changed is False

    hosts_file.write_bytes(hosts.with_block(before, "demo", entry.lines))
    execute(up.destroy(purge=False), context, watched)

    entry = _entry(watched)
    assert (entry.state, entry.lines[1:-1]) == ("pending", (f"{ADDRESS} my-app.local",))
    assert "sed" in entry.commands[0]
    assert not (context.folder / "lab.json").exists()


@pytest.mark.usefixtures("sudo_without_password")
def test_a_line_that_the_user_added_is_sufficient(rendered: Context, watched: Watched, hosts_file: Path) -> None:
    _apply(rendered, watched)
    hosts_file.write_text(f"{ADDRESS} my-app.local\n")

    outcome = hosts_steps.sync_hosts(rendered, watched.report)

    assert (outcome.changed, outcome.hosts and outcome.hosts.state) == (False, "written")


@pytest.mark.usefixtures("sudo_without_password")
def test_removing_an_old_name_is_left_to_the_user_too(rendered: Context, watched: Watched, hosts_file: Path) -> None:
    _apply(rendered, watched)
    hosts_file.write_bytes(hosts.with_block(hosts_file.read_bytes(), "demo", LINES))

    entry = hosts_steps.sync_hosts(rendered, watched.report).hosts

    assert entry is not None
    assert (entry.state, entry.lines[1:-1], len(entry.commands)) == ("pending", LINES, 2)


@pytest.mark.usefixtures("sudo_without_password")
def test_writing_only_the_hosts_file_without_sudo_is_an_error(
    rendered: Context, watched: Watched, hosts_file: Path
) -> None:
    _apply(rendered, watched)

    with pytest.raises(hosts_entry.HostsPendingError) as raised:
        hosts_steps.write_hosts(rendered)

    assert (raised.value.exit_code, raised.value.id) == (7, hosts.NOT_CHANGED)
    assert f"echo '{ADDRESS} my-app.local' | sudo tee -a {hosts_file}" in raised.value.hint


def test_a_hostname_of_another_lab_is_not_written(rendered: Context, watched: Watched, hosts_file: Path) -> None:
    _apply(rendered, watched)
    before = hosts.with_block(b"", "other", LINES[:1])
    hosts_file.write_bytes(before)
    hostname = LINES[0].partition(" ")[2]
    context = replace(rendered, lab=lab(hosts_file=str(hosts_file), apps=[{"name": "web", "hostname": hostname}]))

    with pytest.raises(MissingError) as raised:
        hosts_steps.write_hosts(context)

    assert (raised.value.exit_code, raised.value.id) == (3, "hostname-taken")
    assert hosts_file.read_bytes() == before


@pytest.mark.parametrize("content", ["# BEGIN labctl demo\n", None], ids=["damaged", "a folder"])
def test_a_lab_with_a_damaged_hosts_file_can_be_destroyed(
    rendered: Context, watched: Watched, hosts_file: Path, content: str | None
) -> None:
    hosts_file.unlink()
    if content is None:
        hosts_file.mkdir()
    else:
        hosts_file.write_text(content)

    execute(up.destroy(purge=True), rendered, watched)

    assert _entry(watched).state == "pending"
    assert not rendered.folder.exists()


def test_an_isolated_lab_removes_its_block_only_from_a_hosts_file_of_its_own(
    rendered: Context, watched: Watched, hosts_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _apply(rendered, watched)
    before, isolated = hosts_file.read_bytes(), replace(rendered, isolated=True)
    hosts_steps.sync_hosts(rendered, watched.report)

    assert teardown.leave_hosts(isolated, watched.report).changed
    assert hosts_file.read_bytes() == before

    monkeypatch.setattr(teardown, "MACHINES_HOSTS", hosts_file)
    hosts_steps.sync_hosts(rendered, watched.report)
    assert teardown.leave_hosts(isolated, watched.report) == Outcome(changed=False, hosts=NO_HOSTS)


# The password prompt


@pytest.mark.parametrize(
    ("names", "content", "is_asked"),
    [
        (["my-app.local"], "", True),
        (["my-app.local"], f"{ADDRESS} my-app.local\n", False),
        (["my-app.local"], "192.168.56.110 my-app.local\n", False),
        (["my-app.local"], "127.0.0.1 my-app.local\n", True),
        (["my-app.local"], f"# BEGIN labctl demo\n{ADDRESS} my-app.local\n{ADDRESS} b\n# END labctl demo\n", True),
        ([], "", False),
        ([], f"# BEGIN labctl demo\n{ADDRESS} my-app.local\n# END labctl demo\n", True),
        ([], f"{ADDRESS} my-app.local\n", False),
        (["my-app.local"], "# BEGIN labctl demo\n", False),
        ([], "# BEGIN labctl demo\n", False),
    ],
)
@pytest.mark.parametrize("result", [PASSWORD_REQUIRED, Finished(0, "", ())], ids=["sudo asks", "sudo does not ask"])
def test_the_password_is_requested_only_if_something_has_to_be_written(
    hosts_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    set_up_sudo: Sudo,
    names: list[str],
    content: str,
    *,
    is_asked: bool,
    result: Finished,
) -> None:
    prompts: list[Path] = []
    hosts_file.write_text(content)
    set_up_sudo(result)
    monkeypatch.setattr(sudo, "can_prompt", lambda: True)
    monkeypatch.setattr(sudo, "prompt_and_run", lambda _line, file: prompts.append(file))

    hosts_entry.ask_password_if_needed(lab(hosts_file=str(hosts_file)), names)

    assert prompts == ([hosts_file] if is_asked and result.code else [])


@pytest.mark.parametrize(("has_password", "error"), [(True, None), (False, hosts_entry.HostsPendingError)])
def test_hosts_sync_requests_the_password_and_retries(
    rendered: Context,
    watched: Watched,
    monkeypatch: pytest.MonkeyPatch,
    set_up_sudo: Sudo,
    *,
    has_password: bool,
    error: type[HostsError] | None,
) -> None:
    _apply(rendered, watched)
    set_up_sudo(PASSWORD_REQUIRED)

    def ask_and_run(_line: list[str], _file: Path) -> bool:
        if has_password:
            set_up_sudo(None)
        return has_password

    monkeypatch.setattr(sudo, "can_prompt", lambda: True)
    monkeypatch.setattr(sudo, "prompt_and_run", ask_and_run)
    if error is None:
        hosts_steps.with_root_retry(rendered, hosts_steps.write_hosts, may_ask=True)
    else:
        with pytest.raises(error):
            hosts_steps.with_root_retry(rendered, hosts_steps.write_hosts, may_ask=True)

    assert (hosts.show(rendered.lab.hosts_file, "demo") is not None) is has_password


def _apply(context: Context, watched: Watched) -> None:
    ingress_step.apply_ingress(context, watched.report)


def _done(watched: Watched, step: str) -> Event:
    return next(event for event in reversed(watched.events) if (event.step, event.state) == (step, "done"))


def _entry(watched: Watched) -> HostsEntry:
    entry = _done(watched, "hosts").hosts
    assert entry is not None
    return entry


@pytest.mark.parametrize(
    ("terminals", "group", "program", "can_ask"),
    [
        ((True, True), 1, "/usr/bin/sudo", True),
        ((False, True), 1, "/usr/bin/sudo", False),
        ((True, False), 1, "/usr/bin/sudo", False),
        ((True, True), 2, "/usr/bin/sudo", False),
        ((True, True), None, "/usr/bin/sudo", False),
        ((True, True), 1, None, False),
        ((None, True), 1, "/usr/bin/sudo", False),
        ((True, None), 1, "/usr/bin/sudo", False),
    ],
    ids=[
        "all",
        "no stdin",
        "no stderr",
        "in the background",
        "another session",
        "no sudo",
        "closed stdin",
        "closed stderr",
    ],
)
def test_a_password_can_be_requested_only_in_the_foreground_of_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
    terminals: tuple[bool | None, bool | None],
    group: int | None,
    program: str | None,
    *,
    can_ask: bool,
) -> None:
    def foreground_group(_terminal: int) -> int:
        if group is None:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        return group

    for name, is_terminal in zip(("stdin", "stderr"), terminals, strict=True):
        stream = None if is_terminal is None else _Stream(is_terminal=is_terminal)
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setattr(os, "tcgetpgrp", foreground_group)
    monkeypatch.setattr(os, "getpgrp", lambda: 1)
    monkeypatch.setattr(shutil, "which", lambda _name: program)

    assert sudo.can_prompt() is can_ask


class _Stream(io.StringIO):
    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    def fileno(self) -> int:
        return 0
