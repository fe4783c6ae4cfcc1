"""What `up` says about virtual machines that are emulated."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labctl.context import Context
from labctl.host import accelerator
from labctl.host.accelerator import Acceleration
from labctl.plans import up

NO_KVM = Acceleration("there is no /dev/kvm", "Load its module.")


@pytest.mark.parametrize(
    ("provider", "acceleration", "slowness", "told"),
    [
        ("libvirt", NO_KVM, 7, ["there is no /dev/kvm", "about 7 times slower", "Load its module."]),
        ("libvirt", Acceleration(), 7, ["still emulated", "labctl --name demo halt", "labctl --name demo resume"]),
        ("libvirt", Acceleration(), 1, []),
        ("virtualbox", NO_KVM, 1, []),
        ("docker", NO_KVM, 1, []),
    ],
)
def test_up_warns_of_emulated_machines_and_says_how_much_slower_they_are(
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    provider: str,
    acceleration: Acceleration,
    slowness: int,
    told: list[str],
) -> None:
    monkeypatch.setattr(accelerator, "kvm", lambda _machine: acceleration)
    lab = replace(context.lab, provider=provider, slowness=slowness)

    warning = up._without_kvm(replace(context, lab=lab))

    assert [text for text in told if text not in warning] == []
    assert bool(warning) == bool(told)
