"""The programs that make disks, and the kernel that machines boot: Debian packages, unpacked into the cache.

A program runs with the loader and the libraries of its own packages, so it does not depend on those of this machine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labctl.bundle.images import EPOCH
from labctl.host import locks, process
from labctl.machine_image import debootstrap
from labctl.model.errors import MissingError
from labctl.model.events import Progress

SUITE = "trixie"
PACKAGES = (
    *("linux-image-amd64", "busybox-static", "systemd-boot-efi", "syslinux", "syslinux-common"),
    *("mtools", "fdisk", "e2fsprogs", "libarchive13t64", "qemu-utils"),
)
_UNUSED_MODULES = (
    *("drivers/gpu", "drivers/media", "drivers/net/wireless", "drivers/infiniband", "drivers/iio", "drivers/staging"),
    *("drivers/bluetooth", "drivers/isdn", "drivers/comedi", "drivers/mtd", "drivers/usb", "drivers/hid", "sound"),
    *("net/bluetooth", "net/wireless", "net/mac80211", "fs/ceph", "fs/ocfs2", "fs/gfs2", "fs/bcachefs"),
)
LEFT_OUT = (
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/zoneinfo/*",
    "path-exclude=/usr/lib/*/gconv/*",
    *(f"path-exclude=/usr/lib/modules/*/kernel/{path}/*" for path in _UNUSED_MODULES),
)
"""Files that are not unpacked. Of the kernel's modules, those for hardware that no virtual machine of a lab has."""
PROGRAMS: Mapping[str, str] = {
    "mke2fs": "usr/sbin/mke2fs",
    "sfdisk": "usr/sbin/sfdisk",
    "qemu-img": "usr/bin/qemu-img",
    "syslinux": "usr/bin/syslinux",
    **dict.fromkeys(("mformat", "mmd", "mcopy", "mattrib", "mmove", "mdel"), "usr/bin/mtools"),
}
OTHER_SECONDS = 600.0
"""How long another labctl may take to fetch the same tools."""
_SCRATCH = ".making-"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"


@dataclass(frozen=True, slots=True)
class Tools:
    """The folder with the programs and the kernel."""

    folder: Path

    @property
    def tree(self) -> Path:
        """The root of the unpacked packages."""
        return self.folder / "tree"

    @property
    def kernel(self) -> str:
        """The kernel's own version string."""
        return next((self.tree / "usr/lib/modules").iterdir()).name

    @property
    def modules(self) -> Path:
        """The folder of the kernel's modules."""
        return self.tree / "usr/lib/modules" / self.kernel

    @property
    def vmlinuz(self) -> Path:
        """The kernel."""
        return self.tree / "boot" / f"vmlinuz-{self.kernel}"

    def file(self, relative: str) -> Path:
        """Return the path of a file of the packages."""
        return self.tree / relative

    def run(self, program: str, *words: str | Path, stdin: bytes | None = None) -> str:
        """Run one of PROGRAMS, so that its output depends only on its input. Raises MissingError `tool-failed`."""
        binaries = self.folder / "bin"
        environment = {
            "PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', '/usr/bin:/bin')}",
            "SOURCE_DATE_EPOCH": str(EPOCH),
            "E2FSPROGS_FAKE_TIME": str(EPOCH),
            "MKE2FS_CONFIG": str(self.tree / "etc/mke2fs.conf"),
            "MTOOLS_SKIP_CHECK": "1",
            "MTOOLSRC": os.devnull,
            "TZ": "UTC",
        }
        return process.check([binaries / program, *words], env=environment, stdin=stdin, error=MissingError)


def find_tools(cache: Path, report: Progress) -> Tools:
    """Return the tools; fetch them into the cache first if they are missing. Raises as `debootstrap.run`."""
    digest = hashlib.sha256(repr((SUITE, PACKAGES, LEFT_OUT, dict(PROGRAMS))).encode()).hexdigest()[:8]
    folder = cache / "toolchains" / f"machine-{SUITE}-{digest}"
    if not folder.exists():
        with locks.exclusive(folder.with_name(f"{folder.name}.lock"), report, timeout=OTHER_SECONDS):
            _fetch(folder, report)
    return Tools(folder)


def _fetch(folder: Path, report: Progress) -> None:
    for leftover in folder.parent.glob(f"{_SCRATCH}{folder.name}*"):
        shutil.rmtree(leftover)
    if folder.exists():
        return
    report("fetching the kernel, the boot loaders and the tools that make disks")
    with tempfile.TemporaryDirectory(prefix=f"{_SCRATCH}{folder.name}-", dir=folder.parent) as scratch:
        tools, archive = Path(scratch) / "tools", Path(scratch) / "tools.tar"
        debootstrap.run("extract", SUITE, PACKAGES, LEFT_OUT, archive)
        (tools / "tree").mkdir(parents=True)
        (tools / "bin").mkdir()
        process.check(["tar", "--extract", "--no-same-owner", "--file", archive, "--directory", tools / "tree"])
        for name, path in PROGRAMS.items():
            _write_wrapper(tools / "bin" / name, name, path)
        tools.rename(folder)


def _write_wrapper(wrapper: Path, name: str, path: str) -> None:
    wrapper.write_text(
        "#!/bin/sh\n"
        'tree=$(dirname -- "$(dirname -- "$0")")/tree\n'
        f'exec "$tree/{_LIBRARIES}/ld-linux-x86-64.so.2" --library-path "$tree/{_LIBRARIES}" --argv0 {name}'
        f' "$tree/{path}" "$@"\n',
        encoding="ascii",
    )
    wrapper.chmod(0o755)
