"""Every error id, from the places where errors are raised.

A place gives the id as a literal or a constant, or passes on an id that another place or table chose. Each place of the
second kind needs a row in `PASSED_ON`: without one the generator fails, so that no id is missing from the page.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import groupby

from generator import markdown, sources
from labctl.commands import endings
from labctl.doctor import CHECKS
from labctl.host import known_failures
from labctl.model.errors import ExitCode, LabError, MissingError, ProviderError
from labctl.trace.causes import CAUSES

NOTES = sources.CHECKOUT / "docs" / "errors.toml"
SYSTEM = {**dict(endings.KNOWN.values()), "system-refused": "", "folder-gone": ""}
PASSED_ON: Mapping[str, Mapping[str, str]] = {
    "BrokenError(id=str(hop['cause']))": {},
    "HostsError(id=f'hosts-cannot-{act}')": {"hosts-cannot-read": "", "hosts-cannot-change": ""},
    "HostsError(id=refused['id'])": {},
    "HostsPendingError(id=reason.id)": {},
    "MissingError(id=finding.cause or problem.check.blocks_up)": {
        check.blocks_up: f"[`labctl doctor`](doctor.md#{check.id}) makes the same check."
        for check in CHECKS
        if check.blocks_up
    },
    "MissingError(id=identity)": SYSTEM,
    "MissingError(id=self.id)": {},
    "MissingError(id=worst if failures else 'wheel-not-found')": {},
    "NotReadyError(id=identity)": {"node-not-assembled": "", "node-not-ready": ""},
    "NotReadyError(id=result.id)": {},
    "ProviderError(id=exited.id)": {},
    "ProviderError(id=known.id)": {},
}
"""Places that pass on an id, and their ids, each with its hint, that appear nowhere else as a literal."""
CHOSEN_BY_CALLER = {"error": ProviderError.__name__, "kind": MissingError.__name__}
"""Parameters and variables that hold the error's class, and the class that stands for it here."""
NO_NEW_ERROR = {"Pending", "super().__init__", "type(error)", "type(first)"}
"""Calls with an id and a hint that make no error, or one whose id another call has."""
FILLED_IN = "…"


@dataclass(frozen=True, order=True)
class Raised:
    """An error: its id, exit code, message and hint, with … for each placeholder."""

    id: str
    code: ExitCode
    message: str = ""
    hint: str = ""


def page() -> str:
    """Return the page."""
    notes = tomllib.loads(NOTES.read_text(encoding="utf-8"))
    if unknown := notes.keys() - {error.id for error in raised()}:
        raise ValueError(f"{NOTES.name} has ids that no error has: {', '.join(sorted(unknown))}")
    return markdown.page(
        "Error ids",
        "An error ends a command with a message, a hint, an [exit code](exit-codes.md) and an id. With `-o json` the id is"
        " `id` of the `error`. Ids do not change; the words around them may. … stands for what the message names.",
        "`up` can also end with one of the [causes](../causes.md), with a [known failure](../troubleshooting.md) of a tool,"
        " or with one of the [Engines](../engines.md) that no lab works with.",
        *(
            block
            for identity, places in groupby(sorted(raised()), key=lambda error: error.id)
            for block in _section(identity, notes.get(identity, ""), list(places))
        ),
    )


@cache
def raised() -> frozenset[Raised]:
    """Return every error that has an id of its own."""
    return frozenset(
        error
        for module, tree in sources.modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for error in _of_call(module, node)
    )


def _of_call(module: str, call: ast.Call) -> Iterator[Raised]:
    given = {word.arg: word.value for word in call.keywords if word.arg}
    name = ast.unparse(call.func)
    kind = CHOSEN_BY_CALLER.get(name, name.rpartition(".")[2])
    if "id" not in given or kind not in _classes():
        if {"id", "hint"} <= given.keys() and name not in NO_NEW_ERROR:
            raise ValueError(f"{module}:{call.lineno}: no row says which class of errors {name} is")
        return
    place = f"{kind}(id={ast.unparse(given['id'])})"
    message = _words(module, call.args[0]) if call.args else ""
    hint = _words(module, given["hint"]) if "hint" in given else ""
    if place in PASSED_ON:
        yield from (Raised(identity, code_of(kind), hint=text) for identity, text in PASSED_ON[place].items())
    elif (identities := sources.texts(module, given["id"])) is None:
        raise ValueError(f"{module}:{call.lineno}: no row in PASSED_ON says which ids {place} can have")
    else:
        yield from (Raised(identity, code_of(kind), message, hint) for identity in identities if identity)


def _words(module: str, value: ast.expr) -> str:
    """Return the first line of a message or hint, with … for each placeholder."""
    return re.sub(rf"{FILLED_IN}(\s*{FILLED_IN})+", FILLED_IN, _written(module, value)).split("\n")[0].strip()


def _written(module: str, value: ast.expr) -> str:
    match value:
        case ast.JoinedStr(values=parts):
            return "".join(_written(module, part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _written(module, left) + _written(module, right)
        case ast.Call(func=ast.Attribute(value=text, attr="format" | "format_map" | "lstrip" | "rstrip")):
            return re.sub("{[^}]*}", FILLED_IN, _written(module, text))
        case ast.FormattedValue() | ast.IfExp():
            return FILLED_IN
    return next(iter(sources.texts(module, value) or ()), FILLED_IN)


def code_of(name: str) -> ExitCode:
    """Return the exit code of an error class."""
    cls = _classes()[name]
    for statement in cls.body:
        if ast.unparse(statement).startswith("exit_code") and isinstance(statement, ast.AnnAssign | ast.Assign):
            return ExitCode[ast.unparse(statement.value or cls).rpartition(".")[2]]
    return code_of(ast.unparse(cls.bases[0]))


@cache
def _classes() -> Mapping[str, ast.ClassDef]:
    """Return every error class, by its name."""
    classes = {
        node.name: node
        for tree in sources.modules().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error")
    }
    return {name: cls for name, cls in classes.items() if _is_error(cls, classes)}


def _is_error(cls: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> bool:
    bases = [ast.unparse(base) for base in cls.bases]
    return cls.name == LabError.__name__ or any(base in classes and _is_error(classes[base], classes) for base in bases)


def _section(identity: str, note: str, places: list[Raised]) -> Iterator[str]:
    codes = sorted({place.code for place in places})
    yield f"## {identity}"
    yield f"Exit code {', '.join(markdown.code(str(int(code))) for code in codes)}. {note}".rstrip()
    yield "\n".join(filter(None, (_place(place) for place in places)))
    yield f"It is also a [cause](../causes.md#{identity})." if identity in CAUSES else ""
    known = {failure.id for failure in known_failures.table()}
    yield f"It is also a [known failure](../troubleshooting.md#{identity}) of a tool." if identity in known else ""


def _place(place: Raised) -> str:
    message = markdown.sentence(place.message) if re.search(r"\w", place.message) else ""
    hint = place.hint if re.search(r"\w", place.hint) else ""
    return f"- {message} {hint}".rstrip().replace("-  ", "- ") if message or hint else ""
