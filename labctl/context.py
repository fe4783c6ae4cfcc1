"""All that a step may use: the lab, its folder, the provider, the cluster and the bundle, opened when first used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from labctl import machine_image
from labctl.bundle import DESCRIPTION as BUNDLE_DESCRIPTION
from labctl.bundle import Bundle, load
from labctl.bundle.build.build import recipe_files, recipe_id, recipe_images
from labctl.bundle.build.recipe import VERSIONS
from labctl.bundle.choice import default_folder
from labctl.bundle.download import recipe as recipes
from labctl.bundle.download.order import Order
from labctl.bundle.download.recipe import Recipe
from labctl.host import lab_folder
from labctl.host.processor import architecture
from labctl.images.store import LoadedImages
from labctl.isolation.isolation import Isolation
from labctl.machine_image.format import DESCRIPTION, box_name
from labctl.model.errors import MissingError
from labctl.model.lab import Lab
from labctl.providers.docker_images import node_image
from labctl.providers.protocol import NodeImages, Provider
from labctl.providers.table import Hypervisor, hypervisor
from labctl.render import ingress
from labctl.render.yaml_stream import documents
from labctl.transfer import mirrors
from labctl.transfer.mirrors import Mirrors

if TYPE_CHECKING:
    from labctl.cluster.client import Cluster

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why labctl chose the lab's pool and provider; empty for what the user named."""

    pool: str = ""
    provider: str = ""


@dataclass(frozen=True, slots=True)
class BundlePolicy:
    """How the lab's bundle may be made if it is missing."""

    offline: bool = False
    """Whether the network must not be used."""
    recipe: Recipe | None = None
    """The recipe of the download; None means labctl's own, and a build if upstream cannot be reached."""


DEFAULT_POLICY = BundlePolicy()


@dataclass(frozen=True)
class Context:
    """The lab that a run works on, and what its steps may use."""

    lab: Lab
    folder: Path
    """The lab's state folder."""
    cache: Path
    bundle_folder: Path | None = None
    """The folder of the chosen bundle; None means one in the cache, or else the one that labctl makes."""
    may_install: bool = False
    isolated: bool = False
    """Whether the lab has its own network namespace and Engine."""
    reasons: Reasons = Reasons()
    policy: BundlePolicy = DEFAULT_POLICY

    @property
    def log(self) -> Path:
        """The lab's log, with the whole output of every tool that worked on the lab."""
        return self.folder / lab_folder.LOG

    @cached_property
    def bundle(self) -> Bundle:
        """The bundle that the lab boots from.

        Raises MissingError if it is missing, is for another architecture, or has another Kubernetes.
        """
        if not self.has_bundle and not self.policy.recipe:
            self.require_buildable()
        bundle = load(self._bundle_path)
        _require_architecture(bundle)
        self._require_version(bundle.versions["kubernetes"], bundle.id)
        return bundle

    @property
    def programs(self) -> Path:
        """The folder of the bundle's programs, even if the bundle was removed."""
        return self._bundle_path / "bin"

    @cached_property
    def controller(self) -> ingress.IngressController:
        """The ingress controller that the lab requests, or for `auto` the first that the bundle has.

        If the bundle does not have it, the controller of the manifests that were rendered last. Raises MissingError.
        """
        try:
            return self.controller_for(self.lab.ingress)
        except MissingError:
            rendered = self.folder / lab_folder.INGRESS
            objects = documents(rendered.read_text(encoding="utf-8")) if rendered.exists() else []
            controller = ingress.find_by_images(ingress.images_of(objects))
            if controller is None:
                raise
            return controller

    def controller_for(self, name: str) -> ingress.IngressController:
        """Return the ingress controller of this name, or for `auto` the bundle's first. Raises MissingError."""
        return ingress.choose(name, self.images, [file.path for file in self.bundle.files])

    def require_bundle_contents(self) -> None:
        """Check that the bundle has what the lab requests or, if it is yet to be made, that it will.

        Raises MissingError `bundle-version` or `ingress-not-carried`, and those of `bundle`.
        """
        if self.has_bundle:
            self.controller_for(self.lab.ingress)
            if self.policy.offline:
                self._require_box()
            return
        if self.policy.offline:
            raise MissingError(
                f"there is no bundle in {self._recipe_folder or self.cache / 'bundles'}, and `--offline` forbids making one",
                id="bundle-not-cached",
                hint="Run the command once without `--offline`, or name a bundle: `labctl up --bundle DIR`.",
            )
        own = self.policy.recipe
        if self.download_order is None:
            if own:
                self._require_version(own.kubernetes, f"that of recipe {own.name}")
            self.require_buildable()
            return
        recipe = self.download_order.recipe
        images, files = tuple(reference.partition("@")[0] for reference in recipe.references()), recipe.paths()
        if own is None:  # a build may replace the download
            images, files = (*recipe_images(), *images), (*recipe_files(), *files)
        ingress.choose(self.lab.ingress, images, files)

    def require_buildable(self) -> None:
        """Check that `labctl bundle build` makes a bundle with what the lab requests. Raises as that does."""
        self._require_version(VERSIONS["kubernetes"], "the one that `labctl bundle build` makes")
        ingress.choose(self.lab.ingress, recipe_images(), recipe_files())

    @property
    def download_order(self) -> Order | None:
        """The download of the lab's bundle, by the user's recipe or else labctl's own.

        None if labctl was not tested with the requested Kubernetes, unless the recipe names it. Raises UsageError
        `mirrors-invalid`.
        """
        recipe, wanted = self.policy.recipe or recipes.load(), self._kubernetes
        return (
            Order(recipe, self.mirrors, wanted) if recipes.was_tested(wanted) or wanted == recipe.kubernetes else None
        )

    @property
    def machine_box(self) -> str:
        """The name of the box of the lab's machines, even if the bundle was removed."""
        folder = self._bundle_path
        try:
            return box_name(load(folder).id)
        except MissingError:
            return box_name(folder.name)  # in the cache, a bundle's folder is named after its id

    @property
    def images(self) -> tuple[str, ...]:
        """The references of the bundle's images."""
        return tuple(image.reference for image in self.bundle.images)

    @property
    def loaded_images(self) -> LoadedImages:
        """The images that were loaded into the lab."""
        return LoadedImages(self.folder / lab_folder.IMAGES)

    def image(self, name: str) -> str | None:
        """Return the full reference of the bundle's or a loaded image that `name` stands for; None if there is none."""
        if carried := self.bundle.image(name):
            return carried
        loaded = self.loaded_images.find(name)
        return loaded.reference if loaded else None

    @property
    def has_bundle(self) -> bool:
        """Whether a bundle was chosen or is in the cache, so that none has to be made."""
        return self.bundle_folder is not None or self._cached_bundle is not None

    @property
    def needs_box(self) -> bool:
        """Whether the nodes are virtual machines whose image does not exist yet."""
        if self.hypervisor.are_containers:
            return False
        return not (self._bundle_path / DESCRIPTION).exists()

    @property
    def lacks_detector(self) -> bool:
        """Whether the lab is without the failure detector because the bundle lacks it; slow nodes do not use it."""
        return self.lab.slowness == 1 and self.bundle.image("failure-detector") is None

    @property
    def node_image(self) -> str:
        """The name of the image with the node's system, which depends on its content."""
        return node_image(self.bundle)

    @property
    def isolation(self) -> Isolation:
        """The lab's own network namespace and Engine, which need not exist."""
        return Isolation(self.lab.name, self.lab.network, self.folder)

    @property
    def hypervisor(self) -> Hypervisor:
        """The hypervisor or container engine of the lab's nodes."""
        return hypervisor(self.lab)

    @cached_property
    def provider(self) -> Provider:
        """The provider of the lab's nodes."""
        return self.hypervisor.provider(self.lab, self.folder, self._environment)

    @cached_property
    def node_images(self) -> NodeImages | None:
        """The images that the lab's nodes start from; None if the hypervisor keeps none."""
        make = self.hypervisor.node_images
        return make(self.folder, self._environment) if make else None

    @cached_property
    def cluster(self) -> Cluster:
        """The client of the lab's Kubernetes API."""
        from labctl.cluster.client import Cluster  # noqa: PLC0415 - the client's import takes 0.3 s, which only its users should pay

        return Cluster(self.folder / lab_folder.KUBECONFIG, self.lab.limits, context=self.lab.name)

    @property
    def mirrors(self) -> Mirrors:
        """The mirrors of upstream's servers. Raises UsageError `mirrors-invalid`."""
        return mirrors.parse_mirrors(dict(self.lab.mirrors), os.environ.get(mirrors.ENVIRONMENT, ""))

    @property
    def _environment(self) -> Mapping[str, str]:
        return self.isolation.environment if self.isolated else {}

    def _require_box(self) -> None:
        """Raise MissingError `bundle-not-cached` if the nodes are machines whose box does not exist yet."""
        image = None if self.hypervisor.are_containers else machine_image.load(self.bundle)
        if not (self.hypervisor.are_containers or (image and self.lab.provider in image.providers)):
            raise MissingError(
                f"the bundle {self.bundle.id} has no box for {self.lab.provider}, and `--offline` forbids making one",
                id="bundle-not-cached",
                hint="Run the command once without `--offline`, or name a bundle with boxes: `labctl up --bundle DIR`.",
            )

    def _require_version(self, carried: str, bundle: str) -> None:
        wanted = self.lab.kubernetes
        if wanted in {AUTO, carried}:
            return
        where = "no bundle in the cache carries it; " if self.bundle_folder is None else ""
        raise MissingError(
            f"kubernetes: {wanted}: {where}the bundle, {bundle}, has {carried}",
            id="bundle-version",
            hint=f"Set `kubernetes: {carried}` or auto, or name a bundle that carries {wanted}: `labctl up --bundle DIR`. "
            f"This labctl builds {VERSIONS['kubernetes']}, and downloads any patch version of {', '.join(recipes.MINORS)};"
            " `labctl bundle list` shows what is in the cache.",
        )

    @property
    def _bundle_path(self) -> Path:
        """The folder of the bundle, which may not exist yet."""
        return self.bundle_folder or self._cached_bundle or self._recipe_folder or self.cache / "bundles" / recipe_id()

    @property
    def _cached_bundle(self) -> Path | None:
        folder = self._recipe_folder
        if folder is None:
            return default_folder(self.cache, self.lab.kubernetes, self._has_ingress_controller)
        return folder if (folder / BUNDLE_DESCRIPTION).exists() else None

    @property
    def _recipe_folder(self) -> Path | None:
        """The folder of the bundle of the user's recipe, which may not exist yet; None without such a recipe."""
        return Order(self.policy.recipe, kubernetes=self._kubernetes).folder(self.cache) if self.policy.recipe else None

    @property
    def _kubernetes(self) -> str:
        """The requested version; empty for any."""
        return "" if self.lab.kubernetes == AUTO else self.lab.kubernetes

    def _has_ingress_controller(self, bundle: Bundle) -> bool:
        """Return whether a bundle that this labctl did not make has the ingress controller that the lab requests."""
        try:
            ingress.choose(
                self.lab.ingress, [image.reference for image in bundle.images], [file.path for file in bundle.files]
            )
        except MissingError:
            return False
        return True


def _require_architecture(bundle: Bundle) -> None:
    if bundle.architecture != architecture():
        raise MissingError(
            f"{bundle.folder}: the bundle {bundle.id} is for {bundle.architecture}, and this machine is {architecture()}",
            id="bundle-architecture",
            hint=f"Name a bundle for {architecture()}: `labctl bundle list` shows those in the cache.",
        )
