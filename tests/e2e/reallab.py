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
"""The address of each lab's Engine, by the lab's folder; cached because the query takes half a second."""
HIDDEN_VARIABLES = ("DOCKER_HOST", "DOCKER_CONTEXT", "KUBECONFIG", "LABCTL_BUNDLE")
"""Variables that a developer may have set, and that a test's lab must not see."""


@dataclass(frozen=True, slots=True)
class Completed:
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
    enter_command: tuple[str, ...]
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
        visible = {name: value for name, value in os.environ.items() if name not in HIDDEN_VARIABLES}
        return {**visible, "XDG_STATE_HOME": str(self.state_home), **self.environment}

    def labctl(self, *words: str, code: int | None = 0, seconds: float = COMMAND_SECONDS) -> Completed:
        """Run labctl and require this exit code; None allows any."""
        completed = execute(self.arguments(*words), seconds, self.full_environment(), self.state_home)
        assert code in {None, completed.code}, f"labctl {' '.join(words)}: {self.explain(completed)}"
        return completed

    def up(self, *words: str, code: int = 0) -> Completed:
        return self.labctl("-o", "json", "up", *self.up_options, *words, code=code, seconds=UP_SECONDS)

    def status(self, code: int = 0) -> Any:  # noqa: ANN401 - JSON
        return self.labctl("status", "-o", "json", code=code).document()

    def inside(self, *command: str, code: int | None = 0) -> str:
        """Run a command in the lab's network without labctl, and return its stdout."""
        completed = execute([*self.enter_command, *command], COMMAND_SECONDS, self.full_environment(), self.state_home)
        assert code in {None, completed.code}, f"{' '.join(command)}: {self.explain(completed)}"
        return completed.out

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
        response = self.inside("curl", "-s", "-m", "10", "-w", "\n%{http_code}", url, code=None)
        body, _, status = response.rpartition("\n")
        return int(status), body

    def docker(self, *words: str, code: int | None = 0) -> str:
        """Run docker with the Engine of the lab's nodes, and return its stdout."""
        if self.folder not in engines:  # an Engine keeps its address across restarts
            engines[self.folder] = self.labctl("exec", "--", "printenv", "DOCKER_HOST").out.strip()
        return self.inside("docker", "--host", engines[self.folder], *words, code=code)

    def explain(self, completed: Completed) -> str:
        log = self.folder / "log"
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
        output = f"exit code {completed.code}\n--- stdout\n{completed.out}\n--- stderr\n{completed.err}"
        return f"{output}\n--- the end of {log}\n" + "\n".join(lines[-LOG_LINES:])


def isolated(name: str, state_home: Path, bundle: Path) -> RealLab:
    """Return a lab with its own network namespace, which need not exist yet."""
    return RealLab(name, state_home, ("ip", "netns", "exec", f"labctl-{name}"), bundle / "bin")


def eventually(probe: Callable[[], T], accepts: Callable[[T], bool], seconds: float = 60.0) -> T:
    """Call `probe` until its result is accepted, and return the result. Fail after `seconds`."""
    end = time.monotonic() + seconds
    while not accepts(result := probe()):
        assert time.monotonic() < end, f"after {seconds:.0f} s still {result!r}"
        time.sleep(0.5)
    return result


def run(*command: str, code: int | None = 0, seconds: float = COMMAND_SECONDS) -> str:
    """Run a command on this machine, require this exit code, and return its stdout."""
    completed = execute(list(command), seconds)
    assert code in {None, completed.code}, (
        f"{' '.join(command)}: exit code {completed.code}\n{completed.out}\n{completed.err}"
    )
    return completed.out


def execute(
    line: list[str], seconds: float, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> Completed:
    process = subprocess.run(
        line,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return Completed(process.returncode, process.stdout, process.stderr)
