"""Shell commands that make a name resolve to the lab and edit only this name's entries in the hosts file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from labctl.host import hosts_entry, hosts_file
from labctl.host.resolver import HostsLine
from labctl.isolation.isolation import SETTINGS
from labctl.model.errors import HostsError
from labctl.trace.problem import labctl
from labctl.trace.trail import Trail

BLANK = "[[:space:]]"
END = f"({BLANK}|#|$)"


@dataclass(frozen=True, slots=True)
class Damage:
    """Markers of labctl in the hosts file that do not pair up, so the owner of a line is unknown."""

    text: str
    is_own: bool
    """Whether only this lab's markers are damaged."""


def is_read(trail: Trail) -> bool:
    """Return whether the system's resolver reads the file that labctl writes."""
    return trail.lab.hosts_file == trail.client.hosts


def damage(trail: Trail) -> Damage | None:
    """Return what prevents labctl from writing the lab's block; None if nothing does."""
    try:
        content = hosts_file.read(trail.lab.hosts_file)
    except HostsError:
        return None
    try:
        hosts_file.block(content, trail.lab.name)
    except hosts_file.DamagedMarkerError as error:
        others = re.sub(rf"^{_marker(trail)}\r?$".encode(), b"", content, flags=re.MULTILINE)
        return Damage(str(error), is_own=_is_whole(others, trail.lab.name))
    return None


def resolve_commands(trail: Trail, wanted: IPv4Address, strangers: Sequence[HostsLine] = ()) -> tuple[str, ...]:
    """Return the commands that make the name resolve to this address and remove the entries in `strangers`.

    Another lab's block is not changed.
    """
    damaged = damage(trail)
    can_sync = trail.is_app and is_read(trail) and trail.client.hosts.exists() and (damaged is None or damaged.is_own)
    is_there = any(line.address == wanted for line in trail.client.hosts_lines(trail.hostname))
    is_outdated = any(line.block == trail.lab.name for line in strangers)
    syncs = can_sync and (is_outdated or not is_there)
    foreign = [line for line in strangers if line.block is None or (line.block == trail.lab.name and not syncs)]
    expressions = [each for line in foreign for each in _removal_expressions(trail.hostname, line)]
    if syncs and damaged:
        expressions += _unmark_expressions(trail)
    edits = sed_command(trail, trail.hosts, expressions)
    additions = (sync_command(trail),) if syncs else () if is_there else append_command(trail, wanted)
    return (*_own_file(trail), *edits, *additions) if edits or additions else ()


def removal_command(trail: Trail, lines: Sequence[HostsLine]) -> tuple[str, ...]:
    """Return the command that removes the name from these lines, except those of another lab."""
    own = (None, trail.lab.name)
    return sed_command(
        trail,
        trail.hosts,
        [each for line in lines if line.block in own for each in _removal_expressions(trail.hostname, line)],
    )


def repair_commands(trail: Trail) -> tuple[str, ...]:
    """Return the commands that remove this lab's markers and the lines that labctl wrote, and rewrite the block."""
    return (*sed_command(trail, outside_path(trail), _unmark_expressions(trail)), sync_command(trail))


def sync_command(trail: Trail) -> str:
    """Return the command that writes the lab's block."""
    return labctl(trail.lab.name, "hosts", "sync")


def append_command(trail: Trail, wanted: IPv4Address) -> tuple[str, ...]:
    """Return the commands that append the name to the file that the resolver reads."""
    content = trail.client.hosts_content()
    return hosts_entry.append_commands(trail.hosts, content, {trail.hostname: wanted}, sudo=sudo_prefix(trail))


def sudo_prefix(trail: Trail) -> str:
    """Return the prefix of a command that needs root."""
    return "" if trail.client.is_root else "sudo "


def outside_path(trail: Trail) -> Path:
    """Return the path, outside the lab's network, of the file that labctl writes."""
    return trail.hosts if is_read(trail) else trail.lab.hosts_file


def sed_command(trail: Trail, file: Path, expressions: Sequence[str]) -> tuple[str, ...]:
    """Return the command that applies these sed expressions to a file; no command for no expressions.

    A mounted file, such as the hosts file inside an isolated lab's network, is written in place: processes there
    would not see a file that replaces it.
    """
    if not expressions:
        return ()
    script = " ".join(f"-e {shlex.quote(each)}" for each in expressions)
    target, root = shlex.quote(str(file)), sudo_prefix(trail)
    if SETTINGS in file.parents or file.is_symlink() or trail.client.is_mounted(file):
        return (
            f't=$(mktemp) && {root}sed -E {script} {target} >"$t" && {root}tee {target} <"$t" >/dev/null && rm "$t"',
        )
    return (f"{root}sed -E -i {script} {target}",)


def _removal_expressions(hostname: str, line: HostsLine) -> list[str]:
    """Return expressions that remove a name from a line; a line with no other name becomes a comment.

    They change nothing if the line has moved in the meantime.
    """
    address, *names = line.text.partition("#")[0].split()
    spellings = [_literal(name) for name in names if name.lower() == hostname]
    if len(spellings) == len(names):
        whole = f"{BLANK}+".join([_literal(address), *spellings])
        return [f"{line.number}s/^{BLANK}*{whole}{END}/# &/"]
    return [f"{line.number}s/{BLANK}+{name}{END}/\\1/" for name in spellings]


def _unmark_expressions(trail: Trail) -> list[str]:
    """Return expressions that remove this lab's markers, and the lines between them that labctl wrote."""
    hostnames = {app.hostname for app in trail.lab.apps}
    own = [
        f"{entry.number}{{/^{_literal(entry.address)} {_literal(entry.names[0])}[[:cntrl:]]*$/d;}}"
        for entry in hosts_file.entries(hosts_file.read(trail.lab.hosts_file))
        if entry.block == trail.lab.name and len(entry.names) == 1 and entry.names[0] in hostnames
    ]
    return [*own, f"/^{_marker(trail)}[[:cntrl:]]*$/d"]


def _own_file(trail: Trail) -> tuple[str, ...]:
    """Return the command that restores the hosts file of an isolated lab, if it is missing."""
    is_gone = trail.context.isolated and not trail.hosts.exists()
    return (f"cp {trail.client.hosts} {trail.hosts}",) if is_gone else ()  # until then, the machine's own file is read


def _marker(trail: Trail) -> str:
    return f"# (BEGIN|END) labctl {trail.lab.name}"


def _is_whole(content: bytes, lab: str) -> bool:
    try:
        hosts_file.block(content, lab)
    except hosts_file.DamagedMarkerError:
        return False
    return True


def _literal(word: str) -> str:
    return re.sub(r"[^A-Za-z0-9:_-]", r"\\\g<0>", word)
