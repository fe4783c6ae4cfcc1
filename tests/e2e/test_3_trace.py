"""Labs that are broken for real, each at one hop of a request: `trace` names the hop and the cause."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .reallab import RealLab, eventually, run

pytestmark = pytest.mark.e2e

HOSTS = Path("/etc/netns/labctl-e2e/hosts")
HOPS = ["name", "address", "node", "rule", "pod", "response"]
CONTROLLER = ("-n", "ingress-nginx", "service", "ingress-nginx-controller")
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
POOL_SIZE = 11
FAILING = """
daemon off; error_log stderr; pid /tmp/nginx.pid; events {}
http { access_log /dev/stdout; server { listen 80; location / { return 500; } } }
"""


@dataclass(frozen=True, slots=True)
class Breakage:
    """How a lab is broken, what undoes it beyond `up`, and what `trace` then says."""

    breaks: Callable[[RealLab], object]
    hop: str
    cause: str
    undo: Callable[[RealLab], object] = lambda _lab: None


def _kubectl(*words: str) -> Callable[[RealLab], object]:
    return lambda lab: lab.kubectl(*words)


def _patch(
    *what: str, merge: dict[str, Any] | None = None, json_patch: list[dict[str, Any]] | None = None
) -> Callable[[RealLab], object]:
    kind, content = ("json", json_patch) if json_patch else ("merge", merge)
    return _kubectl("patch", *what, f"--type={kind}", "-p", json.dumps(content))


def _set_rule(path: str, value: object) -> Callable[[RealLab], object]:
    where = f"/spec/rules/0/{path}"
    return _patch("ingress", "my-app", json_patch=[{"op": "replace", "path": where, "value": value}])


def _edit_hosts(old: bytes, new: bytes) -> Callable[[RealLab], object]:
    return lambda _lab: HOSTS.write_bytes(HOSTS.read_bytes().replace(old, new, 1))


def _run_instead(lab: RealLab, *command: str, config: str = "") -> None:
    """The app's pods run another command, with a configuration at /cfg/nginx.conf."""
    lab.kubectl("create", "configmap", "e2e-broken", f"--from-literal=nginx.conf={config}")
    volume = {"name": "cfg", "configMap": {"name": "e2e-broken"}}
    container = {
        "name": "my-app",
        "command": list(command),
        "volumeMounts": [{"name": "cfg", "mountPath": "/cfg"}],
    }
    spec = {
        "strategy": {"type": "Recreate", "rollingUpdate": None},
        "template": {"spec": {"volumes": [volume], "containers": [container]}},
    }
    lab.kubectl("patch", "deployment", "my-app", "--type=strategic", "-p", json.dumps({"spec": spec}))


def _run_as_ever(lab: RealLab) -> None:
    lab.kubectl("delete", "deployment/my-app", "configmap/e2e-broken")


def _exhaust_the_pool(lab: RealLab) -> None:
    """Other Services have every address of the pool, that of the ingress controller as well."""
    fillers = [f"filler-{number}" for number in range(POOL_SIZE)]
    for filler in fillers[1:]:
        lab.kubectl("create", "service", "loadbalancer", filler, "--tcp=80")
    eventually(lambda: _addresses(lab), lambda addresses: len(addresses) == POOL_SIZE)
    lab.kubectl("patch", *CONTROLLER, "--type=merge", "-p", '{"spec": {"type": "ClusterIP"}}')
    lab.kubectl("create", "service", "loadbalancer", fillers[0], "--tcp=80")
    eventually(lambda: _addresses(lab), lambda addresses: len(addresses) == POOL_SIZE)
    lab.kubectl("patch", *CONTROLLER, "--type=merge", "-p", '{"spec": {"type": "LoadBalancer"}}')


def _empty_the_pool(lab: RealLab) -> None:
    lab.kubectl("delete", "service", *(f"filler-{number}" for number in range(POOL_SIZE)))


def _addresses(lab: RealLab) -> set[str]:
    services = lab.objects("services", "--all-namespaces")["items"]
    return {each["ip"] for service in services for each in service["status"]["loadBalancer"].get("ingress", [])}


def _let_a_stranger_in(lab: RealLab) -> None:
    """Somebody else on the lab's network has the address."""
    [bridge] = [
        link["ifname"]
        for link in json.loads(lab.inside("ip", "-j", "-4", "address", "show"))
        if any(each["local"] == "192.168.56.1" for each in link["addr_info"])
    ]
    run("ip", "netns", "add", "e2e-stranger")
    lab.inside("ip", "link", "add", "stranger", "type", "veth", "peer", "name", "eth0", "netns", "e2e-stranger")
    lab.inside("ip", "link", "set", "stranger", "master", bridge, "up")
    run("ip", "-n", "e2e-stranger", "address", "add", "192.168.56.100/24", "dev", "eth0")
    run("ip", "-n", "e2e-stranger", "link", "set", "eth0", "up")


BREAKAGES = {
    "no hosts line": Breakage(lambda lab: lab.labctl("hosts", "remove"), "name", "hosts-entry-missing"),
    "a wrong address in the hosts line": Breakage(
        _edit_hosts(b"192.168.56.100", b"192.168.56.99"), "name", "hosts-entry-outdated"
    ),
    "a shadowing line": Breakage(
        _edit_hosts(b"", b"192.168.56.77 my-app.local\n"),
        "name",
        "hosts-entry-shadowed",
        _edit_hosts(b"192.168.56.77 my-app.local\n", b""),
    ),
    "no pool": Breakage(
        _kubectl("delete", "ipaddresspools", "--all", "-n", "metallb-system"), "address", "pool-missing"
    ),
    "an exhausted pool": Breakage(_exhaust_the_pool, "address", "pool-exhausted", _empty_the_pool),
    "a Service of type ClusterIP": Breakage(
        _patch(*CONTROLLER, merge={"spec": {"type": "ClusterIP"}}), "address", "service-not-a-load-balancer"
    ),
    "no L2Advertisement": Breakage(
        _kubectl("delete", "l2advertisements", "--all", "-n", "metallb-system"), "node", "advertisement-missing"
    ),
    "the exclude label on every node": Breakage(
        _kubectl("label", "nodes", "--all", "--overwrite", f"{EXCLUDED}="),
        "node",
        "nodes-excluded",
        _kubectl("label", "nodes", "--all", f"{EXCLUDED}-"),
    ),
    "no speaker": Breakage(
        _kubectl("delete", "daemonset", "speaker", "-n", "metallb-system"),
        "node",
        "speaker-not-ready",
    ),
    "the address at a foreign MAC": Breakage(
        _let_a_stranger_in, "node", "address-taken", lambda _lab: run("ip", "netns", "delete", "e2e-stranger")
    ),
    "no controller pod": Breakage(
        _kubectl("scale", "deployment", "ingress-nginx-controller", "-n", "ingress-nginx", "--replicas=0"),
        "node",
        "controller-not-ready",
        _kubectl("scale", "deployment", "ingress-nginx-controller", "-n", "ingress-nginx", "--replicas=2"),
    ),
    "a wrong IngressClass": Breakage(
        _patch("ingress", "my-app", merge={"spec": {"ingressClassName": "other"}}), "rule", "ingress-class-other"
    ),
    "a wrong host": Breakage(_set_rule("host", "other.local"), "rule", "ingress-missing"),
    "a wrong Service name": Breakage(
        _set_rule("http/paths/0/backend/service/name", "other"), "pod", "backend-service-missing"
    ),
    "a wrong port": Breakage(
        _set_rule("http/paths/0/backend/service/port", {"name": "other"}),
        "pod",
        "backend-port-missing",
    ),
    "a selector without pods": Breakage(
        _patch("service", "my-app", merge={"spec": {"selector": {"app.kubernetes.io/name": "other"}}}),
        "pod",
        "selector-matches-nothing",
    ),
    "a crashing app": Breakage(
        lambda lab: _run_instead(lab, "nginx", "-t", "-c", "/nowhere"),
        "pod",
        "no-pod-ready",
        _run_as_ever,
    ),
}


def test_every_hop_of_a_healthy_lab_has_its_evidence(lab: RealLab) -> None:
    traced = lab.labctl("trace", "-o", "json").document()
    name, address, node, rule, pod, response = (hop["evidence"] for hop in traced["hops"])
    neighbours = lab.inside("ip", "neigh", "show", "192.168.56.100")

    assert (traced["hostname"], traced["ok"]) == ("my-app.local", True)
    assert [hop["hop"] for hop in traced["hops"]] == HOPS
    assert name["address"] == "192.168.56.100"
    assert name["source"].startswith(f"{HOSTS}, line ")
    assert name["source"].endswith("192.168.56.100 my-app.local")
    assert (address["service"], address["pool"]) == ("ingress-nginx/ingress-nginx-controller", "e2e")
    assert node["answers_arp"] == [{"mac": neighbours.split()[4], "node": node["announced_by"]}]
    assert rule["ingress"] == "default/my-app"
    assert {each["node"] for each in pod["pods"]} == {"e2e-control-plane", "e2e-worker-1"}
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


@pytest.mark.parametrize("name", BREAKAGES)
def test_the_first_broken_hop_is_named_with_its_cause(lab: RealLab, name: str) -> None:
    breakage = BREAKAGES[name]
    with _broken(lab, breakage):
        where = HOPS.index(breakage.hop)
        # A later hop may be broken by the same cause first: MetalLB withdraws an address a moment after its last pod.
        traced = eventually(lambda: _traced(lab), lambda traced: traced["hops"][where]["cause"] == breakage.cause)

        states = [hop["state"] for hop in traced["hops"]]
        assert states == ["ok"] * where + ["broken"] + ["not reached"] * (len(HOPS) - where - 1)
        assert traced["hops"][where]["fix"]
        assert "fix: " in lab.labctl("trace", code=8).out


def test_an_app_that_answers_500_from_every_pod_is_reached(lab: RealLab) -> None:
    _run_instead(lab, "nginx", "-c", "/cfg/nginx.conf", config=FAILING)
    try:
        traced = eventually(lambda: _traced(lab), lambda traced: traced["hops"][-1]["evidence"].get("status") == 500)
        response = traced["hops"][-1]

        assert traced["ok"]
        assert (response["state"], response["cause"]) == ("warning", "app-answers-error")
        assert {each["status"] for each in response["evidence"]["pods"]} == {500}
        assert [app["http"] for app in lab.status()["apps"]] == [500]
    finally:
        _run_as_ever(lab)
        lab.up()


@contextmanager
def _broken(lab: RealLab, breakage: Breakage) -> Iterator[None]:
    """The lab is broken meanwhile, and whole afterwards."""
    breakage.breaks(lab)
    try:
        yield
    finally:
        breakage.undo(lab)
        lab.up()
        eventually(lambda: _traced(lab), lambda traced: traced["ok"])


def _traced(lab: RealLab) -> Any:  # noqa: ANN401 - JSON
    return lab.labctl("trace", "-o", "json", code=None).document()
