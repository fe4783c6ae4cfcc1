"""Tests of why the ingress controller's Service has no address, or a wrong one, by the rules of MetalLB."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fakes import ADDRESS, FakeCluster, lab

from labctl.cluster import selectors
from labctl.render.ingress import CONTROLLERS
from labctl.trace.address import address as address_hop
from labctl.trace.address import no_address
from labctl.trace.metallb import pools, requested
from labctl.trace.problem import BROKEN, WARNING, ProblemError
from labctl.trace.trail import Trail

NAMESPACE, NAME = "ingress-nginx", "ingress-nginx-controller"
METALLB = "metallb-system"
UP = ("labctl --name demo up",)
KUBECTL = "labctl --name demo exec -- kubectl"
SERVICE = f"service {NAME}"
POOL = ("metallb.io/v1beta1", "IPAddressPool", METALLB, "demo")
DEPLOYMENT = ("apps/v1", "Deployment", METALLB, "controller")
KIND = ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "ipaddresspools.metallb.io")
RANGE = "192.168.56.100-192.168.56.110"
PORTS = [{"port": 80, "protocol": "TCP"}]
LAST = "2026-01-01T00:00:05Z"
"""The time of the Service's last change."""
Fields = Mapping[str, Any]


class Cluster(FakeCluster):
    """A lab's cluster whose ingress controller has a Service with or without an address, and methods that break it."""

    def __init__(self, address: str = "") -> None:
        super().__init__()
        self.put(*DEPLOYMENT[:2], "controller", METALLB, spec={}, status={"readyReplicas": 1})
        self.put(*KIND[:2], KIND[3])
        self.pool("demo", addresses=[RANGE])
        self.service(NAME, NAMESPACE, address, externalTrafficPolicy="Local", clusterIPs=["10.96.0.9"])

    def pool(self, name: str, **spec: Any) -> Cluster:  # noqa: ANN401 - any field of a pool
        self.put(*POOL[:2], name, METALLB, spec={**self.objects.get((*POOL[:3], name), {}).get("spec", {}), **spec})
        return self

    def service(self, name: str, namespace: str = "default", address: str = "", **spec: Any) -> Cluster:  # noqa: ANN401 - any field of a Service
        given = {"loadBalancer": {"ingress": [{"ip": address}] if address else []}}
        metadata = {"uid": name, "creationTimestamp": LAST}
        self.put("v1", "Service", name, namespace, spec={"type": "LoadBalancer", "ports": PORTS, **spec}, status=given)
        self.objects["v1", "Service", namespace, name]["metadata"] |= metadata
        return self

    def set(self, **spec: Any) -> Cluster:  # noqa: ANN401 - any field of a Service
        self.objects["v1", "Service", NAMESPACE, NAME]["spec"] |= spec
        return self

    def annotate(self, name: str = NAME, namespace: str = NAMESPACE, **annotations: str) -> Cluster:
        metadata = self.objects["v1", "Service", namespace, name]["metadata"]
        metadata["annotations"] = {**metadata.get("annotations", {}), **annotations}
        return self

    def ask(self, text: str, what: str = "loadBalancerIPs", prefix: str = "metallb.io") -> Cluster:
        return self.annotate(**{f"{prefix}/{what}": text})

    def fill(self, *, last: int = 110) -> Cluster:
        """Give other Services all addresses of the lab's pool up to this one."""
        for number in range(100, last + 1):
            self.service(f"filler-{number}", address=f"192.168.56.{number}")
        return self

    def lose(self, *key: str) -> Cluster:
        del self.objects[cast("tuple[str, str, str, str]", key)]
        return self

    def controller(self, **fields: Any) -> Cluster:  # noqa: ANN401 - any field of a Deployment
        self.objects[DEPLOYMENT].update(fields)
        return self

    def warn(self, message: str, *, time: str = LAST, uid: str = NAME) -> Cluster:
        about = {"kind": "Service", "name": NAME, "uid": uid}
        said = {"reason": "AllocationFailed", "message": message, "lastTimestamp": time, "type": "Warning"}
        source = {"component": "metallb-controller"}
        self.put("v1", "Event", f"e-{len(self.objects)}", NAMESPACE, involvedObject=about, source=source, **said)
        return self


@dataclass(frozen=True, slots=True)
class Row:
    """A breakage, and what `trace` reports."""

    breaks: Callable[[Cluster], object]
    cause: str
    commands: tuple[str, ...] | None = None
    """None means `labctl up`."""


def take_back(*keys: str) -> tuple[str, ...]:
    return (f"{KUBECTL} annotate -n {NAMESPACE} {SERVICE} {' '.join(f'{key}-' for key in keys)}",)


ASKED = take_back("metallb.io/loadBalancerIPs")
ASKED_POOL = take_back("metallb.io/address-pool")
BY_FIELD = (
    f'{KUBECTL} patch -n {NAMESPACE} {SERVICE} --type=json -p \'[{{"op": "remove", "path": "/spec/loadBalancerIP"}}]\'',
)
RESTART = (f"{KUBECTL} -n {METALLB} rollout restart deployment controller", *UP)
REMAKE = (f"{KUBECTL} -n {NAMESPACE} delete {SERVICE}", *UP)


def leave(pool: str, *ranges: str) -> tuple[str, ...]:
    addresses = ", ".join(f'"{each}"' for each in ranges)
    patch = f"""{KUBECTL} patch -n {METALLB} ipaddresspool {pool} --type=merge -p '{{"spec": {{"addresses": [{addresses}]}}}}'"""
    return (patch if ranges else f"{KUBECTL} delete -n {METALLB} ipaddresspool {pool}", *UP)


OFF = {"autoAssign": False}
ELSEWHERE = {"serviceAllocation": {"namespaces": ["shop"]}}
ROWS = {
    "no Service": Row(lambda it: it.lose("v1", "Service", NAMESPACE, NAME), "service-missing"),
    "no Service, and another pool in the place of the lab's": Row(
        lambda it: it.lose("v1", "Service", NAMESPACE, NAME).lose(*POOL).pool("other", addresses=[RANGE]).fill(),
        "service-missing",
        leave("other"),
    ),
    "no Service, and an exhausted pool": Row(
        lambda it: it.lose("v1", "Service", NAMESPACE, NAME).fill(), "service-missing"
    ),
    "another type": Row(lambda it: it.set(type="ClusterIP"), "service-not-a-load-balancer"),
    "the default type": Row(lambda it: it.set(type=None) and it.set(type="NodePort"), "service-not-a-load-balancer"),
    "a headless Service": Row(
        lambda it: it.set(type="ClusterIP", clusterIP="None", clusterIPs=["None"]),
        "service-not-a-load-balancer",
        REMAKE,
    ),
    "another class": Row(lambda it: it.set(loadBalancerClass="example.com/lb"), "load-balancer-class-other", REMAKE),
    "MetalLB of another class": Row(
        lambda it: it.controller(
            spec={"template": {"spec": {"containers": [{"args": ["--port=7472", "--lb-class=a/b"]}]}}}
        ),
        "load-balancer-class-other",
        UP,
    ),
    "no controller": Row(lambda it: it.lose(*DEPLOYMENT), "metallb-missing"),
    "no kinds": Row(lambda it: it.lose(*POOL).lose(*KIND), "metallb-missing"),
    "no replica": Row(lambda it: it.controller(spec={"replicas": 0}, status={}), "metallb-controller-not-ready"),
    "a controller that is not ready": Row(
        lambda it: it.controller(
            spec={"selector": {"matchLabels": {"component": "controller"}}},
            metadata={"name": "controller", "namespace": METALLB, "generation": 1},
            status={"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1},
        ),
        "metallb-controller-not-ready",
    ),
    "no pool": Row(lambda it: it.lose(*POOL), "pool-missing"),
    "no pool, and an address is asked for": Row(lambda it: it.lose(*POOL).ask("192.168.56.105"), "pool-missing"),
    "another pool, which is off": Row(
        lambda it: it.lose(*POOL).pool("other", addresses=["10.9.0.0/24"], **OFF), "pool-missing"
    ),
    "another pool in the place of the lab's, full": Row(
        lambda it: it.lose(*POOL).pool("other", addresses=[RANGE]).fill(), "pool-overlapped", leave("other")
    ),
    "another pool over the end of the lab's, off": Row(
        lambda it: it.lose(*POOL).pool("other", addresses=["192.168.56.104/29"], **OFF),
        "pool-overlapped",
        leave("other", "192.168.56.111/32"),
    ),
    "a range that cannot be read": Row(
        lambda it: it.pool("other", addresses=["10.9.0.1", "10.9.1.0/24"]),
        "pool-invalid",
        leave("other", "10.9.1.0/24"),
    ),
    "no range that can be read": Row(
        lambda it: it.pool("other", addresses=["10.9.0.9-10.9.0.1", "x", "fd00::1-10.0.0.1"]),
        "pool-invalid",
        leave("other"),
    ),
    "a range of the lab's that cannot be read": Row(lambda it: it.pool("demo", addresses=["x"]), "pool-invalid"),
    "two pools with an address in common": Row(
        lambda it: it.pool("a", addresses=["192.168.56.110-192.168.56.113"]),
        "pool-invalid",
        leave("a", "192.168.56.111/32", "192.168.56.112/31"),
    ),
    "autoAssign off": Row(lambda it: it.pool("demo", **OFF), "auto-assign-off"),
    "autoAssign off, and another pool that is full": Row(
        lambda it: it.pool("demo", **OFF).pool("b", addresses=["10.9.0.1/32"]).service("x", address="10.9.0.1"),
        "auto-assign-off",
    ),
    "a pool for another namespace": Row(lambda it: it.pool("demo", **ELSEWHERE), "pool-excludes-service"),
    "a pool for labels of namespaces": Row(
        lambda it: it.pool("demo", serviceAllocation={"namespaceSelectors": [{"matchLabels": {"a": "b"}}]}),
        "pool-excludes-service",
    ),
    "a pool for labels of Services": Row(
        lambda it: it.pool("demo", serviceAllocation={"serviceSelectors": [{"matchLabels": {"a": "b"}}]}),
        "pool-excludes-service",
    ),
    "an exhausted pool": Row(lambda it: it.fill(), "pool-exhausted", ()),
    "a pool that was made smaller": Row(
        lambda it: it.pool("demo", addresses=["192.168.56.100/32"]).fill(last=100), "pool-differs"
    ),
    "a pool that avoids what it has": Row(
        lambda it: it.pool("demo", addresses=["10.9.0.255/32"], avoidBuggyIPs=True), "pool-differs"
    ),
    "an address of no pool": Row(lambda it: it.ask("192.168.56.200"), "requested-address-not-in-pool", ASKED),
    "an address of no pool, by the old annotation": Row(
        lambda it: it.ask("192.168.56.200", prefix="metallb.universe.tf"),
        "requested-address-not-in-pool",
        take_back("metallb.universe.tf/loadBalancerIPs"),
    ),
    "an address of no pool, by the field": Row(
        lambda it: it.set(loadBalancerIP="192.168.56.200"), "requested-address-not-in-pool", BY_FIELD
    ),
    "an address of no pool, by both annotations": Row(
        lambda it: it.ask("192.168.56.200").ask("192.168.56.105", prefix="metallb.universe.tf"),
        "requested-address-not-in-pool",
        take_back("metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs"),
    ),
    "an address that the pool avoids": Row(
        lambda it: it.pool("other", addresses=["10.9.0.0/24"], avoidBuggyIPs=True).ask("10.9.0.255"),
        "requested-address-not-in-pool",
        ASKED,
    ),
    "an address of the lab's range, which its pool lost": Row(
        lambda it: it.pool("demo", addresses=["192.168.56.100/31"]).ask("192.168.56.105"), "pool-differs"
    ),
    "an address of one pool, and another pool": Row(
        lambda it: it.ask("192.168.56.105").ask("other", "address-pool"),
        "requested-address-not-in-pool",
        take_back("metallb.io/loadBalancerIPs", "metallb.io/address-pool"),
    ),
    "an address that a pool for others has": Row(
        lambda it: it.pool("other", addresses=["10.9.0.0/24"], **ELSEWHERE).ask("10.9.0.7"),
        "pool-excludes-service",
        ASKED,
    ),
    "an address in use": Row(
        lambda it: it.service("x", address="192.168.56.105").ask("192.168.56.105"), "requested-address-in-use", ASKED
    ),
    "an address in use, with another key": Row(
        lambda it: (
            it.service("x", address="192.168.56.105", ports=[{"port": 53}])
            .annotate("x", "default", **{"metallb.io/allow-shared-ip": "a"})
            .ask("192.168.56.105")
            .ask("b", "allow-shared-ip")
        ),
        "requested-address-in-use",
        ASKED,
    ),
    "no address": Row(lambda it: it.ask("192.168.56.300"), "requested-address-invalid", ASKED),
    "an address of IPv6": Row(lambda it: it.ask("fd00::1"), "requested-address-invalid", ASKED),
    "two addresses of IPv4": Row(
        lambda it: it.ask("192.168.56.101, 192.168.56.102"), "requested-address-invalid", ASKED
    ),
    "an address by annotation and by field": Row(
        lambda it: it.ask("192.168.56.101").set(loadBalancerIP="192.168.56.101"),
        "requested-address-invalid",
        (*ASKED, *BY_FIELD),
    ),
    "a pool that is not there": Row(lambda it: it.ask("nope", "address-pool"), "requested-pool-missing", ASKED_POOL),
    "the lab's pool, which is not there": Row(
        lambda it: it.pool("b", addresses=["10.9.0.0/24"]).lose(*POOL).ask("demo", "address-pool"), "pool-missing"
    ),
    "a pool that is for others": Row(
        lambda it: it.pool("b", addresses=["10.9.0.0/24"], **ELSEWHERE).ask("b", "address-pool"),
        "pool-excludes-service",
        ASKED_POOL,
    ),
    "a pool that is full, and the lab's is not": Row(
        lambda it: it.pool("b", addresses=["10.9.0.1/32"]).service("x", address="10.9.0.1").ask("b", "address-pool"),
        "pool-exhausted",
        ASKED_POOL,
    ),
    "the lab's pool, which is full": Row(lambda it: it.fill().ask("demo", "address-pool"), "pool-exhausted", ()),
    "MetalLB's own words": Row(lambda it: it.warn("not enough clusterips"), "address-refused", RESTART),
    "words from before the last change": Row(
        lambda it: it.warn("no available IPs", time="2026-01-01T00:00:04Z"), "address-missing", RESTART
    ),
    "words about a Service of the same name that is gone": Row(
        lambda it: it.warn("no available IPs", uid="another"), "address-missing", RESTART
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_service_without_an_address_is_told_why(name: str) -> None:
    row, cluster = ROWS[name], Cluster()
    row.breaks(cluster)
    problem = _unowned(cluster)

    assert (problem.cause, problem.state) == (row.cause, BROKEN)
    assert (UP if problem.commands is None else problem.commands) == (UP if row.commands is None else row.commands)
    assert problem.evidence["address"] is None


WELL: Mapping[str, Callable[[Cluster], object]] = {
    "a pool for everybody": lambda it: it.pool("demo", serviceAllocation={"priority": 0, "namespaces": []}),
    "a pool for its namespace": lambda it: it.pool("demo", serviceAllocation={"namespaces": [NAMESPACE]}),
    "one address left": lambda it: it.fill(last=109),
    "another pool that is off": lambda it: it.pool("b", addresses=["10.9.0.0/24"], **OFF),
    "autoAssign off, and the pool is asked for": lambda it: it.pool("demo", **OFF).ask("demo", "address-pool"),
    "autoAssign off, and an address is asked for": lambda it: it.pool("demo", **OFF).ask("192.168.56.105"),
    "an address that is free": lambda it: it.ask("192.168.56.105"),
    "an address that a Service of another class has": lambda it: it.service(
        "x", address="192.168.56.105", loadBalancerClass="a/b"
    ).ask("192.168.56.105"),
    "an exhausted pool, and an address that may be shared": lambda it: (
        it.fill(last=109)
        .service("x", address="192.168.56.110", ports=[{"port": 53}], externalTrafficPolicy="Local")
        .annotate("x", "default", **{"metallb.universe.tf/allow-shared-ip": "a"})
        .ask("a", "allow-shared-ip")
    ),
}


@pytest.mark.parametrize("name", WELL)
def test_where_metallb_would_give_an_address_it_is_only_awaited(name: str) -> None:
    cluster = Cluster()
    WELL[name](cluster)

    assert _unowned(cluster).cause == "address-missing"


def test_what_a_service_without_an_address_was_told_is_evidence() -> None:
    problem = _unowned(Cluster().ask("192.168.56.200").service("x", address="192.168.56.100").warn("no"))

    assert problem.evidence == {
        "service": f"{NAMESPACE}/{NAME}",
        "address": None,
        "pool": None,
        "requested": {"addresses": ["192.168.56.200"], "pool": None, "by": "metallb.io/loadBalancerIPs"},
        "pools": [
            {"name": "demo", "addresses": [RANGE], "free": 10, "auto_assign": True, "allows_service": True},
        ],
        "shared_with": [],
        "event": {"reason": "AllocationFailed", "message": "no", "time": LAST},
    }


@dataclass(frozen=True, slots=True)
class Owned:
    """A breakage while the Service has an address, and what `trace` reports."""

    breaks: Callable[[Cluster], object]
    cause: str
    state: str = BROKEN
    commands: tuple[str, ...] | None = None
    address: str = ADDRESS


EXTERNAL = '{"spec":{"externalIPs":["10.0.0.1"]}}'
NO_STATUS = '{"status":{"loadBalancer":null}}'
CLAIM = (f"{KUBECTL} patch -n default service x --subresource=status --type=merge -p '{NO_STATUS}'",)
ASK = (f"{KUBECTL} annotate --overwrite -n {NAMESPACE} {SERVICE} metallb.io/address-pool=demo", *UP)
OWNED = {
    "the address of another": Owned(
        lambda it: it.service("x", address="192.168.56.77"), "address-of-another-service", address="192.168.56.77"
    ),
    "an address of nobody": Owned(lambda _it: None, "address-of-another-service", address="192.168.56.77"),
    "two with the same address": Owned(
        lambda it: it.service("x", address=ADDRESS, loadBalancerClass="a/b"),
        "address-claimed-twice",
        commands=CLAIM,
    ),
    "the address among another's externalIPs": Owned(
        lambda it: it.service("x", type="ClusterIP", externalIPs=["10.0.0.1", ADDRESS]),
        "address-claimed-twice",
        WARNING,
        commands=(f"{KUBECTL} patch -n default service x --type=merge -p '{EXTERNAL}'",),
    ),
    "the address among another's externalIPs, and no pool": Owned(
        lambda it: it.service("x", type="ClusterIP", externalIPs=[ADDRESS]).lose(*POOL), "pool-missing"
    ),
    "no pool": Owned(lambda it: it.lose(*POOL), "pool-missing"),
    "a pool without the address": Owned(
        lambda it: it.pool("demo", addresses=["192.168.56.101/32"]), "address-not-in-pool"
    ),
    "a pool outside the network": Owned(
        lambda it: it.pool("demo", addresses=["10.9.0.0/24"]).service(NAME, NAMESPACE, "10.9.0.1"),
        "address-outside-network",
        address="10.9.0.1",
    ),
    "an address of a foreign pool outside the network": Owned(
        lambda it: it.pool("b", addresses=["10.9.0.0/24"]).service(NAME, NAMESPACE, "10.9.0.1"),
        "address-outside-network",
        address="10.9.0.1",
        commands=ASK,
    ),
    "no controller": Owned(lambda it: it.controller(spec={"replicas": 0}), "metallb-controller-not-ready", WARNING),
    "no MetalLB": Owned(lambda it: it.lose(*DEPLOYMENT), "metallb-missing", WARNING),
    "another class": Owned(
        lambda it: it.set(loadBalancerClass="a/b"), "load-balancer-class-other", WARNING, commands=REMAKE
    ),
    "a pool that is off": Owned(lambda it: it.pool("demo", **OFF), "auto-assign-off", WARNING),
    "a pool of another size": Owned(
        lambda it: it.pool("demo", addresses=["192.168.56.100/30"]), "pool-differs", WARNING
    ),
    "a foreign pool instead": Owned(
        lambda it: it.lose(*POOL).pool("b", addresses=["192.168.56.200/30"]).service(NAME, NAMESPACE, "192.168.56.200"),
        "pool-missing",
        WARNING,
        address="192.168.56.200",
    ),
    "a foreign pool with the lab's addresses": Owned(
        lambda it: it.lose(*POOL).pool("b", addresses=[RANGE]), "pool-overlapped", WARNING, commands=leave("b")
    ),
}


@pytest.mark.parametrize("name", OWNED)
def test_an_address_that_is_not_as_it_should_be(name: str) -> None:
    row, cluster = OWNED[name], Cluster(ADDRESS)
    row.breaks(cluster)

    with pytest.raises(ProblemError) as raised:
        address_hop.address(_trail(cluster, row.address))
    problem = raised.value
    assert (problem.cause, problem.state) == (row.cause, row.state)
    assert problem.commands == row.commands


FINE: Mapping[str, Callable[[Cluster], object]] = {
    "nothing": lambda _it: None,
    "a foreign pool beside the lab's": lambda it: it.pool("b", addresses=["192.168.56.200/30"]).service(
        NAME, NAMESPACE, "192.168.56.200"
    ),
    "the same ranges, written otherwise": lambda it: it.pool(
        "demo", addresses=["192.168.56.105-192.168.56.110", "192.168.56.100-192.168.56.104"]
    ),
    "a shared address": lambda it: (
        it.service("x", address=ADDRESS, ports=[{"port": 53}], externalTrafficPolicy="Local")
        .annotate("x", "default", **{"metallb.io/allow-shared-ip": "a"})
        .ask("a", "allow-shared-ip")
    ),
}


@pytest.mark.parametrize("name", FINE)
def test_an_address_that_is_as_it_should_be(name: str) -> None:
    cluster = Cluster(ADDRESS)
    FINE[name](cluster)
    owned = cluster.objects["v1", "Service", NAMESPACE, NAME]["status"]["loadBalancer"]["ingress"][0]["ip"]
    evidence = address_hop.address(_trail(cluster, owned))

    assert (evidence["address"], evidence["service"]) == (owned, f"{NAMESPACE}/{NAME}")
    assert evidence["shared_with"] == (["default/x"] if name == "a shared address" else [])
    assert evidence["pool"] == ("b" if name.startswith("a foreign") else "demo")


def test_an_address_of_ipv6_beside_it_is_fine() -> None:
    cluster = Cluster(ADDRESS).pool("six", addresses=["fd00::/64", "fd01::1-fd01::9"])
    cluster.objects["v1", "Service", NAMESPACE, NAME]["status"]["loadBalancer"]["ingress"].insert(0, {"ip": "fd00::1"})

    assert address_hop.address(_trail(cluster, ADDRESS))["pool"] == "demo"


def test_who_wrote_an_address_that_is_in_no_pool_is_told() -> None:
    cluster = Cluster("192.168.56.99")
    written = [{"manager": who, "subresource": "status", "time": when} for who, when in (("a", "1"), ("klipper", "2"))]
    cluster.objects["v1", "Service", NAMESPACE, NAME]["metadata"]["managedFields"] = written

    with pytest.raises(ProblemError, match="klipper") as raised:
        address_hop.address(_trail(cluster, "192.168.56.99"))
    assert raised.value.cause == "address-not-in-pool"


@pytest.mark.parametrize(
    ("addresses", "avoids", "free"),
    [
        ([RANGE], False, 11),
        (["10.9.0.0/16"], False, 2**16),
        (["10.9.0.0/16"], True, 2**16 - 512),
        (["10.9.0.0/24"], True, 254),
        (["10.9.0.0/25", "10.9.0.254/31"], True, 128),
        (["10.9.0.0/32"], True, 0),
        (["fd00::/64"], False, 0),
        (["10.0.0.0/8"], False, 2**24),
    ],
)
def test_free_addresses_are_counted(addresses: list[str], avoids: bool, free: int) -> None:  # noqa: FBT001 - a column
    found = pools.pool({"metadata": {"name": "a"}, "spec": {"addresses": addresses, "avoidBuggyIPs": avoids}}, {})

    assert found.free([]) == free


def test_addresses_that_others_have_are_not_free() -> None:
    found = pools.pool({"metadata": {"name": "a"}, "spec": {"addresses": ["10.9.0.0/24"], "avoidBuggyIPs": True}}, {})
    taken = [IPv4Address(f"10.9.0.{last}") for last in (0, 1, 2)] + [IPv4Address("10.8.0.1")]

    assert found.free(taken) == 252


@pytest.mark.parametrize(
    ("selector", "is_chosen"),
    [
        ({}, True),
        ({"matchLabels": {"a": "b"}}, True),
        ({"matchLabels": {"a": "c"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b", "c"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]}, False),
        ({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["b"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "x", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}, True),
        ({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, False),
    ],
)
def test_a_selector_chooses_as_kubernetes_does(selector: Fields, is_chosen: bool) -> None:  # noqa: FBT001 - a column
    assert selectors.chooses(selector, {"a": "b"}) == is_chosen


@pytest.mark.parametrize(
    ("one", "other", "is_refused"),
    [
        ({}, {}, True),
        ({"key": "a"}, {}, True),
        ({"key": "a", "port": 80}, {"key": "a", "port": 80}, True),
        ({"key": "a", "port": 80}, {"key": "a", "port": 53}, False),
        ({"key": "a", "port": 53}, {"key": "a", "port": 53, "protocol": "UDP"}, False),
        ({"key": "a", "policy": "Local"}, {"key": "a", "port": 53}, True),
    ],
)
def test_services_share_an_address_as_metallb_lets_them(one: Fields, other: Fields, is_refused: bool) -> None:  # noqa: FBT001 - a column
    assert bool(requested.refuses_to_share(_sharing(one), [_sharing(other)])) == is_refused


def _sharing(fields: Fields) -> dict[str, Any]:
    ports = [{"port": fields.get("port", 80), "protocol": fields.get("protocol", "TCP")}]
    spec = {"ports": ports, "externalTrafficPolicy": fields.get("policy", "Cluster"), "selector": {"a": "b"}}
    annotations = {"metallb.io/allow-shared-ip": fields["key"]} if "key" in fields else {}
    return {"metadata": {"namespace": "default", "name": "x", "annotations": annotations}, "spec": spec}


def _unowned(cluster: Cluster) -> ProblemError:
    return no_address.unowned(cluster, CONTROLLERS[1], lab())


def _trail(cluster: Cluster, address: str) -> Trail:
    """Return a trail with only what the hop reads."""
    seen = SimpleNamespace(
        cluster=cluster, controller=CONTROLLERS[1], lab=lab(), address=IPv4Address(address), context=None
    )
    return cast("Trail", seen)
