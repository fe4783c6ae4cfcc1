"""Choose the bundle that a lab boots from, and make bundles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labctl import bundle, machine_image
from labctl.bundle.build.build import build, recipe_id
from labctl.bundle.download import recipe as recipes
from labctl.bundle.download.order import Order
from labctl.context import Context
from labctl.doctor import preflight
from labctl.host.reachable import unreachable_reasons
from labctl.machine_image.build import build as build_image
from labctl.machine_image.format import BOXES
from labctl.model.errors import MissingError
from labctl.model.events import Progress
from labctl.plans.plan import Outcome

BUILD_MEGABYTES, BUILD_MINUTES = 700, 15
"""The size of a build's downloads from package registries, and its time on two processors."""


def choose_bundle(context: Context, report: Progress) -> Outcome:
    """Find or make the bundle; verify the checksum of each file before its first use."""
    context.require_bundle_contents()
    is_new = not context.has_bundle
    if is_new:
        _make(context, report)
    checked = bundle.verify_once(context.bundle, context.cache, report)
    made_box = not context.hypervisor.are_containers and _make_boxes(context, (context.lab.provider,), report)
    return Outcome(is_new or made_box, context.bundle.id + (", checksums verified" if checked else ""))


def _make(context: Context, report: Progress) -> None:
    """Download the lab's bundle, or build it if upstream cannot be reached; report which, with size and time."""
    from labctl.bundle.download import download  # noqa: PLC0415 - as the next one
    from labctl.transfer.probe import unreachable  # noqa: PLC0415 - urllib3 takes 30 ms, and few plans use the network

    order = context.download_order
    reasons = (
        unreachable_reasons(order.servers(), unreachable)
        if order
        else ("labctl was not tested with that version of Kubernetes",)
    )
    if order and not reasons:
        recipe = order.recipe
        report(f"downloading the bundle: about {recipe.megabytes} MB and {recipe.minutes} minutes")
        download.download(context.cache, report, order)
        return
    why = f"upstream's releases cannot be downloaded: {'; '.join(reasons)}"
    if context.policy.recipe:
        raise MissingError(
            f"the bundle of recipe {context.policy.recipe.name} cannot be downloaded: {'; '.join(reasons)}",
            id="source-unreachable",
            hint="Run the same command again when the network is available; LABCTL_MIRRORS can name other servers.",
        )
    report(why)
    try:
        context.require_buildable()
        preflight.require(preflight.FOR_BUILDING, may_install=context.may_install, report=report)
    except MissingError as error:
        error.message = f"{error.message}; {why}"
        raise
    report(f"building the bundle: about {BUILD_MEGABYTES} MB and {BUILD_MINUTES} minutes")
    build(context.cache, report)


def build_bundle(context: Context, report: Progress) -> Outcome:
    """Complete this labctl's bundle in the cache."""
    preflight.require(preflight.FOR_BUILDING, may_install=context.may_install, report=report)
    was_there = (context.cache / "bundles" / recipe_id() / bundle.DESCRIPTION).exists()
    return Outcome(not was_there, build(context.cache, report).id)


def download_bundle(recipe: Path | None, context: Context, report: Progress) -> Outcome:
    """Complete the bundle of labctl's own recipe, or of one in a file, in the cache."""
    from labctl.bundle.download import download  # noqa: PLC0415 - as in _make

    order = Order(recipes.load(recipe), context.mirrors)
    preflight.require_download(may_install=context.may_install, report=report)
    was_there = order.folder(context.cache).exists()
    return Outcome(not was_there, download.download(context.cache, report, order).id)


def build_boxes(context: Context, report: Progress) -> Outcome:
    """Complete the machine image of the bundle, with a box for each provider."""
    return Outcome(_make_boxes(context, tuple(BOXES), report), context.bundle.id)


def _make_boxes(context: Context, providers: Sequence[str], report: Progress) -> bool:
    """Make the boxes that are missing or damaged; return whether there were any."""
    before = machine_image.load(context.bundle)
    return build_image(context.bundle, context.cache, report, providers) != before
