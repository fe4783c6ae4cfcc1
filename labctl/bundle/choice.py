"""The bundle of the cache that a lab boots from by default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from labctl.bundle.build.build import recipe_id
from labctl.bundle.build.recipe import VERSIONS
from labctl.bundle.download import recipe as recipes
from labctl.bundle.format import DESCRIPTION, Bundle, readable_bundles
from labctl.host.processor import architecture

ANY = "auto"
"""The Kubernetes version of a lab that accepts the version of any bundle."""


def own_ids(kubernetes: str = ANY) -> tuple[str, ...]:
    """Return the ids of the bundles with this version that labctl makes by default, the download before the build."""
    downloads = recipes.load()
    wanted = "" if kubernetes == ANY else kubernetes
    downloaded = [recipes.recipe_id(downloads.with_kubernetes(wanted or downloads.kubernetes))]
    built = [recipe_id()] if wanted in {"", VERSIONS["kubernetes"]} else []
    return (*(downloaded if recipes.was_tested(wanted) else []), *built)


def _accept_any(_bundle: Bundle) -> bool:
    return True


def default_folder(cache: Path, kubernetes: str = ANY, suits: Callable[[Bundle], bool] = _accept_any) -> Path | None:
    """Return the folder of the bundle that a lab with this version boots from; None if it is yet to be made.

    Prefer the bundles of `own_ids`, then the newest finished bundle for this machine that `suits` the lab.
    """
    own = (cache / "bundles" / identity for identity in own_ids(kubernetes))
    others = (bundle.folder for bundle in readable_bundles(cache) if _has_version(bundle, kubernetes) and suits(bundle))
    return next((each for each in own if (each / DESCRIPTION).exists()), None) or next(others, None)


def _has_version(bundle: Bundle, kubernetes: str) -> bool:
    return bundle.architecture == architecture() and kubernetes in {ANY, bundle.versions.get("kubernetes")}
