"""Which tests share a process where `-n 2` asks for two: tests of a lab wait for much of their time."""

from __future__ import annotations

from pathlib import PurePosixPath

LOWER_PRIORITY = 10
"""How much nicer the tests beside the first lab are: those of the first lab have limits for the seconds of a trace."""
E2E = ("tests", "e2e")
FIRST_LAB = "first lab"
LABS_OF_THEIR_OWN = {
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
"""End-to-end tests that may run beside those of the first lab, by the group that shares a process.

They are in the order in which they begin. All end-to-end tests that are in no table share the first lab, and a process.
"""
AT_THE_END = {"test_b_machine_image.py": "virtual machines", "test_b_libvirt.py": "virtual machines"}
"""End-to-end tests that may take every processor, and so begin when there is nothing else left to begin."""


def group(nodeid: str) -> str:
    """Return the name of the tests that run in one process, in their order: those of a lab, or those of a file."""
    path = PurePosixPath(nodeid.partition("::")[0])
    if path.parts[:2] != E2E:
        return str(path)
    return LABS_OF_THEIR_OWN.get(path.name) or AT_THE_END.get(path.name, FIRST_LAB)


def turn(nodeid: str) -> int:
    """Return when a test's group begins: the longest first, and files without a lab after those with one."""
    labs = [FIRST_LAB, *LABS_OF_THEIR_OWN.values()]
    name = group(nodeid)
    if name in labs:
        return labs.index(name)
    return len(labs) + (name in AT_THE_END.values())
