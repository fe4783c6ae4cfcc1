"""A build hook: link the package to the repository that pyproject.toml names, if it names one."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

PATHS = {"Repository": "", "Issues": "/issues", "Changelog": "/blob/main/CHANGELOG.md"}


class ProjectUrls(MetadataHookInterface):  # type: ignore[misc]
    """Set the project's URLs."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the URLs from `repository` in the table `tool.labctl`."""
        pyproject = tomllib.loads((Path(self.root) / "pyproject.toml").read_text(encoding="utf-8"))
        if repository := pyproject["tool"]["labctl"]["repository"].rstrip("/"):
            metadata["urls"] = {name: repository + path for name, path in PATHS.items()}
