"""Every step of a lab's life, and the plans they make up: `up` (and `resume`), `halt` and `destroy`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from labctl import bundle, hosts, observe, preflight, record, teardown, web
from labctl.bundle.build import build
from labctl.context import NODE_SYSTEM, Context
from labctl.errors import NotReadyError
from labctl.events import Say
from labctl.failures import recognised
from labctl.lab import Node
from labctl.labfiles import write_lab
from labctl.plan import Outcome, Plan, Step
from labctl.render import documents
from labctl.wait import Pending, until

T = TypeVar("T")

API_SECONDS = 180.0
NODES_SECONDS = 180.0
READY_SECONDS = 120.0


def up(*, isolated: bool) -> Plan[Context]:
    """How a lab comes up; and, since every step looks before it acts, how it is repaired and resumed."""
    return (
        Step("preflight", "checks that this machine can run the lab", check_machine, inside=False),
        Step("bundle", "picks or makes the bundle and verifies its checksums", choose_bundle, inside=False),
        *((Step("isolation", "makes the lab's own network and Engine", isolate, inside=False),) if isolated else ()),
        Step("render", "writes the Vagrantfile, keys, node files and manifests", render),
        Step("boot", "runs `vagrant up` for the nodes that do not run", boot),
        Step("cluster", "waits until every node is Ready", await_cluster),
        Step("metallb", "applies MetalLB, its pool and its advertisement", apply_metallb),
        Step("ingress", "applies the ingress controller behind a load-balancer address", apply_ingress),
        Step("apps", "applies each app", apply_apps),
        Step("hosts", "writes the hostnames into the hosts file", sync_hosts),
        Step("verify", "asks for every app by name", verify),
    )


def halt(*, power_cut: bool = False) -> Plan[Context]:
    """How a lab gives back processors and memory, and keeps everything else."""
    halt_nodes = partial(teardown.halt_nodes, power_cut=power_cut)
    return (
        Step("nodes", "runs `vagrant halt`", halt_nodes, inside=False),
        Step("isolation", "stops the lab's own Engine", teardown.halt_isolation, inside=False),
    )


def halt_some(nodes: Iterable[Node], *, power_cut: bool) -> Plan[Context]:
    """How some nodes stop while the lab goes on without them."""
    chosen = frozenset(node.name for node in nodes)
    halt_nodes = partial(teardown.halt_nodes, chosen=chosen, power_cut=power_cut)
    return (Step("nodes", "runs `vagrant halt` for some nodes", halt_nodes),)


def destroy(*, purge: bool) -> Plan[Context]:
    """How everything of a lab goes away."""
    return (
        Step("hosts", "removes the lab's block from the hosts file", teardown.leave_hosts, inside=False),
        Step("nodes", "runs `vagrant destroy`", teardown.remove_nodes, inside=False),
        Step("isolation", "removes the lab's own network and Engine", teardown.remove_isolation, inside=False),
        Step(
            "state",
            "removes the lab's folder",
            teardown.remove_folder if purge else teardown.remove_state,
            inside=False,
        ),
    )


def check_machine(context: Context, say: Say) -> Outcome:
    """The machine has what the lab needs, and the lab asked for is one that `up` can bring about."""
    made = record.read(context.folder)
    if made is not None:
        record.refuse_differences(made, record.Record(context.lab, context.isolated))
    return Outcome(preflight.require_machine(context, say), context.pool_reason)


def choose_bundle(context: Context, say: Say) -> Outcome:
    """The bundle is there, and every file of it was checked by its checksum before its first use."""
    made = not context.has_bundle
    if made:
        build(context.cache, say)
    checked = bundle.verify_once(context.bundle, context.cache, say)
    return Outcome(made, context.bundle.id + (", checksums verified" if checked else ""))


def build_bundle(context: Context, say: Say) -> Outcome:
    """The bundle that this labctl makes is complete in the cache."""
    preflight.require(preflight.FOR_BUILDING, may_install=context.may_install, say=say)
    was_there = context.has_bundle
    return Outcome(not was_there, build(context.cache, say).id)


def isolate(context: Context, _say: Say) -> Outcome:
    """The lab's namespace and its Engine run."""
    if record.read(context.folder) is None:
        # Before anything of it exists: whatever an interrupted run leaves, `destroy` must know of.
        record.write(context.folder, record.Record(context.lab, context.isolated))
    isolation = context.isolation
    return Outcome(isolation.ensure(), f"network namespace {isolation.namespace}")


def render(context: Context, _say: Say) -> Outcome:
    """Every file of the lab is in its folder, and what it is made from is on record."""
    recorded = record.write(context.folder, record.Record(context.lab, context.isolated, context.bundle.folder))
    written = write_lab(context, context.folder)
    return Outcome(recorded or written, str(context.folder))


def boot(context: Context, say: Say) -> Outcome:
    """Every node runs."""
    running = context.provider.running()
    absent = [node for node in context.lab.nodes if node.name not in running]
    if absent:
        context.provider.take_system(context.node_image, context.bundle.path(NODE_SYSTEM), say)
        context.provider.up(absent, say)
    return Outcome(bool(absent), f"{len(context.lab.nodes)} nodes running")


def await_cluster(context: Context, say: Say) -> Outcome:
    """The API answers, every node is Ready, and the control plane is marked as one."""
    say("waiting for the Kubernetes API")
    api, control_plane = f"the API server at {context.lab.api_server}", context.lab.control_plane
    try:
        until(lambda: _pending_while_unready(context.cluster.is_up), what=api, timeout=API_SECONDS)
    except NotReadyError as error:
        raise _with_log(context, control_plane, error) from error
    try:
        until(partial(_nodes_ready, context, say), what="the cluster", timeout=NODES_SECONDS)
    except NotReadyError as error:
        reasons = observe.unready_nodes(context.cluster, context.lab)
        node = next((node for node in context.lab.nodes if node.name in reasons), control_plane)
        raise _with_log(context, node, error) from error
    marked = _apply(context, say, "control-plane.yaml")
    return Outcome(bool(marked), f"{len(context.lab.nodes)} nodes Ready")


def apply_metallb(context: Context, say: Say) -> Outcome:
    """MetalLB is applied, and has taken the lab's pool."""
    changed = _apply(context, say, "metallb.yaml") + _apply(context, say, "memberlist.yaml")
    pool = _manifest(context, "pool.yaml")
    say("waiting until MetalLB's webhook answers")
    # Fail-closed: until the controller serves it, every write of a pool is refused. A dry run is the exact question.
    until(
        lambda: _pending_while_unready(lambda: context.cluster.accepts(pool[0])),
        what="MetalLB's webhook",
        timeout=READY_SECONDS,
        hint="`labctl exec -- kubectl -n metallb-system get pods` says more.",
    )
    changed += _apply(context, say, "pool.yaml")
    return Outcome(bool(changed), f"pool {context.lab.pool}")


def apply_ingress(context: Context, say: Say) -> Outcome:
    """The ingress controller is applied, and its Service has an address of the pool."""
    controller, cluster = context.controller, context.cluster
    if controller.notice:
        say(controller.notice)
    removed = [cluster.delete(*obstacle) for obstacle in controller.obstacles]
    changed = _apply(context, say, "ingress.yaml")
    address = until(
        partial(observe.load_balancer_address, cluster, controller.namespace, controller.service),
        what=f"an address for the Service {controller.namespace}/{controller.service}",
        timeout=READY_SECONDS,
        hint="`labctl exec -- kubectl -n metallb-system get ipaddresspools,pods` says more.",
    )
    return Outcome(bool(changed) or any(removed), f"{controller.name} at {address}")


def apply_apps(context: Context, say: Say) -> Outcome:
    """Every app is applied and spread over the nodes, and those that the configuration no longer has are gone."""
    changed: list[str] = []
    for app in context.lab.apps:
        say(f"applying {app.name}")
        # An ingress controller's webhook refuses Ingresses until its pod serves it.
        changed += until(
            partial(_pending_while_unready, partial(_apply, context, say, f"app-{app.name}.yaml")),
            what=f"the app {app.name}",
            timeout=READY_SECONDS,
        )
    removed = observe.remove_other_apps(context.cluster, context.lab)
    moved = [pod for app in context.lab.apps for pod in observe.spread(context.cluster, context.lab, app.name)]
    if moved:
        say(f"moving {', '.join(moved)} to nodes that have fewer")
    return Outcome(bool(changed or removed or moved), ", ".join(app.name for app in context.lab.apps))


def sync_hosts(context: Context, _say: Say) -> Outcome:
    """The hosts file has the live address of every hostname."""
    controller = context.controller
    address = observe.load_balancer_address(context.cluster, controller.namespace, controller.service)
    if isinstance(address, Pending):
        raise NotReadyError(
            f"no address for the hosts file: {address.reason}", id="no-address", hint="`labctl up` makes the rest."
        )
    names = {app.hostname: address for app in context.lab.apps}
    changed = hosts.sync(context.lab.hosts_file, context.lab.name, names, backup=context.folder / teardown.HOSTS_BACKUP)
    return Outcome(changed, f"{address} {' '.join(names)}")


def verify(context: Context, say: Say) -> Outcome:
    """Every app answers by name."""
    controller = context.controller
    deployments = [(controller.namespace, controller.deployment)]
    deployments += [("default", app.name) for app in context.lab.apps]
    for namespace, name in deployments:
        say(f"waiting for the pods of {name}")
        rollout = partial(observe.rollout, context.cluster, namespace, name)
        until(rollout, what=f"Deployment {namespace}/{name}", timeout=READY_SECONDS)
    for app in context.lab.apps:
        say(f"asking for {app.url}")
        answer = until(
            partial(_answer, app.hostname), what=app.url, timeout=READY_SECONDS, hint="`labctl status` says more."
        )
        say(f"{answer} from {app.url}")
    return Outcome(changed=False, text=f"{len(context.lab.apps)} of {len(context.lab.apps)} apps answer by name")


def _manifest(context: Context, name: str) -> list[dict[str, Any]]:
    return documents((context.folder / "manifests" / name).read_text(encoding="utf-8"))


def _apply(context: Context, say: Say, name: str) -> list[str]:
    changed = context.cluster.apply(_manifest(context, name))
    if changed:
        say(f"applied {', '.join(changed)}")
    return changed


def _pending_while_unready(act: Callable[[], T]) -> T | Pending:
    """What `act` returns; a passing failure, of an API or a webhook that does not answer yet, is no answer yet."""
    try:
        return act()
    except NotReadyError as error:
        return Pending(error.message)


def _answer(hostname: str) -> web.Answer | Pending:
    answer = web.get(hostname)
    return answer if answer.is_good else Pending(str(answer))


def _nodes_ready(context: Context, say: Say) -> Pending | None:
    reasons = _pending_while_unready(lambda: observe.unready_nodes(context.cluster, context.lab))
    if isinstance(reasons, Pending):
        return reasons
    if not reasons:
        return None
    say(f"waiting for {', '.join(reasons)}")
    return Pending("; ".join(f"{name}: {reason}" for name, reason in reasons.items()))


def _with_log(context: Context, node: Node, error: NotReadyError) -> NotReadyError:
    """The error, with the last lines that the node wrote while it assembled itself, and what they tell of if known."""
    lines = context.provider.log(node)
    unready = NotReadyError(
        error.message,
        id="node-not-ready",
        hint=f"`labctl ssh {node.name}`, and there `sudo journalctl -u labctl-node -u kubelet`, says more.",
        details=tuple(f"{node.name}: {line}" for line in lines),
    )
    return recognised(unready, "\n".join(lines))
