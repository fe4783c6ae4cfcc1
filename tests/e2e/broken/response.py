"""Labs in which the request reaches a pod, or should, and the response is not what a browser expects."""

from __future__ import annotations

import json
from typing import Any

from e2e.reallab import RealLab

from . import Act, BrokenLab
from .breaking import (
    ADDRESS,
    annotate,
    kubectl,
    patch,
    remove_annotations,
    replace,
    replace_command,
    restore_command,
    wait_for_rollout,
)

TWIN = "broken-twin"
USERS = "broken-users"
FAILING = """
daemon off; error_log stderr; pid /tmp/nginx.pid; events {}
http { access_log /dev/stdout; server { listen 80; location / { return 500; } } }
"""
SLOW = """
daemon off; error_log stderr; pid /tmp/nginx.pid; events {}
http {
  access_log /dev/stdout; limit_req_zone $server_port zone=slow:1m rate=1r/m;
  server { listen 80; location / { limit_req zone=slow burst=1000; root /usr/share/nginx/html; } }
}
"""
"""After the first request, every further one waits a minute for its answer."""
STOPPING = """
daemon off; error_log stderr; pid /tmp/nginx.pid; events {}
http {
  access_log /dev/stdout; default_type text/html; limit_req_zone $server_port zone=slow:1m rate=1r/m;
  server {
    listen 80; ssi on;
    location / { return 200 '%s<!--# include virtual="/rest" -->'; }
    location /rest { limit_req zone=slow burst=1000; root /usr/share/nginx/html; try_files /index.html =404; }
  }
}
""" % ("begin " * 500)
"""After the first request, the rest of every further body is delayed by a minute."""
DEAF = """
daemon off; error_log stderr; pid /tmp/nginx.pid; events {}
http { access_log /dev/stdout; server { listen 80; location / { return 444; } } }
"""
"""Accepts every connection and closes it without an answer."""


def _check_code_is_shown(lab: RealLab, hop: Any) -> None:  # noqa: ANN401 - JSON
    assert {each["status"] for each in hop["evidence"]["pods"]} == {500}
    assert [app["http"] for app in lab.status()["apps"]] == [500]


def _redirect(action: str, code: int | None = 0) -> Act:
    """Redirect this machine's requests for the address to kube-proxy's server, which answers 404 to almost all."""
    wanted = ("OUTPUT", "--destination", ADDRESS, "--protocol", "tcp", "--dport", "80")
    there = ("--jump", "DNAT", "--to-destination", "192.168.56.10:10256")
    return lambda lab: lab.inside("iptables", "--table", "nat", action, *wanted, *there, code=code)


def _twin(lab: RealLab) -> None:
    """Add a pod of another Deployment, which answers 500, to the app's Service."""
    lab.kubectl("create", "configmap", TWIN, f"--from-literal=nginx.conf={FAILING}")
    deployment = lab.objects("deployment", "my-app")
    spec = deployment["spec"]
    labels = {**spec["template"]["metadata"]["labels"], "twin": "yes"}
    [container] = spec["template"]["spec"]["containers"]
    container |= {"command": ["nginx", "-c", "/cfg/nginx.conf"], "volumeMounts": [{"name": "cfg", "mountPath": "/cfg"}]}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [container], "volumes": [{"name": "cfg", "configMap": {"name": TWIN}}]},
    }
    twin = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": TWIN},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"twin": "yes"}}, "template": template},
    }
    file = lab.state_home / "twin.json"
    file.write_text(json.dumps(twin), encoding="utf-8")
    lab.kubectl("apply", "-f", str(file))
    wait_for_rollout(lab, f"deployment/{TWIN}")


def _require_login(lab: RealLab) -> None:
    lab.kubectl("create", "secret", "generic", USERS, "--from-literal=auth=me:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=")
    annotate("auth-type", "basic", "auth-secret", USERS)(lab)


def _remove_login(lab: RealLab) -> None:
    remove_annotations("auth-type", "auth-secret")(lab)
    lab.kubectl("delete", "secret", USERS, "--ignore-not-found")


def _run_slow(lab: RealLab, config: str) -> None:
    replace_command(lab, "nginx", "-c", "/cfg/nginx.conf", config=config)
    for _ in range(2):
        lab.page("http://my-app.local/")


ROWS = (
    BrokenLab(
        "a target port where nothing listens",
        replace("/spec/ports/0/targetPort", 81, "service", "my-app"),
        "response",
        "backend-refused",
    ),
    BrokenLab(
        "a Service that is an alias of a name outside the cluster",
        patch("service", "my-app", merge={"spec": {"type": "ExternalName", "externalName": "nowhere.invalid"}}),
        "response",
        "backend-refused",
        up="reports",
        undo=patch("service", "my-app", merge={"spec": {"type": "ClusterIP", "externalName": None}}),
    ),
    BrokenLab(
        "an app that speaks no HTTP",
        lambda lab: replace_command(lab, "nginx", "-c", "/cfg/nginx.conf", config=DEAF),
        "response",
        "backend-not-http",
        up="reports",
        undo=restore_command,
    ),
    BrokenLab(
        "an app that answers too slowly",
        lambda lab: _run_slow(lab, SLOW),
        "response",
        "backend-too-slow",
        up="reports",
        undo=restore_command,
    ),
    BrokenLab(
        "a response body that ends too early",
        lambda lab: _run_slow(lab, STOPPING),
        "response",
        "body-incomplete",
        up="reports",
        undo=restore_command,
    ),
    BrokenLab(
        "one pod of three that answers 500",
        _twin,
        "response",
        "pods-differ",
        up="reports",
        fixed_by="undo",
        undo=kubectl("delete", f"deployment/{TWIN}", f"configmap/{TWIN}", "--ignore-not-found", "--wait"),
    ),
    BrokenLab(
        "a redirect to HTTPS by `tls`, which nothing serves",
        patch("ingress", "my-app", merge={"spec": {"tls": [{"hosts": ["my-app.local"]}]}}),
        "response",
        "redirect-leads-nowhere",
        up="reports",
        undo=patch("ingress", "my-app", merge={"spec": {"tls": None}}),
    ),
    BrokenLab(
        "a redirect to HTTPS by an annotation, which nothing serves",
        annotate("force-ssl-redirect", "true"),
        "response",
        "redirect-leads-nowhere",
        up="reports",
        undo=remove_annotations("force-ssl-redirect"),
    ),
    BrokenLab(
        "basic authentication",
        _require_login,
        "response",
        "controller-asks-for-login",
        up="fine",
        state="unknown",
        fixed_by="undo",
        undo=_remove_login,
    ),
    BrokenLab(
        "requests of a client that all go to one pod",
        annotate("upstream-hash-by", "$remote_addr"),
        "response",
        "pod-not-reached",
        up="fine",
        state="unknown",
        fixed_by="undo",
        undo=remove_annotations("upstream-hash-by"),
    ),
    BrokenLab(
        "an app that answers 500 from every pod",
        lambda lab: replace_command(lab, "nginx", "-c", "/cfg/nginx.conf", config=FAILING),
        "response",
        "app-answers-error",
        up="fine",
        state="warning",
        undo=restore_command,
        also=_check_code_is_shown,
    ),
    BrokenLab(
        "an allowlist of sources without this machine",
        annotate("allowlist-source-range", "10.0.0.0/8"),
        "response",
        "controller-answers",
        up="reports",
        undo=remove_annotations("allowlist-source-range"),
    ),
    BrokenLab(
        "a rule on this machine that redirects to another server",
        _redirect("--append"),
        "response",
        "answered-by-another",
        up="reports",
        fixed_by="undo",
        undo=_redirect("--delete", code=None),
    ),
)
