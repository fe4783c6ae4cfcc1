"""Why the system's resolver may not come to the hosts file: the order of its sources in nsswitch.conf."""

from __future__ import annotations

import re
from dataclasses import dataclass

HOSTS = re.compile(r"[ \t]*hosts:[ \t]*([^#]*)")
SOURCE = re.compile(r"[^\s\[]+(?:\s*\[[^]]*\])*")
FILES = "files"


@dataclass(frozen=True, slots=True)
class Order:
    """The line of nsswitch.conf that says where hostnames are looked for."""

    number: int
    text: str
    sources: tuple[str, ...]
    """Each with the reactions that follow it."""

    @property
    def files_first(self) -> str:
        """The expression for sed that lets the hosts file be asked first, and changes nothing else."""
        return f"{self.number}s/^([[:space:]]*hosts:)[[:space:]]*/\\1 {FILES} /"

    @property
    def is_files_first(self) -> bool:
        """Whether the hosts file is asked before anything else, and what it says counts."""
        return self.sources[:1] == (FILES,)


def order(content: str) -> Order | None:
    """Return the order of the sources of hostnames; None where the file has no such line."""
    lines = enumerate(content.split("\n"), 1)
    settings = [(number, line, match[1]) for number, line in lines if (match := HOSTS.match(line))]
    if not settings:
        return None
    number, line, value = settings[-1]  # the last one counts
    return Order(number, line.strip(), tuple(" ".join(each.split()) for each in SOURCE.findall(value)))
