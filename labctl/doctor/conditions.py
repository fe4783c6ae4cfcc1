"""What a check may have nothing to do with: each says why, or nothing."""

from __future__ import annotations

from labctl.config import saved_lab
from labctl.context import Context


def shared(context: Context) -> str:
    """For labs on the machine's own network."""
    return "the lab is isolated: it has a network, an Engine and a hosts file of its own" if context.isolated else ""


def isolated(context: Context) -> str:
    """For labs with a network of their own."""
    return "" if context.isolated else "the lab uses this machine's own network and Engine"


def unmade(context: Context) -> str:
    """For labs that are yet to be made: what a lab uses itself is not in its way."""
    is_saved = saved_lab.read(context.folder) is not None
    return f"the lab {context.lab.name} has been made already" if is_saved else ""


def unmade_if_shared(context: Context) -> str:
    """For labs that are yet to be made on the machine's own network, and for any with a network of their own."""
    return "" if context.isolated else unmade(context)


def unbuilt(context: Context) -> str:
    """For labs whose bundle is yet to be built."""
    return "the bundle is there: a lab needs nothing from elsewhere" if context.has_bundle else ""


def containers(context: Context) -> str:
    """For nodes that are containers."""
    return "" if context.hypervisor.are_containers else f"nodes of provider {context.lab.provider} are no containers"


def virtual_machines(context: Context) -> str:
    """For nodes that are virtual machines."""
    provider = context.lab.provider
    return f"nodes of provider {provider} are no virtual machines" if context.hypervisor.are_containers else ""


def libvirt(context: Context) -> str:
    """For nodes that libvirt makes."""
    return "" if context.lab.provider == "libvirt" else f"the provider is {context.lab.provider}"


def virtualbox(context: Context) -> str:
    """For nodes that VirtualBox makes."""
    return "" if context.lab.provider == "virtualbox" else f"the provider is {context.lab.provider}"
