"""Leftovers of dead labs: all are found and removed, and saved labs are left alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeCluster, FakeProvider, lab, with_doors
from golden_files import Golden
from recorded_machine import Recorded, found

from labctl.bundle.build.build import recipe_id
from labctl.config import saved_lab
from labctl.context import Context
from labctl.doctor import leftovers
from labctl.host import lab_folder, locks, paths
from labctl.isolation.isolation import Isolation
from labctl.plans.lab_files import write_lab

RULES = {"iptables --wait -t nat -S": "iptables-nat.txt"}


@pytest.fixture
def recorded_demo(context: Context) -> Context:
    """The context of the saved lab demo."""
    saved_lab.write(context.folder, saved_lab.SavedLab(context.lab, isolated=True))
    return context


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the labs whose isolation was removed, and of the removed links."""
    names: list[str] = []
    monkeypatch.setattr(Isolation, "remove", lambda isolation: names.append(isolation.lab))
    monkeypatch.setattr(leftovers, "check", lambda line: names.append(line[-1]))
    return names


def _links(*names: str) -> dict[str, Any]:
    return {"ip -j address show": (json.dumps([{"ifname": name} for name in ("lo", *names)]), 0)}


def _link(name: str) -> str:
    return Isolation(name, lab().network, Path("/")).link


LEFT: dict[str, dict[str, Any]] = {
    "filter rules": {"said": {"iptables --wait -t filter -S": RULES["iptables --wait -t nat -S"]}},
    "nat rules": {"said": RULES},
    "a namespace": {"folders": {"/run/netns": ["labctl-demo", "labctl-ghost", "vpn"]}},
    "settings": {"folders": {"/etc/netns": ["labctl-demo", "labctl-ghost"]}},
    "a folder": {"folders": {"/run/labctl": ["demo", "ghost", "ip_forward"]}},
    "a link": {"said": _links(_link("demo"), "labctl00000000", "labctl0")},
}


@pytest.mark.parametrize("kind", LEFT)
def test_what_a_lab_on_no_record_left_is_found_and_what_a_lab_on_record_has_is_not(
    recorded_demo: Context, kind: str, golden: Golden
) -> None:
    finding = found("leftovers", recorded_demo, **LEFT[kind])

    assert (finding.state, "demo" in finding.seen) == ("warning", False)
    golden(finding.seen)
    assert "doctor --fix" in finding.fix


def test_a_clean_machine_has_nothing_to_tell(recorded_demo: Context) -> None:
    assert found("leftovers", recorded_demo).state == "ok"


def test_a_folder_without_a_record_is_a_leftover_if_it_has_an_engines_data(recorded_demo: Context) -> None:
    folders = {
        "gone": ["log", "log.1", "hosts.before", "lock"],
        "rendered": ["Vagrantfile", "kubeconfig", "pki", ".vagrant", "lock"],
        "ghost": ["log", "Vagrantfile", "engine"],
    }
    for name, files in folders.items():
        paths.state(name).mkdir()
        for file in files:
            (paths.state(name) / file).touch()

    seen = found("leftovers", recorded_demo).seen
    assert [name for name in folders if str(paths.state(name)) in seen] == ["ghost"]


def test_an_isolated_lab_is_known_wherever_its_record_is(recorded_demo: Context, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere" / "ghost"
    machine = {
        "folders": {"/run/labctl": ["ghost"], "/run/netns": ["labctl-ghost"]},
        "files": {"/run/labctl/ghost/state": str(folder)},
    }
    assert found("leftovers", recorded_demo, **machine).state == "warning"

    saved_lab.write(folder, saved_lab.SavedLab(lab(name="ghost"), isolated=True))

    assert found("leftovers", recorded_demo, **machine).state == "ok"


def test_whoever_is_not_root_cannot_tell_whose_isolated_labs_are(recorded_demo: Context) -> None:
    assert found("leftovers", recorded_demo, is_root=False, said=RULES).state == "ok"


def test_a_name_that_is_no_labs_is_nobodys_leftover(recorded_demo: Context, removed: list[str]) -> None:
    said = {"iptables --wait -t nat -S": ('-A POSTROUTING -m comment --comment "labctl:../../etc" -j MASQUERADE\n', 0)}
    machine = Recorded(said=said, folders={"/run/netns": ["labctl-..", "labctl-"]})

    leftovers.remove_leftovers(recorded_demo, machine)

    assert removed == []


def test_the_repair_removes_what_was_found_and_nothing_else(recorded_demo: Context, removed: list[str]) -> None:
    ghost = paths.state("ghost")
    (ghost / "engine" / "docker").mkdir(parents=True)
    for name in ("log", "kubeconfig"):
        (ghost / name).touch()
    machine = Recorded(
        said={**RULES, **_links(_link("demo"), _link("ghost"), "labctl00000000")},
        folders={"/run/netns": ["labctl-demo", "labctl-ghost", "labctl-spook"]},
    )

    leftovers.remove_leftovers(recorded_demo, machine)

    assert removed == ["ghost", "spook", "labctl00000000"]
    assert {path.name for path in ghost.iterdir()} <= {"log", "lock"}
    assert (recorded_demo.folder / lab_folder.RECORD).exists()


def test_a_rendered_folder_keeps_its_keys_beside_whatever_is_removed(
    recorded_demo: Context, removed: list[str]
) -> None:
    rendered = replace(recorded_demo, folder=paths.state("ghost"), lab=lab(name="ghost"))
    write_lab(with_doors(rendered, FakeProvider(), FakeCluster(), recorded_demo.bundle), rendered.folder)
    before = {path: path.read_bytes() for path in rendered.folder.rglob("*") if path.is_file()}
    assert found("leftovers", recorded_demo).state == "ok"
    machine = Recorded(folders={"/run/netns": ["labctl-ghost"]})

    leftovers.remove_leftovers(recorded_demo, machine)

    assert removed == ["ghost"]
    assert before
    assert {path: path.read_bytes() for path in before} == before


def test_a_lab_that_another_labctl_works_on_is_left_alone(recorded_demo: Context, removed: list[str]) -> None:
    ghost = paths.state("ghost")
    (ghost / "engine").mkdir(parents=True)

    with locks.alone(ghost / "lock", pytest.fail, timeout=0):
        leftovers.remove_leftovers(recorded_demo, Recorded(folders={"/run/netns": ["labctl-ghost"]}))

    assert removed == []
    assert (ghost / "engine").exists()


def test_builds_that_nobody_goes_on_with_are_found_and_removed(context: Context) -> None:
    bundles = context.cache / "bundles"
    own, other = bundles / f"{recipe_id()}.partial", bundles / "kubernetes-1.30.0-amd64-00000000.partial"
    finished = bundles / "kubernetes-1.30.0-amd64-00000000"
    for folder in (own / "bin", own / ".making-bin", other / "bin", finished):
        folder.mkdir(parents=True)

    finding = found("unfinished-bundles", context)
    assert (finding.state, finding.seen) == ("warning", f"an interrupted build left {other}, {own / '.making-bin'}")

    with locks.alone(bundles / f"{recipe_id()}.lock", pytest.fail, timeout=0):
        leftovers.remove_unfinished_bundles(context, Recorded())
    assert (own / ".making-bin").exists(), "a build works there"

    leftovers.remove_unfinished_bundles(context, Recorded())
    assert not other.exists()
    assert (own / "bin").exists()
    assert finished.exists()
    assert found("unfinished-bundles", context).state == "ok"


def test_a_cache_that_is_not_there_has_no_unfinished_bundles(context: Context, tmp_path: Path) -> None:
    assert found("unfinished-bundles", replace(context, cache=tmp_path / "none")).state == "ok"
