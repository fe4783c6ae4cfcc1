"""The standard streams of this process: some may be closed, full, or read by nobody any more."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

from labctl.model.errors import LabError, OutputGoneError, OutputNotWrittenError

CLOSED = {"stdin": (os.O_RDONLY, "r"), "stdout": (os.O_RDONLY, "w"), "stderr": (os.O_WRONLY, "w")}
"""What takes the place of a stream that is closed: nothing can be read, no answer be written, and no error be seen."""


class Forgiving(io.TextIOWrapper):
    """Standard error. Where it cannot be written nobody can be told, and the run goes on."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(stream.buffer, stream.encoding, "backslashreplace", line_buffering=True)
        self._stream = stream
        """What would close the buffer, if it were not kept."""

    def write(self, text: str, /) -> int:
        """Write the text, if that is possible."""
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what was written, if that is possible."""
        with suppress(OSError):
            super().flush()


class Remembering(io.TextIOWrapper):
    """Standard output. It knows for good what kept it from being written: not every write leaves something to flush."""

    failure: OSError | None = None

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(
            stream.buffer,
            stream.encoding,
            "backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        self._stream = stream
        """What would close the buffer, if it were not kept."""

    def write(self, text: str, /) -> int:
        """Write the text, and remember why that failed."""
        try:
            return super().write(text)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        """Flush what was written, and remember why that failed."""
        try:
            super().flush()
        except OSError as error:
            self.failure = error
            raise


def prepare() -> None:
    """Give this process the streams that it was started without, and let those that it has show any character.

    A file that is opened later would otherwise get the number of a closed stream, and what programs write there.
    """
    for name, (flags, mode) in CLOSED.items():
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, encoding="utf-8"))
    if type(sys.stdout) is io.TextIOWrapper:
        sys.stdout = Remembering(sys.stdout)
    if type(sys.stderr) is io.TextIOWrapper:
        sys.stderr = Forgiving(sys.stderr)


def undelivered() -> LabError | None:
    """Return what keeps the answer from being written to standard output; None where all of it was written."""
    try:
        sys.stdout.flush()
        if isinstance(sys.stdout, Remembering) and sys.stdout.failure is not None:
            raise sys.stdout.failure
    except BrokenPipeError:
        return OutputGoneError("standard output was closed", id="output-gone")
    except OSError as error:
        return OutputNotWrittenError(
            f"standard output cannot be written: {error.strerror}",
            id="output-not-written",
            hint="Redirect it to a file or a pipe that can be written; `labctl status` shows the state of the lab.",
        )
    return None


def discard() -> None:
    """Let standard output end in nothing, so that Python does not try once more at its end, and complain."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
    sys.stdout.flush()
