"""The last hop: who answered the request, and whether a browser is served. Evidence decides, not the status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus

from labctl.model.errors import LabError
from labctl.trace.problem import BROKEN, UNKNOWN, Evidence, ProblemError
from labctl.trace.response import answers, lost_routes, redirects, refusals, verdict
from labctl.trace.response.answers import Answered
from labctl.trace.rule import misrouted, rule
from labctl.trace.trail import Trail

REDIRECTS = range(300, 400)
OWN: Mapping[int, tuple[str, str]] = {
    404: ("controller-has-no-route", "it knows no rule for this name and path"),
    503: ("controller-has-no-backend", "it knows no pod behind the rule"),
}
"""What a controller answers where it asks nobody."""
GUARDS = (
    "auth-url",
    "whitelist-source-range",
    "allowlist-source-range",
    "denylist-source-range",
    "limit-rps",
    "limit-rpm",
    "limit-connections",
)
"""Annotations by which a controller asks somebody else, or counts, before it asks the app."""
API = "api-unreachable"


def response(trail: Trail) -> Evidence:
    """Check that every pod behind the rule answers, that the whole body arrives, and that a redirect leads somewhere."""
    try:
        return _answer(trail)
    except ProblemError as problem:
        raise lost_routes.explain(trail, problem) from problem


def _answer(trail: Trail) -> Evidence:
    if not trail.seen.get("pod"):
        return _unowned(trail)
    first = answers.first(trail)
    evidence = answers.described(trail, first)
    _require_controller(trail, first, evidence)
    if first.status in REDIRECTS and first.exchange.location:
        evidence["redirect"] = redirects.followed(trail, first.exchange, evidence)
    if not first.is_the_apps and not first.asked:
        _refuse_own(trail, first, evidence)
        _require_target(trail, first, evidence)
        return evidence
    verdict.require_served(trail, first, evidence)
    return evidence


def _unowned(trail: Trail) -> Evidence:
    """Return what came while nobody can say whose pods there are: the name of a pod of ours is enough."""
    exchange = trail.fetch()
    names = tuple(f"{app.name}-" for app in trail.lab.apps)
    is_ours = bool(exchange.pod) and str(exchange.pod).startswith(names)
    answered = Answered(exchange, None, exchange.pod if is_ours else None, is_complete=False)
    evidence = answers.described(trail, answered)
    if exchange.status is None:
        raise refusals.nothing_came(trail, answered, evidence)
    if not is_ours:
        raise ProblemError(
            _silent_api(trail),
            f"HTTP {exchange.status} came; from whom cannot be said, for the Kubernetes API does not answer",
            evidence,
            fix="`labctl status` says what runs; `labctl resume` starts a halted lab.",
            commands=(),
            state=UNKNOWN,
        )
    if not exchange.body.is_served:
        raise verdict.body_incomplete(trail, {str(answered.pod): verdict.outcome(answered)}, evidence)
    return evidence


def _silent_api(trail: Trail) -> str:
    """Return why the API says nothing of the pods; an API that answers again has not said it of this request."""
    try:
        trail.cluster.find("v1", "Node")
    except LabError as error:
        return error.id if error.id in {API, "api-not-trusted"} else "lab-not-asked"
    return "answerer-unknown"


def _require_controller(trail: Trail, answered: Answered, evidence: Evidence) -> None:
    """Return if the lab's controller or app has seen the request. Raises ProblemError."""
    if answered.exchange.status is None and not answered.asked:
        raise refusals.nothing_came(trail, answered, evidence)
    if answered.record or answered.pod:
        return
    unread = "the ingress controller's log cannot be read" if not answered.is_complete else _unlogged(trail)
    if unread:
        raise ProblemError(
            "answerer-unknown",
            f"HTTP {answered.status} came; from whom cannot be said, for {unread}",
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
        fix=f"Find out who answers at {trail.address}: a proxy, or a packet filter rule on this machine that redirects.",
        commands=(),
    )


def _unlogged(trail: Trail) -> str:
    """Return that the Ingress keeps the request out of the log; nothing where it does not."""
    name = "enable-access-log"
    is_off = trail.match is not None and trail.match.notes.get(name, "").lower() == "false"
    return f"the Ingress has {name} false" if is_off else ""


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
    if guards := [name for name in GUARDS if trail.match and name in trail.match.notes]:
        raise _guarded(trail, status, guards, evidence)
    if status not in OWN:
        text = f"{controller} itself answers {status}: the app was not asked"
        fix = f"Its log may say more: `{refusals.controller_log(trail)}`."
        raise ProblemError("controller-answers", text, evidence, fix=fix, commands=())
    cause, why = OWN[status]
    text = f"{controller} itself answers {status}: {why}"
    raise ProblemError(cause, text, evidence, fix=refusals.UNHEARD, commands=refusals.restarted(trail))


def _require_target(trail: Trail, first: Answered, evidence: Evidence) -> None:
    """Return if every pod serves the page of the lab that the controller redirects to. Raises ProblemError."""
    path = redirects.path_here(trail, str(evidence["redirect"]["location"]))
    if path is None:
        return
    further = replace(trail, path=path, seen=dict(trail.seen), match=None)
    further.forget()
    for name, look in (("rule", rule.rule), ("pod", rule.pod)):
        try:
            further.seen[name] = look(further)
        except ProblemError as problem:
            if problem.state == BROKEN:
                raise redirects.leads_to(trail, first, problem, evidence) from problem
            further.seen[name] = problem.evidence
    answered = answers.first(further)
    if further.seen["pod"] and (answered.is_the_apps or answered.asked):
        verdict.require_served(further, answered, evidence)


def _guarded(trail: Trail, status: int, guards: Sequence[str], evidence: Evidence) -> ProblemError:
    """Return that what an Ingress asks of its controller keeps the request from the app."""
    ingress = trail.match.route.ingress if trail.match else ""
    said = " and ".join(guards)
    return ProblemError(
        "controller-answers",
        f"{trail.controller.name} itself answers {status}: the Ingress {ingress} has {said}, and the app was not asked",
        evidence,
        fix=f"Let {said} let this client in; or take it out of the Ingress, as this line does.",
        commands=(misrouted.without(trail, ingress, guards),),
    )
