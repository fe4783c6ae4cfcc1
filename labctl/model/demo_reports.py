"""The JSON document of a demo that was played, and its parts."""

from __future__ import annotations

from typing import TypedDict

from labctl.model.reports import Document, ErrorReport


class CommandReport(TypedDict):
    """A command that a demo ran; `code` is None if it did not finish."""

    command: str
    code: int | None
    seconds: float


class ExpectationReport(TypedDict):
    """What a demo expected, and what it measured."""

    text: str
    ok: bool
    measured: str
    seconds: float


class LoadReport(TypedDict):
    """The results of a client that sent requests during a scene; `gap` is the longest time without a good answer.

    `first_command` is the start of the scene's first command, in seconds after the beginning.
    """

    hostname: str
    seconds: float
    answers: int
    failures: int
    gap: float
    per_second: list[int]
    first_command: float | None


class SceneReport(TypedDict):
    """A scene of a demo, and its text."""

    title: str
    say: str | None
    ok: bool
    seconds: float
    commands: list[CommandReport]
    expectations: list[ExpectationReport]
    load: LoadReport | None


class DemoReport(Document):
    """A demo that was played; `error` is None if it is `ok`."""

    demo: str
    lab: str
    ok: bool
    seconds: float
    scenes: list[SceneReport]
    cleanup: list[CommandReport]
    error: ErrorReport | None
