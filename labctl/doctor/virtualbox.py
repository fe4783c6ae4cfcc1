"""VirtualBox: its installation, and the host-only networks that it allows."""

from __future__ import annotations

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
    network, text = context.lab.network, machine.read(HOST_ONLY_FILE)
    # Each range is in a line such as `* 10.0.0.0/8 192.168.0.0/16`. A file without one allows nothing.
    lines = [line.strip() for line in (f"* {HOST_ONLY}" if text is None else text).splitlines()]
    written = [each for line in lines if line.startswith("*") for each in line[1:].split()]
    allowed = [parsed for each in written if (parsed := ipv4_network(each)) is not None]
    ranges = " ".join(map(str, allowed))
    if any(map(network.subnet_of, allowed)):
        return ok(f"{network} is in {ranges}")
    # With the file, the default range is allowed only if the file names it.
    added = f"{HOST_ONLY} {network}" if text is None else f"{network}"
    folder = f"sudo mkdir -p {HOST_ONLY_FILE.parent} && " if text is None else ""
    return broken(
        f"VirtualBox allows {f'host-only networks in {ranges} only' if ranges else 'no host-only network'}; the lab's is {network}",
        f"Allow it: `{folder}echo '* {added}' | sudo tee -a {HOST_ONLY_FILE}`.",
    )
