"""`labctl bundle`: the bundles that labs boot from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from labctl import ui
from labctl.cli import complete
from labctl.cli.confirm import confirm
from labctl.cli.options import PresentBundle, Recipe, TravellingBundle, Yes
from labctl.host import paths
from labctl.model.reports import BundlesReport

Addition = Annotated[
    Literal["vm"] | None, typer.Option("--with", metavar="vm", help="Add the image of a virtual machine.")
]
Bundles = Annotated[
    list[str], typer.Argument(metavar="ID", autocompletion=complete.bundles, help="The bundles, by id.")
]

Reference = Annotated[
    str, typer.Argument(metavar="REF", help="A reference, such as registry.example/labs/kubernetes:1.37.")
]

app = typer.Typer(help="Build, download, verify, move and list bundles: everything that labs boot from.")


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
        ui.values(bundles.bundle_entry(built), sys.stdout)


@app.command("download")
def download(context: typer.Context, recipe: Recipe = None, yes: Yes = False) -> None:
    """Download the bundle from upstream's releases.

    It consists of upstream's binaries, images and manifests; only the failure detector may have to be compiled. Run the
    command again to resume an interrupted download: verified files are kept. LABCTL_MIRRORS names other servers.
    """
    from labctl.commands import bundles, runner

    downloaded = runner.download_bundle(context.obj, ui.watching(context.obj), recipe, may_install=yes)
    if context.obj.output == "text":
        ui.values(bundles.bundle_entry(downloaded), sys.stdout)


@app.command("verify")
def verify(context: typer.Context, bundle: PresentBundle = None) -> None:
    """Check the checksum of every file of a bundle.

    [default: all bundles in the cache]
    """
    from labctl.commands import bundles

    verified = bundles.verify(bundles.find_folder(bundle, paths.cache()), paths.cache(), _silent)
    ui.document(BundlesReport(version=1, bundles=verified), context.obj.output, sys.stdout, ui.rows)


@app.command("list")
def list_bundles(context: typer.Context) -> None:
    """Show the bundles in the cache, and the size of the cache."""
    from labctl.commands import bundles

    ui.document(bundles.list_cache(paths.cache()), context.obj.output, sys.stdout, ui.cache)


@app.command("push")
def push(context: typer.Context, reference: Reference, bundle: TravellingBundle = None) -> None:
    """Push a bundle to a registry, next to those of other architectures.

    Only what the registry lacks is sent. The container images become tags of the same repository, such as
    traefik-v3.7.15.
    """
    from labctl.commands import bundles, moving

    named = bundles.find_folder(bundle, paths.cache())
    pushed = moving.push(context.obj, ui.watching(context.obj), reference, named)
    if context.obj.output == "text":
        ui.values(pushed, sys.stdout)


@app.command("pull")
def pull(context: typer.Context, reference: Reference) -> None:
    """Pull this machine's bundle from a registry into the cache.

    Run the command again to resume an interrupted pull: verified blobs are not fetched again.
    """
    from labctl.commands import bundles, moving

    pulled = moving.pull(context.obj, ui.watching(context.obj), reference)
    if context.obj.output == "text":
        ui.values(bundles.bundle_entry(pulled), sys.stdout)


@app.command("export")
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    bundle: TravellingBundle = None,
) -> None:
    """Write a bundle to one file, for a stick.

    The file is a tar archive with an OCI image layout, which skopeo and other tools read too.
    """
    from labctl.commands import bundles, moving

    exported = moving.export(context.obj, ui.watching(context.obj), file, bundles.find_folder(bundle, paths.cache()))
    if context.obj.output == "text":
        ui.values(exported, sys.stdout)


@app.command("import")
def import_bundle(
    context: typer.Context, file: Annotated[Path, typer.Argument(metavar="FILE", help="The file that `export` wrote.")]
) -> None:
    """Import a bundle from a file into the cache, and verify it."""
    from labctl.commands import bundles, moving

    imported = moving.import_bundle(context.obj, ui.watching(context.obj), file)
    if context.obj.output == "text":
        ui.values(bundles.bundle_entry(imported), sys.stdout)


@app.command("remove")
def remove(context: typer.Context, names: Bundles) -> None:
    """Remove bundles from the cache, with their machine images and boxes.

    labctl refuses to remove a bundle that a lab uses. The id of a bundle that cannot be read is its folder's name.
    """
    from labctl.commands import runner
    from labctl.plans import boxes

    runner.remove_bundles(context.obj, ui.watching(context.obj), names, (boxes.forget_bundle,))


@app.command("prune")
def prune(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Remove what no lab uses from the cache.

    This removes cached downloads and pulls, and old bundles. A bundle stays if a lab uses it, if it is the newest of
    its maker, minor version of Kubernetes and architecture, if this labctl's own recipe makes it, or if it cannot be
    read.
    """
    from labctl.commands import prune as pruning
    from labctl.plans import boxes

    if not yes and (unused := pruning.find_prunable(paths.cache())).size:
        confirm(f"Remove {unused.text}?")
    pruning.prune(context.obj, ui.watching(context.obj), (boxes.forget_bundle,))


def _silent(_text: str) -> None:
    """Show no progress."""
