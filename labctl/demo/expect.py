"""The kinds of expectations: their keys in a demo's file, and how each is measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field, PlainValidator, SerializeAsAny

from labctl.cluster import state
from labctl.demo.names import SAMPLES, Part, Text, fill
from labctl.host.http_probe import ProbeResult
from labctl.host.wait import Pending, until
from labctl.model.demo_reports import ExpectationReport, SceneReport
from labctl.model.errors import LabError, NotReadyError

if TYPE_CHECKING:
    from labctl.context import Context

REQUESTS_PER_POD = 4
"""Enough to reach each of several pods, however requests are balanced."""
_OCTET = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_SERVICE = r"[a-z0-9.-]+/[a-z0-9.-]+"


def matching(pattern: str, description: str) -> AfterValidator:
    """Return a validator that requires texts to match the pattern once their names are filled in."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, fill(text, SAMPLES)):
            raise ValueError(f"must be {description}")
        return text

    return AfterValidator(check)


Url = Annotated[Text, matching(r"(http://)?[A-Za-z0-9.-]+/?", "http://HOSTNAME, without a port or a path")]
Service = Annotated[Text, matching(_SERVICE, "NAMESPACE/SERVICE")]
Owner = Annotated[
    Text,
    matching(rf"any|none|{_SERVICE}|{_OCTET}(\.{_OCTET}){{3}}", "an IPv4 address, NAMESPACE/SERVICE, any, or none"),
]
Seconds = Annotated[float, Field(ge=0, le=3600)]


@dataclass(frozen=True, slots=True)
class ExpectationContext:
    """The inputs for measuring an expectation."""

    context: Context
    report: SceneReport
    """The scene so far."""
    announcer: str
    """The node that announced the address when the scene began, if an expectation needs it."""
    ask: Callable[[str], ProbeResult]
    clock: Callable[[], float]
    sleep: Callable[[float], None]


class Polled(Part):
    """An expectation that is measured until it holds or its time limit is reached."""

    within: Seconds = 30.0

    def check(self, scene: ExpectationContext) -> ExpectationReport:
        """Measure until it holds. It fails if it holds only after `within` seconds."""
        text, began, measured = self._text(scene), scene.clock(), ""

        def look() -> str | Pending:
            nonlocal measured
            try:
                measurement = self._measure(scene)
            except LabError as error:  # such as an API server whose node is down
                measurement = Pending(error.message)
            measured = measurement.reason if isinstance(measurement, Pending) else measurement
            return measurement

        limit = self.within * scene.context.lab.slowness
        try:
            until(look, what=text, timeout=limit, clock=scene.clock, sleep=scene.sleep)
            holds = True
        except NotReadyError:
            holds = False
        seconds = scene.clock() - began
        if holds and seconds > limit:
            holds, measured = False, f"{measured}, but only after {seconds:.1f} s"
        return _report(f"{text} within {limit:g} s", measured, seconds, ok=holds)

    def _text(self, scene: ExpectationContext) -> str:
        """Return what is expected."""
        raise NotImplementedError

    def _measure(self, scene: ExpectationContext) -> str | Pending:
        """Return what was measured, as Pending if it is not what is expected. Raises LabError."""
        raise NotImplementedError


class Http(Polled):
    """A GET has this status; with `answered_by`, from this many different pods."""

    http: Url
    status: Annotated[int, Field(ge=100, le=599)] = 200
    answered_by: Annotated[int, Field(ge=1, le=50)] | None = None

    def _text(self, _scene: ExpectationContext) -> str:
        if self.answered_by is None:
            return f"{self.http} answers {self.status}"
        who = f"{self.answered_by} different pods answer" if self.answered_by > 1 else "a pod answers"
        return f"{who} {self.status} for {self.http}"

    def _measure(self, scene: ExpectationContext) -> str | Pending:
        pods: set[str] = set()
        wanted = self.answered_by or 0
        for _ in range(REQUESTS_PER_POD * wanted or 1):
            answer = scene.ask(self.http.removeprefix("http://").rstrip("/"))
            measured = f"{answer} from pod {answer.pod}" if answer.pod else str(answer)
            if answer.status != self.status or not wanted:
                return _pending_unless(measured, ok=answer.status == self.status)
            if answer.pod is None:
                return Pending(f"{answer}, which does not say from which pod")
            pods.add(answer.pod)
            if len(pods) == wanted:
                break
        measured = f"{len(pods)} pod{'s' * (len(pods) != 1)}: {', '.join(sorted(pods))}"
        return _pending_unless(measured, ok=len(pods) == wanted)


class Address(Polled):
    """A Service has an address: any, this one, that of another Service, or none."""

    address: Service
    owner: Owner = Field(default="any", alias="is")

    def _text(self, _scene: ExpectationContext) -> str:
        what = {"any": "an address", "none": "no address"}.get(self.owner)
        return f"{self.address} has {what or 'the address ' + 'of ' * ('/' in self.owner) + self.owner}"

    def _measure(self, scene: ExpectationContext) -> str | Pending:
        cluster = scene.context.cluster
        # MetalLB must have reported why there is no address: a Service that it has not seen yet has none either.
        is_refused = self.owner == "none" and state.has_event(cluster, *self.address.split("/"))
        held = state.load_balancer_address(cluster, *self.address.split("/"))
        wanted = state.load_balancer_address(cluster, *self.owner.split("/")) if "/" in self.owner else self.owner
        if isinstance(held, Pending):
            return held.reason if is_refused else held
        if isinstance(wanted, Pending):
            return Pending(f"{self.owner}: {wanted.reason}")
        return _pending_unless(str(held), ok=str(wanted) in {"any", str(held)})


class Announcer(Polled):
    """A node announces the ingress controller's address: this one, or another than before (`changed`)."""

    announcer: Text

    def _text(self, scene: ExpectationContext) -> str:
        who = f"another node than {scene.announcer}" if self.announcer == "changed" else self.announcer
        return f"{who} announces the address"

    def _measure(self, scene: ExpectationContext) -> str | Pending:
        controller = scene.context.controller
        node = state.announcer(scene.context.cluster, scene.context.lab, controller.namespace, controller.service)
        if isinstance(node, Pending):
            return node
        holds = node != scene.announcer if self.announcer == "changed" else node == self.announcer
        return _pending_unless(node, ok=holds)


class Node(Polled):
    """A node is Ready, or is not."""

    node: Text
    ready: bool = True

    def _text(self, _scene: ExpectationContext) -> str:
        return f"node {self.node} is {'Ready' if self.ready else 'not Ready'}"

    def _measure(self, scene: ExpectationContext) -> str | Pending:
        lab = scene.context.lab
        names = {name: node.name for node in lab.nodes for name in (node.name, node.name.removeprefix(f"{lab.name}-"))}
        if self.node not in names:
            return Pending(f"the lab {lab.name} has no node {self.node}")
        reason = state.unready_nodes(scene.context.cluster, lab).get(names[self.node])
        return _pending_unless(f"not Ready: {reason}" if reason else "Ready", ok=self.ready is (reason is None))


class Gap(Part):
    """The scene's traffic was never without a good answer for longer than this."""

    gap: Seconds

    def check(self, scene: ExpectationContext) -> ExpectationReport:
        """Compare with the longest gap."""
        load = scene.report["load"]
        hostname, measured = (load["hostname"], load["gap"]) if load else ("", 0.0)
        limit = self.gap * scene.context.lab.slowness
        text = f"http://{hostname} is never without a good answer for more than {limit:g} s"
        return _report(text, f"{measured:.1f} s", ok=measured <= limit)


class Duration(Part):
    """The scene's commands took no longer than this in total."""

    seconds: Seconds

    def check(self, scene: ExpectationContext) -> ExpectationReport:
        """Compare with the time that the commands took."""
        measured = sum(command["seconds"] for command in scene.report["commands"])
        limit = self.seconds * scene.context.lab.slowness
        text = f"the commands take at most {limit:g} s"
        return _report(text, f"{measured:.1f} s", ok=measured <= limit)


KINDS: Mapping[str, type[Polled | Gap | Duration]] = {
    "http": Http,
    "address": Address,
    "announcer": Announcer,
    "node": Node,
    "gap": Gap,
    "seconds": Duration,
}
"""Every kind, by the key that identifies it."""


def _parse_expectation(value: object) -> Polled | Gap | Duration:
    kinds = [kind for key, kind in KINDS.items() if isinstance(value, dict) and key in value]
    if not kinds:
        raise ValueError(f"must have one of the keys {', '.join(KINDS)}")
    return kinds[0].model_validate(value)


Expectation = Annotated[SerializeAsAny[Polled | Gap | Duration], PlainValidator(_parse_expectation)]


def _pending_unless(measured: str, *, ok: bool) -> str | Pending:
    return measured if ok else Pending(measured)


def _report(text: str, measured: str, seconds: float = 0.0, *, ok: bool) -> ExpectationReport:
    return {"text": text, "ok": ok, "measured": measured, "seconds": round(seconds, 2)}
