"""A stand-in for ingress-nginx, compiled for these tests, with upstream's image name, flags, webhook and shutdown."""

from __future__ import annotations

import io
import platform
import tarfile
from pathlib import Path

import upstream

from labctl.bundle.build.toolchain import find_go
from labctl.bundle.images import write_archive
from labctl.host import paths

from . import bundles
from .reallab import RealLab

IMAGE = "registry.k8s.io/ingress-nginx/controller:v1.15.1"
DIGEST = "sha256:594ceea76b01c592858f803f9ff4d2cb40542cae2060410b2c95f75907d659e1"
"""The digest of upstream's image, which upstream's manifest pins."""
FILE = "ingress-nginx-baremetal.yaml"
SOURCE = Path(__file__).parent.parent / "ingress_nginx"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}
PROGRAMS = ("nginx-ingress-controller", "wait-shutdown", "usr/bin/dumb-init")
ENTRYPOINT = ["/usr/bin/dumb-init", "--"]
MAY_BIND = "\x01\x00\x00\x02\x00\x04" + "\x00" * 14
"""The file capability cap_net_bind_service=ep, as `setcap` writes it: the controller is not root."""


def bundle_with(image: Path, real: Path, folder: Path, digest: str = DIGEST) -> Path:
    """Create a variant of the real bundle that also carries the stand-in, as if downloaded; return its folder."""
    described = bundles.link_files(real, folder)
    manifest, archive = upstream.content(FILE), image.read_bytes()
    described["files"] += [
        bundles.entry(f"manifests/{FILE}", manifest),
        {**bundles.entry("images/ingress-nginx.tar", archive), "source": f"{IMAGE}@{digest}"},
    ]
    described["images"].append(
        {"reference": IMAGE, "archive": "images/ingress-nginx.tar", "runs_on": "node", "phase": "addons"}
    )
    (folder / "manifests" / FILE).write_bytes(manifest)
    (folder / "images" / "ingress-nginx.tar").write_bytes(archive)
    return bundles.write(folder, described)


def make_image(folder: Path) -> Path:
    """Build the stand-in's image, and return its archive."""
    architecture = ARCHITECTURE[platform.machine()]
    program, layer, archive = folder / "program", folder / "layer.tar", folder / "ingress-nginx.tar"
    go = find_go(paths.cache(), architecture, print)
    go.run("build", "-trimpath", "-o", program, ".", cwd=SOURCE, env={"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"})
    content = program.read_bytes()
    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in PROGRAMS:
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o755
            member.pax_headers = {"SCHILY.xattr.security.capability": MAY_BIND}
            tar.addfile(member, io.BytesIO(content))
    write_archive(
        archive, reference=IMAGE, architecture=architecture, config={"Entrypoint": ENTRYPOINT}, layers=[layer]
    )
    return archive


def load(lab: RealLab, archive: Path) -> None:
    """Import the image on every node of a running lab."""
    for node in lab.docker("ps", "--format", "{{.Names}}").split():
        lab.docker("cp", str(archive), f"{node}:/root/ingress-nginx.tar")
        lab.docker("exec", node, "ctr", "-n", "k8s.io", "images", "import", "/root/ingress-nginx.tar")
        lab.docker("exec", node, "rm", "/root/ingress-nginx.tar")
