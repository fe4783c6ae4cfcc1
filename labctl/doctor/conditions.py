"""Conditions of checks: each returns why a check does not apply to a lab, or an empty text."""

from __future__ import annotations

from labctl.config import saved_lab
from labctl.context import Context
from labctl.model.lab import Node


def shared(context: Context) -> str:
    """Limit a check to labs on the machine's own network."""
    return "the lab is isolated: it has a network, an Engine and a hosts file of its own" if context.isolated else ""


def isolated(context: Context) -> str:
    """Limit a check to labs with their own network."""
    return "" if context.isolated else "the lab uses this machine's own network and Engine"


def not_created(context: Context) -> str:
    """Limit a check to labs that do not exist yet: a lab does not conflict with itself."""
    is_saved = saved_lab.read(context.folder) is not None
    return f"the lab {context.lab.name} already exists" if is_saved else ""


def with_new_nodes(context: Context) -> str:
    """Limit a check to labs with nodes that do not exist yet."""
    return "" if new_nodes(context) else f"the lab {context.lab.name} already exists"


def new_nodes(context: Context) -> tuple[Node, ...]:
    """Return the nodes that the saved lab does not have yet."""
    saved = saved_lab.read(context.folder)
    existing = {node.name for node in saved.lab.nodes} if saved is not None else set()
    return tuple(node for node in context.lab.nodes if node.name not in existing)


def not_created_if_shared(context: Context) -> str:
    """Limit a check to isolated labs, and to labs on the machine's own network that do not exist yet."""
    return "" if context.isolated else not_created(context)


def without_bundle(context: Context) -> str:
    """Limit a check to labs whose bundle is not built yet."""
    return "the bundle exists, so no registry is needed" if context.has_bundle else ""


def containers(context: Context) -> str:
    """Limit a check to nodes that are containers."""
    return "" if context.hypervisor.are_containers else f"nodes of provider {context.lab.provider} are not containers"


def virtual_machines(context: Context) -> str:
    """Limit a check to nodes that are virtual machines."""
    provider = context.lab.provider
    return f"nodes of provider {provider} are not virtual machines" if context.hypervisor.are_containers else ""


def libvirt(context: Context) -> str:
    """Limit a check to nodes of libvirt."""
    return "" if context.lab.provider == "libvirt" else f"the provider is {context.lab.provider}"


def not_virtualbox(context: Context) -> str:
    """Limit a check to nodes of other providers than VirtualBox."""
    return "see `virtualbox-dhcp`" if context.lab.provider == "virtualbox" else ""


def virtualbox(context: Context) -> str:
    """Limit a check to nodes of VirtualBox."""
    return "" if context.lab.provider == "virtualbox" else f"the provider is {context.lab.provider}"
