"""Name resolution, proxies and registries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from golden_files import Golden
from recorded_machine import run_check

from labctl.config import saved_lab
from labctl.context import Context
from labctl.host import hosts_file as hosts
from labctl.host import sudo

NSSWITCH = "/etc/nsswitch.conf"
BLOCK = "# BEGIN labctl demo\n192.168.56.100 my-app.local\n# END labctl demo\n"
PIP = {"/etc/pip.conf": "[global]\nindex-url = https://me:secret@pip.example/simple\n"}
APT = "apt-get indextargets --format $(SITE)"
GO = "go env GOPROXY"


def _nsswitch(line: str) -> dict[str, Any]:
    return {"files": {NSSWITCH: f"passwd: files\n{line}\nnetworks: files\n"}}


@pytest.mark.parametrize(
    ("differences", "state"),
    [
        ({}, "ok"),
        ({"code": 0}, "ok"),
        ({"code": 1}, "warning"),
        ({"absent": {"sudo"}}, "warning"),
    ],
    ids=["writable", "sudo asks nothing", "sudo asks", "no sudo"],
)
def test_a_hosts_file_can_be_written_through_sudo_or_left_to_the_user(
    context: Context, hosts_file: Path, differences: dict[str, Any], state: str, golden: Golden
) -> None:
    machine = dict(differences)
    if machine:
        line = sudo.without_prompt(hosts.root_command("check", hosts_file, hosts.Edit("demo")))
        said = ("sudo: a password is required\n", machine.pop("code", 0))
        machine |= {"readonly": {str(hosts_file)}, "outputs": {" ".join(line): said}}

    finding = run_check("hosts-file", context, **machine)

    assert finding.state == state
    golden(finding.observation)


def test_the_hosts_block_of_an_existing_lab_is_ok(context: Context, hosts_file: Path) -> None:
    hosts_file.write_text(BLOCK)
    saved_lab.write(context.folder, saved_lab.SavedLab(context.lab, isolated=False))

    finding = run_check("hosts-block", context)

    assert (finding.state, "192.168.56.100 my-app.local" in finding.observation) == ("ok", True)


@pytest.mark.parametrize(
    ("hosts_content", "resolves", "state", "cause"),
    [
        ("", [], "warning", "hosts-entry-missing"),
        ("", ["10.0.0.9"], "warning", "hosts-entry-missing"),
        ("", ["192.168.56.100"], "ok", ""),
        ("192.168.56.100 my-app.local\n", [], "ok", ""),
        (BLOCK.replace("my-app", "another"), [], "warning", "hosts-entry-missing"),
    ],
)
def test_the_names_of_an_existing_lab_must_resolve(
    context: Context, hosts_file: Path, hosts_content: str, resolves: list[str], state: str, cause: str
) -> None:
    hosts_file.write_text(hosts_content)
    saved_lab.write(context.folder, saved_lab.SavedLab(context.lab, isolated=False))

    finding = run_check("hosts-block", context, resolves={"my-app.local": resolves})

    assert (finding.state, finding.cause) == (state, cause)


def test_an_unusable_hosts_file_is_reported_by_one_check(context: Context, hosts_file: Path) -> None:
    hosts_file.unlink()

    missing = run_check("hosts-file", context)
    assert (missing.state, str(hosts_file) in missing.observation) == ("broken", True)
    assert run_check("hosts-block", context).state == "not relevant"


def test_registries_are_read_from_the_settings_of_the_tools(context: Context, golden: Golden) -> None:
    said = {
        GO: ("https://me:secret@go.example/proxy,direct\n", 0),
        APT: "apt-indextargets.txt",
    }
    unbuilt = replace(context, bundle_folder=None)
    reachable = run_check("registries", unbuilt, outputs=said, files=PIP)
    unreachable = run_check(
        "registries", unbuilt, outputs=said, files=PIP, silent={"https://me:secret@pip.example/simple": "timed out"}
    )

    assert (reachable.state, unreachable.state) == ("ok", "warning")
    golden({"well": reachable.observation, "silent": unreachable.observation, "fix": unreachable.fix})


def test_registries_are_not_probed_if_a_bundle_exists_or_none_is_configured(context: Context, golden: Golden) -> None:
    unreachable = {GO: ("off\n", 0), APT: ("", 0)}
    none = {"PIP_NO_INDEX": "1", "GOPROXY": "off"}

    assert run_check("registries", context).state == "not relevant"
    unbuilt = replace(context, bundle_folder=None)
    assert run_check("registries", unbuilt, outputs=unreachable, environment=none).state == "not relevant"
    assert run_check("registries", unbuilt, absent={"go", "apt-get"}, environment=none).state == "not relevant"
    without_go = run_check("registries", unbuilt, absent={"go", "apt-get"}).observation
    golden({"with a bundle": run_check("registries", context).observation, "without go": without_go})


def test_the_users_package_index_is_probed(context: Context) -> None:
    environment = {"PIP_INDEX_URL": "https://mine.example/simple"}

    assert (
        "mine.example"
        in run_check("registries", replace(context, bundle_folder=None), environment=environment).observation
    )
