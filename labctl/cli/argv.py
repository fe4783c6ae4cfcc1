"""Command-line arguments before typer parses them."""

from __future__ import annotations

import sys
from itertools import takewhile

GLOBAL_OPTIONS = {
    "--config": 1,
    "--name": 1,
    "-o": 1,
    "--output": 1,
    "-v": 0,
    "--verbose": 0,
    "-q": 0,
    "--quiet": 0,
    "--version": 0,
}
"""The number of values that each takes. They can be anywhere before `--`, as with kubectl."""
COMMAND_FOLLOWS = {"exec": 1, "ssh": 2}
"""The number of words before the command line to run. Global options can be between and after these words."""

EVENTS_FOLLOW = (
    *("up", "destroy", "halt", "resume", "app add", "app remove"),
    *("bundle build", "bundle download", "bundle remove", "bundle prune"),
    *("bundle export", "bundle import", "bundle push", "bundle pull"),
    *("image load", "image remove"),
)
"""With `-o json` these write one event per line and the result last; all others write one document."""


def move_global_options_first(arguments: list[str]) -> list[str]:
    """Return the arguments with the global options moved before the command."""
    ours: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        name, is_joined = word.partition("=")[0], "=" in word
        if name in GLOBAL_OPTIONS:
            ours.append(word)
            ours += [next(words, "")] if GLOBAL_OPTIONS[name] and not is_joined else []
        elif word.startswith("-o"):
            ours += ["-o", word.removeprefix("-o")]
        elif word == "--" or (rest and len(rest) >= COMMAND_FOLLOWS.get(rest[0], sys.maxsize)):
            return [*ours, *rest, word, *words]
        else:
            rest.append(word)
    return ours + rest


def wants_json(arguments: list[str]) -> bool:
    """Return whether answers and errors are JSON. Expects global options first."""
    outputs = [value for name, value in _values(arguments) if name in {"-o", "--output"}]
    return outputs[-1:] == ["json"]


def is_verbose(arguments: list[str]) -> bool:
    """Return whether `--verbose` is given. Expects global options first."""
    return not {"-v", "--verbose"}.isdisjoint(_global(arguments))


def lab_name(arguments: list[str]) -> str | None:
    """Return the value of `--name`, or None. Expects global options first."""
    return next((value for name, value in reversed(_values(arguments)) if name == "--name"), None)


def without_value(arguments: list[str]) -> str | None:
    """Return the first global option whose value is missing or empty, or None. Expects global options first."""
    return next((name for name, value in _values(arguments) if GLOBAL_OPTIONS[name] and not value), None)


def writes_events(arguments: list[str]) -> bool:
    """Return whether the command writes events and a result. Expects global options first."""
    command = arguments[len(_global(arguments)) :]
    named = {" ".join(command[:1]), " ".join(command[:2])}
    return not named.isdisjoint(EVENTS_FOLLOW) and "--dry-run" not in command


def _values(arguments: list[str]) -> list[tuple[str, str]]:
    """Return the leading global options with their values; the value of a flag is empty."""
    words = iter(_global(arguments))
    split = (word.partition("=") for word in words)
    return [
        (name, joined if is_joined else next(words) if GLOBAL_OPTIONS[name] else "")
        for name, is_joined, joined in split
    ]


def _global(arguments: list[str]) -> list[str]:
    """Return the leading global options, each with its value."""
    words = iter(arguments)
    options: list[str] = []
    for word in takewhile(lambda word: word.partition("=")[0] in GLOBAL_OPTIONS, words):
        name, is_joined, _ = word.partition("=")
        options += [word, next(words, "")] if GLOBAL_OPTIONS[name] and not is_joined else [word]
    return options
