"""The standard streams of this process, which may be closed, full, or without a reader."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

from labctl.model.errors import LabError, OutputGoneError, OutputNotWrittenError

CLOSED = {"stdin": (os.O_RDONLY, "r"), "stdout": (os.O_RDONLY, "w"), "stderr": (os.O_WRONLY, "w")}
"""How to open the replacement of a closed stream: stdin is empty, writes to stdout fail, stderr is discarded."""


class ErrorIgnoringStream(io.TextIOWrapper):
    """Standard error that ignores its own write errors: there is nowhere to report them, and the run continues."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(stream.buffer, stream.encoding, "backslashreplace", line_buffering=True)
        self._stream = stream
        """Kept, because it closes the buffer when it is deleted."""

    def write(self, text: str, /) -> int:
        """Write the text, if that is possible."""
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        """Flush what was written, if that is possible."""
        with suppress(OSError):
            super().flush()


class ErrorRecordingStream(io.TextIOWrapper):
    """Standard output that keeps its write error, since a later flush may have nothing left to write and succeed."""

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
        """Kept, because it closes the buffer when it is deleted."""

    def write(self, text: str, /) -> int:
        """Write the text; record the error and raise it."""
        try:
            return super().write(text)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        """Flush what was written; record the error and raise it."""
        try:
            super().flush()
        except OSError as error:
            self.failure = error
            raise


def prepare() -> None:
    """Replace closed standard streams, and make the open ones escape characters that their encoding lacks.

    Otherwise a file that is opened later would get the descriptor of a closed stream, and the output of programs.
    """
    for name, (flags, mode) in CLOSED.items():
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, encoding="utf-8"))
    if type(sys.stdout) is io.TextIOWrapper:
        sys.stdout = ErrorRecordingStream(sys.stdout)
    if type(sys.stderr) is io.TextIOWrapper:
        sys.stderr = ErrorIgnoringStream(sys.stderr)


def output_error() -> LabError | None:
    """Return the error that kept output from reaching standard output; None if all of it was written."""
    try:
        sys.stdout.flush()
        if isinstance(sys.stdout, ErrorRecordingStream) and sys.stdout.failure is not None:
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
    """Redirect standard output to /dev/null, so that Python does not flush it again at exit and print an error."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
    sys.stdout.flush()
