"""Failpoints, at which tests kill this process."""

from __future__ import annotations

import os
import signal

import pytest

from labctl.host import failpoints


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *arguments: calls.append(arguments))
    return calls


def test_nothing_happens_without_a_selected_failpoint(kills: list[tuple[int, int]]) -> None:
    failpoints.failpoint("boot.begin")

    assert kills == []


def test_the_process_is_killed_the_nth_time_it_reaches_the_failpoint(
    kills: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failpoints, "_POINT", "apply")
    monkeypatch.setattr(failpoints, "_left", 2)

    for point in ("apply", "boot.begin"):
        failpoints.failpoint(point)
    assert kills == []

    failpoints.failpoint("apply")
    assert kills == [(os.getpid(), signal.SIGKILL)]
