"""Programs, versions and hypervisors, as their own recorded outputs tell of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes import lab
from recorded_machine import found

from labctl.context import Context
from labctl.doctor import packages, tools

ENGINE = "docker version --format {{json .}}"
VIRSH = "virsh -c qemu:///system"
VIRTUALBOX = {"provider": "virtualbox"}
LIBVIRT = {"provider": "libvirt"}
LIBVIRT_WELL = {f"{VIRSH} version --daemon": "virsh-version.txt", "vagrant plugin list": "vagrant-plugins.txt"}


@pytest.mark.parametrize(
    ("identity", "values", "differences", "state", "seen", "fix"),
    [
        ("provider", {}, {}, "ok", "containers", ""),
        ("provider", LIBVIRT, {}, "broken", "provider: libvirt", "labctl render"),
        ("tools", {}, {}, "ok", "vagrant, docker, ssh", ""),
        ("tools", {}, {"absent": {"ssh"}}, "broken", "not on this machine: ssh", "`apt-get install openssh-client`"),
        ("tools", VIRTUALBOX, {"absent": {"docker"}}, "ok", "vagrant, ssh", ""),
        ("vagrant", {}, {}, "ok", "Vagrant 2.4.9 with Docker Engine 28.2.2", ""),
        ("vagrant", {}, {"absent": {"docker"}}, "ok", "Vagrant 2.4.9", ""),
        ("vagrant", {}, {"absent": {"vagrant"}}, "not relevant", "see `tools`", ""),
        (
            "vagrant",
            {},
            {"said": {"vagrant --version": ("cannot load such file", 1)}},
            "broken",
            "cannot load",
            "again",
        ),
        (
            "vagrant",
            {},
            {"said": {"vagrant --version": ("Vagrant 2.3.4\n", 0)}},
            "ok",
            "Vagrant 2.3.4 with Docker Engine 28.2.2",
            "",
        ),
        (
            "vagrant",
            {},
            {
                "said": {
                    "vagrant --version": ("Vagrant 2.3.4\n", 0),
                    ENGINE: ('{"Server": {"Version": "20.10.24+dfsg1"}}', 0),
                }
            },
            "ok",
            "Vagrant 2.3.4 with Docker Engine 20.10.24",
            "",
        ),
        ("vagrant", VIRTUALBOX, {"said": {"vagrant --version": ("Vagrant 2.3.4\n", 0)}}, "ok", "Vagrant 2.3.4", ""),
        ("engine", {}, {}, "ok", "Docker Engine 28.2.2", ""),
        ("engine", {}, {"absent": {"docker"}}, "not relevant", "see `tools`", ""),
        ("engine", {}, {"said": {ENGINE: ("permission denied", 1)}}, "broken", "permission denied", "Start Docker"),
        ("engine", VIRTUALBOX, {}, "not relevant", "no containers", ""),
        ("virtualbox", {}, {}, "not relevant", "the provider is auto", ""),
        (
            "virtualbox",
            VIRTUALBOX,
            {"said": {"VBoxManage --version": "vbox-version.txt"}},
            "ok",
            "VirtualBox 7.1.4",
            "",
        ),
        ("virtualbox", VIRTUALBOX, {"absent": {"VBoxManage"}}, "broken", "there is no VBoxManage", "7.2"),
        (
            "virtualbox",
            VIRTUALBOX,
            {"said": {"VBoxManage --version": "vbox-version-no-module.txt"}},
            "broken",
            "/dev/vboxdrv does not exist",
            "vboxconfig",
        ),
        (
            "virtualbox",
            VIRTUALBOX,
            {"said": {"VBoxManage --version": ("7.3.0r170000\n", 0)}},
            "broken",
            "VirtualBox 7.3.0; Vagrant knows versions up to 7.2",
            "Install VirtualBox 7.2",
        ),
        ("virtualbox-networks", VIRTUALBOX, {}, "ok", "192.168.56.0/24 is in 192.168.56.0/21", ""),
        (
            "virtualbox-networks",
            {**VIRTUALBOX, "network": "10.20.0.0/24"},
            {},
            "broken",
            "the lab's is 10.20.0.0/24",
            "`echo '* 10.20.0.0/24' | sudo tee -a /etc/vbox/networks.conf`",
        ),
        (
            "virtualbox-networks",
            {**VIRTUALBOX, "network": "10.20.0.0/24"},
            {
                "files": {
                    "/etc/vbox/networks.conf": "# 10.0.0.0/8 was here\n* 10.20.0.0/16 192.168.0.0/16\n* 2001::/64\n"
                }
            },
            "ok",
            "10.20.0.0/16",
            "",
        ),
        ("libvirt", {}, {}, "not relevant", "the provider is auto", ""),
        ("libvirt", LIBVIRT, {"said": LIBVIRT_WELL}, "ok", "libvirt 9.0.0", ""),
        ("libvirt", LIBVIRT, {"absent": {"virsh"}}, "broken", "there is no virsh", "vagrant-libvirt"),
        (
            "libvirt",
            LIBVIRT,
            {"said": {f"{VIRSH} version --daemon": ("error: failed to connect to the hypervisor", 1)}},
            "broken",
            "failed to connect to the hypervisor",
            "usermod -aG libvirt",
        ),
        (
            "libvirt",
            LIBVIRT,
            {"said": {**LIBVIRT_WELL, "vagrant plugin list": ("vagrant-vbguest (0.32.0, global)\n", 0)}},
            "broken",
            "no plugin vagrant-libvirt",
            "apt-get install vagrant-libvirt",
        ),
    ],
)
def test_what_is_seen_of_a_tool(
    context: Context,
    identity: str,
    values: dict[str, Any],
    differences: dict[str, Any],
    state: str,
    seen: str,
    fix: str,
) -> None:
    finding = found(identity, replace(context, lab=lab(**values)), **differences)

    assert (finding.state, seen in finding.seen, fix in finding.fix) == (state, True, True), finding
    assert bool(finding.fix) == (state in {"broken", "warning"})


def test_an_isolated_lab_has_the_engine_of_this_machines_dockerd(context: Context) -> None:
    said = {
        "dockerd --version": ("Docker version 28.0.1, build 068a01e\n", 0),
        "vagrant --version": ("Vagrant 2.3.4", 0),
    }
    isolated = replace(context, isolated=True)

    assert "Docker Engine 28.0.1" in found("vagrant", isolated, said=said).seen
    assert found("engine", isolated, said=said).state == "not relevant"
    assert found("isolation", isolated).state == "ok"
    assert found("isolation", isolated, is_root=False).state == "broken"
    assert found("isolation", context, is_root=False).state == "not relevant"


def test_isolation_and_building_need_more_programs_all_of_which_have_a_package(context: Context) -> None:
    assert tools.needed(context) == tools.FOR_NODES
    everything = set(tools.needed(replace(context, isolated=True, bundle_folder=None)))

    assert everything == {*tools.FOR_NODES, *tools.FOR_ISOLATION, *tools.FOR_BUILDING}
    assert everything | set(tools.COMPANIONS.values()) <= packages.APT.keys()


def test_whoever_is_not_root_installs_with_sudo(context: Context) -> None:
    finding = found("tools", context, absent={"vagrant", "docker"}, is_root=False)

    assert "`sudo apt-get install docker.io vagrant`" in finding.fix
