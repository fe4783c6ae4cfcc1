"""The format of a bundle's machine image: boxes for Vagrant, described by the `machine.yaml` beside them."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from labctl.bundle.format import Bundle, File
from labctl.host.files import SHARED_FILE
from labctl.host.files import write as write_file
from labctl.host.paths import content
from labctl.model.errors import MissingError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA = 1
FOLDER = "machine"
"""The folder of the machine image in the bundle's folder. The bundle's id and description do not depend on it."""
DESCRIPTION = f"{FOLDER}/machine.yaml"
CATALOGUE = f"{FOLDER}/metadata.json"
LIBVIRT_BOX = f"{FOLDER}/libvirt.box"
VIRTUALBOX_BOX = f"{FOLDER}/virtualbox.box"
BOXES: Mapping[str, str] = MappingProxyType({"libvirt": LIBVIRT_BOX, "virtualbox": VIRTUALBOX_BOX})
"""The path of each provider's box in the bundle."""
DISK_IN_BOX = "box.img"
"""The name of the disk in the libvirt box."""
REBUILD = "Run `labctl bundle build --with vm` to make it again. If the bundle was copied, copy it again."


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk: the size that a machine sees, and the size and checksum of the file that holds it."""

    capacity: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class MachineImage:
    """A machine image's description. Its files may be missing or damaged: see `verify`."""

    folder: Path
    """The bundle's folder: the paths of the files are relative to it."""
    bundle_id: str
    version: str
    """The version of the boxes for Vagrant. It differs for each bundle, each recipe and each content of the disk."""
    kernel: str
    data: str
    """The SHA-256 of the raw disk's content, as `labctl.machine_image.disk.content_sha256` computes it."""
    qcow2: Disk
    """The disk in the libvirt box."""
    files: tuple[File, ...]

    def path(self, relative: str) -> Path:
        """Return the path of a file of the image."""
        return self.folder / relative

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers that have a box."""
        paths = {file.path for file in self.files}
        return tuple(provider for provider, path in BOXES.items() if path in paths)


def box_name(bundle_id: str) -> str:
    """Return the name of the boxes of a bundle."""
    return f"labctl/{bundle_id}"


def load(bundle: Bundle) -> MachineImage | None:
    """Return the machine image of a bundle; None if it has none.

    Raises MissingError: `machine-image-unreadable` when its description cannot be read, `machine-image-schema` when it
    does not describe a machine image of this bundle and this schema.
    """
    import yaml  # noqa: PLC0415 - most commands never read an image, and the import costs 30 ms

    path = bundle.path(DESCRIPTION)
    try:
        document = yaml.load(content(path), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe loaders
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:  # values in it raise the last two
        raise MissingError(f"{path} cannot be read: {error}", id="machine-image-unreadable", hint=REBUILD) from error
    return _validated(bundle, path, document)


def write(image: MachineImage, folder: Path) -> None:
    """Write the description and the catalogue of an image to `folder`, which is or becomes the bundle's `FOLDER`."""
    import yaml  # noqa: PLC0415 - as in `load`

    document = {"schema": SCHEMA, **_fields().dump_python(image, mode="json", exclude={"folder"})}
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text = yaml.dump(document, Dumper=dumper, sort_keys=False, width=120)
    write_file(folder / Path(CATALOGUE).name, catalogue(image).encode(), mode=SHARED_FILE)
    write_file(folder / Path(DESCRIPTION).name, text.encode(), mode=SHARED_FILE)


def catalogue(image: MachineImage, base: str = "") -> str:
    """Return the catalogue of the image's boxes for Vagrant.

    `base` is prepended to each URL. Vagrant takes a URL without a scheme for a path in its working directory.
    """
    files = {file.path: file for file in image.files}
    providers = [
        {
            "name": provider,
            "url": f"{base}{Path(BOXES[provider]).name}",
            "checksum_type": "sha256",
            "checksum": files[BOXES[provider]].sha256,
            "architecture": "amd64",
            "default_architecture": True,
        }
        for provider in image.providers
    ]
    versions = [{"version": image.version, "providers": providers}]
    description = f"A node of a labctl lab: {image.bundle_id}"
    return json.dumps({"name": box_name(image.bundle_id), "description": description, "versions": versions}, indent=2)


def _validated(bundle: Bundle, path: Path, document: object) -> MachineImage:
    import pydantic  # noqa: PLC0415 - as yaml in `load`

    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        schema = document.get("schema") if isinstance(document, dict) else None
        raise _schema_error(path, f"schema is {schema!r}, this labctl reads schema {SCHEMA}")
    try:
        image = _fields().validate_python({**document, "folder": bundle.folder})
    except pydantic.ValidationError as error:
        problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        raise _schema_error(path, *problems) from error
    if image.bundle_id != bundle.id:
        raise _schema_error(path, f"bundle_id is {image.bundle_id}, the bundle's id is {bundle.id}")
    if unknown := [file.path for file in image.files if file.path not in BOXES.values()]:
        raise _schema_error(path, f"file {unknown[0]!r} is not a box")
    return image


@functools.cache
def _fields() -> TypeAdapter[MachineImage]:
    """Return the (de)serialiser of a description, cached because building it takes longer than using it."""
    from pydantic import TypeAdapter  # noqa: PLC0415 - as yaml in `load`

    return TypeAdapter(MachineImage)


def _schema_error(path: Path, *problems: str) -> MissingError:
    return MissingError(
        f"{path} does not describe a machine image: {'; '.join(problems)}", id="machine-image-schema", hint=REBUILD
    )
