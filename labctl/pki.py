"""The lab's keys, made on this machine before the first node boots.

Workers can then check the cluster's CA while they join, this machine can ask the Kubernetes API from its first second
on, and nothing has to be copied back from a node.
"""

from __future__ import annotations

import secrets
import string
import tempfile
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from labctl.errors import MissingError
from labctl.lab import Lab
from labctl.paths import private_folder

# Where each file is, below the lab's state folder.
KUBECONFIG = Path("kubeconfig")
CA_CERTIFICATE = Path("pki/ca.crt")
CA_KEY = Path("pki/ca.key")
TOKEN = Path("pki/token")
MEMBERLIST = Path("pki/memberlist")
SSH_KEY = Path("pki/ssh")
SSH_PUBLIC_KEY = Path("pki/ssh.pub")

LIFETIME = timedelta(days=3650)
CLOCK_SKEW = timedelta(hours=1)
"""How far a node's clock may be behind this machine's."""
MEMBERLIST_BYTES = 128
"""As many as MetalLB's controller makes itself."""
TOKEN_ALPHABET = string.ascii_lowercase + string.digits


def ensure(folder: Path, lab: Lab) -> bool:
    """Every key file of the lab is below `folder`, readable by its owner only; returns whether one was made.

    What exists is kept. The kubeconfig is made anew when it does not fit the CA or the lab's API server; its user is
    in `system:masters`, the one group the API obeys before kubeadm has written the first RBAC object.

    Raises MissingError: `pki-damaged` when a key cannot be used, `state-not-usable` when a file cannot be read or
    written.
    """
    private_folder(folder)
    private_folder(folder / "pki")
    try:
        made = (
            _ensure_ca(folder),
            _ensure_secret(folder / TOKEN, _new_token()),
            _ensure_secret(folder / MEMBERLIST, b64encode(secrets.token_bytes(MEMBERLIST_BYTES)).decode()),
            _ensure_ssh_keys(folder),
            _ensure_kubeconfig(folder, lab),
        )
    except OSError as error:
        raise MissingError(
            f"cannot use {error.filename or folder}: {error.strerror}",
            id="state-not-usable",
            hint=f"Make {folder} and what is in it yours to read and write, on a disk with space left.",
        ) from error
    return any(made)


def ca_hash(folder: Path) -> str:
    """What a joining node checks the cluster's CA against, in the form of kubeadm's `caCertHashes`."""
    certificate = x509.load_pem_x509_certificate((folder / CA_CERTIFICATE).read_bytes())
    public_key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{sha256(public_key).hexdigest()}"


def token(folder: Path) -> str:
    """The kubeadm bootstrap token that workers join with."""
    return (folder / TOKEN).read_text(encoding="ascii")


def memberlist(folder: Path) -> str:
    """The key that MetalLB's speakers encrypt their gossip with, base64."""
    return (folder / MEMBERLIST).read_text(encoding="ascii")


def ssh_public_key(folder: Path) -> str:
    """The line for a node's `authorized_keys`."""
    return (folder / SSH_PUBLIC_KEY).read_text(encoding="ascii")


def _ensure_ca(folder: Path) -> bool:
    key_path, certificate_path = folder / CA_KEY, folder / CA_CERTIFICATE
    if certificate_path.exists():
        _load_ca(folder)
        return False
    # The key is written first: a run that is cut off in between leaves a key that the next run certifies.
    if key_path.exists():
        key = _load_ca_key(key_path)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        _write(key_path, _pem(key))
    _write(certificate_path, _ca_certificate(key).public_bytes(Encoding.PEM))
    return True


def _ensure_secret(path: Path, secret: str) -> bool:
    if path.exists():
        return False
    _write(path, secret.encode())
    return True


def _ensure_ssh_keys(folder: Path) -> bool:
    private_path, public_path = folder / SSH_KEY, folder / SSH_PUBLIC_KEY
    if private_path.exists() and public_path.exists():
        return False
    if private_path.exists():
        try:
            public_key = load_ssh_private_key(private_path.read_bytes(), password=None).public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _damaged(private_path, "it is not an OpenSSH private key") from error
    else:
        key = ed25519.Ed25519PrivateKey.generate()
        public_key = key.public_key()
        _write(private_path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    _write(public_path, public_key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n")
    return True


def _ensure_kubeconfig(folder: Path, lab: Lab) -> bool:
    path = folder / KUBECONFIG
    certificate, key = _load_ca(folder)
    if path.exists() and _fits(path.read_bytes(), certificate, lab):
        return False
    kubeconfig = _kubeconfig(lab, certificate, key)
    _write(path, yaml.safe_dump(kubeconfig, sort_keys=False).encode())
    return True


def _load_ca(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    path = folder / CA_CERTIFICATE
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise _damaged(path, "it is not a PEM certificate") from error
    key = _load_ca_key(folder / CA_KEY)
    if certificate.public_key() != key.public_key():
        raise _damaged(folder / CA_KEY, f"it is not the key of {path}")
    return certificate, key


def _load_ca_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError as error:
        raise _damaged(path, "it is gone") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _damaged(path, "it is not a PEM private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _damaged(path, "it is not an elliptic curve key")
    return key


def _damaged(path: Path, reason: str) -> MissingError:
    return MissingError(
        f"cannot use {path}: {reason}",
        id="pki-damaged",
        hint="A lab cannot change its keys while it runs: `labctl destroy`, then `labctl up`.",
    )


def _fits(kubeconfig: bytes, ca: x509.Certificate, lab: Lab) -> bool:
    """Whether a kubeconfig trusts this CA, bears a certificate from it, and names this lab's API server."""
    try:
        content = yaml.safe_load(kubeconfig)
        clusters = {entry["name"]: entry["cluster"] for entry in content["clusters"]}
        users = {entry["name"]: entry["user"] for entry in content["users"]}
        cluster, user = clusters[lab.name], users[_user_name(lab)]
        client = x509.load_pem_x509_certificate(b64decode(user["client-certificate-data"]))
        client.verify_directly_issued_by(ca)
        trusted = x509.load_pem_x509_certificate(b64decode(cluster["certificate-authority-data"]))
        return trusted == ca and cluster["server"] == lab.api_server
    except (yaml.YAMLError, LookupError, TypeError, ValueError, InvalidSignature):
        return False


def _kubeconfig(lab: Lab, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    client = _client_certificate(key.public_key(), ca, ca_key)
    cluster = {"server": lab.api_server, "certificate-authority-data": _base64(ca.public_bytes(Encoding.PEM))}
    user = {
        "client-certificate-data": _base64(client.public_bytes(Encoding.PEM)),
        "client-key-data": _base64(_pem(key)),
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


def _ca_certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """The certificate kubeadm would have made itself."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(key_cert_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("kubernetes")]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _client_certificate(
    public_key: ec.EllipticCurvePublicKey, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """A certificate of the cluster's administrator, valid as long as its CA."""
    subject = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters"),
        x509.NameAttribute(NameOID.COMMON_NAME, "labctl-admin"),
    ]
    return (
        x509.CertificateBuilder(ca.subject, x509.Name(subject), public_key, x509.random_serial_number())
        .not_valid_before(ca.not_valid_before_utc)
        .not_valid_after(ca.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(key_cert_sign=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _key_usage(*, key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=True,
        key_cert_sign=key_cert_sign,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _new_token() -> str:
    return ".".join("".join(secrets.choice(TOKEN_ALPHABET) for _ in range(length)) for length in (6, 16))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _base64(content: bytes) -> str:
    return b64encode(content).decode()


def _write(path: Path, content: bytes) -> None:
    """The whole file or none of it; never readable by others, not even for a moment."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(content)
            file.flush()
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
