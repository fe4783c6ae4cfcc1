"""Pull the bundle that a lab boots from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from labctl.bundle import load
from labctl.bundle.oci.pull import Arrived
from labctl.bundle.oci.pull import pull as pull_bundle
from labctl.bundle.oci.references import pulled
from labctl.context import Context
from labctl.host.processor import architecture
from labctl.model.errors import MissingError
from labctl.model.events import Emit, Progress
from labctl.model.reports import PlanReport
from labctl.plans.plan import Outcome, Plan, Step, described, execute
from labctl.transfer.reference import Reference
from labctl.transfer.registry import Registry


def before(reference: Reference | None, folders: list[Path] | None = None) -> Plan[Context]:
    """Return what goes before the plan of a lab: to pull its bundle, if a reference names that.

    The step appends the bundle's folder to `folders`. A lab does not change its bundle because a tag moved: that is an
    error, which names what takes the new one.
    """
    if reference is None:
        return ()

    def receive(context: Context, report: Progress) -> Outcome:
        if context.making.offline:
            arrived = _kept(reference, context.cache)
        else:
            registry = Registry(context.mirrors, report)
            options = {"may_move": False, "needs_registry": False}
            arrived = pull_bundle(reference, registry, architecture(), context.cache, report, **options)
        if folders is not None:
            folders.append(arrived.bundle.folder)
        return Outcome(arrived.changed, "; ".join(filter(None, (arrived.bundle.id, arrived.note))))

    return (Step("pull", "pulls the bundle from a registry, unless it is in the cache", receive),)


def report(reference: Reference | None, plan: Plan[Context]) -> PlanReport:
    """Return what a lab's plan would do, the pull before it included."""
    return PlanReport(version=1, steps=described((*before(reference), *plan)))


def pull(context: Context, reference: Reference, emit: Emit) -> Context:
    """Pull the bundle; return the context of the lab with it."""
    folders: list[Path] = []
    execute(before(reference, folders), context, emit)
    return replace(context, bundle_folder=folders[0])


def _kept(reference: Reference, cache: Path) -> Arrived:
    """Return the bundle as it was pulled before. Raises MissingError `bundle-not-pulled`."""
    known = pulled(reference, cache)
    if known is None:
        raise MissingError(
            f"{reference} was not pulled into {cache} yet",
            id="bundle-not-pulled",
            hint="Leave `--offline` out, or run `labctl bundle import FILE` and name the folder of that bundle.",
        )
    return Arrived(load(known.folder(cache)), known.digest)
