"""Find why no rule matches a request, or why a rule may not be the intended one."""

from __future__ import annotations

import json
from collections.abc import Iterable

from labctl.model.kinds import ROUTE_CLASS
from labctl.trace.problem import UP, WARNING, Evidence, ProblemError, kubectl, kubectl_route, labctl
from labctl.trace.rules import rules
from labctl.trace.rules.annotations import ANNOTATION, Refusal
from labctl.trace.rules.routes import Route
from labctl.trace.rules.rules import Match
from labctl.trace.trail import Trail


def doubtful_match(trail: Trail, match: Match, evidence: Evidence) -> ProblemError | None:
    """Return why the rule that matches may not be the intended one, or is only partly in effect."""
    route = match.route
    if match.rivals:
        losers = ", ".join(dict.fromkeys(f"{each.ingress} to {each.backend.service}" for each in match.rivals))
        oldest = "the oldest Ingress wins"
        chance = f"{trail.controller.name} uses either of them, and may switch at its next change"
        return ProblemError(
            "rules-collide",
            f"several Ingresses have the rule {route.host}{route.path}: {route.ingress} to {route.backend.service} "
            f"takes the request instead of {losers}; {oldest if match.is_settled else chance}",
            evidence,
            fix="Keep this host and path in only one of these Ingresses.",
            commands=(),
            state=WARNING,
        )
    if match.ignored:
        return ProblemError(
            "annotation-ignored",
            f"{trail.controller.name} ignores annotations of the Ingress {route.ingress}: {', '.join(match.ignored)}",
            evidence,
            fix="Remove the annotations that have no effect from the Ingress.",
            commands=(removal_command(trail, route.ingress, match.ignored),),
            state=WARNING,
        )
    return None


def unmatched(trail: Trail) -> ProblemError:
    """Return why no rule matches the request: the host, the class, a refused Ingress, or the path."""
    known, controller, lab = trail.rules(), trail.controller, trail.lab.name
    if known.refused:
        return _refused(trail, *known.refused[0])
    if known.served:
        return _unmatched_path(trail, known.served)
    if known.foreign:
        ingress, its_class = known.foreign[0]
        wanted = f'{{"spec":{{"ingressClassName":"{controller.ingress_class}"}}}}'
        if its_class == controller.ingress_class and not known.classes:
            return _missing_class(trail)
        return ProblemError(
            "ingress-class-other",
            f"the Ingress {ingress} has the class {its_class}, but {controller.name} serves the class "
            f"{controller.ingress_class}",
            fix=f"Give the Ingress the class {controller.ingress_class}.",
            commands=(kubectl_route(lab, "patch", ingress, "--type=merge", "-p", wanted),),
        )
    hosts = ", ".join(known.hosts) or "none"
    if trail.is_app:
        return ProblemError("ingress-missing", f"no Ingress has a rule for {trail.hostname}; hosts with rules: {hosts}")
    has_canary = bool(known.canaries)
    text = "only canary Ingresses have a rule for" if has_canary else "no path of an Ingress leads to a Service for"
    return ProblemError(
        "ingress-missing",
        f"{text} {trail.hostname}; hosts with other rules: {hosts}",
        fix="Add an Ingress for the hostname that is not a canary."
        if has_canary
        else "Add a path with a Service to the Ingress.",
        commands=(),
    )


def _missing_class(trail: Trail) -> ProblemError:
    """Return the problem that the controller's IngressClass is missing, or belongs to another controller."""
    name, controller, lab = trail.controller.ingress_class, trail.controller.name, trail.lab.name
    ingress_class = trail.cluster.get(*ROUTE_CLASS, name)
    if ingress_class is None:
        return ProblemError("ingress-class-missing", f"there is no IngressClass {name} of {controller}")
    its = ingress_class.get("spec", {}).get("controller", "no controller")
    return ProblemError(
        "ingress-class-missing",
        f"the IngressClass {name} belongs to {its}, but {controller} only serves those of {rules.CONTROLLER}",
        fix=f"Delete the IngressClass, whose controller cannot be changed, then run `{labctl(lab, 'up')}`.",
        commands=(kubectl(lab, "delete", ROUTE_CLASS.resource, name), labctl(lab, "up")),
    )


def _refused(trail: Trail, ingress: str, refusal: Refusal) -> ProblemError:
    lab, commands = trail.lab.name, []
    text = f"{trail.controller.name} does not serve the Ingress {ingress}: {refusal.reason}"
    if refusal.is_of_guard:
        fix = f"Correct {', '.join(refusal.remove)}. Do not remove them: the app would be open to everyone."
        return ProblemError("guard-unusable", text, fix=fix, commands=())
    if refusal.remove:
        commands.append(removal_command(trail, ingress, refusal.remove))
    if refusal.loose_paths:
        change = [{"op": "replace", "path": place, "value": "ImplementationSpecific"} for place in refusal.loose_paths]
        patch = json.dumps(change, separators=(",", ":"))
        commands.append(kubectl_route(lab, "patch", ingress, "--type=json", "-p", patch))
    fix = "Remove the reason with these commands."
    return ProblemError("ingress-refused", text, fix=fix, commands=tuple(commands))


def _unmatched_path(trail: Trail, served: tuple[Route, ...]) -> ProblemError:
    """Return the problem that no rule matches the path, with the command that adds one if there is only one Service."""
    route, lab = served[0], trail.lab.name
    paths = ", ".join(dict.fromkeys(each.path for each in served))
    text = f"the Ingress {route.ingress} has no rule for {trail.hostname}{trail.path}; its paths are {paths}"
    if trail.is_own(route.ingress):
        return ProblemError("ingress-path-missing", text, fix=UP, commands=(labctl(lab, "up"),))
    commands: tuple[str, ...] = ()
    if len({each.backend for each in served}) == 1 and route.place.startswith("/spec/rules/"):
        port = {"number" if isinstance(route.backend.port, int) else "name": route.backend.port}
        added = {
            "path": trail.path.partition("?")[0],
            "pathType": "Prefix",
            "backend": {"service": {"name": route.backend.service, "port": port}},
        }
        at = "/".join(route.place.split("/")[:6])
        change = json.dumps([{"op": "add", "path": f"{at}/-", "value": added}], separators=(",", ":"))
        commands = (kubectl_route(lab, "patch", route.ingress, "--type=json", "-p", change),)
    return ProblemError("ingress-path-missing", text, fix="Add a rule for this path to the Ingress.", commands=commands)


def removal_command(trail: Trail, ingress: str, names: Iterable[str]) -> str:
    """Return the command that removes annotations from an Ingress."""
    words = (f"{ANNOTATION}{each}-" for each in names)
    return kubectl_route(trail.lab.name, "annotate", ingress, *words)
