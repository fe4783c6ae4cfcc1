"""What must hold in a scene, looked at until it does or its time is up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from labctl.cluster import state
from labctl.context import Context
from labctl.demo import live
from labctl.demo.placeholders import Values, filled
from labctl.demo.script import (
    AddressExpected,
    AnnouncerExpected,
    GapExpected,
    HttpExpected,
    NodeExpected,
    Polled,
    SecondsExpected,
    host,
    is_service,
)
from labctl.host import http_probe
from labctl.host.http_probe import Answer
from labctl.host.wait import Pending, until
from labctl.model.errors import LabError, NotReadyError
from labctl.model.reports import ExpectationReport, LoadReport

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

Look = Callable[[], str | Pending]
"""What was measured, once it is what was expected; else what it is instead."""


@dataclass(frozen=True, slots=True)
class ExpectationContext:
    """Whom expectations ask, and what a scene's names stand for."""

    context: Context
    values: Values
    ask: Callable[[str], Answer] = http_probe.get
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def held(expected: Polled, eyes: ExpectationContext) -> ExpectationReport:
    """Whether what was expected was so within its time, and what was measured; it was looked at until it was so."""
    match expected:
        case HttpExpected():
            text, look = _http(expected, eyes)
        case AddressExpected():
            text, look = _address(expected, eyes)
        case AnnouncerExpected():
            text, look = _announcer(expected, eyes)
        case NodeExpected():
            text, look = _node(expected, eyes)
    return _polled(text, look, expected.within, eyes)


def gap(expected: GapExpected, load: LoadReport) -> ExpectationReport:
    """Whether the client was never without a good answer for longer than was expected."""
    text = f"http://{load['hostname']} is never without a good answer for more than {expected.gap:g} s"
    return _compared(text, load["gap"], expected.gap)


def seconds(expected: SecondsExpected, taken: float) -> ExpectationReport:
    """Whether the commands took no longer than was expected."""
    return _compared(f"the commands take at most {expected.seconds:g} s", taken, expected.seconds)


def needs_announcer(expected: object) -> bool:
    """Whether it can be told only by who announced the address when the scene began."""
    return isinstance(expected, AnnouncerExpected) and expected.announcer == "changed"


def _compared(text: str, measured: float, most: float) -> ExpectationReport:
    return {"text": text, "ok": measured <= most, "measured": f"{measured:.1f} s", "seconds": 0.0}


def _polled(text: str, look: Look, within: float, eyes: ExpectationContext) -> ExpectationReport:
    """The report of what was looked at. An answer that comes too late is none, but it is what was measured."""
    began, seen = eyes.clock(), ""

    def noticed() -> str | Pending:
        nonlocal seen
        found = _answered(look)
        seen = found.reason if isinstance(found, Pending) else found
        return found

    try:
        until(noticed, what=text, timeout=within, clock=eyes.clock, sleep=eyes.sleep)
        is_met = True
    except NotReadyError:
        is_met = False
    taken = eyes.clock() - began
    in_time = is_met and taken <= within
    measured = seen if in_time or not is_met else f"{seen}, but only after {taken:.1f} s"
    return {"text": f"{text} within {within:g} s", "ok": in_time, "measured": measured, "seconds": round(taken, 2)}


def _answered(look: Look) -> str | Pending:
    """Who cannot be asked just now, as an API server whose node is down, may be asked again."""
    try:
        return look()
    except LabError as error:
        return Pending(error.message)


def _http(expected: HttpExpected, eyes: ExpectationContext) -> tuple[str, Look]:
    url = filled(expected.http, eyes.values)
    look = partial(_status, eyes, host(url), expected.status)
    if expected.answered_by is None:
        return f"{url} answers {expected.status}", look
    pods: set[str] = set()
    count = expected.answered_by
    who = f"{count} different pods answer" if count > 1 else "a pod answers"
    text = f"{who} {expected.status} for {url}"
    return text, partial(_different, eyes, host(url), expected.status, expected.answered_by, pods)


def _status(eyes: ExpectationContext, hostname: str, status: int) -> str | Pending:
    answer = eyes.ask(hostname)
    told = f"{answer} from pod {answer.pod}" if answer.pod else str(answer)
    return told if answer.status == status else Pending(told)


def _different(eyes: ExpectationContext, hostname: str, status: int, wanted: int, pods: set[str]) -> str | Pending:
    """Keeps in `pods` who has answered; several are asked at a time, for nothing is waited for but their turn."""
    for _ in range(wanted):
        answer = eyes.ask(hostname)
        if answer.status != status:
            return Pending(str(answer))
        if answer.pod is None:
            return Pending(f"{answer}, which does not say from which pod")
        pods.add(answer.pod)
    told = f"{len(pods)} pod{'s' * (len(pods) != 1)}: {', '.join(sorted(pods))}"
    return told if len(pods) >= wanted else Pending(told)


def _address(expected: AddressExpected, eyes: ExpectationContext) -> tuple[str, Look]:
    service, owned = filled(expected.address, eyes.values), filled(expected.owned, eyes.values)
    cluster = eyes.context.cluster
    if owned == "none":
        return f"{service} has no address", partial(_no_address, cluster, service)
    if owned == "any":
        return f"{service} has an address", partial(_has, cluster, service, None)
    if is_service(owned):
        return f"{service} has the address of {owned}", partial(_shares, cluster, service, owned)
    return f"{service} has the address {owned}", partial(_has, cluster, service, owned)


def _found(cluster: Cluster, service: str) -> IPv4Address | Pending:
    namespace, name = service.split("/")
    return state.load_balancer_address(cluster, namespace, name)


def _has(cluster: Cluster, service: str, wanted: str | None) -> str | Pending:
    found = _found(cluster, service)
    if isinstance(found, Pending):
        return found
    return str(found) if wanted in {None, str(found)} else Pending(str(found))


def _shares(cluster: Cluster, service: str, other: str) -> str | Pending:
    found = _found(cluster, other)
    return Pending(f"{other}: {found.reason}") if isinstance(found, Pending) else _has(cluster, service, str(found))


def _no_address(cluster: Cluster, service: str) -> str | Pending:
    """MetalLB has said why there is none: one that it has not looked at yet does not have one either."""
    namespace, name = service.split("/")
    about = {"kind": "Service", "name": name}.items()
    told = any(about <= event["involvedObject"].items() for event in cluster.find("v1", "Event", namespace))
    found = _found(cluster, service)
    if not isinstance(found, Pending):
        return Pending(str(found))
    return found.reason if told else found


def _announcer(expected: AnnouncerExpected, eyes: ExpectationContext) -> tuple[str, Look]:
    if not needs_announcer(expected):
        wanted = filled(expected.announcer, eyes.values)
        return f"{wanted} announces the address", partial(_announces, eyes.context, lambda node: node == wanted)
    before = eyes.values["announcer"]
    text = f"another node than {before} announces the address"
    return text, partial(_announces, eyes.context, lambda node: node != before)


def _announces(context: Context, is_right: Callable[[str], bool]) -> str | Pending:
    node = live.announcer(context)
    if isinstance(node, Pending):
        return node
    return node if is_right(node) else Pending(node)


def _node(expected: NodeExpected, eyes: ExpectationContext) -> tuple[str, Look]:
    name = filled(expected.node, eyes.values)
    return (
        f"node {name} is {'Ready' if expected.ready else 'not Ready'}",
        partial(_readiness, eyes.context, name, ready=expected.ready),
    )


def _readiness(context: Context, name: str, *, ready: bool) -> str | Pending:
    names = {node.name.removeprefix(f"{context.lab.name}-"): node.name for node in context.lab.nodes}
    full_name = names.get(name, name)
    if full_name not in names.values():
        return Pending(f"the lab {context.lab.name} has no node {name}")
    reason = state.unready_nodes(context.cluster, context.lab).get(full_name)
    told = f"not Ready: {reason}" if reason else "Ready"
    return told if ready is (reason is None) else Pending(told)
