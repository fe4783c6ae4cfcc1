"""Unsupported and remote Engines, from recorded samples."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recorded_machine import RECORDED, run_check

from labctl.context import Context
from labctl.doctor import CHECKS
from labctl.doctor.engines import KINDS

SAMPLES = sorted((RECORDED / "engines").glob("*.json"))
DOCUMENT = Path(__file__).parents[3] / "docs" / "engines.md"
HERE = {"kernel": "/proc/sys/kernel/osrelease", "host": "/proc/sys/kernel/hostname"}


def _read(sample: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(sample.read_text(encoding="utf-8"))
    return read


def _recorded_machine(sample: dict[str, Any]) -> dict[str, Any]:
    said = {
        line: (answer if isinstance(answer, str) else json.dumps(answer), 0) for line, answer in sample["said"].items()
    }
    return {
        "outputs": {"docker version --format {{json .}}": ("Cannot connect", 1), **said},
        "files": {HERE[name]: f"{value}\n" for name, value in sample["machine"].items()},
        "environment": sample["environment"],
        "platform": sample["platform"],
        "paths": {"docker": sample["path"]},
    }


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_each_sample_is_recognised_and_has_a_fix(context: Context, path: Path) -> None:
    sample = _read(path)
    finding = run_check(sample["check"], context, **_recorded_machine(sample))

    assert (finding.state, finding.cause) == (sample["state"], sample["cause"]), finding
    assert bool(finding.fix) == (sample["state"] != "ok")
    assert sample["source"]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_an_unusable_engine_blocks_up_with_one_id(context: Context, path: Path) -> None:
    sample = _read(path)
    found_broken = [
        check.id
        for check in CHECKS
        if check.id in {"docker-command", "engine"}
        and run_check(check.id, context, **_recorded_machine(sample)).state == "broken"
        and check.blocks_up
    ]

    assert found_broken == ([sample["check"]] if sample["state"] == "broken" else [])


def test_every_kind_of_engine_has_a_sample_and_is_documented() -> None:
    causes = {_read(path)["cause"] for path in SAMPLES} - {""}

    assert {kind.cause for kind in KINDS} <= causes
    text = DOCUMENT.read_text(encoding="utf-8")
    assert [cause for cause in sorted(causes) if f"`{cause}`" not in text] == []


def test_an_isolated_lab_checks_the_docker_command_and_not_the_machines_engine(context: Context) -> None:
    isolated = replace(context, isolated=True)
    command = _recorded_machine(_read(RECORDED / "engines" / "podman-command.json"))
    engine = _recorded_machine(_read(RECORDED / "engines" / "desktop-linux.json"))

    assert run_check("docker-command", isolated, **command).cause == "engine-podman"
    assert run_check("docker-command", isolated, **engine).state == "ok"
    assert run_check("engine", isolated, **engine).state == "not relevant"


@pytest.mark.parametrize("text", ["28.2.2\n", "", "null", "[]", '{"Server": null}', '{"Server": {}}'])
def test_an_engine_with_incomplete_output_causes_no_error(context: Context, text: str) -> None:
    said = {"docker version --format {{json .}}": (text, 0), "docker context inspect": ("[{}]", 0)}

    assert run_check("engine", context, outputs=said).state in {"ok", "broken"}


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("docker-engine-permission.txt", "engine-permission"),
        ("docker-engine-api-mismatch.txt", "engine-api-mismatch"),
        ("docker-engine-certificate-missing.txt", "engine-certificate-missing"),
        ("docker-docker-context-unknown.txt", "docker-context-unknown"),
        ("docker-engine-unreachable.txt", ""),
    ],
)
def test_a_known_reason_for_an_unreachable_engine_is_the_cause(context: Context, said: str, cause: str) -> None:
    output = (RECORDED.parents[1] / "host" / "recorded" / said).read_text(encoding="utf-8")
    finding = run_check("engine", context, outputs={"docker version --format {{json .}}": (output, 1)})

    assert (finding.state, finding.cause) == ("broken", cause)


def test_a_password_in_an_engine_address_is_not_shown(context: Context) -> None:
    finding = run_check("engine", context, environment={"DOCKER_HOST": "ssh://me:secret@build.example:22"})

    assert finding.cause == "engine-remote"
    assert "ssh://me@build.example:22" in finding.observation
    assert "secret" not in f"{finding.observation}{finding.fix}"
