"""Check values: each by the model, then by rules about several of them. Report every problem in plain words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from labctl.config.model import LEAST_MACHINE, MACHINES, MUST_BE, UNPLANNED, AppConfig, Config
from labctl.config.problems import Problem, display_value, explanation
from labctl.model.lab import Lab
from labctl.model.pools import conflicts, reserved

_TABLE_TEXTS = "[key]"
"""The last part of pydantic's location for an invalid key of a table."""
_UNITS = {"memory": " MiB"}


def check(values: Mapping[str, Any]) -> tuple[Lab, list[Problem]]:
    """Return the lab and all problems: first those of single values, then those of valid values together."""
    wrong: list[ErrorDetails] = []
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        wrong = error.errors(include_url=False)
        config = Config.model_validate(_valid_values(values, wrong))
    lab = config.lab()
    keys = {detail["loc"][0] for detail in wrong}
    broken = [problem for needed, rule in _RULES if not needed & keys for problem in rule(lab)]
    return lab, [*(_explain(detail, values) for detail in wrong), *broken]


def _room_for_nodes(lab: Lab) -> Iterator[Problem]:
    room = len([node for node in lab.possible_nodes if node.address < lab.network.broadcast_address]) - 1
    if lab.workers > room:
        yield Problem("workers", str(lab.workers), f"network {lab.network} has room for {room}")


def _large_machines(lab: Lab) -> Iterator[Problem]:
    if lab.provider in MACHINES and lab.memory < LEAST_MACHINE:
        text = f"must be at least {LEAST_MACHINE} MiB for provider {lab.provider}, whose nodes are virtual machines"
        yield Problem("memory", str(lab.memory), text)


def _free_pool(lab: Lab) -> Iterator[Problem]:
    if lab.pool == UNPLANNED:
        return
    if lab.pool.first not in lab.network or lab.pool.last not in lab.network:
        yield Problem("pool", str(lab.pool), f"is outside the network {lab.network}, which it follows if left out")
    if overlaps := conflicts(lab.pool, reserved(lab, lab.nodes)):
        yield Problem("pool", str(lab.pool), f"overlaps {', '.join(overlaps)}")


def _distinct_apps(lab: Lab) -> Iterator[Problem]:
    for key in ("name", "hostname"):
        counts = Counter(getattr(app, key) for app in lab.apps)
        yield from (Problem(f"apps.{key}", value, f"is in {n} apps") for value, n in counts.items() if n > 1)
    nodes = {node.name for node in lab.possible_nodes}
    yield from (
        Problem("apps.hostname", app.hostname, "is the name of a node") for app in lab.apps if app.hostname in nodes
    )


_RULES: tuple[tuple[frozenset[str], Callable[[Lab], Iterator[Problem]]], ...] = (
    (frozenset({"network", "workers"}), _room_for_nodes),
    (frozenset({"provider", "memory"}), _large_machines),
    (frozenset({"network", "pool"}), _free_pool),
    (frozenset(), _distinct_apps),
)
"""Rules about several values, each with the keys that must be valid to apply it."""


def _valid_values(values: Mapping[str, Any], wrong: list[ErrorDetails]) -> dict[str, Any]:
    """Return the valid values, and the valid apps."""
    of_apps = [detail for detail in wrong if detail["loc"][0] == "apps" and len(detail["loc"]) > 1]
    apps = {detail["loc"][1] for detail in of_apps}
    keys = {detail["loc"][0] for detail in wrong if detail not in of_apps}
    sound = {key: value for key, value in values.items() if key in Config.model_fields and key not in keys}
    if apps:
        sound["apps"] = [app for index, app in enumerate(sound["apps"]) if index not in apps]
    return sound


def _value_at(values: Any, place: Sequence[int | str], otherwise: object) -> object:  # noqa: ANN401 - any value of the file
    """Return the value at this place as written, before conversion; `otherwise` if there is none."""
    for part in place:
        try:
            values = values[part]
        except (LookupError, TypeError):
            return otherwise
    return values


def _explain(detail: ErrorDetails, values: Mapping[str, Any]) -> Problem:
    key, *rest = (
        part if isinstance(part, int) else display_value(part) for part in detail["loc"] if part != _TABLE_TEXTS
    )
    path = f"{key}[{rest[0]}]" + "".join(f".{part}" for part in rest[1:]) if rest else str(key)
    context = detail.get("ctx", {})
    text = explanation(detail)
    if detail["type"] == "model_type":
        text += ", such as `name: my-app`"
    if "pattern" in context:
        text = f"must be {MUST_BE[context['pattern']]}"
    if context.keys() & {"ge", "le"}:
        text += _UNITS.get(path, "")
    if detail["type"] == "extra_forbidden":
        known = AppConfig.model_fields if rest else Config.model_fields
        text += "".join(f'; did you mean "{close}"?' for close in get_close_matches(str(detail["loc"][-1]), known, 1))
    value = _value_at(values, detail["loc"], detail["input"])
    return Problem(path, "" if detail["type"] == "missing" else display_value(value), text)
