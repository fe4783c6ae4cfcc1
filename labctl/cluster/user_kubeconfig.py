"""Merge a lab's entries into the user's kubeconfig, or remove them, and keep everything else.

Values are kept as written: parsed by YAML 1.1, a token 0123 would become 83.
"""

from __future__ import annotations

import itertools
import math
import os
import shutil
from pathlib import Path

import yaml

from labctl.host.caller import make_folder
from labctl.host.files import PRIVATE_FILE, create, rewrite
from labctl.host.paths import PRIVATE, home, real
from labctl.host.paths import content as content_of
from labctl.model.errors import UsageError

FAULT = "kubeconfig.rename"
SECTIONS = ("clusters", "users", "contexts")
CURRENT = "current-context"
NEW = b"apiVersion: v1\nkind: Config\n"
TEXT, LIST, NULL = (f"tag:yaml.org,2002:{name}" for name in ("str", "seq", "null"))


def merge(lab_kubeconfig: Path) -> Path:
    """Add the lab's cluster, user and context to the user's kubeconfig; keep its other entries and current context.

    Before a change, the file is copied to the same name with `.before-labctl` appended. Owner and mode are kept, and
    no copy replaces an earlier one. Returns the file's path. Raises UsageError `kubeconfig-unreadable` if
    the file is not a kubeconfig, `kubeconfig-unwritable` if it cannot be written.
    """
    target = _user_kubeconfig()
    before = _content(target) if os.path.lexists(target) else None
    theirs = _composed(target, NEW if before is None else before)
    if _take_in(theirs, _composed(lab_kubeconfig, _content(lab_kubeconfig))):
        _replace(target, before, theirs)
    return target


def forget(lab_kubeconfig: Path) -> bool:
    """Remove the entries that `merge` added to the user's kubeconfig; keep those that have changed since.

    Return whether there were any. The file is written, copied and refused as by `merge`.
    """
    target = _user_kubeconfig()
    if not target.is_file() or not lab_kubeconfig.is_file():
        return False
    before = _content(target)
    theirs = _composed(target, before)
    if not _take_out(theirs, _composed(lab_kubeconfig, _content(lab_kubeconfig))):
        return False
    _replace(target, before, theirs)
    return True


def text(lab_kubeconfig: Path) -> str:
    """Return the content of the lab's own kubeconfig. Raises UsageError if it cannot be read."""
    content = _content(lab_kubeconfig)
    _composed(lab_kubeconfig, content)
    return content.decode()


def _replace(target: Path, before: bytes | None, root: yaml.MappingNode) -> None:
    """Write the user's kubeconfig; copy what it was before, unless there was none."""
    content = _written(root).encode()
    try:
        if before is None:
            make_folder(target.parent, PRIVATE)
            create(target, content, mode=PRIVATE_FILE, point=FAULT)
        else:
            _keep(target, before)
            rewrite(target, before, content, FAULT)
    except OSError as error:
        raise UsageError(
            f"{target} cannot be written: {error.strerror}",
            id="kubeconfig-unwritable",
            hint="Make the file and its folder writable, or set KUBECONFIG to another file.",
        ) from error


def _user_kubeconfig() -> Path:
    """Return the file that kubectl writes: the first in KUBECONFIG, or the default, with symbolic links resolved."""
    first = next((entry for entry in os.environ.get("KUBECONFIG", "").split(os.pathsep) if entry), None)
    return real(Path(first) if first else home() / ".kube" / "config")


def _content(path: Path) -> bytes:
    try:
        return content_of(path)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error


def _composed(path: Path, content: bytes) -> yaml.MappingNode:
    """Parse the kubeconfig into YAML nodes, and check that its sections are lists of entries or null."""
    try:
        root = yaml.compose(content.decode(), Loader=yaml.SafeLoader)
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise _unreadable(path, str(error)) from error
    if not isinstance(root, yaml.MappingNode):
        raise _unreadable(path, "it is not a mapping")
    for section in SECTIONS:
        value = _value(root, section)
        is_list = isinstance(value, yaml.SequenceNode) and all(
            isinstance(each, yaml.MappingNode) for each in value.value
        )
        if not is_list and value is not None and value.tag != NULL:
            raise _unreadable(path, f"its `{section}` is not a list of entries")
    return root


def _value(mapping: yaml.MappingNode, key: str) -> yaml.Node | None:
    return next((value for each, value in mapping.value if each.value == key), None)


def _set(mapping: yaml.MappingNode, key: str, value: yaml.Node) -> None:
    """Set the key to this value, in its place or at the end."""
    keys = [each.value for each, _ in mapping.value]
    if key in keys:
        place = keys.index(key)
        mapping.value[place] = (mapping.value[place][0], value)
    else:
        mapping.value.append((yaml.ScalarNode(TEXT, key), value))


def _take_in(theirs: yaml.MappingNode, ours: yaml.MappingNode) -> bool:
    """Replace entries of the same name by ours, or append ours; return whether anything changed."""
    before = _written(theirs)
    for section in SECTIONS:
        added, had = _value(ours, section), _value(theirs, section)
        if not isinstance(added, yaml.SequenceNode):
            continue
        entries = had.value if isinstance(had, yaml.SequenceNode) else []
        new = {_name(entry): entry for entry in added.value}
        merged = [new.pop(_name(entry), entry) for entry in entries]
        style = had.flow_style if isinstance(had, yaml.SequenceNode) and entries else None
        _set(theirs, section, yaml.SequenceNode(LIST, [*merged, *new.values()], flow_style=style))
    current = _value(ours, CURRENT)
    if current is not None and _value(theirs, CURRENT) is None:
        _set(theirs, CURRENT, current)
    return _written(theirs) != before


def _take_out(theirs: yaml.MappingNode, ours: yaml.MappingNode) -> bool:
    """Remove the entries that are equal to ours, and a current context that was one; return whether there were any."""
    removed: set[str] = set()
    for section in SECTIONS:
        mine, had = _value(ours, section), _value(theirs, section)
        if not isinstance(mine, yaml.SequenceNode) or not isinstance(had, yaml.SequenceNode):
            continue
        written = {_written(entry) for entry in mine.value}
        kept = [entry for entry in had.value if _written(entry) not in written]
        removed |= {f"{section}/{_name(entry)}" for entry in had.value if entry not in kept}
        _set(theirs, section, yaml.SequenceNode(LIST, kept, flow_style=had.flow_style if kept else True))
    current = _value(theirs, CURRENT)
    if current is not None and f"contexts/{current.value}" in removed:
        _set(theirs, CURRENT, yaml.ScalarNode(TEXT, "", style='"'))  # as `kubectl config unset` leaves it
    return bool(removed)


def _name(entry: yaml.MappingNode) -> str:
    name = _value(entry, "name")
    return name.value if isinstance(name, yaml.ScalarNode) else ""


def _written(node: yaml.Node) -> str:
    return str(yaml.serialize(node, Dumper=yaml.SafeDumper, allow_unicode=True, width=math.inf))


def _keep(path: Path, content: bytes) -> None:
    """Copy the file to a name beside it, unless an earlier copy has the same content."""
    for number in itertools.count(1):
        copy = path.with_name(f"{path.name}.before-labctl" + ("" if number == 1 else f"-{number}"))
        if not os.path.lexists(copy):
            create(copy, content, mode=PRIVATE_FILE)
            if os.geteuid() == 0:
                owner = path.stat()
                os.chown(copy, owner.st_uid, owner.st_gid)
            shutil.copymode(path, copy)
            return
        if copy.is_file() and copy.read_bytes() == content:
            return


def _unreadable(path: Path, why: str) -> UsageError:
    return UsageError(
        f"{path} cannot be read as a kubeconfig: {why}",
        id="kubeconfig-unreadable",
        hint="Move it away or correct it. For a lab's own kubeconfig, run `labctl up` to write it again.",
    )
