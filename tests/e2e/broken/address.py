"""Labs in which MetalLB assigns the ingress controller no address, or the wrong one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from e2e.reallab import RealLab, eventually

from . import Act, BrokenLab
from .breaking import ADDRESS, METALLB, SERVICE, empty_the_pool, exhaust_the_pool, in_turn, kubectl, patch

PREFIX = "metallb.io"
OTHER = "broken-other"
"""Another Service, which belongs to the user."""
CLASS = {"type": "LoadBalancer", "loadBalancerClass": "example.com/other"}
NOTHING_ASKED = in_turn(
    kubectl("annotate", *SERVICE, f"{PREFIX}/loadBalancerIPs-", f"{PREFIX}/address-pool-"),
    patch(*SERVICE, merge={"spec": {"loadBalancerIP": None}}),
)
SCALED_DOWN = kubectl("scale", "deployment", "controller", *METALLB, "--replicas=0")
AS_CLUSTER_IP = patch(*SERVICE, merge={"spec": {"type": "ClusterIP"}})
MADE_ANEW = in_turn(AS_CLUSTER_IP, patch(*SERVICE, merge={"spec": {"type": "LoadBalancer"}}))
"""To MetalLB this is a new Service, for which it has to find an address."""


def pool(**spec: Any) -> Act:  # noqa: ANN401 - any field of a pool
    """Change the lab's own pool."""
    return lambda lab: patch("ipaddresspool", lab.name, *METALLB, merge={"spec": spec})(lab)


def ask(what: str, value: str) -> Act:
    """Make the ingress controller's Service request an address or a pool."""
    return kubectl("annotate", "--overwrite", *SERVICE, f"{PREFIX}/{what}={value}")


def other_service(lab: RealLab) -> None:
    """Create another Service, and wait until it has an address."""
    lab.kubectl("create", "service", "loadbalancer", OTHER, "--tcp=80")
    eventually(lambda: status_of(lab, OTHER), bool)


def ask_for_that_of_another(lab: RealLab) -> None:
    other_service(lab)
    ask("loadBalancerIPs", status_of(lab, OTHER)["ingress"][0]["ip"])(lab)


def claim(lab: RealLab) -> None:
    """Put the address into the status of a Service of another load balancer."""
    lab.kubectl("create", "service", "clusterip", OTHER, "--tcp=80")
    patch("service", OTHER, merge={"spec": CLASS})(lab)
    status = {"status": {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}}}
    lab.kubectl("patch", "service", OTHER, "--subresource=status", "--type=merge", "-p", json.dumps(status))


def claim_as_external(lab: RealLab) -> None:
    """Create another Service with the address among its external IPs."""
    lab.kubectl("create", "service", "clusterip", OTHER, "--tcp=80")
    patch("service", OTHER, merge={"spec": {"externalIPs": [ADDRESS]}})(lab)


def move_the_pool(lab: RealLab) -> None:
    """Move the pool to another network, and update the hosts file."""
    pool(addresses=["10.9.0.0/24"])(lab)
    eventually(lambda: address_of_the_controller(lab), lambda address: address.startswith("10.9."))
    lab.labctl("hosts", "sync")


def status_of(lab: RealLab, *service: str) -> Mapping[str, Any]:
    status: Mapping[str, Any] = lab.objects("service", *service)["status"]["loadBalancer"]
    return status


def address_of_the_controller(lab: RealLab) -> str:
    given = status_of(lab, "-n", "ingress-nginx", "ingress-nginx-controller").get("ingress")
    return str(given[0]["ip"]) if given else ""


NO_OTHER = kubectl("delete", "service", OTHER, "--ignore-not-found")

ROWS = (
    BrokenLab("no pool", kubectl("delete", "ipaddresspools", "--all", *METALLB), "address", "pool-missing"),
    BrokenLab(
        "an exhausted pool",
        exhaust_the_pool,
        "address",
        "pool-exhausted",
        up="names",
        mended_by="undo",
        undo=empty_the_pool,
    ),
    BrokenLab("no kind of pools", kubectl("delete", "crd", "ipaddresspools.metallb.io"), "address", "metallb-missing"),
    BrokenLab("a Service of type ClusterIP", AS_CLUSTER_IP, "address", "service-not-a-load-balancer"),
    BrokenLab("no Service", kubectl("delete", *SERVICE), "address", "service-missing"),
    BrokenLab(
        "a pool with autoAssign off, and a new Service",
        in_turn(pool(autoAssign=False), MADE_ANEW),
        "address",
        "auto-assign-off",
    ),
    BrokenLab(
        "a pool with autoAssign off, which has given the address before",
        pool(autoAssign=False),
        "address",
        "auto-assign-off",
        state="warning",
    ),
    BrokenLab(
        "a pool for the Services of other namespaces",
        pool(serviceAllocation={"namespaces": ["shop"], "priority": 1}),
        "address",
        "pool-excludes-service",
    ),
    BrokenLab("a pool of another size", pool(addresses=[f"{ADDRESS}/31"]), "address", "pool-differs", state="warning"),
    BrokenLab("a pool of another network", move_the_pool, "address", "address-outside-network"),
    BrokenLab(
        "an address of no pool",
        ask("loadBalancerIPs", "192.168.56.200"),
        "address",
        "requested-address-not-in-pool",
        up="names",
        undo=NOTHING_ASKED,
    ),
    BrokenLab(
        "the address of another Service",
        ask_for_that_of_another,
        "address",
        "requested-address-in-use",
        up="names",
        undo=in_turn(NOTHING_ASKED, NO_OTHER),
    ),
    BrokenLab(
        "an address of IPv6, by a field",
        patch(*SERVICE, merge={"spec": {"loadBalancerIP": "fd00::1"}}),
        "address",
        "requested-address-invalid",
        up="names",
        undo=NOTHING_ASKED,
    ),
    BrokenLab(
        "a pool that is not there",
        ask("address-pool", "nowhere"),
        "address",
        "requested-pool-missing",
        up="names",
        undo=NOTHING_ASKED,
    ),
    BrokenLab(
        "a Service for another load balancer",
        in_turn(AS_CLUSTER_IP, patch(*SERVICE, merge={"spec": CLASS})),
        "address",
        "load-balancer-class-other",
        up="names",
    ),
    BrokenLab(
        "another Service that says it has the address",
        claim,
        "address",
        "address-claimed-twice",
        up="names",
        undo=NO_OTHER,
    ),
    BrokenLab(
        "the address among another Service's externalIPs",
        claim_as_external,
        "address",
        "address-claimed-twice",
        up="fine",
        state="warning",
        undo=NO_OTHER,
    ),
    BrokenLab(
        "no controller of MetalLB, and a new Service",
        in_turn(SCALED_DOWN, MADE_ANEW),
        "address",
        "metallb-controller-not-ready",
    ),
    BrokenLab("no controller of MetalLB", SCALED_DOWN, "address", "metallb-controller-not-ready", state="warning"),
)
