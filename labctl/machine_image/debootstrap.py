"""Root file systems of virtual machines and of their tools, which mmdebstrap makes from Debian packages."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from labctl.bundle.images import EPOCH
from labctl.host import process
from labctl.model.errors import MissingError

HOOK = "LABCTL_HOOK"
"""The variable that holds the text of mmdebstrap's hook."""
FILES = "LABCTL_FILES"
"""The variable that holds the number of the descriptor that the hook reads its files from."""


def run(
    variant: str,
    suite: str,
    packages: Sequence[str],
    left_out: Sequence[str],
    target: Path,
    *,
    hook: str = "",
    files: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> None:
    """Make tar archive `target` from packages; `hook` is the text of a script that changes the file system first.

    Without root, mmdebstrap and its hook run as another user, who may not be able to read labctl's folders. So the hook
    gets an open descriptor of the tar archive `files`. Raises MissingError `tool-failed`.
    """
    values = {"SOURCE_DATE_EPOCH": str(EPOCH), HOOK: hook, **(variables or {})}
    if os.geteuid() == 0:
        values["TMPDIR"] = str(target.parent)
    elif "TMPDIR" not in os.environ:
        values["TMPDIR"] = "/var/tmp"  # noqa: S108 - /tmp may be in memory; mmdebstrap makes its own folder
    arguments: list[process.Argument] = [
        *("mmdebstrap", "--quiet", "--architectures=amd64", f"--include={','.join(packages)}"),
        *(f"--dpkgopt={option}" for option in left_out),
        *("--dpkgopt=force-unsafe-io", "--skip=output/dev", f"--variant={variant}"),
        *([f'--customize-hook=eval "${HOOK}"'] if hook else []),
        *(suite, target),
    ]
    descriptor = os.open(files or os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        values[FILES] = str(descriptor)
        finished = process.stream(arguments, _ignore, env=values, keep_open=(descriptor,))
    finally:
        os.close(descriptor)
    if finished.code:
        what = f"`mmdebstrap {suite}` ended with exit code {finished.code}"
        raise process.failure(MissingError(what, id="tool-failed"), "\n".join(finished.last_lines))


def _ignore(_line: str) -> None:
    """Ignore a line; the log has it."""
