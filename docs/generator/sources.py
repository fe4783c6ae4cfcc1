"""The sources of labctl: the syntax tree of every module, and the values of its constants."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PACKAGE = "labctl"


@cache
def modules() -> Mapping[str, ast.Module]:
    """Return the syntax tree of every module, by its dotted name."""
    return {
        ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            path.read_bytes()
        )
        for path in sorted((CHECKOUT / PACKAGE).rglob("*.py"))
    }


def texts(module: str, value: ast.expr) -> list[str] | None:
    """Return the possible values of an expression: a literal, a constant, or a choice of both; None if unknown."""
    match value:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.Name(id=name):
            return _constant(module, name)
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            return _constant(_imports(module).get(owner, ("", ""))[0] or "", name)
        case ast.IfExp(body=first, orelse=second):
            both = texts(module, first), texts(module, second)
            return [*(both[0] or ()), *(both[1] or ())] or None
    return None


def _constant(module: str, name: str) -> list[str] | None:
    if module not in modules():
        return None
    for statement in modules()[module].body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=assigned)], value=value) if assigned == name:
                return texts(module, value)
    origin, original = _imports(module).get(name, ("", ""))
    return _constant(origin, original) if origin in modules() and origin != module else None


@cache
def _imports(module: str) -> Mapping[str, tuple[str, str]]:
    """Return the module and name that each imported name refers to; the second part is empty for a module."""
    return dict(_imported(module))


def _imported(module: str) -> Iterator[tuple[str, tuple[str, str]]]:
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                origin = (whole, "") if whole in modules() else (node.module, alias.name)
                yield alias.asname or alias.name, origin
