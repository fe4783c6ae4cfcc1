"""Versions of labctl, of what a lab boots from, and of its tools."""

from __future__ import annotations

from collections.abc import Mapping

from labctl import __version__
from labctl.context import Context
from labctl.host.process import run
from labctl.model.errors import LabError
from labctl.model.reports import VersionReport

TOOL_SECONDS = 20.0


def report_on(context: Context) -> VersionReport:
    """Return the versions of labctl, of what the lab boots from and of its tools; None for what is missing."""
    try:
        carried = {"bundle": context.bundle.id, **context.bundle.versions}
    except LabError:
        carried = {}
    engine = context.isolation.environment if context.isolated else {}
    vagrant = _first_line(["vagrant", "--version"], {})
    return {
        "version": 1,
        "labctl": __version__,
        "bundle": carried.get("bundle"),
        "kubernetes": carried.get("kubernetes"),
        "metallb": carried.get("metallb"),
        "vagrant": vagrant and vagrant.removeprefix("Vagrant "),
        "engine": _first_line(["docker", "version", "--format", "{{.Server.Version}}"], engine),
    }


def _first_line(line: list[str], environment: Mapping[str, str]) -> str | None:
    """Return the first line that a program prints; None if it is missing or fails."""
    try:
        finished = run(line, env=environment, timeout=TOOL_SECONDS)
    except LabError:
        return None
    return next(iter(finished.out.split("\n")), None) if finished.code == 0 else None
