"""A lab's block in the hosts file."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from labctl.host import hosts_file, sudo
from labctl.host.hosts_file import block, with_block, without_block
from labctl.model.errors import HostsError

ADDRESS = IPv4Address("192.168.56.100")
ADDRESSES = {"my-app.local": ADDRESS}
LINES = ("192.168.56.100 my-app.local",)
BLOCK = b"# BEGIN labctl demo\n192.168.56.100 my-app.local\n# END labctl demo"
BEFORE = b"127.0.0.1\tlocalhost\nfe80::1%lo0 localhost # odd\n"


def test_a_block_is_appended_between_its_markers() -> None:
    assert with_block(BEFORE, "demo", LINES) == BEFORE + BLOCK + b"\n"


def test_an_unterminated_last_line_is_not_joined_to_the_block() -> None:
    assert with_block(b"127.0.0.1 localhost", "demo", LINES) == b"127.0.0.1 localhost\n" + BLOCK


def test_a_file_with_crlf_gets_a_block_with_crlf() -> None:
    content = with_block(b"127.0.0.1 localhost\r\n", "demo", LINES)

    assert content == b"127.0.0.1 localhost\r\n" + BLOCK.replace(b"\n", b"\r\n") + b"\r\n"
    assert block(content, "demo") == LINES


@pytest.mark.parametrize(
    "content",
    [
        b"# BEGIN labctl two\r\n# END labctl two\r",
        b"# BEGIN labctl two\n# END labctl two\r",
        b"127.0.0.1 localhost\r\n10.0.0.1 cut off within its line end\r",
    ],
)
def test_an_incomplete_line_ending_is_completed_by_a_block_and_restored_without_it(content: bytes) -> None:
    changed = with_block(content, "demo", LINES)

    assert changed.startswith(content + b"\n# BEGIN labctl demo\n")
    assert block(changed, "two") == block(content, "two")
    assert without_block(changed, "demo") == content


def test_lines_of_a_block_end_only_at_line_feeds() -> None:
    inside = b"10.0.0.1 a\x0cb\r\n10.0.0.2 c\xc2\x85d"

    assert block(b"# BEGIN labctl demo\r\n" + inside + b"\r\n# END labctl demo", "demo") == (
        "10.0.0.1 a\x0cb",
        "10.0.0.2 c\x85d",
    )


def test_the_block_of_a_lab_with_a_common_prefix_is_another_block() -> None:
    content = with_block(BEFORE, "demo-2", LINES)

    assert block(content, "demo") is None
    assert without_block(content, "demo") == content


DAMAGED = {
    "begin without end": (b"# BEGIN labctl demo\n10.0.0.1 a\n", 1),
    "end without begin": (b"\n# END labctl demo\n", 2),
    "end before begin": (b"# END labctl demo\n# BEGIN labctl demo\n", 1),
    "block within itself": (b"# BEGIN labctl demo\n" + BLOCK + b"\n# END labctl demo\n", 2),
    "two blocks of one lab": (BLOCK + b"\n" + BLOCK + b"\n", 4),
    "block within another lab's": (b"# BEGIN labctl x\n" + BLOCK + b"\n# END labctl x\n", 2),
    "interleaved": (b"# BEGIN labctl demo\n# BEGIN labctl x\n# END labctl demo\n# END labctl x\n", 2),
    "end joined to a foreign line": (BLOCK + b"10.0.0.1 a\n", 1),
    "another lab's block never ends": (b"# BEGIN labctl x\n", 1),
}


@pytest.mark.parametrize(("content", "line"), DAMAGED.values(), ids=DAMAGED.keys())
@pytest.mark.parametrize("act", ["sync", "remove", "show"])
def test_damaged_markers_are_refused_with_their_line_and_nothing_is_written(
    tmp_path: Path, content: bytes, line: int, act: str
) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(content)
    acts: dict[str, Callable[[], object]] = {
        "sync": lambda: hosts_file.sync(path, "demo", ADDRESSES, backup=tmp_path / "backup"),
        "remove": lambda: hosts_file.remove(path, "demo", backup=tmp_path / "backup"),
        "show": lambda: hosts_file.show(path, "demo"),
    }

    with pytest.raises(HostsError, match=f"hosts, line {line}: ") as caught:
        acts[act]()

    assert caught.value.id == "hosts-damaged"
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_the_hosts_file_of_an_isolated_lab_is_named_by_its_path_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "netns" / "labctl-demo" / "hosts"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"# BEGIN labctl demo\n")
    monkeypatch.setattr(hosts_file, "OWN_FILES", tmp_path / "netns")
    (tmp_path / "hosts").hardlink_to(own)  # like a bind mount

    with pytest.raises(HostsError, match=f"^{own}, line 1: ") as caught:
        hosts_file.show(tmp_path / "hosts", "demo")

    assert str(own) in (caught.value.hint or "")


@pytest.mark.parametrize(
    "hostname", ["a b", "a\tb", "a#b", "a\nb", "a\n# END labctl demo", "", "a\x1b[0m", "a\u2028b", "ä.local"]
)
def test_a_hostname_with_special_characters_is_refused(tmp_path: Path, hostname: str) -> None:
    path = _write_hosts(tmp_path)

    with pytest.raises(HostsError) as caught:
        hosts_file.sync(path, "demo", {hostname: ADDRESS}, backup=tmp_path / "backup")

    assert caught.value.id == "hosts-line"
    assert path.read_bytes() == BEFORE


def test_sync_writes_the_block_and_keeps_the_previous_copy(tmp_path: Path) -> None:
    path, backup = _write_hosts(tmp_path), tmp_path / "state" / "demo" / "hosts.before"

    assert hosts_file.sync(path, "demo", ADDRESSES, backup=backup)

    assert path.read_bytes() == BEFORE + BLOCK + b"\n"
    assert hosts_file.show(path, "demo") == LINES
    assert backup.read_bytes() == BEFORE
    assert stat.S_IMODE(backup.parent.stat().st_mode) == 0o700


def test_sync_without_hostnames_removes_the_block(tmp_path: Path) -> None:
    path = _write_hosts(tmp_path)

    assert not hosts_file.sync(path, "demo", {}, backup=tmp_path / "backup")
    hosts_file.sync(path, "demo", ADDRESSES, backup=tmp_path / "backup")
    assert hosts_file.sync(path, "demo", {}, backup=tmp_path / "backup")

    assert path.read_bytes() == BEFORE


def test_sync_of_unchanged_names_does_not_write_the_file(tmp_path: Path) -> None:
    path = _write_hosts(tmp_path)
    hosts_file.sync(path, "demo", ADDRESSES, backup=tmp_path / "backup")
    before = path.stat()

    assert not hosts_file.sync(path, "demo", ADDRESSES, backup=tmp_path / "backup")

    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert (tmp_path / "backup").read_bytes() == BEFORE


def test_removing_a_block_creates_no_damaged_marker() -> None:
    nearly = b"# END labctl demo\r\r\n"

    rest = without_block(nearly + b"# BEGIN labctl demo\r\n# END labctl demo", "demo")

    assert rest == nearly
    assert block(rest, "demo") is None


def test_remove_restores_the_file_and_is_idempotent(tmp_path: Path) -> None:
    path = _write_hosts(tmp_path)
    hosts_file.sync(path, "demo", ADDRESSES, backup=tmp_path / "backup")

    assert hosts_file.remove(path, "demo", backup=tmp_path / "backup")
    assert path.read_bytes() == BEFORE
    assert not hosts_file.remove(path, "demo", backup=tmp_path / "backup")


def test_a_missing_file_has_no_block_and_is_not_created(tmp_path: Path) -> None:
    path = tmp_path / "hosts"

    assert hosts_file.show(path, "demo") is None
    assert not hosts_file.remove(path, "demo", backup=tmp_path / "backup")
    with pytest.raises(HostsError, match="No such file") as caught:
        hosts_file.sync(path, "demo", ADDRESSES, backup=tmp_path / "backup")

    assert caught.value.id == "hosts-cannot-read"
    assert "192.168.56.100 my-app.local" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_anything_but_a_regular_file_is_refused_without_blocking(tmp_path: Path) -> None:
    folder, fifo, loop = tmp_path / "folder", tmp_path / "fifo", tmp_path / "loop"
    folder.mkdir()
    os.mkfifo(fifo)
    loop.symlink_to(loop)

    for path in (folder, fifo, loop):
        with pytest.raises(HostsError, match=str(path)):
            hosts_file.sync(path, "demo", ADDRESSES, backup=tmp_path / "backup")


def test_the_mode_is_kept(tmp_path: Path) -> None:
    path = _write_hosts(tmp_path)
    path.chmod(0o664)

    hosts_file.sync(path, "demo", ADDRESSES, backup=tmp_path / "backup")

    assert stat.S_IMODE(path.stat().st_mode) == 0o664


def test_a_symbolic_link_is_kept_and_its_target_changes(tmp_path: Path) -> None:
    real, link = _write_hosts(tmp_path), tmp_path / "link"
    link.symlink_to(real.name)

    hosts_file.sync(link, "demo", ADDRESSES, backup=tmp_path / "backup")

    assert link.is_symlink()
    assert hosts_file.show(real, "demo") == LINES


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EROFS])
def test_the_file_is_written_in_place_where_a_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = _write_hosts(tmp_path)
    inode = path.stat().st_ino
    _refuse_rename(monkeypatch, path, code)

    assert hosts_file.sync(path, "demo", ADDRESSES, backup=tmp_path / "backup")
    assert path.read_bytes() == BEFORE + BLOCK + b"\n"
    assert hosts_file.remove(path, "demo", backup=tmp_path / "backup")
    assert path.read_bytes() == BEFORE

    assert path.stat().st_ino == inode
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["backup", "hosts"]


@pytest.mark.parametrize("function", ["fchown", "fsync", "replace"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_failed_write_leaves_the_old_file_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, code: int
) -> None:
    path = _write_hosts(tmp_path)
    monkeypatch.setattr(os, function, _raiser(code))

    with pytest.raises(HostsError, match=os.strerror(code)) as caught:
        hosts_file.sync(path, "demo", ADDRESSES, backup=tmp_path / "backup")

    assert caught.value.id == "hosts-cannot-change"
    assert path.read_bytes() == BEFORE
    assert {entry.name for entry in tmp_path.iterdir()} <= {"backup", "hosts"}


def test_a_disk_that_fills_up_while_writing_in_place_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(BLOCK + b"\n" + BEFORE)
    pwrite, calls = os.pwrite, 0

    def fail_in_the_middle(descriptor: int, content: bytes, offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, content[:40] if calls == 1 else content, offset)

    _refuse_rename(monkeypatch, path, errno.EBUSY)
    monkeypatch.setattr(os, "pwrite", fail_in_the_middle)

    with pytest.raises(HostsError, match="No space left"):
        hosts_file.sync(path, "demo", {"other.local": IPv4Address("10.0.0.1")}, backup=tmp_path / "backup")

    assert path.read_bytes() == BLOCK + b"\n" + BEFORE


def test_a_file_that_even_root_cannot_write_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write_hosts(tmp_path)
    monkeypatch.setattr(sudo, "is_root", lambda: True)
    _refuse_rename(monkeypatch, path, errno.EPERM)
    monkeypatch.setattr(os, "pwrite", _raiser(errno.EPERM))

    with pytest.raises(HostsError, match="not permitted"):
        hosts_file.sync(path, "demo", ADDRESSES, backup=tmp_path / "backup")

    assert path.read_bytes() == BEFORE


def test_without_a_backup_nothing_is_changed(tmp_path: Path) -> None:
    path, folder = _write_hosts(tmp_path), tmp_path / "folder"
    folder.mkdir()

    with pytest.raises(HostsError, match="folder"):
        hosts_file.sync(path, "demo", ADDRESSES, backup=folder)

    assert path.read_bytes() == BEFORE


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    path = _write_hosts(tmp_path)
    labs = [f"lab-{number}" for number in range(16)]

    def write(lab: str) -> bool:
        return hosts_file.sync(path, lab, {f"{lab}.local": ADDRESS}, backup=tmp_path / lab)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(write, labs))

    assert all(hosts_file.show(path, lab) == (f"192.168.56.100 {lab}.local",) for lab in labs)
    assert path.read_bytes().startswith(BEFORE)


def test_a_lock_that_is_never_released_is_an_error_after_the_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write_hosts(tmp_path)
    monkeypatch.setattr(hosts_file, "LOCK_SECONDS", 0)

    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(HostsError) as refused:
            hosts_file.sync(path, "demo", ADDRESSES, backup=tmp_path / "backup")
    assert refused.value.id == hosts_file.NOT_CHANGED


def test_ten_thousand_foreign_lines_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    many = b"".join(b"0.0.0.0 ads-%d.example\n" % number for number in range(10_000))
    path.write_bytes(many)

    hosts_file.sync(path, "demo", ADDRESSES, backup=tmp_path / "backup")
    hosts_file.remove(path, "demo", backup=tmp_path / "backup")

    assert path.read_bytes() == many


def _write_hosts(folder: Path) -> Path:
    path = folder / "hosts"
    path.write_bytes(BEFORE)
    return path


def _refuse_rename(monkeypatch: pytest.MonkeyPatch, path: Path, code: int) -> None:
    """Make every rename onto this file fail."""
    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        if target == path:
            raise OSError(code, os.strerror(code))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)


def _raiser(code: int) -> Callable[..., int]:
    def fail(*_arguments: object, **_options: object) -> int:
        raise OSError(code, os.strerror(code))

    return fail
