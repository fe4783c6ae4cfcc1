"""A lab's block in the hosts file, for any other content of the file."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.host.hosts_file import DamagedMarkerError, block, with_block, without_block

BLOCK = b"# BEGIN labctl demo\n192.168.56.100 my-app.local\n# END labctl demo"

quick = settings(max_examples=40)
pieces = st.sampled_from(
    [
        b"127.0.0.1 localhost",
        b"\n",
        b"\r\n",
        b"\r",
        b"\xff\x00 odd",
        b"# BEGIN labctl other\n10.0.0.1 x\n# END labctl other\n",
        b"# BEGIN labctl demo-2\r\n# END labctl demo-2",
        b" # BEGIN labctl demo",
        b"# END labctl demo!",
    ]
)
foreign = st.one_of(st.binary(max_size=60), st.lists(pieces, max_size=8).map(b"".join)).filter(
    lambda content: _is_sound(content) and block(content, "demo") is None
)
lines = st.lists(st.sampled_from(["192.168.56.100 a.local", "192.168.56.101 b.local", "10.0.0.1 c"]), max_size=3)


def _is_sound(content: bytes) -> bool:
    try:
        block(content, "demo")
    except DamagedMarkerError:
        return False
    return True


@given(content=foreign, lines=lines)
@quick
def test_removing_a_block_restores_the_file_byte_for_byte(content: bytes, lines: list[str]) -> None:
    assert without_block(with_block(content, "demo", lines), "demo") == content


@given(content=foreign, first=lines, second=lines)
@quick
def test_writing_a_block_leaves_only_the_last_one_written(content: bytes, first: list[str], second: list[str]) -> None:
    once = with_block(content, "demo", second)

    assert with_block(once, "demo", second) == once
    assert with_block(with_block(content, "demo", first), "demo", second) == once
    assert block(once, "demo") == tuple(second)


@given(content=foreign, lines=lines)
@quick
def test_foreign_bytes_are_kept_and_the_block_starts_on_a_new_line(content: bytes, lines: list[str]) -> None:
    before, marker, _ = with_block(content, "demo", lines).rpartition(b"# BEGIN labctl demo")

    assert marker
    assert before.startswith(content)
    assert before[len(content) :] in (b"", b"\n", b"\r\n")
    assert not before or before.endswith(b"\n")


@given(content=foreign.filter(lambda content: block(content, "two") is None), lines=lines, last=st.booleans())
@quick
def test_the_blocks_of_two_labs_are_independent(content: bytes, lines: list[str], *, last: bool) -> None:
    both = with_block(with_block(content, "demo", lines), "two", ["10.0.0.2 two.local"])
    first, second = ("two", "demo") if last else ("demo", "two")

    left = without_block(both, first)

    assert block(left, second) == block(both, second)
    assert without_block(left, second) == content


@given(content=st.binary(max_size=40), after=st.binary(max_size=40), lines=lines)
@quick
def test_a_block_in_the_middle_is_replaced_in_place(content: bytes, after: bytes, lines: list[str]) -> None:
    start, end = (content + b"\n", b"\n" + after) if content else (b"", b"\n" + after)

    changed = with_block(start + BLOCK + end, "demo", lines)

    assert changed.startswith(start + b"# BEGIN labctl demo\n")
    assert changed.endswith(b"\n# END labctl demo" + end)
