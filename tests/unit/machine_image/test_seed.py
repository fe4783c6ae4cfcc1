"""The seed disk of a virtual machine."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from seeds import seed_files

from labctl.machine_image import seed

FILES = {
    "bootstrap.sh": seed.SeedFile(b"#!/bin/bash\n" * 1000),
    "ca.key": seed.SeedFile(b"the key", seed.SECRET),
    "discovery.kubeconfig": seed.SeedFile(b""),
}
VOLUME_DESCRIPTOR = 16 * 2048


def test_a_seed_has_its_label_and_the_given_names_contents_and_modes(tmp_path: Path) -> None:
    assert seed.write(tmp_path / "seeds" / "demo.iso", FILES)

    written = tmp_path / "seeds" / "demo.iso"
    assert seed_files(written) == {name: (file.content, file.mode) for name, file in FILES.items()}
    descriptor = written.read_bytes()[VOLUME_DESCRIPTOR:]
    assert (descriptor[1:6], descriptor[40:72].strip()) == (b"CD001", seed.LABEL.encode())
    assert (tmp_path / "seeds" / "demo.iso").stat().st_mode & 0o777 == 0o600


def test_a_seed_is_reproducible_at_any_time_and_in_any_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    first = seed.content(FILES)
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    try:
        assert seed.content(dict(reversed(FILES.items()))) == first
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_seed_is_rewritten_only_if_its_content_changes(tmp_path: Path) -> None:
    path = tmp_path / "demo.iso"
    changed = {**FILES, "ca.key": seed.SeedFile(b"another", seed.SECRET)}

    assert [seed.write(path, each) for each in (FILES, FILES, changed, changed)] == [True, False, True, False]
    assert seed_files(path)["ca.key"] == (b"another", 0o400)


def test_the_repr_of_a_seed_file_has_no_secret() -> None:
    assert "key" not in repr(FILES["ca.key"])
