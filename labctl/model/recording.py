"""What a recorded demo is written to, and the terminal that it shows."""

from __future__ import annotations

import io
import re
from abc import ABC, abstractmethod

WIDTH, HEIGHT, TERMINAL = 100, 30, "xterm-256color"
"""The terminal of a recording, for prose; it is wider where the output of a command is."""
COLOUR = re.compile(r"(\x1b\[[0-9;:]*m)")
"""The escape sequence of a colour."""


class Recording(io.StringIO, ABC):
    """A stream that is played back later, in a time of its own."""

    @abstractmethod
    def skip(self, seconds: float) -> None:
        """Leave the last seconds out."""

    @abstractmethod
    def pause(self, seconds: float) -> None:
        """Give the viewer some seconds to read."""
