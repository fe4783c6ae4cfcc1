"""labctl: a real bare-metal Kubernetes networking lab from one command."""

import os
import sys
from contextlib import suppress
from pathlib import Path

__version__ = "0.1.0"


def _leave_no_bytecode_of_roots() -> None:
    """Keep root's bytecode out of an installation of another user, who could not remove it."""
    owner = Path(__file__).parent.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    sys.dont_write_bytecode = True
    cached = Path(__spec__.cached or __file__)  # this file may be compiled already
    with suppress(OSError):  # some file systems do not allow a change of owner
        for path in (cached.parent, cached):
            if path.exists() and path.lstat().st_uid == 0:
                os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


_leave_no_bytecode_of_roots()
