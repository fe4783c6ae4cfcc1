"""Capabilities, kernel, memory and disk, from recorded files of the kernel."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recorded_machine import run_check, text

from labctl.config import saved_lab
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


def test_an_isolated_lab_needs_capabilities_to_create_interfaces(context: Context) -> None:
    files = {"/proc/self/status": text("status-container.txt")}
    finding = run_check("capabilities", replace(context, isolated=True), files=files)

    assert (finding.state, finding.observation) == ("broken", "root, without CAP_NET_ADMIN and CAP_SYS_ADMIN")
    assert run_check("capabilities", context, files=files).state == "ok"


def test_a_bundle_that_has_to_be_built_needs_more_disk(context: Context) -> None:
    unbuilt = replace(context, bundle_folder=None)

    assert run_check("disk", unbuilt).state == "ok"
    short = run_check("disk", unbuilt, space=10 << 30)
    assert (short.state, "building the bundle takes up to 12" in short.observation) == ("warning", True)
    assert run_check("disk", context, space=10 << 30).state == "ok"


def test_memory_and_disk_are_not_checked_for_an_existing_lab(context: Context) -> None:
    saved_lab.write(context.folder, saved_lab.SavedLab(context.lab, isolated=False))

    assert run_check("disk", context, space=0).state == "not relevant"
    assert run_check("memory", context, files={"/proc/meminfo": text("meminfo.txt")}).state == "not relevant"


@pytest.mark.parametrize("provider", ["docker", "libvirt"])
def test_additional_workers_need_memory_and_disk(context: Context, provider: str) -> None:
    saved = replace(context.lab, provider=provider)
    saved_lab.write(context.folder, saved_lab.SavedLab(saved, isolated=False))
    files = {"/proc/meminfo": text("meminfo.txt")}
    pool = "<pool type='dir'><name>default</name><available>{}</available><target><path>/pool</path></target></pool>"
    uri = "virsh -c qemu:///system"

    for workers, free, state in ((2, 6 << 30, "ok"), (4, 6 << 30, "broken"), (4, 9 << 30, "ok")):
        grown = replace(context, lab=replace(saved, workers=workers))
        assert run_check("memory", grown, files=files).state == (
            "ok" if workers == 2 or provider == "docker" else "broken"
        )
        if provider == "docker":
            assert run_check("disk", grown, space=free >> 1).state == state
            continue
        said = {f"{uri} pool-list --name": ("default\n", 0), f"{uri} pool-list --all --name": ("default\n", 0)}
        said[f"{uri} pool-dumpxml default"] = (pool.format(free), 0)
        assert run_check("libvirt-pool", grown, outputs=said).state == state


@pytest.mark.parametrize("kind", ["overlay", "9p", "nfs4"])
def test_an_isolated_lab_needs_its_state_on_a_supported_filesystem(context: Context, kind: str) -> None:
    isolated = replace(context, isolated=True)

    finding = run_check("filesystem", isolated, files=_mounts("/ ext4", f"{context.folder.parent} {kind}"))

    assert (finding.state, kind in finding.observation, "XDG_STATE_HOME" in finding.fix) == ("broken", True, True)
    assert run_check("filesystem", isolated, files=_mounts("/ overlay", f"{context.folder} xfs")).state == "ok"
