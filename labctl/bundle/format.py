"""The format of a bundle: one folder with every artefact that a lab boots from, described by its `bundle.yaml`."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from labctl.host.files import SHARED_FILE
from labctl.host.files import write as write_file
from labctl.host.paths import content
from labctl.model.errors import MissingError
from labctl.model.lab import Phase, Role

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA = 2
FIRST_SCHEMA = 1
"""The schema without phases of images. They follow from the order of the images, which was always the same."""
FIRST_PHASES = (Phase.SANDBOX, *[Phase.CONTROL_PLANE] * 4, *[Phase.CLUSTER] * 2)
"""The phases of its first images: pause; etcd and the control plane's programs; kube-proxy and CoreDNS."""
DESCRIPTION = "bundle.yaml"
REBUILD = (
    "Run the command that made it again, `labctl bundle build` or `labctl bundle download`; intact files are kept. "
    "If the bundle was copied, copy it again."
)
MAKE = (
    "`labctl bundle download` or `labctl bundle build` makes one. For one that is elsewhere, give its folder: "
    "`--bundle DIR`."
)
NEWER = "Use the labctl that made it, or a newer one."
PARTIAL = ".partial"
"""The suffix of an unfinished bundle's folder, after the bundle's id."""

RunsOn = Literal["node", "control-plane"]
"""Where an image is needed: on every node, or only on the control plane."""

NAME = re.compile(r"[A-Za-z0-9][-A-Za-z0-9._+]{0,199}")
"""A bundle's id, which is part of file names, or a component of a path in an incoming bundle."""
_WORD = re.compile(r"[A-Za-z0-9][-A-Za-z0-9._/:@+]*")
"""A text that stays one word in the scripts that nodes run."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a bundle: its path in the folder, its checksum, its size in bytes, and what it was made from."""

    path: str
    sha256: str
    size: int
    source: str


@dataclass(frozen=True, slots=True)
class Image:
    """A container image: its full reference, the archive that holds it, which nodes need it, and when."""

    reference: str
    archive: str
    runs_on: RunsOn
    phase: Phase

    @property
    def short_name(self) -> str:
        """The last component of the reference's path, without the tag: `nginx` of `labctl.local/nginx:1.26.3`."""
        return self.reference.rpartition("/")[2].partition(":")[0]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle's description. Its files may be missing or damaged: see `verify`."""

    folder: Path
    id: str
    maker: str
    architecture: str
    versions: Mapping[str, str]
    images: tuple[Image, ...]
    """Within a phase, in the order in which a node imports them."""
    web_image: str
    files: tuple[File, ...]
    recipe: str = ""
    """The name of the recipe that it was downloaded with."""

    def path(self, relative: str) -> Path:
        """Return the path of a file of the bundle."""
        return self.folder / relative

    def has(self, relative: str) -> bool:
        """Return whether the bundle lists a file at that path."""
        return any(file.path == relative for file in self.files)

    def image(self, name: str) -> str | None:
        """Return the full reference of the bundle's image that a user means by `name`, or None.

        `name` is a full reference, a name as Docker completes it (`traefik:v3.7.15` is
        `docker.io/library/traefik:v3.7.15`), or the bare last component of a carried image's path (`nginx`).
        """
        carried = {image.reference for image in self.images}
        for reference in (name, f"docker.io/{name}", f"docker.io/library/{name}"):
            if reference in carried:
                return reference
        return next((image.reference for image in self.images if image.short_name == name), None)

    def digest(self, reference: str) -> str:
        """Return the digest that an image has in its registry; empty if the image was made on this machine.

        The download verified the digest, and recorded it with the reference as the source of the archive.
        """
        archives = {image.archive for image in self.images if image.reference == reference}
        sources = [file.source for file in self.files if file.path in archives]
        pinned = [source for source in sources if source.startswith(f"{reference}@sha256:")]
        return pinned[0].partition("@")[2] if pinned else ""

    def archives(self, role: Role) -> dict[Phase, tuple[str, ...]]:
        """Return the relative paths of the image archives that a node of this role imports in each phase, in order."""
        needed = [image for image in self.images if image.runs_on in {"node", role}]
        return {phase: tuple(image.archive for image in needed if image.phase is phase) for phase in Phase}


@dataclass(frozen=True, slots=True)
class UnreadableBundle:
    """A bundle whose description this labctl cannot read, and why."""

    folder: Path
    error: MissingError


def load(folder: Path) -> Bundle:
    """Return the bundle in `folder`.

    Raises MissingError: `bundle-not-found` when there is none, `bundle-unreadable` when its bundle.yaml cannot
    be read as YAML, `bundle-schema` when it does not describe a bundle of a supported schema.
    """
    return read(folder, DESCRIPTION)


def finished_bundles(cache: Path) -> Iterator[Bundle | UnreadableBundle]:
    """Yield the finished bundles below `cache`, newest first, with an UnreadableBundle for one that cannot be read."""
    for folder in folders(cache):
        try:
            bundle = load(folder)
        except MissingError as error:
            yield UnreadableBundle(folder, error)
        else:
            if bundle.id == folder.name:
                yield bundle


def readable_bundles(cache: Path) -> Iterator[Bundle]:
    """Yield the finished bundles below `cache` that this labctl can read, newest first."""
    return (bundle for bundle in finished_bundles(cache) if isinstance(bundle, Bundle))


def folders(cache: Path) -> list[Path]:
    """Return the folders below `cache` that have a bundle's name and description, newest first.

    Unfinished bundles and bundles under repair have other names.
    """
    descriptions = [
        path
        for path in (cache / "bundles").glob(f"*/{DESCRIPTION}")
        if NAME.fullmatch(path.parent.name) and not path.parent.name.endswith(PARTIAL)
    ]
    return [path.parent for path in sorted(descriptions, key=lambda path: path.stat().st_mtime, reverse=True)]


def read(folder: Path, name: str) -> Bundle:
    """Return the bundle that file `name` in `folder` describes. Raises as `load` does."""
    import yaml  # noqa: PLC0415 - most commands never read a bundle, and the import costs 30 ms

    path = folder / name
    try:
        document = yaml.load(content(path), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe loaders
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingError(
            f"there is no bundle in {folder}: {path} is missing", id="bundle-not-found", hint=MAKE
        ) from error
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:  # values in it raise the last two
        raise MissingError(f"{path} cannot be read: {error}", id="bundle-unreadable", hint=REBUILD) from error
    return _validated(folder, path, document)


def write(bundle: Bundle, name: str = DESCRIPTION) -> None:
    """Write the bundle's description to file `name` in its folder, atomically."""
    import yaml  # noqa: PLC0415 - as in `read`

    left_out = {"folder"} if bundle.recipe else {"folder", "recipe"}
    document = {"schema": SCHEMA, **_fields().dump_python(bundle, mode="json", exclude=left_out)}
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text = yaml.dump(document, Dumper=dumper, sort_keys=False, width=120)
    write_file(bundle.path(name), text.encode(), mode=SHARED_FILE)


def _validated(folder: Path, path: Path, document: object) -> Bundle:
    import pydantic  # noqa: PLC0415 - as yaml in `read`

    if isinstance(document, dict) and document.get("schema") == FIRST_SCHEMA:
        document = {**document, "schema": SCHEMA, "images": _with_phases(document.get("images"))}
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        schema = document.get("schema") if isinstance(document, dict) else None
        problem = f"schema is {schema!r}, this labctl reads schemas {FIRST_SCHEMA} and {SCHEMA}"
        if isinstance(schema, int) and schema > SCHEMA:
            raise MissingError(f"{path} was written by a newer labctl: {problem}", id="bundle-schema", hint=NEWER)
        raise _schema_error(path, problem)
    try:
        bundle = _fields().validate_python({**document, "folder": folder})
    except pydantic.ValidationError as error:
        raise _schema_error(path, *(_describe(problem) for problem in error.errors())) from error
    paths = [*(file.path for file in bundle.files), *(image.archive for image in bundle.images)]
    words = [
        *filter(None, [bundle.recipe]),
        *bundle.versions.values(),
        *(image.reference for image in bundle.images),
        *paths,
    ]
    problems = [f"file {name!r} is not a path inside the bundle" for name in paths if not _stays_inside(name)]
    problems += [] if NAME.fullmatch(bundle.id) else [f"the id {bundle.id!r} is not a valid folder name"]
    problems += [
        f"{word!r} has characters that are not allowed in a version, reference or path"
        for word in words
        if not _WORD.fullmatch(word)
    ]
    if problems:
        raise _schema_error(path, *problems)
    return bundle


def _with_phases(images: object) -> object:
    """Return the images of a first-schema description with their phases; return an invalid value unchanged."""
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        return images
    phases = itertools.chain(FIRST_PHASES, itertools.repeat(Phase.ADDONS))
    return [{"phase": phase, **image} for image, phase in zip(images, phases, strict=False)]


@functools.cache
def _fields() -> TypeAdapter[Bundle]:
    """Return the (de)serialiser of a description, cached because building it takes longer than using it."""
    from pydantic import TypeAdapter  # noqa: PLC0415 - as yaml in `read`

    return TypeAdapter(Bundle)


def _schema_error(path: Path, *problems: str) -> MissingError:
    return MissingError(f"{path} does not describe a bundle: {'; '.join(problems)}", id="bundle-schema", hint=REBUILD)


def _describe(problem: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails cannot be named without importing pydantic
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"


def _stays_inside(path: str) -> bool:
    parts = PurePosixPath(path)
    return not parts.is_absolute() and ".." not in parts.parts
