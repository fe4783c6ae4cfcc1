"""Change the apps of a `labctl.yaml`: check the result first, then write the whole file or nothing."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from labctl.config import splice
from labctl.config.check import check
from labctl.config.document import content, parse
from labctl.config.model import Config
from labctl.config.problems import Problem, invalid_error
from labctl.host import paths
from labctl.host.files import create, rewrite
from labctl.model.errors import UsageError
from labctl.model.lab import Lab

App = Mapping[str, Any]
"""An app, as keys and values of a labctl.yaml."""

FAILPOINT = "config.rename"
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


@dataclass(frozen=True, slots=True)
class Source:
    """The text and the values of a `labctl.yaml`, which may not be written yet."""

    path: Path
    text: str
    values: Mapping[str, Any]
    problems: tuple[Problem, ...] = ()
    """Duplicate keys."""
    original: bytes | None = None
    """The content of the file when it was read; None if there was no file."""
    encoding: str = "utf-8"

    @property
    def exists(self) -> bool:
        """Whether the file existed when it was read."""
        return self.original is not None

    @property
    def apps(self) -> list[Any]:
        """The apps as they are written, not checked; without the key, the default app."""
        if splice.KEY not in self.values:
            return [app.model_dump(exclude_defaults=True) for app in Config().apps]
        written = self.values[splice.KEY]
        return written if isinstance(written, list) else []

    def lab(self, apps: Sequence[Any], name: str | None, words: Mapping[str, str]) -> Lab:
        """Return the lab with these apps, and with this name if one is given.

        `words` maps keys to the names that the user knows. Raises UsageError `config-invalid` with every problem.
        """
        is_list = isinstance(self.values.get(splice.KEY, []), list)  # any other type is reported as a problem
        listed = {splice.KEY: list(apps)} if is_list else {}
        lab, wrong = check({**self.values, **listed, **({"name": name} if name else {})})
        problems = [*self.problems, *(each._replace(key=words.get(each.key, each.key)) for each in wrong)]
        if problems:
            raise invalid_error(self.path if self.exists else None, problems)
        return lab

    def with_app(self, app: App) -> Source:
        """Return the file with this app after the others. Raises UsageError `config-not-editable`."""
        apps = [*self.apps, app]
        if splice.KEY not in self.values:
            return self._edit(apps, lambda text: splice.with_list(text, apps))
        return self._edit(apps, lambda text: splice.with_app(text, app))

    def without_app(self, name: str) -> Source:
        """Return the file without the app of this name, which must exist. Raises UsageError `config-not-editable`."""
        index = [app["name"] for app in self.apps].index(name)
        apps = [*self.apps[:index], *self.apps[index + 1 :]]
        if splice.KEY not in self.values:
            return self._edit(apps, lambda text: splice.with_list(text, apps))
        return self._edit(apps, lambda text: splice.without_app(text, index))

    def _edit(self, apps: Sequence[App], edit: Callable[[str], str]) -> Source:
        """Return the file with the edited text, which must have these apps and otherwise the same values."""
        values = {**self.values, splice.KEY: apps}
        line_end = "\r\n" if 0 < self.text.count("\n") == self.text.count("\r\n") else "\n"
        try:
            text = edit(self.text.replace(line_end, "\n")).replace("\n", line_end)
            is_right = parse(self.path, text)[0] == values
        except (splice.UnclearError, yaml.YAMLError, UsageError):
            is_right = False
        if not is_right:
            raise UsageError(
                f"{self.path}: labctl cannot change the apps without changing something else",
                id="config-not-editable",
                hint="Change them in an editor, then run `labctl up`.",
            )
        return replace(self, text=text, values=values)


def read_source(path: Path) -> Source:
    """Read the file. Raises UsageError as `config.load` does, but not for invalid values."""
    original = content(path)
    values, problems = parse(path, original)
    encoding = _UTF16.get(original[:2], "utf-8")
    return Source(path, original.decode(encoding), values, tuple(problems), original, encoding)


def new_source(path: Path, values: Mapping[str, Any], apps: Sequence[App]) -> Source:
    """Return a file that does not exist yet, with these values and apps."""
    text = yaml.safe_dump(dict(values), sort_keys=False) if values else ""
    return Source(path, splice.with_list(text, apps), {**values, splice.KEY: list(apps)})


def write(source: Source) -> None:
    """Write the whole file or nothing. Follow links; keep mode and owner.

    Raises UsageError `config-changed` if the file has changed since it was read, and `config-unwritable`.
    """
    real, new = paths.real(source.path), source.text.encode(source.encoding)
    try:
        if (real.read_bytes() if real.exists() else None) != source.original:
            raise _changed_error(source.path)
        if source.original is None:
            create(real, new, point=FAILPOINT)
        else:
            rewrite(real, source.original, new, FAILPOINT)
    except FileExistsError as error:
        raise _changed_error(source.path) from error
    except OSError as error:
        raise UsageError(
            f"cannot write the configuration file {source.path}: {error.strerror}",
            id="config-unwritable",
            hint="Make the file and its folder writable.",
        ) from error


def _changed_error(path: Path) -> UsageError:
    return UsageError(
        f"{path} was changed by another program before labctl could write it",
        id="config-changed",
        hint="Run the same command again.",
    )
