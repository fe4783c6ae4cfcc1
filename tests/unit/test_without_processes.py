"""The guard of the fast tests: one that starts a process or opens a socket fails."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable

import pytest

ACTS: dict[str, Callable[[], object]] = {
    "a program": lambda: subprocess.run(["true"], check=False),
    "a shell": lambda: os.system("true"),  # noqa: S605 - it is refused
    "another program in this process": lambda: os.execve("/bin/true", ["true"], {}),  # noqa: S606 - it is refused
    "a fork": lambda: os.fork(),  # noqa: PLW0108 - the function itself is replaced later
    "a connection": lambda: socket.create_connection(("127.0.0.1", 80)),
    "a socket": socket.socket,
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_a_process_or_a_socket_fails_a_test_in_this_folder(act: Callable[[], object]) -> None:
    with pytest.raises(pytest.fail.Exception, match="must not start processes or open sockets"):
        act()
