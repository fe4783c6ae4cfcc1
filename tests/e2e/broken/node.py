"""Labs in which no node, or the wrong machine, answers at the ingress controller's address."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from e2e.reallab import RealLab, eventually, run

from . import Act, BrokenLab
from .breaking import ADDRESS, CONTROLLER, METALLB, SERVICE, kubectl, patch, replace, sequence, wait_for_rollout

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
SPEAKER = ("daemonset", "speaker", *METALLB)
SYSTEM = ("-n", "kube-system")
PROXY = ("daemonset", "kube-proxy", *SYSTEM)
PROXY_PODS = (*SYSTEM, "pods", "-l", "k8s-app=kube-proxy")
CONTROL_PLANE_NUMBER = 10
"""The last number of the control plane's address, from which the addresses and pod networks of nodes are counted."""
WRONG_MAC = "02:00:00:00:00:99"


def _bridge(lab: RealLab) -> str:
    """Return this machine's interface in the lab's network."""
    links = json.loads(lab.inside("ip", "-j", "-4", "address", "show"))
    return next(
        str(link["ifname"]) for link in links if any(each["local"] == "192.168.56.1" for each in link["addr_info"])
    )


def _node_evidence(lab: RealLab) -> Mapping[str, Any]:
    """Return the evidence of `trace` at the hop `node`."""
    hops = lab.labctl("trace", "-o", "json", code=None).document()["hops"]
    evidence: Mapping[str, Any] = next(hop["evidence"] for hop in hops if hop["hop"] == "node")
    return evidence


def _announcer(lab: RealLab) -> str:
    """Return the node that answers ARP for the address, once only one does."""
    [answer] = eventually(lambda: _node_evidence(lab).get("answers_arp", []), lambda answers: len(answers) == 1)
    return str(answer["node"])


def _wait_until_unannounced(lab: RealLab) -> None:
    """Wait until no node announces the address, and flush it from the ARP cache."""
    eventually(lambda: _node_evidence(lab).get("answers_arp"), lambda answers: answers == [])
    lab.inside("ip", "neigh", "flush", "to", ADDRESS)


def _in_node(*words: str) -> Act:
    """Run a command in the announcing node."""
    return lambda lab: lab.docker("exec", _announcer(lab), *words)


def _in_other_node(*words: str) -> Act:
    """Run a command in the node that does not announce."""

    def act(lab: RealLab) -> None:
        announcer = _announcer(lab)
        lab.docker("exec", next(name for name in _nodes(lab) if name != announcer), *words)

    return act


def _in_every_node(*words: str) -> Act:
    """Run a command in each node, and ignore its exit code."""

    def act(lab: RealLab) -> None:
        for name in _nodes(lab):
            lab.docker("exec", name, *words, code=None)

    return act


def _inside(*words: str, code: int | None = 0) -> Act:
    return lambda lab: lab.inside(*words, code=code)


def _nodes(lab: RealLab) -> list[str]:
    return [node["metadata"]["name"] for node in lab.objects("nodes")["items"]]


def _add_foreign_machine(lab: RealLab) -> None:
    """Add a foreign machine with the address to the lab's network."""
    namespace = f"{lab.name}-stranger"
    run("ip", "netns", "add", namespace)
    lab.inside("ip", "link", "add", "stranger", "type", "veth", "peer", "name", "eth0", "netns", namespace)
    lab.inside("ip", "link", "set", "stranger", "master", _bridge(lab), "up")
    run("ip", "-n", namespace, "address", "add", f"{ADDRESS}/24", "dev", "eth0")
    run("ip", "-n", namespace, "link", "set", "eth0", "up")


def _remove_foreign_machine(lab: RealLab) -> None:
    run("ip", "netns", "delete", f"{lab.name}-stranger", code=None)


def _add_permanent_entry(lab: RealLab) -> None:
    lab.inside("ip", "neigh", "replace", ADDRESS, "lladdr", WRONG_MAC, "dev", _bridge(lab), "nud", "permanent")


def _remove_permanent_entry(lab: RealLab) -> None:
    lab.inside("ip", "neigh", "flush", "to", ADDRESS, "nud", "permanent")


def _stop_speakers(lab: RealLab) -> None:
    patch(*SPEAKER, merge={"spec": {"template": {"spec": {"nodeSelector": {"no": "where"}}}}})(lab)
    _wait_until_unannounced(lab)


def _start_speakers(lab: RealLab) -> None:
    patch(*SPEAKER, merge={"spec": {"template": {"spec": {"nodeSelector": {"no": None}}}}})(lab)
    wait_for_rollout(lab, *SPEAKER)


def _stop_kube_proxy(lab: RealLab) -> None:
    """Keep kube-proxy off the announcing node, and delete its rules there."""
    node = _announcer(lab)
    elsewhere = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [node]}
    required = {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [elsewhere]}]}
    }
    patch(*PROXY, merge={"spec": {"template": {"spec": {"affinity": {"nodeAffinity": required}}}}})(lab)
    eventually(lambda: lab.kubectl("get", *PROXY_PODS, f"--field-selector=spec.nodeName={node}"), lambda pods: not pods)
    lab.docker("exec", node, "nft", "delete", "table", "ip", "kube-proxy")


def _start_kube_proxy(lab: RealLab) -> None:
    patch(*PROXY, merge={"spec": {"template": {"spec": {"affinity": None}}}})(lab)
    wait_for_rollout(lab, *PROXY)


def _networks(lab: RealLab) -> Mapping[str, tuple[str, str]]:
    """Return each node's pod network, and the address by which the other nodes reach it."""
    networks = {}
    for node in lab.objects("nodes")["items"]:
        [address] = [each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP"]
        number = int(str(address).rpartition(".")[2]) - CONTROL_PLANE_NUMBER
        networks[str(node["metadata"]["name"])] = f"10.244.{number}.0/24", str(address)
    return networks


def _delete_pod_route(lab: RealLab) -> None:
    """Delete the announcing node's route to the pods of the other one."""
    node = _announcer(lab)
    [(network, _)] = [each for name, each in _networks(lab).items() if name != node]
    lab.docker("exec", node, "ip", "route", "del", network)


def _delete_return_pod_route(lab: RealLab) -> None:
    """Delete the other node's route to the pods of the announcing one."""
    node = _announcer(lab)
    networks = _networks(lab)
    [other] = [name for name in networks if name != node]
    lab.docker("exec", other, "ip", "route", "del", networks[node][0])


def _restore_pod_routes(lab: RealLab) -> None:
    networks = _networks(lab)
    for node in networks:
        for name, (network, address) in networks.items():
            if name != node:
                lab.docker("exec", node, "ip", "route", "replace", network, "via", address, "dev", "eth1")


def _rule_between_pods(*more: str) -> Act:
    """Add a routing rule to the announcing node that drops packets from its pods to those of the other node."""

    def act(lab: RealLab) -> None:
        node, networks = _announcer(lab), _networks(lab)
        [there] = [network for name, (network, _) in networks.items() if name != node]
        ends = ("to", there, *more) if more else ("from", networks[node][0], "to", there)
        lab.docker("exec", node, "ip", "rule", "add", *ends, "blackhole", "pref", "50")

    return act


def _give_another_node_the_address(lab: RealLab) -> None:
    node = _announcer(lab)
    other = next(name for name in _nodes(lab) if name != node)
    lab.docker("exec", other, "ip", "address", "add", f"{ADDRESS}/32", "dev", "eth1")


def _separate_pods_and_speakers(lab: RealLab) -> None:
    """Run all pods of the ingress controller on a node where no speaker may announce."""
    node = _announcer(lab)
    lab.kubectl("cordon", node)
    lab.kubectl("scale", *CONTROLLER, "--replicas=1")
    lab.kubectl("rollout", "restart", *CONTROLLER)
    wait_for_rollout(lab, *CONTROLLER)
    [pod] = eventually(lambda: lab.objects("pods", "-n", "ingress-nginx")["items"], lambda pods: len(pods) == 1)
    lab.kubectl("uncordon", node)
    lab.kubectl("label", "node", pod["spec"]["nodeName"], f"{EXCLUDED}=")
    _wait_until_unannounced(lab)


def _undo_separation(lab: RealLab) -> None:
    lab.kubectl("uncordon", *_nodes(lab))
    lab.kubectl("label", "nodes", "--all", f"{EXCLUDED}-")


def _report_networks(status: str) -> Act:
    """Report the network of every node as unavailable, or as available again."""
    condition = {"type": "NetworkUnavailable", "status": status, "reason": "Broken"}
    merge = json.dumps({"status": {"conditions": [condition]}})

    def act(lab: RealLab) -> None:
        for name in _nodes(lab):
            lab.kubectl("patch", "node", name, "--subresource=status", "--type=strategic", "-p", merge)

    return act


def _advertise(**spec: Any) -> Act:  # noqa: ANN401 - any field of an L2Advertisement
    """Change labctl's own L2Advertisement, and restart the speakers so that they forget the old one."""

    def act(lab: RealLab) -> None:
        patch("l2advertisement", lab.name, *METALLB, merge={"spec": spec})(lab)
        lab.kubectl("delete", "pods", *METALLB, "-l", "component=speaker")
        wait_for_rollout(lab, *SPEAKER)
        _wait_until_unannounced(lab)

    return act


_OWN_TABLE = ("nft", "add", "table", "netdev", "fw")
_INGRESS = ("nft", "add", "chain", "netdev", "fw", "in", "{ type filter hook ingress device eth1 priority 0; }")
_DROP = ("nft", "add", "rule", "netdev", "fw", "in", "ip", "daddr", ADDRESS, "drop")
_FIREWALL = ("nft", "add", "table", "inet", "fw")
_FORWARD = ("nft", "add", "chain", "inet", "fw", "forward", "{ type filter hook forward priority 0; }")
_REFUSAL = ("nft", "add", "rule", "inet", "fw", "forward", "ip", "saddr", "192.168.56.1", "reject")

ROWS = (
    BrokenLab(
        "no L2Advertisement",
        sequence(kubectl("delete", "l2advertisements", "--all", *METALLB), _wait_until_unannounced),
        "node",
        "advertisement-missing",
    ),
    BrokenLab(
        "no L2Advertisement, and a cached ARP entry",
        kubectl("delete", "l2advertisements", "--all", *METALLB),
        "node",
        "advertisement-missing",
        state="warning",
    ),
    BrokenLab(
        "an L2Advertisement that selects no node",
        _advertise(nodeSelectors=[{"matchLabels": {"no": "where"}}]),
        "node",
        "advertisement-selects-no-node",
    ),
    BrokenLab(
        "an L2Advertisement on an interface that no node has",
        _advertise(interfaces=["eth9"]),
        "node",
        "advertisement-selects-no-interface",
    ),
    BrokenLab(
        "an L2Advertisement of another pool",
        _advertise(ipAddressPools=["other"]),
        "node",
        "advertisement-of-another-pool",
    ),
    BrokenLab(
        "the exclude label on every node",
        sequence(kubectl("label", "nodes", "--all", "--overwrite", f"{EXCLUDED}="), _wait_until_unannounced),
        "node",
        "nodes-excluded",
        up="reports",
        undo=kubectl("label", "nodes", "--all", f"{EXCLUDED}-"),
    ),
    BrokenLab(
        "nodes whose network is reported as unavailable",
        sequence(_report_networks("True"), _wait_until_unannounced),
        "node",
        "network-unavailable",
        up="reports",
        undo=_report_networks("False"),
    ),
    BrokenLab(
        "no speaker", sequence(kubectl("delete", *SPEAKER), _wait_until_unannounced), "node", "speaker-not-ready"
    ),
    BrokenLab(
        "a speaker that cannot be scheduled to any node",
        _stop_speakers,
        "node",
        "speaker-not-ready",
        undo=_start_speakers,
    ),
    BrokenLab(
        "pods of the controller on nodes where no speaker may announce",
        _separate_pods_and_speakers,
        "node",
        "pods-and-speakers-apart",
        undo=_undo_separation,
    ),
    BrokenLab(
        "the address at the MAC of a foreign machine",
        _add_foreign_machine,
        "node",
        "address-taken",
        up="reports",
        fixed_by="undo",
        undo=_remove_foreign_machine,
    ),
    BrokenLab(
        "a static ARP entry with a wrong MAC",
        _add_permanent_entry,
        "node",
        "neighbour-fixed",
        up="reports",
        undo=_remove_permanent_entry,
    ),
    BrokenLab(
        "an unreachable route on this machine",
        _inside("ip", "route", "add", "unreachable", f"{ADDRESS}/32"),
        "node",
        "route-in-the-way",
        up="reports",
        undo=_inside("ip", "route", "del", "unreachable", f"{ADDRESS}/32", code=None),
    ),
    BrokenLab(
        "a routing rule on this machine that rejects",
        _inside("ip", "rule", "add", "to", ADDRESS, "prohibit", "pref", "100"),
        "node",
        "route-in-the-way",
        up="reports",
        undo=_inside("ip", "rule", "del", "pref", "100", code=None),
    ),
    BrokenLab(
        "an nftables rule that drops at the node's interface",
        sequence(_in_node(*_OWN_TABLE), _in_node(*_INGRESS), _in_node(*_DROP)),
        "node",
        "filtered-on-node",
        up="reports",
        undo=_in_every_node("nft", "delete", "table", "netdev", "fw"),
    ),
    BrokenLab(
        "another node that does not forward",
        _in_other_node("sysctl", "-w", "net.ipv4.ip_forward=0"),
        "response",
        "forwarding-off",
        up="reports",
        undo=_in_every_node("sysctl", "-w", "net.ipv4.ip_forward=1"),
    ),
    BrokenLab(
        "a rule on this machine that drops packets between nodes",
        _inside("iptables", "-I", "FORWARD", "-p", "tcp", "--dport", "80", "-j", "DROP"),
        "response",
        "filtered-here",
        up="reports",
        undo=_inside("iptables", "-D", "FORWARD", "-p", "tcp", "--dport", "80", "-j", "DROP", code=None),
    ),
    BrokenLab(
        "the address on this machine",
        _inside("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"),
        "node",
        "route-in-the-way",
        up="reports",
        undo=_inside("ip", "address", "del", f"{ADDRESS}/32", "dev", "lo", code=None),
    ),
    BrokenLab(
        "a rule on this machine that drops",
        _inside("iptables", "-I", "OUTPUT", "-p", "tcp", "--dport", "80", "-j", "DROP"),
        "node",
        "filtered-here",
        up="reports",
        undo=_inside("iptables", "-D", "OUTPUT", "-p", "tcp", "--dport", "80", "-j", "DROP", code=None),
    ),
    BrokenLab(
        "a rule on this machine that rejects",
        _inside("iptables", "-I", "OUTPUT", "-d", ADDRESS, "-j", "REJECT"),
        "node",
        "filtered-here",
        up="reports",
        undo=_inside("iptables", "-D", "OUTPUT", "-d", ADDRESS, "-j", "REJECT", code=None),
    ),
    BrokenLab(
        "no kube-proxy and none of its rules on the announcing node",
        _stop_kube_proxy,
        "node",
        "kube-proxy-not-running",
        up="reports",
        undo=_start_kube_proxy,
    ),
    BrokenLab(
        "a Service that selects no pod of the controller",
        patch(*SERVICE, merge={"spec": {"selector": {"app.kubernetes.io/component": "other"}}}),
        "node",
        "controller-not-selected",
    ),
    BrokenLab(
        "a Service with another port",
        replace("/spec/ports/0/port", 81, *SERVICE),
        "node",
        "service-port-missing",
        up="reports",
        undo=replace("/spec/ports/0/port", 80, *SERVICE),
        up_id="kubernetes-refused",
    ),
    BrokenLab(
        "a Service with a target port that no pod of the controller has",
        replace("/spec/ports/0/targetPort", "nowhere", *SERVICE),
        "node",
        "target-port-missing",
    ),
    BrokenLab(
        "a node that does not forward",
        _in_node("sysctl", "-w", "net.ipv4.ip_forward=0"),
        "node",
        "forwarding-off",
        up="reports",
        undo=_in_every_node("sysctl", "-w", "net.ipv4.ip_forward=1"),
    ),
    BrokenLab(
        "a rule on the node that rejects",
        sequence(_in_node(*_FIREWALL), _in_node(*_FORWARD), _in_node(*_REFUSAL)),
        "node",
        "filtered-on-node",
        up="reports",
        undo=_in_every_node("nft", "delete", "table", "inet", "fw"),
    ),
    BrokenLab(
        "loadBalancerSourceRanges without this machine",
        patch(*SERVICE, merge={"spec": {"loadBalancerSourceRanges": ["10.0.0.0/8"]}}),
        "node",
        "source-not-allowed",
        up="reports",
        undo=patch(*SERVICE, merge={"spec": {"loadBalancerSourceRanges": None}}),
    ),
    BrokenLab(
        "another node that has the address on an interface",
        _give_another_node_the_address,
        "node",
        "announced-twice",
        up="fine",
        state="warning",
        undo=_in_every_node("ip", "address", "del", f"{ADDRESS}/32", "dev", "eth1"),
    ),
    BrokenLab(
        "no route from the announcing node to the pods of the other one",
        _delete_pod_route,
        "response",
        "pod-route-missing",
        up="reports",
        undo=_restore_pod_routes,
    ),
    BrokenLab(
        "no route back to the pods of the announcing node",
        _delete_return_pod_route,
        "response",
        "pod-route-missing",
        up="reports",
        undo=_restore_pod_routes,
    ),
    BrokenLab(
        "a routing rule between the pods of two nodes",
        _rule_between_pods(),
        "response",
        "pod-route-missing",
        up="reports",
        undo=_in_every_node("ip", "rule", "del", "pref", "50"),
    ),
    BrokenLab(
        "a routing rule for a port, which labctl does not evaluate",
        _rule_between_pods("ipproto", "tcp", "dport", "80"),
        "response",
        "node-not-reached",
        up="reports",
        undo=_in_every_node("ip", "rule", "del", "pref", "50"),
    ),
    BrokenLab(
        "pods of the controller that started without their rights",
        sequence(
            kubectl("delete", "clusterrolebinding", "ingress-nginx"),
            kubectl("delete", "pods", "--all", "-n", "ingress-nginx"),
            _wait_until_unannounced,
        ),
        "node",
        "controller-not-ready",
    ),
    BrokenLab(
        "speakers that started without their rights",
        sequence(
            kubectl("delete", "clusterrolebinding", "metallb-system:speaker"),
            kubectl("delete", "pods", *METALLB, "-l", "component=speaker"),
            _wait_until_unannounced,
        ),
        "node",
        "address-not-announced",
    ),
    BrokenLab("no controller pod", kubectl("scale", *CONTROLLER, "--replicas=0"), "node", "controller-not-ready"),
)
