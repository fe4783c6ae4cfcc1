"""Measurement of the slowness with the real QEMU."""

from __future__ import annotations

from pathlib import Path

import packages

from labctl.host import accelerator


def test_the_firmware_runs_its_loops_and_powers_off(tmp_path: Path) -> None:
    emulator = accelerator.EMULATORS[0]
    packages.install((emulator,), ("qemu-system-x86",))
    firmware = tmp_path / "firmware"

    def seconds(loops: int) -> float:
        firmware.write_bytes(accelerator._firmware(loops))
        measured = accelerator._seconds(emulator, firmware)
        assert measured is not None
        return measured

    assert seconds(accelerator.LOOPS) > 2 * seconds(1)
    firmware.write_bytes(b"no firmware")
    assert accelerator._seconds(emulator, firmware) is None
    assert accelerator._seconds("/nowhere/qemu", firmware) is None
