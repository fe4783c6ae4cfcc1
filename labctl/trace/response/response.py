"""The sixth hop: which pods answer, and whether a browser gets its page. Evidence decides, not the status alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus

from labctl.model.errors import LabError
from labctl.trace.problem import BROKEN, UNKNOWN, Evidence, ProblemError
from labctl.trace.response import answers, lost_routes, redirects, refusals, verdict
from labctl.trace.response.answers import AnsweredRequest
from labctl.trace.rule import rule, rule_problems
from labctl.trace.trail import Trail

REDIRECTS = range(300, 400)
OWN: Mapping[int, tuple[str, str]] = {
    404: ("controller-has-no-route", "it has no rule for this host and path"),
    503: ("controller-has-no-backend", "it has no backend for the rule"),
}
"""The cause and the reason for each status of a controller's own responses without a backend."""
OF_OUTDATED_PODS = frozenset({"answered-by-other-pod", "controller-has-no-backend", "backend-refused"})
"""Causes that pods explain which became ready, or ceased to be, after they were read."""
GUARDS = (
    "auth-url",
    "whitelist-source-range",
    "allowlist-source-range",
    "denylist-source-range",
    "limit-rps",
    "limit-rpm",
    "limit-connections",
)
"""Annotations that make a controller authorize, limit or filter requests before it forwards them to the app."""
LOGGING = (
    "disable-access-log",
    "disable-http-access-log",
    "access-log-path",
    "http-access-log-path",
    "log-format-upstream",
    "skip-access-log-urls",
)
"""Settings of ingress-nginx that keep requests out of its log, or change the format that labctl reads."""
API = "api-unreachable"


def no_time() -> ProblemError:
    """Return the problem that too little time is left for the response."""
    return ProblemError(
        "no-time-left",
        "the earlier hops used up the time limit, so the response was not checked: this machine or its disk is busy",
        fix="Try again when the machine is less busy.",
        commands=(),
        state=UNKNOWN,
    )


def response(trail: Trail) -> Evidence:
    """Check that every pod behind the rule answers, that the whole body arrives, and that a redirect works.

    If the pods changed while the controller answered, check again with those that are there now.
    """
    try:
        return _explained(trail)
    except ProblemError as problem:
        if problem.cause not in OF_OUTDATED_PODS or not _pods_changed(trail):
            raise
    trail.discard()
    return _explained(trail)


def _explained(trail: Trail) -> Evidence:
    try:
        return _answer(trail)
    except ProblemError as problem:
        raise lost_routes.explain(trail, problem) from problem


def _pods_changed(trail: Trail) -> bool:
    """Read the pods behind the rule again; return whether they are others. Raises ProblemError if none is ready."""
    known = trail.evidence.get("pod") or {}
    try:
        current = rule.pod(trail)
    except ProblemError as problem:
        if problem.state == BROKEN:
            raise
        current = problem.evidence
    except LabError:
        return False
    trail.evidence["pod"] = current
    return bool(known) and current.get("pods") != known.get("pods")


def _answer(trail: Trail) -> Evidence:
    if not trail.evidence.get("pod"):
        return _answer_without_pods(trail)
    first = answers.first_answer(trail)
    _require_time(trail, first)
    evidence = answers.request_evidence(trail, first)
    _require_controller(trail, first, evidence)
    if first.status in REDIRECTS and first.exchange.location:
        evidence["redirect"] = redirects.follow_redirect(trail, first.exchange, evidence)
    if not first.is_the_apps and not first.upstream_address:
        _refuse_own(trail, first, evidence)
        _require_target(trail, first, evidence)
        return evidence
    verdict.require_served(trail, first, evidence)
    redirects.require_page(first.status, evidence)
    return evidence


def _answer_without_pods(trail: Trail) -> Evidence:
    """Return the evidence if the rule's pods are unknown: a response that names a pod of the lab's apps is enough."""
    exchange = trail.fetch()
    names = tuple(f"{app.name}-" for app in trail.lab.apps)
    is_ours = bool(exchange.pod) and str(exchange.pod).startswith(names)
    answered = AnsweredRequest(exchange, None, exchange.pod if is_ours else None, is_complete=False)
    _require_time(trail, answered)
    evidence = answers.request_evidence(trail, answered)
    if exchange.status is None:
        raise refusals.no_response(trail, answered, evidence)
    if not is_ours:
        raise ProblemError(
            _no_pods_reason(trail),
            f"a response with HTTP {exchange.status} came, but its sender is unknown: the Kubernetes API does not answer",
            evidence,
            fix="Run `labctl status` to see what is running, or `labctl resume` to start a halted lab.",
            commands=(),
            state=UNKNOWN,
        )
    if not exchange.body.is_served:
        raise verdict.body_incomplete(trail, {str(answered.pod): verdict.outcome(answered)}, evidence)
    return evidence


def _require_time(trail: Trail, answered: AnsweredRequest) -> None:
    """Check that a response that did not come had its full time limit. Raises ProblemError."""
    if answered.exchange.is_silent and not trail.is_unanswered:
        raise no_time()


def _no_pods_reason(trail: Trail) -> str:
    """Return why the pods are unknown: the API's error, or `answerer-unknown` if the API answers again."""
    try:
        trail.cluster.find("v1", "Node")
    except LabError as error:
        return error.id if error.id in {API, "api-not-trusted"} else "lab-not-asked"
    return "answerer-unknown"


def _require_controller(trail: Trail, answered: AnsweredRequest, evidence: Evidence) -> None:
    """Check that the lab's controller or app logged the request. Raises ProblemError."""
    if answered.exchange.status is None and not answered.upstream_address:
        raise refusals.no_response(trail, answered, evidence)
    if answered.record or answered.pod:
        return
    unread = _logging_obstacle(trail)
    if unread or not answered.is_complete:
        status = "The nodes' kubelets serve the logs. Run `labctl status` to see which node has a problem."
        raise ProblemError(
            "answerer-unknown",
            f"a response with HTTP {answered.status} came, but its sender is unknown: "
            f"{unread or 'the log of the ingress controller cannot be read'}",
            evidence,
            fix="Remove that setting, so that the log shows which pod answers." if unread else status,
            commands=(),
            state=UNKNOWN,
        )
    raise ProblemError(
        "answered-by-another",
        f"HTTP {answered.status} came from {trail.address}, but neither {trail.controller.name} nor the app logged "
        "the request: something else answers at this address",
        evidence,
        fix=f"Find out what answers at {trail.address}: a proxy, or a packet filter rule on this machine that redirects.",
        commands=(),
    )


def _logging_obstacle(trail: Trail) -> str:
    """Return which setting keeps requests out of the log, or changes its format; empty if none does."""
    name, controller = "enable-access-log", trail.controller
    if trail.match is not None and trail.match.notes.get(name, "").lower() == "false":
        return f"the Ingress sets {name} to false"
    configmap = trail.cluster.get("v1", "ConfigMap", controller.deployment, controller.namespace) or {}
    settings = configmap.get("data") or {}
    named = ", ".join(each for each in LOGGING if settings.get(each, "false") != "false")
    return f"the ConfigMap {controller.namespace}/{controller.deployment} sets {named}" if named else ""


def _refuse_own(trail: Trail, answered: AnsweredRequest, evidence: Evidence) -> None:
    """Raise ProblemError for a response of the controller's own, except a redirect."""
    status, controller = answered.status, trail.controller.name
    if status in REDIRECTS:
        return
    if status == HTTPStatus.UNAUTHORIZED:
        raise ProblemError(
            "controller-asks-for-login",
            f"{controller} itself answers 401: the Ingress requires a login, so the app did not get the request",
            evidence,
            fix="Log in with a browser to see the app.",
            commands=(),
            state=UNKNOWN,
        )
    if guards := [name for name in GUARDS if trail.match and name in trail.match.notes]:
        raise _access_problem(trail, status, guards, evidence)
    if status not in OWN:
        text = f"{controller} itself answers {status}: the app did not get the request"
        fix = f"For details, see its log: `{refusals.controller_log(trail)}`."
        raise ProblemError("controller-answers", text, evidence, fix=fix, commands=())
    cause, why = OWN[status]
    text = f"{controller} itself answers {status}: {why}"
    raise ProblemError(cause, text, evidence, fix=refusals.UNHEARD, commands=refusals.restart_commands(trail))


def _require_target(trail: Trail, first: AnsweredRequest, evidence: Evidence) -> None:
    """Check that every pod serves the page that the controller redirects to. Raises ProblemError."""
    path = redirects.path_here(trail, str(evidence["redirect"]["location"]))
    if path is None or evidence["redirect"]["status"] is None:
        return
    further = replace(trail, path=path, evidence=dict(trail.evidence), match=None)
    further.discard()
    for name, look in (("rule", rule.rule), ("pod", rule.pod)):
        try:
            further.evidence[name] = look(further)
        except ProblemError as problem:
            if problem.state == BROKEN:
                raise redirects.redirect_problem(trail, first, problem, evidence) from problem
            further.evidence[name] = problem.evidence
    answered = answers.first_answer(further)
    if further.evidence["pod"] and (answered.is_the_apps or answered.upstream_address):
        verdict.require_served(further, answered, evidence)


def _access_problem(trail: Trail, status: int, guards: Sequence[str], evidence: Evidence) -> ProblemError:
    """Return the problem that annotations of the Ingress keep the request from the app."""
    ingress = trail.match.route.ingress if trail.match else ""
    guards_text = " and ".join(guards)
    return ProblemError(
        "controller-answers",
        f"{trail.controller.name} itself answers {status}: the Ingress {ingress} has {guards_text}, so the app did not get "
        "the request",
        evidence,
        fix=f"Change {guards_text} to allow this client, or remove it from the Ingress with this command.",
        commands=(rule_problems.removal_command(trail, ingress, guards),),
    )
