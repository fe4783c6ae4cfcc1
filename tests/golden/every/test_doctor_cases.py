"""The finding of each check on a machine: the cases in doctor_cases, one file for each group of checks.

A case has the values of labctl.yaml (`lab`), the differences from a machine that has everything (`machine`, see
recorded_machine.py) and the text of the hosts file (`hosts`); then the expected state, and values that the finding
names. Its wording is in tests/golden/wording.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import lab
from golden_files import Golden
from recorded_machine import run_check, text

from labctl.context import Context

KEYS = {"lab", "machine", "hosts", "state", "names"}


def _cases() -> list[Any]:
    """Return every case as a parameter: the check's id, and the case as read from the file."""
    return [
        pytest.param(check, case, id=f"{check}: {name}")
        for file in sorted((Path(__file__).parent / "doctor_cases").glob("*.yaml"))
        for check, cases in yaml.load(file.read_bytes(), Loader=yaml.CSafeLoader).items()
        for name, case in cases.items()
    ]


@pytest.mark.parametrize(("check", "case"), _cases())
def test_a_check_returns_the_reviewed_finding(
    context: Context, hosts_file: Path, check: str, case: dict[str, Any], golden: Golden
) -> None:
    hosts_file.write_text(hosts := case.get("hosts", hosts_file.read_text()))
    described = replace(lab(**case["lab"]), hosts_file=hosts_file) if "lab" in case else context.lab

    finding = run_check(check, replace(context, lab=described), **_differences(case.get("machine", {})))

    assert case.keys() <= KEYS
    assert finding.state == case["state"], finding
    assert [name for name in case.get("names", []) if name not in f"{finding.observation}\n{finding.fix}"] == []
    assert bool(finding.fix) == (finding.state in {"broken", "warning"})
    assert "secret" not in f"{finding.observation}{finding.fix}"
    assert hosts_file.read_text() == hosts
    golden({"seen": finding.observation, "fix": finding.fix})


@pytest.mark.parametrize("check", ["hosts-file", "hosts-block", "hosts-shadows", "hosts-other-labs"])
def test_an_isolated_lab_has_a_hosts_file_of_its_own(context: Context, check: str) -> None:
    assert run_check(check, replace(context, isolated=True)).state == "not relevant"


def _differences(machine: dict[str, Any]) -> dict[str, Any]:
    """Return a case's differences of the machine as arguments of `Recorded`."""
    files = {
        path: content if isinstance(content, str) else text(content["recorded"])
        for path, content in machine.get("files", {}).items()
    }
    outputs = {line: _output(**case) for line, case in machine.get("outputs", {}).items()}
    return {**machine, "files": files, "outputs": outputs}


def _output(*, recorded: str = "", prints: str = "", fails: str | None = None) -> str | tuple[str, int]:
    """Return the name of a recorded output, or a tool's output and exit code."""
    if recorded:
        return recorded
    return (prints, 0) if fails is None else (fails, 1)
