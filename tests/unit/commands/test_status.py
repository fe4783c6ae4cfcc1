"""The problems that `labctl status` finds and reports."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from fake_trace import hop
from fakes import ADDRESS, FakeCluster, FakeProvider, Watched, owned_by, with_doors
from golden_files import Golden

from labctl import trace
from labctl.commands.status import Problems, report_on
from labctl.context import Context
from labctl.host import arp, http_probe
from labctl.host.arp import Route
from labctl.isolation.isolation import Isolation
from labctl.model.errors import NotReadyError, RefusedError
from labctl.model.reports import HopReport, TraceReport
from labctl.plans import up
from labctl.plans.plan import execute, select
from labctl.providers.protocol import Trouble

SERVICE = ("v1", "Service", "ingress-nginx", "ingress-nginx-controller")


@pytest.fixture
def well(rendered: Context, cluster: FakeCluster, watched: Watched, machine: dict[str, http_probe.Answer]) -> Context:  # noqa: ARG001 - it answers
    """A lab that is up and whose address a node announces."""
    execute(select(up.up(isolated=False), "boot", None), rendered, watched)
    told = {"node": "demo-worker-1", "serviceNamespace": SERVICE[2], "serviceName": SERVICE[3]}
    cluster.put("metallb.io/v1beta1", "ServiceL2Status", "l2-a", "metallb-system", status=told)
    cluster.objects[SERVICE]["metadata"]["annotations"] = {"metallb.io/ip-allocated-from-pool": "demo"}
    return rendered


def _problem(context: Context) -> tuple[str, str]:
    """Return the id and the text of the only problem, which breaks the lab."""
    report = report_on(context)
    (problem,) = report["problems"]
    assert problem["fix"]
    assert (report["ok"], problem["state"]) == (False, "broken")
    return problem["id"], problem["text"]


def _doubt(context: Context) -> tuple[str, str]:
    """Return the id and the text of the only problem, in spite of which the lab works."""
    report = report_on(context)
    (problem,) = report["problems"]
    assert problem["fix"]
    assert (report["ok"], problem["state"]) == (True, "warning")
    return problem["id"], problem["text"]


def test_a_lab_that_is_well_is_told_of_in_full(well: Context) -> None:
    assert report_on(well) == {
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


def test_a_node_that_is_not_ready_is_a_problem(well: Context, cluster: FakeCluster, golden: Golden) -> None:
    conditions = [{"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting"}]
    cluster.put("v1", "Node", "demo-worker-1", status={"conditions": conditions})

    identity, text = _problem(well)
    assert (identity, "Kubelet stopped posting" in text) == ("node-not-ready", True)
    golden(text)
    restart = ["labctl --name demo halt demo-worker-1", "labctl --name demo resume"]
    assert report_on(well)["problems"][0]["commands"] == restart
    del cluster.objects["v1", "Node", "", "demo-worker-1"]
    assert report_on(well)["problems"][0]["commands"] == ["labctl --name demo up"]


def test_an_app_that_does_not_answer_is_a_problem(
    well: Context, machine: dict[str, http_probe.Answer], golden: Golden
) -> None:
    machine["my-app.local"] = http_probe.Answer(None, failure="no answer: timed out")

    identity, text = _problem(well)
    assert identity == "no-answer"
    golden(text)
    assert report_on(well)["apps"][0]["http"] is None


def test_a_lab_without_a_failure_detector_says_what_that_means(well: Context, golden: Golden) -> None:
    others = tuple(image for image in well.bundle.images if image.short_name != "failure-detector")
    vars(well).update(bundle=replace(well.bundle, images=others))

    report = report_on(well)

    [problem] = report["problems"]
    assert (problem["id"], problem["state"], report["ok"]) == ("failure-detector-missing", "warning", True)
    golden(problem["text"])


def test_an_app_that_is_meant_to_have_no_pods_is_not_asked_for(
    keyed: Context, watched: Watched, machine: dict[str, http_probe.Answer]
) -> None:
    resting = replace(keyed.lab, apps=(replace(keyed.lab.apps[0], replicas=0),))
    asked = with_doors(replace(keyed, lab=resting), keyed.provider, keyed.cluster, keyed.bundle)
    machine["my-app.local"] = http_probe.Answer(503)
    execute(up.up(isolated=False), asked, watched)

    report = report_on(asked)

    assert report["apps"] == [{"name": "my-app", "url": "http://my-app.local", "http": None}]
    assert not [problem for problem in report["problems"] if "my-app" in str(problem)]
    assert resting.urls == ()


def _only_the_control_plane_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(addresses: Collection[IPv4Address], _way: Route, _seconds: float) -> dict[IPv4Address, frozenset[str]]:
        return {each: frozenset({"02:10"} if str(each) == "192.168.56.10" else ()) for each in addresses}

    monkeypatch.setattr(arp, "route", lambda _address: Route("br-1", IPv4Address("192.168.56.1"), ""))
    monkeypatch.setattr(arp, "ask", ask)


def test_an_address_of_another_pool_or_whose_announcer_is_unknown_is_no_problem(
    well: Context, cluster: FakeCluster
) -> None:
    cluster.put("metallb.io/v1beta1", "IPAddressPool", "second", "metallb-system", spec={"addresses": ["10.0.0.0/24"]})
    status: dict[str, Any] = {"loadBalancer": {"ingress": [{"ip": "10.0.0.7"}]}}
    cluster.put("v1", "Service", "theirs", "default", status=status)

    report = report_on(well)

    assert [(each["address"], each["node"]) for each in report["addresses"]][-1] == ("10.0.0.7", None)
    assert report["problems"] == []


@pytest.mark.parametrize(
    ("address", "node", "cause"),
    [
        (ADDRESS.replace("100", "101"), None, "address-not-announced"),
        ("10.0.0.7", "demo-worker-1", "address-not-in-pool"),
    ],
)
def test_what_is_wrong_with_a_service_of_others_is_a_warning(
    well: Context,
    cluster: FakeCluster,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    node: str | None,
    cause: str,
) -> None:
    _only_the_control_plane_answers(monkeypatch)
    status: dict[str, Any] = {"loadBalancer": {"ingress": [{"ip": address}]}}
    cluster.put("v1", "Service", "odd", "default", status=status)
    told = {"node": node, "serviceNamespace": "default", "serviceName": "odd"}
    cluster.put("metallb.io/v1beta1", "ServiceL2Status", "l2-b", "metallb-system", status=told)

    found, text = _doubt(well)

    assert found == cause
    assert address in text


def test_an_ingress_controller_without_an_address_or_a_ready_pod_is_a_problem(
    well: Context, cluster: FakeCluster, golden: Golden
) -> None:
    del cluster.objects[SERVICE]["status"]
    deployment = cluster.objects["apps/v1", "Deployment", "ingress-nginx", "ingress-nginx-controller"]
    deployment["status"]["readyReplicas"] = 0

    report = report_on(well)

    assert report["ingress"]
    assert (report["ingress"]["address"], report["ingress"]["ready"]) == (None, False)
    problems = {problem["id"]: problem["text"] for problem in report["problems"]}
    golden({identity: problems[identity] for identity in ("address-missing", "controller-not-ready")})


def test_what_only_the_next_pod_of_the_controller_would_lack_is_a_warning(
    well: Context, cluster: FakeCluster, golden: Golden
) -> None:
    template = cluster.objects["apps/v1", "Deployment", *SERVICE[2:]]["spec"]["template"]
    template["spec"]["volumes"] = [{"name": "webhook-cert", "secret": {"secretName": "ingress-nginx-admission"}}]

    identity, text = _doubt(well)
    assert identity == "controller-cannot-restart"
    golden(text)


@pytest.mark.parametrize(
    ("waiting", "cause"),
    [({"reason": "ErrImagePull"}, "image-not-pullable"), ({"reason": "ContainerCreating"}, "app-not-ready")],
)
@pytest.mark.parametrize("pod", ["ok", "broken"])
def test_an_app_whose_pods_are_not_ready_is_a_problem_in_their_own_words(
    well: Context,
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

    found, text = _doubt(well) if pod == "ok" else _problem(well)

    assert found == cause
    assert "my-app-7" in text
    golden(text)


def test_a_name_that_is_missing_is_a_problem_and_the_app_is_asked_at_its_address(well: Context) -> None:
    well.lab.hosts_file.write_text("127.0.0.1 localhost\n")

    assert _problem(well)[0] == "hosts-entry-missing"
    assert [app["http"] for app in report_on(well)["apps"]] == [200]


def test_a_block_that_up_would_refuse_is_a_problem_though_the_name_is_found(well: Context) -> None:
    well.lab.hosts_file.write_text(f"# BEGIN labctl demo\n{ADDRESS} my-app.local\n")

    assert _problem(well)[0] == "hosts-damaged"


def test_a_cause_that_was_told_of_is_not_told_of_again_for_every_app(
    well: Context, monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster
) -> None:
    hops = [hop("rule", "controller-not-ready", "no pod is ready"), hop("pod"), hop("response")]
    told: TraceReport = {"version": 1, "hostname": "x", "ok": False, "hops": hops}
    monkeypatch.setattr(trace, "follow", lambda *_arguments, **_options: told)
    cluster.objects["apps/v1", "Deployment", *SERVICE[2:]]["status"]["readyReplicas"] = 0

    assert _problem(well)[0] == "controller-not-ready"


def test_a_stopped_worker_is_a_problem_even_while_kubernetes_has_not_noticed(
    well: Context, provider: FakeProvider, golden: Golden
) -> None:
    provider.nodes.remove("demo-worker-1")

    identity, text = _problem(well)
    assert identity == "node-not-running"
    golden(text)
    assert report_on(well)["problems"][0]["commands"] == ["labctl --name demo resume"]


def test_what_a_provider_says_of_a_node_that_stands_still_is_the_problem(well: Context, provider: FakeProvider) -> None:
    provider.nodes.remove("demo-worker-1")
    provider.troubles["demo-worker-1"] = Trouble(is_running=False, text="it is paused", hint="Run `labctl resume`.")

    [problem] = report_on(well)["problems"]

    assert (problem["id"], problem["text"], problem["fix"]) == (
        "node-not-running",
        "it is paused",
        "Run `labctl resume`.",
    )


def test_apps_are_asked_for_while_a_worker_runs_without_the_control_plane(
    well: Context, provider: FakeProvider
) -> None:
    provider.nodes.remove("demo-control-plane")

    report = report_on(well)

    assert [problem["id"] for problem in report["problems"]] == ["node-not-running"]
    assert report["ingress"] is None
    assert [app["http"] for app in report["apps"]] == [200]


def test_an_isolated_lab_whose_engine_does_not_run_says_so(well: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Isolation, "exists", lambda _isolation: True)
    monkeypatch.setattr(Isolation, "engine_runs", lambda _isolation: False)
    isolated = replace(well, isolated=True)
    vars(isolated).update(bundle=well.bundle)

    assert _problem(isolated)[0] == "engine-stopped"


def test_nothing_is_asked_for_while_no_node_runs(
    well: Context, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.nodes.clear()
    monkeypatch.setattr(http_probe, "get", lambda hostname: pytest.fail(f"{hostname} was asked for"))

    report = report_on(well)

    assert len(report["problems"]) == 2
    assert not any(node["ready"] for node in report["nodes"])
    assert report["apps"] == [{"name": "my-app", "url": "http://my-app.local", "http": None}]


def test_an_api_that_does_not_answer_is_the_problem(
    well: Context, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise NotReadyError("the API server does not answer: refused", id="api-unreachable")

    monkeypatch.setattr(cluster, "find", fail)

    assert _problem(well) == ("api-unreachable", "the API server does not answer: refused")


@pytest.mark.parametrize("description", [None, "{", "schema: 99"])
def test_a_lab_whose_bundle_is_gone_or_cannot_be_read_is_shown_in_full(well: Context, description: str | None) -> None:
    gone = replace(well, bundle_folder=well.folder / "gone")
    vars(gone).update(provider=well.provider, cluster=well.cluster)
    if description is not None:
        (well.folder / "gone").mkdir()
        (well.folder / "gone" / "bundle.yaml").write_text(description)

    report = report_on(gone)

    assert _doubt(gone)[0] == {None: "bundle-not-found", "{": "bundle-unreadable"}.get(description, "bundle-schema")
    assert {**report, "problems": []} == report_on(well)


def test_an_expired_certificate_is_a_problem_with_the_lines_that_renew_it(
    well: Context, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise RefusedError("not trusted: certificate has expired", id="api-not-trusted", hint="The clock?")

    monkeypatch.setattr(cluster, "find", fail)
    [problem] = report_on(well)["problems"]

    assert problem["id"] == "api-not-trusted"
    assert len(problem["commands"]) == 3


def test_an_isolated_lab_whose_network_is_gone_says_so(well: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Isolation, "exists", lambda _isolation: False)
    isolated = replace(well, isolated=True)
    vars(isolated).update(bundle=well.bundle)

    assert _problem(isolated)[0] == "namespace-gone"


def test_the_node_that_answers_arp_has_the_address_whatever_the_record_says(
    well: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [{"mac": "02:10", "node": "demo-control-plane"}]
    hop: HopReport = {
        "hop": "node",
        "state": "warning",
        "cause": "announcer-differs",
        "fix": None,
        "commands": [],
        "evidence": {"answers_arp": answers},
    }
    monkeypatch.setattr(trace, "shared", lambda _context, _cluster: {"node": hop})

    assert [each["node"] for each in report_on(well)["addresses"]] == ["demo-control-plane"]


def test_the_commands_in_a_fix_name_the_lab() -> None:
    problems = Problems("shop")

    problems.add("node-not-ready", "it is not", "`labctl halt shop-worker-1`, then `labctl resume`", ())

    assert problems.reports[0]["fix"] == "`labctl --name shop halt shop-worker-1`, then `labctl --name shop resume`"
