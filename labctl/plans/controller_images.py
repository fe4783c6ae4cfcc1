"""Check that the lab can run the images of its ingress controller, before anything is written or applied."""

from __future__ import annotations

from labctl.context import Context
from labctl.host import lab_folder
from labctl.model.errors import MissingError, ProviderError
from labctl.model.lab import Node
from labctl.plans.lab_files import controller_objects
from labctl.render import ingress
from labctl.render.yaml_stream import documents

ON_NODE = ("sudo", "ctr", "--namespace=k8s.io", "images", "list", "--quiet")
"""Lists a node's images; a filter is appended."""


def require(context: Context) -> None:
    """Check that the images are upstream's, and that running nodes have the images that are new to the lab.

    Raises MissingError `image-digest-differs`, or `image-not-on-node`.
    """
    new, rendered = ingress.images_of(controller_objects(context)), context.folder / lab_folder.INGRESS
    if rendered.exists():
        require_on_nodes(context, new - ingress.images_of(documents(rendered.read_text(encoding="utf-8"))))


def require_on_nodes(context: Context, new: set[str]) -> None:
    """Check that the running nodes have these images. Raises MissingError `image-not-on-node`.

    Nodes import the images of the bundle that they were created from. An unreachable node is assumed to have them.
    """
    running = context.provider.running() if new else ()
    nodes = [node for node in context.lab.serving_nodes if node.name in running]
    for image in sorted(new):
        without = [node.name for node in nodes if _lacks(context, node, image)]
        if without:
            raise MissingError(
                f"{', '.join(without)} cannot run {image}: the image was not in the bundle that the lab was made from",
                id="image-not-on-node",
                hint=f"Create the lab again from this bundle: `labctl --name {context.lab.name} destroy`, then `labctl up`. Or "
                "keep its ingress controller, with `--ingress`.",
            )


def _lacks(context: Context, node: Node, image: str) -> bool:
    """Return whether the node reports that it does not have the image."""
    try:
        answer = context.provider.run(node, (*ON_NODE, f"name=={image}"), context.lab.limits.node_command)
    except ProviderError:
        return False  # it hangs, or is slow
    return answer.code == 0 and image not in answer.out.split()
