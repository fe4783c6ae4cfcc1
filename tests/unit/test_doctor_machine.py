"""Rights, kernel, memory and disk, as the kernel's own recorded files tell of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes import lab
from recorded_machine import found, text

from labctl import record
from labctl.context import Context

KVM = {"folders": {"/dev": ["kvm", "null"]}}
VM = {"provider": "libvirt"}
RELEASE = "/proc/sys/kernel/osrelease"
OLD = {RELEASE: "5.10.0-28-amd64\n", "/lib/modules/5.10.0-28-amd64/modules.builtin": "kernel/net/bridge/x.ko\n"}
DEBIAN = {
    RELEASE: "6.1.0-37-amd64\n",
    "/proc/modules": "overlay 163840 2 - Live 0x0\nveth 40960 0 - Live 0x0\n",
    "/lib/modules/6.1.0-37-amd64/modules.builtin": "kernel/lib/crc.ko\n",
    "/lib/modules/6.1.0-37-amd64/modules.dep": (
        "kernel/net/bridge/br_netfilter.ko:\nkernel/net/netfilter/nf_conntrack.ko:\nkernel/net/netfilter/nf-nat.ko:\n"
        "kernel/net/netfilter/nf_tables.ko:\n"
    ),
}


DOCKER_DATA = {"folders": {"/var/lib/docker": ["overlay2"]}}


def _mounts(*lines: str) -> dict[str, str]:
    return {"/proc/mounts": "".join(f"source {line} rw 0 0\n" for line in lines)}


@pytest.mark.parametrize(
    ("identity", "values", "differences", "state", "seen", "fix"),
    [
        (
            "capabilities",
            {},
            {"files": {"/proc/self/status": text("status-root.txt")}},
            "ok",
            "nodes get all rights",
            "",
        ),
        (
            "capabilities",
            {},
            {"files": {"/proc/self/status": text("status-sandbox.txt")}},
            "ok",
            "CAP_SYS_RESOURCE is missing",
            "",
        ),
        ("capabilities", {}, {"platform": "darwin"}, "not relevant", "no capabilities", ""),
        ("capabilities", VM, {}, "not relevant", "no containers", ""),
        ("kvm", {}, KVM, "not relevant", "no virtual machines", ""),
        ("kvm", VM, KVM, "ok", "/dev/kvm", ""),
        ("kvm", VM, {"folders": {"/dev": ["null"]}}, "warning", "13 times slower", "firmware"),
        ("kvm", VM, {**KVM, "readonly": ["/dev/kvm"]}, "warning", "may not use /dev/kvm", "usermod -aG kvm"),
        ("cgroups", {}, {"files": {"/proc/mounts": text("mounts-v1.txt")}}, "ok", "version 1", ""),
        ("cgroups", {}, {"files": {"/proc/mounts": text("mounts-v2.txt")}}, "ok", "version 2", ""),
        (
            "cgroups",
            {},
            {"files": {"/proc/mounts": "proc /proc proc rw 0 0\n"}},
            "broken",
            "no control groups",
            "mount -t",
        ),
        ("cgroups", {}, {"platform": "darwin"}, "not relevant", "Docker's own machine", ""),
        ("kernel", {}, {"files": DEBIAN}, "ok", "Linux 6.1.0-37-amd64, kube-proxy by nftables", ""),
        ("kernel", {}, {"files": {RELEASE: "6.18.44\n"}}, "ok", "does not list its modules", ""),
        (
            "kernel",
            {},
            {"files": OLD},
            "warning",
            "kube-proxy by iptables; without br_netfilter, nf_conntrack",
            "reboot",
        ),
        ("kernel", {}, {"platform": "darwin"}, "not relevant", "Docker's own machine", ""),
        ("memory", {}, {"files": {"/proc/meminfo": text("meminfo.txt")}}, "ok", "2048 MiB of 7859 MiB are free", ""),
        ("memory", {"workers": 5}, {"files": {"/proc/meminfo": text("meminfo.txt")}}, "warning", "6 nodes", "workers"),
        ("memory", {"workers": 20}, {"files": {"/proc/meminfo": text("meminfo.txt")}}, "broken", "8400 MiB", "workers"),
        (
            "memory",
            {**VM, "workers": 3},
            {"files": {"/proc/meminfo": text("meminfo.txt")}},
            "broken",
            "4 nodes need about 8192 MiB",
            "less `memory`",
        ),
        ("memory", {}, {"platform": "darwin"}, "not relevant", "/proc/meminfo", ""),
        ("disk", {}, {}, "ok", "100.0 GiB free, 2 GiB needed", ""),
        ("disk", {}, {"space": 1 << 30}, "broken", "1.0 GiB free", "Make space"),
        ("disk", {}, {"folders": {"/var/lib/docker": ["overlay2"]}}, "ok", "/var/lib/docker: ", ""),
        ("filesystem", {}, {**DOCKER_DATA, "files": _mounts("/ overlay", "/var/lib/docker ext4")}, "ok", "ext4", ""),
        (
            "filesystem",
            {},
            {**DOCKER_DATA, "files": _mounts("/ ext4", "/var/lib overlay")},
            "broken",
            "overlay",
            "volume",
        ),
        ("filesystem", {}, {**DOCKER_DATA, "files": _mounts("/ ext4", "/var/lib/dock nfs")}, "ok", "ext4", ""),
        ("filesystem", {}, {**DOCKER_DATA, "files": _mounts("/ ext4", "/ overlay")}, "broken", "overlay", "volume"),
        ("filesystem", {}, {"files": _mounts("/ overlay")}, "not relevant", "/var/lib/docker", ""),
        ("filesystem", {}, {"platform": "darwin"}, "not relevant", "own machine", ""),
        ("filesystem", VM, {"files": _mounts("/ overlay")}, "not relevant", "no containers", ""),
    ],
)
def test_what_is_seen_of_the_machine(
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


def test_an_isolated_lab_needs_the_rights_to_make_interfaces(context: Context) -> None:
    files = {"/proc/self/status": text("status-container.txt")}
    finding = found("capabilities", replace(context, isolated=True), files=files)

    assert (finding.state, finding.seen) == ("broken", "root, without CAP_NET_ADMIN and CAP_SYS_ADMIN")
    assert found("capabilities", context, files=files).state == "ok"


def test_a_bundle_that_is_yet_to_be_built_takes_more_of_the_disk(context: Context) -> None:
    unbuilt = replace(context, bundle_folder=None)

    assert found("disk", unbuilt).state == "ok"
    short = found("disk", unbuilt, space=10 << 30)
    assert (short.state, "building the bundle takes up to 12" in short.seen) == ("warning", True)
    assert found("disk", context, space=10 << 30).state == "ok"


def test_a_lab_that_was_made_has_its_memory_and_disk(context: Context) -> None:
    record.write(context.folder, record.Record(context.lab, isolated=False))

    assert found("disk", context, space=0).state == "not relevant"
    assert found("memory", context, files={"/proc/meminfo": text("meminfo.txt")}).state == "not relevant"


@pytest.mark.parametrize("kind", ["overlay", "9p", "nfs4"])
def test_an_isolated_lab_needs_a_disk_below_its_state(context: Context, kind: str) -> None:
    isolated = replace(context, isolated=True)

    finding = found("filesystem", isolated, files=_mounts("/ ext4", f"{context.folder.parent} {kind}"))

    assert (finding.state, kind in finding.seen, "XDG_STATE_HOME" in finding.fix) == ("broken", True, True)
    assert found("filesystem", isolated, files=_mounts("/ overlay", f"{context.folder} xfs")).state == "ok"
