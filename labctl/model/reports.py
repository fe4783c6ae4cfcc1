"""Every JSON document that a command writes, except those of demos. Scripts rely on the keys and types."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from labctl.model.errors import LabError

HopState = Literal["ok", "warning", "broken", "unknown", "not reached"]


class Document(TypedDict):
    """The base of every document. `version` rises when a key is removed or changes meaning, not when one is added."""

    version: Literal[1]


class NodeReport(TypedDict):
    """One node that the lab should have."""

    name: str
    role: Literal["control-plane", "worker"]
    address: str
    ready: bool


class AddressReport(TypedDict):
    """An address of the pool that a Service has; `node` announces it, if one does."""

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
    """A problem: a stable id, a state like that of a hop, the fix, and commands that carry it out."""

    id: str
    state: HopState
    text: str
    fix: str | None
    commands: list[str]


class StatusReport(Document):
    """The whole lab; `ok` if no problem is `broken`. `ingress` is None if the API does not answer."""

    lab: str
    ok: bool
    nodes: list[NodeReport]
    addresses: list[AddressReport]
    ingress: IngressReport | None
    apps: list[AppReport]
    problems: list[ProblemReport]


class HopReport(TypedDict):
    """One hop; `state` is ok, warning, broken, unknown or not reached.

    `cause` is an id from the table of causes. If there is one, `finding` in the evidence describes it.
    """

    hop: str
    state: HopState
    cause: str | None
    fix: str | None
    commands: list[str]
    evidence: dict[str, Any]


class TraceReport(Document):
    """A request, from the name to the response; `ok` if no hop is broken."""

    hostname: str
    ok: bool
    hops: list[HopReport]


class OpenReport(Document):
    """A page that was opened, and the hops with a warning."""

    url: str
    browser: str
    warnings: list[HopReport]


class LabEntry(TypedDict):
    """A lab on this machine. If its lab.json is damaged, `problem` is set, and what only that file has is None."""

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
    """A bundle in the cache; a version is None if the bundle has no such part.

    `maker` is `build` or `download`, `recipe` is the name of a download's recipe. `boxes` are the providers
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


class BundleProblem(TypedDict):
    """A bundle in the cache that cannot be read, or whose machine image cannot: the error's id, and what to do.

    `bundle` is the name of its folder, which `bundle remove` accepts as its id.
    """

    bundle: str
    folder: str
    id: str
    text: str
    fix: str


class CacheReport(Document):
    """The bundles in the cache, newest first, the problems of bundles, and the size of the whole cache.

    A bundle that cannot be read is only in `problems`.
    """

    bundles: list[BundleEntry]
    problems: list[BundleProblem]
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
    """A demo; `file` is None for labctl's own demos."""

    demo: str
    about: str
    file: str | None


class DemoProblem(TypedDict):
    """A demo of the user that is not valid: the error's id, and what to do."""

    demo: str
    file: str
    id: str
    text: str
    fix: str


class DemosReport(Document):
    """The demos that can be played by name; one that is not valid is only in `problems`."""

    demos: list[DemoEntry]
    problems: list[DemoProblem]


class StepEntry(TypedDict):
    """A step of a plan, and what it does."""

    step: str
    does: str


class PlanReport(Document):
    """The steps that a run would take."""

    steps: list[StepEntry]


class CheckReport(TypedDict):
    """One check; `fixed` is true if `--fix` has just fixed the problem.

    `cause` is a stable id of what was found, if there is a more exact one than the check's. `fix` is None if nothing is
    wrong.
    """

    id: str
    state: Literal["ok", "warning", "broken", "not relevant"]
    cause: str | None
    seen: str
    why: str
    fix: str | None
    fixed: bool


class DoctorReport(Document):
    """All checks; `ok` if none is broken."""

    lab: str
    ok: bool
    checks: list[CheckReport]


class KubeconfigReport(Document):
    """The lab's kubeconfig: its file and its text."""

    file: str
    kubeconfig: str


class MergeReport(Document):
    """Your own kubeconfig, to which the lab's cluster, user and context were added."""

    file: str


class RenderReport(Document):
    """The folder that the lab's files were written to."""

    folder: str


class SchemaReport(Document):
    """The JSON Schema of labctl.yaml."""

    schema: dict[str, Any]


class CompletionReport(Document):
    """A shell's completion script."""

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
    """A file that could not be collected, and the reason."""

    file: str
    reason: str


class ExportReport(Document):
    """The files that were collected in a folder for a bug report."""

    lab: str
    folder: str
    files: list[str]
    missing: list[AbsentFile]


class VersionReport(Document):
    """The versions of labctl, of what the lab boots from, and of its tools; None for what is absent."""

    labctl: str
    bundle: str | None
    kubernetes: str | None
    metallb: str | None
    vagrant: str | None
    engine: str | None


class ErrorReport(TypedDict):
    """An error; `details` are the last lines of the tool that failed, if one did."""

    id: str
    message: str
    hint: str
    details: list[str]


def error_report(error: LabError) -> ErrorReport:
    """Return the error's JSON form."""
    return {"id": error.id, "message": error.message, "hint": error.hint, "details": list(error.details)}


class ErrorDocument(Document):
    """The document of a command that failed."""

    error: ErrorReport


class StepEvent(TypedDict):
    """One event of a step. `changed` is present when the step is done, `seconds` also when it failed."""

    event: Literal["step"]
    step: str
    state: Literal["started", "progress", "done", "failed"]
    changed: NotRequired[bool]
    seconds: NotRequired[float]
    text: str


class ResultEvent(Document):
    """The last event of a run, even after a failure or a bug; `hosts` is the state of the lab's hosts lines."""

    event: Literal["result"]
    ok: bool
    changed: bool
    seconds: float
    urls: list[str]
    hosts: Literal["written", "pending", "not needed"]
    error: ErrorReport | None
