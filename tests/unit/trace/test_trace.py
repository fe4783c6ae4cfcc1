"""Tests that `trace` follows a request through a healthy lab, and reports hop, cause and fix for each breakage."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest
from fakes import ADDRESS, FakeCluster, FakeProvider, set_limits, with_fakes
from golden_files import Golden

from labctl import trace
from labctl.cluster import unready
from labctl.context import Context
from labctl.host.arp import Neighbour, Route
from labctl.host.http_probe import HTTP, Address
from labctl.host.interfaces import Interface
from labctl.host.resolver import RESOLVE_SECONDS, HostsLine
from labctl.host.routes import TableRoute
from labctl.host.tcp_connect import ConnectResult
from labctl.isolation.isolation import Isolation
from labctl.model.errors import LabError, NotReadyError, RefusedError, UsageError
from labctl.model.limits import NORMAL
from labctl.model.reports import HopReport, TraceReport
from labctl.trace import trail
from labctl.trace.probes.client import Client
from labctl.trace.probes.exchange import Connection, Exchange
from labctl.trace.probes.filters import Ruleset
from labctl.trace.trail import SHORTEST, Trail, target

Key = tuple[str, str, str, str]
"""apiVersion, kind, namespace and name."""
HOPS = ["name", "address", "node", "rule", "pod", "response"]
HOST = "my-app.local"
OURS, OTHER, LOOPBACK = IPv4Address(ADDRESS), IPv4Address("192.168.56.77"), IPv6Address("::1")
CONTROL_PLANE, WORKER = IPv4Address("192.168.56.10"), IPv4Address("192.168.56.11")
MAC, STRANGER = "02:00:00:00:00:11", "02:00:00:00:00:99"
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
EXCHANGE = Exchange(200, "my-app-1", "mark", "", "192.168.56.1:40000", {"connect": 0.0004, "first_byte": 0.0016})
NAMESPACE = "ingress-nginx"
SERVICE = ("v1", "Service", NAMESPACE, "ingress-nginx-controller")
CONTROLLER_POD = ("v1", "Pod", NAMESPACE, "controller-1")
POOL = ("metallb.io/v1beta1", "IPAddressPool", "metallb-system", "demo")
METALLB = ("apps/v1", "Deployment", "metallb-system", "controller")
POOLS = ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "ipaddresspools.metallb.io")
ADVERTISEMENT = ("metallb.io/v1beta1", "L2Advertisement", "metallb-system", "demo")
SPEAKER_SET = ("apps/v1", "DaemonSet", "metallb-system", "speaker")
PROXY = ("v1", "Pod", "kube-system", "kube-proxy-1")
CONTROLLER_SLICE = ("discovery.k8s.io/v1", "EndpointSlice", NAMESPACE, "controller-s")
STATUS = ("metallb.io/v1beta1", "ServiceL2Status", "metallb-system", "l2-1")
SPEAKER = ("v1", "Pod", "metallb-system", "speaker-1")
INGRESS = ("networking.k8s.io/v1", "Ingress", "default", "my-app")
CLASS = ("networking.k8s.io/v1", "IngressClass", "", "nginx")
APP = ("v1", "Service", "default", "my-app")
APP_POD = ("v1", "Pod", "default", "my-app-1")
SLICE = ("discovery.k8s.io/v1", "EndpointSlice", "default", "my-app-s")
DNS = ("discovery.k8s.io/v1", "EndpointSlice", "kube-system", "kube-dns-s")
CRASHING = {"containerStatuses": [{"restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}
LOG = (
    '192.168.56.1 - - [26/Nov/2026:00:11:40 +0000] "GET / HTTP/1.1" {status} 615 "-" "{mark}" 3 '
    '"default-my-app-rule-0-path-0@kubernetesingressnginx" "{server}" 1ms'
)
UNROUTED = LOG.replace("default-my-app-rule-0-path-0@kubernetesingressnginx", "-").replace("{server}", "-")
SERVERS = {"my-app-2": "http://10.244.0.6:80", "canary-1": "http://10.244.0.9:80"}
READY = {"conditions": [{"type": "Ready", "status": "True"}]}


@dataclass
class FakeClient(Client):
    """A client in the lab's network with labctl's line in its hosts file. Each request adds a line to the log."""

    cluster: FakeCluster
    hosts: Path = Path()
    addresses: list[Address] = field(default_factory=lambda: [OURS])
    line: HostsLine | None = field(default_factory=lambda: HostsLine(3, OURS, f"{ADDRESS} {HOST}", "demo"))
    way: Route | None = field(default_factory=lambda: Route("br-demo", IPv4Address("192.168.56.1"), ""))
    macs: dict[IPv4Address, set[str]] = field(default_factory=lambda: {OURS: {MAC}, WORKER: {MAC}})
    exchanges: list[Exchange] = field(default_factory=lambda: [EXCHANGE])
    log: str = LOG
    asked: list[tuple[str, str, int, bool]] = field(default_factory=list)
    entry: Neighbour | None = None
    """The kernel's ARP entry for the address."""
    packet_filter: tuple[Ruleset, str] | None = None
    kernel_routes: list[TableRoute] = field(default_factory=list)
    kernel_interfaces: list[Interface] = field(default_factory=list)

    @property
    def may_query_arp(self) -> bool:
        return True

    def neighbour(self, address: IPv4Address, route: Route) -> Neighbour | None:  # noqa: ARG002 - the fake has one entry
        return self.entry

    def routes(self) -> list[TableRoute]:
        return self.kernel_routes

    def routing_rules(self) -> list[dict[str, Any]]:
        return []

    def interfaces(self) -> list[Interface]:
        return self.kernel_interfaces

    def bridge(self, context: Context) -> str:  # noqa: ARG002 - the fake has one network
        return "br-demo"

    def owner_of(self, mac: str, context: Context) -> str:  # noqa: ARG002 - the fake knows no owner
        return ""

    def filters(self) -> tuple[Ruleset, str] | None:
        return self.packet_filter

    def filters_arp(self) -> bool:
        return False

    def filters_bridged(self) -> bool:
        return True

    @property
    def is_root(self) -> bool:
        return False

    def resolve(self, hostname: str, limit: float = RESOLVE_SECONDS) -> tuple[list[Address], float]:  # noqa: ARG002 - the fake responds at once
        return (list(self.addresses) if hostname == HOST else []), 0.0021

    @property
    def environment(self) -> Mapping[str, str]:
        return {}

    def hosts_lines(self, hostname: str) -> tuple[HostsLine, ...]:
        lines = super().hosts_lines(hostname)
        return (self.line, *lines) if self.line and hostname == HOST and self.addresses else lines

    def is_mounted(self, file: Path) -> bool:  # noqa: ARG002 - no file is mounted
        return False

    def connect(self, addresses: Sequence[Address], seconds: float, port: int = HTTP) -> dict[Address, ConnectResult]:  # noqa: ARG002 - only the lab listens
        return {
            each: ConnectResult("connected") if each == OURS else ConnectResult("refused", "Connection refused")
            for each in addresses
        }

    def route(self, address: IPv4Address) -> Route | None:  # noqa: ARG002 - the fake has one route
        return self.way

    def query_arp(self, addresses: Collection[IPv4Address], route: Route) -> dict[IPv4Address, frozenset[str]]:  # noqa: ARG002 - the fake has one network
        return {address: frozenset(self.macs.get(address, ())) for address in addresses}

    def fetch(
        self,
        hostname: str,
        address: Address,
        path: str = "/",
        port: int = 80,
        *,
        tls: bool = False,
        seconds: float = 2.0,  # noqa: ARG002 - the fake responds at once
    ) -> Exchange:
        assert address in self.addresses or address == OURS
        self.asked.append((hostname, path, port, tls))
        if port != HTTP:
            return replace(EXCHANGE, status=None, failure="Connection refused")
        exchange = self.exchanges[(len(self.asked) - 1) % len(self.exchanges)]
        exchange = replace(exchange, mark=f"mark-{len(self.asked)}")
        server = SERVERS.get(exchange.pod or "", "http://10.244.1.5:80")
        line = self.log.format(status=exchange.status or 499, mark=exchange.mark, server=server)
        self.cluster.logs[NAMESPACE, "controller-1"] = (
            self.cluster.logs.get((NAMESPACE, "controller-1"), "") + line + "\n"
        )
        return exchange

    def connection_to(self, hostname: str, address: Address) -> Connection:
        return FakeLine(self, hostname, address)


class FakeLine(Connection):
    """A connection on which the fake client responds to consecutive requests."""

    def __init__(self, client: FakeClient, hostname: str, address: Address) -> None:
        super().__init__(hostname, address)
        self._client, self._to = client, (hostname, address)

    def ask(self, path: str = "/", seconds: float = 2.0) -> Exchange:  # noqa: ARG002 - the fake responds at once
        return self._client.fetch(*self._to, path)


@dataclass
class BreakableLab:
    """The lab's objects and the client, which a test breaks. Methods that break something can be chained."""

    context: Context
    cluster: FakeCluster
    client: FakeClient

    def spec(self, key: Key) -> dict[str, Any]:
        spec: dict[str, Any] = self.cluster.objects[key]["spec"]
        return spec

    def remove(self, *keys: Key) -> BreakableLab:
        for key in keys:
            del self.cluster.objects[key]
        return self

    def set(self, key: Key, **fields: Any) -> BreakableLab:  # noqa: ANN401 - any field of an object
        self.cluster.objects[key].update(fields)
        return self

    def exclude(self, *nodes: str) -> BreakableLab:
        for node in nodes:
            self.cluster.objects["v1", "Node", "", node]["metadata"]["labels"] = {EXCLUDED: ""}
        return self

    def resolve_to(self, address: Address, line: HostsLine | None) -> BreakableLab:
        self.client.addresses, self.client.line = [address], line
        return self

    def halt(self, *, isolated: bool = False) -> BreakableLab:
        context = replace(self.context, isolated=isolated)
        self.context = with_fakes(context, FakeProvider(), self.cluster, self.context.bundle)
        return self

    def unresolve(self) -> BreakableLab:
        self.client.addresses.clear()
        return self

    def write_hosts(self, content: str) -> BreakableLab:
        self.client.hosts.write_text(content)
        return self

    def read_other_hosts(self) -> BreakableLab:
        """Let the resolver read another file than the one that labctl writes."""
        written = self.context.lab.hosts_file
        written.write_text(f"# BEGIN labctl demo\n{ADDRESS} {HOST}\n# END labctl demo\n")
        self.client.hosts = written.with_name("hosts-of-the-resolver")
        return self

    def put_first(self, key: Key, **fields: Any) -> BreakableLab:  # noqa: ANN401 - any field of an object
        """Let the API list this object before the others."""
        self.set(key, **fields)
        objects = self.cluster.objects
        self.cluster.objects = {key: objects.pop(key), **objects}
        return self

    def stop_announcing(self) -> BreakableLab:
        self.client.macs.clear()
        return self

    def respond_unrouted(self) -> BreakableLab:
        """Let the controller itself respond with 404."""
        return self.respond(404, None, log=UNROUTED)

    def respond(
        self,
        status: int | None,
        pod: str | None = "my-app-1",
        failure: str = "",
        *,
        log: str | None = None,
        server: str = "",
        location: str = "",
    ) -> BreakableLab:
        exchange = replace(EXCHANGE, status=status, pod=pod, failure=failure, location=location)
        self.client.exchanges = [exchange]
        self.client.log = (LOG if log is None else log).replace("{server}", server or "{server}")
        return self

    def respond_in_turn(self, *responses: tuple[int, str]) -> BreakableLab:
        """Let the pods respond in turn, each with its name."""
        self.client.exchanges = [replace(EXCHANGE, status=status, pod=pod) for status, pod in responses]
        return self

    def with_tls(self) -> BreakableLab:
        self.spec(INGRESS)["tls"] = [{"hosts": [HOST]}]
        return self

    def annotate(self, name: str, value: str) -> BreakableLab:
        annotations = self.cluster.objects[INGRESS]["metadata"].setdefault("annotations", {})
        annotations[f"nginx.ingress.kubernetes.io/{name}"] = value
        return self

    def with_second_pod(self) -> BreakableLab:
        endpoint = {**self.cluster.objects[SLICE]["endpoints"][0], "addresses": ["10.244.0.6"]}
        self.cluster.objects[SLICE]["endpoints"].append(endpoint | {"targetRef": {"name": "my-app-2"}})
        return self

    def follow(self, hostname: str | None = None, **options: Any) -> TraceReport:  # noqa: ANN401 - as in the real function
        return trace.follow(self.context, hostname, self.client, **options)


@dataclass(frozen=True, slots=True)
class Breakage:
    """A breakage of a lab, and what `trace` reports: hop, cause and commands."""

    breaks: Callable[[BreakableLab], object]
    hop: str
    cause: str
    commands: tuple[str, ...] = ("labctl --name demo up",)


UP = ("labctl --name demo up",)
SYNC = ("labctl --name demo hosts sync",)
KUBECTL = "labctl --name demo exec -- kubectl"
PATCH = f"{KUBECTL} -n default patch ingress my-app --type=merge -p"
RESTART = ("labctl --name demo exec -- kubectl -n metallb-system rollout restart daemonset speaker",)


READ_ANEW = f"{KUBECTL} -n ingress-nginx rollout restart deployment/ingress-nginx-controller"


def _breakage_of_own_response(status: int, cause: str, *commands: str) -> Breakage:
    """Return a breakage in which the controller itself responds, so that its log names no backend."""
    return Breakage(lambda world: world.respond(status, None, server="-"), "response", cause, commands)


BREAKAGES = {
    "no hosts line": Breakage(lambda world: world.client.addresses.clear(), "name", "hosts-entry-missing", SYNC),
    "a wrong address in labctl's block": Breakage(
        lambda world: world.resolve_to(OTHER, HostsLine(3, OTHER, f"{OTHER} {HOST}", "demo")),
        "name",
        "hosts-entry-outdated",
        SYNC,
    ),
    "a shadowing line": Breakage(
        lambda world: world.resolve_to(OTHER, HostsLine(1, OTHER, f"{OTHER} {HOST}", None)),
        "name",
        "hosts-entry-shadowed",
        (
            r"sudo sed -E -i -e '1s/^[[:space:]]*192\.168\.56\.77[[:space:]]+my-app\.local([[:space:]]|#|$)/# &/' {hosts}",
            *SYNC,
        ),
    ),
    "an IPv6 line, which browsers try first": Breakage(
        lambda world: world.resolve_to(LOOPBACK, HostsLine(1, LOOPBACK, f"::1 {HOST}", None)),
        "name",
        "hosts-entry-shadowed",
        (r"sudo sed -E -i -e '1s/^[[:space:]]*::1[[:space:]]+my-app\.local([[:space:]]|#|$)/# &/' {hosts}", *SYNC),
    ),
    "a line in the block of another lab": Breakage(
        lambda world: world.resolve_to(OTHER, HostsLine(1, OTHER, f"{OTHER} {HOST}", "second")),
        "name",
        "hosts-entry-of-another-lab",
        (),
    ),
    "a resolver with another address": Breakage(
        lambda world: world.resolve_to(OTHER, None), "name", "name-resolves-elsewhere", SYNC
    ),
    "a line that the resolver does not read": Breakage(
        lambda world: world.unresolve().write_hosts(f"{ADDRESS} {HOST}\n"),
        "name",
        "hosts-file-not-read",
        (),
    ),
    "a block in a file that the resolver does not read": Breakage(
        lambda world: world.unresolve().read_other_hosts(),
        "name",
        "hosts-file-not-read",
        ("echo '192.168.56.100 my-app.local' | sudo tee -a {hosts}",),
    ),
    "no pool": Breakage(lambda world: world.remove(POOL).set(SERVICE, status={}), "address", "pool-missing"),
    "an address that MetalLB has not assigned yet": Breakage(
        lambda world: world.set(SERVICE, status={}),
        "address",
        "address-missing",
        (f"{KUBECTL} -n metallb-system rollout restart deployment controller", *UP),
    ),
    "no route": Breakage(lambda world: setattr(world.client, "way", None), "node", "route-missing"),
    "a route through a gateway": Breakage(
        lambda world: setattr(world.client, "way", Route("eth0", IPv4Address("10.0.0.2"), "10.0.0.1")),
        "node",
        "route-missing",
    ),
    "a foreign MAC": Breakage(
        lambda world: world.client.macs.update({OURS: {MAC, STRANGER}}),
        "node",
        "address-taken",
        (),
    ),
    "no L2Advertisement": Breakage(
        lambda world: world.stop_announcing().remove(STATUS, ADVERTISEMENT), "node", "advertisement-missing"
    ),
    "no controller pod, and MetalLB has noticed": Breakage(
        lambda world: world.stop_announcing().remove(STATUS, CONTROLLER_POD, CONTROLLER_SLICE),
        "node",
        "controller-not-ready",
    ),
    "the exclude label on every node": Breakage(
        lambda world: world.stop_announcing().remove(STATUS).exclude("demo-control-plane", "demo-worker-1"),
        "node",
        "nodes-excluded",
        (f"labctl --name demo exec -- kubectl label node demo-control-plane demo-worker-1 {EXCLUDED}-",),
    ),
    "a speaker that does not run": Breakage(
        lambda world: world.stop_announcing().set(SPEAKER, status={}), "node", "speaker-not-ready", (*UP, *RESTART)
    ),
    "a speaker on an excluded node": Breakage(
        lambda world: world.stop_announcing().remove(STATUS).exclude("demo-worker-1"),
        "node",
        "speaker-not-ready",
        (*UP, *RESTART),
    ),
    "an announcement that is not received": Breakage(
        lambda world: world.client.macs.pop(OURS), "node", "address-not-announced", (*UP, *RESTART)
    ),
    "no ready controller pod": Breakage(
        lambda world: world.set(CONTROLLER_POD, status={"phase": "Pending"}), "rule", "controller-not-ready"
    ),
    "controller pods that wait for a Secret": Breakage(
        lambda world: world.set(
            CONTROLLER_POD,
            spec={"nodeName": "demo-worker-1", "volumes": [{"secret": {"secretName": "admission"}}]},
            status={"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]},
        ),
        "rule",
        "controller-not-ready",
    ),
    "no controller pod": Breakage(lambda world: world.remove(CONTROLLER_POD), "rule", "controller-not-ready"),
    "no controller": Breakage(
        lambda world: world.remove(("apps/v1", "Deployment", NAMESPACE, SERVICE[3])), "rule", "controller-not-ready"
    ),
    "a wrong IngressClass": Breakage(
        lambda world: world.respond_unrouted().spec(INGRESS).update(ingressClassName="other"),
        "rule",
        "ingress-class-other",
        (f'{PATCH} \'{{"spec":{{"ingressClassName":"nginx"}}}}\'',),
    ),
    "a wrong host": Breakage(
        lambda world: world.respond_unrouted().spec(INGRESS)["rules"][0].update(host="other.local"),
        "rule",
        "ingress-missing",
    ),
    "no Ingress": Breakage(lambda world: world.respond_unrouted().remove(INGRESS), "rule", "ingress-missing"),
    "a wrong path": Breakage(
        lambda world: world.respond_unrouted().spec(INGRESS)["rules"][0]["http"]["paths"][0].update(path="/shop"),
        "rule",
        "ingress-path-missing",
    ),
    "a wrong Service name": Breakage(lambda world: world.remove(APP), "pod", "backend-service-missing"),
    "a wrong port": Breakage(
        lambda world: world.spec(APP).update(ports=[{"name": "http", "port": 8080}, {"port": 81}]),
        "pod",
        "backend-port-missing",
    ),
    "a selector without pods": Breakage(
        lambda world: world.set(SLICE, endpoints=None).spec(APP).update(selector={"app": "other"}),
        "pod",
        "selector-matches-nothing",
    ),
    "no selector": Breakage(
        lambda world: world.remove(SLICE).spec(APP).update(selector=None), "pod", "selector-matches-nothing"
    ),
    "an unready pod that its Service publishes": Breakage(
        lambda world: world.set(APP_POD, status=CRASHING).set(
            SLICE, endpoints=[{"addresses": ["10.244.1.5"], "conditions": {"ready": True, "serving": False}}]
        ),
        "pod",
        "no-pod-ready",
        (),
    ),
    "a crashing app": Breakage(
        lambda world: world.set(APP_POD, status=CRASHING).set(
            SLICE, endpoints=[{"addresses": [], "conditions": {"ready": False}}]
        ),
        "pod",
        "no-pod-ready",
        (),
    ),
    "no response": Breakage(
        lambda world: world.respond(None, failure="timed out", log=""), "response", "no-answer", ()
    ),
    "a response of an unknown server": Breakage(
        lambda world: world.respond(200, None, log=""),
        "response",
        "answered-by-another",
        (),
    ),
    "an unknown server that claims to be a pod": Breakage(
        lambda world: world.respond(200, "my-app-of-another-lab", log=""),
        "response",
        "answered-by-another",
        (),
    ),
    "a controller without a route for the name": _breakage_of_own_response(
        404, "controller-has-no-route", READ_ANEW, *UP
    ),
    "a controller without a backend": _breakage_of_own_response(503, "controller-has-no-backend", READ_ANEW, *UP),
    "a controller that responds itself": _breakage_of_own_response(200, "controller-answers"),
    "an app that refuses the controller's connection": Breakage(
        lambda world: world.respond(502, None), "response", "backend-refused", ()
    ),
    "a controller that times out": Breakage(lambda world: world.respond(504, None), "response", "backend-too-slow", ()),
    "a redirect of the controller to a closed port": Breakage(
        lambda world: world.with_tls().respond(308, None, server="-", location=f"https://{HOST}/"),
        "response",
        "redirect-leads-nowhere",
        (f'{PATCH} \'{{"spec":{{"tls":null}}}}\'',),
    ),
    "a redirect of an annotation to a closed port": Breakage(
        lambda world: world.annotate("force-ssl-redirect", "true").respond(
            308, None, server="-", location=f"https://{HOST}/"
        ),
        "response",
        "redirect-leads-nowhere",
        (f"{KUBECTL} -n default annotate ingress my-app nginx.ingress.kubernetes.io/force-ssl-redirect-",),
    ),
    "a redirect of the app to a closed port": Breakage(
        lambda world: world.respond(302, location=f"http://{HOST}:8080/"), "response", "redirect-leads-nowhere", ()
    ),
    "a redirect to an unknown name": Breakage(
        lambda world: world.respond(302, location="http://www.my-app.local/"), "response", "redirect-leads-nowhere", ()
    ),
}


@pytest.fixture
def world(
    context: Context, cluster: FakeCluster, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> BreakableLab:
    """The default lab, with every object that a request passes."""
    provider.nodes |= {"demo-control-plane", "demo-worker-1"}
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
        SERVICE: {
            "spec": {
                "type": "LoadBalancer",
                "externalTrafficPolicy": "Local",
                "ports": [{"name": "http", "port": 80}],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}},
        },
        CONTROLLER_SLICE: {
            "metadata": {"labels": {"kubernetes.io/service-name": SERVICE[3]}},
            "ports": [{"name": "http", "port": 8000}],
            "endpoints": [{**endpoint, "addresses": ["10.244.1.2"], "targetRef": {"name": "controller-1"}}],
        },
        PROXY: {"metadata": {"labels": {"k8s-app": "kube-proxy"}}, "spec": on_worker, "status": READY},
        SPEAKER_SET: {"spec": {"selector": {"matchLabels": {"component": "speaker"}}, "template": {"spec": {}}}},
        ("apps/v1", "Deployment", NAMESPACE, SERVICE[3]): {"spec": {"selector": selector}},
        METALLB: {"spec": {}, "status": {"readyReplicas": 1}},
        POOLS: {},
        DNS: {
            "metadata": {"labels": {"kubernetes.io/service-name": "kube-dns"}},
            "endpoints": [{"addresses": ["10.244.0.2"], "conditions": {"ready": True}}],
        },
        CONTROLLER_POD: {"metadata": {"labels": controller}, "spec": on_worker, "status": READY},
        POOL: {"spec": {"addresses": ["192.168.56.100-192.168.56.110"]}},
        ADVERTISEMENT: {},
        STATUS: {"status": l2},
        SPEAKER: {"metadata": {"labels": {"component": "speaker"}}, "spec": on_worker, "status": READY},
        INGRESS: {"spec": {"ingressClassName": "nginx", "rules": [rule]}},
        CLASS: {"spec": {"controller": "k8s.io/ingress-nginx"}},
        APP: {"spec": {"selector": app, "ports": [{"name": "http", "port": 80}]}},
        APP_POD: {"metadata": {"labels": app}, "spec": on_worker, "status": READY},
        SLICE: {"metadata": of_app, "ports": [{"name": "http", "port": 80}], "endpoints": [endpoint]},
    }
    for (api_version, kind, namespace, name), fields in objects.items():
        cluster.put(api_version, kind, name, namespace, **fields)
    set_limits(monkeypatch, trace_log=0.0, trace_again=0.0)
    return BreakableLab(context, cluster, FakeClient(cluster, context.lab.hosts_file))


def test_a_trace_of_a_healthy_lab_has_the_documented_form(world: BreakableLab) -> None:
    pods = [{"pod": "my-app-1", "address": "10.244.1.5", "port": 80, "node": "demo-worker-1"}]
    evidence = {
        "name": {
            "address": ADDRESS,
            "source": f"{world.client.hosts}, line 3: {ADDRESS} {HOST}",
            "milliseconds": 2.1,
            "others": [],
        },
        "address": {
            "address": ADDRESS,
            "service": "ingress-nginx/ingress-nginx-controller",
            "pool": "demo",
            "requested": None,
            "pools": [
                {
                    "name": "demo",
                    "addresses": ["192.168.56.100-192.168.56.110"],
                    "free": 10,
                    "auto_assign": True,
                    "allows_service": True,
                }
            ],
            "shared_with": [],
            "event": None,
        },
        "node": {
            "announced_by": "demo-worker-1",
            "not_asked": None,
            "answers_arp": [{"mac": MAC, "node": "demo-worker-1"}],
            "heard_by": "frames",
            "remembered": None,
            "connection": {"outcome": "connected", "reason": ""},
            "route": "dev br-demo src 192.168.56.1",
        },
        "rule": {
            "ingress": "default/my-app",
            "host": HOST,
            "matched_by": "host",
            "path": "/",
            "path_type": "Prefix",
            "class": "nginx",
            "backend": {"namespace": "default", "service": "my-app", "port": 80},
            "split": None,
            "other_ingresses": [],
            "ignored_annotations": [],
            "controller_pods": [{"pod": "controller-1", "node": "demo-worker-1"}],
        },
        "pod": {"namespace": "default", "service": "my-app", "endpoint_slices": ["my-app-s"], "pods": pods},
        "response": {
            "path": "/",
            "status": 200,
            "taken_by": "controller-1",
            "asked": "10.244.1.5:80",
            "answered_by": "my-app-1",
            "body": {"state": "whole", "bytes": 0, "expected": None},
            "redirect": None,
            "pods": [{"pod": "my-app-1", "status": 200}],
            "requests": 1,
            "milliseconds": {"name": 2.1, "connect": 0.4, "first_byte": 1.6},
            "way_back": f"{ADDRESS}:80 to 192.168.56.1:40000",
        },
    }
    well: dict[str, Any] = {"state": "ok", "cause": None, "fix": None, "commands": []}

    assert json.loads(json.dumps(world.follow())) == {
        "version": 1,
        "hostname": HOST,
        "ok": True,
        "hops": [{"hop": hop, **well, "evidence": evidence[hop]} for hop in HOPS],
    }


@pytest.mark.parametrize("name", BREAKAGES)
def test_the_first_broken_hop_is_reported_with_its_cause_and_commands(world: BreakableLab, name: str) -> None:
    breakage = BREAKAGES[name]
    breakage.breaks(world)
    report = world.follow()
    where = HOPS.index(breakage.hop)
    broken = report["hops"][where]

    assert not report["ok"]
    assert [hop["state"] for hop in report["hops"]] == ["ok"] * where + ["broken"] + ["not reached"] * (5 - where)
    assert broken["cause"] == breakage.cause
    assert broken["commands"] == [command.replace("{hosts}", str(world.client.hosts)) for command in breakage.commands]
    assert broken["fix"]
    assert trace.finding(broken)
    assert report["hops"][where + 1 :] == [not_reached(hop) for hop in HOPS[where + 1 :]]


def test_the_missing_object_that_the_controllers_pods_need_is_named(world: BreakableLab) -> None:
    BREAKAGES["controller pods that wait for a Secret"].breaks(world)

    broken = trace.broken_hop(world.follow())

    assert broken is not None
    assert f"Secret {NAMESPACE}/admission" in trace.finding(broken)


def test_every_cause_is_in_the_table_and_in_the_docs() -> None:
    document = (Path(__file__).parents[3] / "docs" / "causes.md").read_text(encoding="utf-8")
    headings = [line.removeprefix("### ") for line in document.splitlines() if line.startswith("### ")]

    reasons = re.findall(r'Problem\("([a-z-]+)"', Path(unready.__file__).read_text(encoding="utf-8"))

    assert [heading for heading in headings if heading not in reasons] == list(trace.CAUSES)
    assert set(reasons) == {heading for heading in headings if heading not in trace.CAUSES}
    assert all(cause.meaning in document for cause in trace.CAUSES.values())


@pytest.mark.parametrize(
    ("isolated", "has_network", "has_engine", "cause", "command"),
    [
        (False, False, False, "node-not-running", "resume"),
        (True, False, False, "namespace-gone", "up"),
        (True, True, False, "engine-stopped", "resume"),
        (True, True, True, "node-not-running", "resume"),
    ],
)
def test_a_halted_lab_is_reported_without_any_request_to_it(
    world: BreakableLab,
    monkeypatch: pytest.MonkeyPatch,
    *,
    isolated: bool,
    has_network: bool,
    has_engine: bool,
    cause: str,
    command: str,
) -> None:
    monkeypatch.setattr(Isolation, "exists", lambda _self: has_network)
    monkeypatch.setattr(Isolation, "engine_runs", lambda _self: has_engine)
    for act in ("get", "find"):
        monkeypatch.setattr(world.cluster, act, lambda *_arguments: pytest.fail("the API was asked"))
    monkeypatch.setattr(trace, "Client", lambda _limits: world.client)
    monkeypatch.setattr(FakeClient, "resolve", lambda *_arguments: pytest.fail("the name was looked for"))
    world.client.way = None
    world.halt(isolated=isolated)
    hops = world.follow()["hops"]

    assert [(hop["state"], hop["cause"]) for hop in hops[:3]] == [
        ("unknown", cause),
        ("unknown", cause),
        ("broken", cause),
    ]
    assert hops[2]["commands"] == [f"labctl --name demo {command}"]
    assert hops[3:] == [not_reached(hop) for hop in HOPS[3:]]
    assert [trace.shared(world.context)[name]["state"] for name in trace.SHARED] == ["unknown", "broken"]


@pytest.mark.parametrize("has_api", [True, False])
def test_an_unresponsive_node_is_reported_as_stopped_only_without_the_api(
    world: BreakableLab, monkeypatch: pytest.MonkeyPatch, *, has_api: bool
) -> None:
    def refuse(*_arguments: object) -> None:
        raise NotReadyError("the API server does not answer", id="api-unreachable")

    set_limits(monkeypatch, trace_again=0.0)
    world.halt().client.macs.clear()
    if not has_api:
        monkeypatch.setattr(world.cluster, "find", refuse)
        monkeypatch.setattr(world.cluster, "get", refuse)
    node = world.follow()["hops"][2]

    assert (node["state"], node["cause"] == "node-not-running") == ("broken", not has_api)


def test_the_hosts_file_of_an_isolated_lab_is_named_by_its_path_outside(
    world: BreakableLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Isolation, "exists", lambda _self: True)
    monkeypatch.setattr(trail, "SETTINGS", Path("/etc/netns/none"))  # this machine may have a lab of that name
    world.context = with_fakes(
        replace(world.context, isolated=True), FakeProvider(), world.cluster, world.context.bundle
    )
    world.resolve_to(OTHER, HostsLine(1, OTHER, f"{OTHER} {HOST}", None))

    copy, edit, sync = world.follow()["hops"][0]["commands"]

    assert "tee /etc/netns/none/labctl-demo/hosts " in edit
    assert copy == f"cp {world.client.hosts} /etc/netns/none/labctl-demo/hosts"
    assert sync == SYNC[0]


def test_a_broken_hop_has_evidence(world: BreakableLab) -> None:
    world.client.macs[OURS] = {STRANGER}
    evidence = world.follow()["hops"][2]["evidence"]

    assert evidence["announced_by"] == "demo-worker-1"
    assert evidence["answers_arp"] == [{"mac": STRANGER, "node": None}]


@pytest.mark.parametrize(
    ("error", "cause", "fix"),
    [
        (NotReadyError("refused", id="api-unreachable", hint="Look."), "api-unreachable", "Look."),
        (RefusedError("untrusted", id="api-not-trusted", hint="The clock?"), "api-not-trusted", "The clock?"),
        (RefusedError("no", id="kubernetes-refused"), "lab-not-asked", "`labctl status`"),
    ],
)
@pytest.mark.parametrize(
    ("pod", "response"),
    [("my-app-1", "ok"), (None, "unknown")],
    ids=["the pod names itself", "the pod is not named"],
)
def test_without_the_api_a_request_is_followed_with_unknown_hops(
    world: BreakableLab,
    monkeypatch: pytest.MonkeyPatch,
    error: LabError,
    cause: str,
    fix: str,
    pod: str | None,
    response: str,
) -> None:
    def refuse(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(world.cluster, "find", refuse)
    monkeypatch.setattr(world.cluster, "get", refuse)
    monkeypatch.setattr(trace, "Client", lambda _limits: world.client)
    report = world.respond(200, pod).follow()
    hops = {hop["hop"]: hop for hop in report["hops"]}

    assert report["ok"]
    assert hops["name"]["state"] == "ok"
    for name in ("address", "rule", "pod"):
        assert (hops[name]["state"], hops[name]["cause"]) == ("unknown", cause)
        assert fix in (hops[name]["fix"] or "")
    assert (hops["response"]["state"], hops["response"]["cause"]) == (response, cause if pod is None else None)
    assert hops["response"]["evidence"]["status"] == 200
    assert list(trace.shared(world.context)) == ["address"]


def test_an_expired_certificate_is_fixed_by_renewing_it(world: BreakableLab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise RefusedError("not trusted: certificate has expired (_ssl.c:1006)", id="api-not-trusted", hint="Destroy.")

    monkeypatch.setattr(world.cluster, "find", refuse)
    monkeypatch.setattr(world.cluster, "get", refuse)
    address = world.follow()["hops"][1]

    assert (address["state"], address["cause"]) == ("unknown", "api-not-trusted")
    assert address["commands"] == [
        "labctl --name demo ssh demo-control-plane -- sudo kubeadm certs renew all --config /etc/labctl/kubeadm.yaml",
        "labctl --name demo halt",
        "labctl --name demo resume",
    ]


def test_waits_of_a_trace_are_limited_by_its_remaining_time(
    world: BreakableLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    set_limits(monkeypatch, trace=4.5)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    followed = Trail(world.context, world.client, HOST, "/", world.cluster)

    waits = []
    for now[0] in (100.0, 103.0, 200.0):
        waits.append([followed.left(seconds) for seconds in (0.05, 2.0)])

    assert waits == [[0.05, 2.0], [0.05, 1.5], [0.05, SHORTEST]]


def test_a_request_that_timed_out_is_broken_even_if_little_time_is_left(
    world: BreakableLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_limits(monkeypatch, trace=NORMAL.http_answer + 0.5, trace_enough=NORMAL.http_answer + 1)
    world.client.exchanges = [replace(EXCHANGE, status=None, pod=None, failure="timed out", is_silent=True)]

    assert world.follow()["hops"][5]["state"] == "broken"


@pytest.mark.parametrize("seconds", [0.0, NORMAL.trace])
def test_the_response_is_unknown_if_no_time_is_left(
    world: BreakableLab, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    set_limits(monkeypatch, trace=seconds)
    report = world.follow()

    assert report["ok"]
    assert [hop["state"] for hop in report["hops"]] == [*["ok"] * 5, "ok" if seconds else "unknown"]
    assert report["hops"][5]["cause"] == (None if seconds else "no-time-left")


@pytest.mark.parametrize("cause", [None, "service-not-a-load-balancer"])
def test_hops_shared_by_all_names_are_traced_without_a_name(
    world: BreakableLab, cause: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "Client", lambda _limits: world.client)
    if cause:
        world.set(SERVICE, status={}, spec={"type": "ClusterIP"})
    hops = trace.shared(world.context)

    assert [hop["state"] for hop in hops.values()] == (["broken", "not reached"] if cause else ["ok", "ok"])
    assert hops["address"]["cause"] == cause
    assert [hop for hop in world.follow()["hops"] if hop["hop"] in hops] == list(hops.values())


@pytest.mark.parametrize("status", [200, 204, 400, 401, 403, 404, 429])
@pytest.mark.parametrize("pod", ["my-app-1", None], ids=["the app names its pod", "the log names the pod"])
def test_a_response_of_the_app_itself_is_ok_with_any_of_these_statuses(
    world: BreakableLab, status: int, pod: str | None
) -> None:
    response = world.respond(status, pod).follow()["hops"][5]

    assert (response["state"], response["evidence"]["status"]) == ("ok", status)
    assert response["evidence"]["answered_by"] == "my-app-1"


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/login", (HOST, "/login", 80, False)),
        (f"http://{HOST}/a?b=c", (HOST, "/a?b=c", 80, False)),
    ],
)
def test_a_redirect_is_followed_once(world: BreakableLab, location: str, expected: tuple[str, str, int, bool]) -> None:
    world.respond(302, location=location)
    world.client.exchanges.append(EXCHANGE)
    response = world.follow()["hops"][5]

    assert response["state"] == "ok"
    assert expected in world.client.asked
    assert response["evidence"]["redirect"]["status"] == 200


def test_a_redirect_to_another_site_is_not_followed(world: BreakableLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.client, "resolve", lambda host, _limit=0: ([OURS if host == HOST else OTHER], 0.1))
    response = world.respond(302, location="https://login.example.com/").follow()["hops"][5]

    assert response["state"] == "ok"
    assert {port for _, _, port, _ in world.client.asked} == {80}


def test_a_502_with_the_name_of_a_pod_is_a_response_of_the_app(world: BreakableLab) -> None:
    assert world.respond(502, "my-app-1").follow()["hops"][5]["cause"] == "app-answers-error"


def test_the_same_error_from_every_pod_is_a_warning(world: BreakableLab) -> None:
    report = world.with_second_pod().respond_in_turn((500, "my-app-1"), (500, "my-app-2")).follow()
    response = report["hops"][5]

    assert report["ok"]
    assert (response["state"], response["cause"]) == ("warning", "app-answers-error")
    assert response["evidence"]["pods"] == [{"pod": pod, "status": 500} for pod in ("my-app-1", "my-app-2")]


@pytest.mark.parametrize("responses", [[(200, "my-app-1"), (500, "my-app-2")], [(500, "my-app-2"), (200, "my-app-1")]])
def test_pods_that_respond_differently_are_broken_in_any_order(
    world: BreakableLab, responses: list[tuple[int, str]]
) -> None:
    report = world.with_second_pod().respond_in_turn(*responses).follow()

    assert not report["ok"]
    assert report["hops"][5]["cause"] == "pods-differ"
    assert report["hops"][5]["commands"] == []


def test_a_pod_that_gets_no_request_is_unknown(world: BreakableLab) -> None:
    report = world.with_second_pod().respond_in_turn((200, "my-app-1")).follow()

    assert report["ok"]
    assert (report["hops"][5]["state"], report["hops"][5]["cause"]) == ("unknown", "pod-not-reached")
    assert len(world.client.asked) == 2 * 2 + 3


def test_with_unreadable_logs_the_responding_pod_is_unknown(
    world: BreakableLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> str:
        raise RefusedError("no", id="kubernetes-refused")

    monkeypatch.setattr(world.cluster, "log", refuse)
    report = world.respond(200, None).follow()

    assert report["ok"]
    assert (report["hops"][5]["state"], report["hops"][5]["cause"]) == ("unknown", "answerer-unknown")


def test_a_login_that_the_controller_requests_is_unknown(world: BreakableLab) -> None:
    response = world.respond(401, None, server="-").follow()["hops"][5]

    assert (response["state"], response["cause"]) == ("unknown", "controller-asks-for-login")


def test_the_logs_of_all_containers_show_which_pod_responded(
    world: BreakableLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.set(APP_POD, spec={"containers": [{"name": "app"}, {"name": "sidecar"}]})
    world.respond(200, None, log="")

    def log(pod: str, _namespace: str, container: str = "") -> str:
        if pod == "my-app-1" and not container:
            raise RefusedError("a container name must be specified", id="kubernetes-refused")
        return f"GET / mark-{len(world.client.asked)}" if container == "sidecar" else ""

    monkeypatch.setattr(world.cluster, "log", log)

    assert world.follow()["hops"][5]["evidence"]["answered_by"] == "my-app-1"


def test_a_correct_hosts_line_before_a_conflicting_one_is_a_warning(world: BreakableLab) -> None:
    world.client.addresses = [OURS, OTHER]
    report = world.write_hosts(f"{OTHER} {HOST}\n").follow()

    assert report["ok"]
    assert (report["hops"][0]["state"], report["hops"][0]["cause"]) == ("warning", "hosts-entry-doubled")
    assert all(hop["state"] == "ok" for hop in report["hops"][1:])


def test_a_name_resolved_without_the_hosts_file_is_ok(world: BreakableLab) -> None:
    world.client.line = None
    report = world.follow()

    assert report["ok"]
    assert report["hops"][0]["evidence"]["source"] == "the system's resolver; no line of the hosts file says so"


@pytest.mark.parametrize("cause", ["hosts-entry-missing", "hosts-entry-outdated"])
def test_a_trace_can_continue_past_a_missing_name_with_the_address_from_the_api(
    world: BreakableLab, cause: str
) -> None:
    if cause == "hosts-entry-missing":
        world.client.addresses.clear()
    else:
        world.resolve_to(OTHER, HostsLine(3, OTHER, f"{OTHER} {HOST}", "demo"))
    report = world.follow(past=trace.MISSING_NAME)
    broken = trace.broken_hop(report)

    assert broken
    assert broken["cause"] == cause
    assert trace.broken_hop(report, trace.MISSING_NAME) is None
    assert [hop["state"] for hop in report["hops"]] == ["broken", *["ok"] * 5]
    assert report["hops"][-1]["evidence"]["status"] == 200


@pytest.mark.parametrize("addresses", [[], [LOOPBACK], [OTHER]], ids=["no name", "IPv6", "another"])
def test_past_a_missing_name_without_an_address_the_next_hop_has_the_reason(
    world: BreakableLab, addresses: list[Address]
) -> None:
    world.client.addresses = addresses
    world.client.line = None
    report = world.set(SERVICE, status={}).follow(past=trace.MISSING_NAME)

    assert report["hops"][1]["cause"] == "address-missing"


def test_without_permission_for_arp_the_node_is_unknown_and_the_request_is_followed(
    world: BreakableLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(world.client, "query_arp", refuse)
    report = world.follow()

    assert report["ok"]
    assert (report["hops"][2]["state"], report["hops"][2]["cause"]) == ("unknown", "arp-not-asked")
    assert report["hops"][5]["evidence"]["status"] == 200


@pytest.mark.parametrize("location", ["http://[", "http://my-app.local:port/", "http://my-app.local:8080/\u00e9"])
def test_a_redirect_to_an_invalid_url_leads_nowhere(world: BreakableLab, location: str) -> None:
    assert world.respond(302, location=location).follow()["hops"][5]["cause"] == "redirect-leads-nowhere"


@pytest.mark.parametrize("hostname", ["shop.local", "localhost"])
def test_a_hostname_that_the_lab_does_not_serve_breaks_the_first_hop(world: BreakableLab, hostname: str) -> None:
    name, *others = world.follow(hostname)["hops"]

    assert (name["state"], name["cause"], name["commands"]) == ("broken", "hostname-not-served", [])
    assert others == [not_reached(hop) for hop in HOPS[1:]]


def test_a_hostname_of_an_ingress_without_paths_belongs_to_the_lab_and_has_no_rule(world: BreakableLab) -> None:
    world.respond(404, None, log=UNROUTED).spec(INGRESS)["rules"].append({"host": "Grafana.lab.test"})

    hops = trace.follow(world.context, "grafana.lab.test", world.client, past=trace.MISSING_NAME)["hops"]

    assert hops[0]["cause"] == "hosts-entry-missing"
    assert (hops[3]["cause"], hops[3]["commands"]) == ("ingress-missing", [])


def test_a_hostname_of_a_foreign_ingress_is_fixed_by_adding_a_line_and_not_by_sync(world: BreakableLab) -> None:
    world.spec(INGRESS)["rules"].append({"host": "grafana.lab.test"})
    world.spec(INGRESS)["rules"][1]["http"] = world.spec(INGRESS)["rules"][0]["http"]
    name = world.follow("grafana.lab.test")["hops"][0]

    assert name["cause"] == "hosts-entry-missing"
    assert name["commands"] == [f"echo '{ADDRESS} grafana.lab.test' | sudo tee -a {world.client.hosts}"]

    world.client.hosts.write_bytes(b"127.0.0.1 localhost")
    name = world.follow("grafana.lab.test")["hops"][0]
    assert name["commands"] == [
        f"echo | sudo tee -a {world.client.hosts}",
        f"echo '{ADDRESS} grafana.lab.test' | sudo tee -a {world.client.hosts}",
    ]


def test_an_app_with_zero_replicas_has_no_repair_command(world: BreakableLab) -> None:
    idle_lab = replace(world.context.lab, apps=(replace(world.context.lab.apps[0], replicas=0),))
    world.context = with_fakes(
        replace(world.context, lab=idle_lab), FakeProvider(), world.cluster, world.context.bundle
    )
    pod = world.set(SLICE, endpoints=[]).remove(APP_POD).follow()["hops"][4]

    assert (pod["state"], pod["cause"], pod["commands"]) == ("broken", "no-pods-wanted", [])


@pytest.mark.parametrize(
    ("breaks", "commands"),
    [
        (lambda world: world.remove(APP), []),
        (lambda world: world.spec(APP).update(ports=[]), []),
        (
            lambda world: world.spec(APP).update(ports=[{"port": 8080}]),
            [
                (
                    f"{KUBECTL} -n default patch ingress theirs --type=json -p "
                    '\'[{"op":"replace","path":"/spec/rules/0/http/paths/0/backend/service/port","value":{"number":8080}}]\''
                )
            ],
        ),
    ],
)
def test_up_is_not_the_repair_command_for_foreign_objects(
    world: BreakableLab, breaks: Callable[[BreakableLab], object], commands: list[str]
) -> None:
    ingress = world.cluster.objects.pop(INGRESS)
    world.cluster.put(*INGRESS[:2], "theirs", "default", spec=ingress["spec"])
    world.client.log = UNROUTED
    breaks(world)
    pod = world.respond(503, None, log=UNROUTED).follow()["hops"][4]

    assert pod["state"] == "broken"
    assert pod["commands"] == commands


def test_an_unready_pod_has_its_current_reason_and_a_failed_pod_is_ignored(world: BreakableLab) -> None:
    began, ended = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
    container = {
        "name": "web",
        "restartCount": 1,
        "state": {"running": {"startedAt": ended}},
        "lastState": {"terminated": {"reason": "Unknown", "startedAt": began, "finishedAt": ended}},
    }
    unhealthy = {"reason": "Unhealthy", "message": "Readiness probe failed: no", "lastTimestamp": ended}
    world.cluster.put("v1", "Event", "e", "default", type="Warning", involvedObject={"name": "my-app-1"}, **unhealthy)
    labels = {"labels": {"app": "my-app"}}
    world.cluster.put("v1", "Pod", "a-evicted", "default", metadata=labels, status={"phase": "Failed"})
    world.set(APP_POD, status={"containerStatuses": [container]}).set(SLICE, endpoints=[])
    hop = world.follow()["hops"][4]

    assert (hop["cause"], trace.finding(hop).rpartition(": pod ")[2]) == (
        "no-pod-ready",
        f"my-app-1: {unhealthy['message']}",
    )
    assert "describe pod my-app-1" in str(hop["fix"])


def test_terminating_pods_are_not_ready_and_have_no_reason(world: BreakableLab, golden: Golden) -> None:
    world.cluster.objects[APP_POD]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    world.set(SLICE, endpoints=[])

    golden(trace.finding(world.follow()["hops"][4]))


def test_the_path_of_the_app_is_requested(world: BreakableLab) -> None:
    app = replace(world.context.lab.apps[0], path="/healthz?a=b")
    lab = replace(world.context.lab, apps=(app,))
    world.context = with_fakes(replace(world.context, lab=lab), FakeProvider(), world.cluster, world.context.bundle)

    assert world.follow()["hops"][5]["evidence"]["path"] == "/healthz?a=b"
    assert world.client.asked[0] == (HOST, "/healthz?a=b", 80, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, (HOST, "/")),
        ("My-App.Local", (HOST, "/")),
        ("my-app.local.", (HOST, "/")),
        ("http://My-App.local", (HOST, "/")),
        ("http://my-app.local:80/a/b?c=d", (HOST, "/a/b?c=d")),
    ],
)
def test_a_target_is_a_hostname_or_a_url(context: Context, text: str | None, expected: tuple[str, str]) -> None:
    assert target(context, text) == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a..b", "hostname-invalid"),
        ("", "hostname-invalid"),
        (".", "hostname-invalid"),
        ("my-app.local:80", "hostname-invalid"),
        ("192.168.56.100", "hostname-invalid"),
        ("::1", "hostname-invalid"),
        ("caf\u00e9.local", "hostname-invalid"),
        ("-a.local", "hostname-invalid"),
        ("a_b.local", "hostname-invalid"),
        ("my app", "hostname-invalid"),
        ("a\x00b", "hostname-invalid"),
        ("my-app.local\n", "hostname-invalid"),
        ("a" * 64 + ".local", "hostname-invalid"),
        ("a." * 127 + "a", "hostname-invalid"),
        ("http://", "hostname-invalid"),
        ("https://my-app.local/", "url-invalid"),
        ("http://my-app.local:8080/", "url-invalid"),
        ("http://my-app.local:port/", "url-invalid"),
        ("http://[::1/", "url-invalid"),
        ("http://my-app.local/a b", "url-invalid"),
        ("http://my-app.local/\u00e9", "url-invalid"),
    ],
)
def test_an_invalid_hostname_is_refused(context: Context, text: str, error: str) -> None:
    with pytest.raises(UsageError) as refused:
        target(context, text)

    assert refused.value.id == error


def test_a_lab_without_apps_needs_a_hostname(world: BreakableLab) -> None:
    context, empty = world.context, replace(world.context.lab, apps=())
    world.context = with_fakes(replace(context, lab=empty), FakeProvider(), world.cluster, context.bundle)

    with pytest.raises(UsageError, match="demo") as refused:
        world.follow()
    assert refused.value.id == "no-app"


def test_there_is_one_trace_unless_watch_is_set(world: BreakableLab, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(trace, "Client", lambda _limits: world.client)
    monkeypatch.setattr(time, "sleep", slept.append)

    assert [report["ok"] for report in trace.traces(world.context, None, watch=False)] == [True]

    watched = trace.traces(world.context, HOST, watch=True)
    assert next(watched)["ok"]
    world.respond(503, None, server="-")
    assert not next(watched)["ok"]
    assert slept == [trace.WATCH_SECONDS]


def test_a_trace_with_wait_is_repeated_until_it_is_ok(world: BreakableLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "Client", lambda _limits: world.client)
    monkeypatch.setattr(time, "sleep", lambda _seconds: world.respond(200))
    world.respond(503, None, server="-")

    assert [report["ok"] for report in trace.traces(world.context, None, watch=False, wait=60)] == [True]


@pytest.mark.parametrize(
    ("breaks", "mends"),
    [
        (lambda world: world.respond(404, None, log=UNROUTED), lambda world: world.respond(200)),
        (lambda world: world.respond(None, failure="refused", log=""), lambda world: world.respond(200)),
        (lambda world: world.stop_announcing(), lambda world: world.client.macs.update({OURS: {MAC}, WORKER: {MAC}})),
    ],
    ids=["no route yet", "no response yet", "not announced yet"],
)
def test_a_problem_that_may_be_transient_is_checked_again(
    world: BreakableLab,
    monkeypatch: pytest.MonkeyPatch,
    breaks: Callable[[BreakableLab], object],
    mends: Callable[[BreakableLab], object],
) -> None:
    breaks(world)
    set_limits(monkeypatch, trace_again=60.0)
    monkeypatch.setattr(time, "sleep", lambda _seconds: mends(world))

    assert world.follow()["ok"]


def not_reached(hop: str) -> HopReport:
    return {"hop": hop, "state": "not reached", "cause": None, "fix": None, "commands": [], "evidence": {}}
