"""The slowness of emulated machines, tested without starting one."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded_machine import Recorded

from labctl.host import accelerator, libvirt

INTEL = {"files": {"/proc/cpuinfo": "flags : vmx"}, "folders": {"/dev": ["kvm"]}}


@pytest.mark.parametrize(
    ("tries", "slowness"),
    [
        ([0.5, 0.35, 0.4], 13),
        ([0.01, 0.01, 0.01], 1),
        ([0.2, None, None], 7),
        ([5.0, 5.0, 5.0], accelerator.MOST),
        ([None, None, None], accelerator.USUAL),
    ],
)
def test_slowness_is_derived_from_the_best_of_three_measurements(
    monkeypatch: pytest.MonkeyPatch, tries: list[float | None], slowness: int
) -> None:
    monkeypatch.setattr(accelerator, "_seconds", lambda _emulator, _firmware: tries.pop(0))

    assert accelerator.slowness(Recorded()) == slowness


def test_nothing_is_measured_with_kvm_or_without_an_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "_seconds", lambda _emulator, _firmware: pytest.fail("a machine was started"))

    assert accelerator.slowness(Recorded(**INTEL)) == 1
    assert accelerator.slowness(Recorded(absent=accelerator.EMULATORS)) == accelerator.USUAL


@pytest.mark.parametrize(
    ("daemon", "memory", "size"),
    [
        ("9.0.0", 24 << 20, 2048),
        ("8.0.0", 12 << 20, 1536),
        ("8.0.0", 8 << 20, 0),
        ("7.10.0", 24 << 20, 0),
        ("", 24 << 20, 0),
    ],
)
def test_the_code_cache_depends_on_the_version_of_libvirt_and_the_memory(daemon: str, memory: int, size: int) -> None:
    said = f"Using library: libvirt 9.0.0\nRunning against daemon: {daemon}\n" if daemon else ""
    line = " ".join(libvirt.virsh({}, "version", "--daemon"))
    machine = Recorded(outputs={line: (said, 0)}, files={"/proc/meminfo": f"MemTotal:       {memory} kB\n"})

    assert accelerator.code_cache(machine) == size


def test_the_firmware_starts_at_the_reset_vector_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    monkeypatch.setattr(
        accelerator, "_seconds", lambda _emulator, firmware: written.append(Path(firmware).read_bytes())
    )

    accelerator.measure_slowness("qemu-system-x86_64")

    assert len(written[0]) == 0x10000
    assert written[0][0xFFF0:0xFFF5] == bytes.fromhex("ea000000f0")
    assert accelerator.LOOPS.to_bytes(4, "little") in written[0]
