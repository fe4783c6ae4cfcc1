"""KVM or QEMU's emulation: which one virtual machines use, and how much slower emulation is."""

from __future__ import annotations

import re
import resource
import struct
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from labctl.host import libvirt
from labctl.host.machine import Machine
from labctl.host.parsing import parse_version
from labctl.host.process import run
from labctl.model.errors import ProviderError

DEVICES = Path("/dev")
CPUINFO = Path("/proc/cpuinfo")
EXTENSIONS = re.compile(r"^flags\s*:.*\b(vmx|svm)\b", re.MULTILINE)
MODULES = {"vmx": "kvm_intel", "svm": "kvm_amd"}
SWITCH_ON = "Enable virtualisation in the firmware; in a virtual machine, enable nested virtualisation on its host."

EMULATORS = ("qemu-system-x86_64", "/usr/libexec/qemu-kvm")
MEMORY = Path("/proc/meminfo")
TOTAL_MEMORY = re.compile(r"^MemTotal:\s*(\d+) kB$", re.MULTILINE)
CODE_CACHE = 2048
"""MiB of translated code, more than any machine of a lab fills while the lab comes up. With half of it, a machine
translates its code two or three times, which costs a tenth of the time of `up`."""
QEMU_CODE_CACHE = 1024
"""QEMU's default, in MiB, unless an eighth of this machine's memory is less."""
SETS_CODE_CACHE = (8,)
"""The first version of libvirt that supports the element tb-cache."""
USUAL, MOST = 13, 40
"""How many times slower emulated machines are: the assumption without a measurement, and the upper limit."""
LOOPS = 20_000_000
NORMAL_SECONDS = 0.027
"""Processor time of the loops at slowness 1: a machine on which labs were 13 times slower emulated them in 0.35 s."""
TRIES = 3
TRY_SECONDS = 30.0
ENDED = 33
"""QEMU's exit code when the firmware writes 0x10 to isa-debug-exit: (0x10 << 1) | 1."""

_CODE, _RESET = 0x10000, 0xFFF0
_BEGIN = "fa31c08ed88ed0bc0070"  # cli; ds = ss = 0; sp = 0x7000
_COUNT = "66b9"  # mov ecx, ...
_LOOP = "89ce81e6fc0fe8150001840010338400206649"  # memory accesses indexed by the counter, and a call; dec ecx
_END = "75ebbaf400b010eef4ebfd"  # jnz loop; out 0xf4, 0x10: QEMU exits
_CALLED = "5001f05840c3"
_START = "ea000000f0"  # jmp f000:0000


@dataclass(frozen=True, slots=True)
class Acceleration:
    """Whether virtual machines can use KVM; if not, the obstacle and its fix."""

    obstacle: str = ""
    fix: str = ""

    @property
    def is_usable(self) -> bool:
        """Return whether KVM can be used."""
        return not self.obstacle


def kvm(machine: Machine) -> Acceleration:
    """Return whether virtual machines can use KVM: the processor supports it, and /dev/kvm can be opened."""
    extension = EXTENSIONS.search(machine.read(CPUINFO) or "")
    if extension is None:
        return Acceleration("the processor shows neither vmx nor svm", SWITCH_ON)
    if "kvm" not in machine.names(DEVICES):
        fix = f"Load its module: `sudo modprobe {MODULES[extension[1]]}`. If that fails: {SWITCH_ON}"
        return Acceleration("there is no /dev/kvm", fix)
    refusal = machine.open_error(DEVICES / "kvm")
    # libvirt's daemon runs as root and opens the device, whether or not the user may.
    if not refusal or _libvirt_has_kvm(machine):
        return Acceleration()
    return Acceleration(f"/dev/kvm cannot be opened: {refusal}", "`sudo usermod -aG kvm $USER`, then log in again.")


def emulation_consequence(acceleration: Acceleration, slowness: int) -> str:
    """Return the consequence of missing KVM, as text. A slowness of 1 is not a measurement: the lab does not exist yet."""
    times = slowness if slowness > 1 else USUAL
    return f"{acceleration.obstacle}: machines are emulated, about {times} times slower, with longer time limits"


def slowness(machine: Machine) -> int:
    """Return how many times slower virtual machines are than containers: 1 with KVM, else the measured value."""
    if kvm(machine).is_usable:
        return 1
    emulator = next((path for name in EMULATORS if (path := machine.path_of(name))), "")
    return measure_slowness(emulator) if emulator else USUAL


def code_cache(machine: Machine) -> int:
    """Return the size of each emulated machine's cache for translated code, in MiB; 0 for QEMU's default.

    Like QEMU's default, use at most an eighth of this machine's memory.
    """
    answer = libvirt.run_virsh(machine, "version", "--daemon")
    known = parse_version(r"Running against daemon: (\d+(?:\.\d+)+)", answer.out) if answer is not None else ()
    total = TOTAL_MEMORY.search(machine.read(MEMORY) or "")
    if known < SETS_CODE_CACHE or total is None:
        return 0
    size = min(CODE_CACHE, int(total[1]) // 1024 // 8)
    return size if size > QEMU_CODE_CACHE else 0


def measure_slowness(emulator: str) -> int:
    """Return how many times slower this machine emulates a fixed loop than KVM runs it: the best of three tries."""
    with TemporaryDirectory() as folder:
        firmware = Path(folder, "firmware")
        firmware.write_bytes(_firmware(LOOPS))
        tries = [_seconds(emulator, firmware) for _ in range(TRIES)]
    seconds = [each for each in tries if each is not None]
    return max(1, min(MOST, round(min(seconds) / NORMAL_SECONDS))) if seconds else USUAL


def _seconds(emulator: str, firmware: Path) -> float | None:
    """Return the processor time, which other load hardly affects, of a machine with this firmware; None if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = [emulator, "-accel", "tcg", "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-m", "1"]
    try:
        finished = run([*line, "-bios", firmware, "-device", "isa-debug-exit,iobase=0xf4"], timeout=TRY_SECONDS)
    except ProviderError:
        return None
    if finished.code != ENDED:
        return None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _firmware(loops: int) -> bytes:
    """Return firmware that runs the loop `loops` times, then makes QEMU exit."""
    code = bytes.fromhex(_BEGIN + _COUNT) + struct.pack("<I", loops) + bytes.fromhex(_LOOP + _END + _CALLED)
    return (code.ljust(_RESET, b"\0") + bytes.fromhex(_START)).ljust(_CODE, b"\0")


def _libvirt_has_kvm(machine: Machine) -> bool:
    result = libvirt.run_virsh(machine, "domcapabilities", "--virttype", "kvm")
    return result is not None and result.code == 0
