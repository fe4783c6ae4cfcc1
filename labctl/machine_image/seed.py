"""The seed disk: a small CD that gives a virtual machine its identity, as the folder /etc/labctl does in a container.

ISO 9660 with Rock Ridge, labelled LABCTL. The same files give the same bytes, so a seed is written only when its
content changes.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.host.files import write as write_file

if TYPE_CHECKING:
    from types import ModuleType

LABEL = "LABCTL"
"""The label by which a machine finds its seed."""
READABLE = 0o444
SECRET = 0o400


@dataclass(frozen=True, slots=True)
class SeedFile:
    """One file of a seed: its content, and its mode in the machine, where root owns it."""

    content: bytes
    mode: int = READABLE

    def __repr__(self) -> str:
        return f"SeedFile(…, {self.mode:#o})"


def write(path: Path, files: Mapping[str, SeedFile]) -> bool:
    """Write the seed, readable only by its owner, unless it has the same bytes; return whether it was written."""
    wanted = content(files)
    if path.exists() and path.read_bytes() == wanted:
        return False
    write_file(path, wanted)
    return True


def content(files: Mapping[str, SeedFile]) -> bytes:
    """Return the bytes of a seed with these files, keyed by their names in its only folder."""
    from pycdlib.pycdlib import PyCdlib  # noqa: PLC0415 - few commands write seeds, and the import costs 50 ms

    written = BytesIO()
    with _stopped_clock():
        image = PyCdlib()
        image.new(interchange_level=1, vol_ident=LABEL, rock_ridge="1.12")
        for number, name in enumerate(sorted(files)):
            file = files[name]
            image.add_fp(
                BytesIO(file.content),
                len(file.content),
                f"/{number:08}.;1",  # machines see only the Rock Ridge name
                rr_name=name,
                file_mode=stat.S_IFREG | file.mode,
            )
        image.write_fp(written)
        image.close()
    return written.getvalue()


class _StoppedClock:
    """A substitute for module `time` that is always at 0, in UTC in every time zone. With 0, a volume has no dates."""

    localtime = staticmethod(time.gmtime)
    gmtime = staticmethod(time.gmtime)
    strftime = staticmethod(time.strftime)

    @staticmethod
    def time() -> float:
        return 0.0


@contextmanager
def _stopped_clock() -> Iterator[None]:
    """Replace the clock of pycdlib, so that it does not write today's dates; it has no parameter for them."""
    from pycdlib import dates, headervd, pycdlib, utils  # noqa: PLC0415 - as in `content`

    with ExitStack() as restored:
        for module in (dates, headervd, pycdlib, utils):
            restored.callback(_set_time, module, module.time)
            _set_time(module, _StoppedClock)
        yield


def _set_time(module: ModuleType, clock: object) -> None:
    module.time = clock  # type: ignore[attr-defined]
