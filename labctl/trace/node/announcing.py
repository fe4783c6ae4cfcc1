"""Why no node announces an address: what MetalLB's speakers decide by, asked in their order."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import yaml

from labctl.cluster import unready
from labctl.model.lab import Lab
from labctl.trace import backend
from labctl.trace.metallb import metallb
from labctl.trace.node import layer2, node_facts
from labctl.trace.node.kept_off import kept_off
from labctl.trace.node.layer2 import EXCLUDED, Layer2, Objects
from labctl.trace.problem import UP, Evidence, ProblemError, kubectl, labctl
from labctl.trace.trail import Trail

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

EXCLUDED_INTERFACES = "metallb-excludel2"
RESTART = ("-n", metallb.NAMESPACE, "rollout", "restart", "daemonset", "speaker")


def unannounced(trail: Trail, evidence: Evidence, silence: str) -> ProblemError:
    """Return why nobody announces the address: the first thing that MetalLB lacks for it. Raises LabError."""
    seen = layer2.read(trail)
    for look in LOOKS:
        if problem := look(seen):
            return ProblemError(
                problem.cause, f"{silence}: {problem.text}", evidence, fix=problem.fix, commands=problem.commands
            )
    first = seen.candidates[0]
    return ProblemError(
        "address-not-announced",
        f"{silence}: it was asked for several times, and MetalLB's speaker on {first} should answer",
        evidence,
        fix="Give the speakers what they need, and restart them: they then decide again who announces what.",
        commands=(labctl(trail.lab.name, "up"), kubectl(trail.lab.name, *RESTART)),
    )


def endangered(trail: Trail) -> ProblemError | None:
    """Return what keeps a node from announcing that goes on only because its speaker had begun before. Raises LabError.

    A speaker that has no interface left to announce on does not withdraw what it has announced.
    """
    advertisements = trail.cluster.find(metallb.API, "L2Advertisement", metallb.NAMESPACE)
    if not any((each.get("spec") or {}).get("interfaces") for each in advertisements):
        return None
    seen = layer2.read(trail)
    return _no_interface(seen) if seen.candidates else None


def _no_advertisement(seen: Layer2) -> ProblemError | None:
    return None if seen.advertisements else ProblemError("advertisement-missing", "MetalLB has no L2Advertisement")


def _no_endpoint(seen: Layer2) -> ProblemError | None:
    controller = seen.trail.controller
    if seen.serving:
        return None
    pods = backend.controller_pods(seen.trail.cluster, controller)
    if not any(map(backend.is_ready, pods)):
        reasons = "; ".join(filter(None, map(backend.why_not_ready, pods))) or "there is none"
        text = (
            f"no pod of the ingress controller {controller.name} is ready ({reasons}), and MetalLB announces nothing "
            "for a Service without one"
        )
        return ProblemError("controller-not-ready", text)
    return not_selected(seen.lab, seen.service, pods)


def not_selected(lab: Lab, service: Mapping[str, Any], pods: Objects) -> ProblemError:
    """Return why a Service leads to none of the pods that are ready."""
    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    selector: Mapping[str, str] = service["spec"].get("selector") or {}
    labels = pods[0]["metadata"].get("labels", {})
    wrong = [key for key, value in selector.items() if labels.get(key) != value]
    fields = ",".join(f'"{key}":null' for key in wrong)
    patch = kubectl(
        lab.name,
        "-n",
        namespace,
        "patch",
        "service",
        name,
        "--type=merge",
        "-p",
        f'{{"spec":{{"selector":{{{fields}}}}}}}',
    )
    told = ", ".join(f"{key}={selector[key]}" for key in wrong) or "none"
    return ProblemError(
        "controller-not-selected",
        f"the selector of the Service {namespace}/{name} ({told}) selects none of the ingress controller's pods",
        fix="Take what labctl did not set out of the selector; `labctl up` sets the rest.",
        commands=(*((patch,) if wrong else ()), labctl(lab.name, "up")),
    )


def _other_pools(seen: Layer2) -> ProblemError | None:
    if seen.selecting or seen.pool is None:
        return None
    pool = seen.pool["metadata"]["name"]
    told = "; ".join(f"{each['metadata']['name']} selects {_pools_of(each)}" for each in seen.advertisements)
    return ProblemError(
        "advertisement-of-another-pool", f"no L2Advertisement selects the pool {pool}, which it is out of: {told}"
    )


def _no_node(seen: Layer2) -> ProblemError | None:
    if seen.selected:
        return None
    told = ", ".join(str(each["metadata"]["name"]) for each in seen.selecting)
    return ProblemError(
        "advertisement-selects-no-node", f"the nodeSelectors of the L2Advertisement {told} select none of the nodes"
    )


def _excluded(seen: Layer2) -> ProblemError | None:
    if seen.allowed:
        return None
    serving = {each.name for each in seen.lab.serving_nodes}
    names = [name for name in seen.selected if name in serving] or seen.selected
    whole = "every node" if len(seen.selected) == len(seen.nodes) else " and ".join(seen.selected)
    return ProblemError(
        "nodes-excluded",
        f"{whole} has the label {EXCLUDED}",
        fix="Take the label from the nodes that are to announce.",
        commands=(kubectl(seen.lab.name, "label", "node", *names, f"{EXCLUDED}-"),),
    )


def _no_speaker(seen: Layer2) -> ProblemError | None:
    if seen.speaking:
        return None
    cause, text = "speaker-not-ready", f"MetalLB's speaker is not ready on {' or '.join(seen.allowed)}"
    if seen.speaker is None:
        return ProblemError(cause, f"{text}: there is no DaemonSet {metallb.NAMESPACE}/speaker")
    nodes = [node for node in seen.nodes if node["metadata"]["name"] in seen.allowed]
    reasons = {each.command: each.reason for node in nodes for each in kept_off(seen.lab.name, seen.speaker, node)}
    if reasons:
        fix = "Take back what keeps the speaker off the nodes."
        told = "; ".join(dict.fromkeys(reasons.values()))
        return ProblemError(cause, f"{text}: {told}", fix=fix, commands=tuple(reasons))
    pods = "; ".join(map(str, unready.problems(seen.trail.cluster, dict(seen.speaker))))
    return ProblemError(
        cause,
        f"{text}: {pods or 'no pod has been started there'}",
        fix=f"{UP} If it stays so, restart the speakers.",
        commands=(labctl(seen.lab.name, "up"), kubectl(seen.lab.name, *RESTART)),
    )


def _apart(seen: Layer2) -> ProblemError | None:
    if seen.candidates:
        return None
    where, speaking = " and ".join(sorted(seen.serving)), " and ".join(seen.speaking)
    return ProblemError(
        "pods-and-speakers-apart",
        f"with externalTrafficPolicy Local a node announces only what it has a ready pod for: the ingress controller's "
        f"are on {where}, and those that may announce are {speaking}",
        fix="Let the nodes with pods announce, or the others have pods.",
        commands=_joined(seen),
    )


def _joined(seen: Layer2) -> tuple[str, ...]:
    """Return the commands that let a node with pods announce, by what keeps each from it."""
    lab, commands = seen.lab.name, []
    for node in seen.nodes:
        name = node["metadata"]["name"]
        if name not in seen.serving:
            continue
        if name not in seen.selected:
            commands.append(labctl(lab, "up"))
        elif name not in seen.allowed:
            commands.append(kubectl(lab, "label", "node", name, f"{EXCLUDED}-"))
        elif seen.speaker is not None:
            commands += [each.command for each in kept_off(lab, seen.speaker, node)]
    return tuple(dict.fromkeys(commands)) or (labctl(lab, "up"), kubectl(lab, *RESTART))


def _no_interface(seen: Layer2) -> ProblemError | None:
    """Look at the one node that has to announce: it does not pass the address on where it lacks the interface."""
    first = seen.candidates[0]
    node = next(each for each in seen.nodes if each["metadata"]["name"] == first)
    selecting = [each for each in seen.selecting if layer2.selects_node(each, node)]
    wanted = [(each.get("spec") or {}).get("interfaces") or [] for each in selecting]
    has = node_facts.interfaces(seen.trail, first)
    if not has:
        return None
    names = {name for each in wanted for name in each}
    if all(wanted) and not names & has.keys():
        told = ", ".join(sorted(names))
        text = f"the L2Advertisement asks for the interface {told}, and {first}, whose turn it is, has {', '.join(has)}"
        return ProblemError("advertisement-selects-no-interface", text)
    device = next((name for name, addresses in has.items() if _is_in_lab(seen.lab, addresses)), None)
    patterns = _excluded_patterns(seen.trail.cluster)
    if device and (pattern := next((each for each in patterns if re.search(each, device)), None)):
        return ProblemError(
            "interface-excluded",
            f"the ConfigMap {EXCLUDED_INTERFACES} keeps MetalLB off {device}, the interface of the lab's network: {pattern}",
            fix=f"{UP} The speakers read it when they start.",
            commands=(labctl(seen.lab.name, "up"), kubectl(seen.lab.name, *RESTART)),
        )
    return None


def _is_in_lab(lab: Lab, addresses: Collection[str]) -> bool:
    return any(IPv4Address(each) in lab.network for each in addresses)


def _excluded_patterns(cluster: Cluster) -> list[str]:
    found = cluster.get("v1", "ConfigMap", EXCLUDED_INTERFACES, metallb.NAMESPACE) or {}
    texts = list((found.get("data") or {}).values())
    settings = yaml.safe_load(texts[0]) if texts else None
    return list((settings or {}).get("announcedInterfacesToExclude") or ()) if isinstance(settings, dict) else []


def _pools_of(advertisement: Mapping[str, Any]) -> str:
    spec = advertisement.get("spec") or {}
    names = ", ".join(spec.get("ipAddressPools") or ())
    return names or "pools by their labels"


LOOKS: Sequence[Callable[[Layer2], ProblemError | None]] = (
    _no_advertisement,
    _no_endpoint,
    _other_pools,
    _no_node,
    _excluded,
    _no_speaker,
    _apart,
    _no_interface,
)
"""In the order in which one needs the other."""
