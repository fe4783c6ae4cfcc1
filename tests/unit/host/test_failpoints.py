from __future__ import annotations

import os
import signal

import pytest

from labctl.host import failpoints


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    noted: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *arguments: noted.append(arguments))
    return noted


def test_nothing_happens_where_no_point_is_named(deaths: list[tuple[int, int]]) -> None:
    failpoints.failpoint("boot.begin")

    assert deaths == []


def test_the_process_dies_the_nth_time_it_reaches_the_point(
    deaths: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failpoints, "_POINT", "apply")
    monkeypatch.setattr(failpoints, "_left", 2)

    for point in ("apply", "boot.begin"):
        failpoints.failpoint(point)
    assert deaths == []

    failpoints.failpoint("apply")
    assert deaths == [(os.getpid(), signal.SIGKILL)]
