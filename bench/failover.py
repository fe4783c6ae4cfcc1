"""Measure how long the site is unavailable when a node loses power: the gaps of ten kills in each of four labs.

The nodes' names decide which node announces the address: with one worker, the control plane of the first lab, and the
worker of the second one.

Usage, as root, with a bundle in the cache: python bench/failover.py [KILLS]

Serving nodes are killed in turn, whether they announce the address or not. The client sends ten requests a second.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from typing import Any

LABS = (("bench", 1), ("bench-1", 1), ("bench", 2), ("bench", 3))
"""The labs' names, and their workers."""
LABCTL = [sys.executable, "-m", "labctl", "--name"]
COMMAND_SECONDS = 600
DEMO = """
about: A node loses its power under load.
scenes:
  - title: The whole lab answers
    expect:
      - http: $url
        answered_by: 2
  - title: A node loses its power
    load: {{hostname: $hostname, before: 2, after: 8}}
    run:
      - labctl halt --force {node}
    expect:
      - http: $url
cleanup:
  - labctl up -q
"""


def main() -> None:
    """Measure, and print one table per lab."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    for lab, workers in LABS:
        labctl(lab, "up", "--isolated", "--workers", str(workers))
        try:
            report(workers, [kill(lab, number) for number in range(kills)])
        finally:
            labctl(lab, "destroy", "--yes", "--purge")


def kill(lab: str, number: int) -> tuple[str, bool, float]:
    """Cut the power of one node that serves; return its name, whether it announced the address, and the gap."""
    status = json.loads(labctl(lab, "status", "-o", "json"))
    workers = [node["name"] for node in status["nodes"] if node["role"] == "worker"]
    serving = workers if len(workers) > 1 else [node["name"] for node in status["nodes"]]
    node = serving[number % len(serving)]
    [address] = [each for each in status["addresses"] if each["address"] == status["ingress"]["address"]]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(DEMO.format(node=node))
        file.flush()
        played: dict[str, Any] = json.loads(labctl(lab, "-q", "-o", "json", "demo", "run", file.name))
    return node, node == address["node"], played["scenes"][-1]["load"]["gap"]


def report(workers: int, kills: list[tuple[str, bool, float]]) -> None:
    """Print every gap, and the minimum, median and maximum of nodes that announced and of nodes that did not."""
    print(f"\ncontrol plane and {workers} worker{'s' * (workers > 1)}:")
    for node, announced, gap in kills:
        print(f"  {node:24}{'announced' if announced else '':12}{gap:6.2f} s")
    for announced, what in ((True, "announced"), (False, "did not announce")):
        gaps = [gap for _, did, gap in kills if did is announced]
        if gaps:
            figures = f"min {min(gaps):.2f}, median {statistics.median(gaps):.2f}, max {max(gaps):.2f} s"
            print(f"  {what}: {figures} ({len(gaps)} kills)")


def labctl(lab: str, *words: str) -> str:
    """Run a command that must succeed, and return its stdout."""
    line = [*LABCTL, lab, *words]
    finished = subprocess.run(line, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS)
    if finished.returncode != 0:
        sys.exit(f"{' '.join(line)} ended with {finished.returncode}:\n{finished.stderr}{finished.stdout}")
    return finished.stdout


if __name__ == "__main__":
    main()
