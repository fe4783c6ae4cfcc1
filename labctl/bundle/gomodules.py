"""Programs and files out of Go modules, each pinned by a go.mod and go.sum in folder `go/`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from labctl import process
from labctl.bundle.ingredients import GoModule, GoProgram, ModuleFile
from labctl.errors import MissingError

MODULES = Path(__file__).parent / "go"

_SELF_UPDATING = (1, 21)
"""The first Go that fetches the version a go.mod asks for."""
_PINNED = {"GOFLAGS": "-buildvcs=false", "GOWORK": "off", "GO111MODULE": "on"}
"""The user's environment decides where modules come from, and not what is built."""


def compile_program(program: GoProgram, target: Path, architecture: str) -> None:
    """File `target` is the static Linux program: the same bytes wherever the same version of Go compiles it.

    The user's Go caches and proxies are used, and files beside `target`. Raises MissingError `go-module-mismatch`
    as `check_pins`, `tool-failed` when it does not compile.
    """
    folder = _module_folder(program.module, target.parent)
    linker = ["-s", "-w", *(f"-X {variable}" for variable in program.variables)]
    process.check(
        ["go", "build", "-mod=readonly", "-trimpath", "-ldflags", " ".join(linker), "-o", target, program.package],
        env={
            **_PINNED,
            "CGO_ENABLED": "0",
            "GOOS": "linux",
            "GOARCH": architecture,
            "GOAMD64": "v1",
            "GOARM64": "v8.0",
            "GOEXPERIMENT": "",
            "GOTMPDIR": str(target.parent),
        },
        cwd=folder,
        error=MissingError,
    )


def copy_file(file: ModuleFile, target: Path) -> None:
    """File `target` is upstream's file, out of the module whose checksum go.sum holds. Raises as `compile_program`."""
    folder = _module_folder(file.module, target.parent)
    shutil.copyfile(Path(_download(file.module, folder)["Dir"]) / file.path, target)


def compiler_version() -> str:
    """The version of the Go that compiles the programs, such as `1.26.8`."""
    version = process.check(["go", "env", "GOVERSION"], env=_PINNED, cwd=MODULES / "kubernetes", error=MissingError)
    return version.split()[0].removeprefix("go")  # experiments may follow


def check_compiler() -> None:
    """The installed Go can fetch the version that a go.mod asks for, if it is not that itself.

    Raises MissingError `go-too-old`.
    """
    version = process.check(["go", "env", "GOVERSION"], env={"GOTOOLCHAIN": "local"}, cwd=Path("/"), error=MissingError)
    found = re.match(r"go(\d+)\.(\d+)", version)
    if found and (int(found[1]), int(found[2])) < _SELF_UPDATING:
        raise MissingError(
            f"Go {version.strip().removeprefix('go')} is too old to build a bundle",
            id="go-too-old",
            hint=f"Install Go {'.'.join(map(str, _SELF_UPDATING))} or newer: https://go.dev/dl/",
        )


def check_pins(module: GoModule, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Our go.mod builds upstream's module at its pinned version, and the same modules in place of others as upstream.

    `theirs` and `ours` are what `go mod edit -json` says of the two. Upstream replaces some modules by folders beside
    its own, which nobody else has: ours must build with their published version. Raises MissingError
    `go-module-mismatch` naming every module that differs.
    """
    expected = {module.upstream: module.version} | {
        replace["Old"]["Path"]: replace["New"].get("Version", module.siblings) for replace in theirs["Replace"] or ()
    }
    used = {require["Path"]: require["Version"] for require in ours["Require"] or ()} | {
        replace["Old"]["Path"]: replace["New"].get("Version") for replace in ours["Replace"] or ()
    }
    wrong = [
        f"{path} is {used.get(path, 'absent')} instead of {version}"
        for path, version in expected.items()
        if used.get(path) != version
    ]
    if wrong:
        raise MissingError(
            f"the go.mod for {module.upstream} {module.version} does not match upstream's own: {'; '.join(wrong)}",
            id="go-module-mismatch",
            hint="Install labctl again: its own files do not belong together.",
        )


def _module_folder(module: GoModule, scratch: Path) -> Path:
    """A copy of the module's folder below `scratch`, since labctl's own files may be read-only; its pins are checked."""
    folder = scratch / f"go-{module.folder}"
    shutil.copytree(MODULES / module.folder, folder)
    if module.upstream:
        check_pins(module, _parsed(Path(_download(module, folder)["GoMod"])), _parsed(folder / "go.mod"))
    return folder


def _download(module: GoModule, folder: Path) -> dict[str, str]:
    """What `go mod download` says about upstream's module, which is in Go's module cache afterwards."""
    args = ["go", "mod", "download", "-json", f"{module.upstream}@{module.version}"]
    found: dict[str, str] = json.loads(process.check(args, env=_PINNED, cwd=folder, error=MissingError))
    return found


def _parsed(go_mod: Path) -> dict[str, Any]:
    said = process.check(["go", "mod", "edit", "-json", go_mod], env=_PINNED, cwd=go_mod.parent, error=MissingError)
    parsed: dict[str, Any] = json.loads(said)
    return parsed
