"""The images that upstream's programs and manifests require, compared with those of a recipe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from labctl.bundle.download.recipe import ImageRow, Recipe, repository, tag
from labctl.model.errors import MissingError
from labctl.render.yaml_stream import documents


def kubeadm_images(output: str) -> tuple[str, ...]:
    """Return the images in the output of `kubeadm config images list`."""
    return tuple(line for line in output.split() if re.fullmatch(r"[-.a-z0-9]+(/[-._a-z0-9]+)+:[-._A-Za-z0-9]+", line))


def manifest_images(text: str) -> tuple[str, ...]:
    """Return the images of the containers in a manifest of Kubernetes objects, each once."""
    return tuple(dict.fromkeys(_images(documents(text))))


def with_versions(recipe: Recipe, required: Sequence[str], *, follows: bool) -> tuple[ImageRow, ...]:
    """Return the recipe's images with their versions filled in; they must include every image that kubeadm requires.

    If the recipe `follows` kubeadm, because it was written for another version, these images get kubeadm's tags.
    Raises MissingError `recipe-mismatch`.
    """
    rows = [row.model_copy(update={"reference": recipe.fill(row.reference, "")}) for row in recipe.images]
    if follows:
        tags = {repository(reference): reference for reference in required}
        rows = [
            row.model_copy(update={"reference": tags.get(repository(row.reference), row.reference)}) for row in rows
        ]
    require_images(rows, required, f"kubeadm {recipe.kubernetes}")
    return tuple(rows)


def require_images(rows: Iterable[ImageRow], required: Sequence[str], whose: str) -> None:
    """Raise MissingError `recipe-mismatch` if a required image is not among the rows.

    An image that is required by digest must be pinned to the same digest.
    """
    brought = {repository(row.reference): row.reference for row in rows}
    problems = []
    for reference in required:
        there = brought.get(repository(reference))
        if there is None:
            problems.append(f"{reference}, which is not in the recipe")
        elif tag(there) != tag(reference) or ("@" in reference and there != reference):
            problems.append(f"{reference}, where the recipe has {there}")
    if problems:
        raise MissingError(
            f"{whose} needs images that the recipe lacks: {'; '.join(problems)}",
            id="recipe-mismatch",
            hint="Add these images to the recipe.",
        )


def _images(value: object) -> Iterator[str]:
    """Yield every string value of a key `image`."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "image" and isinstance(each, str):
                yield each
            else:
                yield from _images(each)
    elif isinstance(value, list):
        for each in value:
            yield from _images(each)
