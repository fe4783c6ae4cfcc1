"""The `virsh` program, on the libvirt that LIBVIRT_DEFAULT_URI names, or on the system daemon."""

from __future__ import annotations

import os
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping

from labctl.host.libvirt import URI_VARIABLE, Network, network, uri, virsh
from labctl.host.process import Finished, failure, run
from labctl.model.errors import ProviderError

SECONDS = 30.0
"""How long libvirt may take to answer. It answers within milliseconds, unless it hangs or is starting."""
TRANSFER_SECONDS = 900.0
"""How long an upload or a download of an image may take."""
UNREACHABLE = (
    *("failed to connect to the hypervisor", "Cannot recv data", "client socket is closed"),
    "End of file while reading data",
)
"""What virsh prints if no daemon answers, or if the daemon has exited."""
HINT = (
    "Check `systemctl status libvirtd`, and that you are in group libvirt. Running machines are not affected. "
    "Then run the same command again to resume."
)


def vagrant(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for Vagrant, with the URI of the libvirt that this module uses."""
    return {**environment, URI_VARIABLE: uri(os.environ)}


def command_text(*arguments: str) -> str:
    """Return the command line of virsh, quoted for a shell."""
    return shlex.join(virsh(os.environ, *arguments))


def run_virsh(*arguments: str, seconds: float | None = None, stdin: bytes | None = None) -> Finished:
    """Run virsh and return its result. Raises ProviderError `libvirt-silent` or `libvirt-unreachable`."""
    limit = SECONDS if seconds is None else seconds
    try:
        finished = run(virsh(os.environ, *arguments), timeout=limit, stdin=stdin)
    except ProviderError as error:
        if error.id != "tool-timeout":
            raise
        message = f"libvirt ({uri(os.environ)}) did not answer within {limit:.0f} s: `virsh {shlex.join(arguments)}`"
        raise ProviderError(message, id="libvirt-silent", hint=HINT) from error
    if finished.code != 0 and any(each in line for line in finished.last_lines for each in UNREACHABLE):
        message = f"libvirt ({uri(os.environ)}) cannot be reached"
        raise ProviderError(message, id="libvirt-unreachable", hint=HINT, details=finished.last_lines)
    return finished


def check_virsh(*arguments: str, seconds: float | None = None, stdin: bytes | None = None) -> str:
    """Run virsh and return its output. Raises ProviderError as `run_virsh` does, or as `failure` returns it."""
    finished = run_virsh(*arguments, seconds=seconds, stdin=stdin)
    if finished.code != 0:
        error = ProviderError(f"`virsh {shlex.join(arguments)}` ended with exit code {finished.code}", id="tool-failed")
        raise failure(error, "\n".join(finished.last_lines))
    return finished.out


def names(*listing: str) -> frozenset[str]:
    """Return the names that a listing with `--name` prints, one on each line."""
    return frozenset(line.strip() for line in check_virsh(*listing).splitlines() if line.strip())


def networks() -> tuple[Network, ...]:
    """Return every network, active or not, sorted by name."""
    return tuple(network(element) for element in descriptions("net", names("net-list", "--all", "--name")))


def descriptions(kind: str, listed: frozenset[str]) -> Iterator[ET.Element]:
    """Return the descriptions of these networks (`net`) or domains (`dom`), without those removed meanwhile."""
    for name in sorted(listed):
        answer = run_virsh("dumpxml" if kind == "dom" else f"{kind}-dumpxml", name)
        if answer.code == 0:
            yield ET.fromstring(answer.out)  # noqa: S314 - libvirt's own daemon wrote it
