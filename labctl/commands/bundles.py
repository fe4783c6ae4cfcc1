"""Which bundles there are, what to know of each, and their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from labctl import machine_image
from labctl.bundle import checksums
from labctl.bundle.build.build import recipe_id
from labctl.bundle.choice import booted, own_ids
from labctl.bundle.format import Bundle, installed, load
from labctl.bundle.oci import references
from labctl.bundle.unfinished import OTHER_SECONDS
from labctl.config import saved_lab
from labctl.host import lab_folder, locks, paths
from labctl.host.files import size_on_disk
from labctl.model.errors import MissingError, UsageError
from labctl.model.events import Progress
from labctl.model.reports import BundleEntry, CacheReport
from labctl.transfer.reference import parse

Forget = Callable[[Bundle, Progress], None]
"""Removes what a hypervisor or Vagrant keeps of a bundle."""
REMOVED = ".removed-"


def listed(cache: Path) -> list[BundleEntry]:
    """Return every bundle in the cache, the newest first."""
    return [described(bundle) for bundle in installed(cache)]


def in_cache(cache: Path) -> CacheReport:
    """Return every bundle in the cache, and the size of all that is in it."""
    return {"version": 1, "bundles": listed(cache), "folder": str(cache), "MiB": size_on_disk([cache]) // 2**20}


def described(bundle: Bundle) -> BundleEntry:
    """Return what to know of a bundle."""
    image = machine_image.load(bundle)
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


def verified(folder: Path | None, cache: Path, report: Progress) -> list[BundleEntry]:
    """Check each file of the bundle in the folder, or of every bundle in the cache; return them. Raises MissingError."""
    bundles = (load(folder),) if folder else installed(cache)
    for bundle in bundles:
        checksums.verify(bundle, cache, report)
        image = machine_image.load(bundle)
        if image:
            machine_image.verify(bundle, image, cache, report)
    return [described(bundle) for bundle in bundles]


def named(text: str | None, cache: Path) -> Path | None:
    """Return the folder, or id, of a bundle that is named; of a reference, the folder of what it was pulled as.

    Raises MissingError `bundle-not-pulled`.
    """
    if text is None or not text.startswith(paths.OCI):
        return Path(text) if text else None
    reference = parse(text.removeprefix(paths.OCI))
    known = references.pulled(reference, cache)
    if known is None:
        raise MissingError(
            f"{reference} was not pulled into {cache} yet",
            id="bundle-not-pulled",
            hint=f"Run `labctl bundle pull {reference}` first.",
        )
    return known.folder(cache)


def chosen(named: Path | None, cache: Path) -> Bundle:
    """Return the bundle in the folder, or of that id in the cache; else the one that a lab of defaults boots from.

    Raises as `load`.
    """
    if named is not None:
        in_cache = cache / "bundles" / named
        return load(in_cache if not named.exists() and in_cache.exists() else named)
    return load(booted(cache) or cache / "bundles" / recipe_id())


def removable(names: Sequence[str], cache: Path) -> tuple[Bundle, ...]:
    """Return the bundles of these ids, none of which a lab uses.

    Raises MissingError `bundle-not-found`, and UsageError `bundle-in-use` that names the labs.
    """
    there = {bundle.id: bundle for bundle in installed(cache)}
    if unknown := [name for name in names if name not in there]:
        raise MissingError(
            f"there is no bundle {', '.join(unknown)} in {cache / 'bundles'}",
            id="bundle-not-found",
            hint=f"Bundles: {', '.join(there)}." if there else "There are no bundles.",
        )
    for name in names:
        _refuse_used(there[name])
    return tuple(there[name] for name in dict.fromkeys(names))


def users(bundle: Bundle) -> list[str]:
    """Return the names of the labs that boot from the bundle. A lab whose record is damaged counts as one of them."""
    folders = [path.parent for path in sorted(paths.state_home().glob(f"*/{lab_folder.RECORD}"))]
    return [folder.name for folder in folders if _uses(folder, bundle)]


def remove(bundle: Bundle, cache: Path, report: Progress, forget: Sequence[Forget] = ()) -> None:
    """Remove a bundle of the cache with its machine image; `forget` comes first, and may fail without loss.

    Raises UsageError `bundle-in-use` if a lab has begun to use it meanwhile.
    """
    with ExitStack() as held:
        lock = bundle.folder.with_name(f"{bundle.id}.lock")
        held.enter_context(locks.alone(lock, report, timeout=OTHER_SECONDS))
        _refuse_used(bundle)
        for each in forget:
            each(bundle, report)
        report(f"removing {bundle.folder}")
        checksums.forget(bundle, cache)
        machine_image.forget(bundle, cache)
        gone = bundle.folder.with_name(f"{REMOVED}{bundle.id}")
        # What a killed run left of it; what is left of other bundles `prune` removes, which has their locks.
        paths.remove_tree(gone)
        bundle.folder.rename(gone)
        paths.remove_tree(gone)
        for other in (lock, bundle.folder.with_name(f"{bundle.id}.machine.lock")):
            other.unlink(missing_ok=True)


def _refuse_used(bundle: Bundle) -> None:
    if labs := users(bundle):
        raise UsageError(
            f"bundle {bundle.id} is used by {', '.join(labs)}",
            id="bundle-in-use",
            hint=f"Run `labctl destroy --name {labs[0]}` first.",
        )


def _uses(folder: Path, bundle: Bundle) -> bool:
    try:
        saved = saved_lab.read(folder)
    except MissingError:
        return True
    if saved is None:
        return False
    if saved.bundle is None:
        boots = booted(bundle.folder.parent.parent, saved.lab.kubernetes)
        return bundle.id in own_ids(saved.lab.kubernetes) or bundle.folder == boots
    return paths.real(saved.bundle) == paths.real(bundle.folder)
