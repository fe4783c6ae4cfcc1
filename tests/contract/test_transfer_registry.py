"""The registry client, with Debian's docker-registry (TLS and a password) and with doubles that inject faults."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from certificates_for import self_signed
from docker_registry import DockerRegistry, log_in, running
from fault_server import Fault, Request, serving
from upload_registry import uploading

from labctl.bundle.layout import Artefact
from labctl.bundle.oci.push import push
from labctl.model.errors import LabError
from labctl.transfer import credentials, manifests, mirrors, pools, retries
from labctl.transfer.documents import (
    IMAGE_CONFIG,
    IMAGE_INDEX,
    IMAGE_LAYER,
    IMAGE_MANIFEST,
    Document,
    image_manifest,
    serialise,
)
from labctl.transfer.fetch import fetch
from labctl.transfer.manifests import ImageManifest
from labctl.transfer.reference import Reference, parse
from labctl.transfer.registry import Registry
from labctl.transfer.store import Blob, BlobStore, digest_of

MIB = 1 << 20
REFERENCE = parse("reg.test/labs/kubernetes:v1")


@pytest.fixture(autouse=True)
def _quick_and_without_a_users_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(retries, "PAUSES", (0.01, 0.02))
    monkeypatch.setattr(pools, "READ_SECONDS", 2.0)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    with running(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def trusted(debian: DockerRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DockerRegistry:
    """The registry, with a user who trusts its certificate and has logged in."""
    monkeypatch.setenv("SSL_CERT_FILE", str(debian.certificate))
    log_in(tmp_path, debian.host)
    return debian


def _registry(base: str) -> Registry:
    return Registry(mirrors.parse_mirrors({"reg.test": base}, ""), _ignore)


def _ignore(_text: str) -> None:
    pass


def _error_id(act: Callable[[], object]) -> str:
    with pytest.raises(LabError) as failed:
        act()
    return failed.value.id


def _file(folder: Path, content: bytes) -> tuple[Path, Blob]:
    path = folder / hashlib.sha256(content).hexdigest()[:12]
    path.write_bytes(content)
    return path, Blob(digest_of(path), len(content))


def _manifest(config: Blob, layers: tuple[Blob, ...]) -> Document:
    return image_manifest(
        (IMAGE_CONFIG, config.digest, config.size), [(IMAGE_LAYER, layer.digest, layer.size) for layer in layers]
    )


def _index(**manifests_by_architecture: Document) -> Document:
    listed = [
        each.descriptor(platform={"os": "linux", "architecture": architecture})
        for architecture, each in manifests_by_architecture.items()
    ]
    return serialise(IMAGE_INDEX, {"manifests": listed})


def _push(registry: Registry, folder: Path, architecture: str, *layers: bytes) -> ImageManifest:
    """Push an image, without blobs that exist already, and return it."""
    config = json.dumps({"os": "linux", "architecture": architecture}).encode()
    files = [_file(folder, content) for content in (config, *layers)]
    for path, blob in files:
        if not registry.has_blob(REFERENCE, blob.digest):
            registry.upload(REFERENCE, blob.digest, path, _ignore)
    blobs = [blob for _, blob in files]
    manifest = _manifest(blobs[0], tuple(blobs[1:]))
    registry.put_manifest(Reference(REFERENCE.host, REFERENCE.repository, architecture), manifest)
    return manifests.image(REFERENCE, manifest)


def test_a_pushed_image_can_be_pulled(trusted: DockerRegistry, tmp_path: Path) -> None:
    layers = os.urandom(2 * MIB), os.urandom(MIB)
    pushing = _registry(f"https://{trusted.host}/class")
    amd64, arm64 = (_push(pushing, tmp_path, name, *layers) for name in ("amd64", "arm64"))
    tagged = [pushing.manifest(parse(f"reg.test/labs/kubernetes:{name}")) for name in ("amd64", "arm64")]
    pushing.put_manifest(REFERENCE, _index(amd64=tagged[0], arm64=tagged[1]))
    registry = _registry(f"https://{trusted.host}/class")

    assert registry.image(REFERENCE, "amd64") == amd64
    assert registry.image(REFERENCE, "arm64") == arm64
    assert _error_id(lambda: registry.image(REFERENCE, "riscv64")) == "architecture-missing"
    assert registry.image(parse("reg.test/labs/kubernetes:amd64"), "arm64") == amd64  # it is in no index
    assert _error_id(lambda: registry.manifest(parse("reg.test/labs/kubernetes:v9"))) == "tag-not-found"
    assert _error_id(lambda: registry.manifest(parse(f"reg.test/labs/kubernetes@sha256:{'0' * 64}"))) == "tag-not-found"
    assert _error_id(lambda: registry.manifest(parse("reg.test/labs/kubernetes"))) == "reference-without-tag"
    store = BlobStore(tmp_path / "blobs")
    assert fetch([registry.wanted(REFERENCE, layer) for layer in amd64.layers], store, _ignore) == amd64.layers
    assert [store.path(layer.digest).read_bytes() for layer in amd64.layers] == list(layers)


def test_an_image_is_pulled_from_a_nested_index(trusted: DockerRegistry, tmp_path: Path) -> None:
    registry = _registry(f"https://{trusted.host}/nested")
    amd64, arm64 = (_push(registry, tmp_path, name, name.encode()) for name in ("amd64", "arm64"))
    images = [registry.manifest(parse(f"reg.test/labs/kubernetes:{name}")) for name in ("amd64", "arm64")]
    statement = image_manifest((IMAGE_CONFIG, amd64.config.digest, amd64.config.size), [])
    about = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": amd64.digest}
    inner = [
        serialise(IMAGE_INDEX, {"manifests": [statement.descriptor(annotations=about), image.descriptor()]})
        for image in images
    ]
    attested = serialise(IMAGE_INDEX, {"manifests": [each.descriptor() for each in inner]})
    platforms = [{"os": "linux", "architecture": name} for name in ("amd64", "arm64")]
    described = [each.descriptor(platform=platform) for each, platform in zip(inner, platforms, strict=True)]
    unknown = {"os": "unknown", "architecture": "unknown"}
    named = serialise(IMAGE_INDEX, {"manifests": [statement.descriptor(platform=unknown), *described]})
    for document in (statement, *inner, attested, named):
        registry.put_manifest(Reference(REFERENCE.host, REFERENCE.repository), document)

    for index in (attested, named):
        reference = Reference(REFERENCE.host, REFERENCE.repository, None, index.digest)
        image = partial(_registry(f"https://{trusted.host}/nested").image, reference)
        assert [image("arm64"), image("amd64")] == [arm64, amd64]
        assert _error_id(partial(image, "riscv64")) == "architecture-missing"


def test_a_wrong_or_missing_password_is_an_error(trusted: DockerRegistry, tmp_path: Path) -> None:
    path, blob = _file(tmp_path, b"layer")

    def pull_and_push() -> list[str]:
        registry = _registry(f"https://{trusted.host}")
        return [
            _error_id(lambda: registry.manifest(REFERENCE)),
            _error_id(lambda: registry.upload(REFERENCE, blob.digest, path, _ignore)),
        ]

    log_in(tmp_path, trusted.host, "wrong")
    assert pull_and_push() == ["login-refused"] * 2
    (tmp_path / "config.json").unlink()
    assert pull_and_push() == ["login-needed"] * 2


def test_a_registry_crash_is_an_error_and_a_repeated_push_succeeds(trusted: DockerRegistry, tmp_path: Path) -> None:
    path, blob = _file(tmp_path, os.urandom(8 * MIB))
    registry = _registry(f"https://{trusted.host}")
    assert registry.has_blob(REFERENCE, blob.digest) is False
    dying = threading.Event()

    def die(_text: str) -> None:
        if not dying.is_set():
            dying.set()
            trusted.kill()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labctl.transfer.meter.EVERY_SECONDS", 0.0)
        identity = _error_id(lambda: registry.upload(REFERENCE, blob.digest, path, die))
    assert identity in {"source-unreachable", "source-cut-off"}
    trusted.start()

    assert registry.has_blob(REFERENCE, blob.digest) is False
    registry.upload(REFERENCE, blob.digest, path, _ignore)
    assert registry.has_blob(REFERENCE, blob.digest)


@pytest.mark.parametrize(
    ("cuts", "answers", "received"),
    [
        ([], "yes", 1.0),
        ([MIB // 2, MIB // 4], "yes", 1.0),
        ([MIB // 2], "no", 1.5),
        ([MIB // 2], "one more", 1.5),
        ([MIB // 2], "refused", 1.5),
        ([MIB // 2], "lossy", 2.0),
        ([MIB // 2], "busy", 1.0),
        ([0], "yes", 1.0),
    ],
)
def test_an_upload_resumes_at_the_offset_of_the_registry(
    tmp_path: Path, cuts: list[int], answers: str, received: float
) -> None:
    path, blob = _file(tmp_path, os.urandom(MIB))
    with uploading() as double:
        double.cuts, double.can_resume, double.counts_one_more = cuts, answers != "no", answers == "one more"
        double.rest, double.drops, double.limits = 400 * (answers == "refused"), answers == "lossy", answers == "busy"
        _registry(double.url).upload(parse("reg.test/lab"), blob.digest, path, _ignore)

        assert double.blobs == {blob.digest: path.read_bytes()}
        assert double.received == received * MIB


@pytest.mark.parametrize("kind", ["", "text/html; charset=utf-8"])
def test_an_upload_uses_one_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path, blob = _file(tmp_path, os.urandom(MIB))
    monkeypatch.setattr(pools, "READ_SECONDS", 0.2)
    with uploading() as double:
        double.kind, double.delay = kind, 0.4
        _registry(double.url).upload(parse("reg.test/lab"), blob.digest, path, _ignore)

        assert (list(double.blobs), double.connections) == ([blob.digest], 1)


def test_a_failed_upload_leaves_nothing_and_succeeds_when_repeated(tmp_path: Path) -> None:
    path, blob = _file(tmp_path, os.urandom(MIB))
    with uploading() as double:
        registry = _registry(double.url)
        push = partial(registry.upload, parse("reg.test/lab"), blob.digest, path, _ignore)
        double.flips = True
        assert _error_id(push) == "digest-mismatch"
        double.flips, double.cuts = False, [0] * 3
        assert _error_id(push) == "source-cut-off"
        assert double.blobs == {}
        double.loses_response = True
        push()
        assert double.blobs == {blob.digest: path.read_bytes()}


def test_content_is_sent_again_completely_after_a_challenge(tmp_path: Path) -> None:
    path, blob = _file(tmp_path, os.urandom(MIB))
    with uploading() as double:
        log_in(tmp_path, double.url.partition("://")[2])
        double.refusals = 1
        _registry(double.url).upload(parse("reg.test/lab"), blob.digest, path, _ignore)

        assert double.blobs == {blob.digest: path.read_bytes()}
        assert [bool(each) for each in double.secrets] == [False, True]


@pytest.mark.parametrize("has_tls", [True, False])
def test_a_response_that_arrives_before_all_content_is_sent_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    has_tls: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    path, blob = _file(tmp_path, os.urandom(16 * MIB))
    certificate = self_signed(tmp_path) if has_tls else None
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.crt"))
    with uploading(certificate) as double:
        log_in(tmp_path, double.url.partition("://")[2])
        push = partial(_registry(double.url).upload, parse("reg.test/lab"), blob.digest, path, _ignore)
        double.early = [413]
        assert _error_id(push) == "source-refused"
        double.early = [401]
        push()

        assert list(double.blobs) == [blob.digest]
        assert [bool(each) for each in double.secrets] == [False, False, True]


@pytest.mark.parametrize("is_named", [True, False])
def test_a_login_is_sent_only_to_its_registry(tmp_path: Path, is_named: bool) -> None:  # noqa: FBT001 - a parameter
    path, blob = _file(tmp_path, os.urandom(MIB))
    with uploading() as target, uploading() as named:
        hosts = [each.url.partition("://")[2] for each in (target, named)]
        log_in(tmp_path, hosts[0])
        target.requires_login, target.redirect = True, named.url
        table = {"reg.test": target.url, **({"other.test": named.url} if is_named else {})}
        upload = partial(
            Registry(mirrors.parse_mirrors(table, ""), _ignore).upload, parse("reg.test/lab"), blob.digest, path
        )

        if is_named:
            upload(_ignore)
            assert (list(named.blobs), [bool(each) for each in named.secrets]) == ([blob.digest], [False])
        else:
            assert _error_id(lambda: upload(_ignore)) == "plain-http-refused"
            assert (named.requests, named.secrets) == ([], [])


def test_a_push_requests_push_access_with_its_first_token(tmp_path: Path) -> None:
    nothing = Artefact("none", "amd64", Document(IMAGE_MANIFEST, b"{}"), {}, ())
    with serving() as server:
        server.login = tokens = Tokens(server.url, lambda _request: True)
        push_nothing = partial(push, nothing, parse("reg.test/lab:v1"), _registry(server.url), tmp_path, _ignore)
        assert _error_id(push_nothing) == "source-failing"  # the server accepts no manifests

    scopes = [parse_qs(urlsplit(request.path).query)["scope"] for request in tokens.granted]
    assert scopes == [["repository:lab:pull,push"]]


class Tokens:
    """A token server for known users; each token is valid for two requests."""

    def __init__(self, url: str, accepts: Callable[[Request], bool]) -> None:
        self.realm = f"{url}/token"
        self.accepts = accepts
        self.granted: list[Request] = []
        self.uses = 0

    def __call__(self, request: Request) -> Fault | None:
        """Return the response to a token request or an unauthorised request, or None to accept the request."""
        if request.path.startswith("/token"):
            self.granted.append(request)
            self.uses = 2
            if not self.accepts(request):
                return Fault(status=401)
            return Fault(body=json.dumps({"token": f"t{len(self.granted)}", "expires_in": 300}).encode())
        if request.headers.get("Authorization") == f"Bearer t{len(self.granted)}" and self.uses:
            self.uses -= 1
            return None
        challenge = f'Bearer realm="{self.realm}",service="reg.test",scope="repository:lab:pull"'
        return Fault(status=401, headers={"WWW-Authenticate": challenge})


@pytest.mark.parametrize(
    ("config", "accepts"),
    [
        ({}, lambda request: request.method == "GET" and "Authorization" not in request.headers),
        ({"username": "me", "password": "hush"}, lambda request: request.headers["Authorization"].startswith("Basic ")),
        (
            {"identitytoken": "hush"},
            lambda request: request.method == "POST" and "Authorization" not in request.headers,
        ),
    ],
)
def test_tokens_are_requested_reused_and_renewed(
    tmp_path: Path, config: dict[str, str], accepts: Callable[[Request], bool]
) -> None:
    with serving() as server:
        server.login = tokens = Tokens(server.url, accepts)
        (tmp_path / "config.json").write_text(json.dumps({"auths": {server.host: config}}))
        layers = [b"layer %d" % number for number in range(4)]
        manifest = _manifest(Blob(server.put("/v2/lab/blobs/config", b"{}"), 2), ())
        server.put("/v2/lab/manifests/v1", manifest.content, IMAGE_MANIFEST)
        registry, reference = _registry(server.url), parse("reg.test/lab:v1")

        assert registry.manifest(reference) == manifest
        wanted = []
        for layer in layers:
            digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
            server.put(f"/v2/lab/blobs/{digest}", layer)
            wanted.append(registry.wanted(reference, Blob(digest, len(layer))))
        for each in wanted:
            fetch([each], BlobStore(tmp_path / "blobs"), _ignore)

        assert len(tokens.granted) == 3
        if "identitytoken" not in config:
            assert parse_qs(urlsplit(tokens.granted[0].path).query)["scope"] == ["repository:lab:pull"]


NO_TOKEN = (
    b"[]",
    b"{}",
    b'{"token": ["t"]}',
    b'{"token": "t\\nX: y"}',
    b'{"token": "\xc3\xa9"}',
    b'{"token": "t", "expires_in": 1%s}' % (b"0" * 400),
)


@pytest.mark.parametrize("answer", NO_TOKEN)
def test_a_response_without_a_token_is_an_error(answer: bytes) -> None:
    with serving() as server:
        server.put("/token", answer)
        challenge = f'Bearer realm="{server.url}/token"'
        server.always["/v2/lab/manifests/v1"] = Fault(status=401, headers={"WWW-Authenticate": challenge})
        assert _error_id(lambda: _registry(server.url).manifest(parse("reg.test/lab:v1"))) == "token-not-given"


INVALID = {
    "no JSON": b"layer",
    "a list": b"[]",
    "no layers": b'{"config": {}}',
    "no digest": b'{"layers": [{"digest": "md5:0", "size": 1}], "config": {}}',
    "two in one": b'{"manifests": [], "layers": [], "config": {"digest": "sha256:%s", "size": 1}}' % (b"0" * 64),
    "a page": b"<!doctype html><p>Log in</p>",
}


@pytest.mark.parametrize("content", INVALID.values(), ids=INVALID)
def test_an_invalid_manifest_is_refused(content: bytes) -> None:
    with serving() as server:
        server.put("/v2/lab/manifests/v1", content, IMAGE_MANIFEST)
        expected = "captive-portal" if b"html" in content else "manifest-invalid"
        assert _error_id(lambda: _registry(server.url).manifest(parse("reg.test/lab:v1"))) == expected
        server.put("/v2/lab/manifests/v1", b'{"schemaVersion": 1}', "application/json")
        assert _error_id(lambda: _registry(server.url).manifest(parse("reg.test/lab:v1"))) == "manifest-invalid"
        other = parse(f"reg.test/lab@sha256:{'0' * 64}")
        server.put(f"/v2/lab/manifests/{other.digest}", content, IMAGE_MANIFEST)
        assert _error_id(lambda: _registry(server.url).manifest(other)) in {"digest-mismatch", "captive-portal"}


def test_a_captive_portal_has_no_blob() -> None:
    with serving() as server:
        server.put("/v2/lab/blobs/sha256:0", b"Log in", "text/html")
        assert _error_id(lambda: _registry(server.url).has_blob(parse("reg.test/lab"), "sha256:0")) == "captive-portal"


HELPERS = {
    "user": ('cat >&2; echo \'{"Username": "me", "Secret": "hush"}\'', ("me", "hush", "")),
    "token": ('echo \'{"Username": "<token>", "Secret": "hush"}\'', ("", "", "hush")),
    "unknown": ("echo credentials not found in native keychain; exit 1", None),
    "locked": ("echo the keychain is locked; exit 1", "credential-helper-failed"),
    "confused": ("echo '[]'", "credential-helper-failed"),
    "hanging": ("exec sleep 60", "credential-helper-failed"),
    "missing": (None, "credential-helper-failed"),
}


@pytest.mark.parametrize(("script", "expected"), HELPERS.values(), ids=HELPERS)
@pytest.mark.parametrize(
    ("host", "config"),
    [
        ("quay.io", {"credsStore": "x"}),
        ("quay.io", {"credHelpers": {"quay.io": "x"}, "credsStore": "none"}),
        ("registry-1.docker.io", {"credHelpers": {"docker.io": "x"}, "credsStore": "none"}),
    ],
)
def test_a_credential_helper_is_used(
    script: str | None,
    expected: tuple[str, str, str] | str | None,
    host: str,
    config: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"quay.io": {}}, **config}))
    helper = tmp_path / "docker-credential-x"
    if script:
        helper.write_text(f'#!/bin/sh\n[ "$1" = get ] || exit 3\n{script}\n')
        helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(credentials, "HELPER_SECONDS", 0.3)

    if isinstance(expected, str):
        assert _error_id(lambda: credentials.lookup(host)) == expected
    else:
        login = credentials.lookup(host)
        assert (login and (login.user, login.password, login.identity_token)) == expected


def test_a_failed_helper_is_named_if_a_login_is_needed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "nowhere"}))
    with serving() as server:
        server.always["/v2/lab/manifests/v1"] = Fault(status=401, headers={"WWW-Authenticate": "Basic"})
        with pytest.raises(LabError) as failed:
            _registry(server.url).manifest(parse("reg.test/lab:v1"))

    assert failed.value.id == "login-needed"
    assert "docker-credential-nowhere" in failed.value.details[-1]
