"""The small answers: which labs and bundles there are, and what the hosts file holds. Each is ready to be JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labctl import __version__, bundle, config
from labctl.config import saved_lab
from labctl.context import Context
from labctl.host import hosts_file, lab_folder, paths
from labctl.host.files import create, write_changed
from labctl.host.process import run
from labctl.model.errors import LabError, MissingError, UsageError
from labctl.model.events import Progress
from labctl.model.reports import HostsReport, LabEntry, VersionReport

TOOL_SECONDS = 20.0
SCHEMA_FILE = "labctl.schema.json"


def labs() -> list[LabEntry]:
    """Return every lab that was brought up and not destroyed; of one whose record is damaged, its name and why."""
    folders = [path.parent for path in sorted(paths.state_home().glob(f"*/{lab_folder.RECORD}"))]
    return [entry for folder in folders if (entry := _lab(folder)) is not None]


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


def verified(folder: Path | None, report: Progress) -> list[dict[str, Any]]:
    """The bundle in the folder, or every one in the cache, with each of its files checked. Raises MissingError."""
    found = (bundle.load(folder),) if folder else bundle.installed(paths.cache())
    for each in found:
        bundle.verify(each, paths.cache(), report)
    return [described(each) for each in found]


def versions(context: Context) -> VersionReport:
    """Return the versions of labctl, of what the lab boots from and of its tools; None for what is not there."""
    try:
        carried = {"bundle": context.bundle.id, **context.bundle.versions}
    except LabError:
        carried = {}
    engine = context.isolation.environment if context.isolated else {}
    vagrant = _answer(["vagrant", "--version"], {})
    return {
        "labctl": __version__,
        "bundle": carried.get("bundle"),
        "kubernetes": carried.get("kubernetes"),
        "metallb": carried.get("metallb"),
        "vagrant": vagrant and vagrant.removeprefix("Vagrant "),
        "engine": _answer(["docker", "version", "--format", "{{.Server.Version}}"], engine),
    }


def hosts_lines(context: Context) -> HostsReport:
    """Return the hosts file of a lab, and the lab's lines in it."""
    file = context.lab.hosts_file
    return {"file": str(file), "lines": list(hosts_file.show(file, context.lab.name) or ())}


def write_example(path: Path) -> dict[str, str]:
    """Write a labctl.yaml with every key explained, and the schema that its first line names to editors.

    Raises UsageError where there is such a file already.
    """
    schema = paths.data() / SCHEMA_FILE
    write_changed(schema.parent, {schema.name: json.dumps(config.schema(), indent=2) + "\n"})
    text = f"# yaml-language-server: $schema={schema.as_uri()}\n\n{config.example()}"
    try:
        create(path, text.encode())
    except FileExistsError as error:
        raise UsageError(f"{path} exists already", id="config-exists", hint="Delete it first, or edit it.") from error
    except OSError as error:
        raise UsageError(
            f"cannot write the configuration file {path}: {error.strerror}",
            id="config-unwritable",
            hint="Name a file in a folder that is there and that you may write to.",
        ) from error
    return {"file": str(path), "schema": str(schema)}


def _answer(line: list[str], environment: Mapping[str, str]) -> str | None:
    """The first line that a program prints; None where it is not there or fails."""
    try:
        finished = run(line, env=environment, timeout=TOOL_SECONDS)
    except LabError:
        return None
    return next(iter(finished.out.split("\n")), None) if finished.code == 0 else None


def _lab(folder: Path) -> LabEntry | None:
    try:
        made = saved_lab.read(folder)
    except MissingError as error:
        return {
            "lab": folder.name,
            "nodes": None,
            "network": None,
            "pool": None,
            "isolated": saved_lab.has_own_engine(folder),
            "urls": [],
            "problem": error.message,
        }
    if made is None:
        return None
    return {
        "lab": made.lab.name,
        "nodes": len(made.lab.nodes),
        "network": str(made.lab.network),
        "pool": str(made.lab.pool),
        "isolated": made.isolated,
        "urls": list(made.lab.urls),
        "problem": None,
    }
