"""The report of a demo in Markdown, which is written next to a recording."""

from __future__ import annotations

from datetime import datetime

from labctl import __version__
from labctl.context import Context
from labctl.model.demo_reports import DemoReport
from labctl.model.traffic import chart, load_text
from labctl.render import templates


def markdown(about: str, report: DemoReport, context: Context, when: datetime) -> str:
    """Return the page: versions, a table of the scenes, and everything that was expected with what was measured."""
    controller, carried = context.controller, context.bundle.versions
    tags = {repository: tag for repository, _, tag in (image.rpartition(":") for image in context.images)}
    versions = {
        "labctl": __version__,
        "Kubernetes": carried["kubernetes"],
        "MetalLB": carried["metallb"],
        controller.name: tags.get(controller.repository, "unknown").removeprefix("v"),
    }
    date = when.isoformat(sep=" ", timespec="seconds")
    values = {"about": about, "report": report, "versions": versions, "date": date}
    return templates.text("demo/report.md.j2", **values, chart=chart, load_text=load_text)
