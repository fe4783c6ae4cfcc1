"""Every JSON document that a command writes, and its parts, but for those of demos: scripts rely on their keys and types."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from labctl.model.errors import LabError

HopState = Literal["ok", "warning", "broken", "unknown", "not reached"]


class Document(TypedDict):
    """What every document has. `version` grows when a key changes its meaning or goes; keys may come without."""

    version: Literal[1]


class NodeReport(TypedDict):
    """One node that the lab should have."""

    name: str
    role: Literal["control-plane", "worker"]
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
    state: HopState
    text: str
    fix: str | None
    commands: list[str]


class StatusReport(Document):
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
    state: HopState
    cause: str | None
    fix: str | None
    commands: list[str]
    evidence: dict[str, Any]


class TraceReport(Document):
    """A request, from the name to the answer; `ok` where no hop is broken."""

    hostname: str
    ok: bool
    hops: list[HopReport]


class OpenReport(Document):
    """A page that was opened, and the hops on its way that are not well, though none is broken."""

    url: str
    browser: str
    warnings: list[HopReport]


class LabEntry(TypedDict):
    """A lab on this machine. Of one whose record is damaged, `problem` says so, and what only the record tells is None."""

    lab: str
    provider: str | None
    nodes: int | None
    network: str | None
    pool: str | None
    isolated: bool
    urls: list[str]
    problem: str | None


class LabsReport(Document):
    """The labs on this machine."""

    labs: list[LabEntry]


class BundleEntry(TypedDict):
    """A bundle in the cache; a version is None where the bundle carries no such part.

    `maker` is `build` or `download`, `recipe` the name of the recipe that a download went by. `boxes` are the providers
    of virtual machines that the bundle has a box for.
    """

    id: str
    kubernetes: str | None
    metallb: str | None
    traefik: str | None
    nginx: str | None
    ingress_nginx: str | None
    maker: str
    recipe: str | None
    architecture: str
    MiB: int
    boxes: list[str]
    folder: str


class BundlesReport(Document):
    """The bundles that were verified."""

    bundles: list[BundleEntry]


class ImageEntry(TypedDict):
    """An image that the lab has: its manifest's digest, whether it was loaded, and the nodes that have it now."""

    image: str
    digest: str
    MiB: int
    architecture: str
    source: Literal["bundle", "loaded"]
    nodes: list[str]


class ImagesReport(Document):
    """The images of the bundle, and those that were loaded into the lab."""

    images: list[ImageEntry]


class CacheReport(Document):
    """The bundles in the cache, the newest first, and how much of the disk the whole cache takes."""

    bundles: list[BundleEntry]
    folder: str
    MiB: int


class AppEntry(TypedDict):
    """An app of the configuration, and the address of its page."""

    name: str
    image: str
    hostname: str
    port: int
    replicas: int
    path: str
    url: str


class AppsReport(Document):
    """The apps of the configuration."""

    apps: list[AppEntry]


class DemoEntry(TypedDict):
    """A demo; `file` is None for those that labctl brings along."""

    demo: str
    about: str
    file: str | None


class DemosReport(Document):
    """The demos that can be played by name."""

    demos: list[DemoEntry]


class StepEntry(TypedDict):
    """A step of a plan, and what it does."""

    step: str
    does: str


class PlanReport(Document):
    """The steps that a run would take."""

    steps: list[StepEntry]


class CheckReport(TypedDict):
    """One check; `fixed` is true where the problem was fixed just now.

    `cause` is a stable id of what was found, where there is a more exact one than the check's. `fix` is None where
    nothing is wrong.
    """

    id: str
    state: Literal["ok", "warning", "broken", "not relevant"]
    cause: str | None
    seen: str
    why: str
    fix: str | None
    fixed: bool


class DoctorReport(Document):
    """All checks; `ok` where none is broken, whatever the warnings."""

    lab: str
    ok: bool
    checks: list[CheckReport]


class KubeconfigReport(Document):
    """The lab's kubeconfig: where it is, and its text."""

    file: str
    kubeconfig: str


class MergeReport(Document):
    """Your own kubeconfig, which has the lab's cluster, user and context now."""

    file: str


class RenderReport(Document):
    """The folder that the lab's files were written to."""

    folder: str


class SchemaReport(Document):
    """The JSON Schema of labctl.yaml."""

    schema: dict[str, Any]


class CompletionReport(Document):
    """The script that completes labctl's words in a shell."""

    shell: str
    script: str


class InitReport(Document):
    """The configuration file that was written, and the JSON Schema that its first line names."""

    file: str
    schema: str


class HostsReport(Document):
    """A hosts file, and the lab's lines in it."""

    file: str
    lines: list[str]


class LinesReport(Document):
    """Lines of a log."""

    lab: str
    lines: list[str]


class AbsentFile(TypedDict):
    """What could not be collected, and why."""

    file: str
    reason: str


class ExportReport(Document):
    """What was collected for a bug report: the files that were written below the folder."""

    lab: str
    folder: str
    files: list[str]
    missing: list[AbsentFile]


class VersionReport(Document):
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


class ErrorDocument(Document):
    """The document of a command that failed."""

    error: ErrorReport


class StepEvent(TypedDict):
    """One event of a step. `changed` is there when the step is done, `seconds` also when it failed."""

    event: Literal["step"]
    step: str
    state: Literal["started", "progress", "done", "failed"]
    changed: NotRequired[bool]
    seconds: NotRequired[float]
    text: str


class ResultEvent(Document):
    """The last event of a run, after a failure or a bug too; `hosts` is the state of the lab's lines in the hosts file."""

    event: Literal["result"]
    ok: bool
    changed: bool
    seconds: float
    urls: list[str]
    hosts: Literal["written", "pending", "not needed"]
    error: ErrorReport | None
