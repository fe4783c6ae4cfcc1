"""Every key of labctl.yaml, from its JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from generator import markdown
from labctl import config
from labctl.config.model import MUST_BE

Schema = Mapping[str, Any]


def page() -> str:
    """Return the page."""
    schema = config.schema()
    return markdown.page(
        "Configuration: labctl.yaml",
        "No file is needed: every key has a default. labctl reads `labctl.yaml` in the current folder, or the file of"
        " `--config`. [`labctl init`](commands.md#labctl-init) writes one with every key explained, and"
        " [`labctl schema`](commands.md#labctl-schema) prints the JSON Schema for editors.",
        "## Keys of the lab",
        _keys(schema),
        "## Keys of an app",
        "Each item of `apps` has these keys.",
        *(_keys(each) for each in schema["$defs"].values()),
        "## Example",
        markdown.block(config.example(), "yaml"),
    )


def _keys(schema: Schema) -> str:
    required = schema.get("required", ())
    return markdown.table(
        ("Key", "Default", "Value", "Meaning"),
        (
            (
                markdown.code(key),
                "required" if key in required else _default(value),
                "; ".join(_allowed(value)),
                value.get("description", ""),
            )
            for key, value in schema["properties"].items()
        ),
    )


def _default(value: Schema) -> str:
    default = value.get("default")
    if isinstance(default, list):
        return "one, " + ", ".join(markdown.code(each["name"]) for each in default)
    return "" if default is None else markdown.code(default if isinstance(default, str) else json.dumps(default))


def _allowed(value: Schema) -> Iterator[str]:
    for choice in value.get("anyOf", ()):
        yield from _allowed(choice)
    if "enum" in value:
        yield " or ".join(map(markdown.code, value["enum"]))
    elif "minimum" in value or "maximum" in value:
        yield f"a whole number, {value['minimum']} to {value['maximum']}"
    elif "pattern" in value:
        yield MUST_BE.get(value["pattern"], "text")
    elif value.get("type") == "array":
        yield "a list"
    elif value.get("type") == "integer":
        yield "a whole number"
    if "maxLength" in value:
        yield f"at most {value['maxLength']} characters"
    if "enum" in value.get("not", {}):
        yield f"not {markdown.listed(value['not']['enum'])}"
