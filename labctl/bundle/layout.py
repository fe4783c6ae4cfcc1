"""The form of a bundle as an OCI artefact.

A reference names an index. For each architecture, it lists the manifest of a bundle and those of the container images
in that bundle. A bundle's manifest has labctl's own artifact type. Its layers are the bundle's files, with their paths
as titles. An image archive is stored as a skeleton, and its blobs are layers without a title. The images' own manifests
refer to the same blobs, so these are transferred once; the bundle's manifest alone protects all of them from a
registry's garbage collection.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from labctl.bundle.format import DESCRIPTION, FIRST_SCHEMA, NAME, NEWER, PARTIAL, SCHEMA, Bundle, File, Image
from labctl.bundle.image_archives import split_archive
from labctl.bundle.spans import Content, Span, digest_of, size_of
from labctl.model.errors import MissingError
from labctl.transfer.documents import (
    IMAGE_INDEX,
    IMAGE_INDEXES,
    IMAGE_MANIFEST,
    IMAGE_NAME,
    REF_NAME,
    Document,
    Entry,
    descriptor,
    entry,
    object_at,
    parse_object,
    serialise,
)
from labctl.transfer.indexes import BROKEN, LINUX, Read, listed

ARTIFACT = "application/vnd.labctl.bundle.v1"
CONFIG = "application/vnd.labctl.bundle.config.v1+json"
FILE = "application/vnd.labctl.bundle.file.v1"
SKELETON = "application/vnd.labctl.bundle.archive.v1+json"
BLOB = "application/vnd.labctl.bundle.blob.v1"
MACHINE = "machine/"
"""The path prefix of a machine image's files. They are additions, which the bundle does not list."""
TITLE = "org.opencontainers.image.title"

_LAYOUT_SCHEMA = 1
_LONGEST_PATH = 1000
_RESERVED = (".lock", PARTIAL)
"""The suffixes of other names in the folder of bundles: locks and unfinished bundles."""
_LONGEST_TAG = 128
_LARGEST_DOCUMENT = 64 << 20
"""Bytes. The limit for documents read as a whole. A skeleton has an entry per blob, and at most 1 MiB between them."""


@dataclass(frozen=True, slots=True)
class CarriedImage:
    """An image in a bundle: its tag in the bundle's repository, its own reference, its manifest, and its blobs."""

    tag: str
    reference: str
    manifest: Document
    blobs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Artefact:
    """A bundle in the form in which it is pushed or exported."""

    id: str
    architecture: str
    manifest: Document
    blobs: Mapping[str, Content]
    """The blobs that the manifests of the bundle and its images refer to, by digest."""
    images: tuple[CarriedImage, ...]

    @property
    def documents(self) -> tuple[Document, ...]:
        """The manifests of the bundle and of its images."""
        return (self.manifest, *(image.manifest for image in self.images))

    @property
    def descriptors(self) -> list[dict[str, object]]:
        """The index entries of the bundle and its images."""
        platform = {"architecture": self.architecture, "os": "linux"}
        names = {REF_NAME: self.id}
        return [
            self.manifest.descriptor(artifactType=ARTIFACT, platform=platform, annotations=names),
            *(
                image.manifest.descriptor(
                    platform=platform, annotations={REF_NAME: image.tag, IMAGE_NAME: image.reference}
                )
                for image in self.images
            ),
        ]


@dataclass(frozen=True, slots=True)
class Part:
    """A file of an incoming bundle: its path and its blob, which may be the skeleton of an image archive."""

    path: str
    digest: str
    size: int
    is_skeleton: bool

    @property
    def is_document(self) -> bool:
        """Whether it describes other parts."""
        return self.is_skeleton or self.path == DESCRIPTION


@dataclass(frozen=True, slots=True)
class IncomingBundle:
    """An incoming bundle, as its manifest describes it."""

    manifest: Document
    config: str
    sizes: Mapping[str, int]
    """The size of every blob, including the config, by digest."""
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a bundle, as its config states it."""

    id: str
    architecture: str


@dataclass
class _Layers:
    """The layers of a manifest that is being written, and their blobs."""

    described: list[dict[str, object]] = field(default_factory=list)
    blobs: dict[str, Content] = field(default_factory=dict)

    def add(self, media_type: str, digest: str, content: Content, path: str = "") -> None:
        """Add a layer. A file always gets a layer of its own; a blob without a path is added once."""
        if digest in self.blobs and not path:
            return
        annotations = {"annotations": {TITLE: path}} if path else {}
        self.described.append(descriptor(media_type, digest, size_of(content), **annotations))
        self.blobs[digest] = content


def artefact(bundle: Bundle, additions: Sequence[File] = ()) -> Artefact:
    """Return the bundle, with additional files of its folder, as an artefact. The caller has verified all files."""
    archives = {image.archive: image for image in bundle.images}
    with ThreadPoolExecutor() as pool:
        taken = pool.map(lambda path: split_archive(bundle.path(path), bundle.architecture), archives)
        parts = {path: each for path, each in zip(archives, taken, strict=True) if each}
    layers = _Layers()
    description = bundle.path(DESCRIPTION).read_bytes()
    layers.add(FILE, digest_of(description), description, DESCRIPTION)
    for file in (*bundle.files, *additions):
        if file.path in parts:
            skeleton = parts[file.path].skeleton
            layers.add(SKELETON, digest_of(skeleton), skeleton, file.path)
        else:
            layers.add(FILE, f"sha256:{file.sha256}", Span(bundle.path(file.path), 0, file.size), file.path)
    for each in parts.values():
        for digest, content in {**each.blobs, **each.image_blobs}.items():
            layers.add(BLOB, digest, content)
    config = _config(bundle)
    manifest = serialise(
        IMAGE_MANIFEST,
        {
            "artifactType": ARTIFACT,
            "config": descriptor(CONFIG, digest_of(config), len(config)),
            "layers": layers.described,
        },
    )
    images = tuple(
        CarriedImage(_tag(archives[path]), archives[path].reference, each.image, tuple(each.image_blobs))
        for path, each in parts.items()
        if each.image
    )
    blobs = {digest_of(config): config, **layers.blobs}
    return Artefact(bundle.id, bundle.architecture, manifest, blobs, images)


def with_entries(index: bytes | None, architecture: str, descriptors: Iterable[Mapping[str, object]]) -> Document:
    """Return the index with its entries for this architecture replaced by these."""
    existing = json.loads(index)["manifests"] if index else []
    others = [each for each in existing if _architecture(each) != architecture]
    entries = sorted([*others, *descriptors], key=_architecture)
    return serialise(IMAGE_INDEX, {"manifests": entries})


def holds_bundle(document: Document, architecture: str, read: Read) -> bool:
    """Return whether an index lists a bundle, or a manifest is that of a bundle.

    `read` reads nested indexes, except those for other architectures, if the index lists no bundle directly.
    """
    platform = f"{LINUX}/{architecture}"
    return bool(_bundles(document, platform, lambda _index: None) or _bundles(document, platform, read))


def holds_image(document: Document, reference: str) -> bool:
    """Return whether a document is an index that lists only the image of this name, as labctl pushes it."""
    name = reference.partition("@")[0]
    return document.media_type in IMAGE_INDEXES and all(
        str(object_at(each, "annotations").get(IMAGE_NAME)).partition("@")[0] == name
        for each in json.loads(document.content)["manifests"]
    )


def choose(document: Document, architecture: str, where: str, read: Read) -> str:
    """Return the digest of the manifest of this architecture's bundle in an index, or of a manifest itself.

    `read` reads nested indexes. Raises MissingError `bundle-artefact` if there is no bundle, `bundle-architecture` if
    there are only bundles for other architectures, and what `read` raises.
    """
    bundles = _bundles(document, f"{LINUX}/{architecture}", read)
    if not bundles:
        raise not_a_bundle_error(where, f"it is {document.media_type}")
    digests = {entry_architecture or architecture: digest for entry_architecture, digest in reversed(bundles)}
    if architecture not in digests:
        raise other_architecture_error(where, ", ".join(sorted(digests)), architecture)
    return digests[architecture]


def incoming_bundle(manifest: Document, where: str) -> IncomingBundle:
    """Return the bundle that a manifest describes. Raises MissingError `bundle-artefact` if there is none."""
    try:
        document = parse_object(manifest.content)
        config, *layers = (entry(each) for each in (document["config"], *document["layers"]))
    except (ValueError, LookupError, TypeError) as error:
        raise not_a_bundle_error(where, _describe(error)) from error
    parts = tuple(_part(each) for each in layers if TITLE in each.annotations)
    if problem := _problem(document, parts):
        raise not_a_bundle_error(where, problem)
    if max(config.size, *(part.size for part in parts if part.is_document)) > _LARGEST_DOCUMENT:
        raise not_a_bundle_error(where, f"a description in it has more than {_LARGEST_DOCUMENT} bytes")
    return IncomingBundle(manifest, config.digest, {each.digest: each.size for each in (config, *layers)}, parts)


def identity(config: bytes, architecture: str, where: str) -> Identity:
    """Return the identity of the bundle with this config.

    Raises MissingError `bundle-artefact`, `bundle-schema` if a newer labctl made it, `bundle-architecture`.
    """
    try:
        document = parse_object(config)
        schemas = (int(document["schema"]), int(document["bundle_schema"]))
        bundle = Identity(str(document["id"]), str(document["architecture"]))
    except (ValueError, OverflowError, LookupError, TypeError) as error:
        raise not_a_bundle_error(where, _describe(error)) from error
    if schemas[0] > _LAYOUT_SCHEMA or schemas[1] > SCHEMA:
        raise MissingError(
            f"{where}: the bundle {bundle.id} was made by a newer labctl: it has schemas {schemas[0]} and {schemas[1]}, "
            f"and this labctl reads {_LAYOUT_SCHEMA} and {FIRST_SCHEMA} to {SCHEMA}",
            id="bundle-schema",
            hint=NEWER,
        )
    if not NAME.fullmatch(bundle.id) or bundle.id.endswith(_RESERVED):
        raise not_a_bundle_error(where, f"{bundle.id!r} is not the id of a bundle")
    if bundle.architecture != architecture:
        raise other_architecture_error(where, bundle.architecture, architecture)
    return bundle


def not_a_bundle_error(where: str, why: str) -> MissingError:
    """Return the error for something that is not a bundle."""
    return MissingError(
        f"{where} is not a bundle: {why}",
        id="bundle-artefact",
        hint="Use a reference that `labctl bundle push` pushed, or a file that `labctl bundle export` wrote.",
    )


def other_architecture_error(where: str, there: str, architecture: str) -> MissingError:
    """Return the error for a bundle that this machine cannot run."""
    return MissingError(
        f"{where} has a bundle for {there}, but this machine is {architecture}",
        id="bundle-architecture",
        hint=f"Make one on an {architecture} machine with `labctl bundle build`, then push or export it there.",
    )


def _config(bundle: Bundle) -> bytes:
    described = {
        "schema": _LAYOUT_SCHEMA,
        "bundle_schema": SCHEMA,
        "id": bundle.id,
        "architecture": bundle.architecture,
        "versions": dict(bundle.versions),
    }
    return json.dumps(described, sort_keys=True, separators=(",", ":")).encode()


def _tag(image: Image) -> str:
    """Return the image's tag in the repository of the bundle: the name of its archive, and its version."""
    name = PurePosixPath(image.archive).stem
    path, _, digest = image.reference.partition("@sha256:")
    version = path.rpartition("/")[2].partition(":")[2] or digest[:12]
    return re.sub(r"[^\w.-]", "-", f"{name}-{version}", flags=re.ASCII)[:_LONGEST_TAG]


def _bundles(document: Document, platform: str, read: Read) -> list[tuple[str, str]]:
    """Return the architecture and digest of each bundle in an index; for a manifest, the architecture is empty."""
    try:
        content = parse_object(document.content)
        if document.media_type not in IMAGE_INDEXES:
            return [("", document.digest)] if content.get("artifactType") == ARTIFACT else []
        entries = [(each.platform, entry(each.described)) for each in listed(content, platform, read)]
    except BROKEN:
        return []
    return [(of.partition("/")[2], each.digest) for of, each in entries if each.artifact_type == ARTIFACT]


def _architecture(described: object) -> str:
    return str(object_at(described, "platform").get("architecture", ""))


def _part(layer: Entry) -> Part:
    return Part(str(layer.annotations[TITLE]), layer.digest, layer.size, layer.media_type == SKELETON)


def _problem(document: Mapping[str, Any], parts: Sequence[Part]) -> str:
    """Return why a manifest does not describe a bundle that is safe to write to disk; empty if it does."""
    if document.get("artifactType") != ARTIFACT:
        return f"it is {document.get('artifactType') or 'a container image'}"
    paths = [part.path for part in parts]
    if DESCRIPTION not in [part.path for part in parts if not part.is_skeleton]:
        return f"it has no {DESCRIPTION}"
    if outside := [path for path in paths if not _is_inside(path)]:
        return f"{outside[0]!r} is not a path inside a bundle"
    if repeated := [path for path, count in Counter(paths).items() if count > 1]:
        return f"it has {repeated[0]} more than once"
    folders = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    nested = sorted(folders.intersection(paths))
    return f"{nested[0]} is both a file and the folder of another file" if nested else ""


def _is_inside(path: str) -> bool:
    return len(path) <= _LONGEST_PATH and all(NAME.fullmatch(part) for part in path.split("/"))


def _describe(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)
