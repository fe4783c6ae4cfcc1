"""Labs whose Ingress does not match the request, or does not handle it as declared."""

from __future__ import annotations

import json

from e2e.reallab import RealLab

from . import BrokenLab
from .breaking import annotated, kubectl, patch, set_rule, unannotated

RIVAL = "broken-rival"
OTHERS = "example.com/other"


def _rival(lab: RealLab) -> None:
    """Create another Ingress with the app's rule, which leads to the same pods through its own Service."""
    lab.kubectl("expose", "deployment", "my-app", f"--name={RIVAL}", "--port=80", "--target-port=http")
    backend = f"my-app.local/*={RIVAL}:80"
    lab.kubectl("create", "ingress", RIVAL, "--class=nginx", f"--rule={backend}")


def _class_of_another(lab: RealLab) -> None:
    lab.kubectl("delete", "ingressclass", "nginx")
    other = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "nginx"}}
    file = lab.state_home / "class.json"
    file.write_text(json.dumps({**other, "spec": {"controller": OTHERS}}), encoding="utf-8")
    lab.kubectl("create", "-f", str(file))


def _own_class(lab: RealLab) -> None:
    if OTHERS in lab.kubectl("get", "ingressclass", "nginx", "--ignore-not-found", "-o", "yaml"):
        lab.kubectl("delete", "ingressclass", "nginx")
        lab.up()


ROWS = (
    BrokenLab(
        "a wrong IngressClass",
        patch("ingress", "my-app", merge={"spec": {"ingressClassName": "other"}}),
        "rule",
        "ingress-class-other",
    ),
    BrokenLab("a wrong host", set_rule("host", "other.local"), "rule", "ingress-missing"),
    BrokenLab("a wrong path", set_rule("http/paths/0/path", "/shop"), "rule", "ingress-path-missing"),
    BrokenLab("no Ingress", kubectl("delete", "ingress", "my-app"), "rule", "ingress-missing"),
    BrokenLab(
        "an IngressClass of another controller",
        _class_of_another,
        "rule",
        "ingress-class-missing",
        up="names",
        undo=_own_class,
        up_id="kubernetes-refused",
    ),
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
        "guard-unusable",
        up="names",
        mended_by="undo",
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
