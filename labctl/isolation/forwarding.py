"""Firewall rules that let an isolated lab connect out through this machine, and let nobody connect in.

If the machine did not forward packets before, one more rule keeps it from forwarding for anyone but its labs.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from labctl.host.process import check, run

IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
FORWARDING_BEFORE = Path("/run/labctl/ip_forward")
"""The content of IP_FORWARD before the first isolated lab, if labctl changed it."""
CLOSED = "labctl"
"""The comment of the rule that keeps a machine that forwards only because of labctl from forwarding for others."""
IPTABLES = ("iptables", "--wait", "-t")


def ensure(tag: str, link: str, source: str) -> bool:
    """Let the lab behind the link connect out, and nobody connect in: no neighbour of this machine, no other lab.

    `source` is the network of the uplink's inner end. Return whether any rule was missing.
    """
    _enable()
    comment = ["-m", "comment", "--comment", tag]
    answers = ["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"]
    # Each rule is inserted before the previous one.
    wanted = (
        ["nat", "-I", "POSTROUTING", "-s", source, *comment, "-j", "MASQUERADE"],
        ["filter", "-I", "FORWARD", "-o", link, *comment, "-j", "DROP"],
        ["filter", "-I", "FORWARD", "-i", link, "!", "-o", "labctl+", *comment, "-j", "ACCEPT"],
        ["filter", "-I", "FORWARD", "-o", link, *answers, *comment, "-j", "ACCEPT"],
    )
    if len(rules(tag)) == len(wanted):
        return False
    delete_rules(tag)
    for rule in wanted:
        check([*IPTABLES, *rule], hint="Docker's packages bring iptables.")
    return True


def restore() -> None:
    """Restore the value that net.ipv4.ip_forward had before the first isolated lab, once no such lab is left."""
    if FORWARDING_BEFORE.exists():
        IP_FORWARD.write_text(FORWARDING_BEFORE.read_text())
        delete_rules(CLOSED)
        FORWARDING_BEFORE.unlink()


def rules(tag: str) -> list[list[str]]:
    """Return the rules with this tag: each with its table, then the arguments that would add or delete it."""
    return [
        [table, *rule[1:]]
        for table in ("nat", "filter")
        for line in run([*IPTABLES, table, "-S"]).out.splitlines()
        if tag in line and tag in (rule := shlex.split(line))  # foreign comments may have unbalanced quotes
    ]


def delete_rules(tag: str) -> None:
    """Delete the rules with this tag."""
    for table, *rule in rules(tag):
        check([*IPTABLES, table, "-D", *rule])


def _enable() -> None:
    before = IP_FORWARD.read_text()  # read once: another lab may enable it meanwhile
    if before.strip() != "1":
        FORWARDING_BEFORE.parent.mkdir(parents=True, exist_ok=True)
        FORWARDING_BEFORE.write_text(before)
        if not rules(CLOSED):
            check([*IPTABLES, "filter", "-A", "FORWARD", "-m", "comment", "--comment", CLOSED, "-j", "DROP"])
        IP_FORWARD.write_text("1")
