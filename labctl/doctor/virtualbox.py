"""VirtualBox: its installation, and the host-only networks that it allows."""

from __future__ import annotations

import re
from pathlib import Path

from labctl.context import Context
from labctl.doctor.finding import Finding, broken, ok
from labctl.host import virtualbox
from labctl.host.machine import Machine
from labctl.host.parsing import ipv4_network, version_text
from labctl.providers.virtualbox import obstacle

HOST_ONLY = "192.168.56.0/21"
"""The range that VirtualBox allows for host-only networks unless HOST_ONLY_FILE names others [upstream]."""
HOST_ONLY_FILE = Path("/etc/vbox/networks.conf")


def check_virtualbox(_context: Context, machine: Machine) -> Finding:
    """Check that VirtualBox is completely installed, in a version that Vagrant supports."""
    if (problem := obstacle(machine)) is not None:
        return broken(problem.text, problem.fix)
    installed, _ = virtualbox.installed(machine) or ((), "")
    return ok(f"VirtualBox {version_text(installed)}")


def check_host_only_range(context: Context, machine: Machine) -> Finding:
    """Check that VirtualBox allows host-only networks in the lab's range."""
    network = context.lab.network
    # An entry is `* 10.0.0.0/8 192.168.0.0/16`; a # starts a comment.
    written = re.sub(r"#.*|\*", "", machine.read(HOST_ONLY_FILE) or HOST_ONLY).split()
    allowed = [parsed for each in written if (parsed := ipv4_network(each)) is not None]
    ranges = " ".join(map(str, allowed))
    if any(map(network.subnet_of, allowed)):
        return ok(f"{network} is in {ranges}")
    return broken(
        f"VirtualBox allows host-only networks in {ranges} only; the lab's is {network}",
        f"Allow it: `echo '* {network}' | sudo tee -a {HOST_ONLY_FILE}`.",
    )
