"""Requests that no rule takes, and rules that are not what somebody means: why, and what to type."""

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


def doubt(trail: Trail, match: Match, evidence: Evidence) -> ProblemError | None:
    """Return what makes a rule that takes the request not the one that is meant, or not all that was written."""
    route = match.route
    if match.rivals:
        losers = ", ".join(dict.fromkeys(f"{each.ingress} to {each.backend.service}" for each in match.rivals))
        oldest = "the oldest Ingress wins"
        chance = f"{trail.controller.name} takes either of them, and maybe the other after its next change"
        return ProblemError(
            "rules-collide",
            f"several Ingresses have the rule {route.host}{route.path}: {route.ingress} to {route.backend.service} "
            f"takes the request, and not {losers}; {oldest if match.is_settled else chance}",
            evidence,
            fix="Leave the host and the path to one of these Ingresses.",
            commands=(),
            state=WARNING,
        )
    if match.ignored:
        return ProblemError(
            "annotation-ignored",
            f"{trail.controller.name} does not know what the Ingress {route.ingress} asks for: "
            f"{', '.join(match.ignored)}",
            evidence,
            fix="Take out of the Ingress what has no effect.",
            commands=(without(trail, route.ingress, match.ignored),),
            state=WARNING,
        )
    return None


def unmatched(trail: Trail) -> ProblemError:
    """Return why no rule takes the request: the host, the class, what the controller refuses, or the path."""
    known, controller, lab = trail.rules(), trail.controller, trail.lab.name
    if known.refused:
        return _refused(trail, *known.refused[0])
    if known.served:
        return _pathless(trail, known.served)
    if known.foreign:
        ingress, its_class = known.foreign[0]
        wanted = f'{{"spec":{{"ingressClassName":"{controller.ingress_class}"}}}}'
        if its_class == controller.ingress_class and not known.classes:
            return _unclassed(trail)
        return ProblemError(
            "ingress-class-other",
            f"the Ingress {ingress} has the class {its_class}; {controller.name} serves the class "
            f"{controller.ingress_class}",
            fix=f"Give the Ingress the class {controller.ingress_class}.",
            commands=(kubectl_route(lab, "patch", ingress, "--type=merge", "-p", wanted),),
        )
    hosts = ", ".join(known.hosts) or "no host"
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


def _unclassed(trail: Trail) -> ProblemError:
    """Return that the controller's IngressClass is not there, or is another controller's, which none can change."""
    name, controller, lab = trail.controller.ingress_class, trail.controller.name, trail.lab.name
    ingress_class = trail.cluster.get(*ROUTE_CLASS, name)
    if ingress_class is None:
        return ProblemError("ingress-class-missing", f"there is no IngressClass {name} of {controller}")
    its = ingress_class.get("spec", {}).get("controller", "nobody")
    return ProblemError(
        "ingress-class-missing",
        f"the IngressClass {name} is of {its}, and {controller} serves those of {rules.CONTROLLER} only",
        fix=f"Delete the IngressClass, whose controller cannot be changed, and run `{labctl(lab, 'up')}`.",
        commands=(kubectl(lab, "delete", ROUTE_CLASS.resource, name), labctl(lab, "up")),
    )


def _refused(trail: Trail, ingress: str, refusal: Refusal) -> ProblemError:
    lab, commands = trail.lab.name, []
    text = f"{trail.controller.name} does not serve the Ingress {ingress}: {refusal.reason}"
    if refusal.is_of_guard:
        fix = f"Correct {', '.join(refusal.remove)}: without them, everybody would get to the app."
        return ProblemError("guard-unusable", text, fix=fix, commands=())
    if refusal.remove:
        commands.append(without(trail, ingress, refusal.remove))
    if refusal.loose_paths:
        change = [{"op": "replace", "path": place, "value": "ImplementationSpecific"} for place in refusal.loose_paths]
        patch = json.dumps(change, separators=(",", ":"))
        commands.append(kubectl_route(lab, "patch", ingress, "--type=json", "-p", patch))
    fix = "Take the reason away; these lines do it."
    return ProblemError("ingress-refused", text, fix=fix, commands=tuple(commands))


def _pathless(trail: Trail, served: tuple[Route, ...]) -> ProblemError:
    """Return that no rule has the path, and the line that gives it to the only Service there is."""
    route, lab = served[0], trail.lab.name
    paths = ", ".join(dict.fromkeys(each.path for each in served))
    text = f"the Ingress {route.ingress} has no rule for {trail.hostname}{trail.path}; it has {paths}"
    if trail.is_labctls(route.ingress):
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
    return ProblemError("ingress-path-missing", text, fix="Give the Ingress a rule for this path.", commands=commands)


def without(trail: Trail, ingress: str, names: Iterable[str]) -> str:
    """Return the line that takes annotations out of an Ingress."""
    words = (f"{ANNOTATION}{each}-" for each in names)
    return kubectl_route(trail.lab.name, "annotate", ingress, *words)
