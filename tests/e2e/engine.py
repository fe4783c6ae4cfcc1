"""A test's own Docker Engine, in a network namespace that the test created."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labctl.isolation import namespaces

from .reallab import eventually, run


@contextmanager
def dockerd(folder: Path, namespace: str, *options: str) -> Iterator[str]:
    """Run dockerd in the namespace during the block; yield its address."""
    folder.mkdir()
    (folder / "daemon.json").write_text("{}", encoding="utf-8")
    address = f"unix://{folder}/docker.sock"
    files = ("data-root", "exec-root")
    line = ["nsenter", f"--net=/run/netns/{namespace}", "dockerd", "--host", address, "--pidfile", f"{folder}/pid"]
    line += ["--config-file", f"{folder}/daemon.json", *(f"--{name}={folder}/{name}" for name in files), *options]
    with (folder / "log").open("wb") as log, subprocess.Popen(line, stdout=log, stderr=log) as child:
        try:
            eventually(lambda: (folder / "docker.sock").exists() or child.poll() is not None, bool, seconds=30)
            run("docker", "--host", address, "version")
            yield address
        finally:
            child.terminate()
            child.wait(timeout=60)
            for mounted in namespaces.mounts_below(folder):  # a build with the host's network leaves one
                run("umount", mounted)
