"""Run a machine of the double in QEMU, with VirtualBox's hardware: AHCI, 82540EM, serial port, CD at port 1."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from vbox_home import Machine, Nic, folder

ACCELERATION = "VBOX_DOUBLE_BOOTS"
"""The variable with QEMU's accelerator, such as `tcg,thread=multi`; without it machines are not booted."""
FIRMWARE = "/usr/share/ovmf/OVMF.fd"
MODELS = {"82540EM": "e1000", "82545EM": "e1000-82545em", "virtio": "virtio-net-pci"}
MONITOR_SECONDS = 10.0


def start(machine: Machine) -> int:
    """Start the machine and return its pid, or 0 if machines are not booted."""
    if not (acceleration := os.environ.get(ACCELERATION)):
        return 0
    pid_file = machine.base / "pid"
    line = ["qemu-system-x86_64", "-accel", acceleration, "-cpu", "Nehalem"]
    line += ["-machine", "pc", "-smp", str(machine.cpus), "-m", str(machine.memory), "-display", "none", "-vga", "std"]
    line += ["-nodefaults", "-rtc", "base=utc", "-daemonize", "-pidfile", str(pid_file)]
    line += ["-monitor", f"unix:{_monitor(machine)},server=on,wait=off"]
    line += _firmware(machine)
    for name, media in machine.controllers.items():
        line += ["-device", f"ahci,id={name}"]
        for port, medium in media.items():
            line += _medium(name, int(port.partition("-")[0]), medium.path, medium.kind)
    for slot, nic in machine.nics.items():
        line += _nic(slot, nic)
    for _base, _irq, _mode, path in machine.uarts.values():
        line += ["-serial", f"file:{path}"]
    subprocess.run(line, check=True, stdin=subprocess.DEVNULL)
    return int(pid_file.read_text())


def press_power_button(machine: Machine) -> None:
    if machine.pid == 0:
        is_deaf = (folder() / "deaf").exists()  # a test can make machines ignore the button
        machine.state = "running" if is_deaf else "poweroff"
        return
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(MONITOR_SECONDS)
        monitor.connect(str(_monitor(machine)))
        monitor.sendall(b"system_powerdown\n")
        output = b""
        while b"system_powerdown" not in output:  # the monitor prints its prompt and echoes the command
            output += monitor.recv(4096)


def cut_power(machine: Machine) -> None:
    if machine.pid:
        os.kill(machine.pid, signal.SIGKILL)
    machine.state, machine.pid = "poweroff", 0


def clone_disk(source: Path, target: Path) -> None:
    """Make a disk from the imported one; it is empty if machines are not booted."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not os.environ.get(ACCELERATION):
        target.touch()
        return
    backing = ["-b", str(source.resolve()), "-F", "vmdk"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(target)], check=True)


def _firmware(machine: Machine) -> list[str]:
    return ["-bios", FIRMWARE] if machine.firmware == "EFI" else []


def _medium(controller: str, port: int, path: str, kind: str) -> Iterator[str]:
    name = f"{controller}{port}"
    if kind == "hdd":
        yield from ("-drive", f"if=none,id={name},file={path},format=qcow2,cache=unsafe")
        yield from ("-device", f"ide-hd,drive={name},bus={controller}.{port},bootindex=1")
    else:
        yield from ("-drive", f"if=none,id={name},file={path},format=raw,media=cdrom,readonly=on")
        yield from ("-device", f"ide-cd,drive={name},bus={controller}.{port}")


def _nic(slot: str, nic: Nic) -> Iterator[str]:
    if nic.attached == "none":
        return
    mac = ":".join(nic.mac[index : index + 2] for index in range(0, 12, 2))
    if nic.attached == "nat":
        rules = (rule.split(",") for rule in nic.forwarded.values())
        forwards = "".join(f",hostfwd={rule[1]}:{rule[2]}:{rule[3]}-{rule[4]}:{rule[5]}" for rule in rules)
        yield from ("-netdev", f"user,id=nic{slot},restrict=on{forwards}")
    else:  # the host's side of a host-only network: its address answers, and it has no uplink
        yield from ("-netdev", f"user,id=nic{slot},restrict=on,net=192.168.56.0/24,host=192.168.56.1")
    yield from ("-device", f"{MODELS[nic.kind]},netdev=nic{slot},mac={mac}")


def _monitor(machine: Machine) -> Path:
    return machine.base / "monitor"
