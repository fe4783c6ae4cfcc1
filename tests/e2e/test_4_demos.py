"""Every demo that labctl ships, played in a real lab, which it leaves unchanged."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from .reallab import Completed, RealLab, eventually

pytestmark = pytest.mark.e2e

DEMOS = {"traffic-flow": 6, "pool": 5, "scale": 3, "two-apps": 3, "failover": 4}
"""Each with the number of its scenes."""
DEMO_SECONDS = 240.0
Recorded = Callable[[str], tuple[dict[str, Any], Path]]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
FAILING = """
about: Expects what is not so.
scenes:
  - title: Everything is as it should be
    expect: [{http: $url}]
  - title: A teapot
    expect: [{http: $url, status: 418, within: 1}]
  - title: Nobody gets here
    run: [labctl status]
cleanup:
  - kubectl get nodes
"""


@pytest.fixture(scope="module")
def recorded(lab: RealLab, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Return a function that plays and records a demo, once for all tests."""
    folder = tmp_path_factory.mktemp("demos")

    @cache
    def play(name: str) -> tuple[dict[str, Any], Path]:
        cast = folder / f"{name}.cast"
        return _play(lab, name, "--record", str(cast)).document(), cast

    return play


def test_all_demos_are_listed(lab: RealLab) -> None:
    listed = lab.labctl("demo", "list", "-o", "json").document()["demos"]

    assert {demo["demo"] for demo in listed} == set(DEMOS)


@pytest.mark.parametrize("name", DEMOS)
def test_a_demo_completes_and_leaves_the_lab_unchanged(lab: RealLab, name: str, recorded: Recorded) -> None:
    before = lab.labctl("app", "list", "-o", "json").document()
    performance, cast = recorded(name)

    assert (performance["demo"], performance["ok"], len(performance["scenes"])) == (name, True, DEMOS[name])
    assert all(scene["ok"] and scene["expectations"] for scene in performance["scenes"])
    _wait_until_complete(lab)
    assert not lab.up().result()["changed"]
    assert lab.labctl("app", "list", "-o", "json").document() == before
    _check_recording(cast, performance)
    report = cast.with_suffix(".md").read_text(encoding="utf-8")
    assert all(expected["measured"] in report for scene in performance["scenes"] for expected in scene["expectations"])
    assert all(" ".join(scene["say"].split()) in report for scene in performance["scenes"])


def test_a_demo_that_does_not_fit_the_lab_is_an_error_and_runs_nothing(lab: RealLab, tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    file.write_text(
        "about: Large.\nneeds: {workers: 3, apps: 2}\nscenes: [{title: x, run: [kubectl delete deployment $app]}]\n"
    )
    error = _play(lab, str(file), code=2).document()["error"]

    assert error["id"] == "demo-does-not-fit"
    assert "up --workers 3" in error["hint"]
    assert "app add app-1" in error["hint"]
    assert lab.objects("deployment", "my-app")["status"]["readyReplicas"] == 2


def test_asciinema_plays_a_recording(lab: RealLab, recorded: Recorded) -> None:
    _, cast = recorded("traffic-flow")
    output = lab.inside(str(Path(sys.executable).with_name("asciinema")), "cat", str(cast))

    assert "A name becomes an address" in output


def test_a_failed_expectation_fails_the_demo(lab: RealLab, tmp_path: Path) -> None:
    file = tmp_path / "teapot.yaml"
    file.write_text(FAILING, encoding="utf-8")
    performance = _play(lab, str(file), code=8).document()

    assert [scene["ok"] for scene in performance["scenes"]] == [True, False]
    assert "418" in performance["error"]["message"]
    assert [command["command"] for command in performance["cleanup"]] == ["kubectl get nodes"]


def test_the_failover_demo_shows_the_gap_second_by_second(recorded: Recorded) -> None:
    performance, _ = recorded("failover")
    scene, after = _scene(performance, "loses its power"), _scene(performance, "The site is there")

    assert scene["load"]["failures"] > 0
    assert scene["load"]["gap"] > 0.5
    assert min(scene["load"]["per_second"]) < median(scene["load"]["per_second"])
    assert f"{scene['load']['gap']:.1f} s" in after["say"]
    assert f"{scene['load']['answers']} good answers" in after["say"]


def _check_recording(cast: Path, performance: dict[str, Any]) -> None:
    """Check that the recording shows every scene, with time to read it, without wrapped lines or the clean-up."""
    header, *events = map(json.loads, cast.read_text(encoding="utf-8").splitlines())
    output = COLOUR.sub("", "".join(text for *_, text in events)).split("\r\n")
    assert header["version"] == 2
    assert max(map(len, output)) <= header["width"]
    assert events[-1][0] > sum(len(scene["say"]) for scene in performance["scenes"]) / 20
    assert all(scene["title"] in " ".join(output) for scene in performance["scenes"])
    assert "Cleaning up" not in output


def _wait_until_complete(lab: RealLab) -> None:
    """Wait until the lab is complete: a node that came back may need some seconds until it has all its pods."""
    eventually(lambda: lab.labctl("status", "-o", "json", code=None).document(), lambda status: status["ok"])


def _play(lab: RealLab, *words: str, code: int = 0) -> Completed:
    return lab.labctl("-o", "json", "demo", "run", *words, code=code, seconds=DEMO_SECONDS)


def _scene(performance: dict[str, Any], title: str) -> dict[str, Any]:
    [scene] = [scene for scene in performance["scenes"] if title in scene["title"]]
    typed: dict[str, Any] = scene
    return typed
