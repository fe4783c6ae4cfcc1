"""The small answers: which labs and bundles there are, and what the hosts file holds. Each is ready to be JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labctl import bundle, config, hosts, paths, record
from labctl.context import Context
from labctl.errors import UsageError
from labctl.events import Say


def labs() -> list[dict[str, Any]]:
    """Every lab that was brought up and not destroyed."""
    folders = sorted(paths.state_home().glob(f"*/{record.FILE_NAME}"))
    return [_lab(made) for path in folders if (made := record.read(path.parent)) is not None]


def bundles() -> list[dict[str, Any]]:
    """Every bundle in the cache, the newest first."""
    return [described(found) for found in bundle.installed(paths.cache())]


def described(found: bundle.Bundle) -> dict[str, Any]:
    """What to know of a bundle."""
    size = sum(file.size for file in found.files)
    carried = ("kubernetes", "metallb", "traefik", "nginx")
    return {
        "id": found.id,
        **{name: found.versions.get(name) for name in carried},
        "architecture": found.architecture,
        "MiB": size // 2**20,
        "folder": str(found.folder),
    }


def verified(folder: Path | None, say: Say) -> list[dict[str, Any]]:
    """The bundle in the folder, or every one in the cache, with each of its files checked. Raises MissingError."""
    found = (bundle.load(folder),) if folder else bundle.installed(paths.cache())
    for each in found:
        bundle.verify(each, paths.cache(), say)
    return [described(each) for each in found]


def hosts_lines(context: Context) -> dict[str, Any]:
    """The hosts file of a lab, and the lab's lines in it."""
    file = context.lab.hosts_file
    return {"file": str(file), "lines": hosts.show(file, context.lab.name) or ()}


def write_example(path: Path) -> dict[str, str]:
    """The file is a labctl.yaml with every key explained. Raises UsageError where there is one already."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(config.example())
    except FileExistsError as error:
        raise UsageError(f"{path} exists already", id="config-exists", hint="Delete it first, or edit it.") from error
    return {"file": str(path)}


def _lab(made: record.Record) -> dict[str, Any]:
    lab = made.lab
    return {
        "lab": lab.name,
        "nodes": len(lab.nodes),
        "network": str(lab.network),
        "pool": str(lab.pool),
        "isolated": made.isolated,
        "urls": list(lab.urls),
    }
