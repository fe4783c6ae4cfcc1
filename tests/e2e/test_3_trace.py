"""`trace` shows a request's path through a healthy lab, and the broken hop of every broken lab in a table."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .broken import BrokenLab, table, trial
from .broken.breaking import expire_certificate, hosts_file
from .reallab import RealLab, eventually

pytestmark = pytest.mark.e2e

HOPS = ["name", "address", "node", "rule", "pod", "response"]


def test_every_hop_of_a_healthy_lab_has_its_evidence(lab: RealLab) -> None:
    trace = lab.labctl("trace", "-o", "json").document()
    name, address, node, rule, pod, response = (hop["evidence"] for hop in trace["hops"])
    neighbours = lab.inside("ip", "neigh", "show", "192.168.56.100")

    assert (trace["hostname"], trace["ok"]) == ("my-app.local", True)
    assert [hop["hop"] for hop in trace["hops"]] == HOPS
    assert name["address"] == "192.168.56.100"
    assert name["source"].startswith(f"{hosts_file(lab)}, line ")
    assert name["source"].endswith("192.168.56.100 my-app.local")
    assert (address["service"], address["pool"]) == ("ingress-nginx/ingress-nginx-controller", lab.name)
    assert node["answers_arp"] == [{"mac": neighbours.split()[4], "node": node["announced_by"]}]
    assert rule["ingress"] == "default/my-app"
    assert {each["node"] for each in pod["pods"]} == {f"{lab.name}-control-plane", f"{lab.name}-worker-1"}
    assert response["answered_by"] in {each["pod"] for each in pod["pods"]}
    [taken_by] = [each for each in rule["controller_pods"] if each["pod"] == response["taken_by"]]
    assert taken_by["node"] == node["announced_by"]
    assert response["status"] == 200


def test_the_controller_sees_the_clients_own_address(lab: RealLab) -> None:
    assert lab.page("http://my-app.local/my-own-address")[0] == 404
    logs = lab.kubectl("-n", "ingress-nginx", "logs", "-l", "app.kubernetes.io/component=controller", "--tail=20")
    [line] = [line for line in logs.splitlines() if "/my-own-address" in line]

    assert line.split()[0] == "192.168.56.1"


def test_the_path_is_shown_as_text(lab: RealLab) -> None:
    shown = lab.labctl("trace", "my-app.local").out

    assert [line.split()[1] for line in shown.splitlines() if line.split()[1:2] and line.split()[1] in HOPS] == HOPS


@pytest.mark.parametrize("hostname", ["nobody.test", "localhost"])
def test_a_hostname_that_no_lab_serves_is_reported(lab: RealLab, hostname: str) -> None:
    name, *others = lab.labctl("trace", hostname, "-o", "json", code=8).document()["hops"]

    assert (name["state"], name["cause"], name["commands"]) == ("broken", "hostname-not-served", [])
    assert {hop["state"] for hop in others} == {"not reached"}


def test_a_request_is_traced_while_the_api_server_is_down(lab: RealLab) -> None:
    node, manifest = f"{lab.name}-control-plane", "/etc/kubernetes/manifests/kube-apiserver.yaml"
    lab.docker("exec", node, "mv", manifest, "/root/")
    try:
        trace, seconds = eventually(lambda: trial.timed_trace(lab), lambda outcome: not trial.is_healthy(outcome[0]))
        status = lab.status(code=8)

        assert [hop["state"] for hop in trace["hops"]] == ["ok", "unknown", "ok", "unknown", "unknown", "ok"]
        assert {hop["cause"] for hop in trace["hops"]} == {None, "api-unreachable"}
        assert trace["ok"]
        assert seconds < trial.TRACE_SECONDS
        assert [problem["id"] for problem in status["problems"]] == ["api-unreachable"]
        assert [app["http"] for app in status["apps"]] == [200]
    finally:
        lab.docker("exec", node, "mv", "/root/kube-apiserver.yaml", manifest)
        eventually(lambda: trial.timed_trace(lab)[0], trial.is_healthy, seconds=120)
        eventually(lambda: lab.labctl("status", "-o", "json", code=None).document()["ok"], bool, seconds=120)


@pytest.mark.sweep
def test_an_expired_certificate_of_the_api_server_is_reported_and_renewed(lab: RealLab) -> None:
    expire_certificate(lab, f"{lab.name}-control-plane", "/etc/kubernetes/pki/apiserver")
    trace = eventually(lambda: trial.timed_trace(lab)[0], lambda outcome: not trial.is_healthy(outcome))
    [problem] = lab.status(code=8)["problems"]
    result = lab.up(code=5).result()

    assert [hop["state"] for hop in trace["hops"]] == ["ok", "unknown", "ok", "unknown", "unknown", "ok"]
    assert {hop["cause"] for hop in trace["hops"]} == {None, "api-not-trusted"}
    assert problem["id"] == result["error"]["id"] == "api-not-trusted"
    assert problem["commands"] == trace["hops"][1]["commands"]
    trial.run_commands(lab, problem["commands"])
    assert trial.is_healthy(trial.timed_trace(lab)[0])


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=row.name, marks=pytest.mark.sweep if row.name in table.SWEPT else ()) for row in table.ROWS],
)
def test_a_broken_hop_is_reported_by_trace_status_and_up_and_its_commands_fix_it(
    lab: RealLab, row: BrokenLab, record_property: Callable[[str, object], None]
) -> None:
    record_property("broken", trial.run_trial(lab, row))
