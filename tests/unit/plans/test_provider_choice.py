"""The choice of the provider."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import lab
from recorded_machine import Recorded

from labctl.model.errors import UsageError
from labctl.plans import provider_choice
from labctl.plans.provider_choice import choose_provider

NO_ENGINE = {"docker version --format {{json .}}": ("Cannot connect to the Docker daemon", 1)}
LIBVIRT: dict[str, Any] = {
    "virsh -c qemu:///system version --daemon": "virsh-version.txt",
    "vagrant plugin list": "vagrant-plugins.txt",
}
VIRTUALBOX = {"VBoxManage --version": "vbox-version.txt"}
USER: dict[str, Any] = {"is_root": False}


@pytest.mark.parametrize(
    ("machine", "provider", "reason"),
    [
        ({}, "docker", "Engine answers"),
        ({**USER, "outputs": {**LIBVIRT, **VIRTUALBOX}}, "docker", "Engine answers"),
        ({"outputs": {**NO_ENGINE, **LIBVIRT}}, "docker", "root"),
        ({**USER, "outputs": {**NO_ENGINE, **LIBVIRT, **VIRTUALBOX}}, "libvirt", "no Docker Engine"),
        (
            {**USER, "outputs": {**NO_ENGINE, **LIBVIRT, "vagrant plugin list": ("", 0), **VIRTUALBOX}},
            "virtualbox",
            "virtualbox",
        ),
        ({**USER, "outputs": {**NO_ENGINE, **VIRTUALBOX}, "absent": ["virsh"]}, "virtualbox", "no Docker Engine"),
        (
            {**USER, "outputs": {**LIBVIRT, **VIRTUALBOX}, "absent": ["docker", "virsh"]},
            "virtualbox",
            "docker is not installed",
        ),
        ({**USER, "absent": ["docker", "virsh", "VBoxManage"]}, "docker", "neither libvirt nor virtualbox"),
        ({**USER, "platform": "darwin", "outputs": VIRTUALBOX, "absent": ["virsh"]}, "virtualbox", "need Linux"),
        ({**USER, "platform": "darwin", "absent": ["virsh", "VBoxManage"]}, "docker", "need Linux"),
    ],
)
def test_the_first_usable_provider_is_chosen_with_a_reason_on_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine: dict[str, Any], provider: str, reason: str
) -> None:
    monkeypatch.setattr(provider_choice, "Machine", lambda: Recorded(**machine))

    chosen, explanation = choose_provider(lab(provider="auto"), None, tmp_path, isolated=False)

    assert chosen == replace(lab(provider="auto"), provider=provider)
    assert explanation.startswith(f"provider {provider}: ")
    assert reason in explanation
    assert "\n" not in explanation


@pytest.mark.parametrize(
    ("requested", "saved", "isolated", "provider"),
    [
        ("auto", "virtualbox", False, "virtualbox"),
        ("auto", "docker", True, "docker"),
        ("auto", "auto", False, "docker"),  # created by a version without other providers
        ("auto", None, True, "docker"),
        ("libvirt", None, False, "libvirt"),
        ("libvirt", "docker", False, "libvirt"),  # which `up` refuses
    ],
)
def test_the_machine_is_not_examined_if_the_provider_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, requested: str, saved: str | None, provider: str, *, isolated: bool
) -> None:
    monkeypatch.setattr(provider_choice, "Machine", None)
    saved_lab = lab(provider=saved) if saved else None

    chosen, explanation = choose_provider(lab(provider=requested), saved_lab, tmp_path, isolated=isolated)

    assert chosen.provider == provider
    assert bool(explanation) == (requested == "auto")


def test_a_lab_that_is_too_small_for_the_chosen_provider_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(provider_choice, "Machine", lambda: Recorded(is_root=False, outputs={**NO_ENGINE, **LIBVIRT}))

    with pytest.raises(UsageError, match="memory: 512") as raised:
        choose_provider(lab(provider="auto", memory=512), None, tmp_path, isolated=False)

    assert raised.value.id == "config-invalid"
