"""The load client in real threads: when it starts and stops, and requests that hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from labctl.host import http_load, wait
from labctl.host.http_load import Load
from labctl.host.http_probe import Answer
from labctl.host.wait import Pending
from labctl.model.errors import NotReadyError

GOOD, BAD = Answer(200, "my-app-1"), Answer(None, failure="no answer: timed out")
HOST = "my-app.local"


@dataclass
class Site:
    """A site with a prescribed answer; on request, its requests hang until `free` is set."""

    answer: Answer = GOOD
    hangs: bool = False
    hanging: threading.Event = field(default_factory=threading.Event)
    free: threading.Event = field(default_factory=threading.Event)
    asked: int = 0

    def get(self, hostname: str) -> Answer:
        assert hostname == HOST
        self.asked += 1
        if self.hangs:
            self.hanging.set()
            self.free.wait(10)
            return BAD
        return self.answer


@dataclass
class Clock:
    """A clock that advances by sleeping, four times as fast as the machine's.

    A sleep ends only when `is_there` is true, because a busy machine may start threads late.
    """

    is_there: Callable[[], bool]
    now: float = 0.0

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / 4)
        wait.until(lambda: self.is_there() or Pending("not yet"), what="the client", timeout=10, interval=seconds)
        self.now += seconds


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_load, "EVERY_SECONDS", 0.002)
    monkeypatch.setattr(http_load, "LOOK_SECONDS", 0.002)


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.free.set()


def test_it_begins_and_ends_with_a_good_answer(site: Site) -> None:
    clock = Clock(lambda: len(asking._samples) > 2)
    asking = Load(HOST, site.get, lambda: clock.now, clock.sleep)
    asking.begin(0.02)
    asking.finish(0.02)
    seen = asking.stop()

    assert seen["answers"] >= 3
    assert seen["failures"] == 0
    assert seen["seconds"] >= 0.04
    assert not [each.name for each in threading.enumerate() if each.name.startswith("load")]


def test_it_begins_when_all_has_been_good_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_load, "WORKERS", 1)  # so that answers arrive in the order of the requests
    answers = iter([BAD, GOOD, BAD])

    def ask(_hostname: str) -> Answer:
        clock.now += 0.001
        return next(answers, GOOD)

    clock = Clock(lambda: len(asking._samples) > 3)
    asking = Load(HOST, ask, lambda: clock.now, clock.sleep)
    asking.begin(0.02)
    asking.finish(0)
    seen = asking.stop()

    assert seen["failures"] == 0


def test_a_site_that_never_answers_ends_the_waiting(site: Site) -> None:
    site.answer = BAD
    clock = Clock(lambda: bool(asking._samples))
    asking = Load(HOST, site.get, lambda: clock.now, clock.sleep)

    asking._patience = 0.08
    with pytest.raises(NotReadyError, match=r"waiting for http://my-app\.local: no answer: timed out"):
        asking.begin(0)
    seen = asking.stop()

    assert seen["answers"] == 0


def test_a_site_that_does_not_come_back_ends_the_waiting_and_was_away_until_then(site: Site) -> None:
    clock = Clock(lambda: bool(asking._samples))
    asking = Load(HOST, site.get, lambda: clock.now, clock.sleep)
    asking.begin(0)
    site.answer = Answer(503)
    clock.is_there = lambda: not asking._samples[-1].answer.is_good
    clock.sleep(0.002)

    asking._patience = 0.08
    with pytest.raises(NotReadyError, match="HTTP 503"):
        asking.finish(0)
    seen = asking.stop()

    assert seen["failures"] > 0
    assert seen["gap"] >= 0.05


def test_requests_that_hang_do_not_hide_that_the_site_answers_again(site: Site) -> None:
    asking = Load(HOST, site.get)
    asking.begin(0)
    site.hangs = True
    assert site.hanging.wait(10)
    site.hangs = False
    asking.finish(0)  # some requests still hang
    site.free.set()
    seen = asking.stop()

    assert seen["answers"] >= 2


def test_more_requests_than_there_are_workers_do_not_queue(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_load, "WORKERS", 2)
    site.hangs = True
    clock = Clock(lambda: site.asked >= 2)
    asking = Load(HOST, site.get, lambda: clock.now, clock.sleep)
    asking._patience = 0.08
    with pytest.raises(NotReadyError, match="no answer yet"):
        asking.begin(0)
    asked = site.asked
    site.hangs = False
    site.free.set()
    clock.is_there = lambda: any(each.answer.is_good for each in asking._samples)
    asking.finish(0)
    asking.stop()

    assert asked == 2
