"""Find why a name has no address, and how to add one."""

from __future__ import annotations

import os
from ipaddress import IPv4Address
from pathlib import Path

from labctl.host import hosts_file, nsswitch
from labctl.host.resolver import RESOLVE_SECONDS
from labctl.model.errors import LabError
from labctl.model.reports import HopState
from labctl.trace.name import hosts_edits
from labctl.trace.problem import BROKEN, Evidence, ProblemError
from labctl.trace.trail import Trail

NAME_CACHE = Path("/run/nscd/socket")
"""The socket of nscd, which answers in every network namespace, but only from the machine's own hosts file."""


def absent_name(trail: Trail, wanted: IPv4Address | None, *, is_silent: bool) -> ProblemError:
    """Return why the name has no address, and the command that adds one."""
    entry = f"{wanted} {trail.hostname}" if wanted else ""
    evidence: Evidence = {"address": None, "line": entry or None, "file": str(trail.hosts)}
    said = (
        f"the resolver did not answer in {RESOLVE_SECONDS:.0f} s" if is_silent else f"{trail.hostname} has no address"
    )
    if wanted and trail.client.hosts_line(trail.hostname, wanted):
        return unread_hosts_file(trail, said, evidence, is_silent=is_silent)
    file = trail.client.hosts
    if file.exists() and not os.access(file, os.R_OK):
        return unreadable_hosts_file(trail, f"{said}: this user cannot read {trail.hosts}", evidence)
    if wanted and not hosts_edits.is_read(trail) and entry in _block(trail):
        return ProblemError(
            "hosts-file-not-read",
            f"{said}: labctl writes {trail.lab.hosts_file} (`hosts_file`), but this machine's resolver reads {file}",
            evidence,
            fix=f"Add the line `{entry}` to {trail.hosts}, or make the resolver read {trail.lab.hosts_file}.",
            commands=hosts_edits.append_command(trail, wanted),
        )
    other = "no other resolver answers" if is_silent else "no other resolver knows it"
    text = f"{said}: {trail.hosts} has no entry for {trail.hostname}, and {other}"
    if wanted is None:  # the next hop reports why there is no address
        return ProblemError("hosts-entry-missing", text, evidence)
    commands = hosts_edits.resolve_commands(trail, wanted)
    by = "Run `labctl hosts sync` to add" if hosts_edits.sync_command(trail) in commands else "Add"
    return ProblemError("hosts-entry-missing", text, evidence, fix=f"{by} the line `{entry}`.", commands=commands)


def unread_hosts_file(trail: Trail, said: str, evidence: Evidence, *, is_silent: bool = False) -> ProblemError:
    """Return why the resolver does not use the hosts file, which has the right entry."""
    file, sources = _nsswitch(trail), _order(trail)
    text = f"{said}, although {trail.hosts} has the right entry"
    if sources and not sources.is_files_first:
        return ProblemError(
            "hosts-file-not-read",
            f"{text}: line {sources.number} of {file} does not list the hosts file first: {sources.text}",
            {**evidence, "nsswitch": {"file": str(file), "line": sources.number, "sources": list(sources.sources)}},
            fix=f"Write `files` first in line {sources.number} of {file}.",
            commands=files_first_command(trail),
        )
    if NAME_CACHE.exists():
        return ProblemError(
            "hosts-file-not-read",
            f"{text}: nscd answers from its cache",
            evidence,
            fix="Make nscd read the file again. For an isolated lab, stop nscd: it only reads the machine's own file.",
            commands=() if trail.context.isolated else (f"{hosts_edits.sudo_prefix(trail)}nscd -i hosts",),
        )
    if is_silent:
        fix = "A source before the hosts file does not answer: check the `hosts` line of /etc/nsswitch.conf and its services."
        return ProblemError("resolver-silent", text, evidence, fix=fix, commands=())
    fix = f"Find out what answers instead: `getent ahosts {trail.hostname}`."
    return ProblemError("hosts-file-not-read", text, evidence, fix=fix, commands=())


def files_first_command(trail: Trail) -> tuple[str, ...]:
    """Return the command that puts the hosts file first; none if it is first, or another program manages nsswitch.conf.

    If nsswitch.conf is a symbolic link, such a program rewrites its target.
    """
    file, sources = _nsswitch(trail), _order(trail)
    if sources is None or sources.is_files_first or file.is_symlink():
        return ()
    return hosts_edits.sed_command(trail, file, [sources.files_first_expression])


def unreadable_hosts_file(trail: Trail, text: str, evidence: Evidence, state: HopState = BROKEN) -> ProblemError:
    """Return the problem that some users cannot read the hosts file."""
    command = f"{hosts_edits.sudo_prefix(trail)}chmod a+r {trail.hosts}"
    fix = f"Make {trail.hosts} readable for everyone: the resolver reads it as the calling user."
    return ProblemError("hosts-file-unreadable", text, evidence, fix=fix, commands=(command,), state=state)


def _nsswitch(trail: Trail) -> Path:
    """Return the path of nsswitch.conf outside the lab's network."""
    own = trail.hosts.with_name(trail.client.nsswitch.name)
    return own if trail.context.isolated and own.exists() else trail.client.nsswitch


def _order(trail: Trail) -> nsswitch.Order | None:
    try:
        return nsswitch.find_order(trail.client.nsswitch.read_text(encoding="utf-8", errors="replace"))
    except OSError:  # the resolver uses its default order
        return None


def _block(trail: Trail) -> tuple[str, ...]:
    try:
        return hosts_file.show(trail.lab.hosts_file, trail.lab.name) or ()
    except LabError:
        return ()
