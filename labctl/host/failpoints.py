"""Failpoints, at which tests kill labctl to see what an interruption leaves. Off unless LABCTL_FAULT names a point."""

from __future__ import annotations

import os
import signal

VARIABLE = "LABCTL_FAULT"
"""`POINT`, or `POINT:N` for the Nth time that a process reaches it."""

_POINT, _, _COUNT = os.environ.get(VARIABLE, "").partition(":")
_left = int(_COUNT or 1)


def failpoint(point: str) -> None:
    """Send SIGKILL to this process if LABCTL_FAULT names this point; else do nothing."""
    global _left  # noqa: PLW0603 - the count belongs to the process
    if point == _POINT:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
