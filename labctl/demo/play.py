"""Play a demo: check that the lab has what it needs, play scenes until one fails, and always clean up."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from labctl import trace
from labctl.context import Context
from labctl.demo import names
from labctl.demo.expect import Announcer, Expectation, ExpectationContext, Gap
from labctl.demo.names import Values, fill
from labctl.demo.script import Command, Scene, Script, Traffic
from labctl.host import http_probe, process
from labctl.host.http_load import Load
from labctl.host.http_probe import ProbeResult
from labctl.host.process import Finished
from labctl.host.wait import until
from labctl.model import errors, traffic
from labctl.model.demo_reports import CommandReport, DemoReport, ExpectationReport, LoadReport, SceneReport
from labctl.model.reports import error_report

LOOK = "`labctl trace` and `labctl status` show what is wrong with the lab."
OnLine = Callable[[str], None]


def start(words: Sequence[str], text: str | None, extra: Mapping[str, str], folder: Path, on_line: OnLine) -> Finished:
    """Run a command, and pass on each line that it prints: at once or, if it has an input, when it has exited.

    Raises ProviderError `tool-not-started`.
    """
    environment = {**os.environ, **extra}
    if text is None:
        return process.stream(words, on_line, env=environment, cwd=folder)
    finished = process.run(words, env=environment, cwd=folder, stdin=text.encode())
    for line in finished.out.splitlines() if finished.code == 0 else finished.last_lines:
        on_line(line)
    return finished


@dataclass(frozen=True, slots=True)
class DemoIO:
    """A demo's access to the outside: environment variables, commands, HTTP and time."""

    environment: Mapping[str, str]
    start: Callable[..., Finished] = start
    ask: Callable[[str], ProbeResult] = http_probe.get
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Stage(Protocol):
    """Shows a demo on a terminal, in a recording, or both."""

    def hidden(self, *, hide: bool) -> AbstractContextManager[None]:
        """Omit what the block shows from the recording if `hide` is set."""

    def wait_for_enter(self) -> None:
        """Wait for the user to press Enter."""

    def heading(self, title: str, text: str | None = None) -> None:
        """Show a heading and the text below it."""

    def command(self, line: str, text: str | None) -> None:
        """Show a command line, and its standard input if it has one."""

    def output(self, line: str) -> None:
        """Show a line of a command's output."""

    def expectation(self, report: ExpectationReport) -> None:
        """Show what was expected and what was measured."""

    def load(self, load: LoadReport) -> None:
        """Show the figures of a scene's traffic."""


def require(script: Script, context: Context) -> None:
    """Return if the lab has what the demo needs, and its bundle is present: demos run the bundle's kubectl.

    Raises MissingError `lab-not-running`, the errors of the bundle, or UsageError `demo-does-not-fit` with everything
    that is missing.
    """
    lab = context.lab
    if trace.no_engine(context) or not context.provider.running():
        raise errors.MissingError(
            f"the lab {lab.name} is not running: none of its nodes is",
            id="lab-not-running",
            hint=f"Resume the lab.\nlabctl --name {lab.name} resume",
        )
    _ = context.bundle
    if lacks := list(_lacks(script, context)):
        commands = dict.fromkeys(f"labctl --name {lab.name} {command}" for _, each in lacks for command in each)
        raise errors.UsageError(
            f"the demo {script.name} does not fit the lab {lab.name}" + "".join(f"\n  {what}" for what, _ in lacks),
            id="demo-does-not-fit",
            hint="Set the keys named above, if any, in labctl.yaml. Then run these commands.\n" + "\n".join(commands),
        )


def _lacks(script: Script, context: Context) -> Iterator[tuple[str, list[str]]]:
    """Yield what the lab lacks, and the commands that add it."""
    needs, lab, controller = script.demo.needs, context.lab, context.controller.name
    apps = max(needs.apps, int(bool(names.names_in(script.demo) & names.APP_NAMES)))
    taken = {app.name for app in lab.apps}
    free = [name for number in range(1, apps + 1) if (name := f"app-{number}") not in taken]
    replicas = lab.apps[0].replicas if lab.apps else needs.replicas
    size = int(lab.pool.last) - int(lab.pool.first) + 1
    rows = (
        ("workers", lab.workers, needs.workers, [f"up --workers {needs.workers}"]),
        ("apps", len(taken), apps, [f"app add {name}" for name in free[: apps - len(taken)]]),
        ("replicas of the first app, key `replicas`", replicas, needs.replicas, ["up"]),
        (f"addresses in {lab.pool}, key `pool`", size, needs.addresses, ["up"]),
    )
    yield from ((f"{what}: {has}, needed: {wanted}", add) for what, has, wanted, add in rows if has < wanted)
    if needs.ingress not in {None, controller}:
        yield f"ingress controller: {controller}, needed: {needs.ingress}", [f"up --ingress {needs.ingress}"]


class Performance:
    """One run of a demo in the lab whose network this process is in: its report, and the error that ended it."""

    def __init__(self, script: Script, context: Context, io: DemoIO, stage: Stage) -> None:
        name, lab = script.name, context.lab.name
        self.report = DemoReport(version=1, demo=name, lab=lab, ok=True, seconds=0.0, scenes=[], cleanup=[], error=None)
        self.error: errors.LabError | None = None
        self._script, self._context, self._io, self._stage = script, context, io, stage
        self._folder = Path()
        self._where = "before its first scene"

    def run(self) -> None:
        """Play the scenes until one fails, and clean up; see `report` and `error`."""
        demo, report, values = self._script.demo, self.report, None
        # Commands run in a folder without a labctl.yaml, so that the demo uses the lab as it is.
        with tempfile.TemporaryDirectory(prefix="demo-", dir=self._context.folder) as folder:
            self._folder = Path(folder)
            try:
                values = self._values(names.names_in(*demo.cleanup))
                for number, scene in enumerate(demo.scenes, start=1):
                    if number > 1:
                        self._stage.wait_for_enter()
                    with self._stage.hidden(hide=scene.hide):
                        self._scene(scene, number)
            except (errors.LabError, KeyboardInterrupt) as error:
                self._note(error)
            finally:
                if values is not None and demo.cleanup:
                    self._clean_up(demo.cleanup, values)
        report["seconds"] = round(sum(each["seconds"] for each in (*report["scenes"], *report["cleanup"])), 2)
        if self.error:
            report["ok"], report["error"] = False, error_report(self.error)

    def _scene(self, scene: Scene, number: int) -> None:
        self._where = f"scene {number}"
        is_compared = any(isinstance(each, Announcer) and each.announcer == "changed" for each in scene.expect)
        values = self._values(names.names_in(scene) | ({"announcer"} if is_compared else set()))
        scene = scene.filled(values)
        title, say = scene.title, scene.say
        self._where += f", {title}"
        self._stage.heading(f"{number}/{len(self._script.demo.scenes)} {title}", say)
        report = SceneReport(title=title, say=say, ok=False, seconds=0, commands=[], expectations=[], load=None)
        self.report["scenes"].append(report)
        announcer, io = values.get("announcer", ""), self._io
        expectations = ExpectationContext(self._context, report, announcer, io.ask, io.clock, io.sleep)
        expected = [each.filled(values) for each in scene.expect]
        with self._timed(report):
            with self._traffic(scene, scene.load, values, report) if scene.load else nullcontext():
                for command in scene.run:
                    self._command(command, values, report["commands"])
                self._check([each for each in expected if not isinstance(each, Gap)], expectations)
            self._check([each for each in expected if isinstance(each, Gap)], expectations)
        report["ok"] = True

    def _values(self, wanted: frozenset[str]) -> Values:
        """Return the current values of the names; wait for those that are wanted. Raises NotReadyError."""
        io, look = self._io, partial(names.live_values, self._context, wanted)
        what = f"the value of {' and '.join(f'${name}' for name in sorted(wanted & names.LIVE))}"
        live = until(look, what=what, timeout=self._context.lab.limits.demo_names, clock=io.clock, sleep=io.sleep)
        loads = [scene["load"] for scene in self.report["scenes"] if scene["load"]]
        return {**names.lab_values(self._context.lab), **live, **(traffic.figures(loads[-1]) if loads else {})}

    def _command(self, command: Command, values: Values, reports: list[CommandReport]) -> None:
        program, *words = (fill(word, values) for word in shlex.split(command.command))
        ours = [sys.executable, "-P", "-m", "labctl", "--name", values["lab"]]
        line = command.filled(values)
        report: CommandReport = {"command": line.command, "code": None, "seconds": 0}
        reports.append(report)
        with self._stage.hidden(hide=command.hide), self._timed(report):
            self._stage.command(line.command, line.input)
            run = [*(ours if program == "labctl" else [program]), *words]
            finished = self._io.start(run, line.input, self._io.environment, self._folder, self._stage.output)
            report["code"] = finished.code
        if finished.code != command.code:
            what = f"`{line.command}` ended with exit code {finished.code}, expected was {command.code}"
            raise self._failed(what, finished.last_lines)

    def _check(self, expected: Sequence[Expectation], expectations: ExpectationContext) -> None:
        for each in expected:
            result = each.check(expectations)
            expectations.report["expectations"].append(result)
            self._stage.expectation(result)
            if not result["ok"]:
                raise self._failed(f"expected: {result['text']}; measured: {result['measured']}")

    @contextmanager
    def _traffic(self, scene: Scene, sent: Traffic, values: Values, report: SceneReport) -> Iterator[None]:
        """Send requests during the block, and add their figures to the report."""
        io, patience = self._io, self._context.lab.limits.http_good
        load = Load(fill(sent.hostname, values), io.ask, io.clock, io.sleep, patience)
        try:
            load.start(sent.before)
            load.first_command = io.clock() if scene.run else None
            yield
            load.finish(sent.after)
        finally:
            report["load"] = figures = load.stop()
            self._stage.load(figures)

    @contextmanager
    def _timed(self, report: SceneReport | CommandReport) -> Iterator[None]:
        began = self._io.clock()
        try:
            yield
        finally:
            report["seconds"] = round(self._io.clock() - began, 2)

    def _clean_up(self, commands: Sequence[Command], values: Values) -> None:
        """Run every command, even if one fails; Ctrl-C ends the clean-up."""
        self._where = "cleaning up"
        left = "The demo has cleaned up."
        with self._stage.hidden(hide=all(command.hide for command in commands)):
            self._stage.heading("Cleaning up")
        for command in commands:
            try:
                self._command(command, values, self.report["cleanup"])
            except (errors.LabError, KeyboardInterrupt) as error:
                left = "Something that the demo created may be left."
                self._note(error)
                if isinstance(error, KeyboardInterrupt):
                    break
        if self.error:
            self.error.hint = f"{self.error.hint} {left}".lstrip()

    def _note(self, error: errors.LabError | KeyboardInterrupt) -> None:
        """Add the error to earlier ones. An interruption decides the id and exit code, or else the first error."""
        if isinstance(error, errors.Terminated):
            error = errors.TerminatedError(self._at("terminated"), id="terminated")
        elif isinstance(error, KeyboardInterrupt):
            error = errors.InterruptedByUserError(self._at("interrupted"), id="interrupted")
        elif isinstance(error, errors.NotReadyError):
            error = self._failed(error.message)
        is_stop = isinstance(error, errors.TerminatedError | errors.InterruptedByUserError)
        first = error if self.error is None or is_stop else self.error
        message = "\n".join(each.message for each in (self.error, error) if each)
        self.error = type(first)(message, id=first.id, hint=first.hint, details=first.details)

    def _failed(self, what: str, details: tuple[str, ...] = ()) -> errors.BrokenError:
        return errors.BrokenError(self._at(what), id="demo-failed", hint=LOOK, details=details)

    def _at(self, what: str) -> str:
        return f"demo {self._script.name}, {self._where}: {what}"
