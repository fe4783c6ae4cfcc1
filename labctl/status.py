"""What a lab is like now: the report behind `labctl status`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labctl import hosts, observe, trace, web
from labctl.context import Context
from labctl.errors import HostsError, LabError
from labctl.lab import App, Lab
from labctl.report import AddressReport, AppReport, IngressReport, NodeReport, ProblemReport, StatusReport
from labctl.wait import NOT_READY, Pending

if TYPE_CHECKING:
    from labctl.kube import Cluster


class Problems:
    """What is wrong, each cause once: the same one may be seen from several sides."""

    def __init__(self, lab: str) -> None:
        self.found: list[ProblemReport] = []
        self._lab = lab

    def add(self, cause: str, text: str, fix: str | None = trace.UP, commands: Sequence[str] | None = None) -> None:
        """Note a problem; by default it is one that `labctl up` fixes."""
        if commands is None:
            commands = (f"labctl --name {self._lab} up",) if fix == trace.UP else ()
        self.found.append({"id": cause, "text": text, "fix": fix, "commands": list(commands)})

    def has(self, cause: str | None) -> bool:
        """Whether this cause has been told of."""
        return any(problem["id"] == cause for problem in self.found)


def report_on(context: Context) -> StatusReport:
    """Look at the nodes, the addresses, the ingress controller and the apps, and list what is wrong with them.

    No lab address is asked for anything while none of the lab's nodes runs: there may be no route to it.
    """
    lab, problems = context.lab, Problems(context.lab.name)
    if context.isolated and not context.isolation.exists():
        problems.add("namespace-gone", f"the network namespace {context.isolation.namespace} is gone")
        return _without_api(context, problems, _unasked(lab))
    if context.isolated and not context.isolation.engine_runs():
        fix, resume = "`labctl resume` starts it.", f"labctl --name {lab.name} resume"
        problems.add("engine-stopped", "the lab's Docker Engine does not run: halted, or ended", fix, (resume,))
        return _without_api(context, problems, _unasked(lab))
    running = context.provider.running()
    for node in lab.nodes:
        if node.name not in running:
            problems.add("node-not-running", f"node {node.name} does not run")
    if not running:
        return _without_api(context, problems, _unasked(lab))
    try:
        if lab.control_plane.name in running:
            return _live(context, problems)
    except LabError as error:
        problems.add(error.id, error.message, error.hint or trace.UP)
    return _without_api(context, problems, _by_name(lab))


def _live(context: Context, problems: Problems) -> StatusReport:
    lab, cluster = context.lab, context.cluster
    reasons = observe.unready_nodes(cluster, lab)
    for name, reason in reasons.items():
        problems.add("node-not-ready", f"node {name} is not Ready: {reason}")
    if cluster.get("metallb.io/v1beta1", "IPAddressPool", lab.name, "metallb-system") is None:
        problems.add("pool-missing", f"MetalLB has no pool {lab.name}")
    addresses = _addresses(cluster, lab, problems)
    ingress = _ingress(context, problems)
    apps = [_app(context, app, problems) for app in lab.apps]
    _check_block(lab, problems)
    return {
        "lab": lab.name,
        "ok": not problems.found,
        "nodes": _nodes(lab, ready={node.name for node in lab.nodes} - reasons.keys()),
        "addresses": addresses,
        "ingress": ingress,
        "apps": apps,
        "problems": problems.found,
    }


def _without_api(context: Context, problems: Problems, apps: list[AppReport]) -> StatusReport:
    return {
        "lab": context.lab.name,
        "ok": False,
        "nodes": _nodes(context.lab, ready=set()),
        "addresses": [],
        "ingress": None,
        "apps": apps,
        "problems": problems.found,
    }


def _nodes(lab: Lab, ready: set[str]) -> list[NodeReport]:
    return [
        {"name": node.name, "role": node.role.value, "address": str(node.address), "ready": node.name in ready}
        for node in lab.nodes
    ]


def _addresses(cluster: Cluster, lab: Lab, problems: Problems) -> list[AddressReport]:
    services = [(service, observe.address_of(service)) for service in cluster.list("v1", "Service")]
    owned = {
        (service["metadata"]["namespace"], service["metadata"]["name"]): address
        for service, address in services
        if address is not None
    }
    announced = observe.announcers(cluster, lab, owned)
    held: list[AddressReport] = []
    for service, address in services:
        if address is None:
            continue
        name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
        node = announced.get((namespace, name))
        pool = service["metadata"].get("annotations", {}).get("metallb.io/ip-allocated-from-pool", "")
        held.append({"address": str(address), "service": f"{namespace}/{name}", "pool": pool, "node": node})
        if address not in lab.pool:
            text = f"Service {namespace}/{name} has {address}, which is not in the pool {lab.pool}"
            problems.add("address-not-in-pool", text)
        if node is None:
            problems.add("address-not-announced", f"no node announces {address} of Service {namespace}/{name}")
    return held


def _ingress(context: Context, problems: Problems) -> IngressReport:
    controller, cluster = context.controller, context.cluster
    address = observe.load_balancer_address(cluster, controller.namespace, controller.service)
    if isinstance(address, Pending):
        text = f"Service {controller.namespace}/{controller.service} has no address: {address.reason}"
        problems.add("address-missing", text)
    waiting = _rollout_problem(cluster, controller.namespace, controller.deployment, "controller-not-ready", problems)
    return {
        "controller": controller.name,
        "namespace": controller.namespace,
        "service": controller.service,
        "address": None if isinstance(address, Pending) else str(address),
        "ready": not waiting,
    }


def _rollout_problem(cluster: Cluster, namespace: str, deployment: str, cause: str, problems: Problems) -> bool:
    """Note why the pods of a Deployment are not ready, if they are not; an app's own reason is the cause."""
    try:
        waiting = observe.rollout(cluster, namespace, deployment)
    except LabError as error:
        waiting = Pending(error.message)
    if waiting is not None:
        is_known = waiting.id != NOT_READY and cause == "app-not-ready"
        problems.add(waiting.id if is_known else cause, waiting.reason, waiting.hint or trace.UP)
    return waiting is not None


def _app(context: Context, app: App, problems: Problems) -> AppReport:
    """Ask for an app as `trace` does; a name that leads nowhere is a problem, and the app is asked at its address.

    An app that is meant to have no pods is not asked for.
    """
    if app.is_scaled_to_zero:
        return {"name": app.name, "url": app.url, "http": None}
    is_waiting = _rollout_problem(context.cluster, "default", app.name, "app-not-ready", problems)
    report = trace.follow(context, app.hostname, only=trace.QUICK, past=trace.MISSING_NAME)
    for hop in report["hops"]:
        if is_waiting and hop["hop"] == "pod":
            continue  # the pods themselves have said why they are not ready
        if hop["state"] != "broken" or (problems.has(hop["cause"]) and hop["hop"] not in {"name", "response"}):
            continue
        text = f"{app.url}: {trace.finding(hop)}"
        problems.add(str(hop["cause"]), text, hop["fix"], hop["commands"])
    status = report["hops"][-1]["evidence"].get("status")
    return {"name": app.name, "url": app.url, "http": status}


def _check_block(lab: Lab, problems: Problems) -> None:
    """Note a hosts file in which `up` could not tell the lab's block from the lines of others."""
    try:
        hosts.show(lab.hosts_file, lab.name)
    except HostsError as error:
        problems.add(error.id, error.message, error.hint, ())


def _by_name(lab: Lab) -> list[AppReport]:
    """Return what answers by name, which nobody can say the owner of while the API is away."""
    asked = {app.name: web.get(app.hostname).status for app in lab.apps if not app.is_scaled_to_zero}
    return [{"name": app.name, "url": app.url, "http": asked.get(app.name)} for app in lab.apps]


def _unasked(lab: Lab) -> list[AppReport]:
    return [{"name": app.name, "url": app.url, "http": None} for app in lab.apps]
