"""Find why no node announces an address: the conditions of MetalLB's speakers, in their order."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from labctl.cluster import unready
from labctl.model.lab import Lab
from labctl.model.sentences import clause
from labctl.trace import backend
from labctl.trace.metallb import metallb
from labctl.trace.node import layer2, node_facts
from labctl.trace.node.layer2 import EXCLUDED, UNAVAILABLE, Layer2, Objects
from labctl.trace.node.scheduling import obstacles
from labctl.trace.problem import UP, Evidence, ProblemError, kubectl, labctl, patch_service
from labctl.trace.rules.routes import full_name
from labctl.trace.trail import Trail

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

NOT_ANNOUNCED = "address-not-announced"
"""The cause if every condition is met."""
EXCLUDED_INTERFACES = "metallb-excludel2"
RESTART = ("-n", metallb.NAMESPACE, "rollout", "restart", "daemonset", "speaker")


def not_announced(trail: Trail, evidence: Evidence, silence: str, silent: Collection[str]) -> ProblemError:
    """Return why no node announces the address: the first unmet condition. Raises LabError.

    `silent` are the nodes that do not answer ARP for their own address either.
    """
    layer2_state = layer2.read(trail)
    for look in CHECKS:
        if problem := look(layer2_state):
            return problem.within(f"{silence}: {problem.text}", evidence)
    first, lab = layer2_state.candidates[0], trail.lab.name
    if first in silent:
        return ProblemError(
            NOT_ANNOUNCED,
            f"{silence}: {first}, whose speaker should announce it, does not answer for its own address either",
            evidence,
            fix="If the node does not answer again within seconds, restart it.",
            commands=(labctl(lab, "halt", first), labctl(lab, "resume")),
        )
    return ProblemError(
        NOT_ANNOUNCED,
        f"{silence}: several ARP requests got no answer, although MetalLB's speaker on {first} should announce it",
        evidence,
        fix="Run `labctl up` to restore the speakers' configuration, then restart them: they choose the announcing node again.",
        commands=(labctl(lab, "up"), kubectl(lab, *RESTART)),
    )


def not_announceable_again(trail: Trail) -> ProblemError | None:
    """Return why the announcing node's speaker would not announce the address again. Raises LabError.

    A speaker without a selected interface does not withdraw what it already announces.
    """
    advertisements = trail.cluster.find(metallb.API, "L2Advertisement", metallb.NAMESPACE)
    if not any((each.get("spec") or {}).get("interfaces") for each in advertisements):
        return None
    layer2_state = layer2.read(trail)
    return _no_interface(layer2_state) if layer2_state.candidates else None


def _no_advertisement(layer2_state: Layer2) -> ProblemError | None:
    return (
        None if layer2_state.advertisements else ProblemError("advertisement-missing", "MetalLB has no L2Advertisement")
    )


def _no_endpoint(layer2_state: Layer2) -> ProblemError | None:
    controller = layer2_state.trail.controller
    if layer2_state.serving:
        return None
    pods = backend.controller_pods(layer2_state.trail.cluster, controller)
    if not any(map(backend.is_ready, pods)):
        reasons = backend.no_controller_reason(layer2_state.trail.cluster, controller)
        text = (
            f"no pod of the ingress controller {controller.name} is ready ({reasons}), and MetalLB does not announce "
            "the address of a Service without a ready pod"
        )
        return ProblemError("controller-not-ready", text)
    return not_selected(layer2_state.lab, layer2_state.service, pods)


def not_selected(lab: Lab, service: Mapping[str, Any], pods: Objects) -> ProblemError:
    """Return why a Service selects none of the ready pods."""
    selector: Mapping[str, str] = service["spec"].get("selector") or {}
    labels = pods[0]["metadata"].get("labels", {})
    wrong = [key for key, value in selector.items() if labels.get(key) != value]
    patch = patch_service(lab.name, service, {"spec": {"selector": dict.fromkeys(wrong)}})
    labels_text = ", ".join(f"{key}={selector[key]}" for key in wrong) or "none"
    return ProblemError(
        "controller-not-selected",
        f"the selector of the Service {full_name(service)} ({labels_text}) selects none of the ingress controller's pods",
        fix="Remove the labels that labctl did not set from the selector, then run `labctl up` to restore the rest.",
        commands=(*((patch,) if wrong else ()), labctl(lab.name, "up")),
    )


def _other_pools(layer2_state: Layer2) -> ProblemError | None:
    if layer2_state.selecting or layer2_state.pool is None:
        return None
    pool = layer2_state.pool["metadata"]["name"]
    selections = "; ".join(
        f"{each['metadata']['name']} selects {_pools_of(each)}" for each in layer2_state.advertisements
    )
    return ProblemError(
        "advertisement-of-another-pool", f"no L2Advertisement selects the address's pool {pool}: {selections}"
    )


def _no_node(layer2_state: Layer2) -> ProblemError | None:
    if layer2_state.selected:
        return None
    names = " and ".join(f"L2Advertisement {each['metadata']['name']}" for each in layer2_state.selecting)
    return ProblemError("advertisement-selects-no-node", f"the nodeSelectors of {names} select none of the nodes")


def _excluded(layer2_state: Layer2) -> ProblemError | None:
    if layer2_state.allowed:
        return None
    serving = {each.name for each in layer2_state.lab.serving_nodes}
    names = [name for name in layer2_state.selected if name in serving] or layer2_state.selected
    whole = ["every node"] if len(layer2_state.selected) == len(layer2_state.nodes) else layer2_state.selected
    return ProblemError(
        "nodes-excluded",
        f"{clause(whole, 'has', 'have')} the label {EXCLUDED}",
        fix="Remove the label from the nodes that should announce.",
        commands=(kubectl(layer2_state.lab.name, "label", "node", *names, f"{EXCLUDED}-"),),
    )


def _no_network(layer2_state: Layer2) -> ProblemError | None:
    if layer2_state.available:
        return None
    allowed = layer2_state.allowed
    whole = ["every node"] if len(allowed) == len(layer2_state.nodes) else allowed
    return ProblemError(
        "network-unavailable",
        f"{clause(whole, 'has', 'have')} the condition {UNAVAILABLE}, and MetalLB does not announce from such a node",
        fix="Clear the condition. If it returns, correct the component that sets it.",
        commands=tuple(_clear_condition_command(layer2_state.lab, name) for name in allowed),
    )


def _clear_condition_command(lab: Lab, node: str) -> str:
    """Return the command that sets a node's condition to False."""
    condition = {"type": UNAVAILABLE, "status": "False", "reason": "Cleared"}
    patch = json.dumps({"status": {"conditions": [condition]}}, separators=(",", ":"))
    return kubectl(lab.name, "patch", "node", node, "--subresource=status", "--type=strategic", "-p", patch)


def _no_speaker(layer2_state: Layer2) -> ProblemError | None:
    if layer2_state.speaking:
        return None
    cause, text = "speaker-not-ready", f"MetalLB's speaker is not ready on {' or '.join(layer2_state.available)}"
    if layer2_state.speaker is None:
        return ProblemError(cause, f"{text}: there is no DaemonSet {metallb.NAMESPACE}/speaker")
    nodes = [node for node in layer2_state.nodes if node["metadata"]["name"] in layer2_state.available]
    reasons = {
        each.command: each.reason
        for node in nodes
        for each in obstacles(layer2_state.lab.name, layer2_state.speaker, node)
    }
    if reasons:
        fix = "Remove what keeps the speaker from running on the nodes."
        reasons_text = "; ".join(dict.fromkeys(reasons.values()))
        return ProblemError(cause, f"{text}: {reasons_text}", fix=fix, commands=tuple(reasons))
    pods = "; ".join(map(str, unready.problems(layer2_state.trail.cluster, dict(layer2_state.speaker))))
    return ProblemError(
        cause,
        f"{text}: {pods or 'it has no pod there'}",
        fix=f"{UP} If the problem remains, restart the speakers.",
        commands=(labctl(layer2_state.lab.name, "up"), kubectl(layer2_state.lab.name, *RESTART)),
    )


def _announcers_without_pods(layer2_state: Layer2) -> ProblemError | None:
    if layer2_state.candidates:
        return None
    where, speaking = " and ".join(sorted(layer2_state.serving)), " and ".join(layer2_state.speaking)
    return ProblemError(
        "pods-and-speakers-apart",
        f"with externalTrafficPolicy Local, only a node with a ready pod announces: the ingress controller's pods "
        f"are on {where}, but the nodes that may announce are {speaking}",
        fix="Let the nodes with pods announce, or move the pods to nodes that may announce.",
        commands=_announce_commands(layer2_state),
    )


def _announce_commands(layer2_state: Layer2) -> tuple[str, ...]:
    """Return the commands that let the nodes with pods announce."""
    lab, commands = layer2_state.lab.name, []
    for node in layer2_state.nodes:
        name = node["metadata"]["name"]
        if name not in layer2_state.serving:
            continue
        if name not in layer2_state.selected:
            commands.append(labctl(lab, "up"))
        elif name not in layer2_state.allowed:
            commands.append(kubectl(lab, "label", "node", name, f"{EXCLUDED}-"))
        elif name not in layer2_state.available:
            commands.append(_clear_condition_command(layer2_state.lab, name))
        elif layer2_state.speaker is not None:
            commands += [each.command for each in obstacles(lab, layer2_state.speaker, node)]
    return tuple(dict.fromkeys(commands)) or (labctl(lab, "up"), kubectl(lab, *RESTART))


def _no_interface(layer2_state: Layer2) -> ProblemError | None:
    """Check the node that has to announce: no other node takes over if it lacks the interface."""
    first = layer2_state.candidates[0]
    node = next(each for each in layer2_state.nodes if each["metadata"]["name"] == first)
    selecting = [each for each in layer2_state.selecting if layer2.selects_node(each, node)]
    wanted = [(each.get("spec") or {}).get("interfaces") or [] for each in selecting]
    has = node_facts.interfaces(layer2_state.trail, first)
    if not has:
        return None
    names = {name for each in wanted for name in each}
    if all(wanted) and not names & has.keys():
        interfaces_text = ", ".join(sorted(names))
        text = f"the L2Advertisement selects the interface {interfaces_text}, but {first}, which has to announce, has {', '.join(has)}"
        return ProblemError("advertisement-selects-no-interface", text)
    network = layer2_state.lab.network
    device = next((name for name, addresses in has.items() if any(each.ip in network for each in addresses)), None)
    patterns = _excluded_patterns(layer2_state.trail.cluster)
    if device and (pattern := next((each for each in patterns if _matches(each, device)), None)):
        return ProblemError(
            "interface-excluded",
            f"the ConfigMap {EXCLUDED_INTERFACES} excludes {device}, the interface of the lab's network: {pattern}",
            fix=f"{UP} Then restart the speakers, which read it when they start.",
            commands=(labctl(layer2_state.lab.name, "up"), kubectl(layer2_state.lab.name, *RESTART)),
        )
    return None


def _excluded_patterns(cluster: Cluster) -> list[str]:
    configmap = cluster.get("v1", "ConfigMap", EXCLUDED_INTERFACES, metallb.NAMESPACE) or {}
    texts = list((configmap.get("data") or {}).values())
    try:
        settings = yaml.safe_load(texts[0]) if texts else None
    except (yaml.YAMLError, ValueError, RecursionError):  # a speaker does not start with it, so it read another
        return []
    return list((settings or {}).get("announcedInterfacesToExclude") or ()) if isinstance(settings, dict) else []


def _matches(pattern: str, device: str) -> bool:
    try:
        return re.search(pattern, device) is not None
    except re.error:  # a speaker does not start with it, or only Go accepts its syntax
        return False


def _pools_of(advertisement: Mapping[str, Any]) -> str:
    spec = advertisement.get("spec") or {}
    names = ", ".join(spec.get("ipAddressPools") or ())
    return names or "pools by their labels"


CHECKS: Sequence[Callable[[Layer2], ProblemError | None]] = (
    _no_advertisement,
    _no_endpoint,
    _other_pools,
    _no_node,
    _excluded,
    _no_network,
    _no_speaker,
    _announcers_without_pods,
    _no_interface,
)
"""The conditions in order: each check relies on the earlier ones being met."""
