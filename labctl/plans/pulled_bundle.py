"""Pull the bundle that a lab boots from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from labctl.bundle import Bundle, load
from labctl.bundle.oci.references import find_pulled
from labctl.context import Context
from labctl.host.processor import architecture
from labctl.model.errors import MissingError
from labctl.model.events import Emit, Progress
from labctl.model.reports import PlanReport
from labctl.plans.plan import Outcome, Plan, Step, describe, execute
from labctl.transfer.reference import Reference


def pull_plan(reference: Reference | None, folders: list[Path] | None = None) -> Plan[Context]:
    """Return the plan to run before a lab's plan: pull the lab's bundle, if a reference names it.

    The step appends the bundle's folder to `folders`. A tag that moved does not change a lab's bundle: it is an error,
    whose hint names the command that accepts the new one.
    """
    if reference is None:
        return ()

    def receive(context: Context, report: Progress) -> Outcome:
        received = (
            _earlier_pull(reference, context.cache)
            if context.policy.offline
            else _pull_from_registry(reference, context, report)
        )
        if folders is not None:
            folders.append(received.bundle.folder)
        return Outcome(received.changed, "; ".join(filter(None, (received.bundle.id, received.note))))

    return (Step("pull", "pulls the bundle from a registry, unless it is in the cache", receive),)


def report(reference: Reference | None, plan: Plan[Context]) -> PlanReport:
    """Return the steps of a lab's plan, including the pull before it."""
    return PlanReport(version=1, steps=describe((*pull_plan(reference), *plan)))


def pull(context: Context, reference: Reference, emit: Emit) -> Context:
    """Pull the bundle; return the context of the lab with it."""
    folders: list[Path] = []
    execute(pull_plan(reference, folders), context, emit)
    return replace(context, bundle_folder=folders[0])


@dataclass(frozen=True, slots=True)
class _PullResult:
    """The bundle, whether the cache lacked any of it, and what the user should know."""

    bundle: Bundle
    changed: bool = False
    note: str = ""


def _pull_from_registry(reference: Reference, context: Context, report: Progress) -> _PullResult:
    from labctl.bundle.oci import pull  # noqa: PLC0415 - as the next one
    from labctl.transfer.registry import Registry  # noqa: PLC0415 - urllib3 takes 30 ms, and few plans use the network

    registry = Registry(context.mirrors, report)
    options = {"may_move": False, "needs_registry": False}
    arrived = pull.pull(reference, registry, architecture(), context.cache, report, **options)
    return _PullResult(arrived.bundle, arrived.changed, arrived.note)


def _earlier_pull(reference: Reference, cache: Path) -> _PullResult:
    """Return the bundle of an earlier pull. Raises MissingError `bundle-not-pulled`."""
    known = find_pulled(reference, cache)
    if known is None:
        raise MissingError(
            f"{reference} was not pulled into {cache} yet",
            id="bundle-not-pulled",
            hint="Leave `--offline` out, or run `labctl bundle import FILE` and name the folder of that bundle.",
        )
    return _PullResult(load(known.folder(cache)))
