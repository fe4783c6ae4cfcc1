"""The commands that install missing programs on each distribution."""

from __future__ import annotations

from typing import Any

import pytest
from recorded_machine import Recorded, run_check

from labctl.context import Context
from labctl.doctor.packages import APT, SYSTEMS, installation

DEBIAN_12 = {"/etc/os-release": 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n'}
DEBIAN_13 = {"/etc/os-release": 'ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n'}
UBUNTU_22 = {"/etc/os-release": "ID=ubuntu\nID_LIKE=debian\nVERSION_ID='22.04'\nVERSION_CODENAME=jammy\n"}
UBUNTU_24 = {"/etc/os-release": 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\n'}
MINT_22 = {"/etc/os-release": 'ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_CODENAME=wilma\nUBUNTU_CODENAME=noble\n'}
ROCKY = {"/etc/os-release": 'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n'}
NO_LISTS: dict[str, Any] = {"apt_lists": ()}
NO_VAGRANT = {"without_packages": ("vagrant", "docker-cli")}
HASHICORP = (
    "apt-get install ca-certificates curl",
    "curl -fsSL -o /etc/apt/keyrings/hashicorp.asc https://apt.releases.hashicorp.com/gpg",
    (
        "echo 'deb [signed-by=/etc/apt/keyrings/hashicorp.asc] https://apt.releases.hashicorp.com noble main'"
        " | tee /etc/apt/sources.list.d/hashicorp.list"
    ),
    "apt-get update",
)


def _only_manager(*managers: str) -> dict[str, Any]:
    return {"absent": {"apt-get", *(name for name in SYSTEMS if name not in managers)}}


@pytest.mark.parametrize(
    ("programs", "machine", "lines", "by_apt"),
    [
        ("vagrant docker", {"files": DEBIAN_12}, ["apt-get install docker.io vagrant"], True),
        (
            "vagrant docker dockerd",
            {"files": DEBIAN_13, "without_packages": ()},
            ["apt-get install docker-cli docker.io vagrant"],
            True,
        ),
        ("docker", {"files": DEBIAN_12, **NO_LISTS}, ["apt-get update", "apt-get install docker.io"], True),
        ("docker", {"files": DEBIAN_13, **NO_LISTS}, ["apt-get update", "apt-get install docker-cli docker.io"], True),
        ("vagrant", {"files": UBUNTU_22, **NO_LISTS}, ["apt-get update", "apt-get install vagrant"], True),
        ("vagrant", {"files": UBUNTU_24, **NO_LISTS}, ["apt-get update", *HASHICORP, "apt-get install vagrant"], False),
        (
            "vagrant docker",
            {"files": UBUNTU_24, **NO_VAGRANT},
            [*HASHICORP, "apt-get install docker.io vagrant"],
            False,
        ),
        ("vagrant", {"files": MINT_22, **NO_VAGRANT}, [*HASHICORP, "apt-get install vagrant"], False),
        # With HashiCorp's repository configured, apt knows the package.
        ("vagrant", {"files": UBUNTU_24}, ["apt-get install vagrant"], True),
        (
            "mmdebstrap debian-archive-keyring",
            {"files": UBUNTU_24, "without_packages": ("mmdebstrap",)},
            ["add-apt-repository universe", "apt-get install debian-archive-keyring mmdebstrap"],
            False,
        ),
        (
            "vagrant docker",
            _only_manager("dnf"),
            [
                "curl -fsSL -o /etc/yum.repos.d/hashicorp.repo https://rpm.releases.hashicorp.com/fedora/hashicorp.repo",
                "dnf install docker-cli moby-engine vagrant",
                "systemctl enable --now docker",
            ],
            False,
        ),
        (
            "docker dockerd",
            {**_only_manager("dnf"), "files": ROCKY},
            [
                "curl -fsSL -o /etc/yum.repos.d/docker-ce.repo https://download.docker.com/linux/rhel/docker-ce.repo",
                "dnf install docker-ce docker-ce-cli",
                "systemctl enable --now docker",
            ],
            False,
        ),
        (
            "vagrant docker",
            _only_manager("pacman"),
            ["pacman -S --needed docker vagrant", "systemctl enable --now docker"],
            False,
        ),
        ("ssh ip", _only_manager("zypper"), ["zypper install iproute2 openssh-clients"], False),
        ("mmdebstrap", _only_manager("pacman"), [], False),
        ("vagrant", _only_manager(), [], False),
    ],
)
def test_install_commands_depend_on_the_distribution_and_known_packages(
    programs: str, machine: dict[str, Any], lines: list[str], *, by_apt: bool
) -> None:
    method = installation(programs.split(), Recorded(**machine))

    assert (list(method.lines), method.by_apt) == (lines, by_apt)
    assert bool(method.without) == (not lines)


def test_every_program_but_mmdebstrap_has_a_package_everywhere() -> None:
    for manager in SYSTEMS:
        method = installation(tuple(APT), Recorded(**_only_manager(manager)))
        assert set(method.without) <= {"mmdebstrap"}
        assert method.packages


@pytest.mark.parametrize(
    ("differences", "expected", "fix"),
    [
        ({"absent": {"vagrant"}}, "vagrant", "`sudo apt-get install vagrant`"),
        ({"absent": {"vagrant"}, "files": UBUNTU_24, **NO_VAGRANT}, "vagrant", "\nsudo curl -fsSL"),
        ({"absent": {"vagrant", "apt-get", *SYSTEMS}}, "vagrant", "by hand"),
    ],
)
def test_the_fix_is_a_single_command_where_one_suffices(
    context: Context, differences: dict[str, Any], expected: str, fix: str
) -> None:
    finding = run_check("tools", context, is_root=False, **differences)

    assert finding.state == "broken"
    assert expected in finding.observation
    assert fix in finding.fix


def test_a_bundle_cannot_be_built_without_debians_keys(context: Context) -> None:
    vars(context)["bundle_folder"] = None
    finding = run_check("tools", context, folders={"/usr/share/keyrings": ["ubuntu-archive-keyring.gpg"]})

    assert (finding.state, "install debian-archive-keyring" in finding.fix) == ("broken", True)


def test_only_a_user_needs_subordinate_ids_to_build(context: Context) -> None:
    unbuilt = {"absent": {"newuidmap"}}

    assert run_check("tools", context, is_root=False, **unbuilt).state == "ok"
    vars(context)["bundle_folder"] = None
    assert run_check("tools", context, is_root=True, **unbuilt).state == "ok"
    assert "install uidmap" in run_check("tools", context, is_root=False, **unbuilt).fix
