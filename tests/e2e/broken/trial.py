"""The trial of one broken lab, from the first wrong answer until every hop is ok again."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from e2e.reallab import LABCTL, RealLab, eventually, finished

from . import BrokenLab, nothing

HOPS = ("name", "address", "node", "rule", "pod", "response")
TIMES = 3
TRACE_SECONDS = 5.0
NAMED_SECONDS = 45.0
MENDING_SECONDS = 180.0
NOT_READY = 6
EXIT_CODES = {"kubernetes-refused": 5}

Trace = Mapping[str, Any]


def tried(lab: RealLab, row: BrokenLab) -> str:
    """Test a row, and leave the lab repaired; return a line with the time that it took."""
    began = time.monotonic()
    try:
        slowest, refused = _tried(lab, row)
    except BaseException:
        row.undo(lab)
        lab.up()
        eventually(lambda: traced(lab)[0], is_well)
        raise
    if row.undo is not nothing:
        row.undo(lab)
        eventually(lambda: traced(lab)[0], is_well)
    named = f", `up` gave up after {refused:.1f} s" if refused else ""
    return f"{time.monotonic() - began:5.1f} s  {row.hop}: {row.name} (trace {slowest:.1f} s{named})"


def traced(lab: RealLab) -> tuple[Trace, float]:
    """Return the result of `trace`, and the seconds that it took."""
    began = time.monotonic()
    document = lab.labctl("trace", "-o", "json", code=None).document()
    return document, time.monotonic() - began


def is_well(trace: Trace) -> bool:
    """Return whether every hop is ok, and none is a warning or unknown."""
    return all(hop["state"] == "ok" for hop in trace["hops"])


def typed(lab: RealLab, commands: Sequence[str]) -> None:
    """Run command lines as a user types them; all must succeed."""
    environment = {**lab.full_environment(), "PATH": f"{LABCTL.parent}{os.pathsep}{os.environ['PATH']}"}
    for command in commands:
        ran = finished(["sh", "-c", command], MENDING_SECONDS, environment, lab.state_home)
        assert ran.code == 0, f"{command}: {lab.explained(ran)}"


def _tried(lab: RealLab, row: BrokenLab) -> tuple[float, float]:
    row.breaks(lab)
    hop, slowest = _same_each_time(lab, row)
    row.also(lab, hop)
    _agrees(lab, row)
    commands, refused = hop["commands"], 0.0
    only_up = commands == [f"labctl --name {lab.name} up"]
    if row.up == "mends" and not only_up:
        lab.up()
        assert is_well(traced(lab)[0]), traced(lab)[0]
        row.undo(lab)
        row.breaks(lab)
        eventually(lambda: traced(lab)[0], lambda trace: _hop(trace, row)["cause"] == row.cause)
    elif row.up == "names":
        refused = _refused(lab, row)
    elif row.up == "fine":
        lab.up()
        assert _hop(traced(lab)[0], row)["cause"] == row.cause
    _mended(lab, row, commands)
    return slowest, refused


def _same_each_time(lab: RealLab, row: BrokenLab) -> tuple[Any, float]:
    """Require the same result of several traces; return the row's hop, and the seconds of the slowest trace."""
    # The same cause may break a later hop first: MetalLB withdraws an address shortly after its last pod is gone.
    first = eventually(lambda: traced(lab), lambda seen: _hop(seen[0], row)["cause"] == row.cause)
    seen = [first, *(traced(lab) for _ in range(TIMES - 1))]
    for trace, seconds in seen:
        assert {hop["hop"]: hop["state"] for hop in trace["hops"]} == _states(row), trace["hops"]
        assert _hop(trace, row)["cause"] == row.cause
        assert trace["ok"] == (row.state != "broken")
        assert seconds < TRACE_SECONDS
    hop = _hop(seen[-1][0], row)
    assert hop["fix"]
    assert hop["evidence"]["finding"]
    return hop, max(seconds for _, seconds in seen)


def _states(row: BrokenLab) -> dict[str, str]:
    where = HOPS.index(row.hop)
    after = "not reached" if row.state == "broken" else "ok"
    usual = {hop: "ok" if number < where else after for number, hop in enumerate(HOPS)}
    return {**usual, **row.others, row.hop: row.state}


def _agrees(lab: RealLab, row: BrokenLab) -> None:
    """Check that `status` reports the same."""
    status = lab.status(code=8 if row.state == "broken" else 0)
    assert status["ok"] == (row.state != "broken")
    assert {row.cause, row.up_id} & {problem["id"] for problem in status["problems"]}, status["problems"]


def _refused(lab: RealLab, row: BrokenLab) -> float:
    """Check that `up` names what it cannot fix; return the seconds that it took."""
    result = lab.up(code=EXIT_CODES.get(row.up_id, NOT_READY)).result()
    assert result["error"]["id"] == (row.up_id or row.cause), result["error"]
    seconds = float(result["seconds"])
    assert seconds < NAMED_SECONDS
    return seconds


def _mended(lab: RealLab, row: BrokenLab, commands: Sequence[str]) -> None:
    if row.mended_by == "undo":
        assert commands == [], "a hop that prints commands is mended by them"
        row.undo(lab)
    else:
        assert commands, "no command mends it, and the row does not say that there is none"
        typed(lab, commands)
    eventually(lambda: traced(lab)[0], is_well)


def _hop(trace: Trace, row: BrokenLab) -> Any:  # noqa: ANN401 - JSON
    return trace["hops"][HOPS.index(row.hop)]
