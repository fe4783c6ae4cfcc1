"""Manual pages, generated from the command tree; `docs/man_pages.py` adds them to the wheel."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from typer.core import TyperGroup

from labctl import __version__
from labctl.cli.tree import EXAMPLES, GROUPS, PROGRAM, Root, commands, context_of
from labctl.model.errors import ExitCode

if TYPE_CHECKING:
    from typer._click import Command, Context

SECTION = 1
EXIT_CODES: Mapping[ExitCode, str] = {
    ExitCode.OK: "Success.",
    ExitCode.BUG: "A bug in labctl; the message names the log that has the traceback.",
    ExitCode.USAGE: "Wrong usage or configuration; nothing was done.",
    ExitCode.MISSING: "Something is missing on this machine.",
    ExitCode.PROVIDER: "Vagrant, Docker or a hypervisor failed.",
    ExitCode.REFUSED: "Kubernetes refused a request.",
    ExitCode.NOT_READY: "Something was not ready in time.",
    ExitCode.HOSTS: "The hosts file cannot be read or written, or is damaged.",
    ExitCode.BROKEN: "A check found something broken.",
    ExitCode.INTERRUPTED: "Interrupted; the same command resumes.",
    ExitCode.PIPE: "The reader of standard output has exited, as `head` does.",
    ExitCode.TERMINATED: "Terminated (SIGTERM); the same command resumes.",
}
ENVIRONMENT = {
    "LABCTL_BUNDLE": "The bundle to boot from, like --bundle.",
    "LABCTL_MIRRORS": "Mirrors for downloads, pulls, pushes and image loads: HOST=URL,HOST=URL.",
    "XDG_STATE_HOME, XDG_CACHE_HOME, XDG_CONFIG_HOME, XDG_DATA_HOME": "Where labctl keeps its files.",
    "KUBECONFIG": "Where `labctl kubeconfig --merge` writes.",
    "BROWSER": "The browser of `labctl open`.",
    "NO_COLOR": "No colour, if set.",
}
FILES = {
    "labctl.yaml": "The lab's configuration, in the current folder; `labctl init` writes one.",
    "$XDG_STATE_HOME/labctl/LAB/": "Everything of a lab: its kubeconfig, keys, files and log.",
    "$XDG_CACHE_HOME/labctl/": "Bundles, and what they are made from.",
    "$XDG_CONFIG_HOME/labctl/demos/": "Demos of your own.",
}


def pages(root: Root) -> dict[str, str]:
    """Return every page by its file name: `labctl.1`, `labctl-up.1`, `labctl-app-add.1`."""
    top = root.make_context(PROGRAM, [], resilient_parsing=True)
    return {f"{_name(words)}.{SECTION}": _page(words, context_of(top, words)) for words, _ in commands(root)}


def _page(words: str, context: Context) -> str:
    command = context.command
    summary, _, details = (command.help or "").partition("\n\n")
    lines = [
        f'.TH "{_name(words).upper()}" "{SECTION}" "" "{PROGRAM} {__version__}" "{PROGRAM}"',
        ".SH NAME",
        f"{_escaped(_name(words))} \\- {_escaped(' '.join(summary.split()).rstrip('.'))}",
        ".SH SYNOPSIS",
        f"\\fB{_escaped(context.command_path)}\\fR {_escaped(' '.join(command.collect_usage_pieces(context)))}",
        ".SH DESCRIPTION",
        *_paragraphs(summary),
        *_paragraphs(details),
        *_parameters(command, context),
        *_commands(command),
        ".SH EXAMPLES",
        ".EX",
        *map(_escaped, EXAMPLES[words]),
        ".EE",
        *(_program() if not words else ()),
        ".SH SEE ALSO",
        ", ".join(f"\\fB{_escaped(name)}\\fR({SECTION})" for name in _related(words, command)),
    ]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in filter(None, text.split("\n\n")):
        yield ".PP"
        yield _escaped(" ".join(paragraph.split()))


def _parameters(command: Command, context: Context) -> Iterator[str]:
    parameters = command.get_params(context)
    for title, kind in {"ARGUMENTS": "argument", "OPTIONS": "option"}.items():
        records = [each.get_help_record(context) for each in parameters if each.param_type_name == kind]
        yield from _definitions(title, dict(filter(None, records)))


def _commands(command: Command) -> Iterator[str]:
    if not isinstance(command, TyperGroup):
        return
    groups = GROUPS if isinstance(command, Root) else {"Commands": tuple(command.commands)}
    for title, names in groups.items():
        summaries = {name: (command.commands[name].help or "").partition("\n\n")[0] for name in names}
        yield from _definitions(title.upper(), summaries)


def _program() -> Iterator[str]:
    """Yield the sections that only the page of labctl itself has."""
    yield from _definitions("EXIT STATUS", {str(int(code)): text for code, text in EXIT_CODES.items()})
    yield from _definitions("ENVIRONMENT", ENVIRONMENT)
    yield from _definitions("FILES", FILES)


def _definitions(title: str, records: Mapping[str, str]) -> Iterator[str]:
    if records:
        yield f".SH {title}"
    for term, text in records.items():
        yield from (".TP", f"\\fB{_escaped(term)}\\fR", _escaped(" ".join(text.split())))


def _related(words: str, command: Command) -> Iterator[str]:
    if words:
        yield _name(words.rpartition(" ")[0])
    if isinstance(command, TyperGroup):
        yield from (_name(f"{words} {name}") for name in command.commands)


def _name(words: str) -> str:
    return "-".join((PROGRAM, *words.split()))


def _escaped(text: str) -> str:
    """Escape a text for roff: no escape sequences, no requests, and hyphens that can be copied."""
    return re.sub(r"^([.'])", r"\\&\1", text.replace("\\", "\\e").replace("-", "\\-"), flags=re.MULTILINE)
