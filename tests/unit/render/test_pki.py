"""A lab's keys: their contents and modes, and when they are recreated."""

import base64
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from labctl.model.errors import ExitCode, MissingError
from labctl.model.lab import AddressPool, Lab
from labctl.render import certificates, pki

LAB = Lab(
    name="demo",
    provider="docker",
    network=IPv4Network("192.168.56.0/24"),
    workers=1,
    cpus=2,
    memory=2048,
    pool=AddressPool(IPv4Address("192.168.56.100"), IPv4Address("192.168.56.110")),
    kubernetes="auto",
    ingress="auto",
    apps=(),
    hosts_file=Path("/nowhere/hosts"),
)
T = TypeVar("T", bound=x509.ExtensionType)
FILES = [
    "kubeconfig",
    "pki/ca.crt",
    "pki/ca.key",
    "pki/ingress-admission.crt",
    "pki/ingress-admission.key",
    "pki/memberlist",
    "pki/metallb-webhook.crt",
    "pki/metallb-webhook.key",
    "pki/ssh",
    "pki/ssh.pub",
    "pki/token",
]
RSA_FILES = ("pki/metallb-webhook.key", "pki/metallb-webhook.crt")


@pytest.fixture
def folder(tmp_path: Path, lab_keys: Path) -> Path:
    """The folder of a lab with keys."""
    return Path(shutil.copytree(lab_keys, tmp_path / "ours"))


@pytest.fixture(scope="module")
def other_lab(tmp_path_factory: pytest.TempPathFactory, lab_keys: Path) -> Path:
    """The folder of another lab with the same name; tests only read it."""
    other = tmp_path_factory.mktemp("another")
    (other / "pki").mkdir()
    for name in RSA_FILES:  # shared, because creating RSA keys is slow
        shutil.copy(lab_keys / name, other / name)
    pki.ensure(other, LAB)
    return other


def test_every_file_is_created_once_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "labctl" / "demo"
    assert pki.ensure(folder, LAB) is True
    before = contents(folder)

    assert pki.ensure(folder, LAB) is False
    assert contents(folder) == before
    assert sorted(before) == FILES
    assert {path.stat().st_mode & 0o777 for path in (folder, folder / "pki")} == {0o700}
    assert {name: (folder / name).stat().st_mode & 0o777 for name in FILES} == dict.fromkeys(FILES, 0o600)


def test_the_ca_matches_one_that_kubeadm_creates(folder: Path) -> None:
    ca = ca_of(folder)

    assert ca.subject.rfc4514_string() == ca.issuer.rfc4514_string() == "CN=kubernetes"
    assert extension(ca, x509.BasicConstraints) == x509.BasicConstraints(ca=True, path_length=None)
    usage = extension(ca, x509.KeyUsage)
    assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign) == (True, True, True)
    assert extension(ca, x509.SubjectAlternativeName).get_values_for_type(x509.DNSName) == ["kubernetes"]
    assert ca.public_key() == load_key(folder / "pki/ca.key").public_key()


def test_the_ca_is_valid_on_a_node_with_a_slow_clock(folder: Path) -> None:
    ca, now = ca_of(folder), datetime.now(UTC)

    assert ca.not_valid_before_utc < now - timedelta(minutes=59)
    assert ca.not_valid_after_utc > now + timedelta(days=3649)


def test_the_token_has_kubeadms_format_and_is_unique_per_lab(folder: Path, other_lab: Path) -> None:
    assert re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}", pki.token(folder))
    assert pki.token(folder) != pki.token(other_lab)


def test_the_memberlist_key_is_128_bytes_of_base64(folder: Path) -> None:

    assert len(base64.b64decode(pki.memberlist(folder), validate=True)) == 128


def test_metallbs_key_has_the_type_and_format_that_metallb_reads(folder: Path) -> None:
    pem = (folder / "pki/metallb-webhook.key").read_bytes()
    key = load_pem_private_key(pem, password=None)

    assert isinstance(key, rsa.RSAPrivateKey)
    assert key.key_size == 2048
    assert pem.startswith(b"-----BEGIN RSA PRIVATE KEY-----")


def test_the_ssh_keys_are_a_pair(folder: Path) -> None:
    private = load_ssh_private_key((folder / "pki/ssh").read_bytes(), password=None)

    assert pki.ssh_public_key(folder).startswith("ssh-ed25519 ")
    assert load_ssh_public_key(pki.ssh_public_key(folder).encode()) == private.public_key()


def test_a_missing_ssh_public_key_is_derived_again(folder: Path) -> None:
    before = contents(folder)
    (folder / "pki/ssh.pub").unlink()

    assert pki.ensure(folder, LAB) is True
    assert contents(folder) == before


def test_the_kubeconfig_has_an_administrator_of_the_labs_api(folder: Path) -> None:
    kubeconfig = kubeconfig_of(folder)
    cluster, user = kubeconfig["clusters"][0]["cluster"], kubeconfig["users"][0]["user"]
    client = x509.load_pem_x509_certificate(base64.b64decode(user["client-certificate-data"]))
    key = load_pem_private_key(base64.b64decode(user["client-key-data"]), password=None)

    assert cluster["server"] == "https://192.168.56.10:6443"
    assert base64.b64decode(cluster["certificate-authority-data"]) == (folder / "pki/ca.crt").read_bytes()
    client.verify_directly_issued_by(ca_of(folder))
    assert client.public_key() == key.public_key()
    assert client.not_valid_after_utc == ca_of(folder).not_valid_after_utc
    assert extension(client, x509.ExtendedKeyUsage) == x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    assert client.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:masters"


def test_every_name_in_the_kubeconfig_is_derived_from_the_lab(folder: Path) -> None:
    pki.ensure(folder, replace(LAB, name="class-room"))
    kubeconfig = kubeconfig_of(folder)

    assert kubeconfig["current-context"] == "class-room"
    assert kubeconfig["clusters"][0]["name"] == "class-room"
    assert kubeconfig["contexts"] == [
        {"name": "class-room", "context": {"cluster": "class-room", "user": "class-room-admin"}}
    ]


def test_a_kubeconfig_with_a_changed_namespace_or_an_added_context_is_kept(folder: Path) -> None:
    kubeconfig = kubeconfig_of(folder)
    kubeconfig["contexts"][0]["context"]["namespace"] = "web"
    kubeconfig["contexts"].append({"name": "kind-x", "context": {"cluster": "kind-x", "user": "kind-x"}})
    kubeconfig["current-context"] = "kind-x"
    (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))

    assert pki.ensure(folder, LAB) is False

    kubeconfig["contexts"][0]["context"]["user"] = "kind-x"
    (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))

    assert pki.ensure(folder, LAB) is True


@pytest.mark.parametrize(
    "content", ["", "[]", "clusters: 7\nusers: []\n", "{unclosed", "clusters: [demo]\nusers: []\n"]
)
def test_an_invalid_kubeconfig_is_recreated(folder: Path, content: str) -> None:
    (folder / "kubeconfig").write_text(content)

    assert pki.ensure(folder, LAB) is True
    assert kubeconfig_of(folder)["current-context"] == "demo"


def test_a_too_deeply_nested_kubeconfig_is_recreated_without_libyaml(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(yaml, "CSafeLoader")
    (folder / "kubeconfig").write_text("[" * 600)

    assert pki.ensure(folder, LAB) is True


def test_a_missing_kubeconfig_is_recreated_from_the_same_ca(folder: Path) -> None:
    before = contents(folder)
    (folder / "kubeconfig").unlink()

    assert pki.ensure(folder, LAB) is True
    assert {**contents(folder), "kubeconfig": b""} == {**before, "kubeconfig": b""}


@pytest.mark.parametrize("lost", [["ca.crt", "ca.key"], ["ca.key"], ["ca.crt"]])
@pytest.mark.parametrize("foreign", [True, False])
def test_the_ca_of_a_booted_lab_is_restored_from_its_node_files(
    folder: Path, other_lab: Path, lost: list[str], *, foreign: bool
) -> None:
    node = folder / "nodes" / LAB.control_plane.name
    before = contents(folder)
    node.mkdir(parents=True)
    for name in ("ca.crt", "ca.key"):
        (node / name).write_bytes((folder / "pki" / name).read_bytes())
    machine = folder / ".vagrant" / "machines" / LAB.control_plane.name / "docker"
    machine.mkdir(parents=True)
    (machine / "id").write_text("0123456789ab")
    for name in lost:
        (folder / "pki" / name).unlink()
        if foreign:
            (folder / "pki" / name).write_bytes((other_lab / "pki" / name).read_bytes())

    assert pki.ensure(folder, LAB) is True

    assert {path: contents(folder)[path] for path in before} == before
    assert pki.ensure(folder, LAB) is False


def test_a_kubeconfig_with_another_ca_is_recreated(folder: Path, other_lab: Path) -> None:
    (folder / "kubeconfig").write_bytes((other_lab / "kubeconfig").read_bytes())

    assert pki.ensure(folder, LAB) is True
    trusted = kubeconfig_of(folder)["clusters"][0]["cluster"]["certificate-authority-data"]
    assert base64.b64decode(trusted) == (folder / "pki/ca.crt").read_bytes()


def test_a_kubeconfig_with_another_server_is_recreated(folder: Path) -> None:

    assert pki.ensure(folder, replace(LAB, network=IPv4Network("192.168.60.0/24"))) is True
    assert kubeconfig_of(folder)["clusters"][0]["cluster"]["server"] == "https://192.168.60.10:6443"


def test_a_missing_ca_certificate_is_recreated_from_the_ca_key(folder: Path) -> None:
    key, public_key = (folder / "pki/ca.key").read_bytes(), ca_of(folder).public_key()
    (folder / "pki/ca.crt").unlink()

    assert pki.ensure(folder, LAB) is True
    assert (folder / "pki/ca.key").read_bytes() == key
    assert ca_of(folder).public_key() == public_key


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("pki/ca.key", None, "it is gone"),
        ("pki/ca.key", b"", "it is not a PEM private key"),
        ("pki/ca.crt", b"\xff\x00", "it is not a PEM certificate"),
        ("pki/ssh", b"-----BEGIN", "it is not an OpenSSH private key"),
    ],
)
def test_a_damaged_key_is_named_and_nothing_is_created(
    folder: Path, file: str, content: bytes | None, reason: str
) -> None:
    (folder / "pki/ssh.pub").unlink()
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    before = contents(folder)

    with pytest.raises(MissingError, match=re.escape(f"cannot use {folder / file}: {reason}")) as caught:
        pki.ensure(folder, LAB)

    assert (caught.value.id, caught.value.exit_code) == ("pki-damaged", ExitCode.MISSING)
    assert "labctl destroy" in caught.value.hint
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "it is not the key of"),
        (ed25519.Ed25519PrivateKey.generate(), "it is neither an elliptic curve key nor an RSA key"),
    ],
    ids=["another", "another kind"],
)
def test_a_ca_key_that_does_not_match_the_certificate_is_an_error(
    folder: Path, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, reason: str
) -> None:
    (folder / "pki/ca.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    with pytest.raises(MissingError, match=reason) as caught:
        pki.ensure(folder, LAB)

    assert caught.value.id == "pki-damaged"
    assert "PRIVATE KEY" not in repr(caught.value) + str(caught.value.details)


@pytest.mark.parametrize("number", ["iqmp", "dmq1", "dmp1", "q", "p", "d"])
def test_an_rsa_key_with_one_wrong_bit_is_reported_as_damaged(folder: Path, number: str) -> None:
    path = folder / "pki/metallb-webhook.key"
    heading, *lines, end = path.read_text().splitlines()
    der = bytearray(base64.b64decode("".join(lines)))
    key = certificates.from_pem(path.read_bytes())
    assert isinstance(key, rsa.RSAPrivateKey)
    value: int = getattr(key.private_numbers(), number)
    der[der.index(value.to_bytes((value.bit_length() + 7) // 8)) + 50] ^= 1
    path.write_text("\n".join((heading, base64.encodebytes(der).decode().rstrip(), end, "")))

    with pytest.raises(MissingError) as caught:
        pki.ensure(folder, LAB)

    assert caught.value.id == "pki-damaged"
    assert str(path) in caught.value.message


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "pki/ca.crt").mkdir(parents=True)

    with pytest.raises(MissingError, match=re.escape(f"cannot use {tmp_path / 'pki/ca.crt'}: ")) as caught:
        pki.ensure(tmp_path, LAB)

    assert caught.value.id == "state-not-usable"
    assert str(tmp_path) in caught.value.hint


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ca_of(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "pki/ca.crt").read_bytes())


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def kubeconfig_of(folder: Path) -> dict[str, Any]:
    content = yaml.safe_load((folder / "kubeconfig").read_text())
    assert isinstance(content, dict)
    return content


def extension(certificate: x509.Certificate, kind: type[T]) -> T:
    return certificate.extensions.get_extension_for_class(kind).value
