"""`labctl image`: the user's own images in a lab's nodes."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from labctl import ui
from labctl.cli import complete
from labctl.model.reports import ImagesReport

Sources = Annotated[
    list[str], typer.Argument(metavar="IMAGE|FILE", help="Images of Docker or of a registry, or archive files.")
]
Loaded = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE", autocompletion=complete.loaded_images, help="Images that were loaded."),
]

app = typer.Typer(help="Load your own images into the lab's nodes, list them, and remove them.")


@app.command("load")
def load(context: typer.Context, sources: Sources) -> None:
    """Load images into every node, and into nodes that are added later.

    An existing file, or a word that looks like a path, is an archive: from `docker save`, or an OCI image layout. Any
    other word is an image in your Docker or, if Docker does not have it, in its registry. From an image for several
    platforms, labctl takes the variant for the lab's nodes.
    """
    from labctl.commands import images, runner

    lab, plan = images.load(context.obj, sources)
    runner.run(context.obj, lab, plan, ui.watching(context.obj))


@app.command("list")
def list_images(context: typer.Context) -> None:
    """Show the images of the bundle and those that were loaded, and which nodes have them."""
    from labctl.commands import images, labs

    report = ImagesReport(version=1, images=images.list_images(labs.entered_if_up(context.obj)))
    ui.document(report, context.obj.output, sys.stdout, ui.images)


@app.command("remove")
def remove(context: typer.Context, names: Loaded) -> None:
    """Remove loaded images from the lab.

    labctl refuses to remove an image of the bundle, or one that an app uses.
    """
    from labctl.commands import images, runner

    lab, plan = images.remove(context.obj, names)
    runner.run(context.obj, lab, plan, ui.watching(context.obj))
