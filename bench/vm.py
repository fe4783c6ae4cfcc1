"""Measure the times and sizes of a lab of virtual machines, as a table for the documentation.

Usage, as a user who can use libvirt, with a bundle in the cache: python bench/vm.py [ROUNDS]
The machine image is built if it is missing; every lab starts without it in libvirt.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LAB = "bench-vm"
LABCTL = [sys.executable, "-m", "labctl", "--name", LAB]
ACTS = {
    "image build": "making the machine image",
    "box add": "adding the box",
    "image upload": "uploading the machine image",
}
"""The progress text at the start of each act; the next text ends the act."""
STAGES = {"SSH": re.compile("Machine booted and ready"), "API": re.compile(f"^waiting for {LAB}-")}
Timed = tuple[float, Mapping[str, Any]]


def main() -> None:
    """Measure, and print one table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    figures: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, value in _lab():
            figures.setdefault(name, []).append(value)
    print(
        f"{datetime.now(tz=UTC):%Y-%m-%d}, python bench/vm.py {rounds}\n\n| what | median | smallest | largest |\n|---|---|---|---|"
    )
    for name, values in figures.items():
        print(f"| {name} | {statistics.median(values):.1f} | {min(values):.1f} | {max(values):.1f} |")


def _lab() -> Iterator[tuple[str, float]]:
    """Bring a lab up from nothing and destroy it; yield the measurements in order."""
    started = time.monotonic()
    events = list(_events("up", "--provider", "libvirt"))
    yield from _of_up(events)
    yield "HTTP 200, s", _seconds(events, "verify")
    for name, size in _memory():
        yield f"memory of {name}, MiB", size
    yield "up again, s", _timed("up")
    yield "halt, s", _timed("halt")
    yield "resume, s", _timed("resume")
    for box in sorted(_bundle().glob("machine/*.box")):
        yield f"{box.name}, MiB", box.stat().st_size / 2**20
    yield "destroy, s", _timed("destroy", "--yes", "--purge")
    yield "all, s", time.monotonic() - started


def _of_up(events: Sequence[Timed]) -> Iterator[tuple[str, float]]:
    """Yield the duration of each act before the machines start, and when each stage after that was reached."""
    texts = [(at, str(event.get("text") or "")) for at, event in events]
    for act, beginning in ACTS.items():
        begun = next((number for number, (_, text) in enumerate(texts) if text.startswith(beginning)), None)
        if begun is not None:
            yield f"{act}, s", texts[begun + 1][0] - texts[begun][0]
    start = next(at for at, text in texts if text.endswith("Starting domain."))
    for stage, reached in STAGES.items():
        if times := [at for at, text in texts if reached.search(text)]:
            yield f"{stage}, s from the start of the machines", times[-1 if stage == "SSH" else 0] - start
    yield "nodes Ready, s from the start of the machines", _seconds(events, "cluster") - start


def _events(*words: str) -> Iterator[Timed]:
    """Run a command of labctl that must succeed; yield its events with their times."""
    started = time.monotonic()
    line = [*LABCTL, "-o", "json", *words]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as child:
        for text in child.stdout or ():
            yield time.monotonic() - started, json.loads(text)
    if child.returncode != 0:
        sys.exit(f"{' '.join(line)} ended with {child.returncode}: {text}")


def _seconds(events: Sequence[Timed], step: str) -> float:
    """Return when a step was done."""
    return next(at for at, event in events if event.get("step") == step and event.get("state") == "done")


def _timed(*words: str) -> float:
    started = time.monotonic()
    for _ in _events(*words):
        pass
    return time.monotonic() - started


def _memory() -> Iterator[tuple[str, float]]:
    """Yield the resident memory of each machine's QEMU."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            command = status.with_name("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            resident = re.search(r"^VmRSS:\s*(\d+)", status.read_text(), re.MULTILINE)
        except OSError:
            continue
        if "qemu" in command and (name := re.search(rf"guest=({LAB}-[\w-]+)", command)) and resident:
            yield name[1].removeprefix(f"{LAB}-"), int(resident[1]) / 1024


def _bundle() -> Path:
    listed = json.loads(
        subprocess.run([*LABCTL, "bundle", "list", "-o", "json"], capture_output=True, check=True).stdout
    )
    return Path(listed["bundles"][0]["folder"])


if __name__ == "__main__":
    main()
