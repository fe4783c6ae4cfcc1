"""The order for a download, as a value. Importing this module imports no code that connects."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from labctl.bundle.download.recipe import Recipe, recipe_id
from labctl.transfer.mirrors import Mirrors

DEBIAN, SECURITY = "deb.debian.org", "security.debian.org"


@dataclass(frozen=True, slots=True)
class Order:
    """An order: a recipe, possibly another patch version of Kubernetes than the recipe's, and the mirrors to use."""

    own: Recipe
    mirrors: Mirrors = field(default_factory=Mirrors)
    kubernetes: str = ""

    @property
    def recipe(self) -> Recipe:
        """The recipe with the requested version."""
        return self.own.with_kubernetes(self.kubernetes) if self.kubernetes else self.own

    def folder(self, cache: Path) -> Path:
        """Return the folder of the finished bundle."""
        return cache / "bundles" / recipe_id(self.recipe)

    def servers(self) -> tuple[str, ...]:
        """Return a URL of every server that the download contacts; for a registry, that of its API."""
        hosts = dict.fromkeys(urlsplit(row.url).netloc for row in self.recipe.files)
        registries = dict.fromkeys(reference.partition("/")[0] for reference in self.recipe.references())
        debian = (self.mirrors.table.get(DEBIAN, f"http://{DEBIAN}"), self.mirrors.table.get(SECURITY))
        return (
            *(f"{self.mirrors.base(host)}/" for host in hosts),
            *(f"{self.mirrors.registry(host, '')}/" for host in registries),
            *(f"{url}/" for url in debian if url),  # mmdebstrap's own choice, or the mirrors
        )

    @property
    def kubeadm_chooses_images(self) -> bool:
        """Whether kubeadm chooses the versions of its images, because the recipe was written for another Kubernetes."""
        return self.recipe.kubernetes != self.own.kubernetes
