"""Tests of the hop to the name. Its commands are run in `tests/contract`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from types import MappingProxyType

import pytest
import recorded_machine
from fakes import ADDRESS, FakeCluster, FakeProvider, with_doors

from labctl.config import saved_lab
from labctl.context import Context
from labctl.host import lab_folder, nsswitch, paths
from labctl.host.http_probe import HTTP, Address
from labctl.host.knock import Knock, Outcome
from labctl.host.other_addresses import KNOCK_SECONDS
from labctl.host.resolver import RESOLVE_SECONDS
from labctl.model.errors import NotReadyError
from labctl.model.kinds import ROUTE
from labctl.trace.name import absence, hosts_edits, name, surroundings
from labctl.trace.probes.client import Client
from labctl.trace.problem import ProblemError
from labctl.trace.trail import Trail

HOST = "my-app.local"
BLOCK = f"# BEGIN labctl demo\n{ADDRESS} {HOST}\n# END labctl demo\n"
SECOND = f"# BEGIN labctl second\n192.168.56.77 {HOST}\n# END labctl second\n"
SYNC = "labctl --name demo hosts sync"
UP = "labctl --name demo up"


class Machine(Client):
    """A machine for which a test sets the resolver's answers and the outcome of connections."""

    hosts = Path()
    environment: Mapping[str, str] = MappingProxyType({})

    def __init__(self, hosts: Path) -> None:
        self.hosts = hosts
        self.found: Sequence[str] = (ADDRESS,)
        self.seconds = 0.001
        self.knocks: Mapping[str, str] = {}
        self.knocked: list[str] = []

    @property
    def nsswitch(self) -> Path:
        return self.hosts.with_name("nsswitch.conf")

    @property
    def is_root(self) -> bool:
        return True

    def resolve(self, hostname: str, limit: float = RESOLVE_SECONDS) -> tuple[list[Address], float]:  # noqa: ARG002 - the tests resolve one name
        return list(map(ip_address, self.found)), self.seconds

    def is_mounted(self, file: Path) -> bool:  # noqa: ARG002 - no file is mounted
        return False

    def knock(self, addresses: Sequence[Address], seconds: float, port: int = HTTP) -> dict[Address, Knock]:
        assert 0 < seconds <= KNOCK_SECONDS
        self.knocked += [f"{address}:{port}" for address in addresses]
        return {each: Knock(self.knocks.get(str(each), "refused")) for each in addresses}  # type: ignore[arg-type]


@pytest.fixture
def trail(context: Context, cluster: FakeCluster) -> Trail:
    """A request for the app of the default lab, on a machine whose hosts file has the app's line."""
    status = {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}}
    cluster.put("v1", "Service", "ingress-nginx-controller", "ingress-nginx", status=status)
    context.lab.hosts_file.write_text(BLOCK)
    return Trail(context, Machine(context.lab.hosts_file), HOST, "/", context.cluster)


def isolated(trail: Trail) -> Context:
    context = replace(trail.context, isolated=True)
    return with_doors(context, FakeProvider(), trail.cluster, trail.context.bundle)


def machine(trail: Trail) -> Machine:
    assert isinstance(trail.client, Machine)
    return trail.client


def problem(trail: Trail) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        name.name(trail)
    return caught.value


@pytest.mark.parametrize(
    ("before", "outcomes", "state", "cause"),
    [
        (("::1",), {}, "warning", "hosts-entry-doubled"),
        (("::1",), {"::1": "connected"}, "broken", "hosts-entry-shadowed"),
        (("::1",), {"::1": "silent"}, "warning", "hosts-entry-doubled"),
        (("fd00::1", "192.168.56.77"), {"192.168.56.77": "connected"}, "broken", "hosts-entry-shadowed"),
        (("192.168.56.77",), {}, "warning", "hosts-entry-doubled"),
        (("192.168.56.77",), {"192.168.56.77": "silent"}, "broken", "hosts-entry-shadowed"),
        (("192.168.56.77",), {"192.168.56.77": "connected"}, "broken", "hosts-entry-shadowed"),
    ],
)
def test_what_a_connection_meets_decides_between_a_warning_and_a_broken_name(
    trail: Trail, before: Sequence[str], outcomes: Mapping[str, str], state: str, cause: str
) -> None:
    trail.client.hosts.write_text("".join(f"{each} {HOST}\n" for each in before) + BLOCK)
    machine(trail).found, machine(trail).knocks = (*before, ADDRESS), outcomes

    told = [problem(trail) for _ in range(3)]

    assert {(each.state, each.cause) for each in told} == {(state, cause)}
    assert machine(trail).knocked == [f"{each}:80" for each in before] * 3
    assert told[0].evidence["address"] == ADDRESS
    assert [each["address"] for each in told[0].evidence["others"]] == list(before)


@pytest.mark.parametrize("outcome", ["connected", "refused", "silent"])
@pytest.mark.parametrize(
    ("content", "found"),
    [
        (BLOCK, (ADDRESS,)),
        (f"::1 {HOST}\n{BLOCK}", ("::1", ADDRESS)),
        (f"::1 {HOST}\n{BLOCK}", (ADDRESS,)),
        (f"127.0.0.1 {HOST}\n{BLOCK}", ("127.0.0.1", ADDRESS)),
        (f"{BLOCK}127.0.0.1 {HOST}\n", ("127.0.0.1", ADDRESS)),
        (f"127.0.0.1 {HOST}\n{BLOCK}", ("127.0.0.1",)),
        (f"::ffff:{ADDRESS} {HOST}\n{BLOCK}", (ADDRESS,)),
        (f"fd00::1 {HOST}\n{BLOCK}", ("fd00::1", ADDRESS)),
        (f"{BLOCK}10.0.0.9 {HOST}\n", (ADDRESS, "10.0.0.9")),
        (f"10.0.0.9 {HOST}\n::1 {HOST}\n{BLOCK}", ("::1", "10.0.0.9", ADDRESS)),
        (f"10.0.0.9 {HOST}\n{ADDRESS} {HOST}\n", ("10.0.0.9", ADDRESS)),
    ],
)
def test_doctor_judges_the_lines_of_others_as_trace_does(
    trail: Trail, content: str, found: Sequence[str], outcome: Outcome
) -> None:
    trail.client.hosts.write_text(content)
    knocks = dict.fromkeys(("::1", "127.0.0.1", "fd00::1", "10.0.0.9"), outcome)
    machine(trail).found, machine(trail).knocks = found, knocks
    try:
        traced = ("ok", "") if name.name(trail) else None
    except ProblemError as error:
        traced = (error.state, error.cause)

    told = recorded_machine.found("hosts-shadows", trail.context, resolves={HOST: found}, knocks=knocks)

    assert (told.state, told.cause) == traced


@pytest.mark.parametrize("found", [(ADDRESS, "192.168.56.77"), (ADDRESS,)], ids=["used", "passed over"])
def test_a_line_after_the_right_one_is_not_connected_to(trail: Trail, found: Sequence[str]) -> None:
    trail.client.hosts.write_text(f"{BLOCK}192.168.56.77 {HOST}\n")
    machine(trail).found = found

    assert (problem(trail).state, problem(trail).cause) == ("warning", "hosts-entry-doubled")
    assert machine(trail).knocked == []


@pytest.mark.parametrize("found", [(ADDRESS, "192.168.56.77"), ("192.168.56.77", ADDRESS)])
def test_the_order_of_a_name_server_is_chance(trail: Trail, found: Sequence[str]) -> None:
    trail.client.hosts.write_text("")
    machine(trail).found, machine(trail).knocks = found, {"192.168.56.77": "connected"}

    told = problem(trail)

    assert (told.state, told.cause, told.commands) == ("broken", "name-resolves-elsewhere", (SYNC,))


@pytest.mark.parametrize(
    ("content", "found", "outcome", "told"),
    [
        (SECOND + BLOCK, ("192.168.56.77", ADDRESS), "connected", ("broken", "hosts-entry-of-another-lab")),
        (SECOND + BLOCK, ("192.168.56.77", ADDRESS), "refused", ("warning", "hosts-entry-of-another-lab")),
        (BLOCK + SECOND, (ADDRESS, "192.168.56.77"), "connected", ("warning", "hosts-entry-of-another-lab")),
        (SECOND, ("192.168.56.77",), "refused", ("broken", "hosts-entry-of-another-lab")),
    ],
)
def test_the_block_of_another_lab_is_left_to_its_users(
    trail: Trail, content: str, found: Sequence[str], outcome: str, told: tuple[str, str]
) -> None:
    trail.client.hosts.write_text(content)
    machine(trail).found, machine(trail).knocks = found, {"192.168.56.77": outcome}

    seen = problem(trail)

    assert (seen.state, seen.cause) == told
    assert seen.commands == ()
    assert "labctl --name second hosts remove" in (seen.fix or "")


@pytest.mark.parametrize(
    ("hostname", "found", "other", "mentioned"),
    [
        ("nobody.test", (), None, "labctl app add"),
        ("localhost", ("127.0.0.1",), None, "one of the lab's hostnames"),
        ("shop.local", ("192.168.56.101",), "third", "labctl --name third trace shop.local"),
        ("wiki.local", ("192.168.56.102",), "second", "labctl --name second trace wiki.local"),
    ],
)
def test_a_name_that_the_lab_does_not_serve_is_somebody_elses_and_nothing_is_to_be_typed(
    trail: Trail, hostname: str, found: Sequence[str], other: str | None, mentioned: str
) -> None:
    lab = trail.context.lab
    shop = replace(lab, name="third", apps=(replace(lab.apps[0], hostname="shop.local"),))
    saved_lab.write(paths.state("third"), saved_lab.SavedLab(shop, isolated=True))
    (paths.state("damaged")).mkdir()
    (paths.state("damaged") / lab_folder.RECORD).write_text("{")
    trail.client.hosts.write_text(f"127.0.0.1 localhost\n# BEGIN labctl second\n192.168.56.102 wiki.local\n{BLOCK}")
    machine(trail).found = found

    told = problem(replace(trail, hostname=hostname))

    assert (told.state, told.cause, told.commands) == ("broken", "hostname-not-served", ())
    assert told.evidence == {"lab": other}
    assert mentioned in (told.fix or "")


@pytest.mark.parametrize(
    ("content", "found", "told"),
    [
        (BLOCK, (ADDRESS,), None),
        (f"::1 {HOST}\n{BLOCK}", ("::1", ADDRESS), ("warning", "hosts-entry-doubled", None)),
        (f"127.0.0.1 {HOST}\n", ("127.0.0.1",), ("broken", "hosts-entry-shadowed", UP)),
        ("", ("10.0.0.1",), ("broken", "name-resolves-elsewhere", UP)),
        ("", (), ("broken", "hosts-entry-missing", None)),
    ],
)
def test_while_the_api_is_away_an_address_of_the_pool_is_right(
    trail: Trail, monkeypatch: pytest.MonkeyPatch, content: str, found: Sequence[str], told: tuple[str, str, str] | None
) -> None:
    def refuse(*_arguments: object) -> None:
        raise NotReadyError("refused", id="api-unreachable")

    monkeypatch.setattr(trail.cluster, "get", refuse)
    trail.client.hosts.write_text(content)
    machine(trail).found = found

    if told is None:
        assert name.name(trail)["address"] == ADDRESS
    else:
        seen = problem(trail)
        assert (seen.state, seen.cause) == told[:2]
        assert told[2] is None or (seen.commands or ())[-1] == told[2]


@pytest.mark.parametrize(
    ("content", "seconds", "order", "cause", "commands"),
    [
        (BLOCK, 0.01, "hosts: dns\n", "hosts-file-not-read", 1),
        (BLOCK, RESOLVE_SECONDS, "hosts: mdns4_minimal [NOTFOUND=return] files\n", "hosts-file-not-read", 1),
        (BLOCK, RESOLVE_SECONDS, "hosts: files dns\n", "resolver-silent", 0),
        (BLOCK, 0.01, None, "hosts-file-not-read", 0),
        ("", RESOLVE_SECONDS, "hosts: files dns\n", "hosts-entry-missing", 1),
    ],
)
def test_a_name_without_an_address_says_why(
    trail: Trail, content: str, seconds: float, order: str | None, cause: str, commands: int
) -> None:
    trail.client.hosts.write_text(content)
    if order is not None:
        trail.client.nsswitch.write_text(order)
    machine(trail).found, machine(trail).seconds = (), seconds

    told = problem(trail)

    assert (told.state, told.cause, len(told.commands or ())) == ("broken", cause, commands)


def test_an_order_that_another_program_writes_is_left_to_it(trail: Trail, tmp_path: Path) -> None:
    (tmp_path / "written-by-another").write_text("hosts: dns\n")
    trail.client.nsswitch.symlink_to(tmp_path / "written-by-another")
    machine(trail).found = ()

    assert (problem(trail).cause, problem(trail).commands) == ("hosts-file-not-read", ())


@pytest.mark.parametrize(("kind", "commands"), [("the machine's", ("nscd -i hosts",)), ("a lab's own network", ())])
def test_a_cache_that_remembers_is_named(
    trail: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, commands: tuple[str, ...]
) -> None:
    trail.context = isolated(trail) if kind == "a lab's own network" else trail.context
    monkeypatch.setattr(absence, "NAME_CACHE", tmp_path)
    machine(trail).found = ()

    assert (problem(trail).cause, problem(trail).commands) == ("hosts-file-not-read", commands)


@pytest.mark.parametrize(
    ("content", "line", "sources"),
    [
        ("hosts: files dns", 1, ("files", "dns")),
        ("passwd: files\n\thosts:files\n", 2, ("files",)),
        ("hosts: files [SUCCESS=merge] dns", 1, ("files [SUCCESS=merge]", "dns")),
        ("#hosts: files\nhosts:  mdns4  [NOTFOUND=return] files # dns", 2, ("mdns4 [NOTFOUND=return]", "files")),
        ("hosts: files\nhosts: dns\n", 2, ("dns",)),
        ("hosts: resolve [!UNAVAIL=return] [TRYAGAIN=continue]", 1, ("resolve [!UNAVAIL=return] [TRYAGAIN=continue]",)),
        ("hosts:", 1, ()),
    ],
)
def test_the_line_of_nsswitch_that_counts_is_read(content: str, line: int, sources: tuple[str, ...]) -> None:
    order = nsswitch.order(content)

    assert order
    assert (order.number, order.sources) == (line, sources)
    assert order.is_files_first is (sources[:1] == ("files",))


def test_a_file_without_an_order_has_none() -> None:
    assert nsswitch.order("passwd: files\n# hosts: files\n") is None


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, None),
        ({"http_proxy": "http://proxy.example:3128", "no_proxy": ".local"}, None),
        ({"https_proxy": "http://proxy.example:3128"}, None),
        ({"http_proxy": "http://proxy.example:3128"}, ("http_proxy", True, [])),
        ({"ALL_PROXY": "socks5://127.0.0.1"}, ("ALL_PROXY", False, ["127.0.0.1:1080"])),
        ({"HTTP_PROXY": "localhost:9", "no_proxy": "local.example"}, ("HTTP_PROXY", False, ["127.0.0.1:9"])),
        ({"http_proxy": "http://[::1]:9"}, ("http_proxy", False, ["::1:9"])),
        ({"http_proxy": "http://127.0.0.1:port"}, ("http_proxy", True, [])),
    ],
)
def test_a_proxy_that_would_take_the_name_is_a_warning(
    trail: Trail, environment: Mapping[str, str], told: tuple[str, bool, list[str]] | None
) -> None:
    machine(trail).environment = environment

    if told is None:
        assert name.name(trail)["address"] == ADDRESS
        return
    seen = problem(trail)
    assert (seen.state, seen.cause) == ("warning", "proxy-in-the-way")
    assert (seen.evidence["proxy"]["variable"], seen.evidence["proxy"]["serves"], machine(trail).knocked) == told
    assert HOST in (seen.commands or ("",))[0]


@pytest.mark.parametrize(
    ("domain", "is_apps", "cause"), [("dev", True, "https-forced"), ("dev", False, ""), ("test", True, "")]
)
def test_a_name_that_browsers_ask_for_by_https_alone_is_a_warning(
    trail: Trail,
    cluster: FakeCluster,
    domain: str,
    is_apps: bool,  # noqa: FBT001 - a column of the table
    cause: str,
) -> None:
    trail.hostname, lab = f"my-app.{domain}", trail.lab
    if is_apps:
        lab = replace(lab, apps=(replace(lab.apps[0], hostname=trail.hostname),))
        trail.context = with_doors(replace(trail.context, lab=lab), FakeProvider(), trail.cluster, trail.context.bundle)
    else:
        rules = {"rules": [{"host": trail.hostname}]}
        cluster.put(*ROUTE, "theirs", "default", spec={"ingressClassName": "nginx", **rules})
    trail.client.hosts.write_text(f"{ADDRESS} {trail.hostname}\n")

    if cause:
        assert (problem(trail).state, problem(trail).cause) == ("warning", cause)
    else:
        assert name.name(trail)["address"] == ADDRESS


def test_a_proxys_password_is_not_shown(trail: Trail) -> None:
    machine(trail).environment = {"http_proxy": "http://me:secret@127.0.0.1:9"}

    assert "secret" not in f"{problem(trail).text} {problem(trail).evidence} {problem(trail).commands}"


def test_what_runs_in_the_network_of_a_lab_bypasses_the_proxy(trail: Trail) -> None:
    machine(trail).environment = {"http_proxy": "http://127.0.0.1:9"}
    trail.context = isolated(trail)

    assert name.name(trail)["address"] == ADDRESS


@pytest.mark.parametrize(
    ("content", "commands"),
    [
        (BLOCK.replace("# END labctl demo\n", ""), 2),
        (f"{BLOCK}# BEGIN labctl second\n", 0),
        (f"{BLOCK}# BEGIN labctl demo\n# BEGIN labctl second\n", 0),
    ],
)
def test_markers_that_do_not_pair_up_break_the_next_up(trail: Trail, content: str, commands: int) -> None:
    trail.client.hosts.write_text(content)
    damage = hosts_edits.damage(trail)

    assert damage
    assert damage.is_own is bool(commands)
    assert (problem(trail).state, problem(trail).cause) == ("broken", "hosts-damaged")
    assert len(problem(trail).commands or ()) == commands


def test_a_file_that_not_everybody_may_read_is_a_warning(trail: Trail) -> None:
    trail.client.hosts.chmod(0o600)

    assert (problem(trail).state, problem(trail).cause) == ("warning", "hosts-file-unreadable")
    assert problem(trail).commands == (f"chmod a+r {trail.hosts}",)


def test_a_name_of_another_resolver_needs_no_file(trail: Trail) -> None:
    trail.client.hosts.unlink()

    assert name.name(trail)["source"].startswith("the system's resolver")
    machine(trail).found = ()
    assert problem(trail).commands == (f"echo '{ADDRESS} {HOST}' | tee -a {trail.hosts}",)


def test_what_is_of_another_kind_is_not_taken_for_the_labs_address(trail: Trail) -> None:
    assert trail.client.hosts_line(HOST, IPv4Address("127.0.0.1")) is None
    assert surroundings.doubt(trail, {}) is None
