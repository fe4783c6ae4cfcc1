"""A client that asks for a page by name, ten times a second, as long as a test lasts: how long was the site away?"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .reallab import RealLab, eventually

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
    """What the client has seen, once it has ended."""

    answered: list[float] = field(default_factory=list)
    """When each good answer came, in seconds."""

    @property
    def away(self) -> float:
        """The longest time between two good answers, in seconds."""
        return max(later - earlier for earlier, later in zip(self.answered, self.answered[1:], strict=False))


@contextmanager
def asking(lab: RealLab, hostname: str) -> Iterator[Client]:
    """Somebody asks in the lab's network meanwhile; it begins, and it ends, with the site there."""
    client = Client()
    eventually(lambda: lab.page(f"http://{hostname}")[0], lambda status: status == 200)
    with subprocess.Popen(
        [*lab.way_in, sys.executable, "-c", PROGRAM, hostname], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            yield client
            eventually(lambda: lab.page(f"http://{hostname}")[0], lambda status: status == 200)
        finally:
            child.send_signal(signal.SIGTERM)
            said, _ = child.communicate()
    client.answered += [float(time) for time, status in map(str.split, said.splitlines()) if status == "200"]
