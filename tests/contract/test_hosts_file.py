"""The hosts file with real obstacles: crashes, other writers, links, mounts, and files that cannot be changed."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from tracing import BIND, READ_ONLY, RECURSIVE, REMOUNT, killed_at, mount, start, unshare_mounts, wait_for_exit

from labctl.host import hosts_file
from labctl.model.errors import HostsError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's ptrace and mounts")

FOREIGN = b"127.0.0.1\tlocalhost\nfe80::1%lo0 localhost # odd \xff\r\n"
AFTER = b"10.0.0.7 another-name-that-is-longer-than-the-block-is-short\n"
LONG = {f"app-{number}.local": IPv4Address("192.168.56.100") for number in range(5)}
SHORT = {"my-app.local": IPv4Address("192.168.56.101")}
WRITERS, ROUNDS = 6, 12


def _with(addresses: dict[str, IPv4Address]) -> bytes:
    lines = [f"{address} {name}" for name, address in addresses.items()]
    return hosts_file.with_block(FOREIGN, "demo", lines)


CHANGES: dict[str, tuple[bytes, dict[str, IPv4Address], bytes]] = {
    "a block is added": (FOREIGN, LONG, _with(LONG)),
    "a block in the middle grows": (_with(SHORT) + AFTER, LONG, _with(LONG) + AFTER),
    "a block in the middle shrinks": (_with(LONG) + AFTER, SHORT, _with(SHORT) + AFTER),
    "a block at the end goes": (_with(LONG), {}, FOREIGN),
    "a block in the middle goes": (_with(LONG) + AFTER, {}, FOREIGN + AFTER),
}
"""The old file, the lab's new names (none removes the block), and the new file."""
changes = pytest.mark.parametrize(("old", "names", "new"), CHANGES.values(), ids=CHANGES.keys())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for the hosts file."""
    path = tmp_path / "etc"
    path.mkdir()
    return path


# Crashes


@pytest.mark.slow
@changes
def test_a_crash_at_any_system_call_leaves_the_old_file_or_the_new_one(
    folder: Path, old: bytes, names: dict[str, IPv4Address], new: bytes
) -> None:
    path, backup = folder / "hosts", folder.parent / "backup"
    contents: set[bytes] = set()
    for stop in itertools.count(1):
        path.write_bytes(old)
        path.chmod(0o664)
        if not killed_at(stop, partial(_apply, path, names, backup)):
            break
        assert stat.S_IMODE(path.stat().st_mode) == 0o664
        contents.add(path.read_bytes())
        _apply(path, names, backup)
        assert [entry.name for entry in folder.iterdir()] == ["hosts"], f"killed at stop {stop}, it left files behind"
        assert path.read_bytes() == new

    assert stop > 50, "a traced change takes many system calls"
    assert contents == {old, new}


@pytest.mark.slow
@pytest.mark.root
@changes
def test_a_crash_leaves_a_bind_mounted_file_old_or_new_except_for_trailing_empty_lines(
    folder: Path, old: bytes, names: dict[str, IPv4Address], new: bytes
) -> None:
    """It cannot be replaced, so labctl writes it in place: one write, and a truncation if the new file is shorter."""
    real, path, backup = folder.parent / "real", folder / "hosts", folder.parent / "backup"
    path.touch()
    contents: set[bytes] = set()
    for stop in itertools.count(1):
        real.write_bytes(old)
        if not killed_at(stop, partial(_apply, path, names, backup), partial(_bind, real, path)):
            break
        contents.add(real.read_bytes())
        assert real.read_bytes() == old or backup.read_bytes() == old
        backup.unlink(missing_ok=True)

    assert stop > 50
    assert {old, new} <= contents <= {old, new, new.ljust(len(old), b"\n")}
    assert real.read_bytes() == new
    assert [entry.name for entry in folder.iterdir()] == ["hosts"]


def test_temporary_files_of_a_crash_are_removed_even_if_nothing_changes(folder: Path) -> None:
    path, backup = folder / "hosts", folder.parent / "backup"
    path.write_bytes(FOREIGN)
    stops = itertools.count(1)
    while len(list(folder.iterdir())) == 1:
        assert killed_at(next(stops), partial(_apply, path, LONG, backup))

    assert not hosts_file.remove(path, "demo", backup=backup)

    assert list(folder.iterdir()) == [path]
    assert path.read_bytes() == FOREIGN


# Other writers


def test_concurrent_writers_lose_no_changes(folder: Path) -> None:
    path = folder / "hosts"
    path.write_bytes(FOREIGN)

    writers = [start(partial(_add_and_remove, path, f"lab-{number}")) for number in range(WRITERS)]

    assert [wait_for_exit(pid) for pid in writers] == [0] * WRITERS
    assert list(folder.iterdir()) == [path]
    for number in range(WRITERS):
        assert hosts_file.show(path, f"lab-{number}") == (f"192.168.56.101 lab-{number}.local",)
        assert hosts_file.remove(path, f"lab-{number}", backup=folder.parent / "backup")
    assert path.read_bytes() == FOREIGN


@pytest.mark.root
def test_concurrent_writers_of_a_bind_mounted_file_lose_no_changes(folder: Path) -> None:
    real, path = folder.parent / "real", folder / "hosts"
    real.write_bytes(FOREIGN)
    path.touch()

    def writer(lab: str) -> None:
        _bind(real, path)
        _add_and_remove(path, lab)

    writers = [start(partial(writer, f"lab-{number}")) for number in range(WRITERS)]

    assert [wait_for_exit(pid) for pid in writers] == [0] * WRITERS
    assert {name: hosts_file.show(real, name) for name in map("lab-{}".format, range(WRITERS))} == {
        f"lab-{number}": (f"192.168.56.101 lab-{number}.local",) for number in range(WRITERS)
    }


# Files of every kind


def test_chained_symlinks_are_kept_and_their_target_is_replaced(folder: Path) -> None:
    real, elsewhere = folder / "hosts", folder.parent / "elsewhere"
    elsewhere.mkdir()
    real.write_bytes(FOREIGN)
    (elsewhere / "second").symlink_to("../etc/hosts")
    (elsewhere / "first").symlink_to("second")

    hosts_file.sync(elsewhere / "first", "demo", SHORT, backup=folder.parent / "backup")

    assert (elsewhere / "first").readlink() == Path("second")
    assert (elsewhere / "second").readlink() == Path("../etc/hosts")
    assert real.read_bytes() == _with(SHORT)
    assert sorted(entry.name for entry in elsewhere.iterdir()) == ["first", "second"]


def test_a_dangling_symlink_is_refused_and_nothing_is_created(folder: Path) -> None:
    (folder / "hosts").symlink_to("gone")

    with pytest.raises(HostsError, match="No such file") as raised:
        hosts_file.sync(folder / "hosts", "demo", SHORT, backup=folder.parent / "backup")

    assert raised.value.id == "hosts-cannot-read"
    assert [entry.name for entry in folder.iterdir()] == ["hosts"]
    assert not (folder.parent / "backup").exists()


@pytest.mark.root
def test_a_read_only_file_system_is_reported_with_the_systems_error(folder: Path) -> None:
    (folder / "hosts").write_bytes(FOREIGN)

    def in_child() -> None:
        unshare_mounts()
        mount(folder, folder, flags=BIND)
        mount(folder, folder, flags=BIND | REMOUNT | READ_ONLY)
        _assert_refused(folder / "hosts", folder.parent / "backup", errno.EROFS)

    assert wait_for_exit(start(in_child)) == 0
    assert (folder / "hosts").read_bytes() == FOREIGN


@pytest.mark.root
def test_a_read_only_bind_mount_is_reported_with_the_systems_error(folder: Path) -> None:
    real, path = folder.parent / "real", folder / "hosts"
    real.write_bytes(FOREIGN)
    path.touch()

    def in_child() -> None:
        _bind(real, path)
        mount(path, path, flags=BIND | REMOUNT | READ_ONLY)
        _assert_refused(path, folder.parent / "backup", errno.EROFS)

    assert wait_for_exit(start(in_child)) == 0
    assert real.read_bytes() == FOREIGN


@pytest.mark.root
def test_a_file_in_a_read_only_folder_is_written_in_place(folder: Path) -> None:
    """As in a container with a read-only image and its own hosts file."""
    real = folder.parent / "real"
    real.write_bytes(FOREIGN)
    (folder / "hosts").touch()

    def in_child() -> None:
        _bind(real, folder.parent / "etc" / "hosts")
        mount(folder, folder, flags=BIND | RECURSIVE)
        mount(folder, folder, flags=BIND | REMOUNT | READ_ONLY)
        _apply(folder / "hosts", SHORT, folder.parent / "backup")

    assert wait_for_exit(start(in_child)) == 0
    assert real.read_bytes() == _with(SHORT)


@pytest.mark.root
def test_an_immutable_file_is_an_error_until_it_is_mutable_again(immutable: Path, folder: Path) -> None:
    _assert_refused(immutable, folder.parent / "backup", errno.EPERM)
    assert immutable.read_bytes() == FOREIGN
    assert list(folder.iterdir()) == [immutable]

    _attribute("-i", immutable)
    assert hosts_file.sync(immutable, "demo", SHORT, backup=folder.parent / "backup")


@pytest.fixture
def immutable(folder: Path) -> Iterator[Path]:
    """A hosts file that not even root can change."""
    path = folder / "hosts"
    path.write_bytes(FOREIGN)
    if not _attribute("+i", path):
        pytest.skip(f"the file system of {folder} has no immutable files")
    yield path
    _attribute("-i", path)


@pytest.mark.root
def test_owner_mode_and_extended_attributes_are_kept(folder: Path) -> None:
    path = folder / "hosts"
    path.write_bytes(FOREIGN)
    path.chmod(0o640)
    os.chown(path, 12345, 23456)
    os.setxattr(path, "user.labctl-test", b"kept")

    assert hosts_file.sync(path, "demo", SHORT, backup=folder.parent / "backup")

    now = path.stat()
    assert (now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)) == (12345, 23456, 0o640)
    assert os.getxattr(path, "user.labctl-test") == b"kept"


@pytest.mark.root
def test_a_user_without_write_permission_can_still_read_the_block(folder: Path) -> None:
    path = folder / "hosts"
    path.write_bytes(_with(SHORT))
    private = folder.parent / "state"
    private.mkdir()
    os.chown(private, 65534, 65534)

    def in_child() -> None:
        unshare_mounts()
        here = Path("/mnt")
        folder.parent.chmod(0o755)
        mount(folder.parent, here, flags=BIND)  # this user may not enter the folders above
        os.setgid(65534)
        os.setuid(65534)
        assert hosts_file.show(here / "etc" / "hosts", "demo") == ("192.168.56.101 my-app.local",)
        _assert_refused(here / "etc" / "hosts", here / "state" / "backup", errno.EACCES, LONG)

    assert wait_for_exit(start(in_child)) == 0
    assert path.read_bytes() == _with(SHORT)


def _apply(path: Path, names: dict[str, IPv4Address], backup: Path) -> bool:
    if names:
        return hosts_file.sync(path, "demo", names, backup=backup)
    return hosts_file.remove(path, "demo", backup=backup)


def _add_and_remove(path: Path, lab: str) -> None:
    """Write and remove the lab's block repeatedly, and leave it in the file."""
    backup = path.parent.parent / f"backup-{lab}"
    for _ in range(ROUNDS):
        assert hosts_file.sync(path, lab, {f"{lab}.local": IPv4Address("192.168.56.100")}, backup=backup)
        assert hosts_file.remove(path, lab, backup=backup)
    assert hosts_file.sync(path, lab, {f"{lab}.local": IPv4Address("192.168.56.101")}, backup=backup)


def _bind(real: Path, path: Path) -> None:
    unshare_mounts()
    mount(real, path, flags=BIND)


def _assert_refused(path: Path, backup: Path, code: int, names: dict[str, IPv4Address] = SHORT) -> None:
    with pytest.raises(HostsError, match=os.strerror(code)) as raised:
        hosts_file.sync(path, "demo", names, backup=backup)
    assert raised.value.id == "hosts-cannot-change"
    assert all(f"{address} {name}" in raised.value.hint for name, address in names.items())


def _attribute(change: str, path: Path) -> bool:
    return subprocess.run(["chattr", change, path], check=False, capture_output=True).returncode == 0
