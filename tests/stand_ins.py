"""Local stand-ins for upstream's servers: a registry with images under their upstream names, and a web server.

Both serve the contents of a bundle that labctl built, and come with a recipe for those contents.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import ssl
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from certificates_for import self_signed
from docker_registry import DockerRegistry, running
from fault_server import LOOPBACK, listening

from labctl.bundle import Bundle
from labctl.bundle.download import recipe as recipes
from labctl.transfer import mirrors, reference
from labctl.transfer.documents import IMAGE_MANIFEST, Document
from labctl.transfer.registry import Registry

REGISTRIES = ("registry.k8s.io", "docker.io", "quay.io")
WEB = ("dl.k8s.io", "raw.githubusercontent.com")
OTHER_TAGS = {"labctl.local/pause": "registry.k8s.io/pause", "labctl.local/nginx": "docker.io/library/nginx"}
"""Images that a built bundle has under labctl's own names, and upstream's names of the same programs."""
LEFT_OUT = "ingress-nginx"
"""An image that no built bundle contains."""


@dataclass
class WebServer:
    """A web server that serves a folder and records the requested paths."""

    folder: Path
    url: str = ""
    requests: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StandIns:
    """The servers, the recipe of their contents, and the environment in which labctl uses them."""

    recipe: Path
    environment: Mapping[str, str]
    web: WebServer
    registry: DockerRegistry

    @property
    def request_count(self) -> int:
        """The number of requests to both servers."""
        return len(self.web.requests) + self.registry.request_count


@contextmanager
def stand_ins(bundle: Bundle, folder: Path, address: str = LOOPBACK) -> Iterator[StandIns]:
    """Serve the content of a built bundle as upstream does, over TLS, at an address of this machine."""
    certificate, data = self_signed(folder, address), folder / "registry"
    with running(data, is_guarded=False) as plain:
        recipe = fill(bundle, folder, plain.url)
    with ExitStack() as stack:
        registry = stack.enter_context(running(data, is_guarded=False, certificate=certificate, address=address))
        web = stack.enter_context(web_server(folder / "web", certificate, address))
        table = {**dict.fromkeys(REGISTRIES, registry.url), **dict.fromkeys(WEB, web.url)}
        environment = {
            mirrors.ENVIRONMENT: ",".join(f"{host}={url}" for host, url in table.items()),
            "SSL_CERT_FILE": str(_trusted(certificate[0])),
        }
        yield StandIns(recipe, environment, web, registry)


def fill(bundle: Bundle, folder: Path, registry: str) -> Path:
    """Publish a bundle's contents as upstream does; return the path of a recipe for them, with Traefik pinned."""
    own = yaml.safe_load(recipes.OWN.read_bytes())
    carried = {recipes.repository(image.reference): image.archive for image in bundle.images}
    carried |= {name: carried[ours] for ours, name in OTHER_TAGS.items() if ours in carried}
    own["name"] = "stand-ins"
    for key, word in (("images", "reference"), ("manifests", "path")):
        own[key] = [row for row in own[key] if LEFT_OUT not in row[word]]
    for row in own["images"]:
        filled = row["reference"].format_map(own["versions"])
        digest = push(bundle.path(carried[recipes.repository(filled)]), filled, registry)
        if "traefik" in filled:  # pin one image by digest, as users can
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
    client = Registry(mirrors.parse_mirrors(dict.fromkeys(REGISTRIES, registry), ""), _ignore)
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
    client.put_manifest(target, Document(IMAGE_MANIFEST, content))
    return str(described["digest"])


@contextmanager
def web_server(
    folder: Path, certificate: tuple[Path, Path] | None = None, address: str = LOOPBACK
) -> Iterator[WebServer]:
    """Serve the files in a folder on a free port of this machine, over TLS if there is a certificate and its key."""
    server = WebServer(folder)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requests.append(self.path)
            super().do_GET()

        def do_HEAD(self) -> None:
            server.requests.append(self.path)
            super().do_HEAD()

        def log_message(self, *_words: object) -> None:
            pass

    folder.mkdir(parents=True, exist_ok=True)
    with listening(functools.partial(Handler, directory=str(folder)), certificate, address) as server.url:
        yield server


def _trusted(certificate: Path) -> Path:
    """Write the certificates that this machine trusts, and this one, to a new file."""
    system = ssl.get_default_verify_paths().cafile
    trusted = certificate.with_name("trusted.pem")
    trusted.write_bytes((Path(system).read_bytes() if system else b"") + certificate.read_bytes())
    return trusted


def _ignore(_text: str) -> None:
    pass
