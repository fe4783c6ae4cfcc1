"""A test double of VirtualBox's `VBoxManage` 7.0, with the commands that Vagrant's driver and labctl use.

It keeps machines, interfaces and servers in `$VBOX_USER_HOME`, follows the outputs and errors in upstream's sources of
7.0.14, and records each call in the file `calls` there. With VBOX_DOUBLE_BOOTS, machines run in QEMU.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path

import vbox_ovf
import vbox_qemu
import vbox_shown
from vbox_home import Dhcp, Home, HostOnly, Machine, Medium, Nic, VBoxError, folder, opened

VERSION = "7.0.14r161095"
PROGRESS = "0%...10%...20%...30%...40%...50%...60%...70%...80%...90%...100%"
SYNTAX, FAILURE = 2, 1
ALLOWED = "192.168.56.0/21"
"""The range of host-only networks, unless networks.conf sets another one."""
INVALID = "E_INVALIDARG (0x80070057)"
WRONG_STATE = "VBOX_E_INVALID_VM_STATE (0x80bb0002)"

Options = dict[str, str]


def main(arguments: Sequence[str]) -> int:
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / "calls").open("a") as calls:
        calls.write(json.dumps(list(arguments)) + "\n")
    if list(arguments) in (["--version"], ["-v"]):
        print(VERSION)  # noqa: T201 - a program's output
        return 0
    command = COMMANDS.get("".join(arguments[:1]), _unknown)
    try:
        with opened() as home:
            for line in command(home, list(arguments[1:])):
                print(line)  # noqa: T201 - the same
    except VBoxError as error:
        _print_error(error)
        return FAILURE if error.code else SYNTAX
    return 0


def _print_error(error: VBoxError) -> None:
    lines = [error.text]
    if error.code:
        details = f"component {error.component}, interface I{error.component.removesuffix('Wrap')}"
        lines.append(f"Details: code {error.code}, {details}" + (f", callee {error.callee}" if error.callee else ""))
    for line in lines:
        print(f"VBoxManage: error: {line}", file=sys.stderr)  # noqa: T201 - the same


def _unknown(_home: Home, _arguments: list[str]) -> Iterator[str]:
    raise VBoxError("Invalid command")


def _list(home: Home, arguments: list[str]) -> Iterator[str]:
    (what,) = arguments
    match what:
        case "vms":
            yield from vbox_shown.vms(home)
        case "runningvms":
            yield from vbox_shown.vms(home, running=True)
        case "hostonlyifs":
            yield from vbox_shown.hostonlyifs(home)
        case "bridgedifs":
            yield from vbox_shown.bridgedifs()
        case "dhcpservers":
            yield from vbox_shown.dhcpservers(home.servers)
        case "systemproperties":
            yield from vbox_shown.system_properties(home.folder / "VirtualBox VMs")
        case _:
            raise VBoxError(f'Unknown subcommand "{what}"')


def _import(home: Home, arguments: list[str]) -> Iterator[str]:
    options, (path,) = _parsed(
        arguments, {"--vsys": 1, "--vmname": 1, "--unit": 1, "--disk": 1, "-n": 0, "--dry-run": 0}
    )
    machines = home.folder / "VirtualBox VMs"
    source = vbox_ovf.read(Path(path))
    yield PROGRESS
    print(f"Interpreting {path}...\nOK.", file=sys.stderr)  # noqa: T201 - a program's output
    yield from vbox_shown.appliance(source, machines)
    if "-n" in options or "--dry-run" in options:
        return
    if options.get("--vsys", "0") != "0" or int(options.get("--unit", "-1")) not in {-1, vbox_shown.disk_unit(source)}:
        raise VBoxError("Invalid index with --vsys or --unit option")
    if vbox_ovf.vmdk_capacity(source.disk) != source.capacity:
        raise VBoxError(f"{source.disk} has another capacity", "VBOX_E_FILE_ERROR (0x80bb0004)", "ApplianceWrap")
    name = options.get("--vmname", source.name)
    if any(each.name == name for each in home.machines):
        raise VBoxError(
            f"Machine settings file '{name}.vbox' already exists", "VBOX_E_FILE_ERROR (0x80bb0004)", "MachineWrap"
        )
    base = machines / name
    machine = Machine(home.new_id(), name, str(base), source.memory, source.cpus, source.os_type)
    machine.nics = {str(slot): Nic(home.new_mac()) for slot in vbox_shown.SLOTS}
    for nic, (_network, mode, hardware) in zip(machine.nics.values(), source.adapters, strict=False):
        nic.attached, nic.kind = mode.casefold(), hardware
    machine.controllers = {kind: {} for _id, kind in source.controllers}
    target = Path(options.get("--disk", str(base / source.disk.name)))
    disk = (base if not target.is_absolute() else Path()) / target
    vbox_qemu.clone_disk(source.disk, disk)
    kind = dict(source.controllers)[source.parent]
    machine.controllers[kind][f"{source.port}-0"] = Medium(str(disk), home.new_id(), "hdd")
    (base / f"{name}.vbox").write_text(f"<!-- {machine.uuid} -->\n")
    home.machines.append(machine)
    yield PROGRESS
    yield "Successfully imported the appliance."


def _showvminfo(home: Home, arguments: list[str]) -> Iterator[str]:
    options, (name,) = _parsed(arguments, {"--machinereadable": 0, "--details": 0})
    machine = home.machine(name)
    yield from vbox_shown.machine_readable(machine) if "--machinereadable" in options else (f"Name: {machine.name}",)


def _modifyvm(home: Home, arguments: list[str]) -> Iterator[str]:
    machine = home.machine(arguments[0])
    if machine.is_running:
        text = f"The machine '{machine.name}' is already locked for a session (or being unlocked)"
        raise VBoxError(text, "VBOX_E_INVALID_OBJECT_STATE (0x80bb0007)", "MachineWrap", "nsISupports")
    words = iter(arguments[1:])
    for word in words:
        option, slot = word.rstrip("0123456789"), word[len(word.rstrip("0123456789")) :]
        if option not in MODIFY or (option not in WITHOUT_SLOT) != bool(slot):
            raise VBoxError(f"Unknown option: {word}")
        try:
            MODIFY[option](home, machine, slot, words)
        except StopIteration as error:
            raise VBoxError(f"Missing argument to '{word}'") from error
    yield from ()


def _rename(home: Home, machine: Machine, _slot: str, words: Iterator[str]) -> None:
    name = next(words)
    if any(each.name == name for each in home.machines if each is not machine):
        text = f"Could not rename the directory to '{name}' to save the settings file (VERR_ALREADY_EXISTS)"
        raise VBoxError(text, "VBOX_E_FILE_ERROR (0x80bb0004)", "SessionMachine", "nsISupports")
    moved = machine.base.rename(machine.base.with_name(name))
    (moved / f"{machine.name}.vbox").rename(moved / f"{name}.vbox")
    for media in machine.controllers.values():
        for medium in media.values():
            medium.path = medium.path.replace(f"{machine.folder}/", f"{moved}/")
    machine.name, machine.folder = name, str(moved)


def _mac(home: Home, machine: Machine, slot: str, words: Iterator[str]) -> None:
    mac = next(words)
    mac = home.new_mac() if mac == "auto" else mac.upper()
    if len(mac) != 12 or set(mac) - set("0123456789ABCDEF") or int(mac[1], 16) % 2:
        raise VBoxError("Invalid MAC address format", INVALID, "NetworkAdapterWrap", "nsISupports")
    machine.nics[slot].mac = mac


def _attach(_home: Home, machine: Machine, slot: str, words: Iterator[str]) -> None:
    kind = next(words)
    if kind not in {"none", "null", "nat", "bridged", "intnet", "hostonly", "hostonlynet", "generic", "natnetwork"}:
        raise VBoxError(f"Invalid type '{kind}' specfied for NIC {slot}")
    machine.nics[slot].attached = kind


def _hostonly(home: Home, machine: Machine, slot: str, words: Iterator[str]) -> None:
    machine.nics[slot].hostonly = _find_interface(home, next(words)).name


def _forward(_home: Home, machine: Machine, slot: str, words: Iterator[str]) -> None:
    rules, rule = machine.nics[slot].forwarded, next(words)
    if rule == "delete":
        if (name := next(words)) not in rules:
            raise VBoxError(f"The NAT rule '{name}' does not exist", INVALID, "NATEngineWrap", "nsISupports")
        del rules[name]
        return
    if rule.partition(",")[0] in rules:
        raise VBoxError("A NAT rule of this name already exists", INVALID, "NATEngineWrap", "nsISupports")
    rules[rule.partition(",")[0]] = rule


def _one_of(field: str, *allowed: str) -> Callable[[Home, Machine, str, Iterator[str]], None]:
    def change(_home: Home, machine: Machine, slot: str, words: Iterator[str]) -> None:
        value = next(words)
        if value not in allowed:
            raise VBoxError(f"Invalid value '{value}'")
        if field:
            setattr(machine.nics[slot], field, value == "on" if "on" in allowed else value)

    return change


def _number(field: str, least: int) -> Callable[[Home, Machine, str, Iterator[str]], None]:
    def change(_home: Home, machine: Machine, _slot: str, words: Iterator[str]) -> None:
        value = next(words)
        if not value.isdigit() or int(value) < least:
            raise VBoxError(f"Invalid {field} size: {value}", INVALID, "SessionMachine", "nsISupports")
        setattr(machine, field, int(value))

    return change


def _uart(_home: Home, machine: Machine, slot: str, words: Iterator[str]) -> None:
    machine.uarts[slot] = [next(words), next(words), "disconnected", ""]


def _uart_mode(_home: Home, machine: Machine, slot: str, words: Iterator[str]) -> None:
    mode, path = next(words), next(words)
    if mode != "file" or slot not in machine.uarts:
        raise VBoxError(f"Invalid UART mode '{mode}'")
    machine.uarts[slot][2:] = [mode, path]


def _firmware(_home: Home, machine: Machine, _slot: str, words: Iterator[str]) -> None:
    machine.firmware = {"bios": "BIOS", "efi": "EFI", "efi64": "EFI"}[next(words)]


MODIFY = {
    "--name": _rename,
    "--memory": _number("memory", 4),
    "--cpus": _number("cpus", 1),
    "--firmware": _firmware,
    "--rtcuseutc": _one_of("", "on", "off"),
    "--natdnsproxy": _one_of("", "on", "off"),
    "--natdnshostresolver": _one_of("", "on", "off"),
    "--nic": _attach,
    "--nictype": _one_of("kind", *vbox_qemu.MODELS, "Am79C970A", "Am79C973"),
    "--nicpromisc": _one_of("promiscuous", "deny", "allow-vms", "allow-all"),
    "--cableconnected": _one_of("connected", "on", "off"),
    "--macaddress": _mac,
    "--hostonlyadapter": _hostonly,
    "--natpf": _forward,
    "--uart": _uart,
    "--uartmode": _uart_mode,
}
WITHOUT_SLOT = {"--name", "--memory", "--cpus", "--firmware", "--rtcuseutc"}


def _storageattach(home: Home, arguments: list[str]) -> Iterator[str]:
    takes = ("--storagectl", "--port", "--device", "--type", "--medium", "--comment")
    options, (name,) = _parsed(arguments, dict.fromkeys(takes, 1))
    machine = home.machine(name)
    controller = options.get("--storagectl", "")
    if controller not in machine.controllers:
        text = f"Could not find a controller named '{controller}'"
        raise VBoxError(text, "VBOX_E_OBJECT_NOT_FOUND (0x80bb0001)", "SessionMachine", "nsISupports")
    port = f"{options['--port']}-{options['--device']}"
    medium = options["--medium"]
    if int(options["--port"]) >= vbox_shown.PORTS or options["--device"] != "0":
        raise VBoxError(f"Invalid port or device {port}", INVALID, "SessionMachine", "nsISupports")
    if medium == "none":
        machine.controllers[controller].pop(port, None)
    elif not Path(medium).is_file():
        text = f"Could not find file for the medium '{medium}' (VERR_FILE_NOT_FOUND)"
        raise VBoxError(text, "VBOX_E_FILE_ERROR (0x80bb0004)", "MediumWrap", "nsISupports")
    else:
        kind = {"dvddrive": "dvd", "hdd": "hdd"}[options["--type"]]
        machine.controllers[controller][port] = Medium(medium, home.new_id(), kind)
    yield from ()


def _startvm(home: Home, arguments: list[str]) -> Iterator[str]:
    options, (name,) = _parsed(arguments, {"--type": 1})
    if options.get("--type", "gui") not in {"gui", "headless", "separate"}:
        raise VBoxError(f"Invalid frontend '{options['--type']}'")
    machine = home.machine(name)
    if machine.is_running:
        text = f"The machine '{machine.name}' is already locked by a session (or being locked or unlocked)"
        raise VBoxError(text, "VBOX_E_INVALID_OBJECT_STATE (0x80bb0007)", "MachineWrap", "nsISupports")
    networks = {
        f"HostInterfaceNetworking-{nic.hostonly}" for nic in machine.nics.values() if nic.attached == "hostonly"
    }
    if leasing := [server.network for server in home.servers if server.enabled and server.network in networks]:
        (home.folder / "leasing").write_text("\n".join(leasing))  # VirtualBox starts the server silently
    yield f'Waiting for VM "{name}" to power on...'
    machine.pid = vbox_qemu.start(machine)
    machine.state = "running"
    yield f'VM "{name}" has been successfully started.'


def _controlvm(home: Home, arguments: list[str]) -> Iterator[str]:
    name, action = arguments
    machine = home.machine(name)
    if not machine.is_on:
        raise VBoxError(f"Machine '{name}' is not currently running.", WRONG_STATE, "ConsoleWrap")
    match action:
        case "poweroff":
            vbox_qemu.cut_power(machine)
            yield PROGRESS
        case "pause" | "resume":
            machine.state = "paused" if action == "pause" else "running"
        case "savestate":
            machine.state = "saved"
        case "acpipowerbutton" if machine.is_running:
            vbox_qemu.press_power_button(machine)
        case "acpipowerbutton":
            raise VBoxError(f"Invalid machine state: {machine.state}", WRONG_STATE, "ConsoleWrap")
        case _:
            raise VBoxError(f"Invalid parameter '{action}'")


def _unregistervm(home: Home, arguments: list[str]) -> Iterator[str]:
    options, (name,) = _parsed(arguments, {"--delete": 0, "--delete-all": 0})
    machine = home.machine(name)
    if machine.is_on:
        text = f"Cannot unregister the machine '{machine.name}' while it is locked"
        raise VBoxError(text, "VBOX_E_INVALID_OBJECT_STATE (0x80bb0007)", "MachineWrap", "nsISupports")
    home.machines.remove(machine)
    if options:
        shutil.rmtree(machine.base)
        yield PROGRESS


def _hostonlyif(home: Home, arguments: list[str]) -> Iterator[str]:
    match arguments:
        case ["create"]:
            used = {each.index for each in home.interfaces}
            index = next(number for number in range(128) if number not in used)
            home.interfaces.append(HostOnly(f"vboxnet{index}", f"192.168.{56 + index}.1", "255.255.255.0"))
            yield PROGRESS
            yield f"Interface 'vboxnet{index}' was successfully created"
        case ["remove", name]:
            home.interfaces.remove(_find_interface(home, name))
            yield PROGRESS
        case ["ipconfig", *rest]:
            options, (name,) = _parsed(rest, {"--ip": 1, "--netmask": 1})
            wanted = IPv4Interface(f"{options['--ip']}/{options.get('--netmask', '255.255.255.0')}")
            if not any(wanted.network.subnet_of(allowed) for allowed in _allowed(home)):
                raise VBoxError(
                    "Code E_ACCESSDENIED (0x80070005) - Access denied (extended info not available)", "E_ACCESSDENIED"
                )
            interface = _find_interface(home, name)
            interface.address, interface.netmask = str(wanted.ip), str(wanted.netmask)
        case _:
            raise VBoxError(f"Invalid parameter '{' '.join(arguments)}'")


def _dhcpserver(home: Home, arguments: list[str]) -> Iterator[str]:
    takes = ("--netname", "--network", "--ifname", "--interface", "--ip", "--netmask", "--lowerip", "--upperip")
    options, (action,) = _parsed(arguments, {**dict.fromkeys(takes, 1), "--enable": 0, "--disable": 0})
    interface = options.get("--ifname") or options.get("--interface")
    name = options.get("--netname") or options.get("--network") or f"HostInterfaceNetworking-{interface}"
    existing = next((server for server in home.servers if server.network == name), None)
    match action:
        case "add" if existing:
            raise VBoxError("DHCP server already exists")
        case "add":
            ip, lower, upper, mask = (options[f"--{each}"] for each in ("ip", "lowerip", "upperip", "netmask"))
            home.servers.append(Dhcp(name, ip, lower, upper, mask, "--enable" in options))
        case "remove" if existing:
            home.servers.remove(existing)
        case _:
            raise VBoxError("DHCP server does not exist")
    yield from ()


def _setextradata(home: Home, arguments: list[str]) -> Iterator[str]:
    """Run `setextradata NAME KEY [VALUE]` for a machine."""
    name, key, *value = arguments
    extra = home.machine(name).extra
    extra.pop(key, None)
    extra.update(zip([key], value, strict=False))
    yield from ()


def _getextradata(home: Home, arguments: list[str]) -> Iterator[str]:
    name, key = arguments
    extra = home.machine(name).extra
    if key == "enumerate":
        yield from (f"Key: {each}, Value: {value}" for each, value in extra.items())
    else:
        yield f"Value: {extra[key]}" if key in extra else "No value set!"


COMMANDS: dict[str, Callable[[Home, list[str]], Iterator[str]]] = {
    "list": _list,
    "import": _import,
    "showvminfo": _showvminfo,
    "modifyvm": _modifyvm,
    "storageattach": _storageattach,
    "startvm": _startvm,
    "controlvm": _controlvm,
    "unregistervm": _unregistervm,
    "hostonlyif": _hostonlyif,
    "dhcpserver": _dhcpserver,
    "setextradata": _setextradata,
    "getextradata": _getextradata,
}


def _allowed(home: Home) -> list[IPv4Network]:
    """Return the networks of networks.conf, which is in this folder instead of /etc/vbox."""
    file = home.folder / "networks.conf"
    lines = file.read_text().splitlines() if file.exists() else [f"* {ALLOWED}"]
    return [IPv4Network(each) for line in lines if line.startswith("*") for each in line[1:].split()]


def _find_interface(home: Home, name: str) -> HostOnly:
    for each in home.interfaces:
        if each.name == name:
            return each
    text = f"The host network interface named '{name}' could not be found"
    raise VBoxError(text, INVALID, "HostWrap", "nsISupports")


def _parsed(arguments: list[str], takes: dict[str, int]) -> tuple[Options, list[str]]:
    """Return the options, each with its value if it takes one, and the other words. Raise for an unknown option."""
    options: Options = {}
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if not word.startswith("-"):
            rest.append(word)
        elif word not in takes:
            raise VBoxError(f"Unknown option: {word}")
        else:
            options[word] = next(words, "") if takes[word] else ""
    return options, rest


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
