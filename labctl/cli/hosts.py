"""`labctl hosts`: the lab's block in the hosts file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from labctl import ui
from labctl.host import hosts_file
from labctl.model.reports import HostsReport

if TYPE_CHECKING:
    from labctl.context import Context

app = typer.Typer(help="Write, remove or show the lab's block in the hosts file.")


@app.command("sync")
def sync(context: typer.Context) -> None:
    """Write every hostname with its live address."""
    from labctl.commands import labs
    from labctl.plans import hosts_steps

    lab = labs.entered(context.obj)
    hosts_steps.with_root_retry(lab, hosts_steps.write_hosts, may_ask=context.obj.output == "text")
    ui.document(_lines(lab), context.obj.output, sys.stdout, ui.lines)


@app.command("remove")
def remove(context: typer.Context) -> None:
    """Remove the lab's block from the hosts file."""
    from labctl.commands import labs
    from labctl.plans import hosts_steps, teardown

    lab = labs.entered(context.obj)
    hosts_steps.with_root_retry(lab, teardown.remove_hosts, may_ask=context.obj.output == "text")
    ui.document(_lines(lab), context.obj.output, sys.stdout, ui.lines)


@app.command("show")
def show(context: typer.Context) -> None:
    """Show the lab's lines in the hosts file."""
    from labctl.commands import labs

    lab = labs.entered(context.obj)
    ui.document(_lines(lab), context.obj.output, sys.stdout, ui.lines)


def _lines(lab: Context) -> HostsReport:
    """Return the hosts file of a lab, and the lab's lines in it."""
    file = lab.lab.hosts_file
    return {"version": 1, "file": str(file), "lines": list(hosts_file.show(file, lab.lab.name) or ())}
