"""A node's system made in the user's Docker Engine, if mmdebstrap is not installed, by a Dockerfile on Debian's image.

There, the same mmdebstrap makes the same archive from the same packages. Nothing stays in the Engine.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from labctl.bundle.build import debian
from labctl.bundle.build.ingredients import DebianPackages
from labctl.bundle.images import EPOCH, reference_of
from labctl.host import docker_engine
from labctl.host.process import Argument, check, run
from labctl.host.tool_environment import PROXIES
from labctl.host.wait import Pending, until
from labctl.model.errors import MissingError
from labctl.transfer import trust

REPOSITORY = "labctl.local/node-base"
"""The repository of the temporary name of Debian's image in the Engine: a name of the user's own is never taken."""
BASE = "node-base.tar"
"""The archive of Debian's image."""
LABEL = "local.labctl.node-system"
"""The label of everything that is made in the Engine; its value is the tag of the temporary name."""
CERTIFICATES = "certificates.pem"
TRUSTED = "/etc/ssl/certs/ca-certificates.crt"
"""Where one of the TLS libraries that apt may use looks for certificates. Another one reads SSL_CERT_FILE."""
SYSTEM = "/node.tar"
CLEAN_SECONDS = 60.0


def engine_answers(architecture: str) -> bool:
    """Return whether an Engine of that architecture answers."""
    return docker_engine.platform() == f"linux/{architecture}"


def base_name(folder: Path) -> str:
    """Return the temporary name of Debian's image in the Engine while the bundle `folder` is made."""
    return f"{REPOSITORY}:{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"


def make_node(packages: DebianPackages, target: Path, architecture: str, sources: Sequence[str], base: Path) -> None:
    """Make tar archive `target` as `debian.make_node` does, but in the Engine, from archive `base` of Debian's image.

    The image's reference must be a `base_name`. First remove what an earlier run left in the Engine, and the rest
    at the end, even on failure. Raises MissingError `tool-failed`, and NotReadyError if the Engine keeps something.
    """
    name = reference_of(base)
    with tempfile.TemporaryDirectory(dir=target.parent) as context, _temporary_objects(name):
        _write_context(Path(context), dockerfile(name, packages, architecture, sources))
        _docker("image", "load", "--input", base)
        image = f"{name}-made"
        proxies = {variable: os.environ[variable] for variable in PROXIES if variable in os.environ}
        arguments = [f"--build-arg={variable}" for variable in proxies]  # Docker takes the values from its environment
        # The host's network, because mirrors and proxies may be on loopback. Not BuildKit, which would keep a cache.
        line = ["build", "--network=host", "--no-cache", "--force-rm", *arguments, f"--tag={image}", context]
        _docker(*line, environment={**proxies, "DOCKER_BUILDKIT": "0"})
        container = _docker("create", "--network=none", image, "true").split()[-1]
        _docker("cp", f"{container}:{SYSTEM}", target)


def dockerfile(base: str, packages: DebianPackages, architecture: str, sources: Sequence[str]) -> str:
    """Return the Dockerfile of an image in which mmdebstrap makes the node's system as a tar archive."""
    variant, moment, hook = debian.NODE
    make = shlex.join(map(str, debian.line(packages, architecture, Path(SYSTEM), variant, moment, sources)))
    lines = [
        f"FROM {base}",
        f"LABEL {LABEL}={_key(base)}",
        f"COPY {CERTIFICATES} {TRUSTED}",
        f"COPY {hook} /",
        f"ENV SSL_CERT_FILE={TRUSTED} DEBIAN_FRONTEND=noninteractive",
        *([f"RUN {_single_source(sources[0])}"] if sources else []),
        "RUN apt-get -q -o APT::Update::Error-Mode=any update && apt-get -q install -y --no-install-recommends mmdebstrap",
        f'RUN SOURCE_DATE_EPOCH={EPOCH} {debian.HOOK}="$(cat /{hook})" {make}',
    ]
    return "\n".join(lines) + "\n"


def _single_source(mirror: str) -> str:
    """Return the command that makes a mirror the only source of the image's own apt."""
    words = f'{debian.KEYRING} {shlex.quote(mirror)} "$VERSION_CODENAME"'
    line = f"printf 'deb [signed-by=%s] %s %s main\\n' {words} >/etc/apt/sources.list"
    return f". /etc/os-release && rm -rf /etc/apt/sources.list.d/* && {line}"


def _write_context(folder: Path, text: str) -> None:
    """Write the Dockerfile and the files that it copies into a folder."""
    (folder / "Dockerfile").write_text(text, encoding="utf-8")
    shutil.copyfile(debian.ROOTFS / debian.NODE[2], folder / debian.NODE[2])
    store = trust.store(os.environ)
    (folder / CERTIFICATES).write_bytes(store.read_bytes() if store else b"")


@contextmanager
def _temporary_objects(base: str) -> Iterator[None]:
    """Remove what was made in the Engine, before and after."""
    _clean(base)
    try:
        yield
    finally:
        _clean(base)


def _clean(base: str) -> None:
    def cleaned() -> Literal[True] | Pending:
        """Remove what is found; return True once nothing is found, because an interrupted build may still be ending."""
        label = f"--filter=label={LABEL}={_key(base)}"
        containers = _docker("ps", "--all", "--quiet", label).split()
        images = _docker("image", "ls", "--quiet", "--no-trunc", label).split()
        names = _docker("image", "ls", "--format={{.Repository}}:{{.Tag}}", base).split()
        for words, leftovers in (
            ("rm --force --volumes", containers),
            ("image rm --force", images),
            ("image rm", names),
        ):
            if leftovers:
                last = run(["docker", *words.split(), *dict.fromkeys(leftovers)]).last_lines
                return Pending(" ".join(last[-1:]))
        return True

    until(cleaned, what=f"the removal of the containers and images of {base} from Docker", timeout=CLEAN_SECONDS)


def _key(base: str) -> str:
    return base.rpartition(":")[2]


def _docker(*words: Argument, environment: Mapping[str, str] | None = None) -> str:
    line: Sequence[Argument] = ["docker", *words]
    return check(line, env=environment, error=MissingError)
