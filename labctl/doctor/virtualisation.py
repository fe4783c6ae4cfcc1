"""The processor's virtualisation: whether this machine has it, and which hypervisor holds it."""

from __future__ import annotations

import re
from pathlib import Path

from labctl.context import Context
from labctl.doctor.finding import Finding, broken, not_relevant, ok, warning
from labctl.host.machine import Machine
from labctl.host.parsing import Version, parse_version, version_text

PROCESSOR = Path("/proc/cpuinfo")
RELEASE = Path("/proc/sys/kernel/osrelease")
LOADED = Path("/proc/modules")
UNCOUNTED = "-"
"""The placeholder for the number of a module's users on a kernel that cannot unload modules."""
AT_LOAD = Path("/sys/module/kvm/parameters/enable_virt_at_load")
"""Y if KVM takes the processor as soon as it is loaded, as is possible since Linux 6.12 [upstream]."""
SHARED_SINCE: tuple[Version, Version] = (7, 2, 6), (6, 16)
"""The versions of VirtualBox and Linux since which VirtualBox requests the processor from KVM [upstream]."""
NESTED = (
    "Let the hypervisor above pass it on: for KVM, load kvm_intel or kvm_amd there with `nested=1` and use the CPU "
    "host-passthrough; for VirtualBox, `VBoxManage modifyvm NAME --nested-hw-virt on`; in a cloud, choose an instance "
    "type with nested virtualization."
)
OTHERS = (
    "If that is impossible: `provider: docker` needs no virtualisation, and `provider: libvirt` emulates it, slowly."
)


def check_nested(context: Context, machine: Machine) -> Finding:
    """Check that the processor can run virtual machines, also if this machine is one itself."""
    flags = re.search(r"^flags\s*:(.*)$", machine.read(PROCESSOR) or "", re.MULTILINE)
    if flags is None:
        return not_relevant(f"the processor's features are not listed in {PROCESSOR}")
    known = flags[1].split()
    ability = next((flag for flag in ("vmx", "svm") if flag in known), "")
    is_guest = "hypervisor" in known
    here = "this machine is itself a virtual machine" if is_guest else "this machine is not a virtual machine"
    if ability:
        return ok(f"the processor has {ability}; {here}")
    if not is_guest and context.lab.provider == "libvirt":
        return not_relevant(f"{here}; see `kvm`")
    observation = f"the processor has neither vmx nor svm; {here}"
    fix = NESTED if is_guest else "Switch virtualisation (VT-x, AMD-V, SVM) on in the firmware."
    # Without hardware virtualisation QEMU emulates a processor; VirtualBox does not.
    return broken(observation, f"{fix} {OTHERS}") if context.lab.provider == "virtualbox" else warning(observation, fix)


def check_holder(_context: Context, machine: Machine) -> Finding:
    """Check that KVM does not keep the processor's virtualisation from VirtualBox."""
    modules = (line.split() for line in (machine.read(LOADED) or "").splitlines() if line.strip())
    users = {name: count not in {"0", UNCOUNTED} for name, _, count, *_ in modules}
    module = next((name for name in ("kvm_intel", "kvm_amd") if name in users), "")
    if not module:
        return ok("KVM is not loaded: VirtualBox has the processor for itself")
    kernel = parse_version(r"^(\d+\.\d+)", machine.read(RELEASE) or "")
    result = machine.run("VBoxManage", "--version")
    virtualbox = parse_version(r"^(\d+\.\d+\.\d+)", result.out) if result is not None else ()
    both = f"VirtualBox {version_text(virtualbox)} and {module} of Linux {version_text(kernel)}"
    if virtualbox >= SHARED_SINCE[0] and kernel >= SHARED_SINCE[1]:
        return ok(f"{both} share the processor")
    unload = f"`sudo modprobe -r {module}`"
    if users[module]:
        return broken(f"{both}: a machine of KVM runs, and holds the processor", f"End KVM's machines, then {unload}.")
    if (machine.read(AT_LOAD) or "").strip() == "Y":
        return broken(
            f"{both}: KVM holds the processor from when it is loaded",
            f"{unload}; and for the next boot: `echo 'options kvm enable_virt_at_load=0' | sudo tee "
            "/etc/modprobe.d/labctl-virtualbox.conf`. Or use KVM: `provider: libvirt`.",
        )
    return ok(f"{both}: KVM holds the processor only while one of its machines runs")
