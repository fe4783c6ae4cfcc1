"""From options to a context: which lab is meant, whether it is isolated, and how a plan for it is run and told of."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from labctl import config, ui
from labctl.bundle import Bundle
from labctl.commands import endings
from labctl.config import saved_lab
from labctl.context import Context
from labctl.host import caller, lab_folder, locks, paths
from labctl.host.docker_engine import engine_answers
from labctl.host.log import logging_to
from labctl.host.proxies import without_proxy
from labctl.isolation.isolation import Isolation
from labctl.model.errors import LabError, MissingError, UsageError
from labctl.model.events import NO_HOSTS, Emit, Event, HostsEntry
from labctl.model.lab import Node
from labctl.model.options import Output
from labctl.plans.plan import Plan, Step, StepProgress, execute

LOCK_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The options that every command has."""

    config_file: Path | None
    lab_name: str | None
    output: Output
    verbosity: int


def requested(
    session: GlobalOptions,
    overrides: config.Overrides,
    *,
    isolated: bool = False,
    bundle: Path | None = None,
    may_install: bool = False,
    to_boot: bool = False,
) -> Context:
    """The context of the lab that labctl.yaml and the options describe, which need not exist yet."""
    from labctl.doctor import preflight  # noqa: PLC0415 - the checks take 0.1 s to import, and a lab that was made needs none
    from labctl.plans.pool_choice import choose_pool  # noqa: PLC0415 - the same

    file, overrides = config.find(session.config_file), replace(overrides, name=session.lab_name)
    lab = config.load(file, overrides, to_boot=to_boot)
    folder, made = saved_lab.folder_of(lab.name), saved_lab.read(paths.state(lab.name))
    if made is not None and file is None:
        lab = config.load(None, overrides, saved_lab.values(made.lab), to_boot=to_boot)
    if made is not None:
        isolated = isolated or made.isolated
        lab = replace(lab, provider=made.lab.provider) if lab.provider == config.AUTO else lab
    elif not isolated:
        inside = Isolation(lab.name, lab.network, folder).is_entered()
        isolated = inside or (preflight.may_isolate() and not engine_answers())
    bundle = bundle or paths.named_bundle()
    if bundle is None and made is not None:
        bundle = made.bundle
    lab, reason = choose_pool(lab, made.lab if made else None, isolated=isolated)
    return Context(lab, folder, paths.cache(), bundle and bundle.absolute(), may_install, isolated, reason)


def named(session: GlobalOptions) -> str:
    """Return the name of the lab that is meant. It becomes a folder's: one that is given is checked as well.

    Raises UsageError where an option or labctl.yaml gives a name that none can have, or that cannot be read.
    """
    file = None if session.lab_name is not None else config.find(session.config_file)
    return config.name_of(file, session.lab_name)


def saved(session: GlobalOptions) -> Context:
    """The context of a lab as it was last brought up. Raises MissingError where there is none of that name.

    Of labctl.yaml nothing but the name matters, and of that nothing where there is an option.
    """
    name = named(session)
    made = saved_lab.read(saved_lab.folder_of(name))
    if made is None:
        raise MissingError(
            f"there is no lab {name}",
            id="lab-not-found",
            hint="`labctl up` makes it; `labctl list` shows those there are."
            + (" Those of the user who called sudo are seen without sudo." if caller.caller() else ""),
        )
    return Context(made.lab, paths.state(name), paths.cache(), made.bundle, isolated=made.isolated)


def removable(session: GlobalOptions) -> Context:
    """Return the context of an existing lab; of one whose record is damaged, what its name and its folder tell."""
    try:
        return saved(session)
    except MissingError as error:
        if error.id != saved_lab.DAMAGED:
            raise
    lab = config.from_values({"name": named(session)})
    folder = paths.state(lab.name)
    return Context(lab, folder, paths.cache(), isolated=saved_lab.has_own_engine(folder))


def known(session: GlobalOptions) -> Context:
    """Return the context of the lab as it was last brought up; else as it is configured; else by its name alone.

    It is for those who report on a lab, in whatever state it is. Raises UsageError as `named` does.
    """
    for read in (saved, partial(requested, overrides=config.Overrides())):
        try:
            return read(session)
        except LabError:
            continue
    lab = config.from_values({"name": named(session)})
    return Context(lab, paths.state(lab.name), paths.cache())


def known_or_default(session: GlobalOptions) -> Context:
    """Return the same; where nobody can say which lab is meant, the context of the default lab."""
    try:
        return known(session)
    except UsageError:
        lab = config.from_values({})
        return Context(lab, paths.state(lab.name), paths.cache())


def entered(session: GlobalOptions) -> Context:
    """The context of an existing lab; from here on, this process is in the lab's network."""
    context = saved(session)
    enter(context)
    return context


def entered_if_up(session: GlobalOptions) -> Context:
    """The same; but where the network of an isolated lab is gone, this process stays where it is."""
    context = saved(session)
    if context.isolation.exists():
        enter(context)
    return context


def known_and_entered(session: GlobalOptions) -> Context:
    """The same; from here on, this process is in the lab's network if there is one."""
    context = known(session)
    if context.isolation.exists():
        enter(context)
    return context


def enter(context: Context) -> None:
    """From here on, this process and what it starts is in the lab's network. Raises MissingError if there is none."""
    if not context.isolated:
        return
    if not context.isolation.exists():
        raise MissingError(
            f"the lab {context.lab.name} does not run: its network namespace is gone",
            id="lab-not-running",
            hint="`labctl up` brings it back.",
        )
    context.isolation.enter()


def replace_process(context: Context, line: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Become another program, in the lab's network. Raises MissingError if it, or the network, is not there."""
    program = shutil.which(line[0], path=environment.get("PATH"))
    if program is None:
        raise MissingError(f"there is no program {line[0]} on PATH", id="program-not-found")
    enter(context)
    sys.stdout.flush()
    os.execve(program, list(line), {**os.environ, **environment})  # noqa: S606 - no shell is the point


def run(session: GlobalOptions, context: Context, plan: Plan[Context]) -> None:
    """Carry out the plan, each step where it belongs, and tell how it ended. Raises SystemExit if it failed."""
    inside = tuple(step for step in plan if step.inside)
    skips_outside = context.isolated and context.isolation.is_entered()
    outside = () if skips_outside else tuple(step for step in plan if not step.inside)
    answering = context.lab.urls if any(step.name == "verify" for step in plan) else ()
    for step in plan:
        if step.ask and session.output == "text":
            step.ask(context)
    with reported(session, context.log, answering, _before(context, plan)) as tell:
        if not (outside or inside):
            raise UsageError(
                f"this is the network of the lab {context.lab.name}, which cannot be taken away from within",
                id="inside-lab",
                hint="Leave it first: `exit` ends what `labctl exec` began.",
            )
        paths.private_folder(context.folder)
        lock = locks.alone(context.folder / lab_folder.LOCK, StepProgress(plan[0].name, tell), timeout=LOCK_SECONDS)
        with lock, logging_to(context.log):
            execute(outside, context, tell)
            if inside:
                enter(context)
                execute(inside, context, tell)


def _before(context: Context, plan: Plan[Context]) -> HostsEntry:
    """How it stands with the hosts file before the first step."""
    is_due = bool(context.lab.apps) and any(step.name == "hosts" for step in plan)
    return HostsEntry("pending") if is_due else NO_HOSTS


@contextmanager
def reported(
    session: GlobalOptions, log: Path, urls: tuple[str, ...] = (), hosts: HostsEntry = NO_HOSTS
) -> Iterator[Emit]:
    """Show the events that are emitted and, last, how it ended. Raises SystemExit if it failed, also by a bug.

    `hosts` is how it stands with the hosts file if no step gets to it.
    """
    started, changed = time.monotonic(), False
    with ui.watcher(session.output, session.verbosity, sys.stdout, sys.stderr) as watch:

        def tell(event: Event) -> None:
            nonlocal changed, hosts  # a run that fails has changed what the steps before changed
            changed = changed or bool(event.changed)
            hosts = event.hosts or hosts
            watch(event)

        try:
            yield tell
        except (Exception, KeyboardInterrupt) as reason:
            error = endings.as_error(reason, log, lab=session.lab_name, verbose=session.verbosity > 0)
            watch.result(ui.Result(changed, time.monotonic() - started, hosts=hosts, error=error))
            raise SystemExit(error.exit_code) from reason
        watch.result(ui.Result(changed, time.monotonic() - started, urls, hosts, lab=session.lab_name))


def build_bundle(session: GlobalOptions, *, may_install: bool) -> Bundle:
    """Make the bundle of this labctl complete in the cache, reported as a run of one step."""
    from labctl.plans.up import build_bundle as step  # noqa: PLC0415 - few commands take steps

    lab = config.from_values({})
    context = Context(lab, saved_lab.folder_of(lab.name), paths.cache(), may_install=may_install)
    log = context.cache / lab_folder.LOG
    with reported(session, log) as tell:
        context.cache.mkdir(parents=True, exist_ok=True)
        with logging_to(log):
            execute((Step("bundle", "makes the bundle", step),), context, tell)
    return context.bundle


def confirm(question: str) -> None:
    """Return if the user agrees. Raises UsageError otherwise, and where there is nobody to ask."""
    if not ui.confirm(question, sys.stdin, sys.stderr):
        raise UsageError("not confirmed, nothing was done", id="not-confirmed", hint="`--yes` answers for you.")


def silent(_text: str) -> None:
    """The progress of what is too quick to have any."""


def node(context: Context, name: str) -> Node:
    """The lab's node of that name; the lab's own name before it may be left out."""
    for candidate in context.lab.nodes:
        if name in {candidate.name, candidate.name.removeprefix(f"{context.lab.name}-")}:
            return candidate
    names = ", ".join(candidate.name for candidate in context.lab.nodes)
    raise UsageError(f"the lab {context.lab.name} has no node {name}", id="node-unknown", hint=f"It has {names}.")


def environment(context: Context) -> dict[str, str]:
    """What a command that works with the lab finds in its environment."""
    programs = context.bundle.path("bin")
    return {
        **without_proxy(context.lab, os.environ),
        "KUBECONFIG": str(context.folder / lab_folder.KUBECONFIG),
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
