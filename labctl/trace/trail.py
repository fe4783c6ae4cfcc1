"""The state of a trace: the request, the clients that observe it, and the earlier hops' evidence."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from labctl.cluster import state
from labctl.context import Context
from labctl.host.http_probe import HTTP
from labctl.host.wait import Pending
from labctl.isolation.isolation import SETTINGS
from labctl.model.errors import LabError, NotReadyError, UsageError
from labctl.model.lab import Lab
from labctl.model.limits import Limits
from labctl.render.ingress import IngressController
from labctl.trace import backend
from labctl.trace.probes import access_log
from labctl.trace.probes.access_log import LogSearch, Record
from labctl.trace.probes.client import Client
from labctl.trace.probes.exchange import Connection, Exchange
from labctl.trace.problem import Evidence
from labctl.trace.rules import rules

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LONGEST = 253
SHORTEST = 0.1


@dataclass
class Trail:
    """The request, the clients that observe it, and the earlier hops' evidence."""

    context: Context
    client: Client
    hostname: str
    path: str
    cluster: Cluster
    """The client of the lab's API, which sends no more requests once one was not answered."""
    evidence: dict[str, Evidence] = field(default_factory=dict)
    """The evidence by hop, except of hops that could not be checked."""
    match: rules.Match | None = None
    """The rule that matches the request, once known."""
    is_unanswered: bool = False
    """Whether the request got no response within its full time limit."""
    is_compared: bool = False
    """Whether the nodes were already checked for packets lost between them."""
    unchecked: set[str] = field(default_factory=set)
    """What the checks of the current hop could not find out in time."""
    had_time_to_log: bool = False
    """Whether a search of the controller's log had its full time limit, within which requests are logged."""
    _request_result: tuple[Exchange, LogSearch] | None = None
    _rules: rules.Rules | None = None
    _controller_pods: list[dict[str, Any]] | None = None
    _end: float = 0.0

    def __post_init__(self) -> None:
        self._end = self._end or time.monotonic() + self.limits.trace

    def left(self, seconds: float) -> float:
        """Return these seconds, or what is left of the trace's time; never zero, so that a waiting response is read."""
        return min(seconds, max(self._end - time.monotonic(), SHORTEST))

    @property
    def is_over(self) -> bool:
        """Whether the trace's time limit has passed, so that nothing new is started."""
        return time.monotonic() >= self._end

    def shortened(self, seconds: float) -> Trail:
        """Return a copy whose time limit ends this many seconds earlier."""
        return replace(self, _end=self._end - seconds)

    @property
    def limits(self) -> Limits:
        """The time limits of the lab."""
        return self.lab.limits

    @property
    def lab(self) -> Lab:
        """The lab."""
        return self.context.lab

    @property
    def controller(self) -> IngressController:
        """The lab's ingress controller."""
        return self.context.controller

    @property
    def is_app(self) -> bool:
        """Return whether the hostname belongs to one of the lab's apps."""
        return any(app.hostname == self.hostname for app in self.lab.apps)

    @property
    def announcing(self) -> str | None:
        """The node that has the address: the one that answers ARP, or that MetalLB reports; None if unknown."""
        evidence = self.evidence.get("node", {})
        answering = (each["node"] for each in evidence.get("answers_arp") or () if each["node"])
        return next(answering, evidence.get("announced_by"))

    @property
    def hosts(self) -> Path:
        """The path of the hosts file outside the lab's network."""
        return SETTINGS / self.context.isolation.namespace / "hosts" if self.context.isolated else self.client.hosts

    @property
    def address(self) -> IPv4Address:
        """The address of the request: what the name resolves to, or else what it should resolve to.

        Raises NotReadyError `address-missing` if neither is known.
        """
        named = ip_address(self.evidence.get("name", {}).get("address") or "::")
        address = named if isinstance(named, IPv4Address) else self.controllers_address()
        if address is None:
            raise NotReadyError(f"the address of {self.hostname} is unknown", id="address-missing")
        return address

    def controllers_address(self) -> IPv4Address | None:
        """Return the address that names should resolve to; None if it is unknown, which the next hop reports."""
        try:
            address = state.load_balancer_address(self.cluster, self.controller.namespace, self.controller.service)
        except LabError:
            return None
        return None if isinstance(address, Pending) else address

    def rules(self) -> rules.Rules:
        """Return the Ingress rules for the hostname, read once."""
        if self._rules is None:
            self._rules = rules.read(self.cluster, self.controller, self.hostname)
        return self._rules

    def controller_pods(self) -> list[dict[str, Any]]:
        """Return the pods of the ingress controller, read once."""
        if self._controller_pods is None:
            self._controller_pods = backend.controller_pods(self.cluster, self.controller)
        return self._controller_pods

    def request(self) -> tuple[Exchange, LogSearch]:
        """Return the request and its log search; the request is made once."""
        if self._request_result is None:
            exchange = self.fetch()
            self._request_result = exchange, self.search(exchange)
        return self._request_result

    def record(self) -> Record | None:
        """Return the controller's log record of the request; None if there is none."""
        exchange, search = self.request()
        return search.records.get(exchange.mark)

    def is_own(self, ingress: str) -> bool:
        """Return whether an Ingress (namespace/name) belongs to one of the lab's apps."""
        return ingress in {f"default/{app.name}" for app in self.lab.apps}

    def discard(self) -> None:
        """Discard what was read, so that the next check reads it again."""
        self._request_result, self._rules, self._controller_pods, self.is_compared = None, None, None, False

    def fetch(self) -> Exchange:
        """Make a request."""
        seconds = self.left(self.limits.http_answer)
        exchange = self.client.fetch(self.hostname, self.address, self.path, seconds=seconds)
        self.is_unanswered = exchange.status is None and seconds >= self.limits.http_answer
        return exchange

    def connection(self) -> Connection:
        """Return a connection for further requests."""
        return self.client.connection_to(self.hostname, self.address)

    def search(self, *exchanges: Exchange) -> LogSearch:
        """Search the controller's log for requests."""
        marks = [each.mark for each in exchanges if each.is_connected]
        if not marks:
            return LogSearch()
        logs = backend.log_sources(self.controller, self.controller_pods(), self.announcing)
        seconds = self.left(self.limits.trace_log)
        log_search = access_log.search(self.cluster, self.controller.namespace, logs, marks, seconds)
        self.had_time_to_log = self.had_time_to_log or seconds >= self.limits.trace_log
        if not self.had_time_to_log and len(log_search.records) < len(marks):
            return replace(log_search, is_complete=False)  # a line may be written later
        return log_search


Hop = Callable[[Trail], Evidence]
"""Checks one hop and returns its evidence. Raises ProblemError if it finds a problem."""


def target(context: Context, text: str | None) -> tuple[str, str]:
    """Return the hostname and the path that a hostname or a URL means; for None, those of the lab's first app.

    Raises UsageError `no-app`, `hostname-invalid` or `url-invalid`.
    """
    apps = {app.hostname: app for app in context.lab.apps}
    if text is None:
        if not apps:
            raise UsageError(
                f"the lab {context.lab.name} has no app",
                id="no-app",
                hint="Give a hostname that one of its Ingresses serves: `labctl trace HOSTNAME`.",
            )
        text = next(iter(apps))
    hostname, path = _parts(text) if "://" in text else (text, "")
    hostname = hostname.lower().removesuffix(".")
    _check(hostname)
    return hostname, path or (apps[hostname].path if hostname in apps else rules.ROOT)


def _parts(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        hostname, port = parts.hostname or "", parts.port or HTTP
    except ValueError as error:
        raise UsageError(f"{url!r}: {error}", id="url-invalid", hint="For example http://my-app.local/.") from error
    if parts.scheme != "http" or port != HTTP or not url.isascii() or re.search(r"[\x00-\x20\x7f]", url):
        raise UsageError(
            f"{url!r} cannot be traced: only http on port {HTTP} is supported",
            id="url-invalid",
            hint="For example http://my-app.local/.",
        )
    return hostname, (parts.path or rules.ROOT) + (f"?{parts.query}" if parts.query else "")


def _check(hostname: str) -> None:
    labels = hostname.split(".")
    if len(hostname) <= LONGEST and all(map(LABEL.fullmatch, labels)) and not labels[-1].isdigit():
        return
    raise UsageError(
        f"{hostname!r} is not a hostname: labels of letters, digits and hyphens, at most 63 characters each, "
        f"{LONGEST} in all, without a port",
        id="hostname-invalid",
        hint="For example my-app.local; write an internationalised name in its xn-- form.",
    )
