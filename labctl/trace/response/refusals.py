"""Find why a pod did not answer: how far the request came, and how the pod responds when asked directly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from labctl.model.reports import HopState
from labctl.trace import backend
from labctl.trace.pod import backend_service, renewal
from labctl.trace.probes.direct import EMPTY, NOT_HTTP, REFUSED, SILENT, TLS, UNREACHABLE, PodResponse
from labctl.trace.problem import BROKEN, UP, Evidence, ProblemError, kubectl, kubectl_route, labctl
from labctl.trace.response import answers
from labctl.trace.response.answers import AnsweredRequest
from labctl.trace.rules.annotations import ANNOTATION
from labctl.trace.trail import Trail

RESPONSE_TEXTS: Mapping[str, str] = {
    UNREACHABLE: "cannot be reached on port {port}: its node, or the network to it, rejects the packets",
    REFUSED: "does not accept connections on port {port}",
    TLS: "speaks TLS on port {port}, but the ingress controller speaks HTTP to it",
    NOT_HTTP: "answers on port {port}, but not in HTTP",
    EMPTY: "closes the connection on port {port} without a response",
    SILENT: "does not answer on port {port}",
}
"""The text for each failure of a pod."""
UNHEARD = (
    "The ingress controller's state is outdated. Restart it with these commands, so that it reads everything again."
)
OWN_WORDS = {
    502: "its backend did not answer",
    504: "its backend did not answer in time",
    500: "its backend sent no HTTP",
}


def no_response(trail: Trail, answered: AnsweredRequest, evidence: Evidence) -> ProblemError:
    """Return why the client got no response."""
    exchange = answered.exchange
    if not exchange.is_connected:
        text = f"{trail.address} does not accept connections: {exchange.failure}"
    elif exchange.is_silent:
        text = f"{trail.address} accepted the connection, but no response came in time: {exchange.failure}"
        text += non_pod_endpoints(trail)
    else:
        text = f"{trail.address} accepted the connection, but sent no HTTP: {exchange.failure}"
    fix = f"For details, see the ingress controller's log: `{controller_log(trail)}`."
    return ProblemError("no-answer", text, evidence, fix=fix, commands=())


def non_pod_endpoints(trail: Trail) -> str:
    """Return a remark about endpoints behind the rule that are not pods, such as manually created ones."""
    pods = trail.evidence.get("pod") or {}
    addresses = [each["address"] for each in answers.possible_endpoints(trail) if not each["pod"]] if pods else []
    slices = ", ".join(pods.get("endpoint_slices") or ())
    return f"; no pod has {', '.join(addresses)}, listed in {slices}" if addresses else ""


def unanswered(trail: Trail, answered: AnsweredRequest, word: PodResponse | None, evidence: Evidence) -> ProblemError:
    """Return why a pod did not answer the controller."""
    status, controller = answered.status, trail.controller.name
    who = answered.pod or answered.upstream_address
    port = answered.record.port if answered.record else 0
    said = f"{who} {RESPONSE_TEXTS[word.kind].format(port=port)}" if word and word.kind in RESPONSE_TEXTS else ""
    external = trail.evidence["pod"].get("external_name")
    whom = f"{external}, the Service's external name," if external else who
    own = f"{controller} itself answers {status}: {OWN_WORDS[status]}, {whom} at {answered.upstream_address}"
    text = f"{own}; {said}" if said else own
    kind = word.kind if word else ""
    if kind == TLS:
        return speaks_tls(trail, text, evidence)
    if kind in {NOT_HTTP, EMPTY}:
        return app_problem(trail, "backend-not-http", text, evidence, (who,))
    if kind == SILENT:
        return app_problem(trail, "backend-too-slow", text, evidence, (who,))
    cause = {504: "backend-too-slow", 500: "backend-not-http"}.get(status, "backend-refused")
    if kind == REFUSED and (better := _target_port_fix(trail, answered)):
        fix, commands = better
        return ProblemError(cause, text, evidence, fix=fix, commands=commands)
    return app_problem(trail, cause, text, evidence, (who,))


def speaks_tls(trail: Trail, text: str, evidence: Evidence) -> ProblemError:
    """Return the problem that pods speak TLS while the controller speaks HTTP; the fix makes it speak TLS."""
    route = trail.match.route.ingress if trail.match else ""
    annotate = kubectl_route(trail.lab.name, "annotate", route, f"{ANNOTATION}backend-protocol=HTTPS", "--overwrite")
    return ProblemError(
        "backend-not-http",
        text,
        evidence,
        fix="Let the ingress controller speak TLS to the pods.",
        commands=(annotate,) if route else (),
    )


def restart_commands(trail: Trail) -> tuple[str, ...]:
    """Return the commands that restore the ingress controller's rights and options, and restart it."""
    controller, lab = trail.controller, trail.lab.name
    words = ("-n", controller.namespace, "rollout", "restart", f"deployment/{controller.deployment}")
    return kubectl(lab, *words), labctl(lab, "up")


def controller_log(trail: Trail) -> str:
    """Return the command that shows the ingress controller's log."""
    controller = trail.controller
    return kubectl(trail.lab.name, "-n", controller.namespace, "logs", f"deploy/{controller.deployment}", "--tail=50")


def pod_log(trail: Trail, pod: str) -> str:
    """Return the command that shows a pod's log."""
    namespace = trail.evidence["pod"]["namespace"]
    return kubectl(trail.lab.name, "-n", namespace, "logs", pod, "--all-containers", "--tail=50")


def app_problem(
    trail: Trail, cause: str, text: str, evidence: Evidence, pods: Iterable[str], state: HopState = BROKEN
) -> ProblemError:
    """Return a problem of the app itself, with the commands that show its logs or recreate it."""
    behind = trail.evidence.get("pod") or {}
    if behind.get("external_name"):
        fix, commands = _alias_fix(trail, behind)
    else:
        fix, commands = renewal.recreate(trail, str(behind.get("service", "")))
    if not commands:
        known = [each["pod"] for each in answers.possible_endpoints(trail)] if behind else []
        lines = [f"`{pod_log(trail, pod)}`" for pod in pods if pod in known]
        log = f"For details, see the app's log: {' and '.join(lines)}." if lines else ""
        fix = fix or log or "For details, check the server there."
    return ProblemError(cause, text, evidence, fix=fix, commands=commands, state=state)


def _alias_fix(trail: Trail, alias: Evidence) -> tuple[str, tuple[str, ...]]:
    """Return the fix for a Service that is an alias of a server outside the cluster, and the commands if it is labctl's."""
    namespace, name, lab = alias["namespace"], alias["service"], trail.lab.name
    if trail.match and trail.is_own(trail.match.route.ingress):
        fix = f"The Service {name} leads out of the cluster, to {alias['external_name']}. Replace it by the app's own."
        return fix, (kubectl(lab, "-n", namespace, "delete", "service", name), labctl(lab, "up"))
    return f"Set the `externalName` of the Service {name} to a server that answers.", ()


def _target_port_fix(trail: Trail, answered: AnsweredRequest) -> tuple[str, tuple[str, ...]] | None:
    """Return the fix that sets the Service's targetPort to the only port that its pods declare.

    None if they declare the current one, or not exactly one.
    """
    pods = trail.evidence["pod"]
    namespace, name = pods["namespace"], pods["service"]
    service = trail.cluster.get("v1", "Service", name, namespace)
    pod = trail.cluster.get("v1", "Pod", str(answered.pod), namespace)
    port = backend.port_of(service, trail.evidence["rule"]["backend"]["port"]) if service else None
    tried_port = answered.record.port if answered.record else 0
    numbers = _container_ports(pod or {})
    if service is None or port is None or len(numbers) != 1 or tried_port in numbers:
        return None
    fix = f"The Service {name} routes to port {tried_port} of its pods, but they declare port {numbers[0]}."
    if trail.match and trail.is_own(trail.match.route.ingress):
        return f"{fix} {UP}", (labctl(trail.lab.name, "up"),)
    return fix, (backend_service.retarget(trail.lab.name, service, port, str(numbers[0])),)


def _container_ports(pod: Mapping[str, Any]) -> Sequence[int]:
    containers = pod.get("spec", {}).get("containers", [])
    return [each["containerPort"] for container in containers for each in container.get("ports") or []]
