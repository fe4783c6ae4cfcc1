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
    """Return a check that finds these states one after the other, with a repair that fails if there is an error."""

    def look(_context: Context, _seen: Machine) -> Finding:
        state = states.pop(0)
        return Finding(state, f"it is {state}", "" if state is State.OK else "`mend it`")

    def mend(_context: Context, _seen: Machine) -> None:
        if error:
            raise error

    return Check("subject", "it matters", look, repair=mend)


def test_every_check_has_an_id_of_its_own_and_says_why_it_matters() -> None:
    identities = [check.id for check in CHECKS]

    assert len(identities) == len(set(identities)) > 20
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", identity) for identity in identities)
    assert all(check.why for check in CHECKS)


def test_a_machine_without_any_tool_is_examined_in_full(context: Context) -> None:
    class Bare(Recorded):
        def has(self, program: str) -> bool:  # noqa: ARG002 - it has none
            return False

    for isolated in (False, True):
        for provider in ("auto", "libvirt", "virtualbox"):
            asked = replace(context, isolated=isolated, lab=replace(context.lab, provider=provider), bundle_folder=None)
            answer = report(asked, examine(asked, Bare(platform="darwin", is_root=False)))

            assert not answer["ok"]
            assert [check["id"] for check in answer["checks"]] == [check.id for check in CHECKS]


def test_a_good_machine_is_ok_and_its_answer_is_json(context: Context) -> None:
    answer = report(context, examine(context, Recorded()))

    assert answer["ok"], [check for check in answer["checks"] if check["state"] == "broken"]
    assert answer["lab"] == "demo"
    assert set(json.loads(json.dumps(answer))["checks"][0]) == {
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
def test_what_can_be_put_right_is_and_is_looked_at_again(
    context: Context, states: list[State], final: str, *, fixed: bool
) -> None:
    (check,) = report(context, repair(context, Recorded(), [_check(states)]))["checks"]

    assert (check["state"], check["fixed"]) == (final, fixed)


def test_looking_alone_changes_nothing(context: Context) -> None:
    states = [State.WARNING, State.OK]
    (examined,) = examine(context, Recorded(), [_check(states)])

    assert (examined.finding.state, states) == (State.WARNING, [State.OK])


def test_a_repair_that_fails_is_told_of(context: Context, golden: Golden) -> None:
    failing = _check([State.BROKEN], error=ProviderError("`ip` ended with exit code 1", id="tool-failed"))
    (check,) = report(context, repair(context, Recorded(), [failing]))["checks"]

    assert (check["state"], check["fixed"]) == ("broken", False)
    golden(check["seen"])


def test_warnings_leave_the_answer_ok(context: Context) -> None:
    assert report(context, examine(context, Recorded(), [_check([State.WARNING])]))["ok"]
    assert not report(context, examine(context, Recorded(), [_check([State.BROKEN])]))["ok"]


def test_a_user_reads_a_line_a_check_and_then_what_to_do(context: Context, golden: Golden) -> None:
    checks = [
        _check([State.OK]),
        replace(_check([State.BROKEN]), id="engine"),
        replace(_check([State.NOT_RELEVANT]), id="kvm"),
        replace(_check([State.NOT_RELEVANT]), id="libvirt"),
    ]
    stdout = io.StringIO()
    ui.findings(report(context, examine(context, Recorded(), checks)), stdout)

    golden(stdout.getvalue())


def test_a_user_is_told_what_was_fixed_and_that_all_is_well(context: Context, golden: Golden) -> None:
    stdout = io.StringIO()
    ui.findings(report(context, repair(context, Recorded(), [_check([State.WARNING, State.OK])])), stdout)

    golden(stdout.getvalue())
