"""Counting what leaves an isolated lab by its uplink, where it arrives on the machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .reallab import run

LAB_RANGES = ("192.168.56.0/24", "10.244.0.0/16", "10.96.0.0/12")
"""The lab's network, pods and services: no packet for them may ever leave."""


@dataclass(frozen=True, slots=True)
class UplinkWatch:
    """A chain of the test's own in iptables' raw table, before anything that could drop or change a packet."""

    chain: str
    link: str

    def packets(self) -> int:
        """How many packets came out of the uplink, whatever they were for."""
        return sum(count for count, destination in self._counts() if destination == "0.0.0.0/0")

    def leaked(self) -> int:
        """How many of them were for an address of a lab."""
        return sum(count for count, destination in self._counts() if destination in LAB_RANGES)

    def _counts(self) -> list[tuple[int, str]]:
        listed = run("iptables", "--wait", "-t", "raw", "-nvx", "-L", self.chain).splitlines()[2:]
        return [(int(line.split()[0]), re.findall(r"[\d.]+/\d+", line)[1]) for line in listed]


@contextmanager
def watched(link: str) -> Iterator[UplinkWatch]:
    """Packets that come out of this link are counted meanwhile."""
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
