"""Answers on stdout, questions and errors on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TextIO, TypeVar

from labctl.model.errors import LabError
from labctl.model.options import Output
from labctl.model.reports import (
    BundleProblem,
    CacheReport,
    DemoProblem,
    DemosReport,
    Document,
    ErrorDocument,
    ExportReport,
    ImageEntry,
    ImagesReport,
    ProblemReport,
    StatusReport,
    error_report,
)
from labctl.ui.screen import console, one_line, printable

T = TypeVar("T", bound=Document)
Line = list[tuple[str, str]]
"""Pieces of text, each with its style."""

COLUMN_GAP = "   "
SHORT_DIGEST = len("sha256:") + 12
NOTHING = "-"
STYLES = {"broken": "red", "warning": "yellow", "unknown": "yellow"}
GOOD_CELLS = {"READY": "yes", "HTTP": "200"}
"""Columns that are coloured, each with its good value."""


def document(value: T, output: Output, stdout: TextIO, text: Callable[[T, TextIO], None]) -> None:
    """Print the answer of a command: one JSON document, or what `text` makes of it."""
    if output == "json":
        print(json.dumps(value, indent=2), file=stdout)
    else:
        text(value, stdout)
    stdout.flush()  # so that the reader of a pipe gets each answer at once


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], stdout: TextIO) -> None:
    """Print the rows below their headers, in columns as wide as their widest cell."""
    _show_lines(_table_lines(headers, rows), stdout)


def rows(answer: Mapping[str, Any], stdout: TextIO) -> None:
    """Print the answer's only list as a table of records with the same keys; print nothing if it is empty."""
    (records,) = (value for key, value in answer.items() if key != "version")
    if records:
        cells = [[_cell(value) for value in record.values()] for record in records]
        table([key.upper() for key in records[0]], cells, stdout)


def cache(report: CacheReport, stdout: TextIO) -> None:
    """Print the bundles as a table, then their problems and the size of the cache."""
    rows({"bundles": report["bundles"]}, stdout)
    _show_broken(report["problems"], stdout)
    print(f"cache: {report['MiB']} MiB in {report['folder']}", file=stdout)


def demos(report: DemosReport, stdout: TextIO) -> None:
    """Print the valid demos as a table, then the problems of the others."""
    rows({"demos": report["demos"]}, stdout)
    _show_broken(report["problems"], stdout)


def values(record: Mapping[str, object], stdout: TextIO) -> None:
    """Print a line for each key and its value, except `version`, which is for scripts."""
    for key, value in record.items():
        if key == "version":
            continue
        print(f"{key}: {_cell(value)}", file=stdout)


def images(answer: ImagesReport, stdout: TextIO) -> None:
    """Print a table of images, with digests shortened as Docker does."""
    headers = [key.upper() for key in ImageEntry.__annotations__]
    shown: list[ImageEntry] = [{**image, "digest": image["digest"][:SHORT_DIGEST]} for image in answer["images"]]
    table(headers, [[_cell(value) for value in image.values()] for image in shown], stdout)


def text(key: str) -> Callable[[Mapping[str, Any], TextIO], None]:
    """Return a function that prints the text at the key as it is."""

    def show(answer: Mapping[str, Any], stdout: TextIO) -> None:
        stdout.write(answer[key])

    return show


def indented(key: str) -> Callable[[Mapping[str, Any], TextIO], None]:
    """Return a function that prints the JSON at the key by itself."""

    def show(answer: Mapping[str, Any], stdout: TextIO) -> None:
        print(json.dumps(answer[key], indent=2), file=stdout)

    return show


def lines(answer: Mapping[str, Any], stdout: TextIO) -> None:
    """Print the lines unchanged."""
    for line in answer["lines"]:
        print(line, file=stdout)


def export(report: ExportReport, stdout: TextIO) -> None:
    """Print the folder of a bug report, and the files that could not be collected."""
    values({"folder": report["folder"], "files": len(report["files"])}, stdout)
    for absent in report["missing"]:
        print(f"not collected: {absent['file']}: {one_line(absent['reason'])}", file=stdout)


def status(report: StatusReport, stdout: TextIO) -> None:
    """Print the whole lab in sections, its problems last."""
    nodes = [(node["name"], node["role"], node["address"], _yes(node["ready"])) for node in report["nodes"]]
    addresses = [
        (held["address"], held["service"], held["pool"], held["node"] or NOTHING) for held in report["addresses"]
    ]
    ingress = report["ingress"]
    controllers = []
    if ingress is not None:
        service = f"{ingress['namespace']}/{ingress['service']}"
        controllers = [(ingress["controller"], service, ingress["address"] or NOTHING, _yes(ingress["ready"]))]
    apps = [(app["name"], app["url"], str(app["http"] or NOTHING)) for app in report["apps"]]
    sections = {
        "Nodes": _table_lines(("NAME", "ROLE", "ADDRESS", "READY"), nodes),
        "Addresses": _table_lines(("ADDRESS", "SERVICE", "POOL", "ANNOUNCED BY"), addresses),
        "Ingress": _table_lines(("CONTROLLER", "SERVICE", "ADDRESS", "READY"), controllers),
        "Apps": _table_lines(("NAME", "URL", "HTTP"), apps),
        "Problems": [line for problem in report["problems"] for line in _problem_lines(problem)] or [[("none", "")]],
    }
    for title, lines in sections.items():
        _show_lines([[(title, "bold")], *([("  ", ""), *line] for line in lines)], stdout)


def show_error(error: LabError, stderr: TextIO) -> None:
    """Print the error, the last lines of the tool that failed, and the hint."""
    first, *others = error.message.splitlines() or [""]
    lines: list[Line] = [
        [("error: ", "bold red"), (printable(first), "red")],
        *([(f"  {printable(other)}", "red")] for other in others),
        *([(f"  {printable(detail)}", "dim")] for detail in error.details),
    ]
    if error.hint:
        advice, *commands = error.hint.splitlines()
        lines.append([("hint: ", "bold"), (one_line(advice), "")])
        lines += [[(f"  {one_line(command)}", "")] for command in commands]
    _show_lines(lines, stderr)


def show_error_json(error: LabError, stdout: TextIO) -> None:
    """Print the error as the command's JSON document."""
    print(json.dumps(ErrorDocument(version=1, error=error_report(error)), indent=2), file=stdout)


def confirm(question: str, stdin: TextIO, stderr: TextIO) -> bool:
    """Ask the user at the terminal; return False if the answer is not yes, or if there is no terminal."""
    if not stdin.isatty():
        return False
    print(f"{question} [y/N] ", end="", file=stderr, flush=True)
    return stdin.readline().strip().lower() in {"y", "yes"}


def _table_lines(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[Line]:
    shown = [tuple(headers), *(tuple(one_line(cell) for cell in row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*shown, strict=True)]
    widths[-1] = 0  # nothing follows the last column
    return [
        [
            (cell.ljust(width) + COLUMN_GAP * (width > 0), _cell_style(header, cell))
            for header, cell, width in zip(headers, row, widths, strict=True)
        ]
        for row in shown
    ]


def _cell(value: object) -> str:
    """Return the value as readable text."""
    if isinstance(value, bool):
        return _yes(value)
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or NOTHING
    return NOTHING if value is None else str(value)


def _show_broken(problems: Iterable[BundleProblem | DemoProblem], stdout: TextIO) -> None:
    style = STYLES["broken"]
    for problem in problems:
        broken = [("broken: ", style), (one_line(problem["text"]), style)]
        _show_lines([broken, [("  fix: ", "dim"), (one_line(problem["fix"]), "")]], stdout)


def _problem_lines(problem: ProblemReport) -> list[Line]:
    """Return the lines of a problem, its fix and its commands."""
    style = STYLES[problem["state"]]
    lines: list[Line] = [[(f"{problem['state']}: ", style), (one_line(problem["text"]), style)]]
    if problem["fix"]:
        lines.append([("  fix: ", "dim"), (one_line(problem["fix"]), "")])
    return lines + [[("  $ ", "dim"), (one_line(command), "")] for command in problem["commands"]]


def _cell_style(header: str, cell: str) -> str:
    if header not in GOOD_CELLS or cell == header:
        return ""
    return "green" if cell == GOOD_CELLS[header] else "red"


def _yes(condition: bool) -> str:  # noqa: FBT001 - it turns a boolean into a word
    return "yes" if condition else "no"


def _show_lines(lines: Iterable[Line], stream: TextIO) -> None:
    """Print lines of styled pieces without wrapping: a terminal wraps them itself, and a pipe needs whole lines."""
    from rich.text import Text  # noqa: PLC0415 - see console()

    screen = console(stream)
    for line in lines:
        screen.print(Text.assemble(*line), soft_wrap=True)
