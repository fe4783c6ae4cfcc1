"""A fuzz test of the hosts file, for a minute of processor time.

`LABCTL_FUZZ_SECONDS=3600 pytest tests/contract/test_hosts_fuzz.py` runs it for longer. The expected results are
computed independently of the product: line by line, without a regular expression.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from labctl.host import hosts_file
from labctl.model.errors import HostsError

SECONDS = float(os.environ.get("LABCTL_FUZZ_SECONDS", "60"))
BATCH = 500
LABS = ("demo", "demo-2", "two")
NAME = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-")

FOREIGN = (b"127.0.0.1\tlocalhost", b"fe80::1%lo0 x", b"", b"#", b"\0", b"\xff\xfe", b"\x85\x0b", b"END labctl two")
INSIDE = ((), (b"10.0.0.1 x",), (b"", b"\xff\0"), (b"a\x0cb", "a\u2028b".encode(), b"# by hand"))
BLOCKS = tuple(
    end.join([b"# BEGIN labctl %s" % lab.encode(), *lines, b"# END labctl %s" % lab.encode()])
    for lab in LABS
    for lines in INSIDE
    for end in (b"\n", b"\r\n")
)
OWN = BLOCKS[: len(BLOCKS) // len(LABS)]
MARKERS = tuple(b"# %s labctl %s" % (kind, lab.encode()) for kind in (b"BEGIN", b"END") for lab in LABS)
ALMOST_MARKERS = tuple(
    near
    for marker in MARKERS
    for near in (
        *(before + marker for before in (b" ", b"\t", b"#", b"\0", b"\xef\xbb\xbf")),
        *(marker + behind for behind in (b" ", b"\t", b"\r", b"\0", b"!", b"\xc3\xa9", b"\x0c")),
        *(marker.lower(), marker.replace(b"labctl ", b"labctl"), marker.replace(b"labctl ", b"labctl -")),
    )
)
LINE_ENDS = (b"\n", b"\n", b"\r\n", b"\r", b"")


def _with_line_ends(*texts: bytes) -> st.SearchStrategy[bytes]:
    return st.sampled_from([text + end for text in texts for end in LINE_ENDS])


texts = st.one_of(_with_line_ends(*FOREIGN), _with_line_ends(*ALMOST_MARKERS), st.binary(max_size=20))
files = st.one_of(
    st.lists(st.one_of(_with_line_ends(*BLOCKS), texts), max_size=6),
    st.tuples(
        st.lists(texts, max_size=3).map(b"".join), _with_line_ends(*OWN), st.lists(texts, max_size=3).map(b"".join)
    ),
    st.lists(st.one_of(_with_line_ends(*BLOCKS), _with_line_ends(*MARKERS), texts), max_size=6),
    st.lists(st.binary(max_size=200), max_size=1),
).map(b"".join)
names = st.dictionaries(
    st.sampled_from(["my-app.local", "shop.test", "a", "x-1.y"]), st.integers(0, 2**32 - 1).map(IPv4Address), max_size=3
)


class Parts(NamedTuple):
    """A hosts file split around a lab's block; without a block, everything is `before`."""

    before: bytes
    block: bytes | None
    after: bytes


@pytest.mark.slow
def test_foreign_bytes_are_kept_in_any_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)  # no power cut is tested, and speed means more inputs
    counts: Counter[str] = Counter()
    started, first = time.process_time(), time.time_ns()
    for number in count(first):
        if (spent := time.process_time() - started) > SECONDS:
            break
        seed(number)(_batch(tmp_path, counts))()

    with capsys.disabled():
        kinds = ", ".join(f"{number} {kind}" for kind, number in counts.most_common())
        sys.stdout.write(f"\nhosts file: {counts.total()} inputs in {spent:.0f} s of processor time: {kinds}\n")
    assert min(counts[kind] for kind in ("damaged", "without a block", "with a block")) > 0


def _batch(folder: Path, counts: Counter[str]) -> Callable[[], None]:
    @settings(
        max_examples=BATCH,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(content=files, addresses=names)
    def check(content: bytes, addresses: dict[str, IPv4Address]) -> None:
        counts[_check(folder, content, LABS[0], addresses)] += 1

    return check


def _check(folder: Path, content: bytes, lab: str, addresses: dict[str, IPv4Address]) -> str:
    """Check all properties for one input; return the kind of the input."""
    path, backup = folder / "hosts", folder / "backup"
    path.write_bytes(content)
    backup.unlink(missing_ok=True)
    parts = _parts(content, lab)
    if parts is None:
        _assert_refused(path, backup, lab, addresses)
        assert path.read_bytes() == content
        assert not backup.exists()
        return "damaged"
    others = {other: hosts_file.show(path, other) for other in LABS if other != lab}
    assert hosts_file.show(path, lab) == (None if parts.block is None else _lines(parts.block))

    changed = hosts_file.sync(path, lab, addresses, backup=backup)
    once = path.read_bytes()
    assert changed == (once != content)
    assert not changed or backup.read_bytes() == content
    assert (hosts_file.show(path, lab) or ()) == tuple(f"{address} {name}" for name, address in addresses.items())
    if addresses:
        _assert_foreign_bytes_kept(parts, once)
    assert not hosts_file.sync(path, lab, addresses, backup=backup)
    assert path.read_bytes() == once

    assert hosts_file.remove(path, lab, backup=backup) is bool(addresses)
    assert path.read_bytes() in _without(parts)
    assert hosts_file.show(path, lab) is None
    assert not hosts_file.remove(path, lab, backup=backup)
    assert {other: hosts_file.show(path, other) for other in others} == others
    return "without a block" if parts.block is None else "with a block"


def _assert_refused(path: Path, backup: Path, lab: str, addresses: dict[str, IPv4Address]) -> None:
    for act in (
        lambda: hosts_file.show(path, lab),
        lambda: hosts_file.sync(path, lab, addresses, backup=backup),
        lambda: hosts_file.remove(path, lab, backup=backup),
    ):
        with pytest.raises(HostsError) as raised:
            act()
        assert raised.value.id == "hosts-damaged"


def _assert_foreign_bytes_kept(parts: Parts, once: bytes) -> None:
    added = once.removeprefix(parts.before).removesuffix(parts.after)
    assert once == parts.before + added + parts.after
    if parts.block is None:
        assert not parts.before or parts.before.endswith(b"\n") or added.startswith((b"\n", b"\r\n"))
        added = added.strip(b"\r\n")
    assert added.startswith(b"# BEGIN labctl ")
    assert added.count(b"labctl") == len((b"BEGIN", b"END"))


def _without(parts: Parts) -> set[bytes]:
    """Return the allowed results of removing the block, with its line end or the one before it."""
    if parts.block is None:
        return {parts.before}
    if parts.after:
        return {parts.before + parts.after.partition(b"\n")[2]}
    return {parts.before, parts.before.removesuffix(b"\n"), parts.before.removesuffix(b"\r\n")}


def _parts(content: bytes, lab: str) -> Parts | None:
    """Return the file split around the lab's block, or None if the markers of any lab do not pair up."""
    blocks: dict[bytes, slice] = {}
    begun: tuple[bytes, int] | None = None
    offset = 0
    for line in content.split(b"\n"):
        text = line.removesuffix(b"\r")
        kind, name = _marker(text)
        if kind == b"BEGIN":
            if begun or name in blocks:
                return None
            begun = name, offset
        elif kind == b"END":
            if not begun or begun[0] != name:
                return None
            blocks[name] = slice(begun[1], offset + len(text))
            begun = None
        offset += len(line) + 1
    if begun:
        return None
    block = blocks.get(lab.encode())
    return Parts(content[: block.start], content[block], content[block.stop :]) if block else Parts(content, None, b"")


def _marker(line: bytes) -> tuple[bytes, bytes]:
    """Return the kind and the lab of a marker line; both are empty for any other line."""
    for kind in (b"BEGIN", b"END"):
        name = line.removeprefix(b"# " + kind + b" labctl ")
        if name not in {line, b""} and NAME.issuperset(name) and not name.startswith(b"-"):
            return kind, name
    return b"", b""


def _lines(block: bytes) -> tuple[str, ...]:
    return tuple(line.removesuffix(b"\r").decode(errors="replace") for line in block.split(b"\n")[1:-1])
