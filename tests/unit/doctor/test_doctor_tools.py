"""Programs, versions and hypervisors, from their recorded outputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from golden_files import Golden
from recorded_machine import Recorded, run_check

from labctl.context import Context, Reasons
from labctl.doctor import packages, tools
from labctl.host.docker_engine import PLATFORM
from labctl.host.processor import architecture
from labctl.machine_image.format import DESCRIPTION
from labctl.providers.table import DOCKER

ENGINE = "docker version --format {{json .}}"
VIRSH = "virsh -c qemu:///system"
VIRTUALBOX = {"provider": "virtualbox"}
LIBVIRT = {"provider": "libvirt"}
LIBVIRT_WELL = {f"{VIRSH} version --daemon": "virsh-version.txt", "vagrant plugin list": "vagrant-plugins.txt"}


def test_an_isolated_lab_uses_the_version_of_this_machines_dockerd(context: Context) -> None:
    said = {
        "dockerd --version": ("Docker version 28.0.1, build 068a01e\n", 0),
        "vagrant --version": ("Vagrant 2.3.4", 0),
    }
    isolated = replace(context, isolated=True)

    assert "Docker Engine 28.0.1" in run_check("vagrant", isolated, outputs=said).observation
    assert run_check("engine", isolated, outputs=said).state == "not relevant"
    assert run_check("isolation", isolated).state == "ok"
    assert run_check("isolation", isolated, is_root=False).state == "broken"
    assert run_check("isolation", context, is_root=False).state == "not relevant"


def test_isolation_and_building_need_further_programs_which_all_have_a_package(context: Context) -> None:
    assert tools.needed_programs(context, Recorded()) == DOCKER.programs
    everything = set(tools.needed_programs(replace(context, isolated=True, bundle_folder=None), Recorded()))

    assert everything == {*DOCKER.programs, *tools.FOR_ISOLATION, *tools.FOR_BUILDING}
    assert everything | set(tools.COMPANIONS.values()) <= packages.APT.keys()


def test_a_virtual_machine_without_an_image_needs_the_build_tools(context: Context) -> None:
    machines = replace(context, lab=replace(context.lab, provider="libvirt"))
    assert set(tools.FOR_BUILDING) <= set(tools.needed_programs(machines, Recorded()))

    assert machines.bundle_folder is not None
    image = machines.bundle_folder / DESCRIPTION
    image.parent.mkdir(parents=True)
    image.touch()
    assert set(tools.FOR_BUILDING).isdisjoint(tools.needed_programs(machines, Recorded()))


ENGINE_ANSWERS = {" ".join(PLATFORM): (f"linux/{architecture()}\n", 0)}


@pytest.mark.parametrize(
    ("differences", "programs"),
    [
        ({"outputs": ENGINE_ANSWERS}, tools.FOR_BUILDING),
        ({"absent": {"mmdebstrap"}, "outputs": ENGINE_ANSWERS}, tools.FOR_BUILDING),
        ({"absent": {"mmdebstrap", "apt-get"}, "outputs": ENGINE_ANSWERS}, ()),
        ({"absent": {"newuidmap", "apt-get"}, "outputs": ENGINE_ANSWERS, "is_root": False}, ()),
        ({"absent": {"mmdebstrap", "apt-get"}}, tools.FOR_BUILDING),
        (
            {"absent": {"mmdebstrap", "apt-get"}, "outputs": {" ".join(PLATFORM): ("linux/riscv64", 0)}},
            tools.FOR_BUILDING,
        ),
        ({"absent": {"mmdebstrap", "apt-get", "docker"}}, tools.FOR_BUILDING),
    ],
)
def test_the_engine_replaces_mmdebstrap_only_if_it_cannot_be_installed(
    context: Context, differences: dict[str, Any], programs: tuple[str, ...]
) -> None:
    bundleless, machine = replace(context, bundle_folder=None), Recorded(**differences)
    machines = replace(bundleless, lab=replace(context.lab, provider="libvirt"))

    assert tools.programs_for_download(machine) == programs
    assert set(tools.FOR_BUILDING).isdisjoint(tools.needed_programs(bundleless, machine)) != bool(programs)
    assert set(tools.FOR_BUILDING) <= set(tools.needed_programs(machines, machine))


def test_the_fix_for_missing_mmdebstrap_mentions_an_engine_and_a_bundle(context: Context, golden: Golden) -> None:
    bundleless, absent = replace(context, bundle_folder=None), ("mmdebstrap", "apt-get", "dnf", "zypper")
    without = run_check("tools", bundleless, absent=absent)
    fedora = run_check("tools", bundleless, absent=("mmdebstrap", "apt-get"))
    within = run_check("tools", bundleless, absent=absent, outputs=ENGINE_ANSWERS)

    assert (without.state, within.state) == ("broken", "ok")
    golden([without.fix, fedora.fix, within.observation])


def test_the_install_command_uses_sudo_without_root(context: Context) -> None:
    finding = run_check("tools", context, absent={"vagrant", "docker"}, is_root=False)

    assert "`sudo apt-get install docker.io vagrant`" in finding.fix


def test_the_finding_on_the_provider_includes_the_reason_for_the_choice(context: Context) -> None:
    chosen = replace(context, reasons=Reasons(provider="provider docker: a Docker Engine answers"))

    assert run_check("provider", chosen).observation.endswith("; provider docker: a Docker Engine answers")
    assert "Engine answers" in run_check("provider", chosen, absent=["docker"]).observation
    assert ";" not in run_check("provider", context).observation
