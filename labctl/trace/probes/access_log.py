"""Read an ingress controller's access log: which pod handled a request, by which rule, and which backend it tried."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labctl.model.errors import LabError
from labctl.trace.problem import Evidence

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

LOOK_SECONDS = 0.1
"""How long to wait between searches: a line may be written shortly after the response arrives."""
_STATUS = r'" (?P<status>\d{3}|-) \S+ '
_AGENT = r'"[^"]*" "(?P<agent>[^"]*)" '
_TRAEFIK = re.compile(_STATUS + _AGENT + r'\S+ "(?P<router>[^"]*)" "(?P<server>[^"]*)" \d+ms$')
_NGINX = re.compile(_STATUS + _AGENT + r"\d+ \S+ \[(?P<upstream>[^]]*)\] \[(?P<alternative>[^]]*)\] (?P<asked>.*)$")
_SERVER = re.compile(r"(?:\[([0-9a-fA-F:]+)\]|([^\s\[\]/:,]+)):(\d+)")
_NOBODY = {"", "-"}
_REDIRECTED = " : "
"""Separates the addresses that nginx tried before and after an internal redirect, such as to an error page."""
_NOT_FOUND = ("127.0.0.1", 8181)
"""The address of ingress-nginx's own 404 server, in the same nginx."""


@dataclass(frozen=True, slots=True)
class Record:
    """The log's record of one request. Fields are empty if no rule matched or no backend was tried."""

    controller_pod: str
    router: str
    """Traefik's name for the rule."""
    upstream: str
    """ingress-nginx's name for the Service, or for the canary's Service."""
    server: str
    """The backend address that was tried last: the one that answered, if any did."""
    port: int = 0
    status: int = 0
    failed: tuple[str, ...] = ()
    """The addresses that were tried before and did not answer."""

    @property
    def upstream_address(self) -> str:
        """The backend address and port that was tried last."""
        host = f"[{self.server}]" if ":" in self.server else self.server
        return f"{host}:{self.port}" if self.server else ""


@dataclass(frozen=True, slots=True)
class LogSearch:
    """The records of requests by their marks, and whether every log, and every line with a mark, could be read."""

    records: Mapping[str, Record] = field(default_factory=dict)
    is_complete: bool = True


def parse(line: str, controller_pod: str) -> Record | None:
    """Parse a line of Traefik's or ingress-nginx's access log; None for any other line."""
    line = line.rstrip()
    if fields := _TRAEFIK.search(line):
        servers, router, upstream = _servers(fields["server"]), _named(fields["router"]), ""
    elif fields := _NGINX.search(line):
        servers = [each for each in _servers(fields["asked"].partition(_REDIRECTED)[0]) if each != _NOT_FOUND]
        router, upstream = "", _named(fields["alternative"]) or _named(fields["upstream"])
    else:
        return None
    status = int(fields["status"]) if fields["status"].isdigit() else 0
    server, port = servers[-1] if servers else ("", 0)
    return Record(controller_pod, router, upstream, server, port, status, tuple(each for each, _ in servers[:-1]))


def search(
    cluster: Cluster, namespace: str, pods: Sequence[Evidence], marks: Collection[str], seconds: float
) -> LogSearch:
    """Search the logs of the controller's pods for the marks of requests, for `seconds` at most.

    Each pod has a name and, if it has several containers, that of the controller.
    """
    end = time.monotonic() + seconds
    records: dict[str, Record] = {}
    while True:
        unread, is_unknown = 0, False
        for pod in pods:
            try:
                log = cluster.log(pod["pod"], namespace, pod.get("container", ""))
            except LabError:
                unread += 1
                continue
            records |= _found(log, pod["pod"], set(marks) - records.keys())
            is_unknown = is_unknown or any(mark in log for mark in set(marks) - records.keys())
            if len(records) == len(marks):
                return LogSearch(records)
        if unread == len(pods) or time.monotonic() >= end:
            return LogSearch(records, not unread and not is_unknown)
        time.sleep(LOOK_SECONDS)


def _found(log: str, pod: str, marks: Collection[str]) -> dict[str, Record]:
    lines = {mark: line for line in log.splitlines() for mark in marks if mark in line}
    return {mark: record for mark, line in lines.items() if (record := parse(line, pod))}


def _named(word: str) -> str:
    return "" if word in _NOBODY else word


def _servers(text: str) -> list[tuple[str, int]]:
    return [(six or four, int(port)) for six, four, port in _SERVER.findall(text)]
