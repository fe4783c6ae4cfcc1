"""The trial of one broken lab, from the first failed hop until every hop is ok again."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from e2e.reallab import LABCTL, RealLab, eventually, execute

from . import BrokenLab, nothing

HOPS = ("name", "address", "node", "rule", "pod", "response")
TRACES = 3
TRACE_SECONDS = 5.0
REPORTED_SECONDS = 45.0
FIX_SECONDS = 180.0
NOT_READY = 6
EXIT_CODES = {"kubernetes-refused": 5}

Trace = Mapping[str, Any]


def run_trial(lab: RealLab, row: BrokenLab) -> str:
    """Test a row, and leave the lab repaired; return a line with the time that it took."""
    began = time.monotonic()
    try:
        slowest, refused = _run_trial(lab, row)
    except BaseException:
        row.undo(lab)
        lab.up()
        eventually(lambda: timed_trace(lab)[0], is_healthy)
        raise
    if row.undo is not nothing:
        row.undo(lab)
        eventually(lambda: timed_trace(lab)[0], is_healthy)
    named = f", `up` gave up after {refused:.1f} s" if refused else ""
    return f"{time.monotonic() - began:5.1f} s  {row.hop}: {row.name} (trace {slowest:.1f} s{named})"


def timed_trace(lab: RealLab) -> tuple[Trace, float]:
    """Return the result of `trace`, and the seconds that it took."""
    began = time.monotonic()
    document = lab.labctl("trace", "-o", "json", code=None).document()
    return document, time.monotonic() - began


def is_healthy(trace: Trace) -> bool:
    """Return whether every hop is ok, and none is a warning or unknown."""
    return all(hop["state"] == "ok" for hop in trace["hops"])


def run_commands(lab: RealLab, commands: Sequence[str]) -> None:
    """Run command lines as a user would; all must succeed."""
    environment = {**lab.full_environment(), "PATH": f"{LABCTL.parent}{os.pathsep}{os.environ['PATH']}"}
    for command in commands:
        completed = execute(["sh", "-c", command], FIX_SECONDS, environment, lab.state_home)
        assert completed.code == 0, f"{command}: {lab.explain(completed)}"


def _run_trial(lab: RealLab, row: BrokenLab) -> tuple[float, float]:
    row.breaks(lab)
    hop, slowest = _repeated_trace(lab, row)
    row.also(lab, hop)
    _check_status(lab, row)
    commands, refused = hop["commands"], 0.0
    only_up = commands == [f"labctl --name {lab.name} up"]
    if row.up == "fixes" and not only_up:
        lab.up()
        assert is_healthy(timed_trace(lab)[0]), timed_trace(lab)[0]
        row.undo(lab)
        row.breaks(lab)
        eventually(lambda: timed_trace(lab)[0], lambda trace: _hop(trace, row)["cause"] == row.cause)
    elif row.up == "reports":
        refused = _failed_up(lab, row)
    elif row.up == "fine":
        lab.up()
        assert _hop(timed_trace(lab)[0], row)["cause"] == row.cause
    _fix(lab, row, commands)
    return slowest, refused


def _repeated_trace(lab: RealLab, row: BrokenLab) -> tuple[Any, float]:
    """Require the same result of several traces; return the row's hop, and the seconds of the slowest trace."""
    # The same cause may break a later hop first: MetalLB withdraws an address shortly after its last pod is gone.
    first = eventually(lambda: timed_trace(lab), lambda traces: _hop(traces[0], row)["cause"] == row.cause)
    traces = [first, *(timed_trace(lab) for _ in range(TRACES - 1))]
    for trace, seconds in traces:
        assert {hop["hop"]: hop["state"] for hop in trace["hops"]} == _states(row), trace["hops"]
        assert _hop(trace, row)["cause"] == row.cause
        assert trace["ok"] == (row.state != "broken")
        assert seconds < TRACE_SECONDS
    hop = _hop(traces[-1][0], row)
    assert hop["fix"]
    assert hop["evidence"]["finding"]
    return hop, max(seconds for _, seconds in traces)


def _states(row: BrokenLab) -> dict[str, str]:
    where = HOPS.index(row.hop)
    after = "not reached" if row.state == "broken" else "ok"
    usual = {hop: "ok" if number < where else after for number, hop in enumerate(HOPS)}
    return {**usual, **row.others, row.hop: row.state}


def _check_status(lab: RealLab, row: BrokenLab) -> None:
    """Check that `status` reports the same."""
    status = lab.status(code=8 if row.state == "broken" else 0)
    assert status["ok"] == (row.state != "broken")
    assert {row.cause, row.up_id} & {problem["id"] for problem in status["problems"]}, status["problems"]


def _failed_up(lab: RealLab, row: BrokenLab) -> float:
    """Check that `up` names what it cannot fix; return the seconds that it took."""
    result = lab.up(code=EXIT_CODES.get(row.up_id, NOT_READY)).result()
    assert result["error"]["id"] == (row.up_id or row.cause), result["error"]
    seconds = float(result["seconds"])
    assert seconds < REPORTED_SECONDS
    return seconds


def _fix(lab: RealLab, row: BrokenLab, commands: Sequence[str]) -> None:
    if row.fixed_by == "undo":
        assert commands == [], "a hop that prints commands is fixed by them"
        row.undo(lab)
    else:
        assert commands, "no command fixes it, and the row does not expect that"
        run_commands(lab, commands)
    eventually(lambda: timed_trace(lab)[0], is_healthy)


def _hop(trace: Trace, row: BrokenLab) -> Any:  # noqa: ANN401 - JSON
    return trace["hops"][HOPS.index(row.hop)]
