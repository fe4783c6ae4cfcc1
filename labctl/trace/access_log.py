"""Which of an ingress controller's pods took a request, by what rule, and whom it asked: its access log says so."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labctl.errors import LabError
from labctl.trace.problem import Evidence

if TYPE_CHECKING:
    from labctl.kube import Cluster

LOG_SECONDS = 1.0
"""A line may be written a moment after the answer came."""
LOOK_SECONDS = 0.1
_AGENT = r'"[^"]*" "(?P<agent>[^"]*)" '
_TRAEFIK = re.compile(_AGENT + r'\S+ "(?P<router>[^"]*)" "(?P<server>[^"]*)" \d+ms$')
_NGINX = re.compile(_AGENT + r"\d+ \S+ \[(?P<upstream>[^]]*)\] \[(?P<alternative>[^]]*)\] (?P<asked>.*)$")
_SERVER = re.compile(r"(?:\[([0-9a-fA-F:]+)\]|([^\s\[\]/:,]+)):\d+")
_NOBODY = {"", "-"}


@dataclass(frozen=True, slots=True)
class Record:
    """What the controller's log says of one request. Empty where it took no rule, or asked nobody."""

    controller_pod: str
    router: str
    """Traefik's name of the rule."""
    upstream: str
    """ingress-nginx's name of the Service, or that of the canary's Service."""
    server: str
    """The address that was asked last, which is the one that answered."""


@dataclass(frozen=True, slots=True)
class LogSearch:
    """The record of a request, if a log has it; and whether every log could be read."""

    record: Record | None
    is_complete: bool = True


def parse(line: str, controller_pod: str) -> Record | None:
    """Return what a line of Traefik's or ingress-nginx's access log says; None for any other line."""
    line = line.rstrip()
    if found := _TRAEFIK.search(line):
        return Record(controller_pod, _named(found["router"]), "", _last_server(found["server"]))
    if found := _NGINX.search(line):
        server = _last_server(found["asked"])
        return Record(controller_pod, "", _named(found["alternative"]) or _named(found["upstream"]), server)
    return None


def search(cluster: Cluster, namespace: str, pods: Iterable[Evidence], mark: str) -> LogSearch:
    """Look for a request's mark in the logs of the controller's pods, for a second at most."""
    names = [pod["pod"] for pod in pods]
    end = time.monotonic() + LOG_SECONDS
    while True:
        is_complete = True
        for name in names:
            try:
                log = cluster.log(name, namespace)
            except LabError:
                is_complete = False
                continue
            records = (parse(line, name) for line in log.splitlines() if mark in line)
            if record := next(filter(None, records), None):
                return LogSearch(record)
        if time.monotonic() >= end:
            return LogSearch(None, is_complete)
        time.sleep(LOOK_SECONDS)


def _named(word: str) -> str:
    return "" if word in _NOBODY else word


def _last_server(text: str) -> str:
    found = _SERVER.findall(text)
    return next(filter(None, found[-1])) if found else ""
