"""The user's own kubeconfig: a lab's entries go in, and everything else in it stays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from labctl.errors import UsageError
from labctl.render import write

SECTIONS = ("clusters", "users", "contexts")


def merge(lab_kubeconfig: Path) -> Path:
    """The lab's cluster, user and context are in the user's kubeconfig, whose other entries and current context stay.

    The file as it was is kept beside it, with `.before-labctl` behind its name. Returns the file's path. Raises
    UsageError when the file is not a kubeconfig.
    """
    target = _user_kubeconfig()
    theirs: dict[str, Any] = _read(target) if target.exists() else {"apiVersion": "v1", "kind": "Config"}
    ours = _read(lab_kubeconfig)
    merged = {**theirs, **{section: _replaced(theirs.get(section) or [], ours[section]) for section in SECTIONS}}
    merged.setdefault("current-context", ours["current-context"])
    contents = {target.name: yaml.safe_dump(merged, sort_keys=False)}
    if target.exists():
        contents = {f"{target.name}.before-labctl": target.read_text(encoding="utf-8"), **contents}
    write(target.parent, contents)
    return target


def text(lab_kubeconfig: Path) -> str:
    """What is in the lab's own kubeconfig. Raises UsageError when it cannot be read."""
    _read(lab_kubeconfig)
    return lab_kubeconfig.read_text(encoding="utf-8")


def _user_kubeconfig() -> Path:
    """Where kubectl writes: the first file of KUBECONFIG, or its default; links are followed to the file itself."""
    first = next((entry for entry in os.environ.get("KUBECONFIG", "").split(os.pathsep) if entry), None)
    return (Path(first) if first else Path.home() / ".kube" / "config").resolve()


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _unreadable(path, str(error)) from error
    if not isinstance(document, dict):
        raise _unreadable(path, "it is not a mapping")
    return document


def _unreadable(path: Path, why: str) -> UsageError:
    return UsageError(
        f"{path} cannot be read as a kubeconfig: {why}",
        id="kubeconfig-unreadable",
        hint="Move it away, or mend it; a lab's own, `labctl up` writes anew.",
    )


def _replaced(entries: list[dict[str, Any]], ours: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = {entry["name"] for entry in ours}
    return [entry for entry in entries if entry.get("name") not in names] + ours
