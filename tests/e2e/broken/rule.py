"""Labs whose Ingress does not take the request."""

from __future__ import annotations

from . import BrokenLab
from .breaking import patch, set_rule

ROWS = (
    BrokenLab(
        "a wrong IngressClass",
        patch("ingress", "my-app", merge={"spec": {"ingressClassName": "other"}}),
        "rule",
        "ingress-class-other",
    ),
    BrokenLab("a wrong host", set_rule("host", "other.local"), "rule", "ingress-missing"),
)
