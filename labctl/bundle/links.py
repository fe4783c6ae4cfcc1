"""Files of a bundle that are links to outside its folder, the only one that nodes in containers mount."""

from __future__ import annotations

from labctl.bundle.format import Bundle
from labctl.host.paths import real
from labctl.model.errors import MissingError


def require_inside(bundle: Bundle) -> None:
    """Check that the bundle's folder has the content of every file. Raises MissingError `bundle-linked`."""
    folder = real(bundle.folder)
    targets = {file.path: real(bundle.path(file.path)) for file in bundle.files}
    outside = [f"{path} is a link to {target}" for path, target in targets.items() if not target.is_relative_to(folder)]
    if outside:
        raise MissingError(
            f"nodes cannot read all files of bundle {bundle.folder}: {'; '.join(outside)}",
            id="bundle-linked",
            hint=f"Copy the files instead of linking them: `cp -rL {bundle.folder} DIR`, then use `--bundle DIR`.",
        )
