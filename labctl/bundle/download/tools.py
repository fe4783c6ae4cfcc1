"""What a download does besides fetching: query kubeadm, make the node's system, and compile the failure detector."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from labctl.bundle.build import debian, makers
from labctl.bundle.build.build import FAILURE_DETECTOR, NODE
from labctl.bundle.download import by_engine, detector, ways
from labctl.bundle.download.order import DEBIAN, SECURITY
from labctl.bundle.download.recipe import NodeRow
from labctl.bundle.download.ways import Way
from labctl.host import process
from labctl.model.errors import LabError, MissingError
from labctl.model.events import Progress
from labctl.transfer.mirrors import Mirrors

NO_GO = {
    *("wheel-not-found", "index-unreachable"),
    *("go-module-not-served", "go-proxy-unreachable", "go-toolchain", "tool-not-started"),
}
"""The errors that mean that Go, or a module for it, cannot be obtained here. The user has to see all others."""
__all__ = ["debian_sources", "images_of_kubeadm", "make_detector", "make_node", "way_to_make_node"]


def way_to_make_node(architecture: str) -> Way:
    """Return how to make a node's system on this machine. Raises MissingError `tools-missing` if it cannot be made."""
    way = ways.choose(
        has_mmdebstrap=not makers.missing_packages(),
        has_apt=shutil.which("apt-get") is not None,
        has_engine=lambda: by_engine.engine_answers(architecture),
    )
    if way is ways.MMDEBSTRAP:
        makers.check_tools()
    return way


def images_of_kubeadm(kubeadm: Path, version: str) -> str:
    """Return the output of `kubeadm config images list`, which needs no network."""
    line: Sequence[str | Path] = [kubeadm, "config", "images", "list", f"--kubernetes-version=v{version}"]
    return process.check(line, error=MissingError, timeout=60.0)


def make_node(node: NodeRow, architecture: str, mirrors: Mirrors, folder: Path) -> None:
    """Make the node's system as tar archive `node.tar` in a folder, with the list of its packages.

    If the folder has archive `by_engine.BASE` of Debian's image, make the system from it in the Engine. Raises as
    `debian` and `by_engine`.
    """
    packages = replace(NODE.packages, suite=node.suite)
    target, base = folder / "node.tar", folder / by_engine.BASE
    sources = debian_sources(node.suite, mirrors)
    if base.exists():
        by_engine.make_node(packages, target, architecture, sources, base)
    else:
        debian.make_node(packages, target, architecture, sources)
    debian.write_listing(target, target.with_suffix(".packages"))


def debian_sources(suite: str, mirrors: Mirrors) -> tuple[str, ...]:
    """Return mmdebstrap's sources if mirrors of Debian are configured, the main archive first; else none.

    mmdebstrap adds the security updates by itself only if it is given no mirror.
    """
    if not {DEBIAN, SECURITY} & mirrors.table.keys():
        return ()
    main = f"{mirrors.table.get(DEBIAN, f'http://{DEBIAN}')}/debian"
    if SECURITY not in mirrors.table:
        return (main,)
    security = f"{mirrors.table[SECURITY]}/debian-security {suite}-security main"
    return main, f"deb [signed-by={debian.KEYRING}] {security}"


def make_detector(architecture: str, cache: Path, report: Progress, folder: Path) -> bool:
    """Make the archive of the failure detector's image in a folder; return False if that is not possible.

    Upstream has no such image. A release of labctl contains the program; otherwise it is compiled. Raises LabError if
    that fails for another reason than a lack of Go.
    """
    if detector.has_program(architecture):
        detector.write_image(folder / Path(FAILURE_DETECTOR.path).name, architecture)
        return True
    report("compiling the failure detector")
    try:
        makers.make(FAILURE_DETECTOR, folder, architecture, makers.find_go(cache, architecture, report))
    except LabError as error:
        if error.id not in NO_GO:
            raise
        report(f"the failure detector cannot be compiled, so the bundle lacks it: {error.message}")
        return False
    return True
