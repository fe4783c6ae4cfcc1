"""The client of the Kubernetes API: its requests, and how it translates responses and errors."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ConflictError, DynamicApiError, NotFoundError, ResourceNotFoundError
from urllib3 import exceptions
from urllib3.exceptions import MaxRetryError

from labctl.cluster import client as kube
from labctl.cluster.client import Cluster
from labctl.host import wait
from labctl.model.errors import LabError, MissingError, NotReadyError, RefusedError

POOL = {"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": "demo", "namespace": "m"}}


class Response:
    """A response of the client, which can be converted to a mapping."""

    def __init__(self, **fields: object) -> None:
        self.fields = fields

    def to_dict(self) -> dict[str, object]:
        return self.fields


class FakeClient:
    """A fake of the client and of its only kind of resource: records every call, and raises configured errors."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.responses: dict[str, object] = {}
        self.resources = self

    def get(self, **arguments: object) -> Any:  # noqa: ANN401 - a resource for a kind, else an object
        return self._respond("kind" if "kind" in arguments else "get", arguments)

    def server_side_apply(self, **arguments: object) -> object:
        return self._respond("apply", arguments)

    def delete(self, **arguments: object) -> object:
        return self._respond("delete", arguments)

    def request(self, method: str, path: str, **arguments: object) -> object:
        return self._respond(f"{method} {path}", arguments)

    def _respond(self, act: str, arguments: dict[str, Any]) -> object:
        self.calls.append((act, arguments))
        response = self.responses.get(act, self)
        if isinstance(response, Exception):
            raise response
        return response


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def cluster(client: FakeClient) -> Cluster:
    cluster = Cluster(Path("/nowhere/kubeconfig"))
    cluster._cached_client = client
    return cluster


def _pool(address: str, version: str) -> Response:
    metadata = {"name": "demo", "resourceVersion": version, "managedFields": [version]}
    return Response(metadata=metadata, spec={"addresses": [address]}, status={"seen": version})


def _http_error(kind: str, *about: object) -> Exception:
    """Return an error of the HTTP library without a connection."""
    error: Exception = getattr(exceptions, kind)(None, *about)
    return error


def _refused(status: int, message: str) -> ApiException:
    error = ApiException(status=status, reason="Internal Server Error")
    error.body = json.dumps({"message": message})
    return error


def _not_found() -> NotFoundError:
    return NotFoundError(ApiException(status=404, reason="Not Found"))


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (_pool("a", "7"), _pool("a", "7"), []),
        (_pool("a", "7"), _pool("a", "8"), []),
        (_pool("a", "7"), _pool("b", "8"), ["IPAddressPool demo"]),
        (_not_found(), _pool("a", "1"), ["IPAddressPool demo"]),
    ],
)
def test_apply_returns_the_changed_objects_and_ignores_bookkeeping_fields(
    cluster: Cluster, client: FakeClient, before: object, after: object, changed: list[str]
) -> None:
    client.responses = {"get": before, "apply": after}

    assert cluster.apply([POOL]) == changed


def test_apply_forces_conflicts_as_the_field_manager_labctl(cluster: Cluster, client: FakeClient) -> None:
    client.responses = {"get": _pool("a", "1"), "apply": _pool("a", "1")}

    cluster.apply([POOL])

    arguments = next(arguments for act, arguments in client.calls if act == "apply")
    assert (arguments["field_manager"], arguments["force_conflicts"]) == ("labctl", True)
    assert (arguments["name"], arguments["namespace"], arguments["body"]) == ("demo", "m", POOL)
    assert "dry_run" not in arguments


def test_accepts_is_a_dry_run(cluster: Cluster, client: FakeClient) -> None:
    cluster.accepts(POOL)

    assert [arguments["dry_run"] for act, arguments in client.calls if act == "apply"] == ["All"]


def test_readiness_is_requested_from_the_readyz_endpoint(cluster: Cluster, client: FakeClient) -> None:
    cluster.is_up()

    assert client.calls[0][0] == "get /readyz"


def test_an_object_is_a_mapping_and_a_missing_object_or_unknown_kind_is_none(
    cluster: Cluster, client: FakeClient
) -> None:
    client.responses = {"get": Response(kind="Node")}
    assert cluster.get("v1", "Node", "demo") == {"kind": "Node"}

    client.responses = {"get": _not_found()}
    assert cluster.get("v1", "Node", "demo") is None

    client.responses = {"kind": ResourceNotFoundError("no such kind")}
    assert cluster.get("metallb.io/v1beta1", "IPAddressPool", "demo") is None


def test_a_list_is_filtered_by_labels_and_empty_for_an_unknown_kind(cluster: Cluster, client: FakeClient) -> None:
    client.responses = {"get": Response(items=[{"kind": "Pod"}])}
    assert cluster.find("v1", "Pod", "default", "app=x") == [{"kind": "Pod"}]
    assert client.calls[-1][1]["label_selector"] == "app=x"

    client.responses = {"kind": ResourceNotFoundError("no such kind")}
    assert cluster.find("metallb.io/v1beta1", "ServiceL2Status") == []

    client.responses = {"get": _not_found()}
    assert cluster.find("metallb.io/v1beta1", "ServiceL2Status") == [], (
        "a deleted kind that the discovery cache still has"
    )


def test_a_list_can_be_filtered_by_fields(cluster: Cluster, client: FakeClient) -> None:
    client.responses = {"get": Response(items=[])}

    assert cluster.find("v1", "Event", "default", fields="type=Warning") == []
    assert client.calls[-1][1]["field_selector"] == "type=Warning"


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        ({}, [("tailLines", kube.LOG_LINES)]),
        ({"container": "web"}, [("tailLines", kube.LOG_LINES), ("container", "web")]),
        (
            {"container": "web", "previous": True},
            [("tailLines", kube.LOG_LINES), ("container", "web"), ("previous", "true")],
        ),
    ],
)
def test_a_log_can_be_limited_to_a_container_or_its_previous_run(
    cluster: Cluster, client: FakeClient, arguments: dict[str, Any], parameters: list[tuple[str, object]]
) -> None:
    path = "get /api/v1/namespaces/default/pods/shop-1/log"
    client.responses = {path: SimpleNamespace(data=b"said \xff\n")}

    assert cluster.log("shop-1", "default", **arguments) == "said \N{REPLACEMENT CHARACTER}\n"
    assert client.calls == [(path, client.calls[0][1])]
    assert client.calls[0][1]["query_params"] == parameters

    client.responses = {path: _not_found()}
    assert cluster.log("shop-1", "default", **arguments) == ""


@pytest.mark.parametrize(("tls", "target"), [(False, "shop-1:80"), (True, "https:shop-1:80")])
def test_a_pod_is_queried_through_the_api(cluster: Cluster, client: FakeClient, tls: bool, target: str) -> None:  # noqa: FBT001 - a column of the table
    path = f"get /api/v1/namespaces/default/pods/{target}/proxy/a?b=c"
    client.responses = {path: SimpleNamespace(status=200, read=lambda _size: b"hello \xff", close=lambda: None)}
    assert cluster.get_from_pod("shop-1", "default", 80, "/a?b=c", seconds=2, tls=tls) == (
        200,
        "hello \N{REPLACEMENT CHARACTER}",
    )

    for body, text in (
        (b"busy \xff", "busy \N{REPLACEMENT CHARACTER}"),
        ("x" * 3000, "x" * kube.BEGINNING),
        (None, ""),
    ):
        refused = ApiException(status=503)
        refused.body = body
        client.responses = {path: refused}
        assert cluster.get_from_pod("shop-1", "default", 80, "/a?b=c", seconds=2, tls=tls) == (503, text)


def test_a_slow_pod_is_not_mistaken_for_an_unreachable_api(impatient: Cluster, client: FakeClient) -> None:
    path = "get /api/v1/namespaces/default/pods/shop-1:80/proxy/"
    client.responses = {path: MaxRetryError(None, "/", OSError("timed out")), "get": Response(kind="Node")}  # type: ignore[arg-type] # without a pool
    with pytest.raises(NotReadyError):
        impatient.get_from_pod("shop-1", "default", 80, "/", seconds=2)

    assert impatient.get("v1", "Node", "demo") == {"kind": "Node"}


def test_delete_returns_whether_the_object_existed(cluster: Cluster, client: FakeClient) -> None:
    assert cluster.delete("v1", "Service", "x", "default")

    client.responses = {"delete": _not_found()}
    assert not cluster.delete("v1", "Service", "x", "default")


@pytest.mark.parametrize(
    ("failure", "kind", "identity", "message"),
    [
        (
            _refused(500, 'failed calling webhook "x": refused'),
            NotReadyError,
            "webhook-not-ready",
            "IPAddressPool demo",
        ),
        (
            _refused(403, 'admission webhook "x" denied the request: Unauthorized\nfailed to get existing objects'),
            NotReadyError,
            "webhook-not-ready",
            "Unauthorized",
        ),
        (
            _refused(403, 'admission webhook "x" denied the request: the pool overlaps'),
            RefusedError,
            "kubernetes-refused",
            "overlaps",
        ),
        (_refused(422, "spec.addresses: Required"), RefusedError, "kubernetes-refused", "spec.addresses: Required"),
        (ApiException(status=403, reason="Forbidden"), RefusedError, "kubernetes-refused", "403 Forbidden"),
        (
            ApiException(status=0, reason="SSLError\n[SSL: CERTIFICATE_VERIFY_FAILED] expired"),
            RefusedError,
            "api-not-trusted",
            "VERIFY_FAILED. expired",
        ),
        (ConflictError(_refused(409, "it changed")), RefusedError, "kubernetes-refused", "it changed"),
        (_refused(500, "etcdserver: request timed out"), NotReadyError, "api-busy", "IPAddressPool demo: etcdserver"),
        (ResourceNotFoundError("no such kind"), NotReadyError, "kind-unknown", "IPAddressPool demo"),
        (MaxRetryError(None, "/", OSError("refused")), NotReadyError, "api-unreachable", "refused"),  # type: ignore[arg-type] # without a pool
    ],
)
def test_errors_of_the_client_are_translated(
    cluster: Cluster, client: FakeClient, failure: Exception, kind: type[LabError], identity: str, message: str
) -> None:
    client.responses = {"apply": failure, "get": _not_found()}

    acts: tuple[Callable[[], object], ...] = (lambda: cluster.accepts(POOL), lambda: cluster.apply([POOL]))
    for act in acts:
        with pytest.raises(kind, match=message) as raised:
            act()
        assert raised.value.id == identity


def test_an_unreachable_api_is_not_mistaken_for_a_missing_object(cluster: Cluster, client: FakeClient) -> None:
    client.responses = {"get": MaxRetryError(None, "/", OSError("refused"))}  # type: ignore[arg-type] # without a pool

    for act in (lambda: cluster.get("v1", "Node", "demo"), lambda: cluster.find("v1", "Node")):
        with pytest.raises(NotReadyError) as raised:
            act()
        assert raised.value.id == "api-unreachable"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            _http_error("MaxRetryError", "/", _http_error("NewConnectionError", "Failed: [Errno 111] refused")),
            "[Errno 111] refused",
        ),
        (_http_error("ReadTimeoutError", "/", "Read timed out. (read timeout=1.49)"), "Read timed out."),
        (_http_error("ConnectTimeoutError", "To 10.0.0.1 timed out. (connect timeout=3)"), "To 10.0.0.1 timed out."),
        (_http_error("MaxRetryError", "/", OSError(111, "refused")), "refused"),
        (_http_error("MaxRetryError", "/", OSError()), "OSError"),
    ],
)
def test_the_reason_for_an_unreachable_api_has_no_names_of_the_http_library(
    cluster: Cluster, client: FakeClient, error: Exception, message: str
) -> None:
    client.responses = {"get": error}
    with pytest.raises(NotReadyError) as raised:
        cluster.get("v1", "Node", "demo")

    assert raised.value.id == "api-unreachable"
    assert raised.value.message.partition(": ")[2] == message


@pytest.fixture
def impatient(cluster: Cluster, client: FakeClient) -> Cluster:
    impatient_cluster = cluster.impatient()
    impatient_cluster._cached_client = client
    return impatient_cluster


@pytest.mark.parametrize("is_patient", [True, False])
def test_an_impatient_cluster_does_not_repeat_requests_to_an_unreachable_api(
    cluster: Cluster, impatient: Cluster, client: FakeClient, *, is_patient: bool
) -> None:
    tested = cluster if is_patient else impatient
    client.responses = {"get": MaxRetryError(None, "/", OSError("refused"))}  # type: ignore[arg-type] # without a pool
    for act in (lambda: tested.get("v1", "Node", "demo"), lambda: tested.find("v1", "Node")):
        with pytest.raises(NotReadyError) as raised:
            act()
        assert raised.value.id == "api-unreachable"

    assert [act for act, _ in client.calls].count("get") == (2 if is_patient else 1)


def test_a_kubelet_without_a_log_is_not_mistaken_for_an_unreachable_api(impatient: Cluster, client: FakeClient) -> None:
    path = "get /api/v1/namespaces/default/pods/shop-1/log"
    client.responses = {path: MaxRetryError(None, "/", OSError("timed out")), "get": Response(kind="Node")}  # type: ignore[arg-type] # without a pool
    with pytest.raises(NotReadyError):
        impatient.log("shop-1", "default")

    assert impatient.get("v1", "Node", "demo") == {"kind": "Node"}


def test_every_request_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, object] = {}
    monkeypatch.setattr(DynamicClient, "__init__", lambda _self, _client, cache_file: None)  # noqa: ARG005 - as the real one
    monkeypatch.setattr(DynamicClient, "request", lambda _self, *_words, **options: arguments.update(options))

    kube._Limited(None, "/nowhere/cache", 1.5).request("get", "/apis")

    assert arguments == {"_request_timeout": 1.5}


@pytest.mark.parametrize(
    ("status", "refusals", "header", "sent", "identity"),
    [
        (429, 2, "Retry-After", 3, None),
        (429, 9, "Retry-After", 3, "api-busy"),
        (429, 9, "Server", 1, "kubernetes-refused"),
        (504, 2, "Server", 3, None),
        (500, 9, "Server", 1, "api-busy"),
    ],
)
def test_a_request_is_retried_for_a_while_if_the_api_server_asks_for_it(
    monkeypatch: pytest.MonkeyPatch,
    cluster: Cluster,
    status: int,
    refusals: int,
    header: str,
    sent: int,
    identity: str | None,
) -> None:
    failure, paths, slept = _refused(status, "storage is (re)initializing"), list[str](), list[float]()
    failure.headers = {header: "1"}

    def request(_self: object, _method: str, path: str, **_options: object) -> None:
        paths.append(path)
        if len(paths) <= refusals:
            raise DynamicApiError(failure)

    monkeypatch.setattr(DynamicClient, "__init__", lambda _self, _client, cache_file: None)  # noqa: ARG005 - as the real one
    monkeypatch.setattr(DynamicClient, "request", request)
    monkeypatch.setattr(kube, "until", partial(wait.until, clock=lambda: sum(slept), sleep=slept.append))
    cluster._cached_client = kube._Limited(None, "/nowhere/cache", seconds=1.5, patience=1.5)

    ended = None
    try:
        with cluster._translate_errors("GET /apis"):
            cluster._client().request("get", "/apis")
    except LabError as error:
        ended = error.id

    assert (len(paths), ended) == (sent, identity)


def test_an_api_with_an_untrusted_certificate_is_not_waited_for(cluster: Cluster, client: FakeClient) -> None:
    client.responses = {"get /readyz": ApiException(status=0, reason="SSLError: CERTIFICATE_VERIFY_FAILED")}

    with pytest.raises(RefusedError) as raised:
        cluster.is_up()

    assert raised.value.id == "api-not-trusted"


NOT_BASE64 = b"""\
clusters: [{name: c, cluster: {server: "https://192.168.56.10:6443", certificate-authority-data: abcde}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""


@pytest.mark.parametrize(
    "content",
    [
        *(None, b"", b"clusters: [", b"[]", b"\xff\xfe", b"clusters: []\n", b"contexts: 1\ncurrent-context: x\n"),
        *(b"[" * 600, NOT_BASE64),
    ],
)
def test_an_unusable_kubeconfig_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(MissingError, match=str(path)) as raised:
        Cluster(path).is_up()

    assert raised.value.id == "kubeconfig-unusable"


def test_a_full_disk_is_not_mistaken_for_an_unusable_kubeconfig(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_options: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    (tmp_path / "kubeconfig").write_bytes(NOT_BASE64.replace(b"abcde", b"YWJjZGVm"))

    with pytest.raises(MissingError, match=str(tmp_path)) as raised:
        Cluster(tmp_path / "kubeconfig").is_up()

    assert raised.value.id == "disk-full"


def test_a_truncated_discovery_cache_is_recreated_without_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(DynamicClient, "request", lambda *_words, **_options: SimpleNamespace(groups=[]))
    (tmp_path / "kubeconfig").write_text(json.dumps(_kubeconfig("demo")))
    (tmp_path / "discovery.json").write_text('{"library')

    Cluster(tmp_path / "kubeconfig")._client()

    assert capsys.readouterr().err == ""
    assert (tmp_path / "discovery.json").stat().st_size > len('{"library')


def test_the_labs_context_is_used_even_if_another_one_is_current(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(json.dumps(_kubeconfig("demo", "kind-x")))

    cluster = Cluster(tmp_path / "kubeconfig", context="demo")

    assert {each._api().configuration.host for each in (cluster, cluster.impatient())} == {"https://demo:6443"}
    with pytest.raises(MissingError, match="two"):
        Cluster(tmp_path / "kubeconfig", context="two").is_up()


def test_neither_the_machines_proxy_nor_retries_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    (tmp_path / "kubeconfig").write_text(json.dumps(_kubeconfig("demo")))

    settings = Cluster(tmp_path / "kubeconfig")._api().configuration

    assert (settings.host, settings.proxy, settings.retries) == ("https://demo:6443", None, False)


def _kubeconfig(*names: str) -> dict[str, object]:
    """Return a kubeconfig with these contexts, the last of which is the current one."""
    return {
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}:6443"}} for name in names],
        "users": [{"name": name, "user": {"token": "t"}} for name in names],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in names],
        "current-context": names[-1],
    }
