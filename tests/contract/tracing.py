"""Child processes for tests: forked, with private mounts and networks, and killed at a chosen system call."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_LIBC.ptrace.restype = ctypes.c_long
_TRACEME, _SYSCALL, _SETOPTIONS = 0, 24, 0x4200
_TRACESYSGOOD, _EXITKILL = 1, 1 << 20
_AT_SYSTEM_CALL = signal.SIGTRAP | 0x80
_NEWNS, _NEWNET = 0x00020000, 0x40000000
READ_ONLY, REMOUNT, BIND, RECURSIVE = 1, 32, 4096, 16384
_PRIVATE = 1 << 18


def start(act: Callable[[], object]) -> int:
    """Fork a process that calls `act` and exits with 0, or with 1 and a traceback if it raises; return its pid."""
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        act()
        code = 0
    except BaseException:  # noqa: BLE001 - this process must never continue as a second pytest
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def exit_code_of_new_process(act: Callable[..., object], *arguments: object) -> int:
    """Return the exit code of a new process that calls `act` without inheriting state that libc reads only once.

    `act` is a function of a test module, and the arguments can be pickled.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([act.__module__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # from which the fork server preloads
        process = processes.Process(target=act, args=arguments)
        process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def wait_for_exit(pid: int) -> int:
    """Wait for a process; return its exit code, or the negative number of the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at(stop: int, act: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> bool:
    """Run `prepare` and `act` in a new process, and kill it at stop number `stop` of `act`.

    Return False if `act` completed before. The process stops at the entry of each system call, which is then not
    executed, and again before the call returns.
    """

    def traced() -> None:
        prepare()
        _check_result(_LIBC.ptrace(_TRACEME, 0, None, None))
        os.kill(os.getpid(), signal.SIGSTOP)
        act()

    pid = start(traced)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSTOPPED(status), f"it exited with {os.waitstatus_to_exitcode(status)} before `act`"
    _check_result(_LIBC.ptrace(_SETOPTIONS, pid, None, _TRACESYSGOOD | _EXITKILL))
    for _ in range(stop):
        _check_result(_LIBC.ptrace(_SYSCALL, pid, None, None))
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return False
        assert os.WSTOPSIG(status) == _AT_SYSTEM_CALL
    os.kill(pid, signal.SIGKILL)
    assert wait_for_exit(pid) == -signal.SIGKILL
    return True


def unshare_mounts() -> None:
    """Give this process a private mount namespace. Needs root."""
    _check_result(_LIBC.unshare(_NEWNS))
    mount("none", Path("/"), flags=_PRIVATE | RECURSIVE)


def unshare_network() -> None:
    """Give this process a network namespace without an uplink. Needs root."""
    _check_result(_LIBC.unshare(_NEWNET))


def mount(source: Path | str, target: Path, kind: str = "", flags: int = 0) -> None:
    """Call mount(2)."""
    _check_result(_LIBC.mount(os.fsencode(source), os.fsencode(target), kind.encode() or None, flags, None))


def _check_result(result: int) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
