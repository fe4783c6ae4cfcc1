"""The hosts file, written by a normal user through the machine's sudo, with sudoers in a private mount."""

from __future__ import annotations

import json
import os
import pty
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from tracing import BIND, mount, start, unshare_mounts, wait_for_exit

from labctl.host import hosts_entry, hosts_file, process, sudo
from labctl.host.wait import Pending, until
from labctl.model.errors import HostsError

pytestmark = [pytest.mark.root, pytest.mark.skipif(shutil.which("sudo") is None, reason="sudo is not installed")]

NOBODY, GROUP = 65534, 65534
NAMES = {"my-app.local": IPv4Address("192.168.56.100")}
BEFORE = b"127.0.0.1 localhost\n"
PASSWORDLESS = "nobody ALL=(ALL) NOPASSWD: ALL\n"
PROMPTING = "nobody ALL=(ALL) ALL\n"
ONE_PROGRAM = "nobody ALL=(root) NOPASSWD: {python} -I -B {program} *\n"
ASK = """
import sys
from labctl import config
from labctl.host import hosts_entry
sys.exit(0 if hosts_entry.ask_password(config.from_values({"hosts_file": sys.argv[1]})) else 1)
"""
AsUser = Callable[[str, Callable[[Path], object]], int]


@pytest.fixture
def as_user(tmp_path: Path) -> Iterator[AsUser]:
    """Return a function that acts as a user with these sudo rules, in a folder with etc/hosts and a home."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "hosts").write_bytes(BEFORE)
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, GROUP)
    sudoers = tmp_path / "sudoers"

    def act(rules: str, what: Callable[[Path], object]) -> int:
        sudoers.write_text(rules)
        sudoers.chmod(0o440)

        def as_nobody() -> None:
            unshare_mounts()
            here = Path("/mnt")
            tmp_path.chmod(0o755)
            mount(sudoers, Path("/etc/sudoers"), flags=BIND)
            mount(tmp_path, here, flags=BIND)  # this user may not enter the folders above
            os.setgroups([])
            os.setgid(GROUP)
            os.setuid(NOBODY)
            what(here)

        return wait_for_exit(start(as_nobody))

    yield act
    assert {path.name for path in (tmp_path / "etc").iterdir()} == {"hosts"}


@pytest.mark.parametrize(
    "rules",
    [PASSWORDLESS, ONE_PROGRAM.format(python=sys.executable, program=hosts_file.ROOT_PROGRAM)],
    ids=["any program", "one program"],
)
def test_the_block_is_added_and_removed(tmp_path: Path, as_user: AsUser, rules: str) -> None:
    path = tmp_path / "etc" / "hosts"
    path.chmod(0o664)

    def sync(here: Path) -> None:
        assert hosts_file.sync(here / "etc/hosts", "demo", NAMES, backup=here / "home/state/hosts.before")
        assert not hosts_file.sync(here / "etc/hosts", "demo", NAMES, backup=here / "home/state/hosts.before")

    assert as_user(rules, sync) == 0
    assert hosts_file.show(path, "demo") == ("192.168.56.100 my-app.local",)
    assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (0, 0o664)
    backup = tmp_path / "home/state/hosts.before"
    assert (backup.read_bytes(), backup.stat().st_uid, backup.parent.stat().st_uid) == (BEFORE, NOBODY, NOBODY)

    assert as_user(rules, lambda here: hosts_file.remove(here / "etc/hosts", "demo", backup=here / "home/backup")) == 0
    assert path.read_bytes() == BEFORE


@pytest.mark.parametrize("rules", ["", PROMPTING], ids=["not in sudoers", "a password"])
def test_without_passwordless_sudo_the_file_is_unchanged_and_the_reason_is_reported(
    tmp_path: Path, as_user: AsUser, rules: str
) -> None:
    def attempt(here: Path) -> None:
        with pytest.raises(HostsError, match="Permission denied; sudo: ") as raised:
            hosts_file.sync(here / "etc/hosts", "demo", NAMES, backup=here / "home/backup")
        assert raised.value.id == hosts_file.NOT_CHANGED
        assert not hosts_entry.can_change(here / "etc/hosts", "demo")

    assert as_user(rules, attempt) == 0
    assert (tmp_path / "etc/hosts").read_bytes() == BEFORE


def test_an_error_of_the_root_program_is_passed_on(tmp_path: Path, as_user: AsUser) -> None:
    """The file is damaged after the user has read it and before root reads it."""
    path = tmp_path / "etc" / "hosts"

    def attempt(here: Path) -> None:
        line = hosts_file.root_command(
            "sync", here / "etc/hosts", hosts_file.Edit("demo", ("192.168.56.100 my-app.local",))
        )
        finished = sudo.try_run(line)
        assert (finished.code, json.loads(finished.out)["id"]) == (7, "hosts-damaged")

    path.write_bytes(b"# BEGIN labctl demo\n")
    assert as_user(PASSWORDLESS, attempt) == 0
    assert path.read_bytes() == b"# BEGIN labctl demo\n"


def test_the_root_program_leaves_no_bytecode(tmp_path: Path, as_user: AsUser) -> None:
    """As in a virtual environment whose installer compiled no bytecode."""
    package = tmp_path / "home" / "labctl"
    shutil.copytree(hosts_file.ROOT_PROGRAM.parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "etc" / "hosts"

    def sync(here: Path) -> None:
        words = ["sync", str(here / "etc/hosts"), "demo", "192.168.56.100", "my-app.local"]
        line = [sys.executable, "-I", "-B", str(here / "home/labctl" / hosts_file.ROOT_PROGRAM.name), *words]
        assert sudo.try_run(line).code == 0

    assert as_user(PASSWORDLESS, sync) == 0
    assert hosts_file.show(path, "demo") is not None
    assert not list(package.rglob("__pycache__"))


def test_a_sudo_that_does_not_exit_is_abandoned(
    tmp_path: Path, as_user: AsUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user may not kill root's program, which exits once the test writes its input."""
    os.mkfifo(tmp_path / "answer")
    monkeypatch.setattr(sudo, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(process, "KILL_SECONDS", 0.5)

    def give_up(here: Path) -> None:
        finished = sudo.try_run(["sh", "-c", f"read -r _ <{here}/answer && touch {here}/ended"])
        assert (finished.code, finished.last_lines) == (-1, ("sudo took more than 0.5 s",))
        assert not (here / "ended").exists()

    try:
        assert as_user(PASSWORDLESS, give_up) == 0
    finally:
        (tmp_path / "answer").write_text("done\n")
    until(lambda: (tmp_path / "ended").exists() or Pending("it runs"), what="the end of sudo", timeout=10)


def test_root_writes_nothing_if_its_caller_no_longer_reads(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_bytes(BEFORE)
    line = hosts_file.root_command(
        "sync", tmp_path / "hosts", hosts_file.Edit("demo", ("192.168.56.100 my-app.local",))
    )
    reader, writer = os.pipe()
    os.close(reader)

    with os.fdopen(writer, "wb") as answer:
        refused = subprocess.run(line, stdout=answer, stderr=subprocess.DEVNULL, check=False)

    assert refused.returncode != 0
    assert (tmp_path / "hosts").read_bytes() == BEFORE


@pytest.mark.parametrize("code", [0, 1], ids=["the right password", "a wrong one"])
def test_on_a_terminal_sudo_prompts_once_and_names_the_file(tmp_path: Path, code: int) -> None:
    (tmp_path / "hosts").write_bytes(BEFORE)
    fake = tmp_path / "sudo"
    fake.write_text(f"""#!/bin/sh
[ "$1" = --non-interactive ] && exit 1
printf '%s' "$2" >/dev/tty
read -r word </dev/tty
printf '%s\\n' "$word" "$@" >{tmp_path}/calls
exit {code}
""")
    fake.chmod(0o755)
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
        os.execv(sys.executable, [sys.executable, "-P", "-c", ASK, str(tmp_path / "hosts")])  # noqa: S606 - in the child
    output = b""
    while b"password for" not in output:
        output += os.read(terminal, 1000)
    os.write(terminal, b"secret\n")

    assert wait_for_exit(pid) == code
    assert str(tmp_path / "hosts").encode() in output
    word, option, prompt, rest, *line = (tmp_path / "calls").read_text().splitlines()
    assert (word, option, rest) == ("secret", "--prompt", "--")
    assert str(tmp_path / "hosts") in prompt
    assert line == hosts_file.root_command("check", tmp_path / "hosts", hosts_file.Edit("demo"))
