"""The order of the resolver's sources in nsswitch.conf, which may keep it from using the hosts file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

HOSTS = re.compile(r"[ \t]*hosts:[ \t]*([^#]*)")
SOURCE = re.compile(r"[^\s\[]+(?:\s*\[[^]]*\])*")
FILES = "files"
READING = (FILES, "resolve")
NETWORK = ("dns", "mdns", "mdns4", "mdns6", "mdns_minimal", "mdns4_minimal", "mdns6_minimal", "wins")
"""The sources that ask the network for a name."""
MINIMAL, LOCAL = "_minimal", ".local"
"""A source with this suffix looks up only multicast DNS names, which end with `.local`."""
FINAL = re.compile(r"(NOTFOUND|!(SUCCESS|UNAVAIL|TRYAGAIN))\s*=\s*return", re.IGNORECASE)
"""An action that ends the lookup of a name that the source does not know."""


@dataclass(frozen=True, slots=True)
class Order:
    """The line of nsswitch.conf that lists the sources of hostnames."""

    number: int
    text: str
    sources: tuple[str, ...]
    """The sources, each with the actions that follow it."""

    @property
    def files_first_expression(self) -> str:
        """The sed expression that puts the hosts file first, and changes nothing else."""
        return f"{self.number}s/^([[:space:]]*hosts:)[[:space:]]*/\\1 {FILES} /"

    @property
    def is_files_first(self) -> bool:
        """Return whether the hosts file is the first source, and its answer is final."""
        return self.sources[:1] == (FILES,)

    def before_files(self, hostnames: Sequence[str]) -> tuple[tuple[str, ...] | None, bool]:
        """Return the network sources that precede the hosts file for one of these names, and whether one is final.

        None if no source reads that file. systemd's `resolve` reads it itself, first.
        """
        before: list[str] = []
        is_final = False
        for source in self.sources:
            name, _, actions = source.partition("[")
            name = name.strip()
            if name in READING:
                return tuple(before), is_final
            if name in NETWORK and (not name.endswith(MINIMAL) or any(each.endswith(LOCAL) for each in hostnames)):
                before.append(name)
                is_final = is_final or bool(FINAL.search(actions))
        return None, is_final


def find_order(content: str) -> Order | None:
    """Return the order of the sources of hostnames; None if the file has no such line."""
    lines = enumerate(content.split("\n"), 1)
    settings = [(number, line, match[1]) for number, line in lines if (match := HOSTS.match(line))]
    if not settings:
        return None
    number, line, value = settings[-1]  # the last one counts
    return Order(number, line.strip(), tuple(" ".join(each.split()) for each in SOURCE.findall(value)))
