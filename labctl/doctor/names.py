"""Checks of how the lab's hostnames resolve: the hosts file, and what is queried before it or instead of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from labctl.context import Context
from labctl.doctor import name_lines
from labctl.doctor.finding import Finding, broken, not_relevant, ok, warning
from labctl.doctor.packages import as_root
from labctl.host import hosts_entry, hosts_file, lab_folder, nsswitch, proxies, sudo
from labctl.host.machine import Machine
from labctl.host.other_addresses import DOUBLED, SHADOWED
from labctl.model.sentences import clause

NSSWITCH = Path("/etc/nsswitch.conf")
NOT_READ = "hosts-file-not-read"
UNREADABLE = "hosts-file-unreadable"


def check_hosts_file(context: Context, machine: Machine) -> Finding:
    """Check that this user can read the hosts file, and write it, alone or through sudo."""
    file = context.lab.hosts_file
    if machine.read(file) is None:
        fix = f"Make it readable for your user: `ls -l {file}`; or set `hosts_file` to another file."
        return broken(f"{file}: this user cannot read it, or it does not exist", fix)
    if not hosts_file.is_world_readable(file):
        fix = f"Make it readable for everyone: `{as_root(machine)}chmod a+r {file}`."
        return warning(
            f"{file}: only its owner can read it, so programs of other users cannot resolve names", fix, UNREADABLE
        )
    if machine.may_write(file):
        return ok(f"{file} can be written")
    through_sudo = machine.run(
        *sudo.without_prompt(hosts_file.root_command("check", file, hosts_file.Edit(context.lab.name)))
    )
    if through_sudo is not None and through_sudo.code == 0:
        return ok(f"{file} can be written through sudo")
    why = "sudo is not installed" if through_sudo is None else "; ".join(through_sudo.last_lines[-1:])
    return warning(
        f"{file}: this user may not write it, and sudo cannot do it without asking: {why}",
        "On a terminal, labctl asks for the password. Elsewhere `labctl up` brings the lab up and prints the lines to add.",
    )


def check_hosts_block(context: Context, machine: Machine) -> Finding:
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
    if outdated := [line for line in name_lines.lab_lines(context, machine) if line.address not in context.lab.pool]:
        return warning(
            f"{file}: {'; '.join(line.text for line in outdated)}: outside of the pool {context.lab.pool}",
            f"Run `labctl --name {lab} hosts sync` to write the right address.",
            "hosts-entry-outdated",
        )
    if unnamed := name_lines.unresolved_hostnames(context, machine):
        return warning(
            f"the lab {lab} exists, but {clause(unnamed, 'does not', 'do not')} resolve to an address of {context.lab.pool}",
            f"Run `labctl --name {lab} hosts sync`.",
            "hosts-entry-missing",
        )
    return ok(f"{file} has no lines of {lab}" if lines is None else f"{file}: {'; '.join(lines)}")


def check_shadows(context: Context, machine: Machine) -> Finding:
    """Check that no line outside labs' blocks gives a hostname of the lab another address, which browsers may use."""
    lab = context.lab
    shadows = name_lines.lines_with_other_addresses(context, machine)
    if not shadows:
        return ok(f"only the lab's own lines name {', '.join(app.hostname for app in lab.apps) or 'its apps'}")
    observation = f"{lab.hosts_file}: {'; '.join(each.text for each in shadows)}"
    fix = f"Delete the name from there: `sudoedit {lab.hosts_file}`."
    if any(each.is_blocking for each in shadows):
        return broken(observation, fix, SHADOWED)
    return warning(observation, fix, DOUBLED)


def check_other_labs(context: Context, machine: Machine) -> Finding:
    """Check that no other lab's block has a hostname of this lab."""
    lab = context.lab
    names = {app.hostname for app in lab.apps}
    lines = [
        replace(line, names=tuple(sorted(shared)))
        for line in hosts_file.entries((machine.read(lab.hosts_file) or "").encode())
        if line.block not in {None, lab.name} and (shared := names.intersection(line.names))
    ]
    if not lines:
        return ok("no other lab has a hostname of this one")
    claims = "; ".join(f"line {line.number}: lab {line.block} has {', '.join(line.names)}" for line in lines)
    others = " or ".join(f"`labctl --name {name} destroy`" for name in dict.fromkeys(line.block for line in lines))
    observation = f"{lab.hosts_file}, {claims}: a browser reaches only one of the labs"
    fix = f"Give the app another `hostname` in labctl.yaml; or, if the other lab is no longer needed: {others}."
    return broken(observation, fix)


def check_name_order(context: Context, machine: Machine) -> Finding:
    """Check that the resolver reads the hosts file before it queries the network, and returns the file's addresses."""
    order = nsswitch.find_order(machine.read(NSSWITCH) or "")
    setting = f"{NSSWITCH}: {order.text}" if order else "this system reads the hosts file first"
    hostnames = [app.hostname for app in context.lab.apps]
    before, is_final = order.before_files(hostnames) if order else ((), False)
    fix = f"Write `files` first in the line `hosts:` of {NSSWITCH}."
    late = f"{clause(before, 'comes', 'come')} before the hosts file" if before else "the hosts file is not listed"
    is_first = before is not None and not before
    unread = name_lines.ignored_hostname(context, machine)
    if unread:
        why = f"; {late}" if not is_first else ""
        fix = (
            fix
            if not is_first or (order and not order.is_files_first)
            else f"Find out what answers: `getent ahosts {unread}`."
        )
        return broken(
            f"{setting}: the resolver does not return what {context.lab.hosts_file} has for {unread}{why}",
            fix,
            NOT_READ,
        )
    if is_first:
        return ok(setting)
    is_sure = unread is None and (before is None or is_final)
    return broken(f"{setting}: {late}", fix) if is_sure else warning(f"{setting}: {late}", fix)


def check_local_names(context: Context, machine: Machine) -> Finding:
    """Check that no hostname is delayed by multicast DNS."""
    local = [app.hostname for app in context.lab.apps if app.hostname.endswith(".local")]
    if local and machine.platform == "darwin":
        return warning(
            f"{', '.join(local)}: macOS queries the network for names in .local first, and waits 5 s for an answer",
            f"Give the app a `hostname` that ends in .test, such as {local[0].removesuffix('.local')}.test.",
        )
    return ok(f"{', '.join(local)}: the hosts file comes before multicast DNS here" if local else "no name in .local")


def check_proxy(context: Context, machine: Machine) -> Finding:
    """Check that the user's own requests to the lab bypass the proxy, which cannot reach it."""
    environment = machine.environment
    named = [name for name in proxies.ANY if environment.get(name)]
    if not named:
        return ok("no proxy is set")
    uncovered = proxies.not_exempted(context.lab, environment)
    variables = f"{' and '.join(named)} set"
    if uncovered:
        added = ",".join(uncovered)
        return warning(
            f"{variables}; NO_PROXY of your own shell lacks {added}",
            f'For programs that labctl does not start: `export NO_PROXY="${{NO_PROXY:+$NO_PROXY,}}{added}"`, and the same '
            "in your browser's settings. `labctl exec`, `labctl open` and demos bypass the proxy already.",
        )
    return ok(f"{variables}; NO_PROXY covers the lab")
