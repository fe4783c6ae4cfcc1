"""Report the current state of a lab, for `labctl status`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from labctl import trace
from labctl.cluster import state as cluster_state
from labctl.context import Context
from labctl.host import hosts_file
from labctl.host.wait import NOT_READY, Pending
from labctl.model.errors import HostsError, LabError, MissingError
from labctl.model.hints import with_lab_name
from labctl.model.lab import App, Lab
from labctl.model.reports import (
    AddressReport,
    AppReport,
    HopReport,
    HopState,
    IngressReport,
    NodeReport,
    ProblemReport,
    StatusReport,
)

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster


HOPS_OF_ONE_APP = frozenset({"name", "response"})
"""The hops whose causes are reported for each app."""
HOSTS_FILE_CAUSES = frozenset({"hosts-damaged", "hosts-file-unreadable"})
"""Causes at the hop `name` that all apps share."""
NO_CONTROLLER = "controller-not-ready"
API = frozenset({"api-unreachable", "api-not-trusted"})
"""Causes that are not reported for a hop: the problem with a node or the API behind them is reported itself."""


class Problems:
    """The problems of a lab, each cause once: several checks may find the same one."""

    def __init__(self, lab: str) -> None:
        self.reports: list[ProblemReport] = []
        self._lab = lab

    def add(
        self,
        cause: str,
        text: str,
        fix: str | None = trace.UP,
        commands: Sequence[str] | None = None,
        state: HopState = trace.BROKEN,
    ) -> None:
        """Add a problem; by default it breaks the lab, and `labctl up` fixes it."""
        if commands is None:
            commands = (f"labctl --name {self._lab} up",) if fix == trace.UP else ()
        if fix and not commands:  # the fix itself is what users type
            fix = with_lab_name(fix, self._lab)
        self.reports.append({"id": cause, "state": state, "text": text, "fix": fix, "commands": list(commands)})

    def add_hop(self, hop: HopReport, about: str) -> None:
        """Add the problem of a hop, if it has one; a cause that apps share is added once."""
        cause = hop["cause"]
        if cause is None or cause in API:
            return
        earlier = next((problem for problem in self.reports if problem["id"] == cause), None)
        if earlier is None or (hop["hop"] in HOPS_OF_ONE_APP and cause not in HOSTS_FILE_CAUSES):
            self.add(cause, f"{about}{trace.finding(hop)}", hop["fix"], hop["commands"], hop["state"])
        elif hop["state"] == trace.BROKEN:
            earlier["state"] = trace.BROKEN

    @property
    def are_without_broken(self) -> bool:
        """Whether nothing is broken."""
        return all(problem["state"] != trace.BROKEN for problem in self.reports)


def report_on(context: Context) -> StatusReport:
    """Check the nodes, the addresses, the ingress controller and the apps, and list their problems.

    Send nothing to a lab address while none of the lab's nodes runs: there may be no route to it.
    """
    lab, problems = context.lab, Problems(context.lab.name)
    if problem := trace.no_engine(context):
        problems.add(problem.cause, problem.text, problem.fix or trace.UP, problem.commands)
        return _report_without_api(context, problems, _unchecked_apps(lab))
    running = context.provider.running()
    for node in lab.nodes:
        if node.name not in running:
            problem = trace.not_running(context, node)
            problems.add(problem.cause, problem.text, problem.fix, problem.commands)
    if not running:
        return _report_without_api(context, problems, _unchecked_apps(lab))
    cluster, ready = context.cluster.impatient(), set[str]()
    try:
        if lab.control_plane.name in running:
            ready = _ready_nodes(context, cluster, problems)
            return _report_with_api(context, cluster, problems, ready)
    except LabError as error:
        problem = trace.api_problem(context.lab, error)
        known = (problem.fix, problem.commands) if problem.commands else (error.hint or trace.UP, None)
        problems.add(error.id, error.message, *known)
    return _report_without_api(
        context, problems, _trace_apps(context, cluster, problems, trace.shared(context, cluster)), ready
    )


def _ready_nodes(context: Context, cluster: Cluster, problems: Problems) -> set[str]:
    reasons = cluster_state.unready_nodes(cluster, context.lab)
    for name, reason in reasons.items():
        text = f"node {name} is not Ready: {reason}"
        if reason == cluster_state.NOT_JOINED:
            problems.add("node-not-ready", text)
        else:
            words = (f"halt {name}", "resume")
            commands = tuple(f"labctl --name {context.lab.name} {each}" for each in words)
            problems.add("node-not-ready", text, "Restart the node.", commands)
    return {node.name for node in context.lab.nodes} - reasons.keys()


def _report_with_api(context: Context, cluster: Cluster, problems: Problems, ready: Collection[str]) -> StatusReport:
    lab = context.lab
    if problem := trace.clock_off(context, cluster, {}):
        problems.add(problem.cause, problem.text, problem.fix or trace.UP, problem.commands, problem.state)
    path = trace.shared(context, cluster)
    addresses = _addresses(context, cluster, problems, path)
    ingress = _ingress(context, cluster, problems)
    apps = _trace_apps(context, cluster, problems, path)
    _check_block(lab, problems)
    _check_bundle(context, problems)
    return {
        "version": 1,
        "lab": lab.name,
        "ok": problems.are_without_broken,
        "nodes": _nodes(lab, ready),
        "addresses": addresses,
        "ingress": ingress,
        "apps": apps,
        "problems": problems.reports,
    }


def _report_without_api(
    context: Context, problems: Problems, apps: list[AppReport], ready: Collection[str] = ()
) -> StatusReport:
    return {
        "version": 1,
        "lab": context.lab.name,
        "ok": False,
        "nodes": _nodes(context.lab, ready),
        "addresses": [],
        "ingress": None,
        "apps": apps,
        "problems": problems.reports,
    }


def _nodes(lab: Lab, ready: Collection[str]) -> list[NodeReport]:
    return [
        {"name": node.name, "role": node.role.value, "address": str(node.address), "ready": node.name in ready}
        for node in lab.nodes
    ]


def _addresses(
    context: Context, cluster: Cluster, problems: Problems, path: Mapping[str, HopReport]
) -> list[AddressReport]:
    """Return which Service has which address; add the problems of Services that are not the lab's own."""
    lab, controller = context.lab, context.controller
    services = [(service, cluster_state.address_of(service)) for service in cluster.find("v1", "Service")]
    owned = {
        (service["metadata"]["namespace"], service["metadata"]["name"]): address
        for service, address in services
        if address is not None
    }
    announced = cluster_state.announcers(cluster, lab, owned)
    own = (controller.namespace, controller.service)
    if answering := _answering_node(path):
        announced[own] = answering
    pools = trace.pools(cluster)
    held: list[AddressReport] = []
    for service, address in services:
        if address is None:
            continue
        name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
        node = announced.get((namespace, name))
        pool = service["metadata"].get("annotations", {}).get("metallb.io/ip-allocated-from-pool", "")
        held.append({"address": str(address), "service": f"{namespace}/{name}", "pool": pool, "node": node})
        if (namespace, name) == own:
            continue
        about = f"Service {namespace}/{name}, which is not the lab's own"
        if not any(pool.has(address) for pool in pools):
            text = f"{about}, has {address}, which no pool of MetalLB contains"
            problems.add(
                "address-not-in-pool", text, "Give the Service an address of the pool, or none.", (), trace.WARNING
            )
        if (namespace, name) in announced and node is None:
            text = f"{about}, has {address}, and no node announces it"
            problems.add("address-not-announced", text, "Check that it has a ready pod.", (), trace.WARNING)
    return held


def _answering_node(path: Mapping[str, HopReport]) -> str | None:
    """Return the node that answers ARP for the ingress controller's address; None if no answer was received."""
    answers = path["node"]["evidence"].get("answers_arp") if "node" in path else None
    return next((str(each["node"]) for each in answers or () if each["node"]), None)


def _ingress(context: Context, cluster: Cluster, problems: Problems) -> IngressReport:
    controller = context.controller
    address = cluster_state.load_balancer_address(cluster, controller.namespace, controller.service)
    waiting = _rollout(cluster, controller.namespace, controller.deployment)
    if waiting is not None:  # if it breaks a hop, that is reported too
        problems.add(NO_CONTROLLER, waiting.reason, waiting.hint or trace.UP, state=trace.WARNING)
    else:
        for missing in cluster_state.missing_mounts(cluster, controller.namespace, controller.deployment):
            text = (
                f"the {missing} does not exist: the running pods of {controller.name} serve, but no new one can start"
            )
            problems.add("controller-cannot-restart", text, state=trace.WARNING)
    return {
        "controller": controller.name,
        "namespace": controller.namespace,
        "service": controller.service,
        "address": None if isinstance(address, Pending) else str(address),
        "ready": waiting is None,
    }


def _rollout(cluster: Cluster, namespace: str, deployment: str) -> Pending | None:
    """Return why the pods of a Deployment are not ready; None if they are, or if the API cannot be used."""
    try:
        return cluster_state.rollout(cluster, namespace, deployment)
    except LabError as error:
        return None if error.id in API else Pending(error.message)


def _trace_apps(
    context: Context, cluster: Cluster, problems: Problems, path: Mapping[str, HopReport]
) -> list[AppReport]:
    """Request each app as `trace` does, except those that are scaled to zero."""
    for hop in path.values():
        problems.add_hop(hop, "")
    return [
        {"name": app.name, "url": app.url, "http": None}
        if app.is_scaled_to_zero
        else _app(context, cluster, app, problems, path)
        for app in context.lab.apps
    ]


def _app(context: Context, cluster: Cluster, app: App, problems: Problems, path: Mapping[str, HopReport]) -> AppReport:
    """Request an app. If its name does not resolve to it, add that problem and use the lab's address."""
    report = trace.follow(context, app.hostname, past=trace.MISSING_NAME, cluster=cluster, known=path)
    waiting = _rollout(cluster, "default", app.name)
    hops = {hop["hop"]: hop for hop in report["hops"]}
    if waiting is not None and hops["pod"]["state"] != trace.UNKNOWN:
        cause = waiting.id if waiting.id != NOT_READY else "app-not-ready"
        state: HopState = trace.BROKEN if hops["pod"]["state"] == trace.BROKEN else trace.WARNING
        problems.add(cause, waiting.reason, waiting.hint or trace.UP, state=state)
        del hops["pod"]  # the rollout's reason comes from the pods themselves
    for hop in hops.values():
        problems.add_hop(hop, f"{app.url}: ")
    status = report["hops"][-1]["evidence"].get("status")
    return {"name": app.name, "url": app.url, "http": status}


def _check_block(lab: Lab, problems: Problems) -> None:
    """Add the problem of a hosts file in which `up` could not tell the lab's block from foreign lines."""
    try:
        hosts_file.show(lab.hosts_file, lab.name)
    except HostsError as error:
        if all(problem["id"] != error.id for problem in problems.reports):
            problems.add(error.id, error.message, error.hint, ())


def _check_bundle(context: Context, problems: Problems) -> None:
    """Add a problem if the bundle, which nodes need to boot, cannot be used, or if it lacks the failure detector.

    Without the detector, MetalLB notices a dead node only by its own probes.
    """
    try:
        _ = context.bundle
    except MissingError as error:
        text = f"{error.message}; running nodes work without it, but a node needs it to boot"
        problems.add(error.id, text, error.hint, (), trace.WARNING)
        return
    if context.lacks_detector:
        text = "the bundle lacks the failure detector, so MetalLB notices a dead node after 5 to 6 s instead of 2"
        fix = "Create the next lab from a bundle that has it: `labctl bundle build` makes one."
        problems.add("failure-detector-missing", text, fix, (), trace.WARNING)


def _unchecked_apps(lab: Lab) -> list[AppReport]:
    return [{"name": app.name, "url": app.url, "http": None} for app in lab.apps]
