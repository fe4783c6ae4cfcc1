"""Run a plan: lock, log, events, result and exit code."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from labctl import config
from labctl.bundle import Bundle, load
from labctl.bundle.build.build import recipe_id
from labctl.commands import bundles, endings, labs
from labctl.config import saved_lab
from labctl.context import Context
from labctl.host import lab_folder, locks, paths
from labctl.host.log import logging_to
from labctl.model.errors import UsageError
from labctl.model.events import NO_HOSTS, Emit, Event, HostsEntry, Progress, Result, Watching
from labctl.model.options import GlobalOptions
from labctl.model.reports import PlanReport
from labctl.plans import pulled_bundle
from labctl.plans.plan import Outcome, Plan, Step, StepProgress, execute
from labctl.transfer.reference import Reference

LOCK_SECONDS = 600.0


def run(
    options: GlobalOptions,
    context: Context,
    plan: Plan[Context],
    watching: Watching,
    reference: Reference | None = None,
    *,
    next_url: str = "",
) -> None:
    """Run the plan, each step in its network, and show the result. Raises SystemExit if it failed.

    The bundle of a `reference` is pulled before the first step. `next_url` is the app's that the user may want to
    request afterwards; by default, the first one's.
    """
    inside = tuple(step for step in plan if step.inside)
    skips_outside = context.isolated and context.isolation.is_entered()
    outside = () if skips_outside else tuple(step for step in plan if not step.inside)
    answering = context.lab.urls if any(step.name == "verify" for step in plan) else ()
    for step in plan:
        if step.ask and options.output == "text":
            step.ask(context)
    hosts = _initial_hosts_state(context, plan)
    with report_run(options, watching, context.log, answering, hosts, next_url=next_url) as emit:
        if not (outside or inside):
            raise UsageError(
                f"this shell runs in the network of the lab {context.lab.name}, which cannot be removed from inside",
                id="inside-lab",
                hint="Leave the shell that `labctl exec` started, with `exit`, and run the command again.",
            )
        paths.private_folder(context.folder)
        lock = locks.exclusive(context.folder / lab_folder.LOCK, StepProgress(plan[0].name, emit), timeout=LOCK_SECONDS)
        with lock, logging_to(context.log):
            context = pulled_bundle.pull(context, reference, emit) if reference else context
            execute(outside, context, emit)
            if inside:
                labs.enter(context)
                execute(inside, context, emit)


def run_up(
    options: GlobalOptions, context: Context, plan: Plan[Context], watching: Watching, reference: Reference | None
) -> None:
    """Run `up`, or a part of it, as `run` does.

    Raises MissingError `lab-not-found` if the lab does not exist yet and the first step depends on an earlier one.
    """
    _require_earlier_steps(context, plan, reference)
    run(options, context, plan, watching, reference)


def plan_up(context: Context, plan: Plan[Context], reference: Reference | None) -> PlanReport:
    """Return the steps of `up`, or of a part of it, if `up` can begin.

    Raises MissingError `lab-not-found` as `run_up` does, and for a bundle that is unsuitable or cannot be made. The
    bundle of a `reference` is not checked: it is yet to be pulled.
    """
    _require_earlier_steps(context, plan, reference)
    if reference is None:
        context.require_bundle_contents()
    return pulled_bundle.report(reference, plan)


def _require_earlier_steps(context: Context, plan: Plan[Context], reference: Reference | None) -> None:
    has_bundle = context.has_bundle or reference is not None
    labs.require_earlier_steps(context, plan[0].name, has_bundle=has_bundle)


def _initial_hosts_state(context: Context, plan: Plan[Context]) -> HostsEntry:
    """Return the state of the hosts file before the first step."""
    is_due = bool(context.lab.apps) and any(step.name == "hosts" for step in plan)
    return HostsEntry("pending") if is_due else NO_HOSTS


@contextmanager
def report_run(
    options: GlobalOptions,
    watching: Watching,
    log: Path,
    urls: tuple[str, ...] = (),
    hosts: HostsEntry = NO_HOSTS,
    *,
    next_url: str = "",
) -> Iterator[Emit]:
    """Show the emitted events and, even after a bug, the result. Raises SystemExit if the run failed.

    `hosts` is the state of the hosts file if no step reaches it.
    """
    started, changed = time.monotonic(), False
    with watching as watcher:

        def emit(event: Event) -> None:
            nonlocal changed, hosts  # a failed run keeps the changes of its earlier steps
            changed = changed or bool(event.changed)
            hosts = event.hosts or hosts
            watcher.emit(event)

        try:
            yield emit
        except (Exception, KeyboardInterrupt) as reason:
            error = endings.as_error(reason, log, lab=options.lab_name, verbose=options.verbosity > 0)
            watcher.result(Result(changed, time.monotonic() - started, hosts=hosts, error=error))
            raise SystemExit(error.exit_code) from reason
        seconds = time.monotonic() - started
        watcher.result(Result(changed, seconds, urls, hosts, lab=options.lab_name, next_url=next_url))


def build_bundle(options: GlobalOptions, watching: Watching, *, may_install: bool, with_machine_image: bool) -> Bundle:
    """Complete this labctl's bundle in the cache, as a run of one step, or of two with its machine image."""
    from labctl.plans.bundle_choice import build_boxes, build_bundle  # noqa: PLC0415 - few commands need the steps

    steps = [Step("bundle", "makes the bundle", build_bundle)]
    if with_machine_image:
        steps.append(Step("machine-image", "makes the boxes for virtual machines", build_boxes))
    own = paths.cache() / "bundles" / recipe_id()
    return run_in_cache(options, watching, tuple(steps), may_install=may_install, bundle=own).bundle


def download_bundle(options: GlobalOptions, watching: Watching, recipe: Path | None, *, may_install: bool) -> Bundle:
    """Complete the bundle of a recipe in the cache from upstream's releases, as a run of one step."""
    from labctl.plans.bundle_choice import download_bundle as download  # noqa: PLC0415 - few commands need the steps

    outcomes: list[Outcome] = []

    def noted(context: Context, report: Progress) -> Outcome:
        outcomes.append(download(recipe, context, report))
        return outcomes[-1]

    context = run_in_cache(options, watching, (Step("bundle", "downloads the bundle", noted),), may_install=may_install)
    return load(context.cache / "bundles" / outcomes[-1].text)


def remove_bundles(
    options: GlobalOptions, watching: Watching, names: Sequence[str], forget: Sequence[bundles.Forget] = ()
) -> None:
    """Remove the bundles with these ids, as a run of one step; `forget` removes what hypervisors keep of them."""

    def remove(context: Context, report: Progress) -> Outcome:
        for bundle in bundles.require_removable(names, context.cache):
            bundles.remove(bundle, context.cache, report, forget)
        return Outcome(changed=True, text=", ".join(names))

    run_in_cache(options, watching, (Step("bundle", "removes bundles", remove),))


def run_in_cache(
    options: GlobalOptions,
    watching: Watching,
    plan: Plan[Context],
    *,
    may_install: bool = False,
    bundle: Path | None = None,
) -> Context:
    """Run a plan on the cache, without a lab. Raises SystemExit if it failed.

    Only labctl.yaml's mirrors apply. Raises UsageError if the file cannot be read or has problems.
    """
    written = config.load(config.find(options.config_file), config.Overrides())
    lab = replace(config.from_values({}), mirrors=written.mirrors)
    context = Context(lab, saved_lab.folder_of(lab.name), paths.cache(), bundle, may_install=may_install)
    log = context.cache / lab_folder.LOG
    with report_run(options, watching, log) as emit:
        context.cache.mkdir(parents=True, exist_ok=True)
        with logging_to(log):
            execute(plan, context, emit)
    return context
