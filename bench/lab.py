"""Measure the time of `up` from nothing to HTTP 200 by name, of `up` again and of `destroy`, and a lab's memory.

Usage, as root, with a bundle in the cache: python bench/lab.py [ROUNDS]

Machines differ and are noisy: compare the ratios of one run, not the seconds of two.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

LAB = "bench"
LABCTL = [sys.executable, "-m", "labctl", "--name", LAB]
SAMPLE_SECONDS = 0.5


def main() -> None:
    """Measure, and print one table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    figures: dict[str, list[float]] = {}
    steps: dict[str, list[float]] = {}
    memory = []
    for _ in range(rounds):
        figures.setdefault("python -c pass", []).append(seconds([sys.executable, "-c", "pass"]))
        figures.setdefault("labctl --help", []).append(seconds([*LABCTL, "--help"]))
        with PeakMemory() as peak:
            figures.setdefault("up", []).append(seconds([*LABCTL, "up", "--isolated", "-o", "json"], steps))
        memory.append(peak.mebibytes)
        figures.setdefault("status", []).append(seconds([*LABCTL, "status"]))
        figures.setdefault("up again", []).append(seconds([*LABCTL, "up"]))
        figures.setdefault("destroy", []).append(seconds([*LABCTL, "destroy", "--yes", "--purge"]))
    report(figures, rounds)
    print("\nof up, by step:")
    report(steps, rounds)
    print(f"\npeak memory while a lab of two nodes comes up: {max(memory):.0f} MiB, without the page cache")


def seconds(line: list[str], steps: dict[str, list[float]] | None = None) -> float:
    """Run a command that must succeed; return how long it took, and add the seconds of each step to `steps`."""
    started = time.perf_counter()
    finished = subprocess.run(line, capture_output=True, text=True, check=False, timeout=1800)
    took = time.perf_counter() - started
    if finished.returncode != 0:
        sys.exit(f"{' '.join(line)} ended with {finished.returncode}:\n{finished.stderr}{finished.stdout}")
    for event in map(json.loads, finished.stdout.splitlines() if steps is not None else ()):
        if steps is not None and event.get("state") == "done":
            steps.setdefault(event["step"], []).append(event["seconds"])
    return took


def report(figures: dict[str, list[float]], rounds: int) -> None:
    """Print each figure's median and range, and its ratio to the longest."""
    longest = max(statistics.median(values) for values in figures.values())
    print(f"{'':16}{'median s':>10}{'min':>8}{'max':>8}{'ratio':>8}   ({rounds} rounds)")
    for name, values in figures.items():
        median = statistics.median(values)
        print(f"{name:16}{median:10.2f}{min(values):8.2f}{max(values):8.2f}{median / longest:8.3f}")


class PeakMemory:
    """The largest decrease of the machine's available memory while this runs."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self.mebibytes = 0.0

    def __enter__(self) -> Self:
        self._start = available_mebibytes()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.mebibytes = max(self.mebibytes, self._start - available_mebibytes())


def available_mebibytes() -> float:
    """Return the memory that is available without swapping, according to the kernel."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1024
    sys.exit("/proc/meminfo has no MemAvailable")


if __name__ == "__main__":
    main()
