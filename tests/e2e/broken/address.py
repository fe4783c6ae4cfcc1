"""Labs in which MetalLB assigns the ingress controller no address, or the wrong one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from e2e.reallab import RealLab, eventually

from . import Act, BrokenLab
from .breaking import ADDRESS, METALLB, SERVICE, empty_the_pool, exhaust_the_pool, kubectl, patch, sequence

PREFIX = "metallb.io"
OTHER = "broken-other"
"""Another Service, which belongs to the user."""
CLASS = {"type": "LoadBalancer", "loadBalancerClass": "example.com/other"}
REQUEST_NOTHING = sequence(
    kubectl("annotate", *SERVICE, f"{PREFIX}/loadBalancerIPs-", f"{PREFIX}/address-pool-"),
    patch(*SERVICE, merge={"spec": {"loadBalancerIP": None}}),
)
SCALED_DOWN = kubectl("scale", "deployment", "controller", *METALLB, "--replicas=0")
AS_CLUSTER_IP = patch(*SERVICE, merge={"spec": {"type": "ClusterIP"}})
RECREATED = sequence(AS_CLUSTER_IP, patch(*SERVICE, merge={"spec": {"type": "LoadBalancer"}}))
"""To MetalLB this is a new Service, for which it has to find an address."""


def pool(**spec: Any) -> Act:  # noqa: ANN401 - any field of a pool
    """Change the lab's own pool."""
    return lambda lab: patch("ipaddresspool", lab.name, *METALLB, merge={"spec": spec})(lab)


def request(what: str, value: str) -> Act:
    """Make the ingress controller's Service request an address or a pool."""
    return kubectl("annotate", "--overwrite", *SERVICE, f"{PREFIX}/{what}={value}")


def other_service(lab: RealLab) -> None:
    """Create another Service, and wait until it has an address."""
    lab.kubectl("create", "service", "loadbalancer", OTHER, "--tcp=80")
    eventually(lambda: load_balancer_status(lab, OTHER), bool)


def request_address_of_another(lab: RealLab) -> None:
    other_service(lab)
    request("loadBalancerIPs", load_balancer_status(lab, OTHER)["ingress"][0]["ip"])(lab)


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
    eventually(lambda: controller_address(lab), lambda address: address.startswith("10.9."))
    lab.labctl("hosts", "sync")


def load_balancer_status(lab: RealLab, *service: str) -> Mapping[str, Any]:
    status: Mapping[str, Any] = lab.objects("service", *service)["status"]["loadBalancer"]
    return status


def controller_address(lab: RealLab) -> str:
    ingress = load_balancer_status(lab, "-n", "ingress-nginx", "ingress-nginx-controller").get("ingress")
    return str(ingress[0]["ip"]) if ingress else ""


DELETE_OTHER = kubectl("delete", "service", OTHER, "--ignore-not-found")

ROWS = (
    BrokenLab("no pool", kubectl("delete", "ipaddresspools", "--all", *METALLB), "address", "pool-missing"),
    BrokenLab(
        "an exhausted pool",
        exhaust_the_pool,
        "address",
        "pool-exhausted",
        up="reports",
        fixed_by="undo",
        undo=empty_the_pool,
    ),
    BrokenLab(
        "no CustomResourceDefinition of pools",
        kubectl("delete", "crd", "ipaddresspools.metallb.io"),
        "address",
        "metallb-missing",
    ),
    BrokenLab("a Service of type ClusterIP", AS_CLUSTER_IP, "address", "service-not-a-load-balancer"),
    BrokenLab("no Service", kubectl("delete", *SERVICE), "address", "service-missing"),
    BrokenLab(
        "a pool with autoAssign off, and a new Service",
        sequence(pool(autoAssign=False), RECREATED),
        "address",
        "auto-assign-off",
    ),
    BrokenLab(
        "a pool with autoAssign off, which has already allocated the address",
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
    BrokenLab(
        "a pool with another size", pool(addresses=[f"{ADDRESS}/31"]), "address", "pool-differs", state="warning"
    ),
    BrokenLab("a pool in another network", move_the_pool, "address", "address-outside-network"),
    BrokenLab(
        "a requested address that is in no pool",
        request("loadBalancerIPs", "192.168.56.200"),
        "address",
        "requested-address-not-in-pool",
        up="reports",
        undo=REQUEST_NOTHING,
    ),
    BrokenLab(
        "a requested address of another Service",
        request_address_of_another,
        "address",
        "requested-address-in-use",
        up="reports",
        undo=sequence(REQUEST_NOTHING, DELETE_OTHER),
    ),
    BrokenLab(
        "a requested IPv6 address, in spec.loadBalancerIP",
        patch(*SERVICE, merge={"spec": {"loadBalancerIP": "fd00::1"}}),
        "address",
        "requested-address-invalid",
        up="reports",
        undo=REQUEST_NOTHING,
    ),
    BrokenLab(
        "a requested pool that does not exist",
        request("address-pool", "nowhere"),
        "address",
        "requested-pool-missing",
        up="reports",
        undo=REQUEST_NOTHING,
    ),
    BrokenLab(
        "a Service with another loadBalancerClass",
        sequence(AS_CLUSTER_IP, patch(*SERVICE, merge={"spec": CLASS})),
        "address",
        "load-balancer-class-other",
        up="reports",
    ),
    BrokenLab(
        "another Service with the address in its status",
        claim,
        "address",
        "address-claimed-twice",
        up="reports",
        undo=DELETE_OTHER,
    ),
    BrokenLab(
        "another Service with the address in its externalIPs",
        claim_as_external,
        "address",
        "address-claimed-twice",
        up="fine",
        state="warning",
        undo=DELETE_OTHER,
    ),
    BrokenLab(
        "no controller of MetalLB, and a new Service",
        sequence(SCALED_DOWN, RECREATED),
        "address",
        "metallb-controller-not-ready",
    ),
    BrokenLab("no controller of MetalLB", SCALED_DOWN, "address", "metallb-controller-not-ready", state="warning"),
)
