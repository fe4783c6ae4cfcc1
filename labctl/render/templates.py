"""Templates to text, strictly; and files that are written only when they differ."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.host.caller import give, make_folder
from labctl.host.failpoints import failpoint

if TYPE_CHECKING:
    from jinja2 import Environment

CHECKOUT = Path(__file__).resolve().parents[2]
PRIVATE = 0o600


def text(template: str, **values: object) -> str:
    """Return the template filled in; a name the template uses and `values` lacks is an error, never an empty string."""
    return _environment().get_template(template).render(values)


def static(name: str) -> str:
    """Return a file of the templates folder as it is."""
    return next(path for folder in template_folders() if (path := folder / name).is_file()).read_text(encoding="utf-8")


def documents(content: str) -> list[dict[str, Any]]:
    """The objects in a YAML stream of Kubernetes manifests."""
    import yaml  # noqa: PLC0415 - 30 ms that --help must not pay

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return [document for document in yaml.load_all(content, Loader=loader) if document]


def yaml_stream(objects: Sequence[Mapping[str, Any]]) -> str:
    """The YAML stream of these objects; what `documents` reads back."""
    import yaml  # noqa: PLC0415 - 30 ms that --help must not pay

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump_all(objects, Dumper=dumper, sort_keys=False))


def write(folder: Path, contents: Mapping[str, str]) -> bool:
    """Make every file below `folder` hold its content, readable by its owner alone; True if one of them changed.

    A file is replaced whole or not at all.
    """
    changed = [_write(folder / name, content.encode()) for name, content in contents.items()]
    return any(changed)


def template_folders() -> tuple[Path, ...]:
    """Where templates live: in the installed package, or in the checkout that an editable install points to."""
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
    """A Ruby string literal: JSON's, with the # that starts an interpolation taken out of its meaning."""
    # JSON would escape what is not ASCII as pairs of surrogates, which Ruby refuses.
    return json.dumps(str(value), ensure_ascii=False).replace("#", r"\#")


def _yaml(value: object) -> str:
    """A YAML scalar: JSON's strings and numbers are YAML's."""
    return json.dumps(value if isinstance(value, int) else str(value))


def _write(path: Path, content: bytes) -> bool:
    if path.is_file() and path.read_bytes() == content:
        return False
    make_folder(path.parent, 0o700)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        failpoint("write")
        Path(temporary).replace(path)
        give(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # a write does not say to which file
    finally:
        Path(temporary).unlink(missing_ok=True)
    return True
