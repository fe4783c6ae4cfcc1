"""An isolated lab's names and addresses, and the commands that create it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from labctl.host.process import Finished
from labctl.isolation import forwarding, isolation, namespaces
from labctl.isolation.isolation import Isolation
from labctl.model.errors import ProviderError

NETWORK = IPv4Network("192.168.56.0/24")
UPLINKS = IPv4Network("100.126.0.0/28")
"""Only four of the real uplink networks."""
LONGEST = "a" * 32


class FakeTools:
    """A fake of the system's programs: records command lines, and returns output by the longest matching prefix."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.outputs: dict[str, str] = {}

    def run(self, line: Sequence[str]) -> Finished:
        return Finished(0, self.check(line), ())

    def check(self, line: Sequence[str], *, hint: str = "") -> str:  # noqa: ARG002 - hints are for people
        self.lines.append(" ".join(line))
        matching = [beginning for beginning in self.outputs if self.lines[-1].startswith(beginning)]
        return self.outputs[max(matching, key=len)] if matching else ""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeTools:
    """A system without a namespace and without forwarding, whose files are below the test's folder."""
    fake = FakeTools()
    monkeypatch.setattr(isolation, "run", fake.run)
    monkeypatch.setattr(isolation, "check", fake.check)
    monkeypatch.setattr(forwarding, "run", fake.run)
    monkeypatch.setattr(forwarding, "check", fake.check)
    monkeypatch.setattr(isolation, "UPLINKS", UPLINKS)
    monkeypatch.setattr(isolation, "NAMESPACES", tmp_path / "netns")
    monkeypatch.setattr(isolation, "SETTINGS", tmp_path / "etc-netns")
    monkeypatch.setattr(forwarding, "IP_FORWARD", tmp_path / "ip_forward")
    monkeypatch.setattr(forwarding, "FORWARDING_BEFORE", tmp_path / "run" / "ip_forward")
    (tmp_path / "netns").mkdir()
    (tmp_path / "ip_forward").write_text("0\n")
    return fake


@pytest.fixture
def demo(tmp_path: Path) -> Isolation:
    return Isolation("demo", NETWORK, tmp_path / "state")


@pytest.mark.parametrize("lab", ["demo", "a", LONGEST])
def test_the_name_of_the_uplink_is_short_enough_for_the_kernel(demo: Isolation, lab: str) -> None:
    assert len(replace(demo, lab=lab).link) <= 15


def test_every_lab_has_names_of_its_own(demo: Isolation) -> None:
    other = replace(demo, lab="demo-2")

    for name in ("namespace", "tag", "link", "runtime", "engine"):
        assert getattr(demo, name) != getattr(other, name)


def test_the_environment_inside_names_the_lab_and_its_engine(demo: Isolation) -> None:
    assert demo.environment == {"LABCTL_INSIDE": "demo", "DOCKER_HOST": "unix:///run/labctl/demo/docker.sock"}


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("inside", [False, True])
def test_a_namespace_is_entered_once_and_other_engines_are_forgotten_in_it(
    demo: Isolation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, inside: bool
) -> None:
    entered: list[Path] = []
    own, namespace = tmp_path / "own", tmp_path / "netns" / "labctl-demo"
    own.touch()
    namespace.hardlink_to(own) if inside else namespace.touch()
    monkeypatch.setattr(isolation, "OWN_NETWORK", own)
    monkeypatch.setattr(namespaces, "enter", lambda namespace, _settings: entered.append(namespace))
    monkeypatch.setattr(os, "environ", {"DOCKER_TLS_VERIFY": "1", "LABCTL_INSIDE": "another", "KEPT": "kept"})

    assert demo.is_entered() is inside
    demo.enter()

    assert entered == ([] if inside else [namespace])
    assert (isolation.SETTINGS / demo.namespace / "hosts").exists() is not inside
    assert os.environ == {**demo.environment, "KEPT": "kept"}


def test_the_lab_exists_if_its_namespace_exists(demo: Isolation, tools: FakeTools, tmp_path: Path) -> None:
    assert not demo.exists()

    (tmp_path / "netns" / "labctl-demo").touch()
    assert demo.exists()
    assert not tools.lines


# The uplink


@pytest.mark.usefixtures("tools")
def test_an_uplink_is_a_stable_pair_of_addresses_in_one_small_network(demo: Isolation) -> None:
    outer, inner = demo._uplink()

    assert inner == outer + 1
    assert IPv4Network(f"{outer}/30", strict=False).subnet_of(UPLINKS)
    assert demo._uplink() == (outer, inner)


def test_an_uplink_network_in_use_is_skipped(demo: Isolation, tools: FakeTools) -> None:
    outer, _ = demo._uplink()
    tools.outputs = {"ip -j address show": _interface("other", f"{outer}/30")}

    assert demo._uplink()[0] not in {outer, outer + 1}


def test_no_free_uplink_network_is_an_error(demo: Isolation, tools: FakeTools) -> None:
    tools.outputs = {
        "ip -j address show": _interface(
            "other", *(f"{next(each.hosts())}/30" for each in UPLINKS.subnets(new_prefix=30))
        )
    }

    with pytest.raises(ProviderError, match=str(UPLINKS)) as raised:
        demo._uplink()

    assert raised.value.id == "uplinks-taken"


# The namespace


def test_the_labs_networks_are_unreachable_before_the_uplink_exists(demo: Isolation, tools: FakeTools) -> None:
    assert demo._ensure_namespace()

    (uplink_route,) = (number for number, line in enumerate(tools.lines) if "route add default" in line)
    assert uplink_route == len(tools.lines) - 1
    for network in ("192.168.56.0/24", "10.244.0.0/16", "10.96.0.0/12"):
        assert f"ip -n labctl-demo route add unreachable {network} metric 4294967295" in tools.lines[:uplink_route]


def test_a_namespace_with_a_default_route_is_complete(demo: Isolation, tools: FakeTools, tmp_path: Path) -> None:
    (tmp_path / "netns" / "labctl-demo").touch()
    tools.outputs = {"ip -n labctl-demo route show default": "default via 100.126.0.1 dev uplink"}

    assert not demo._ensure_namespace()
    assert not any("netns add" in line for line in tools.lines)


def test_an_incomplete_namespace_is_recreated(demo: Isolation, tools: FakeTools, tmp_path: Path) -> None:
    (tmp_path / "netns" / "labctl-demo").touch()

    assert demo._ensure_namespace()
    assert tools.lines.index("ip netns delete labctl-demo") < tools.lines.index("ip netns add labctl-demo")


def test_the_labs_hosts_file_starts_as_a_copy_of_the_machines(
    demo: Isolation, tools: FakeTools, tmp_path: Path
) -> None:
    demo._ensure_namespace()

    copied = tmp_path / "etc-netns" / "labctl-demo" / "hosts"
    assert copied.read_bytes() == Path("/etc/hosts").read_bytes()
    assert tools.lines


@pytest.mark.usefixtures("tools")
def test_the_labs_hosts_file_is_world_readable_with_any_umask(demo: Isolation, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        demo._write_settings()
    finally:
        os.umask(before)

    folder = tmp_path / "etc-netns" / "labctl-demo"
    assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o644] * len([*folder.iterdir()])


def test_a_mount_is_found_among_mounts_with_undecodable_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = str(tmp_path / "a b" / "c")
    listed = f"overlay {inside} overlay rw 0 0\n".replace("a b", "a\\040b").encode()
    (tmp_path / "mounts").write_bytes(b"/dev/sda1 /media/\xe9t\xe9 vfat rw 0 0\n" + listed)
    monkeypatch.setattr(namespaces, "MOUNTS", tmp_path / "mounts")

    assert namespaces.mounts_below(tmp_path / "a b") == [inside]


@pytest.mark.parametrize(
    ("content", "copied"),
    [
        (b"127.0.0.1 localhost\n", b"127.0.0.1 localhost\n"),
        (b"a\n# BEGIN labctl x\n1.2.3.4 b.local\n# END labctl x\nc\n", b"a\nc\n"),
        (b"a\r\n# BEGIN labctl x\r\n1.2.3.4 b\r\n# END labctl x\r\nc\xe9\r\n", b"a\r\nc\xe9\r\n"),
        (b"# BEGIN labctl x\n1.2.3.4 b\n# END labctl x\n# BEGIN labctl y\n1.2.3.5 b\n# END labctl y", b""),
        (b"# BEGIN labctl x\n1.2.3.4 b\n# END labctl y\n", b"# BEGIN labctl x\n1.2.3.4 b\n# END labctl y\n"),
    ],
)
@pytest.mark.usefixtures("tools")
def test_the_copied_hosts_file_has_no_names_of_other_labs(
    demo: Isolation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, copied: bytes
) -> None:
    (tmp_path / "hosts").write_bytes(content)
    monkeypatch.setattr(isolation, "HOSTS", tmp_path / "hosts")
    demo._ensure_namespace()

    assert (tmp_path / "etc-netns" / "labctl-demo" / "hosts").read_bytes() == copied


# The rules and the setting outside


def _interface(name: str, *addresses: str) -> str:
    """Return the output of `ip` for a machine with one interface."""
    pairs = (address.split("/") for address in addresses)
    addr_info = [{"family": "inet", "local": local, "prefixlen": int(length)} for local, length in pairs]
    return json.dumps([{"ifname": name, "flags": ["UP"], "mtu": 1500, "addr_info": addr_info}])


UPLINK = _interface("uplink", "100.126.0.2/30")
RULES = (
    ("nat", "POSTROUTING -s 100.126.0.2/30 {mine} -j MASQUERADE"),
    ("filter", "FORWARD -o {link} {mine} -j DROP"),
    ("filter", "FORWARD -i {link} ! -o labctl+ {mine} -j ACCEPT"),
    ("filter", "FORWARD -o {link} -m conntrack --ctstate RELATED,ESTABLISHED {mine} -j ACCEPT"),
)
"""The rules that an isolated lab inserts, in this order: the last one comes first in the filter table."""


def _rule_text(demo: Isolation, rule: str) -> str:
    return rule.format(link=demo.link, mine=f"-m comment --comment {demo.tag}")


def test_rules_masquerade_outgoing_and_drop_incoming_packets_and_have_the_labs_tag(
    demo: Isolation, tools: FakeTools
) -> None:
    tools.outputs = {"ip -n labctl-demo -j address show uplink": UPLINK}

    assert demo._ensure_forwarding()
    added = [f"iptables --wait -t {table} -I {_rule_text(demo, rule)}" for table, rule in RULES]
    assert tools.lines[-len(added) :] == added


def test_existing_rules_are_not_added_again_and_foreign_rules_are_ignored(demo: Isolation, tools: FakeTools) -> None:
    odd = '-A FORWARD -m comment --comment "a line\nand another" -j ACCEPT'
    others = [
        "-P FORWARD ACCEPT",
        "-A FORWARD -j DOCKER",
        odd,
        _rule_text(replace(demo, lab="demo-2"), "-A FORWARD {mine}"),
    ]
    listed = {
        f"iptables --wait -t {chosen} -S": "\n".join(
            [*others, *(f"-A {_rule_text(demo, rule)}" for table, rule in RULES if table == chosen)]
        )
        for chosen in ("nat", "filter")
    }
    tools.outputs = {"ip -n labctl-demo -j address show uplink": UPLINK, **listed}

    assert forwarding.rules(demo.tag) == [[table, *_rule_text(demo, rule).split()] for table, rule in RULES]
    assert not demo._ensure_forwarding()


@pytest.mark.parametrize("before", ["0\n", "1\n"])
def test_forwarding_is_restored_after_the_last_isolated_lab(
    demo: Isolation, tools: FakeTools, tmp_path: Path, before: str
) -> None:
    (tmp_path / "ip_forward").write_text(before)
    tools.outputs = {"ip -n labctl-demo -j address show uplink": UPLINK}
    demo._ensure_forwarding()
    assert (tmp_path / "ip_forward").read_text().strip() == "1"

    (tmp_path / "netns" / "labctl-other").touch()
    isolation._restore_forwarding()
    assert (tmp_path / "ip_forward").read_text().strip() == "1"

    (tmp_path / "netns" / "labctl-other").unlink()
    isolation._restore_forwarding()
    assert (tmp_path / "ip_forward").read_text() == before


@pytest.mark.parametrize(
    ("content", "own"),
    [(None, False), (b"nameserver 10.0.0.2\n", False), (b"nameserver 127.0.0.53\n", True), (b"# \xff\n", False)],
)
def test_a_namespace_gets_its_own_nameservers_if_the_machines_are_on_loopback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, *, own: bool
) -> None:
    monkeypatch.setattr(isolation, "SETTINGS", tmp_path / "netns")
    monkeypatch.setattr(isolation, "RESOLV_CONF", tmp_path / "resolv.conf")
    monkeypatch.setattr(isolation, "UPSTREAM_RESOLV_CONF", tmp_path / "upstream")
    (tmp_path / "upstream").write_text("nameserver 10.0.0.9\n")
    if content is None:
        (tmp_path / "resolv.conf").symlink_to("nowhere")
    else:
        (tmp_path / "resolv.conf").write_bytes(content)

    Isolation("demo", NETWORK, tmp_path)._write_settings()

    assert (tmp_path / "netns" / "labctl-demo" / "resolv.conf").exists() == own
