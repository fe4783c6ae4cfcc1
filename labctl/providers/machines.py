"""The common part of nodes that are virtual machines: a power button, a serial console, and commands over SSH."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from labctl.host import lab_folder
from labctl.host.process import LAST_LINES, last_lines
from labctl.host.wait import Pending, throttled, until
from labctl.model.errors import NotReadyError, ProviderError
from labctl.model.events import Progress
from labctl.model.lab import Lab, Node
from labctl.providers.protocol import CONSOLE, PAUSED, RESUMES, NodeFailure
from labctl.providers.vagrant import VagrantProvider, journal

GONE = "it does not exist"
RESUMES_MACHINE = f"{RESUMES} If a full disk of this machine paused it, free space there first."
LOOK_SECONDS = 0.5
PRESS_SECONDS = 10.0
"""How often to press the power button: a machine that is still booting ignores it."""
NO_CONNECTION = 255
"""ssh's exit code if it could not run the command."""
CONTROL = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(\x07|\x1b\\)?|[ -/]*[0-~])|[\x00-\x08\x0b-\x1f]")
"""What is not text in a console's output: control sequences of terminals, and other control characters."""


class MachineProvider(VagrantProvider):
    """Nodes that are machines of a hypervisor, which reports their states and presses their power buttons."""

    def __init__(self, lab: Lab, folder: Path, hypervisor: str, environment: Mapping[str, str]) -> None:
        super().__init__(folder, hypervisor, environment, lab.limits)
        self.lab = lab

    def collect_logs(self, node: Node, units: Sequence[str], lines: int = LAST_LINES) -> Mapping[str, tuple[str, ...]]:
        """Return the last lines of units that can be read, and of the machine's console, which needs no SSH."""
        logs = {CONSOLE: self._console(node, lines)}
        for unit in units:
            try:
                answer = self.run(node, journal(unit, lines), self.limits.node_log)
            except ProviderError:
                break  # the node does not answer, and will not for the next unit
            if answer.code == NO_CONNECTION:
                break
            logs[unit] = last_lines(answer.out, lines) if answer.code == 0 else answer.last_lines
        return logs

    def failure(self, node: Node) -> NodeFailure | None:
        """Return a NodeFailure if the node's machine does not run, or its labctl-node unit has failed."""
        if state := self._state(node.name):
            text = f"the machine of node {node.name} is not running: {state}"
            return NodeFailure(is_running=False, text=text, hint=RESUMES_MACHINE if state.startswith(PAUSED) else "")
        return super().failure(node)

    def _active(self) -> frozenset[str]:
        """Return the names of machines that are not off, including the lab's."""
        raise NotImplementedError

    def _state(self, name: str) -> str:
        """Return the state of a machine that does not run, as the hypervisor names it; empty if it runs."""
        raise NotImplementedError

    def _press_power_button(self, name: str) -> None:
        """Press the power button of a machine; it may be off by now."""
        raise NotImplementedError

    def _shut_down(self, names: Collection[str], report: Progress) -> None:
        """Press the power button of the machines until all are off, or the time limit is reached."""

        def press() -> None:
            for name in sorted(self._active().intersection(names)):
                self._press_power_button(name)

        def left() -> Pending | None:
            again()
            there = sorted(self._active().intersection(names))
            return Pending(", ".join(there)) if there else None

        press()
        again = throttled(press, PRESS_SECONDS)
        try:
            until(left, what="the shutdown of machines", timeout=self.limits.shutdown, interval=LOOK_SECONDS)
        except NotReadyError as error:
            report(f"{error.message}; powering off")

    def _console(self, node: Node, lines: int) -> tuple[str, ...]:
        """Return the last lines of the machine's serial console; none if its file is missing or not readable."""
        try:
            written = (self.folder / lab_folder.console(node.name)).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ()
        return last_lines(CONTROL.sub("", written), lines)
