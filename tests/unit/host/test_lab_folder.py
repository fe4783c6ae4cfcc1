"""Removal of a lab's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.host import lab_folder


def test_a_file_removed_meanwhile_by_another_command_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (lab_folder.RECORD, lab_folder.LOG, "tmp1"):
        (tmp_path / name).touch()
    monkeypatch.setattr(lab_folder, "failpoint", lambda _point: (tmp_path / "tmp1").unlink(missing_ok=True))

    lab_folder.empty(tmp_path, lab_folder.KEPT)

    assert [path.name for path in tmp_path.iterdir()] == [lab_folder.LOG]
