"""Add an app to labctl.yaml, or remove one, and apply the change to the lab if it is up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from labctl import config
from labctl.cluster import apps
from labctl.commands.labs import is_up, saved
from labctl.config import edit, saved_lab
from labctl.context import Context
from labctl.doctor import preflight
from labctl.host import paths
from labctl.host.wait import pending_while_unready, until
from labctl.model.errors import BrokenError, MissingError, UsageError
from labctl.model.events import Progress
from labctl.model.lab import App, Lab
from labctl.model.options import GlobalOptions
from labctl.model.pools import default_pool
from labctl.model.reports import AppEntry, HopReport, TraceReport
from labctl.plans import up
from labctl.plans.applying import app_manifest, pending_with_reason
from labctl.plans.plan import Outcome, Plan, Step
from labctl.render.yaml_stream import documents
from labctl.trace import MISSING_NAME, broken_hop, finding, follow

OPTION_NAMES = {
    "name": "NAME",
    "image": "--image",
    "hostname": "--host",
    "port": "--port",
    "replicas": "--replicas",
    "path": "--path",
}
"""The command-line name of each key of an app."""
NO_OPTIONS: Mapping[str, str] = {}
Sentences = Callable[[HopReport], list[str]]
"""Describes the evidence of a hop in sentences."""


@dataclass(frozen=True, slots=True)
class Change:
    """A valid labctl.yaml with an app added or removed, not written yet, and the steps that apply it to the lab."""

    app: str
    source: edit.Source
    is_new: bool
    """Whether the file lacks the change and has to be written."""
    context: Context | None
    """The lab with the apps after the change; None if it is not up."""
    apply_steps: Plan[Context]
    """The steps that apply the change to a lab that is up."""
    later: str
    """What `labctl up` does with the app in a lab that is not up."""
    added: App | None = None
    """The app to deploy; None if one is removed."""

    @property
    def plan(self) -> Plan[Any]:
        """The plan, which writes the file first, so that `up` completes a run that failed.

        An app that the lab's ingress controller rejects is not written: `up` could not deploy it either.
        """
        write: Step[Any] = Step("config", "writes labctl.yaml", lambda _context, _report: self._write_step())
        if self.context is None:
            return (write,)
        return (
            Step("config", "checks that the app can be deployed, and writes labctl.yaml", self._check_ingress),
            *self.apply_steps,
        )

    def write(self) -> dict[str, str]:
        """Write the file, and return what changed. Raises UsageError as `edit.write` does."""
        self._write_step()
        return {"file": str(self.source.path), "app": self.app, "lab": f"not up; `labctl up` {self.later}"}

    def _check_ingress(self, context: Context, _report: Progress) -> Outcome:
        if self.added is not None and context.controller.admission:
            objects = documents(app_manifest(context, self.added))
            accepted = partial(
                apps.require_accepted, context.cluster, self.added.name, objects, is_written=not self.is_new
            )
            controller, limits = context.controller, context.lab.limits
            until(
                pending_with_reason(
                    context, partial(pending_while_unready, accepted), (controller.namespace, controller.deployment)
                ),
                what=f"the webhook of {controller.name}",
                timeout=limits.ready,
                interval=limits.poll,
            )
        return self._write_step()

    def _write_step(self) -> Outcome:
        if self.is_new:
            edit.write(self.source)
        return Outcome(self.is_new, str(self.source.path))


def list_apps(options: GlobalOptions) -> list[AppEntry]:
    """Return the apps of the configuration, each with its URL. Raises UsageError `config-invalid`."""
    source = _source(options)
    return [
        {
            "name": app.name,
            "image": app.image,
            "hostname": app.hostname,
            "port": app.port,
            "replicas": app.replicas,
            "path": app.path,
            "url": app.url,
        }
        for app in _lab(options, source, source.apps).apps
    ]


def add(options: GlobalOptions, given: Mapping[str, Any], sentences: Sentences) -> Change:
    """Plan to add an app, given by the keys of labctl.yaml; an existing app is deployed again.

    Raises UsageError: `config-invalid` with every problem; `app-exists` if an app of this name has other values;
    `config-not-editable`; `lab-differs` if labctl.yaml describes a lab that `up` would refuse. Raises MissingError
    `hostname-taken` if another lab has the hostname, and `image-not-loaded` if the lab is up and lacks the image.
    """
    source, name = _source(options), given["name"]
    same = [app for app in source.apps if isinstance(app, dict) and app.get("name") == name]
    others = list(source.apps)
    if same:
        others.remove(same[0])
    lab = _lab(
        options, source, [*others, given], {f"apps[{len(others)}].{key}": word for key, word in OPTION_NAMES.items()}
    )
    wanted = lab.apps[-1]
    if same:
        lab = _lab(options, source, source.apps)
        _refuse_another(lab, wanted)
    context = _context(options, lab)
    if context is not None:
        if not same:
            _require_image(context, wanted)
        preflight.require_hostnames(context)
    trace = Step("trace", f"follows a request for {wanted.hostname}", partial(_trace, wanted.hostname, sentences))
    then = _steps(context, "render", "apps", "hosts", "verify")
    if not wanted.is_scaled_to_zero:
        then += (trace,)
    is_new = not (same and source.exists)
    return Change(name, source if same else source.with_app(given), is_new, context, then, "deploys it", wanted)


def remove(options: GlobalOptions, name: str) -> Change:
    """Plan to remove an app from labctl.yaml and from the lab.

    Raises UsageError `app-unknown` if there is no app of this name; other errors as `add`.
    """
    source = _source(options)
    lab = _lab(options, source, source.apps)
    left = tuple(app for app in lab.apps if app.name != name)
    if left == lab.apps:
        raise UsageError(
            f"the lab {lab.name} has no app {name}",
            id="app-unknown",
            hint=f"Its apps: {', '.join(app.name for app in left) or 'none'}.",
        )
    context = _context(options, replace(lab, apps=left))
    then = _steps(context, "render", "apps", "hosts")
    if left:
        then += _steps(context, "verify")
    return Change(name, source.without_app(name), True, context, then, "leaves it out")


def _source(options: GlobalOptions) -> edit.Source:
    """Return the labctl.yaml to change, or a new one that describes the lab as it is."""
    file = config.find(options.config_file)
    if file is not None:
        return edit.read_source(file)
    lab = config.load(None, config.Overrides(name=options.lab_name))
    saved_state = saved_lab.read(paths.state(lab.name))
    lab = saved_state.lab if saved_state else lab
    apps = [_differences(app, config.from_values({"apps": [{"name": app.name}]}).apps[0]) for app in lab.apps]
    plain = replace(config.from_values({}), pool=default_pool(lab.network), apps=lab.apps)
    before = saved_lab.values(plain)
    values = {key: value for key, value in saved_lab.values(lab).items() if value != before[key]}
    return edit.new_source(Path(config.FILE_NAME), values, apps)


def _differences(app: App, plain: App) -> dict[str, Any]:
    defaults = asdict(plain)
    return {key: value for key, value in asdict(app).items() if key == "name" or value != defaults[key]}


def _lab(
    options: GlobalOptions, source: edit.Source, apps: Sequence[Any], words: Mapping[str, str] = NO_OPTIONS
) -> Lab:
    named = {"name": "--name"} if options.lab_name else {}
    return source.lab(apps, options.lab_name, {**words, **named})


def _refuse_another(lab: Lab, wanted: App) -> None:
    has = next(app for app in lab.apps if app.name == wanted.name)
    if has == wanted:
        return
    before, after = asdict(has), asdict(wanted)
    lines = [
        f"{key}: currently {before[key]}, requested {after[key]}" for key in OPTION_NAMES if before[key] != after[key]
    ]
    raise UsageError(
        f"the app {has.name} already exists, with other values\n  " + "\n  ".join(lines),
        id="app-exists",
        hint=f"`labctl app remove {has.name}` first, or change it in labctl.yaml and run `labctl up`.",
    )


def _context(options: GlobalOptions, lab: Lab) -> Context | None:
    """Return the saved lab with the apps of this one; None if it is not up.

    Other differences that `up` can apply are left to `up`: these steps would apply only a part of them. Raises
    UsageError `lab-differs` for what `up` refuses, and MissingError if the lab is up and its bundle is missing.
    """
    saved_state = saved_lab.read(paths.state(lab.name))
    if saved_state is None:
        return None
    saved_lab.refuse_differences(saved_state, saved_lab.SavedLab(lab, saved_state.isolated))
    context = replace(saved(options), lab=replace(saved_state.lab, apps=lab.apps))
    # The steps need the bundle: without it, labctl.yaml would be changed and the lab would not follow.
    return context if is_up(context) and context.bundle else None


def _require_image(context: Context, app: App) -> None:
    if context.image(app.image) is not None:
        return
    raise MissingError(
        f"the lab {context.lab.name} has no image {app.image}",
        id="image-not-loaded",
        hint=f"`labctl image load {app.image}` loads it from your Docker or its registry; `labctl image list` shows "
        "the images that the lab has.",
    )


def _steps(context: Context | None, *names: str) -> Plan[Context]:
    known = {step.name: step for step in up.up(isolated=context is not None and context.isolated)}
    return tuple(known[name] for name in names)


def _trace(hostname: str, sentences: Sentences, context: Context, report: Progress) -> Outcome:
    """Follow a request to a pod, at the lab's address if the hosts file is left to the user.

    Raises BrokenError with the first hop that is broken.
    """
    trace_report = follow(context, hostname, past=MISSING_NAME)
    broken = broken_hop(trace_report, MISSING_NAME)
    for hop in trace_report["hops"]:
        details = sentences(hop)
        if hop is broken:
            raise BrokenError(
                f"{hostname}, {hop['hop']}: {finding(hop)}",
                id=str(hop["cause"]),
                hint=hop["fix"] or "",
                details=tuple(f"seen: {each}" for each in details),
            )
        report(f"{hop['hop']}: {'; '.join(details) or finding(hop)}")
    return Outcome(changed=False, text=_describe_path(trace_report))


def _describe_path(trace_report: TraceReport) -> str:
    """Return the number of hops, and the pod that answered if the app shows it."""
    evidence = {hop["hop"]: hop["evidence"] for hop in trace_report["hops"]}
    pods = {pod["pod"]: pod["node"] for pod in evidence["pod"].get("pods", ())}
    answered = evidence["response"].get("answered_by")
    where = f"pod {answered} on {pods[answered]}" if answered in pods else f"one of {len(pods)} pods"
    return f"{len(trace_report['hops'])} hops to {where}"
