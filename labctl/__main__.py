"""The entry point of the `labctl` script and of `python -m labctl`."""

import os
import signal
from types import FrameType

INTERRUPTED = 130
"""`ExitCode.INTERRUPTED`, repeated because the import of its module could be interrupted."""


def main() -> None:
    """Run the command line. Interrupts before and after it end the process without a traceback."""
    signal.signal(signal.SIGINT, _end)
    from labctl.cli import main as run_command_line  # noqa: PLC0415 - this takes most of the time that --help takes

    try:
        run_command_line()
    finally:
        signal.signal(signal.SIGINT, _end)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
