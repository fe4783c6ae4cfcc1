"""The digests of first downloads, by name. Later downloads must have the same, because upstream may change a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from labctl.host.files import write
from labctl.host.paths import content
from labctl.model.errors import MissingError


class Pins:
    """The digest of everything that was downloaded for a bundle, in a file that outlives the bundle."""

    def __init__(self, cache: Path, bundle_id: str) -> None:
        self.path = cache / "downloaded" / f"{bundle_id}.json"

    def known(self) -> dict[str, str]:
        """Return the digests by name. Raises MissingError `pins-unreadable`."""
        try:
            known = json.loads(content(self.path))
            return {str(name): str(digest) for name, digest in known.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError) as error:
            raise MissingError(
                f"{self.path}, the record of earlier downloads, cannot be read: {error}",
                id="pins-unreadable",
                hint="Remove the file to accept what upstream publishes now.",
            ) from error

    def keep(self, digests: Mapping[str, str]) -> None:
        """Record digests by name. Raises MissingError as `require` does."""
        self.require(digests)
        known = self.known()
        if not digests.items() <= known.items():
            write(self.path, json.dumps({**known, **digests}, indent=1, sort_keys=True).encode() + b"\n")

    def require(self, digests: Mapping[str, str]) -> None:
        """Raise MissingError `upstream-changed` if a digest differs from the recorded one."""
        known = self.known()
        changed = [
            f"{name} was {known[name]} and is now {digest}"
            for name, digest in digests.items()
            if known.get(name, digest) != digest
        ]
        if changed:
            raise MissingError(
                f"upstream has changed what it publishes since the first download: {'; '.join(changed)}",
                id="upstream-changed",
                hint="Find out why before you trust it. To accept the new files, remove " + str(self.path) + ".",
            )
