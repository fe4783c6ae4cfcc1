"""Helpers to break labs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from e2e.reallab import RealLab, eventually

from . import Act

ADDRESS = "192.168.56.100"
POOL_SIZE = 11
CONTROLLER = ("-n", "ingress-nginx", "deployment", "ingress-nginx-controller")
SERVICE = ("-n", "ingress-nginx", "service", "ingress-nginx-controller")
METALLB = ("-n", "metallb-system")
NGINX = "nginx.ingress.kubernetes.io/"
CONFIG = "broken-config"
"""The ConfigMap that broken pods of the app mount at /cfg."""


def hosts_file(lab: RealLab) -> Path:
    """Return the hosts file of the lab's own network."""
    return Path("/etc/netns", f"labctl-{lab.name}", "hosts")


def expire_certificate(lab: RealLab, node: str, path: str) -> None:
    """Replace a node's certificate with one for the same key and from the same CA that expired yesterday."""
    folder = path.rpartition("/")[0]
    old, authority, key = (
        lab.docker("exec", node, "cat", file).encode()
        for file in (f"{path}.crt", f"{folder}/ca.crt", f"{folder}/ca.key")
    )
    certificate = x509.load_pem_x509_certificate(old)
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        x509.load_pem_x509_certificate(authority).subject,
        certificate.subject,
        certificate.public_key(),
        x509.random_serial_number(),
        now - timedelta(days=30),
        now - timedelta(days=1),
    )
    for extension in certificate.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    signing = load_pem_private_key(key, None)
    assert isinstance(signing, (RSAPrivateKey, EllipticCurvePrivateKey))
    expired = builder.sign(signing, SHA256()).public_bytes(Encoding.PEM).decode()
    lab.docker("exec", node, "sh", "-c", f"echo '{expired}' >{path}.crt")


def kubectl(*words: str) -> Act:
    return lambda lab: lab.kubectl(*words)


def patch(*what: str, merge: dict[str, Any]) -> Act:
    return kubectl("patch", *what, "--type=merge", "-p", json.dumps(merge))


def replace(path: str, value: object, *what: str) -> Act:
    """Replace one value of an object."""
    return kubectl("patch", *what, "--type=json", "-p", json.dumps([{"op": "replace", "path": path, "value": value}]))


def set_rule(path: str, value: object) -> Act:
    """Replace a value in the only rule of the app's Ingress."""
    return replace(f"/spec/rules/0/{path}", value, "ingress", "my-app")


def annotate(*words: str) -> Act:
    """Add annotations of ingress-nginx to the app's Ingress, given as alternating names and values."""
    pairs = (f"{NGINX}{name}={value}" for name, value in zip(words[::2], words[1::2], strict=True))
    return kubectl("annotate", "ingress", "my-app", "--overwrite", *pairs)


def remove_annotations(*names: str) -> Act:
    """Remove annotations of ingress-nginx from the app's Ingress."""
    return kubectl("annotate", "ingress", "my-app", *(f"{NGINX}{name}-" for name in names))


def sequence(*acts: Act) -> Act:
    def act(lab: RealLab) -> None:
        for each in acts:
            each(lab)

    return act


def edit_hosts(old: bytes, new: bytes) -> Act:
    """Replace the first occurrence in the hosts file, if there is one."""

    def edit(lab: RealLab) -> None:
        file = hosts_file(lab)
        file.write_bytes(file.read_bytes().replace(old, new, 1))

    return edit


def wait_for_rollout(lab: RealLab, *what: str) -> None:
    """Wait until every pod of the newest version is ready, and no other is left."""
    lab.kubectl("rollout", "status", *what, "--timeout=50s")


def replace_command(lab: RealLab, *command: str, config: str = "", becomes_ready: bool = True) -> None:
    """Make the app's pods run another command, with a configuration at /cfg/nginx.conf."""
    lab.kubectl("create", "configmap", CONFIG, f"--from-literal=nginx.conf={config}")
    volume = {"name": "cfg", "configMap": {"name": CONFIG}}
    container = {
        "name": "my-app",
        "command": list(command),
        "volumeMounts": [{"name": "cfg", "mountPath": "/cfg"}],
    }
    spec = {
        "strategy": {"type": "Recreate", "rollingUpdate": None},
        "template": {"spec": {"volumes": [volume], "containers": [container]}},
    }
    lab.kubectl("patch", "deployment", "my-app", "--type=strategic", "-p", json.dumps({"spec": spec}))
    if becomes_ready:
        wait_for_rollout(lab, "deployment/my-app")


def restore_command(lab: RealLab) -> None:
    """Restore the app's pods if they run another command."""
    if lab.kubectl("get", "configmap", CONFIG, "--ignore-not-found"):
        lab.kubectl("delete", "deployment/my-app", f"configmap/{CONFIG}")
        lab.up()


def addresses(lab: RealLab) -> set[str]:
    """Return every address that MetalLB has assigned."""
    services = lab.objects("services", "--all-namespaces")["items"]
    return {each["ip"] for service in services for each in service["status"]["loadBalancer"].get("ingress", [])}


def exhaust_the_pool(lab: RealLab) -> None:
    """Assign every address of the pool to other Services, including the ingress controller's."""
    fillers = [f"filler-{number}" for number in range(POOL_SIZE)]
    for filler in fillers[1:]:
        lab.kubectl("create", "service", "loadbalancer", filler, "--tcp=80")
    eventually(lambda: addresses(lab), lambda assigned: len(assigned) == POOL_SIZE)
    lab.kubectl("patch", *SERVICE, "--type=merge", "-p", '{"spec": {"type": "ClusterIP"}}')
    lab.kubectl("create", "service", "loadbalancer", fillers[0], "--tcp=80")
    eventually(lambda: addresses(lab), lambda assigned: len(assigned) == POOL_SIZE)
    lab.kubectl("patch", *SERVICE, "--type=merge", "-p", '{"spec": {"type": "LoadBalancer"}}')


def empty_the_pool(lab: RealLab) -> None:
    """Delete the Services that fill the pool, so that the ingress controller gets the first address."""
    lab.kubectl("delete", "service", "--ignore-not-found", *(f"filler-{number}" for number in range(POOL_SIZE)))
