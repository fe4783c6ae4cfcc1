"""A client that asks for a page by name, ten times a second, as long as a test lasts: how long was the site away?"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from .reallab import RealLab

OVERDUE_SECONDS = 300.0

PROGRAM = """
import http.client, sys, time

while True:
    began = time.monotonic()
    try:
        asked = http.client.HTTPConnection(sys.argv[1], timeout=1)
        asked.request("GET", "/")
        status = asked.getresponse().status
        asked.close()
    except (OSError, http.client.HTTPException):
        status = 0
    print(time.monotonic(), status, flush=True)
    time.sleep(max(0, began + 0.1 - time.monotonic()))
"""


@dataclass(slots=True)
class Client:
    """What the client has seen."""

    answered: list[float] = field(default_factory=list)
    """When each good answer came, in seconds."""

    @property
    def away(self) -> float:
        """The longest time between two good answers, in seconds."""
        return max(later - earlier for earlier, later in zip(self.answered, self.answered[1:], strict=False))


@contextmanager
def asking(lab: RealLab, hostname: str) -> Iterator[Client]:
    """Somebody asks in the lab's network meanwhile, beginning and ending with a good answer."""
    client = Client()
    with subprocess.Popen(
        [*lab.way_in, sys.executable, "-c", PROGRAM, hostname], stdout=subprocess.PIPE, text=True
    ) as child:
        overdue = threading.Timer(OVERDUE_SECONDS, child.terminate)
        overdue.start()
        try:
            _listen(child, client, since=0)
            yield client
            _listen(child, client, since=time.monotonic())
        finally:
            overdue.cancel()
            child.terminate()


def _listen(child: subprocess.Popen[str], client: Client, since: float) -> None:
    """The client has told of its answers up to a good one that came after `since`."""
    for line in child.stdout or ():
        answered, status = line.split()
        if status == "200":
            client.answered.append(float(answered))
            if float(answered) > since:
                return
    pytest.fail(f"no good answer within {OVERDUE_SECONDS:.0f} s")
