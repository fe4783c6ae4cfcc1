"""Groups of tests that share a process with `-n 2`: tests of a lab mostly wait, so two groups fit on the processors."""

from __future__ import annotations

from pathlib import PurePosixPath

LOWER_PRIORITY = 10
"""Added niceness of tests in parallel with the first lab, whose tests limit the seconds of a trace."""
E2E = ("tests", "e2e")
FIRST_LAB = "first lab"
OTHER_LABS = {
    "test_5_second_lab.py": "other labs",
    "test_7_failover.py": "other labs",
    "test_9_kills.py": "other labs",
    "test_a_debian13.py": "Debian 13",
    "test_a_first_run.py": "Debian 13",
    "test_6_plain_engine.py": "plain Engine",
    "test_8_doctor.py": "doctor",
    "test_b_release.py": "release",
    "test_d_node_by_engine.py": "node by Engine",
}
"""End-to-end tests that may run in parallel with those of the first lab, by the group that shares a process.

The order is that in which they start. End-to-end tests that are in no table share the first lab, and one process.
"""
LAST = {"test_b_machine_image.py": "virtual machines", "test_b_libvirt.py": "virtual machines"}
"""End-to-end tests that may use every processor, and so start last."""


def group(nodeid: str) -> str:
    """Return the group of a test, which runs in one process and in order: the tests of a lab, or of a file."""
    path = PurePosixPath(nodeid.partition("::")[0])
    if path.parts[:2] != E2E:
        return str(path)
    return OTHER_LABS.get(path.name) or LAST.get(path.name, FIRST_LAB)


def turn(nodeid: str) -> int:
    """Return the position of a test's group: labs, the longest first; then files without a lab; then LAST."""
    labs = [FIRST_LAB, *OTHER_LABS.values()]
    name = group(nodeid)
    if name in labs:
        return labs.index(name)
    return len(labs) + (name in LAST.values())
