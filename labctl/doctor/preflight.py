"""The doctor's checks that `up` requires, and the installation of missing tools where it is allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labctl.context import Context
from labctl.doctor import CHECKS, Examined, State, conditions, examine, packages, repair
from labctl.doctor.tools import FOR_BUILDING, check_installed, missing_programs, needed_programs, programs_for_download
from labctl.host.machine import Machine
from labctl.host.process import Finished, check, run
from labctl.host.wait import Pending, until
from labctl.model.errors import MissingError
from labctl.model.events import Progress

__all__ = ["FOR_BUILDING", "may_isolate", "require", "require_download", "require_machine"]

SLOW_CHECKS = ("vagrant",)
"""Slow checks that run only before a bundle is built, which takes far longer."""
OF_NEW_LABS = ("libvirt-plugin",)
"""Slow checks that run only before a lab is created."""
OTHER_APT_SECONDS = 60
"""How long to wait for another apt, such as the one that runs after boot."""
_APT_LOCKED = "/var/lib/apt/lists/lock"
"""The file that apt's error names if another apt updates the lists, for which apt does not wait by itself."""


def require_machine(context: Context, report: Progress) -> bool:
    """Check that this machine can run the lab; return whether labctl changed the machine.

    With `--yes`, first install missing tools with apt, and apply safe repairs. Raises MissingError that lists every
    problem with its fix; its id is that of the only problem, else `machine-not-ready`.
    """
    machine = Machine()
    installed = context.may_install and _install(needed_programs(context, machine), machine, report)
    skipped = {*(SLOW_CHECKS if context.has_bundle else ()), *(OF_NEW_LABS if conditions.not_created(context) else ())}
    checks = [check for check in CHECKS if check.blocks_up and check.id not in skipped]
    # `--yes` allows repairs as well as installations.
    examined = (repair if context.may_install else examine)(context, machine, checks)
    problems = [each for each in examined if each.finding.state is State.BROKEN]
    if problems:
        raise _error(context, problems)
    return installed or any(each.fixed for each in examined)


def require_hostnames(context: Context) -> None:
    """Check that no other lab has a hostname of this one. Raises MissingError `hostname-taken`."""
    checks = [check for check in CHECKS if check.id == "hosts-other-labs"]
    problems = [each for each in examine(context, Machine(), checks) if each.finding.state is State.BROKEN]
    if problems:
        raise _error(context, problems)


def require(programs: Sequence[str], *, may_install: bool, report: Progress) -> bool:
    """Install missing programs where allowed; return whether one was installed. Raises MissingError `tools-missing`."""
    machine = Machine()
    installed = may_install and _install(programs, machine, report)
    finding = check_installed(programs, machine)
    if finding.state is State.BROKEN:
        raise MissingError(finding.observation, id="tools-missing", hint=finding.fix)
    return installed


def require_download(*, may_install: bool, report: Progress) -> bool:
    """Require the programs that a download starts, as `require` does."""
    return require(programs_for_download(Machine()), may_install=may_install, report=report)


def may_isolate() -> bool:
    """Return whether the user can have a lab with its own network and Engine."""
    return Machine().may_isolate


def _error(context: Context, problems: Sequence[Examined]) -> MissingError:
    if len(problems) == 1:
        (problem,) = problems
        finding = problem.finding
        return MissingError(finding.observation, id=finding.cause or problem.check.blocks_up, hint=finding.fix)
    lines = [
        f"\n  {each.finding.observation}" + "".join(f"\n    {line}" for line in each.finding.fix.splitlines())
        for each in problems
    ]
    return MissingError(
        f"this machine cannot run the lab {context.lab.name} yet: {len(problems)} problems{''.join(lines)}",
        id="machine-not-ready",
        hint="Apply the fix listed under each problem, and run labctl again. For details, run `labctl doctor`.",
    )


def _install(programs: Sequence[str], machine: Machine, report: Progress) -> bool:
    """Install missing programs if apt has packages of all of them and the user is root; return whether it did."""
    absent = missing_programs(programs, machine)
    if not absent or not machine.has("apt-get") or not machine.is_root:
        return False
    if packages.apt_has_lists(machine) and not packages.installation(absent, machine).by_apt:
        return False
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"}
    apt = ["apt-get", "-q", "-o", f"DPkg::Lock::Timeout={OTHER_APT_SECONDS}"]
    update = _update([*apt, "update"], quiet)
    installation = packages.installation(absent, machine)
    if not installation.by_apt:
        return False
    report(f"installing {' '.join(installation.packages)}")
    hint = "" if update.code == 0 else "`apt-get update` failed as well: " + " ".join(update.last_lines[-1:])
    check(
        [*apt, "install", "-y", "--no-install-recommends", *installation.packages],
        env=quiet,
        error=MissingError,
        hint=hint,
    )
    return True


def _update(line: Sequence[str], environment: Mapping[str, str]) -> Finished:
    """Update apt's lists once no other apt does so; return the finished process."""

    def updated() -> Finished | Pending:
        finished = run(line, env=environment)
        if any(_APT_LOCKED in line_text for line_text in finished.last_lines):
            return Pending(finished.last_lines[-1])
        return finished

    hint = "Wait until the other program has ended, and run labctl again."
    return until(updated, what="apt-get update", timeout=OTHER_APT_SECONDS, hint=hint)
