"""Checks of the programs that a lab needs."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.bundle.build.debian import KEYRING
from labctl.bundle.download import ways
from labctl.context import Context
from labctl.doctor.engines import engine_version
from labctl.doctor.finding import Finding, State, broken, not_relevant, ok
from labctl.doctor.packages import Installation, installation
from labctl.host import docker_engine
from labctl.host.machine import Machine
from labctl.host.parsing import last_line, parse_version, version_text
from labctl.host.processor import architecture

FOR_ISOLATION = ("dockerd", "containerd", "ip", "iptables", "nsenter")
FOR_BUILDING = ("mmdebstrap", "debian-archive-keyring")
FILES = {"debian-archive-keyring": KEYRING}
"""Requirements that are files, not programs."""
COMPANIONS = {"mmdebstrap": "newuidmap"}
"""The program that another one starts if it does not run as root."""


def needed_programs(context: Context, machine: Machine) -> tuple[str, ...]:
    """Return the programs that `up` requires for this lab."""
    return (
        *context.hypervisor.programs,
        *(FOR_ISOLATION if context.isolated else ()),
        *_for_bundle(context, machine),
    )


def programs_for_download(machine: Machine) -> tuple[str, ...]:
    """Return the programs that build a node's system; none if the Docker Engine builds it."""
    way = ways.choose(
        has_mmdebstrap=not missing_programs(FOR_BUILDING, machine),
        has_apt=machine.has("apt-get"),
        has_engine=lambda: _has_engine(machine),
    )
    return () if way is ways.ENGINE else FOR_BUILDING


def missing_programs(programs: Sequence[str], machine: Machine) -> tuple[str, ...]:
    """Return the programs and files that this machine lacks, with those that they start if the user is not root."""
    companions = [COMPANIONS[program] for program in programs if program in COMPANIONS and not machine.is_root]
    return tuple(each for each in (*programs, *companions) if not _is_installed(each, machine))


def check_installed(programs: Sequence[str], machine: Machine) -> Finding:
    """Check that the programs are installed; the fix has the commands that install all missing ones."""
    absent = missing_programs(programs, machine)
    if not absent:
        return ok(", ".join(programs))
    return broken(
        f"not on this machine: {', '.join(absent)}",
        _fix(installation(absent, machine), uses_engine="mmdebstrap" in absent and not machine.has("apt-get")),
    )


def check_tools(context: Context, machine: Machine) -> Finding:
    """Check that every program that `up` starts is on PATH."""
    programs = needed_programs(context, machine)
    finding = check_installed(programs, machine)
    if finding.state is State.BROKEN or context.has_bundle or set(FOR_BUILDING) <= set(programs):
        return finding
    return ok(f"{finding.observation}; mmdebstrap is not installed, so a download makes the nodes' system in Docker")


def check_provider(context: Context, machine: Machine) -> Finding:
    """Check that this machine can boot nodes of the provider, and say why labctl chose it."""
    obstacle = context.provider.check(machine)
    reason = f"; {context.reasons.provider}" if context.reasons.provider else ""
    if obstacle is None:
        return ok(f"{context.hypervisor.name} can run the nodes{reason}")
    if obstacle.see:
        return not_relevant(f"{obstacle.text}; see `{obstacle.see}`{reason}")
    return broken(f"{obstacle.text}{reason}", obstacle.fix)


def check_vagrant(context: Context, machine: Machine) -> Finding:
    """Check that Vagrant starts and prints its version."""
    result = machine.run("vagrant", "--version")
    if result is None:
        return not_relevant("vagrant is not installed; see `tools`")
    installed = parse_version(r"Vagrant (\d+(?:\.\d+)+)", result.out)
    if not installed:
        return broken(f"`vagrant --version` failed: {last_line(result.last_lines)}", "Install Vagrant again.")
    engine = engine_version(context, machine) if context.hypervisor.are_containers else ()
    return ok(f"Vagrant {version_text(installed)}" + (f" with Docker Engine {version_text(engine)}" if engine else ""))


def check_rights_to_isolate(_context: Context, machine: Machine) -> Finding:
    """Check that the user may create network namespaces."""
    if machine.may_isolate:
        return ok("root on Linux")
    return broken(
        "only root on Linux can isolate a lab",
        '`sudo -H "$(command -v labctl)" up --isolated`; or start Docker, and run labctl without `--isolated`.',
    )


def _for_bundle(context: Context, machine: Machine) -> tuple[str, ...]:
    """Return the programs that make the lab's box or bundle, if it is missing."""
    if context.needs_box:
        return FOR_BUILDING
    return () if context.has_bundle else programs_for_download(machine)


def _has_engine(machine: Machine) -> bool:
    result = machine.run(*docker_engine.PLATFORM)
    return result is not None and result.code == 0 and result.out.strip() == f"linux/{architecture()}"


def _is_installed(program: str, machine: Machine) -> bool:
    file = FILES.get(program)
    return machine.has(program) if file is None else file.name in machine.names(file.parent)


def _fix(installation: Installation, *, uses_engine: bool) -> str:
    """Return the fix, with the commands: a single one within the sentence, several one per line.

    `uses_engine` tells that a download lacks mmdebstrap, and would use a Docker Engine if one answered.
    """
    steps = (
        [f"This system has no package of {', '.join(installation.without)}; install it by hand."]
        if installation.without
        else []
    )
    if uses_engine:
        steps += ["Without mmdebstrap, a download for nodes in containers needs a Docker Engine: start Docker."]
    if "mmdebstrap" in installation.without:
        steps += ["Or use a bundle that was made on another machine: `labctl up --bundle DIR`."]
    if len(installation.lines) == 1:
        steps += [f"Install: `{installation.lines[0]}`."]
    if installation.by_apt:
        steps += ["As root, `labctl up --yes` installs it."]
    if len(installation.lines) > 1:
        steps += ["Run:"]
    return "\n".join([" ".join(steps), *(installation.lines if len(installation.lines) > 1 else ())])
