"""Read `labctl.yaml` and options into a Lab, or raise one error that lists every problem."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from labctl.config.check import check
from labctl.config.document import content, parse, read, value_before_error
from labctl.config.model import AUTO, CONTAINERS, UNPLANNED, Config
from labctl.config.problems import Problem, invalid_error
from labctl.model.errors import UsageError
from labctl.model.lab import Lab

__all__ = [
    "AUTO",
    "CONTAINERS",
    "FILE_NAME",
    "UNPLANNED",
    "Overrides",
    "example",
    "find",
    "from_values",
    "load",
    "name_of",
    "schema",
]

FILE_NAME = "labctl.yaml"
MISNAMED = "labctl.yml"


@dataclass(frozen=True, slots=True)
class Overrides:
    """Values that the command line sets in place of the file. None keeps the file's value."""

    name: str | None = None
    provider: str | None = None
    ingress: str | None = None
    workers: int | None = None
    kubernetes: str | None = None


def find(explicit: Path | None) -> Path | None:
    """Return the file to load: the one named, else `labctl.yaml` in the current folder, else None.

    Raises UsageError `config-misnamed` if there is a `labctl.yml` instead.
    """
    if explicit or _exists(Path(FILE_NAME)):
        return explicit or Path(FILE_NAME)
    if _exists(Path(MISNAMED)):
        raise UsageError(
            f"this folder has a {MISNAMED}, and labctl reads {FILE_NAME}",
            id="config-misnamed",
            hint=f"Run `mv {MISNAMED} {FILE_NAME}`, or `labctl --config {MISNAMED}`.",
        )
    return None


def load(path: Path | None, overrides: Overrides, saved: Mapping[str, Any] | None = None) -> Lab:
    """Return the lab that the file and the options describe.

    Without a file, the values are those of a `saved` lab, or the defaults. Raises UsageError as `document.read` does,
    and `config-invalid` with every problem.
    """
    written, problems = read(path) if path else (saved or {}, [])
    options = {key: value for key, value in asdict(overrides).items() if value is not None}
    lab, wrong = check({**written, **options})
    problems += (problem._replace(key=f"--{problem.key}") if problem.key in options else problem for problem in wrong)
    if problems:
        raise invalid_error(path, problems)
    return lab


def name_of(path: Path | None, option: str | None) -> str:
    """Return the name of the lab: that of the option, else that of the file.

    Raises UsageError as `load` does, but only for problems with the key `name`.
    """
    if option is not None or path is None:
        return load(None, Overrides(name=option)).name
    try:
        values, duplicates = _read_partially(path)
        lab, wrong = check({key: value for key, value in values.items() if key == "name"})
        if problems := [*(problem for problem in duplicates if problem.key == "name"), *wrong]:
            raise invalid_error(path, problems)
    except UsageError as error:
        error.hint = f"{error.hint} Or name the lab: `--name LAB`."
        raise
    return lab.name


def from_values(values: Mapping[str, Any]) -> Lab:
    """Return the lab that the values of a `labctl.yaml` describe. Raises UsageError `config-invalid`."""
    lab, problems = check(values)
    if problems:
        raise invalid_error(None, problems)
    return lab


def schema() -> dict[str, Any]:
    """Return the JSON Schema of `labctl.yaml`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def example() -> str:
    """Return a `labctl.yaml` that explains every key and has its default. Derived defaults are commented out."""
    lab = Config().lab()
    derived = {"pool": str(lab.pool), "apps": [asdict(app) for app in lab.apps]}
    defaults = {**Config().model_dump(mode="json"), **derived}
    shown = (
        (field.description, yaml.safe_dump({key: defaults[key]}, sort_keys=False))
        for key, field in Config.model_fields.items()
    )
    text = "\n".join(f"# {description}\n{lines}" for description, lines in shown)
    return re.sub(r"^( *)(?=(?:pool|hostname|bundle):)", r"\1# ", text, flags=re.MULTILINE)


def _read_partially(path: Path) -> tuple[Mapping[str, Any], list[Problem]]:
    """Return the values and duplicate keys of the file; for invalid YAML, only the name, if it precedes the error."""
    text = content(path)
    try:
        return parse(path, text)
    except UsageError:
        name = value_before_error(text, "name")
        if name is None:
            raise
        return {"name": name}, []


def _exists(path: Path) -> bool:
    """Return whether the path exists, including a dangling link."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True  # reading it raises the error that explains why
    return True
