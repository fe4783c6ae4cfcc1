"""The user's own kubeconfig: a lab's entries go in, and everything else in it stays."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from labctl.caller import give, make_folder
from labctl.errors import UsageError
from labctl.paths import PRIVATE
from labctl.rewrite import rewrite

FAULT = "kubeconfig.rename"
SECTIONS = ("clusters", "users", "contexts")


def merge(lab_kubeconfig: Path) -> Path:
    """Add the lab's cluster, user and context to the user's kubeconfig, whose other entries and current context stay.

    Before a change the file is kept beside it, with `.before-labctl` behind its name; both have its owner and mode, and
    no copy takes the place of an earlier one. Returns the file's path. Raises UsageError `kubeconfig-unreadable` when
    the file is not a kubeconfig, `kubeconfig-unwritable`.
    """
    target = _user_kubeconfig()
    before = _content(target) if os.path.lexists(target) else None
    theirs: dict[str, Any] = {"apiVersion": "v1", "kind": "Config"} if before is None else _parsed(target, before)
    ours = _parsed(lab_kubeconfig, _content(lab_kubeconfig))
    merged = {**theirs, **{section: _replaced(theirs.get(section) or [], ours[section]) for section in SECTIONS}}
    merged.setdefault("current-context", ours["current-context"])
    if merged == theirs:
        return target
    content = yaml.safe_dump(merged, sort_keys=False).encode()
    try:
        if before is None:
            make_folder(target.parent, PRIVATE)
            _make(target, content)
            give(target)
        else:
            _keep(target, before)
            rewrite(target, before, content, FAULT)
    except OSError as error:
        raise UsageError(
            f"{target} cannot be written: {error.strerror}",
            id="kubeconfig-unwritable",
            hint="Make it, and the folder it is in, writable; or name another file in KUBECONFIG.",
        ) from error
    return target


def text(lab_kubeconfig: Path) -> str:
    """Return what is in the lab's own kubeconfig. Raises UsageError when it cannot be read."""
    content = _content(lab_kubeconfig)
    _parsed(lab_kubeconfig, content)
    return content.decode()


def _user_kubeconfig() -> Path:
    """Where kubectl writes: the first file of KUBECONFIG, or its default; links are followed to the file itself."""
    first = next((entry for entry in os.environ.get("KUBECONFIG", "").split(os.pathsep) if entry), None)
    return (Path(first) if first else Path.home() / ".kube" / "config").resolve()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, str(error)) from error


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    try:
        document = yaml.safe_load(content.decode())
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise _unreadable(path, str(error)) from error
    if not isinstance(document, dict):
        raise _unreadable(path, "it is not a mapping")
    return document


def _keep(path: Path, content: bytes) -> None:
    """Make a copy of the file beside it, unless an earlier copy is the same."""
    for number in itertools.count(1):
        copy = path.with_name(f"{path.name}.before-labctl" + ("" if number == 1 else f"-{number}"))
        if not os.path.lexists(copy):
            _make(copy, content)
            if os.geteuid() == 0:
                owner = path.stat()
                os.chown(copy, owner.st_uid, owner.st_gid)
            shutil.copymode(path, copy)
            return
        if copy.is_file() and copy.read_bytes() == content:
            return


def _make(path: Path, content: bytes) -> None:
    """Make a file that only its owner can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor has no path
        file.write(content)


def _unreadable(path: Path, why: str) -> UsageError:
    return UsageError(
        f"{path} cannot be read as a kubeconfig: {why}",
        id="kubeconfig-unreadable",
        hint="Move it away, or mend it; a lab's own, `labctl up` writes anew.",
    )


def _replaced(entries: list[dict[str, Any]], ours: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = {entry["name"] for entry in ours}
    return [entry for entry in entries if entry.get("name") not in names] + ours
