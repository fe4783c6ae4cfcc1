"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labctl.cli import complete

BundleFolder = Annotated[
    Path | None, typer.Option("--bundle", metavar="DIR", help="Boot from the bundle in this folder.")
]
Hostname = Annotated[
    str | None,
    typer.Argument(
        metavar="HOSTNAME", autocompletion=complete.hostnames, help="Hostname of an app.  [default: the first app's]"
    ),
]
Ingress = Annotated[str | None, typer.Option(metavar="NAME", help="auto, ingress-nginx or traefik.")]
Provider = Annotated[str | None, typer.Option(metavar="NAME", help="auto or docker; to render, also libvirt or virtualbox.")]
Workers = Annotated[int | None, typer.Option(metavar="N", help="How many worker nodes there are.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Assume yes; install missing packages.")]
