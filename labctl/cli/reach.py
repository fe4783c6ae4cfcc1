"""`labctl kubeconfig`, `ssh`, `exec` and `logs`: access to the lab and to its logs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from labctl import ui
from labctl.cli import complete
from labctl.host import lab_folder
from labctl.model.reports import KubeconfigReport, MergeReport

app = typer.Typer()
PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}
NodeName = Annotated[
    str, typer.Argument(metavar="NODE", autocompletion=complete.nodes, help="A node's name, with or without the lab's.")
]


@app.command("kubeconfig")
def show_kubeconfig(
    context: typer.Context,
    merge: Annotated[bool, typer.Option("--merge", help="Add it to your own kubeconfig instead.")] = False,
) -> None:
    """Print the lab's kubeconfig."""
    from labctl.cluster import user_kubeconfig
    from labctl.commands import labs

    path = labs.saved(context.obj).folder / lab_folder.KUBECONFIG
    if merge:
        merged = MergeReport(version=1, file=str(user_kubeconfig.merge(path, labs.lab_name(context.obj))))
        ui.document(merged, context.obj.output, sys.stdout, ui.values)
    else:
        answer = KubeconfigReport(version=1, file=str(path), kubeconfig=user_kubeconfig.text(path))
        ui.document(answer, context.obj.output, sys.stdout, ui.text("kubeconfig"))


@app.command(context_settings=PASS_THROUGH)
def ssh(
    context: typer.Context,
    node: NodeName,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="CMD", help="The command to run.  [default: a login shell]")
    ] = None,
) -> None:
    """Log in to a node, or run a command on it."""
    from labctl.commands import labs

    lab = labs.saved(context.obj)
    labs.replace_process(lab, lab.provider.command(labs.node(lab, node), command or []), {})


@app.command("exec", context_settings=PASS_THROUGH)
def execute(
    context: typer.Context,
    command: Annotated[list[str], typer.Argument(metavar="CMD", help="The command and its arguments.")],
) -> None:
    """Run a command in the lab's network.

    KUBECONFIG is set, and the bundle's kubectl is first on PATH. The exit code is the command's.
    """
    from labctl.commands import labs

    lab = labs.saved(context.obj)
    labs.replace_process(lab, command, labs.environment(lab))


@app.command("logs")
def show_logs(
    context: typer.Context,
    node: Annotated[
        str | None,
        typer.Argument(metavar="NODE", autocompletion=complete.nodes, help="Print the journal of this node instead."),
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="DIR", help="Collect everything in a new folder instead.")
    ] = None,
) -> None:
    """Print the lab's log, or collect all logs for a bug report.

    An export has the logs of every tool and node, the reports of doctor and status, and versions. It works in any state
    of the lab, and lists what could not be collected. Keys, tokens and passwords are removed from all files.
    """
    from labctl.commands import labs, logs

    lab = labs.saved_or_configured_entered(context.obj)
    nodes = (labs.node(lab, node),) if node else lab.lab.nodes
    if export:
        ui.document(logs.export(lab, export, nodes), context.obj.output, sys.stdout, ui.export)
    else:
        lines = logs.node_log(lab, nodes[0]) if node else logs.lab_log(lab)
        ui.document(lines, context.obj.output, sys.stdout, ui.lines)
