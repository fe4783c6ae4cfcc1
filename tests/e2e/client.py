"""A client that requests a page by name ten times a second, to measure how long the site is unavailable."""

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

def request():
    try:
        connection = http.client.HTTPConnection(sys.argv[1], timeout=2)
        connection.request("GET", "/")
        status = connection.getresponse().status
        connection.close()
    except (OSError, http.client.HTTPException):
        status = 0
    sys.stdout.write(f"{time.monotonic()} {status}\\n")
    sys.stdout.flush()

due = time.monotonic()
while True:
    # Each in its own thread: a request that waits for an answer must not delay the next one.
    threading.Thread(target=request, daemon=True).start()
    due += 0.1
    time.sleep(max(0, due - time.monotonic()))
"""


@dataclass(slots=True)
class Client:
    """The client's results."""

    successes: list[float] = field(default_factory=list)
    """The time of each good answer, in seconds."""
    statuses: Counter[int] = field(default_factory=Counter)
    """The number of requests with each HTTP status; 0 is no answer."""

    @property
    def outage(self) -> float:
        """The longest time between two good answers, in seconds."""
        return max(later - earlier for earlier, later in pairwise(sorted(self.successes)))


@contextmanager
def under_load(lab: RealLab, hostname: str, *, before: float = 0.0, after: float = 0.0) -> Iterator[Client]:
    """Run the client in the lab's network during the block, and at least `before` and `after` seconds around it.

    The block starts and the client ends after a good answer.
    """
    client = Client()
    with subprocess.Popen(
        [*lab.enter_command, sys.executable, "-c", PROGRAM, hostname], stdout=subprocess.PIPE, text=True
    ) as child:
        overdue = threading.Timer(OVERDUE_SECONDS, child.terminate)
        overdue.start()
        try:
            _read_until_success(child, client, since=time.monotonic() + before)
            yield client
            _read_until_success(child, client, since=time.monotonic() + after)
        finally:
            overdue.cancel()
            child.terminate()


def _read_until_success(child: subprocess.Popen[str], client: Client, since: float) -> None:
    """Read the client's results up to a good answer after `since`."""
    for line in child.stdout or ():
        time_of_response, status = line.split()
        client.statuses[int(status)] += 1
        if status == "200":
            client.successes.append(float(time_of_response))
            if float(time_of_response) > since:
                return
    pytest.fail(f"no good answer within {OVERDUE_SECONDS:.0f} s")
