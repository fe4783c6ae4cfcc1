"""Labs whose Ingress does not match the request, or does not handle it as declared."""

from __future__ import annotations

import json

from e2e.reallab import RealLab

from . import BrokenLab
from .breaking import annotate, kubectl, patch, remove_annotations, set_rule

RIVAL = "broken-rival"
OTHERS = "example.com/other"


def _create_rival(lab: RealLab) -> None:
    """Create another Ingress with the app's rule, which leads to the same pods through its own Service."""
    lab.kubectl("expose", "deployment", "my-app", f"--name={RIVAL}", "--port=80", "--target-port=http")
    backend = f"my-app.local/*={RIVAL}:80"
    lab.kubectl("create", "ingress", RIVAL, "--class=nginx", f"--rule={backend}")


def _replace_class(lab: RealLab) -> None:
    lab.kubectl("delete", "ingressclass", "nginx")
    other = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "nginx"}}
    file = lab.state_home / "class.json"
    file.write_text(json.dumps({**other, "spec": {"controller": OTHERS}}), encoding="utf-8")
    lab.kubectl("create", "-f", str(file))


def _restore_class(lab: RealLab) -> None:
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
        _replace_class,
        "rule",
        "ingress-class-missing",
        up="reports",
        undo=_restore_class,
        up_id="kubernetes-refused",
    ),
    BrokenLab("no IngressClass", kubectl("delete", "ingressclass", "nginx"), "rule", "ingress-class-missing"),
    BrokenLab(
        "a configuration snippet, which the controller refuses",
        annotate("configuration-snippet", "return 200;"),
        "rule",
        "ingress-refused",
        up="reports",
        undo=remove_annotations("configuration-snippet"),
    ),
    BrokenLab(
        "basic authentication without its Secret",
        annotate("auth-type", "basic", "auth-secret", "nowhere"),
        "rule",
        "guard-unusable",
        up="reports",
        fixed_by="undo",
        undo=remove_annotations("auth-type", "auth-secret"),
    ),
    BrokenLab(
        "an annotation that the controller does not know",
        annotate("mirror-target", "http://nowhere"),
        "rule",
        "annotation-ignored",
        up="fine",
        state="warning",
        undo=remove_annotations("mirror-target"),
    ),
    BrokenLab(
        "two Ingresses with one rule",
        _create_rival,
        "rule",
        "rules-collide",
        up="fine",
        state="warning",
        fixed_by="undo",
        undo=kubectl("delete", f"ingress/{RIVAL}", f"service/{RIVAL}", "--ignore-not-found"),
    ),
)
