"""What a demo measured, as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from labctl import __version__
from labctl.context import Context
from labctl.demo.library import Script
from labctl.model.reports import CommandReport, DemoReport, SceneReport
from labctl.model.traffic import chart, load_text

_WORDS = {True: "ok", False: "failed"}


def versions(context: Context) -> dict[str, str]:
    """What the lab consists of, each with its version."""
    controller = context.controller
    carried = context.bundle.versions
    tags = {repository: tag for repository, _, tag in (image.rpartition(":") for image in context.images)}
    return {
        "labctl": __version__,
        "Kubernetes": carried["kubernetes"],
        "MetalLB": carried["metallb"],
        controller.name: tags.get(controller.repository, "unknown").removeprefix("v"),
    }


def markdown(script: Script, report: DemoReport, parts: dict[str, str], when: datetime) -> str:
    """The page: what it was about, a table of the scenes, and everything that was expected with what was measured."""
    lines = [
        f"# {_cell(script.demo.about)}",
        "",
        f"- demo: {script.name}: {_WORDS[report['ok']]} in {report['seconds']:.1f} s",
        f"- lab: {report['lab']}",
        f"- date: {when.isoformat(sep=' ', timespec='seconds')}",
        f"- versions: {', '.join(f'{part} {version}' for part, version in parts.items())}",
        *_error(report),
        "",
        "| scene | result | seconds |",
        "|---|---|---|",
        *(f"| {_cell(each['title'])} | {_WORDS[each['ok']]} | {each['seconds']:.1f} |" for each in report["scenes"]),
    ]
    for scene in report["scenes"]:
        lines += ["", *_scene(scene)]
    if report["cleanup"]:
        lines += ["", "## Cleaning up", "", *map(_command, report["cleanup"])]
    return "\n".join(lines) + "\n"


def _error(report: DemoReport) -> Iterator[str]:
    if report["error"] is not None:
        yield f"- error: {_cell(report['error']['message'])}"


def _scene(scene: SceneReport) -> Iterator[str]:
    yield f"## {_cell(scene['title'])}"
    for paragraph in (scene["say"] or "").split("\n\n"):
        if paragraph.strip():
            yield from ("", " ".join(paragraph.split()))
    if scene["commands"]:
        yield from ("", *map(_command, scene["commands"]))
    if scene["expectations"]:
        yield from ("", "| expected | result | measured | seconds |", "|---|---|---|---|")
    for each in scene["expectations"]:
        cells = _cell(each["text"]), _WORDS[each["ok"]], _cell(each["measured"]), f"{each['seconds']:.1f}"
        yield f"| {' | '.join(cells)} |"
    if scene["load"] is not None:
        yield from ("", f"{load_text(scene['load'])}.", "", "```", *chart(scene["load"]), "```")


def _command(command: CommandReport) -> str:
    ended = "was interrupted" if command["code"] is None else f"exit code {command['code']}"
    return f"- `{command['command']}`: {ended} after {command['seconds']:.1f} s"


def _cell(text: str) -> str:
    """The text on one line that is no markup of a table's."""
    return " ".join(text.split()).replace("|", "\\|")
