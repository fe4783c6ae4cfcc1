"""The checks' view of the machine; tests replace it by a recorded one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from labctl.host import arp
from labctl.host.arp import Route
from labctl.host.http_probe import Address
from labctl.host.paths import content
from labctl.host.process import Finished, run
from labctl.host.resolver import HOSTS, resolve
from labctl.host.tcp_connect import ConnectResult, connect_settled
from labctl.model.errors import ProviderError

TOOL_SECONDS = 10.0
ANSWER_SECONDS = 3.0
PROCESSES = Path("/proc")
INOTIFY = "anon_inode:inotify"


class Machine:
    """The current state of the machine. Whatever is missing is None or empty, never an error."""

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of this process."""
        return os.environ

    @property
    def platform(self) -> str:
        """The system, as `sys.platform` names it."""
        return sys.platform

    @property
    def is_root(self) -> bool:
        """Return whether this process runs as root."""
        return os.geteuid() == 0

    @property
    def may_isolate(self) -> bool:
        """Return whether this user can create isolated labs."""
        return self.platform == "linux" and self.is_root

    def has(self, program: str) -> bool:
        """Return whether the program is on PATH."""
        return shutil.which(program) is not None

    def path_of(self, program: str) -> str:
        """Return the path of the program; empty if it is not on PATH."""
        return shutil.which(program) or ""

    def run(self, *line: str) -> Finished | None:
        """Return a tool's result; None if it is not installed. A tool that exceeds the time limit has failed."""
        if not self.has(line[0]):
            return None
        try:
            return run(line, timeout=TOOL_SECONDS)
        except ProviderError as error:
            return Finished(-1, "", (error.message,))

    def read(self, path: Path) -> str | None:
        """Return the text of a file with invalid UTF-8 replaced; None if it cannot be read."""
        try:
            return content(path).decode(errors="replace")
        except OSError:
            return None

    def names(self, folder: Path) -> tuple[str, ...]:
        """Return the sorted names in a folder; none if it does not exist."""
        try:
            return tuple(sorted(path.name for path in folder.iterdir()))
        except OSError:
            return ()

    def may_write(self, path: Path) -> bool:
        """Return whether this user may write the file or folder."""
        return os.access(path, os.W_OK)

    def open_error(self, device: Path) -> str:
        """Return why this user cannot open the device for reading and writing; empty if that is possible."""
        try:
            os.close(os.open(device, os.O_RDWR))
        except OSError as error:
            return error.strerror or type(error).__name__
        return ""

    def free_space(self, path: Path) -> int:
        """Return the free bytes on the file system of a path, which need not exist."""
        existing = next(folder for folder in (path, *path.parents) if os.path.exists(folder))  # noqa: PTH110 - Path.exists raises PermissionError
        return shutil.disk_usage(existing).free

    def inotify_of_root(self) -> tuple[int, int] | None:
        """Return how many inotify instances and watches root's processes hold; None if this user may not see that."""
        if not self.is_root:
            return None
        held = [watches for process in PROCESSES.glob("[0-9]*") for watches in _watches(process)]
        return len(held), sum(held)

    def answering(self, addresses: Collection[IPv4Address], route: Route) -> frozenset[IPv4Address]:
        """Return which of the addresses on the route's network answer ARP; takes up to 2.3 s."""
        try:
            answers = arp.query(addresses, route)
        except OSError:  # the interface went down, or a packet filter rejects the request
            return frozenset()
        return frozenset(address for address, macs in answers.items() if macs)

    def resolver_reads(self, hosts: Path) -> bool:
        """Return whether the system's resolver reads this hosts file."""
        return hosts == HOSTS

    def resolve(self, hostname: str) -> Sequence[Address]:
        """Return a name's addresses in the order in which browsers try them; none if the resolver does not answer."""
        return resolve(hostname)

    def connect(self, addresses: Sequence[Address], seconds: float) -> Mapping[Address, ConnectResult]:
        """Connect once to port 80 of each of the addresses, as a browser would, and return the outcomes."""
        return connect_settled(addresses, seconds)

    def unreachable(self, url: str) -> str:
        """Return why no server answers at this URL, by way of the user's proxies; empty if one does."""
        import http.client  # noqa: PLC0415 - two checks need it, and every command imports this module
        import urllib.error  # noqa: PLC0415 - the same
        import urllib.request  # noqa: PLC0415 - the same

        try:
            request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - http(s) out of the clients' configuration
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS):  # noqa: S310 - the same
                return ""
        except urllib.error.HTTPError:
            return ""
        except urllib.error.URLError as error:
            return str(error.reason)
        except (OSError, ValueError, http.client.HTTPException) as error:  # the last: the server does not speak HTTP
            return str(error) or type(error).__name__


def _watches(process: Path) -> Iterator[int]:
    """Yield the watches of each inotify instance of a process; none if it is not root's, or has exited meanwhile."""
    try:
        if process.stat().st_uid != 0:
            return
        for descriptor in os.listdir(process / "fd"):  # noqa: PTH208 - thousands of entries, whose names are enough
            if os.readlink(f"{process}/fd/{descriptor}") == INOTIFY:  # noqa: PTH115 - the same
                yield (process / "fdinfo" / descriptor).read_text(encoding="ascii").count("inotify wd:")
    except OSError:
        return
