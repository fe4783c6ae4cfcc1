"""The output of VBoxManage 7.0 for its state, in the forms that Vagrant and labctl read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vbox_home import Dhcp, Home, HostOnly, Machine, Nic
from vbox_ovf import Appliance

SLOTS = range(1, 9)
PORTS = 30
"""Ports of an AHCI controller; each has a line of output."""


def vms(home: Home, *, running: bool = False) -> Iterator[str]:
    for machine in home.machines:
        if machine.is_on or not running:
            yield f'"{machine.name}" {{{machine.uuid}}}'


def hostonlyifs(home: Home) -> Iterator[str]:
    for each in home.interfaces:
        is_up = any(
            nic.hostonly == each.name
            for machine in home.machines
            if machine.is_running
            for nic in machine.nics.values()
        )
        yield from _interface(each, status="Up" if is_up else "Down")


def _interface(interface: HostOnly, status: str) -> Iterator[str]:
    yield f"Name:            {interface.name}"
    yield f"GUID:            786f6276-656e-{interface.index + 0x4074:04x}-8000-0a00270000{interface.index:02x}"
    yield "DHCP:            Disabled"
    yield f"IPAddress:       {interface.address}"
    yield f"NetworkMask:     {interface.netmask}"
    yield "IPV6Address:     "
    yield "IPV6NetworkMaskPrefixLength: 0"
    yield f"HardwareAddress: 0a:00:27:00:00:{interface.index:02x}"
    yield "MediumType:      Ethernet"
    yield "Wireless:        No"
    yield f"Status:          {status}"
    yield f"VBoxNetworkName: HostInterfaceNetworking-{interface.name}"
    yield ""


def bridgedifs() -> Iterator[str]:
    """Yield the one uplink interface of an ordinary machine."""
    yield "Name:            enp3s0"
    yield "GUID:            33706e65-3073-4000-8000-0c9d92a1b2c3"
    yield "DHCP:            Disabled"
    yield "IPAddress:       10.20.30.40"
    yield "NetworkMask:     255.255.255.0"
    yield "IPV6Address:     "
    yield "IPV6NetworkMaskPrefixLength: 0"
    yield "HardwareAddress: 0c:9d:92:a1:b2:c3"
    yield "MediumType:      Ethernet"
    yield "Wireless:        No"
    yield "Status:          Up"
    yield "VBoxNetworkName: HostInterfaceNetworking-enp3s0"
    yield ""


def dhcpservers(servers: list[Dhcp]) -> Iterator[str]:
    for index, server in enumerate(servers):
        if index:
            yield ""
        yield f"NetworkName:    {server.network}"
        yield f"Dhcpd IP:       {server.address}"
        yield f"LowerIPAddress: {server.lower}"
        yield f"UpperIPAddress: {server.upper}"
        yield f"NetworkMask:    {server.netmask}"
        yield f"Enabled:        {'Yes' if server.enabled else 'No'}"
        yield "Global Configuration:"
        yield "    minLeaseTime:     default"
        yield "    defaultLeaseTime: default"
        yield "    maxLeaseTime:     default"
        yield "    Forced options:   None"
        yield "    Suppressed opts.: None"
        yield f"        1/legacy: {server.netmask}"
        yield "Groups:               None"
        yield "Individual Configs:   None"


def system_properties(folder: Path) -> Iterator[str]:
    yield "API version:                     7_0"
    yield f"Default machine folder:          {folder}"
    yield "Raw-mode Supported:              no"
    yield "Default hard disk format:        VDI"


def appliance(source: Appliance, folder: Path) -> Iterator[str]:
    """Yield the description that `import` prints first: each line, with the option that changes it."""
    yield "Disks:"
    yield f"  {source.disk_id}\t{source.capacity}\t-1\t{source.format}\t{source.disk.name}\t-1\t-1\t"
    yield ""
    yield "Virtual system 0:"
    entries = list(_entries(source, folder))
    for index, (text, change) in enumerate(entries):
        yield f"{index:2}: {text}"
        if change:
            yield (
                f'    (change with "--vsys 0 {change}")'
                if "--" in change
                else f'    ({change} with "--vsys 0 --unit {index} --ignore")'
            )


def disk_unit(source: Appliance) -> int:
    """Return the disk's unit number in the output of `appliance`."""
    return 7 + len(source.adapters) + len(source.controllers)


def _entries(source: Appliance, folder: Path) -> Iterator[tuple[str, str]]:
    yield f'Suggested OS type: "{source.os_type}"', "--ostype <type>"
    yield f'Suggested VM name "{source.name}"', "--vmname <name>"
    yield 'Suggested VM group "/"', "--group <group>"
    yield f'Suggested VM settings file name "{folder / source.name / source.name}.vbox"', "--settingsfile <filename>"
    yield f'Suggested VM base folder "{folder}"', "--basefolder <path>"
    yield f"Number of CPUs: {source.cpus}", "--cpus <n>"
    yield f"Guest memory: {source.memory} MB", "--memory <MB>"
    for network, mode, _hardware in source.adapters:
        yield f"Network adapter: orig {network}, config 3, extra type={mode}", ""
    for _id, kind in source.controllers:
        yield f"{kind} controller, type {'AHCI' if kind == 'SATA' else 'PIIX4'}", "disable"
    controller = 7 + len(source.adapters) + [each for each, _kind in source.controllers].index(source.parent)
    target = (
        f"source image={source.disk.name}, target path={source.disk.name}, controller={controller};port={source.port}"
    )
    yield f"Hard disk image: {target}", "--unit N --disk path"


def machine_readable(machine: Machine) -> Iterator[str]:
    """Yield the lines of `showvminfo --machinereadable` that Vagrant or labctl reads, in upstream's order."""
    yield f'name="{machine.name}"'
    yield 'groups="/"'
    yield f'ostype="{machine.os_type}"'
    yield f'UUID="{machine.uuid}"'
    yield f'CfgFile="{machine.base / machine.name}.vbox"'
    yield f"memory={machine.memory}"
    yield f'firmware="{machine.firmware}"'
    yield f"cpus={machine.cpus}"
    yield f'VMState="{"running" if machine.is_running else machine.state}"'
    for index, name in enumerate(machine.controllers):
        yield f'storagecontrollername{index}="{name}"'
        yield f'storagecontrollertype{index}="{"IntelAhci" if name == "SATA" else "PIIX4"}"'
        yield f'storagecontrollermaxportcount{index}="{PORTS}"'
        yield f'storagecontrollerportcount{index}="{PORTS}"'
        yield f'storagecontrollerbootable{index}="on"'
    for name, media in machine.controllers.items():
        for port in range(PORTS):
            medium = media.get(f"{port}-0")
            yield f'"{name}-{port}-0"="{medium.path if medium else "none"}"'
            if medium:
                yield f'"{name}-ImageUUID-{port}-0"="{medium.uuid}"'
    for slot in SLOTS:
        yield from _nic(slot, machine.nics[str(slot)])
    for uart, (base, irq, mode, path) in machine.uarts.items():
        yield f'uart{uart}="{base},{irq}"'
        yield f'uartmode{uart}="{mode},{path}"'


def _nic(slot: int, nic: Nic) -> Iterator[str]:
    if nic.attached == "none":
        yield f'nic{slot}="none"'
        return
    if nic.attached == "nat":
        yield f'natnet{slot}="nat"'
    if nic.attached == "hostonly":
        yield f'hostonlyadapter{slot}="{nic.hostonly}"'
    yield f'macaddress{slot}="{nic.mac}"'
    yield f'cableconnected{slot}="{"on" if nic.connected else "off"}"'
    yield f'nic{slot}="{nic.attached}"'
    yield f'nictype{slot}="{nic.kind}"'
    yield f'nicspeed{slot}="0"'
    if nic.attached == "nat":
        yield from ('mtu="0"', 'sockSnd="64"', 'sockRcv="64"', 'tcpWndSnd="64"', 'tcpWndRcv="64"')
    for index, rule in enumerate(nic.forwarded.values()):
        yield f'Forwarding({index})="{rule}"'
