"""`labctl.yaml` and options become a Lab, or one error that lists everything wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from labctl.config.check import check
from labctl.config.document import read
from labctl.config.model import UNPLANNED, Config
from labctl.config.problems import invalid
from labctl.lab import Lab

__all__ = ["FILE_NAME", "UNPLANNED", "Overrides", "example", "find", "from_values", "load", "schema"]

FILE_NAME = "labctl.yaml"


@dataclass(frozen=True, slots=True)
class Overrides:
    """What options of the command line say instead of the file; None leaves the file's value."""

    name: str | None = None
    provider: str | None = None
    ingress: str | None = None
    workers: int | None = None


def find(explicit: Path | None) -> Path | None:
    """The file to load: the one asked for, else `labctl.yaml` in the current folder if it is there, else none."""
    default = Path(FILE_NAME)
    return explicit or (default if default.exists() else None)


def load(path: Path | None, overrides: Overrides, made: Mapping[str, Any] | None = None) -> Lab:
    """The lab that the file and the options describe; without a file, what a lab was `made` from, or the defaults.

    Raises UsageError: `config-not-found`, `config-unreadable`, or `config-invalid` with every problem,
    one a line, each with its key and value.
    """
    written, problems = read(path) if path else (made or {}, [])
    options = {key: value for key, value in asdict(overrides).items() if value is not None}
    lab, found = check({**written, **options})
    problems += (problem._replace(key=f"--{problem.key}") if problem.key in options else problem for problem in found)
    if problems:
        raise invalid(path, problems)
    return lab


def from_values(values: Mapping[str, Any]) -> Lab:
    """The lab that the values of a `labctl.yaml` describe. Raises UsageError `config-invalid` as `load` does."""
    lab, problems = check(values)
    if problems:
        raise invalid(None, problems)
    return lab


def schema() -> dict[str, Any]:
    """The JSON Schema of `labctl.yaml`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def example() -> str:
    """A `labctl.yaml` with every key explained and at its default."""
    lab = Config().lab()
    derived = {"pool": str(lab.pool), "apps": [asdict(app) for app in lab.apps]}
    defaults = {**Config().model_dump(mode="json"), **derived}
    return "\n".join(
        f"# {field.description}\n{yaml.safe_dump({key: defaults[key]}, sort_keys=False)}"
        for key, field in Config.model_fields.items()
    )
