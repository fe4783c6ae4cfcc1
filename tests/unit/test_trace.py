"""A request followed through a lab: whole, and broken at one hop each, which is named with its cause and its fix."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from fakes import ADDRESS, FakeCluster, FakeProvider, with_doors

from labctl import trace
from labctl.context import Context
from labctl.errors import NotReadyError, UsageError
from labctl.neighbours import Route
from labctl.report import HopReport, TraceReport
from labctl.trace.client import Client, Exchange, HostsLine

Key = tuple[str, str, str, str]
"""apiVersion, kind, namespace and name."""
HOPS = ["name", "address", "node", "rule", "pod", "response"]
HOST = "my-app.local"
OURS, OTHER = IPv4Address(ADDRESS), IPv4Address("192.168.56.77")
CONTROL_PLANE, WORKER = IPv4Address("192.168.56.10"), IPv4Address("192.168.56.11")
MAC, STRANGER = "02:00:00:00:00:11", "02:00:00:00:00:99"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
EXCHANGE = Exchange(200, "my-app-1", "mark", "", "192.168.56.1:40000", {"connect": 0.0004, "first_byte": 0.0016})
UP = "`labctl up` puts it right."
SYNC = "`labctl hosts sync` writes it."
CONTROLLER_LOGS = "`labctl exec -- kubectl -n ingress-nginx logs deploy/ingress-nginx-controller` says more."
NAMESPACE = "ingress-nginx"
SERVICE = ("v1", "Service", NAMESPACE, "ingress-nginx-controller")
CONTROLLER_POD = ("v1", "Pod", NAMESPACE, "controller-1")
POOL = ("metallb.io/v1beta1", "IPAddressPool", "metallb-system", "demo")
ADVERTISEMENT = ("metallb.io/v1beta1", "L2Advertisement", "metallb-system", "demo")
STATUS = ("metallb.io/v1beta1", "ServiceL2Status", "metallb-system", "l2-1")
SPEAKER = ("v1", "Pod", "metallb-system", "speaker-1")
INGRESS = ("networking.k8s.io/v1", "Ingress", "default", "my-app")
APP = ("v1", "Service", "default", "my-app")
APP_POD = ("v1", "Pod", "default", "my-app-1")
SLICE = ("discovery.k8s.io/v1", "EndpointSlice", "default", "my-app-s")
CRASHING = {"containerStatuses": [{"restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}
READY = {"conditions": [{"type": "Ready", "status": "True"}]}


@dataclass
class FakeClient(Client):
    """A machine that has labctl's line in its hosts file, and is on the lab's network."""

    addresses: list[IPv4Address] = field(default_factory=lambda: [OURS])
    line: HostsLine | None = field(default_factory=lambda: HostsLine(3, OURS, f"{ADDRESS} {HOST}", "demo"))
    way: Route | None = field(default_factory=lambda: Route("br-demo", IPv4Address("192.168.56.1"), ""))
    macs: dict[IPv4Address, set[str]] = field(default_factory=lambda: {OURS: {MAC}, WORKER: {MAC}})
    exchange: Exchange = EXCHANGE

    def resolve(self, hostname: str) -> tuple[list[IPv4Address], float]:
        return (self.addresses if hostname == HOST else []), 0.0021

    def hosts_line(self, hostname: str, address: IPv4Address) -> HostsLine | None:
        return self.line if self.line and (hostname, address) == (HOST, self.line.address) else None

    def route(self, address: IPv4Address) -> Route | None:  # noqa: ARG002 - there is one way to all
        return self.way

    def ask_arp(self, addresses: Collection[IPv4Address], route: Route) -> dict[IPv4Address, frozenset[str]]:  # noqa: ARG002 - there is one network
        return {address: frozenset(self.macs.get(address, ())) for address in addresses}

    def fetch(self, hostname: str, address: IPv4Address) -> Exchange:
        assert (hostname, address) == (HOST, OURS)
        return self.exchange


@dataclass
class World:
    """What a test breaks: the lab's objects, and the machine that asks. Whatever breaks it can be followed by more."""

    context: Context
    cluster: FakeCluster
    client: FakeClient

    def spec(self, key: Key) -> dict[str, Any]:
        spec: dict[str, Any] = self.cluster.objects[key]["spec"]
        return spec

    def lose(self, *keys: Key) -> World:
        for key in keys:
            del self.cluster.objects[key]
        return self

    def set(self, key: Key, **fields: Any) -> World:  # noqa: ANN401 - any field of an object
        self.cluster.objects[key].update(fields)
        return self

    def exclude(self, *nodes: str) -> World:
        for node in nodes:
            self.cluster.objects["v1", "Node", "", node]["metadata"]["labels"] = {EXCLUDED: ""}
        return self

    def event(self, message: str) -> World:
        about = {"kind": "Service", "name": SERVICE[3]}
        self.cluster.put("v1", "Event", "e", NAMESPACE, involvedObject=about, message=message, lastTimestamp="1")
        return self

    def names_lead_to(self, address: IPv4Address, line: HostsLine | None) -> World:
        self.client.addresses, self.client.line = [address], line
        return self

    def silence(self) -> World:
        self.client.macs.clear()
        return self

    def answers(self, status: int | None, pod: str | None = None, failure: str = "") -> World:
        self.client.exchange = replace(EXCHANGE, status=status, pod=pod, failure=failure)
        return self

    def follow(self, hostname: str | None = None) -> TraceReport:
        return trace.follow(self.context, hostname, self.client)


@dataclass(frozen=True, slots=True)
class Breakage:
    """How a lab is broken, and what is said of it at which hop."""

    breaks: Callable[[World], object]
    hop: str
    cause: str
    fix: str = UP


def _answer(status: int, cause: str) -> Breakage:
    return Breakage(lambda world: world.answers(status), "response", cause, CONTROLLER_LOGS)


BREAKAGES = {
    "no hosts line": Breakage(
        lambda world: world.client.addresses.clear(),
        "name",
        f"{HOST} has no address: /etc/hosts does not name it, and no other resolver knows it",
        SYNC,
    ),
    "a wrong address in labctl's block": Breakage(
        lambda world: world.names_lead_to(OTHER, HostsLine(3, OTHER, f"{OTHER} {HOST}", "demo")),
        "name",
        f"/etc/hosts, line 3, in labctl's block, says {OTHER}; the ingress controller has {ADDRESS}",
        SYNC,
    ),
    "a shadowing line": Breakage(
        lambda world: world.names_lead_to(OTHER, HostsLine(1, OTHER, f"{OTHER} {HOST}", None)),
        "name",
        f"/etc/hosts, line 1, says {OTHER} before labctl's own line comes; the ingress controller has {ADDRESS}",
        f"Delete that line from /etc/hosts, or the name from it: {OTHER} {HOST}",
    ),
    "a shadowing line of another lab": Breakage(
        lambda world: world.names_lead_to(OTHER, HostsLine(1, OTHER, f"{OTHER} {HOST}", "second")),
        "name",
        f"/etc/hosts, line 1, says {OTHER} before labctl's own line comes; the ingress controller has {ADDRESS}",
        f"Delete that line from /etc/hosts, or the name from it: {OTHER} {HOST}",
    ),
    "a resolver that says otherwise": Breakage(
        lambda world: world.names_lead_to(OTHER, world.client.line),
        "name",
        f"the system's resolver says that {HOST} is {OTHER}; the ingress controller has {ADDRESS}",
        SYNC,
    ),
    "no pool": Breakage(
        lambda world: world.lose(POOL).set(SERVICE, status={}),
        "address",
        "the Service ingress-nginx/ingress-nginx-controller has no address: MetalLB has no IPAddressPool",
    ),
    "a pool that went after it gave the address": Breakage(
        lambda world: world.lose(POOL),
        "address",
        f"no pool of MetalLB contains {ADDRESS}: it has no IPAddressPool at all",
    ),
    "another pool": Breakage(
        lambda world: world.spec(POOL).update(addresses=["192.168.56.101-192.168.56.102", "10.0.0.0/30"]),
        "address",
        f"no pool of MetalLB contains {ADDRESS}: it has demo 192.168.56.101/32 192.168.56.102/32 10.0.0.0/30",
    ),
    "an exhausted pool": Breakage(
        lambda world: world.set(SERVICE, status={}).event("Failed to allocate IP: no available IPs"),
        "address",
        (
            "the Service ingress-nginx/ingress-nginx-controller has no address: the pool is exhausted "
            "(Failed to allocate IP: no available IPs)"
        ),
        (
            "Delete a Service of type LoadBalancer, or let the pool 192.168.56.100-192.168.56.110 grow in labctl.yaml "
            "and type `labctl up`."
        ),
    ),
    "an exhausted pool whose address another Service has": Breakage(
        lambda world: (
            world.set(SERVICE, status={})
            .event("no available IPs")
            .set(APP, status={"loadBalancer": {"ingress": [{"ip": ADDRESS}]}})
        ),
        "address",
        "the Service ingress-nginx/ingress-nginx-controller has no address: the pool is exhausted (no available IPs)",
        (
            "Delete a Service of type LoadBalancer, or let the pool 192.168.56.100-192.168.56.110 grow in labctl.yaml "
            "and type `labctl up`."
        ),
    ),
    "a Service of type ClusterIP": Breakage(
        lambda world: world.set(SERVICE, spec={"type": "ClusterIP"}, status={"loadBalancer": {}}),
        "address",
        (
            "the Service ingress-nginx/ingress-nginx-controller does not own the address: its type is ClusterIP, "
            "not LoadBalancer; `labctl up` changes it back"
        ),
    ),
    "no Service": Breakage(
        lambda world: world.lose(SERVICE),
        "address",
        (
            "the Service ingress-nginx/ingress-nginx-controller does not own the address: there is no Service "
            "ingress-nginx/ingress-nginx-controller"
        ),
    ),
    "no route": Breakage(
        lambda world: setattr(world.client, "way", None),
        "node",
        f"the route from this machine to {ADDRESS} is missing: the lab's network is not there",
    ),
    "a route by a gateway": Breakage(
        lambda world: setattr(world.client, "way", Route("eth0", IPv4Address("10.0.0.2"), "10.0.0.1")),
        "node",
        f"the route from this machine to {ADDRESS} leads to 10.0.0.1: the lab's network is not there",
    ),
    "a foreign MAC": Breakage(
        lambda world: world.client.macs.update({OURS: {MAC, STRANGER}}),
        "node",
        f"{STRANGER} answers ARP for {ADDRESS}, and is no node of the lab: something else has this address",
        (
            "Find it by its MAC (`ip neigh`) and give it another address, or choose another pool than "
            "192.168.56.100-192.168.56.110."
        ),
    ),
    "no L2Advertisement": Breakage(
        lambda world: world.silence().lose(STATUS, ADVERTISEMENT),
        "node",
        f"no node announces {ADDRESS}: MetalLB has no L2Advertisement",
    ),
    "no controller pod, which MetalLB has seen": Breakage(
        lambda world: world.silence().lose(STATUS, CONTROLLER_POD),
        "node",
        (
            f"no node announces {ADDRESS}: no pod of the ingress controller traefik is ready, and MetalLB announces "
            "nothing for a Service without one"
        ),
    ),
    "the exclude label on every node": Breakage(
        lambda world: world.silence().lose(STATUS).exclude("demo-control-plane", "demo-worker-1"),
        "node",
        f"no node announces {ADDRESS}: every node has the label {EXCLUDED}",
        f"Take it from one: `labctl exec -- kubectl label node demo-control-plane {EXCLUDED}-`.",
    ),
    "a speaker that is down": Breakage(
        lambda world: world.silence().set(SPEAKER, status={}),
        "node",
        f"no node announces {ADDRESS}: MetalLB's speaker is not ready on demo-control-plane or demo-worker-1",
        "`labctl up` applies it; `labctl exec -- kubectl -n metallb-system get pods` says more.",
    ),
    "a speaker that may not announce": Breakage(
        lambda world: world.silence().lose(STATUS).exclude("demo-worker-1"),
        "node",
        f"no node announces {ADDRESS}: MetalLB's speaker is not ready on demo-control-plane",
        "`labctl up` applies it; `labctl exec -- kubectl -n metallb-system get pods` says more.",
    ),
    "an announcement that nobody hears": Breakage(
        lambda world: world.client.macs.pop(OURS),
        "node",
        f"no node announces {ADDRESS}, or it does not answer ARP yet",
        "Try again; then `labctl exec -- kubectl -n metallb-system logs ds/speaker` says more.",
    ),
    "another node than MetalLB says": Breakage(
        lambda world: world.client.macs.update({OURS: {STRANGER}, CONTROL_PLANE: {STRANGER}}),
        "node",
        f"MetalLB says that demo-worker-1 announces {ADDRESS}, and demo-control-plane answers ARP for it",
        (
            "Try again: the address may be moving. If it stays so, look at the speakers: "
            "`labctl exec -- kubectl -n metallb-system logs ds/speaker`."
        ),
    ),
    "no controller pod that is ready": Breakage(
        lambda world: world.set(CONTROLLER_POD, status={"phase": "Pending"}),
        "rule",
        "no pod of the ingress controller traefik is ready: controller-1: Pending",
    ),
    "no controller pod": Breakage(
        lambda world: world.lose(CONTROLLER_POD),
        "rule",
        "no pod of the ingress controller traefik is ready: there is none",
    ),
    "no controller": Breakage(
        lambda world: world.lose(("apps/v1", "Deployment", NAMESPACE, SERVICE[3])),
        "rule",
        "no pod of the ingress controller traefik is ready: there is none",
    ),
    "a wrong IngressClass": Breakage(
        lambda world: world.spec(INGRESS).update(ingressClassName="other"),
        "rule",
        "the Ingress default/my-app has the class other; traefik serves the class nginx",
    ),
    "a wrong host": Breakage(
        lambda world: world.spec(INGRESS)["rules"][0].update(host="other.local"),
        "rule",
        f"no Ingress has a rule for {HOST}; there are rules for other.local",
    ),
    "no Ingress": Breakage(
        lambda world: world.lose(INGRESS), "rule", f"no Ingress has a rule for {HOST}; there are rules for no host"
    ),
    "a wrong path": Breakage(
        lambda world: world.spec(INGRESS)["rules"][0]["http"]["paths"][0].update(path="/shop"),
        "rule",
        f"the Ingress default/my-app has no path / for {HOST}",
    ),
    "a wrong Service name": Breakage(
        lambda world: world.lose(APP),
        "pod",
        "the Ingress default/my-app names the Service my-app, and there is none in default",
    ),
    "a wrong port": Breakage(
        lambda world: world.spec(APP).update(ports=[{"name": "http", "port": 8080}, {"port": 81}]),
        "pod",
        "the Ingress default/my-app names port 80 of the Service my-app, which has http, 81",
    ),
    "a selector without pods": Breakage(
        lambda world: world.set(SLICE, endpoints=None).spec(APP).update(selector={"app": "other"}),
        "pod",
        "the selector of the Service my-app (app=other) chooses no pod",
    ),
    "no selector": Breakage(
        lambda world: world.lose(SLICE).spec(APP).update(selector=None),
        "pod",
        "the selector of the Service my-app (none) chooses no pod",
    ),
    "an app that crashes": Breakage(
        lambda world: world.set(APP_POD, status=CRASHING).set(SLICE, endpoints=[{"conditions": {"ready": False}}]),
        "pod",
        "no pod behind the Service my-app is ready: my-app-1: CrashLoopBackOff, restarted 4 times",
        "`labctl exec -- kubectl -n default logs my-app-1` says why.",
    ),
    "no answer": Breakage(
        lambda world: world.answers(None, failure="timed out"),
        "response",
        f"no answer from {ADDRESS}: timed out",
        CONTROLLER_LOGS,
    ),
    "an app that answers 500, and says who it is": Breakage(
        lambda world: world.answers(500, "my-app-1"),
        "response",
        "the app itself answers 500, in pod my-app-1",
        "`labctl exec -- kubectl -n default logs my-app-1` says why.",
    ),
    "an app that answers 500, as its log shows": Breakage(
        lambda world: world.answers(500).cluster.logs.update({("default", "my-app-1"): 'GET / "mark"'}),
        "response",
        "the app itself answers 500, in pod my-app-1",
        "`labctl exec -- kubectl -n default logs my-app-1` says why.",
    ),
    "a controller that knows no such name": _answer(404, "traefik answers 404: it knows no rule for this name"),
    "a controller that the app refuses": _answer(502, "traefik answers 502: the app refused"),
    "a controller that has no pod": _answer(503, "traefik answers 503: no pod is behind it"),
    "a controller that waits too long": _answer(504, "traefik answers 504: the app was too slow"),
    "an answer of nobody knows whom": _answer(500, "the answer is 500"),
}


@pytest.fixture
def world(context: Context, cluster: FakeCluster) -> World:
    """The default lab, with all that a request passes."""
    app, controller = {"app": "my-app"}, {"app": "controller"}
    on_worker = {"nodeName": "demo-worker-1"}
    backend = {"service": {"name": "my-app", "port": {"number": 80}}}
    rule = {"host": HOST, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    l2 = {"node": "demo-worker-1", "serviceNamespace": NAMESPACE, "serviceName": SERVICE[3]}
    endpoint = {
        "addresses": ["10.244.1.5"],
        "conditions": {"ready": True},
        "nodeName": "demo-worker-1",
        "targetRef": {"name": "my-app-1"},
    }
    selector = {"matchLabels": controller}
    of_app = {"labels": {"kubernetes.io/service-name": "my-app"}}
    objects: Mapping[Key, Mapping[str, Any]] = {
        SERVICE: {"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}}},
        ("apps/v1", "Deployment", NAMESPACE, SERVICE[3]): {"spec": {"selector": selector}},
        CONTROLLER_POD: {"metadata": {"labels": controller}, "spec": on_worker, "status": READY},
        POOL: {"spec": {"addresses": ["192.168.56.100-192.168.56.110"]}},
        ADVERTISEMENT: {},
        STATUS: {"status": l2},
        SPEAKER: {"metadata": {"labels": {"component": "speaker"}}, "spec": on_worker, "status": READY},
        INGRESS: {"spec": {"ingressClassName": "nginx", "rules": [rule]}},
        APP: {"spec": {"selector": app, "ports": [{"name": "http", "port": 80}]}},
        APP_POD: {"metadata": {"labels": app}, "spec": on_worker, "status": READY},
        SLICE: {"metadata": of_app, "endpoints": [endpoint]},
    }
    cluster.logs[NAMESPACE, "controller-1"] = 'GET / "mark" to my-app'
    for (api_version, kind, namespace, name), fields in objects.items():
        cluster.put(api_version, kind, name, namespace, **fields)
    return World(context, cluster, FakeClient())


def test_a_whole_lab_is_told_of_in_the_documented_form(world: World) -> None:
    evidence = {
        "name": {"address": ADDRESS, "source": f"/etc/hosts, line 3: {ADDRESS} {HOST}", "milliseconds": 2.1},
        "address": {"address": ADDRESS, "service": "ingress-nginx/ingress-nginx-controller", "pool": "demo"},
        "node": {
            "announced_by": "demo-worker-1",
            "answers_arp": [{"mac": MAC, "node": "demo-worker-1"}],
            "route": "dev br-demo src 192.168.56.1",
        },
        "rule": {
            "ingress": "default/my-app",
            "host": HOST,
            "path": "/",
            "class": "nginx",
            "backend": {"service": "my-app", "port": 80},
            "controller_pods": [{"pod": "controller-1", "node": "demo-worker-1"}],
        },
        "pod": {
            "namespace": "default",
            "service": "my-app",
            "endpoint_slices": ["my-app-s"],
            "pods": [{"pod": "my-app-1", "address": "10.244.1.5", "node": "demo-worker-1"}],
        },
        "response": {
            "status": 200,
            "taken_by": "controller-1",
            "answered_by": "my-app-1",
            "milliseconds": {"name": 2.1, "connect": 0.4, "first_byte": 1.6},
            "way_back": f"{ADDRESS}:80 to 192.168.56.1:40000",
        },
    }

    assert json.loads(json.dumps(world.follow())) == {
        "hostname": HOST,
        "ok": True,
        "hops": [{"hop": hop, "state": "ok", "cause": "", "fix": "", "evidence": evidence[hop]} for hop in HOPS],
    }


@pytest.mark.parametrize("name", BREAKAGES)
def test_the_first_broken_hop_is_named_with_its_cause_and_its_fix(world: World, name: str) -> None:
    breakage = BREAKAGES[name]
    breakage.breaks(world)
    report = world.follow()
    where = HOPS.index(breakage.hop)
    broken = report["hops"][where]

    assert (broken["state"], broken["cause"], broken["fix"]) == ("broken", breakage.cause, breakage.fix)
    assert not report["ok"]
    assert [each["hop"] for each in report["hops"]] == HOPS
    assert [each["state"] for each in report["hops"][:where]] == ["ok"] * where
    assert report["hops"][where + 1 :] == [not_reached(each) for each in HOPS[where + 1 :]]


def test_what_was_seen_at_a_broken_hop_is_evidence_too(world: World) -> None:
    world.client.macs[OURS] = {STRANGER}

    assert world.follow()["hops"][2]["evidence"] == {
        "announced_by": "demo-worker-1",
        "answers_arp": [{"mac": STRANGER, "node": None}],
        "route": "dev br-demo src 192.168.56.1",
    }


@pytest.mark.parametrize("hint", ["", "Type this."])
def test_an_api_that_does_not_answer_leaves_the_address_unexplained(world: World, hint: str) -> None:
    class Silent(FakeCluster):
        def get(self, *_asked: object) -> dict[str, Any] | None:
            raise NotReadyError("the API server does not answer: refused", id="api-unreachable", hint=hint)

        list = get  # type: ignore[assignment]  # it answers neither

    vars(world.context).update(cluster=Silent())
    name, address, *others = world.follow()["hops"]

    assert name["state"] == "ok"
    assert (address["state"], address["cause"]) == ("broken", "the API server does not answer: refused")
    assert address["fix"] == (hint or "`labctl status` says what runs; `labctl up` puts it right.")
    assert others == [not_reached(hop) for hop in HOPS[2:]]


@pytest.mark.parametrize("status", [204, 301, 401, 403])
def test_an_app_that_wants_a_login_answers_as_well_as_any(world: World, status: int) -> None:
    world.answers(status)

    assert world.follow()["ok"]


def test_nobody_says_which_pod_answered(world: World) -> None:
    world.answers(200)
    world.cluster.logs["default", "my-app-1"] = "GET / of-somebody-else"
    world.cluster.logs[NAMESPACE, "controller-1"] = ""
    response = world.follow()["hops"][5]["evidence"]

    assert (response["answered_by"], response["taken_by"]) == (None, None)


def test_a_name_that_another_resolver_knows_is_as_good(world: World) -> None:
    world.client.line = None
    report = world.follow()

    assert report["ok"]
    assert report["hops"][0]["evidence"]["source"] == "the system's resolver; no line of the hosts file says so"


@pytest.mark.parametrize(
    ("hosts", "chosen"),
    [
        ([None, "*.local", HOST], HOST),
        ([None, "*.local"], "*.local"),
        ([None, "local"], "*"),
        (["*.my-app.local", "*.example", None], "*"),
    ],
)
def test_the_rule_that_says_most_of_the_name_is_the_one(world: World, hosts: list[str | None], chosen: str) -> None:
    [rule] = world.spec(INGRESS)["rules"]
    nameless = {"http": rule["http"]}
    world.spec(INGRESS)["rules"] = [nameless | ({} if host is None else {"host": host}) for host in hosts]

    assert world.follow()["hops"][3]["evidence"]["host"] == chosen


def test_a_rule_may_name_its_port_and_lead_to_any_namespace(world: World) -> None:
    backend = {"service": {"name": "shop", "port": {"name": "http"}}}
    rule = {"host": HOST, "http": {"paths": [{"pathType": "Prefix", "backend": backend}]}}
    endpoint = {"addresses": ["10.0.0.9"], "conditions": {"ready": True}}
    labels = {"kubernetes.io/service-name": "shop"}
    world.lose(INGRESS)
    world.cluster.put(INGRESS[0], "Ingress", "shop", "shops", spec={"ingressClassName": "nginx", "rules": [rule]})
    world.cluster.put("v1", "Service", "shop", "shops", spec={"ports": [{"name": "http", "port": 80}]})
    world.cluster.put(SLICE[0], "EndpointSlice", "shop-s", "shops", metadata={"labels": labels}, endpoints=[endpoint])
    world.client.exchange = replace(EXCHANGE, pod=None)

    report = world.follow()

    assert report["ok"]
    assert report["hops"][4]["evidence"]["pods"] == [{"pod": None, "address": "10.0.0.9", "node": None}]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}, ": my-app-1: Running"),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes"}]},
            ": my-app-1: 0/2 nodes",
        ),
        (
            {"containerStatuses": [{"state": {"running": {}}, "lastState": {"terminated": {"reason": "OOMKilled"}}}]},
            ": my-app-1: OOMKilled, restarted 0 times",
        ),
        ({}, ": my-app-1: unknown"),
    ],
)
def test_a_pod_that_is_not_ready_says_why_as_well_as_it_can(world: World, status: dict[str, Any], reason: str) -> None:
    world.set(APP_POD, status=status)
    world.set(SLICE, endpoints=[])

    assert world.follow()["hops"][4]["cause"] == f"no pod behind the Service my-app is ready{reason}"


def test_pods_that_go_are_not_ready_and_need_no_reason(world: World) -> None:
    world.cluster.objects[APP_POD]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world.set(SLICE, endpoints=[])

    assert world.follow()["hops"][4]["cause"] == "no pod behind the Service my-app is ready: they are going"


def test_a_hostname_that_the_lab_does_not_have_is_followed_as_far_as_it_goes(world: World) -> None:
    report = world.follow("shop.local")

    assert report["hostname"] == "shop.local"
    assert report["hops"][0]["cause"].startswith("shop.local has no address")


def test_a_lab_without_an_app_wants_a_hostname(world: World) -> None:
    context, empty = world.context, replace(world.context.lab, apps=())
    world.context = with_doors(replace(context, lab=empty), FakeProvider(), world.cluster, context.bundle)

    with pytest.raises(UsageError, match="the lab demo has no app") as refused:
        world.follow()
    assert refused.value.id == "no-app"


def test_a_trace_is_one_and_one_that_is_watched_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(trace, "Client", lambda: world.client)
    monkeypatch.setattr(time, "sleep", slept.append)

    assert [report["ok"] for report in trace.traces(world.context, None, watch=False)] == [True]

    watched = trace.traces(world.context, HOST, watch=True)
    assert next(watched)["ok"]
    world.answers(503)
    assert not next(watched)["ok"]
    assert slept == [trace.WATCH_SECONDS]


def not_reached(hop: str) -> HopReport:
    return {"hop": hop, "state": "not reached", "cause": "", "fix": "", "evidence": {}}
