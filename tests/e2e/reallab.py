"""A lab as its user sees it: the labctl command, and access to the lab's network that does not use labctl."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

LABCTL = Path(sys.executable).with_name("labctl")
COMMAND_SECONDS = 60.0
UP_SECONDS = 300.0
LOG_LINES = 40
engines: dict[Path, str] = {}
"""The address of each lab's Engine, by the lab's folder; kept because asking for it takes half a second."""
NOT_THE_USERS = ("DOCKER_HOST", "DOCKER_CONTEXT", "KUBECONFIG", "LABCTL_BUNDLE")
"""Variables that a developer may have set, and that a test's lab must not see."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has exited."""

    code: int
    out: str
    err: str

    def document(self) -> Any:  # noqa: ANN401 - any JSON
        return json.loads(self.out)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    def result(self) -> dict[str, Any]:
        return self.events()[-1]


@dataclass(frozen=True, slots=True)
class RealLab:
    """A lab: its name, the folder of its state, and the commands that enter its network and start labctl."""

    name: str
    state_home: Path
    way_in: tuple[str, ...]
    programs: Path
    """The folder of the bundle's programs."""
    up_options: tuple[str, ...] = ("--isolated", "--yes")
    launcher: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.state_home / "labctl" / self.name

    def arguments(self, *words: str) -> list[str]:
        return [*self.launcher, str(LABCTL), "--name", self.name, *words]

    def full_environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in NOT_THE_USERS}
        return {**kept, "XDG_STATE_HOME": str(self.state_home), **self.environment}

    def labctl(self, *words: str, code: int | None = 0, seconds: float = COMMAND_SECONDS) -> Ran:
        """Run labctl and require this exit code; None allows any."""
        ran = finished(self.arguments(*words), seconds, self.full_environment(), self.state_home)
        assert code in {None, ran.code}, f"labctl {' '.join(words)}: {self.explained(ran)}"
        return ran

    def up(self, *words: str, code: int = 0) -> Ran:
        return self.labctl("-o", "json", "up", *self.up_options, *words, code=code, seconds=UP_SECONDS)

    def status(self, code: int = 0) -> Any:  # noqa: ANN401 - JSON
        return self.labctl("status", "-o", "json", code=code).document()

    def inside(self, *command: str, code: int | None = 0) -> str:
        """Run a command in the lab's network without labctl, and return its stdout."""
        ran = finished([*self.way_in, *command], COMMAND_SECONDS, self.full_environment(), self.state_home)
        assert code in {None, ran.code}, f"{' '.join(command)}: {self.explained(ran)}"
        return ran.out

    def kubectl(self, *words: str) -> str:
        """Run the bundle's kubectl with the lab's kubeconfig, and return its stdout."""
        kubectl = (
            str(self.programs / "kubectl"),
            "--request-timeout=30s",
            f"--kubeconfig={self.folder / 'kubeconfig'}",
        )
        return self.inside(*kubectl, *words)

    def objects(self, *words: str) -> Any:  # noqa: ANN401 - Kubernetes' own JSON
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def page(self, url: str) -> tuple[int, str]:
        """Request a page in the lab's network; return its status, or 0 without an answer, and its body."""
        shown = self.inside("curl", "-s", "-m", "10", "-w", "\n%{http_code}", url, code=None)
        body, _, status = shown.rpartition("\n")
        return int(status), body

    def docker(self, *words: str, code: int | None = 0) -> str:
        """Run docker with the Engine of the lab's nodes, and return its stdout."""
        if self.folder not in engines:  # an Engine keeps its address across restarts
            engines[self.folder] = self.labctl("exec", "--", "printenv", "DOCKER_HOST").out.strip()
        return self.inside("docker", "--host", engines[self.folder], *words, code=code)

    def explained(self, ran: Ran) -> str:
        log = self.folder / "log"
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
        said = f"exit code {ran.code}\n--- stdout\n{ran.out}\n--- stderr\n{ran.err}"
        return f"{said}\n--- the end of {log}\n" + "\n".join(lines[-LOG_LINES:])


def isolated(name: str, state_home: Path, bundle: Path) -> RealLab:
    """Return a lab with its own network namespace, which need not exist yet."""
    return RealLab(name, state_home, ("ip", "netns", "exec", f"labctl-{name}"), bundle / "bin")


def eventually(ask: Callable[[], T], wanted: Callable[[T], bool], seconds: float = 60.0) -> T:
    """Ask until the answer is wanted, and return it. Fails after `seconds`."""
    end = time.monotonic() + seconds
    while not wanted(answer := ask()):
        assert time.monotonic() < end, f"after {seconds:.0f} s still {answer!r}"
        time.sleep(0.5)
    return answer


def run(*command: str, code: int | None = 0, seconds: float = COMMAND_SECONDS) -> str:
    """Run a command on this machine, require this exit code, and return its stdout."""
    ran = finished(list(command), seconds)
    assert code in {None, ran.code}, f"{' '.join(command)}: exit code {ran.code}\n{ran.out}\n{ran.err}"
    return ran.out


def finished(
    line: list[str], seconds: float, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> Ran:
    ended = subprocess.run(
        line,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return Ran(ended.returncode, ended.stdout, ended.stderr)
