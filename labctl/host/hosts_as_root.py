"""Edit one lab's block in a hosts file as root. This is the only program that labctl runs through sudo.

    hosts_as_root.py check|remove FILE LAB
    hosts_as_root.py sync FILE LAB ADDRESS HOSTNAME [ADDRESS HOSTNAME]...

The caller holds the file's lock and has copied the file. The exit code is 0, or 7 with the error as JSON.
"""

from __future__ import annotations

import json
import os
import re
import select
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

if __name__ == "__main__":
    # Python ignores the user's paths (-I), so import the labctl that this file belongs to.
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from labctl.host import hosts_file
from labctl.model.errors import HostsError

STDOUT = 1
LAB = re.compile("[a-z0-9][-a-z0-9]*")


def main(arguments: Sequence[str]) -> int:
    """Carry out the arguments and return the exit code."""
    try:
        act, path, edit = parse(arguments)
        _require_reader()
        hosts_file.apply_edit(path, edit, dry_run=act == "check")
    except HostsError as error:
        json.dump({"id": error.id, "message": error.message, "hint": error.hint}, sys.stdout)
        return error.exit_code
    return 0


def _require_reader() -> None:
    """Check that the caller still reads the answer. Otherwise it has given up, and no longer holds the file's lock."""
    poll = select.poll()
    poll.register(STDOUT, 0)
    if any(events & select.POLLERR for _, events in poll.poll(0)):
        raise _refusal("the caller did not wait")


def parse(arguments: Sequence[str]) -> tuple[str, Path, hosts_file.Edit]:
    """Return the action, the file and the edit. Raises HostsError for anything that labctl itself never requests."""
    try:
        act, file, lab, *words = arguments
        path = _file(file)
        lines = tuple(f"{IPv4Address(address)} {hostname}" for address, hostname in _pairs(words))
        if not LAB.fullmatch(lab):
            raise ValueError(f"{lab!r} is not the name of a lab")  # noqa: TRY301 - reported like the others below
        edit = hosts_file.Edit(lab, lines)
        edit.apply(b"")
    except ValueError as error:
        raise _refusal(str(error)) from error
    if act not in {"check", "remove", "sync"} or bool(lines) != (act == "sync"):
        raise _refusal(f"{act} with {len(lines)} lines")
    return act, path, edit


def _file(name: str) -> Path:
    """Return the path, which must have no link in it that another user could redirect."""
    if not Path(name).is_absolute() or os.path.realpath(name) != name:
        raise ValueError(f"{name!r} is not an absolute path without links")
    return Path(name)


def _pairs(words: Sequence[str]) -> list[tuple[str, str]]:
    if len(words) % 2:
        raise ValueError("an address without a hostname")
    return list(zip(words[::2], words[1::2], strict=True))


def _refusal(why: str) -> HostsError:
    return HostsError(f"refused as root: {why}", id="hosts-task", hint="Only labctl should run this program.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
