"""Why a name has no address, and what gives it one."""

from __future__ import annotations

import os
from ipaddress import IPv4Address
from pathlib import Path

from labctl.host import hosts_file
from labctl.model.errors import LabError
from labctl.model.reports import HopState
from labctl.trace.name import hosts_edits, nsswitch
from labctl.trace.probes.client import RESOLVE_SECONDS
from labctl.trace.problem import BROKEN, Evidence, ProblemError
from labctl.trace.trail import Trail

NAME_CACHE = Path("/run/nscd/socket")
"""Of nscd, which answers for the resolver, and on a machine with several networks for that of the machine."""


def absent(trail: Trail, wanted: IPv4Address | None, *, is_silent: bool) -> ProblemError:
    """Return why the name has no address, and the line that gives it one."""
    entry = f"{wanted} {trail.hostname}" if wanted else ""
    evidence: Evidence = {"address": None, "line": entry or None, "file": str(trail.hosts)}
    said = (
        f"the resolver did not answer in {RESOLVE_SECONDS:.0f} s" if is_silent else f"{trail.hostname} has no address"
    )
    if wanted and trail.client.hosts_line(trail.hostname, wanted):
        return unread(trail, said, evidence, is_silent=is_silent)
    file = trail.client.hosts
    if file.exists() and not os.access(file, os.R_OK):
        return unreadable(trail, f"{said}: this user may not read {trail.hosts}", evidence)
    if wanted and not hosts_edits.is_read(trail) and entry in _block(trail):
        return ProblemError(
            "hosts-file-not-read",
            f"{said}: labctl writes {trail.lab.hosts_file} (`hosts_file`), and this machine's resolver reads {file}",
            evidence,
            fix=f"Add the line `{entry}` to {trail.hosts}, or let the resolver read {trail.lab.hosts_file}.",
            commands=hosts_edits.append(trail, wanted),
        )
    other = "no other resolver answers" if is_silent else "no other resolver knows it"
    text = f"{said}: {trail.hosts} does not name {trail.hostname}, and {other}"
    if wanted is None:  # the next hop tells why there is no address
        return ProblemError("hosts-entry-missing", text, evidence)
    commands = hosts_edits.leading_to(trail, wanted)
    by = "`labctl hosts sync` adds" if hosts_edits.sync(trail) in commands else "Add"
    return ProblemError("hosts-entry-missing", text, evidence, fix=f"{by} the line `{entry}`.", commands=commands)


def unread(trail: Trail, said: str, evidence: Evidence, *, is_silent: bool = False) -> ProblemError:
    """Return why the resolver does not go by the hosts file, which has the right line."""
    file, sources = _nsswitch(trail), _order(trail)
    text = f"{said}, though {trail.hosts} has the right line"
    if sources and not sources.is_files_first:
        return ProblemError(
            "hosts-file-not-read",
            f"{text}: line {sources.number} of {file} does not have the hosts file asked first: {sources.text}",
            {**evidence, "nsswitch": {"file": str(file), "line": sources.number, "sources": list(sources.sources)}},
            fix=f"Write `files` first in line {sources.number} of {file}.",
            commands=files_first(trail),
        )
    if NAME_CACHE.exists():
        return ProblemError(
            "hosts-file-not-read",
            f"{text}: nscd answers, which remembers what it once read",
            evidence,
            fix="Let nscd read the file anew; for an isolated lab it has to be stopped: it knows the machine's file only.",
            commands=() if trail.context.isolated else (f"{hosts_edits.sudo(trail)}nscd -i hosts",),
        )
    if is_silent:
        fix = "What the resolver asks before the file does not answer: see /etc/nsswitch.conf and its services."
        return ProblemError("resolver-silent", text, evidence, fix=fix, commands=())
    fix = f"Find out what answers instead: `getent ahosts {trail.hostname}`."
    return ProblemError("hosts-file-not-read", text, evidence, fix=fix, commands=())


def files_first(trail: Trail) -> tuple[str, ...]:
    """Return the line that lets the resolver ask the hosts file first; none where it does, or another program says so.

    A link is such a program's: what it leads to is written anew.
    """
    file, sources = _nsswitch(trail), _order(trail)
    if sources is None or sources.is_files_first or file.is_symlink():
        return ()
    return hosts_edits.editing(trail, file, [sources.files_first])


def unreadable(trail: Trail, text: str, evidence: Evidence, state: HopState = BROKEN) -> ProblemError:
    """Return that the resolver of some users cannot read the hosts file."""
    command = f"{hosts_edits.sudo(trail)}chmod a+r {trail.hosts}"
    fix = f"Let everybody read {trail.hosts}: the resolver reads it as the user who asks."
    return ProblemError("hosts-file-unreadable", text, evidence, fix=fix, commands=(command,), state=state)


def _nsswitch(trail: Trail) -> Path:
    """Return the file as it is called outside the lab's network."""
    own = trail.hosts.with_name(trail.client.nsswitch.name)
    return own if trail.context.isolated and own.exists() else trail.client.nsswitch


def _order(trail: Trail) -> nsswitch.Order | None:
    try:
        return nsswitch.order(trail.client.nsswitch.read_text(encoding="utf-8", errors="replace"))
    except OSError:  # the resolver's own order counts
        return None


def _block(trail: Trail) -> tuple[str, ...]:
    try:
        return hosts_file.show(trail.lab.hosts_file, trail.lab.name) or ()
    except LabError:
        return ()
