"""The kinds of Kubernetes objects that decide which Service a hostname leads to."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of object, as the API names it."""

    api_version: str
    name: str

    @property
    def resource(self) -> str:
        """Return kubectl's name for it."""
        return self.name.lower()


ROUTE = Kind("networking.k8s.io/v1", "Ingress")
"""The kind that routes a hostname."""
ROUTE_CLASS = Kind("networking.k8s.io/v1", "IngressClass")
"""The kind that selects the controller of a route."""
