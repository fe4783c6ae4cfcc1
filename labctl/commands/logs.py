"""Logs of a lab, its nodes and its tools: for the terminal, or collected in a folder for a bug report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from labctl import doctor
from labctl.commands import endings, status, versions
from labctl.context import Context
from labctl.host import lab_folder, paths
from labctl.host.caller import make_folder
from labctl.host.files import write
from labctl.host.paths import PRIVATE
from labctl.host.redaction import redact, secrets_of
from labctl.model.errors import LabError, MissingError, UsageError
from labctl.model.lab import Node
from labctl.model.reports import DoctorReport, Document, ExportReport, LinesReport
from labctl.providers.protocol import CONSOLE

UNITS = ("labctl-node", "kubelet", "containerd")
"""The systemd units of a node whose journal is read."""
LINES = 20_000
"""The number of lines to read from the end of a unit's journal."""
OWN = (*lab_folder.LOGS, lab_folder.RECORD)
"""Files of a lab's folder that an export includes, as far as they exist."""

Read = Callable[[], str]


def lab_log(context: Context) -> LinesReport:
    """Return the lines of the lab's log. Raises MissingError `log-missing`."""
    if not context.log.is_file():
        raise MissingError(
            f"the lab {context.lab.name} has no log: {context.log} does not exist",
            id="log-missing",
            hint="`labctl up` creates it; `labctl list` shows all labs.",
        )
    return _lines(context, _text(context.log))


def node_log(context: Context, node: Node) -> LinesReport:
    """Return the journal of the node's units. Raises MissingError `node-not-running`."""
    _require_running(context, node)
    return _lines(context, "\n".join(_journal(context, node, *UNITS)))


def export(context: Context, folder: Path, nodes: tuple[Node, ...]) -> ExportReport:
    """Write all that a bug report needs into a new folder, without secrets; note what cannot be read.

    Raises UsageError `folder-not-empty`, and MissingError `export-not-written`.
    """
    report: ExportReport = {"version": 1, "lab": context.lab.name, "folder": str(folder), "files": [], "missing": []}
    secrets = secrets_of(context.folder)
    try:
        make_folder(folder, PRIVATE)
        if any(folder.iterdir()):
            raise UsageError(
                f"{folder} is not empty", id="folder-not-empty", hint="Name a folder that does not exist yet."
            )
        for name, read in _sources(context, nodes):
            text, reason = _read_or_reason(read)
            if reason:
                report["missing"].append({"file": name, "reason": redact(reason, secrets)})
            else:
                write(folder / name, redact(text, secrets).encode())
                report["files"].append(name)
        write(folder / "export.json", _json(report).encode())
    except OSError as error:
        raise MissingError(
            f"cannot write {error.filename or folder}: {error.strerror}",
            id="export-not-written",
            hint="Name a folder that you can write to, on a disk with free space.",
        ) from error
    return report


def _sources(context: Context, nodes: tuple[Node, ...]) -> Iterator[tuple[str, Read]]:
    """Yield the name of each file of an export, and the function that reads it."""
    yield "versions.json", lambda: _json(versions.report_on(context))
    yield "doctor.json", lambda: _json(_doctor(context))
    yield "status.json", lambda: _json(status.report_on(context))
    for name in OWN:
        if (context.folder / name).exists():
            yield name, partial(_text, context.folder / name)
    for name, path in {"labctl.log": endings.common_log(), "bundle.log": context.cache / lab_folder.LOG}.items():
        if path.exists():
            yield name, partial(_text, path)
    for node in nodes:
        for unit in UNITS:
            yield f"nodes/{node.name}/{unit}.log", partial(_journal_if_running, context, node, unit)
        yield f"nodes/{node.name}/{CONSOLE}.log", partial(_console, context, node)


def _doctor(context: Context) -> DoctorReport:
    return doctor.report(context, doctor.examine(context, doctor.Machine()))


def _journal_if_running(context: Context, node: Node, unit: str) -> str:
    _require_running(context, node)
    return "\n".join(_journal(context, node, unit))


def _journal(context: Context, node: Node, *units: str) -> Iterator[str]:
    logs = context.provider.collect_logs(node, units, LINES)
    for unit in units:
        yield from logs.get(unit, ())


def _console(context: Context, node: Node) -> str:
    """Return the console of the node's machine, which may show why it does not run. Raises MissingError."""
    _require_engine(context, node)
    lines = context.provider.collect_logs(node, (), LINES).get(CONSOLE)
    if lines is None:
        raise MissingError(
            f"node {node.name} has no readable console",
            id="console-missing",
            hint="Look at the node's display in its hypervisor.",
        )
    return "\n".join(lines)


def _require_running(context: Context, node: Node) -> None:
    """Raise MissingError unless the node runs: otherwise there may be no route to its address."""
    _require_engine(context, node)
    if node.name not in context.provider.running():
        raise _not_running_error(node)


def _require_engine(context: Context, node: Node) -> None:
    """Raise MissingError unless the node's Engine runs: that of an isolated lab may be stopped or removed."""
    if context.isolated and not (context.isolation.exists() and context.isolation.engine_runs()):
        raise _not_running_error(node)


def _not_running_error(node: Node) -> MissingError:
    return MissingError(
        f"node {node.name} is not running", id="node-not-running", hint="Run `labctl up` or `labctl resume` to boot it."
    )


def _read_or_reason(read: Read) -> tuple[str, str]:
    """Return what was read, or the reason why it cannot be read."""
    try:
        return read(), ""
    except LabError as error:
        return "", error.message
    except Exception as error:  # noqa: BLE001 - a report about one bug must not end at another
        return "", f"{type(error).__name__}: {error}"


def _lines(context: Context, text: str) -> LinesReport:
    return {"version": 1, "lab": context.lab.name, "lines": redact(text, secrets_of(context.folder)).splitlines()}


def _text(path: Path) -> str:
    return paths.content(path).decode(errors="replace")


def _json(document: Document) -> str:
    return json.dumps(document, indent=2) + "\n"
