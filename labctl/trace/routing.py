"""The hops inside the cluster: the rule that takes the request, and the pods that it leads to."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.trace import backend, rules
from labctl.trace.access_log import Record
from labctl.trace.problem import UNKNOWN, Evidence, ProblemError, kubectl
from labctl.trace.rules import Backend, Match, Split
from labctl.trace.trail import Trail


def rule(trail: Trail) -> Evidence:
    """A pod of the ingress controller is ready, and a rule of an Ingress of its class takes the request."""
    controller = trail.controller
    pods = backend.controller_pods(trail.cluster, controller)
    ready = [backend.placed(each) for each in pods if backend.is_ready(each)]
    if not ready:
        reasons = "; ".join(filter(None, map(backend.why_not_ready, pods))) or "there is none"
        raise ProblemError(
            "controller-not-ready", f"no pod of the ingress controller {controller.name} is ready: {reasons}"
        )
    record = trail.request()[1].record
    trail.match = trail.rules().match(trail.path, record)
    if trail.match is not None:
        return {**_described(trail, trail.match), "controller_pods": ready}
    found = backend.service_with(trail.cluster, record.server) if record and record.server else None
    if found is None:
        raise _unmatched(trail)
    raise ProblemError(
        "rule-not-found",
        f"{found.namespace}/{found.service} answered, and labctl cannot tell which rule led there",
        {"ingress": None, "backend": _shown(found), "split": None, "controller_pods": ready},
        fix="The request is answered: there is nothing to mend.",
        commands=(),
        state=UNKNOWN,
    )


def pod(trail: Trail) -> Evidence:
    """The rule's Service has the port, and pods that are ready behind it; so has the canary's beside it."""
    try:
        return _pods(trail)
    except ProblemError as problem:
        if any(app.is_scaled_to_zero and app.hostname == trail.hostname for app in trail.lab.apps):
            raise ProblemError(
                "no-pods-wanted",
                f"the app at {trail.hostname} is meant to have no pods: `replicas: 0`",
                problem.evidence,
                fix="Give it `replicas` in labctl.yaml, and run `labctl up`.",
                commands=(),
            ) from problem
        ingress = str(trail.seen["rule"]["ingress"])
        if problem.fix is not None or ingress in {f"default/{app.name}" for app in trail.lab.apps}:
            raise
        namespace, _, name = ingress.partition("/")
        raise ProblemError(
            problem.cause,
            problem.text,
            problem.evidence,
            fix=f"labctl did not make the Ingress {ingress}: correct it or its Service.",
            commands=(_edit(trail.lab.name, namespace, name),),
        ) from problem


def _pods(trail: Trail) -> Evidence:
    seen = trail.seen["rule"]
    main = Backend(**seen["backend"])
    if not main.service:
        return {"namespace": main.namespace, "service": None, "endpoint_slices": [], "pods": []}
    lab, ingress = trail.lab.name, str(seen["ingress"])
    split = trail.match.split if trail.match else None
    record = trail.request()[1].record
    if split is None:
        return backend.behind(trail.cluster, lab, ingress, main)
    canary = backend.behind(trail.cluster, lab, split.ingress, split.backend)
    if _took(record, canary["pods"]) or split.weight >= split.total:
        return canary
    return backend.behind(trail.cluster, lab, ingress, main)


def _took(record: Record | None, pods: Sequence[Evidence]) -> bool:
    return record is not None and any(each["address"] == record.server for each in pods)


def _described(trail: Trail, match: Match) -> Evidence:
    route = match.route
    return {
        "ingress": route.ingress,
        "host": route.host,
        "matched_by": route.matched_by,
        "path": route.path or rules.ROOT,
        "path_type": route.path_type,
        "class": trail.controller.ingress_class,
        "backend": _shown(route.backend),
        "split": _split(match.split),
        "other_ingresses": list(match.others),
    }


def _split(split: Split | None) -> Evidence | None:
    if split is None:
        return None
    by = list(split.by)
    return {"ingress": split.ingress, **_shown(split.backend), "weight": split.weight, "total": split.total, "by": by}


def _shown(found: Backend) -> Evidence:
    return {"namespace": found.namespace, "service": found.service, "port": found.port}


def _unmatched(trail: Trail) -> ProblemError:
    """Return why no rule takes the request: the host, the class or the path."""
    found, controller, lab = trail.rules(), trail.controller, trail.lab.name
    if found.served:
        ingress = found.served[0].ingress
        namespace, _, name = ingress.partition("/")
        paths = ", ".join(dict.fromkeys(route.path for route in found.served))
        return ProblemError(
            "ingress-path-missing",
            f"the Ingress {ingress} has no rule for {trail.hostname}{trail.path}; it has {paths}",
            fix=None if trail.is_app and namespace == "default" else "Give the Ingress a rule for this path.",
            commands=None if trail.is_app and namespace == "default" else (_edit(lab, namespace, name),),
        )
    if found.foreign:
        ingress, its_class = found.foreign[0]
        namespace, _, name = ingress.partition("/")
        wanted = f'{{"spec":{{"ingressClassName":"{controller.ingress_class}"}}}}'
        return ProblemError(
            "ingress-class-other",
            f"the Ingress {ingress} has the class {its_class}; {controller.name} serves the class "
            f"{controller.ingress_class}",
            fix=f"Give the Ingress the class {controller.ingress_class}.",
            commands=(kubectl(lab, "-n", namespace, "patch", "ingress", name, "--type=merge", "-p", wanted),),
        )
    hosts = ", ".join(found.hosts) or "no host"
    if trail.is_app:
        return ProblemError(
            "ingress-missing", f"no Ingress has a rule for {trail.hostname}; there are rules for {hosts}"
        )
    return ProblemError(
        "ingress-missing",
        f"only canary Ingresses name {trail.hostname}, and no other Ingress does; there are rules for {hosts}",
        fix="Give the hostname an Ingress that is not a canary.",
        commands=(),
    )


def _edit(lab: str, namespace: str, name: str) -> str:
    return kubectl(lab, "-n", namespace, "edit", "ingress", name)
