"""Budgets that keep the code readable. Style, types and imports are checked by `.ci/lint`."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.cluster.client import Cluster
from labctl.context import Context
from labctl.providers.protocol import Provider

IMPORT = re.compile(r"^(?:.*; )?from (labctl[\w.]*) import ([\w, ]+)", re.MULTILINE)
CHECKOUT = Path(__file__).parent.parent
PRODUCT = sorted([*CHECKOUT.glob("labctl/**/*.py"), *CHECKOUT.glob("templates/**/*"), CHECKOUT / "Vagrantfile.j2"])
MODULES = [path for path in PRODUCT if path.suffix == ".py"]

TOP_ENTRIES = 20
README_LINES = 150
DEMO_LINES = 800
FILE_LINES = 400
FUNCTION_LINES = 40
COMMAND_STATEMENTS = 6
PROVIDER_METHODS = 10
CLUSTER_METHODS = 9
CONTEXT_FIELDS = 8


def test_the_package_opens_with_few_entries() -> None:
    entries = [path.name for path in (CHECKOUT / "labctl").iterdir() if not path.name.startswith("__")]

    assert len([name for name in entries if name != "py.typed"]) <= TOP_ENTRIES, entries


@pytest.mark.parametrize(
    ("pattern", "budget"), [("README.md", README_LINES), ("labctl/demo/*.py", DEMO_LINES)], ids=["README", "demo"]
)
def test_these_files_together_stay_within_their_budget(pattern: str, budget: int) -> None:
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in CHECKOUT.glob(pattern)}

    assert 0 < sum(lengths.values()) <= budget, lengths


def test_no_file_is_longer_than_its_budget() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PRODUCT if path.is_file()}

    assert _over_budget({_relative(path): length for path, length in lengths.items()}, FILE_LINES) == {}, (
        "split these files"
    )


def test_no_function_is_longer_than_its_budget() -> None:
    lengths = {
        f"{_relative(path)}:{function.lineno} {function.name}": (function.end_lineno or 0) - function.lineno + 1
        for path in MODULES
        for function in _functions(path)
    }

    assert _over_budget(lengths, FUNCTION_LINES) == {}, "split these functions"


def test_no_command_does_more_than_turn_options_into_calls() -> None:
    commands = {
        f"{path.stem} {function.name}": sum(
            isinstance(node, ast.stmt) for each in _body(function) for node in ast.walk(each)
        )
        for path in (CHECKOUT / "labctl" / "cli").glob("*.py")
        for function in _functions(path)
        if any("command" in ast.unparse(decorator) for decorator in function.decorator_list)
    }

    assert len(commands) > 10
    assert _over_budget(commands, COMMAND_STATEMENTS) == {}, "move the work of these commands out of cli"


@pytest.mark.parametrize(("interface", "budget"), [(Provider, PROVIDER_METHODS), (Cluster, CLUSTER_METHODS)])
def test_interfaces_stay_small(interface: type, budget: int) -> None:
    methods = [name for name, _ in inspect.getmembers(interface, inspect.isfunction) if not name.startswith("_")]

    assert len(methods) <= budget, f"{interface.__name__} has {methods}"


def test_the_context_stays_small() -> None:
    fields = [field.name for field in dataclasses.fields(Context)]

    assert len(fields) <= CONTEXT_FIELDS, f"Context has {fields}"


def _functions(path: Path) -> Iterator[ast.FunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def _body(function: ast.FunctionDef) -> list[ast.stmt]:
    """Return a function's statements without its docstring and late imports."""
    return [
        each for each in function.body if not isinstance(each, ast.Import | ast.ImportFrom | ast.Expr) or _acts(each)
    ]


def _acts(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and not isinstance(statement.value, ast.Constant)


def _over_budget(sizes: dict[str, int], budget: int) -> dict[str, int]:
    return {name: size for name, size in sizes.items() if size > budget}


def _relative(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def test_programs_embedded_in_tests_import_only_what_exists() -> None:
    """No type checker sees these programs, and some run only on a machine that an end-to-end test creates."""
    texts = (
        node.value
        for path in sorted(CHECKOUT.glob("tests/**/*.py"))
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    imported = {
        (module, name.strip()) for text in texts for module, names in IMPORT.findall(text) for name in names.split(",")
    }

    assert ("labctl.bundle.build", "debian") in imported
    assert {each for each in imported if not _exists(*each)} == set()


def _exists(module: str, name: str) -> bool:
    if importlib.util.find_spec(module) is None:
        return False
    return hasattr(importlib.import_module(module), name) or importlib.util.find_spec(f"{module}.{name}") is not None
