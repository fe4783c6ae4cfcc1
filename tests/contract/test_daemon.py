"""Daemons are started once, found again and stopped."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labctl.isolation.daemon import Daemon
from labctl.model.errors import ProviderError

SERVER = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
open(sys.argv[2], "w").write(str(os.getpid()))
while True:
    server.accept()
"""
Make = Callable[[str], Daemon]

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("nsenter") is None, reason="nsenter is not installed"),
]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Make]:
    """Return a factory of daemons that run a Python program in this process's network; stop them afterwards."""
    daemons: list[Daemon] = []

    def make(program: str) -> Daemon:
        socket, pidfile = tmp_path / "socket", tmp_path / "pid"
        line = (sys.executable, "-c", program, str(socket), str(pidfile))
        daemons.append(Daemon(Path("/proc/self/ns/net"), line, socket, pidfile, tmp_path / "log"))
        return daemons[-1]

    yield make
    for each in daemons:
        each.stop()


def test_a_running_daemon_is_not_started_again(daemon: Make) -> None:
    served = daemon(SERVER)

    assert served.start()
    assert served._answers()
    assert not served.start()


def test_a_daemon_that_was_killed_is_started_again(daemon: Make) -> None:
    served = daemon(SERVER)
    served.start()
    pid = served._pid()
    assert pid is not None
    os.kill(pid, 9)
    os.waitpid(pid, 0)

    assert served.start()
    assert served._pid() not in {None, pid}


def test_a_stopped_daemon_leaves_only_its_log(daemon: Make, tmp_path: Path) -> None:
    served = daemon(SERVER)
    served.start()

    served.stop()

    assert served._pid() is None
    assert {path.name for path in tmp_path.iterdir()} == {"log"}


def test_stopping_a_daemon_that_never_ran_reports_no_change(daemon: Make) -> None:
    assert not daemon(SERVER).stop()


def test_a_daemon_that_exits_at_once_is_an_error_with_its_last_lines(daemon: Make) -> None:
    with pytest.raises(ProviderError, match=r"\b3\b") as raised:
        daemon("print('no space left'); raise SystemExit(3)").start()

    assert raised.value.id == "engine-failed"
    assert raised.value.details == ("no space left",)


def test_log_lines_of_an_earlier_start_are_not_reported(daemon: Make, tmp_path: Path) -> None:
    (tmp_path / "log").write_text("failed to start daemon: Devices cgroup isn't mounted\n")

    with pytest.raises(ProviderError, match=r"\b3\b") as raised:
        daemon("raise SystemExit(3)").start()

    assert raised.value.details == ()
    assert str(tmp_path / "log") in raised.value.hint


def test_a_daemon_that_exits_for_a_known_reason_gets_its_own_error(daemon: Make) -> None:
    with pytest.raises(ProviderError) as raised:
        daemon("raise SystemExit('failed to start daemon: Devices cgroup is' + 'n\\'t mounted')").start()

    assert raised.value.id == "devices-cgroup-missing"
    assert raised.value.details == ("failed to start daemon: Devices cgroup isn't mounted",)
