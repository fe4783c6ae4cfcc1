"""Placeholders for what differs from lab to lab: `$address`, `${hostname}`; `$$` is a dollar sign."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from string import Template
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from labctl.cluster import state
from labctl.config import from_values
from labctl.host.wait import Pending
from labctl.model.lab import AddressPool, Lab

if TYPE_CHECKING:
    from labctl.context import Context

Values = Mapping[str, str]

LIVE = frozenset({"address", "announcer", "standby"})
"""Looked up when a scene that uses them begins."""
MEASURED = frozenset({"answers", "failures", "gap"})
"""Results of the last scene with traffic."""
APP_NAMES = frozenset({"app", "hostname", "url"})


def lab_values(lab: Lab) -> dict[str, str]:
    """Return the values that stay the same while the lab exists."""
    app = lab.apps[0] if lab.apps else None
    return {
        "lab": lab.name,
        "control_plane": lab.control_plane.name,
        "pool": str(lab.pool),
        "pool_first": str(lab.pool.first),
        "pool_last": str(lab.pool.last),
        "pool_of_three": str(AddressPool(lab.pool.first, min(lab.pool.first + 2, lab.pool.last))),
        **({"app": app.name, "hostname": app.hostname, "url": app.url} if app else {}),
    }


SAMPLES = (
    lab_values(from_values({})) | dict.fromkeys(sorted(LIVE), "192.0.2.100") | dict.fromkeys(sorted(MEASURED), "9 s")
)
"""Every name, with an example of its value, so that a demo can be checked without a lab."""


def require_known_names(text: str) -> str:
    """Return the text if all its names are known. Raises ValueError."""
    template = Template(text)
    if not template.is_valid():
        raise ValueError("has a $ without a name; write $$ for a dollar sign")
    if unknown := [name for name in template.get_identifiers() if name not in SAMPLES]:
        raise ValueError(f"unknown name ${', $'.join(unknown)}; known are {', '.join(SAMPLES)}")
    return text


Text = Annotated[str, Field(min_length=1), AfterValidator(require_known_names)]


class Part(BaseModel):
    """A mapping in a demo's file."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    def filled(self, values: Values) -> Self:
        """Return the part with the values in place of the names in its own texts."""
        return self.model_copy(update={key: fill(value, values) for key, value in self if isinstance(value, str)})


def names_in(*parts: Part) -> frozenset[str]:
    """Return the names in all texts of these parts."""
    return frozenset(name for part in parts for name in Template(part.model_dump_json()).get_identifiers())


def fill(text: str, values: Values) -> str:
    """Return the text with the values in place of the names."""
    return Template(text).substitute(values)


def live_values(context: Context, names: frozenset[str]) -> dict[str, str] | Pending:
    """Return the live values of these names, or Pending if one has no value yet. Raises the errors of Cluster."""
    cluster, lab, service = context.cluster, context.lab, (context.controller.namespace, context.controller.service)
    looks: Mapping[str, Callable[[], IPv4Address | str | Pending]] = {
        "address": lambda: state.load_balancer_address(cluster, *service),
        "announcer": lambda: state.announcer(cluster, lab, *service),
        "standby": lambda: state.standby(cluster, lab, *service),
    }
    values = {name: looks[name]() for name in sorted(names & LIVE)}
    pending = [value for value in values.values() if isinstance(value, Pending)]
    return pending[0] if pending else {name: str(value) for name, value in values.items()}
