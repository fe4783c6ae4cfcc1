"""`labctl app`: apps come into labctl.yaml, and leave it, and the lab follows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from labctl import endings, ui

if TYPE_CHECKING:
    from labctl.apps import Change
    from labctl.session import Session

app = typer.Typer(help="Add, remove and list the lab's apps.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The app's name.")]


@app.command("add")
def add(
    context: typer.Context,
    name: Name,
    image: Annotated[str | None, typer.Option(metavar="IMAGE", help="By default nginx.")] = None,
    host: Annotated[str | None, typer.Option(metavar="HOSTNAME", help="By default NAME.local.")] = None,
    port: Annotated[int | None, typer.Option(metavar="N", help="The port it listens on.")] = None,
    replicas: Annotated[int | None, typer.Option(metavar="N", help="How many pods it has.")] = None,
) -> None:
    """Write an app into labctl.yaml; if the lab is up, deploy it and follow a request to it."""
    from labctl import apps

    asked = {"name": name, "image": image, "hostname": host, "port": port, "replicas": replicas}
    given = {key: value for key, value in asked.items() if value is not None}
    _carry_out(context.obj, apps.add(context.obj, given))


@app.command("remove")
def remove(context: typer.Context, name: Name) -> None:
    """Take an app out of labctl.yaml, and out of the lab if it is up."""
    from labctl import apps

    _carry_out(context.obj, apps.remove(context.obj, name))


@app.command("list")
def list_apps(context: typer.Context) -> None:
    """Show the apps of the configuration."""
    from labctl import apps

    ui.document({"apps": apps.listed(context.obj)}, context.obj.output, sys.stdout, ui.rows)


def _carry_out(options: Session, change: Change) -> None:
    from labctl import plan, session

    if change.context is not None:
        session.run(options, change.context, change.plan)
    elif options.output == "json":
        with session.reported(options, endings.common_log()) as tell:
            plan.execute(change.plan, None, tell)
    else:
        ui.values(change.write(), sys.stdout)
