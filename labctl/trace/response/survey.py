"""Test every pod behind a rule: send requests on one connection until each pod has answered, or should have.

One connection stays with one pod of the ingress controller, which balances over all pods.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labctl.trace.probes import direct
from labctl.trace.probes.direct import PodResponse
from labctl.trace.probes.exchange import Connection, Exchange
from labctl.trace.problem import Evidence, ProblemError
from labctl.trace.response import answers, lost_routes
from labctl.trace.response.answers import AnsweredRequest, label
from labctl.trace.rules.annotations import NGINX
from labctl.trace.trail import Trail

ERRORS = range(500, 600)
LATE = "no answer in time"
SLOWER = 3
"""The time limit for a further request, as a multiple of the first one's time."""
UNEVEN = ("upstream-hash-by", "service-upstream")
"""Annotations that send one client's requests to one pod, or leave the choice to kube-proxy."""
NGINX_UNEVEN = {("affinity", "cookie"), ("load-balance", "ewma")}
"""Annotations that make ingress-nginx choose at random for a client without a cookie, such as labctl."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a request to one pod."""

    status: int | None
    failure: str = ""
    detail: str = ""
    """Details that differ between pods that fail in the same way."""

    @property
    def is_bad(self) -> bool:
        """Return whether a browser got an error, nothing, or an incomplete page."""
        return self.status is None or self.status in ERRORS or bool(self.failure)

    @property
    def rank(self) -> tuple[bool, int]:
        """The sort key, which puts the worst last."""
        return self.is_bad, self.status or 1000

    def __str__(self) -> str:
        parts = (f"HTTP {self.status}" if self.status else "", self.failure, self.detail)
        return ", ".join(filter(None, parts))


@dataclass
class Survey:
    """The outcome for each pod, and the other addresses that the controller tried."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """The worst outcome of each pod, by its name."""
    foreign_backends: set[str] = field(default_factory=set)
    """Addresses that the controller tried but that are not behind the rule."""
    healthy: dict[str, Outcome] = field(default_factory=dict)
    """A good outcome of each pod that served a request."""
    requests: int = 0
    is_limited: bool = False
    """Whether the controller began to answer itself, because of a rate limit."""
    refused: dict[str, Outcome] = field(default_factory=dict)
    """Pods that the controller reports as not answering."""
    missing: set[str] = field(default_factory=set)
    """Pods that got no request."""
    direct_responses: dict[str, PodResponse] = field(default_factory=dict)
    """The pods' responses when asked directly."""
    is_slow: bool = False
    """Whether some requests took as long as the controller waits for a pod that it does not reach, and others did not."""
    lost: ProblemError | None = None
    """Why packets between nodes are lost, so that some requests take as long as the controller waits for a pod."""

    @property
    def is_ended(self) -> bool:
        """Return whether further requests would show nothing more."""
        return self.is_limited or self.lost is not None

    def find_lost(self, trail: Trail, first: AnsweredRequest) -> None:
        """Find out, once, why packets are lost between the nodes."""
        if not trail.is_compared:
            self.lost = lost_routes.lost_between_pods(trail, first.record.controller_pod if first.record else "")

    def note(self, answered: AnsweredRequest, addresses: set[str]) -> None:
        """Record one request."""
        self.requests += 1
        exchange, record = answered.exchange, answered.record
        if answered.pod is not None and answered.is_maybe_own:
            self.refused[answered.pod] = outcome(answered)
        elif answered.pod is not None:
            result = outcome(answered)
            worst = max(result, self.outcomes.get(answered.pod, result), key=lambda each: each.rank)
            self.outcomes[answered.pod] = worst
            if not result.is_bad:
                self.healthy[answered.pod] = result
        elif record and record.server and record.server not in addresses:
            self.foreign_backends.add(record.upstream_address)
        elif record and not record.server and exchange.status is not None:
            self.is_limited = True

    def blame_missing(self) -> None:
        """Attribute late requests to pods that got none, if the log names pods that serve other requests.

        A controller that cannot reach a pod tries another one, and logs only the latter, even if the client has stopped
        waiting.
        """
        doubtful = {pod for pod in self.healthy if self.outcomes[pod].failure == LATE}
        if doubtful and self.missing:
            self.outcomes |= {pod: self.healthy[pod] for pod in doubtful}
            self.refused |= dict.fromkeys(self.missing, Outcome(None, LATE))


def outcome(answered: AnsweredRequest) -> Outcome:
    """Return a request's outcome, as a browser sees it."""
    exchange = answered.exchange
    if exchange.status is None:
        return Outcome(None, LATE if exchange.is_silent else exchange.failure)
    if not exchange.body.is_served:
        body = exchange.body
        return Outcome(exchange.status, f"the body is {body.state}", f"after {body.received} bytes")
    if answered.is_maybe_own:
        return Outcome(exchange.status, "reported by the ingress controller")
    return Outcome(exchange.status)


def limit(pods: int) -> int:
    """Return the maximum number of requests for so many pods."""
    return 2 * pods + 3


def survey(trail: Trail, first: AnsweredRequest) -> Survey:
    """Send requests until every pod has answered; ask the others directly, through the API server."""
    endpoints = answers.possible_endpoints(trail)
    addresses = {each["address"] for each in endpoints} | _allowed(trail)
    results, limits = Survey(), trail.limits
    results.note(first, addresses)
    wanted = {label(each) for each in endpoints}
    took = first.exchange.seconds.get("first_byte") or 0.0
    patience, least = max(limits.survey_answer, SLOWER * took), max(limits.survey_least, 1.2 * took)
    whole, trail = trail, trail.shortened(limits.survey_spare)
    times = [_took(first.exchange)]
    if max(times) >= limits.pod_connect:
        results.find_lost(whole, first)
    with trail.connection() as line:
        while (missing := wanted - results.outcomes.keys() - results.refused.keys()) and not results.is_ended:
            count = min(len(missing), limit(len(wanted)) - results.requests)
            batch, is_whole = _batch(line, trail, count, patience, least)
            if not is_whole:
                whole.unchecked.add("further requests")
            times += map(_took, batch)
            results.is_slow = max(times) >= limits.pod_connect > 2 * min(times)
            if results.is_slow:
                results.find_lost(whole, first)
            if results.lost:
                break
            logged = trail.search(*batch)
            for exchange in batch:
                results.note(answers.identified(trail, exchange, logged), addresses)
            if not batch or not is_whole:
                break
    results.missing = wanted - results.outcomes.keys() - results.refused.keys()
    results.blame_missing()
    if results.lost is None:
        _query_silent_pods(trail, whole.shortened(limits.survey_nodes), results, patience)
    return results


def _query_silent_pods(trail: Trail, longer: Trail, results: Survey, patience: float) -> None:
    """Ask the pods that did not answer directly, until the end of `longer`; start none after that of `trail`."""
    for each in answers.possible_endpoints(trail):
        if each["pod"] not in results.missing | results.refused.keys():
            continue
        if trail.left(patience) > trail.limits.survey_least:
            results.direct_responses[each["pod"]] = _query_directly(longer, each)
        else:
            trail.unchecked.add(f"how {each['pod']} answers when asked directly")


def _batch(line: Connection, trail: Trail, count: int, patience: float, least: float) -> tuple[list[Exchange], bool]:
    """Send up to `count` requests, until one is not answered; return also whether there was time for all of them.

    A request that was not answered within less than `patience` is left out.
    """
    batch: list[Exchange] = []
    while len(batch) < count:
        if (seconds := trail.left(patience)) <= least:
            return batch, False
        batch.append(line.ask(trail.path, seconds))
        if batch[-1].is_silent and seconds < patience:
            return batch[:-1], False
        if batch[-1].status is None:
            break
    return batch, True


def _took(exchange: Exchange) -> float:
    """Return the seconds until the response came."""
    return math.inf if exchange.is_silent else exchange.seconds.get("first_byte") or 0.0


def not_certain(trail: Trail) -> dict[str, str]:
    """Return the pods that are not certain to get a request, and why."""
    endpoints = answers.possible_endpoints(trail)
    requests = limit(len(endpoints)) - 1
    sides: Sequence[Mapping[str, Any]] = trail.evidence["pod"].get("sides") or ()
    is_random = trail.controller.name == NGINX
    result: dict[str, str] = {}
    for side in sides:
        sure = 0 if is_random else requests * side["weight"] // side["total"]
        if sure < 2 * len(side["pods"]) - 1:
            reason = f"{side['weight']} of {side['total']} requests go to the Service {side['service']}"
            result |= dict.fromkeys(map(label, side["pods"]), reason)
    notes = trail.match.notes if trail.match else {}
    if len(endpoints) > 1:
        names = [name for name in UNEVEN if notes.get(name) not in {None, "false"}]
        if is_random:
            names += [name for name, text in notes.items() if (name, text) in NGINX_UNEVEN]
        if names:
            result |= dict.fromkeys(map(label, endpoints), f"the Ingress has {names[0]}")
    return result


def _query_directly(trail: Trail, endpoint: Evidence) -> PodResponse:
    namespace = trail.evidence["pod"]["namespace"]
    seconds = trail.left(trail.limits.api_glance)
    return direct.query_pod(trail.cluster, namespace, endpoint["pod"], endpoint["port"], trail.path, seconds)


def _allowed(trail: Trail) -> set[str]:
    """Return what the controller may use besides pods: a Service's ClusterIP, or a name outside the cluster."""
    pods = trail.evidence["pod"]
    return {str(pods[name]) for name in ("cluster_ip", "external_name") if pods.get(name)}
