"""Every JSON document, from the types of the answers: its purpose, keys and types."""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from generator import markdown
from labctl.cli.argv import EVENTS_FOLLOW
from labctl.model import demo_reports, reports

ANSWERS: Mapping[str, str] = {
    "up --dry-run": "PlanReport",
    "status": "StatusReport",
    "trace": "TraceReport",
    "open": "OpenReport",
    "list": "LabsReport",
    "doctor": "DoctorReport",
    "app list": "AppsReport",
    "hosts sync": "HostsReport",
    "hosts remove": "HostsReport",
    "hosts show": "HostsReport",
    "kubeconfig": "KubeconfigReport",
    "kubeconfig --merge": "MergeReport",
    "logs": "LinesReport",
    "logs --export": "ExportReport",
    "bundle list": "CacheReport",
    "bundle verify": "BundlesReport",
    "image list": "ImagesReport",
    "demo list": "DemosReport",
    "demo run": "DemoReport",
    "init": "InitReport",
    "render": "RenderReport",
    "schema": "SchemaReport",
    "completion": "CompletionReport",
    "version": "VersionReport",
}
"""The document of each command, and of the options that select another document."""
PRIMITIVES: Mapping[object, tuple[str, object]] = {
    str: ("text", "…"),
    int: ("whole number", 1),
    float: ("number", 1.5),
    bool: ("true or false", True),
    type(None): ("null", None),
    Any: ("any value", {}),
}
"""The name of each type, and an example of it."""
EVENT_TYPES = ("StepEvent", "ResultEvent")
ERROR_TYPE = "ErrorDocument"
BASE = "Document"

EVENTS = """\
{commands} write one JSON object a line while they run: a [StepEvent](#stepevent) whenever something happens in a step,
and last, also after a failure or a bug, a [ResultEvent](#resultevent)."""
ERRORS = """\
A command that writes a document writes this one instead when it fails, also because of a bug."""


def page() -> str:
    """Return the page."""
    classes = documents()
    rest = {name: cls for name, cls in classes.items() if name not in {*ANSWERS.values(), *EVENT_TYPES, ERROR_TYPE}}
    return markdown.page(
        "JSON",
        "With `-o json` a command prints JSON on standard output. Every document has the key `version`; it is 1. A later"
        " release may add keys. Removing a key, or changing its type or meaning, makes `version` 2.",
        "## Events",
        EVENTS.format(commands=_links(EVENTS_FOLLOW)).replace("\n", " "),
        *(block for name in EVENT_TYPES for block in _section(name, classes)),
        "## Errors",
        ERRORS,
        *_section(ERROR_TYPE, classes),
        "## Documents",
        *(block for name in classes if name in ANSWERS.values() for block in _section(name, classes)),
        "## Parts of documents",
        *(block for name in rest if name != BASE for block in _section(name, classes)),
    )


def answer_of(words: str) -> str:
    """Return a sentence with links to what a command prints with `-o json`."""
    events = "[events](json.md#events)" if words in EVENTS_FOLLOW else ""
    plain = ANSWERS.get(words)
    parts = [events, _link(plain) if plain else ""]
    parts += [
        f"{_link(name)} with `{line.removeprefix(words).strip()}`"
        for line, name in ANSWERS.items()
        if line.startswith(f"{words} --")
    ]
    answer = ", ".join(part for part in parts if part)
    return f"With `-o json`: {answer}." if answer else ""


def documents() -> dict[str, type]:
    """Return every type of the answers, by its name, in the order of the sources."""
    return {
        name: value
        for module in (reports, demo_reports)
        for name, value in vars(module).items()
        if is_typeddict(value) and value.__module__ == module.__name__
    }


def _section(name: str, classes: Mapping[str, type]) -> Iterator[str]:
    cls = classes[name]
    commands = [words for words, answer in ANSWERS.items() if answer == name]
    yield f"### {name}"
    yield re.sub(r"\bNone\b", "null", " ".join((inspect.getdoc(cls) or "").split()))
    yield f"Printed by {_links(commands)}." if commands else ""
    rows = [
        (markdown.code(key), _type(hint, classes) + ("; may be absent" if key in _optional(cls) else ""))
        for key, hint in get_type_hints(cls).items()
    ]
    yield markdown.table(("Key", "Type"), rows)
    yield markdown.block(json.dumps(_example(cls), indent=2, ensure_ascii=False), "json") if commands else ""


def _optional(cls: type) -> set[str]:
    return {key for key, hint in get_type_hints(cls, include_extras=True).items() if get_origin(hint) is NotRequired}


def _links(commands: Iterable[str]) -> str:
    return ", ".join(
        f"[`labctl {words}`](commands.md#labctl-{markdown.slug(words.partition(' --')[0])})" for words in commands
    )


def _link(name: str) -> str:
    return f"[{name}](json.md#{markdown.slug(name)})"


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
