"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BundleFolder = Annotated[Path | None, typer.Option("--bundle", metavar="DIR", help="Boot from the bundle in DIR.")]
Ingress = Annotated[str | None, typer.Option(help="auto, ingress-nginx, traefik or contour.")]
Provider = Annotated[str | None, typer.Option(help="auto, docker, libvirt, virtualbox or existing.")]
Workers = Annotated[int | None, typer.Option(help="Nodes beside the control plane.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; install what is missing.")]
