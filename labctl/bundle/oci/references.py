"""Records of pulled references. They reveal a tag that moved, and let a pulled bundle be used without its registry."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from labctl.bundle.format import DESCRIPTION
from labctl.host.files import SHARED_FILE, write
from labctl.host.paths import content
from labctl.transfer.reference import Reference

_FOLDER = "references"


@dataclass(frozen=True, slots=True)
class PulledReference:
    """What a reference named when it was last pulled."""

    digest: str
    """The digest of the bundle's manifest."""
    bundle: str
    """The bundle's id."""

    def folder(self, cache: Path) -> Path:
        """Return the folder of the bundle."""
        return cache / "bundles" / self.bundle


def find_pulled(reference: Reference, cache: Path) -> PulledReference | None:
    """Return the record of a reference; None if there is none, or if its bundle is no longer in the cache."""
    known = _read(_record(reference, cache))
    return known if known and (known.folder(cache) / DESCRIPTION).exists() else None


def record_pulled(reference: Reference, known: PulledReference, cache: Path) -> None:
    """Record what a pulled reference names."""
    written = {"reference": str(reference), "digest": known.digest, "bundle": known.bundle}
    write(_record(reference, cache), json.dumps(written, indent=1).encode(), mode=SHARED_FILE)


def forget_absent(cache: Path) -> None:
    """Remove the records of references whose bundles are no longer in the cache."""
    for record in (cache / _FOLDER).glob("*.json"):
        known = _read(record)
        if known is None or not (known.folder(cache) / DESCRIPTION).exists():
            record.unlink()


def _read(record: Path) -> PulledReference | None:
    try:
        written = json.loads(content(record))
        return PulledReference(str(written["digest"]), str(written["bundle"]))
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None  # the record is only a cache: without it, the registry is asked


def _record(reference: Reference, cache: Path) -> Path:
    return cache / _FOLDER / f"{hashlib.sha256(str(reference).encode()).hexdigest()[:16]}.json"
