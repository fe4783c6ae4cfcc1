"""Every cause that `trace`, `status` and `up` report, from the table of causes and the notes in causes.toml."""

from __future__ import annotations

import ast
import math
import tomllib
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from generator import markdown, sources
from labctl.cluster import unready
from labctl.trace.causes import CAUSES, Cause

NOTES = sources.CHECKOUT / "docs" / "causes.toml"
PODS = "pods"
TITLES = {
    "name": "Name",
    "address": "Address",
    "node": "Node",
    "node, response": "Node or response",
    "node, pod": "Node or pod",
    "node, rule": "Node or rule",
    "rule": "Rule",
    "pod": "Pod",
    "pod, response": "Pod or response",
    "response": "Response",
    "any": "Any hop",
    "status": "Only in `labctl status`",
}
INTRODUCTION = """\
`labctl trace`, `labctl status` and `labctl up` identify each problem by one of these ids: `cause` of a hop, `id` of a problem,
and `id` of the error that `up` ends with. Each report includes a fix and, where possible, the commands to run.

A hop is *ok*, *warning* (the request works, but not for everyone or not for long), *broken*, *unknown* (labctl could not
check) or *not reached*. Only *broken* changes the exit code, to 8.

`up` waits two minutes for a problem to go away, or for the time that this page gives."""


def page() -> str:
    """Return the page."""
    notes = tomllib.loads(NOTES.read_text(encoding="utf-8"))
    pods = notes.pop(PODS)
    if unknown := sorted({*notes} - {*CAUSES} | {*pods} ^ reasons()):
        raise ValueError(f"{NOTES.name} and the sources differ about {', '.join(unknown)}")
    return markdown.page(
        "Causes",
        INTRODUCTION,
        *(
            block
            for hop, rows in groupby(CAUSES, key=lambda name: CAUSES[name].hop)
            for block in (f"## {TITLES[hop]}", *_causes(rows, notes))
        ),
        "## Why pods are not ready",
        *(block for name, row in pods.items() for block in (f"### {name}", _meaning(row["meaning"], row["wait"]))),
    )


def reasons() -> set[str]:
    """Return the ids of the reasons why a pod is not ready."""
    calls = [node for node in ast.walk(sources.modules()[unready.__name__]) if isinstance(node, ast.Call)]
    return {
        str(call.args[0].value)
        for call in calls
        if isinstance(call.func, ast.Name)
        and call.func.id == unready.Problem.__name__
        and isinstance(call.args[0], ast.Constant)
    }


def _causes(names: Iterator[str], notes: Mapping[str, Any]) -> Iterator[str]:
    for name in names:
        yield f"### {name}"
        yield _meaning(CAUSES[name].meaning, _wait(CAUSES[name]))
        yield notes.get(name, "").strip()


def _meaning(meaning: str, wait: str) -> str:
    return f"Means: {meaning}. {wait}".rstrip()


def _wait(cause: Cause) -> str:
    return "" if math.isinf(cause.patience) else f"`up` waits {cause.patience:g} seconds."
