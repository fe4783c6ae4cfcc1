"""Measuring with the real QEMU."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from labctl.host import accelerator

QEMU = shutil.which(accelerator.EMULATORS[0])


@pytest.mark.skipif(QEMU is None, reason="needs qemu-system-x86_64")
def test_the_firmware_runs_its_loops_and_ends_the_machine(tmp_path: Path) -> None:
    firmware = tmp_path / "firmware"

    def seconds(loops: int) -> float:
        firmware.write_bytes(accelerator._firmware(loops))
        taken = accelerator._seconds(str(QEMU), firmware)
        assert taken is not None
        return taken

    assert seconds(accelerator.LOOPS) > 2 * seconds(1)
    firmware.write_bytes(b"no firmware")
    assert accelerator._seconds(str(QEMU), firmware) is None
    assert accelerator._seconds("/nowhere/qemu", firmware) is None
