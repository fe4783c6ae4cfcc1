"""inotify limits by the size of the lab, and variables that select another Engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes import lab
from recorded_machine import run_check

from labctl.config import saved_lab
from labctl.context import Context


def _limits(instances: int, watches: int = 65536) -> dict[str, str]:
    folder = "/proc/sys/fs/inotify"
    return {f"{folder}/max_user_instances": f"{instances}\n", f"{folder}/max_user_watches": f"{watches}\n"}


@pytest.mark.parametrize(
    ("workers", "differences", "state", "fix"),
    [
        (1, {"files": _limits(128)}, "ok", ""),
        (1, {"files": _limits(128), "inotify": (88, 200)}, "ok", ""),
        (1, {"files": _limits(128), "inotify": (89, 200)}, "broken", "\nsysctl -w fs.inotify.max_user_instances=512\n"),
        (6, {"files": _limits(128)}, "broken", "| tee /etc/sysctl.d/60-labctl.conf"),
        (20, {"files": _limits(8192)}, "ok", ""),
        (20, {"files": _limits(128), "inotify": (300, 0)}, "broken", "max_user_instances=1174"),
        (1, {"files": _limits(128, 8192), "inotify": (30, 7786)}, "broken", "fs.inotify.max_user_watches=524288"),
        (1, {"files": _limits(128, 8192), "inotify": (30, 7785)}, "ok", ""),
        # Only root can count what root's programs hold.
        (1, {"files": _limits(128), "is_root": False}, "ok", ""),
        (5, {"files": _limits(128), "is_root": False}, "warning", "sudo sysctl -w"),
        (1, {}, "not relevant", ""),
    ],
)
def test_free_inotify_instances_and_watches_are_compared_with_the_size_of_the_lab(
    context: Context, workers: int, differences: dict[str, Any], state: str, fix: str
) -> None:
    finding = run_check("inotify", replace(context, lab=lab(workers=workers)), **differences)

    assert (finding.state, fix in finding.fix) == (state, True), finding
    assert bool(finding.fix) == (state in {"broken", "warning"})


def test_only_new_nodes_need_further_inotify_instances(context: Context) -> None:
    saved_lab.write(context.folder, saved_lab.SavedLab(context.lab, isolated=False))
    full = {"files": _limits(128), "inotify": (116, 500)}

    assert run_check("inotify", context, **full).state == "ok"
    assert run_check("inotify", replace(context, lab=lab(workers=2)), **full).state == "broken"


def test_the_inotify_check_is_not_relevant_for_virtual_machines(context: Context) -> None:
    machines = replace(context, lab=replace(context.lab, provider="libvirt"))

    assert run_check("inotify", machines, files=_limits(1)).state == "not relevant"


@pytest.mark.parametrize(
    ("environment", "isolated", "state", "expected"),
    [
        ({}, False, "ok", "no variable"),
        ({"DOCKER_HOST": ""}, False, "ok", "no variable"),
        ({"DOCKER_HOST": "unix:///run/user/1/docker.sock"}, False, "warning", "DOCKER_HOST"),
        ({"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/x"}, False, "warning", "DOCKER_CERT_PATH, DOCKER_TLS_VERIFY"),
        ({"DOCKER_CONTEXT": "build"}, True, "ok", "its own Engine: DOCKER_CONTEXT"),
        ({"VAGRANT_CWD": "/home/me/project"}, False, "ok", "ignored: VAGRANT_CWD"),
        ({"VAGRANT_DEFAULT_PROVIDER": "libvirt", "DOCKER_BUILDKIT": "0"}, False, "ok", "DOCKER_BUILDKIT, VAGRANT_"),
        (
            {"LABCTL_BUNDLE": "/mnt/bundle", "XDG_STATE_HOME": "/x"},
            False,
            "ok",
            "used by labctl: LABCTL_BUNDLE, XDG_STATE_HOME",
        ),
    ],
)
def test_relevant_environment_variables_are_named_without_their_values(
    context: Context, environment: dict[str, str], state: str, expected: str, *, isolated: bool
) -> None:
    finding = run_check("environment", replace(context, isolated=isolated), environment=environment)

    assert (finding.state, expected in finding.observation) == (state, True), finding
    assert not [value for value in environment.values() if value.startswith("/") and value in finding.observation]
