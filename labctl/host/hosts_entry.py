"""Write the lab's hostnames to a hosts file that needs root: ask for the password, or name the commands to run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from labctl.host import hosts_file, sudo
from labctl.host.resolver import parse_address
from labctl.model.errors import HostsError
from labctl.model.events import HostsEntry
from labctl.model.lab import Lab


class HostsPendingError(HostsError):
    """labctl could not change the file, so the user must."""

    def __init__(self, reason: HostsError, entry: HostsEntry) -> None:
        by_hand = "".join(f"\n  {line}" for line in entry.commands)
        super().__init__(reason.message, id=reason.id, hint=f"{entry.note}, for example with:{by_hand}")
        self.entry = entry

    @property
    def text(self) -> str:
        """Return the state, the reason and the commands in one line."""
        return f"{self.entry.state}: {self.message}; run: {'; '.join(self.entry.commands)}"


def sync(lab: Lab, addresses: Mapping[str, IPv4Address], *, backup: Path) -> bool:
    """Give each hostname its address in the lab's hosts file; return whether the file changed.

    If the block cannot be written, lines of the user with the same addresses are enough. Raises HostsPendingError, and
    HostsError as `hosts_file.sync` does.
    """
    path = lab.hosts_file
    try:
        return hosts_file.sync(path, lab.name, addresses, backup=backup)
    except HostsError as error:
        if error.id != hosts_file.NOT_CHANGED:
            raise
        absent, stale = missing(path, addresses), stale_names(path, lab.name, addresses)
        if not (absent or stale):
            return False
        if stale:
            lines, commands = _block(path, lab.name), (command_to_remove(path, lab.name),)
            note = f"Remove the block from {path}" + (" and add the names again" if addresses else "")
            entry = HostsEntry("pending", note, lines, (*commands, *commands_to_add(path, addresses)))
        else:
            lines = hosts_file.lines_for(absent)
            entry = HostsEntry("pending", f"Add to the hosts file {path}", lines, commands_to_add(path, absent))
        raise HostsPendingError(error, entry) from error


def remove(path: Path, lab: str, *, backup: Path) -> bool:
    """Remove the lab's block from the file; return whether the file changed. Raises as `sync` does."""
    try:
        return hosts_file.remove(path, lab, backup=backup)
    except HostsError as error:
        if error.id != hosts_file.NOT_CHANGED:
            raise
        entry = HostsEntry(
            "pending", f"Remove the block from {path}", _block(path, lab), (command_to_remove(path, lab),)
        )
        raise HostsPendingError(error, entry) from error


def missing(path: Path, addresses: Mapping[str, IPv4Address]) -> dict[str, IPv4Address]:
    """Return the hostnames that have another address in the file, or none. Lines of the lab and of the user count.

    Raises HostsError if the file cannot be read.
    """
    known = _first_addresses(hosts_file.read(path))
    return {name: address for name, address in addresses.items() if known.get(name) != str(address)}


def stale_names(path: Path, lab: str, wanted: Collection[str]) -> list[str]:
    """Return the names in the lab's block that are not wanted. Raises as `hosts_file.show` does."""
    block = _first_addresses("\n".join(hosts_file.show(path, lab) or ()).encode())
    return [name for name in block if name not in wanted]


def commands_to_add(path: Path, addresses: Mapping[str, IPv4Address]) -> tuple[str, ...]:
    """Return shell commands that add these hostnames to the file. Raises HostsError if it cannot be read."""
    return append_commands(path, hosts_file.read(path), addresses)


def append_commands(
    path: Path, content: bytes, addresses: Mapping[str, IPv4Address], *, sudo: str = "sudo "
) -> tuple[str, ...]:
    """Return shell commands that add these hostnames to a file with this content, and end its last line if needed."""
    target = f"| {sudo}tee -a {shlex.quote(str(path))}"
    names: dict[IPv4Address, list[str]] = {}
    for name, address in addresses.items():
        names.setdefault(address, []).append(name)
    is_cut_off = content[-1:] not in {b"", b"\n"}
    ends = [f"echo {target}"] if is_cut_off and names else []
    return (*ends, *(f"echo '{address} {' '.join(each)}' {target}" for address, each in names.items()))


def command_to_remove(path: Path, lab: str) -> str:
    """Return a shell command that deletes the lab's block from the file and keeps a copy next to it."""
    begin, end = (f"/^# {word} labctl {lab}[[:cntrl:]]*$/" for word in ("BEGIN", "END"))
    return (
        f"sudo sed -i.before-labctl '{begin},{end}d' {shlex.quote(os.path.realpath(path))}"  # sed would replace a link
    )


def can_change(path: Path, lab: str) -> bool:
    """Return whether this user can change the file now, directly or through sudo without a password."""
    if sudo.is_root() or os.access(path, os.W_OK):
        return True
    return sudo.try_run(hosts_file.root_command("check", path, hosts_file.Edit(lab))).code == 0


def ask_password_if_needed(lab: Lab, names: Sequence[str]) -> None:
    """Let sudo ask for a password now, if writing these names will need one.

    Do not ask if each name has an address of the pool and the lab's block has no other name: then there is probably
    nothing to write. Continue without the password if the user does not give it.
    """
    if sudo.can_prompt() and _needs_change(lab, names) and not can_change(lab.hosts_file, lab.name):
        ask_password(lab)


def ask_password(lab: Lab) -> bool:
    """Let sudo ask for the password, which it then remembers for a while; return whether labctl may write the file."""
    line = hosts_file.root_command("check", lab.hosts_file, hosts_file.Edit(lab.name))
    return sudo.can_prompt() and sudo.prompt_and_run(line, lab.hosts_file)


def _needs_change(lab: Lab, names: Sequence[str]) -> bool:
    """Return whether there is probably something to write. A file that is damaged or cannot be read is not written."""
    try:
        known, stale = _first_addresses(hosts_file.read(lab.hosts_file)), stale_names(lab.hosts_file, lab.name, names)
    except HostsError:
        return False
    pool = {str(address) for address in lab.pool}
    return bool(stale) or any(known.get(name) not in pool for name in names)


def _block(path: Path, lab: str) -> tuple[str, ...]:
    return (f"# BEGIN labctl {lab}", *(hosts_file.show(path, lab) or ()), f"# END labctl {lab}")


def _first_addresses(content: bytes) -> dict[str, str]:
    """Return the address of each name in a hosts file: that of the first line with the name."""
    known: dict[str, str] = {}
    for entry in hosts_file.entries(content):
        address = parse_address(entry.address)
        for name in entry.names if isinstance(address, IPv4Address) else ():
            known.setdefault(name, str(address))
    return known
