"""Stand-ins for upstream's servers on this machine: a registry with images under their upstream names, and a web server.

Both are filled from a bundle that labctl built; the recipe that goes with them names what that bundle has.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import http.server
import json
import os
import socket
import ssl
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import BinaryIO

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from labctl.bundle import Bundle
from labctl.bundle.download import recipe as recipes
from labctl.host.wait import Pending, until
from labctl.transfer import mirrors, reference
from labctl.transfer.manifests import OCI_MANIFEST
from labctl.transfer.registry import Manifest, Registry

LOOPBACK = "127.0.0.1"
REGISTRIES = ("registry.k8s.io", "docker.io", "quay.io")
WEB = ("dl.k8s.io", "raw.githubusercontent.com")
OTHER_TAGS = {"labctl.local/pause": "registry.k8s.io/pause", "labctl.local/nginx": "docker.io/library/nginx"}
"""Images that a built bundle has under names of its own, and what upstream calls their like."""
LEFT_OUT = "ingress-nginx"
"""What no bundle that is built can have."""
REGISTRY_SECONDS = 20.0


@dataclass
class WebServer:
    """A web server that serves a folder, and notes what it was asked for."""

    folder: Path
    url: str = ""
    asked: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StandIns:
    """Where the stand-ins are, the recipe of what they have, and what labctl must have in its environment."""

    recipe: Path
    environment: Mapping[str, str]
    web: WebServer


@contextmanager
def stand_ins(bundle: Bundle, folder: Path) -> Iterator[StandIns]:
    """Serve the content of a built bundle as upstream does."""
    with ExitStack() as stack:
        registry = stack.enter_context(docker_registry(folder / "registry"))
        certificate, key = self_signed(folder)
        web = stack.enter_context(web_server(folder / "web", certificate, key))
        recipe = fill(bundle, folder, registry)
        table = {**dict.fromkeys(REGISTRIES, registry), **dict.fromkeys(WEB, web.url)}
        environment = {
            mirrors.ENVIRONMENT: ",".join(f"{host}={url}" for host, url in table.items()),
            "SSL_CERT_FILE": str(_trusted(certificate)),
        }
        yield StandIns(recipe, environment, web)


def fill(bundle: Bundle, folder: Path, registry: str) -> Path:
    """Put what a bundle has where upstream would publish it; return a recipe of it, with what can be pinned pinned."""
    own = yaml.safe_load(recipes.OWN.read_bytes())
    carried = {recipes.repository(image.reference): image.archive for image in bundle.images}
    carried |= {name: carried[ours] for ours, name in OTHER_TAGS.items() if ours in carried}
    own["name"] = "stand-ins"
    for key, word in (("images", "reference"), ("manifests", "path")):
        own[key] = [row for row in own[key] if LEFT_OUT not in row[word]]
    for row in own["images"]:
        filled = row["reference"].format_map(own["versions"])
        digest = push(bundle.path(carried[recipes.repository(filled)]), filled, registry)
        if "traefik" in filled:  # one is pinned, as users pin what they have looked at
            row["reference"] = f"{filled}@{digest}"
    for row in (*own["binaries"], *own["manifests"]):
        url = row["url"].format_map({**own["versions"], "architecture": bundle.architecture})
        target = folder / "web" / url.split("/", 3)[3]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(bundle.path(row["path"]))
        if "sha256" not in row:
            checksum = hashlib.sha256(target.read_bytes()).hexdigest()
            target.with_name(f"{target.name}.sha256").write_text(checksum, encoding="ascii")
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(own), encoding="utf-8")
    return path


def push(archive: Path, text: str, registry: str) -> str:
    """Push the image in an archive of a bundle under another reference; return its digest."""
    client = Registry(mirrors.of(dict.fromkeys(REGISTRIES, registry), ""), _ignore)
    target = reference.parse(text)
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        blobs = Path(scratch, "blobs", "sha256")
        [described] = json.loads(Path(scratch, "index.json").read_bytes())["manifests"]
        content = (blobs / described["digest"].removeprefix("sha256:")).read_bytes()
        manifest = json.loads(content)
        for blob in (manifest["config"], *manifest["layers"]):
            client.upload(target, blob["digest"], blobs / blob["digest"].removeprefix("sha256:"), _ignore)
    client.put_manifest(target, Manifest(described["digest"], OCI_MANIFEST, content))
    return str(described["digest"])


@contextmanager
def docker_registry(folder: Path) -> Iterator[str]:
    """Run Debian's docker-registry on a free port of this machine; yield its address."""
    folder.mkdir(parents=True)
    with socket.create_server((LOOPBACK, 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"{LOOPBACK}:{port}"},
    }
    file = folder / "config.yml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    with (folder / "log").open("wb") as log, _process(["docker-registry", "serve", str(file)], log) as process:
        until(
            functools.partial(_answers, process, port),
            what=f"docker-registry, whose log is {folder / 'log'}",
            timeout=REGISTRY_SECONDS,
        )
        yield f"http://{LOOPBACK}:{port}"


@contextmanager
def web_server(folder: Path, certificate: Path | None = None, key: Path | None = None) -> Iterator[WebServer]:
    """Serve the files in a folder on a free port of this machine, over TLS with a certificate.

    Below `v2/` it is a registry that images can be pulled from.
    """
    server = WebServer(folder)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append(self.path)
            super().do_GET()

        def guess_type(self, path: str | os.PathLike[str]) -> str:
            if Path(path).relative_to(folder).parts[0] != "v2" or Path(path).parent.name != "manifests":
                return "application/octet-stream"
            return str(json.loads(Path(path).read_bytes())["mediaType"])  # as registries say

        def log_message(self, *_words: object) -> None:
            pass

    folder.mkdir(parents=True, exist_ok=True)
    with http.server.ThreadingHTTPServer((LOOPBACK, 0), functools.partial(Handler, directory=str(folder))) as listening:
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            listening.socket = context.wrap_socket(listening.socket, server_side=True)
        server.url = f"{'https' if certificate else 'http'}://{LOOPBACK}:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for this machine's loopback address, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stand-ins of upstream")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(LOOPBACK))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def _trusted(certificate: Path) -> Path:
    """Write the certificates that this machine trusts, and one more, to a file of their own."""
    system = ssl.get_default_verify_paths().cafile
    trusted = certificate.with_name("trusted.pem")
    trusted.write_bytes((Path(system).read_bytes() if system else b"") + certificate.read_bytes())
    return trusted


@contextmanager
def _process(line: list[str], log: BinaryIO) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(line, stdout=log, stderr=log) as process:
        try:
            yield process
        finally:
            process.terminate()


def _answers(process: subprocess.Popen[bytes], port: int) -> Pending | None:
    assert process.poll() is None, f"docker-registry ended with exit code {process.returncode}"
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
    except OSError as error:
        return Pending(str(error))
    return None


def _ignore(_text: str) -> None:
    pass
