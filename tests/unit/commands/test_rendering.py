"""Writing a lab's files without starting anything."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from labctl.commands import rendering
from labctl.config import saved_lab
from labctl.context import Context
from labctl.host import lab_folder, locks
from labctl.model.errors import NotReadyError, UsageError


def test_render_refuses_a_lab_that_another_command_has_locked(keyed: Context) -> None:
    lock = locks.exclusive(keyed.folder / lab_folder.LOCK, lambda _text: None, timeout=0)
    with lock, pytest.raises(NotReadyError) as raised:
        rendering.write(keyed, None)

    assert raised.value.id == "locked"
    assert not (keyed.folder / lab_folder.VAGRANTFILE).exists()
    rendering.write(keyed, None)
    assert (keyed.folder / lab_folder.VAGRANTFILE).exists()


def test_render_refuses_changes_that_up_refuses(keyed: Context) -> None:
    saved = replace(keyed.lab, network=IPv4Network("192.168.60.0/24"))
    saved_lab.write(keyed.folder, saved_lab.SavedLab(saved, isolated=False))

    with pytest.raises(UsageError) as raised:
        rendering.write(keyed, None)

    assert raised.value.id == "lab-differs"
    assert not (keyed.folder / lab_folder.VAGRANTFILE).exists()
