"""Environment variables that redirect labctl's tools, and those that labctl ignores."""

from __future__ import annotations

from labctl.context import Context
from labctl.doctor.finding import Finding, ok, warning
from labctl.host.machine import Machine
from labctl.host.tool_environment import TOOLS

PREFIXES = ("DOCKER_", "VAGRANT_", "BUILDKIT_")
FOLLOWED = ("LABCTL_", "XDG_STATE_HOME", "XDG_CACHE_HOME")


def check_environment(context: Context, machine: Machine) -> Finding:
    """Check that no variable selects another Docker Engine than this machine's own."""
    names = sorted(name for name, value in machine.environment.items() if value)
    engine = [name for name in names if name in TOOLS["docker"]]
    left_out = [name for name in names if name.startswith(PREFIXES) and name not in engine]
    followed = [name for name in names if name.startswith(FOLLOWED)]
    remarks = [f"used by labctl: {', '.join(followed)}"] if followed else []
    remarks += [f"ignored: {', '.join(left_out)}"] if left_out else []
    if engine and not context.isolated:
        remarks.insert(0, f"selecting the Docker Engine: {', '.join(engine)}")
        return warning("; ".join(remarks), f"To use this machine's own Engine: `unset {' '.join(engine)}`.")
    remarks += [f"ignored, because the lab has its own Engine: {', '.join(engine)}"] if engine else []
    return ok("; ".join(remarks) or "no variable selects another Engine")
