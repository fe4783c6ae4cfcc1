"""Tests of the hop to the name. Its commands are run in `tests/contract`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from types import MappingProxyType

import pytest
import recorded_machine
from fakes import ADDRESS, FakeCluster, FakeProvider, with_fakes

from labctl.config import saved_lab
from labctl.context import Context
from labctl.host import lab_folder, nsswitch, paths
from labctl.host.http_probe import HTTP, Address
from labctl.host.other_addresses import CONNECT_SECONDS
from labctl.host.resolver import RESOLVE_SECONDS
from labctl.host.tcp_connect import ConnectResult, Outcome
from labctl.model.errors import NotReadyError
from labctl.model.kinds import ROUTE
from labctl.trace.name import absence, further_problems, hosts_edits, name
from labctl.trace.probes.client import Client
from labctl.trace.problem import ProblemError
from labctl.trace.trail import Trail

HOST = "my-app.local"
BLOCK = f"# BEGIN labctl demo\n{ADDRESS} {HOST}\n# END labctl demo\n"
SECOND = f"# BEGIN labctl second\n192.168.56.77 {HOST}\n# END labctl second\n"
SYNC = "labctl --name demo hosts sync"
UP = "labctl --name demo up"


class FakeMachine(Client):
    """A machine for which a test sets the addresses that the resolver returns and the outcome of connections."""

    hosts = Path()
    environment: Mapping[str, str] = MappingProxyType({})

    def __init__(self, hosts: Path) -> None:
        self.hosts = hosts
        self.resolved: Sequence[str] = (ADDRESS,)
        self.seconds = 0.001
        self.connections: Mapping[str, str] = {}
        self.knocked: list[str] = []

    @property
    def nsswitch(self) -> Path:
        return self.hosts.with_name("nsswitch.conf")

    @property
    def is_root(self) -> bool:
        return True

    def resolve(self, hostname: str, limit: float = RESOLVE_SECONDS) -> tuple[list[Address], float]:  # noqa: ARG002 - the tests resolve one name
        return list(map(ip_address, self.resolved)), self.seconds

    def is_mounted(self, file: Path) -> bool:  # noqa: ARG002 - no file is mounted
        return False

    def connect(self, addresses: Sequence[Address], seconds: float, port: int = HTTP) -> dict[Address, ConnectResult]:
        assert 0 < seconds <= CONNECT_SECONDS
        self.knocked += [f"{address}:{port}" for address in addresses]
        return {each: ConnectResult(self.connections.get(str(each), "refused")) for each in addresses}  # type: ignore[arg-type]


@pytest.fixture
def trail(context: Context, cluster: FakeCluster) -> Trail:
    """A request for the app of the default lab, on a machine whose hosts file has the app's line."""
    status = {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}}
    cluster.put("v1", "Service", "ingress-nginx-controller", "ingress-nginx", status=status)
    context.lab.hosts_file.write_text(BLOCK)
    return Trail(context, FakeMachine(context.lab.hosts_file), HOST, "/", context.cluster)


def isolated_context(trail: Trail) -> Context:
    context = replace(trail.context, isolated=True)
    return with_fakes(context, FakeProvider(), trail.cluster, trail.context.bundle)


def machine_of(trail: Trail) -> FakeMachine:
    assert isinstance(trail.client, FakeMachine)
    return trail.client


def problem_of(trail: Trail) -> ProblemError:
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
def test_the_result_of_a_connection_decides_between_a_warning_and_a_broken_name(
    trail: Trail, before: Sequence[str], outcomes: Mapping[str, str], state: str, cause: str
) -> None:
    trail.client.hosts.write_text("".join(f"{each} {HOST}\n" for each in before) + BLOCK)
    machine_of(trail).resolved, machine_of(trail).connections = (*before, ADDRESS), outcomes

    problems = [problem_of(trail) for _ in range(3)]

    assert {(each.state, each.cause) for each in problems} == {(state, cause)}
    assert machine_of(trail).knocked == [f"{each}:80" for each in before] * 3
    assert problems[0].evidence["address"] == ADDRESS
    assert [each["address"] for each in problems[0].evidence["others"]] == list(before)


@pytest.mark.parametrize("outcome", ["connected", "refused", "silent"])
@pytest.mark.parametrize(
    ("content", "resolved"),
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
def test_doctor_and_trace_judge_foreign_lines_in_the_same_way(
    trail: Trail, content: str, resolved: Sequence[str], outcome: Outcome
) -> None:
    trail.client.hosts.write_text(content)
    connections = dict.fromkeys(("::1", "127.0.0.1", "fd00::1", "10.0.0.9"), outcome)
    machine_of(trail).resolved, machine_of(trail).connections = resolved, connections
    try:
        traced = ("ok", "") if name.name(trail) else None
    except ProblemError as error:
        traced = (error.state, error.cause)

    finding = recorded_machine.run_check(
        "hosts-shadows", trail.context, resolves={HOST: resolved}, connections=connections
    )

    assert (finding.state, finding.cause) == traced


@pytest.mark.parametrize("resolved", [(ADDRESS, "192.168.56.77"), (ADDRESS,)], ids=["used", "ignored"])
def test_the_address_of_a_line_after_the_correct_one_is_not_probed(trail: Trail, resolved: Sequence[str]) -> None:
    trail.client.hosts.write_text(f"{BLOCK}192.168.56.77 {HOST}\n")
    machine_of(trail).resolved = resolved

    assert (problem_of(trail).state, problem_of(trail).cause) == ("warning", "hosts-entry-doubled")
    assert machine_of(trail).knocked == []


@pytest.mark.parametrize("resolved", [(ADDRESS, "192.168.56.77"), ("192.168.56.77", ADDRESS)])
def test_the_order_of_addresses_from_a_name_server_is_ignored(trail: Trail, resolved: Sequence[str]) -> None:
    trail.client.hosts.write_text("")
    machine_of(trail).resolved, machine_of(trail).connections = resolved, {"192.168.56.77": "connected"}

    problem = problem_of(trail)

    assert (problem.state, problem.cause, problem.commands) == ("broken", "name-resolves-elsewhere", (SYNC,))


@pytest.mark.parametrize(
    ("content", "resolved", "outcome", "expected"),
    [
        (SECOND + BLOCK, ("192.168.56.77", ADDRESS), "connected", ("broken", "hosts-entry-of-another-lab")),
        (SECOND + BLOCK, ("192.168.56.77", ADDRESS), "refused", ("warning", "hosts-entry-of-another-lab")),
        (BLOCK + SECOND, (ADDRESS, "192.168.56.77"), "connected", ("warning", "hosts-entry-of-another-lab")),
        (SECOND, ("192.168.56.77",), "refused", ("broken", "hosts-entry-of-another-lab")),
    ],
)
def test_a_conflicting_block_of_another_lab_has_a_fix_without_a_command(
    trail: Trail, content: str, resolved: Sequence[str], outcome: str, expected: tuple[str, str]
) -> None:
    trail.client.hosts.write_text(content)
    machine_of(trail).resolved, machine_of(trail).connections = resolved, {"192.168.56.77": outcome}

    problem = problem_of(trail)

    assert (problem.state, problem.cause) == expected
    assert problem.commands == ()
    assert "labctl --name second hosts remove" in (problem.fix or "")


@pytest.mark.parametrize(
    ("hostname", "resolved", "other_lab", "mentioned"),
    [
        ("nobody.test", (), None, "labctl app add"),
        ("localhost", ("127.0.0.1",), None, "one of the lab's hostnames"),
        ("shop.local", ("192.168.56.101",), "third", "labctl --name third trace shop.local"),
        ("wiki.local", ("192.168.56.102",), "second", "labctl --name second trace wiki.local"),
    ],
)
def test_a_name_that_the_lab_does_not_serve_has_a_fix_without_a_command(
    trail: Trail, hostname: str, resolved: Sequence[str], other_lab: str | None, mentioned: str
) -> None:
    lab = trail.context.lab
    shop = replace(lab, name="third", apps=(replace(lab.apps[0], hostname="shop.local"),))
    saved_lab.write(paths.state("third"), saved_lab.SavedLab(shop, isolated=True))
    (paths.state("damaged")).mkdir()
    (paths.state("damaged") / lab_folder.RECORD).write_text("{")
    trail.client.hosts.write_text(f"127.0.0.1 localhost\n# BEGIN labctl second\n192.168.56.102 wiki.local\n{BLOCK}")
    machine_of(trail).resolved = resolved

    problem = problem_of(replace(trail, hostname=hostname))

    assert (problem.state, problem.cause, problem.commands) == ("broken", "hostname-not-served", ())
    assert problem.evidence == {"lab": other_lab}
    assert mentioned in (problem.fix or "")


@pytest.mark.parametrize(
    ("content", "resolved", "expected"),
    [
        (BLOCK, (ADDRESS,), None),
        (f"::1 {HOST}\n{BLOCK}", ("::1", ADDRESS), ("warning", "hosts-entry-doubled", None)),
        (f"127.0.0.1 {HOST}\n", ("127.0.0.1",), ("broken", "hosts-entry-shadowed", UP)),
        ("", ("10.0.0.1",), ("broken", "name-resolves-elsewhere", UP)),
        ("", (), ("broken", "hosts-entry-missing", None)),
    ],
)
def test_without_the_api_any_address_of_the_pool_is_correct(
    trail: Trail,
    monkeypatch: pytest.MonkeyPatch,
    content: str,
    resolved: Sequence[str],
    expected: tuple[str, str, str] | None,
) -> None:
    def refuse(*_arguments: object) -> None:
        raise NotReadyError("refused", id="api-unreachable")

    monkeypatch.setattr(trail.cluster, "get", refuse)
    trail.client.hosts.write_text(content)
    machine_of(trail).resolved = resolved

    if expected is None:
        assert name.name(trail)["address"] == ADDRESS
    else:
        problem = problem_of(trail)
        assert (problem.state, problem.cause) == expected[:2]
        assert expected[2] is None or (problem.commands or ())[-1] == expected[2]


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
def test_a_name_without_an_address_has_a_cause(
    trail: Trail, content: str, seconds: float, order: str | None, cause: str, commands: int
) -> None:
    trail.client.hosts.write_text(content)
    if order is not None:
        trail.client.nsswitch.write_text(order)
    machine_of(trail).resolved, machine_of(trail).seconds = (), seconds

    problem = problem_of(trail)

    assert (problem.state, problem.cause, len(problem.commands or ())) == ("broken", cause, commands)


def test_a_linked_nsswitch_conf_is_not_edited(trail: Trail, tmp_path: Path) -> None:
    (tmp_path / "written-by-another").write_text("hosts: dns\n")
    trail.client.nsswitch.symlink_to(tmp_path / "written-by-another")
    machine_of(trail).resolved = ()

    assert (problem_of(trail).cause, problem_of(trail).commands) == ("hosts-file-not-read", ())


@pytest.mark.parametrize(("kind", "commands"), [("the machine's", ("nscd -i hosts",)), ("a lab's own network", ())])
def test_a_name_cache_is_flushed_by_the_fix(
    trail: Trail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, commands: tuple[str, ...]
) -> None:
    trail.context = isolated_context(trail) if kind == "a lab's own network" else trail.context
    monkeypatch.setattr(absence, "NAME_CACHE", tmp_path)
    machine_of(trail).resolved = ()

    assert (problem_of(trail).cause, problem_of(trail).commands) == ("hosts-file-not-read", commands)


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
def test_the_effective_line_of_nsswitch_conf_is_parsed(content: str, line: int, sources: tuple[str, ...]) -> None:
    order = nsswitch.find_order(content)

    assert order
    assert (order.number, order.sources) == (line, sources)
    assert order.is_files_first is (sources[:1] == ("files",))


def test_an_nsswitch_conf_without_a_hosts_line_has_no_order() -> None:
    assert nsswitch.find_order("passwd: files\n# hosts: files\n") is None


@pytest.mark.parametrize(
    ("environment", "expected"),
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
def test_a_proxy_that_applies_to_the_name_is_a_warning(
    trail: Trail, environment: Mapping[str, str], expected: tuple[str, bool, list[str]] | None
) -> None:
    machine_of(trail).environment = environment

    if expected is None:
        assert name.name(trail)["address"] == ADDRESS
        return
    problem = problem_of(trail)
    assert (problem.state, problem.cause) == ("warning", "proxy-in-the-way")
    assert (
        problem.evidence["proxy"]["variable"],
        problem.evidence["proxy"]["serves"],
        machine_of(trail).knocked,
    ) == expected
    assert HOST in (problem.commands or ("",))[0]


@pytest.mark.parametrize(
    ("domain", "is_apps", "cause"), [("dev", True, "https-forced"), ("dev", False, ""), ("test", True, "")]
)
def test_a_name_that_browsers_request_only_by_https_is_a_warning(
    trail: Trail,
    cluster: FakeCluster,
    domain: str,
    is_apps: bool,  # noqa: FBT001 - a column of the table
    cause: str,
) -> None:
    trail.hostname, lab = f"my-app.{domain}", trail.lab
    if is_apps:
        lab = replace(lab, apps=(replace(lab.apps[0], hostname=trail.hostname),))
        trail.context = with_fakes(replace(trail.context, lab=lab), FakeProvider(), trail.cluster, trail.context.bundle)
    else:
        rules = {"rules": [{"host": trail.hostname}]}
        cluster.put(*ROUTE, "theirs", "default", spec={"ingressClassName": "nginx", **rules})
    trail.client.hosts.write_text(f"{ADDRESS} {trail.hostname}\n")

    if cause:
        assert (problem_of(trail).state, problem_of(trail).cause) == ("warning", cause)
    else:
        assert name.name(trail)["address"] == ADDRESS


def test_a_proxys_password_is_not_shown(trail: Trail) -> None:
    machine_of(trail).environment = {"http_proxy": "http://me:secret@127.0.0.1:9"}

    assert "secret" not in f"{problem_of(trail).text} {problem_of(trail).evidence} {problem_of(trail).commands}"


def test_in_the_network_of_an_isolated_lab_the_proxy_is_ignored(trail: Trail) -> None:
    machine_of(trail).environment = {"http_proxy": "http://127.0.0.1:9"}
    trail.context = isolated_context(trail)

    assert name.name(trail)["address"] == ADDRESS


@pytest.mark.parametrize(
    ("content", "commands"),
    [
        (BLOCK.replace("# END labctl demo\n", ""), 2),
        (f"{BLOCK}# BEGIN labctl second\n", 0),
        (f"{BLOCK}# BEGIN labctl demo\n# BEGIN labctl second\n", 0),
    ],
)
def test_unpaired_markers_in_the_hosts_file_are_damage(trail: Trail, content: str, commands: int) -> None:
    trail.client.hosts.write_text(content)
    damage = hosts_edits.damage(trail)

    assert damage
    assert damage.is_own is bool(commands)
    assert (problem_of(trail).state, problem_of(trail).cause) == ("broken", "hosts-damaged")
    assert len(problem_of(trail).commands or ()) == commands


def test_a_hosts_file_that_is_not_world_readable_is_a_warning(trail: Trail) -> None:
    trail.client.hosts.chmod(0o600)

    assert (problem_of(trail).state, problem_of(trail).cause) == ("warning", "hosts-file-unreadable")
    assert problem_of(trail).commands == (f"chmod a+r {trail.hosts}",)


def test_a_name_from_another_resolver_needs_no_hosts_file(trail: Trail) -> None:
    trail.client.hosts.unlink()

    assert name.name(trail)["source"].startswith("the system's resolver")
    machine_of(trail).resolved = ()
    assert problem_of(trail).commands == (f"echo '{ADDRESS} {HOST}' | tee -a {trail.hosts}",)


def test_an_ipv4_address_without_a_line_and_missing_evidence_are_no_problem(trail: Trail) -> None:
    assert trail.client.hosts_line(HOST, IPv4Address("127.0.0.1")) is None
    assert further_problems.further_problem(trail, {}) is None
