"""The problems that `labctl status` finds and reports."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Any

import pytest
from fake_trace import hop
from fakes import ADDRESS, FakeCluster, FakeProvider, Watched, owned_by, with_fakes
from golden_files import Golden

from labctl import trace
from labctl.commands.status import Problems, report_on
from labctl.context import Context
from labctl.host import arp, http_probe
from labctl.host.arp import Route
from labctl.host.process import Finished
from labctl.isolation.isolation import Isolation
from labctl.model.errors import NotReadyError, RefusedError
from labctl.model.reports import HopReport, TraceReport
from labctl.plans import up
from labctl.plans.plan import execute, select
from labctl.providers.protocol import NodeFailure

SERVICE = ("v1", "Service", "ingress-nginx", "ingress-nginx-controller")


@pytest.fixture
def healthy_lab(
    rendered: Context,
    cluster: FakeCluster,
    watched: Watched,
    machine: dict[str, http_probe.ProbeResult],  # noqa: ARG001 - it responds
) -> Context:
    """A lab that is up and whose address a node announces."""
    execute(select(up.up(isolated=False), "boot", None), rendered, watched)
    status = {"node": "demo-worker-1", "serviceNamespace": SERVICE[2], "serviceName": SERVICE[3]}
    cluster.put("metallb.io/v1beta1", "ServiceL2Status", "l2-a", "metallb-system", status=status)
    cluster.objects[SERVICE]["metadata"]["annotations"] = {"metallb.io/ip-allocated-from-pool": "demo"}
    return rendered


def _problem(context: Context) -> tuple[str, str]:
    """Return the id and the text of the only problem, which breaks the lab."""
    report = report_on(context)
    (problem,) = report["problems"]
    assert problem["fix"]
    assert (report["ok"], problem["state"]) == (False, "broken")
    return problem["id"], problem["text"]


def _warning(context: Context) -> tuple[str, str]:
    """Return the id and the text of the only problem, which does not break the lab."""
    report = report_on(context)
    (problem,) = report["problems"]
    assert problem["fix"]
    assert (report["ok"], problem["state"]) == (True, "warning")
    return problem["id"], problem["text"]


def test_the_status_of_a_healthy_lab_is_complete(healthy_lab: Context) -> None:
    assert report_on(healthy_lab) == {
        "version": 1,
        "lab": "demo",
        "ok": True,
        "nodes": [
            {"name": "demo-control-plane", "role": "control-plane", "address": "192.168.56.10", "ready": True},
            {"name": "demo-worker-1", "role": "worker", "address": "192.168.56.11", "ready": True},
        ],
        "addresses": [
            {
                "address": ADDRESS,
                "service": "ingress-nginx/ingress-nginx-controller",
                "pool": "demo",
                "node": "demo-worker-1",
            }
        ],
        "ingress": {
            "controller": "traefik",
            "namespace": "ingress-nginx",
            "service": "ingress-nginx-controller",
            "address": ADDRESS,
            "ready": True,
        },
        "apps": [{"name": "my-app", "url": "http://my-app.local", "http": 200}],
        "problems": [],
    }


def test_an_unready_node_is_a_problem(healthy_lab: Context, cluster: FakeCluster, golden: Golden) -> None:
    conditions = [{"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting"}]
    cluster.put("v1", "Node", "demo-worker-1", status={"conditions": conditions})

    identity, text = _problem(healthy_lab)
    assert (identity, "Kubelet stopped posting" in text) == ("node-not-ready", True)
    golden(text)
    restart = ["labctl --name demo halt demo-worker-1", "labctl --name demo resume"]
    assert report_on(healthy_lab)["problems"][0]["commands"] == restart
    del cluster.objects["v1", "Node", "", "demo-worker-1"]
    assert report_on(healthy_lab)["problems"][0]["commands"] == ["labctl --name demo up"]


def test_a_machine_with_a_wrong_clock_is_a_warning(
    healthy_lab: Context, cluster: FakeCluster, provider: FakeProvider
) -> None:
    node, renewed = "demo-worker-1", datetime.now(UTC) - timedelta(hours=1)
    cluster.put("coordination.k8s.io/v1", "Lease", node, "kube-node-lease", spec={"renewTime": renewed.isoformat()})
    provider.answers[node] = lambda _command: Finished(0, f"{renewed.timestamp():.3f}\n", ())
    machines = replace(healthy_lab, lab=replace(healthy_lab.lab, provider="libvirt"))

    identity, text = _warning(with_fakes(machines, provider, cluster, healthy_lab.bundle))

    assert (identity, node in text, "3600 s behind" in text) == ("clock-off", True, True)
    assert "clock-off" not in {problem["id"] for problem in report_on(healthy_lab)["problems"]}


def test_an_app_that_does_not_respond_is_a_problem(
    healthy_lab: Context, machine: dict[str, http_probe.ProbeResult], golden: Golden
) -> None:
    machine["my-app.local"] = http_probe.ProbeResult(None, failure="no answer: timed out")

    identity, text = _problem(healthy_lab)
    assert identity == "no-answer"
    golden(text)
    assert report_on(healthy_lab)["apps"][0]["http"] is None


def test_a_missing_failure_detector_is_a_warning(healthy_lab: Context, golden: Golden) -> None:
    others = tuple(image for image in healthy_lab.bundle.images if image.short_name != "failure-detector")
    vars(healthy_lab).update(bundle=replace(healthy_lab.bundle, images=others))

    report = report_on(healthy_lab)

    [problem] = report["problems"]
    assert (problem["id"], problem["state"], report["ok"]) == ("failure-detector-missing", "warning", True)
    golden(problem["text"])


def test_an_app_with_zero_replicas_is_not_requested(
    keyed: Context, watched: Watched, machine: dict[str, http_probe.ProbeResult]
) -> None:
    resting = replace(keyed.lab, apps=(replace(keyed.lab.apps[0], replicas=0),))
    context = with_fakes(replace(keyed, lab=resting), keyed.provider, keyed.cluster, keyed.bundle)
    machine["my-app.local"] = http_probe.ProbeResult(503)
    execute(up.up(isolated=False), context, watched)

    report = report_on(context)

    assert report["apps"] == [{"name": "my-app", "url": "http://my-app.local", "http": None}]
    assert not [problem for problem in report["problems"] if "my-app" in str(problem)]
    assert resting.urls == ()


def _let_only_the_control_plane_answer_arp(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(addresses: Collection[IPv4Address], _way: Route, _seconds: float) -> dict[IPv4Address, frozenset[str]]:
        return {each: frozenset({"02:10"} if str(each) == "192.168.56.10" else ()) for each in addresses}

    monkeypatch.setattr(arp, "route", lambda _address: Route("br-1", IPv4Address("192.168.56.1"), ""))
    monkeypatch.setattr(arp, "query", ask)


def test_an_address_of_another_pool_without_a_known_announcer_is_not_a_problem(
    healthy_lab: Context, cluster: FakeCluster
) -> None:
    cluster.put("metallb.io/v1beta1", "IPAddressPool", "second", "metallb-system", spec={"addresses": ["10.0.0.0/24"]})
    status: dict[str, Any] = {"loadBalancer": {"ingress": [{"ip": "10.0.0.7"}]}}
    cluster.put("v1", "Service", "theirs", "default", status=status)

    report = report_on(healthy_lab)

    assert [(each["address"], each["node"]) for each in report["addresses"]][-1] == ("10.0.0.7", None)
    assert report["problems"] == []


@pytest.mark.parametrize(
    ("address", "node", "cause"),
    [
        (ADDRESS.replace("100", "101"), None, "address-not-announced"),
        ("10.0.0.7", "demo-worker-1", "address-not-in-pool"),
    ],
)
def test_a_problem_of_a_foreign_service_is_a_warning(
    healthy_lab: Context,
    cluster: FakeCluster,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    node: str | None,
    cause: str,
) -> None:
    _let_only_the_control_plane_answer_arp(monkeypatch)
    status: dict[str, Any] = {"loadBalancer": {"ingress": [{"ip": address}]}}
    cluster.put("v1", "Service", "odd", "default", status=status)
    l2_status = {"node": node, "serviceNamespace": "default", "serviceName": "odd"}
    cluster.put("metallb.io/v1beta1", "ServiceL2Status", "l2-b", "metallb-system", status=l2_status)

    identity, text = _warning(healthy_lab)

    assert identity == cause
    assert address in text


def test_an_ingress_controller_without_an_address_or_a_ready_pod_is_a_problem(
    healthy_lab: Context, cluster: FakeCluster, golden: Golden
) -> None:
    del cluster.objects[SERVICE]["status"]
    deployment = cluster.objects["apps/v1", "Deployment", "ingress-nginx", "ingress-nginx-controller"]
    deployment["status"]["readyReplicas"] = 0

    report = report_on(healthy_lab)

    assert report["ingress"]
    assert (report["ingress"]["address"], report["ingress"]["ready"]) == (None, False)
    problems = {problem["id"]: problem["text"] for problem in report["problems"]}
    golden({identity: problems[identity] for identity in ("address-missing", "controller-not-ready")})


def test_a_missing_secret_that_only_a_new_controller_pod_needs_is_a_warning(
    healthy_lab: Context, cluster: FakeCluster, golden: Golden
) -> None:
    template = cluster.objects["apps/v1", "Deployment", *SERVICE[2:]]["spec"]["template"]
    template["spec"]["volumes"] = [{"name": "webhook-cert", "secret": {"secretName": "ingress-nginx-admission"}}]

    identity, text = _warning(healthy_lab)
    assert identity == "controller-cannot-restart"
    golden(text)


@pytest.mark.parametrize(
    ("waiting", "cause"),
    [({"reason": "ErrImagePull"}, "image-not-pullable"), ({"reason": "ContainerCreating"}, "app-not-ready")],
)
@pytest.mark.parametrize("pod", ["ok", "broken"])
def test_an_app_with_unready_pods_is_a_problem_with_their_cause(
    healthy_lab: Context,
    cluster: FakeCluster,
    monkeypatch: pytest.MonkeyPatch,
    waiting: dict[str, str],
    cause: str,
    pod: str,
    golden: Golden,
) -> None:
    hops = [hop("pod", "no-pod-ready" if pod == "broken" else None), hop("response")]
    monkeypatch.setattr(trace, "follow", lambda *_arguments, **_options: {"hostname": "x", "ok": True, "hops": hops})
    cluster.objects["apps/v1", "Deployment", "default", "my-app"]["status"]["readyReplicas"] = 1
    status = {"containerStatuses": [{"name": "my-app", "image": "shop:9", "state": {"waiting": waiting}}]}
    labels = {"labels": {"app.kubernetes.io/name": "my-app"}, **owned_by("my-app")}
    cluster.put("v1", "Pod", "my-app-7", "default", metadata=labels, status=status)
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    cluster.put("v1", "Pod", "my-app-8", "default", metadata=labels, status=ready)

    identity, text = _warning(healthy_lab) if pod == "ok" else _problem(healthy_lab)

    assert identity == cause
    assert "my-app-7" in text
    golden(text)


def test_a_missing_hosts_entry_is_a_problem_and_the_app_is_requested_at_its_address(healthy_lab: Context) -> None:
    healthy_lab.lab.hosts_file.write_text("127.0.0.1 localhost\n")

    assert _problem(healthy_lab)[0] == "hosts-entry-missing"
    assert [app["http"] for app in report_on(healthy_lab)["apps"]] == [200]


def test_a_damaged_hosts_block_is_a_problem_even_if_the_name_resolves(healthy_lab: Context) -> None:
    healthy_lab.lab.hosts_file.write_text(f"# BEGIN labctl demo\n{ADDRESS} my-app.local\n")

    assert _problem(healthy_lab)[0] == "hosts-damaged"


def test_a_reported_cause_is_not_repeated_for_every_app(
    healthy_lab: Context, monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster
) -> None:
    hops = [hop("rule", "controller-not-ready", "no pod is ready"), hop("pod"), hop("response")]
    traced: TraceReport = {"version": 1, "hostname": "x", "ok": False, "hops": hops}
    monkeypatch.setattr(trace, "follow", lambda *_arguments, **_options: traced)
    cluster.objects["apps/v1", "Deployment", *SERVICE[2:]]["status"]["readyReplicas"] = 0

    assert _problem(healthy_lab)[0] == "controller-not-ready"


def test_a_stopped_worker_is_a_problem_before_kubernetes_notices(
    healthy_lab: Context, provider: FakeProvider, golden: Golden
) -> None:
    provider.nodes.remove("demo-worker-1")

    identity, text = _problem(healthy_lab)
    assert identity == "node-not-running"
    golden(text)
    assert report_on(healthy_lab)["problems"][0]["commands"] == ["labctl --name demo resume"]


def test_the_providers_explanation_of_a_stopped_node_is_the_problem(
    healthy_lab: Context, provider: FakeProvider
) -> None:
    provider.nodes.remove("demo-worker-1")
    provider.failures["demo-worker-1"] = NodeFailure(is_running=False, text="it is paused", hint="Run `labctl resume`.")

    [problem] = report_on(healthy_lab)["problems"]

    assert (problem["id"], problem["text"], problem["fix"]) == (
        "node-not-running",
        "it is paused",
        "Run `labctl resume`.",
    )


def test_apps_are_requested_while_only_the_control_plane_is_stopped(
    healthy_lab: Context, provider: FakeProvider
) -> None:
    provider.nodes.remove("demo-control-plane")

    report = report_on(healthy_lab)

    assert [problem["id"] for problem in report["problems"]] == ["node-not-running"]
    assert report["ingress"] is None
    assert [app["http"] for app in report["apps"]] == [200]


def test_a_stopped_engine_of_an_isolated_lab_is_a_problem(
    healthy_lab: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Isolation, "exists", lambda _isolation: True)
    monkeypatch.setattr(Isolation, "engine_runs", lambda _isolation: False)
    isolated = replace(healthy_lab, isolated=True)
    vars(isolated).update(bundle=healthy_lab.bundle)

    assert _problem(isolated)[0] == "engine-stopped"


def test_no_app_is_requested_while_no_node_runs(
    healthy_lab: Context, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.nodes.clear()
    monkeypatch.setattr(http_probe, "get", lambda hostname: pytest.fail(f"{hostname} was asked for"))

    report = report_on(healthy_lab)

    assert len(report["problems"]) == 2
    assert not any(node["ready"] for node in report["nodes"])
    assert report["apps"] == [{"name": "my-app", "url": "http://my-app.local", "http": None}]


def test_an_unreachable_api_is_the_only_problem(
    healthy_lab: Context, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise NotReadyError("the API server does not answer: refused", id="api-unreachable")

    monkeypatch.setattr(cluster, "find", fail)

    assert _problem(healthy_lab) == ("api-unreachable", "the API server does not answer: refused")


@pytest.mark.parametrize("description", [None, "{", "schema: 99"])
def test_a_missing_or_unreadable_bundle_is_a_warning_and_the_status_is_complete(
    healthy_lab: Context, description: str | None
) -> None:
    without_bundle = replace(healthy_lab, bundle_folder=healthy_lab.folder / "gone")
    vars(without_bundle).update(provider=healthy_lab.provider, cluster=healthy_lab.cluster)
    if description is not None:
        (healthy_lab.folder / "gone").mkdir()
        (healthy_lab.folder / "gone" / "bundle.yaml").write_text(description)

    report = report_on(without_bundle)

    assert _warning(without_bundle)[0] == {None: "bundle-not-found", "{": "bundle-unreadable"}.get(
        description, "bundle-schema"
    )
    assert {**report, "problems": []} == report_on(healthy_lab)


def test_an_expired_certificate_is_a_problem_with_the_commands_that_renew_it(
    healthy_lab: Context, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise RefusedError("not trusted: certificate has expired", id="api-not-trusted", hint="The clock?")

    monkeypatch.setattr(cluster, "find", fail)
    [problem] = report_on(healthy_lab)["problems"]

    assert problem["id"] == "api-not-trusted"
    assert len(problem["commands"]) == 3


def test_a_missing_network_of_an_isolated_lab_is_a_problem(
    healthy_lab: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Isolation, "exists", lambda _isolation: False)
    isolated = replace(healthy_lab, isolated=True)
    vars(isolated).update(bundle=healthy_lab.bundle)

    assert _problem(isolated)[0] == "namespace-gone"


def test_an_address_is_shown_at_the_node_that_answers_arp(
    healthy_lab: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering_nodes = [{"mac": "02:10", "node": "demo-control-plane"}]
    hop: HopReport = {
        "hop": "node",
        "state": "warning",
        "cause": "announcer-differs",
        "fix": None,
        "commands": [],
        "evidence": {"answers_arp": answering_nodes},
    }
    monkeypatch.setattr(trace, "shared", lambda _context, _cluster: {"node": hop})

    assert [each["node"] for each in report_on(healthy_lab)["addresses"]] == ["demo-control-plane"]


def test_the_commands_in_a_fix_name_the_lab() -> None:
    problems = Problems("shop")

    problems.add("node-not-ready", "it is not", "`labctl halt shop-worker-1`, then `labctl resume`", ())

    assert problems.reports[0]["fix"] == "`labctl --name shop halt shop-worker-1`, then `labctl --name shop resume`"
