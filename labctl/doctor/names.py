"""How the lab's hostnames are found: the hosts file, and what is asked before it or instead of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

from labctl.context import Context
from labctl.doctor.finding import Finding, broken, not_relevant, ok, warning
from labctl.host import hosts_entry, hosts_file, lab_folder, sudo
from labctl.host.machine import Machine
from labctl.host.parsing import ipv4_network
from labctl.model.lab import Lab

NSSWITCH = Path("/etc/nsswitch.conf")
NETWORK_SOURCES = ("dns", "mdns", "mdns4", "mdns6", "mdns_minimal", "mdns4_minimal", "mdns6_minimal", "wins")
"""What asks the network for a name. systemd's `resolve` reads the hosts file itself, first."""
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def look_at_hosts_file(context: Context, machine: Machine) -> Finding:
    """Check that this user can read the hosts file, and write it, alone or through sudo."""
    file = context.lab.hosts_file
    if machine.read(file) is None:
        fix = f"Make it a file that you may read: `ls -l {file}`; or set `hosts_file` to another file."
        return broken(f"{file}: this user cannot read it, or it does not exist", fix)
    if machine.may_write(file):
        return ok(f"{file} can be written")
    through_sudo = machine.run(
        *sudo.without_question(hosts_file.root_command("check", file, hosts_file.Edit(context.lab.name)))
    )
    if through_sudo is not None and through_sudo.code == 0:
        return ok(f"{file} can be written through sudo")
    why = "there is no sudo" if through_sudo is None else "; ".join(through_sudo.last_lines[-1:])
    return warning(
        f"{file}: this user may not write it, and sudo cannot do it without asking: {why}",
        "On a terminal, labctl asks for the password. Elsewhere `labctl up` brings the lab up and prints the lines to add.",
    )


def look_at_hosts_block(context: Context, machine: Machine) -> Finding:
    """Check that labctl's markers in the hosts file pair up."""
    file, lab = context.lab.hosts_file, context.lab.name
    text = machine.read(file)
    if text is None:
        return not_relevant(f"{file} cannot be read; see `hosts-file`")
    try:
        lines = hosts_file.block(text.encode(), lab)
    except hosts_file.DamagedMarkerError as error:
        fix = f"Open {file} in an editor and delete what is left of that block, from BEGIN to END."
        return broken(f"{file}, {error}", fix)
    if lines is not None and machine.read(context.folder / lab_folder.RECORD) is None:
        return warning(
            f"{file} has lines of a lab {lab}, which this user does not have: {'; '.join(lines)}",
            f"Unless it is another user's: `{hosts_entry.command_to_remove(file, lab)}`.",
        )
    return ok(f"{file} has no lines of {lab}" if lines is None else f"{file}: {'; '.join(lines)}")


def look_at_shadows(context: Context, machine: Machine) -> Finding:
    """Look for lines outside labs' blocks that give one of the lab's hostnames another address."""
    lab = context.lab
    shadows = [
        f"line {line.number} gives {', '.join(line.names)} the address {line.address}"
        for line in _lines_naming(machine.read(lab.hosts_file) or "", lab)
        if line.block is None and not _is_of_the_pool(line.address, lab)
    ]
    if shadows:
        return broken(
            f"{lab.hosts_file}: {'; '.join(shadows)}", f"Delete the name from there: `sudoedit {lab.hosts_file}`."
        )
    return ok(f"only the lab's own lines name {', '.join(app.hostname for app in lab.apps) or 'its apps'}")


def look_at_other_labs(context: Context, machine: Machine) -> Finding:
    """Look for one of the lab's hostnames in the block of another lab."""
    lab = context.lab
    lines = [
        line for line in _lines_naming(machine.read(lab.hosts_file) or "", lab) if line.block not in {None, lab.name}
    ]
    if not lines:
        return ok("no other lab has a hostname of this one")
    claims = "; ".join(f"line {line.number}: lab {line.block} has {', '.join(line.names)}" for line in lines)
    others = " or ".join(f"`labctl --name {name} destroy`" for name in dict.fromkeys(line.block for line in lines))
    return broken(
        f"{lab.hosts_file}, {claims}: a browser reaches only one of the labs",
        f"Give the app another `hostname` in labctl.yaml; or, if the other lab is no longer needed: {others}.",
    )


def look_at_name_order(_context: Context, machine: Machine) -> Finding:
    """Check that the resolver reads the hosts file before it asks the network."""
    text = machine.read(NSSWITCH)
    lines = list(re.finditer(r"^[ \t]*hosts:[ \t]*(.*?)[ \t]*(#.*)?$", text or "", re.MULTILINE))
    if not lines:
        return ok("this system reads the hosts file first")
    order = lines[-1]  # the last one counts
    sources = re.sub(r"\[[^]]*\]", " ", order[1]).split()
    setting = f"{NSSWITCH}: hosts: {order[1]}"
    fix = f"Write `files` first in the line `hosts:` of {NSSWITCH}."
    if "files" not in sources:
        return broken(f"{setting}: the hosts file is not listed", fix)
    before = [source for source in sources[: sources.index("files")] if source in NETWORK_SOURCES]
    if before:
        return broken(f"{setting}: {', '.join(before)} comes before the hosts file", fix)
    return ok(setting)


def look_at_local_names(context: Context, machine: Machine) -> Finding:
    """Check that no hostname is delayed by multicast DNS."""
    local = [app.hostname for app in context.lab.apps if app.hostname.endswith(".local")]
    if local and machine.platform == "darwin":
        return warning(
            f"{', '.join(local)}: macOS asks the network for names in .local first, and waits 5 s for an answer",
            f"Give the app a `hostname` that ends in .test, such as {local[0].removesuffix('.local')}.test.",
        )
    return ok(f"{', '.join(local)}: the hosts file comes before multicast DNS here" if local else "no name in .local")


def look_at_proxy(context: Context, machine: Machine) -> Finding:
    """Check that the user's own requests to the lab bypass the proxy, which cannot reach it."""
    environment = {name.casefold(): value for name, value in machine.environment.items()}
    proxies = [name.upper() for name in PROXIES if environment.get(name)]
    if not proxies:
        return ok("no proxy is set")
    exceptions = [word.strip() for word in environment.get("no_proxy", "").split(",") if word.strip()]
    lab = context.lab
    wanted = [str(lab.network), *(app.hostname for app in lab.apps)]  # what can be reached from outside the cluster
    uncovered = [name for name in wanted if not any(_covers(exception, name, lab) for exception in exceptions)]
    variables = f"{' and '.join(proxies)} set"
    if uncovered:
        added = ",".join(uncovered)
        return warning(
            f"{variables}; NO_PROXY of your own shell lacks {added}",
            f'For programs that labctl does not start: `export NO_PROXY="${{NO_PROXY:+$NO_PROXY,}}{added}"`, and the same '
            "in your browser's settings. `labctl exec`, `labctl open` and demos bypass the proxy already.",
        )
    return ok(f"{variables}; NO_PROXY covers the lab")


def _lines_naming(text: str, lab: Lab) -> Iterator[hosts_file.Entry]:
    """Yield the lines, outside the lab's own block, that name one of its hosts: without names of others."""
    names = {app.hostname for app in lab.apps}
    for entry in hosts_file.entries(text.encode()):
        if entry.block != lab.name and (shared := names.intersection(entry.names)):
            yield replace(entry, names=tuple(sorted(shared)))


def _is_of_the_pool(address: str, lab: Lab) -> bool:
    """Return whether it may be the lab's own address, which a user without write access adds by hand."""
    try:
        return IPv4Address(address) in lab.pool
    except ValueError:
        return False


def _covers(exception: str, name: str, lab: Lab) -> bool:
    """Return whether this exception, as curl and Go read it, keeps requests for a host or network from the proxy."""
    if exception == "*":
        return True
    if name == str(lab.network):
        exempt = ipv4_network(exception)
        return exempt is not None and lab.network.subnet_of(exempt)
    return f".{name}".endswith("." + exception.removeprefix("*").removeprefix(".").casefold())
