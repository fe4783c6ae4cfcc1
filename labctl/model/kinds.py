"""The kinds of Kubernetes objects that decide which Service a hostname leads to."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of objects, as the API names it."""

    api_version: str
    name: str

    @property
    def resource(self) -> str:
        """Return what kubectl calls it."""
        return self.name.lower()


ROUTE = Kind("networking.k8s.io/v1", "Ingress")
"""What routes a hostname."""
ROUTE_CLASS = Kind("networking.k8s.io/v1", "IngressClass")
"""What says which controller serves a route."""
