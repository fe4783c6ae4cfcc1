"""Read a node's network state as root on the node, which needs no privileges on this machine."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

from labctl.host import routes
from labctl.host.http_probe import HTTP
from labctl.host.parsing import ipv4_network
from labctl.host.process import Finished
from labctl.model.errors import LabError
from labctl.model.lab import Node
from labctl.trace.probes import filters
from labctl.trace.probes.filters import Ruleset
from labctl.trace.problem import Evidence
from labctl.trace.trail import Trail

PROXY_TABLE = "kube-proxy"
"""The table of kube-proxy's rules in nftables mode."""
PROXY_CHAINS = "KUBE-"
"""The prefix of kube-proxy's chains in iptables mode."""
ENDED = "labctl: exit code"
SHOW_CODE = f"; printf '\\n{ENDED} %s\\n' $?"
"""The end of each line of a script for a node."""
NO_CONNECTION = 255
"""ssh's exit code if it could not run the command."""
CURL_TIMED_OUT = 28
"""curl's exit code if a time limit passed."""
INTERFACES = ("ip", "-j", "-4", "address", "show")
ROUTE = ("ip", "-j", "-4", "route", "get")
NEIGHBOURS = ("ip", "-j", "-4", "neigh", "show")
KERNEL_RULES = frozenset({0, 32766, 32767})
"""The priorities of the routing rules that every node has: for the tables local, main and default."""
UNANSWERED = frozenset({"INCOMPLETE", "FAILED"})
"""The states of an ARP entry for an address that does not answer."""
FORWARDING: Mapping[str, Sequence[str]] = {
    "forward": ("cat", "/proc/sys/net/ipv4/ip_forward"),
    "ruleset": ("nft", "-j", "list", "ruleset"),
    "listing": ("nft", "-a", "list", "ruleset"),
}
"""The commands that show whether a node forwards packets."""
CONNECT = (
    "curl",
    "--silent",
    "--output",
    "/dev/null",
    "--noproxy",
    "*",
    "--write-out",
    "%{time_connect}",
)


@dataclass(frozen=True, slots=True)
class Pod:
    """The address of a pod, its port and its node."""

    address: IPv4Address
    port: int
    node: str


def pod_at(address: str, port: int, node: str) -> Pod | None:
    """Return the pod at an endpoint's address; None if that is not IPv4."""
    network = ipv4_network(address)
    return None if network is None else Pod(network.network_address, port, node)


@dataclass(frozen=True)
class NodeFacts:
    """The output of commands on a node: empty if the command failed, absent if it was not run."""

    node: Node
    sections: Mapping[str, str]

    @property
    def forwards(self) -> bool:
        """Return whether IP forwarding is on; True if the node did not report it."""
        return self.sections.get("forward", "").strip() != "0"

    @cached_property
    def interfaces(self) -> dict[str, list[IPv4Interface]]:
        """Return the node's addresses by interface."""
        return _interfaces(self.sections.get("interfaces", ""))

    @property
    def device(self) -> str:
        """Return the interface that has the node's address."""
        own = self.node.address
        return next((name for name, has in self.interfaces.items() if own in {each.ip for each in has}), "")

    @cached_property
    def ruleset(self) -> Ruleset | None:
        """Return the node's packet filter, without kube-proxy's own rules; None if unknown."""
        try:
            ruleset = filters.parse(self.sections.get("ruleset", ""), without=(PROXY_TABLE,))
        except ValueError:
            return None
        others = {key: each for key, each in ruleset.chains.items() if not each.name.startswith(PROXY_CHAINS)}
        return replace(ruleset, chains=others)

    def has_rule_for(self, address: IPv4Address) -> bool | None:
        """Return whether kube-proxy has rules for port 80 of an address; None if unknown."""
        try:
            ruleset = filters.parse(self.sections.get("ruleset", ""))
        except ValueError:
            return None
        services = ruleset.sets.get(("ip", PROXY_TABLE, "service-ips"))
        if services is not None:
            return any(each[0] == {"concat": [str(address), "tcp", HTTP]} for each in services)
        legacy = ruleset.chains.get(("ip", "nat", "KUBE-SERVICES"))
        return bool(legacy) and f'"{address}"' in json.dumps(legacy.rules if legacy else [])

    def route(self, target: str) -> dict[str, Any] | None:
        """Return the node's route to a pod, or to this machine as "back"; None if it has none."""
        output = self.sections.get(_section_of(target), "")
        try:
            [entry] = json.loads(output)
        except ValueError:
            return None
        return dict(entry)

    def overriding_rule(
        self, target: IPv4Address, source: IPv4Address | None, through: str = ""
    ) -> Mapping[str, Any] | None:
        """Return the routing rule that takes precedence over the main table for packets; None if there is none.

        A rule that leads to the right gateway, `through`, does not count.
        """
        rules, tables = _list(self.sections.get("rules", "")), _list(self.sections.get("tables", ""))
        return routes.overriding_rule(
            routes.sort_rules(rules), routes.parse_routes(tables), target, source, self.device, through
        )

    def fixed_mac(self, target: IPv4Address) -> str | None:
        """Return the MAC of a static ARP entry on the interface that has the node's address; None if there is none."""
        entries = _list(self.sections.get("neighbours", ""))
        here = (each for each in entries if (each.get("dst"), each.get("dev")) == (str(target), self.device))
        return next((str(each.get("lladdr", "")) for each in here if "PERMANENT" in each.get("state", ())), None)

    def is_silent(self, target: IPv4Address) -> bool:
        """Return whether an address in the lab's network does not answer the node's ARP requests."""
        entries = _list(self.sections.get("neighbours", ""))
        here = (each for each in entries if (each.get("dst"), each.get("dev")) == (str(target), self.device))
        return any(UNANSWERED & set(each.get("state", ())) for each in here)

    def reaches(self, pod: Pod) -> bool:
        """Return whether the pod accepted a connection from the node; True if the node did not report it.

        curl reports a connect time of 0 for a connection that failed; without curl, there is no report.
        """
        output = self.sections.get(f"open {pod.address}", "").strip()
        return not output or float(output) > 0

    def knows_route(self, target: str) -> bool:
        """Return whether the node reported its rules and its route to a pod, or to this machine as "back", if it has one."""
        return {_section_of(target), "rules"} <= self.sections.keys()


def query_node(trail: Trail, node: Node, client: IPv4Address, pods: Collection[Pod]) -> NodeFacts | None:
    """Return a node's network facts, its routes to these pods, and whether they accept connections.

    None if the node does not answer.
    """
    questions = {**FORWARDING, "back": (*ROUTE, str(client)), "neighbours": NEIGHBOURS}
    sections = _sections(trail, node, {**questions, **_routes_to(pods)})
    if sections is None:
        return None
    return connected(trail, NodeFacts(node, sections), pods)


def connected(trail: Trail, facts: NodeFacts, pods: Collection[Pod]) -> NodeFacts:
    """Add to a node's facts whether these pods accept connections from it.

    A connection that fails for lack of time is left out.
    """
    sections = dict(facts.sections)
    for pod in pods:
        seconds = trail.left(trail.limits.trace_pod)
        said = _run(trail, facts.node, (*CONNECT, "--max-time", f"{seconds}", f"http://{pod.address}:{pod.port}/"))
        if said and said.code == CURL_TIMED_OUT and seconds < trail.limits.survey_least:
            trail.unchecked.add(f"whether {facts.node.name} connects to {pod.address}")
        elif said:
            sections[f"open {pod.address}"] = said.out
    return NodeFacts(facts.node, sections)


def query_forwarding(trail: Trail, node: Node, pods: Collection[Pod]) -> NodeFacts | None:
    """Return only what affects packets that a node forwards to these pods; None if it does not answer."""
    sections = _sections(trail, node, {**_routes_to(pods), **FORWARDING, "neighbours": NEIGHBOURS})
    return None if sections is None else NodeFacts(node, sections)


def query_routes(trail: Trail, node: Node, pods: Collection[Pod]) -> NodeFacts | None:
    """Return only a node's interfaces and its routes to these pods; None if it does not answer."""
    sections = _sections(trail, node, _routes_to(pods))
    return None if sections is None else NodeFacts(node, sections)


def interfaces(trail: Trail, name: str) -> dict[str, list[IPv4Interface]]:
    """Return a node's addresses by interface; empty if it does not answer."""
    node = next((each for each in trail.lab.nodes if each.name == name), None)
    output = _output(trail, node, INTERFACES) if node else None
    return _interfaces(output or "")


def mtus(trail: Trail) -> list[Evidence]:
    """Return the MTU of each interface on the path: of this machine and of the announcing node."""
    route = trail.client.route(trail.address)
    link: list[Evidence] = []
    if route is not None:
        own = (each for each in trail.client.interfaces() if each.name == route.device)
        link += [{"where": "this machine", "interface": each.name, "mtu": each.mtu} for each in own]
    node = next((each for each in trail.lab.nodes if each.name == trail.announcing), None)
    output = _output(trail, node, INTERFACES) if node else None
    if node and output:
        link += [
            {"where": node.name, "interface": each["ifname"], "mtu": each["mtu"]}
            for each in _list(output)
            if each["ifname"] != "lo"
        ]
    return link


def node_with_smaller_mtu(trail: Trail, names: Collection[str]) -> tuple[Node, str, int, int] | None:
    """Return the first of these nodes whose MTU in the lab's network is below this machine's.

    With it come the node's interface, its MTU and this machine's. None if there is no such node.
    """
    route = trail.client.route(trail.address)
    own = next((each.mtu for each in trail.client.interfaces() if route and each.name == route.device), 0)
    for node in (each for each in trail.lab.nodes if each.name in names):
        for each in _list(_output(trail, node, INTERFACES) or ""):
            is_the_labs = any(one.get("local") == str(node.address) for one in each.get("addr_info", []))
            if is_the_labs and each["mtu"] < own:
                return node, each["ifname"], each["mtu"], own
    return None


def _routes_to(pods: Collection[Pod]) -> dict[str, Sequence[str]]:
    return {
        "interfaces": INTERFACES,
        "rules": routes.IP_RULES,
        **{f"route {pod.address}": (*ROUTE, str(pod.address)) for pod in pods},
    }


def _sections(trail: Trail, node: Node, questions: Mapping[str, Sequence[str]]) -> dict[str, str] | None:
    """Return the output of each command on the node, empty if it failed.

    None if the node does not answer, or the trace's time limit has passed.
    """
    result = None if trail.is_over else _run(trail, node, ("sh", "-c", script(questions.values())))
    if result is None or result.code:
        _note_unreported(trail, node)
        return None
    texts = re.split(rf"\n{ENDED} (\d+)\n", result.out)
    sections = {
        name: text if code == "0" else "" for name, text, code in zip(questions, texts[::2], texts[1::2], strict=False)
    }
    if any("table" in each and each["priority"] not in KERNEL_RULES for each in _list(sections.get("rules", ""))):
        sections["tables"] = _output(trail, node, routes.IP_ROUTES) or ""
    return sections


def script(commands: Iterable[Sequence[str]]) -> str:
    """Return a shell script of these commands, one a line, which prints each one's exit code after its output.

    One login for all commands costs a node much less than one for each.
    """
    return "\n".join(f"{shlex.join(each)}{SHOW_CODE}" for each in commands)


def _section_of(target: str) -> str:
    return target if target == "back" else f"route {target}"


def _output(trail: Trail, node: Node, command: Sequence[str]) -> str | None:
    """Return a command's output on a node; None if the node does not answer or the command fails."""
    result = _run(trail, node, command)
    return result.out if result and result.code == 0 else None


def _run(trail: Trail, node: Node, command: Sequence[str]) -> Finished | None:
    try:
        finished = trail.context.provider.run(node, command, trail.left(trail.limits.trace_node))
    except LabError:  # the node is frozen, or this user lacks the rights: its facts stay unknown
        finished = None
    if finished is None or finished.code == NO_CONNECTION:
        _note_unreported(trail, node)
        return None
    return finished


def _note_unreported(trail: Trail, node: Node) -> None:
    trail.unchecked.add(f"the network of {node.name}")


def _list(text: str) -> list[dict[str, Any]]:
    try:
        entries = json.loads(text)
    except ValueError:
        return []
    return list(entries)


def _interfaces(text: str) -> dict[str, list[IPv4Interface]]:
    return {
        each["ifname"]: [IPv4Interface(f"{one['local']}/{one['prefixlen']}") for one in each.get("addr_info", [])]
        for each in _list(text)
    }
