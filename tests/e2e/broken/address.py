"""Labs in which MetalLB does not give the ingress controller its address."""

from __future__ import annotations

from . import BrokenLab
from .breaking import METALLB, SERVICE, empty_the_pool, exhaust_the_pool, kubectl, patch

ROWS = (
    BrokenLab("no pool", kubectl("delete", "ipaddresspools", "--all", *METALLB), "address", "pool-missing"),
    BrokenLab("an exhausted pool", exhaust_the_pool, "address", "pool-exhausted", up="names", undo=empty_the_pool),
    BrokenLab(
        "a Service of type ClusterIP",
        patch(*SERVICE, merge={"spec": {"type": "ClusterIP"}}),
        "address",
        "service-not-a-load-balancer",
    ),
)
