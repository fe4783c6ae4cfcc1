"""Evaluate a packet against a machine's packet filter: nftables rules, including iptables rules kept in nftables."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labctl.trace.probes.packets import ArpPacket, Json, Packet, meets, same, value

FAMILIES = frozenset({"ip", "inet", "netdev"})
"""The families whose hooks a packet passes between a program and an interface."""
BRIDGE = frozenset({"bridge"})
ARP_TOO = frozenset({"arp", "netdev"})
"""The families whose hooks an ARP packet passes between the kernel and an interface."""
DROPPING = frozenset({"drop", "reject"})
REDIRECTING = frozenset({"dnat", "redirect"})
PASSING = frozenset({"accept", "return"})
JUMPING = frozenset({"jump", "goto"})
ELSEWHERE = frozenset({"queue", "fwd", "tproxy"})
VERDICTS = DROPPING | REDIRECTING | PASSING | JUMPING | ELSEWHERE
XT_VERDICTS: Mapping[str, str] = {
    "REJECT": "reject",
    "DNAT": "dnat",
    "REDIRECT": "redirect",
    "NFQUEUE": "queue",
    "TPROXY": "tproxy",
}
CONDITIONS = frozenset({"limit", "quota", "ct count"})
"""Statements that match depending on earlier packets."""
NUMBER = "numgen"
"""The left side of a match that a random number or a counter decides, which rules with a verdict use."""
HARMLESS_XT = frozenset({"comment"})
OFF = "dormant"
"""The flag of a table that the kernel does not evaluate."""
MAX_DEPTH = 16
PRIORITIES: Mapping[str, int] = {"raw": -300, "mangle": -150, "dstnat": -100, "security": 50, "srcnat": 100}


@dataclass(frozen=True, slots=True)
class Stop:
    """The rule that stops a packet, or a chain's policy, which has no handle."""

    family: str
    table: str
    chain: str
    handle: int | None
    does: str
    """The verdict: drop, reject, dnat or redirect."""
    is_by_chance: bool = False
    """Whether a random number or a counter decides which packets the rule applies to."""

    @property
    def place(self) -> str:
        """Return the table and chain in nft's syntax."""
        return f"table {self.family} {self.table}, chain {self.chain}"

    @property
    def effect(self) -> str:
        """Return a verb for what happens to the packets."""
        verb = "redirects" if self.does in REDIRECTING else "drops"
        return f"sometimes {verb}" if self.is_by_chance else verb

    @property
    def removal(self) -> tuple[str, ...]:
        """Return the command that removes the rule or the policy."""
        where = (self.family, self.table, self.chain)
        if self.handle is None:
            return ("nft", "add", "chain", *where, "{ policy accept; }")
        return ("nft", "delete", "rule", *where, "handle", str(self.handle))


@dataclass
class Chain:
    """A chain of rules in their order; `hook` is empty if only other chains jump to it."""

    family: str
    table: str
    name: str
    hook: str = ""
    priority: int = 0
    policy: str = "accept"
    devices: frozenset[str] = frozenset()
    """The interfaces of the hooks `ingress` and `egress`."""
    rules: list[Json] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All chains and sets of a machine."""

    chains: Mapping[tuple[str, str, str], Chain]
    sets: Mapping[tuple[str, str, str], Sequence[Any]]

    def stop(
        self, packet: Packet | ArpPacket, *hooks: str, families: Collection[str] = FAMILIES, after: float = -math.inf
    ) -> Stop | None:
        """Return what certainly stops the packet, or else some packets like it, at these hooks.

        None if it passes, or if that is unknown. Only chains with a priority greater than `after` are evaluated.
        """
        by_chance: Stop | None = None
        for hook in hooks:
            chains = [
                each
                for each in self.chains.values()
                if each.hook == hook and each.family in families and each.priority > after
                if not each.devices or packet.device_at(hook) in each.devices
            ]
            for chain in sorted(chains, key=lambda each: each.priority):
                walk = _Walk(self, packet)
                end = walk.through(chain)
                if isinstance(end, Stop):
                    return end
                if end is None and walk.is_certain and chain.policy == "drop":
                    return Stop(chain.family, chain.table, chain.name, None, "drop")
                by_chance = by_chance or walk.by_chance
        return by_chance

    def elements(self, chain: Chain, right: Any) -> Sequence[Any] | None:  # noqa: ANN401 - JSON
        """Return the elements on the right side of a match; None for a set that does not exist."""
        if isinstance(right, str) and right.startswith("@"):
            return self.sets.get((chain.family, chain.table, right[1:]))
        elements_or_name = right["set"] if isinstance(right, dict) and "set" in right else right
        return elements_or_name if isinstance(elements_or_name, list) else [elements_or_name]


def parse(text: str, without: Collection[str] = ()) -> Ruleset:
    """Parse the output of `nft -j list ruleset`, except dormant tables and those in `without`. Raises ValueError."""
    chains: dict[tuple[str, str, str], Chain] = {}
    sets: dict[tuple[str, str, str], Sequence[Any]] = {}
    entries = [each for entry in json.loads(text)["nftables"] for each in entry.items()]
    tables = [each for kind, each in entries if kind == "table"]
    # nft 1.0.6 prints the table's name instead of the flag.
    off = {(each["family"], each["name"]) for each in tables if {OFF, each["name"]} & _words(each.get("flags", ()))}
    for kind, content in entries:
        if content.get("table") in without or (content.get("family"), content.get("table")) in off:
            continue
        if kind == "chain":
            key = content["family"], content["table"], content["name"]
            devices = content.get("dev", ())
            chains[key] = Chain(
                *key,
                content.get("hook", ""),
                _priority(content.get("prio", 0)),
                content.get("policy", "accept"),
                frozenset([devices] if isinstance(devices, str) else devices),
            )
        elif kind == "rule":
            chains[content["family"], content["table"], content["chain"]].rules.append(content)
        elif kind in {"set", "map"}:
            sets[content["family"], content["table"], content["name"]] = content.get("elem", ())
    return Ruleset(chains, sets)


def wording(listing: str, stop: Stop) -> str:
    """Return a rule's text, from the output of `nft -a list ruleset`, with its place."""
    if stop.handle is None:
        return f"{stop.place}: policy {stop.does}"
    table = rf"^table {re.escape(stop.family)} {re.escape(stop.table)} \{{.*?^\}}"
    for body in re.findall(table, listing, re.MULTILINE | re.DOTALL):
        if line := re.search(rf"^\s*(\S.*?) # handle {stop.handle}$", body, re.MULTILINE):
            return f"{stop.place}: {line[1]}"
    return f"{stop.place}: {stop.does}"


class _Walk:
    """The evaluation of a packet in a base chain and the chains that it jumps to."""

    def __init__(self, ruleset: Ruleset, packet: Packet | ArpPacket) -> None:
        self.is_certain = True
        """Whether no rule so far could have accepted the packet."""
        self.by_chance: Stop | None = None
        """The first rule that stops some packets like this one, as a random number or a counter decides."""
        self._ruleset = ruleset
        self._packet = packet

    def through(self, chain: Chain, depth: int = 0) -> Stop | str | None:
        """Return what stops the packet, or "accept", or None at the end of the chain."""
        for rule in chain.rules if depth < MAX_DEPTH else ():
            end = self._rule(chain, rule, depth)
            if end is not None:
                return None if end == "return" else end
        return None

    def _rule(self, chain: Chain, rule: Json, depth: int) -> Stop | str | None:
        is_certain, is_by_chance = True, False
        for statement in rule.get("expr", ()):
            [(kind, content)] = statement.items()
            if kind == "match" and NUMBER in content["left"]:
                is_by_chance = True
                continue
            verdict, is_met = self._read(chain, kind, content)
            if is_met is False:
                return None
            is_certain = is_certain and is_met is True
            if verdict is not None and is_by_chance:
                self._note_chance(chain, rule, verdict, is_certain=is_certain)
                return None
            if verdict is not None:
                return self._end(chain, rule, verdict, depth, is_certain=is_certain)
        return None

    def _read(self, chain: Chain, kind: str, content: Any) -> tuple[Json | None, bool | None]:  # noqa: ANN401 - JSON
        """Return a statement's verdict, if it has one, and whether the packet meets its condition."""
        if kind in VERDICTS:
            return {kind: content}, True
        if kind == "match":
            return None, meets(self._packet, content, self._ruleset.elements(chain, content["right"]))
        if kind == "vmap":
            return self._mapped(chain, content)
        if kind == "xt":
            content = content or {}
            if content.get("type") == "target":
                verdict = XT_VERDICTS.get(str(content.get("name")))
                return ({verdict: None} if verdict else None), True
            return None, True if content.get("name") in HARMLESS_XT else None
        nested = content.get("stmt") or () if isinstance(content, dict) else ()  # a set's statements for each element
        return None, None if kind in CONDITIONS or nested else True

    def _mapped(self, chain: Chain, mapping: Json) -> tuple[Json | None, bool | None]:
        key = value(self._packet, mapping["key"])
        for wanted, verdict in self._ruleset.elements(chain, mapping["data"]) or ():
            if (met := None if key is None else same(key, wanted)) is not False:
                return verdict, met
        return None, False

    def _note_chance(self, chain: Chain, rule: Json, verdict: Json, *, is_certain: bool) -> None:
        """Note a rule that stops some packets; others continue."""
        [kind] = verdict
        if kind not in DROPPING | REDIRECTING:
            self.is_certain = False
        elif is_certain and self.is_certain and self.by_chance is None:
            self.by_chance = Stop(chain.family, chain.table, chain.name, rule.get("handle"), kind, is_by_chance=True)

    def _end(self, chain: Chain, rule: Json, verdict: Json, depth: int, *, is_certain: bool) -> Stop | str | None:
        [(kind, content)] = verdict.items()
        if kind in JUMPING:
            target = self._ruleset.chains.get((chain.family, chain.table, content["target"]))
            end = self.through(target, depth + 1) if target else None
            if is_certain:
                return "return" if end is None and kind == "goto" else end
            self.is_certain = self.is_certain and kind == "jump" and end != "accept"
            return None
        if kind in DROPPING | REDIRECTING and is_certain and self.is_certain:
            return Stop(chain.family, chain.table, chain.name, rule.get("handle"), kind)
        if kind in PASSING and is_certain:
            return kind
        self.is_certain = self.is_certain and kind in DROPPING
        return None


def _words(flags: str | Sequence[str]) -> set[str]:
    return {flags} if isinstance(flags, str) else set(flags)


def _priority(priority: object) -> int:
    return priority if isinstance(priority, int) else PRIORITIES.get(str(priority), 0)
