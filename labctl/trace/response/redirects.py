"""Follow redirects for one step, and find what in an Ingress causes them."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from labctl.host.http_probe import HTTP, HTTPS
from labctl.host.resolver import RESOLVE_SECONDS
from labctl.model.kinds import ROUTE
from labctl.trace.probes.exchange import Exchange
from labctl.trace.problem import WARNING, Evidence, ProblemError, kubectl_route
from labctl.trace.response.answers import AnsweredRequest
from labctl.trace.rules import rules
from labctl.trace.rules.annotations import REDIRECTING
from labctl.trace.rules.rules import Match
from labctl.trace.trail import Trail

SCHEMES = {"http", "https"}
NOT_SERVED = {404, 502, 503, 504}
ERRORS = range(500, 600)
TIMED_OUT = "timed out"
"""The text in Python's error for a timeout."""
NO_TIME = "no time was left to follow it"


def follow_redirect(trail: Trail, exchange: Exchange, evidence: Evidence) -> Evidence:
    """Follow a redirect for one step and return its evidence. Raises ProblemError if its target does not work."""
    here = f"http://{trail.hostname}{trail.path}"
    location = exchange.location
    redirect: Evidence = {"location": location, "status": None, "failure": ""}
    evidence["redirect"] = redirect
    try:
        redirect["location"] = location = urljoin(here, location)
        parts = urlsplit(location)
        host, tls = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (HTTPS if tls else HTTP)
    except ValueError as error:
        raise _broken_redirect(trail, exchange, location, str(error), evidence) from error
    if parts.scheme not in SCHEMES:
        return {**redirect, "failure": f"{parts.scheme}: not followed"}
    if host != trail.hostname and (reason := _elsewhere(trail, exchange, location, host, evidence)):
        return {**redirect, "failure": reason}
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    seconds = trail.left(trail.limits.http_answer)
    target_exchange = trail.client.fetch(host, trail.address, path, port, tls=tls, seconds=seconds)
    redirect |= {"status": target_exchange.status, "failure": target_exchange.failure or target_exchange.body.failure}
    if target_exchange.status is None and TIMED_OUT in target_exchange.failure and seconds < trail.limits.http_answer:
        return {**redirect, "failure": NO_TIME}
    if target_exchange.status is None or not target_exchange.body.is_served:
        raise _broken_redirect(trail, exchange, location, str(redirect["failure"]), evidence)
    if loop := _loop(exchange, target_exchange, here, location):
        raise _broken_redirect(trail, exchange, location, loop, evidence)
    if port == HTTP and target_exchange.status in NOT_SERVED and _is_controllers(trail, target_exchange):
        text = f"the ingress controller itself answers {target_exchange.status}"
        raise _broken_redirect(trail, exchange, location, text, evidence)
    return redirect


def _elsewhere(trail: Trail, exchange: Exchange, location: str, host: str, evidence: Evidence) -> str:
    """Return why a redirect to another host is not followed; empty if it leads to the lab. Raises ProblemError."""
    seconds = trail.left(RESOLVE_SECONDS)
    addresses, took = trail.client.resolve(host, seconds)
    if addresses:
        return "" if addresses[0] == trail.address else "not the lab's: not followed"
    if seconds <= took < RESOLVE_SECONDS:
        return NO_TIME
    raise _broken_redirect(trail, exchange, location, f"{host} has no address", evidence)


def require_page(status: int, evidence: Evidence) -> None:
    """Check that the page to which an app redirects is not a server error. Raises ProblemError."""
    redirect = evidence["redirect"]
    if not redirect or redirect["status"] not in ERRORS:
        return
    raise ProblemError(
        "app-answers-error",
        f"HTTP {status} redirects to {redirect['location']}, which answers HTTP {redirect['status']}",
        evidence,
        fix="Find out why the app fails there.",
        commands=(),
        state=WARNING,
    )


def path_here(trail: Trail, location: str) -> str | None:
    """Return the path of a location on the traced host; None if it is elsewhere or needs TLS."""
    parts = urlsplit(location)
    if (parts.scheme, parts.hostname, parts.port or HTTP) != ("http", trail.hostname, HTTP):
        return None
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def redirect_problem(trail: Trail, first: AnsweredRequest, problem: ProblemError, evidence: Evidence) -> ProblemError:
    """Return the problem that a redirect's target is a path that the lab does not serve, and why."""
    text = f"HTTP {first.status} redirects to {evidence['redirect']['location']}, which {trail.hostname} does not serve"
    return ProblemError(
        "redirect-leads-nowhere", f"{text}: {problem.text}", evidence, fix=problem.fix, commands=problem.commands
    )


def _is_controllers(trail: Trail, exchange: Exchange) -> bool:
    """Return whether the controller answered without forwarding the request to an app."""
    record = trail.search(exchange).records.get(exchange.mark)
    return record is not None and not record.server


def _loop(exchange: Exchange, target: Exchange, here: str, location: str) -> str:
    """Return how a redirect's target makes a browser go round in circles; empty if it does not, or a cookie may end it."""
    if not target.location or exchange.sets_cookie or target.sets_cookie:
        return ""
    back = urljoin(location, target.location)
    if _is_same_response(back, location):
        return "it redirects to itself"
    return f"it redirects back to {here}" if _is_same_response(back, here) else ""


def _is_same_response(one: str, other: str) -> bool:
    return one.partition("#")[0] == other.partition("#")[0]


def _broken_redirect(trail: Trail, exchange: Exchange, location: str, failure: str, evidence: Evidence) -> ProblemError:
    text = f"HTTP {exchange.status} redirects to {location}, which does not work: {failure}"
    match = None if evidence["answered_by"] else trail.match
    reasons, commands = _redirect_sources(trail, match) if match else ([], [])
    if not match or not reasons:
        fix = "Let the app redirect to a URL that works."
        return ProblemError("redirect-leads-nowhere", text, evidence, fix=fix, commands=())
    reasons_text = " and ".join(reasons)
    return ProblemError(
        "redirect-leads-nowhere",
        f"{text}; the ingress controller redirects because of {reasons_text} in the Ingress {match.route.ingress}",
        evidence,
        fix=f"Remove {reasons_text} from the Ingress: the redirect's target is not served.",
        commands=tuple(commands),
    )


def _redirect_sources(trail: Trail, match: Match) -> tuple[list[str], list[str]]:
    """Return what in an Ingress causes a redirect, and the commands that remove it."""
    namespace, _, name = match.route.ingress.partition("/")
    current = trail.cluster.get(*ROUTE, name, namespace) or {"metadata": {}, "spec": {}}
    annotations = current["metadata"].get("annotations") or {}
    reasons, commands = [], []
    if current["spec"].get("tls"):
        reasons.append("`tls`")
        patch = '{"spec":{"tls":null}}'
        commands.append(kubectl_route(trail.lab.name, "patch", match.route.ingress, "--type=merge", "-p", patch))
    for each in REDIRECTING:
        if rules.ANNOTATION + each in annotations:
            reasons.append(f"the annotation {each}")
            remove = f"{rules.ANNOTATION}{each}-"
            commands.append(kubectl_route(trail.lab.name, "annotate", match.route.ingress, remove))
    return reasons, commands
