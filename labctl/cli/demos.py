"""`labctl demo`: list demos, play and record them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labctl import ui
from labctl.cli import complete
from labctl.model.errors import ExitCode

if TYPE_CHECKING:
    from labctl.context import Context
    from labctl.demo.play import Performance
    from labctl.demo.script import Script
    from labctl.model.options import GlobalOptions

app = typer.Typer(help="Play scripted demos in the lab, and record them.")


@app.command("list")
def list_demos(context: typer.Context) -> None:
    """Show labctl's demos and your own.

    Yours are in $XDG_CONFIG_HOME/labctl/demos.
    """
    from labctl.demo import script

    ui.document(script.list_demos(), context.obj.output, sys.stdout, ui.demos)


@app.command("run")
def run(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", autocompletion=complete.demos, help="Name of a demo, or a file: ./NAME.yaml."),
    ],
    record: Annotated[
        Path | None, typer.Option(metavar="FILE.cast", help="Record it for asciinema, with a report in FILE.md.")
    ] = None,
) -> None:
    """Play a demo, check what it expects, and clean up.

    On a terminal it waits between scenes. The exit code is 8 if an expectation does not hold.
    """
    from labctl.commands import labs
    from labctl.demo import script

    demo, lab = script.find(name), labs.entered(context.obj)
    performance = perform(demo, lab, labs.environment(lab), context.obj, record)
    ui.document(performance.report, context.obj.output, sys.stdout, ui.demo_result)
    raise typer.Exit(ExitCode.OK if performance.error is None else performance.error.exit_code)


def perform(
    script: Script, context: Context, environment: Mapping[str, str], options: GlobalOptions, record: Path | None
) -> Performance:
    """Play a demo in the lab whose network this process is in, show it, and record it if `record` is given.

    Raises the errors of `play.require` before anything is run or written, and UsageError `record-not-written`.
    """
    from labctl.demo import play, report
    from labctl.host import http_probe

    play.require(script, context)
    cast = None if record is None else ui.Cast(record, script.demo.about)
    stage = ui.stage(options.output, options.verbosity, cast)
    io = play.DemoIO({**environment, **stage.environment}, ask=partial(http_probe.get_within, context.lab))
    performance = play.Performance(script, context, io, stage)
    try:
        performance.run()
    finally:
        stage.end(performance.error)
        if cast is not None:
            page = report.markdown(script.demo.about, performance.report, context, datetime.now().astimezone())
            stage.recorded(cast.save(page))
    return performance
