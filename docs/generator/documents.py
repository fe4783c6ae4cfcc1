"""Every JSON document, from the types of the answers: keys, types, and what each is for."""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from generator import markdown
from labctl import doctor
from labctl.cli.argv import EVENTS_FOLLOW
from labctl.model import reports

MODULES = (reports, doctor)
ANSWERS: Mapping[str, str] = {
    "status": "StatusReport",
    "trace": "TraceReport",
    "open": "OpenReport",
    "doctor": "DoctorReport",
    "hosts sync": "HostsReport",
    "hosts remove": "HostsReport",
    "hosts show": "HostsReport",
    "logs": "LinesReport",
    "version": "VersionReport",
    "demo run": "DemoReport",
}
"""The document of each command."""
PRIMITIVES: Mapping[object, tuple[str, object]] = {
    str: ("text", "…"),
    int: ("whole number", 1),
    float: ("number", 1.5),
    bool: ("true or false", True),
    type(None): ("null", None),
    Any: ("any value", {}),
}
"""How each type is called, and an example of it."""


EVENTS = """\
{commands} write one JSON object a line while they run.

A `step` event reports one step:

| Key | Type |
| --- | --- |
| `event` | `"step"` |
| `step` | text: the name of the step |
| `state` | `"started"`, `"progress"`, `"done"` or `"failed"` |
| `changed` | true or false; only if the step is done |
| `seconds` | number; only if the step is done or failed |
| `text` | text: what happens, in words |

The last line is the `result` event, also after a failure or a bug:

| Key | Type |
| --- | --- |
| `event` | `"result"` |
| `version` | `1` |
| `ok` | true or false |
| `changed` | true or false: whether any step changed something |
| `seconds` | number |
| `urls` | list of text |
| `hosts` | `"written"`, `"pending"` or `"not needed"`: the lab's lines in the hosts file |
| `error` | [ErrorReport](#errorreport) or null |"""


def page() -> str:
    """Return the page."""
    classes, printed = documents(), set(ANSWERS.values())
    return markdown.page(
        "JSON",
        "With `-o json` a command prints JSON on standard output. An object that a command prints has the key"
        " `version`; it is 1. A later release may add keys. Removing a key, or changing its type or meaning, makes"
        " `version` 2.",
        "## Events",
        EVENTS.format(commands=_links(EVENTS_FOLLOW)),
        "## Documents",
        *(block for name, cls in classes.items() if name in printed for block in _section(name, cls, classes)),
        "## Parts of documents",
        *(block for name, cls in classes.items() if name not in printed for block in _section(name, cls, classes)),
    )


def answer_of(words: str) -> str:
    """Return what a command prints with `-o json`, as a link."""
    if words in EVENTS_FOLLOW:
        return "With `-o json`: [events](json.md#events)."
    name = ANSWERS.get(words)
    return f"With `-o json`: [{name}](json.md#{markdown.slug(name)})." if name else ""


def documents() -> dict[str, type]:
    """Return every type of an answer, by its name, in the order of the sources."""
    return {
        name: value
        for module in MODULES
        for name, value in vars(module).items()
        if is_typeddict(value) and value.__module__ == module.__name__
    }


def _section(name: str, cls: type, classes: Mapping[str, type]) -> Iterator[str]:
    commands = [words for words, answer in ANSWERS.items() if answer == name]
    yield f"### {name}"
    yield " ".join((inspect.getdoc(cls) or "").split())
    yield f"Printed by {_links(commands)}." if commands else ""
    hints = get_type_hints(cls)
    optional: frozenset[str] = getattr(cls, "__optional_keys__", frozenset())
    rows = [
        (markdown.code(key), _type(hint, classes), "may be absent" if key in optional else "")
        for key, hint in hints.items()
    ]
    yield markdown.table(("Key", "Type", ""), rows)
    yield markdown.block(json.dumps(_example(cls), indent=2, ensure_ascii=False), "json") if commands else ""


def _links(commands: Iterable[str]) -> str:
    return ", ".join(f"[`labctl {words}`](commands.md#labctl-{markdown.slug(words)})" for words in commands)


def _type(hint: object, classes: Mapping[str, type]) -> str:
    if hint in PRIMITIVES:
        return PRIMITIVES[hint][0]
    if is_typeddict(hint):
        name = getattr(hint, "__name__", "")
        return f"[{name}](#{markdown.slug(name)})"
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        return " or ".join(_type(each, classes) for each in arguments)
    if origin is Literal:
        return " or ".join(markdown.code(json.dumps(each)) for each in arguments)
    if origin is list:
        return f"list of {_type(arguments[0], classes)}"
    if origin is dict:
        return f"object with values: {_type(arguments[1], classes)}"
    raise TypeError(f"no words for the type {hint}")


def _example(hint: object) -> object:
    if hint in PRIMITIVES:
        return PRIMITIVES[hint][1]
    if is_typeddict(hint):
        return {key: _example(each) for key, each in get_type_hints(hint).items()}
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is list:
        return [_example(arguments[0])]
    return {} if origin is dict else arguments[0] if origin is Literal else _example(arguments[0])
