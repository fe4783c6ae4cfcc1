"""How names are found, proxies, and registries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import lab
from recorded_machine import found

from labctl import hosts, record, sudo
from labctl.context import Context

NSSWITCH = "/etc/nsswitch.conf"
BLOCK = "# BEGIN labctl demo\n192.168.56.100 my-app.local\n# END labctl demo\n"
PIP = {"/etc/pip.conf": "[global]\nindex-url = https://me:secret@pip.example/simple\n"}
APT = "apt-get indextargets --format $(SITE)"
GO = "go env GOPROXY"


def _nsswitch(line: str) -> dict[str, Any]:
    return {"files": {NSSWITCH: f"passwd: files\n{line}\nnetworks: files\n"}}


@pytest.mark.parametrize(
    ("identity", "values", "differences", "state", "seen", "fix"),
    [
        ("name-order", {}, _nsswitch("hosts: files dns"), "ok", "files dns", ""),
        (
            "name-order",
            {},
            _nsswitch("hosts:  files mdns4_minimal [NOTFOUND=return] dns # as it was"),
            "ok",
            "mdns4",
            "",
        ),
        # systemd's own order: its resolver reads the hosts file itself.
        ("name-order", {}, _nsswitch("hosts: mymachines resolve [!UNAVAIL=return] files myhostname dns"), "ok", "", ""),
        ("name-order", {}, _nsswitch("hosts: dns files"), "broken", "dns comes before the hosts file", "`files` first"),
        (
            "name-order",
            {},
            _nsswitch("hosts: mdns4_minimal [NOTFOUND=return] files dns"),
            "broken",
            "mdns4_minimal comes",
            "",
        ),
        ("name-order", {}, _nsswitch("hosts: dns"), "broken", "the hosts file is never asked", "`files` first"),
        ("name-order", {}, _nsswitch("hosts: files\nhosts: dns"), "broken", "the hosts file is never asked", ""),
        ("name-order", {}, _nsswitch("hosts: dns\nhosts: files"), "ok", "files", ""),
        ("name-order", {}, {"platform": "darwin"}, "ok", "asks the hosts file first", ""),
        ("local-names", {}, {}, "ok", "my-app.local", ""),
        ("local-names", {}, {"platform": "darwin"}, "warning", "waits 5 s", "my-app.test"),
        ("local-names", {"apps": [{"name": "a", "hostname": "a.test"}]}, {"platform": "darwin"}, "ok", "no name", ""),
        ("proxy", {}, {}, "ok", "no proxy is set", ""),
        (
            "proxy",
            {},
            {"environment": {"HTTPS_PROXY": "http://me:secret@proxy.example:3128"}},
            "warning",
            "HTTPS_PROXY set; NO_PROXY of your own shell lacks 192.168.56.0/24,my-app.local",
            'export NO_PROXY="${NO_PROXY:+$NO_PROXY,}192.168.56.0/24,my-app.local"',
        ),
        (
            "proxy",
            {},
            {"environment": {"http_proxy": "http://proxy.example", "no_proxy": "localhost, .local"}},
            "warning",
            "HTTP_PROXY set; NO_PROXY of your own shell lacks 192.168.56.0/24",
            "192.168.56.0/24",
        ),
        (
            "proxy",
            {},
            {"environment": {"http_proxy": "p", "NO_PROXY": "192.168.0.0/16,local"}},
            "ok",
            "covers the lab",
            "",
        ),
        ("proxy", {}, {"environment": {"all_proxy": "p", "NO_PROXY": "*"}}, "ok", "covers the lab", ""),
        (
            "proxy",
            {},
            {"environment": {"http_proxy": "p", "NO_PROXY": "*.local,fe80::/10,10.0.0.0/99"}},
            "warning",
            "",
            "",
        ),
    ],
)
def test_what_is_seen_of_names(
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
    assert "secret" not in f"{finding.seen}{finding.fix}"


@pytest.mark.parametrize(
    ("identity", "content", "state", "seen"),
    [
        ("hosts-file", "127.0.0.1 localhost\n", "ok", "can be written"),
        ("hosts-block", "127.0.0.1 localhost\n", "ok", "has no lines of demo"),
        ("hosts-block", BLOCK, "warning", "192.168.56.100 my-app.local"),
        ("hosts-block", "# BEGIN labctl demo\n192.168.56.100 my-app.local\n", "broken", "line 1: damaged marker"),
        ("hosts-block", f"{BLOCK}# END labctl other\n", "broken", "line 4: damaged marker"),
        ("hosts-shadows", BLOCK, "ok", "my-app.local"),
        ("hosts-shadows", f"127.0.0.1 localhost\n{BLOCK}", "ok", "my-app.local"),
        ("hosts-shadows", f"{BLOCK}# 127.0.0.1 my-app.local\n127.0.0.1 my-app.local.net\n", "ok", "my-app.local"),
        (
            "hosts-shadows",
            f"127.0.0.1\tlocalhost My-App.local # old\n{BLOCK}",
            "broken",
            "line 1 gives my-app.local the address 127.0.0.1",
        ),
        (
            "hosts-shadows",
            f"{BLOCK}10.0.0.9 x my-app.local\n",
            "broken",
            "line 4 gives my-app.local the address 10.0.0.9",
        ),
        ("hosts-shadows", BLOCK.replace("demo", "other"), "ok", "my-app.local"),
        ("hosts-shadows", "192.168.56.100 my-app.local\n", "ok", "my-app.local"),
        ("hosts-shadows", "::1 my-app.local\n", "broken", "line 1 gives my-app.local the address ::1"),
        ("hosts-other-labs", BLOCK, "ok", "no other lab"),
        ("hosts-other-labs", "10.0.0.9 my-app.local\n", "ok", "no other lab"),
        ("hosts-other-labs", BLOCK.replace("demo", "other").replace("my-app", "shop"), "ok", "no other lab"),
        (
            "hosts-other-labs",
            BLOCK.replace("demo", "other") + BLOCK,
            "broken",
            "line 2: lab other has my-app.local",
        ),
    ],
)
def test_what_is_seen_of_the_hosts_file(
    context: Context, hosts_file: Path, identity: str, content: str, state: str, seen: str
) -> None:
    hosts_file.write_text(content)
    finding = found(identity, context)

    assert (finding.state, seen in finding.seen) == (state, True), finding
    assert found(identity, replace(context, isolated=True)).state == "not relevant"
    assert hosts_file.read_text() == content


@pytest.mark.parametrize(
    ("differences", "state", "seen"),
    [
        ({}, "ok", "can be written"),
        ({"code": 0}, "ok", "through sudo"),
        ({"code": 1}, "warning", "a password is required"),
        ({"absent": {"sudo"}}, "warning", "there is no sudo"),
    ],
    ids=["writable", "sudo asks nothing", "sudo asks", "no sudo"],
)
def test_a_hosts_file_may_be_written_through_sudo_or_left_to_the_user(
    context: Context, hosts_file: Path, differences: dict[str, Any], state: str, seen: str
) -> None:
    machine = dict(differences)
    if machine:
        line = sudo.without_question(hosts.root_command("check", hosts_file, hosts.Edit("demo")))
        said = ("sudo: a password is required\n", machine.pop("code", 0))
        machine |= {"readonly": {str(hosts_file)}, "said": {" ".join(line): said}}

    finding = found("hosts-file", context, **machine)

    assert (finding.state, seen in finding.seen) == (state, True)


def test_the_block_of_a_lab_that_is_there_is_as_it_should_be(context: Context, hosts_file: Path) -> None:
    hosts_file.write_text(BLOCK)
    record.write(context.folder, record.Record(context.lab, isolated=False))

    finding = found("hosts-block", context)

    assert (finding.state, "192.168.56.100 my-app.local" in finding.seen) == ("ok", True)


def test_a_hosts_file_that_cannot_be_used_is_told_of_once(context: Context, hosts_file: Path) -> None:
    hosts_file.unlink()

    missing = found("hosts-file", context)
    assert (missing.state, str(hosts_file) in missing.seen) == ("broken", True)
    assert found("hosts-block", context).state == "not relevant"


def test_registries_are_those_that_the_tools_are_set_up_for(context: Context) -> None:
    said = {
        GO: ("https://me:secret@go.example/proxy,direct\n", 0),
        APT: "apt-indextargets.txt",
    }
    unbuilt = replace(context, bundle_folder=None)
    well = found("registries", unbuilt, said=said, files=PIP)
    silent = found(
        "registries", unbuilt, said=said, files=PIP, silent={"https://me:secret@pip.example/simple": "timed out"}
    )

    assert well.seen == (
        "they answer: Go modules at go.example, Python packages at pip.example, Debian packages at deb.example"
    )
    assert (silent.state, silent.seen) == ("warning", "Python packages at pip.example does not answer: timed out")
    assert "--bundle DIR" in silent.fix


def test_registries_are_not_asked_where_there_is_a_bundle_or_nobody_names_one(context: Context) -> None:
    silent = {GO: ("off\n", 0), APT: ("", 0)}
    none = {"PIP_NO_INDEX": "1", "GOPROXY": "off"}

    assert "the bundle is there" in found("registries", context).seen
    unbuilt = replace(context, bundle_folder=None)
    assert found("registries", unbuilt, said=silent, environment=none).state == "not relevant"
    assert found("registries", unbuilt, absent={"go", "apt-get"}, environment=none).state == "not relevant"
    without_go = found("registries", unbuilt, absent={"go", "apt-get"}).seen
    assert without_go == "they answer: Go modules at proxy.golang.org, Python packages at pypi.org"


def test_the_users_own_choice_of_a_package_index_is_asked(context: Context) -> None:
    environment = {"PIP_INDEX_URL": "https://mine.example/simple"}

    assert "mine.example" in found("registries", replace(context, bundle_folder=None), environment=environment).seen
