"""The table, the report and the repairs."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import pytest
from golden_files import Golden
from recorded_machine import Recorded

from labctl import ui
from labctl.context import Context
from labctl.doctor import CHECKS, Check, Finding, Machine, State, examine, repair, report
from labctl.model.errors import ProviderError


def _check(states: list[State], *, error: ProviderError | None = None) -> Check:
    """Return a check that finds these states in turn, with a repair that raises the error, if any."""

    def inspect(_context: Context, _seen: Machine) -> Finding:
        state = states.pop(0)
        return Finding(state, f"it is {state}", "" if state is State.OK else "`mend it`")

    def fix(_context: Context, _seen: Machine) -> None:
        if error:
            raise error

    return Check("subject", "it matters", inspect, repair=fix)


def test_every_check_has_a_unique_id_and_a_reason() -> None:
    identities = [check.id for check in CHECKS]

    assert len(identities) == len(set(identities)) > 20
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", identity) for identity in identities)
    assert all(check.why for check in CHECKS)


def test_all_checks_run_on_a_machine_without_any_tool(context: Context) -> None:
    class Bare(Recorded):
        def has(self, program: str) -> bool:  # noqa: ARG002 - it has none
            return False

    for isolated in (False, True):
        for provider in ("auto", "libvirt", "virtualbox"):
            requested = replace(
                context, isolated=isolated, lab=replace(context.lab, provider=provider), bundle_folder=None
            )
            document = report(requested, examine(requested, Bare(platform="darwin", is_root=False)))

            assert not document["ok"]
            assert [check["id"] for check in document["checks"]] == [check.id for check in CHECKS]


def test_a_good_machine_is_ok_and_its_report_is_json(context: Context) -> None:
    document = report(context, examine(context, Recorded()))

    assert document["ok"], [check for check in document["checks"] if check["state"] == "broken"]
    assert document["lab"] == "demo"
    assert set(json.loads(json.dumps(document))["checks"][0]) == {
        *("id", "state", "cause", "seen", "why", "fix", "fixed"),
    }


@pytest.mark.parametrize(
    ("states", "final", "fixed"),
    [
        ([State.OK], "ok", False),
        ([State.NOT_RELEVANT], "not relevant", False),
        ([State.WARNING, State.OK], "ok", True),
        ([State.BROKEN, State.OK], "ok", True),
        ([State.WARNING, State.WARNING], "warning", False),
    ],
)
def test_a_repaired_problem_is_checked_again(context: Context, states: list[State], final: str, *, fixed: bool) -> None:
    (check,) = report(context, repair(context, Recorded(), [_check(states)]))["checks"]

    assert (check["state"], check["fixed"]) == (final, fixed)


def test_an_examination_changes_nothing(context: Context) -> None:
    states = [State.WARNING, State.OK]
    (examined,) = examine(context, Recorded(), [_check(states)])

    assert (examined.finding.state, states) == (State.WARNING, [State.OK])


def test_a_failed_repair_is_reported(context: Context, golden: Golden) -> None:
    failing = _check([State.BROKEN], error=ProviderError("`ip` ended with exit code 1", id="tool-failed"))
    (check,) = report(context, repair(context, Recorded(), [failing]))["checks"]

    assert (check["state"], check["fixed"]) == ("broken", False)
    golden(check["seen"])


def test_warnings_leave_the_report_ok(context: Context) -> None:
    assert report(context, examine(context, Recorded(), [_check([State.WARNING])]))["ok"]
    assert not report(context, examine(context, Recorded(), [_check([State.BROKEN])]))["ok"]


def test_findings_are_printed_one_per_line_before_the_fixes(context: Context, golden: Golden) -> None:
    checks = [
        _check([State.OK]),
        replace(_check([State.BROKEN]), id="engine"),
        replace(_check([State.NOT_RELEVANT]), id="kvm"),
        replace(_check([State.NOT_RELEVANT]), id="libvirt"),
    ]
    stdout = io.StringIO()
    ui.findings(report(context, examine(context, Recorded(), checks)), stdout)

    golden(stdout.getvalue())


def test_repairs_are_printed_with_the_final_result(context: Context, golden: Golden) -> None:
    stdout = io.StringIO()
    ui.findings(report(context, repair(context, Recorded(), [_check([State.WARNING, State.OK])])), stdout)

    golden(stdout.getvalue())
