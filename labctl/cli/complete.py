"""Shell completion of names on this machine, looked up without the cluster and without messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from labctl.model.lab import Lab

Lookup = Callable[[typer.Context], Iterable[str]]
Completion = Callable[[typer.Context, list[str], str], list[str]]
STEPS = (
    "preflight",
    "bundle",
    "isolation",
    "render",
    "boot",
    "cluster",
    "metallb",
    "ingress",
    "apps",
    "hosts",
    "verify",
)
"""The steps of `up`, repeated here because importing them is too slow for completion."""

PROVIDERS = ("auto", "docker", "libvirt", "virtualbox")
CONTROLLERS = ("auto", "ingress-nginx", "traefik")


def _completion(names: Lookup) -> Completion:
    """Return a completion callback for typer: it returns the matching names, or none if the lookup fails."""

    def propose(ctx: typer.Context, args: list[str], incomplete: str) -> list[str]:  # noqa: ARG001 - typer names them
        try:
            return sorted(name for name in names(ctx) if name.startswith(incomplete))
        except Exception:  # noqa: BLE001 - the command itself reports a wrong configuration
            return []

    return propose


def _lab(context: typer.Context) -> Lab:
    """Return the lab that the command line names: as it was saved, or else as it is configured."""
    from labctl import config
    from labctl.config import saved_lab
    from labctl.host import paths

    options = context.find_root().params
    name, file = options["name"], options["config"]
    lab = config.load(None if name else config.find(file and Path(file)), config.Overrides(name=name))
    saved = saved_lab.read(paths.state(lab.name))
    return saved.lab if saved else lab


@_completion
def labs(_context: typer.Context) -> Iterable[str]:
    """Return the labs on this machine."""
    from labctl.host import paths

    return (path.parent.name for path in paths.state_home().glob("*/lab.json"))


@_completion
def bundles(_context: typer.Context) -> Iterable[str]:
    """Return the ids of the bundles in the cache."""
    from labctl.host import paths

    return (path.parent.name for path in paths.cache().glob("bundles/*/bundle.yaml"))


@_completion
def nodes(context: typer.Context) -> Iterable[str]:
    """Return the names of the lab's nodes without the lab's name."""
    lab = _lab(context)
    return (node.name.removeprefix(f"{lab.name}-") for node in lab.nodes)


@_completion
def hostnames(context: typer.Context) -> Iterable[str]:
    """Return the hostnames of the lab's apps."""
    return (app.hostname for app in _lab(context).apps)


@_completion
def apps(context: typer.Context) -> Iterable[str]:
    """Return the names of the lab's apps."""
    return (app.name for app in _lab(context).apps)


@_completion
def loaded_images(context: typer.Context) -> Iterable[str]:
    """Return the images that were loaded into the lab."""
    from labctl.host import lab_folder, paths
    from labctl.images.store import LoadedImages

    loaded = LoadedImages(paths.state(_lab(context).name) / lab_folder.IMAGES)
    return (image.reference for image in loaded.images())


@_completion
def demos(_context: typer.Context) -> Iterable[str]:
    """Return the names of labctl's and the user's demos."""
    from labctl.host import paths

    folders = (Path(__file__).parent.parent / "demo" / "demos", paths.configuration() / "demos")
    return {path.stem for folder in folders for path in folder.glob("*.yaml")}


@_completion
def steps(_context: typer.Context) -> Iterable[str]:
    """Return the steps of `up`."""
    return STEPS


@_completion
def providers(_context: typer.Context) -> Iterable[str]:
    """Return the values of `provider`."""
    return PROVIDERS


@_completion
def controllers(_context: typer.Context) -> Iterable[str]:
    """Return the values of `ingress`."""
    return CONTROLLERS
