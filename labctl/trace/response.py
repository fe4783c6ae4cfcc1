"""The last hop: who answered the request, and whether a browser is served. Evidence decides, not the status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

from labctl.trace import backend, rules
from labctl.trace.access_log import LogSearch, Record
from labctl.trace.names import MILLI
from labctl.trace.problem import UNKNOWN, WARNING, Evidence, ProblemError, kubectl
from labctl.trace.rules import Match
from labctl.trace.trail import Trail
from labctl.web import HTTP, HTTPS, Exchange

REDIRECTS = range(300, 400)
ERRORS = range(500, 600)
REDIRECTING = ("force-ssl-redirect", "permanent-redirect", "temporal-redirect", "app-root", "from-to-www-redirect")
"""Annotations that make a controller redirect without asking the app."""
GATEWAY: Mapping[int, tuple[str, str]] = {
    502: ("backend-refused", "no pod took its connection"),
    504: ("backend-too-slow", "the pod did not answer in time"),
}
"""What a controller answers when whom it asked did not."""
OWN: Mapping[int, tuple[str, str]] = {
    **GATEWAY,
    404: ("controller-has-no-route", "it knows no rule for this name and path"),
    503: ("controller-has-no-backend", "it knows no pod behind the rule"),
}
"""What a controller answers where it asks nobody."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One request: what came back, what the controller's log says, and which pod answered, if that is known."""

    exchange: Exchange
    search: LogSearch
    pod: str | None

    @property
    def status(self) -> int:
        """What came back; 0 where nothing did."""
        return self.exchange.status or 0

    @property
    def record(self) -> Record | None:
        """The controller's line, if there is one."""
        return self.search.record

    @property
    def is_the_apps(self) -> bool:
        """Whether the app answered. A 502 or 504 is the controller's where no pod says that it is its own."""
        if self.exchange.pod or self.record is None:
            return self.pod is not None
        return bool(self.record.server) and self.status not in GATEWAY


def response(trail: Trail) -> Evidence:
    """The app answered, from pods that the rule leads to, and a redirect leads somewhere."""
    if not trail.seen.get("pod"):
        return _unowned(trail)
    first = _answered(trail, *trail.request())
    evidence = _evidence(trail, first)
    _require_controller(trail, first, evidence)
    if first.status in REDIRECTS and first.exchange.location:
        evidence["redirect"] = _followed(trail, first.exchange, evidence)
    if not first.is_the_apps:
        _refuse_own(trail, first, evidence)
        return evidence
    _survey(trail, first, evidence)
    return evidence


def _unowned(trail: Trail) -> Evidence:
    """Return what came while nobody can say whose pods there are: a pod's own word is enough."""
    exchange = trail.fetch()
    answered = Answered(exchange, LogSearch(None, is_complete=False), exchange.pod)
    evidence = _evidence(trail, answered)
    _require_controller(trail, answered, evidence)
    return evidence


def _answered(trail: Trail, exchange: Exchange, search: LogSearch) -> Answered:
    """Return who answered: as the answer itself says, or the controller's log, or the app's."""
    pods: Sequence[Evidence] = trail.seen["pod"]["pods"]
    namespace = trail.seen["pod"]["namespace"]
    names = [pod["pod"] for pod in pods]
    record = search.record
    if exchange.pod and (exchange.pod in names or trail.cluster.get("v1", "Pod", exchange.pod, namespace)):
        return Answered(exchange, search, exchange.pod)
    if record and record.server:
        found = next((pod["pod"] for pod in pods if pod["address"] == record.server), None)
        if found and exchange.status not in GATEWAY:
            return Answered(exchange, search, found)
    if exchange.status is None or (record and not record.server):
        return Answered(exchange, search, None)
    return Answered(exchange, search, backend.logged(trail.cluster, namespace, pods, exchange.mark))


def _evidence(trail: Trail, answered: Answered) -> Evidence:
    exchange, record = answered.exchange, answered.record
    timings = {part: None if each is None else round(each * MILLI, 1) for part, each in exchange.seconds.items()}
    return {
        "path": trail.path,
        "status": exchange.status,
        "taken_by": record.controller_pod if record else None,
        "asked": record.server or None if record else None,
        "answered_by": answered.pod,
        "redirect": None,
        "pods": [],
        "milliseconds": {"name": trail.seen["name"].get("milliseconds"), **timings},
        "way_back": f"{trail.address}:{HTTP} to {exchange.client}",
    }


def _require_controller(trail: Trail, answered: Answered, evidence: Evidence) -> None:
    """Return if the lab's controller or app has seen the request. Raises ProblemError."""
    if answered.exchange.status is None:
        raise ProblemError(
            "no-answer",
            f"no answer from {trail.address}: {answered.exchange.failure}",
            evidence,
            fix="See the ingress controller's log.",
            commands=(_controller_log(trail),),
        )
    if answered.record or answered.pod:
        return
    if not answered.search.is_complete:
        raise ProblemError(
            "answerer-unknown",
            f"HTTP {answered.status} came; from whom cannot be said, for the ingress controller's log cannot be read",
            evidence,
            fix="The nodes' kubelets serve the logs: `labctl status` says which of them is not well.",
            commands=(),
            state=UNKNOWN,
        )
    raise ProblemError(
        "answered-by-another",
        f"HTTP {answered.status} came from {trail.address}, and neither {trail.controller.name} nor the app has seen "
        "the request: something else answers at this address",
        evidence,
        fix="Find out who has the address; a proxy or a rule of a packet filter on this machine may answer for it.",
        commands=(f"ip neigh show {trail.address}",),
    )


def _refuse_own(trail: Trail, answered: Answered, evidence: Evidence) -> None:
    """Return for a redirect that leads somewhere; every other answer of the controller's own is none of the app's."""
    status, controller = answered.status, trail.controller.name
    if status in REDIRECTS:
        return
    if status == HTTPStatus.UNAUTHORIZED:
        raise ProblemError(
            "controller-asks-for-login",
            f"{controller} itself answers 401: the Ingress asks for a login, and the app was not asked",
            evidence,
            fix="Log in with a browser to see the app.",
            commands=(),
            state=UNKNOWN,
        )
    cause, why = OWN.get(status, ("controller-answers", "the app was not asked"))
    tried = f" after it asked {answered.record.server}" if answered.record and answered.record.server else ""
    raise ProblemError(
        cause,
        f"{controller} itself answers {status}{tried}: {why}",
        evidence,
        fix="See the ingress controller's log.",
        commands=(_controller_log(trail),),
    )


def _followed(trail: Trail, exchange: Exchange, evidence: Evidence) -> Evidence:
    """Return what is at the end of a redirect, one step on. Raises ProblemError where nobody answers there."""
    here = f"http://{trail.hostname}{trail.path}"
    location = exchange.location
    followed: Evidence = {"location": location, "status": None, "failure": ""}
    evidence["redirect"] = followed
    try:
        followed["location"] = location = urljoin(here, location)
        parts = urlsplit(location)
        host, tls = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (HTTPS if tls else HTTP)
    except ValueError as error:
        raise _leads_nowhere(trail, exchange, location, str(error), evidence) from error
    if parts.scheme not in {"http", "https"}:
        return {**followed, "failure": f"{parts.scheme}: not followed"}
    if host == trail.hostname:
        target = trail.address
    else:
        addresses, _ = trail.client.resolve(host)
        if not addresses:
            raise _leads_nowhere(trail, exchange, location, f"{host} has no address", evidence)
        if addresses[0] != trail.address:
            return {**followed, "failure": "not the lab's: not followed"}
        target = trail.address
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    there = trail.client.fetch(host, target, path, port, tls=tls)
    followed |= {"status": there.status, "failure": there.failure}
    if there.status is None:
        raise _leads_nowhere(trail, exchange, location, there.failure, evidence)
    return followed


def _leads_nowhere(trail: Trail, exchange: Exchange, location: str, failure: str, evidence: Evidence) -> ProblemError:
    text = f"HTTP {exchange.status} redirects to {location}, where nobody answers: {failure}"
    reasons, commands = ([], []) if evidence["answered_by"] or not trail.match else _redirected_by(trail, trail.match)
    if not reasons:
        fix = "Let the app redirect to where it is served."
        return ProblemError("redirect-leads-nowhere", text, evidence, fix=fix, commands=())
    said = " and ".join(reasons)
    return ProblemError(
        "redirect-leads-nowhere",
        f"{text}; the ingress controller redirects because of {said} in the Ingress {trail.seen['rule']['ingress']}",
        evidence,
        fix=f"Take {said} out of the Ingress: nobody serves what it redirects to.",
        commands=tuple(commands),
    )


def _redirected_by(trail: Trail, match: Match) -> tuple[list[str], list[str]]:
    """Return what in an Ingress makes its controller redirect, and the commands that take it out."""
    namespace, _, name = match.route.ingress.partition("/")
    found = trail.cluster.get(rules.API, "Ingress", name, namespace) or {"metadata": {}, "spec": {}}
    annotations = found["metadata"].get("annotations") or {}
    reasons, commands = [], []
    if found["spec"].get("tls"):
        reasons.append("`tls`")
        patch = '{"spec":{"tls":null}}'
        commands.append(kubectl(trail.lab.name, "-n", namespace, "patch", "ingress", name, "--type=merge", "-p", patch))
    for each in REDIRECTING:
        if rules.ANNOTATION + each in annotations:
            reasons.append(f"the annotation {each}")
            remove = f"{rules.ANNOTATION}{each}-"
            commands.append(kubectl(trail.lab.name, "-n", namespace, "annotate", "ingress", name, remove))
    return reasons, commands


def _survey(trail: Trail, first: Answered, evidence: Evidence) -> None:
    """Ask until every ready pod has answered, or should have. Raises ProblemError where they differ, or all fail."""
    ready = [pod["pod"] for pod in trail.seen["pod"]["pods"] if pod["pod"]]
    statuses = _statuses(trail, first, ready)
    evidence["pods"] = [{"pod": pod, "status": statuses.get(pod)} for pod in ready]
    bad = {pod: status for pod, status in statuses.items() if status in ERRORS}
    if bad and len(bad) < len(statuses):
        told = ", ".join(f"{pod} answers {status}" for pod, status in bad.items())
        raise ProblemError(
            "pods-differ",
            f"{len(bad)} of {len(statuses)} pods do not answer as the others do: {told}",
            evidence,
            fix="The pod's log says why.",
            commands=tuple(_pod_log(trail, pod) for pod in bad),
        )
    if bad or first.status in ERRORS:
        who = ", ".join(bad) or "the app"
        raise ProblemError(
            "app-answers-error",
            f"the app itself answers {first.status}: {who}",
            evidence,
            fix="The app's log says why.",
            commands=tuple(_pod_log(trail, pod) for pod in bad),
            state=WARNING,
        )
    if missing := [pod for pod in ready if pod not in statuses and not trail.seen["rule"]["split"]]:
        raise ProblemError(
            "pod-not-reached",
            f"{', '.join(missing)} got none of {2 * len(ready) + 3} requests: what it answers is not known",
            evidence,
            fix="Sticky sessions or weights may send all requests of one client to one pod.",
            commands=(),
            state=UNKNOWN,
        )


def _statuses(trail: Trail, first: Answered, ready: Sequence[str]) -> dict[str, int]:
    """Return what each pod answered, the worst of it; pods of a split are not asked for."""
    statuses: dict[str, int] = {first.pod: first.status} if first.pod else {}
    tries = 0 if trail.seen["rule"]["split"] else 2 * len(ready) + 2
    while tries and not set(ready) <= statuses.keys():
        tries -= 1
        exchange = trail.fetch()
        pod = exchange.pod if exchange.pod in ready else _answered(trail, exchange, trail.search(exchange)).pod
        if pod and exchange.status:
            statuses[pod] = max(exchange.status, statuses.get(pod, 0))
    return statuses


def _controller_log(trail: Trail) -> str:
    controller = trail.controller
    return kubectl(trail.lab.name, "-n", controller.namespace, "logs", f"deploy/{controller.deployment}", "--tail=50")


def _pod_log(trail: Trail, pod: str) -> str:
    namespace = trail.seen["pod"]["namespace"]
    return kubectl(trail.lab.name, "-n", namespace, "logs", pod, "--all-containers", "--tail=50")
