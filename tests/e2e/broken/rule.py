"""Labs whose Ingress does not take the request, or takes it in another way than it says."""

from __future__ import annotations

from e2e.reallab import RealLab

from . import BrokenLab
from .breaking import annotated, kubectl, patch, set_rule, unannotated

RIVAL = "broken-rival"


def _rival(lab: RealLab) -> None:
    """Another Ingress has the app's rule, and leads to the same pods by a Service of its own."""
    lab.kubectl("expose", "deployment", "my-app", f"--name={RIVAL}", "--port=80", "--target-port=http")
    backend = f"my-app.local/*={RIVAL}:80"
    lab.kubectl("create", "ingress", RIVAL, "--class=nginx", f"--rule={backend}")


ROWS = (
    BrokenLab(
        "a wrong IngressClass",
        patch("ingress", "my-app", merge={"spec": {"ingressClassName": "other"}}),
        "rule",
        "ingress-class-other",
    ),
    BrokenLab("a wrong host", set_rule("host", "other.local"), "rule", "ingress-missing"),
    BrokenLab("a wrong path", set_rule("http/paths/0/path", "/shop"), "rule", "ingress-path-missing"),
    BrokenLab("no IngressClass", kubectl("delete", "ingressclass", "nginx"), "rule", "ingress-class-missing"),
    BrokenLab(
        "a snippet",
        annotated("configuration-snippet", "return 200;"),
        "rule",
        "ingress-refused",
        up="names",
        undo=unannotated("configuration-snippet"),
    ),
    BrokenLab(
        "a login without its Secret",
        annotated("auth-type", "basic", "auth-secret", "nowhere"),
        "rule",
        "ingress-refused",
        up="names",
        undo=unannotated("auth-type", "auth-secret"),
    ),
    BrokenLab(
        "an annotation that the controller does not know",
        annotated("mirror-target", "http://nowhere"),
        "rule",
        "annotation-ignored",
        up="fine",
        state="warning",
        undo=unannotated("mirror-target"),
    ),
    BrokenLab(
        "two Ingresses with one rule",
        _rival,
        "rule",
        "rules-collide",
        up="fine",
        state="warning",
        mended_by="undo",
        undo=kubectl("delete", f"ingress/{RIVAL}", f"service/{RIVAL}", "--ignore-not-found"),
    ),
)
