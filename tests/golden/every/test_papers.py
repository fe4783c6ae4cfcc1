"""The project's documents and settings: workflows, issue forms, pinned packages, links and the changelog."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

CHECKOUT = Path(__file__).parents[3]
PYPROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
WORKFLOWS = {path.name: yaml.safe_load(path.read_bytes()) for path in (CHECKOUT / ".github/workflows").glob("*.yml")}
FORMS = [path for path in (CHECKOUT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"]
DOCUMENTS = sorted(
    [
        *CHECKOUT.glob("*.md"),
        *(path for path in CHECKOUT.glob("docs/**/*.md") if path.name != "troubleshooting.md"),  # it quotes other tools
        *CHECKOUT.glob(".github/**/*.y*ml"),
        *CHECKOUT.glob(".github/**/*.md"),
        CHECKOUT / "pyproject.toml",
        CHECKOUT / ".ci/constraints.txt",
    ]
)
PINS = dict(re.findall(r"^([\w.-]+)==([\w.]+)", (CHECKOUT / ".ci/constraints.txt").read_text(), re.MULTILINE))

UNBOUNDED = {"cryptography", "kubernetes", "rich"}
"""Packages without an upper bound, for the reason in pyproject.toml."""
README_SECTIONS = [
    "Who it is for",
    "Quick start",
    "The first five minutes",
    "What it changes on the machine",
    "Documentation",
    "Tests",
]
MEASURED = ("docs/performance.md", "docs/reliability.md")
HOSTS = {
    "apt.releases.hashicorp.com",
    "asciinema.org",
    "containerlab.dev",
    "github.com",
    "k3d.io",
    "keepachangelog.com",
    "kind.sigs.k8s.io",
    "metallb.io",
    "minikube.sigs.k8s.io",
    "packaging.python.org",
    "semver.org",
    "www.contributor-covenant.org",
}
"""The hosts that documents link to. Add one only after opening its page."""
RESERVED_DOMAINS = (".example", ".internal", ".invalid", ".local", ".localhost", ".test")
"""Domains that no public host can have, used by labs and in examples."""
SECTIONS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
OWN_PATHS = re.compile(r"`((?:labctl|templates|tests|docs|bench|\.ci|\.github)/[\w./*-]*|[A-Z_]+\.md|pyproject\.toml)`")
URL = re.compile(r"https?://[^\s\"'`<>)\]}]+")


def _steps() -> Iterator[dict[str, Any]]:
    for workflow in WORKFLOWS.values():
        for job in workflow["jobs"].values():
            yield from job.get("steps", [])


def test_every_command_of_a_workflow_is_a_script_that_also_runs_locally() -> None:
    run_here = (CHECKOUT / ".ci/run").read_text() + (CHECKOUT / "tests/e2e/test_b_release.py").read_text()
    commands = [step["run"] for step in _steps() if "run" in step]

    assert len(commands) > 5
    for command in commands:
        script, *_ = command.split()
        assert os.access(CHECKOUT / script, os.X_OK), command
        assert script == ".ci/run" or script in run_here, f"nothing here runs {script}"
        assert re.fullmatch(r"\.ci/\w+( --\w+)*", command), f"put this into a script of .ci/: {command}"


def test_the_readme_has_its_sections_in_the_order_that_a_newcomer_needs() -> None:
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")

    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == README_SECTIONS
    assert re.search(r"\]\(docs/\w+\.svg\)", text.partition("## ")[0]), "a picture stands above the first section"


def test_ci_runs_the_test_command_of_the_readme() -> None:
    (command,) = re.findall(r"^pip install .*$", (CHECKOUT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert command in (CHECKOUT / ".ci/run").read_text(encoding="utf-8")


def test_pre_commit_runs_scripts_of_this_repository_and_fetches_none() -> None:
    repositories = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_bytes())["repos"]

    assert {each["repo"] for each in repositories} == {"local"}
    assert [hook["entry"] for each in repositories for hook in each["hooks"]] == [".ci/lint"]


def test_every_action_is_pinned_to_a_commit_and_names_its_release() -> None:
    lines = [
        line.strip()
        for path in (CHECKOUT / ".github/workflows").glob("*.yml")
        for line in path.read_text().splitlines()
        if "uses:" in line
    ]

    others = [line for line in lines if "./.github/" not in line]
    assert len(others) > 5
    assert [line for line in others if not re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)] == []
    assert len({line.removeprefix("- ").partition("@")[0] for line in others}) == len(
        {line.removeprefix("- ") for line in others}
    ), "one action, one release"


def test_workflows_may_only_read_and_a_job_requests_more() -> None:
    assert [workflow["permissions"] for workflow in WORKFLOWS.values()] == [{"contents": "read"}] * len(WORKFLOWS)
    may_write = {
        name: sorted(key for key, value in job.get("permissions", {}).items() if value == "write")
        for workflow in WORKFLOWS.values()
        for name, job in workflow["jobs"].items()
    }
    assert {name: keys for name, keys in may_write.items() if keys} == {
        "packages": ["attestations", "id-token"],
        "bundle": ["attestations", "id-token"],
        "push": ["packages"],
        "publish": ["id-token"],
    }


def test_a_release_has_bundles_of_two_architectures() -> None:
    matrix = WORKFLOWS["release.yml"]["jobs"]["bundle"]["strategy"]["matrix"]["include"]

    assert [row["architecture"] for row in matrix] == ["amd64", "arm64"]


def test_every_python_version_of_the_classifiers_is_tested() -> None:
    named = {classifier.rpartition(" ")[2] for classifier in PROJECT["classifiers"] if ":: 3." in classifier}
    tested = WORKFLOWS["tests.yml"]["jobs"]["fast"]["strategy"]["matrix"]["python"]

    assert named <= set(tested)
    assert min(Version(each) for each in tested) in Requirement(f"x{PROJECT['requires-python']}").specifier
    assert f">={tested[0]}" == PROJECT["requires-python"]


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_every_issue_form_asks_for_the_exported_logs(form: Path) -> None:
    fields = {field.get("id"): field for field in yaml.safe_load(form.read_bytes())["body"]}

    assert "labctl logs --export" in fields["logs"]["attributes"]["description"]


def test_documents_link_only_to_reviewed_hosts() -> None:
    unknown = {
        str(path.relative_to(CHECKOUT)): hosts
        for path in DOCUMENTS
        if (hosts := {host for host in map(_host, URL.findall(path.read_text())) if not _is_known(host)})
    }

    assert unknown == {}


def test_the_constraints_name_no_url_or_index() -> None:
    text = (CHECKOUT / ".ci/constraints.txt").read_text()

    assert "://" not in text
    assert "index" not in text.replace("--index", "index-option").split()


def test_the_constraints_pin_every_package_with_checksums() -> None:
    entries = re.split(r"\n(?=\S)", (CHECKOUT / ".ci/constraints.txt").read_text().strip())

    assert [
        entry for entry in entries if not re.match(r"[\w.-]+==[\w.]+ .*\n    --hash=sha256:[0-9a-f]{64}", entry)
    ] == []


def _requirements() -> list[Requirement]:
    extras = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    return list(map(Requirement, [*PROJECT["dependencies"], *PYPROJECT["build-system"]["requires"], *extras]))


def test_requirements_have_an_upper_bound_where_a_major_release_could_break_labctl() -> None:
    unbounded = {each.name for each in _requirements() if not any("<" in bound.operator for bound in each.specifier)}

    assert unbounded == UNBOUNDED


def test_the_constraints_satisfy_the_requirements_of_the_project() -> None:
    wrong = {
        str(required): PINS.get(canonicalize_name(required.name))
        for required in _requirements()
        if PINS.get(canonicalize_name(required.name), "0") not in required.specifier
    }
    assert wrong == {}, "`pip install '.[release]'`, run .ci/lock and commit what it writes"


def test_only_pyproject_names_the_repository() -> None:
    repository = PYPROJECT["tool"]["labctl"]["repository"]

    naming = [path.name for path in DOCUMENTS if repository and repository in path.read_text()]
    assert naming in ([], ["pyproject.toml"])
    assert "urls" in PROJECT["dynamic"]


def test_the_changelog_has_only_known_sections() -> None:
    lines = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    releases = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    sections = [line.removeprefix("### ") for line in lines if line.startswith("### ")]

    assert releases[0] == "Unreleased"
    assert [each for each in releases[1:] if not re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", each)] == []
    assert set(sections) <= set(SECTIONS)
    assert [line for line in lines[lines.index("## Unreleased") :] if line and line[0] not in "#-[ "] == []


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", "docs/compatibility.md", "docs/releasing.md"])
def test_files_named_in_documents_exist(name: str) -> None:
    paths = OWN_PATHS.findall((CHECKOUT / name).read_text(encoding="utf-8"))

    patterns = [path.replace("TOOL-ID", "*").replace("NAME", "*").rstrip("/") for path in paths]
    assert [pattern for pattern in patterns if not list(CHECKOUT.glob(pattern))] == []


@pytest.mark.parametrize("name", MEASURED)
def test_every_section_with_figures_names_the_command_that_measures_them_again(name: str) -> None:
    sections = re.split(r"^#{1,2} ", (CHECKOUT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    with_figures = [section for section in sections if "\n| " in section]

    assert len(with_figures) > 1
    without = [each for each in with_figures if not re.search(r"`(python bench/\w+\.py|pytest --everything)", each)]
    assert [section.partition("\n")[0] for section in without] == []


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _is_known(host: str) -> bool:
    return host in HOSTS or host.endswith(RESERVED_DOMAINS) or re.fullmatch(r"[\d.]+|localhost", host) is not None
