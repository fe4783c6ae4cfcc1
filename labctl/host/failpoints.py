"""Deliberate deaths, for tests that show what an interruption leaves behind; off unless LABCTL_FAULT names a point."""

from __future__ import annotations

import os
import signal

VARIABLE = "LABCTL_FAULT"
"""`POINT`, or `POINT:N` for the Nth time that a process reaches it."""

_POINT, _, _COUNT = os.environ.get(VARIABLE, "").partition(":")
_left = int(_COUNT or 1)


def failpoint(point: str) -> None:
    """Return; or, at the point that LABCTL_FAULT names, end this process as SIGKILL does: nothing of it runs any more."""
    global _left  # noqa: PLW0603 - how often is a property of the process
    if point == _POINT:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
