"""A boot is interrupted at a line that Vagrant prints, and the next `up` completes it.

Continuous integration tests a sample of the moments. `pytest -m sweep tests/e2e` tests all of them, and
`pytest -m sweep -k slice1 tests/e2e` a part of them that takes less than ten minutes.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .reallab import UP_SECONDS, Completed, RealLab

pytestmark = pytest.mark.e2e

URL = "http://my-app.local"
CONTROL_PLANE, WORKER = "control-plane", "worker-1"
LINES = (
    "Bringing machine '{node}'",
    "==> {node}: Creating and configuring docker networks",
    "==> {node}: Creating the container",
    "    {node}:   Name: ",
    "    {node}:  Image: ",
    "    {node}: Volume: /var",
    "    {node}: Volume: /lib/modules",
    "    {node}: Volume: {bundle}",
    "    {node}: Volume: {lab}",
    "    {node}: Container created",
    "==> {node}: Enabling network interfaces",
    "==> {node}: Starting container",
)
"""Prefixes of the lines that Vagrant prints while it creates a node, in order."""
LAST_BEFORE_CREATION = "    {node}: Volume: {lab}"
CREATION_SECONDS = (0.2, 0.4, 0.6, 0.8)
"""Seconds after that line: Vagrant prints nothing while Docker creates the container."""
IMPORT = "$ docker import"
"""Prefix of labctl's log line when it imports the node's system into the Engine."""
SLICE_SIZES = {WORKER: 16, CONTROL_PLANE: 9}


def _interrupt(child: subprocess.Popen[bytes]) -> int:
    """Interrupt as a terminal does on Ctrl-C; return the exit code that labctl must have."""
    os.killpg(child.pid, signal.SIGINT)
    return 130


def _kill(child: subprocess.Popen[bytes]) -> int:
    """Kill only labctl; its Vagrant continues."""
    child.kill()
    return -signal.SIGKILL


def _kill_all(child: subprocess.Popen[bytes]) -> int:
    """Kill labctl and the programs that it has started, each of which has its own process group."""
    groups = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    child.kill()
    for group in groups:
        os.killpg(int(group), signal.SIGKILL)
    return -signal.SIGKILL


INTERRUPTIONS = {"ctrl-c": _interrupt, "kill": _kill, "kill-all": _kill_all}


@dataclass(frozen=True, slots=True)
class Moment:
    """When a boot is interrupted, in seconds after a line with this prefix, and how."""

    node: str
    line: str
    end: str
    after: float = 0.0

    def __str__(self) -> str:
        words = self.line.replace("{node}", "").strip(" =>:'{}$")
        return f"{self.node}-{self.end}-{words}" + (f"+{self.after}" if self.after else "")


SAMPLE = (
    Moment(WORKER, "==> {node}: Creating and configuring docker networks", "ctrl-c"),
    Moment(WORKER, "==> {node}: Creating the container", "ctrl-c"),
    Moment(WORKER, LAST_BEFORE_CREATION, "kill-all", 0.4),
    Moment(WORKER, "    {node}: Container created", "kill-all"),
    Moment(WORKER, "==> {node}: Enabling network interfaces", "ctrl-c"),
    Moment(CONTROL_PLANE, "==> {node}: Creating the container", "kill"),
)


def _sweep() -> Iterator[tuple[str, Moment]]:
    """Yield every moment with the name of its slice."""
    moments = [(line, 0.0) for line in LINES] + [(LAST_BEFORE_CREATION, after) for after in CREATION_SECONDS]
    number = itertools.count(1)
    for node, ends in ((WORKER, tuple(INTERRUPTIONS)), (CONTROL_PLANE, ("ctrl-c", "kill-all"))):
        cases = [Moment(node, line, end, after) for line, after in moments for end in ends]
        if node == CONTROL_PLANE:
            cases += [Moment(node, IMPORT, end) for end in INTERRUPTIONS]
        for first in range(0, len(cases), SLICE_SIZES[node]):
            name = f"slice{next(number)}"
            yield from ((name, case) for case in cases[first : first + SLICE_SIZES[node]])


@pytest.mark.parametrize("moment", SAMPLE, ids=str)
def test_an_interrupted_boot_is_completed_by_the_next_up(
    lab: RealLab, moment: Moment, record_property: Callable[[str, object], None]
) -> None:
    _check_recovery(lab, moment, record_property)


def test_a_control_plane_is_reconnected_to_its_network_and_keeps_its_objects(lab: RealLab) -> None:
    name = f"{lab.name}-{CONTROL_PLANE}"
    lab.kubectl("create", "configmap", "the-users")
    lab.docker("network", "disconnect", f"labctl-{lab.name}", name)

    lab.up()

    assert lab.status()["ok"]
    lab.kubectl("delete", "configmap", "the-users")


@pytest.mark.sweep
@pytest.mark.parametrize("moment", [pytest.param(case, id=f"{name}-{case}") for name, case in _sweep()])
def test_a_boot_interrupted_at_any_line_is_completed_by_the_next_up(
    lab: RealLab, moment: Moment, record_property: Callable[[str, object], None]
) -> None:
    _check_recovery(lab, moment, record_property)


def _check_recovery(lab: RealLab, moment: Moment, record_property: Callable[[str, object], None]) -> None:
    _remove_nodes(lab, moment)
    _run_interrupted(lab, moment)

    started = time.monotonic()
    lab.up()
    seconds = time.monotonic() - started

    assert lab.status()["ok"]
    assert lab.page(URL)[0] == 200
    record_property("seconds", f"{moment}: the next `up` took {seconds:.1f} s")


def _remove_nodes(lab: RealLab, moment: Moment) -> None:
    """Remove the node's container; for a control plane those of all nodes, which would belong to the old cluster."""
    names = [f"{lab.name}-{node}" for node in ((WORKER,) if moment.node == WORKER else (CONTROL_PLANE, WORKER))]
    lab.docker("rm", "--force", "--volumes", *names)
    if moment.line == IMPORT:
        lab.docker("rmi", lab.docker("images", "--quiet", "labctl.local/node").strip())


def _run_interrupted(lab: RealLab, moment: Moment) -> None:
    """Run `up`, interrupt it at the moment, and wait until labctl exits."""
    node = f"{lab.name}-{moment.node}"
    line = moment.line.format(node=node, bundle=lab.programs.parent, lab=lab.folder)
    log = lab.folder / "log"
    log.rename(log.with_name("log.before"))  # labctl itself rotates a long log, and might do so here
    with subprocess.Popen(
        lab.arguments("up", *lab.up_options),
        env=lab.full_environment(),
        cwd=lab.state_home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as child:
        _await_line(log, line, child)
        time.sleep(moment.after)
        code = INTERRUPTIONS[moment.end](child)
        exit_code = child.wait(timeout=UP_SECONDS)
        assert exit_code == code, lab.explain(Completed(exit_code, out="", err=""))


def _await_line(log: Path, line: str, child: subprocess.Popen[bytes]) -> None:
    """Wait until a new log has a line with this prefix, which follows the time and the program's pid."""
    while child.poll() is None and not log.exists():
        time.sleep(0.002)
    with log.open(encoding="utf-8", errors="replace") as file:
        rest = ""
        while child.poll() is None:
            *lines, rest = (rest + file.read()).split("\n")
            if any(each.partition("] ")[2].startswith(line) for each in lines):
                return
            time.sleep(0.002)
    pytest.fail(f"labctl ended with {child.returncode} before Vagrant said {line!r}")
