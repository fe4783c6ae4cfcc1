"""Measure the build of a machine image, phase by phase, and the size of its boxes.

    python bench/machine_image.py [libvirt | virtualbox]

Builds the image of the newest bundle in the cache, in a temporary folder in the cache; the bundle's own image stays.
The kernel and the tools are fetched if they are not in the cache. Prints seconds and MiB.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from labctl import bundle
from labctl.host import paths
from labctl.machine_image.build import build
from labctl.machine_image.format import BOXES

PHASE = re.compile(r"machine image: (.+) took ([\d.]+) s")


def main() -> None:
    """Measure, and print a table."""
    providers = ("libvirt", "virtualbox") if "virtualbox" in sys.argv else ("libvirt",)
    phases: dict[str, str] = {}

    def note(text: str) -> None:
        if match := PHASE.fullmatch(text):
            phases[match[1]] = match[2]

    carried = next(bundle.readable_bundles(paths.cache()))
    with tempfile.TemporaryDirectory(dir=paths.cache()) as folder:
        copy = replace(carried, folder=Path(folder))
        for file in carried.files:
            copy.path(file.path).parent.mkdir(exist_ok=True)
            copy.path(file.path).symlink_to(carried.path(file.path))
        started = time.monotonic()
        build(copy, paths.cache(), note, providers)
        seconds = time.monotonic() - started
        sizes = {path: copy.path(path).stat().st_size for path in BOXES.values() if copy.path(path).exists()}
    for phase, taken in {**phases, "all": f"{seconds:.1f}"}.items():
        print(f"{phase:50} {taken:>7} s")
    for path, size in sizes.items():
        print(f"{path:50} {size >> 20:7} MiB")


if __name__ == "__main__":
    main()
