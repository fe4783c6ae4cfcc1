"""What a lab is like now: the report behind `labctl status`."""

from __future__ import annotations

from labctl import hosts, observe, web
from labctl.context import Context
from labctl.errors import LabError
from labctl.kube import Cluster
from labctl.lab import Lab
from labctl.report import AddressReport, AppReport, IngressReport, NodeReport, StatusReport
from labctl.wait import Pending


def report_on(context: Context) -> StatusReport:
    """Look at the nodes, the addresses, the ingress controller and the apps, and list what is wrong with them.

    No lab address is asked for anything while none of the lab's nodes runs: there may be no route to it.
    """
    if context.isolated and not context.isolation.exists():
        gone = f"the network namespace {context.isolation.namespace} is gone; `labctl up` makes it again"
        return _without_api(context, [gone], apps=_unasked(context.lab))
    if context.isolated and not context.isolation.engine_runs():
        stopped = "the lab's Docker Engine does not run: halted, or ended; `labctl resume` starts it"
        return _without_api(context, [stopped], apps=_unasked(context.lab))
    running = context.provider.running()
    problems = [
        f"node {node.name} does not run; `labctl up` boots it" for node in context.lab.nodes if node.name not in running
    ]
    if not running:
        return _without_api(context, problems, apps=_unasked(context.lab))
    try:
        if context.lab.control_plane.name in running:
            return _live(context, list(problems))
    except LabError as error:
        problems.append(error.message)
    return _without_api(context, problems, apps=_apps(context.lab, problems))


def _live(context: Context, problems: list[str]) -> StatusReport:
    lab, cluster = context.lab, context.cluster
    reasons = observe.unready_nodes(cluster, lab)
    problems += [f"node {name} is not Ready: {reason}" for name, reason in reasons.items()]
    if cluster.get("metallb.io/v1beta1", "IPAddressPool", lab.name, "metallb-system") is None:
        problems.append(f"MetalLB has no pool {lab.name}; `labctl up` applies it")
    addresses = _addresses(cluster, lab, problems)
    ingress = _ingress(context, problems)
    apps = _apps(lab, problems)
    if ingress["address"] is not None:
        problems += _hosts_problems(context, ingress["address"])
    return {
        "lab": lab.name,
        "ok": not problems,
        "nodes": _nodes(lab, ready={node.name for node in lab.nodes} - reasons.keys()),
        "addresses": addresses,
        "ingress": ingress,
        "apps": apps,
        "problems": problems,
    }


def _without_api(context: Context, problems: list[str], apps: list[AppReport]) -> StatusReport:
    lab, controller = context.lab, context.controller
    return {
        "lab": lab.name,
        "ok": False,
        "nodes": _nodes(lab, ready=set()),
        "addresses": [],
        "ingress": {
            "controller": controller.name,
            "namespace": controller.namespace,
            "service": controller.service,
            "address": None,
            "ready": False,
        },
        "apps": apps,
        "problems": problems,
    }


def _nodes(lab: Lab, ready: set[str]) -> list[NodeReport]:
    return [
        {"name": node.name, "role": node.role.value, "address": str(node.address), "ready": node.name in ready}
        for node in lab.nodes
    ]


def _addresses(cluster: Cluster, lab: Lab, problems: list[str]) -> list[AddressReport]:
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
            problems.append(f"Service {namespace}/{name} has {address}, which is not in the pool {lab.pool}")
        if node is None:
            problems.append(f"no node announces {address} of Service {namespace}/{name}")
    return held


def _ingress(context: Context, problems: list[str]) -> IngressReport:
    controller, cluster = context.controller, context.cluster
    address = observe.load_balancer_address(cluster, controller.namespace, controller.service)
    if isinstance(address, Pending):
        problems.append(f"Service {controller.namespace}/{controller.service} has no address: {address.reason}")
    waiting = _rollout_problem(cluster, controller.namespace, controller.deployment, problems)
    return {
        "controller": controller.name,
        "namespace": controller.namespace,
        "service": controller.service,
        "address": None if isinstance(address, Pending) else str(address),
        "ready": not waiting,
    }


def _rollout_problem(cluster: Cluster, namespace: str, deployment: str, problems: list[str]) -> bool:
    try:
        waiting = observe.rollout(cluster, namespace, deployment)
    except LabError as error:
        waiting = Pending(error.message)
    if waiting is not None:
        problems.append(waiting.reason)
    return waiting is not None


def _apps(lab: Lab, problems: list[str]) -> list[AppReport]:
    answers = {app.name: web.get(app.hostname) for app in lab.apps if not app.is_scaled_to_zero}
    problems += [
        f"{app.url} is not answered by its app: {answers[app.name]}"
        for app in lab.apps
        if app.name in answers and not answers[app.name].is_good
    ]
    statuses = {name: answer.status for name, answer in answers.items()}
    return [{"name": app.name, "url": app.url, "http": statuses.get(app.name)} for app in lab.apps]


def _unasked(lab: Lab) -> list[AppReport]:
    return [{"name": app.name, "url": app.url, "http": None} for app in lab.apps]


def _hosts_problems(context: Context, address: str) -> list[str]:
    lab = context.lab
    wanted = {f"{address} {app.hostname}" for app in lab.apps}
    lines = set(hosts.show(lab.hosts_file, lab.name) or ())
    return [f"{lab.hosts_file} lacks the line {line}; `labctl hosts sync` writes it" for line in wanted - lines]
