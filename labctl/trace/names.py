"""The first hop: what the hostname stands for on this machine, and which line of which file says so."""

from __future__ import annotations

import re
import shlex
from ipaddress import IPv4Address

from labctl import hosts, hosts_entry
from labctl.errors import LabError
from labctl.trace.client import HostsLine
from labctl.trace.problem import WARNING, Evidence, ProblemError, labctl
from labctl.trace.trail import Trail
from labctl.web import Address

MILLI = 1000


def name(trail: Trail) -> Evidence:
    """The name leads to the ingress controller's address and nowhere else; this line of this file says so."""
    found, seconds = trail.client.resolve(trail.hostname)
    wanted = trail.controllers_address()
    if not _is_served(trail):
        raise _unserved(trail)
    if not found:
        raise _absent(trail, wanted)
    line = trail.client.hosts_line(trail.hostname, found[0])
    evidence: Evidence = {
        "address": str(found[0]),
        "source": _source(trail, line),
        "milliseconds": round(seconds * MILLI, 1),
    }
    if wanted is None or found == [wanted]:
        return evidence
    strangers = [each for each in found if each != wanted]
    if found[0] == wanted:
        raise _doubled(trail, strangers[0], evidence)
    raise _misled(trail, found[0], wanted, line, evidence)


def _is_served(trail: Trail) -> bool:
    """Whether the lab has the hostname; where nobody can say now, it may."""
    if trail.is_app:
        return True
    try:
        rules = trail.rules()
    except LabError:
        return True
    return bool(rules.served or rules.foreign or rules.canaries)


def _unserved(trail: Trail) -> ProblemError:
    lab = trail.lab
    known = ", ".join(app.hostname for app in lab.apps) or "none"
    return ProblemError(
        "hostname-not-served",
        f"neither an app nor an Ingress of the lab {lab.name} has the hostname {trail.hostname}; its apps have {known}",
        fix="That is this machine itself: ask for a hostname of the lab."
        if trail.hostname.rpartition(".")[2] == "localhost"
        else f"Give the lab an app with this hostname: `labctl app add NAME --host {trail.hostname}`.",
        commands=(),
    )


def _source(trail: Trail, line: HostsLine | None) -> str:
    if line is None:
        return "the system's resolver; no line of the hosts file says so"
    return f"{trail.hosts}, line {line.number}: {line.text}"


def _absent(trail: Trail, wanted: IPv4Address | None) -> ProblemError:
    """Return why the name has no address, and the line that gives it one."""
    own, read = trail.lab.hosts_file, trail.client.hosts
    entry = f"{wanted} {trail.hostname}" if wanted else ""
    evidence: Evidence = {"address": None, "line": entry or None, "file": str(trail.hosts)}
    if wanted and trail.client.hosts_line(trail.hostname, wanted):
        return ProblemError(
            "hosts-file-not-read",
            f"{trail.hostname} has no address, though {trail.hosts} has the line {entry}: the resolver does not read it",
            evidence,
            fix="Write `files` first in the line `hosts:` of /etc/nsswitch.conf.",
            commands=(),
        )
    if wanted and own != read and entry in _block(trail):
        return ProblemError(
            "hosts-file-not-read",
            f"{trail.hostname} has no address: labctl writes {own} (`hosts_file`), and this machine's resolver reads "
            f"{read}",
            evidence,
            fix=f"Add the line `{entry}` to {trail.hosts}, or let the resolver read {own}.",
            commands=_append(trail, wanted),
        )
    text = f"{trail.hostname} has no address: {trail.hosts} does not name it, and no other resolver knows it"
    if wanted is None:  # the next hop tells why there is no address
        return ProblemError("hosts-entry-missing", text, evidence)
    by = "`labctl hosts sync` adds" if trail.is_app and own == read else "Add"
    fix = f"{by} the line `{entry}` to {trail.hosts}."
    return ProblemError("hosts-entry-missing", text, evidence, fix=fix, commands=_write(trail, wanted))


def _misled(
    trail: Trail, found: Address, wanted: IPv4Address, line: HostsLine | None, evidence: Evidence
) -> ProblemError:
    right = f"the ingress controller has {wanted}"
    if line is None:
        fix, commands = f"A line `{wanted} {trail.hostname}` in {trail.hosts} comes before it.", _write(trail, wanted)
        return ProblemError(
            "name-resolves-elsewhere",
            f"the system's resolver says that {trail.hostname} is {found}; {right}",
            evidence,
            fix=fix,
            commands=commands,
        )
    where = f"{trail.hosts}, line {line.number}"
    if line.block == trail.lab.name:
        return ProblemError(
            "hosts-entry-outdated",
            f"{where}, in labctl's block, says {found}; {right}",
            evidence,
            fix="`labctl hosts sync` writes the right address.",
            commands=(_sync(trail),),
        )
    if line.block is not None:
        return _of_another_lab(trail, line, f"{where}, says {found}, and is lab {line.block}'s; {right}", evidence)
    return ProblemError(
        "hosts-entry-shadowed",
        f"{where}, says {found}, which comes before the address of labctl's own line; {right}",
        evidence,
        fix=f"Take the name {trail.hostname} out of line {line.number} of {trail.hosts}: {line.text}",
        commands=(_without(trail, line),),
    )


def _doubled(trail: Trail, other: Address, evidence: Evidence) -> ProblemError:
    line = trail.client.hosts_line(trail.hostname, other)
    where = f"{trail.hosts}, line {line.number}," if line else "the system's resolver"
    return ProblemError(
        "hosts-entry-doubled",
        f"{where} gives {trail.hostname} the address {other} as well; the right one comes first by luck",
        evidence,
        fix=f"Take the name out of that line: {line.text}" if line else "Remove it where the resolver has it from.",
        commands=(_without(trail, line),) if line and line.block is None else (),
        state=WARNING,
    )


def _of_another_lab(trail: Trail, line: HostsLine, text: str, evidence: Evidence) -> ProblemError:
    return ProblemError(
        "hosts-entry-of-another-lab",
        text,
        evidence,
        fix=f"Two labs cannot have one hostname: give an app of {trail.lab.name} or of {line.block} another `hostname`.",
        commands=(),
    )


def _block(trail: Trail) -> tuple[str, ...]:
    try:
        return hosts.show(trail.lab.hosts_file, trail.lab.name) or ()
    except LabError:
        return ()


def _write(trail: Trail, wanted: IPv4Address) -> tuple[str, ...]:
    if trail.is_app and trail.lab.hosts_file == trail.client.hosts:
        return (_sync(trail),)
    return _append(trail, wanted)


def _sync(trail: Trail) -> str:
    return labctl(trail.lab.name, "hosts", "sync")


def _append(trail: Trail, wanted: IPv4Address) -> tuple[str, ...]:
    content, sudo = trail.client.hosts_content(), "" if trail.client.is_root else "sudo "
    return hosts_entry.appending(trail.hosts, content, {trail.hostname: wanted}, sudo=sudo)


def _without(trail: Trail, line: HostsLine) -> str:
    """Return the command that takes the name out of the line, and leaves the line's other names."""
    name = re.escape(trail.hostname).replace(r"\-", "-")
    script = rf"{line.number}s/[[:space:]]\+{name}\([[:space:]]\|$\)/\1/I"
    sed = "sed -i" if trail.client.is_root else "sudo sed -i"
    return f"{sed} {shlex.quote(script)} {shlex.quote(str(trail.hosts))}"
