"""`labctl bundle`: what labs boot from."""

from __future__ import annotations

import sys

import typer

from labctl import ui
from labctl.cli.options import BundleFolder, Yes
from labctl.host import paths
from labctl.model.reports import BundlesReport

app = typer.Typer(help="Build, verify and list bundles: everything that labs boot from.")


@app.command("build")
def build(context: typer.Context, yes: Yes = False) -> None:
    """Build the bundle from package registries.

    This takes 12 to 20 minutes on two processors, once; a finished bundle is used as it is.
    """
    from labctl.bundle import inventory
    from labctl.commands import runner

    built = runner.build_bundle(context.obj, ui.watching(context.obj), may_install=yes)
    if context.obj.output == "text":
        ui.values(inventory.described(built), sys.stdout)


@app.command("verify")
def verify(context: typer.Context, bundle: BundleFolder = None) -> None:
    """Check the checksum of every file of a bundle.

    [default: all bundles in the cache]
    """
    from labctl.bundle import inventory

    verified = inventory.verified(bundle, paths.cache(), _silent)
    ui.document(BundlesReport(version=1, bundles=verified), context.obj.output, sys.stdout, ui.rows)


@app.command("list")
def list_bundles(context: typer.Context) -> None:
    """Show the bundles in the cache."""
    from labctl.bundle import inventory

    ui.document(
        BundlesReport(version=1, bundles=inventory.listed(paths.cache())), context.obj.output, sys.stdout, ui.rows
    )


def _silent(_text: str) -> None:
    """Show no progress."""
