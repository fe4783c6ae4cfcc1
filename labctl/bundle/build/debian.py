"""Root filesystems that mmdebstrap makes from Debian packages."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

from labctl.bundle.build.ingredients import DebianPackages
from labctl.bundle.images import EPOCH
from labctl.host import process
from labctl.model.errors import MissingError

ROOTFS = Path(__file__).parent / "rootfs"
"""labctl's own files for root filesystems."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""The public keys of Debian's signatures. Other distributions have them in a separate package."""

HOOK = "LABCTL_HOOK"
"""The variable that holds the text of mmdebstrap's hook."""

NODE = ("minbase", "customize", "node.sh")
"""How mmdebstrap makes a node's system: its variant, when its hook runs, and the script of the hook."""
_LISTING = "./usr/share/labctl/packages"
"""Where the hooks record the version of every package."""


def make_node(packages: DebianPackages, target: Path, architecture: str, sources: Sequence[str] = ()) -> None:
    """Make a node's root filesystem in tar archive `target`: installed packages, and user `vagrant`, who may use sudo.

    It has no identity, which each node gets when it boots: machine-id is empty, host name and SSH host keys are absent.
    The packages come from `sources`, mirrors and apt source lines; without any, from mmdebstrap's default mirrors.
    Raises MissingError `tool-failed` when mmdebstrap fails.
    """
    _mmdebstrap(packages, target, architecture, *NODE, sources=sources)


def extract(packages: DebianPackages, target: Path, architecture: str) -> None:
    """Extract packages to tar archive `target` without configuring them, for small images. Raises as `make_node`."""
    _mmdebstrap(packages, target, architecture, "extract", "extract", "image.sh")


def write_listing(tar: Path, listing: Path) -> None:
    """Write a line `name version` to `listing` for every package of a root filesystem."""
    with tarfile.open(tar) as archive:
        member = archive.extractfile(_LISTING)
        if member is None:
            raise ValueError(f"{_LISTING} in {tar} is not a file")
        listing.write_bytes(member.read())


def upstream_versions(listing: Path) -> dict[str, str]:
    """Return each package's upstream version, without Debian's epoch and revision: `1.26.3` of `1:1.26.3-3+deb13u1`."""
    versions = dict(line.split() for line in listing.read_text(encoding="utf-8").splitlines())
    return {package: re.sub(r"^\d+:|-[^-]*$", "", version) for package, version in versions.items()}


def _mmdebstrap(
    packages: DebianPackages,
    target: Path,
    architecture: str,
    variant: str,
    moment: str,
    hook: str,
    *,
    sources: Sequence[str] = (),
) -> None:
    # Without root, mmdebstrap and its hook run as another user, who may not be able to read labctl's folders. So the
    # hook gets the script's text.
    temporary = {"TMPDIR": str(target.parent)} if os.geteuid() == 0 else {}
    process.check(
        line(packages, architecture, target, variant, moment, sources),
        env={**environment(hook), **temporary},
        error=MissingError,
    )


def line(
    packages: DebianPackages, architecture: str, target: Path, variant: str, moment: str, sources: Sequence[str] = ()
) -> list[str | Path]:
    """Return the command that makes a root filesystem of the packages in tar archive `target`."""
    return [
        "mmdebstrap",
        f"--architectures={architecture}",
        f"--include={','.join(packages.names)}",
        *(f"--dpkgopt={option}" for option in packages.left_out),
        "--skip=output/dev",
        f"--variant={variant}",
        f'--{moment}-hook=eval "${HOOK}"',
        packages.suite,
        target,
        *sources,
    ]


def environment(hook: str) -> dict[str, str]:
    """Return the command's environment variables: the text of the hook's script, and the time of every file."""
    return {"SOURCE_DATE_EPOCH": str(EPOCH), HOOK: (ROOTFS / hook).read_text(encoding="utf-8")}
