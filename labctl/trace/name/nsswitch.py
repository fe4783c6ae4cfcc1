"""The order of the resolver's sources in nsswitch.conf, which may keep it from using the hosts file."""

from __future__ import annotations

import re
from dataclasses import dataclass

HOSTS = re.compile(r"[ \t]*hosts:[ \t]*([^#]*)")
SOURCE = re.compile(r"[^\s\[]+(?:\s*\[[^]]*\])*")
FILES = "files"


@dataclass(frozen=True, slots=True)
class Order:
    """Hold the line of nsswitch.conf that lists the sources of hostnames."""

    number: int
    text: str
    sources: tuple[str, ...]
    """The sources, each with the actions that follow it."""

    @property
    def files_first(self) -> str:
        """The sed expression that puts the hosts file first, and changes nothing else."""
        return f"{self.number}s/^([[:space:]]*hosts:)[[:space:]]*/\\1 {FILES} /"

    @property
    def is_files_first(self) -> bool:
        """Return whether the hosts file is the first source, and its answer is final."""
        return self.sources[:1] == (FILES,)


def order(content: str) -> Order | None:
    """Return the order of the sources of hostnames; None if the file has no such line."""
    lines = enumerate(content.split("\n"), 1)
    settings = [(number, line, match[1]) for number, line in lines if (match := HOSTS.match(line))]
    if not settings:
        return None
    number, line, value = settings[-1]  # the last one counts
    return Order(number, line.strip(), tuple(" ".join(each.split()) for each in SOURCE.findall(value)))
