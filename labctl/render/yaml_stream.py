"""Kubernetes objects as a YAML stream, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def documents(content: str) -> list[dict[str, Any]]:
    """Return the objects in a YAML stream, without empty documents."""
    import yaml  # noqa: PLC0415 - 30 ms that --help must not pay

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [document for document in yaml.load_all(content, Loader=loader) if document]


def yaml_stream(objects: Sequence[Mapping[str, Any]]) -> str:
    """Return these objects as a YAML stream, which `documents` reads back."""
    import yaml  # noqa: PLC0415 - 30 ms that --help must not pay

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump_all(objects, Dumper=dumper, sort_keys=False))
