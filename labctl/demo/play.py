"""Playing a demo: scene by scene until one fails, and then cleaning up, whatever happened."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from labctl.context import Context
from labctl.demo import needs, placeholders
from labctl.demo.cast import Cast
from labctl.demo.library import Script
from labctl.demo.placeholders import Values
from labctl.demo.player import DemoIO, Player
from labctl.demo.report import markdown, versions
from labctl.demo.stage import Stage
from labctl.model.errors import ExitCode, LabError, Terminated
from labctl.model.recording import Recording
from labctl.model.reports import DemoReport, error_report

SetStage = Callable[[Recording | None], Stage]
"""Returns what shows the demo, on a terminal and in the recording if there is one."""


class StoppedDemoError(LabError):
    """The user ended the demo."""

    exit_code = ExitCode.INTERRUPTED


class TerminatedDemoError(StoppedDemoError):
    """SIGTERM ended the demo."""

    exit_code = ExitCode.TERMINATED


@dataclass(frozen=True, slots=True)
class Ended:
    """A demo that was played, and how it ended."""

    report: DemoReport
    error: LabError | None = None

    @property
    def exit_code(self) -> ExitCode:
        """Return the exit code of the command."""
        return ExitCode.OK if self.error is None else self.error.exit_code


@dataclass
class Play:
    """One performance of a demo. Raises UsageError `no-app` where it is about an app and the lab has none."""

    script: Script
    context: Context
    stage: Stage
    doors: DemoIO
    folder: Path
    report: DemoReport = field(init=False)
    error: LabError | None = field(init=False, default=None)
    _player: Player = field(init=False)
    _at_first: Values | None = field(init=False, default=None)
    """What the cleanup's names stand for; none while that is not known, and nothing was done yet."""

    def __post_init__(self) -> None:
        name, lab = self.script.name, self.context.lab
        fixed = placeholders.fixed(lab, placeholders.used(self.script.demo.model_dump()))
        self._player = Player(name, self.context, self.stage, self.doors, fixed, self.folder)
        self.report = {
            "version": 1,
            "demo": name,
            "lab": lab.name,
            "ok": True,
            "seconds": 0.0,
            "scenes": [],
            "cleanup": [],
            "error": None,
        }

    def perform(self) -> None:
        """The scenes were played up to the first that failed, and all was cleaned up; see `report` and `error`."""
        began, waited = self.doors.clock(), 0.0
        demo = self.script.demo
        failed: list[LabError] = []
        unclean: list[LabError] = []
        try:
            names = placeholders.used([command.model_dump() for command in demo.cleanup])
            self._at_first = self._player.values(names, "before its first scene")
            for number, scene in enumerate(demo.scenes, start=1):
                waited += self._wait_for_the_user() if number > 1 else 0.0
                self._player.play(scene, number, len(demo.scenes), self.report["scenes"])
        except LabError as error:
            failed.append(error)
        except KeyboardInterrupt as stop:
            failed.append(_stopped(stop, f"the demo {self.script.name}"))
        finally:
            unclean += self._clean_up()
        self.report["seconds"] = round(self.doors.clock() - began - waited, 2)
        if failed or unclean:
            self._fail(_joined([*failed, *unclean], self._about_cleanup(unclean)))

    def _wait_for_the_user(self) -> float:
        return self.stage.wait_for_enter()

    def _clean_up(self) -> list[LabError]:
        """Every command for that was run, but for those after another Ctrl-C; returns what went wrong."""
        problems: list[LabError] = []
        commands = self.script.demo.cleanup
        if self._at_first is None or not commands:
            return problems
        with self.stage.hidden(hide=all(command.hide for command in commands)):
            self.stage.clean_up()
        try:
            for command in commands:
                try:
                    self._player.command(command, self._at_first, self.report["cleanup"], "cleaning up")
                except LabError as error:
                    problems.append(error)
        except KeyboardInterrupt as stop:
            problems.append(_stopped(stop, f"cleaning up after the demo {self.script.name}"))
        return problems

    def _about_cleanup(self, unclean: list[LabError]) -> str:
        if unclean:
            return "Something that the demo made may be left."
        return "The demo has cleaned up." if self.report["cleanup"] else ""

    def _fail(self, error: LabError) -> None:
        self.error = error
        self.report["ok"] = False
        self.report["error"] = error_report(error)
        self.stage.error(error)


def play(script: Script, context: Context, doors: DemoIO, set_stage: SetStage, record: Path | None) -> Ended:
    """Play the demo in the lab whose network this process is in; record it if `record` is given.

    Raises as `needs.require` does before anything is run or written, and UsageError `record-not-written`.
    """
    needs.require(script, context)
    cast = None if record is None else Cast(record, script.demo.about, doors.clock)
    stage = set_stage(cast)
    # The user's labctl.yaml is not the demo's to change or to go by: it is about the lab as it is.
    folder = tempfile.TemporaryDirectory(prefix="demo-", dir=context.folder)
    performance = Play(script, context, stage, doors, Path(folder.name))
    try:
        performance.perform()
    finally:
        folder.cleanup()
        stage.end()
        if cast is not None:
            when = datetime.now().astimezone()
            cast.save(markdown(script, performance.report, versions(context), when))
            stage.recorded([str(cast.path), str(cast.report_path)])
    return Ended(performance.report, performance.error)


def _stopped(stop: KeyboardInterrupt, what: str) -> StoppedDemoError:
    if isinstance(stop, Terminated):
        return TerminatedDemoError(f"{what} was terminated", id="terminated")
    return StoppedDemoError(f"{what} was interrupted", id="interrupted")


def _joined(problems: list[LabError], about_cleanup: str) -> LabError:
    """All that went wrong as one error, of the kind of the first; but an interruption is the user's will."""
    interrupted = [problem for problem in problems if isinstance(problem, StoppedDemoError)]
    first = (interrupted or problems)[0]
    return type(first)(
        "\n".join(problem.message for problem in problems),
        id=first.id,
        hint=" ".join(part for part in (first.hint, about_cleanup) if part),
        details=first.details,
    )
