"""The `ingress` step, especially the removal of another controller's objects, and apps that a webhook rejects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fakes import ADDRESS, APPLIED, FakeCluster, FakeProvider, Watched, owned_by, set_limits
from golden_files import Golden

from labctl.context import Context
from labctl.host.process import Finished
from labctl.host.wait import Pending, until
from labctl.model.errors import MissingError, NotReadyError, ProviderError, RefusedError
from labctl.model.kinds import ROUTE, ROUTE_CLASS
from labctl.model.limits import NORMAL
from labctl.plans import applying, controller_images, ingress_step, up, verify
from labctl.render.ingress import CONTROLLERS, Certificate, Owned, objects
from labctl.render.yaml_stream import yaml_stream
from labctl.trace.rules.rules import ANNOTATION, CONTROLLER

NGINX, TRAEFIK = CONTROLLERS
DEPLOYMENT = ("apps/v1", "Deployment", NGINX.deployment, NGINX.namespace)
OTHER = f"{TRAEFIK.repository}:v4"
SECRET, LEASE = (each for each in NGINX.owned if each.by_controller)
COPIED = [{"manager": "kubectl-client-side-apply", "operation": "Update"}]
DENIED = (
    'Kubernetes refused Ingress my-app: admission webhook "validate.nginx.ingress.kubernetes.io" denied the request: '
)
pytestmark = pytest.mark.usefixtures("machine")


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Make waits take no time; return the pauses in seconds."""
    passed: list[float] = []
    set_limits(monkeypatch, poll=1.0)
    for module in (ingress_step, up, verify):
        monkeypatch.setattr(module, "until", partial(until, clock=partial(sum, passed), sleep=passed.append))
    return passed


@pytest.fixture
def nginx(rendered: Context) -> Context:
    """A lab with ingress-nginx, from a file with a few of upstream's objects."""
    labels = {"app.kubernetes.io/name": "ingress-nginx"}
    container = {"name": "controller", "image": f"{NGINX.repository}:v1", "args": [], "readinessProbe": {}}
    volume = {"name": "webhook-cert", "secret": {"secretName": NGINX.admission}}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], "volumes": [volume]}}
    upstreams = [
        _manifest(
            "apps/v1", "Deployment", NGINX.deployment, spec={"selector": {"matchLabels": labels}, "template": template}
        ),
        _manifest("v1", "Service", NGINX.service, spec={}),
        _manifest("v1", "ConfigMap", NGINX.deployment),
        _manifest("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", NGINX.admission, webhooks=[]),
    ]
    adapted = objects(NGINX, upstreams, {}, 2, certificate=Certificate("public", "private"))
    (rendered.folder / "manifests" / "ingress.yaml").write_text(yaml_stream(adapted))
    vars(rendered)["controller"] = NGINX
    return rendered


def _manifest(api_version: str, kind: str, name: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any object
    namespace = {} if kind.endswith("WebhookConfiguration") else {"namespace": NGINX.namespace}
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, **namespace}, **fields}


def _put_owned(cluster: FakeCluster, owned: Owned, managers: list[dict[str, str]]) -> None:
    cluster.put(owned.api_version, owned.kind, owned.name, owned.namespace or "", metadata={"managedFields": managers})


def _exists(cluster: FakeCluster, owned: Owned) -> bool:
    return cluster.get(owned.api_version, owned.kind, owned.name, owned.namespace) is not None


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _put_ingress_nginx(cluster: FakeCluster) -> None:
    """Put all objects of ingress-nginx into the cluster, as labctl applied them."""
    for owned in NGINX.owned:
        _put_owned(cluster, owned, COPIED if owned.by_controller else APPLIED)
    containers = [{"image": f"{NGINX.repository}:v1.15.1@sha256:12"}]
    spec = {"template": {"spec": {"containers": containers}}, "selector": {"matchLabels": {}}}
    cluster.put(*DEPLOYMENT, spec=spec, status={})


def test_a_switch_removes_all_objects_of_the_other_controller_its_webhook_first(
    rendered: Context, watched: Watched, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put_ingress_nginx(cluster)
    webhook, *others = NGINX.owned
    existing: list[list[bool]] = []

    def rolled_out(*_arguments: object, **_options: object) -> Pending | None:
        existing.append([_exists(cluster, each) for each in NGINX.owned])
        return Pending("1 of 2 ready") if len(existing) < 3 else None

    monkeypatch.setattr(ingress_step, "pending_rollout", rolled_out)

    outcome = ingress_step.apply_ingress(rendered, watched.report)

    assert outcome.changed
    assert outcome.text == f"traefik at {ADDRESS}"
    assert webhook.kind == "ValidatingWebhookConfiguration"
    assert existing == [[False, *[True] * len(others)]] * 3
    assert not any(_exists(cluster, each) for each in NGINX.owned)
    assert not ingress_step.apply_ingress(rendered, watched.report).changed
    assert len(existing) == 3


def test_objects_that_others_applied_under_the_same_names_are_kept(
    rendered: Context, watched: Watched, cluster: FakeCluster
) -> None:
    for owned in NGINX.owned:
        _put_owned(cluster, owned, COPIED)

    ingress_step.apply_ingress(rendered, watched.report)

    assert [each for each in NGINX.owned if not _exists(cluster, each)] == [SECRET, LEASE]


def test_objects_of_the_current_controller_are_kept_and_old_jobs_are_removed(
    nginx: Context, watched: Watched, cluster: FakeCluster
) -> None:
    _put_ingress_nginx(cluster)

    assert ingress_step.apply_ingress(nginx, watched.report).changed

    remaining = {(each.kind, each.name) for each in NGINX.owned if _exists(cluster, each)}
    assert remaining == {
        ("ValidatingWebhookConfiguration", NGINX.admission),
        ("Secret", NGINX.admission),
        ("ConfigMap", NGINX.deployment),
        ("Lease", LEASE.name),
    }
    assert not ingress_step.apply_ingress(nginx, watched.report).changed


def test_ingresses_that_the_new_controller_rejects_are_named_before_anything_is_applied(
    nginx: Context, watched: Watched, cluster: FakeCluster
) -> None:
    template = {"spec": {"containers": [{"image": f"{TRAEFIK.repository}:v3"}]}}
    cluster.put(*DEPLOYMENT, spec={"selector": {"matchLabels": {}}, "template": template}, status={})
    cluster.put(*ROUTE_CLASS, "nginx", spec={"controller": CONTROLLER})
    notes = {f"{ANNOTATION}configuration-snippet": "return 200;"}
    spec = {"ingressClassName": "nginx", "rules": []}
    cluster.put(*ROUTE, "shop", "default", metadata={"annotations": notes}, spec=spec)

    outcome = ingress_step.apply_ingress(nginx, watched.report)

    named = [at for at, text in enumerate(watched.texts) if "default/shop" in text]
    assert named < [at for at, text in enumerate(watched.texts) if text.startswith("applied")]
    assert "configuration-snippet" in outcome.text
    assert "default/shop" not in ingress_step.apply_ingress(nginx, watched.report).text


@pytest.mark.parametrize(
    ("worker", "is_refused"),
    [
        (Finished(0, "", ()), True),
        (Finished(0, f"{OTHER}\n", ()), False),
        (Finished(255, "", ()), False),
        (ProviderError("took more than 5 s", id="tool-timeout"), False),
    ],
    ids=["without the image", "with it", "silent", "slow"],
)
def test_an_image_that_a_running_node_lacks_is_refused_before_anything_is_written(
    rendered: Context, watched: Watched, provider: FakeProvider, worker: Finished | ProviderError, *, is_refused: bool
) -> None:
    commands: list[Sequence[str]] = []

    def ask(question: Sequence[str]) -> Finished:
        commands.append(question)
        if isinstance(worker, ProviderError):
            raise worker
        return worker

    provider.nodes, provider.answers = {node.name for node in rendered.lab.nodes}, {"demo-worker-1": ask}
    assert not up.render(rendered, watched.report).changed
    assert not commands

    before = _contents(rendered.folder)
    images = [replace(each, reference=OTHER) if "traefik" in each.archive else each for each in rendered.bundle.images]
    vars(rendered).update(bundle=replace(rendered.bundle, images=tuple(images)))
    if is_refused:
        with pytest.raises(MissingError, match="demo-worker-1") as raised:
            up.render(rendered, watched.report)
        assert raised.value.id == "image-not-on-node"
        assert _contents(rendered.folder) == before
    else:
        assert up.render(rendered, watched.report).changed
    assert commands == [(*controller_images.ON_NODE, f"name=={OTHER}")]


def test_an_image_that_a_resumed_node_lacks_is_refused_before_anything_is_applied(
    nginx: Context, watched: Watched, provider: FakeProvider, cluster: FakeCluster
) -> None:
    template = {"spec": {"containers": [{"image": OTHER}]}}
    cluster.put(*DEPLOYMENT, spec={"selector": {"matchLabels": {}}, "template": template}, status={})
    before = set(cluster.objects)
    provider.nodes = {node.name for node in nginx.lab.nodes}
    provider.answers = {"demo-worker-1": lambda _question: Finished(0, OTHER, ())}

    for _attempt in range(2):
        with pytest.raises(MissingError, match=f"demo-worker-1.*{NGINX.repository}:v1") as raised:
            ingress_step.apply_ingress(nginx, watched.report)
        assert raised.value.id == "image-not-on-node"
    assert set(cluster.objects) == before


def test_pods_that_keep_others_off_their_nodes_end_before_their_successors_start(
    nginx: Context, watched: Watched, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingress_step.apply_ingress(nginx, watched.report)
    live = cluster.get(*DEPLOYMENT)
    assert live is not None
    metadata = {"labels": live["spec"]["selector"]["matchLabels"], **owned_by(NGINX.deployment)}
    spec: dict[str, Any] = {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}}
    cluster.put("v1", "Pod", "lone", NGINX.namespace, metadata=metadata, spec=spec, status={})
    surges = []

    def rolled_out(*_arguments: object, **_options: object) -> None:
        surges.append(_surge(cluster))
        cluster.delete("v1", "Pod", "lone", NGINX.namespace)

    monkeypatch.setattr(ingress_step, "pending_rollout", rolled_out)

    assert ingress_step.apply_ingress(nginx, watched.report).changed

    assert surges == [0]
    assert _surge(cluster) == 1
    assert not ingress_step.apply_ingress(nginx, watched.report).changed
    assert len(surges) == 1


def _surge(cluster: FakeCluster) -> int:
    live = cluster.get(*DEPLOYMENT)
    assert live is not None
    surge: int = live["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    return surge


def test_pods_that_wait_for_a_secret_are_restarted_once_it_exists(
    nginx: Context, watched: Watched, cluster: FakeCluster
) -> None:
    ingress_step.apply_ingress(nginx, watched.report)
    live = cluster.get(*DEPLOYMENT)
    assert live is not None
    metadata = {"labels": live["spec"]["selector"]["matchLabels"], **owned_by(NGINX.deployment)}
    creating = {"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}
    running: dict[str, Any] = {"containerStatuses": [{"state": {"running": {}}}]}
    ready = {**running, "conditions": [{"type": "Ready", "status": "True"}]}
    states = {"waits": creating, "starts": running, "ready": ready}
    for name, status in states.items():
        cluster.put(
            "v1", "Pod", name, NGINX.namespace, metadata=metadata, spec=live["spec"]["template"]["spec"], status=status
        )
    ingress_step.apply_ingress(nginx, watched.report)
    assert cluster.get("v1", "Pod", "waits", NGINX.namespace)

    assert cluster.delete("v1", "Secret", NGINX.admission, NGINX.namespace)
    assert ingress_step.apply_ingress(nginx, watched.report).changed

    assert [name for name in states if cluster.get("v1", "Pod", name, NGINX.namespace) is None] == ["waits"]


@pytest.mark.parametrize(
    "reason",
    [
        'host "my-app.local" and path "/" is already defined in ingress shop/front',
        "nginx.ingress.kubernetes.io/server-snippet annotation cannot be used. Snippet directives are disabled",
        "ingress contains invalid paths",
    ],
    ids=["taken", "snippet", "anything else"],
)
def test_an_app_that_the_webhook_rejects_leaves_nothing_and_has_a_hint(
    nginx: Context, watched: Watched, cluster: FakeCluster, reason: str, golden: Golden
) -> None:
    cluster.webhook_refusals = [RefusedError(DENIED + reason, id="kubernetes-refused")]

    with pytest.raises(RefusedError) as raised:
        up.apply_apps(nginx, watched.report)

    assert raised.value.id == "ingress-refused"
    assert reason in raised.value.message
    golden(raised.value.hint)
    assert not [key for key in cluster.objects if key[2] == "default"]
    assert up.apply_apps(nginx, watched.report).changed


def test_verify_waits_until_the_ingress_has_its_address(
    rendered: Context, watched: Watched, cluster: FakeCluster, pauses: list[float]
) -> None:
    ingress_step.apply_ingress(rendered, watched.report)
    up.apply_apps(rendered, watched.report)
    live = cluster.get(*ROUTE, "my-app", "default")
    assert live is not None
    live["status"] = {"loadBalancer": {"ingress": [{"ip": "192.168.56.11"}]}}

    with pytest.raises(NotReadyError, match="default/my-app") as raised:
        verify.verify(rendered, watched.report)

    assert ADDRESS in raised.value.message
    assert sum(pauses) == NORMAL.ready
    live["status"] = {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}}
    assert not verify.verify(rendered, watched.report).changed


def test_the_time_limit_of_a_rollout_grows_with_the_number_of_pods() -> None:
    seconds = [verify.rollout_seconds(NORMAL, pods) for pods in (0, 1, 2, 6)]

    assert seconds == [NORMAL.ready, NORMAL.ready, NORMAL.ready + NORMAL.next_pod, NORMAL.ready + 5 * NORMAL.next_pod]


def test_pods_are_restarted_once_for_several_reasons(context: Context, watched: Watched, cluster: FakeCluster) -> None:
    spec = {"volumes": [{"configMap": {"name": "page"}}]}
    cluster.put("v1", "Pod", "both", "default", spec=spec)
    pods = [{"metadata": {"name": "both", "namespace": "default"}, "spec": spec}]

    applying.restart_for(context, watched.report, ["Role page", "ConfigMap page"], pods)

    assert len(watched.texts) == 1
    assert not cluster.objects.keys() & {("v1", "Pod", "default", "both")}
