"""Keys and X.509 certificates in the forms that kubeadm and MetalLB require."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PairKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
LIFETIME = timedelta(days=3650)
CLOCK_SKEW = timedelta(hours=1)
"""How far a node's clock may be behind this machine's."""


def new_key() -> ec.EllipticCurvePrivateKey:
    """Create an elliptic-curve key, which is faster to create and to use than RSA."""
    return ec.generate_private_key(ec.SECP256R1())


def new_rsa_key() -> rsa.RSAPrivateKey:
    """Return an RSA-2048 key: MetalLB's certificate rotator rejects EC keys."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: PairKey) -> bytes:
    """Return the key as PEM in the traditional format, which all its readers support."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def from_pem(content: bytes) -> PrivateKeyTypes:
    """Load a key from PEM. Raises ValueError, TypeError or UnsupportedAlgorithm if it is missing or damaged.

    Skip the primality test of an RSA key's factors, which takes 40 ms: labctl created the key itself.
    """
    key = load_pem_private_key(content, password=None, unsafe_skip_rsa_key_validation=True)
    if isinstance(key, rsa.RSAPrivateKey) and not _is_valid_rsa_key(key.private_numbers()):
        raise ValueError("the numbers of the RSA key do not belong together")
    return key


def _is_valid_rsa_key(numbers: rsa.RSAPrivateNumbers) -> bool:
    p, q, d, public = numbers.p, numbers.q, numbers.d, numbers.public_numbers
    exponents = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    return (
        p * q == public.n
        and d * public.e % (p - 1) == d * public.e % (q - 1) == 1
        and exponents == (numbers.dmp1, numbers.dmq1, numbers.iqmp)
    )


def self_signed(key: PairKey, names: tuple[str, ...]) -> x509.Certificate:
    """Create a self-signed CA certificate like kubeadm's."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(key_cert_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
        .sign(key, hashes.SHA256())
    )


def for_administrator(public_key: ec.EllipticCurvePublicKey, ca: x509.Certificate, ca_key: PairKey) -> x509.Certificate:
    """Create a client certificate for the cluster's administrator that is valid as long as its CA."""
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
