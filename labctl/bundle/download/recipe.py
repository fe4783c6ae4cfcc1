"""The recipe of a downloaded bundle, as data: a YAML file with every URL, image and pin.

labctl's own is `upstream.yaml` beside this module; users can provide another one in the same form.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labctl.bundle import images
from labctl.bundle.build.build import NODE, own_files
from labctl.bundle.format import RunsOn
from labctl.bundle.unfinished import architecture
from labctl.host.paths import content
from labctl.model.errors import UsageError
from labctl.model.lab import Phase

OWN = Path(__file__).with_name("upstream.yaml")
MAKERS = 1
"""Incremented when a download makes a different bundle from the same recipe."""
PROGRAMS = ("bin/kubeadm", "bin/kubelet", "bin/kubectl")
"""The binaries without which no node boots."""
SANDBOX = "pause"
"""The name of the image from which containerd on the nodes starts pod sandboxes."""
DIGEST = "sha256:"
NODE_IMAGE = "docker.io/library/debian:trixie-slim"
"""The default for a recipe that names no image."""
MINORS = ("1.37",)
"""The minor versions of Kubernetes that labs were tested with."""

Checksum = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Url = Annotated[str, Field(pattern=r"^https://[-.a-z0-9]+/[-A-Za-z0-9._~/{}+%]+$")]
VersionName = Annotated[str, Field(pattern="^[a-z][-a-z0-9]*$")]
Reference = Annotated[
    str,
    Field(pattern=r"^[-.a-z0-9]+\.[-.a-z0-9]+(/[-._a-z0-9]+)+:[-._A-Za-z0-9{}]+(@sha256:[0-9a-f]{64})?$"),
]
_MUST_BE = {
    "model_type": "must be a mapping of keys to values",
    "^[0-9a-f]{64}$": "must be a SHA-256 in lower-case hexadecimal",
    "^[a-z][-a-z0-9]*$": "must be a name in lower-case letters, digits and hyphens, with a letter first",
    Url.__metadata__[0].metadata[0].pattern: "must be an https address without a query",  # type: ignore[attr-defined]
    Reference.__metadata__[0].metadata[0].pattern: "must be a full image reference with a tag",  # type: ignore[attr-defined]
}


class _Row(BaseModel):
    """A mapping in the file. Other keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Binary(_Row):
    """A program, with checksums by architecture. The default is the checksum that upstream publishes at URL.sha256."""

    path: Annotated[str, Field(pattern="^bin/[-a-z0-9]+$")]
    url: Url
    sha256: Mapping[Annotated[str, Field(pattern="^(amd64|arm64)$")], Checksum] = {}
    mode: ClassVar[int] = 0o755

    def checksum(self, machine: str) -> str | None:
        """Return the checksum for an architecture; None if it is not pinned."""
        return self.sha256.get(machine)


class ImageRow(_Row):
    """An image, which nodes need it, and when."""

    reference: Reference
    runs_on: RunsOn
    phase: Phase


class ManifestRow(_Row):
    """A manifest of upstream's, which is applied to the cluster."""

    path: Annotated[str, Field(pattern=r"^manifests/[-a-z0-9.]+\.yaml$")]
    url: Url
    sha256: Checksum | None = None
    mode: ClassVar[int] = 0o644

    def checksum(self, _machine: str) -> str | None:
        """Return the checksum; None if it is not pinned."""
        return self.sha256


class NodeRow(_Row):
    """The Debian suite that the node's system is made from, and the Debian image that it can be made in."""

    suite: Annotated[str, Field(pattern="^[a-z]+$")]
    image: Reference = NODE_IMAGE


class Recipe(_Row):
    """The whole file."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    name: Annotated[str, Field(pattern="^[A-Za-z0-9][-A-Za-z0-9._]*$")]
    versions: Mapping[VersionName, Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")]]
    megabytes: Annotated[int, Field(ge=1)]
    minutes: Annotated[int, Field(ge=1)]
    binaries: tuple[Binary, ...]
    images: tuple[ImageRow, ...]
    web: str
    manifests: tuple[ManifestRow, ...]
    node: NodeRow

    @property
    def files(self) -> tuple[Binary | ManifestRow, ...]:
        """The files that are used unchanged."""
        return (*self.binaries, *self.manifests)

    @property
    def kubernetes(self) -> str:
        """The version of Kubernetes."""
        return self.versions["kubernetes"]

    def with_kubernetes(self, version: str) -> Recipe:
        """Return the recipe with another patch version of Kubernetes, whose binaries are not pinned."""
        if version == self.kubernetes:
            return self
        unpinned = tuple(binary.model_copy(update={"sha256": {}}) for binary in self.binaries)
        return self.model_copy(update={"versions": {**self.versions, "kubernetes": version}, "binaries": unpinned})

    def fill(self, text: str, machine: str) -> str:
        """Return the text with the versions and the architecture filled in."""
        return text.format_map({**self.versions, "architecture": machine})

    def references(self) -> tuple[str, ...]:
        """Return the full references of the images."""
        return tuple(self.fill(row.reference, "") for row in self.images)

    def paths(self) -> tuple[str, ...]:
        """Return the paths of the files that are used unchanged."""
        return tuple(row.path for row in self.files)


def load(path: Path | None = None) -> Recipe:
    """Return labctl's own recipe, or the user's in `path`.

    Raises UsageError `recipe-not-found`, `recipe-unreadable`, and `recipe-invalid` with every problem.
    """
    return _own() if path is None else _read(path)


def recipe_id(recipe: Recipe) -> str:
    """Return the id of the bundle that a recipe makes on this machine; it changes with everything that goes in."""
    document = recipe.model_dump(mode="json", exclude={"name", "megabytes", "minutes"})
    digest = hashlib.sha256(json.dumps([MAKERS, images.EPOCH, document], sort_keys=True).encode())
    digest.update(repr(NODE).encode() + own_files())
    return f"kubernetes-{recipe.kubernetes}-{architecture()}-{digest.hexdigest()[:8]}"


def was_tested(kubernetes: str) -> bool:
    """Return whether labs were tested with the minor release of this version; an empty one is the recipe's."""
    return not kubernetes or kubernetes.rpartition(".")[0] in MINORS


@functools.cache
def _own() -> Recipe:
    return _read(OWN)


def _read(path: Path) -> Recipe:
    try:
        document = yaml.load(content(path), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe loaders
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no recipe {path}", id="recipe-not-found", hint="Check the path after --recipe."
        ) from error
    except OSError as error:
        raise UsageError(
            f"the recipe {path} cannot be read: {error.strerror}", id="recipe-unreadable", hint="Make it readable."
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # an impossible date raises ValueError
        raise _invalid_error(path, [f"it is not valid YAML: {' '.join(str(error).split())}"]) from error
    try:
        recipe = Recipe.model_validate(document)
    except ValidationError as error:
        raise _invalid_error(path, [_describe(problem) for problem in error.errors(include_url=False)]) from error
    if problems := list(_contradictions(recipe)):
        raise _invalid_error(path, problems)
    return recipe


def _contradictions(recipe: Recipe) -> Iterator[str]:
    """Yield the contradictions between values that are valid by themselves."""
    if "kubernetes" not in recipe.versions:
        yield "versions: kubernetes is missing"
        return
    names = frozenset(recipe.versions)
    known = dict.fromkeys((row.url for row in recipe.files), names | {"architecture"})
    # No {architecture} here: it is chosen from the image's index.
    known |= dict.fromkeys((*(row.reference for row in recipe.images), recipe.node.image), names)
    if wrong := [text for text in known if not _has_only_known_words(text, known[text])]:
        yield from (f"{text}: what is in braces must be one of {', '.join(sorted(known[text]))}" for text in wrong)
        return
    yield from (f"binaries: {path} is missing" for path in PROGRAMS if path not in recipe.paths())
    places = [*recipe.paths(), *(archive(reference) for reference in recipe.references())]
    yield from (f"{place}: {number} rows create it" for place, number in Counter(places).items() if number > 1)
    urls = Counter(recipe.fill(row.url, "{architecture}") for row in recipe.files)
    yield from (f"{url}: {number} rows use it" for url, number in urls.items() if number > 1)
    repositories = {
        repository(reference): row for reference, row in zip(recipe.references(), recipe.images, strict=True)
    }
    if recipe.web not in repositories:
        yield f"web: {recipe.web} is not among the images"
    if not any(row.phase is Phase.SANDBOX and name.endswith(f"/{SANDBOX}") for name, row in repositories.items()):
        yield f"images: none of phase {Phase.SANDBOX.value} is called {SANDBOX}"


def _has_only_known_words(text: str, known: Collection[str]) -> bool:
    """Return whether all braces in the text enclose known words."""
    return not set("{}") & set(re.sub("|".join(f"{{{re.escape(word)}}}" for word in known), "", text))


def repository(reference: str) -> str:
    """Return an image's reference without its tag and digest."""
    return reference.partition("@")[0].rpartition(":")[0]


def tag(reference: str) -> str:
    """Return the tag of an image's reference."""
    return reference.partition("@")[0].rpartition(":")[2]


def archive(reference: str) -> str:
    """Return the path of an image's archive in the bundle, made of all words: two images may have the same last one."""
    words = [word for word in repository(reference).split("/")[1:] if word != "library"]
    return f"images/{'-'.join(dict.fromkeys(words))}.tar"


def _describe(problem: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    place = ".".join(str(part) for part in problem["loc"])
    text = _MUST_BE.get(problem.get("ctx", {}).get("pattern", problem["type"]), problem["msg"])
    return f"{place}: {text}" if place else text


def _invalid_error(path: Path, problems: list[str]) -> UsageError:
    lines = "".join(f"\n  {problem}" for problem in problems)
    return UsageError(
        f"{path} is not a recipe for bundles{lines}",
        id="recipe-invalid",
        hint=f"labctl's own recipe, {OWN}, shows every key.",
    )
