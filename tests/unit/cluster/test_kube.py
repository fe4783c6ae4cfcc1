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


class Answer:
    """A response of the client, which can be converted to a mapping."""

    def __init__(self, **fields: object) -> None:
        self.fields = fields

    def to_dict(self) -> dict[str, object]:
        return self.fields


class Client:
    """A fake of the client and of its only kind of resource: records every call, and raises configured errors."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, object] = {}
        self.resources = self

    def get(self, **asked: object) -> Any:  # noqa: ANN401 - a resource for a kind, else an object
        return self._answer("kind" if "kind" in asked else "get", asked)

    def server_side_apply(self, **asked: object) -> object:
        return self._answer("apply", asked)

    def delete(self, **asked: object) -> object:
        return self._answer("delete", asked)

    def request(self, method: str, path: str, **asked: object) -> object:
        return self._answer(f"{method} {path}", asked)

    def _answer(self, act: str, asked: dict[str, Any]) -> object:
        self.calls.append((act, asked))
        answer = self.answers.get(act, self)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def cluster(client: Client) -> Cluster:
    made = Cluster(Path("/nowhere/kubeconfig"))
    made._cached_client = client
    return made


def _pool(address: str, version: str) -> Answer:
    metadata = {"name": "demo", "resourceVersion": version, "managedFields": [version]}
    return Answer(metadata=metadata, spec={"addresses": [address]}, status={"seen": version})


def _silent(kind: str, *about: object) -> Exception:
    """Return an error of the HTTP library, without the connection that it would have."""
    made: Exception = getattr(exceptions, kind)(None, *about)
    return made


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
def test_an_apply_tells_which_objects_changed_and_bookkeeping_is_no_change(
    cluster: Cluster, client: Client, before: object, after: object, changed: list[str]
) -> None:
    client.answers = {"get": before, "apply": after}

    assert cluster.apply([POOL]) == changed


def test_an_apply_is_labctls_and_takes_back_what_others_changed(cluster: Cluster, client: Client) -> None:
    client.answers = {"get": _pool("a", "1"), "apply": _pool("a", "1")}

    cluster.apply([POOL])

    asked = next(asked for act, asked in client.calls if act == "apply")
    assert (asked["field_manager"], asked["force_conflicts"]) == ("labctl", True)
    assert (asked["name"], asked["namespace"], asked["body"]) == ("demo", "m", POOL)
    assert "dry_run" not in asked


def test_asking_if_an_object_is_accepted_writes_nothing(cluster: Cluster, client: Client) -> None:
    cluster.accepts(POOL)

    assert [asked["dry_run"] for act, asked in client.calls if act == "apply"] == ["All"]


def test_readiness_is_asked_for_where_the_api_tells_it(cluster: Cluster, client: Client) -> None:
    cluster.is_up()

    assert client.calls[0][0] == "get /readyz"


def test_an_object_is_a_mapping_and_an_absent_one_or_an_unknown_kind_is_none(cluster: Cluster, client: Client) -> None:
    client.answers = {"get": Answer(kind="Node")}
    assert cluster.get("v1", "Node", "demo") == {"kind": "Node"}

    client.answers = {"get": _not_found()}
    assert cluster.get("v1", "Node", "demo") is None

    client.answers = {"kind": ResourceNotFoundError("no such kind")}
    assert cluster.get("metallb.io/v1beta1", "IPAddressPool", "demo") is None


def test_a_list_is_chosen_by_labels_and_of_an_unknown_kind_it_is_empty(cluster: Cluster, client: Client) -> None:
    client.answers = {"get": Answer(items=[{"kind": "Pod"}])}
    assert cluster.find("v1", "Pod", "default", "app=x") == [{"kind": "Pod"}]
    assert client.calls[-1][1]["label_selector"] == "app=x"

    client.answers = {"kind": ResourceNotFoundError("no such kind")}
    assert cluster.find("metallb.io/v1beta1", "ServiceL2Status") == []

    client.answers = {"get": _not_found()}
    assert cluster.find("metallb.io/v1beta1", "ServiceL2Status") == [], "a kind that is gone, and that is remembered"


def test_a_list_can_be_chosen_by_fields(cluster: Cluster, client: Client) -> None:
    client.answers = {"get": Answer(items=[])}

    assert cluster.find("v1", "Event", "default", fields="type=Warning") == []
    assert client.calls[-1][1]["field_selector"] == "type=Warning"


@pytest.mark.parametrize(
    ("asked", "parameters"),
    [
        ({}, [("tailLines", kube.LOG_LINES)]),
        ({"container": "web"}, [("tailLines", kube.LOG_LINES), ("container", "web")]),
        (
            {"container": "web", "previous": True},
            [("tailLines", kube.LOG_LINES), ("container", "web"), ("previous", "true")],
        ),
    ],
)
def test_a_log_is_that_of_a_pod_or_of_one_of_its_containers_or_of_its_last_run(
    cluster: Cluster, client: Client, asked: dict[str, Any], parameters: list[tuple[str, object]]
) -> None:
    path = "get /api/v1/namespaces/default/pods/shop-1/log"
    client.answers = {path: SimpleNamespace(data=b"said \xff\n")}

    assert cluster.log("shop-1", "default", **asked) == "said \N{REPLACEMENT CHARACTER}\n"
    assert client.calls == [(path, client.calls[0][1])]
    assert client.calls[0][1]["query_params"] == parameters

    client.answers = {path: _not_found()}
    assert cluster.log("shop-1", "default", **asked) == ""


@pytest.mark.parametrize(("tls", "target"), [(False, "shop-1:80"), (True, "https:shop-1:80")])
def test_a_pod_is_asked_by_way_of_the_api(cluster: Cluster, client: Client, tls: bool, target: str) -> None:  # noqa: FBT001 - a column of the table
    path = f"get /api/v1/namespaces/default/pods/{target}/proxy/a?b=c"
    client.answers = {path: SimpleNamespace(status=200, read=lambda _size: b"hello \xff", close=lambda: None)}
    assert cluster.ask_pod("shop-1", "default", 80, "/a?b=c", seconds=2, tls=tls) == (
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
        client.answers = {path: refused}
        assert cluster.ask_pod("shop-1", "default", 80, "/a?b=c", seconds=2, tls=tls) == (503, text)


def test_a_pod_that_keeps_the_api_waiting_is_not_taken_for_a_silent_api(impatient: Cluster, client: Client) -> None:
    path = "get /api/v1/namespaces/default/pods/shop-1:80/proxy/"
    client.answers = {path: MaxRetryError(None, "/", OSError("timed out")), "get": Answer(kind="Node")}  # type: ignore[arg-type] # without a pool
    with pytest.raises(NotReadyError):
        impatient.ask_pod("shop-1", "default", 80, "/", seconds=2)

    assert impatient.get("v1", "Node", "demo") == {"kind": "Node"}


def test_a_delete_says_whether_there_was_something(cluster: Cluster, client: Client) -> None:
    assert cluster.delete("v1", "Service", "x", "default")

    client.answers = {"delete": _not_found()}
    assert not cluster.delete("v1", "Service", "x", "default")


@pytest.mark.parametrize(
    ("failure", "kind", "identity", "told"),
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
def test_the_clients_failures_become_labctls(
    cluster: Cluster, client: Client, failure: Exception, kind: type[LabError], identity: str, told: str
) -> None:
    client.answers = {"apply": failure, "get": _not_found()}

    acts: tuple[Callable[[], object], ...] = (lambda: cluster.accepts(POOL), lambda: cluster.apply([POOL]))
    for act in acts:
        with pytest.raises(kind, match=told) as raised:
            act()
        assert raised.value.id == identity


def test_an_api_that_does_not_answer_is_not_taken_for_an_absent_object(cluster: Cluster, client: Client) -> None:
    client.answers = {"get": MaxRetryError(None, "/", OSError("refused"))}  # type: ignore[arg-type] # without a pool

    for act in (lambda: cluster.get("v1", "Node", "demo"), lambda: cluster.find("v1", "Node")):
        with pytest.raises(NotReadyError) as raised:
            act()
        assert raised.value.id == "api-unreachable"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            _silent("MaxRetryError", "/", _silent("NewConnectionError", "Failed: [Errno 111] refused")),
            "[Errno 111] refused",
        ),
        (_silent("ReadTimeoutError", "/", "Read timed out. (read timeout=1.49)"), "Read timed out."),
        (_silent("ConnectTimeoutError", "To 10.0.0.1 timed out. (connect timeout=3)"), "To 10.0.0.1 timed out."),
        (_silent("MaxRetryError", "/", OSError(111, "refused")), "refused"),
        (_silent("MaxRetryError", "/", OSError()), "OSError"),
    ],
)
def test_why_an_api_does_not_answer_is_told_without_the_clients_own_names(
    cluster: Cluster, client: Client, error: Exception, told: str
) -> None:
    client.answers = {"get": error}
    with pytest.raises(NotReadyError) as raised:
        cluster.get("v1", "Node", "demo")

    assert raised.value.id == "api-unreachable"
    assert raised.value.message.partition(": ")[2] == told


@pytest.fixture
def impatient(cluster: Cluster, client: Client) -> Cluster:
    made = cluster.impatient()
    made._cached_client = client
    return made


@pytest.mark.parametrize("is_patient", [True, False])
def test_an_impatient_door_asks_an_api_that_gave_no_answer_no_more(
    cluster: Cluster, impatient: Cluster, client: Client, *, is_patient: bool
) -> None:
    asked = cluster if is_patient else impatient
    client.answers = {"get": MaxRetryError(None, "/", OSError("refused"))}  # type: ignore[arg-type] # without a pool
    for act in (lambda: asked.get("v1", "Node", "demo"), lambda: asked.find("v1", "Node")):
        with pytest.raises(NotReadyError) as raised:
            act()
        assert raised.value.id == "api-unreachable"

    assert [act for act, _ in client.calls].count("get") == (2 if is_patient else 1)


def test_a_kubelet_that_gives_no_log_is_not_taken_for_a_silent_api(impatient: Cluster, client: Client) -> None:
    path = "get /api/v1/namespaces/default/pods/shop-1/log"
    client.answers = {path: MaxRetryError(None, "/", OSError("timed out")), "get": Answer(kind="Node")}  # type: ignore[arg-type] # without a pool
    with pytest.raises(NotReadyError):
        impatient.log("shop-1", "default")

    assert impatient.get("v1", "Node", "demo") == {"kind": "Node"}


def test_every_request_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}
    monkeypatch.setattr(DynamicClient, "__init__", lambda _self, _client, cache_file: None)  # noqa: ARG005 - as the real one
    monkeypatch.setattr(DynamicClient, "request", lambda _self, *_words, **options: asked.update(options))

    kube._Limited(None, "/nowhere/cache", 1.5).request("get", "/apis")

    assert asked == {"_request_timeout": 1.5}


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
def test_a_request_that_the_api_server_asks_to_repeat_is_repeated_for_a_while(
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


def test_an_api_with_a_foreign_certificate_is_not_waited_for(cluster: Cluster, client: Client) -> None:
    client.answers = {"get /readyz": ApiException(status=0, reason="SSLError: CERTIFICATE_VERIFY_FAILED")}

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


def test_a_full_disk_is_not_taken_for_an_unusable_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_options: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    (tmp_path / "kubeconfig").write_bytes(NOT_BASE64.replace(b"abcde", b"YWJjZGVm"))

    with pytest.raises(MissingError, match=str(tmp_path)) as raised:
        Cluster(tmp_path / "kubeconfig").is_up()

    assert raised.value.id == "disk-full"


def test_a_cache_that_was_cut_off_is_made_anew_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(DynamicClient, "request", lambda *_words, **_options: SimpleNamespace(groups=[]))
    (tmp_path / "kubeconfig").write_text(json.dumps(_kubeconfig("demo")))
    (tmp_path / "discovery.json").write_text('{"library')

    Cluster(tmp_path / "kubeconfig")._client()

    assert capsys.readouterr().err == ""
    assert (tmp_path / "discovery.json").stat().st_size > len('{"library')


def test_the_context_is_the_labs_whichever_another_program_has_made_the_current_one(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(json.dumps(_kubeconfig("demo", "kind-x")))

    cluster = Cluster(tmp_path / "kubeconfig", context="demo")

    assert {each._api().configuration.host for each in (cluster, cluster.impatient())} == {"https://demo:6443"}
    with pytest.raises(MissingError, match="two"):
        Cluster(tmp_path / "kubeconfig", context="two").is_up()


def test_the_proxy_of_this_machine_and_retries_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
