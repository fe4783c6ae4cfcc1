"""Steps run in order, are reported as events, and end at the first failure."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest
from fakes import Watched

from labctl.model.errors import MissingError, UsageError
from labctl.model.events import Event, Progress
from labctl.plans.plan import Outcome, Plan, Step, describe, execute, select

Acts = list[str]
"""The actions of a test's steps, in order."""


def _step(name: str, *, changed: bool = False, fails: BaseException | None = None) -> Step[Acts]:
    def run(acts: Acts, report: Progress) -> Outcome:
        report(f"doing {name}")
        acts.append(name)
        if fails:
            raise fails
        return Outcome(changed, f"{name} is done")

    return Step(name, f"does {name}", run)


def _clock() -> Callable[[], float]:
    seconds = count()
    return lambda: float(next(seconds))


THREE: Plan[Acts] = (_step("first"), _step("second", changed=True), _step("third"))


def test_steps_run_in_order_and_emit_events_from_start_to_end(watched: Watched) -> None:
    acts: Acts = []

    execute(THREE, acts, watched, _clock())

    assert acts == ["first", "second", "third"]
    assert watched.events == [
        event
        for name in acts
        for event in (
            Event(name, "started"),
            Event(name, "progress", f"doing {name}"),
            Event(name, "done", f"{name} is done", changed=name == "second", seconds=1.0),
        )
    ]


def test_a_run_is_changed_if_one_of_its_steps_changed_something(watched: Watched) -> None:
    assert execute(THREE, [], watched)
    assert not execute((_step("first"), _step("third")), [], watched)
    assert not execute((), [], watched)


def test_a_failure_is_reported_raised_and_ends_the_run(watched: Watched) -> None:
    acts: Acts = []
    error = MissingError("no disk", id="disk-missing")

    with pytest.raises(MissingError) as raised:
        execute((_step("first", fails=error), _step("second")), acts, watched, count().__next__)

    assert raised.value is error
    assert acts == ["first"]
    assert watched.events[-1] == Event("first", "failed", "no disk", seconds=1)


def test_a_bug_is_reported_as_a_failed_step(watched: Watched) -> None:
    with pytest.raises(ZeroDivisionError):
        execute((_step("first", fails=ZeroDivisionError("by nought")),), [], watched, count().__next__)

    assert watched.events[-1] == Event("first", "failed", "by nought", seconds=1)


def test_an_interrupt_is_reported_and_raised(watched: Watched) -> None:
    with pytest.raises(KeyboardInterrupt):
        execute((_step("first", fails=KeyboardInterrupt()), _step("second")), [], watched, count().__next__)

    assert watched.events[-1] == Event("first", "failed", "interrupted", seconds=1)


@pytest.mark.parametrize(
    ("first", "only", "names"),
    [
        (None, None, ["first", "second", "third"]),
        ("second", None, ["second", "third"]),
        (None, "second", ["second"]),
    ],
)
def test_a_plan_can_start_at_a_step_or_be_a_single_step(first: str | None, only: str | None, names: list[str]) -> None:
    assert [step.name for step in select(THREE, first, only)] == names


def test_a_first_step_and_a_single_step_exclude_each_other() -> None:
    with pytest.raises(UsageError) as raised:
        select(THREE, "second", "first")

    assert raised.value.id == "steps-contradict"


@pytest.mark.parametrize(("first", "only"), [("fourth", None), (None, "fourth"), ("first", "fourth")])
def test_an_unknown_step_is_refused_with_the_list_of_steps(first: str | None, only: str | None) -> None:
    with pytest.raises(UsageError, match="fourth") as raised:
        select(THREE, first, only)

    assert raised.value.id == "step-unknown"
    assert "first, second, third" in raised.value.hint


def test_repeated_progress_of_a_waiting_step_is_reported_once(watched: Watched) -> None:
    def run(_world: Acts, report: Progress) -> Outcome:
        for text in ("waiting", "waiting", "applying", "waiting"):
            report(text)
        return Outcome(changed=False)

    execute((Step("first", "waits", run),), [], watched)

    texts = [event.text for event in watched.events if event.state == "progress"]
    assert texts == ["waiting", "applying", "waiting"]


def test_a_plan_can_be_described_without_running() -> None:
    assert describe(THREE)[1] == {"step": "second", "does": "does second"}
