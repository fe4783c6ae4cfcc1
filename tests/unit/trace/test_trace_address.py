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


class BreakableCluster(FakeCluster):
    """A lab's cluster whose ingress controller has a Service with or without an address, and methods that break it."""

    def __init__(self, address: str = "") -> None:
        super().__init__()
        self.put(*DEPLOYMENT[:2], "controller", METALLB, spec={}, status={"readyReplicas": 1})
        self.put(*KIND[:2], KIND[3])
        self.pool("demo", addresses=[RANGE])
        self.service(NAME, NAMESPACE, address, externalTrafficPolicy="Local", clusterIPs=["10.96.0.9"])

    def pool(self, name: str, **spec: Any) -> BreakableCluster:  # noqa: ANN401 - any field of a pool
        self.put(*POOL[:2], name, METALLB, spec={**self.objects.get((*POOL[:3], name), {}).get("spec", {}), **spec})
        return self

    def service(self, name: str, namespace: str = "default", address: str = "", **spec: Any) -> BreakableCluster:  # noqa: ANN401 - any field of a Service
        given = {"loadBalancer": {"ingress": [{"ip": address}] if address else []}}
        metadata = {"uid": name, "creationTimestamp": LAST}
        self.put("v1", "Service", name, namespace, spec={"type": "LoadBalancer", "ports": PORTS, **spec}, status=given)
        self.objects["v1", "Service", namespace, name]["metadata"] |= metadata
        return self

    def set(self, **spec: Any) -> BreakableCluster:  # noqa: ANN401 - any field of a Service
        self.objects["v1", "Service", NAMESPACE, NAME]["spec"] |= spec
        return self

    def annotate(self, name: str = NAME, namespace: str = NAMESPACE, **annotations: str) -> BreakableCluster:
        metadata = self.objects["v1", "Service", namespace, name]["metadata"]
        metadata["annotations"] = {**metadata.get("annotations", {}), **annotations}
        return self

    def ask(self, text: str, annotation: str = "loadBalancerIPs", prefix: str = "metallb.io") -> BreakableCluster:
        return self.annotate(**{f"{prefix}/{annotation}": text})

    def fill(self, *, last: int = 110) -> BreakableCluster:
        """Give other Services all addresses of the lab's pool up to this one."""
        for number in range(100, last + 1):
            self.service(f"filler-{number}", address=f"192.168.56.{number}")
        return self

    def remove(self, *key: str) -> BreakableCluster:
        del self.objects[cast("tuple[str, str, str, str]", key)]
        return self

    def controller(self, **fields: Any) -> BreakableCluster:  # noqa: ANN401 - any field of a Deployment
        self.objects[DEPLOYMENT].update(fields)
        return self

    def warn(self, message: str, *, time: str = LAST, uid: str = NAME) -> BreakableCluster:
        about = {"kind": "Service", "name": NAME, "uid": uid}
        event = {"reason": "AllocationFailed", "message": message, "lastTimestamp": time, "type": "Warning"}
        source = {"component": "metallb-controller"}
        self.put("v1", "Event", f"e-{len(self.objects)}", NAMESPACE, involvedObject=about, source=source, **event)
        return self


@dataclass(frozen=True, slots=True)
class Breakage:
    """A breakage, and what `trace` reports."""

    breaks: Callable[[BreakableCluster], object]
    cause: str
    commands: tuple[str, ...] | None = None
    """None means `labctl up`."""


def remove_annotations(*keys: str) -> tuple[str, ...]:
    return (f"{KUBECTL} annotate -n {NAMESPACE} {SERVICE} {' '.join(f'{key}-' for key in keys)}",)


REMOVE_REQUESTED_IP = remove_annotations("metallb.io/loadBalancerIPs")
REMOVE_REQUESTED_POOL = remove_annotations("metallb.io/address-pool")
BY_FIELD = (
    f'{KUBECTL} patch -n {NAMESPACE} {SERVICE} --type=json -p \'[{{"op": "remove", "path": "/spec/loadBalancerIP"}}]\'',
)
RESTART = (f"{KUBECTL} -n {METALLB} rollout restart deployment controller", *UP)
REMAKE = (f"{KUBECTL} -n {NAMESPACE} delete {SERVICE}", *UP)


def keep_ranges(pool: str, *ranges: str) -> tuple[str, ...]:
    addresses = ", ".join(f'"{each}"' for each in ranges)
    patch = f"""{KUBECTL} patch -n {METALLB} ipaddresspool {pool} --type=merge -p '{{"spec": {{"addresses": [{addresses}]}}}}'"""
    return (patch if ranges else f"{KUBECTL} delete -n {METALLB} ipaddresspool {pool}", *UP)


OFF = {"autoAssign": False}
ELSEWHERE = {"serviceAllocation": {"namespaces": ["shop"]}}
ROWS = {
    "no Service": Breakage(lambda it: it.remove("v1", "Service", NAMESPACE, NAME), "service-missing"),
    "no Service, and another pool instead of the lab's": Breakage(
        lambda it: it.remove("v1", "Service", NAMESPACE, NAME).remove(*POOL).pool("other", addresses=[RANGE]).fill(),
        "service-missing",
        keep_ranges("other"),
    ),
    "no Service, and an exhausted pool": Breakage(
        lambda it: it.remove("v1", "Service", NAMESPACE, NAME).fill(), "service-missing"
    ),
    "another type": Breakage(lambda it: it.set(type="ClusterIP"), "service-not-a-load-balancer"),
    "the default type": Breakage(
        lambda it: it.set(type=None) and it.set(type="NodePort"), "service-not-a-load-balancer"
    ),
    "a headless Service": Breakage(
        lambda it: it.set(type="ClusterIP", clusterIP="None", clusterIPs=["None"]),
        "service-not-a-load-balancer",
        REMAKE,
    ),
    "another class": Breakage(
        lambda it: it.set(loadBalancerClass="example.com/lb"), "load-balancer-class-other", REMAKE
    ),
    "MetalLB of another class": Breakage(
        lambda it: it.controller(
            spec={"template": {"spec": {"containers": [{"args": ["--port=7472", "--lb-class=a/b"]}]}}}
        ),
        "load-balancer-class-other",
        UP,
    ),
    "no controller": Breakage(lambda it: it.remove(*DEPLOYMENT), "metallb-missing"),
    "no custom resource definitions": Breakage(lambda it: it.remove(*POOL).remove(*KIND), "metallb-missing"),
    "no replica": Breakage(lambda it: it.controller(spec={"replicas": 0}, status={}), "metallb-controller-not-ready"),
    "an unready controller": Breakage(
        lambda it: it.controller(
            spec={"selector": {"matchLabels": {"component": "controller"}}},
            metadata={"name": "controller", "namespace": METALLB, "generation": 1},
            status={"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1},
        ),
        "metallb-controller-not-ready",
    ),
    "no pool": Breakage(lambda it: it.remove(*POOL), "pool-missing"),
    "no pool, and a requested address": Breakage(lambda it: it.remove(*POOL).ask("192.168.56.105"), "pool-missing"),
    "another pool without autoAssign": Breakage(
        lambda it: it.remove(*POOL).pool("other", addresses=["10.9.0.0/24"], **OFF), "pool-missing"
    ),
    "a full pool instead of the lab's": Breakage(
        lambda it: it.remove(*POOL).pool("other", addresses=[RANGE]).fill(), "pool-overlapped", keep_ranges("other")
    ),
    "a pool without autoAssign over the end of the lab's": Breakage(
        lambda it: it.remove(*POOL).pool("other", addresses=["192.168.56.104/29"], **OFF),
        "pool-overlapped",
        keep_ranges("other", "192.168.56.111/32"),
    ),
    "an invalid range": Breakage(
        lambda it: it.pool("other", addresses=["10.9.0.1", "10.9.1.0/24"]),
        "pool-invalid",
        keep_ranges("other", "10.9.1.0/24"),
    ),
    "only invalid ranges": Breakage(
        lambda it: it.pool("other", addresses=["10.9.0.9-10.9.0.1", "x", "fd00::1-10.0.0.1"]),
        "pool-invalid",
        keep_ranges("other"),
    ),
    "an invalid range in the lab's pool": Breakage(lambda it: it.pool("demo", addresses=["x"]), "pool-invalid"),
    "two pools with an address in common": Breakage(
        lambda it: it.pool("a", addresses=["192.168.56.110-192.168.56.113"]),
        "pool-invalid",
        keep_ranges("a", "192.168.56.111/32", "192.168.56.112/31"),
    ),
    "autoAssign off": Breakage(lambda it: it.pool("demo", **OFF), "auto-assign-off"),
    "autoAssign off, and another full pool": Breakage(
        lambda it: it.pool("demo", **OFF).pool("b", addresses=["10.9.0.1/32"]).service("x", address="10.9.0.1"),
        "auto-assign-off",
    ),
    "a pool for another namespace": Breakage(lambda it: it.pool("demo", **ELSEWHERE), "pool-excludes-service"),
    "a pool for labels of namespaces": Breakage(
        lambda it: it.pool("demo", serviceAllocation={"namespaceSelectors": [{"matchLabels": {"a": "b"}}]}),
        "pool-excludes-service",
    ),
    "a pool for labels of Services": Breakage(
        lambda it: it.pool("demo", serviceAllocation={"serviceSelectors": [{"matchLabels": {"a": "b"}}]}),
        "pool-excludes-service",
    ),
    "an exhausted pool": Breakage(lambda it: it.fill(), "pool-exhausted", ()),
    "a reduced pool": Breakage(
        lambda it: it.pool("demo", addresses=["192.168.56.100/32"]).fill(last=100), "pool-differs"
    ),
    "a pool that avoids its own addresses": Breakage(
        lambda it: it.pool("demo", addresses=["10.9.0.255/32"], avoidBuggyIPs=True), "pool-differs"
    ),
    "an address of no pool": Breakage(
        lambda it: it.ask("192.168.56.200"), "requested-address-not-in-pool", REMOVE_REQUESTED_IP
    ),
    "an address of no pool, by the old annotation": Breakage(
        lambda it: it.ask("192.168.56.200", prefix="metallb.universe.tf"),
        "requested-address-not-in-pool",
        remove_annotations("metallb.universe.tf/loadBalancerIPs"),
    ),
    "an address of no pool, by the field": Breakage(
        lambda it: it.set(loadBalancerIP="192.168.56.200"), "requested-address-not-in-pool", BY_FIELD
    ),
    "an address of no pool, by both annotations": Breakage(
        lambda it: it.ask("192.168.56.200").ask("192.168.56.105", prefix="metallb.universe.tf"),
        "requested-address-not-in-pool",
        remove_annotations("metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs"),
    ),
    "an address that the pool avoids": Breakage(
        lambda it: it.pool("other", addresses=["10.9.0.0/24"], avoidBuggyIPs=True).ask("10.9.0.255"),
        "requested-address-not-in-pool",
        REMOVE_REQUESTED_IP,
    ),
    "an address of the lab's range, which its pool lost": Breakage(
        lambda it: it.pool("demo", addresses=["192.168.56.100/31"]).ask("192.168.56.105"), "pool-differs"
    ),
    "an address of one pool, and another pool": Breakage(
        lambda it: it.ask("192.168.56.105").ask("other", "address-pool"),
        "requested-address-not-in-pool",
        remove_annotations("metallb.io/loadBalancerIPs", "metallb.io/address-pool"),
    ),
    "an address of a pool for other Services": Breakage(
        lambda it: it.pool("other", addresses=["10.9.0.0/24"], **ELSEWHERE).ask("10.9.0.7"),
        "pool-excludes-service",
        REMOVE_REQUESTED_IP,
    ),
    "an address in use": Breakage(
        lambda it: it.service("x", address="192.168.56.105").ask("192.168.56.105"),
        "requested-address-in-use",
        REMOVE_REQUESTED_IP,
    ),
    "an address in use, with another key": Breakage(
        lambda it: (
            it.service("x", address="192.168.56.105", ports=[{"port": 53}])
            .annotate("x", "default", **{"metallb.io/allow-shared-ip": "a"})
            .ask("192.168.56.105")
            .ask("b", "allow-shared-ip")
        ),
        "requested-address-in-use",
        REMOVE_REQUESTED_IP,
    ),
    "an invalid address": Breakage(
        lambda it: it.ask("192.168.56.300"), "requested-address-invalid", REMOVE_REQUESTED_IP
    ),
    "an IPv6 address": Breakage(lambda it: it.ask("fd00::1"), "requested-address-invalid", REMOVE_REQUESTED_IP),
    "two IPv4 addresses": Breakage(
        lambda it: it.ask("192.168.56.101, 192.168.56.102"), "requested-address-invalid", REMOVE_REQUESTED_IP
    ),
    "an address by annotation and by field": Breakage(
        lambda it: it.ask("192.168.56.101").set(loadBalancerIP="192.168.56.101"),
        "requested-address-invalid",
        (*REMOVE_REQUESTED_IP, *BY_FIELD),
    ),
    "a missing pool": Breakage(
        lambda it: it.ask("nope", "address-pool"), "requested-pool-missing", REMOVE_REQUESTED_POOL
    ),
    "the lab's pool, which is missing": Breakage(
        lambda it: it.pool("b", addresses=["10.9.0.0/24"]).remove(*POOL).ask("demo", "address-pool"), "pool-missing"
    ),
    "a pool for other Services": Breakage(
        lambda it: it.pool("b", addresses=["10.9.0.0/24"], **ELSEWHERE).ask("b", "address-pool"),
        "pool-excludes-service",
        REMOVE_REQUESTED_POOL,
    ),
    "a full pool, while the lab's is not full": Breakage(
        lambda it: it.pool("b", addresses=["10.9.0.1/32"]).service("x", address="10.9.0.1").ask("b", "address-pool"),
        "pool-exhausted",
        REMOVE_REQUESTED_POOL,
    ),
    "the lab's pool, which is full": Breakage(lambda it: it.fill().ask("demo", "address-pool"), "pool-exhausted", ()),
    "an event of MetalLB": Breakage(lambda it: it.warn("not enough clusterips"), "address-refused", RESTART),
    "an event from before the last change": Breakage(
        lambda it: it.warn("no available IPs", time="2026-01-01T00:00:04Z"), "address-missing", RESTART
    ),
    "an event of a deleted Service of the same name": Breakage(
        lambda it: it.warn("no available IPs", uid="another"), "address-missing", RESTART
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_cause_of_a_missing_address_is_reported(name: str) -> None:
    row, cluster = ROWS[name], BreakableCluster()
    row.breaks(cluster)
    problem = _problem_without_address(cluster)

    assert (problem.cause, problem.state) == (row.cause, BROKEN)
    assert (UP if problem.commands is None else problem.commands) == (UP if row.commands is None else row.commands)
    assert problem.evidence["address"] is None


ASSIGNABLE: Mapping[str, Callable[[BreakableCluster], object]] = {
    "a pool for all Services": lambda it: it.pool("demo", serviceAllocation={"priority": 0, "namespaces": []}),
    "a pool for its namespace": lambda it: it.pool("demo", serviceAllocation={"namespaces": [NAMESPACE]}),
    "one address left": lambda it: it.fill(last=109),
    "another pool without autoAssign": lambda it: it.pool("b", addresses=["10.9.0.0/24"], **OFF),
    "autoAssign off, and the pool is requested": lambda it: it.pool("demo", **OFF).ask("demo", "address-pool"),
    "autoAssign off, and an address is requested": lambda it: it.pool("demo", **OFF).ask("192.168.56.105"),
    "a free address": lambda it: it.ask("192.168.56.105"),
    "an address of a Service of another class": lambda it: it.service(
        "x", address="192.168.56.105", loadBalancerClass="a/b"
    ).ask("192.168.56.105"),
    "an exhausted pool, and a shareable address": lambda it: (
        it.fill(last=109)
        .service("x", address="192.168.56.110", ports=[{"port": 53}], externalTrafficPolicy="Local")
        .annotate("x", "default", **{"metallb.universe.tf/allow-shared-ip": "a"})
        .ask("a", "allow-shared-ip")
    ),
}


@pytest.mark.parametrize("name", ASSIGNABLE)
def test_an_address_that_metallb_can_assign_is_only_missing_yet(name: str) -> None:
    cluster = BreakableCluster()
    ASSIGNABLE[name](cluster)

    assert _problem_without_address(cluster).cause == "address-missing"


def test_a_missing_address_has_requests_pools_and_the_last_event_as_evidence() -> None:
    problem = _problem_without_address(
        BreakableCluster().ask("192.168.56.200").service("x", address="192.168.56.100").warn("no")
    )

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
class OwnedBreakage:
    """A breakage while the Service has an address, and what `trace` reports."""

    breaks: Callable[[BreakableCluster], object]
    cause: str
    state: str = BROKEN
    commands: tuple[str, ...] | None = None
    address: str = ADDRESS


EXTERNAL = '{"spec":{"externalIPs":["10.0.0.1"]}}'
NO_STATUS = '{"status":{"loadBalancer":null}}'
CLAIM = (f"{KUBECTL} patch -n default service x --subresource=status --type=merge -p '{NO_STATUS}'",)
ASK = (f"{KUBECTL} annotate --overwrite -n {NAMESPACE} {SERVICE} metallb.io/address-pool=demo", *UP)
OWNED = {
    "the address of another": OwnedBreakage(
        lambda it: it.service("x", address="192.168.56.77"), "address-of-another-service", address="192.168.56.77"
    ),
    "an address of no Service": OwnedBreakage(lambda _it: None, "address-of-another-service", address="192.168.56.77"),
    "two with the same address": OwnedBreakage(
        lambda it: it.service("x", address=ADDRESS, loadBalancerClass="a/b"),
        "address-claimed-twice",
        commands=CLAIM,
    ),
    "the address among another's externalIPs": OwnedBreakage(
        lambda it: it.service("x", type="ClusterIP", externalIPs=["10.0.0.1", ADDRESS]),
        "address-claimed-twice",
        WARNING,
        commands=(f"{KUBECTL} patch -n default service x --type=merge -p '{EXTERNAL}'",),
    ),
    "the address among another's externalIPs, and no pool": OwnedBreakage(
        lambda it: it.service("x", type="ClusterIP", externalIPs=[ADDRESS]).remove(*POOL), "pool-missing"
    ),
    "no pool": OwnedBreakage(lambda it: it.remove(*POOL), "pool-missing"),
    "a pool without the address": OwnedBreakage(
        lambda it: it.pool("demo", addresses=["192.168.56.101/32"]), "address-not-in-pool"
    ),
    "a pool outside the network": OwnedBreakage(
        lambda it: it.pool("demo", addresses=["10.9.0.0/24"]).service(NAME, NAMESPACE, "10.9.0.1"),
        "address-outside-network",
        address="10.9.0.1",
    ),
    "an address of a foreign pool outside the network": OwnedBreakage(
        lambda it: it.pool("b", addresses=["10.9.0.0/24"]).service(NAME, NAMESPACE, "10.9.0.1"),
        "address-outside-network",
        address="10.9.0.1",
        commands=ASK,
    ),
    "no controller": OwnedBreakage(
        lambda it: it.controller(spec={"replicas": 0}), "metallb-controller-not-ready", WARNING
    ),
    "no MetalLB": OwnedBreakage(lambda it: it.remove(*DEPLOYMENT), "metallb-missing", WARNING),
    "another class": OwnedBreakage(
        lambda it: it.set(loadBalancerClass="a/b"), "load-balancer-class-other", WARNING, commands=REMAKE
    ),
    "a pool without autoAssign": OwnedBreakage(lambda it: it.pool("demo", **OFF), "auto-assign-off", WARNING),
    "a resized pool": OwnedBreakage(
        lambda it: it.pool("demo", addresses=["192.168.56.100/30"]), "pool-differs", WARNING
    ),
    "a foreign pool instead": OwnedBreakage(
        lambda it: (
            it.remove(*POOL).pool("b", addresses=["192.168.56.200/30"]).service(NAME, NAMESPACE, "192.168.56.200")
        ),
        "pool-missing",
        WARNING,
        address="192.168.56.200",
    ),
    "a foreign pool with the lab's addresses": OwnedBreakage(
        lambda it: it.remove(*POOL).pool("b", addresses=[RANGE]), "pool-overlapped", WARNING, commands=keep_ranges("b")
    ),
}


@pytest.mark.parametrize("name", OWNED)
def test_a_wrong_address_is_reported_with_its_cause(name: str) -> None:
    row, cluster = OWNED[name], BreakableCluster(ADDRESS)
    row.breaks(cluster)

    with pytest.raises(ProblemError) as raised:
        address_hop.address(_trail(cluster, row.address))
    problem = raised.value
    assert (problem.cause, problem.state) == (row.cause, row.state)
    assert problem.commands == row.commands


FINE: Mapping[str, Callable[[BreakableCluster], object]] = {
    "nothing": lambda _it: None,
    "a foreign pool beside the lab's": lambda it: it.pool("b", addresses=["192.168.56.200/30"]).service(
        NAME, NAMESPACE, "192.168.56.200"
    ),
    "the same ranges in another notation": lambda it: it.pool(
        "demo", addresses=["192.168.56.105-192.168.56.110", "192.168.56.100-192.168.56.104"]
    ),
    "a shared address": lambda it: (
        it.service("x", address=ADDRESS, ports=[{"port": 53}], externalTrafficPolicy="Local")
        .annotate("x", "default", **{"metallb.io/allow-shared-ip": "a"})
        .ask("a", "allow-shared-ip")
    ),
}


@pytest.mark.parametrize("name", FINE)
def test_a_correct_address_is_reported_with_its_pool(name: str) -> None:
    cluster = BreakableCluster(ADDRESS)
    FINE[name](cluster)
    owned = cluster.objects["v1", "Service", NAMESPACE, NAME]["status"]["loadBalancer"]["ingress"][0]["ip"]
    evidence = address_hop.address(_trail(cluster, owned))

    assert (evidence["address"], evidence["service"]) == (owned, f"{NAMESPACE}/{NAME}")
    assert evidence["shared_with"] == (["default/x"] if name == "a shared address" else [])
    assert evidence["pool"] == ("b" if name.startswith("a foreign") else "demo")


def test_an_additional_ipv6_address_is_accepted() -> None:
    cluster = BreakableCluster(ADDRESS).pool("six", addresses=["fd00::/64", "fd01::1-fd01::9"])
    cluster.objects["v1", "Service", NAMESPACE, NAME]["status"]["loadBalancer"]["ingress"].insert(0, {"ip": "fd00::1"})

    assert address_hop.address(_trail(cluster, ADDRESS))["pool"] == "demo"


def test_the_writer_of_an_address_outside_all_pools_is_named() -> None:
    cluster = BreakableCluster("192.168.56.99")
    written = [
        {"manager": manager, "subresource": "status", "time": when} for manager, when in (("a", "1"), ("klipper", "2"))
    ]
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
    pool = pools.pool({"metadata": {"name": "a"}, "spec": {"addresses": addresses, "avoidBuggyIPs": avoids}}, {})

    assert pool.free([]) == free


def test_used_addresses_are_not_free() -> None:
    pool = pools.pool({"metadata": {"name": "a"}, "spec": {"addresses": ["10.9.0.0/24"], "avoidBuggyIPs": True}}, {})
    used = [IPv4Address(f"10.9.0.{last}") for last in (0, 1, 2)] + [IPv4Address("10.8.0.1")]

    assert pool.free(used) == 252


@pytest.mark.parametrize(
    ("selector", "is_selected"),
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
def test_a_selector_matches_as_in_kubernetes(selector: Fields, is_selected: bool) -> None:  # noqa: FBT001 - a column
    assert selectors.matches(selector, {"a": "b"}) == is_selected


@pytest.mark.parametrize(
    ("first", "second", "is_refused"),
    [
        ({}, {}, True),
        ({"key": "a"}, {}, True),
        ({"key": "a", "port": 80}, {"key": "a", "port": 80}, True),
        ({"key": "a", "port": 80}, {"key": "a", "port": 53}, False),
        ({"key": "a", "port": 53}, {"key": "a", "port": 53, "protocol": "UDP"}, False),
        ({"key": "a", "policy": "Local"}, {"key": "a", "port": 53}, True),
    ],
)
def test_services_can_share_an_address_by_metallbs_rules(first: Fields, second: Fields, is_refused: bool) -> None:  # noqa: FBT001 - a column
    assert bool(requested.sharing_obstacle(_service_to_share(first), [_service_to_share(second)])) == is_refused


def _service_to_share(fields: Fields) -> dict[str, Any]:
    ports = [{"port": fields.get("port", 80), "protocol": fields.get("protocol", "TCP")}]
    spec = {"ports": ports, "externalTrafficPolicy": fields.get("policy", "Cluster"), "selector": {"a": "b"}}
    annotations = {"metallb.io/allow-shared-ip": fields["key"]} if "key" in fields else {}
    return {"metadata": {"namespace": "default", "name": "x", "annotations": annotations}, "spec": spec}


def _problem_without_address(cluster: BreakableCluster) -> ProblemError:
    return no_address.without_address(cluster, CONTROLLERS[1], lab())


def _trail(cluster: BreakableCluster, address: str) -> Trail:
    """Return a trail with only what the hop reads."""
    fake = SimpleNamespace(
        cluster=cluster, controller=CONTROLLERS[1], lab=lab(), address=IPv4Address(address), context=None
    )
    return cast("Trail", fake)
