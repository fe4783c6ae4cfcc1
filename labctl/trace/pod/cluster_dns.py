"""Check the cluster's DNS: without it, pods cannot resolve names, but still receive requests from outside."""

from __future__ import annotations

from labctl.cluster import unready
from labctl.host.wait import NOT_READY
from labctl.trace import backend
from labctl.trace.problem import WARNING, Evidence, ProblemError, kubectl, labctl
from labctl.trace.trail import Trail

NAMESPACE, SERVICE, DEPLOYMENT = "kube-system", "kube-dns", "coredns"
REPLICAS = 2
"""The number of replicas that kubeadm creates."""
REINSTALL = ("sudo", "kubeadm", "init", "phase", "addon", "coredns", "--config", "/etc/labctl/kubeadm.yaml")


def dns_problem(trail: Trail, evidence: Evidence) -> ProblemError | None:
    """Return a problem if CoreDNS is not ready and will not recover by itself; None if it is ready or starting."""
    slices = trail.cluster.find(backend.SLICE, "EndpointSlice", NAMESPACE, f"kubernetes.io/service-name={SERVICE}")
    endpoints = [each for endpoint_slice in slices for each in endpoint_slice.get("endpoints") or []]
    if any((each.get("conditions") or {}).get("ready", True) for each in endpoints):
        return None
    reason, fix, command = _explain(trail)
    if not reason:
        return None
    return ProblemError(
        "cluster-dns-down",
        f"no pod of CoreDNS is ready, so the app's pods cannot resolve names: {reason}",
        evidence,
        fix=fix,
        commands=(command,) if command else (),
        state=WARNING,
    )


def _explain(trail: Trail) -> tuple[str, str, str]:
    """Return the reason, the fix and its command if there is one; no reason if the pods are starting."""
    lab = trail.lab
    deployment = trail.cluster.get("apps/v1", "Deployment", DEPLOYMENT, NAMESPACE)
    if deployment is None:
        again = labctl(lab.name, "ssh", lab.control_plane.name, "--", *REINSTALL)
        return f"there is no Deployment {NAMESPACE}/{DEPLOYMENT}", "Let kubeadm reinstall CoreDNS.", again
    of_it = ("-n", NAMESPACE, "deployment", DEPLOYMENT)
    if deployment["spec"].get("replicas") == 0:
        line = kubectl(lab.name, "scale", *of_it, f"--replicas={REPLICAS}")
        return f"the Deployment {NAMESPACE}/{DEPLOYMENT} has no replicas", "Scale it up.", line
    lasting = [each for each in unready.problems(trail.cluster, deployment) if each.id != NOT_READY]
    if any(each.id == "container-exits" for each in lasting):  # new pods would exit as well, with the same Corefile
        log = kubectl(lab.name, "-n", NAMESPACE, "logs", f"deployment/{DEPLOYMENT}", "--all-pods", "--tail=5")
        fix = f"Read their log, `{log}`, and correct the Corefile in the ConfigMap {NAMESPACE}/{DEPLOYMENT}."
        return "; ".join(map(str, lasting)), fix, ""
    line = kubectl(lab.name, "rollout", "restart", *of_it)
    return "; ".join(map(str, lasting)), "Fix what its pods report, then restart them.", line
