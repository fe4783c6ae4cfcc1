"""Reading `labctl.yaml`: safe YAML that says where it is broken and notices keys written twice."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from labctl.config.problems import Problem, invalid, shown
from labctl.errors import UsageError


def read(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    """The file's keys and values, and the keys that it holds twice; an empty file has none.

    Raises UsageError: `config-not-found`, `config-unreadable`, or `config-invalid` when it is not a YAML mapping.
    """
    try:
        loader = _Loader(path.read_bytes())
        values = loader.get_single_data()
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no configuration file {path}", id="config-not-found", hint="`labctl init` writes one."
        ) from error
    except OSError as error:
        raise UsageError(
            f"cannot read the configuration file {path}: {error.strerror}",
            id="config-unreadable",
            hint="Make it a readable file, or name another with --config.",
        ) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise invalid(path, [Problem("", "", f"is not valid YAML: {_where(error)}")]) from error
    if values is None:
        return {}, []
    if not isinstance(values, dict):
        raise invalid(path, [Problem("", shown(values), "must be keys and values, such as `workers: 2`")])
    return values, loader.duplicates


class _Loader(yaml.SafeLoader):
    """Safe YAML that notices keys written twice, and says where a value cannot be read."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.duplicates: list[Problem] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                text = f"is written twice, in lines {lines[key.value]} and {line}"
                self.duplicates.append(Problem(shown(key.value), "", text))
            lines[key.value] = line
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 - PyYAML's signature
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:  # 2026-13-45, !!int x: PyYAML lets these through
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value!r} cannot be read", node.start_mark
            ) from error


def _where(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark):
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())
