"""What the cluster says that differs from one moment to the next: the address, and who announces it."""

from __future__ import annotations

from labctl.cluster import state
from labctl.context import Context
from labctl.host.wait import Pending
from labctl.model.lab import Role


def values(context: Context, names: frozenset[str]) -> dict[str, str] | Pending:
    """What these names stand for now: `address`, `announcer` and `standby`; or what one of them still lacks.

    Raises as Cluster does.
    """
    looks = {"address": _address, "announcer": announcer, "standby": _standby}
    found: dict[str, str] = {}
    for name in sorted(names & looks.keys()):
        value = looks[name](context)
        if isinstance(value, Pending):
            return value
        found[name] = value
    return found


def announcer(context: Context) -> str | Pending:
    """The node that announces the ingress controller's address. Raises as Cluster does."""
    controller = context.controller
    service = (controller.namespace, controller.service)
    address = state.load_balancer_address(context.cluster, *service)
    owned = {} if isinstance(address, Pending) else {service: address}
    node = state.announcers(context.cluster, context.lab, owned).get(service)
    return node or Pending(f"no node announces {controller.namespace}/{controller.service}")


def _address(context: Context) -> str | Pending:
    controller = context.controller
    found = state.load_balancer_address(context.cluster, controller.namespace, controller.service)
    return found if isinstance(found, Pending) else str(found)


def _standby(context: Context) -> str | Pending:
    """The first node that is Ready and does not announce the address, workers before the control plane."""
    announcing = announcer(context)
    if isinstance(announcing, Pending):
        return announcing
    unready = state.unready_nodes(context.cluster, context.lab)
    by_role = sorted(context.lab.nodes, key=lambda node: node.role is Role.CONTROL_PLANE)
    others = [node.name for node in by_role if node.name not in {announcing, *unready}]
    return others[0] if others else Pending(f"no node but {announcing} is Ready")
