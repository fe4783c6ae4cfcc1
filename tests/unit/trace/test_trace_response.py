"""Tests of the response hop: tables of responses, and what `trace` reports for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import test_trace
from fakes import set_limits
from test_trace import (
    APP,
    APP_POD,
    CLASS,
    DNS,
    EXCHANGE,
    HOST,
    INGRESS,
    KUBECTL,
    LOG,
    OURS,
    READY,
    SLICE,
    UNROUTED,
    UP,
    BreakableLab,
)

from labctl.context import Context
from labctl.model.errors import NotReadyError
from labctl.model.kinds import ROUTE
from labctl.model.limits import NORMAL
from labctl.model.reports import HopReport
from labctl.render.ingress import CONTROLLERS, IngressController
from labctl.trace.node import node_facts
from labctl.trace.probes import direct
from labctl.trace.probes.exchange import Body, Exchange
from labctl.trace.rules.rules import ANNOTATION

world = test_trace.world
FIRST, SECOND = "my-app-1", "my-app-2"
SECOND_POD = (*APP_POD[:3], SECOND)
DEPLOYMENT = ("apps/v1", "Deployment", "default", "my-app")
UNREACHED = '{{"kind": "Status", "message": "error trying to reach service: {}"}}'
REFUSED = (503, UNREACHED.format("dial tcp 10.244.0.6:80: connect: connection refused"))
EMPTY = (503, UNREACHED.format("EOF"))
GARBAGE = (503, UNREACHED.format("net/http: HTTP/1.x transport connection broken: malformed HTTP response"))
LATE = (503, UNREACHED.format("dial tcp 10.244.0.6:80: i/o timeout"))
Word = tuple[int, str]


def exchange_of(pod: str | None = FIRST, status: int | None = 200, **fields: Any) -> Exchange:  # noqa: ANN401 - any field
    return replace(EXCHANGE, pod=pod, status=status, **fields)


def timed_out(pod: str) -> Exchange:
    return exchange_of(pod, None, is_silent=True, failure="timed out")


def truncated(pod: str | None = FIRST) -> Exchange:
    return exchange_of(pod, body=Body("stopped", 1000, 100_000, "nothing came"))


def controllers_own(status: int, words: str = "") -> Exchange:
    return exchange_of(None, status, body=Body(beginning=words.encode()))


def set_responses(
    world: BreakableLab, *exchanges: Exchange, word: Word | None = None, tls: Word = EMPTY
) -> BreakableLab:
    """Let the client get these responses in turn, and let the API server get `word` from the pods."""
    world.client.exchanges = list(exchanges)
    words = {False: word, True: tls}

    def ask_pod(_pod: str, _namespace: str, _port: int, _path: str, *, seconds: float, tls: bool) -> Word:
        assert 0 < seconds <= NORMAL.api_glance
        if (direct_response := words[tls]) is None:
            raise NotReadyError("no answer", id="api-unreachable")
        return direct_response

    world.cluster.get_from_pod = ask_pod  # type: ignore[assignment, method-assign]
    return world


def response_hop(world: BreakableLab) -> HopReport:
    return world.follow()["hops"][5]


@dataclass(frozen=True, slots=True)
class TwoPodsCase:
    """Responses of two pods, in turn, and what `trace` reports."""

    exchanges: tuple[Exchange, ...]
    state: str
    cause: str
    word: Word | None = None


TWO_PODS = {
    "one is late": TwoPodsCase((exchange_of(), timed_out(SECOND)), "broken", "pods-differ"),
    "the first is late": TwoPodsCase((timed_out(SECOND), exchange_of()), "broken", "pods-differ"),
    "both are late": TwoPodsCase((timed_out(FIRST), timed_out(SECOND)), "broken", "backend-too-slow"),
    "one body is truncated": TwoPodsCase((exchange_of(), truncated(SECOND)), "broken", "pods-differ"),
    "both bodies are truncated": TwoPodsCase((truncated(FIRST), truncated(SECOND)), "broken", "body-incomplete"),
    "one responds with 404": TwoPodsCase((exchange_of(), exchange_of(SECOND, 404)), "broken", "pods-differ"),
    "both refuse the connection": TwoPodsCase((controllers_own(502),), "broken", "backend-refused", REFUSED),
    "one refuses, and the other does not replace it": TwoPodsCase(
        (controllers_own(502), exchange_of(SECOND)), "broken", "pods-differ"
    ),
    "one gets no request, and refuses": TwoPodsCase((exchange_of(),), "warning", "pods-differ", REFUSED),
    "one gets no request, and closes connections": TwoPodsCase((exchange_of(),), "warning", "pods-differ", EMPTY),
    "one gets no request, and is late": TwoPodsCase((exchange_of(),), "warning", "pods-differ", LATE),
    "one gets no request, and responds with 500": TwoPodsCase((exchange_of(),), "broken", "pods-differ", (500, "oops")),
    "one gets no request, and is healthy": TwoPodsCase((exchange_of(),), "unknown", "pod-not-reached", (200, "hello")),
    "one gets no request, and is healthy, and others take as long as a pod that is not reached": TwoPodsCase(
        (exchange_of(), exchange_of(seconds={"connect": 0.0004, "first_byte": 1.004})),
        "warning",
        "pod-not-reached",
        (200, "hello"),
    ),
    "one gets no request, and nothing else is known": TwoPodsCase((exchange_of(),), "unknown", "pod-not-reached"),
    "one gets no request, and the other is sometimes late": TwoPodsCase(
        (exchange_of(), timed_out(FIRST)), "broken", "pods-differ"
    ),
    "both are late, one of them sometimes": TwoPodsCase(
        (exchange_of(), timed_out(FIRST), timed_out(SECOND)), "broken", "backend-too-slow"
    ),
    "both respond with 500, one of them sometimes": TwoPodsCase(
        (exchange_of(), exchange_of(FIRST, 500), exchange_of(SECOND, 500)), "broken", "app-answers-error"
    ),
    "a response of another server": TwoPodsCase((exchange_of("canary-1"),), "broken", "answered-by-other-pod"),
}


@pytest.mark.parametrize("name", TWO_PODS)
def test_the_responses_of_two_pods_give_one_result(world: BreakableLab, name: str) -> None:
    case = TWO_PODS[name]
    report = set_responses(world.with_second_pod(), *case.exchanges, word=case.word).follow()
    hop = report["hops"][5]

    assert (hop["state"], hop["cause"]) == (case.state, case.cause)
    assert report["ok"] is (case.state != "broken")
    assert len(world.client.asked) <= 2 * 2 + 3


def _change_pods_during_requests(world: BreakableLab, change: Callable[[], object]) -> None:
    """Change the pods once, between the hop `pod` and the first further request."""
    changes, line_to = iter([change]), world.client.connection_to

    def line_after_change(*words: Any) -> Any:  # noqa: ANN401 - as in the client
        for each in changes:
            each()
        return line_to(*words)

    world.client.connection_to = line_after_change  # type: ignore[assignment, method-assign]


def test_a_pod_that_became_ready_after_the_pods_were_read_is_no_stranger(world: BreakableLab) -> None:
    set_responses(world, exchange_of(SECOND), exchange_of(), exchange_of(SECOND))
    _change_pods_during_requests(world, world.with_second_pod)

    hop = response_hop(world)

    assert (hop["state"], hop["cause"]) == ("ok", None)
    assert {each["pod"] for each in hop["evidence"]["pods"]} == {FIRST, SECOND}


def test_pods_that_ceased_to_be_ready_are_not_blamed_on_the_controller(world: BreakableLab) -> None:
    def stop() -> None:
        world.cluster.objects[SLICE]["endpoints"].clear()
        world.set(APP_POD, status={})

    set_responses(world, exchange_of("canary-1"), controllers_own(503))
    _change_pods_during_requests(world, stop)

    hop = response_hop(world)

    assert (hop["state"], hop["cause"]) == ("broken", "no-pod-ready")


def test_a_pod_with_less_time_than_the_first_response_took_is_unknown_and_not_late(
    world: BreakableLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_limits(monkeypatch, trace=2.5)
    slow = exchange_of(seconds={"connect": 0.0004, "first_byte": 1.9})

    hop = response_hop(set_responses(world.with_second_pod(), slow, timed_out(SECOND)))

    assert (hop["state"], hop["cause"]) == ("unknown", "pod-not-reached")


def test_a_failing_pod_among_healthy_replicas_is_fixed_by_deleting_it(world: BreakableLab) -> None:
    set_responses(world.with_second_pod(), exchange_of(), exchange_of(SECOND, 500))
    world.cluster.put(*APP_POD[:2], SECOND, "default", spec={}, status=READY)
    for pod in (APP_POD, SECOND_POD):
        world.cluster.objects[pod]["metadata"]["ownerReferences"] = [{"uid": "replicaset-1"}]

    assert response_hop(world)["commands"] == [f"{KUBECTL} -n default delete pod my-app-2"]


@dataclass(frozen=True, slots=True)
class OnePodCase:
    """The controller's own response, the pod's direct response, and what `trace` reports."""

    exchange: Exchange
    word: Word | None
    cause: str
    state: str = "broken"
    tls: Word = EMPTY
    commands: tuple[str, ...] = ()


SPEAK_TLS = (f"{KUBECTL} -n default annotate ingress my-app {ANNOTATION}backend-protocol=HTTPS --overwrite",)
ONE_POD = {
    "502, closed port": OnePodCase(controllers_own(502), REFUSED, "backend-refused"),
    "502, no direct response": OnePodCase(controllers_own(502), None, "backend-refused"),
    "502, an empty response": OnePodCase(controllers_own(502), EMPTY, "backend-not-http"),
    "502, TLS": OnePodCase(controllers_own(502), EMPTY, "backend-not-http", tls=(200, "hello"), commands=SPEAK_TLS),
    "502, sent by the app": OnePodCase(controllers_own(502), (502, "oops"), "app-answers-error", "warning"),
    "504": OnePodCase(controllers_own(504), None, "backend-too-slow"),
    "504, late": OnePodCase(controllers_own(504), LATE, "backend-too-slow"),
    "500, not HTTP": OnePodCase(controllers_own(500, "Internal Server Error"), GARBAGE, "backend-not-http"),
    "500, sent by the app": OnePodCase(
        controllers_own(500, "Internal Server Error"), (500, "x"), "app-answers-error", "warning"
    ),
    "500, with a body of the app": OnePodCase(controllers_own(500, "Traceback"), None, "app-answers-error", "warning"),
    "400, TLS": OnePodCase(
        controllers_own(400, "Client sent an HTTP request to an HTTPS server."),
        None,
        "backend-not-http",
        commands=SPEAK_TLS,
    ),
    "no response in time": OnePodCase(timed_out(FIRST), None, "backend-too-slow"),
    "headers without a body": OnePodCase(exchange_of(FIRST, None, failure="closed"), None, "body-incomplete"),
}


@pytest.mark.parametrize("name", ONE_POD)
def test_the_cause_of_a_failing_single_pod_is_found_by_a_direct_request(world: BreakableLab, name: str) -> None:
    row = ONE_POD[name]
    hop = response_hop(set_responses(world, row.exchange, word=row.word, tls=row.tls))

    assert (hop["state"], hop["cause"]) == (row.state, row.cause)
    assert tuple(hop["commands"]) == row.commands
    assert hop["fix"]


@pytest.mark.parametrize(("status", "guard"), [(403, "whitelist-source-range"), (500, "auth-url"), (429, "limit-rps")])
def test_an_annotation_that_makes_the_controller_respond_itself_is_named(
    world: BreakableLab, status: int, guard: str
) -> None:
    hop = response_hop(world.annotate(guard, "1").respond(status, None, server="-"))

    assert (hop["state"], hop["cause"]) == ("broken", "controller-answers")
    assert hop["commands"] == [f"{KUBECTL} -n default annotate ingress my-app {ANNOTATION}{guard}-"]


def test_a_response_that_is_logged_but_not_received_is_incomplete(world: BreakableLab) -> None:
    world.client.log = LOG.replace("{status}", "200")

    assert response_hop(set_responses(world, timed_out(FIRST)))["cause"] == "body-incomplete"


def use_foreign_ingress(world: BreakableLab) -> None:
    """Replace the app's Ingress by one that labctl did not create."""
    ingress = world.cluster.objects.pop(INGRESS)
    world.cluster.put(*INGRESS[:2], "theirs", "default", spec=ingress["spec"])
    world.client.log = LOG.replace("default-my-app-rule", "default-theirs-rule")


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_service_with_a_wrong_target_port_is_fixed_with_the_port_of_the_pods(
    world: BreakableLab,
    is_ours: bool,  # noqa: FBT001 - a column of the table
) -> None:
    world.set(APP_POD, spec={"containers": [{"ports": [{"containerPort": 8080}]}]})
    commands = UP
    if not is_ours:
        use_foreign_ingress(world)
        patch = '[{"op":"replace","path":"/spec/ports/0/targetPort","value":8080}]'
        commands = (f"{KUBECTL} -n default patch service my-app --type=json -p '{patch}'",)

    hop = response_hop(set_responses(world, controllers_own(502), word=REFUSED))
    assert (hop["cause"], tuple(hop["commands"])) == ("backend-refused", commands)


@pytest.mark.parametrize(
    ("manager", "node", "is_recreated"),
    [("labctl", "True", False), ("kubectl-patch", "True", True), ("kubectl-patch", "Unknown", False)],
)
def test_an_app_that_others_changed_is_fixed_by_recreating_it(
    world: BreakableLab,
    manager: str,
    node: str,
    is_recreated: bool,  # noqa: FBT001 - a column of the table
) -> None:
    for each in world.context.lab.nodes:
        world.cluster.put("v1", "Node", each.name, status={"conditions": [{"type": "Ready", "status": node}]})
    fields: dict[str, Any] = {"f:spec": {"f:template": {"f:spec": {"f:containers": {}}}}}
    managed = [{"manager": manager, "fieldsV1": fields}, {"manager": "kube-controller-manager"}]
    world.cluster.put(*DEPLOYMENT[:2], "my-app", "default", metadata={"managedFields": managed}, spec={})
    commands = [f"{KUBECTL} -n default delete deployment my-app", *UP] if is_recreated else []

    assert response_hop(set_responses(world, exchange_of(FIRST, 500)))["commands"] == commands
    world.set(SLICE, endpoints=[]).set(APP_POD, status={})
    assert world.follow()["hops"][4]["commands"] == commands


def test_a_rate_limited_client_leaves_the_other_pod_unknown(world: BreakableLab) -> None:
    set_responses(world.with_second_pod(), exchange_of(), exchange_of(None, 429), word=(200, "hello"))
    logged = iter([LOG])
    world.client.log = ""
    fetch = world.client.fetch

    def limited(*words: Any, **named: Any) -> Exchange:  # noqa: ANN401 - as in the real function
        world.client.log = next(logged, UNROUTED)
        return fetch(*words, **named)

    world.client.fetch = limited  # type: ignore[method-assign]
    hop = response_hop(world)

    assert (hop["state"], hop["cause"]) == ("unknown", "pod-not-reached")
    assert len(world.client.asked) == 2


def with_canary(world: BreakableLab, weight: int) -> BreakableLab:
    """Add a canary, with its own pod, that takes part of the requests."""
    notes = {f"{ANNOTATION}canary": "true", f"{ANNOTATION}canary-weight": str(weight)}
    spec = {"ingressClassName": "nginx", "rules": [{"host": HOST, "http": {"paths": [{}]}}]}
    backend = {"service": {"name": "canary", "port": {"number": 80}}}
    spec["rules"][0]["http"]["paths"][0] = {"path": "/", "pathType": "Prefix", "backend": backend}  # type: ignore[index]
    world.cluster.put(*ROUTE, "canary", "default", metadata={"annotations": notes}, spec=spec)
    world.cluster.put("v1", "Service", "canary", "default", spec=world.spec(APP))
    endpoint = {"addresses": ["10.244.0.9"], "targetRef": {"name": "canary-1"}}
    labels = {"labels": {"kubernetes.io/service-name": "canary"}}
    ports = [{"name": "http", "port": 80}]
    world.cluster.put(*SLICE[:2], "canary-s", "default", metadata=labels, ports=ports, endpoints=[endpoint])
    return world


@pytest.mark.parametrize(
    ("weight", "exchanges", "service", "state"),
    [
        (0, (exchange_of(),), "my-app", "ok"),
        (100, (exchange_of("canary-1"),), "canary", "ok"),
        (50, (exchange_of(), exchange_of("canary-1")), "my-app", "ok"),
        (50, (exchange_of("canary-1"), exchange_of()), "canary", "ok"),
        (1, (exchange_of(), exchange_of("canary-1")), "my-app", "unknown"),
        (99, (exchange_of("canary-1"), exchange_of()), "canary", "unknown"),
    ],
)
def test_of_a_split_the_rule_and_pods_that_responded_are_shown(
    world: BreakableLab, weight: int, exchanges: tuple[Exchange, ...], service: str, state: str
) -> None:
    hops = set_responses(with_canary(world, weight), *exchanges).follow()["hops"]

    assert [hop["state"] for hop in hops[3:]] == ["ok", "ok", state]
    assert hops[3]["evidence"]["ingress"] == f"default/{service}"
    assert hops[3]["evidence"]["backend"]["service"] == service
    assert hops[3]["evidence"]["split"]["weight"] == weight
    assert hops[4]["evidence"]["service"] == service


@pytest.mark.parametrize(
    ("controller", "note", "value", "state"),
    [
        (CONTROLLERS[0], "affinity", "cookie", "unknown"),
        (CONTROLLERS[0], "load-balance", "ewma", "unknown"),
        (CONTROLLERS[0], "load-balance", "round_robin", "ok"),
        (CONTROLLERS[1], "affinity", "cookie", "ok"),
    ],
)
def test_a_pod_selected_by_affinity_or_load_makes_the_others_unknown(
    world: BreakableLab,
    monkeypatch: pytest.MonkeyPatch,
    controller: IngressController,
    note: str,
    value: str,
    state: str,
) -> None:
    monkeypatch.setattr(Context, "controller", controller)
    set_responses(world.with_second_pod().annotate(note, value), exchange_of(), exchange_of(SECOND))

    assert response_hop(world)["state"] == state


def test_a_canary_without_pods_gets_no_requests(world: BreakableLab) -> None:
    world = with_canary(world, 100)
    del world.cluster.objects[(*SLICE[:3], "canary-s")]

    assert [hop["state"] for hop in world.follow()["hops"][3:]] == ["ok", "ok", "ok"]


@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize(("name", "state", "hop"), [("canary", "warning", "ok"), ("gone", "broken", "not reached")])
def test_a_default_backend_responds_for_a_service_without_pods(
    world: BreakableLab,
    name: str,
    state: str,
    hop: str,
    is_there: bool,  # noqa: FBT001 - a column of the table
) -> None:
    world = with_canary(world, 0).set(SLICE, endpoints=[]).annotate("default-backend", name)
    world.remove((*ROUTE, "default", "canary"), *(() if is_there else (APP,)))
    hops = set_responses(world, exchange_of("canary-1")).follow()["hops"]

    assert [each["state"] for each in hops[4:]] == [state, hop]


@dataclass(frozen=True, slots=True)
class DoubtCase:
    """A problem at the rule or the pods, and what `trace` reports."""

    breaks: Callable[[BreakableLab], object]
    hop: int
    cause: str
    state: str = "broken"
    commands: tuple[str, ...] = ()


def add_rival_ingress(world: BreakableLab) -> None:
    world.cluster.put(*INGRESS[:2], "rival", "default", spec={**world.spec(INGRESS)})
    backend = {"service": {"name": "other", "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    world.cluster.objects[(*INGRESS[:3], "rival")]["spec"]["rules"] = [{"host": HOST, "http": {"paths": paths}}]


def scale(world: BreakableLab, replicas: int) -> None:
    template = {"metadata": {"labels": {"app": "my-app"}}}
    spec = {"replicas": replicas, "template": template, "selector": {"matchLabels": {"app": "my-app"}}}
    world.cluster.put(*DEPLOYMENT[:2], "my-app", "default", spec=spec)
    world.remove(APP_POD).set(SLICE, endpoints=[])


def add_pending_pod(world: BreakableLab) -> None:
    labels = {"labels": {"app": "my-app"}}
    world.cluster.put(*APP_POD[:2], SECOND, "default", metadata=labels, spec={}, status={"phase": "Pending"})


def remove_slice_ports(world: BreakableLab) -> None:
    world.spec(APP)["ports"] = [{"name": "http", "port": 80, "targetPort": "web"}]
    world.set(SLICE, ports=[])
    world.set(APP_POD, spec={"nodeName": "demo-worker-1", "containers": [{"ports": [{"containerPort": 80}]}]})


COREDNS = ("apps/v1", "Deployment", "kube-system", "coredns")
OF_COREDNS = {"k8s-app": "kube-dns"}


def break_coredns(world: BreakableLab, replicas: int, **pod: Any) -> None:  # noqa: ANN401 - what a pod's status says
    """Replace CoreDNS's endpoints by one pod that is not ready, with this status."""
    world.remove(DNS).cluster.put(
        *COREDNS[:2], COREDNS[3], COREDNS[2], spec={"replicas": replicas, "selector": {"matchLabels": OF_COREDNS}}
    )
    world.cluster.put("v1", "Pod", "coredns-1", "kube-system", metadata={"labels": OF_COREDNS}, status=pod)


EXITING = [
    {
        "name": "coredns",
        "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1}},
    }
]
PULL_ERRORS = [{"name": "coredns", "image": "coredns:0", "state": {"waiting": {"reason": "ErrImagePull"}}}]
REINSTALL = "labctl --name demo ssh demo-control-plane -- sudo kubeadm init phase addon coredns --config /etc/labctl/kubeadm.yaml"
SELECT = f"{KUBECTL} -n default patch service my-app --type=merge -p"
DOUBTS: Mapping[str, DoubtCase] = {
    "two Ingresses with one rule": DoubtCase(add_rival_ingress, 3, "rules-collide", "warning"),
    "an annotation unknown to Traefik": DoubtCase(
        lambda world: world.annotate("mirror-target", "http://copy"),
        3,
        "annotation-ignored",
        "warning",
        (f"{KUBECTL} -n default annotate ingress my-app {ANNOTATION}mirror-target-",),
    ),
    "an Ingress with a snippet": DoubtCase(
        lambda world: world.respond_unrouted().annotate("server-snippet", "return 200;"),
        3,
        "ingress-refused",
        commands=(f"{KUBECTL} -n default annotate ingress my-app {ANNOTATION}server-snippet-",),
    ),
    "authentication without its Secret": DoubtCase(
        lambda world: world.respond_unrouted().annotate("auth-type", "basic").annotate("auth-secret", "nowhere"),
        3,
        "guard-unusable",
    ),
    "no IngressClass": DoubtCase(
        lambda world: world.respond_unrouted().remove(CLASS), 3, "ingress-class-missing", commands=UP
    ),
    "an IngressClass of another controller": DoubtCase(
        lambda world: world.respond_unrouted().set(CLASS, spec={"controller": "example.com/other"}),
        3,
        "ingress-class-missing",
        commands=(f"{KUBECTL} delete ingressclass nginx", *UP),
    ),
    "one of two pods is pending": DoubtCase(add_pending_pod, 4, "pods-not-all-ready", "warning"),
    "no CoreDNS": DoubtCase(lambda world: world.remove(DNS), 4, "cluster-dns-down", "warning", (REINSTALL,)),
    "CoreDNS without replicas": DoubtCase(
        lambda world: break_coredns(world, 0),
        4,
        "cluster-dns-down",
        "warning",
        (f"{KUBECTL} scale -n kube-system deployment coredns --replicas=2",),
    ),
    "CoreDNS without its image": DoubtCase(
        lambda world: break_coredns(world, 2, containerStatuses=PULL_ERRORS),
        4,
        "cluster-dns-down",
        "warning",
        (f"{KUBECTL} rollout restart -n kube-system deployment coredns",),
    ),
    "CoreDNS that keeps exiting": DoubtCase(
        lambda world: break_coredns(world, 2, containerStatuses=EXITING), 4, "cluster-dns-down", "warning", ()
    ),
    "replicas reduced by somebody else": DoubtCase(lambda world: scale(world, 0), 4, "no-pods-wanted", commands=UP),
    "replicas that are not created": DoubtCase(lambda world: scale(world, 2), 4, "no-pod-ready"),
    "a target port that no pod has": DoubtCase(remove_slice_ports, 4, "target-port-missing", commands=UP),
    "pods that are in no EndpointSlice": DoubtCase(lambda world: world.remove(SLICE), 4, "endpoints-missing"),
    "a selector with one label too many": DoubtCase(
        lambda world: world.set(SLICE, endpoints=[]).spec(APP).update(selector={"app": "my-app", "tier": "web"}),
        4,
        "selector-matches-nothing",
        commands=(f'{SELECT} \'{{"spec":{{"selector":{{"tier":null}}}}}}\'',),
    ),
}


def test_a_starting_name_server_is_not_reported(world: BreakableLab) -> None:
    break_coredns(world, 2)

    assert [hop["state"] for hop in world.follow()["hops"]] == ["ok"] * 6


@pytest.mark.parametrize("name", DOUBTS)
def test_problems_of_the_rule_or_its_pods_are_reported(world: BreakableLab, name: str) -> None:
    doubt = DOUBTS[name]
    doubt.breaks(world)
    report = world.follow()
    hop = report["hops"][doubt.hop]

    assert (hop["state"], hop["cause"], tuple(hop["commands"])) == (doubt.state, doubt.cause, doubt.commands)
    assert report["ok"] is (doubt.state != "broken")
    assert report["hops"][5]["state"] == ("not reached" if doubt.state == "broken" else "ok")


def test_an_external_name_service_needs_no_port_and_no_pods(world: BreakableLab) -> None:
    world.set(APP, spec={"type": "ExternalName", "externalName": "shop.example"})
    hops = world.respond(200, None, server="http://shop.example:80").follow()["hops"]

    assert [hop["state"] for hop in hops[3:]] == ["ok", "ok", "ok"]
    assert hops[4]["evidence"]["external_name"] == "shop.example"
    assert response_hop(world.respond(502, None, server="http://shop.example:80"))["cause"] == "backend-refused"


def test_an_unreached_endpoint_without_a_pod_is_named_with_its_slice(world: BreakableLab) -> None:
    endpoints = [*world.cluster.objects[SLICE]["endpoints"], {"addresses": ["10.244.1.222"]}]
    world.set(SLICE, endpoints=endpoints)

    hop = response_hop(set_responses(world, exchange_of()))

    assert (hop["state"], hop["cause"], hop["commands"]) == ("unknown", "pod-not-reached", [])
    assert f"10.244.1.222, listed in {SLICE[3]}" in hop["evidence"]["finding"]
    assert "EndpointSlice" in str(hop["fix"])


@pytest.mark.parametrize("second", [truncated(SECOND), exchange_of(SECOND)])
def test_bodies_truncated_by_a_narrow_interface_are_not_blamed_on_a_pod(
    world: BreakableLab, second: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = world.context.lab.nodes[1]
    monkeypatch.setattr(node_facts, "node_with_smaller_mtu", lambda *_: (node, "eth1", 600, 1500))

    hop = response_hop(set_responses(world.with_second_pod(), truncated(FIRST), second))

    assert (hop["state"], hop["cause"]) == ("broken", "body-incomplete")
    assert [command.partition(node.name)[2] for command in hop["commands"]] == [" ip link set eth1 mtu 1500"]


@pytest.mark.parametrize("is_ours", [True, False])
def test_an_unreachable_external_name_is_fixed_only_for_a_service_of_labctl(
    world: BreakableLab,
    is_ours: bool,  # noqa: FBT001 - a column of the table
) -> None:
    world.set(APP, spec={"type": "ExternalName", "externalName": "shop.example"})
    fields: dict[str, Any] = {"f:spec": {"f:template": {"f:spec": {}}}}
    managed = [{"manager": "kubectl-patch", "fieldsV1": fields}]
    world.cluster.put(*DEPLOYMENT[:2], "my-app", "default", metadata={"managedFields": managed}, spec={})
    commands = [f"{KUBECTL} -n default delete service my-app", *UP] if is_ours else []
    if not is_ours:
        use_foreign_ingress(world)

    hop = response_hop(world.respond(502, None, server="http://shop.example:80"))
    assert (hop["cause"], hop["commands"]) == ("backend-refused", commands)


def test_a_response_of_a_service_without_a_rule_leaves_the_rule_unknown(world: BreakableLab) -> None:
    rule = world.respond(200).remove(INGRESS).follow()["hops"][3]

    assert (rule["state"], rule["cause"], rule["commands"]) == ("unknown", "rule-not-found", [])
    assert rule["evidence"]["backend"] == {"namespace": "default", "service": "my-app", "port": ""}


def test_an_ingress_without_an_access_log_leaves_the_responding_pod_unknown(world: BreakableLab) -> None:
    hop = response_hop(world.annotate("enable-access-log", "false").respond(200, None, log=""))

    assert (hop["state"], hop["cause"]) == ("unknown", "answerer-unknown")


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"log-format-upstream": '{"agent": "$http_user_agent"}'}, "answerer-unknown"),
        ({"disable-access-log": "false", "keep-alive": "1"}, "answered-by-another"),
    ],
)
def test_a_controller_with_another_log_format_is_not_reported_as_bypassed(
    world: BreakableLab, settings: Mapping[str, str], cause: str
) -> None:
    world.cluster.put("v1", "ConfigMap", "ingress-nginx-controller", "ingress-nginx", data=settings)

    assert response_hop(world.respond(200, None, log=""))["cause"] == cause


@pytest.mark.parametrize(
    ("target", "log"), [(exchange_of(None, 404), UNROUTED), (exchange_of(status=302, location="/login"), LOG)]
)
def test_a_redirect_to_a_missing_page_leads_nowhere(world: BreakableLab, target: Exchange, log: str) -> None:
    set_responses(world, exchange_of(status=302, location="/login"), target)
    logs = iter([LOG])
    fetch = world.client.fetch

    def logged(*words: Any, **named: Any) -> Exchange:  # noqa: ANN401 - as in the real function
        world.client.log = next(logs, log)
        return fetch(*words, **named)

    world.client.fetch = logged  # type: ignore[method-assign]

    assert response_hop(world)["cause"] == "redirect-leads-nowhere"


@pytest.mark.parametrize("location", ["/", f"http://{HOST}/", "/#top", "/login"])
@pytest.mark.parametrize("cookies", [(False, False), (True, False), (False, True)])
def test_a_redirect_loop_is_broken_unless_a_cookie_may_end_it(
    world: BreakableLab, location: str, cookies: tuple[bool, bool]
) -> None:
    first, second = (
        exchange_of(status=302, location=where, sets_cookie=sets)
        for where, sets in zip(("/login", location), cookies, strict=True)
    )
    hop = response_hop(set_responses(world, first, second))

    assert (hop["state"], hop["cause"]) == (("ok", None) if any(cookies) else ("broken", "redirect-leads-nowhere"))


@pytest.mark.parametrize(("status", "state", "cause"), [(500, "warning", "app-answers-error"), (404, "ok", None)])
def test_a_redirect_of_the_app_to_its_own_error_is_a_warning(
    world: BreakableLab, status: int, state: str, cause: str | None
) -> None:
    set_responses(world, exchange_of(status=302, location="/login"), exchange_of(status=status))

    hop = response_hop(world)

    assert (hop["state"], hop["cause"]) == (state, cause)


@pytest.mark.parametrize(
    ("seconds", "location", "state"),
    [(1.5, "/late", "ok"), (4, "/late", "broken"), (1.5, "http://o.test/", "ok"), (4, "http://o.test/", "broken")],
)
def test_a_redirect_without_time_to_follow_it_is_not_broken(
    world: BreakableLab, monkeypatch: pytest.MonkeyPatch, seconds: float, location: str, state: str
) -> None:
    set_limits(monkeypatch, trace=seconds)
    world.client.resolve = lambda hostname, limit=2.0: ([OURS] if hostname == HOST else [], limit)  # type: ignore[method-assign]
    target = exchange_of(None, None, is_silent=True, failure="timed out") if location == "/late" else exchange_of()
    hop = response_hop(set_responses(world, exchange_of(status=302, location=location), target))

    assert (hop["state"], hop["evidence"]["redirect"]["status"]) == (state, None)


TARGETS = {
    "every pod serves it": ((exchange_of(), exchange_of(SECOND)), "ok", None),
    "one pod is late": ((exchange_of(), timed_out(SECOND)), "broken", "pods-differ"),
    "every pod responds with 500": (
        (exchange_of(FIRST, 500), exchange_of(SECOND, 500)),
        "warning",
        "app-answers-error",
    ),
    "it redirects again": ((exchange_of(None, 302, location="/further"),), "ok", None),
}


@pytest.mark.parametrize("name", TARGETS)
def test_the_target_of_the_controllers_redirect_is_requested_from_every_pod(world: BreakableLab, name: str) -> None:
    exchanges, state, cause = TARGETS[name]
    fetch, counter = world.client.fetch, iter(range(100))

    def redirected(hostname: str, address: Any, path: str = "/", port: int = 80, **named: Any) -> Exchange:  # noqa: ANN401 - as in the real function
        is_own = path == "/" or exchanges[0].pod is None
        exchange = exchange_of(None, 302, location="/app") if path == "/" else exchanges[next(counter) % len(exchanges)]
        world.client.exchanges = [exchange]
        world.client.log = LOG.replace("{server}", "-") if is_own else LOG
        return fetch(hostname, address, path, port, **named)

    world.with_second_pod().client.fetch = redirected  # type: ignore[method-assign]
    hop = response_hop(world)

    assert (hop["state"], hop["cause"]) == (state, cause)
    assert hop["evidence"]["redirect"]["location"] == f"http://{HOST}/app"
    assert {each["pod"] for each in hop["evidence"]["pods"]} == ({FIRST, SECOND} if exchanges[0].pod else set())


def test_a_redirect_of_the_controller_to_a_missing_service_leads_nowhere(world: BreakableLab) -> None:
    paths = world.spec(INGRESS)["rules"][0]["http"]["paths"]
    missing = {"service": {"name": "missing", "port": {"number": 80}}}
    paths[:] = [{**paths[0], "path": "/", "pathType": "Exact"}, {**paths[0], "path": "/app", "backend": missing}]
    world.client.exchanges = [exchange_of(None, 302, location=to) for to in ("/app", "/further", "/further")]
    world.client.log = UNROUTED

    hop = response_hop(world)

    assert (hop["state"], hop["cause"]) == ("broken", "redirect-leads-nowhere")
    assert hop["commands"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("dial tcp 10.244.0.6:80: connect: connection refused", direct.REFUSED),
        ("dial tcp 10.244.0.6:80: connect: no route to host", direct.UNREACHABLE),
        ("net/http: HTTP/1.x transport connection broken: malformed HTTP response", direct.NOT_HTTP),
        ("EOF", direct.EMPTY),
        ("read tcp 10.0.0.1:1->10.244.0.6:80: read: connection reset by peer", direct.EMPTY),
        ("dial tcp 10.244.0.6:80: i/o timeout", direct.SILENT),
        ("something else", direct.NOT_QUERIED),
    ],
)
def test_errors_of_the_api_server_on_a_pod_are_classified(world: BreakableLab, text: str, kind: str) -> None:
    set_responses(world, word=(503, UNREACHED.format(text)))

    assert direct.query_pod(world.cluster, "default", FIRST, 80, "/", 1).kind == kind


@pytest.mark.parametrize(
    ("identity", "is_up", "kind"),
    [
        ("api-unreachable", True, direct.SILENT),
        ("api-unreachable", False, direct.NOT_QUERIED),
        ("api-busy", True, direct.NOT_QUERIED),
    ],
)
def test_a_pod_is_silent_only_if_the_api_server_responds(
    world: BreakableLab,
    monkeypatch: pytest.MonkeyPatch,
    identity: str,
    is_up: bool,  # noqa: FBT001 - a column of the table
    kind: str,
) -> None:
    def time_out(*_arguments: object, **_options: object) -> list[dict[str, Any]]:
        raise NotReadyError("GET /: timed out", id=identity)

    monkeypatch.setattr(world.cluster, "get_from_pod", time_out)
    if not is_up:
        monkeypatch.setattr(world.cluster, "find", time_out)

    assert direct.query_pod(world.cluster, "default", FIRST, 80, "/", 1).kind == kind


def test_a_pod_with_a_body_of_its_own_has_responded(world: BreakableLab) -> None:
    for word in ((200, "hello"), (503, "busy"), (404, '["error"]'), (200, '{"message": 3}')):
        result = direct.query_pod(set_responses(world, word=word).cluster, "default", FIRST, 80, "/", 1)

        assert (result.kind, result.status) == (direct.ANSWERED, word[0])
