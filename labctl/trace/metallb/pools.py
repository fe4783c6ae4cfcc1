"""MetalLB's address pools, and which of them serve a Service, by the rules of MetalLB's allocator."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
    summarize_address_range,
)
from typing import TYPE_CHECKING, Any

from labctl.cluster.selectors import Selector, matches
from labctl.trace.metallb.metallb import API, NAMESPACE, last_change_time
from labctl.trace.problem import Evidence

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Object = Mapping[str, Any]
EVERYTHING: Selector = {}
BUGGY = (0, 255)
"""The last bytes of the addresses that `avoidBuggyIPs` excludes."""
BLOCK = 24
"""A network of this prefix length has one address with each of these last bytes."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """The Services that a pool serves: those in these namespaces that match one of the selectors."""

    namespaces: frozenset[str]
    selectors: tuple[Selector, ...]

    def allows(self, service: Object) -> bool:
        """Return whether the Service may use the pool."""
        labels = service["metadata"].get("labels") or {}
        is_in = not self.namespaces or service["metadata"]["namespace"] in self.namespaces
        return is_in and (not self.selectors or any(matches(each, labels) for each in self.selectors))

    def names(self, service: Object) -> bool:
        """Return whether the Service gets an address of the pool without requesting the pool."""
        return (bool(self.selectors) or service["metadata"]["namespace"] in self.namespaces) and self.allows(service)


@dataclass(frozen=True, slots=True)
class Pool:
    """An IPAddressPool."""

    name: str
    ranges: tuple[str, ...]
    """The ranges as written."""
    networks: tuple[Network, ...]
    unreadable: tuple[str, ...]
    """The ranges that MetalLB cannot read."""
    auto_assign: bool = True
    avoids_buggy: bool = False
    allocation: Allocation | None = None
    changed: str = ""
    """The time of the last change."""

    def has(self, address: Address) -> bool:
        """Return whether the pool can allocate the address."""
        is_avoided = self.avoids_buggy and isinstance(address, IPv4Address) and address.packed[-1] in BUGGY
        return not is_avoided and any(address in network for network in self.networks)

    def allows(self, service: Object) -> bool:
        """Return whether the Service may use the pool."""
        return self.allocation is None or self.allocation.allows(service)

    def serves(self, service: Object) -> bool:
        """Return whether the Service gets an address of the pool without requesting the pool."""
        return self.auto_assign and (self.allocation is None or self.allocation.names(service))

    def free(self, taken: Collection[Address]) -> int:
        """Return the number of free IPv4 addresses."""
        size = sum(_size(each, self.avoids_buggy) for each in self.networks if isinstance(each, IPv4Network))
        return size - sum(isinstance(each, IPv4Address) and self.has(each) for each in taken)

    def evidence(self, service: Object, taken: Collection[Address]) -> Evidence:
        """Return the pool's evidence for this Service."""
        return {
            "name": self.name,
            "addresses": list(self.ranges),
            "free": self.free(taken),
            "auto_assign": self.auto_assign,
            "allows_service": self.allows(service),
        }


def read(cluster: Cluster) -> list[Pool]:
    """Return MetalLB's address pools."""
    objects = cluster.find(API, "IPAddressPool", NAMESPACE)
    asks = any((each["spec"].get("serviceAllocation") or {}).get("namespaceSelectors") for each in objects)
    labels = {
        each["metadata"]["name"]: each["metadata"].get("labels") or {}
        for each in (cluster.find("v1", "Namespace") if asks else ())
    }
    return [pool(each, labels) for each in objects]


def pool(manifest: Object, namespaces: Mapping[str, Mapping[str, str]]) -> Pool:
    """Return a pool; `namespaces` are the cluster's, each with its labels."""
    spec = manifest["spec"]
    parsed = {entry: networks(entry) for entry in spec.get("addresses") or ()}
    return Pool(
        manifest["metadata"]["name"],
        tuple(parsed),
        tuple(network for each in parsed.values() for network in each),
        tuple(entry for entry, each in parsed.items() if not each),
        auto_assign=spec.get("autoAssign", True) is not False,
        avoids_buggy=bool(spec.get("avoidBuggyIPs")),
        allocation=_allocation(spec.get("serviceAllocation"), namespaces),
        changed=last_change_time([manifest]),
    )


def networks(entry: str) -> tuple[Network, ...]:
    """Return the networks of a range (a CIDR, or first and last address); none if it cannot be parsed."""
    first, dash, last = (part.strip() for part in entry.partition("-"))
    try:
        if not dash:
            return (ip_network(first, strict=False),) if "/" in first else ()
        return tuple(summarize_address_range(ip_address(first), ip_address(last)))
    except (ValueError, TypeError):  # a TypeError if one of the two is IPv4 and the other IPv6
        return ()


def overlap(pools: Sequence[Pool]) -> tuple[Pool, Pool] | None:
    """Return two overlapping pools, which MetalLB rejects; None if there are none."""
    for number, one in enumerate(pools):
        for other in pools[number + 1 :]:
            if one.name != other.name and have_common_address(one.networks, other.networks):
                return one, other
    return None


def have_common_address(some: Iterable[Network], others: Sequence[Network]) -> bool:
    """Return whether the networks have an address in common."""
    return any(a.version == b.version and (a.subnet_of(b) or b.subnet_of(a)) for a in some for b in others)  # type: ignore[arg-type] # of the same version


def remaining_ranges(some: Iterable[Network], others: Sequence[Network]) -> list[str]:
    """Return the ranges that remain of `some` without `others`."""
    left = list(some)
    for other in others:
        left = [part for each in left for part in _subtract(each, other)]
    return [str(each) for each in left]


def cover_same_addresses(some: Sequence[Network], others: Sequence[Network]) -> bool:
    """Return whether both have the same addresses, however they are split."""
    return not remaining_ranges(some, others) and not remaining_ranges(others, some)


def _subtract(network: Network, taken: Network) -> list[Network]:
    if not have_common_address([network], [taken]):
        return [network]
    if network.prefixlen >= taken.prefixlen:
        return []
    return list(network.address_exclude(taken))  # type: ignore[arg-type] # of the same version


def _size(network: IPv4Network, avoids_buggy: bool) -> int:  # noqa: FBT001 - named like the field
    if not avoids_buggy:
        return network.num_addresses
    if network.prefixlen <= BLOCK:
        return network.num_addresses - (len(BUGGY) << (BLOCK - network.prefixlen))
    return network.num_addresses - len({each for each in (network[0], network[-1]) if each.packed[-1] in BUGGY})


def _allocation(written: Object | None, namespaces: Mapping[str, Mapping[str, str]]) -> Allocation | None:
    """Return which Services a pool serves; None if it has no serviceAllocation.

    An empty serviceAllocation allows every Service, but MetalLB prefers its pool to pools without that field.
    """
    if written is None:
        return None
    named, asked = written.get("namespaces") or (), written.get("namespaceSelectors") or ()
    selectors = tuple(written.get("serviceSelectors") or ())
    if not named and not asked and not selectors:
        return Allocation(frozenset(), (EVERYTHING,))
    chosen = {name for name, labels in namespaces.items() if any(matches(each, labels) for each in asked)}
    return Allocation(frozenset(named) | chosen, selectors)
