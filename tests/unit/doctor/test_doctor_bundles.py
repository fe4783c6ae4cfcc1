"""The check of a present or future bundle against the lab's requirements."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from fakes import Watched, lab
from recorded_machine import Recorded, run_check

from labctl.bundle.build.build import recipe_id
from labctl.bundle.format import write as describe
from labctl.context import Context
from labctl.doctor import preflight
from labctl.model.errors import MissingError
from labctl.providers.docker_images import NODE_SYSTEM

CASES = [
    ({}, "ok", ""),
    ({"kubernetes": "1.37.2", "ingress": "traefik"}, "ok", ""),
    ({"kubernetes": "1.36.0"}, "broken", "bundle-version"),
    ({"ingress": "ingress-nginx"}, "broken", "ingress-not-carried"),
]


@pytest.mark.parametrize(("values", "state", "cause"), CASES)
@pytest.mark.parametrize("is_built", [True, False])
def test_a_bundle_that_lacks_something_the_lab_needs_is_reported(
    context: Context,
    values: dict[str, str],
    state: str,
    cause: str,
    is_built: bool,  # noqa: FBT001 - a column of the table
) -> None:
    if is_built:
        folder = context.cache / "bundles" / recipe_id()
        folder.mkdir(parents=True)
        describe(replace(context.bundle, folder=folder, id=folder.name))

    elif cause == "ingress-not-carried":  # a download may have it
        state, cause = "ok", ""

    finding = run_check("bundle", replace(context, lab=lab(**values), bundle_folder=None))

    assert (finding.state, finding.cause, bool(finding.fix)) == (state, cause, bool(cause))


def test_a_missing_bundle_is_reported(context: Context) -> None:
    finding = run_check("bundle", replace(context, lab=lab(), bundle_folder=context.folder))

    assert (finding.state, finding.cause) == ("broken", "bundle-not-found")


def test_files_that_nodes_cannot_read_block_up_and_are_reported_with_all_other_problems(
    context: Context, tmp_path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_check("bundle-links", context).state == "ok"
    file, moved = context.bundle.path(NODE_SYSTEM), tmp_path / "moved"
    file.rename(moved)
    file.symlink_to(moved)

    finding = run_check("bundle-links", context)

    assert finding.state == "broken"
    assert str(moved) in finding.observation
    assert run_check("bundle-links", replace(context, lab=lab(provider="libvirt"))).state == "not relevant"
    for absent, identity in ((set[str](), "bundle-linked"), ({"vagrant"}, "machine-not-ready")):
        monkeypatch.setattr(preflight, "Machine", partial(Recorded, absent=absent))
        with pytest.raises(MissingError) as raised:
            preflight.require_machine(context, watched.report)
        assert raised.value.id == identity
        assert str(moved) in raised.value.message


def test_links_of_a_missing_or_unusable_bundle_are_not_checked(context: Context) -> None:
    for differences in ({"bundle_folder": None}, {"bundle_folder": context.folder}):
        assert run_check("bundle-links", replace(context, lab=lab(), **differences)).state == "not relevant"
