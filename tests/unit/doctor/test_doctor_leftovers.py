"""Leftovers of dead labs: all are found and removed, and saved labs are left alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeCluster, FakeProvider, lab, with_fakes
from golden_files import Golden
from recorded_machine import Recorded, run_check

from labctl.bundle.build.build import recipe_id
from labctl.config import saved_lab
from labctl.context import Context
from labctl.doctor import leftovers
from labctl.host import lab_folder, locks, paths
from labctl.isolation.isolation import Isolation
from labctl.plans.lab_files import write_lab

RULES = {"iptables --wait -t nat -S": "iptables-nat.txt"}


@pytest.fixture
def saved_demo(context: Context) -> Context:
    """The context of the saved lab demo."""
    saved_lab.write(context.folder, saved_lab.SavedLab(context.lab, isolated=True))
    return context


@pytest.fixture
def removed_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the labs whose isolation was removed, and of the removed links."""
    names: list[str] = []
    monkeypatch.setattr(Isolation, "remove", lambda isolation: names.append(isolation.lab))
    monkeypatch.setattr(leftovers, "check", lambda line: names.append(line[-1]))
    return names


def _with_links(*names: str) -> dict[str, Any]:
    return {"ip -j address show": (json.dumps([{"ifname": name} for name in ("lo", *names)]), 0)}


def _link_of(name: str) -> str:
    return Isolation(name, lab().network, Path("/")).link


LEFTOVERS: dict[str, dict[str, Any]] = {
    "filter rules": {"outputs": {"iptables --wait -t filter -S": RULES["iptables --wait -t nat -S"]}},
    "nat rules": {"outputs": RULES},
    "a namespace": {"folders": {"/run/netns": ["labctl-demo", "labctl-ghost", "vpn"]}},
    "settings": {"folders": {"/etc/netns": ["labctl-demo", "labctl-ghost"]}},
    "a folder": {"folders": {"/run/labctl": ["demo", "ghost", "ip_forward"]}},
    "a link": {"outputs": _with_links(_link_of("demo"), "labctl00000000", "labctl0")},
}


@pytest.mark.parametrize("kind", LEFTOVERS)
def test_leftovers_of_unknown_labs_are_reported_and_resources_of_saved_labs_are_not(
    saved_demo: Context, kind: str, golden: Golden
) -> None:
    finding = run_check("leftovers", saved_demo, **LEFTOVERS[kind])

    assert (finding.state, "demo" in finding.observation) == ("warning", False)
    golden(finding.observation)
    assert "doctor --fix" in finding.fix


def test_a_clean_machine_has_no_leftovers(saved_demo: Context) -> None:
    assert run_check("leftovers", saved_demo).state == "ok"


def test_a_folder_without_a_record_is_a_leftover_only_if_it_has_engine_data(saved_demo: Context) -> None:
    folders = {
        "gone": ["log", "log.1", "hosts.before", "lock"],
        "rendered": ["Vagrantfile", "kubeconfig", "pki", ".vagrant", "lock"],
        "ghost": ["log", "Vagrantfile", "engine"],
    }
    for name, files in folders.items():
        paths.state(name).mkdir()
        for file in files:
            (paths.state(name) / file).touch()

    reported = run_check("leftovers", saved_demo).observation
    assert [name for name in folders if str(paths.state(name)) in reported] == ["ghost"]


def test_an_isolated_lab_with_a_record_in_another_folder_is_not_a_leftover(saved_demo: Context, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere" / "ghost"
    machine = {
        "folders": {"/run/labctl": ["ghost"], "/run/netns": ["labctl-ghost"]},
        "files": {"/run/labctl/ghost/state": str(folder)},
    }
    assert run_check("leftovers", saved_demo, **machine).state == "warning"

    saved_lab.write(folder, saved_lab.SavedLab(lab(name="ghost"), isolated=True))

    assert run_check("leftovers", saved_demo, **machine).state == "ok"


def test_leftovers_of_isolation_are_checked_only_as_root(saved_demo: Context) -> None:
    assert run_check("leftovers", saved_demo, is_root=False, outputs=RULES).state == "ok"


def test_an_invalid_lab_name_is_never_removed(saved_demo: Context, removed_names: list[str]) -> None:
    said = {"iptables --wait -t nat -S": ('-A POSTROUTING -m comment --comment "labctl:../../etc" -j MASQUERADE\n', 0)}
    machine = Recorded(outputs=said, folders={"/run/netns": ["labctl-..", "labctl-"]})

    leftovers.remove_leftovers(saved_demo, machine)

    assert removed_names == []


def test_the_repair_removes_only_the_leftovers(saved_demo: Context, removed_names: list[str]) -> None:
    ghost = paths.state("ghost")
    (ghost / "engine" / "docker").mkdir(parents=True)
    for name in ("log", "kubeconfig"):
        (ghost / name).touch()
    machine = Recorded(
        outputs={**RULES, **_with_links(_link_of("demo"), _link_of("ghost"), "labctl00000000")},
        folders={"/run/netns": ["labctl-demo", "labctl-ghost", "labctl-spook"]},
    )

    leftovers.remove_leftovers(saved_demo, machine)

    assert removed_names == ["ghost", "spook", "labctl00000000"]
    assert {path.name for path in ghost.iterdir()} <= {"log", "lock"}
    assert (saved_demo.folder / lab_folder.RECORD).exists()


def test_the_repair_keeps_the_files_of_a_rendered_folder(saved_demo: Context, removed_names: list[str]) -> None:
    rendered = replace(saved_demo, folder=paths.state("ghost"), lab=lab(name="ghost"))
    write_lab(with_fakes(rendered, FakeProvider(), FakeCluster(), saved_demo.bundle), rendered.folder)
    before = {path: path.read_bytes() for path in rendered.folder.rglob("*") if path.is_file()}
    assert run_check("leftovers", saved_demo).state == "ok"
    machine = Recorded(folders={"/run/netns": ["labctl-ghost"]})

    leftovers.remove_leftovers(saved_demo, machine)

    assert removed_names == ["ghost"]
    assert before
    assert {path: path.read_bytes() for path in before} == before


def test_a_locked_lab_is_not_removed(saved_demo: Context, removed_names: list[str]) -> None:
    ghost = paths.state("ghost")
    (ghost / "engine").mkdir(parents=True)

    with locks.exclusive(ghost / "lock", pytest.fail, timeout=0):
        leftovers.remove_leftovers(saved_demo, Recorded(folders={"/run/netns": ["labctl-ghost"]}))

    assert removed_names == []
    assert (ghost / "engine").exists()


def test_abandoned_builds_are_reported_and_removed(context: Context) -> None:
    bundles = context.cache / "bundles"
    own, other = bundles / f"{recipe_id()}.partial", bundles / "kubernetes-1.30.0-amd64-00000000.partial"
    finished = bundles / "kubernetes-1.30.0-amd64-00000000"
    for folder in (own / "bin", own / ".making-bin", other / "bin", finished):
        folder.mkdir(parents=True)

    finding = run_check("unfinished-bundles", context)
    assert (finding.state, finding.observation) == (
        "warning",
        f"an interrupted build left {other}, {own / '.making-bin'}",
    )

    with locks.exclusive(bundles / f"{recipe_id()}.lock", pytest.fail, timeout=0):
        leftovers.remove_unfinished_bundles(context, Recorded())
    assert (own / ".making-bin").exists(), "a build works there"

    leftovers.remove_unfinished_bundles(context, Recorded())
    assert not other.exists()
    assert (own / "bin").exists()
    assert finished.exists()
    assert run_check("unfinished-bundles", context).state == "ok"


def test_a_missing_cache_has_no_unfinished_bundles(context: Context, tmp_path: Path) -> None:
    assert run_check("unfinished-bundles", replace(context, cache=tmp_path / "none")).state == "ok"
