"""The system of a virtual machine: a node's, with kernel modules, and the bundle's programs and unpacked images."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from labctl.bundle.build.debian import ROOTFS
from labctl.bundle.build.ingredients import NodeSystem
from labctl.bundle.build.recipe import RECIPE
from labctl.bundle.format import Bundle
from labctl.bundle.images import EPOCH
from labctl.machine_image import debootstrap
from labctl.machine_image.initrd import FILES
from labctl.machine_image.tools import SUITE, Tools

PROGRAMS = ("kubeadm", "kubelet", "kubectl")
PACKAGES = ("udev",)
"""In addition to the packages of a node in a container."""
BUNDLE = "opt/labctl/bundle"
STATE = "var/lib/labctl"


def make(bundle: Bundle, tools: Tools, target: Path) -> None:
    """Make tar archive `target`: the root file system of a machine. Raises MissingError `tool-failed`."""
    node = next(artefact.made_from.packages for artefact in RECIPE if isinstance(artefact.made_from, NodeSystem))
    files = target.with_name("files.tar")
    write_files(bundle, tools, files)
    scripts = [ROOTFS / "node.sh", FILES / "machine.sh", FILES / "unpack.sh"]
    debootstrap.run(
        *("minbase", SUITE, (*node.names, *PACKAGES), node.left_out, target),
        hook="\n".join(script.read_text(encoding="utf-8") for script in scripts),
        files=files,
        variables={"LABCTL_KERNEL": tools.kernel},
    )
    files.unlink()


def write_files(bundle: Bundle, tools: Tools, target: Path) -> None:
    """Write everything that is added to Debian's packages to tar archive `target`, all owned by root."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for path, source in _copies(bundle, tools):
            member = tarfile.TarInfo(path)
            member.size, member.mtime = source.stat().st_size, EPOCH
            member.mode = 0o755 if path.startswith(f"{BUNDLE}/bin/") else 0o644
            with source.open("rb") as file:
                archive.addfile(member, file)
        for image in bundle.images:
            marker = tarfile.TarInfo(f"{STATE}/{bundle.id}/{Path(image.archive).name}")
            marker.mtime = EPOCH
            archive.addfile(marker, io.BytesIO())


def _copies(bundle: Bundle, tools: Tools) -> Iterator[tuple[str, Path]]:
    own = FILES / "system"
    modules = tools.tree / "usr/lib/modules"
    for top, prefix in ((own, ""), (modules, "usr/lib/modules/")):
        for path in sorted(path for path in top.rglob("*") if path.is_file()):
            yield f"{prefix}{path.relative_to(top)}", path
    for name in PROGRAMS:
        yield f"{BUNDLE}/bin/{name}", bundle.path(f"bin/{name}")
    for image in bundle.images:
        yield f"images/{Path(image.archive).name}", bundle.path(image.archive)
