"""`labctl demo`: what there is to show, and showing it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from labctl import ui
from labctl.cli import complete
from labctl.model.reports import DemosReport

app = typer.Typer(help="Play scripted demos in the lab, and record them.")


@app.command("list")
def list_demos(context: typer.Context) -> None:
    """Show labctl's demos and your own.

    Yours are in $XDG_CONFIG_HOME/labctl/demos.
    """
    from labctl.demo import library

    ui.document(DemosReport(version=1, demos=library.listed()), context.obj.output, sys.stdout, ui.rows)


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

    On a terminal it waits between scenes. The exit code is 8 where something it expects does not hold.
    """
    from functools import partial

    from labctl.commands import labs
    from labctl.demo import library, play, player
    from labctl.host import http_probe

    script, lab = library.find(name), labs.entered(context.obj)
    doors = player.DemoIO(labs.environment(lab), ask=partial(http_probe.get_within, lab.lab.pool))
    ended = play.play(script, lab, doors, partial(ui.stage, context.obj.output, context.obj.verbosity), record)
    ui.document(ended.report, context.obj.output, sys.stdout, ui.demo_result)
    raise typer.Exit(ended.exit_code)
