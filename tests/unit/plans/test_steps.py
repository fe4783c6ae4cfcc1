"""Every step checks, acts only if needed, and reports what it waits for."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from fake_trace import hop
from fakes import (
    ADDRESS,
    APPLIED,
    FakeCluster,
    FakeProvider,
    Watched,
    lab,
    owned_by,
    ready_node,
    set_limits,
    with_fakes,
)
from golden_files import Golden
from recorded_machine import Recorded

from labctl import trace
from labctl.bundle.build.build import recipe_id
from labctl.bundle.download import download as downloads
from labctl.bundle.download import recipe as recipes
from labctl.bundle.format import write as describe
from labctl.config import from_values, saved_lab
from labctl.context import BundlePolicy, Context, Reasons
from labctl.doctor import preflight
from labctl.host import http_probe, lab_folder
from labctl.host.process import Finished
from labctl.host.wait import throttled, until
from labctl.isolation.isolation import Isolation
from labctl.model.errors import ExitCode, MissingError, NotReadyError, ProviderError, RefusedError, UsageError
from labctl.model.events import Progress
from labctl.model.limits import NORMAL
from labctl.model.reports import TraceReport
from labctl.plans import (
    applying,
    assembly,
    bundle_choice,
    hosts_steps,
    ingress_step,
    teardown,
    up,
    verify,
)
from labctl.plans.plan import Outcome, execute
from labctl.providers import clock
from labctl.providers.protocol import NodeFailure

WEBHOOK = NotReadyError("IPAddressPool demo: failed calling webhook", id="webhook-not-ready")
UNREACHABLE = NotReadyError("the API server does not answer: refused", id="api-unreachable")
COPIED = [{"manager": "kubectl-client-side-apply", "operation": "Update"}, {"operation": "Update"}]
pytestmark = pytest.mark.usefixtures("machine")


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make waits take no time; return the pauses in seconds."""
    pauses: list[float] = []
    set_limits(monkeypatch, poll=1.0)
    monkeypatch.setattr(assembly, "run", lambda *_arguments, **_options: Finished(assembly.NO_CONNECTION, "", ()))
    for module in (up, applying, assembly, ingress_step, verify):
        now = partial(sum, pauses)
        monkeypatch.setattr(module, "until", partial(until, clock=now, sleep=pauses.append), raising=False)
        monkeypatch.setattr(module, "throttled", partial(throttled, clock=now), raising=False)
    return pauses


# The whole of `up`


@pytest.mark.usefixtures("keyed")
def test_the_second_up_leaves_every_step_unchanged(context: Context, watched: Watched, hosts_file: Path) -> None:
    plan = up.up(isolated=False)

    assert execute(plan, context, watched)
    assert f"{ADDRESS} my-app.local" in hosts_file.read_text()

    again = Watched()
    assert not execute(plan, context, again)
    done = {event.step: event.changed for event in again.events if event.state == "done"}
    assert done == {step.name: False for step in plan}


def test_the_steps_of_up_are_in_order_and_inside_or_outside_of_the_labs_network() -> None:
    names = {step.name: step.inside for step in up.up(isolated=True)}

    outside = ["preflight", "bundle", "isolation"]
    assert list(names) == [*outside, "render", "boot", "cluster", "metallb", "ingress", "apps", "hosts", "verify"]
    assert [name for name, inside in names.items() if not inside] == outside
    assert [step.name for step in up.up(isolated=False)] == [name for name in names if name != "isolation"]


@pytest.mark.usefixtures("keyed")
def test_up_repairs_edited_and_deleted_objects(context: Context, watched: Watched, cluster: FakeCluster) -> None:
    execute(up.up(isolated=False), context, watched)
    service = cluster.objects["v1", "Service", "ingress-nginx", "ingress-nginx-controller"]
    service["spec"]["type"] = "ClusterIP"
    cluster.delete("apps/v1", "Deployment", "my-app", "default")

    again = Watched()
    execute(up.up(isolated=False), context, again)

    assert {event.step for event in again.events if event.changed} == {"ingress", "apps"}
    repaired = cluster.get("v1", "Service", "ingress-nginx-controller", "ingress-nginx")
    assert repaired is not None
    assert repaired["spec"]["type"] == "LoadBalancer"


# preflight


def test_another_network_for_an_existing_lab_is_refused_before_anything_is_done(
    context: Context, watched: Watched
) -> None:
    saved_lab.write(context.folder, saved_lab.SavedLab(lab(network="192.168.60.0/24"), isolated=False))

    with pytest.raises(UsageError, match=r"192\.168\.60\.0/24") as raised:
        up.check_machine(context, watched.report)

    assert raised.value.id == "lab-differs"


def test_a_network_that_this_machine_routes_elsewhere_is_refused_unless_the_lab_exists(
    context: Context, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT"
    routes = f"{header}\nvboxnet0 0038A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n"
    monkeypatch.setattr(preflight, "Machine", partial(Recorded, files={"/proc/net/route": routes}))

    with pytest.raises(MissingError, match=r"192\.168\.56\.0/24 by vboxnet0"):
        up.check_machine(context, watched.report)

    saved_lab.write(context.folder, saved_lab.SavedLab(context.lab, isolated=False))
    assert not up.check_machine(context, watched.report).changed


def test_the_chosen_provider_and_pool_are_reported_on_one_line(context: Context, watched: Watched) -> None:
    pool = "pool 192.168.56.31-192.168.56.99: free"
    chosen = replace(context, reasons=Reasons(pool, "provider docker: so"))
    outcome = up.check_machine(with_fakes(chosen, context.provider, context.cluster, context.bundle), watched.report)

    assert outcome.text == f"provider docker: so; {pool}"


ABSENT = [
    ({"kubernetes": "1.36.0"}, "bundle-version", "1.37.2"),
    ({"ingress": "ingress-nginx"}, "ingress-not-carried", "traefik"),
]
"""Values that neither the tests' bundle nor the one that labctl builds has, and what these have instead."""


@pytest.mark.parametrize(("values", "identity", "instead"), ABSENT)
@pytest.mark.parametrize("bundles", ["given", "cached", "none"])
def test_a_lab_that_no_bundle_can_boot_is_refused_before_anything_is_checked_or_built(
    context: Context,
    watched: Watched,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, str],
    identity: str,
    instead: str,
    bundles: str,
) -> None:
    monkeypatch.setattr(preflight, "require_machine", lambda *_arguments: pytest.fail("looked"))
    monkeypatch.setattr(bundle_choice, "build", lambda *_arguments: pytest.fail("built"))
    monkeypatch.setattr(bundle_choice, "unreachable_reasons", lambda *_arguments: ("registry.k8s.io: no answer",))
    bundle_folder = context.bundle_folder if bundles == "given" else None
    if bundles != "none":
        folder = context.cache / "bundles" / recipe_id() if bundles == "cached" else context.bundle.folder
        folder.mkdir(parents=True, exist_ok=True)
        describe(replace(context.bundle, folder=folder, id=folder.name))
    requested = replace(context, lab=lab(**values), bundle_folder=bundle_folder, may_install=True)

    may_be_downloaded = bundles == "none" and "ingress" in values  # the second step may download it
    steps = (up.check_machine, bundle_choice.choose_bundle, up.render)
    for step in steps[1:] if may_be_downloaded else steps:
        with pytest.raises(MissingError) as caught:
            step(requested, watched.report)
        assert (caught.value.id, caught.value.exit_code) == (identity, ExitCode.MISSING)
        assert instead in caught.value.message + caught.value.hint
        assert "--bundle" in caught.value.hint
        assert identity != "bundle-version" or {*recipes.MINORS} <= {*re.split("[,; ]+", caught.value.hint)}

    assert saved_lab.read(context.folder) is None


def test_a_lab_that_a_bundle_in_the_cache_can_boot_is_accepted(context: Context, watched: Watched) -> None:
    folder = context.cache / "bundles" / "kubernetes-1.36.0"
    folder.mkdir(parents=True)
    for damaged in ("a", "z"):
        folder.with_name(damaged).mkdir()
        (folder.with_name(damaged) / "bundle.yaml").write_text("schema: 99")
    older = {**context.bundle.versions, "kubernetes": "1.36.0"}
    describe(replace(context.bundle, folder=folder, id=folder.name, versions=older))
    requested = replace(context, lab=replace(context.lab, kubernetes="1.36.0"), bundle_folder=None)

    up.check_machine(requested, watched.report)

    assert requested.bundle.folder == folder


def test_an_isolated_lab_is_recorded_before_its_network_is_created(
    context: Context, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_isolation: Isolation) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Isolation, "ensure", interrupt)
    isolated = replace(context, isolated=True)

    with pytest.raises(KeyboardInterrupt):
        up.isolate(isolated, watched.report)

    assert saved_lab.read(context.folder) == saved_lab.SavedLab(context.lab, isolated=True)


# bundle and render


def test_a_bundle_is_verified_once(context: Context, watched: Watched, golden: Golden) -> None:
    first, second = (bundle_choice.choose_bundle(context, watched.report) for _ in range(2))

    golden([first.text, second.text])
    assert not first.changed


@pytest.mark.parametrize(
    ("silent", "kubernetes", "expected"),
    [
        ("", "auto", ["download"]),
        ("registry.k8s.io: no answer within 4 s", "auto", ["build"]),
        ("", "1.37.1", ["download 1.37.1"]),
        ("registry.k8s.io: no answer within 4 s", "1.37.2", ["build"]),
    ],
)
def test_a_bundle_is_downloaded_or_built_if_upstream_is_unreachable(
    context: Context,
    watched: Watched,
    monkeypatch: pytest.MonkeyPatch,
    golden: Golden,
    silent: str,
    kubernetes: str,
    expected: list[str],
) -> None:
    makers: list[str] = []
    required: list[str] = []
    monkeypatch.setattr(bundle_choice, "unreachable_reasons", lambda *_arguments: (silent,) if silent else ())
    monkeypatch.setattr(bundle_choice, "build", lambda *_arguments: makers.append("build"))
    monkeypatch.setattr(downloads, "download", lambda *words: makers.append(f"download {words[2].kubernetes}".strip()))
    monkeypatch.setattr(preflight, "require", lambda programs, **_options: required.extend(programs))
    bundleless = replace(context, lab=lab(kubernetes=kubernetes), bundle_folder=None)
    vars(bundleless).update(bundle=context.bundle)

    assert bundle_choice.choose_bundle(bundleless, watched.report).changed
    assert makers == expected
    assert ("mmdebstrap" in required) == (makers == ["build"])  # a download may do without
    golden([*watched.texts])


def test_a_users_recipe_is_downloaded_and_never_replaced_by_a_build(
    context: Context, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent: list[str] = ["registry.k8s.io: no answer"]
    downloaded: list[str] = []
    own = recipes.load()
    others = own.model_copy(update={"name": "others", "binaries": own.binaries[::-1]})
    monkeypatch.setattr(bundle_choice, "unreachable_reasons", lambda *_arguments: tuple(silent))
    monkeypatch.setattr(bundle_choice, "build", lambda *_arguments: pytest.fail("built"))
    monkeypatch.setattr(downloads, "download", lambda *words: downloaded.append(words[2].recipe.name))
    (context.cache / "bundles" / recipes.recipe_id(own)).mkdir(parents=True)
    describe(replace(context.bundle, folder=context.cache / "bundles" / recipes.recipe_id(own)))
    requested = replace(context, bundle_folder=None, policy=BundlePolicy(recipe=others))
    with pytest.raises(MissingError) as raised:
        replace(requested, policy=BundlePolicy(offline=True, recipe=others)).require_bundle_contents()
    assert raised.value.id == "bundle-not-cached"
    assert recipes.recipe_id(others) in raised.value.message  # the cache has another bundle
    vars(requested).update(bundle=context.bundle)

    with pytest.raises(MissingError) as raised:
        bundle_choice.choose_bundle(requested, watched.report)
    assert (raised.value.id, requested.has_bundle, downloaded) == ("source-unreachable", False, [])

    silent.clear()
    assert bundle_choice.choose_bundle(requested, watched.report).changed
    assert downloaded == ["others"]

    folder = context.cache / "bundles" / recipes.recipe_id(others)
    folder.mkdir()
    describe(replace(context.bundle, folder=folder, id=folder.name))
    assert replace(requested).bundle.folder == folder
    with pytest.raises(MissingError) as raised:
        replace(
            requested, bundle_folder=None, policy=BundlePolicy(recipe=others), lab=lab(kubernetes="1.30.0")
        ).require_bundle_contents()
    assert raised.value.id == "bundle-version"
    assert "recipe others, has" in raised.value.message


def test_offline_only_cached_bundles_are_used_and_no_server_is_contacted(
    context: Context, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_choice, "unreachable_reasons", lambda *_arguments: pytest.fail("asked"))
    offline = replace(context, bundle_folder=None, policy=BundlePolicy(offline=True))
    with pytest.raises(MissingError) as refused:
        up.check_machine(offline, watched.report)
    assert refused.value.id == "bundle-not-cached"

    for identity in (recipe_id(), recipes.recipe_id(recipes.load())):  # a download takes precedence over a build
        folder = context.cache / "bundles" / identity
        folder.mkdir(parents=True)
        describe(replace(context.bundle, folder=folder, id=identity))
        assert replace(offline).bundle.id == identity


def test_offline_virtual_machines_need_a_bundle_with_their_box(context: Context) -> None:
    describe(context.bundle)
    machines = replace(context, lab=lab(provider="libvirt"), policy=BundlePolicy(offline=True))
    with pytest.raises(MissingError) as refused:
        machines.require_bundle_contents()
    assert refused.value.id == "bundle-not-cached"
    replace(machines, policy=BundlePolicy()).require_bundle_contents()
    replace(context, policy=BundlePolicy(offline=True)).require_bundle_contents()


def test_unreachable_servers_are_named_if_a_version_needs_a_download(
    context: Context, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_choice, "unreachable_reasons", lambda *_arguments: ("quay.io: refused",))
    requested = replace(context, lab=lab(kubernetes="1.37.1"), bundle_folder=None)
    with pytest.raises(MissingError) as raised:
        bundle_choice.choose_bundle(requested, watched.report)
    assert raised.value.id == "bundle-version"
    assert "quay.io: refused" in raised.value.message


@pytest.mark.usefixtures("keyed")
def test_render_writes_only_what_differs(context: Context, watched: Watched) -> None:
    assert up.render(context, watched.report).changed
    assert not up.render(context, watched.report).changed

    (context.folder / "Vagrantfile").unlink()
    assert up.render(context, watched.report).changed


# boot


@pytest.mark.parametrize(
    ("running", "booted"),
    [
        (set(), [["demo-control-plane", "demo-worker-1"]]),
        ({"demo-control-plane"}, [["demo-worker-1"]]),
        ({"demo-control-plane", "demo-worker-1"}, []),
    ],
)
def test_only_missing_nodes_are_booted(
    context: Context, watched: Watched, provider: FakeProvider, running: set[str], booted: list[list[str]]
) -> None:
    provider.nodes = running

    outcome = up.boot(context, watched.report)

    assert provider.booted == booted
    assert provider.images.list() == (context.node_image,) * bool(booted)
    assert outcome.changed == bool(booted)
    assert outcome.text.startswith("2 ")


def test_the_clock_of_a_suspended_machine_is_set(context: Context, watched: Watched, provider: FakeProvider) -> None:
    machines = with_fakes(replace(context, lab=lab(provider="libvirt")), provider, context.cluster, context.bundle)
    provider.nodes = {node.name for node in machines.lab.nodes}
    commands: list[tuple[str, ...]] = []

    def late(command: Sequence[str]) -> Finished:
        commands.append(tuple(command[:1]) if command != clock.READ else clock.READ)
        return Finished(0, f"{time.time() - 3600:.3f}", ())

    provider.answers = {"demo-worker-1": late}

    outcome = up.boot(machines, watched.report)

    assert commands == [clock.READ, ("date",)]
    assert outcome.changed
    assert "demo-worker-1" in outcome.text
    assert not up.boot(context, watched.report).changed  # the clocks of containers are not checked


# cluster


def test_a_slow_api_is_waited_for(
    rendered: Context, watched: Watched, cluster: FakeCluster, pauses: list[float], golden: Golden
) -> None:
    cluster.refusals = [UNREACHABLE, UNREACHABLE]

    outcome = up.await_cluster(rendered, watched.report)

    assert outcome.changed, "the control plane is marked as one"
    golden(outcome.text)
    assert len(pauses) == 2
    assert not up.await_cluster(rendered, watched.report).changed


@pytest.mark.parametrize(
    ("outputs", "polls"),
    [
        ([(0, "a")], 0),
        ([(1, ""), (0, "b"), (0, "a\nb")], 2),
        ([(255, "")], 0),
    ],
    ids=["runs", "runs later", "cannot be queried"],
)
def test_outdated_readiness_of_pods_after_a_restart_is_waited_out(
    rendered: Context,
    watched: Watched,
    cluster: FakeCluster,
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
    outputs: list[tuple[int, str]],
    polls: int,
) -> None:
    remaining = iter(outputs)
    monkeypatch.setattr(assembly, "run", lambda *_args, **_options: Finished(*next(remaining), ()))
    status = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"containerID": "containerd://a"}],
    }
    cluster.put("v1", "Pod", "my-app-1", "default", spec={"nodeName": "demo-worker-1"}, status=status)

    up.await_cluster(rendered, watched.report)

    assert len(pauses) == polls


def test_a_silent_api_of_a_running_node_is_given_up_sooner_than_one_that_starts(
    context: Context, watched: Watched, cluster: FakeCluster, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.refusals = [UNREACHABLE] * 1000
    monkeypatch.setattr(assembly, "run", lambda *_arguments, **_options: Finished(0, "active\n", ()))

    with pytest.raises(NotReadyError) as raised:
        up.await_cluster(context, watched.report)

    assert raised.value.id == "api-unreachable"
    assert "labctl --name demo resume" in raised.value.hint
    assert NORMAL.api_silent <= sum(pauses) < NORMAL.api_silent + 2 * NORMAL.node_check


def test_an_api_that_never_responds_is_an_error_with_the_control_planes_last_lines(
    context: Context, watched: Watched, cluster: FakeCluster, provider: FakeProvider, golden: Golden
) -> None:
    cluster.refusals = [UNREACHABLE] * 1000
    provider.lines = ("labctl: starting the control plane", "kubeadm: no space left")

    with pytest.raises(NotReadyError, match=r"https://192\.168\.56\.10:6443") as raised:
        up.await_cluster(context, watched.report)

    assert raised.value.id == "node-not-ready"
    assert raised.value.details[-1] == "demo-control-plane: kubeadm: no space left"
    golden({"message": raised.value.message, "hint": raised.value.hint})


def test_a_node_that_does_not_join_is_named_with_its_last_lines(
    context: Context, watched: Watched, cluster: FakeCluster, provider: FakeProvider, golden: Golden
) -> None:
    cluster.delete("v1", "Node", "demo-worker-1")
    provider.lines = ("{node} gave up waiting",)

    with pytest.raises(NotReadyError, match="demo-worker-1") as raised:
        up.await_cluster(context, watched.report)

    assert raised.value.details == ("demo-worker-1: demo-worker-1 gave up waiting",)
    golden({"message": raised.value.message, "waits": next(text for text in watched.texts if "demo-worker-1" in text)})


def test_an_exited_node_is_reported_within_seconds_with_its_last_lines(
    context: Context, watched: Watched, cluster: FakeCluster, provider: FakeProvider, pauses: list[float]
) -> None:
    cluster.refusals = [UNREACHABLE] * 1000
    exited = "the container of node demo-control-plane does not run: Exited (255) 2 seconds ago"
    provider.failures = {"demo-control-plane": NodeFailure(is_running=False, text=exited)}
    provider.lines = ("Failed to allocate manager object",)

    with pytest.raises(ProviderError, match=r"demo-control-plane.*Exited \(255\)") as raised:
        up.await_cluster(context, watched.report)

    assert raised.value.id == "node-exited"
    assert raised.value.details == ("demo-control-plane: Failed to allocate manager object",)
    assert len(pauses) <= 5


def test_the_hint_for_a_node_that_exited_without_output_names_inotify_limits(
    context: Context, watched: Watched, cluster: FakeCluster, provider: FakeProvider
) -> None:
    cluster.refusals = [UNREACHABLE] * 1000
    provider.failures = {"demo-worker-1": NodeFailure(is_running=False, text="demo-worker-1: Exited (255)")}

    with pytest.raises(ProviderError) as raised:
        up.await_cluster(context, watched.report)

    assert (raised.value.id, raised.value.details) == ("node-exited", ())
    assert "fs.inotify.max_user_instances" in raised.value.hint


def test_a_known_failure_of_an_exited_node_has_its_own_hint(
    context: Context, watched: Watched, cluster: FakeCluster, provider: FakeProvider, golden: Golden
) -> None:
    cluster.refusals = [UNREACHABLE] * 1000
    provider.failures = {
        "demo-worker-1": NodeFailure(is_running=False, text="the container of demo-worker-1 has ended")
    }
    provider.lines = ("write /var/lib/x: no space left on device",)

    with pytest.raises(ProviderError, match="demo-worker-1") as raised:
        up.await_cluster(context, watched.report)

    assert raised.value.id == "node-exited"
    golden({"message": raised.value.message, "hint": raised.value.hint})


def test_a_node_that_fails_to_assemble_is_not_waited_for_and_its_lines_are_shown(
    context: Context,
    watched: Watched,
    cluster: FakeCluster,
    provider: FakeProvider,
    pauses: list[float],
    golden: Golden,
) -> None:
    cluster.delete("v1", "Node", "demo-worker-1")
    provider.failures = {
        "demo-worker-1": NodeFailure(is_running=True, text="node demo-worker-1 cannot assemble itself")
    }
    provider.lines = ("{node}: kubeadm: unheard of",)

    with pytest.raises(NotReadyError, match="demo-worker-1") as raised:
        up.await_cluster(context, watched.report)

    assert raised.value.id == "node-not-assembled"
    assert raised.value.details == ("demo-worker-1: demo-worker-1: kubeadm: unheard of",)
    assert len(pauses) <= 5
    golden({"message": raised.value.message, "hint": raised.value.hint})


def test_a_refusal_of_the_api_is_not_retried(
    context: Context, watched: Watched, cluster: FakeCluster, pauses: list[float]
) -> None:
    cluster.refusals = [RefusedError("Kubernetes refused GET /readyz: Unauthorized", id="kubernetes-refused")]

    with pytest.raises(RefusedError):
        up.await_cluster(context, watched.report)

    assert not pauses


# metallb and ingress


def test_the_step_metallb_waits_until_its_webhook_responds(
    rendered: Context, watched: Watched, cluster: FakeCluster, pauses: list[float]
) -> None:
    # A terminating controller may serve the first write.
    cluster.webhook_refusals = [WEBHOOK, WEBHOOK, None, WEBHOOK]

    outcome = up.apply_metallb(rendered, watched.report)

    assert outcome.changed
    assert outcome.text == "pool 192.168.56.100-192.168.56.110"
    assert len(pauses) == 3
    for kind in ("IPAddressPool", "L2Advertisement"):
        assert cluster.get("metallb.io/v1beta1", kind, "demo", "metallb-system") is not None


def test_a_missing_failure_detector_is_reported_with_what_it_means(rendered: Context, watched: Watched) -> None:
    images = tuple(each for each in rendered.bundle.images if each.short_name != "failure-detector")
    vars(rendered).update(bundle=replace(rendered.bundle, images=images))

    assert up.apply_metallb(rendered, watched.report).text.endswith(up.WITHOUT_DETECTOR)


def test_a_webhook_that_never_responds_is_an_error_after_the_timeout(
    rendered: Context, watched: Watched, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    set_limits(monkeypatch, poll=10.0)
    cluster.webhook_refusals = [WEBHOOK] * 1000

    with pytest.raises(NotReadyError, match="failed calling webhook") as raised:
        up.apply_metallb(rendered, watched.report)

    golden(raised.value.message)
    assert cluster.get("metallb.io/v1beta1", "IPAddressPool", "demo", "metallb-system") is None


def test_a_permanent_problem_of_metallb_is_reported_at_once(
    rendered: Context, watched: Watched, cluster: FakeCluster, pauses: list[float]
) -> None:
    cluster.webhook_refusals = [WEBHOOK] * 1000
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "metallb"}}}
    cluster.put("apps/v1", "Deployment", "controller", "metallb-system", metadata={"generation": 1}, spec=spec)
    waiting = {"name": "controller", "image": "metallb:1", "state": {"waiting": {"reason": "ErrImagePull"}}}
    labels = {"labels": {"app": "metallb"}, **owned_by("controller")}
    status = {"containerStatuses": [waiting]}
    cluster.put("v1", "Pod", "controller-1", "metallb-system", metadata=labels, status=status)

    with pytest.raises(NotReadyError, match="image metallb:1") as raised:
        up.apply_metallb(rendered, watched.report)

    assert raised.value.id == "image-not-pullable"
    assert len(pauses) <= 3


def test_a_missing_route_from_the_api_server_to_metallb_is_reported_within_seconds(
    rendered: Context, watched: Watched, cluster: FakeCluster, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.webhook_refusals = [WEBHOOK] * 1000
    lost = hop("node", "pod-route-missing", "the route is missing")
    monkeypatch.setattr(applying, "pending_rollout", lambda *_arguments, **_options: None)
    monkeypatch.setattr(trace, "cut_off", lambda _context, _namespace, _deployment: lost)

    with pytest.raises(NotReadyError) as raised:
        up.apply_metallb(rendered, watched.report)

    assert raised.value.id == "pod-route-missing"
    assert "labctl --name demo up" in str(raised.value.hint)
    assert len(pauses) <= 10


def test_the_ingress_controller_gets_an_address_of_the_pool(rendered: Context, watched: Watched) -> None:
    assert ingress_step.apply_ingress(rendered, watched.report).text == f"traefik at {ADDRESS}"
    assert not ingress_step.apply_ingress(rendered, watched.report).changed


def test_only_pods_that_started_without_their_permissions_are_restarted(
    rendered: Context, watched: Watched, cluster: FakeCluster
) -> None:
    ingress_step.apply_ingress(rendered, watched.report)
    controller, namespace = "ingress-nginx-controller", "ingress-nginx"
    live = cluster.get("apps/v1", "Deployment", controller, namespace)
    assert live is not None
    metadata = {"labels": live["spec"]["selector"]["matchLabels"], **owned_by(controller)}
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    for name, status in (("started-before", ready), ("started-without", {})):
        cluster.put("v1", "Pod", name, namespace, metadata=metadata, spec={}, status=status)

    ingress_step.apply_ingress(rendered, watched.report)
    assert cluster.get("v1", "Pod", "started-without", namespace)

    assert cluster.delete("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "ingress-nginx")
    assert ingress_step.apply_ingress(rendered, watched.report).changed
    assert cluster.get("v1", "Pod", "started-without", namespace) is None
    assert cluster.get("v1", "Pod", "started-before", namespace)


def test_metallb_is_restarted_once_its_permissions_are_restored(
    rendered: Context, watched: Watched, cluster: FakeCluster
) -> None:
    labels = {"labels": {"app": "metallb"}}
    cluster.put("v1", "Pod", "speaker-1", "metallb-system", metadata=labels, spec={}, status={})
    up.apply_metallb(rendered, watched.report)
    assert cluster.get("v1", "Pod", "speaker-1", "metallb-system")

    with (rendered.folder / "manifests" / "metallb.yaml").open("a") as file:
        file.write("---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: speaker, namespace: metallb-system}\n")
    up.apply_metallb(rendered, watched.report)
    assert cluster.get("v1", "Pod", "speaker-1", "metallb-system") is None


def test_a_missing_address_is_an_error_with_metallbs_last_event(
    rendered: Context, watched: Watched, cluster: FakeCluster, golden: Golden
) -> None:
    cluster.address = None
    about = {"kind": "Service", "name": "ingress-nginx-controller"}
    for at, message in (("2026-01-01", "old"), ("2026-01-02", "Failed to allocate IP: no available IPs")):
        fields = {"involvedObject": about, "message": message, "lastTimestamp": at, "type": "Warning"}
        cluster.put("v1", "Event", message, "ingress-nginx", **fields)

    with pytest.raises(NotReadyError, match="no available IPs") as raised:
        ingress_step.apply_ingress(rendered, watched.report)

    golden(raised.value.message)


# apps


def test_an_app_is_applied_once_the_webhook_responds(
    rendered: Context, watched: Watched, cluster: FakeCluster, pauses: list[float]
) -> None:
    cluster.refusals = [WEBHOOK, WEBHOOK]

    assert up.apply_apps(rendered, watched.report).changed
    assert len(pauses) == 2
    assert not up.apply_apps(rendered, watched.report).changed


def test_only_labctls_own_apps_that_are_no_longer_configured_are_removed(
    rendered: Context, watched: Watched, cluster: FakeCluster
) -> None:
    labels = {"app.kubernetes.io/managed-by": "labctl"}
    kinds = (("apps/v1", "Deployment"), ("v1", "Service"), ("networking.k8s.io/v1", "Ingress"))
    for api_version, kind in kinds:
        cluster.put(api_version, kind, "old-app", "default", metadata={"labels": labels, "managedFields": APPLIED})
        cluster.put(api_version, kind, "the-users", "default")
        cluster.put(api_version, kind, "a-copy", "default", metadata={"labels": labels, "managedFields": COPIED})
    up.apply_apps(rendered, watched.report)

    names = {name for _, kind, namespace, name in cluster.objects if namespace == "default"}
    assert names == {"my-app", "the-users", "a-copy"}
    assert "removed Ingress/old-app, Service/old-app, Deployment/old-app" in watched.texts
    assert not up.apply_apps(rendered, watched.report).changed


@pytest.mark.parametrize(
    ("api_version", "kind"), [("apps/v1", "Deployment"), ("v1", "Service"), ("networking.k8s.io/v1", "Ingress")]
)
def test_a_foreign_object_with_the_name_of_an_app_is_refused_and_nothing_is_written(
    rendered: Context, watched: Watched, cluster: FakeCluster, api_version: str, kind: str
) -> None:
    cluster.put(api_version, kind, "my-app", "default", metadata={"managedFields": COPIED})
    before = copy.deepcopy(cluster.objects)

    with pytest.raises(RefusedError, match=f"{kind} default/my-app") as raised:
        up.apply_apps(rendered, watched.report)

    assert raised.value.id == "object-not-ours"
    assert cluster.objects == before


# hosts and verify


def test_the_step_hosts_fails_without_an_address_and_does_not_change_the_file(
    rendered: Context, watched: Watched, hosts_file: Path, golden: Golden
) -> None:
    before = hosts_file.read_bytes()

    with pytest.raises(NotReadyError, match="ingress-nginx/ingress-nginx-controller") as raised:
        hosts_steps.sync_hosts(rendered, watched.report)

    assert raised.value.id == "no-address"
    golden(raised.value.message)
    assert hosts_file.read_bytes() == before


@pytest.mark.parametrize(
    ("status", "updated", "is_accepted"),
    [(503, 2, False), (200, 1, False), (200, 2, True)],
    ids=["no response", "the previous version responds", "another pod responds"],
)
def test_an_image_that_cannot_be_pulled_ends_the_wait_at_once_unless_the_new_version_responds(
    rendered: Context,
    watched: Watched,
    cluster: FakeCluster,
    machine: dict[str, http_probe.ProbeResult],
    pauses: list[float],
    *,
    status: int,
    updated: int,
    is_accepted: bool,
) -> None:
    ingress_step.apply_ingress(rendered, watched.report)
    up.apply_apps(rendered, watched.report)
    counts = cluster.objects["apps/v1", "Deployment", "default", "my-app"]["status"]
    counts.update(readyReplicas=1, updatedReplicas=updated)
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    containers = {"containerStatuses": [{"image": "example.com/shop:9", "state": waiting}]}
    labels = {"labels": {"app.kubernetes.io/name": "my-app"}, **owned_by("my-app")}
    cluster.put("v1", "Pod", "my-app-1", "default", metadata=labels, status=containers)
    machine["my-app.local"] = http_probe.ProbeResult(status)

    if is_accepted:
        assert not verify.verify(rendered, watched.report).changed
        assert any("my-app-1" in text and "example.com/shop:9" in text for text in watched.texts)
    else:
        with pytest.raises(NotReadyError, match=r"my-app-1.*example\.com/shop:9") as raised:
            verify.verify(rendered, watched.report)
        assert raised.value.id == "image-not-pullable"
    assert not pauses


def test_an_app_named_like_the_controller_is_not_mistaken_for_it(
    keyed: Context, watched: Watched, cluster: FakeCluster, machine: dict[str, http_probe.ProbeResult]
) -> None:
    apps = [{"name": "shop"}, {"name": keyed.controller.deployment}]
    several = with_fakes(replace(keyed, lab=lab(apps=apps)), keyed.provider, cluster, keyed.bundle)
    up.render(several, watched.report)
    ingress_step.apply_ingress(several, watched.report)
    up.apply_apps(several, watched.report)
    cluster.objects["apps/v1", "Deployment", "default", keyed.controller.deployment]["status"].update(readyReplicas=0)
    machine["shop.local"] = http_probe.ProbeResult(503)

    with pytest.raises(NotReadyError) as raised:
        verify.verify(several, watched.report)

    assert raised.value.id == "controller-has-no-backend"
    assert "http://shop.local" in raised.value.message


def test_an_app_that_never_responds_is_an_error_with_the_last_response(
    rendered: Context, watched: Watched, machine: dict[str, http_probe.ProbeResult], golden: Golden
) -> None:
    ingress_step.apply_ingress(rendered, watched.report)
    up.apply_apps(rendered, watched.report)
    machine["my-app.local"] = http_probe.ProbeResult(503)

    with pytest.raises(NotReadyError, match=r"http://my-app\.local: .*HTTP 503") as late:
        verify.verify(rendered, watched.report)

    assert late.value.id == "controller-has-no-backend"
    assert "labctl --name demo up" in late.value.hint
    golden(late.value.message)


@pytest.mark.usefixtures("machine")
def test_an_app_is_requested_again_if_a_trace_ran_out_of_time(
    rendered: Context, watched: Watched, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    ingress_step.apply_ingress(rendered, watched.report)
    up.apply_apps(rendered, watched.report)
    hops = [hop("response", "no-time-left", state=trace.UNKNOWN)]
    busy: TraceReport = {"version": 1, "hostname": "x", "ok": True, "hops": hops}
    reports, follow = [busy], trace.follow
    monkeypatch.setattr(
        trace, "follow", lambda *given, **options: reports.pop() if reports else follow(*given, **options)
    )

    verify.verify(rendered, watched.report)

    assert len(pauses) == 1
    assert watched.texts[-1].startswith("HTTP 200")


@pytest.mark.usefixtures("machine")
def test_a_permanent_problem_ends_the_wait_soon(
    rendered: Context, watched: Watched, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    ingress_step.apply_ingress(rendered, watched.report)
    up.apply_apps(rendered, watched.report)
    hops = [hop("name", "hosts-entry-shadowed", "line 1")]
    shadowed: TraceReport = {"version": 1, "hostname": "x", "ok": False, "hops": hops}
    monkeypatch.setattr(trace, "follow", lambda *_arguments, **_options: shadowed)

    with pytest.raises(NotReadyError) as lasting:
        verify.verify(rendered, watched.report)

    assert lasting.value.id == "hosts-entry-shadowed"
    assert sum(pauses) < 10


@pytest.mark.usefixtures("machine")
def test_an_app_without_a_hosts_entry_is_requested_at_its_address(
    rendered: Context, watched: Watched, hosts_file: Path, golden: Golden
) -> None:
    ingress_step.apply_ingress(rendered, watched.report)
    up.apply_apps(rendered, watched.report)
    hosts_file.write_text("127.0.0.1 localhost\n")

    golden(
        {
            "ends": verify.verify(rendered, watched.report).text,
            "says": [text for text in watched.texts if "my-app.local" in text],
        }
    )


@pytest.mark.usefixtures("keyed")
def test_an_app_with_zero_replicas_is_applied_and_not_requested(
    context: Context,
    watched: Watched,
    machine: dict[str, http_probe.ProbeResult],
    cluster: FakeCluster,
    pauses: list[float],
    golden: Golden,
) -> None:
    app = context.lab.apps[0]
    idle_app = replace(app, name="rests", hostname="rests.local", replicas=0)
    requested = replace(context, lab=replace(context.lab, apps=(app, idle_app)))
    machine["rests.local"] = http_probe.ProbeResult(503)

    execute(up.up(isolated=False), with_fakes(requested, context.provider, cluster, context.bundle), watched)

    assert cluster.objects["apps/v1", "Deployment", "default", "rests"]["spec"]["replicas"] == 0
    golden(watched.events[-1].text)
    assert not pauses, "nothing was waited for"


# The whole of `destroy`


@pytest.mark.usefixtures("keyed")
def test_destroy_removes_nodes_and_hosts_lines_and_keeps_log_and_backup(
    context: Context, watched: Watched, provider: FakeProvider, hosts_file: Path
) -> None:
    before = hosts_file.read_bytes()
    execute(up.up(isolated=False), context, watched)
    context.log.write_text("what Vagrant said\n")
    context.log.with_name("log.1").write_text("what it said before\n")

    assert execute(up.destroy(purge=False), context, watched)

    assert not provider.nodes
    assert hosts_file.read_bytes() == before
    assert {path.name for path in context.folder.iterdir()} == {"log", "log.1", "hosts.before"}


@pytest.mark.usefixtures("keyed")
def test_purge_does_not_follow_links_in_the_folder(context: Context, watched: Watched, tmp_path: Path) -> None:
    execute(up.up(isolated=False), context, watched)
    (tmp_path / "elsewhere").mkdir()
    (context.folder / "link").symlink_to(tmp_path / "elsewhere")

    execute(up.destroy(purge=True), context, watched)

    assert not context.folder.exists()
    assert (tmp_path / "elsewhere").is_dir()


@pytest.mark.usefixtures("keyed")
def test_purge_removes_the_folder(context: Context, watched: Watched) -> None:
    execute(up.up(isolated=False), context, watched)

    execute(up.destroy(purge=True), context, watched)

    assert not context.folder.exists()


def test_destroy_removes_an_isolated_lab_with_its_engine_without_asking_the_provider(
    context: Context, watched: Watched, provider: FakeProvider, hosts_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts: list[str] = []
    before = hosts_file.read_bytes()
    monkeypatch.setattr(Isolation, "remove", _recorder(acts, "remove"))
    provider.nodes = {"demo-control-plane"}

    execute(up.destroy(purge=True), _isolated(context), watched)

    assert acts == ["remove"]
    assert provider.nodes
    assert hosts_file.read_bytes() == before


@pytest.mark.parametrize("act", [teardown.halt_isolation, teardown.remove_isolation])
def test_the_namespace_of_another_lab_with_the_same_name_is_kept(
    context: Context,
    watched: Watched,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Context, Progress], Outcome],
) -> None:
    monkeypatch.setattr(Isolation, "other_owner", lambda _self: Path("/elsewhere/labctl/demo"))

    outcome = act(_isolated(context), watched.report)

    assert not outcome.changed
    assert "/elsewhere/labctl/demo" in outcome.text


def test_halt_stops_running_nodes_and_a_second_halt_changes_nothing(
    context: Context, watched: Watched, provider: FakeProvider
) -> None:
    provider.nodes = {node.name for node in context.lab.nodes}

    assert execute(up.halt(), context, watched)
    assert not provider.nodes
    assert not execute(up.halt(), context, watched)


@pytest.mark.parametrize("hard_stop", [True, False])
def test_halting_one_node_keeps_the_others_running(
    context: Context, watched: Watched, provider: FakeProvider, *, hard_stop: bool
) -> None:
    control_plane, worker = context.lab.nodes
    provider.nodes = {control_plane.name, worker.name}
    plan = up.halt_some([worker], hard_stop=hard_stop)

    assert execute(plan, context, watched)
    assert provider.nodes == {control_plane.name}
    assert any("power" in event.text for event in watched.events) is hard_stop
    assert not execute(plan, context, watched)


def test_halt_stops_an_isolated_lab_with_its_engine(
    context: Context, watched: Watched, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts: list[str] = []
    monkeypatch.setattr(Isolation, "engine_runs", lambda _self: False)
    monkeypatch.setattr(Isolation, "halt", _recorder(acts, "halt"))
    provider.nodes = {"demo-control-plane"}  # nothing can report it

    execute(up.halt(), _isolated(context), watched)

    assert acts == ["halt"]
    assert provider.nodes


@pytest.mark.parametrize("purge", [True, False])
def test_the_record_is_the_last_file_that_destroy_removes(
    rendered: Context, watched: Watched, monkeypatch: pytest.MonkeyPatch, *, purge: bool
) -> None:
    remaining: list[set[str]] = []
    monkeypatch.setattr(
        lab_folder, "failpoint", lambda _point: remaining.append({path.name for path in rendered.folder.iterdir()})
    )

    execute(up.destroy(purge=purge), rendered, watched)

    assert all(lab_folder.RECORD in names for names in remaining)
    assert remaining[-1] == {lab_folder.RECORD}
    assert rendered.folder.exists() != purge


@pytest.mark.usefixtures("keyed")
def test_a_lab_with_several_apps_and_no_worker_comes_up(
    context: Context, watched: Watched, cluster: FakeCluster, hosts_file: Path
) -> None:
    apps = [{"name": "one"}, {"name": "two", "hostname": "shop.example.test", "image": "ghcr.io/me/two:1"}]
    values = {"workers": 0, "apps": apps, "hosts_file": str(hosts_file)}
    several = replace(context, lab=from_values(values))
    vars(several).update(
        provider=context.provider, node_images=context.node_images, cluster=cluster, bundle=context.bundle
    )
    cluster.put("v1", "Node", "demo-control-plane", **ready_node(several.lab.control_plane))

    execute(up.up(isolated=False), several, watched)

    assert hosts_file.read_text().count(ADDRESS) == 2
    deployment = cluster.get("apps/v1", "Deployment", "one", "default")
    assert deployment is not None
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "labctl.local/nginx:1.26.3"


def _isolated(context: Context) -> Context:
    isolated = replace(context, isolated=True)
    vars(isolated).update(provider=context.provider)
    return isolated


def _recorder(acts: list[str], name: str) -> Callable[[Isolation], bool]:
    def act(_isolation: Isolation) -> bool:
        acts.append(name)
        return True

    return act
