"""Remove keys, tokens and passwords, which a tool or a node may have written, from text for others to read."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from pathlib import Path

from labctl.host import lab_folder

REMOVED = "[removed]"
PUBLIC = (".crt", ".pub")
"""The suffixes of the files among a lab's keys that are not secret."""
SHORTEST = 16
"""The minimum length of a line of a key that is removed even without the other lines."""
KINDS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"(?<=PRIVATE KEY-----).*?(?=-----END|\Z)",
        r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b",  # a kubeadm token
        r"(?<=--certificate-key )\s*[0-9a-f]{64}",
        r"\beyJ[\w-]+\.[\w-]+\.[\w-]+",  # a JSON Web Token
        r"(?<=[Bb]earer )[\w.~+/=-]+",
        r"(?<=client-key-data: )\S+",
        r"(?<=://)[^/\s\"'<>]+(?=@)",  # a proxy's user and password
        r"(?<=_[Pp][Rr][Oo][Xx][Yy]=)[^/\s\"'<>]+(?=@)",  # the same without a scheme
    )
)


def secrets_of(folder: Path) -> frozenset[str]:
    """Return the secrets of the lab in this state folder, each in every form that files and manifests use."""
    files = [path for path in (folder / lab_folder.PKI).glob("*") if path.suffix not in PUBLIC]
    keys = [line.partition(":")[2].strip() for line in _lines(folder / lab_folder.KUBECONFIG) if "key-data:" in line]
    return frozenset(form for secret in (*map(_read, files), *keys) for form in _forms(secret))


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return the text without these secrets, and without anything that looks like one."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, REMOVED)
    for kind in KINDS:
        text = kind.sub(REMOVED, text)
    return text


def without_login(proxy: str) -> str:
    """Return the value of a proxy variable without a user, a password or a token in it."""
    login, _, host = proxy.rpartition("@")
    scheme = next((each for each in ("http://", "https://") if login.lower().startswith(each)), "")
    return f"{scheme}{host}" if login else host


def _forms(secret: str) -> Iterator[str]:
    """Yield the secret, its base64, and each of its lines: a log may have wrapped or quoted it."""
    yield from (line for line in secret.split() if len(line) >= SHORTEST)
    if secret:
        yield secret
        yield b64encode(secret.encode()).decode()
        yield b64encode(f"{secret}\n".encode()).decode()


def _lines(path: Path) -> list[str]:
    return _read(path).splitlines()


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
