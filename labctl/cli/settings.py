"""`labctl init`, `render`, `schema`, `completion` and `version`: files for the user, and facts about labctl."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from labctl import ui
from labctl.cli.options import Ingress, PresentBundle, Provider, Workers
from labctl.cli.tree import Root, script
from labctl.host import paths
from labctl.model.reports import CompletionReport, SchemaReport

app = typer.Typer()


class Shell(StrEnum):
    """The shells with completion."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command()
def init(context: typer.Context) -> None:
    """Write a labctl.yaml with every key explained.

    Its first line names the JSON Schema that editors check the file with.
    """
    from labctl.config import FILE_NAME
    from labctl.config.init import write_example

    path = context.obj.config_file or Path(FILE_NAME)
    ui.document(write_example(path), context.obj.output, sys.stdout, ui.values)


@app.command()
def render(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to write to.  [default: the lab's]")] = None,
    provider: Provider = None,
    bundle: PresentBundle = None,
    ingress: Ingress = None,
    workers: Workers = None,
) -> None:
    """Write the lab's files without starting anything.

    These are the Vagrantfile, keys, node files and manifests.
    """
    from labctl import config
    from labctl.commands import bundles, labs, rendering

    overrides = config.Overrides(provider=provider, ingress=ingress, workers=workers)
    lab = labs.requested(context.obj, overrides, bundle=bundles.find_folder(bundle, paths.cache()), to_boot=True)
    ui.document(rendering.write(lab, out), context.obj.output, sys.stdout, ui.values)


@app.command("version")
def version(context: typer.Context) -> None:
    """Show the versions of labctl, of the lab and of its tools."""
    from labctl.commands import labs, versions

    ui.document(versions.report_on(labs.saved_or_default(context.obj)), context.obj.output, sys.stdout, ui.values)


@app.command("schema")
def schema(context: typer.Context) -> None:
    """Print the JSON Schema of labctl.yaml, for editors."""
    from labctl import config

    ui.document(SchemaReport(version=1, schema=config.schema()), context.obj.output, sys.stdout, ui.indented("schema"))


@app.command("completion")
def completion(
    context: typer.Context, shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")]
) -> None:
    """Print a shell's completion script.

    It completes commands and options, and the names of labs, nodes, apps, demos and steps, and hostnames.
    """
    root = context.find_root().command
    assert isinstance(root, Root)  # noqa: S101 - `main` runs no other
    answer: CompletionReport = {"version": 1, "shell": shell.value, "script": script(root, shell)}
    ui.document(answer, context.obj.output, sys.stdout, ui.text("script"))
