"""What is missing on this machine, and the command that brings it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from fakes import Watched

from labctl import preflight
from labctl.errors import LabError, MissingError
from labctl.process import Finished

HEADER = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"


class Packages:
    """Plays a machine with apt: what is there, and what was typed."""

    def __init__(self) -> None:
        self.there = {"apt-get", "docker", "ssh"}
        self.typed: list[str] = []
        self.update_code = 0
        self.installs = True

    def which(self, program: str) -> str | None:
        return f"/usr/bin/{program}" if program in self.there else None

    def run(self, line: Sequence[str], **_options: object) -> Finished:
        self.typed.append(" ".join(line))
        return Finished(self.update_code, "", ("no network",))

    def check(self, line: Sequence[str], **_options: object) -> str:
        self.typed.append(" ".join(line))
        if self.installs:
            self.there |= set(preflight.PACKAGES)
        return ""


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Packages:
    """Debian, and root."""
    fake = Packages()
    monkeypatch.setattr(shutil, "which", fake.which)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(preflight, "run", fake.run)
    monkeypatch.setattr(preflight, "check", fake.check)
    return fake


def test_nothing_is_done_where_nothing_is_missing(packages: Packages, watched: Watched) -> None:
    assert not preflight.require(["docker", "ssh"], may_install=True, say=watched.say)
    assert not packages.typed


def test_all_that_is_missing_is_named_with_the_command_that_brings_it(packages: Packages, watched: Watched) -> None:
    with pytest.raises(MissingError, match="not on this machine: vagrant, go") as raised:
        preflight.require(["vagrant", "docker", "go"], may_install=False, say=watched.say)

    assert raised.value.id == "tools-missing"
    assert "`apt-get install golang-go vagrant`" in raised.value.hint
    assert not packages.typed


def test_with_leave_root_installs_what_is_missing_and_says_so(packages: Packages, watched: Watched) -> None:
    assert preflight.require(["vagrant", "mmdebstrap"], may_install=True, say=watched.say)

    names = "debian-archive-keyring mmdebstrap vagrant"
    assert packages.typed == ["apt-get update -q", f"apt-get install -q -y --no-install-recommends {names}"]
    assert watched.texts == [f"installing {names}"]


def test_leave_is_no_use_without_root(packages: Packages, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(MissingError) as raised:
        preflight.require(["vagrant"], may_install=True, say=watched.say)

    assert "`sudo apt-get install vagrant`" in raised.value.hint
    assert not packages.typed


def test_a_program_that_its_package_did_not_bring_is_still_missing(packages: Packages, watched: Watched) -> None:
    packages.installs = False

    with pytest.raises(MissingError, match="vagrant"):
        preflight.require(["vagrant"], may_install=True, say=watched.say)


def test_every_program_that_a_lab_needs_has_a_package() -> None:
    programs = {*preflight.FOR_NODES, *preflight.FOR_ISOLATION, *preflight.FOR_BUILDING}

    assert programs == preflight.PACKAGES.keys()


@pytest.mark.parametrize("provider", ["libvirt", "virtualbox", "existing"])
def test_a_provider_that_cannot_be_booted_yet_is_refused(provider: str) -> None:
    with pytest.raises(MissingError, match=f"provider: {provider}") as raised:
        preflight.require_provider(provider)

    assert "labctl render" in raised.value.hint


@pytest.mark.parametrize(("platform", "user"), [("linux", 1000), ("darwin", 0)])
def test_only_root_on_linux_can_isolate(platform: str, user: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr(os, "geteuid", lambda: user)

    with pytest.raises(MissingError) as raised:
        preflight.require_isolation_rights()

    assert raised.value.id == "isolation-needs-root"


@pytest.mark.parametrize("answers", [True, False])
def test_an_engine_must_answer(monkeypatch: pytest.MonkeyPatch, *, answers: bool) -> None:
    monkeypatch.setattr(preflight, "engine_answers", lambda: answers)

    assert _error(preflight.require_engine) == ("" if answers else "no-engine")


@pytest.mark.parametrize(
    ("routes", "taken"),
    [
        ("", False),
        ("eth0 00000000 010011AC 0003 0 0 0 00000000 0 0 0\n", False),
        ("eth0 000011AC 00000000 0001 0 0 0 0000FFFF 0 0 0\n", False),
        ("vboxnet0 0038A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n", True),
        ("vpn 0000A8C0 00000000 0001 0 0 0 0000FFFF 0 0 0\n", True),
        ("vpn 6438A8C0 00000000 0005 0 0 0 FFFFFFFF 0 0 0\n", True),
    ],
)
def test_a_network_that_overlaps_a_route_of_this_machine_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, routes: str, *, taken: bool
) -> None:
    monkeypatch.setattr(preflight, "ROUTES", tmp_path / "route")
    (tmp_path / "route").write_text(HEADER + routes)

    identity = _error(lambda: preflight.require_free_network(IPv4Network("192.168.56.0/24")))

    assert identity == ("network-taken" if taken else "")


def test_a_hosts_file_that_this_user_may_not_write_is_refused(
    hosts_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _error(lambda: preflight.require_writable(hosts_file)) == ""

    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    assert _error(lambda: preflight.require_writable(hosts_file)) == "hosts-not-writable"


def _error(act: object) -> str:
    """The id of the error that it raises, if it does."""
    assert callable(act)
    try:
        act()
    except LabError as error:
        return error.id
    return ""
