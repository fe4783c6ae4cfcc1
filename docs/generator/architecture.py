"""The generated parts of docs/architecture.md: the layers, from the import contract, and the steps of `up`."""

from __future__ import annotations

import ast
import re
import tomllib

from generator import markdown, sources
from labctl.plans.plan import describe
from labctl.plans.up import up

PAGE = sources.CHECKOUT / "docs" / "architecture.md"


def page() -> str:
    """Return the page with its generated parts replaced."""
    text = PAGE.read_text(encoding="utf-8")
    for name, part in {"layers": _layers(), "steps": _steps()}.items():
        begin, end = f"<!-- {name}: generated -->\n\n", "<!-- end -->"
        before, rest = text.split(begin, 1)
        text = f"{before}{begin}{part}\n\n{end}{rest.split(end, 1)[1]}"
    return text


def _layers() -> str:
    project = tomllib.loads((sources.CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (
        each for each in project["tool"]["importlinter"]["contracts"] if each.get("containers") == ["labctl"]
    )
    rows = [re.split(r" *[|:] *", layer) for layer in contract["layers"]]
    return markdown.table(
        ("Layer", "Package", "What it is"),
        (
            (str(number), markdown.code(name), _summary(name))
            for number, names in enumerate(rows, start=1)
            for name in names
        ),
    )


def _summary(name: str) -> str:
    tree = sources.modules()[f"{sources.PACKAGE}.{name}"]
    return " ".join((ast.get_docstring(tree) or "").partition("\n\n")[0].split())


def _steps() -> str:
    return markdown.table(
        ("Step", "What it does"), ((markdown.code(each["step"]), each["does"]) for each in describe(up(isolated=True)))
    )
