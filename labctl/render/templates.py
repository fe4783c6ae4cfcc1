"""Strict rendering of templates."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment

CHECKOUT = Path(__file__).resolve().parents[2]


def text(template: str, **values: object) -> str:
    """Render a template; a name that it uses and `values` lacks is an error, never an empty string."""
    return _environment().get_template(template).render(values)


def static(name: str) -> str:
    """Return a file of the templates folder without rendering it."""
    return next(path for folder in template_folders() if (path := folder / name).is_file()).read_text(encoding="utf-8")


def template_folders() -> tuple[Path, ...]:
    """Return the folders of templates: in the installed package, or in the checkout of an editable install."""
    packaged = Path(str(files("labctl"))) / "templates"
    return (packaged,) if packaged.is_dir() else (CHECKOUT / "templates", CHECKOUT)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - 40 ms that --help must not pay

    environment = Environment(
        loader=FileSystemLoader(template_folders()),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - the outputs are YAML, Ruby and shell, quoted by the filters below
    )
    environment.filters["ruby"] = _ruby
    environment.filters["yaml"] = _yaml
    return environment


def _ruby(value: object) -> str:
    """Return a Ruby string literal: JSON's, with # escaped so that it starts no interpolation."""
    # With ensure_ascii, characters beyond U+FFFF would become surrogate pairs, which Ruby rejects.
    return json.dumps(str(value), ensure_ascii=False).replace("#", r"\#")


def _yaml(value: object) -> str:
    """Return a YAML scalar: every JSON string or number is one."""
    return json.dumps(value if isinstance(value, int) else str(value))
