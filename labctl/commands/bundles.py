"""List, verify, choose and remove bundles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from labctl import machine_image
from labctl.bundle import checksums
from labctl.bundle.build.build import recipe_id
from labctl.bundle.choice import default_folder, own_ids
from labctl.bundle.format import Bundle, UnreadableBundle, finished_bundles, folders, load
from labctl.bundle.links import require_inside
from labctl.bundle.oci import references
from labctl.bundle.unfinished import OTHER_SECONDS
from labctl.config import saved_lab
from labctl.host import lab_folder, locks, paths
from labctl.host.files import size_on_disk
from labctl.machine_image import MachineImage
from labctl.model.errors import MissingError, UsageError
from labctl.model.events import Progress
from labctl.model.reports import BundleEntry, BundleProblem, CacheReport
from labctl.transfer.reference import parse

Forget = Callable[[str, Progress], None]
"""Removes the boxes that a hypervisor or Vagrant keeps of the bundle with this id."""
REMOVED = ".removed-"


def list_cache(cache: Path) -> CacheReport:
    """Return every bundle in the cache, the problems of those that cannot be read, and the size of the cache."""
    bundles: list[BundleEntry] = []
    problems: list[BundleProblem] = []
    for bundle in finished_bundles(cache):
        if isinstance(bundle, UnreadableBundle):
            problems.append(_problem(bundle.folder, bundle.error, f" {removal_hint(bundle)}"))
            continue
        try:
            bundles.append(bundle_entry(bundle))
        except MissingError as error:  # it can still boot containers
            bundles.append(_bundle_entry(bundle, None))
            problems.append(_problem(bundle.folder, error))
    size = size_on_disk([cache]) // 2**20
    return {"version": 1, "bundles": bundles, "problems": problems, "folder": str(cache), "MiB": size}


def _problem(folder: Path, error: MissingError, further: str = "") -> BundleProblem:
    fix = f"{error.hint}{further}"
    return {"bundle": folder.name, "folder": str(folder), "id": error.id, "text": error.message, "fix": fix}


def removal_hint(bundle: UnreadableBundle) -> str:
    """Return how to remove a bundle that cannot be read, as a sentence."""
    return f"`labctl bundle remove {bundle.folder.name}` removes it."


def bundle_entry(bundle: Bundle) -> BundleEntry:
    """Return the report entry of a bundle. Raises MissingError as `machine_image.load` does."""
    return _bundle_entry(bundle, machine_image.load(bundle))


def _bundle_entry(bundle: Bundle, image: MachineImage | None) -> BundleEntry:
    files = (*bundle.files, *(image.files if image else ()))
    return {
        "id": bundle.id,
        "kubernetes": bundle.versions.get("kubernetes"),
        "metallb": bundle.versions.get("metallb"),
        "traefik": bundle.versions.get("traefik"),
        "nginx": bundle.versions.get("nginx"),
        "ingress_nginx": bundle.versions.get("ingress-nginx"),
        "maker": bundle.maker,
        "recipe": bundle.recipe or None,
        "architecture": bundle.architecture,
        "MiB": sum(file.size for file in files) // 2**20,
        "boxes": list(image.providers) if image else [],
        "folder": str(bundle.folder),
    }


def verify(folder: Path | None, cache: Path, report: Progress) -> list[BundleEntry]:
    """Verify each file of the bundle in the folder, or of every bundle in the cache; return their report entries.

    Check all bundles, then raise MissingError for the first that is damaged or linked, with the others in its details.
    """
    entries, errors = [], list[MissingError]()
    for each in [folder] if folder else folders(cache):
        try:
            entries.append(_verify_bundle(each, cache, report))
        except MissingError as error:
            errors.append(error)
    if errors:
        first, *others = errors
        first.details = (*first.details, *(other.message for other in others))
        raise first
    return entries


def _verify_bundle(folder: Path, cache: Path, report: Progress) -> BundleEntry:
    bundle = load(folder)
    checksums.verify(bundle, cache, report)
    require_inside(bundle)
    image = machine_image.load(bundle)
    if image:
        machine_image.verify(bundle, image, cache, report)
    return _bundle_entry(bundle, image)


def find_folder(text: str | None, cache: Path) -> Path | None:
    """Return the folder or id that the text names; for a reference, the folder that the bundle was pulled into.

    Raises MissingError `bundle-not-pulled`.
    """
    if text is None or not text.startswith(paths.OCI):
        return Path(text) if text else None
    reference = parse(text.removeprefix(paths.OCI))
    known = references.find_pulled(reference, cache)
    if known is None:
        raise MissingError(
            f"{reference} was not pulled into {cache} yet",
            id="bundle-not-pulled",
            hint=f"Run `labctl bundle pull {reference}` first.",
        )
    return known.folder(cache)


def choose(named: Path | None, cache: Path) -> Bundle:
    """Return the bundle in this folder, or with this id in the cache; by default, the bundle of a default lab.

    Raises as `load`.
    """
    if named is not None:
        in_cache = cache / "bundles" / named
        return load(in_cache if not named.exists() and in_cache.exists() else named)
    return load(default_folder(cache) or cache / "bundles" / recipe_id())


def require_removable(names: Sequence[str], cache: Path) -> tuple[Path, ...]:
    """Return the folders of the bundles with these ids, readable or not, if no lab uses them.

    A bundle's folder is named after its id. Raises MissingError `bundle-not-found`, and UsageError `bundle-in-use`
    that names the labs.
    """
    existing = {bundle.folder.name: bundle.folder for bundle in finished_bundles(cache)}
    if unknown := [name for name in names if name not in existing]:
        raise MissingError(
            f"there is no bundle {', '.join(unknown)} in {cache / 'bundles'}",
            id="bundle-not-found",
            hint=f"Bundles: {', '.join(existing)}." if existing else "There are no bundles.",
        )
    for name in names:
        _refuse_if_used(existing[name])
    return tuple(existing[name] for name in dict.fromkeys(names))


def labs_using(bundle: Path) -> list[str]:
    """Return the names of the labs that boot from the bundle in this folder of the cache.

    A lab whose record is damaged counts: its bundle is unknown.
    """
    folders = [path.parent for path in sorted(paths.state_home().glob(f"*/{lab_folder.RECORD}"))]
    return [folder.name for folder in folders if _boots_from(folder, bundle)]


def remove(bundle: Path, cache: Path, report: Progress, forget: Sequence[Forget] = ()) -> None:
    """Remove the bundle in a folder of the cache, and its machine image.

    `forget` runs first: if it fails, the bundle is kept. Raises UsageError `bundle-in-use` if a lab uses it by now.
    """
    with ExitStack() as held:
        lock = bundle.with_name(f"{bundle.name}.lock")
        held.enter_context(locks.exclusive(lock, report, timeout=OTHER_SECONDS))
        _refuse_if_used(bundle)
        for each in forget:
            each(bundle.name, report)
        report(f"removing {bundle}")
        checksums.forget(bundle.name, cache)
        machine_image.forget(bundle.name, cache)
        gone = bundle.with_name(f"{REMOVED}{bundle.name}")
        # Leftovers of a killed run. Those of other bundles are removed by `prune`, which holds their locks.
        paths.remove_tree(gone)
        bundle.rename(gone)
        paths.remove_tree(gone)
        for other in (lock, bundle.with_name(f"{bundle.name}.machine.lock")):
            other.unlink(missing_ok=True)


def _refuse_if_used(bundle: Path) -> None:
    if labs := labs_using(bundle):
        raise UsageError(
            f"bundle {bundle.name} is used by {', '.join(labs)}",
            id="bundle-in-use",
            hint=f"Run `labctl destroy --name {labs[0]}` first.",
        )


def _boots_from(folder: Path, bundle: Path) -> bool:
    try:
        saved = saved_lab.read(folder)
    except MissingError:
        return True
    if saved is None:
        return False
    if saved.bundle is None:
        boots = default_folder(bundle.parent.parent, saved.lab.kubernetes)
        return bundle.name in own_ids(saved.lab.kubernetes) or bundle == boots
    return paths.real(saved.bundle) == paths.real(bundle)
