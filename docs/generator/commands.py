"""Every command, with its help, options, arguments and examples."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from typer.core import TyperGroup

from generator import documents, markdown
from labctl.cli import app
from labctl.cli.tree import EXAMPLES, GROUPS, PROGRAM, commands, context_of, tree

if TYPE_CHECKING:
    from typer._click import Context, Parameter

HEADER = {"argument": "Argument", "option": "Option"}


def page() -> str:
    """Return the page."""
    root = tree(app)
    top = root.make_context(PROGRAM, [], resilient_parsing=True)
    contexts = {words: context_of(top, words) for words, _ in commands(root)}
    return markdown.page(
        "Commands",
        "Every command has a manual page as well: `man labctl`, `man labctl-up`.",
        "## labctl",
        *_described(contexts[""]),
        "[Exit codes](exit-codes.md) are the same for all commands.",
        *(block for title, names in GROUPS.items() for block in _group(title, names, contexts)),
    )


def _group(title: str, names: tuple[str, ...], contexts: dict[str, Context]) -> Iterator[str]:
    yield f"## {title}"
    for words, context in contexts.items():
        if words.partition(" ")[0] in names and not isinstance(context.command, TyperGroup):
            yield f"### labctl {words}"
            yield from _described(context)
            yield markdown.block("\n".join(EXAMPLES[words]), "sh")
            yield documents.answer_of(words)


def _described(context: Context) -> Iterator[str]:
    command = context.command
    yield from (" ".join(paragraph.split()) for paragraph in (command.help or "").split("\n\n"))
    usage = re.sub("[{}]", "", " ".join(command.collect_usage_pieces(context)))
    yield markdown.block(f"{context.command_path} {usage}", "text")
    for kind, title in HEADER.items():
        parameters = [
            each
            for each in command.get_params(context)
            if each.param_type_name == kind and not (each.name == "help" and context.parent)
        ]
        rows = [row for row in (_row(each, context) for each in parameters) if row]
        yield markdown.table((title, "Meaning"), rows) if rows else ""


def _row(parameter: Parameter, context: Context) -> tuple[str, str] | None:
    record = parameter.get_help_record(context)
    is_argument = parameter.param_type_name == "argument"
    return record and (markdown.code(str(parameter.metavar) if is_argument else record[0]), record[1])
