"""Find why connections to an announced address fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from labctl.cluster import unready
from labctl.host.arp import Route
from labctl.host.http_probe import HTTP
from labctl.host.parsing import ipv4_network
from labctl.host.tcp_connect import ConnectResult
from labctl.model.errors import LabError
from labctl.model.lab import Lab, Node
from labctl.trace import backend
from labctl.trace.node import announcing, attempt, forwarding, layer2, node_facts
from labctl.trace.node.attempt import Attempt
from labctl.trace.node.host_routes import packets_filtered
from labctl.trace.node.scheduling import obstacles
from labctl.trace.probes.filters import ARP_TOO, BRIDGE, Ruleset, Stop
from labctl.trace.probes.packets import ESTABLISHED, NEW, REPLY, REQUEST, ArpPacket, Packet
from labctl.trace.problem import BROKEN, WARNING, Evidence, ProblemError, kubectl, labctl, patch_service
from labctl.trace.rules.routes import full_name
from labctl.trace.trail import Trail

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

NO_CONNECTION = "no-connection"
"""The cause if no other one is found."""
SYSTEM = "kube-system"
PROXIES = "k8s-app=kube-proxy"
REINSTALL = ("sudo", "kubeadm", "init", "phase", "addon", "kube-proxy", "--config", "/etc/labctl/kubeadm.yaml")


def explain(
    trail: Trail, route: Route, connection: ConnectResult, name: str | None, evidence: Evidence
) -> ProblemError:
    """Return why a connection failed."""
    text = outcome(trail, connection)
    problem = _filtered_here(trail, route)
    node = next((each for each in trail.lab.nodes if each.name == name), None)
    tried: Attempt | None = None
    if problem is None and node is not None:
        tried = attempt.read(trail, route, node)
        problem = next(filter(None, (look(tried) for look in CHECKS)), None)
    if problem is not None:
        return problem.within(f"{text}; {problem.text}", evidence)
    remark = f"no reason was found on {name}" if name else "the announcing node is unknown"
    if tried is not None and tried.facts is None:
        remark = f"{name}, which announces the address, did not report its network state in time"
    if trail.client.filters() is None:
        remark += "; this user cannot read this machine's packet filter"
    fix = "Check the packet filters and networks between this machine and the node's pods."
    return ProblemError(NO_CONNECTION, f"{text}; {remark}", evidence, fix=fix, commands=())


def outcome(trail: Trail, connection: ConnectResult) -> str:
    """Return how a connection failed, as a clause."""
    return f"no connection to {trail.address}, port {HTTP}: {connection.reason}"


def no_node_reachable(trail: Trail, route: Route, evidence: Evidence) -> ProblemError:
    """Return why no node answers ARP, not even for its own address: the cause is on the path that all nodes share."""
    text = f"no node of the lab answers ARP on {route.device}, not even for its own address"
    rules = trail.client.filters()
    stop = _arp_stop(rules[0], route, trail.lab.control_plane.address) if rules else None
    if rules and stop:
        problem = packets_filtered(trail, rules[1], stop, "ARP packets")
        return problem.within(f"{text}: {problem.text}", evidence)
    again = tuple(labctl(trail.lab.name, word) for word in ("halt", "resume"))
    fix = "Restart the lab to reconnect its nodes to the network. If that does not help, check the network's interface."
    return ProblemError("nodes-silent", text, evidence, fix=fix, commands=again)


def arp_dropped(trail: Trail, route: Route, evidence: Evidence, *, is_remembered: bool) -> ProblemError | None:
    """Return a problem if this machine's packet filter drops ARP, which this trace's own requests bypass."""
    rules = trail.client.filters() if trail.client.filters_arp() else None
    stop = _arp_stop(rules[0], route, trail.address) if rules else None
    if rules is None or stop is None:
        return None
    problem = packets_filtered(trail, rules[1], stop, f"ARP packets for {trail.address}")
    kept = "; for now, the kernel's ARP entry still works" if is_remembered else ""
    return problem.within(problem.text + kept, evidence, WARNING if is_remembered else BROKEN)


def affects_other_connections(
    trail: Trail, route: Route, names: Sequence[str], evidence: Evidence
) -> ProblemError | None:
    """Return a problem that affects later or other connections, although this one succeeded."""
    node = next((each for each in trail.lab.nodes if each.name in names), None)
    if node is None:
        return None
    try:
        service, endpoints = attempt.service_of(trail)
        passing = (
            _no_proxy_on_node(trail, node)
            or _proxy_elsewhere(trail, node, endpoints)
            or announcing.not_announceable_again(trail)
        )
    except LabError:
        return None
    if passing is not None:
        return passing.within(passing.text, evidence, WARNING)
    pods = attempt.pods_of(service, endpoints, node)
    if all(pod.node == node.name for pod in pods):
        return None
    facts = node_facts.query_node(trail, node, route.source, pods)
    problem = forwarding.pod_unreachable(Attempt(trail, route, node, service, pods, facts))
    return problem and problem.within(problem.text, evidence)


def _filtered_here(trail: Trail, route: Route) -> ProblemError | None:
    """Return a problem if a rule of this machine's packet filter drops the packets or the replies."""
    rules = trail.client.filters()
    stop = _stop(rules[0], route, trail.address) if rules else None
    if rules is None or stop is None:
        return None
    problem = packets_filtered(trail, rules[1], stop, "the packets")
    problem.fix = "Remove the rule, or add a rule before it that accepts packets to the lab's network."
    return problem


def _stop(ruleset: Ruleset, route: Route, address: IPv4Address) -> Stop | None:
    """Return the rule that stops packets to an address or the replies, including ARP, also at a bridge."""
    here, device = route.source, route.device
    there, back = (
        Packet(here, address, None, HTTP, None, device, NEW),
        Packet(address, here, HTTP, None, device, None, ESTABLISHED),
    )
    ports = replace(there, goes_out=None), replace(back, comes_in=None)  # the bridge's ports are unknown
    return (
        ruleset.stop(there, "output", "postrouting", "egress")
        or ruleset.stop(back, "ingress", "prerouting", "input")
        or ruleset.stop(ports[0], "output", "postrouting", families=BRIDGE)
        or ruleset.stop(ports[1], "prerouting", "input", families=BRIDGE)
        or _arp_stop(ruleset, route, address)
    )


def _arp_stop(ruleset: Ruleset, route: Route, address: IPv4Address) -> Stop | None:
    request = ArpPacket(route.source, address, REQUEST, route.device)
    reply = ArpPacket(address, route.source, REPLY, route.device)
    ports = replace(request, device=None), replace(reply, device=None)  # the bridge's ports are unknown
    return (
        ruleset.stop(request, "output", "egress", families=ARP_TOO)
        or ruleset.stop(reply, "ingress", "input", families=ARP_TOO)
        or ruleset.stop(ports[0], "output", "postrouting", families=BRIDGE)
        or ruleset.stop(ports[1], "prerouting", "input", families=BRIDGE)
    )


def _not_for_this_machine(attempt: Attempt) -> ProblemError | None:
    if attempt.service is None:
        return None
    spec = attempt.service["spec"]
    ports = [each["port"] for each in spec.get("ports") or ()]
    if HTTP not in ports:
        return _no_port(attempt.lab, attempt.service, ports)
    ranges = spec.get("loadBalancerSourceRanges") or ()
    networks = filter(None, (ipv4_network(each.strip()) for each in ranges))
    if ranges and not any(attempt.route.source in each for each in networks):
        return ProblemError(
            "source-not-allowed",
            f"the Service {full_name(attempt.service)} only accepts connections from {', '.join(ranges)}, and this machine's address is "
            f"{attempt.route.source}",
            fix="Remove `loadBalancerSourceRanges` from the Service.",
            commands=(patch_service(attempt.lab.name, attempt.service, {"spec": {"loadBalancerSourceRanges": None}}),),
        )
    return None


def _no_port(lab: Lab, service: Mapping[str, Any], ports: Sequence[int]) -> ProblemError:
    """Return the problem that the port is missing. `up` alone would add a port whose name another port has."""
    port = {"name": "http", "port": HTTP, "protocol": "TCP", "targetPort": "http"}
    return ProblemError(
        "service-port-missing",
        f"the Service {full_name(service)} has no port {HTTP}; its ports are {', '.join(map(str, ports))}",
        fix="Restore the Service's port, then run `labctl up` to restore the rest.",
        commands=(patch_service(lab.name, service, {"spec": {"ports": [port]}}), labctl(lab.name, "up")),
    )


def _no_pod(attempt: Attempt) -> ProblemError | None:
    if attempt.pods or attempt.service is None:
        return None
    trail, controller = attempt.trail, attempt.trail.controller
    pods = backend.controller_pods(trail.cluster, controller)
    ready = [each for each in pods if backend.is_ready(each)]
    if not ready:
        reasons = backend.no_controller_reason(trail.cluster, controller)
        return ProblemError(
            "controller-not-ready", f"no pod of the ingress controller {controller.name} is ready: {reasons}"
        )
    endpoints = layer2.endpoints(trail.cluster, controller.namespace, controller.service)
    if not endpoints:
        return announcing.not_selected(attempt.lab, attempt.service, ready)
    if problem := _no_target(attempt.service, attempt.node, endpoints):
        return problem
    return ProblemError(
        "no-pod-on-node",
        f"externalTrafficPolicy is Local, and no pod of the ingress controller is ready on {attempt.node.name}",
        fix="The address moves to a node with a ready pod. If it does not, restart the speakers.",
        commands=(kubectl(attempt.lab.name, *announcing.RESTART),),
    )


def _no_target(service: Mapping[str, Any], node: Node, endpoints: Sequence[Mapping[str, Any]]) -> ProblemError | None:
    """Return a problem if the node has a ready pod, but the Service's port maps to none of the pod's ports."""
    port: Mapping[str, Any] = next((each for each in service["spec"].get("ports") or () if each["port"] == HTTP), {})
    ready = [each for each in endpoints if each.get("nodeName") == node.name and layer2.is_ready(each)]
    named = [one for each in ready for one in each["ports"] if (one.get("name") or "") == port.get("name", "")]
    if not ready or any(one.get("port") for one in named):
        return None
    return ProblemError(
        "target-port-missing",
        f"the targetPort of the Service {full_name(service)} for port {HTTP} is {port.get('targetPort')}, which the pods of the ingress controller do not have",
    )


def _no_proxy(attempt: Attempt) -> ProblemError | None:
    try:
        return _proxy_missing(attempt.trail, attempt.node)
    except LabError:
        return None


def _no_proxy_on_node(trail: Trail, node: Node) -> ProblemError | None:
    problem = _proxy_missing(trail, node)
    if problem is not None:
        problem.text += ": its rules there still work, but are no longer updated"
    return problem


def _proxy_elsewhere(trail: Trail, node: Node, endpoints: Sequence[Mapping[str, Any]]) -> ProblemError | None:
    """Return why kube-proxy is not running on another node with a controller pod, to which the address may move."""
    serving = {each.get("nodeName") for each in endpoints if (each.get("conditions") or {}).get("ready", True)}
    others = (each for each in trail.lab.nodes if each != node and each.name in serving)
    problem = next(filter(None, (_proxy_missing(trail, each) for each in others)), None)
    if problem is not None:
        problem.text += f": connections fail if the address moves there from {node.name}"
    return problem


def _proxy_missing(trail: Trail, node: Node) -> ProblemError | None:
    """Return why kube-proxy is not running on a node. Raises LabError."""
    cluster, lab = trail.cluster, trail.lab
    pods = [each for each in cluster.find("v1", "Pod", SYSTEM, PROXIES) if each["spec"].get("nodeName") == node.name]
    if any(map(backend.is_ready, pods)):
        return None
    again = labctl(lab.name, "ssh", lab.control_plane.name, "--", *REINSTALL)
    return ProblemError(
        "kube-proxy-not-running",
        f"kube-proxy is not running on {node.name}: {_no_proxy_reason(cluster, lab, node)}",
        fix="Let kubeadm reinstall kube-proxy.",
        commands=(again,),
    )


def _no_proxy_reason(cluster: Cluster, lab: Lab, node: Node) -> str:
    daemonset = cluster.get("apps/v1", "DaemonSet", "kube-proxy", SYSTEM)
    if daemonset is None:
        return f"there is no DaemonSet {SYSTEM}/kube-proxy"
    live = cluster.get("v1", "Node", node.name) or {"metadata": {"name": node.name}}
    reasons = [each.reason for each in obstacles(lab.name, daemonset, live)]
    problems = [str(each) for each in unready.problems(cluster, daemonset)]
    return "; ".join(reasons or problems) or "it has no pod there"


def _no_rules(attempt: Attempt) -> ProblemError | None:
    facts, lab = attempt.facts, attempt.lab.name
    if facts is None or facts.has_rule_for(attempt.address) is not False:
        return None
    selector = f"spec.nodeName={attempt.node.name}"
    return ProblemError(
        "kube-proxy-rules-missing",
        f"kube-proxy has no rule for {attempt.address}, port {HTTP}, on {attempt.node.name}",
        fix="Restart kube-proxy on the node: it writes its rules when it starts.",
        commands=(kubectl(lab, "-n", SYSTEM, "delete", "pod", "-l", PROXIES, f"--field-selector={selector}"),),
    )


CHECKS: Sequence[Callable[[Attempt], ProblemError | None]] = (
    _not_for_this_machine,
    _no_pod,
    _no_proxy,
    _no_rules,
    forwarding.forwarding_off,
    forwarding.filtered_on_node,
    forwarding.arp_filtered,
    forwarding.no_return_route,
    forwarding.pod_unreachable,
)
"""The checks, from the outside in."""
