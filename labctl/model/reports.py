"""What `labctl status`, `labctl trace` and demos found, in the form scripts read it."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

from labctl.model.errors import LabError


class NodeReport(TypedDict):
    """One node that the lab should have."""

    name: str
    role: str
    address: str
    ready: bool


class AddressReport(TypedDict):
    """An address of the pool that a Service holds; `node` is the one that announces it, if any does."""

    address: str
    service: str
    pool: str
    node: str | None


class IngressReport(TypedDict):
    """The ingress controller behind its LoadBalancer Service."""

    controller: str
    namespace: str
    service: str
    address: str | None
    ready: bool


class AppReport(TypedDict):
    """One app and the HTTP status it answers with; None if it does not answer."""

    name: str
    url: str
    http: int | None


class ProblemReport(TypedDict):
    """Something that is not well: a stable id, the state as that of a hop, and the lines to type, if any do."""

    id: str
    state: str
    text: str
    fix: str | None
    commands: list[str]


class StatusReport(TypedDict):
    """The whole lab; `ok` when no problem is `broken`. `ingress` is None where the API cannot be asked."""

    lab: str
    ok: bool
    nodes: list[NodeReport]
    addresses: list[AddressReport]
    ingress: IngressReport | None
    apps: list[AppReport]
    problems: list[ProblemReport]


class HopReport(TypedDict):
    """One hop; `state` is ok, warning, broken, unknown or not reached.

    `cause` is an id of the table of causes. Where there is one, `finding` in the evidence says it in words.
    """

    hop: str
    state: str
    cause: str | None
    fix: str | None
    commands: list[str]
    evidence: dict[str, Any]


class TraceReport(TypedDict):
    """A request, from the name to the answer; `ok` where no hop is broken."""

    hostname: str
    ok: bool
    hops: list[HopReport]


class OpenReport(TypedDict):
    """A page that was opened, and the hops on its way that are not well, though none is broken."""

    url: str
    browser: str
    warnings: list[HopReport]


class CommandReport(TypedDict):
    """A command that a demo ran; `code` is None where it did not end by itself."""

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
    """Answers to a client that went on asking, from a good answer to a good one; `gap` is the longest time without.

    `first_command` is how many seconds after the beginning the scene's first command was run.
    """

    hostname: str
    seconds: float
    answers: int
    failures: int
    gap: float
    per_second: list[int]
    first_command: float | None


class SceneReport(TypedDict):
    """A scene of a demo, and what was said of it."""

    title: str
    say: str | None
    ok: bool
    seconds: float
    commands: list[CommandReport]
    expectations: list[ExpectationReport]
    load: LoadReport | None


class LabEntry(TypedDict):
    """A lab on this machine. Of one whose record is damaged, `problem` says so, and what only the record tells is None."""

    lab: str
    nodes: int | None
    network: str | None
    pool: str | None
    isolated: bool
    urls: list[str]
    problem: str | None


class BundleEntry(TypedDict):
    """A bundle in the cache; a version is None where the bundle carries no such part."""

    id: str
    kubernetes: str | None
    metallb: str | None
    traefik: str | None
    nginx: str | None
    architecture: str
    MiB: int
    folder: str


class InitReport(TypedDict):
    """The configuration file that was written, and the JSON Schema that its first line names."""

    file: str
    schema: str


class HostsReport(TypedDict):
    """A hosts file, and the lab's lines in it."""

    file: str
    lines: list[str]


class LinesReport(TypedDict):
    """Lines of a log."""

    lab: str
    lines: list[str]


class AbsentFile(TypedDict):
    """What could not be collected, and why."""

    file: str
    reason: str


class ExportReport(TypedDict):
    """What was collected for a bug report: the files that were written below the folder."""

    lab: str
    folder: str
    files: list[str]
    missing: list[AbsentFile]


class VersionReport(TypedDict):
    """What is installed, and what the lab boots from; None for what is not there."""

    labctl: str
    bundle: str | None
    kubernetes: str | None
    metallb: str | None
    vagrant: str | None
    engine: str | None


class ErrorReport(TypedDict):
    """An error as scripts read it; `details` are the last lines of the tool that failed, where there is one."""

    id: str
    message: str
    hint: str
    details: list[str]


def error_report(error: LabError) -> ErrorReport:
    """Return the error as scripts read it."""
    return {"id": error.id, "message": error.message, "hint": error.hint, "details": list(error.details)}


class DemoReport(TypedDict):
    """A demo that was played; it has an `error` where it is not `ok`."""

    demo: str
    lab: str
    ok: bool
    seconds: float
    scenes: list[SceneReport]
    cleanup: list[CommandReport]
    error: NotRequired[ErrorReport]
