"""The check of a present or future bundle against the lab's requirements."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes import lab
from recorded_machine import found

from labctl.bundle.build.build import recipe_id
from labctl.bundle.format import write as describe
from labctl.context import Context

CASES = [
    ({}, "ok", ""),
    ({"kubernetes": "1.37.2", "ingress": "traefik"}, "ok", ""),
    ({"kubernetes": "1.36.0"}, "broken", "bundle-version"),
    ({"ingress": "ingress-nginx"}, "broken", "ingress-not-carried"),
]


@pytest.mark.parametrize(("values", "state", "cause"), CASES)
@pytest.mark.parametrize("is_built", [True, False])
def test_what_a_bundle_does_not_carry_is_found(
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

    finding = found("bundle", replace(context, lab=lab(**values), bundle_folder=None))

    assert (finding.state, finding.cause, bool(finding.fix)) == (state, cause, bool(cause))


def test_a_bundle_that_is_not_where_it_was_is_found(context: Context) -> None:
    finding = found("bundle", replace(context, lab=lab(), bundle_folder=context.folder))

    assert (finding.state, finding.cause) == ("broken", "bundle-not-found")
