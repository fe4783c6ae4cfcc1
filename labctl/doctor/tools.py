"""The programs that a lab needs, and the versions of them that do not work."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.bundle.build.debian import KEYRING
from labctl.context import Context
from labctl.doctor.engines import engine_version
from labctl.doctor.finding import Finding, broken, not_relevant, ok
from labctl.doctor.packages import Installation, installation
from labctl.host.machine import Machine
from labctl.host.parsing import dotted, last, version

FOR_ISOLATION = ("dockerd", "containerd", "ip", "iptables", "nsenter")
FOR_BUILDING = ("mmdebstrap", "debian-archive-keyring")
FILES = {"debian-archive-keyring": KEYRING}
"""What is no program, and needed like one."""
COMPANIONS = {"mmdebstrap": "newuidmap"}
"""What a program starts where it is not root's."""


def needed(context: Context) -> tuple[str, ...]:
    """Return the programs without which `up` of this lab cannot begin."""
    return (
        *context.hypervisor.programs,
        *(FOR_ISOLATION if context.isolated else ()),
        *(FOR_BUILDING if not context.has_bundle or context.lacks_box else ()),
    )


def missing(programs: Sequence[str], machine: Machine) -> tuple[str, ...]:
    """Return those of the programs and files that are not on this machine, and what they start where this is no root."""
    companions = [COMPANIONS[program] for program in programs if program in COMPANIONS and not machine.is_root]
    return tuple(each for each in (*programs, *companions) if not _is_there(each, machine))


def absence(programs: Sequence[str], machine: Machine) -> Finding:
    """Return whether the programs are there; where one is not, the commands that bring all that are missing."""
    absent = missing(programs, machine)
    if not absent:
        return ok(", ".join(programs))
    return broken(f"not on this machine: {', '.join(absent)}", _cure(installation(absent, machine)))


def look_at_tools(context: Context, machine: Machine) -> Finding:
    """Check that every program that `up` starts is on PATH."""
    return absence(needed(context), machine)


def look_at_provider(context: Context, machine: Machine) -> Finding:
    """Check that nodes of this provider can be booted on this machine; where labctl chose it, why."""
    obstacle = context.provider.check(machine)
    reason = f"; {context.reasons.provider}" if context.reasons.provider else ""
    if obstacle is None:
        return ok(f"{context.hypervisor.name} can run the nodes{reason}")
    if obstacle.see:
        return not_relevant(f"{obstacle.text}; see `{obstacle.see}`{reason}")
    return broken(f"{obstacle.text}{reason}", obstacle.fix)


def look_at_vagrant(context: Context, machine: Machine) -> Finding:
    """Check that Vagrant starts and tells its version."""
    said = machine.run("vagrant", "--version")
    if said is None:
        return not_relevant("there is no vagrant; see `tools`")
    installed = version(r"Vagrant (\d+(?:\.\d+)+)", said.out)
    if not installed:
        return broken(f"`vagrant --version` failed: {last(said.last_lines)}", "Install Vagrant again.")
    engine = engine_version(context, machine) if context.hypervisor.are_containers else ()
    return ok(f"Vagrant {dotted(installed)}" + (f" with Docker Engine {dotted(engine)}" if engine else ""))


def look_at_rights_to_isolate(_context: Context, machine: Machine) -> Finding:
    """Check that the user may create network namespaces."""
    if machine.may_isolate:
        return ok("root on Linux")
    return broken(
        "only root on Linux can have a network and a Docker Engine of its own",
        '`sudo -H "$(command -v labctl)" up --isolated`; or start Docker, and run labctl without `--isolated`.',
    )


def _is_there(program: str, machine: Machine) -> bool:
    file = FILES.get(program)
    return machine.has(program) if file is None else file.name in machine.names(file.parent)


def _cure(installation: Installation) -> str:
    """Return what to type: a line where one is enough, else one below the other."""
    steps = (
        [f"There is no package of {', '.join(installation.without)} for this system; install it by hand."]
        if installation.without
        else []
    )
    if "mmdebstrap" in installation.without:
        steps += ["A bundle made on another machine does without it: `labctl up --bundle DIR`."]
    if len(installation.lines) == 1:
        steps += [f"Install: `{installation.lines[0]}`."]
    if installation.by_apt:
        steps += ["As root, `labctl up --yes` does it for you."]
    if len(installation.lines) > 1:
        steps += ["Type:"]
    return "\n".join([" ".join(steps), *(installation.lines if len(installation.lines) > 1 else ())])
