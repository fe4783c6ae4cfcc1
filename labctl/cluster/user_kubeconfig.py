"""The user's own kubeconfig: a lab's entries go in, and everything else in it stays.

Nothing of it is read as a value: YAML 1.1 would turn a token 0123 into 83, and write that.
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
    """Add the lab's cluster, user and context to the user's kubeconfig, whose other entries and current context stay.

    Before a change the file is kept beside it, with `.before-labctl` behind its name; both have its owner and mode, and
    no copy takes the place of an earlier one. Returns the file's path. Raises UsageError `kubeconfig-unreadable` when
    the file is not a kubeconfig, `kubeconfig-unwritable`.
    """
    target = _user_kubeconfig()
    before = _content(target) if os.path.lexists(target) else None
    theirs = _composed(target, NEW if before is None else before)
    if not _take_in(theirs, _composed(lab_kubeconfig, _content(lab_kubeconfig))):
        return target
    content = _written(theirs).encode()
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
            hint="Make it, and the folder it is in, writable; or name another file in KUBECONFIG.",
        ) from error
    return target


def text(lab_kubeconfig: Path) -> str:
    """Return what is in the lab's own kubeconfig. Raises UsageError when it cannot be read."""
    content = _content(lab_kubeconfig)
    _composed(lab_kubeconfig, content)
    return content.decode()


def _user_kubeconfig() -> Path:
    """Where kubectl writes: the first file of KUBECONFIG, or its default; links are followed to the file itself."""
    first = next((entry for entry in os.environ.get("KUBECONFIG", "").split(os.pathsep) if entry), None)
    return real(Path(first) if first else home() / ".kube" / "config")


def _content(path: Path) -> bytes:
    try:
        return content_of(path)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error


def _composed(path: Path, content: bytes) -> yaml.MappingNode:
    """Return the kubeconfig as what it is written as, its sections lists of entries or nothing."""
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
            raise _unreadable(path, f"its {section} are not a list of entries")
    return root


def _value(mapping: yaml.MappingNode, key: str) -> yaml.Node | None:
    return next((value for each, value in mapping.value if each.value == key), None)


def _set(mapping: yaml.MappingNode, key: str, value: yaml.Node) -> None:
    """Give the key this value, in its place or behind the others."""
    keys = [each.value for each, _ in mapping.value]
    if key in keys:
        place = keys.index(key)
        mapping.value[place] = (mapping.value[place][0], value)
    else:
        mapping.value.append((yaml.ScalarNode(TEXT, key), value))


def _take_in(theirs: yaml.MappingNode, ours: yaml.MappingNode) -> bool:
    """Put our entries in the place of theirs of the same name, else behind them; return whether that changed anything."""
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


def _name(entry: yaml.MappingNode) -> str:
    name = _value(entry, "name")
    return name.value if isinstance(name, yaml.ScalarNode) else ""


def _written(node: yaml.Node) -> str:
    return str(yaml.serialize(node, Dumper=yaml.SafeDumper, allow_unicode=True, width=math.inf))


def _keep(path: Path, content: bytes) -> None:
    """Make a copy of the file beside it, unless an earlier copy is the same."""
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
        hint="Move it away, or mend it; a lab's own, `labctl up` writes anew.",
    )
