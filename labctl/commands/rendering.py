"""Write a lab's files without starting anything."""

from __future__ import annotations

from pathlib import Path

from labctl.config import saved_lab
from labctl.context import Context
from labctl.host import lab_folder, locks, paths
from labctl.host.files import PRIVATE_FILE
from labctl.model.reports import RenderReport
from labctl.plans import lab_files


def write(context: Context, out: Path | None) -> RenderReport:
    """Write the lab's files into a user's folder, or else into the lab's own; return the folder.

    The lab's own folder holds the files that its nodes use: as in `up`, refuse changes that an existing lab cannot
    have, and refuse to write while another command works on the lab. Raises UsageError `lab-differs`, NotReadyError
    `locked`, and as `lab_files.write_lab` does.
    """
    folder = (out or context.folder).absolute()
    if out is not None:
        lab_files.write_lab(context, folder, is_users=True)
        return {"version": 1, "folder": str(folder)}
    saved = saved_lab.read(folder)
    if saved is not None:
        saved_lab.refuse_differences(saved, saved_lab.SavedLab(context.lab, context.isolated, context.bundle_folder))
    lock = paths.private_folder(folder) / lab_folder.LOCK
    lock.touch(mode=PRIVATE_FILE)
    with locks.exclusive(lock, lambda _holder: None, timeout=0):
        lab_files.write_lab(context, folder)
    return {"version": 1, "folder": str(folder)}
