"""`labctl bundle`: what labs boot from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from labctl import ui
from labctl.cli import complete
from labctl.cli.options import BundleFolder, TravellingBundle, Yes
from labctl.host import paths
from labctl.model.reports import BundlesReport

Addition = Annotated[
    Literal["vm"] | None, typer.Option("--with", metavar="vm", help="Add the image of a virtual machine.")
]
Bundles = Annotated[
    list[str], typer.Argument(metavar="ID...", autocompletion=complete.bundles, help="The bundles, by id.")
]

Recipe = Annotated[
    Path | None,
    typer.Option("--recipe", metavar="FILE", help="Download by this recipe.  [default: labctl's own]"),
]

app = typer.Typer(help="Build, download, verify and list bundles: everything that labs boot from.")


@app.command("build")
def build(context: typer.Context, addition: Addition = None, yes: Yes = False) -> None:
    """Build the bundle from package registries.

    This takes 12 to 20 minutes on two processors, once; a finished bundle is used as it is. `--with vm` adds the image
    of a virtual machine, and its boxes for libvirt and VirtualBox, which takes another three minutes.
    """
    from labctl.commands import bundles, runner

    built = runner.build_bundle(
        context.obj, ui.watching(context.obj), may_install=yes, with_machine_image=addition is not None
    )
    if context.obj.output == "text":
        ui.values(bundles.described(built), sys.stdout)


@app.command("download")
def download(context: typer.Context, recipe: Recipe = None, yes: Yes = False) -> None:
    """Download the bundle from upstream's releases.

    These are the binaries, images and manifests that everybody runs; nothing is compiled but the failure detector. What
    was verified before is kept, and an interrupted download continues. LABCTL_MIRRORS names other servers.
    """
    from labctl.commands import bundles, runner

    downloaded = runner.download_bundle(context.obj, ui.watching(context.obj), recipe, may_install=yes)
    if context.obj.output == "text":
        ui.values(bundles.described(downloaded), sys.stdout)


@app.command("verify")
def verify(context: typer.Context, bundle: BundleFolder = None) -> None:
    """Check the checksum of every file of a bundle.

    [default: all bundles in the cache]
    """
    from labctl.commands import bundles

    verified = bundles.verified(bundle, paths.cache(), _silent)
    ui.document(BundlesReport(version=1, bundles=verified), context.obj.output, sys.stdout, ui.rows)


@app.command("list")
def list_bundles(context: typer.Context) -> None:
    """Show the bundles in the cache."""
    from labctl.commands import bundles

    ui.document(
        BundlesReport(version=1, bundles=bundles.listed(paths.cache())), context.obj.output, sys.stdout, ui.rows
    )


@app.command("export")
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    bundle: TravellingBundle = None,
) -> None:
    """Write a bundle to one file, for a stick.

    The file is a tar archive with an OCI image layout, which skopeo and other tools read too.
    """
    from labctl.commands import moving

    exported = moving.export(context.obj, ui.watching(context.obj), file, bundle)
    if context.obj.output == "text":
        ui.values(exported, sys.stdout)


@app.command("import")
def import_bundle(
    context: typer.Context, file: Annotated[Path, typer.Argument(metavar="FILE", help="What `export` wrote.")]
) -> None:
    """Put the bundle in a file into the cache, and verify every byte of it."""
    from labctl.commands import bundles, moving

    imported = moving.import_bundle(context.obj, ui.watching(context.obj), file)
    if context.obj.output == "text":
        ui.values(bundles.described(imported), sys.stdout)


@app.command("remove")
def remove(context: typer.Context, names: Bundles) -> None:
    """Remove bundles from the cache, with their machine images and boxes. A bundle that a lab uses is refused."""
    from labctl.commands import runner
    from labctl.plans import boxes

    runner.remove_bundles(context.obj, ui.watching(context.obj), names, (boxes.forget_bundle,))


def _silent(_text: str) -> None:
    """Show no progress."""
