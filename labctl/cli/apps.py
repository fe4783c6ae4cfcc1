"""`labctl app`: add apps to labctl.yaml or remove them, and update the lab."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from labctl import ui
from labctl.cli import complete
from labctl.cli.options import whole_number
from labctl.commands import endings
from labctl.model.options import GlobalOptions
from labctl.model.reports import AppsReport

if TYPE_CHECKING:
    from labctl.commands.app_change import Change

app = typer.Typer(help="Add, remove and list the lab's apps.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The app's name.")]
KnownName = Annotated[
    str, typer.Argument(metavar="NAME", autocompletion=complete.apps, help="Name of the app to remove.")
]


@app.command("add")
def add(
    context: typer.Context,
    name: Name,
    image: Annotated[str | None, typer.Option(metavar="IMAGE", help="Container image.  [default: nginx]")] = None,
    host: Annotated[
        str | None, typer.Option(metavar="HOSTNAME", help="Hostname it answers at.  [default: NAME.local]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="N", parser=whole_number, help="Port it listens on.  [default: 80]")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(metavar="N", parser=whole_number, help="Number of pods.  [default: 2]")
    ] = None,
    path: Annotated[
        str | None, typer.Option(metavar="PATH", help="Path that status and trace request.  [default: /]")
    ] = None,
) -> None:
    """Add an app to labctl.yaml and, if the lab is up, deploy it.

    labctl adds its hostname to the hosts file and traces a request to its pod.
    """
    from labctl.commands import app_change

    options = {"name": name, "image": image, "hostname": host, "port": port, "replicas": replicas, "path": path}
    given = {key: value for key, value in options.items() if value is not None}
    _run_change(context.obj, app_change.add(context.obj, given, ui.evidence_sentences))


@app.command("remove")
def remove(context: typer.Context, name: KnownName) -> None:
    """Remove an app from labctl.yaml and, if it is up, the lab."""
    from labctl.commands import app_change

    _run_change(context.obj, app_change.remove(context.obj, name))


@app.command("list")
def list_apps(context: typer.Context) -> None:
    """Show the apps in the configuration."""
    from labctl.commands import app_change

    ui.document(AppsReport(version=1, apps=app_change.list_apps(context.obj)), context.obj.output, sys.stdout, ui.rows)


def _run_change(options: GlobalOptions, change: Change) -> None:
    from labctl.commands import runner
    from labctl.plans import plan

    if change.context is not None:
        next_url = change.added.url if change.added else ""
        runner.run(options, change.context, change.plan, ui.watching(options), next_url=next_url)
    elif options.output == "json":
        with runner.report_run(options, ui.watching(options), endings.common_log()) as emit:
            plan.execute(change.plan, None, emit)
    else:
        ui.values(change.write(), sys.stdout)
