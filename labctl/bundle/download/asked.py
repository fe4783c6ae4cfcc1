"""Which images upstream's own programs and manifests ask for, held against those that a recipe brings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from labctl.bundle.download.recipe import ImageRow, Recipe, repository, tag
from labctl.model.errors import MissingError
from labctl.render.yaml_stream import documents


def by_kubeadm(said: str) -> tuple[str, ...]:
    """Return the images in what `kubeadm config images list` says."""
    return tuple(line for line in said.split() if re.fullmatch(r"[-.a-z0-9]+(/[-._a-z0-9]+)+:[-._A-Za-z0-9]+", line))


def by_manifest(text: str) -> tuple[str, ...]:
    """Return the images of the containers in a manifest of Kubernetes objects, each once."""
    return tuple(dict.fromkeys(_images(documents(text))))


def settled(recipe: Recipe, asked: Sequence[str], *, follows: bool) -> tuple[ImageRow, ...]:
    """Return the recipe's images with their versions filled in: all that kubeadm asks for must be among them.

    Where the recipe `follows` kubeadm, because it was written for another version, those have kubeadm's tags.
    Raises MissingError `recipe-mismatch`.
    """
    rows = [row.model_copy(update={"reference": recipe.filled(row.reference, "")}) for row in recipe.images]
    if follows:
        tags = {repository(reference): reference for reference in asked}
        rows = [
            row.model_copy(update={"reference": tags.get(repository(row.reference), row.reference)}) for row in rows
        ]
    refuse_missing(rows, asked, f"kubeadm {recipe.kubernetes}")
    return tuple(rows)


def refuse_missing(rows: Iterable[ImageRow], asked: Sequence[str], whose: str) -> None:
    """Raise MissingError `recipe-mismatch` if an image that is asked for is none of the rows'.

    One that is asked for by digest must be pinned to the same.
    """
    brought = {repository(row.reference): row.reference for row in rows}
    problems = []
    for reference in asked:
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
    """Yield every text that is the value of a key `image`."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "image" and isinstance(each, str):
                yield each
            else:
                yield from _images(each)
    elif isinstance(value, list):
        for each in value:
            yield from _images(each)
