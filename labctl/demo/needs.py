"""What a lab must have for a demo to show what it is about, looked at before anything is run."""

from __future__ import annotations

from collections.abc import Iterator

from labctl import trace
from labctl.context import Context
from labctl.demo import placeholders
from labctl.demo.library import Script
from labctl.model.errors import MissingError, UsageError
from labctl.model.lab import Lab

Lack = tuple[str, str, tuple[str, ...]]
"""What is missing, what to do first where a command alone does not bring it, and the commands."""


def require(script: Script, context: Context) -> None:
    """Return if the demo can be played in the lab.

    Raises MissingError `lab-not-running`; UsageError `no-app`, and `demo-does-not-fit` with everything that is missing.
    """
    _require_running(context)
    placeholders.fixed(context.lab, placeholders.used(script.demo.model_dump()))
    lacks = list(_lacks(script, context))
    if lacks:
        advice = [text for _, text, _ in lacks if text]
        commands = dict.fromkeys(command for *_, commands in lacks for command in commands)
        raise UsageError(
            f"the demo {script.name} does not fit the lab {context.lab.name}"
            + "".join(f"\n  {missing}" for missing, *_ in lacks),
            id="demo-does-not-fit",
            hint="\n".join([" ".join([*advice, "These bring what is missing:"]), *commands]),
        )


def _require_running(context: Context) -> None:
    if trace.no_engine(context) or not context.provider.running():
        raise MissingError(
            f"the lab {context.lab.name} does not run: none of its nodes does",
            id="lab-not-running",
            hint=f"Bring it back.\nlabctl --name {context.lab.name} resume",
        )


def _lacks(script: Script, context: Context) -> Iterator[Lack]:
    needs, lab = script.demo.needs, context.lab
    labctl = f"labctl --name {lab.name}"
    if lab.workers < needs.workers:
        yield f"workers: {lab.workers}, needed: {needs.workers}", "", (f"{labctl} up --workers {needs.workers}",)
    if len(lab.apps) < needs.apps:
        added = tuple(f"{labctl} app add {name}" for name in _new_apps(lab, needs.apps - len(lab.apps)))
        yield f"apps: {len(lab.apps)}, needed: {needs.apps}", "", added
    if lab.apps and lab.apps[0].replicas < needs.replicas:
        app = lab.apps[0]
        advice = f"Write `replicas: {needs.replicas}` for the app {app.name} into labctl.yaml."
        yield f"replicas of {app.name}: {app.replicas}, needed: {needs.replicas}", advice, (f"{labctl} up",)
    size = int(lab.pool.last) - int(lab.pool.first) + 1
    if size < needs.addresses:
        advice = f"Write a `pool` of {needs.addresses} addresses or more into labctl.yaml."
        yield f"addresses in the pool {lab.pool}: {size}, needed: {needs.addresses}", advice, (f"{labctl} up",)
    if needs.ingress is not None and context.controller.name != needs.ingress:
        missing = f"ingress controller: {context.controller.name}, needed: {needs.ingress}"
        yield missing, "", (f"{labctl} up --ingress {needs.ingress}",)


def _new_apps(lab: Lab, count: int) -> list[str]:
    taken = {app.name for app in lab.apps}
    free = (name for number in range(1, len(taken) + count + 1) if (name := f"app-{number}") not in taken)
    return [name for _, name in zip(range(count), free, strict=False)]
