"""The load client in real threads: when it starts and stops, and requests that hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from labctl.host import http_load, wait
from labctl.host.http_load import Load
from labctl.host.http_probe import ProbeResult
from labctl.host.wait import Pending
from labctl.model.errors import NotReadyError

GOOD, BAD = ProbeResult(200, "my-app-1"), ProbeResult(None, failure="no answer: timed out")
HOST = "my-app.local"


@dataclass
class Site:
    """A site with a prescribed answer; on request, its requests hang until `free` is set."""

    answer: ProbeResult = GOOD
    hangs: bool = False
    hanging: threading.Event = field(default_factory=threading.Event)
    free: threading.Event = field(default_factory=threading.Event)
    request_count: int = 0

    def get(self, hostname: str) -> ProbeResult:
        assert hostname == HOST
        self.request_count += 1
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
    monkeypatch.setattr(http_load, "POLL_SECONDS", 0.002)


@pytest.fixture
def site() -> Iterator[Site]:
    fake = Site()
    yield fake
    fake.free.set()


def test_the_load_starts_and_stops_with_a_good_response(site: Site) -> None:
    clock = Clock(lambda: len(load._samples) > 2)
    load = Load(HOST, site.get, lambda: clock.now, clock.sleep)
    load.start(0.02)
    load.finish(0.02)
    report = load.stop()

    assert report["answers"] >= 3
    assert report["failures"] == 0
    assert report["seconds"] >= 0.04
    assert not [each.name for each in threading.enumerate() if each.name.startswith("load")]


def test_the_load_starts_after_a_period_without_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_load, "WORKERS", 1)  # so that answers arrive in the order of the requests
    answers = iter([BAD, GOOD, BAD])

    def respond(_hostname: str) -> ProbeResult:
        clock.now += 0.001
        return next(answers, GOOD)

    clock = Clock(lambda: len(load._samples) > 3)
    load = Load(HOST, respond, lambda: clock.now, clock.sleep)
    load.start(0.02)
    load.finish(0)
    report = load.stop()

    assert report["failures"] == 0


def test_a_site_that_never_responds_is_a_timeout(site: Site) -> None:
    site.answer = BAD
    clock = Clock(lambda: bool(load._samples))
    load = Load(HOST, site.get, lambda: clock.now, clock.sleep)

    load._patience = 0.08
    with pytest.raises(NotReadyError, match=r"waiting for http://my-app\.local: no answer: timed out"):
        load.start(0)
    report = load.stop()

    assert report["answers"] == 0


def test_a_site_that_does_not_recover_is_a_timeout_and_a_gap(site: Site) -> None:
    clock = Clock(lambda: bool(load._samples))
    load = Load(HOST, site.get, lambda: clock.now, clock.sleep)
    load.start(0)
    site.answer = ProbeResult(503)
    clock.is_there = lambda: not load._samples[-1].answer.is_good
    clock.sleep(0.002)

    load._patience = 0.08
    with pytest.raises(NotReadyError, match="HTTP 503"):
        load.finish(0)
    report = load.stop()

    assert report["failures"] > 0
    assert report["gap"] >= 0.05


def test_hanging_requests_do_not_hide_a_recovered_site(site: Site) -> None:
    load = Load(HOST, site.get)
    load.start(0)
    site.hangs = True
    assert site.hanging.wait(10)
    site.hangs = False
    load.finish(0)  # some requests still hang
    site.free.set()
    report = load.stop()

    assert report["answers"] >= 2


def test_requests_do_not_queue_while_all_workers_are_busy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_load, "WORKERS", 2)
    site.hangs = True
    clock = Clock(lambda: site.request_count >= 2)
    load = Load(HOST, site.get, lambda: clock.now, clock.sleep)
    load._patience = 0.08
    with pytest.raises(NotReadyError, match="no answer yet"):
        load.start(0)
    before = site.request_count
    site.hangs = False
    site.free.set()
    clock.is_there = lambda: any(each.answer.is_good for each in load._samples)
    load.finish(0)
    load.stop()

    assert before == 2
