"""Programs and files from Go modules, each pinned by a go.mod and go.sum in folder `go/`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from labctl.bundle.build.ingredients import GoModule, GoProgram, ModuleFile
from labctl.bundle.build.toolchain import MODULES, Go
from labctl.model.errors import MissingError


def compile_program(go: Go, program: GoProgram, target: Path, architecture: str) -> None:
    """Compile a static Linux program to `target`: the same version of Go gives the same bytes on every machine.

    Use the user's Go caches and proxies, and create files beside `target`. Raises MissingError `go-module-mismatch`
    as `check_pins` does, and `tool-failed` if the program does not compile.
    """
    folder = _module_folder(go, program.module, target.parent)
    linker = ["-s", "-w", *(f"-X {variable}" for variable in program.variables)]
    go.run(
        *("build", "-mod=readonly", "-trimpath", "-ldflags", " ".join(linker), "-o", target, program.package),
        env={
            "CGO_ENABLED": "0",
            "GOOS": "linux",
            "GOARCH": architecture,
            "GOAMD64": "v1",
            "GOARM64": "v8.0",
            "GOEXPERIMENT": "",
            "GOTMPDIR": str(target.parent),
        },
        cwd=folder,
    )


def copy_file(go: Go, file: ModuleFile, target: Path) -> None:
    """Copy upstream's file to `target` from the module whose checksum is in go.sum. Raises as `compile_program` does."""
    folder = _module_folder(go, file.module, target.parent)
    shutil.copyfile(Path(_download(go, file.module, folder)["Dir"]) / file.path, target)


def check_pins(module: GoModule, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Check that labctl's go.mod pins upstream's module at its version, with the same replacements as upstream.

    `theirs` and `ours` are the outputs of `go mod edit -json` for the two. Upstream replaces some modules with folders
    of its own repository, which are not published with the module: labctl must use their published versions. Raises
    MissingError `go-module-mismatch`, which names every module that differs.
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
            hint="Reinstall labctl: its files are from different versions.",
        )


def _module_folder(go: Go, module: GoModule, scratch: Path) -> Path:
    """Check a module's pins and copy its folder below `scratch`, since labctl's own files may be read-only."""
    folder = scratch / f"go-{module.folder}"
    shutil.copytree(MODULES / module.folder, folder)
    if module.upstream:
        theirs = Path(_download(go, module, folder)["GoMod"])
        check_pins(module, _parse(go, theirs), _parse(go, folder / "go.mod"))
    return folder


def _download(go: Go, module: GoModule, folder: Path) -> dict[str, str]:
    """Download upstream's module into Go's module cache, and return what `go mod download` reports about it."""
    output = go.run("mod", "download", "-json", f"{module.upstream}@{module.version}", cwd=folder)
    description: dict[str, str] = json.loads(output)
    return description


def _parse(go: Go, go_mod: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(go.run("mod", "edit", "-json", go_mod, cwd=go_mod.parent))
    return parsed
