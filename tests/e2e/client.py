"""A client that asks for a page by name, ten times a second, as long as a test lasts: how long was the site away?"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from .reallab import RealLab

OVERDUE_SECONDS = 300.0

PROGRAM = """
import http.client, sys, threading, time

def ask():
    try:
        asked = http.client.HTTPConnection(sys.argv[1], timeout=2)
        asked.request("GET", "/")
        status = asked.getresponse().status
        asked.close()
    except (OSError, http.client.HTTPException):
        status = 0
    sys.stdout.write(f"{time.monotonic()} {status}\\n")
    sys.stdout.flush()

due = time.monotonic()
while True:
    # Each on its own: one that waits for an answer must not hide that the next one gets it at once.
    threading.Thread(target=ask, daemon=True).start()
    due += 0.1
    time.sleep(max(0, due - time.monotonic()))
"""


@dataclass(slots=True)
class Client:
    """What the client has seen."""

    answered: list[float] = field(default_factory=list)
    """When each good answer came, in seconds."""
    statuses: Counter[int] = field(default_factory=Counter)
    """How many requests got each HTTP status; 0 is no answer."""

    @property
    def away(self) -> float:
        """The longest time between two good answers, in seconds."""
        return max(later - earlier for earlier, later in pairwise(sorted(self.answered)))


@contextmanager
def asking(lab: RealLab, hostname: str, *, before: float = 0.0, after: float = 0.0) -> Iterator[Client]:
    """Somebody asks in the lab's network meanwhile, from a good answer to a good answer, and some seconds longer."""
    client = Client()
    with subprocess.Popen(
        [*lab.way_in, sys.executable, "-c", PROGRAM, hostname], stdout=subprocess.PIPE, text=True
    ) as child:
        overdue = threading.Timer(OVERDUE_SECONDS, child.terminate)
        overdue.start()
        try:
            _listen(child, client, since=time.monotonic() + before)
            yield client
            _listen(child, client, since=time.monotonic() + after)
        finally:
            overdue.cancel()
            child.terminate()


def _listen(child: subprocess.Popen[str], client: Client, since: float) -> None:
    """The client has told of its answers up to a good one that came after `since`."""
    for line in child.stdout or ():
        answered, status = line.split()
        client.statuses[int(status)] += 1
        if status == "200":
            client.answered.append(float(answered))
            if float(answered) > since:
                return
    pytest.fail(f"no good answer within {OVERDUE_SECONDS:.0f} s")
