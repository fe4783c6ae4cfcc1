"""The images of nodes in a Docker Engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labctl.bundle import Bundle
from labctl.bundle.links import require_inside
from labctl.host import locks
from labctl.host.process import check, failure, run, stream
from labctl.model.errors import ProviderError
from labctl.model.events import Progress
from labctl.providers.vagrant import BUSY_SECONDS, LOCK

NODE_SYSTEM = "base/node.tar"
"""The node's root filesystem in a bundle."""
REPOSITORY = "labctl.local/node"
"""The repository in the images' names; the tag identifies the content."""


@dataclass(frozen=True, slots=True)
class DockerImages:
    """The images of nodes in the Engine that `environment` names. Implements NodeImages."""

    folder: Path
    """The state folder of the lab that needs one."""
    environment: Mapping[str, str]

    def prepare(self, bundle: Bundle, report: Progress) -> None:
        """Import the node's root filesystem, a tar archive, unless the Engine has the image.

        Raises MissingError if nodes could not read every file of the bundle, which is a mount in them.
        """
        require_inside(bundle)
        image, system = node_image(bundle), bundle.path(NODE_SYSTEM)
        with locks.exclusive(self.folder / LOCK, report, timeout=BUSY_SECONDS) as lock:
            if run(["docker", "image", "inspect", "--format", "{{.Id}}", image], env=self.environment).code == 0:
                return
            report(f"importing the node's system into Docker, {image}")
            line = ["docker", "import", "--change", 'CMD ["/sbin/init"]', str(system), image]
            taken = stream(line, lambda _line: None, env=self.environment, keep_open=(lock.fileno(),))
            if taken.code != 0:
                error = ProviderError(f"Docker could not import {system} as {image}", id="tool-failed")
                raise failure(error, taken.out)

    def forget(self, image: str) -> None:
        """Remove the image, if the Engine has it."""
        if image in self.list():
            check(["docker", "image", "rm", image], env=self.environment)

    def list(self) -> tuple[str, ...]:
        """Return the names of the images of nodes in the Engine."""
        line = ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", REPOSITORY]
        return tuple(sorted(check(line, env=self.environment).split()))


def node_image(bundle: Bundle) -> str:
    """Return the name of the image with a bundle's node system; it depends on the content."""
    checksum = next(file.sha256 for file in bundle.files if file.path == NODE_SYSTEM)
    return f"{REPOSITORY}:{checksum[:12]}"
