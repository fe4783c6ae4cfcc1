"""Measure labctl's changes to a hosts file, in relation to the least that a safe writer needs.

    python bench/hosts.py [LINES]

That least is to read the file, write a copy next to it, sync that to disk and rename it. Prints milliseconds, and the
ratio to that. The numbers hold only for this machine and its disk.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

from labctl.host import hosts_file

ROUNDS = 50
NAMES = {f"app-{number}.local": IPv4Address("192.168.56.100") for number in range(3)}


def main() -> None:
    """Measure, and print a table; each act alternates with its opposite, so that every round changes something."""
    lines = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        path, backup = Path(folder) / "hosts", Path(folder) / "backup"
        path.write_bytes(b"".join(b"0.0.0.0 ads-%d.example\n" % number for number in range(lines)))
        acts: dict[str, Callable[[], object]] = {
            "read, write, fsync, rename": lambda: copied(path),
            "hosts sync": lambda: hosts_file.sync(path, "demo", NAMES, backup=backup),
            "hosts sync, nothing to do": lambda: hosts_file.sync(path, "demo", NAMES, backup=backup),
            "hosts show": lambda: hosts_file.show(path, "demo"),
            "hosts remove": lambda: hosts_file.remove(path, "demo", backup=backup),
        }
        figures: dict[str, list[float]] = {name: [] for name in acts}
        for _ in range(ROUNDS):
            for name, act in acts.items():
                figures[name].append(milliseconds(act))
    report(figures, lines)


def copied(path: Path) -> None:
    """Replace the file with a copy of itself that is synced to disk first."""
    copy = path.with_name("copy")
    with copy.open("wb") as file:
        file.write(path.read_bytes())
        file.flush()
        os.fsync(file.fileno())
    copy.replace(path)


def milliseconds(act: Callable[[], object]) -> float:
    """Return how long the act took."""
    started = time.perf_counter()
    act()
    return (time.perf_counter() - started) * 1000


def report(figures: dict[str, list[float]], lines: int) -> None:
    """Print each act's median and range, and its ratio to the first."""
    least = statistics.median(next(iter(figures.values())))
    print(f"{lines} lines{'':20}{'median ms':>10}{'min':>8}{'max':>8}{'ratio':>8}   ({ROUNDS} rounds)")
    for name, values in figures.items():
        median = statistics.median(values)
        print(f"{name:31}{median:10.2f}{min(values):8.2f}{max(values):8.2f}{median / least:8.2f}")


if __name__ == "__main__":
    main()
