"""The plans `up` (and `resume`), `halt` and `destroy`, and the steps of `up`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from labctl.cluster import apps
from labctl.config import saved_lab
from labctl.context import Context
from labctl.doctor import preflight
from labctl.host import accelerator
from labctl.host.caller import caller
from labctl.host.machine import Machine
from labctl.host.wait import pending_while_unready, until
from labctl.model.events import Progress
from labctl.model.kinds import ROUTE
from labctl.model.lab import App, Node
from labctl.plans import assembly, hostnames, images, teardown
from labctl.plans.applying import METALLB, apply, manifest, pending_with_reason, restart_for
from labctl.plans.bundle_choice import choose_bundle
from labctl.plans.hosts_steps import ask_to_remove, ask_to_write, sync_hosts
from labctl.plans.ingress_step import apply_ingress
from labctl.plans.plan import Outcome, Plan, Step
from labctl.plans.verify import verify
from labctl.providers import clock

METALLBS = "app=metallb"
WITHOUT_DETECTOR = "; the bundle lacks the failure detector, so a dead node is noticed after 5 to 6 s instead of 2"
IMAGES: Step[Context] = Step("images", "removes the machines' box and its image", teardown.remove_images, inside=False)
PURGE: Step[Context] = Step("state", "removes the lab's folder", teardown.remove_folder, inside=False)


def up(*, isolated: bool, remark: str = "") -> Plan[Context]:
    """Return the plan that creates a lab; as every step checks before it acts, it also repairs and resumes one.

    Its first step reports the `remark`.
    """
    steps: list[Step[Context]] = [
        Step(
            "preflight", "checks that this machine can run the lab", partial(check_machine, remark=remark), inside=False
        ),
        Step("bundle", "chooses or makes the bundle and verifies its checksums", choose_bundle, inside=False),
    ]
    if isolated:
        steps.append(Step("isolation", "creates the lab's own network and Engine", isolate, inside=False))
    steps += [
        Step("render", "writes the Vagrantfile, keys, node files and manifests", render),
        Step("boot", "runs `vagrant up` for the nodes that are not running", boot),
        Step("cluster", "waits until every node is Ready and has the images that were loaded", await_cluster),
        Step("metallb", "applies MetalLB, its pool and its advertisement", apply_metallb),
        Step("ingress", "applies the ingress controller behind a load-balancer address", apply_ingress),
        Step("apps", "applies each app", apply_apps),
        Step("hosts", "writes the hostnames into the hosts file", sync_hosts, ask=ask_to_write),
        Step("verify", "requests every app by name", verify),
    ]
    return tuple(steps)


def halt(*, hard_stop: bool = False) -> Plan[Context]:
    """Return the plan that halts a lab: it frees processors and memory, and keeps everything else."""
    halt_nodes = partial(teardown.halt_nodes, hard_stop=hard_stop)
    return (
        Step("nodes", "shuts the nodes down", halt_nodes, inside=False),
        Step("isolation", "stops the lab's own Engine", teardown.halt_isolation, inside=False),
    )


def halt_some(nodes: Iterable[Node], *, hard_stop: bool) -> Plan[Context]:
    """Return the plan that halts some nodes while the lab keeps running."""
    chosen = frozenset(node.name for node in nodes)
    halt_nodes = partial(teardown.halt_nodes, chosen=chosen, hard_stop=hard_stop)
    return (Step("nodes", "shuts some nodes down", halt_nodes),)


def destroy(*, purge: bool, are_containers: bool = True, is_destroyed: bool = False) -> Plan[Context]:
    """Return the plan that destroys a lab; `purge` also removes its folder and what virtual machines started from.

    For a lab that was destroyed before, purge what that kept.
    """
    images = () if are_containers or not purge else (IMAGES,)
    if is_destroyed:
        return (*images, PURGE)
    return (
        Step(
            "hosts",
            "removes the lab's block from the hosts file",
            teardown.leave_hosts,
            inside=False,
            ask=ask_to_remove,
        ),
        Step("nodes", "removes the nodes and their network", teardown.remove_nodes, inside=False),
        *images,
        Step("isolation", "removes the lab's own network and Engine", teardown.remove_isolation, inside=False),
        Step(
            "kubeconfig",
            "removes the lab's entries from your kubeconfig",
            teardown.forget_kubeconfig,
            inside=False,
        ),
        PURGE if purge else Step("state", "removes the lab's folder", teardown.remove_state, inside=False),
    )


def check_machine(context: Context, report: Progress, remark: str = "") -> Outcome:
    """Check that the machine has what the lab needs, and that `up` can turn the existing lab into the requested one."""
    saved = saved_lab.read(context.folder)
    if saved is not None:
        saved_lab.refuse_differences(saved, saved_lab.SavedLab(context.lab, context.isolated, context.bundle_folder))
    context.require_bundle_contents()
    without_sudo = "" if context.isolated or not caller() else "this lab is root's; labctl itself does not need sudo"
    installed = preflight.require_machine(context, report)
    remarks = (context.reasons.provider, context.reasons.pool, remark, without_sudo, _without_kvm(context))
    return Outcome(installed, "; ".join(filter(None, remarks)))


def _without_kvm(context: Context) -> str:
    """Return a warning with a fix if machines are emulated; empty if they are not."""
    if not context.hypervisor.can_use_kvm:
        return ""
    acceleration = accelerator.kvm(Machine())
    if acceleration.is_usable:
        restart = f"`labctl --name {context.lab.name} halt`, then `labctl --name {context.lab.name} resume`"
        return (
            f"running machines are still emulated: {restart} starts them with KVM" if context.lab.slowness > 1 else ""
        )
    return f"{accelerator.emulation_consequence(acceleration, context.lab.slowness)}. {acceleration.fix}"


def isolate(context: Context, _report: Progress) -> Outcome:
    """Create the lab's namespace and start its Engine."""
    if saved_lab.read(context.folder) is None:
        # Record the lab first, so that `destroy` finds what an interrupted run leaves behind.
        saved_lab.write(context.folder, saved_lab.SavedLab(context.lab, context.isolated))
    isolation = context.isolation
    return Outcome(isolation.ensure(), f"network namespace {isolation.namespace}")


def render(context: Context, _report: Progress) -> Outcome:
    """Write every file of the lab into its folder, and record what they are made from."""
    from labctl.plans import controller_images  # noqa: PLC0415 - as the next one
    from labctl.plans.lab_files import write_lab  # noqa: PLC0415 - cryptography takes 0.1 s, and few plans need a key

    context.require_bundle_contents()
    controller_images.require(context)
    recorded = saved_lab.write(context.folder, saved_lab.SavedLab(context.lab, context.isolated, context.bundle.folder))
    written = write_lab(context, context.folder)
    return Outcome(recorded or written, str(context.folder))


def boot(context: Context, report: Progress) -> Outcome:
    """Start the nodes that are not running, and correct the clocks of virtual machines."""
    running = context.provider.running()
    absent = [node for node in context.lab.nodes if node.name not in running]
    if absent:
        if context.node_images:
            context.node_images.prepare(context.bundle, report)
        context.provider.up(absent, report)
    # A machine that was just started has this machine's time; checking a slow node over SSH takes ten seconds.
    dated = [node for node in context.lab.nodes if node.name in running or context.lab.slowness == 1]
    late = () if context.hypervisor.are_containers else _correct_clocks(context, dated)
    return Outcome(bool(absent or late), "; ".join((f"{len(context.lab.nodes)} nodes running", *late)))


def _correct_clocks(context: Context, nodes: Sequence[Node]) -> list[str]:
    """Set the clocks of virtual machines, which stop while this machine is suspended; return the corrections."""
    seconds = context.lab.limits.node_command
    ahead = {node.name: clock.correct(context.provider, node, seconds) for node in nodes}
    return [f"set the clock of {name}, which was {clock.offset_text(off)}" for name, off in ahead.items() if off]


def await_cluster(context: Context, report: Progress) -> Outcome:
    """Wait until every node is Ready; then label the control plane and update the loaded images on the nodes."""
    assembly.await_nodes(context, report)
    marked = apply(context, report, "control-plane.yaml")
    images.remove_from_nodes(context, context.loaded_images.removed_images())
    loaded = context.loaded_images.images()
    given = images.load_into_nodes(context, loaded, report)
    images.require_on_nodes(context, loaded, given)
    new = (f"loaded images are new on {', '.join(given.nodes)}",) if given.nodes else ()
    return Outcome(bool(marked or new), "; ".join((f"{len(context.lab.nodes)} nodes Ready", *new)))


def apply_metallb(context: Context, report: Progress) -> Outcome:
    """Apply MetalLB and the lab's pool."""
    started = context.cluster.find("v1", "Pod", METALLB[0], METALLBS)
    changed = apply(context, report, "metallb.yaml") + apply(context, report, "memberlist.yaml")
    restart_for(context, report, changed, started)
    report("waiting until MetalLB's webhook answers")
    # The webhook fails closed: without it, every write is refused. A terminating pod may serve only the first write.
    for each in manifest(context, "pool.yaml"):
        write = partial(pending_while_unready, partial(context.cluster.apply, [each]))
        written = until(
            pending_with_reason(context, write, METALLB),
            what="MetalLB's webhook",
            timeout=context.lab.limits.ready,
            interval=context.lab.limits.poll,
            hint="For details, run `labctl exec -- kubectl -n metallb-system get pods`.",
        )
        if written:
            report(f"applied {', '.join(written)}")
        changed += written
    without = WITHOUT_DETECTOR if context.lacks_detector else ""
    return Outcome(bool(changed), f"pool {context.lab.pool}{without}")


def apply_apps(context: Context, report: Progress) -> Outcome:
    """Apply every app, remove those that are no longer configured, and spread the pods of each over the nodes."""
    changed: list[str] = []
    controller = context.controller.namespace, context.controller.deployment
    # A webhook rejects a hostname that a removed app still has. Without one, keep that app until another takes over.
    removed = _remove_others(context, report) if context.controller.admission else []
    order, freed = hostnames.ordered_apps(context) if context.controller.admission else (context.lab.apps, set[str]())
    freed |= {each.partition("/")[2] for each in removed}
    for app in order:
        report(f"applying {app.name}")
        # Every Ingress is rejected until the webhook's pod serves.
        applied = partial(hostnames.pending_while_taken, context, freed, partial(_apply_app, context, report, app))
        applied_now = until(
            pending_with_reason(context, partial(pending_while_unready, applied), controller),
            what=f"the app {app.name}",
            timeout=context.lab.limits.ready,
            interval=context.lab.limits.poll,
        )
        freed |= {app.name} if f"{ROUTE.name} {app.name}" in applied_now else set()
        changed += applied_now
    removed += _remove_others(context, report)
    moved = [pod for app in context.lab.apps for pod in apps.spread_pods(context.cluster, context.lab, app.name)]
    if moved:
        report(f"moving {', '.join(moved)} to nodes with fewer pods")
    return Outcome(bool(changed or removed or moved), ", ".join(app.name for app in context.lab.apps))


def _remove_others(context: Context, report: Progress) -> list[str]:
    removed = apps.remove_obsolete_apps(context.cluster, context.lab)
    if removed:
        report(f"removed {', '.join(removed)}")
    return removed


def _apply_app(context: Context, report: Progress, app: App) -> list[str]:
    file = f"app-{app.name}.yaml"
    objects = manifest(context, file)
    apps.refuse_foreign_objects(context.cluster, objects)
    if context.controller.admission:  # before its Deployment exists: a rejected app leaves nothing behind
        apps.require_accepted(context.cluster, app.name, objects)
    return apply(context, report, file)
