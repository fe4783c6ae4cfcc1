"""Choose the lab that a command works on, decide whether it is isolated, and list all labs."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from labctl import config
from labctl.bundle.build.build import recipe_files
from labctl.bundle.download import recipe as recipes
from labctl.bundle.download.recipe import Recipe
from labctl.bundle.oci import references
from labctl.config import saved_lab
from labctl.config.model import MACHINES
from labctl.context import DEFAULT_POLICY, BundlePolicy, Context, Reasons
from labctl.host import accelerator, caller, lab_folder, paths
from labctl.host.machine import Machine
from labctl.host.proxies import without_proxy
from labctl.isolation.isolation import Isolation
from labctl.model.errors import LabError, MissingError, ProviderError, UsageError
from labctl.model.lab import Lab, Node
from labctl.model.options import GlobalOptions
from labctl.model.reports import LabEntry
from labctl.plans import boxes
from labctl.providers.table import hypervisor
from labctl.transfer.reference import Reference, parse, require_wanted

NEED_NO_LAB = ("preflight", "bundle", "isolation")
"""Steps of `up` that do not depend on the result of another one."""


def requested(
    options: GlobalOptions,
    overrides: config.Overrides,
    *,
    isolated: bool = False,
    bundle: Path | str | None = None,
    may_install: bool = False,
    policy: BundlePolicy = DEFAULT_POLICY,
    to_boot: bool = False,
) -> Context:
    """Return the context of the lab that labctl.yaml and the options describe. It need not exist yet.

    With `to_boot`, the speed of its nodes is measured: see `with_measured_slowness`.

    Raises UsageError `isolation-of-machines` if virtual machines are to be isolated.
    """
    from labctl.plans.pool_choice import choose_pool  # noqa: PLC0415 - only this function needs it
    from labctl.plans.provider_choice import choose_provider  # noqa: PLC0415 - the same

    carried = _bundle_folder(str(bundle) if bundle else paths.named_bundle())
    file, overrides = config.find(options.config_file), replace(overrides, name=options.lab_name)
    lab = _with_absolute_bundle(config.load(file, overrides), file)
    folder, saved_state = saved_lab.folder_of(lab.name), saved_lab.read(paths.state(lab.name))
    saved = saved_state.lab if saved_state else None
    if saved_state is not None and file is None:
        lab = _saved_with_overrides(saved_state, overrides)
    lab, provider_reason = choose_provider(_with_recipe(lab, policy.recipe), saved, folder, isolated=isolated)
    if isolated and not hypervisor(lab).are_containers:
        raise UsageError(
            f"provider {lab.provider}: its nodes are virtual machines, and only containers can be isolated",
            id="isolation-of-machines",
            hint="Leave `--isolated` out, or use `--provider docker`.",
        )
    isolated = isolated or (saved_state.isolated if saved_state else _needs_isolation(lab, folder))
    lab, pool_reason = choose_pool(lab, saved, isolated=isolated)
    lab = replace(lab, slowness=saved.slowness if saved else 1)
    carried, why = carried or _configured_bundle(lab, saved_state, policy), Reasons(pool_reason, provider_reason)
    may_install = may_install and not policy.offline  # packages would come from the network
    context = Context(lab, folder, paths.cache(), carried and carried.absolute(), may_install, isolated, why, policy)
    return with_measured_slowness(context, is_new=saved is None) if to_boot else context


def bundle_policy(recipe: Path | None, bundle: str | None, *, offline: bool) -> BundlePolicy:
    """Return how a bundle may be made. Raises UsageError `bundle-and-recipe`, and as the recipe's `load`."""
    if recipe and bundle:
        raise UsageError(
            f"a bundle ({bundle}) and a recipe ({recipe}) are both given",
            id="bundle-and-recipe",
            hint=f"Use `--recipe` without `--bundle` and {paths.BUNDLE}, or the other way round.",
        )
    return BundlePolicy(offline, recipes.load(recipe) if recipe else None)


def _with_recipe(lab: Lab, recipe: Recipe | None) -> Lab:
    """Return the lab as it boots from a recipe's bundle, which replaces labctl.yaml's; unchanged without a recipe."""
    if recipe is None:
        return lab
    version = recipe.kubernetes if lab.kubernetes == config.AUTO else lab.kubernetes
    return replace(lab, bundle="", kubernetes=version)


def _saved_with_overrides(record: saved_lab.SavedLab, overrides: config.Overrides) -> Lab:
    """Return the lab on record. The bundle that an earlier file named no longer applies once the lab boots from one."""
    lab = config.load(None, overrides, saved_lab.values(record.lab))
    return replace(lab, bundle="") if record.bundle else lab


def reference_to_pull(context: Context, named: str | None) -> Reference | None:
    """Return the reference to pull the lab's bundle by, from the option or else labctl.yaml; None for a folder."""
    return bundle_reference(named or context.lab.bundle)


def bundle_reference(named: str | None) -> Reference | None:
    """Return the reference of a bundle named as `oci://REF`; None for a folder. Raises UsageError."""
    if not (named and named.startswith(paths.OCI)):
        return None
    reference = parse(named.removeprefix(paths.OCI))
    require_wanted(reference)
    return reference


def _bundle_folder(named: str | None) -> Path | None:
    """Return the folder of a bundle; for a reference, the folder that it was pulled into, or None."""
    if reference := bundle_reference(named):
        known = references.find_pulled(reference, paths.cache())
        return known.folder(paths.cache()) if known else None
    return Path(named) if named else None


def ingress_warning(options: GlobalOptions, context: Context, ingress: str | None) -> str:
    """Return a warning if labctl.yaml chooses another ingress controller than this option; empty if not."""
    file = config.find(options.config_file)
    if ingress is None or file is None or not context.has_bundle:
        return ""
    written = config.load(file, config.Overrides(name=options.lab_name)).ingress
    if context.controller_for(written) == context.controller:
        return ""
    return f"{file} has `ingress: {written}`: `labctl up` without `--ingress {ingress}` switches back"


def with_measured_slowness(context: Context, *, is_new: bool = False) -> Context:
    """Return the context with the slowness of the nodes that will boot.

    It is measured before the lab's first boot, and again if KVM became usable or unusable since and no node runs.
    """
    if not context.hypervisor.can_use_kvm:
        return context
    machine = Machine()
    had_kvm, has_kvm = context.lab.slowness == 1, accelerator.kvm(machine).is_usable
    if not is_new and (had_kvm == has_kvm or _any_node_runs(context)):
        return context
    return replace(context, lab=replace(context.lab, slowness=accelerator.slowness(machine)))


def _any_node_runs(context: Context) -> bool:
    """Return whether a node runs; True if the provider fails, which other checks report."""
    try:
        return bool(context.provider.running())
    except ProviderError:
        return True


def _configured_bundle(lab: Lab, saved_state: saved_lab.SavedLab | None, policy: BundlePolicy) -> Path | None:
    """Return the folder of labctl.yaml's bundle or, if there is none or it is yet to be pulled, of the saved lab's.

    Return None if the lab is to boot from the bundle of a recipe.
    """
    if policy.recipe:
        return None
    return _bundle_folder(lab.bundle) or (saved_state.bundle if saved_state else None)


def _with_absolute_bundle(lab: Lab, file: Path | None) -> Lab:
    """Return the lab with its bundle's path resolved relative to the folder of its labctl.yaml."""
    if file is None or not lab.bundle or lab.bundle.startswith(paths.OCI):
        return lab
    return replace(lab, bundle=str((file.parent / lab.bundle).absolute()))


def _needs_isolation(lab: Lab, folder: Path) -> bool:
    """Return whether to isolate a new lab: this process is in its network, or root has no usable Docker Engine."""
    from labctl.doctor import preflight  # noqa: PLC0415 - its import takes 0.1 s, and an existing lab does not need it

    chosen = hypervisor(lab)
    if not chosen.are_containers:
        return False
    if Isolation(lab.name, lab.network, folder).is_entered():
        return True
    return preflight.may_isolate() and chosen.provider(lab, folder, {}).check(Machine()) is not None


def lab_name(options: GlobalOptions) -> str:
    """Return the name of the lab, checked even if it is an option, because it becomes the name of a folder.

    Raises UsageError if the option or labctl.yaml has an invalid name, or if labctl.yaml cannot be read.
    """
    file = None if options.lab_name is not None else config.find(options.config_file)
    return config.name_of(file, options.lab_name)


def saved(options: GlobalOptions) -> Context:
    """Return the context of a lab as it was last brought up. Raises MissingError if there is no such lab.

    Only the name is read from labctl.yaml, and only if no option gives it.
    """
    name = lab_name(options)
    saved_state = saved_lab.read(saved_lab.folder_of(name))
    if saved_state is None:
        raise MissingError(
            f"there is no lab {name}",
            id="lab-not-found",
            hint="`labctl up` creates it; `labctl list` shows all labs."
            + (" Without sudo, it shows those of the user who called sudo." if caller.caller() else ""),
        )
    return Context(saved_state.lab, paths.state(name), paths.cache(), saved_state.bundle, isolated=saved_state.isolated)


def removable(options: GlobalOptions, *, purge: bool = False) -> Context:
    """Return the context of an existing lab; if its record is damaged, one from its name and its folder.

    With `purge`, the folder that an earlier `destroy` kept is enough.
    """
    name = lab_name(options)
    folder = paths.state(name)
    try:
        return saved(options)
    except MissingError as error:
        if error.id != saved_lab.DAMAGED and not (purge and error.id == "lab-not-found" and folder.is_dir()):
            raise
    made_by = {path.parent.name for path in folder.glob(f"{lab_folder.VAGRANT}/machines/*/*/id")}
    left = boxes.left_box(folder)
    provider = next((each for each in MACHINES if each in made_by), left[0] if left else config.AUTO)
    lab = config.from_values({"name": name, "provider": provider})
    return Context(lab, folder, paths.cache(), isolated=saved_lab.has_own_engine(folder))


def is_destroyed(context: Context) -> bool:
    """Return whether the lab has no record: at most, what `destroy` keeps is left."""
    return not (context.folder / lab_folder.RECORD).exists()


def require_earlier_steps(context: Context, first: str, *, has_bundle: bool) -> None:
    """Refuse to start `up` at a step that depends on earlier ones if the lab does not exist yet.

    Raises MissingError `lab-not-found`.
    """
    may_render = has_bundle and not context.isolated
    if first in NEED_NO_LAB or (first == "render" and may_render) or not is_destroyed(context):
        return
    raise MissingError(
        f"there is no lab {context.lab.name} yet, and the step {first} depends on the steps before it",
        id="lab-not-found",
        hint="Run the same command without `--from` and `--only` first.",
    )


def saved_or_configured(options: GlobalOptions) -> Context:
    """Return the context of the lab as it was last brought up, else as configured, else by its name alone.

    Reports use it, because they cover a lab in any state. Raises UsageError as `lab_name` does.
    """
    for read in (saved, partial(requested, overrides=config.Overrides())):
        try:
            return read(options)
        except LabError:
            continue
    lab = config.from_values({"name": lab_name(options)})
    return Context(lab, paths.state(lab.name), paths.cache())


def saved_or_default(options: GlobalOptions) -> Context:
    """Return the context as `saved_or_configured` does or, if no name can be read, that of the default lab."""
    try:
        return saved_or_configured(options)
    except UsageError:
        lab = config.from_values({})
        return Context(lab, paths.state(lab.name), paths.cache())


def is_up(context: Context) -> bool:
    """Return whether the lab is up, that is, whether its control plane's node runs."""
    if context.isolated and not (context.isolation.exists() and context.isolation.engine_runs()):
        return False
    return context.lab.control_plane.name in context.provider.running()


def entered(options: GlobalOptions) -> Context:
    """Enter the network of an existing lab; return the context."""
    context = saved(options)
    enter(context)
    return context


def entered_if_up(options: GlobalOptions) -> Context:
    """Return the context of an existing lab; enter its network if that exists."""
    context = saved(options)
    if context.isolation.exists():
        enter(context)
    return context


def saved_or_configured_entered(options: GlobalOptions) -> Context:
    """Return the context as `saved_or_configured` does; enter the lab's network if that exists."""
    context = saved_or_configured(options)
    if context.isolation.exists():
        enter(context)
    return context


def enter(context: Context) -> None:
    """Move this process, and what it starts, into the lab's network. Raises MissingError if there is none."""
    if not context.isolated:
        return
    if not context.isolation.exists():
        raise MissingError(
            f"the lab {context.lab.name} is not running: its network namespace is gone",
            id="lab-not-running",
            hint="Run `labctl up` to start it.",
        )
    context.isolation.enter()


def replace_process(context: Context, line: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by a program in the lab's network. Raises MissingError if either does not exist."""
    program = shutil.which(line[0], path=environment.get("PATH"))
    if program is None:
        raise _not_found(context, line[0])
    enter(context)
    sys.stdout.flush()
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and the program would inherit that
        signal.signal(ignored, signal.SIG_DFL)
    os.execve(program, list(line), {**os.environ, **environment})  # noqa: S606 - no shell is the point


def _not_found(context: Context, program: str) -> MissingError:
    """Return the error for a missing program or, if it belongs to a missing bundle, that of the bundle."""
    if f"bin/{program}" in recipe_files():
        try:
            _ = context.bundle
        except MissingError as error:
            error.message = f"program {program} is not on PATH, and is part of the lab's bundle: {error.message}"
            return error
    return MissingError(
        f"{program}: no such executable file" if os.sep in program else f"program {program} is not on PATH",
        id="program-not-found",
        hint="Give a program and its arguments as separate words. To run a line of shell, use `sh -c`.",
    )


def node(context: Context, name: str) -> Node:
    """Return the lab's node of that name, with or without the lab's name before it. Raises UsageError if there is none."""
    for candidate in context.lab.nodes:
        if name in {candidate.name, candidate.name.removeprefix(f"{context.lab.name}-")}:
            return candidate
    names = ", ".join(candidate.name for candidate in context.lab.nodes)
    raise UsageError(f"the lab {context.lab.name} has no node {name}", id="node-unknown", hint=f"Its nodes: {names}.")


def environment(context: Context) -> dict[str, str]:
    """Return the environment variables of a command that works with the lab."""
    return {
        **without_proxy(context.lab, os.environ),
        "KUBECONFIG": str(context.folder / lab_folder.KUBECONFIG),
        "PATH": f"{context.programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }


def list_labs() -> list[LabEntry]:
    """Return every lab that was brought up and not destroyed; for a damaged record, the name and the problem."""
    folders = [path.parent for path in sorted(paths.state_home().glob(f"*/{lab_folder.RECORD}"))]
    return [entry for folder in folders if (entry := _entry(folder)) is not None]


def _entry(folder: Path) -> LabEntry | None:
    try:
        saved_state = saved_lab.read(folder)
    except MissingError as error:
        return {
            "lab": folder.name,
            "provider": None,
            "nodes": None,
            "network": None,
            "pool": None,
            "isolated": saved_lab.has_own_engine(folder),
            "urls": [],
            "problem": error.message,
        }
    if saved_state is None:
        return None
    return {
        "lab": saved_state.lab.name,
        "provider": hypervisor(saved_state.lab).name,
        "nodes": len(saved_state.lab.nodes),
        "network": str(saved_state.lab.network),
        "pool": str(saved_state.lab.pool),
        "isolated": saved_state.isolated,
        "urls": list(saved_state.lab.urls),
        "problem": None,
    }
