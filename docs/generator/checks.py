"""Every check of `labctl doctor`, from its table."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from generator import markdown
from labctl.doctor import CHECKS, Check, conditions
from labctl.doctor.finding import Condition

ONLY: Mapping[Condition, str] = {
    conditions.not_virtualbox: "the provider is not VirtualBox",
    conditions.containers: "the nodes are containers",
    conditions.with_new_nodes: "the lab does not exist yet, or gets more workers",
    conditions.isolated: "the lab is isolated",
    conditions.libvirt: "the provider is libvirt",
    conditions.shared: "the lab is not isolated",
    conditions.without_bundle: "the bundle is not built yet",
    conditions.not_created: "the lab does not exist yet",
    conditions.not_created_if_shared: "the lab is isolated or does not exist yet",
    conditions.virtual_machines: "the nodes are virtual machines",
    conditions.virtualbox: "the provider is VirtualBox",
}
"""Each condition of a check, in words."""


def page() -> str:
    """Return the page."""
    return markdown.page(
        "Doctor checks",
        "[`labctl doctor`](commands.md#labctl-doctor) makes these checks, in this order. `labctl up` makes those that have"
        " an error id first: it stops with exit code 3, reports all problems at once, and uses that id if there is only"
        " one.",
        *(block for check in CHECKS for block in _section(check)),
    )


def _section(check: Check) -> tuple[str, ...]:
    facts = [
        *([("Only if", " and ".join(ONLY[each] for each in check.conditions))] if check.conditions else []),
        *([("Stops `up` with", f"[{check.blocks_up}](errors.md#{check.blocks_up})")] if check.blocks_up else []),
        *([("`labctl doctor --fix`", markdown.sentence(_summary(check.repair)))] if check.repair else []),
    ]
    return (
        f"## {check.id}",
        f"{markdown.sentence(_summary(check.run))} Why: {check.why}.",
        "\n".join(f"- {name}: {text}" for name, text in facts),
    )


def _summary(function: object) -> str:
    return " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())
