"""Options that several commands have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from typer.models import OptionInfo

from labctl.cli import complete
from labctl.host import paths


def whole_number(written: str) -> int:
    """Return the number, in the notation of labctl.yaml. `int` would accept 1_0 as 10."""
    if not re.fullmatch("0|-?[1-9][0-9]*", written):
        raise typer.BadParameter(f"{written}: must be a whole number")
    return int(written)


def seconds(written: str | float) -> float:
    """Return the number of seconds, which may be the default. `float` would accept nan and negative numbers."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", str(written)):
        raise typer.BadParameter(f"{written}: must be a number of seconds, 0 or more")
    return float(written)


def folder(written: str) -> Path:
    """Return the folder. Rejects a registry reference, which would also pass for a relative path."""
    if "://" in written:
        raise typer.BadParameter(f"{written}: must be a folder")
    return Path(written)


def source(written: str) -> str:
    """Return the source of a bundle: a folder, or a registry reference."""
    if not written.startswith(paths.OCI):
        folder(written)
    return written


def _bundle(text: str, *, may_be_id: bool = False) -> OptionInfo:
    option: OptionInfo = typer.Option(
        "--bundle",
        envvar=paths.BUNDLE,
        metavar=f"DIR|{'ID|' if may_be_id else ''}{paths.OCI}REF",
        parser=source,
        autocompletion=complete.bundles if may_be_id else None,
        help=text,
    )
    return option


BundleSource = Annotated[str | None, _bundle("Boot from the bundle in this folder, or pull it from a registry.")]
PresentBundle = Annotated[str | None, _bundle("The bundle in this folder, or one pulled from a registry.")]
TravellingBundle = Annotated[
    str | None,
    _bundle(
        "The bundle in this folder, of this id in the cache, or pulled.  [default: the one that labs boot from]",
        may_be_id=True,
    ),
]
Target = Annotated[
    str | None,
    typer.Argument(
        metavar="HOSTNAME | URL",
        autocompletion=complete.hostnames,
        help="Hostname, or URL with a path.  [default: the first app's]",
    ),
]
Ingress = Annotated[
    str | None,
    typer.Option(metavar="NAME", autocompletion=complete.controllers, help="auto, ingress-nginx or traefik."),
]
Provider = Annotated[
    str | None,
    typer.Option(metavar="NAME", autocompletion=complete.providers, help="auto, docker, libvirt or virtualbox."),
]
Kubernetes = Annotated[str | None, typer.Option(metavar="VERSION", help="Kubernetes version, such as 1.37.2, or auto.")]
Recipe = Annotated[
    Path | None,
    typer.Option("--recipe", metavar="FILE", help="Download the bundle of this recipe.  [default: labctl's]"),
]
Isolated = Annotated[bool, typer.Option("--isolated", help="Give the lab its own network and Docker Engine.")]
Offline = Annotated[bool, typer.Option("--offline", help="Use an existing bundle; download and build nothing.")]
First = Annotated[
    str | None,
    typer.Option("--from", metavar="STEP", autocompletion=complete.steps, help="Begin with this step."),
]
Only = Annotated[str | None, typer.Option(metavar="STEP", autocompletion=complete.steps, help="Run this step alone.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the steps and change nothing.")]
Workers = Annotated[int | None, typer.Option(metavar="N", parser=whole_number, help="Number of worker nodes.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Assume yes; install and repair what is missing.")]
