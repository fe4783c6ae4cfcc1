"""Demo files: their format, their folders, and their problems."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from labctl.config import document
from labctl.config.problems import Problem, display_value, explanation
from labctl.demo.expect import Expectation, Gap, Seconds, matching
from labctl.demo.names import MEASURED, Part, Text, names_in
from labctl.host import paths
from labctl.model.errors import UsageError
from labctl.model.reports import DemoProblem, DemosReport
from labctl.render.ingress import CONTROLLERS

OWN_DEMOS = Path(__file__).resolve().parent / "demos"
_CONTROLLERS = [controller.name for controller in CONTROLLERS]


def _command(line: str) -> str:
    if shlex.split(line)[:1] not in (["labctl"], ["kubectl"]):
        raise ValueError("must begin with labctl or kubectl")
    return line


class Command(Part):
    """A command line, its standard input, and the exit code that it must have; `hide` leaves it out of recordings."""

    command: Annotated[Text, AfterValidator(_command)]
    input: Text | None = None
    code: Annotated[int, Field(ge=0, le=255)] = 0
    hide: bool = False


CommandOrLine = Annotated[
    Command, BeforeValidator(lambda value: {"command": value} if isinstance(value, str) else value)
]
Count = Annotated[int, Field(ge=0)]


class Traffic(Part):
    """Requests to a hostname from some seconds before the first command until some seconds after the last."""

    hostname: Text
    before: Seconds = 3.0
    after: Seconds = 3.0


class Scene(Part):
    """Text, commands, and what must hold afterwards; `hide` leaves it out of recordings."""

    title: Text
    say: Text | None = None
    load: Traffic | None = None
    hide: bool = False
    run: list[CommandOrLine] = Field(default=[])
    expect: list[Expectation] = Field(default=[])

    @model_validator(mode="after")
    def _gaps_have_a_load(self) -> Self:
        if self.load is None and any(isinstance(expected, Gap) for expected in self.expect):
            raise ValueError("expects a `gap`, which needs a `load` in the same scene")
        return self


class Needs(Part):
    """What a lab must have at least; `replicas` are those of its first app."""

    workers: Count = 0
    apps: Count = 0
    replicas: Count = 0
    addresses: Count = 0
    ingress: Annotated[str, matching("|".join(_CONTROLLERS), " or ".join(_CONTROLLERS))] | None = None


class Demo(Part):
    """A demo's file."""

    about: Annotated[str, Field(min_length=1)]
    needs: Needs = Needs()
    scenes: Annotated[list[Scene], Field(min_length=1)]
    cleanup: list[CommandOrLine] = Field(default=[])

    @model_validator(mode="after")
    def _results_follow_a_load(self) -> Self:
        loads = [index for index, scene in enumerate(self.scenes) if scene.load]
        early = self.scenes[: loads[0] + 1] if loads else self.scenes
        if names := names_in(*early, *self.cleanup) & MEASURED:
            raise ValueError(f"${', $'.join(sorted(names))}: can be used only in scenes after one with a `load`")
        return self


class Script(NamedTuple):
    """A demo, its name and its file."""

    name: str
    path: Path
    demo: Demo


def list_demos() -> DemosReport:
    """Return every demo that can be played by name; the user's demos override labctl's."""
    report: DemosReport = {"version": 1, "demos": [], "problems": []}
    for name, path in sorted(_demo_files().items()):
        try:
            about = read(path).demo.about
        except UsageError as error:
            problem = DemoProblem(demo=name, file=str(path), id=error.id, text=error.message, fix=error.hint)
            report["problems"].append(problem)
        else:
            report["demos"].append(
                {"demo": name, "about": about, "file": None if path.parent == OWN_DEMOS else str(path)}
            )
    return report


def find(name: str) -> Script:
    """Return the demo of this name, or in this file if it contains a slash or ends in .yaml or .yml.

    Raises UsageError `demo-unknown`, or `demo-invalid` as `read` does.
    """
    path = Path(name) if "/" in name or name.endswith((".yaml", ".yml")) else _demo_files().get(name)
    if path is None or not path.exists():
        raise UsageError(
            f"there is no demo {name}",
            id="demo-unknown",
            hint=f"Demos: {', '.join(sorted(_demo_files())) or 'none'}. For a file, give a path with a slash: ./NAME.yaml.",
        )
    return read(path)


def read(path: Path) -> Script:
    """Return the demo in this file. Raises UsageError `demo-invalid` with every problem, one a line."""
    try:
        values, problems = document.parse(path, paths.content(path))
        demo = Demo.model_validate(values)
    except OSError as error:
        raise _invalid_error(f"cannot read the demo {path}: {error.strerror}") from error
    except UsageError as error:
        raise _invalid_error(error.message) from error
    except ValidationError as error:
        problems += map(_problem, error.errors(include_url=False))
    if problems:
        count = f"{len(problems)} problem{'s' * (len(problems) != 1)}"
        raise _invalid_error(f"{path}: {count}" + "".join(f"\n  {problem}" for problem in problems))
    return Script(path.stem, path, demo)


def _demo_files() -> dict[str, Path]:
    folders = (OWN_DEMOS, paths.configuration() / "demos")
    return {path.stem: path for folder in folders for path in folder.glob("*.yaml")}


def _invalid_error(message: str) -> UsageError:
    return UsageError(message, id="demo-invalid", hint="Correct the demo's file and try again; nothing was run.")


def _problem(detail: ErrorDetails) -> Problem:
    parts = (f"[{part}]" if isinstance(part, int) else f".{display_value(part)}" for part in detail["loc"])
    has_value = detail["type"] != "missing" and not isinstance(detail["input"], dict | list)
    value = display_value(detail["input"]) if has_value else ""
    return Problem("".join(parts).removeprefix("."), value, explanation(detail))
