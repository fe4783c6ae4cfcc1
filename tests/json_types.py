"""Types of JSON documents: check a value against its type, and list a type's keys."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

NAMES = {str: "text", int: "integer", float: "number", bool: "boolean", type(None): "null", Any: "any"}


def differences(value: object, hint: Any, place: str = "") -> Iterator[str]:  # noqa: ANN401 - a type of any form
    """Yield the places where a value read from JSON does not match a type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if is_typeddict(hint):
        yield from _in_an_object(value, hint, place)
    elif origin is list and isinstance(value, list):
        for index, each in enumerate(value):
            yield from differences(each, arguments[0], f"{place}[{index}]")
    elif not _is(value, hint):
        yield f"{place}: {value!r} is not {hint}"


def keys(hint: Any, indent: str = "") -> Iterator[str]:  # noqa: ANN401 - a type of any form
    """Yield a line for each key of a type, followed by the indented keys of its value."""
    for key, each in get_type_hints(hint, include_extras=True).items():
        value = _required(each)
        yield f"{indent}{key}{'' if value is each else '?'}: {_named(value)}"
        for part in (value, *get_args(value)):
            if is_typeddict(part):
                yield from keys(part, f"{indent}  ")


def _in_an_object(value: object, hint: Any, place: str) -> Iterator[str]:  # noqa: ANN401 - a type of any form
    hints = get_type_hints(hint, include_extras=True)
    needed = {key for key, each in hints.items() if get_origin(each) is not NotRequired}
    if not isinstance(value, dict) or not needed <= value.keys() <= hints.keys():
        yield f"{place}: {value!r} has not the keys of {hint.__name__}"
        return
    for key in value:
        yield from differences(value[key], _required(hints[key]), f"{place}.{key}")


def _is(value: object, hint: Any) -> bool:  # noqa: ANN401 - a type of any form
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        return any(not list(differences(value, each)) for each in arguments)
    if origin is Literal:
        return value in arguments
    allowed = {int, float} if hint is float else {origin or hint}
    return hint is Any or type(value) in allowed


def _required(hint: Any) -> Any:  # noqa: ANN401 - a type of any form
    return get_args(hint)[0] if get_origin(hint) is NotRequired else hint


def _named(hint: Any) -> str:  # noqa: ANN401 - a type of any form
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(json.dumps, arguments))
    if origin is list:
        return f"list of {_named(arguments[0])}"
    if origin in {Union, types.UnionType}:
        return " or ".join(map(_named, arguments))
    return NAMES.get(hint, "object")
