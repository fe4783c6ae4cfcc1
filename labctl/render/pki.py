"""The lab's keys, created on this machine before the first node boots.

So workers can verify the cluster's CA while they join, this machine can query the Kubernetes API from its first second,
and nothing has to be copied back from a node.
"""

from __future__ import annotations

import secrets
import string
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from labctl.host import lab_folder
from labctl.host.files import write
from labctl.host.paths import content, new_folder
from labctl.model.errors import MissingError
from labctl.model.lab import Lab
from labctl.render import certificates
from labctl.render.certificates import PairKey
from labctl.render.yaml_stream import documents, yaml_stream

WEBHOOK_NAMES = ("cert", "metallb-webhook-service.metallb-system.svc")
"""The names that MetalLB's certificate rotator expects in a CA and in a server's certificate: ours is both in one."""
ADMISSION_NAMES = (
    "ingress-nginx-controller-admission",
    "ingress-nginx-controller-admission.ingress-nginx.svc",
)
"""The names by which the API server calls the ingress controller's webhook."""
PAIRS: tuple[tuple[str, str, tuple[str, ...], Callable[[], PairKey]], ...] = (
    (lab_folder.CA_KEY, lab_folder.CA_CERTIFICATE, ("kubernetes",), certificates.new_key),
    # MetalLB's certificate rotator reads only RSA keys, and only in the traditional format.
    (lab_folder.WEBHOOK_KEY, lab_folder.WEBHOOK_CERTIFICATE, WEBHOOK_NAMES, certificates.new_rsa_key),
    (lab_folder.ADMISSION_KEY, lab_folder.ADMISSION_CERTIFICATE, ADMISSION_NAMES, certificates.new_key),
)
"""The files of each pair, the names in the certificate, and the function that creates the key."""
MEMBERLIST_BYTES = 128
"""The length that MetalLB's controller uses."""
TOKEN_ALPHABET = string.ascii_lowercase + string.digits


def ensure(folder: Path, lab: Lab) -> bool:
    """Create the lab's missing key files, readable by their owner only; return whether one was created.

    Existing files are kept, with two exceptions. A CA that differs from the one that the control plane was booted with
    is restored from the control plane's files. A kubeconfig that does not match the CA or the lab's API server is
    recreated; its user is in `system:masters`, the only group that the API authorises before kubeadm has written the
    first RBAC object.

    Raises MissingError: `pki-damaged` when a key cannot be used, `state-not-usable` when a file cannot be read or
    written.
    """
    new_folder(folder)
    new_folder(folder / lab_folder.PKI)
    try:
        changes = (
            _restore_ca(folder, lab),
            *[_ensure_pair(folder / key, folder / crt, names, new_key) for key, crt, names, new_key in PAIRS],
            _ensure_secret(folder / lab_folder.TOKEN, _new_token()),
            _ensure_secret(folder / lab_folder.MEMBERLIST, b64encode(secrets.token_bytes(MEMBERLIST_BYTES)).decode()),
            _ensure_ssh_keys(folder),
            _ensure_kubeconfig(folder, lab),
        )
    except OSError as error:
        raise MissingError(
            f"cannot use {error.filename or folder}: {error.strerror}",
            id="state-not-usable",
            hint=f"Make {folder} and its contents readable and writable for your user, on a disk with free space.",
        ) from error
    return any(changes)


def token(folder: Path) -> str:
    """Return the kubeadm bootstrap token that workers join with."""
    return (folder / lab_folder.TOKEN).read_text(encoding="ascii")


def memberlist(folder: Path) -> str:
    """Return the base64 key that encrypts the gossip of MetalLB's speakers."""
    return (folder / lab_folder.MEMBERLIST).read_text(encoding="ascii")


def ssh_public_key(folder: Path) -> str:
    """Return the line for a node's `authorized_keys`."""
    return (folder / lab_folder.SSH_PUBLIC_KEY).read_text(encoding="ascii")


def _restore_ca(folder: Path, lab: Lab) -> bool:
    """Restore the CA that the control plane was created with; return whether it was missing or different."""
    node = lab.control_plane.name
    if not any((folder / lab_folder.VAGRANT / "machines" / node).glob("*/id")):
        return False
    copies = {
        path: folder / lab_folder.NODES / node / Path(path).name
        for path in (lab_folder.CA_KEY, lab_folder.CA_CERTIFICATE)
    }
    lost = [path for path, copy in copies.items() if copy.exists() and _content(folder / path) != _content(copy)]
    for path in lost:
        write(folder / path, content(copies[path]))
    return bool(lost)


def _content(path: Path) -> bytes:
    return content(path) if path.exists() else b""


def _ensure_pair(
    key_path: Path, certificate_path: Path, names: tuple[str, ...], new_key: Callable[[], PairKey]
) -> bool:
    if certificate_path.exists():
        _load_pair(key_path, certificate_path)
        return False
    # The key is written first: a run that is interrupted in between leaves a key that the next run certifies.
    if key_path.exists():
        key = _load_key(key_path)
    else:
        key = new_key()
        write(key_path, certificates.pem(key))
    write(certificate_path, certificates.self_signed(key, names).public_bytes(Encoding.PEM))
    return True


def _ensure_secret(path: Path, secret: str) -> bool:
    if path.exists():
        return False
    write(path, secret.encode())
    return True


def _ensure_ssh_keys(folder: Path) -> bool:
    private_path, public_path = folder / lab_folder.SSH_KEY, folder / lab_folder.SSH_PUBLIC_KEY
    if private_path.exists() and public_path.exists():
        return False
    if private_path.exists():
        try:
            public_key = load_ssh_private_key(content(private_path), password=None).public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _damaged_key_error(private_path, "it is not an OpenSSH private key") from error
    else:
        key = ed25519.Ed25519PrivateKey.generate()
        public_key = key.public_key()
        write(private_path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    write(public_path, public_key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n")
    return True


def _ensure_kubeconfig(folder: Path, lab: Lab) -> bool:
    path = folder / lab_folder.KUBECONFIG
    certificate, key = _load_pair(folder / lab_folder.CA_KEY, folder / lab_folder.CA_CERTIFICATE)
    if path.exists() and _is_valid_kubeconfig(content(path), certificate, lab):
        return False
    kubeconfig = _kubeconfig(lab, certificate, key)
    write(path, yaml_stream([kubeconfig]).encode())
    return True


def _load_pair(key_path: Path, certificate_path: Path) -> tuple[x509.Certificate, PairKey]:
    try:
        certificate = x509.load_pem_x509_certificate(content(certificate_path))
    except ValueError as error:
        raise _damaged_key_error(certificate_path, "it is not a PEM certificate") from error
    key = _load_key(key_path)
    if certificate.public_key() != key.public_key():
        raise _damaged_key_error(key_path, f"it is not the key of {certificate_path}")
    return certificate, key


def _load_key(path: Path) -> PairKey:
    try:
        key = certificates.from_pem(content(path))
    except FileNotFoundError as error:
        raise _damaged_key_error(path, "it is gone") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _damaged_key_error(path, "it is not a PEM private key") from error
    if not isinstance(key, PairKey):
        raise _damaged_key_error(path, "it is neither an elliptic curve key nor an RSA key")
    return key


def _damaged_key_error(path: Path, reason: str) -> MissingError:
    return MissingError(
        f"cannot use {path}: {reason}",
        id="pki-damaged",
        hint="A lab cannot change its keys while it runs: `labctl destroy`, then `labctl up`.",
    )


def _is_valid_kubeconfig(kubeconfig: bytes, ca: x509.Certificate, lab: Lab) -> bool:
    """Return whether a kubeconfig has the lab's context, its API server, this CA, and a certificate signed by it."""
    try:
        (content,) = documents(kubeconfig.decode())
        clusters = {entry["name"]: entry["cluster"] for entry in content["clusters"]}
        users = {entry["name"]: entry["user"] for entry in content["users"]}
        contexts = {entry["name"]: entry["context"] for entry in content["contexts"]}
        cluster, user, context = clusters[lab.name], users[_user_name(lab)], contexts[lab.name]
        client = x509.load_pem_x509_certificate(b64decode(user["client-certificate-data"]))
        client.verify_directly_issued_by(ca)
        trusted = x509.load_pem_x509_certificate(b64decode(cluster["certificate-authority-data"]))
        is_lab = (context["cluster"], context["user"]) == (lab.name, _user_name(lab))
        return is_lab and trusted == ca and cluster["server"] == lab.api_server
    except (yaml.YAMLError, LookupError, TypeError, ValueError, RecursionError, InvalidSignature):
        return False


def _kubeconfig(lab: Lab, ca: x509.Certificate, ca_key: PairKey) -> dict[str, Any]:
    key = certificates.new_key()
    client = certificates.for_administrator(key.public_key(), ca, ca_key)
    cluster = {"server": lab.api_server, "certificate-authority-data": _base64(ca.public_bytes(Encoding.PEM))}
    user = {
        "client-certificate-data": _base64(client.public_bytes(Encoding.PEM)),
        "client-key-data": _base64(certificates.pem(key)),
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": lab.name, "cluster": cluster}],
        "users": [{"name": _user_name(lab), "user": user}],
        "contexts": [{"name": lab.name, "context": {"cluster": lab.name, "user": _user_name(lab)}}],
        "current-context": lab.name,
    }


def _user_name(lab: Lab) -> str:
    return f"{lab.name}-admin"


def _new_token() -> str:
    return ".".join("".join(secrets.choice(TOKEN_ALPHABET) for _ in range(length)) for length in (6, 16))


def _base64(content: bytes) -> str:
    return b64encode(content).decode()
