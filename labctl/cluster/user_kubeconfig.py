"""Merge a lab's entries into the user's kubeconfig, or remove them, and keep everything else.

Values are kept as written: parsed by YAML 1.1, a token 0123 would become 83.
"""

from __future__ import annotations

import itertools
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import yaml

from labctl.host.caller import make_folder
from labctl.host.files import PRIVATE_FILE, create, rewrite
from labctl.host.paths import PRIVATE, home, real
from labctl.host.paths import content as content_of
from labctl.host.wait import Pending, until
from labctl.model.errors import NotReadyError, UsageError

FAULT = "kubeconfig.rename"
SECTIONS = ("clusters", "users", "contexts")
CURRENT = "current-context"
NEW = b"apiVersion: v1\nkind: Config\n"
LOCK_SECONDS = 10.0
"""How long to wait for another program that writes the file: it takes a fraction of a second."""
TEXT, LIST, NULL = (f"tag:yaml.org,2002:{name}" for name in ("str", "seq", "null"))


def merge(lab_kubeconfig: Path, lab: str) -> Path:
    """Add the lab's cluster, user and context to the user's kubeconfig; keep its other entries and current context.

    Before a change, the file is copied to the same name with `.before-labctl` appended. Owner and mode are kept, and
    no copy replaces an earlier one. Returns the file's path. Raises UsageError `kubeconfig-unreadable` if
    the file is not a kubeconfig, `kubeconfig-unwritable` if it cannot be written, `kubeconfig-locked` if another
    program holds its lock.
    """
    files, ours = _user_kubeconfigs(lab_kubeconfig), _lab_entries(lab_kubeconfig, lab)
    target = next(filter(os.path.lexists, files), files[-1])
    _change(target, lambda theirs: _merge_entries(theirs, ours))
    return target


def forget(lab_kubeconfig: Path, lab: str) -> bool:
    """Remove the entries that `merge` added to the user's kubeconfigs; keep those that have changed since.

    Return whether any were removed. Files are copied and written as by `merge`. An error about one file is raised after
    the others were written.
    """
    known = (*_user_kubeconfigs(lab_kubeconfig), _default_kubeconfig())
    targets = dict.fromkeys(filter(os.path.isfile, known))  # `Path.is_file` raises for a folder without access
    if not targets or not lab_kubeconfig.is_file():
        return False
    ours, removed, failures = _lab_entries(lab_kubeconfig, lab), False, list[UsageError]()
    for target in targets:
        try:
            removed |= _change(target, lambda theirs: _remove_entries(theirs, ours))
        except UsageError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return removed


def text(lab_kubeconfig: Path) -> str:
    """Return the content of the lab's own kubeconfig. Raises UsageError if it cannot be read."""
    content = _content(lab_kubeconfig)
    _parse(lab_kubeconfig, content)
    return content.decode()


def _change(target: Path, change: Callable[[yaml.MappingNode], bool]) -> bool:
    """Apply `change` to the user's kubeconfig; return whether it changed anything."""
    if not change(_read(target)[1]):
        return False
    with _lock(target):
        before, root = _read(target)
        if not change(root):  # another program has made the same change
            return False
        _replace(target, before, root)
    return True


def _read(target: Path) -> tuple[bytes | None, yaml.MappingNode]:
    """Return the content of the user's kubeconfig, None if there is no file, and the parsed document."""
    before = _content(target) if os.path.lexists(target) else None
    return before, _parse(target, before or NEW)


@contextmanager
def _lock(target: Path) -> Iterator[None]:
    """Hold kubectl's lock for this kubeconfig, a file beside it; wait for the current holder.

    Continue without the lock if its file cannot be created: then no other program can hold it. Raises UsageError
    `kubeconfig-locked`.
    """
    lock = target.with_name(f"{target.name}.lock")
    try:
        is_held = until(partial(_create_lock, lock), what=f"the lock {lock}", timeout=LOCK_SECONDS, interval=0.05)
    except NotReadyError as error:
        raise UsageError(
            f"{target} is locked: {lock} is still there after {LOCK_SECONDS:.0f} s",
            id="kubeconfig-locked",
            hint="Wait for the program that writes the kubeconfig. If none does, one was killed: remove the lock.",
        ) from error
    try:
        yield
    finally:
        if is_held:
            lock.unlink(missing_ok=True)


def _create_lock(lock: Path) -> bool | Pending:
    """Create the lock file; return whether that is possible, or Pending while another program holds the lock."""
    try:
        lock.open("xb").close()
    except FileExistsError:
        return Pending("another program writes the kubeconfig")
    except OSError:
        return False
    return True


def _replace(target: Path, before: bytes | None, root: yaml.MappingNode) -> None:
    """Write the user's kubeconfig; keep a copy of the previous file, if there was one."""
    content = _serialised(root).encode()
    try:
        if before is None:
            make_folder(target.parent, PRIVATE)
            create(target, content, mode=PRIVATE_FILE, point=FAULT)
        else:
            _back_up(target, before)
            rewrite(target, before, content, FAULT)
    except OSError as error:
        raise UsageError(
            f"{target} cannot be written: {error.strerror}",
            id="kubeconfig-unwritable",
            hint="Make the file and its folder writable, or set KUBECONFIG to another file.",
        ) from error


def _user_kubeconfigs(lab_kubeconfig: Path) -> list[Path]:
    """Return the files that kubectl reads, with symbolic links resolved: those in KUBECONFIG, or else the default.

    kubectl adds entries to the first that exists, or else to the last. Under `labctl exec`, KUBECONFIG names the lab's
    own kubeconfig, which is left out.
    """
    named = [real(Path(entry)) for entry in os.environ.get("KUBECONFIG", "").split(os.pathsep) if entry]
    return [path for path in named if path != real(lab_kubeconfig)] or [_default_kubeconfig()]


def _default_kubeconfig() -> Path:
    return real(home() / ".kube" / "config")


def _content(path: Path) -> bytes:
    try:
        return content_of(path)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error


def _parse(path: Path, content: bytes) -> yaml.MappingNode:
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


def _lab_entries(lab_kubeconfig: Path, lab: str) -> yaml.MappingNode:
    """Return the lab's kubeconfig with only its own context, cluster and user: programs may have added others."""
    content = _content(lab_kubeconfig)
    root = _parse(lab_kubeconfig, content)
    try:
        (context,) = (each["context"] for each in yaml.safe_load(content)["contexts"] if each["name"] == lab)
        names = {"clusters": context["cluster"], "users": context["user"], "contexts": lab}
    except (yaml.YAMLError, LookupError, TypeError, ValueError) as error:
        raise _unreadable(lab_kubeconfig, f"it has no usable context {lab}") from error
    for section, name in names.items():
        entries = _value(root, section)
        own = [each for each in entries.value if _name(each) == name] if isinstance(entries, yaml.SequenceNode) else []
        _set(root, section, yaml.SequenceNode(LIST, own))
    _set(root, CURRENT, yaml.ScalarNode(TEXT, lab))
    return root


def _merge_entries(theirs: yaml.MappingNode, ours: yaml.MappingNode) -> bool:
    """Replace entries of the same name by ours, or append ours; return whether anything changed."""
    before = _serialised(theirs)
    for section in SECTIONS:
        added, had = _value(ours, section), _value(theirs, section)
        if not isinstance(added, yaml.SequenceNode):
            continue
        entries = had.value if isinstance(had, yaml.SequenceNode) else []
        new = {_name(entry): entry for entry in added.value}
        merged = [new.pop(_name(entry), entry) for entry in entries]
        style = had.flow_style if isinstance(had, yaml.SequenceNode) and entries else None
        _set(theirs, section, yaml.SequenceNode(LIST, [*merged, *new.values()], flow_style=style))
    current, had = _value(ours, CURRENT), _value(theirs, CURRENT)
    if current is not None and (had is None or had.value == "" or had.tag == NULL):
        _set(theirs, CURRENT, current)
    return _serialised(theirs) != before


def _remove_entries(theirs: yaml.MappingNode, ours: yaml.MappingNode) -> bool:
    """Remove the entries equal to ours, and a current context among them; return whether any were removed."""
    removed: set[str] = set()
    for section in SECTIONS:
        mine, had = _value(ours, section), _value(theirs, section)
        if not isinstance(mine, yaml.SequenceNode) or not isinstance(had, yaml.SequenceNode):
            continue
        written = {_serialised(entry) for entry in mine.value}
        kept = [entry for entry in had.value if _serialised(entry) not in written]
        removed |= {f"{section}/{_name(entry)}" for entry in had.value if entry not in kept}
        _set(theirs, section, yaml.SequenceNode(LIST, kept, flow_style=had.flow_style if kept else True))
    current = _value(theirs, CURRENT)
    if current is not None and f"contexts/{current.value}" in removed:
        _set(theirs, CURRENT, yaml.ScalarNode(TEXT, "", style='"'))  # as `kubectl config unset` leaves it
    return bool(removed)


def _name(entry: yaml.MappingNode) -> str:
    name = _value(entry, "name")
    return name.value if isinstance(name, yaml.ScalarNode) else ""


def _serialised(node: yaml.Node) -> str:
    return str(yaml.serialize(node, Dumper=yaml.SafeDumper, allow_unicode=True, width=math.inf))


def _back_up(path: Path, content: bytes) -> None:
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
