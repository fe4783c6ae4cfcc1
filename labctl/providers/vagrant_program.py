"""The `vagrant` program (the only user of python-vagrant).

Imported when it is first needed: python-vagrant prints a warning on import where Vagrant is missing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import vagrant

from labctl.host import tool_environment
from labctl.host.process import failure, stream
from labctl.model.errors import ProviderError
from labctl.model.events import Progress

HEADLINE = re.compile(r"==> (?P<machine>[^:]+): (?P<text>.*)")
"""The lines of Vagrant's output that say what it does; the others say how."""
SETTING = " -- "
"""How a line begins that shows one of a machine's settings, of which there are twenty."""


class Vagrant(vagrant.Vagrant):  # type: ignore[misc]
    """python-vagrant that keeps Vagrant's whole output: by itself it sends stderr, and so every reason, to null."""

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        report: Progress,
        locks_held: tuple[int, ...] = (),
        *,
        in_parallel: bool = False,
        watch: Callable[[], object] | None = None,
    ) -> None:
        ours = {"VAGRANT_CHECKPOINT_DISABLE": "1", "LABCTL_UP": "1"}
        if not in_parallel:  # the docker provider's parallel `up` fails more often than not
            ours["VAGRANT_NO_PARALLEL"] = "1"
        super().__init__(root=folder, env=tool_environment.environment("vagrant", {**environment, **ours}))
        self.report = report
        self.watch = watch
        """Raises an error when Vagrant waits in vain; Vagrant does not notice a hypervisor that hangs."""
        self.locks_held = locks_held
        """Descriptors of files whose locks Vagrant holds as long as it runs, whatever becomes of labctl."""

    def up_all(self, names: Sequence[str], provider: str) -> None:
        """Start several machines in one call: each call of Vagrant costs 1.3 s, and `up` takes one name."""
        self._call_vagrant_command(["up", *names, f"--provider={provider}"])

    def _call_vagrant_command(self, args: Sequence[str | None]) -> None:
        # A machine that failed to boot is the evidence of why; Vagrant would destroy it.
        keep = ["--no-destroy-on-error"] if args[0] == "up" else []
        command = self._make_vagrant_command([*args, *keep])
        finished = stream(
            command, self._tell, env=self.env, cwd=Path(self.root), keep_open=self.locks_held, watch=self.watch
        )
        if finished.code != 0:
            hint = "Run the same command again to resume."
            error = ProviderError(f"`{shlex.join(command)}` failed", id="vagrant-failed", hint=hint)
            raise failure(error, finished.out)

    def _tell(self, line: str) -> None:
        if (headline := HEADLINE.fullmatch(line)) and not headline["text"].startswith(SETTING):
            self.report(f"{headline['machine']}: {headline['text']}")
