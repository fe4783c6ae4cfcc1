"""What happens to a request between the browser and the pod, hop by hop, each with evidence that was taken just now."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from labctl.context import Context
from labctl.errors import LabError, UsageError
from labctl.report import HopReport, TraceReport
from labctl.trace import hops
from labctl.trace.client import Client
from labctl.trace.hops import BrokenHopError, Hop, Trail

WATCH_SECONDS = 1.0
HOPS: tuple[tuple[str, Hop], ...] = (
    ("name", hops.name),
    ("address", hops.address),
    ("node", hops.node),
    ("rule", hops.rule),
    ("pod", hops.pod),
    ("response", hops.response),
)
"""In the order in which a request passes them."""


def follow(
    context: Context, hostname: str | None, client: Client, path: Sequence[tuple[str, Hop]] = HOPS
) -> TraceReport:
    """Follow a request for a hostname, the first app's where none is given, up to the first hop that is broken.

    Raises UsageError `no-app` where the lab has no app and no hostname is given.
    """
    trail = Trail(context.lab, context.controller, context.cluster, client, hostname or _first(context))
    reports: list[HopReport] = []
    for name, look in path:
        is_cut_off = any(report["state"] == "broken" for report in reports)
        reports.append(_not_reached(name) if is_cut_off else _looked_at(name, look, trail))
    return {"hostname": trail.hostname, "ok": all(report["state"] == "ok" for report in reports), "hops": reports}


def traces(context: Context, hostname: str | None, *, watch: bool) -> Iterator[TraceReport]:
    """One trace; or, to be watched, one after the other until nobody asks for more."""
    yield follow(context, hostname, Client())
    while watch:
        time.sleep(WATCH_SECONDS)
        yield follow(context, hostname, Client())


def _first(context: Context) -> str:
    if not context.lab.apps:
        raise UsageError(
            f"the lab {context.lab.name} has no app",
            id="no-app",
            hint="Name a hostname that one of its Ingresses serves: `labctl trace HOSTNAME`.",
        )
    return context.lab.apps[0].hostname


def _looked_at(name: str, look: Hop, trail: Trail) -> HopReport:
    try:
        evidence = look(trail)
    except BrokenHopError as broken:
        evidence = broken.evidence
        return {"hop": name, "state": "broken", "cause": broken.cause, "fix": broken.fix, "evidence": evidence}
    except LabError as error:
        # Nobody could be asked: the API does not answer, or the lab's keys do not fit.
        fix = error.hint or "`labctl status` says what runs; `labctl up` puts it right."
        return {"hop": name, "state": "broken", "cause": error.message, "fix": fix, "evidence": {}}
    trail.seen[name] = evidence
    return {"hop": name, "state": "ok", "cause": "", "fix": "", "evidence": evidence}


def _not_reached(name: str) -> HopReport:
    return {"hop": name, "state": "not reached", "cause": "", "fix": "", "evidence": {}}
