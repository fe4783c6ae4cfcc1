"""Measure a first run, from an empty cache to HTTP 200 by name, with stand-ins for upstream on this machine.

Usage, as root, after `pip install '.[test]'`, with a bundle that `labctl bundle build` made in the cache:

    .ci/failure-detector && PYTHONPATH=tests:tests/doubles python bench/first_run.py [ROUNDS]

A release carries the failure detector; in a checkout, the first command builds it. The stand-ins serve that bundle's
content: as much as upstream's, but not compressed. Debian's packages come from this machine's usual mirror.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from stand_ins import StandIns, stand_ins

from labctl import bundle
from labctl.host import paths

LABCTL = [sys.executable, "-m", "labctl", "--name", "bench"]
TARGET_SECONDS = 180


def main() -> None:
    """Measure, and print one line per round."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    built = next(each for each in bundle.readable_bundles(paths.cache()) if each.maker == "build")
    with tempfile.TemporaryDirectory(dir=paths.cache()) as folder, stand_ins(built, Path(folder)) as servers:
        print(f"{datetime.now(tz=UTC):%Y-%m-%d}, python bench/first_run.py {rounds}")
        print(f"{'download s':>12}{'lab s':>8}{'all s':>8}   (target: under {TARGET_SECONDS} s)")
        for _ in range(rounds):
            download, everything = first_run(servers)
            print(f"{download:12.1f}{everything - download:8.1f}{everything:8.1f}")


def first_run(servers: StandIns) -> tuple[float, float]:
    """Bring a lab up with an empty cache; return the seconds until the bundle was complete, and until HTTP 200."""
    with tempfile.TemporaryDirectory(dir=paths.cache()) as cache:
        environment = {**os.environ, **servers.environment, "XDG_CACHE_HOME": cache}
        environment.pop(paths.BUNDLE, None)
        started = time.perf_counter()
        output = labctl(environment, "-o", "json", "up", "--isolated", "--yes", "--recipe", str(servers.recipe))
        everything = time.perf_counter() - started
        labctl(environment, "destroy", "--yes", "--purge")
    done = {
        event["step"]: event["seconds"]
        for event in map(json.loads, output.splitlines())
        if event.get("state") == "done"
    }
    return done["preflight"] + done["bundle"], everything


def labctl(environment: Mapping[str, str], *words: str) -> str:
    """Run a command that must succeed, and return its stdout."""
    line = [*LABCTL, *words]
    finished = subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=1800)
    if finished.returncode != 0:
        sys.exit(f"{' '.join(line)} ended with {finished.returncode}:\n{finished.stderr}{finished.stdout}")
    return finished.stdout


if __name__ == "__main__":
    main()
