"""The names that a demo may use for what differs from lab to lab: `$address`, `${hostname}`; `$$` is a $."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import Template

from labctl.model.errors import UsageError
from labctl.model.lab import AddressPool, Lab
from labctl.model.reports import LoadReport

Values = Mapping[str, str]

SAMPLES: Values = {
    "lab": "demo",
    "app": "my-app",
    "hostname": "my-app.local",
    "url": "http://my-app.local",
    "address": "192.0.2.100",
    "announcer": "demo-worker-1",
    "standby": "demo-worker-2",
    "control_plane": "demo-control-plane",
    "pool": "192.0.2.100-192.0.2.110",
    "pool_first": "192.0.2.100",
    "pool_last": "192.0.2.110",
    "pool_of_three": "192.0.2.100-192.0.2.102",
    "answers": "81 good answers",
    "failures": "9 failures",
    "gap": "1.4 s",
}
"""Every name, with what it may stand for: a demo is checked before there is a lab to ask."""
LIVE = frozenset({"address", "announcer", "standby"})
"""What has to be looked up in the cluster, at the beginning of each scene that says it."""
MEASURED = frozenset({"answers", "failures", "gap"})
"""What the client saw in the last scene before that had one."""
OF_AN_APP = frozenset({"app", "hostname", "url"})


def checked(text: str) -> str:
    """The text, whose placeholders all have known names. Raises ValueError otherwise."""
    template = Template(text)
    if not template.is_valid():
        raise ValueError("has a $ that begins no name; a $ itself is written $$")
    if unknown := [name for name in template.get_identifiers() if name not in SAMPLES]:
        raise ValueError(f"there is no name ${', $'.join(unknown)}; known are {', '.join(SAMPLES)}")
    return text


def filled(text: str, values: Values) -> str:
    """The text with the values for its names."""
    return Template(text).substitute(values)


def used(part: object) -> frozenset[str]:
    """The names in every text of a part of a demo, which consists of mappings and lists."""
    return frozenset(name for text in _texts(part) for name in Template(text).get_identifiers())


def fixed(lab: Lab, names: frozenset[str]) -> dict[str, str]:
    """What names stand for as long as the lab is there.

    Raises UsageError `no-app` where one of `names` is about an app, and the lab has none.
    """
    if names & OF_AN_APP and not lab.apps:
        raise UsageError(
            f"the lab {lab.name} has no app, and this demo is about one",
            id="no-app",
            hint="`labctl app add NAME` gives it one.",
        )
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


def measured(load: LoadReport) -> dict[str, str]:
    """Return what the figures of a scene's traffic are called in the scenes after it."""
    return {
        "answers": _counted(load["answers"], "good answer"),
        "failures": _counted(load["failures"], "failure"),
        "gap": f"{load['gap']:.1f} s",
    }


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _texts(part: object) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif isinstance(part, Mapping):
        for value in part.values():
            yield from _texts(value)
    elif isinstance(part, list):
        for value in part:
            yield from _texts(value)
