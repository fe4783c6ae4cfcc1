"""Tests of the hop to the node: which node answers ARP, whether a connection succeeds, and why it fails."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import pytest
from fakes import ADDRESS, FakeCluster, FakeProvider, lab, with_fakes
from golden_files import Golden

from labctl.context import Context
from labctl.host.arp import Neighbour, Route
from labctl.host.http_probe import HTTP, Address
from labctl.host.interfaces import Interface
from labctl.host.process import Finished
from labctl.host.routes import TableRoute
from labctl.host.tcp_connect import CONNECTED, SILENT, ConnectResult
from labctl.model.errors import NotReadyError, ProviderError
from labctl.model.lab import Node
from labctl.providers import clock
from labctl.trace.node import node, node_facts, scheduling
from labctl.trace.probes import filters
from labctl.trace.probes.client import Client
from labctl.trace.probes.filters import Ruleset
from labctl.trace.problem import BROKEN, UNKNOWN, WARNING, Evidence, ProblemError
from labctl.trace.trail import Trail

OURS = IPv4Address(ADDRESS)
CONTROL_PLANE, WORKER = IPv4Address("192.168.56.10"), IPv4Address("192.168.56.11")
A, B = "demo-control-plane", "demo-worker-1"
MAC_A, MAC_B, STRANGER = "02:42:c0:a8:38:0a", "02:42:c0:a8:38:0b", "52:54:00:00:00:99"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
NAMESPACE, NAME, METALLB, SYSTEM = "ingress-nginx", "ingress-nginx-controller", "metallb-system", "kube-system"
SERVICE = ("v1", "Service", NAMESPACE, NAME)
ADVERTISEMENT = ("metallb.io/v1beta1", "L2Advertisement", METALLB, "demo")
SPEAKERS = ("apps/v1", "DaemonSet", METALLB, "speaker")
PROXIES = ("apps/v1", "DaemonSet", SYSTEM, "kube-proxy")
SLICE = ("discovery.k8s.io/v1", "EndpointSlice", NAMESPACE, "controller-s")
EXCLUDED_INTERFACES = ("v1", "ConfigMap", METALLB, "metallb-excludel2")
READY = {"conditions": [{"type": "Ready", "status": "True"}]}
GATEWAY = IPv4Address("192.168.56.1")
ROUTE = Route("br-demo", GATEWAY, "")
KUBECTL = "labctl --name demo exec -- kubectl"
LAB = "labctl --name demo"
UP = f"{LAB} up"
RESTART = f"{KUBECTL} -n metallb-system rollout restart daemonset speaker"
REINSTALL = (
    "labctl --name demo ssh demo-control-plane -- sudo kubeadm init phase addon kube-proxy "
    "--config /etc/labctl/kubeadm.yaml"
)
ON_A = f"labctl --name demo ssh {A} -- sudo"
INTO_A = f"labctl --name demo exec -- docker exec {A}"
ON_B = f"labctl --name demo ssh {B} -- sudo"
SPEAKER_PATCH = f"{KUBECTL} -n metallb-system patch daemonset speaker --type=merge -p"
SERVICE_PATCH = f"{KUBECTL} -n ingress-nginx patch service {NAME} --type=merge -p '"
Json = dict[str, Any]


@dataclass
class FakeMachine(Client):
    """A machine in the lab's network, in which the first node announces the address."""

    way: Route | None = ROUTE
    macs: dict[IPv4Address, set[str]] = field(
        default_factory=lambda: {OURS: {MAC_A}, CONTROL_PLANE: {MAC_A}, WORKER: {MAC_B}}
    )
    entry: Neighbour | None = None
    outcome: ConnectResult = field(default_factory=lambda: ConnectResult(CONNECTED))
    may_ask: bool = True
    rules: list[Json] = field(default_factory=list)
    kernel_routes: list[TableRoute] = field(default_factory=list)
    kernel_interfaces: list[Interface] = field(default_factory=list)
    kernel_rules: list[Json] = field(default_factory=list)
    found: str = ""

    @property
    def is_root(self) -> bool:
        return False

    @property
    def may_query_arp(self) -> bool:
        return self.may_ask

    def route(self, address: IPv4Address) -> Route | None:  # noqa: ARG002 - the fake has one route
        return self.way

    def query_arp(self, addresses: Collection[IPv4Address], route: Route) -> dict[IPv4Address, frozenset[str]]:  # noqa: ARG002 - the fake has one network
        if not self.macs:
            raise OSError(1, "Operation not permitted")
        return {address: frozenset(self.macs.get(address, ())) for address in addresses}

    def neighbour(self, address: IPv4Address, route: Route) -> Neighbour | None:  # noqa: ARG002 - the fake has one entry
        return self.entry

    def connect(self, addresses: Sequence[Address], seconds: float, port: int = HTTP) -> dict[Address, ConnectResult]:  # noqa: ARG002 - the fake responds at once
        return dict.fromkeys(addresses, self.outcome)

    def routes(self) -> list[TableRoute]:
        return self.kernel_routes

    def interfaces(self) -> list[Interface]:
        return self.kernel_interfaces

    def routing_rules(self) -> list[Json]:
        return self.kernel_rules

    def mac(self, device: str) -> str:  # noqa: ARG002 - the fake has one interface
        return STRANGER

    def bridge(self, context: Context) -> str:  # noqa: ARG002 - the fake has one network
        return "br-demo"

    def owner_of(self, mac: str, context: Context) -> str:  # noqa: ARG002 - the fake knows at most one owner
        return self.found

    def filters(self) -> tuple[Ruleset, str] | None:
        return _parsed(self.rules), ""

    def filters_arp(self) -> bool:
        return any(each.get("family") == "arp" for each in self.rules)


def _parsed(rules: list[Json]) -> Ruleset:
    return filters.parse(json.dumps({"nftables": _nft_listing(rules)}))


def _nft_listing(rules: list[Json]) -> list[Json]:
    """Return a chain with one rule for each hook, as nft lists them."""
    listed: list[Json] = []
    for each in rules:
        place = {"family": each.get("family", "ip"), "table": "fw"}
        listed.append({"chain": {"prio": 0, **each, **place, "name": each["hook"]}})
        listed.append({"rule": {**place, "chain": each["hook"], "handle": 4, "expr": each["expr"]}})
    return listed


def _drop_rule(hook: str, field_name: str, value: str, protocol: str = "ip", **chain: object) -> Json:
    match = {"op": "==", "left": {"payload": {"protocol": protocol, "field": field_name}}, "right": value}
    return {"hook": hook, "expr": [{"match": match}, {"drop": None}], **chain}


def _dnat_rules(chain: str) -> list[Json]:
    jump, target = {"jump": {"target": chain}}, {"xt": {"type": "target", "name": "DNAT"}}
    return [{"hook": "prerouting", "expr": [jump]}, {"hook": chain, "expr": [target]}]


def _routing_rule(priority: int, **fields: object) -> Json:
    return {"priority": priority, "src": "all", **fields}


def _static_neighbour(address: str, mac: str, device: str = "eth1") -> Json:
    return {"dst": address, "dev": device, "lladdr": mac, "state": ["PERMANENT"]}


MAINS = _routing_rule(32766, table="main")


@dataclass
class NodeState:
    """The first node's network state, which its commands print."""

    forward: str = "1"
    served: list[str] = field(default_factory=lambda: [ADDRESS])
    rules: list[Json] = field(default_factory=list)
    back: Json = field(default_factory=lambda: {"dev": "eth1"})
    routing_rules: list[Json] = field(default_factory=list)
    tables: list[Json] = field(default_factory=list)
    neighbours: list[Json] = field(default_factory=list)
    routes: dict[str, Json] = field(
        default_factory=lambda: {"10.244.0.2": {"dev": "veth1"}, "10.244.1.2": {"gateway": str(WORKER), "dev": "eth1"}}
    )
    opens: list[str] = field(default_factory=lambda: ["10.244.0.2", "10.244.1.2"])
    has_curl: bool = True
    interfaces: dict[str, str] = field(default_factory=lambda: {"lo": "127.0.0.1", "eth1": str(CONTROL_PLANE)})
    prefix: int = 32
    machine: str = "192.168.56.1"

    def respond(self, command: Sequence[str]) -> Finished:
        has = [
            {"ifname": name, "mtu": 1500, "addr_info": [{"local": at, "prefixlen": self.prefix}]}
            for name, at in self.interfaces.items()
        ]
        services = [[{"concat": [each, "tcp", 80]}, {"goto": {"target": "external"}}] for each in self.served]
        proxy = {"map": {"family": "ip", "table": "kube-proxy", "name": "service-ips", "elem": services}}
        outputs = {
            "true": "",
            "cat": f"{self.forward}\n",
            "ip address": json.dumps(has),
            "ip rule": json.dumps(self.routing_rules),
            "ip table": json.dumps(self.tables),
            "ip neigh": json.dumps(self.neighbours),
            "nft -j": json.dumps({"nftables": [proxy, *_nft_listing(self.rules)]}),
            "nft -a": "",
            f"ip {self.machine}": json.dumps([self.back]),
            **{f"ip {pod}": json.dumps([route]) for pod, route in self.routes.items()},
        }
        if command[0] == "curl" and not self.has_curl:
            return Finished(127, "", ("curl: not found",))
        if command[0] == "curl":
            return Finished(0, "0.0004" if any(f"//{pod}:" in command[-1] for pod in self.opens) else "0.000000", ())
        for words, text in outputs.items():
            if command[0] == words.split()[0] and set(words.split()) <= set(command):
                return Finished(0, text, ())
        return Finished(2, "", ())


@dataclass
class BreakableLab:
    """The cluster, the machine and the node, which a test breaks."""

    trail: Trail
    cluster: FakeCluster
    machine: FakeMachine
    provider: FakeProvider
    inside: NodeState = field(default_factory=NodeState)

    def set(self, key: tuple[str, str, str, str], **fields: Any) -> BreakableLab:  # noqa: ANN401 - any field of an object
        self.cluster.objects[key] |= fields
        return self

    def spec(self, key: tuple[str, str, str, str], **fields: Any) -> BreakableLab:  # noqa: ANN401 - any field of an object
        self.cluster.objects[key]["spec"] |= fields
        return self

    def pod_spec(self, key: tuple[str, str, str, str], **fields: Any) -> BreakableLab:  # noqa: ANN401 - any field of a pod
        self.cluster.objects[key]["spec"]["template"]["spec"] |= fields
        return self

    def remove(self, *keys: tuple[str, str, str, str]) -> BreakableLab:
        for key in keys:
            del self.cluster.objects[key]
        return self

    def remove_pods(self, namespace: str, node_name: str = "") -> BreakableLab:
        for key, pod in list(self.cluster.objects.items()):
            if key[1:3] == ("Pod", namespace) and node_name in {"", pod["spec"]["nodeName"]}:
                del self.cluster.objects[key]
        return self

    def label(self, name: str, **labels: str) -> BreakableLab:
        self.cluster.objects["v1", "Node", "", name]["metadata"]["labels"] = labels
        return self

    def exclude(self, *names: str) -> BreakableLab:
        for name in names:
            self.label(name, **{EXCLUDED: ""})
        return self

    def cut_off(self, *names: str) -> BreakableLab:
        unavailable = {"conditions": [{"type": "NetworkUnavailable", "status": "True"}]}
        for name in names:
            self.cluster.objects["v1", "Node", "", name]["status"] = unavailable
        return self

    def stop_announcing(self) -> BreakableLab:
        self.machine.macs.pop(OURS)
        return self

    def refuse_connections(self) -> BreakableLab:
        self.machine.outcome = ConnectResult(SILENT, "no answer")
        return self

    def set_machine(self, **fields: Any) -> BreakableLab:  # noqa: ANN401 - any field of a machine
        self.machine = replace(self.machine, **fields)
        self.trail.client = self.machine
        return self

    def set_node(self, **fields: Any) -> BreakableLab:  # noqa: ANN401 - any field of a node
        self.inside = replace(self.inside, **fields)
        return self

    def serve_from(self, *nodes: str) -> BreakableLab:
        """Keep the ingress controller's ready pods on these nodes only."""
        endpoint = self.cluster.objects[SLICE]
        endpoint["endpoints"] = [each for each in endpoint["endpoints"] if each["nodeName"] in nodes]
        return self

    def run_hop(self) -> Evidence:
        self.provider.answers = dict.fromkeys((A, B), self.inside.respond)
        return node.node(self.trail)

    def problem(self) -> ProblemError:
        with pytest.raises(ProblemError) as raised:
            self.run_hop()
        return raised.value


@pytest.fixture
def world(context: Context, cluster: FakeCluster) -> BreakableLab:
    provider = FakeProvider()
    provider.nodes = {A, B}
    context = with_fakes(context, provider, cluster, context.bundle)
    machine = FakeMachine()
    trail = Trail(context, machine, "my-app.local", "/", cluster)
    trail.evidence = {"name": {"address": ADDRESS}, "address": {"service": f"{NAMESPACE}/{NAME}", "pool": "demo"}}
    endpoints = [
        {"addresses": [pod], "nodeName": name, "conditions": {"ready": True}}
        for pod, name in (("10.244.0.2", A), ("10.244.1.2", B))
    ]
    http = [{"name": "http", "port": 80}]
    template: Json = {"template": {"spec": {"containers": [{"args": []}]}}}
    objects: Mapping[tuple[str, str, str, str], Json] = {
        SERVICE: {
            "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": http, "selector": {"app": "c"}}
        },
        SLICE: {
            "metadata": {"labels": {"kubernetes.io/service-name": NAME}},
            "ports": [{"name": "http", "port": 8000}],
            "endpoints": endpoints,
        },
        ("apps/v1", "Deployment", NAMESPACE, NAME): {"spec": {"selector": {"matchLabels": {"app": "c"}}}},
        ("metallb.io/v1beta1", "IPAddressPool", METALLB, "demo"): {"spec": {}, "metadata": {"labels": {"of": "demo"}}},
        ADVERTISEMENT: {"spec": {"ipAddressPools": ["demo"]}},
        ("metallb.io/v1beta1", "ServiceL2Status", METALLB, "l2"): {
            "status": {"node": A, "serviceNamespace": NAMESPACE, "serviceName": NAME}
        },
        SPEAKERS: {"spec": {"selector": {"matchLabels": {"component": "speaker"}}, **template}},
        PROXIES: {"spec": {"selector": {"matchLabels": {"k8s-app": "kube-proxy"}}, "template": {"spec": {}}}},
        EXCLUDED_INTERFACES: {"data": {"excludel2.yaml": 'announcedInterfacesToExclude: ["^veth.*", "^lo$"]\n'}},
    }
    for (api_version, kind, namespace, name), fields in objects.items():
        cluster.put(api_version, kind, name, namespace, **json.loads(json.dumps(fields)))
    for name in (A, B):
        cluster.put("v1", "Node", name)
        for namespace, label, value in (
            (METALLB, "component", "speaker"),
            (SYSTEM, "k8s-app", "kube-proxy"),
            (NAMESPACE, "app", "c"),
        ):
            metadata = {"labels": {label: value}}
            cluster.put(
                "v1", "Pod", f"{value}-{name}", namespace, metadata=metadata, spec={"nodeName": name}, status=READY
            )
    return BreakableLab(trail, cluster, machine, provider)


def _clear_network_unavailable(name: str) -> str:
    condition = '{"status":{"conditions":[{"type":"NetworkUnavailable","status":"False","reason":"Cleared"}]}}'
    return f"{KUBECTL} patch node {name} --subresource=status --type=strategic -p '{condition}'"


@dataclass(frozen=True, slots=True)
class Case:
    """A breakage, and what the hop reports."""

    breaks: Callable[[BreakableLab], object]
    cause: str
    commands: tuple[str, ...] = (UP,)
    state: str = BROKEN


KEPT_OFF = {"nodeSelector": {"no": "where", "kubernetes.io/os": "linux"}}
AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["x"]}]}
            ]
        }
    }
}
UNANNOUNCED = {
    "no L2Advertisement": Case(lambda world: world.remove(ADVERTISEMENT), "advertisement-missing"),
    "no controller pod": Case(
        lambda world: world.remove_pods(NAMESPACE).set(SLICE, endpoints=[]), "controller-not-ready"
    ),
    "a selector that matches no L2Advertisement": Case(
        lambda world: world.set(SLICE, endpoints=None).spec(SERVICE, selector={"app": "c", "x": "y"}),
        "controller-not-selected",
        (
            f'{KUBECTL} -n ingress-nginx patch service {NAME} --type=merge -p \'{{"spec":{{"selector":{{"x":null}}}}}}\'',
            UP,
        ),
    ),
    "an L2Advertisement of another pool": Case(
        lambda world: world.spec(ADVERTISEMENT, ipAddressPools=["other"]), "advertisement-of-another-pool"
    ),
    "an L2Advertisement of pools with another label": Case(
        lambda world: world.spec(
            ADVERTISEMENT, ipAddressPools=[], ipAddressPoolSelectors=[{"matchLabels": {"of": "another"}}]
        ),
        "advertisement-of-another-pool",
    ),
    "nodeSelectors that match no node": Case(
        lambda world: world.spec(ADVERTISEMENT, nodeSelectors=[{"matchLabels": {"no": "where"}}]),
        "advertisement-selects-no-node",
    ),
    "the exclude label on every node": Case(
        lambda world: world.exclude(A, B), "nodes-excluded", (f"{KUBECTL} label node {A} {B} {EXCLUDED}-",)
    ),
    "the exclude label on the only selected node": Case(
        lambda world: world.label(B, **{EXCLUDED: "", "may": "announce"}).spec(
            ADVERTISEMENT, nodeSelectors=[{"matchLabels": {"may": "announce"}}]
        ),
        "nodes-excluded",
        (f"{KUBECTL} label node {B} {EXCLUDED}-",),
    ),
    "the network of every node reported as unavailable": Case(
        lambda world: world.cut_off(A, B),
        "network-unavailable",
        (_clear_network_unavailable(A), _clear_network_unavailable(B)),
    ),
    "the network of the only node without the exclude label reported as unavailable": Case(
        lambda world: world.exclude(A).cut_off(B), "network-unavailable", (_clear_network_unavailable(B),)
    ),
    "no speaker": Case(lambda world: world.remove(SPEAKERS).remove_pods(METALLB), "speaker-not-ready"),
    "a speaker excluded by a nodeSelector": Case(
        lambda world: world.remove_pods(METALLB).pod_spec(SPEAKERS, nodeSelector={"no": "where"}),
        "speaker-not-ready",
        (f'{SPEAKER_PATCH} \'{{"spec":{{"template":{{"spec":{{"nodeSelector":{{"no":null}}}}}}}}}}\'',),
    ),
    "a speaker excluded by its affinity": Case(
        lambda world: world.remove_pods(METALLB).pod_spec(SPEAKERS, affinity=AFFINITY),
        "speaker-not-ready",
        (f'{SPEAKER_PATCH} \'{{"spec":{{"template":{{"spec":{{"affinity":null}}}}}}}}\'',),
    ),
    "speakers that crash": Case(
        lambda world: world.remove_pods(METALLB, A).set(("v1", "Pod", METALLB, f"speaker-{B}"), status={}),
        "speaker-not-ready",
        (UP, RESTART),
    ),
    "pods only where no speaker can announce": Case(
        lambda world: world.serve_from(A).exclude(A),
        "pods-and-speakers-apart",
        (f"{KUBECTL} label node {A} {EXCLUDED}-",),
    ),
    "pods only where the L2Advertisement selects no node": Case(
        lambda world: (
            world.serve_from(A)
            .label(B, may="announce")
            .spec(ADVERTISEMENT, nodeSelectors=[{"matchExpressions": [{"key": "may", "operator": "Exists"}]}])
        ),
        "pods-and-speakers-apart",
    ),
    "pods only where the speaker is not ready": Case(
        lambda world: world.serve_from(A).remove_pods(METALLB, A), "pods-and-speakers-apart", (UP, RESTART)
    ),
    "an interface that no node has": Case(
        lambda world: world.spec(ADVERTISEMENT, interfaces=["eth9"]), "advertisement-selects-no-interface"
    ),
    "an interface that MetalLB excludes": Case(
        lambda world: world.set(
            EXCLUDED_INTERFACES, data={"excludel2.yaml": 'announcedInterfacesToExclude: ["^eth1"]'}
        ),
        "interface-excluded",
        (UP, RESTART),
    ),
    "unreadable exclusions": Case(
        lambda world: world.set(EXCLUDED_INTERFACES, data={"excludel2.yaml": "announcedInterfacesToExclude: ["}),
        "address-not-announced",
        (UP, RESTART),
    ),
    "exclusions with an invalid date": Case(
        lambda world: world.set(EXCLUDED_INTERFACES, data={"excludel2.yaml": "since: 2026-99-99"}),
        "address-not-announced",
        (UP, RESTART),
    ),
    "too deeply nested exclusions": Case(
        lambda world: world.set(EXCLUDED_INTERFACES, data={"excludel2.yaml": "[" * 600}),
        "address-not-announced",
        (UP, RESTART),
    ),
    "an exclusion that is not a regular expression": Case(
        lambda world: world.set(
            EXCLUDED_INTERFACES, data={"excludel2.yaml": 'announcedInterfacesToExclude: ["*eth1"]'}
        ),
        "address-not-announced",
        (UP, RESTART),
    ),
    "no visible cause": Case(lambda world: world, "address-not-announced", (UP, RESTART)),
    "the announcing node does not answer for itself": Case(
        lambda world: world.set_machine(macs={OURS: set(), WORKER: {MAC_B}}),
        "address-not-announced",
        (f"{LAB} halt {A}", f"{LAB} resume"),
    ),
    "another node does not answer for itself": Case(
        lambda world: world.set_machine(macs={OURS: set(), CONTROL_PLANE: {MAC_A}}),
        "address-not-announced",
        (UP, RESTART),
    ),
    "no node answers for itself": Case(
        lambda world: world.set_machine(macs={OURS: set()}), "nodes-silent", (f"{LAB} halt", f"{LAB} resume")
    ),
    "no node answers, because of a rule on this machine's bridge": Case(
        lambda world: world.set_machine(
            macs={OURS: set()}, rules=[_drop_rule("output", "type", "arp", "ether", family="bridge")]
        ),
        "filtered-here",
        ("sudo nft delete rule bridge fw output handle 4",),
    ),
}
OTHER = "192.168.56.0/24"
UNOPENED = {
    "a rule on this machine": Case(
        lambda world: world.set_machine(rules=[_drop_rule("output", "daddr", ADDRESS)]),
        "filtered-here",
        ("sudo nft delete rule ip fw output handle 4",),
    ),
    "a rule on this machine for responses": Case(
        lambda world: world.set_machine(rules=[_drop_rule("input", "saddr", ADDRESS)]),
        "filtered-here",
        ("sudo nft delete rule ip fw input handle 4",),
    ),
    "a rule on this machine, on its bridge": Case(
        lambda world: world.set_machine(rules=[_drop_rule("output", "daddr", ADDRESS, family="bridge")]),
        "filtered-here",
        ("sudo nft delete rule bridge fw output handle 4",),
    ),
    "a rule on this machine, at its interface": Case(
        lambda world: world.set_machine(
            rules=[_drop_rule("egress", "daddr", ADDRESS, family="netdev", dev=ROUTE.device)]
        ),
        "filtered-here",
        ("sudo nft delete rule netdev fw egress handle 4",),
    ),
    "a rule on this machine, at another interface": Case(
        lambda world: world.set_machine(rules=[_drop_rule("egress", "daddr", ADDRESS, family="netdev", dev="eth0")]),
        "no-connection",
        (),
    ),
    "a rule on this machine for ARP": Case(
        lambda world: world.set_machine(rules=[_drop_rule("output", "daddr ip", ADDRESS, "arp", family="arp")]),
        "filtered-here",
        ("sudo nft delete rule arp fw output handle 4",),
    ),
    "a rule on this machine for ARP of other addresses": Case(
        lambda world: world.set_machine(rules=[_drop_rule("output", "daddr ip", "192.168.56.9", "arp", family="arp")]),
        "no-connection",
        (),
    ),
    "no port 80": Case(
        lambda world: world.spec(SERVICE, ports=[{"port": 8080}]),
        "service-port-missing",
        (
            SERVICE_PATCH + '{"spec":{"ports":[{"name":"http","port":80,"protocol":"TCP","targetPort":"http"}]}}\'',
            UP,
        ),
    ),
    "source ranges without this machine": Case(
        lambda world: world.spec(SERVICE, loadBalancerSourceRanges=[" 10.0.0.0/8", "010.0.0.0/8", "fd00::/8"]),
        "source-not-allowed",
        (SERVICE_PATCH + '{"spec":{"loadBalancerSourceRanges":null}}\'',),
    ),
    "source ranges with this machine in an unusual notation": Case(
        lambda world: world.spec(SERVICE, loadBalancerSourceRanges=[" 192.168.56.0/24 "]), "no-connection", ()
    ),
    "no pod on the node": Case(lambda world: world.serve_from(B), "no-pod-on-node", (RESTART,)),
    "a terminating pod on the node that still serves": Case(
        lambda world: world.set(
            SLICE,
            endpoints=[
                world.cluster.objects[SLICE]["endpoints"][0]
                | {"conditions": {"ready": False, "serving": True, "terminating": True}},
                world.cluster.objects[SLICE]["endpoints"][1],
            ],
        ),
        "no-pod-on-node",
        (RESTART,),
    ),
    "a target port that no pod has": Case(
        lambda world: world.set(SLICE, ports=[]).spec(SERVICE, ports=[{"port": 80, "targetPort": "other"}]),
        "target-port-missing",
    ),
    "no ready pod": Case(lambda world: world.serve_from().remove_pods(NAMESPACE), "controller-not-ready"),
    "pods that are not selected": Case(
        lambda world: world.remove(SLICE).spec(SERVICE, selector={"app": "other"}),
        "controller-not-selected",
        (
            SERVICE_PATCH + '{"spec":{"selector":{"app":null}}}\'',
            UP,
        ),
    ),
    "kube-proxy excluded from the node": Case(
        lambda world: world.remove_pods(SYSTEM, A).pod_spec(PROXIES, affinity=AFFINITY),
        "kube-proxy-not-running",
        (REINSTALL,),
    ),
    "no kube-proxy": Case(
        lambda world: world.remove(PROXIES).remove_pods(SYSTEM), "kube-proxy-not-running", (REINSTALL,)
    ),
    "no rule of kube-proxy": Case(
        lambda world: world.set_node(served=["10.96.0.1"]),
        "kube-proxy-rules-missing",
        (f"{KUBECTL} -n kube-system delete pod -l k8s-app=kube-proxy --field-selector=spec.nodeName={A}",),
    ),
    "a node that does not forward": Case(
        lambda world: world.set_node(forward="0"), "forwarding-off", (f"{ON_A} sysctl -w net.ipv4.ip_forward=1",)
    ),
    "a rule in the node, before kube-proxy": Case(
        lambda world: world.set_node(rules=[_drop_rule("prerouting", "daddr", ADDRESS)]),
        "filtered-on-node",
        (f"{INTO_A} nft delete rule ip fw prerouting handle 4",),
    ),
    "a rule in the node that drops ARP replies of this machine": Case(
        lambda world: world.set_node(rules=[_drop_rule("input", "operation", "reply", "arp", family="arp")]),
        "filtered-on-node",
        (f"{INTO_A} nft delete rule arp fw input handle 4",),
    ),
    "a rule in the node that drops ARP requests of this machine, which the speaker answers nevertheless": Case(
        lambda world: world.set_node(rules=[_drop_rule("input", "operation", "request", "arp", family="arp")]),
        "no-connection",
        (),
    ),
    "a rule in the node, at its interface": Case(
        lambda world: world.set_node(
            rules=[_drop_rule("ingress", "daddr", ADDRESS, family="netdev", dev=["eth0", "eth1"])]
        ),
        "filtered-on-node",
        (f"{INTO_A} nft delete rule netdev fw ingress handle 4",),
    ),
    "a rule in the node for responses, after kube-proxy": Case(
        lambda world: world.set_node(rules=[_drop_rule("postrouting", "saddr", ADDRESS, prio=200)]),
        "filtered-on-node",
        (f"{INTO_A} nft delete rule ip fw postrouting handle 4",),
    ),
    "a rule in the node for responses, too early to match": Case(
        lambda world: world.set_node(rules=[_drop_rule("postrouting", "saddr", ADDRESS)]), "no-connection", ()
    ),
    "a rule in the node, after kube-proxy": Case(
        lambda world: world.set_node(rules=[_drop_rule("forward", "daddr", "10.244.0.2")]),
        "filtered-on-node",
        (f"{INTO_A} nft delete rule ip fw forward handle 4",),
    ),
    "a rule in the node for responses": Case(
        lambda world: world.set_node(rules=[_drop_rule("forward", "saddr", "10.244.0.2")]),
        "filtered-on-node",
        (f"{INTO_A} nft delete rule ip fw forward handle 4",),
    ),
    "responses by another route": Case(
        lambda world: world.set_node(back={"gateway": "172.17.0.1", "dev": "eth0"}),
        "way-back-missing",
        (f"{INTO_A} ip route replace 192.168.56.1 dev eth1",),
    ),
    "a routing rule for responses of pods": Case(
        lambda world: world.set_node(
            routing_rules=[_routing_rule(9, src="10.244.0.0", srclen=16, action="blackhole"), MAINS]
        ),
        "way-back-missing",
        (f"{INTO_A} ip rule del from 10.244.0.0/16 blackhole pref 9",),
    ),
    "routing rules that do not match": Case(
        lambda world: world.set_node(
            routing_rules=[MAINS, _routing_rule(8, fwmark="0x1", action="prohibit"), _routing_rule(9, table="empty")]
        ),
        "no-connection",
        (),
    ),
    "a routing rule whose table leads straight back": Case(
        lambda world: world.set_node(
            routing_rules=[_routing_rule(9, table="77"), MAINS], tables=[{"dst": OTHER, "dev": "eth1", "table": "77"}]
        ),
        "no-connection",
        (),
    ),
    "a routing rule behind one that finds the main table's route": Case(
        lambda world: world.set_node(
            routing_rules=[
                _routing_rule(8, table="main", suppress_prefixlen=0),
                _routing_rule(9, action="prohibit"),
                MAINS,
            ],
            tables=[{"dst": OTHER, "dev": "eth1"}],
        ),
        "no-connection",
        (),
    ),
    "a node that cannot connect to its pods": Case(
        lambda world: world.set_node(opens=[], has_curl=False), "no-connection", ()
    ),
    "kube-proxy's own translation by iptables": Case(
        lambda world: world.set_node(rules=_dnat_rules("KUBE-SERVICES")), "no-connection", ()
    ),
    "endpoints of other kinds": Case(
        lambda world: world.set(
            SLICE,
            endpoints=[
                *world.cluster.objects[SLICE]["endpoints"],
                {"addresses": ["fd00::1"], "nodeName": A},
                {"addresses": ["app.example.com"], "nodeName": A},
            ],
        ),
        "no-connection",
        (),
    ),
    "an endpoint whose port has no number": Case(
        lambda world: world.set(SLICE, ports=[{"name": "http"}]), "target-port-missing"
    ),
    "another translation by iptables": Case(
        lambda world: world.set_node(rules=_dnat_rules("OTHERS")),
        "filtered-on-node",
        (f"{INTO_A} nft delete rule ip fw OTHERS handle 4",),
    ),
    "a static entry for this machine in the node": Case(
        lambda world: world.set_node(neighbours=[_static_neighbour("192.168.56.1", MAC_B)]),
        "neighbour-fixed",
        (f"{INTO_A} ip neigh del 192.168.56.1 dev eth1",),
    ),
    "a correct static entry in the node": Case(
        lambda world: world.set_node(neighbours=[_static_neighbour("192.168.56.1", STRANGER)]), "no-connection", ()
    ),
    "a static entry of another interface of the node": Case(
        lambda world: world.set_node(neighbours=[_static_neighbour("192.168.56.1", MAC_B, "eth0")]), "no-connection", ()
    ),
    "a pod that does not listen on the port": Case(
        lambda world: world.set_node(opens=["10.244.1.2"]), "controller-port-closed"
    ),
    "two nodes answer, and no other reason": Case(
        lambda world: world.machine.macs[OURS].add(MAC_B), "announced-twice", (RESTART,)
    ),
    "two nodes answer, of which one has a wrong static entry": Case(
        lambda world: (
            world.set_node(neighbours=[_static_neighbour("192.168.56.11", STRANGER)]).machine.macs[OURS].add(MAC_B)
        ),
        "neighbour-fixed",
        (f"{INTO_A} ip neigh del 192.168.56.11 dev eth1",),
    ),
    "two nodes answer, of which one drops the packets": Case(
        lambda world: world.set_node(rules=_dnat_rules("OTHERS")).machine.macs[OURS].add(MAC_B),
        "filtered-on-node",
        (f"{INTO_A} nft delete rule ip fw OTHERS handle 4",),
    ),
    "no visible cause": Case(lambda world: world, "no-connection", ()),
}
OPEN = {
    "no kube-proxy, whose rules still work": Case(
        lambda world: world.remove_pods(SYSTEM, A), "kube-proxy-not-running", (REINSTALL,), WARNING
    ),
    "no kube-proxy on the node that may announce next": Case(
        lambda world: world.remove_pods(SYSTEM, B), "kube-proxy-not-running", (REINSTALL,), WARNING
    ),
    "an interface that no node has, and a speaker that still announces": Case(
        lambda world: world.spec(ADVERTISEMENT, interfaces=["eth9"]),
        "advertisement-selects-no-interface",
        (UP,),
        WARNING,
    ),
    "no route to pods on another node": Case(
        lambda world: world.spec(SERVICE, externalTrafficPolicy="Cluster").set_node(
            opens=["10.244.0.2"], routes={"10.244.0.2": {"dev": "veth1"}}
        ),
        "pod-route-missing",
        (f"{ON_A} ip route replace 10.244.1.0/24 via 192.168.56.11 dev eth1",),
    ),
    "another route to pods on another node": Case(
        lambda world: world.spec(SERVICE, externalTrafficPolicy="Cluster").set_node(
            opens=["10.244.0.2"], routes={"10.244.1.2": {"dev": "eth0", "gateway": "172.17.0.1"}}
        ),
        "pod-route-missing",
        (f"{ON_A} ip route replace 10.244.1.0/24 via 192.168.56.11 dev eth1",),
    ),
    "a pod on another node that does not listen on the port": Case(
        lambda world: world.spec(SERVICE, externalTrafficPolicy="Cluster").set_node(opens=["10.244.0.2"]),
        "controller-port-closed",
    ),
    "two nodes answer": Case(lambda world: world.machine.macs[OURS].add(MAC_B), "announced-twice", (RESTART,), WARNING),
    "two nodes answer, of which one has a wrong static entry for the other": Case(
        lambda world: (
            world.set_node(
                interfaces={"eth1": "192.168.56.10"}, neighbours=[_static_neighbour("192.168.56.11", STRANGER)]
            )
            .machine.macs[OURS]
            .add(MAC_B)
        ),
        "neighbour-fixed",
        (f"{INTO_A} ip neigh del 192.168.56.11 dev eth1",),
        WARNING,
    ),
    "two nodes answer, of which one has a correct static entry for the other": Case(
        lambda world: (
            world.set_node(interfaces={"eth1": "192.168.56.10"}, neighbours=[_static_neighbour("192.168.56.11", MAC_B)])
            .machine.macs[OURS]
            .add(MAC_B)
        ),
        "announced-twice",
        (RESTART,),
        WARNING,
    ),
    "two nodes answer, of which one drops ARP replies": Case(
        lambda world: (
            world.set_node(rules=[_drop_rule("input", "operation", "reply", "arp", family="arp")])
            .machine.macs[OURS]
            .add(MAC_B)
        ),
        "filtered-on-node",
        (f"{INTO_A} nft delete rule arp fw input handle 4",),
        WARNING,
    ),
    "a node that has the address on an interface": Case(
        lambda world: world.set_node(interfaces={"eth1": ADDRESS}).machine.macs[OURS].add(MAC_B),
        "announced-twice",
        (f"{ON_A} ip address del {ADDRESS}/32 dev eth1", f"{ON_B} ip address del {ADDRESS}/32 dev eth1"),
        WARNING,
    ),
    "a node that has the address with the network's prefix": Case(
        lambda world: world.set_node(interfaces={"eth1": ADDRESS}, prefix=24).machine.macs[OURS].add(MAC_B),
        "announced-twice",
        (f"{ON_A} ip address del {ADDRESS}/24 dev eth1", f"{ON_B} ip address del {ADDRESS}/24 dev eth1"),
        WARNING,
    ),
    "another node than in MetalLB's status": Case(
        lambda world: world.machine.macs.update({OURS: {MAC_B}}), "announcer-differs", (RESTART,), WARNING
    ),
    "a rule on this machine for ARP, which labctl's own requests bypass": Case(
        lambda world: world.set_machine(rules=[_drop_rule("output", "daddr ip", ADDRESS, "arp", family="arp")]),
        "filtered-here",
        ("sudo nft delete rule arp fw output handle 4",),
    ),
    "a rule on this machine for ARP, while the kernel has an entry": Case(
        lambda world: world.set_machine(
            rules=[_drop_rule("input", "saddr ip", ADDRESS, "arp", family="arp")], entry=Neighbour(MAC_A, "STALE")
        ),
        "filtered-here",
        ("sudo nft delete rule arp fw input handle 4",),
        WARNING,
    ),
    "an unknown machine in addition to the node": Case(
        lambda world: world.machine.macs[OURS].add(STRANGER), "address-taken", ()
    ),
    "a permanent entry": Case(
        lambda world: world.set_machine(entry=Neighbour(MAC_B, "PERMANENT")),
        "neighbour-fixed",
        (f"sudo ip neigh del {ADDRESS} dev br-demo",),
        WARNING,
    ),
    "a permanent entry, and ARP by the kernel": Case(
        lambda world: world.set_machine(
            may_ask=False, entry=Neighbour(STRANGER, "PERMANENT"), macs={OURS: {STRANGER}, CONTROL_PLANE: {MAC_A}}
        ).refuse_connections(),
        "neighbour-fixed",
        (f"sudo ip neigh del {ADDRESS} dev br-demo",),
    ),
    "a permanent entry of another node, and ARP by the kernel": Case(
        lambda world: world.set_machine(may_ask=False, entry=Neighbour(MAC_B, "PERMANENT")),
        "neighbour-fixed",
        (f"sudo ip neigh del {ADDRESS} dev br-demo",),
        WARNING,
    ),
    "no permission for ARP": Case(lambda world: world.machine.macs.clear(), "arp-not-asked", (), UNKNOWN),
}
LABS_OWN = TableRoute(IPv4Network(OTHER), "br-demo", source=str(GATEWAY))
LAST_RESORT = TableRoute(IPv4Network(OTHER), "", "unreachable", metric=4294967295)
BRIDGE = Interface("br-demo", (IPv4Interface(f"{GATEWAY}/24"),))
ROUTE_CASES = {
    "an unreachable route": Case(
        lambda world: world.set_machine(
            way=None,
            kernel_routes=[LABS_OWN, LAST_RESORT, TableRoute(IPv4Network(ADDRESS), "", "unreachable", metric=5)],
        ),
        "route-in-the-way",
        (f"sudo ip route del unreachable {ADDRESS} metric 5",),
    ),
    "a route through a gateway": Case(
        lambda world: world.set_machine(
            way=Route("tun0", IPv4Address("10.8.0.2"), "10.8.0.1"),
            kernel_routes=[LABS_OWN, TableRoute(IPv4Network("192.168.56.0/25"), "tun0", gateway="10.8.0.1")],
        ),
        "route-in-the-way",
        ("sudo ip route del 192.168.56.0/25 via 10.8.0.1 dev tun0",),
    ),
    "a route through another node, which forwards packets": Case(
        lambda world: world.set_machine(
            way=Route("br-demo", GATEWAY, str(WORKER)),
            kernel_routes=[LABS_OWN, TableRoute(IPv4Network(ADDRESS), "br-demo", gateway=str(WORKER))],
        ),
        "route-in-the-way",
        (f"sudo ip route del {ADDRESS} via {WORKER} dev br-demo",),
        WARNING,
    ),
    "a rule that rejects": Case(
        lambda world: world.set_machine(
            way=None,
            kernel_routes=[LABS_OWN, LAST_RESORT],
            kernel_rules=[_routing_rule(7, dst=ADDRESS, action="prohibit"), MAINS],
            kernel_interfaces=[BRIDGE],
        ),
        "route-in-the-way",
        (f"sudo ip rule del from all to {ADDRESS} prohibit pref 7",),
    ),
    "a rule that leads to a table with another route": Case(
        lambda world: world.set_machine(
            way=None,
            kernel_routes=[LABS_OWN, LAST_RESORT, TableRoute(IPv4Network("0.0.0.0/0"), "", "blackhole", "77")],
            kernel_rules=[_routing_rule(0, table="local"), _routing_rule(7, table="77"), MAINS],
            kernel_interfaces=[BRIDGE],
        ),
        "route-in-the-way",
        ("sudo ip rule del from all lookup 77 pref 7",),
    ),
    "a rule for another user": Case(
        lambda world: world.set_machine(
            way=None,
            kernel_routes=[LABS_OWN, LAST_RESORT],
            kernel_rules=[_routing_rule(7, uidrange=[0, 0], action="prohibit"), MAINS],
            kernel_interfaces=[BRIDGE],
        ),
        "route-missing",
        (),
    ),
    "the address on this machine": Case(
        lambda world: world.set_machine(
            way=Route("lo", OURS, ""),
            kernel_routes=[LABS_OWN, TableRoute(IPv4Network(ADDRESS), "lo", "local", "local")],
        ),
        "route-in-the-way",
        (f"sudo ip address del {ADDRESS}/32 dev lo",),
    ),
    "the address on this machine, with a network": Case(
        lambda world: world.set_machine(
            way=Route("lo", OURS, ""),
            kernel_routes=[LABS_OWN, TableRoute(IPv4Network(ADDRESS), "eth7", "local", "local")],
            kernel_interfaces=[BRIDGE, Interface("eth7", (IPv4Interface(f"{ADDRESS}/24"),))],
        ),
        "route-in-the-way",
        (f"sudo ip address del {ADDRESS}/24 dev eth7",),
    ),
    "an interface that is down": Case(
        lambda world: world.set_machine(
            way=None, kernel_routes=[LAST_RESORT], kernel_interfaces=[replace(BRIDGE, is_up=False)]
        ),
        "interface-down",
        ("sudo ip link set br-demo up",),
    ),
    "an interface without its address": Case(
        lambda world: world.set_machine(
            way=None, kernel_routes=[LAST_RESORT], kernel_interfaces=[Interface("br-demo")]
        ),
        "interface-down",
        (f"sudo ip address add {GATEWAY}/24 dev br-demo",),
    ),
    "no network of the lab": Case(
        lambda world: world.set_machine(
            way=Route("eth0", IPv4Address("10.0.0.2"), "10.0.0.1"),
            kernel_routes=[TableRoute(IPv4Network("0.0.0.0/0"), "eth0", gateway="10.0.0.1")],
        ),
        "route-missing",
    ),
}


def _check_case(world: BreakableLab, case: Case) -> None:
    case.breaks(world)
    problem = world.problem()

    assert (problem.cause, problem.state) == (case.cause, case.state)
    assert ((UP,) if problem.commands is None else problem.commands) == case.commands


def test_a_node_that_answers_arp_and_accepts_a_connection_is_ok(world: BreakableLab) -> None:
    assert world.run_hop() == {
        "announced_by": A,
        "not_asked": None,
        "answers_arp": [{"mac": MAC_A, "node": A}],
        "heard_by": "frames",
        "remembered": None,
        "connection": {"outcome": "connected", "reason": ""},
        "route": "dev br-demo src 192.168.56.1",
    }


@pytest.mark.parametrize("name", UNANNOUNCED)
def test_the_cause_of_a_missing_announcement_is_found_by_metallbs_rules(world: BreakableLab, name: str) -> None:
    _check_case(world.stop_announcing(), UNANNOUNCED[name])


@pytest.mark.parametrize("name", UNOPENED)
def test_the_cause_of_a_failed_connection_is_found(world: BreakableLab, name: str) -> None:
    _check_case(world.refuse_connections(), UNOPENED[name])


@pytest.mark.parametrize("name", OPEN)
def test_problems_are_reported_even_while_connections_succeed(world: BreakableLab, name: str) -> None:
    _check_case(world, OPEN[name])


@pytest.mark.parametrize("name", ROUTE_CASES)
def test_the_cause_of_a_missing_direct_route_is_found_in_the_kernels_routes(world: BreakableLab, name: str) -> None:
    _check_case(world, ROUTE_CASES[name])


@pytest.mark.parametrize("interfaces", [[], ["eth1"], ["eth1", "eth9"]])
def test_an_advertisement_on_an_existing_interface_is_ok(world: BreakableLab, interfaces: list[str]) -> None:
    assert world.spec(ADVERTISEMENT, interfaces=interfaces).run_hop()["announced_by"] == A


def test_an_unannounced_address_in_the_kernels_arp_cache_is_a_warning(world: BreakableLab) -> None:
    world.stop_announcing().remove(ADVERTISEMENT).set_machine(entry=Neighbour(MAC_A, "STALE"))
    problem = world.problem()

    assert (problem.cause, problem.state) == ("advertisement-missing", WARNING)
    assert problem.evidence["remembered"] == {"mac": MAC_A, "state": "STALE"}


def test_an_arp_entry_of_a_stopped_node_is_broken(world: BreakableLab) -> None:
    world.stop_announcing().remove(ADVERTISEMENT).refuse_connections().set_machine(entry=Neighbour(MAC_A, "STALE"))

    assert world.problem().state == BROKEN


def test_a_permanent_arp_entry_with_a_wrong_mac_is_broken(world: BreakableLab) -> None:
    world.set_machine(entry=Neighbour(STRANGER, "PERMANENT"))

    assert (world.refuse_connections().problem().cause, world.problem().state) == ("neighbour-fixed", BROKEN)


@pytest.mark.parametrize(
    ("entry", "may_ask", "macs"),
    [
        (Neighbour(MAC_A, "PERMANENT"), True, [MAC_A]),
        (Neighbour(MAC_A, "PERMANENT"), False, []),
        (Neighbour(MAC_B, "STALE"), True, [MAC_A]),
    ],
)
def test_a_correct_arp_entry_or_one_that_a_request_corrects_is_ok(
    world: BreakableLab,
    entry: Neighbour,
    may_ask: bool,  # noqa: FBT001 - a column of the table
    macs: list[str],
) -> None:
    evidence = world.set_machine(entry=entry, may_ask=may_ask).run_hop()

    assert evidence["remembered"] == {"mac": entry.mac, "state": entry.state}
    assert [each["mac"] for each in evidence["answers_arp"]] == macs


@pytest.mark.parametrize(
    ("may_ask", "expected"), [(True, {OURS, CONTROL_PLANE, WORKER}), (False, {OURS, CONTROL_PLANE})]
)
def test_without_raw_sockets_no_arp_request_is_sent_for_a_stopped_node(
    world: BreakableLab,
    monkeypatch: pytest.MonkeyPatch,
    may_ask: bool,  # noqa: FBT001 - a column of the table
    expected: set[IPv4Address],
) -> None:
    queried: set[IPv4Address] = set()

    def ask_arp(
        _self: FakeMachine, addresses: Collection[IPv4Address], _route: Route
    ) -> dict[IPv4Address, frozenset[str]]:
        queried.update(addresses)
        return {OURS: frozenset({MAC_A}), CONTROL_PLANE: frozenset({MAC_A})}

    monkeypatch.setattr(FakeMachine, "query_arp", ask_arp)
    world.provider.nodes = {A}

    assert world.set_machine(may_ask=may_ask).run_hop()["answers_arp"] == [{"mac": MAC_A, "node": A}]
    assert queried == expected


def test_a_node_that_does_not_answer_for_its_own_address_is_recognised(world: BreakableLab) -> None:
    del world.set_machine(found=f"container {A}").machine.macs[CONTROL_PLANE]

    assert world.run_hop()["answers_arp"] == [{"mac": MAC_A, "node": A}]


@pytest.mark.parametrize(
    ("mac", "owner", "expected"),
    [
        (STRANGER, "", "QEMU"),
        ("08:00:27:00:00:01", "", "VirtualBox"),
        ("02:00:00:00:00:01", "", "locally administered"),
        ("00:1b:21:00:00:01", "", "physical"),
        ("02:42:c0:a8:38:20", "container other", "container other"),
    ],
)
def test_an_unknown_machine_is_described_by_its_mac(world: BreakableLab, mac: str, owner: str, expected: str) -> None:
    world.set_machine(found=owner).machine.macs[OURS] = {mac}

    assert expected in world.problem().text


def test_without_the_api_a_connection_is_still_tried(world: BreakableLab, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_api(world, monkeypatch)
    world.trail.evidence.pop("address")
    evidence = world.run_hop()

    assert (evidence["announced_by"], evidence["not_asked"]) == (None, "it does not answer")
    assert evidence["connection"]["outcome"] == "connected"


def test_without_the_api_the_cause_is_read_from_the_node(world: BreakableLab, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_api(world, monkeypatch)

    assert world.refuse_connections().set_node(forward="0").problem().cause == "forwarding-off"
    assert world.stop_announcing().problem().cause == "address-not-announced"


@pytest.mark.parametrize(
    ("result", "known_programs"),
    [
        (ProviderError("frozen", id="tool-timeout"), ()),
        (Finished(1, "", ()), ()),
        (ProviderError("too late", id="tool-timeout"), ("true", "ip")),
        (Finished(255, "", ()), ("true", "ip")),
        (ProviderError("too late", id="tool-timeout"), ("true", "cat", "nft")),
    ],
)
def test_a_node_that_does_not_respond_to_commands_leaves_the_cause_open(
    world: BreakableLab, monkeypatch: pytest.MonkeyPatch, result: Exception | Finished, known_programs: Sequence[str]
) -> None:
    original = world.provider.run

    def respond(node: Node, command: Sequence[str], seconds: float) -> Finished:
        if command[0] in known_programs:
            return original(node, command, seconds)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(world.provider, "run", respond)

    assert world.refuse_connections().problem().cause == "no-connection"


def test_an_unreadable_packet_filter_is_mentioned(
    world: BreakableLab, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    monkeypatch.setattr(FakeMachine, "filters", lambda _self: None)

    golden(world.refuse_connections().problem().text)


def test_mtus_on_the_path_are_listed(world: BreakableLab) -> None:
    world.set_machine(kernel_interfaces=[Interface("br-demo", mtu=1400), Interface("eth0", mtu=1500)])
    world.run_hop()

    assert node_facts.mtus(world.trail) == [
        {"where": "this machine", "interface": "br-demo", "mtu": 1400},
        {"where": A, "interface": "eth1", "mtu": 1500},
    ]


@pytest.mark.parametrize(("own", "expected"), [(1500, None), (1400, None), (9000, ("eth1", 1500, 9000))])
def test_a_node_is_narrow_only_if_its_mtu_is_smaller_than_this_machines(
    world: BreakableLab, own: int, expected: tuple[str, int, int] | None
) -> None:
    world.set_machine(kernel_interfaces=[Interface("br-demo", mtu=own), Interface("eth0", mtu=65536)])
    world.run_hop()
    narrow = node_facts.node_with_smaller_mtu(world.trail, {A})

    assert (narrow and narrow[1:]) == expected
    assert node_facts.node_with_smaller_mtu(world.trail, set()) is None


@pytest.mark.parametrize(
    ("pod", "live", "commands"),
    [
        ({}, {}, []),
        (KEPT_OFF, {"metadata": {"labels": {"kubernetes.io/os": "linux"}}}, ['{"nodeSelector":{"no":null}}']),
        ({}, {"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}, ["taint node n k:NoExecute-"]),
        ({}, {"spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}}, []),
        ({}, {"spec": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]}}, []),
        ({"tolerations": [{"operator": "Exists"}]}, {"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}, []),
        (
            {"tolerations": [{"key": "k", "value": "v", "effect": "NoSchedule"}]},
            {"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}},
            [],
        ),
        (
            {"tolerations": [{"key": "k", "value": "w"}]},
            {"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}},
            ["taint node n k:NoSchedule-"],
        ),
        ({"affinity": AFFINITY}, {}, ['{"affinity":null}']),
        ({"affinity": {"podAntiAffinity": {}}}, {}, []),
    ],
)
def test_the_reason_why_a_daemonset_has_no_pod_on_a_node_is_found_with_the_command_to_fix_it(
    pod: Json, live: Json, commands: list[str]
) -> None:
    daemonset = {"metadata": {"namespace": "s", "name": "d"}, "spec": {"template": {"spec": pod}}}
    found_commands = [
        each.command
        for each in scheduling.obstacles("demo", daemonset, {"metadata": {"name": "n"}, **live} | _named(live))
    ]

    assert len(found_commands) == len(commands)
    assert all(part in command for part, command in zip(commands, found_commands, strict=True))


def _named(live: Json) -> Json:
    return {"metadata": {"name": "n", **live.get("metadata", {})}}


def _without_api(world: BreakableLab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise NotReadyError("it does not answer", id="api-unreachable")

    monkeypatch.setattr(world.cluster, "find", refuse)
    monkeypatch.setattr(world.cluster, "get", refuse)


def test_an_unknown_announcer_is_not_several_nodes(world: BreakableLab, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_api(world, monkeypatch)
    world.machine.macs.clear()

    assert world.refuse_connections().problem().cause == "no-connection"


@pytest.mark.parametrize("broken", ["", "clock", "lease", "node"])
def test_a_machine_with_a_wrong_clock_is_named(world: BreakableLab, broken: str) -> None:
    """An old lease makes labctl read the node's clock. A node that is not Ready, or has the right time, is not named."""
    machines = replace(world.trail.context, lab=lab(provider="libvirt"))
    world.trail.context = with_fakes(machines, world.provider, world.cluster, world.trail.context.bundle)
    late = timedelta(hours=1 if broken else 0)
    renewed = (datetime.now(UTC) - late).isoformat()
    world.cluster.put("coordination.k8s.io/v1", "Lease", B, "kube-node-lease", spec={"renewTime": renewed})
    conditions = [{"type": "Ready", "status": "Unknown" if broken == "node" else "True"}]
    world.cluster.put("v1", "Node", B, status={"conditions": conditions})
    node_time = time.time() - (3600 if broken == "clock" else 0)
    inside = world.inside.respond
    world.inside.respond = lambda command: (  # type: ignore[method-assign]
        Finished(0, f"{node_time:.3f}", ()) if command == clock.READ else inside(command)
    )

    if broken != "clock":
        assert "clocks" not in world.run_hop()
        return
    problem = world.problem()
    assert (problem.cause, problem.state, problem.commands) == ("clock-off", "warning", None)
    assert problem.evidence["clocks"] == {B: pytest.approx(-3600, abs=1)}
