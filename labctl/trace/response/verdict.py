"""Judge the responses of all pods together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from labctl.model.reports import HopState
from labctl.trace.node import node_facts
from labctl.trace.node.attempt import node_command
from labctl.trace.probes import direct
from labctl.trace.probes.direct import ANSWERED
from labctl.trace.problem import BROKEN, UNKNOWN, WARNING, Evidence, ProblemError, kubectl
from labctl.trace.response import answers, refusals
from labctl.trace.response.answers import AnsweredRequest
from labctl.trace.response.survey import ERRORS, Outcome, Survey, limit, not_certain, outcome, survey
from labctl.trace.trail import Trail

PASSED_ON = range(200, 499)
"""Statuses in the controller's log of a response that it received; with 499, the client stopped waiting before that."""

__all__ = ["body_incomplete", "outcome", "require_served"]


def require_served(trail: Trail, first: AnsweredRequest, evidence: Evidence) -> None:
    """Check that every pod serves the request, and that all answer alike. Raises ProblemError."""
    results = survey(trail, first)
    evidence["pods"] = [_shown(pod, each) for pod, each in {**results.outcomes, **results.refused}.items()]
    evidence["requests"] = results.requests
    if results.lost:
        text = f"some requests are answered only after the ingress controller tried another pod; {results.lost.text}"
        raise results.lost.within(text, evidence)
    if results.foreign_backends:
        raise _foreign_backends(trail, results, evidence)
    if first.pod is None and not first.is_the_apps:  # an endpoint without a pod, a ClusterIP, another host
        raise refusals.unanswered(trail, first, None, evidence)
    outcomes = {**results.outcomes, **results.refused, **_failed_directly(results)}
    if any(each.failure for each in results.outcomes.values()) and (
        problem := _small_mtu(trail, results.outcomes, evidence)
    ):
        raise problem
    kinds = {(each.status, each.failure) for each in outcomes.values()}
    if len(kinds) > 1:
        raise _differ(trail, outcomes, results, evidence)
    bad = {pod: each for pod, each in outcomes.items() if each.is_bad}
    if bad or outcome(first).is_bad:
        raise _all_bad(trail, first, results, bad, evidence)
    if direct.is_tls(first.status, first.exchange.body.beginning.decode(errors="replace")):
        raise refusals.speaks_tls(trail, f"{first.pod or 'the app'} speaks TLS, but got an HTTP request", evidence)
    _require_reached(trail, results, evidence)


def body_incomplete(trail: Trail, bad: Mapping[str, Outcome], evidence: Evidence) -> ProblemError:
    """Return the problem that a response was not complete."""
    details = ", ".join(f"{pod}: {each}" for pod, each in bad.items())
    if problem := _small_mtu(trail, bad, evidence):
        return problem
    evidence["mtus"] = way = node_facts.mtus(trail)
    sizes = ", ".join(f"{each['where']} {each['interface']} {each['mtu']}" for each in way)
    text = f"the response was not complete: {details}; MTUs on the path: {sizes or 'unknown'}"
    return refusals.app_problem(trail, "body-incomplete", text, evidence, bad)


def _small_mtu(trail: Trail, outcomes: Mapping[str, Outcome], evidence: Evidence) -> ProblemError | None:
    """Return the problem that a node on the path loses large packets, so that responses stop; None if there is none."""
    nodes = {trail.announcing, *(each["node"] for each in answers.possible_endpoints(trail))} - {None}
    narrow = node_facts.node_with_smaller_mtu(trail, {str(each) for each in nodes})
    if narrow is None:
        return None
    node, device, mtu, own = narrow
    details = ", ".join(f"{pod}: {each}" for pod, each in outcomes.items())
    return ProblemError(
        "body-incomplete",
        f"the response was not complete: {details}; {device} of {node.name} has an MTU of {mtu}, but the lab's network "
        f"has {own}: larger packets are lost",
        evidence,
        fix="Set the MTU of the interface to that of the lab's network.",
        commands=(node_command(trail, node, "ip", "link", "set", device, "mtu", str(own)),),
    )


def _shown(pod: str, result: Outcome) -> Evidence:
    return {"pod": pod, "status": result.status, **({"failure": result.failure} if result.failure else {})}


def _failed_directly(results: Survey) -> dict[str, Outcome]:
    """Return the pods that failed when asked directly."""
    return {
        pod: Outcome(word.status) if word.status else Outcome(None, word.kind, word.text)
        for pod, word in results.direct_responses.items()
        if word.is_failure or (word.kind == ANSWERED and word.status in ERRORS)
    }


def _foreign_backends(trail: Trail, results: Survey, evidence: Evidence) -> ProblemError:
    service = trail.evidence["pod"]["service"]
    return ProblemError(
        "answered-by-other-pod",
        f"the ingress controller sent a request to a pod that is not behind the Service {service}: "
        f"{', '.join(sorted(results.foreign_backends))}",
        evidence,
        fix=refusals.UNHEARD,
        commands=refusals.restart_commands(trail),
    )


def _differ(trail: Trail, outcomes: Mapping[str, Outcome], results: Survey, evidence: Evidence) -> ProblemError:
    bad = [pod for pod, each in outcomes.items() if each.is_bad] or list(outcomes)
    details = ", ".join(f"{pod}: {each}" for pod, each in outcomes.items())
    is_hidden = all(
        pod in results.direct_responses and results.direct_responses[pod].is_failure and pod not in results.refused
        for pod in bad
    )
    evidence["pods"] = [_shown(pod, each) for pod, each in outcomes.items()]
    hidden = "; the ingress controller retries on another pod" if is_hidden else ""
    text = f"{len(bad)} of {len(outcomes)} pods do not answer like the others: {details}{hidden}"
    state: HopState = WARNING if is_hidden else BROKEN
    if commands := _recreate_commands(trail, bad, outcomes):
        fix = "Other pods of the same workload are healthy. Delete this pod, so that it is recreated."
        return ProblemError("pods-differ", text, evidence, fix=fix, commands=commands, state=state)
    return refusals.app_problem(trail, "pods-differ", text, evidence, bad, state)


def _recreate_commands(trail: Trail, bad: Iterable[str], outcomes: Mapping[str, Outcome]) -> tuple[str, ...]:
    """Return the command that deletes pods, so that they are recreated, if others of their workloads are healthy."""
    namespace = trail.evidence["pod"]["namespace"]
    owners = {pod: _owner(trail, namespace, pod) for pod in outcomes}
    bad = set(bad)
    well = {owner for pod, owner in owners.items() if pod not in bad}
    names = sorted(pod for pod in bad if owners[pod] and owners[pod] in well)
    if len(names) < len(bad):
        return ()
    return (kubectl(trail.lab.name, "-n", namespace, "delete", "pod", *names),)


def _owner(trail: Trail, namespace: str, pod: str) -> str:
    current = trail.cluster.get("v1", "Pod", pod, namespace) or {"metadata": {}}
    return next((str(each.get("uid", "")) for each in current["metadata"].get("ownerReferences") or []), "")


def _all_bad(
    trail: Trail, first: AnsweredRequest, results: Survey, bad: Mapping[str, Outcome], evidence: Evidence
) -> ProblemError:
    """Return the problem that all pods fail in the same way."""
    status = first.status
    if bad and not outcome(first).is_bad:
        return _intermittent(trail, bad, evidence)
    if first.exchange.status is None:
        return _no_head(trail, first, bad, evidence)
    if not first.exchange.body.is_served:
        return body_incomplete(trail, bad, evidence)
    if first.is_maybe_own:
        word = results.direct_responses.get(first.pod or "")
        if word is None or word.kind != ANSWERED or word.status != status:
            return refusals.unanswered(trail, first, word, evidence)
    text = f"the app itself answers {status}: {', '.join(bad) or first.upstream_address}"
    return refusals.app_problem(trail, "app-answers-error", text, evidence, bad, WARNING)


def _intermittent(trail: Trail, bad: Mapping[str, Outcome], evidence: Evidence) -> ProblemError:
    """Return the problem that pods served one request and failed another."""
    details = ", ".join(f"{pod}: {each}" for pod, each in bad.items())
    worst = max(bad.values(), key=lambda each: each.rank)
    cause = "app-answers-error"
    if worst.failure:
        cause = "backend-too-slow" if worst.status is None else "body-incomplete"
    text = f"one request was served, but another one failed: {details}"
    return refusals.app_problem(trail, cause, text, evidence, bad)


def _no_head(trail: Trail, first: AnsweredRequest, bad: Mapping[str, Outcome], evidence: Evidence) -> ProblemError:
    """Return the problem that the controller forwarded the request, but the client got no response."""
    who = ", ".join(bad) or first.upstream_address
    has_passed = first.record is not None and first.record.status in PASSED_ON
    if has_passed or not first.exchange.is_silent:
        return body_incomplete(trail, bad, evidence)
    text = (
        f"{who} received the request but did not respond in time; the ingress controller tried {first.upstream_address}"
    )
    return refusals.app_problem(trail, "backend-too-slow", text, evidence, bad)


def _require_reached(trail: Trail, results: Survey, evidence: Evidence) -> None:
    """Check that every pod got a request, and is certain to get one each time. Raises ProblemError."""
    doubtful = not_certain(trail)
    limited = "the ingress controller limits the client's request rate"
    unreached = dict.fromkeys(sorted(results.missing), limited if results.is_limited else "it got none")
    if not doubtful and not unreached:
        return
    total = len(results.outcomes) + len(results.missing)
    details = "; ".join(f"{pod}: {why}" for pod, why in {**unreached, **doubtful}.items())
    fix = "The pods that got requests are healthy: there may be nothing to fix."
    is_slow = results.is_slow and bool(unreached)
    if is_slow:
        details += "; other requests took as long as the ingress controller waits for a pod that it does not reach"
        fix = "Trace again when this machine is less busy. If the problem remains, check the network between the nodes."
    if strange := refusals.non_pod_endpoints(trail):
        fix = "If nothing listens there, remove the address from its EndpointSlice."
    raise ProblemError(
        "pod-not-reached",
        f"some of {total} pods are not certain to get one of {limit(total)} requests: {details}{strange}",
        evidence,
        fix=fix,
        commands=(),
        state=WARNING if is_slow else UNKNOWN,
    )
