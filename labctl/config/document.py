"""Read `labctl.yaml` as safe YAML, with the place of a syntax error and with duplicate keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from labctl.config.problems import Problem, display_value, invalid_error
from labctl.config.scalars import BOOL, FLOAT, FORMS, INT, WrittenFloat
from labctl.host import paths
from labctl.model.errors import UsageError


def read(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    """Return the keys and values of the file, and a problem for each duplicate key. An empty file has none.

    Raises UsageError `config-not-found`, `config-unreadable`, and `config-invalid` if it is not a YAML mapping.
    """
    return parse(path, content(path))


def content(path: Path) -> bytes:
    """Return the content of the file, without waiting for a writer. Raises UsageError as `read` does."""
    try:
        return paths.content(path)
    except FileNotFoundError as error:
        message, hint = f"there is no configuration file {path}", "Run `labctl init` to write one."
        if path.is_symlink():
            message = f"the link {path} points to {path.readlink()}, which does not exist"
            hint = "Create that file, or remove the link."
        raise UsageError(message, id="config-not-found", hint=hint) from error
    except OSError as error:
        raise UsageError(
            f"cannot read the configuration file {path}: {error.strerror}",
            id="config-unreadable",
            hint="Make the file readable, or choose another with --config.",
        ) from error


def parse(path: Path, text: bytes | str) -> tuple[dict[str, Any], list[Problem]]:
    """Return the keys, values and problems of this content, as `read` does. Raises UsageError `config-invalid`."""
    try:
        loader = _Loader(text)
        values = loader.get_single_data()
    except (yaml.YAMLError, RecursionError) as error:
        raise invalid_error(path, [Problem("", "", f"is not valid YAML: {_position(error)}")]) from error
    if values is None:
        return {}, []
    if not isinstance(values, dict):
        raise invalid_error(path, [Problem("", display_value(values), "must be keys and values, such as `workers: 2`")])
    return values, loader.duplicates


def value_before_error(text: bytes, key: str) -> str | None:
    """Return the value of a top-level key before the content's syntax error; None unless there is exactly one."""
    depth, scalars = 0, []
    with suppress(yaml.YAMLError):
        for event in yaml.parse(text, Loader=_Loader):
            if depth == 1 and isinstance(event, (yaml.ScalarEvent, yaml.AliasEvent, yaml.CollectionStartEvent)):
                scalars.append(event.value if isinstance(event, yaml.ScalarEvent) else None)
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
    values = [value for its_key, value in zip(scalars[::2], scalars[1::2], strict=False) if its_key == key]
    return values[0] if len(values) == 1 else None


def _only(convert: Callable[[str], Any], tag: str) -> Callable[[_Loader, yaml.ScalarNode], Any]:
    """Return a constructor for scalars with this tag that rejects scalars in another form than the tag's."""
    form = next(form for its_tag, form, _ in FORMS if its_tag == tag)

    def construct(loader: _Loader, node: yaml.ScalarNode) -> Any:  # noqa: ANN401 - any value of the file
        if not form.match(text := loader.construct_scalar(node)):
            raise ValueError(text)
        return convert(text)

    return construct


class _Loader(yaml.SafeLoader):
    """A safe YAML loader that collects duplicate keys and locates values that cannot be read."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, Any]]] = {}  # noqa: RUF012 - replaces PyYAML's, which follow YAML 1.1

    def __init__(self, content: bytes | str) -> None:
        super().__init__(content)
        self.duplicates: list[Problem] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                text = f"is a duplicate key, in lines {lines[key.value]} and {line}"
                self.duplicates.append(Problem(display_value(key.value), "", text))
            lines[key.value] = line
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 - PyYAML's signature
        try:
            return super().construct_object(node, deep)
        except (
            ValueError,
            LookupError,
            AttributeError,
        ) as error:  # 2026-13-45 and !!int x, which PyYAML does not catch
            raise yaml.constructor.ConstructorError(
                None, None, f"{display_value(node.value)} cannot be read", node.start_mark
            ) from error


for _tag, _form, _first in FORMS:
    _Loader.add_implicit_resolver(_tag, _form, _first)
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile("^<<$"), ["<"])
_Loader.add_constructor(INT, _only(int, INT))
_Loader.add_constructor(FLOAT, _only(WrittenFloat, FLOAT))
_Loader.add_constructor(BOOL, _only("true".__eq__, BOOL))


def _position(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it nests too deeply"
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark):
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    if isinstance(error, yaml.reader.ReaderError) and isinstance(error.character, int):
        return f"byte {error.position + 1}, 0x{error.character:02x}, is not {error.encoding.upper()}"
    return " ".join(str(error).split())
