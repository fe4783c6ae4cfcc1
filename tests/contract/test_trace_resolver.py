"""The hop `name` in a test namespace: glibc's resolver, the kernel's connections, and the printed commands."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from fakes import ADDRESS, FakeCluster, FakeProvider, with_fakes
from tracing import BIND, exit_code_of_new_process, mount, unshare_mounts, unshare_network

from labctl.config import saved_lab
from labctl.context import Context
from labctl.doctor import CHECKS, examine
from labctl.host.machine import Machine as ThisMachine
from labctl.host.other_addresses import CONNECT_SECONDS
from labctl.host.process import check
from labctl.host.resolver import RESOLVE_SECONDS
from labctl.trace.name import name as name_hop
from labctl.trace.probes.client import Client
from labctl.trace.problem import Evidence, ProblemError
from labctl.trace.trail import Trail

pytestmark = pytest.mark.root

HOST = "my-app.local"
BUSY_SECONDS = 10.0
"""Extra time for a check on a busy machine; a check without a time limit would take much longer."""
MACHINE = "192.168.56.1"
LINE = f"{ADDRESS} {HOST}"
BLOCK = f"# BEGIN labctl demo\n{LINE}\n# END labctl demo\n"
OTHERS = BLOCK.replace("demo", "second").replace(ADDRESS, MACHINE)
LOCALHOST = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n"
ORDER = "hosts: files\n"
SYNC = f"""#!{sys.executable}
import sys
from ipaddress import IPv4Address
from pathlib import Path
from labctl.host import hosts_file
assert sys.argv[1:] == "--name demo hosts sync".split(), sys.argv
hosts_file.sync(Path("/etc/hosts"), "demo", {{"{HOST}": IPv4Address("{ADDRESS}")}}, backup=Path("/run/before"))
"""
"""A replacement for labctl, which has no API server here; it writes the file as labctl does."""
DOCTOR_CHECKS = {
    cause: [check for check in CHECKS if check.id == identity]
    for cause, identity in {
        "hosts-entry-shadowed": "hosts-shadows",
        "hosts-entry-doubled": "hosts-shadows",
        "hosts-entry-of-another-lab": "hosts-other-labs",
        "hosts-file-unreadable": "hosts-file",
        "hosts-file-not-read": "name-order",
        "hosts-damaged": "hosts-block",
        "proxy-in-the-way": "proxy",
    }.items()
}
"""doctor's check for each cause."""
listening: list[socket.socket] = []
"""Sockets on which the kernel accepts connections and no program answers."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine's files and listeners, the expected report on the name, and the hosts file after the commands."""

    hosts: str
    state: str
    cause: str | None = None
    after: str | None = None
    """The hosts file after the printed commands; None if there are none and the file stays."""
    left: str | None = None
    """The cause that remains afterwards, which only the users of another lab can fix."""
    listeners: Sequence[str] = ()
    nsswitch: str = ORDER
    host_conf: str = "multi on\n"
    mode: int = 0o644
    others: Sequence[tuple[str, str | None]] | None = None
    """Foreign addresses, each with the result of a connection to it."""
    observations: int = 2
    has_ipv6: bool = True
    serves_names: Callable[[socket.socket], object] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    ahead: str = ""
    """doctor's state, if it differs: it also predicts what the next `up` of another lab will do."""


def _silent(server: socket.socket) -> None:
    """A name server that does not answer."""
    while True:
        server.recv(512)


def _lying(server: socket.socket) -> None:
    """A name server with the same IPv4 address for every name, and no IPv6 address."""
    while True:
        query, client = server.recvfrom(512)
        question = query[12 : query.index(b"\0", 12) + 5]
        has_answer = question[-4:-2] == b"\0\1"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + ip_address(MACHINE).packed if has_answer else b""
        server.sendto(query[:2] + b"\x81\x80\0\1\0" + bytes([has_answer]) + b"\0\0\0\0" + question + answer, client)


MACHINES = {
    "labctl's line": Machine(LOCALHOST + BLOCK, "ok"),
    "a line of the user's own": Machine(f"{LINE}\n", "ok"),
    "tabs, upper case, an alias and CRLF": Machine(f"\t{ADDRESS}\tother  My-App.LOCAL \t# mine\r\n", "ok"),
    "the right line twice": Machine(f"{LINE}\n{BLOCK}{LINE}\n", "ok"),
    "the same address, written as IPv6": Machine(f"{BLOCK}::ffff:{ADDRESS} {HOST}\n", "ok"),
    "nothing": Machine("", "broken", "hosts-entry-missing", BLOCK),
    "other names, and the last line cut off": Machine(
        LOCALHOST + f"{ADDRESS} not-{HOST}",
        "broken",
        "hosts-entry-missing",
        f"{LOCALHOST}{ADDRESS} not-{HOST}\n{BLOCK}".removesuffix("\n"),
    ),
    "a line that is commented out": Machine(f"# {LINE}\n", "broken", "hosts-entry-missing", f"# {LINE}\n{BLOCK}"),
    "a name that ends in a dot": Machine(f"{LINE}.\n", "broken", "hosts-entry-missing", f"{LINE}.\n{BLOCK}"),
    "a blank that is none": Machine(
        f"{ADDRESS}\u00a0{HOST}\n", "broken", "hosts-entry-missing", f"{ADDRESS}\u00a0{HOST}\n{BLOCK}"
    ),
    "a wrong address in labctl's line": Machine(
        LOCALHOST + BLOCK.replace(ADDRESS, MACHINE), "broken", "hosts-entry-outdated", LOCALHOST + BLOCK
    ),
    "a line of IPv6 where nobody listens": Machine(
        f"{BLOCK}::1 {HOST}\n",
        "warning",
        "hosts-entry-doubled",
        f"{BLOCK}# ::1 {HOST}\n",
        others=[("::1", "refused")],
    ),
    "a line of IPv6 before labctl's": Machine(
        f"::1 {HOST}\n{BLOCK}", "warning", "hosts-entry-doubled", f"# ::1 {HOST}\n{BLOCK}"
    ),
    "a line of IPv6 where somebody listens": Machine(
        f"{BLOCK}::1 {HOST}\n",
        "broken",
        "hosts-entry-shadowed",
        f"{BLOCK}# ::1 {HOST}\n",
        listeners=["::1"],
        others=[("::1", "connected")],
    ),
    "a line of IPv6 that is 127.0.0.1 to programs without IPv6": Machine(
        f"{BLOCK}::1 {HOST}\n",
        "broken",
        "hosts-entry-shadowed",
        f"{BLOCK}# ::1 {HOST}\n",
        listeners=["127.0.0.1"],
        others=[("::1", "refused"), ("127.0.0.1", "connected")],
        has_ipv6=False,
    ),
    "the names of IPv6's localhost": Machine(
        f"127.0.0.1 localhost\n::1 localhost {HOST} ip6-localhost\n{BLOCK}",
        "warning",
        "hosts-entry-doubled",
        f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n{BLOCK}",
    ),
    "a private address of IPv6": Machine(
        f"{BLOCK}fd00::1 {HOST}\n",
        "warning",
        "hosts-entry-doubled",
        f"{BLOCK}# fd00::1 {HOST}\n",
        others=[("fd00::1", None)],
    ),
    "an address of IPv6 on the network that nobody has": Machine(
        f"{BLOCK}2001:db8::77 {HOST}\n",
        "warning",
        "hosts-entry-doubled",
        f"{BLOCK}# 2001:db8::77 {HOST}\n",
        others=[("2001:db8::77", "silent")],
    ),
    "an address of this machine where nobody listens": Machine(
        f"{BLOCK}{MACHINE} {HOST}\n",
        "warning",
        "hosts-entry-doubled",
        f"{BLOCK}# {MACHINE} {HOST}\n",
        others=[(MACHINE, "refused")],
    ),
    "an address of this machine where somebody listens": Machine(
        f"{BLOCK}{MACHINE} {HOST}\n",
        "broken",
        "hosts-entry-shadowed",
        f"{BLOCK}# {MACHINE} {HOST}\n",
        listeners=[MACHINE],
    ),
    "an address that nobody has, before the right one": Machine(
        f"192.168.56.77 {HOST}\n{BLOCK}",
        "broken",
        "hosts-entry-shadowed",
        f"# 192.168.56.77 {HOST}\n{BLOCK}",
        others=[("192.168.56.77", "silent")],
        observations=5,  # the kernel gives up after three seconds, then asks again
    ),
    "a second line, which glibc passes over": Machine(
        f"{BLOCK}::1 {HOST}\n", "warning", "hosts-entry-doubled", f"{BLOCK}# ::1 {HOST}\n", host_conf=""
    ),
    "a first line, for which glibc passes over the right one": Machine(
        f"{MACHINE} {HOST}\n{BLOCK}", "broken", "hosts-entry-shadowed", f"# {MACHINE} {HOST}\n{BLOCK}", host_conf=""
    ),
    "the same, written as IPv6": Machine(
        f"::ffff:192.168.56.77 {HOST}\n",
        "broken",
        "hosts-entry-shadowed",
        f"# ::ffff:192.168.56.77 {HOST}\n{BLOCK}",
        others=[("192.168.56.77", None)],
    ),
    "an address that nobody has, after the right one": Machine(
        f"{BLOCK}192.168.56.77 {HOST}\n",
        "warning",
        "hosts-entry-doubled",
        f"{BLOCK}# 192.168.56.77 {HOST}\n",
        others=[("192.168.56.77", None)],
    ),
    "other names, twice the name, a comment and CRLF in the line": Machine(
        f"192.168.56.77\ta.local {HOST} My-App.LOCAL\tb.{HOST} # {HOST}\r\n{BLOCK}",
        "broken",
        "hosts-entry-shadowed",
        f"192.168.56.77\ta.local\tb.{HOST} # {HOST}\r\n{BLOCK}",
    ),
    "nothing but the name, twice, and a comment right behind": Machine(
        f" 192.168.56.77 {HOST}\t{HOST}#x\n{BLOCK}",
        "broken",
        "hosts-entry-shadowed",
        f"#  192.168.56.77 {HOST}\t{HOST}#x\n{BLOCK}",
    ),
    "the same strange address twice, and no right one": Machine(
        f"{MACHINE} {HOST}\n{MACHINE} a.local {HOST}\n",
        "broken",
        "hosts-entry-shadowed",
        f"# {MACHINE} {HOST}\n{MACHINE} a.local\n{BLOCK}",
    ),
    "a strange line, and a wrong address in labctl's": Machine(
        f"{MACHINE} {HOST}\n{BLOCK.replace(ADDRESS, '192.168.56.99')}",
        "broken",
        "hosts-entry-shadowed",
        f"# {MACHINE} {HOST}\n{BLOCK}",
    ),
    "the block of another lab in front": Machine(
        OTHERS + BLOCK, "broken", "hosts-entry-of-another-lab", listeners=[MACHINE]
    ),
    "the block of another lab that does not run": Machine(
        OTHERS + BLOCK, "warning", "hosts-entry-of-another-lab", ahead="broken"
    ),
    "a block without its end": Machine(
        f"a\n# BEGIN labctl demo\n{LINE}\n10.0.0.1 b.local\n",
        "broken",
        "hosts-damaged",
        f"a\n10.0.0.1 b.local\n{BLOCK}",
    ),
    "a block without its end, and a wrong address in it": Machine(
        f"# BEGIN labctl demo\n{MACHINE} {HOST}\n10.0.0.1 b.local\n",
        "broken",
        "hosts-entry-outdated",
        f"10.0.0.1 b.local\n{BLOCK}",
    ),
    "two ends, and no name": Machine("# END labctl demo\n# END labctl demo\n", "broken", "hosts-entry-missing", BLOCK),
    "another lab's block without its end": Machine(
        f"{BLOCK}# BEGIN labctl second\n10.0.0.1 b.local\n", "broken", "hosts-damaged"
    ),
    "another lab's block without its end, and no name": Machine(
        "# BEGIN labctl second\n10.0.0.1 b.local\n# BEGIN labctl third\n",
        "broken",
        "hosts-entry-missing",
        f"# BEGIN labctl second\n10.0.0.1 b.local\n# BEGIN labctl third\n{LINE}\n",
        left="hosts-damaged",
    ),
    "a file that only root may read": Machine(BLOCK, "warning", "hosts-file-unreadable", BLOCK, mode=0o600),
    "a resolver that does not read the file": Machine(
        BLOCK, "broken", "hosts-file-not-read", BLOCK, nsswitch="hosts: dns\n"
    ),
    "a resolver that goes on after the file": Machine(
        BLOCK, "broken", "hosts-file-not-read", BLOCK, nsswitch="passwd: files\nhosts:\tfiles [SUCCESS=merge] dns # x\n"
    ),
    "a name server before the file": Machine(
        BLOCK, "broken", "hosts-file-not-read", BLOCK, nsswitch="hosts: dns files\n", serves_names=_lying
    ),
    "a name server that does not answer before the file": Machine(
        BLOCK, "broken", "hosts-file-not-read", BLOCK, nsswitch="hosts:dns files\n", serves_names=_silent
    ),
    "a name server that knows the name elsewhere": Machine(
        "", "broken", "name-resolves-elsewhere", BLOCK, nsswitch="hosts: files dns\n", serves_names=_lying
    ),
    "a name server that does not answer after the file": Machine(
        "", "broken", "hosts-entry-missing", BLOCK, nsswitch="hosts: files dns\n", serves_names=_silent
    ),
    "a proxy that does not serve": Machine(
        BLOCK, "warning", "proxy-in-the-way", BLOCK, environment={"http_proxy": "http://127.0.0.1:9", "NO_PROXY": "a.b"}
    ),
}


PLACES = {
    "file": tuple(MACHINES),
    "mounted": ("nothing", "a line of IPv6 where nobody listens", "a block without its end"),
    "isolated": (
        "nothing",
        "a line of IPv6 where nobody listens",
        "other names, twice the name, a comment and CRLF in the line",
        "a strange line, and a wrong address in labctl's",
        "the block of another lab in front",
        "a block without its end, and a wrong address in it",
        "another lab's block without its end, and no name",
        "a file that only root may read",
        "a resolver that does not read the file",
    ),
}
"""The kind of hosts file: an ordinary file, a bind mount, or the file of an isolated lab; with the machines to try."""


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in PLACES.items() for name in names])
def test_the_report_on_a_name_is_correct_and_the_printed_commands_fix_it(
    context: Context, cluster: FakeCluster, tmp_path: Path, kind: str, name: str
) -> None:
    assert exit_code_of_new_process(_check_report_and_commands, context, cluster, tmp_path, kind, name) == 0


def _check_report_and_commands(context: Context, cluster: FakeCluster, folder: Path, kind: str, name: str) -> None:
    machine = MACHINES[name]
    trail = _enter(machine, folder, _lab(context, cluster, isolated=kind == "isolated"), kind)
    for _ in range(machine.observations):
        began = time.monotonic()
        state, cause, commands, evidence = _observe(trail)
        assert time.monotonic() - began < RESOLVE_SECONDS + CONNECT_SECONDS + BUSY_SECONDS
        assert (state, cause) == (machine.state, machine.cause)
    if machine.others is not None:
        assert [(each["address"], each["connection"]) for each in evidence["others"]] == machine.others
    assert bool(commands) == (machine.after is not None)
    if kind == "file" and machine.cause in DOCTOR_CHECKS:
        check = DOCTOR_CHECKS[machine.cause]
        saved_lab.write(trail.context.folder, saved_lab.SavedLab(trail.lab, isolated=False))
        assert {each.check.id: each.finding.state for each in examine(trail.context, ThisMachine(), check)} == {
            check[0].id: machine.ahead or machine.state
        }

    _run_commands(commands)

    assert trail.hosts.read_bytes() == (machine.after or machine.hosts).encode()
    assert Path("/etc/hosts").read_bytes() == trail.hosts.read_bytes()
    if commands and not machine.environment:
        assert _observe(trail)[1] == machine.left


def _lab(context: Context, cluster: FakeCluster, *, isolated: bool) -> Context:
    status = {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}}
    cluster.put(
        "v1", "Service", "ingress-nginx-controller", "ingress-nginx", spec={"type": "LoadBalancer"}, status=status
    )
    lab = replace(context.lab, hosts_file=Path("/etc/hosts"))
    return with_fakes(replace(context, lab=lab, isolated=isolated), FakeProvider(), cluster, context.bundle)


def _enter(machine: Machine, folder: Path, context: Context, kind: str) -> Trail:
    """Move this process to the machine, with a hosts file of this kind."""
    unshare_mounts()
    unshare_network()
    etc, bin_folder = folder / "etc", folder / "bin"
    own = etc / "netns" / "labctl-demo"
    own.mkdir(parents=True)
    bin_folder.mkdir()
    for each in ("passwd", "group", "ld.so.cache"):
        shutil.copy(Path("/etc", each), etc)
    (etc / "resolv.conf").write_text("nameserver 127.0.0.53\n")
    (etc / "host.conf").write_text(machine.host_conf)
    (etc / "nsswitch.conf").write_text(machine.nsswitch)
    (etc / "hosts").write_text(machine.hosts if kind == "file" else LOCALHOST)
    (own / "hosts").write_text(machine.hosts)
    (own / "nsswitch.conf").write_text(machine.nsswitch)
    (bin_folder / "labctl").write_text(SYNC)
    (bin_folder / "labctl").chmod(0o755)
    for file in (etc / "hosts", own / "hosts"):
        file.chmod(machine.mode)
    mount("none", Path("/run"), "tmpfs")
    mount(etc, Path("/etc"), flags=BIND)
    bound = ("hosts", "nsswitch.conf") if kind == "isolated" else ("hosts",) if kind == "mounted" else ()
    for each in bound:
        mount(Path("/etc/netns/labctl-demo", each), Path("/etc", each), flags=BIND)
    os.environ.update({**machine.environment, "PATH": f"{bin_folder}:{os.environ['PATH']}"})
    _connect(machine)
    return Trail(context, Client(), HOST, "/", context.cluster)


def _connect(machine: Machine) -> None:
    check(["ip", "link", "set", "lo", "up"])
    check(["ip", "link", "add", "lan", "type", "bridge"])
    if not machine.has_ipv6:
        check(["ip", "link", "set", "lan", "addrgenmode", "none"])
    check(["ip", "address", "add", f"{MACHINE}/24", "dev", "lan"])
    check(["ip", "link", "set", "lan", "up"])
    if machine.has_ipv6:
        check(["ip", "address", "add", "2001:db8::1/64", "dev", "lan", "nodad"])
    for address in machine.listeners:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listening.append(socket.create_server((address, 80), family=family))
    if machine.serves_names:
        names_server = socket.socket(type=socket.SOCK_DGRAM)
        names_server.bind(("127.0.0.53", 53))
        threading.Thread(target=machine.serves_names, args=[names_server], daemon=True).start()


def _observe(trail: Trail) -> tuple[str, str | None, tuple[str, ...], Evidence]:
    try:
        evidence = name_hop.name(trail)
    except ProblemError as problem:
        return problem.state, problem.cause, problem.commands or (), problem.evidence
    return "ok", None, (), evidence


def _run_commands(commands: Sequence[str]) -> None:
    for command in commands:
        finished = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=20, check=False)
        assert (finished.returncode, finished.stderr) == (0, ""), f"{command}: {finished.stderr}"
