"""The versions of labctl, of bundles and of tools."""

from __future__ import annotations

import pytest

from labctl import __version__
from labctl.commands import versions
from labctl.context import Context
from labctl.host.process import Finished
from labctl.model.errors import ProviderError

pytestmark = pytest.mark.usefixtures("home")


def test_versions_of_labctl_the_bundle_and_the_tools_are_reported(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = {"vagrant": Finished(0, "Vagrant 2.4.3\n", ()), "docker": Finished(1, "", ("no Engine",))}
    monkeypatch.setattr(versions, "run", lambda line, **_options: outputs[line[0]])

    report = versions.report_on(context)

    assert report == {
        "version": 1,
        "labctl": __version__,
        "bundle": context.bundle.id,
        "kubernetes": "1.37.2",
        "metallb": "0.15.2",
        "vagrant": "2.4.3",
        "engine": None,
    }


def test_a_missing_bundle_or_tool_has_no_version(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise ProviderError("cannot run vagrant", id="tool-not-started")

    monkeypatch.setattr(versions, "run", fail)
    report = versions.report_on(Context(context.lab, context.folder, context.cache / "empty"))

    assert {name for name, version in report.items() if version is not None} == {"version", "labctl"}
