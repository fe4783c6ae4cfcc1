"""Load the user's images into a lab, list them, and remove them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from labctl.commands import app_change
from labctl.commands.labs import is_up, saved
from labctl.context import Context
from labctl.host import paths
from labctl.images import archive
from labctl.images.store import LoadedImage, full_name, references
from labctl.model.errors import MissingError, UsageError
from labctl.model.events import Progress
from labctl.model.options import GlobalOptions
from labctl.model.reports import ImageEntry
from labctl.plans import images
from labctl.plans.plan import Outcome, Plan, Step
from labctl.transfer.store import BlobStore


def load(options: GlobalOptions, words: Sequence[str]) -> tuple[Context, Plan[Context]]:
    """Plan to load images into a lab that runs. Raises MissingError `lab-not-found` or `lab-not-running`."""
    context = _running_lab(options)
    loaded: list[LoadedImage] = []

    def read(context: Context, report: Progress) -> Outcome:
        changed = _read(context, words, loaded, report)
        return Outcome(changed, references(loaded))

    def give(context: Context, report: Progress) -> Outcome:
        given = images.load_into_nodes(context, loaded, report)
        images.require_on_nodes(context, loaded, given)
        return Outcome(bool(given.nodes), f"on {len(context.lab.nodes)} nodes")

    return context, (
        # Docker and registries are in this machine's network, to which a process in the lab's network cannot return.
        Step("images", "reads the images", read, inside=context.isolated and context.isolation.is_entered()),
        Step("nodes", "loads them into the nodes", give),
    )


def remove(options: GlobalOptions, names: Sequence[str]) -> tuple[Context, Plan[Context]]:
    """Plan to remove images that were loaded.

    Raises UsageError `image-of-bundle` or `image-used-by-app`, MissingError `image-not-loaded`, and those of `load`.
    """
    context = _running_lab(options)
    gone = [_find_removable(context, name) for name in dict.fromkeys(names)]
    _refuse_used(options, context, gone)

    def take(context: Context, report: Progress) -> Outcome:
        report(f"removing {references(gone)}")
        down = images.remove_from_nodes(context, gone)
        later = (
            f"; not running: {', '.join(down)}, removed there by the next `labctl up` or `labctl resume`"
            if down
            else ""
        )
        return Outcome(changed=True, text=references(gone) + later)

    return context, (Step("images", "removes images", take),)


def list_images(context: Context) -> list[ImageEntry]:
    """Return the images of the lab's bundle and those that were loaded, each with the nodes that have it."""
    held = images.on_every_node(context, lambda node: images.images_on_node(context, node)) if is_up(context) else {}
    carried = [_bundled_image(context, image.archive, image.reference) for image in context.bundle.images]
    loaded = context.loaded_images.images()
    entries = [_entry(image, "bundle", held) for image in carried] + [_entry(image, "loaded", held) for image in loaded]
    return sorted(entries, key=lambda entry: entry["image"])


def _running_lab(options: GlobalOptions) -> Context:
    context = saved(options)
    if not is_up(context):
        raise MissingError(
            f"the lab {context.lab.name} is not running",
            id="lab-not-running",
            hint="Run `labctl resume` to start it.",
        )
    return context


def _read(context: Context, words: Sequence[str], loaded: list[LoadedImage], report: Progress) -> bool:
    """Read the images into the lab's folder, all of them or none; return whether that changed anything."""
    from labctl.images.sources import Sources  # noqa: PLC0415 - as the next one
    from labctl.transfer.registry import Registry  # noqa: PLC0415 - urllib3 takes 30 ms, and `image list` does not need it

    store = context.loaded_images
    registry = Registry(context.mirrors, report)
    sources = Sources(store, context.bundle.architecture, registry, BlobStore(context.cache / paths.BLOBS), report)
    try:
        for word in words:
            new_images = sources.read(word)
            _refuse_bundled(context, new_images)
            loaded += new_images
        return store.add(loaded)
    finally:
        store.tidy()


def _refuse_bundled(context: Context, new_images: Sequence[LoadedImage]) -> None:
    if carried := [image.reference for image in new_images if image.reference in context.images]:
        raise UsageError(
            f"the bundle already has {', '.join(carried)}, which the lab's own pods use",
            id="image-of-bundle",
            hint="Give your image another name, for example with `docker tag`, and load it under that name.",
        )


def _find_removable(context: Context, name: str) -> LoadedImage:
    if image := context.loaded_images.find(name):
        return image
    if carried := context.bundle.image(name):
        raise UsageError(
            f"{carried} is an image of the bundle and cannot be removed",
            id="image-of-bundle",
            hint="`labctl image remove` removes images that `labctl image load` loaded.",
        )
    there = references(context.loaded_images.images())
    raise MissingError(
        f"no image {full_name(name)} was loaded into the lab {context.lab.name}",
        id="image-not-loaded",
        hint=f"Loaded images: {there}." if there else "No images are loaded.",
    )


def _refuse_used(options: GlobalOptions, context: Context, gone: Sequence[LoadedImage]) -> None:
    names = {image.reference for image in gone}
    used = {app.name: app.image for app in context.lab.apps}
    used |= {app["name"]: app["image"] for app in app_change.list_apps(options)}
    for app, image in used.items():
        if (reference := context.image(image)) in names:
            raise UsageError(
                f"the app {app} uses {reference}",
                id="image-used-by-app",
                hint=f"Run `labctl app remove {app}` first.",
            )


def _bundled_image(context: Context, file: str, reference: str) -> LoadedImage:
    """Return the image with this reference in an archive of the bundle."""
    path = context.bundle.path(file)
    with archive.open_archive(path) as opened:
        for archived in opened.images(context.bundle.architecture):
            if reference in map(full_name, archived.names):
                image = archived.image
                return LoadedImage(image.manifest, image.media_type, image.architecture, reference)
    raise archive.unreadable_error(path, f"{reference} is not in it")


def _entry(image: LoadedImage, source: Literal["bundle", "loaded"], held: Mapping[str, images.Digests]) -> ImageEntry:
    return {
        "image": image.reference,
        "digest": image.digest,
        "MiB": round(image.size / 2**20),
        "architecture": image.architecture,
        "source": source,
        "nodes": [name for name, digests in held.items() if digests.get(image.reference) == image.digest],
    }
