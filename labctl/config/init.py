"""Write a first labctl.yaml."""

from __future__ import annotations

import json
from pathlib import Path

from labctl import config
from labctl.host import paths
from labctl.host.files import create, write_changed
from labctl.model.errors import UsageError
from labctl.model.reports import InitReport

SCHEMA_FILE = "labctl.schema.json"


def write_example(path: Path) -> InitReport:
    """Write a labctl.yaml that explains every key, and the schema that its first line points editors to.

    Raises UsageError `config-exists`, `config-unwritable`.
    """
    schema = paths.data() / SCHEMA_FILE
    write_changed(schema.parent, {schema.name: json.dumps(config.schema(), indent=2) + "\n"})
    text = f"# yaml-language-server: $schema={schema.as_uri()}\n\n{config.example()}"
    try:
        create(path, text.encode())
    except FileExistsError as error:
        raise UsageError(f"{path} already exists", id="config-exists", hint="Edit it, or delete it first.") from error
    except OSError as error:
        raise UsageError(
            f"cannot write the configuration file {path}: {error.strerror}",
            id="config-unwritable",
            hint="Choose a file in an existing folder that you can write to.",
        ) from error
    return {"version": 1, "file": str(path), "schema": str(schema)}
