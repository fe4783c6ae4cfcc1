"""The `vagrant` program. No other module imports python-vagrant.

Import this module only when needed: python-vagrant prints a warning on import if Vagrant is missing.
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
"""The lines of Vagrant's output that name an action; the others are its details."""
SETTING = " -- "
"""The prefix of a line that shows one of a machine's twenty settings."""


class Vagrant(vagrant.Vagrant):  # type: ignore[misc]
    """python-vagrant that keeps Vagrant's whole output. By default it discards stderr, which has the reasons."""

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
        """Raises an error if Vagrant waits in vain; Vagrant does not notice a hypervisor that hangs."""
        self.locks_held = locks_held
        """Descriptors of locked files that Vagrant inherits, so that the locks outlive a killed labctl."""

    def up_all(self, names: Sequence[str], provider: str) -> None:
        """Start several machines in one Vagrant call, which takes 1.3 s; python-vagrant's `up` takes one name."""
        self._call_vagrant_command(["up", *names, f"--provider={provider}"])

    def _call_vagrant_command(self, args: Sequence[str | None]) -> None:
        # Keep a machine that failed to boot, since it shows why; Vagrant would destroy it.
        keep = ["--no-destroy-on-error"] if args[0] == "up" else []
        command = self._make_vagrant_command([*args, *keep])
        finished = stream(
            command,
            self._report_headline,
            env=self.env,
            cwd=Path(self.root),
            keep_open=self.locks_held,
            watch=self.watch,
        )
        if finished.code != 0:
            hint = "Run the same command again to resume."
            error = ProviderError(f"`{shlex.join(command)}` failed", id="vagrant-failed", hint=hint)
            raise failure(error, finished.out)

    def _report_headline(self, line: str) -> None:
        if (headline := HEADLINE.fullmatch(line)) and not headline["text"].startswith(SETTING):
            self.report(f"{headline['machine']}: {headline['text']}")
