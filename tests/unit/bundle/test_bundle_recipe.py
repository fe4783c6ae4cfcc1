"""The tables of the recipe, and the pins that they share with the go.mod files and with upstream."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labctl.bundle.build import debian, makers
from labctl.bundle.build.build import recipe_id
from labctl.bundle.build.debian import ROOTFS, upstream_versions
from labctl.bundle.build.gomodules import check_pins
from labctl.bundle.build.ingredients import (
    ContainerImage,
    GoModule,
    GoProgram,
    ModuleFile,
    OwnFile,
    Placed,
    WheelProgram,
)
from labctl.bundle.build.recipe import RECIPE, WEB_IMAGE
from labctl.bundle.build.toolchain import MODULES
from labctl.model.errors import MissingError
from labctl.model.lab import Phase

MODULE = GoModule("kubernetes", "k8s.io/kubernetes", "v1.37.2", siblings="v0.37.2")
THEIRS: dict[str, Any] = {
    "Replace": [
        {"Old": {"Path": "k8s.io/api"}, "New": {"Path": "./staging/src/k8s.io/api"}},
        {"Old": {"Path": "example.com/fork"}, "New": {"Path": "example.com/forked", "Version": "v1.0.0"}},
    ]
}
OURS: dict[str, Any] = {
    "Require": [
        {"Path": "k8s.io/kubernetes", "Version": "v1.37.2"},
        {"Path": "k8s.io/api", "Version": "v0.0.0"},
        {"Path": "example.com/fork", "Version": "v1.0.0"},
    ],
    "Replace": [{"Old": {"Path": "k8s.io/api"}, "New": {"Path": "k8s.io/api", "Version": "v0.37.2"}}],
}

IMAGES = [artefact.made_from for artefact in RECIPE if isinstance(artefact.made_from, ContainerImage)]
PLACED = [entry.content for image in IMAGES for entry in image.contents if isinstance(entry, Placed)]
PROGRAMS = [
    content
    for content in [*(artefact.made_from for artefact in RECIPE), *PLACED]
    if isinstance(content, (GoProgram, ModuleFile))
]


def test_matching_pins_pass() -> None:
    check_pins(MODULE, THEIRS, OURS)


@pytest.mark.parametrize(
    ("ours", "named"),
    [
        ({**OURS, "Replace": None}, "k8s.io/api is v0.0.0 instead of v0.37.2"),
        ({**OURS, "Require": OURS["Require"][1:]}, "k8s.io/kubernetes is absent instead of v1.37.2"),
        ({**OURS, "Require": OURS["Require"][:2]}, "example.com/fork is absent instead of v1.0.0"),
    ],
)
def test_a_pin_that_differs_from_upstream_is_named(ours: dict[str, Any], named: str) -> None:
    with pytest.raises(MissingError, match=re.escape(named)) as raised:
        check_pins(MODULE, THEIRS, ours)
    assert raised.value.id == "go-module-mismatch"


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.source)
def test_versions_of_the_recipe_match_the_go_mod_files(program: GoProgram | ModuleFile) -> None:
    go_mod = (MODULES / program.module.folder / "go.mod").read_text(encoding="utf-8")
    if program.module.upstream:
        assert f"\t{program.module.upstream} {program.module.version} " in go_mod
    if isinstance(program, GoProgram) and program.is_upstreams:
        assert re.search(rf"^(tool |\t){re.escape(program.package)}$", go_mod, re.MULTILINE)


def test_image_references_are_unique_and_tagged() -> None:
    references = [image.reference for image in IMAGES]
    assert len(set(references)) == len(references)
    assert all(re.fullmatch(r"[\w./-]+:[\w.{}-]+", reference) for reference in references)


def test_artefact_paths_are_unique_and_labctls_own_files_exist() -> None:
    paths = [path for artefact in RECIPE for path in artefact.files]
    assert len(set(paths)) == len(paths)
    assert WEB_IMAGE in paths
    assert all((ROOTFS / content.name).is_file() for content in PLACED if isinstance(content, OwnFile))
    assert all((ROOTFS / name).is_file() for name in ("node.sh", "image.sh"))


def test_only_images_of_upstream_programs_have_upstream_names() -> None:
    for image in IMAGES:
        programs = [
            entry.content
            for entry in image.contents
            if isinstance(entry, Placed) and isinstance(entry.content, (GoProgram, WheelProgram))
        ]
        upstreams = any(isinstance(program, WheelProgram) or program.is_upstreams for program in programs)
        assert upstreams != image.reference.startswith("labctl.local/"), image.reference


def test_an_upstream_version_is_the_debian_version_without_epoch_and_revision(tmp_path: Path) -> None:
    listing = tmp_path / "packages"
    listing.write_text("nginx 1.26.3-3+deb13u5\nlibgmp10 2:6.3.0+dfsg-3\ntzdata 2026a\n", encoding="utf-8")
    assert upstream_versions(listing) == {"nginx": "1.26.3", "libgmp10": "6.3.0+dfsg", "tzdata": "2026a"}


@pytest.mark.parametrize(("uid", "command"), [(0, "apt-get"), (1000, "sudo apt-get")])
def test_all_missing_tools_are_named_with_the_install_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uid: int, command: str
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _tool: None)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(debian, "KEYRING", tmp_path / "absent")
    packages = ["mmdebstrap", "debian-archive-keyring", *(["uidmap"] if uid else [])]
    with pytest.raises(MissingError, match=f": {', '.join(packages)}$") as raised:
        makers.check_tools()
    assert raised.value.id == "tools-missing"
    assert f"`{command} install {' '.join(packages)}`" in raised.value.hint


def test_the_recipe_id_is_pinned() -> None:
    """With a new id, every user builds for a quarter of an hour. So change it on purpose, when the content changes."""
    assert recipe_id().endswith("-2e3e354a")


def test_the_phase_of_an_image_is_not_part_of_the_recipe_id() -> None:
    image = next(artefact.made_from for artefact in RECIPE if isinstance(artefact.made_from, ContainerImage))

    assert repr(replace(image, phase=Phase.ADDONS)) == repr(replace(image, phase=Phase.SANDBOX))
