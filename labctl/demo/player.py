"""Playing one scene of a demo: its commands, its traffic, and what must hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from labctl.context import Context
from labctl.demo import commands, expect, live, placeholders
from labctl.demo.commands import Start
from labctl.demo.expect import ExpectationContext
from labctl.demo.load import Ask, Load
from labctl.demo.placeholders import Values, filled
from labctl.demo.script import Command, GapExpected, Scene, SecondsExpected
from labctl.demo.stage import Stage
from labctl.host import http_probe
from labctl.host.wait import until
from labctl.model.errors import BrokenError, NotReadyError
from labctl.model.reports import CommandReport, ExpectationReport, SceneReport

LIVE_SECONDS = 30.0
"""How long what a name stands for may be missing: an address moves, or a node boots."""
LOOK = "`labctl trace` and `labctl status` say what is wrong with the lab."


@dataclass(frozen=True, slots=True)
class DemoIO:
    """What a demo reaches the world through."""

    environment: Mapping[str, str]
    """What its commands find in their environment."""
    start: Start = commands.start
    ask: Ask = http_probe.get
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Player:
    """Plays scenes of a demo in a lab. What fails is BrokenError `demo-failed`; other errors are Cluster's."""

    demo: str
    context: Context
    stage: Stage
    doors: DemoIO
    fixed: Values
    folder: Path
    """Where commands run: what they write there is the demo's own."""

    def values(self, names: frozenset[str], where: str) -> Values:
        """What names stand for now; those that are asked for were waited for."""
        if not (wanted := names & placeholders.LIVE):
            return self.fixed
        with self._in_time(where):
            found = until(
                lambda: live.values(self.context, wanted),
                what=f"what {' and '.join(f'${name}' for name in sorted(wanted))} stands for",
                timeout=LIVE_SECONDS,
                clock=self.doors.clock,
                sleep=self.doors.sleep,
            )
        return {**self.fixed, **found}

    def play(self, scene: Scene, number: int, count: int, reports: list[SceneReport]) -> None:
        """Every command of the scene ended as it must, and what it expects was so; the last report tells more."""
        with self.stage.hidden(hide=scene.hide):
            self._play(scene, number, count, reports)

    def _play(self, scene: Scene, number: int, count: int, reports: list[SceneReport]) -> None:
        values = {**self.values(_names(scene), f"scene {number}"), **_measured(reports)}
        title = filled(scene.title, values)
        say = None if scene.say is None else filled(scene.say, values)
        self.stage.scene(number, count, title, say)
        report = _empty(title, say)
        reports.append(report)
        began = self.doors.clock()
        try:
            with self._in_time(f"scene {number}, {title}") as where, self._traffic(scene, values, report):
                for command in scene.run:
                    self.command(command, values, report["commands"], where)
                self._look(scene, values, report, where)
            self._look_at_the_gap(scene, report, where)
            report["ok"] = True
        finally:
            report["seconds"] = round(self.doors.clock() - began, 2)

    def command(self, command: Command, values: Values, reports: list[CommandReport], where: str) -> None:
        """The command ended with the exit code that it must have; the last report tells more."""
        with self.stage.hidden(hide=command.hide):
            self._command(command, values, reports, where)

    def _command(self, command: Command, values: Values, reports: list[CommandReport], where: str) -> None:
        line = commands.line(command, values, self.folder)
        self.stage.command(line.shown, line.input)
        report: CommandReport = {"command": line.shown, "code": None, "seconds": 0.0}
        reports.append(report)
        began = self.doors.clock()
        try:
            finished = self.doors.start(line, {**self.doors.environment, **self.stage.environment}, self.stage.output)
            report["code"] = finished.code
        finally:
            report["seconds"] = round(self.doors.clock() - began, 2)
        if finished.code != line.code:
            what = f"`{line.shown}` ended with exit code {finished.code}, expected was {line.code}"
            raise self._failed(where, what, finished.last_lines)

    def _look(self, scene: Scene, values: Values, report: SceneReport, where: str) -> None:
        eyes = ExpectationContext(self.context, values, self.doors.ask, self.doors.clock, self.doors.sleep)
        for expected in scene.expect:
            if isinstance(expected, SecondsExpected):
                taken = sum(each["seconds"] for each in report["commands"])
                self._judge(expect.seconds(expected, taken), report, where)
            elif not isinstance(expected, GapExpected):
                self._judge(expect.held(expected, eyes), report, where)

    def _look_at_the_gap(self, scene: Scene, report: SceneReport, where: str) -> None:
        for expected in scene.expect:
            if isinstance(expected, GapExpected) and report["load"] is not None:
                self._judge(expect.gap(expected, report["load"]), report, where)

    def _judge(self, result: ExpectationReport, report: SceneReport, where: str) -> None:
        report["expectations"].append(result)
        self.stage.expectation(result)
        if not result["ok"]:
            raise self._failed(where, f"expected: {result['text']}; measured: {result['measured']}")

    @contextmanager
    def _traffic(self, scene: Scene, values: Values, report: SceneReport) -> Iterator[None]:
        """Meanwhile a client may ask for a hostname; afterwards it does not, and its numbers are in the report."""
        if scene.load is None:
            yield
            return
        load = Load(filled(scene.load.hostname, values), self.doors.ask, self.doors.clock, self.doors.sleep)
        try:
            load.begin(scene.load.before)
            load.first_command = self.doors.clock() if scene.run else None
            yield
            load.finish(scene.load.after)
        finally:
            load.stop()
            report["load"] = seen = load.report()
            self.stage.load(seen)

    @contextmanager
    def _in_time(self, where: str) -> Iterator[str]:
        """What was waited for in vain meanwhile has failed the demo there."""
        try:
            yield where
        except NotReadyError as error:
            raise self._failed(where, error.message) from error

    def _failed(self, where: str, what: str, details: tuple[str, ...] = ()) -> BrokenError:
        return BrokenError(f"demo {self.demo}, {where}: {what}", id="demo-failed", hint=LOOK, details=details)


def _names(scene: Scene) -> frozenset[str]:
    """What the scene speaks of, and what must be known to tell whether it changed."""
    announcer = {"announcer"} if any(map(expect.needs_announcer, scene.expect)) else set()
    return placeholders.used(scene.model_dump()) | announcer


def _measured(reports: Sequence[SceneReport]) -> Values:
    """Return the figures of the last scene that had traffic, as names for the scenes after it."""
    loads = [report["load"] for report in reports if report["load"] is not None]
    return placeholders.measured(loads[-1]) if loads else {}


def _empty(title: str, say: str | None) -> SceneReport:
    return {"title": title, "say": say, "ok": False, "seconds": 0.0, "commands": [], "expectations": [], "load": None}
