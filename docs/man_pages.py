"""A build hook: put the manual page of every command into the wheel, where `man` finds it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManPages(BuildHookInterface):  # type: ignore[misc]
    """Generates the pages from the command tree of the sources."""

    PLUGIN_NAME = "man-pages"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Write the pages, and add them to the wheel's shared data, which is installed below `sys.prefix`."""
        sys.path.insert(0, self.root)
        from labctl.cli import app  # noqa: PLC0415 - importable only from here on
        from labctl.cli.man import SECTION, pages  # noqa: PLC0415
        from labctl.cli.tree import tree  # noqa: PLC0415

        self.folder = Path(tempfile.mkdtemp(prefix="labctl-man-"))
        for name, page in pages(tree(app)).items():
            (self.folder / name).write_text(page, encoding="utf-8")
            build_data["shared_data"][str(self.folder / name)] = f"share/man/man{SECTION}/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - the same
        """Remove the pages, which are in the wheel now."""
        shutil.rmtree(self.folder)
