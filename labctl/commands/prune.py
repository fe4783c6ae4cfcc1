"""Remove from the cache what no lab uses."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from labctl.bundle.choice import own_ids
from labctl.bundle.format import PARTIAL, Bundle, UnreadableBundle, finished_bundles
from labctl.bundle.oci.install import INCOMING
from labctl.bundle.oci.references import forget_absent
from labctl.bundle.unfinished import OTHER_SECONDS
from labctl.commands import bundles, runner
from labctl.commands.bundles import REMOVED, Forget, removal_hint
from labctl.context import Context
from labctl.host import locks, paths
from labctl.host.files import size_on_disk
from labctl.host.wait import Pending
from labctl.model.events import Progress, Watching
from labctl.model.options import GlobalOptions
from labctl.plans.plan import Outcome, Step

_LEFTOVERS = (f"{INCOMING}*", f"{REMOVED}*")
"""Patterns of what a killed run leaves beside the bundles."""
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Prunable:
    """Bundles that no lab uses and a newer one supersedes, and other folders to remove."""

    bundles: tuple[Bundle, ...]
    others: tuple[Path, ...]
    """The folder of blobs, and leftovers of killed runs."""
    unreadable: tuple[UnreadableBundle, ...]
    """Bundles that are kept because they cannot be read: it is unknown whether a newer one supersedes them."""
    size: int
    """The bytes of disk space that are freed."""

    @property
    def text(self) -> str:
        """A summary, for the confirmation prompt and the result."""
        named = [bundle.id for bundle in self.bundles]
        kept = ["cached downloads"] if self.others else []
        return f"{', '.join([*named, *kept])}: {self.size // _MIB} MiB" if named or kept else "nothing"


def find_prunable(cache: Path) -> Prunable:
    """Return what can be removed: blobs, leftovers, and unused bundles that are not the newest of their kind.

    A kind is the maker, the minor version of Kubernetes and the architecture. Bundles that this labctl makes are kept,
    and so are bundles that cannot be read.
    """
    newest: set[tuple[str, ...]] = set()
    old: list[Bundle] = []
    unreadable: list[UnreadableBundle] = []
    for bundle in finished_bundles(cache):  # the newest first
        if isinstance(bundle, UnreadableBundle):
            unreadable.append(bundle)
            continue
        if _kind(bundle) in newest and bundle.id not in own_ids() and not bundles.labs_using(bundle.folder):
            old.append(bundle)
        newest.add(_kind(bundle))
    others = [path for pattern in _LEFTOVERS for path in (cache / "bundles").glob(pattern)]
    others += [path for path in (cache / "bundles").glob(f"*{PARTIAL}") if _is_abandoned(path)]
    others += [path for path in [cache / paths.BLOBS] if path.exists()]
    size = _freed_bytes(cache, [*(bundle.folder for bundle in old), *others])
    return Prunable(tuple(old), tuple(others), tuple(unreadable), size)


def prune(options: GlobalOptions, watching: Watching, forget: Sequence[Forget] = ()) -> None:
    """Remove what is superfluous, as a run of one step; `forget` removes what hypervisors keep of bundles."""

    def remove(context: Context, report: Progress) -> Outcome:
        unused = find_prunable(context.cache)
        for bundle in unused.bundles:
            bundles.remove(bundle.folder, context.cache, report, forget)
        for path in unused.others:
            _remove_leftover(path, report)
        forget_absent(context.cache)
        left = [
            f"{bundle.folder.name} was left because it cannot be read: {removal_hint(bundle)}"
            for bundle in unused.unreadable
        ]
        return Outcome(bool(unused.bundles or unused.others), "; ".join([unused.text, *left]))

    runner.run_in_cache(options, watching, (Step("bundle", "removes what no lab uses", remove),))


def _is_abandoned(partial: Path) -> bool:
    """Return whether an unfinished bundle is not one of this labctl's own, and no process works on it."""
    identity = partial.name.removesuffix(PARTIAL)
    if identity in own_ids():
        return False
    try:
        held = locks.try_lock(_lock(partial))
    except FileNotFoundError:  # no process has started to work on it
        return True
    if isinstance(held, Pending):
        return False
    held.close()
    return True


def _lock(leftover: Path) -> Path:
    """Return the lock of the bundle that a leftover belongs to: ID.partial, .incoming-ID or .removed-ID."""
    name = leftover.name
    identity = name.removesuffix(PARTIAL) if name.endswith(PARTIAL) else name.partition("-")[2]
    return leftover.with_name(f"{identity}.lock")


def _freed_bytes(cache: Path, folders: Sequence[Path]) -> int:
    """Return the bytes that removing the folders frees: a blob may be a hard link to a file of a kept bundle."""
    staying = [path for path in (cache / "bundles").glob("*") if path.is_dir() and path not in folders]
    return size_on_disk([*staying, *folders]) - size_on_disk(staying)


def _remove_leftover(path: Path, report: Progress) -> None:
    """Wait for the runs that hold locks on the folder's content; then remove the folder if it still exists."""
    if path.name == paths.BLOBS:  # any bundle may use its blobs
        locked = [path.with_name(f"{path.name}.lock"), *sorted((path.parent / "bundles").glob("*.lock"))]
    else:
        locked = [_lock(path)]
    with ExitStack() as held:
        for lock in locked:
            held.enter_context(locks.exclusive(lock, report, timeout=OTHER_SECONDS))
        if path.exists():
            report(f"removing {path}")
            paths.remove_tree(path)


def _kind(bundle: Bundle) -> tuple[str, ...]:
    minor = bundle.versions.get("kubernetes", "").rpartition(".")[0]
    return (bundle.maker, minor, bundle.architecture)
