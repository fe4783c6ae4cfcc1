"""`labctl demo`: what there is to show, and showing it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from labctl import ui

app = typer.Typer(help="Play scripted demos in the lab, and record them.")


@app.command("list")
def list_demos(context: typer.Context) -> None:
    """Show the demos there are: labctl's own, and those in $XDG_CONFIG_HOME/labctl/demos."""
    from labctl.demo import library

    ui.document({"demos": library.listed()}, context.obj.output, sys.stdout, ui.rows)


@app.command("run")
def run(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A demo's name, or its file: ./NAME.yaml.")],
    record: Annotated[
        Path | None, typer.Option(metavar="FILE.cast", help="Record it for asciinema, with a report in FILE.md.")
    ] = None,
) -> None:
    """Play a demo: its text, its commands, and whether what it expects is so; then clean up."""
    from labctl import session
    from labctl.demo import library, play, player

    script, made = library.find(name), session.entered(context.obj)
    doors = player.Doors(session.environment(made))
    ended = play.play(script, made, doors, context.obj.output, context.obj.verbosity, record)
    ui.document(ended.report, context.obj.output, sys.stdout, ui.demo_result)
    raise typer.Exit(ended.exit_code)
