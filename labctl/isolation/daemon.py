"""Daemons that run in a network namespace and are identified by their arguments."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from labctl.host.known_failures import recognise
from labctl.host.process import last_lines
from labctl.host.tool_environment import environment
from labctl.host.wait import Pending, until
from labctl.model.errors import NotReadyError, ProviderError

START_SECONDS = 30.0
"""How long a daemon may take to answer on its socket, and to exit after a signal."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon, identified by its arguments: they name a socket that no other program serves."""

    namespace: Path
    line: tuple[str, ...]
    socket: Path
    pidfile: Path
    """Where the daemon itself writes its pid, if it does. A stale file would keep it from starting after a kill."""
    log: Path

    def start(self) -> bool:
        """Start the daemon unless it runs, and wait until its socket answers; return whether it was started."""
        if self.runs():
            return False
        self.stop()
        with self.log.open("ab") as log:
            before = log.tell()
            # Not `ip netns exec`: it mounts a new /sys, which hides the control groups that containers need.
            child = subprocess.Popen(
                ["nsenter", f"--net={self.namespace}", *self.line],
                env=environment(self.line[0], {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(lambda: self._state(child, before), what=self.line[0], timeout=START_SECONDS, hint=f"See {self.log}.")
        return True

    def runs(self) -> bool:
        """Return whether the daemon runs and its socket answers."""
        return self._pid() is not None and self._answers()

    def stop(self) -> bool:
        """Stop the daemon, and kill it if it does not exit cleanly; return whether it ran."""
        pid = self._pid()
        if pid is not None and not self._stop_with(pid, signal.SIGTERM):
            self._stop_with(pid, signal.SIGKILL)
        self.pidfile.unlink(missing_ok=True)
        self.socket.unlink(missing_ok=True)
        return pid is not None

    def _stop_with(self, pid: int, number: signal.Signals) -> bool:
        with suppress(ProcessLookupError):  # it has just exited
            os.kill(pid, number)
        try:
            until(
                lambda: Pending("it still runs") if self._pid() == pid else None,
                what=f"the end of {self.line[0]} (pid {pid})",
                timeout=START_SECONDS,
                hint=f"See {self.log}.",
            )
        except NotReadyError:
            if number is signal.SIGKILL:
                raise
            return False
        return True

    def _state(self, child: subprocess.Popen[bytes], before: int) -> Pending | None:
        """Return None if it answers. Raises ProviderError, with its log after `before` bytes, if it has exited."""
        if child.poll() is not None:
            output = self.log.read_bytes()[before:].decode(errors="replace")
            error = ProviderError(
                f"{self.line[0]} ended with exit code {child.returncode}",
                id="engine-failed",
                hint=f"The whole log is {self.log}.",
                details=last_lines(output),
            )
            raise recognise(error, output)
        return None if self._answers() else Pending(f"{self.socket} does not answer")

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            return connection.connect_ex(str(self.socket)) == 0

    def _pid(self) -> int | None:
        """Return the pid of the process with exactly these arguments, or None."""
        arguments = b"".join(word.encode() + b"\0" for word in self.line)
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if path.read_bytes() == arguments:
                    return int(path.parent.name)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has exited since it was listed
        return None
