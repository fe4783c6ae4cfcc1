"""The hops inside the cluster: the rule that matches the request, and the pods behind it."""

from __future__ import annotations

from typing import Any

from labctl.trace import backend
from labctl.trace.pod import backend_service, cluster_dns, renewal
from labctl.trace.pod.backend_service import Place
from labctl.trace.probes.access_log import Record
from labctl.trace.problem import UNKNOWN, WARNING, Evidence, ProblemError
from labctl.trace.rule import rule_problems
from labctl.trace.rules import rules
from labctl.trace.rules.routes import Backend, Split
from labctl.trace.rules.rules import Match
from labctl.trace.trail import Trail

UNREADY = {"no-pod-ready", "pods-not-all-ready"}


def rule(trail: Trail) -> Evidence:
    """Check that a pod of the ingress controller is ready, and that a rule of an Ingress of its class matches the request."""
    controller = trail.controller
    pods = trail.controller_pods()
    ready = [backend.pod_evidence(each) for each in pods if backend.is_ready(each)]
    if not ready:
        reasons = backend.no_controller_reason(trail.cluster, controller)
        raise ProblemError(
            "controller-not-ready", f"no pod of the ingress controller {controller.name} is ready: {reasons}"
        )
    record = trail.record()
    trail.match = trail.rules().match(trail.path, record)
    if trail.match is not None:
        evidence = {**_described(trail, trail.match), "controller_pods": ready}
        if problem := rule_problems.doubtful_match(trail, trail.match, evidence):
            raise problem
        return evidence
    service = backend.find_service(trail.cluster, record.server) if record and record.server else None
    if service is None:
        raise rule_problems.unmatched(trail)
    raise ProblemError(
        "rule-not-found",
        f"{service.namespace}/{service.service} answered, but labctl cannot tell which rule matched",
        {"ingress": None, "backend": _shown(service), "split": None, "controller_pods": ready},
        fix="The request is answered: there is nothing to fix.",
        commands=(),
        state=UNKNOWN,
    )


def pod(trail: Trail) -> Evidence:
    """Check that the rule's Service, and a canary's, has the port and ready pods."""
    try:
        evidence, service = _pods(trail)
    except ProblemError as problem:
        if any(app.is_scaled_to_zero and app.hostname == trail.hostname for app in trail.lab.apps):
            raise ProblemError(
                "no-pods-wanted",
                f"the app at {trail.hostname} is configured with `replicas: 0`",
                problem.evidence,
                fix="Set its `replicas` in labctl.yaml, then run `labctl up`.",
                commands=(),
            ) from problem
        raise _with_recreate_commands(trail, problem) from problem
    if waiting := backend_service.partly_ready(trail.cluster, trail.lab.name, service, evidence):
        raise _with_recreate_commands(trail, waiting)
    if nameless := cluster_dns.dns_problem(trail, evidence):
        raise nameless
    return evidence


def _with_recreate_commands(trail: Trail, problem: ProblemError) -> ProblemError:
    """Add the commands that recreate an app that others have changed to a problem with its pods."""
    if problem.cause in UNREADY:
        fix, commands = renewal.recreate(trail, str(problem.evidence.get("service", "")))
        problem.fix, problem.commands = (fix, commands) if commands else (problem.fix, problem.commands)
    return problem


def _pods(trail: Trail) -> tuple[Evidence, dict[str, Any]]:
    """Return the pods behind the rule, including a canary's, and their Service."""
    match = trail.match
    main = Backend(**trail.evidence["rule"]["backend"])
    route = match.route if match else None
    split = match.split if match else None
    canary = _canary(trail, split) if split and route and split.weight else None
    if route is None or split is None or canary is None:
        return _ready(trail, str(trail.evidence["rule"]["ingress"]), main, route.place if route else "")
    record = trail.record()
    if split.weight >= split.total:
        return canary
    stable = _ready(trail, route.ingress, route.backend, route.place)
    sides = [
        {**_side(stable[0]), "weight": split.total - split.weight, "total": split.total},
        {**_side(canary[0]), "weight": split.weight, "total": split.total},
    ]
    evidence, service = canary if _was_sent_to(record, canary[0]) else stable
    return {**evidence, "sides": sides}, service


def _ready(trail: Trail, ingress: str, wanted: Backend, at: str) -> tuple[Evidence, dict[str, Any]]:
    place = Place(trail.cluster, trail.lab.name, ingress, at, trail.is_own(ingress))
    try:
        service = backend_service.service(place, wanted)
        evidence = backend.endpoints_behind(trail.cluster, service, wanted.port, trail.controller.name)
        if not evidence["pods"] and "external_name" not in evidence:
            raise backend_service.without_ready_pods(place, service, wanted.port, evidence)
    except ProblemError as problem:
        raise _by_default(trail, wanted.namespace, problem) from problem
    if trail.match and trail.match.notes.get("service-upstream") == "true":
        evidence["cluster_ip"] = service["spec"].get("clusterIP")
    return evidence, service


def _by_default(trail: Trail, namespace: str, problem: ProblemError) -> ProblemError:
    """Return the problem of a Service without pods; as a warning if the Ingress names a default backend with pods."""
    name = trail.match.notes.get("default-backend", "") if trail.match else ""
    service = trail.cluster.get("v1", "Service", name, namespace) if name else None
    instead = backend.endpoints_behind(trail.cluster, service, "", trail.controller.name) if service else None
    if instead and instead["pods"]:
        problem.text += f"; the Ingress has the default-backend {name}, which answers instead"
        problem.evidence, problem.state = instead, WARNING
    return problem


def _canary(trail: Trail, split: Split) -> tuple[Evidence, dict[str, Any]] | None:
    """Return the pods of a canary; None if it has none, so that the controllers ignore it."""
    service = trail.cluster.get("v1", "Service", split.backend.service, split.backend.namespace)
    if service is None:
        return None
    evidence = backend.endpoints_behind(trail.cluster, service, split.backend.port, trail.controller.name)
    return (evidence, service) if evidence["pods"] or "external_name" in evidence else None


def _side(evidence: Evidence) -> Evidence:
    return {"service": evidence["service"], "pods": evidence["pods"]}


def _was_sent_to(record: Record | None, evidence: Evidence) -> bool:
    return record is not None and any(each["address"] == record.server for each in evidence["pods"])


def _described(trail: Trail, match: Match) -> Evidence:
    route, split = match.route, match.split
    canary = _canary(trail, split) if split and split.weight else None
    is_canarys = canary is not None and _was_sent_to(trail.record(), canary[0])
    ingress, target = (split.ingress, split.backend) if split and is_canarys else (route.ingress, route.backend)
    return {
        "ingress": ingress,
        "host": route.host,
        "matched_by": route.matched_by,
        "path": route.path or rules.ROOT,
        "path_type": route.path_type,
        "class": trail.controller.ingress_class,
        "backend": _shown(target),
        "split": _split(split),
        "other_ingresses": list(match.others),
        "ignored_annotations": list(match.ignored),
    }


def _split(split: Split | None) -> Evidence | None:
    if split is None:
        return None
    by = list(split.by)
    return {"ingress": split.ingress, **_shown(split.backend), "weight": split.weight, "total": split.total, "by": by}


def _shown(target: Backend) -> Evidence:
    return {"namespace": target.namespace, "service": target.service, "port": target.port}
