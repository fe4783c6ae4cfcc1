"""Counters of packets that leave an isolated lab through its uplink, at the machine's end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .reallab import run

LAB_RANGES = ("192.168.56.0/24", "10.244.0.0/16", "10.96.0.0/12")
"""The lab's network, pods and Services: no packet to them may leave."""


@dataclass(frozen=True, slots=True)
class UplinkWatch:
    """The test's own chain in iptables' raw table, ahead of everything that could drop or change a packet."""

    chain: str
    link: str

    def packets(self) -> int:
        """Return the number of packets that came out of the uplink."""
        return sum(count for count, destination in self._counts() if destination == "0.0.0.0/0")

    def leaked(self) -> int:
        """Return how many of them had a destination in a lab."""
        return sum(count for count, destination in self._counts() if destination in LAB_RANGES)

    def _counts(self) -> list[tuple[int, str]]:
        listed = run("iptables", "--wait", "-t", "raw", "-nvx", "-L", self.chain).splitlines()[2:]
        return [(int(line.split()[0]), re.findall(r"[\d.]+/\d+", line)[1]) for line in listed]


@contextmanager
def count_packets(link: str) -> Iterator[UplinkWatch]:
    """Count the packets that come out of this link during the block."""
    chain = "labctl-e2e-watch"
    iptables = ("iptables", "--wait", "-t", "raw")
    jump = ("PREROUTING", "-i", link, "-j", chain)
    run(*iptables, "-N", chain)
    try:
        for destination in (*LAB_RANGES, "0.0.0.0/0"):
            run(*iptables, "-A", chain, "-d", destination)
        run(*iptables, "-I", *jump)
        yield UplinkWatch(chain, link)
    finally:
        run(*iptables, "-D", *jump, code=None)  # it may not have been inserted
        run(*iptables, "-F", chain)
        run(*iptables, "-X", chain)
