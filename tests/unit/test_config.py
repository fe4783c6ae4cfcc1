from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
import yaml

from labctl import config
from labctl.config import Overrides
from labctl.config.problems import shown
from labctl.errors import ExitCode, UsageError
from labctl.lab import AddressPool, App, Lab

SEED = Lab(
    name="demo",
    provider="auto",
    network=IPv4Network("192.168.56.0/24"),
    workers=1,
    cpus=2,
    memory=2048,
    pool=AddressPool(IPv4Address("192.168.56.100"), IPv4Address("192.168.56.110")),
    kubernetes="auto",
    ingress="auto",
    apps=(App("my-app", "my-app.local", "nginx", 80, 2),),
    hosts_file=Path("/etc/hosts"),
)

Load = Callable[..., Lab]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str, overrides: Overrides = Overrides()) -> Lab:  # noqa: B008 - a frozen value
        path = tmp_path / "labctl.yaml"
        path.write_text(text)
        return config.load(path, overrides)

    return load


@pytest.fixture
def problems(load: Load, tmp_path: Path) -> Callable[..., list[str]]:
    def problems(text: str, overrides: Overrides = Overrides()) -> list[str]:  # noqa: B008 - a frozen value
        with pytest.raises(UsageError) as caught:
            load(text, overrides)
        assert (caught.value.id, caught.value.exit_code) == ("config-invalid", ExitCode.USAGE)
        first, *lines = caught.value.message.splitlines()
        assert first == f"{tmp_path}/labctl.yaml: {len(lines)} problem{'s' if len(lines) > 1 else ''}"
        return [line.removeprefix("  ") for line in lines]

    return problems


Problems = Callable[..., list[str]]


def test_without_a_file_the_lab_is_the_default_one() -> None:
    assert config.load(None, Overrides()) == SEED


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}"])
def test_an_empty_file_is_the_default_lab(load: Load, text: str) -> None:
    assert load(text) == SEED


def test_the_example_is_the_default_lab_and_explains_every_key(load: Load) -> None:
    assert load(config.example()) == SEED
    assert list(yaml.safe_load(config.example())) == list(config.schema()["properties"])
    assert config.example().count("\n# ") + 1 == len(config.schema()["properties"])


def test_every_key_reaches_the_lab(load: Load) -> None:
    lab = load("""
        name: class
        provider: libvirt
        network: 10.20.0.0/24
        workers: 2
        cpus: 4
        memory: 3GiB
        pool: 10.20.0.64/28
        kubernetes: 1.37.2
        ingress: traefik
        hosts_file: /tmp/my hosts
        apps:
          - {name: shop, image: "ghcr.io/me/shop:1.2", hostname: shop.test, port: 8080, replicas: 3}
          - {name: blog}
    """)

    assert lab == Lab(
        name="class",
        provider="libvirt",
        network=IPv4Network("10.20.0.0/24"),
        workers=2,
        cpus=4,
        memory=3072,
        pool=AddressPool(IPv4Address("10.20.0.64"), IPv4Address("10.20.0.79")),
        kubernetes="1.37.2",
        ingress="traefik",
        apps=(
            App("shop", "shop.test", "ghcr.io/me/shop:1.2", 8080, 3),
            App("blog", "blog.local", "nginx", 80, 2),
        ),
        hosts_file=Path("/tmp/my hosts"),  # noqa: S108 - only a value, nothing is written there
    )


def test_the_pool_follows_the_network(load: Load) -> None:
    assert str(load("network: 10.20.30.0/24").pool) == "10.20.30.100-10.20.30.110"


@pytest.mark.parametrize("network", ["192.168.56.0/24", "192.168.56.0/28"])
def test_a_pool_that_labctl_is_to_choose_is_open_until_then(load: Load, network: str) -> None:
    assert load(f"pool: auto\nnetwork: {network}").pool == config.UNPLANNED


def test_options_win_over_the_file(load: Load) -> None:
    lab = load("name: file\nworkers: 3\nprovider: docker", Overrides(name="option", workers=0, ingress="traefik"))

    assert (lab.name, lab.workers, lab.provider, lab.ingress) == ("option", 0, "docker", "traefik")


def test_the_file_asked_for_is_found_else_the_one_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert config.find(None) is None
    assert config.find(Path("other.yaml")) == Path("other.yaml")
    (tmp_path / "labctl.yaml").touch()
    assert config.find(None) == Path("labctl.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no configuration file .*/other\.yaml") as caught:
        config.load(tmp_path / "other.yaml", Overrides())

    assert caught.value.id == "config-not-found"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=str(tmp_path)) as caught:
        config.load(tmp_path, Overrides())

    assert caught.value.id == "config-unreadable"


def test_every_problem_is_reported_at_once_with_its_key_and_value(problems: Problems) -> None:
    found = problems(
        """
        nam: lab
        cpus: 0
        cpus: two
        pool: 192.168.56.5-192.168.56.20
        apps:
          - {name: a, hostname: same.local}
          - {name: b, hostname: same.local}
          - {name: c, prot: 80}
          - {hostname: d.local}
        """,
        Overrides(workers=-1),
    )

    assert found == [
        "cpus: is written twice, in lines 3 and 4",
        "--workers: -1: must be at least 0",
        "cpus: two: must be a whole number",
        'apps[2].prot: 80: is not a known key; did you mean "port"?',
        "apps[3].name: is missing",
        'nam: lab: is not a known key; did you mean "name"?',
        "pool: 192.168.56.5-192.168.56.20: overlaps node demo-control-plane (192.168.56.10), node demo-worker-1 (192.168.56.11)",
        "apps.hostname: same.local: is in 2 apps",
    ]


ONE_PROBLEM = {
    # names
    'name: "a\\nb"': "name: 'a\\nb': must be lower-case letters, digits and hyphens",
    "name: Demo": "name: Demo: must be lower-case letters",
    "name: a-": "name: a-: must be lower-case letters",
    "name: ../up": "name: ../up: must be lower-case letters",
    "name: ''": "name: '': must be lower-case letters",
    f"name: {'a' * 33}": "must not be longer than 32 characters",
    "name: 12": "name: 12: must be text, in quotes",
    "name: no": "name: False: must be text, in quotes",
    "provider: dockr": "provider: dockr: must be 'auto', 'docker', 'libvirt', 'virtualbox' or 'existing'",
    "ingress: haproxy": "ingress: haproxy: must be 'auto', 'ingress-nginx', 'traefik' or 'contour'",
    # the network
    "network: 192.168.56.1/24": "network: 192.168.56.1/24: must be written 192.168.56.0/24",
    "network: fd00::/64": "network: fd00::/64: must be an IPv4 network",
    "network: 56": "network: 56: must be an IPv4 network",
    "network: 8.8.8.0/24": "must be private address space (RFC 1918)",
    "network: 10.96.0.0/16": "overlaps the network of services (10.96.0.0/12)",
    "network: 10.244.7.0/24": "overlaps the network of pods (10.244.0.0/16)",
    "network: 192.168.0.0/15": "must be between a /16 and a /28",
    "network: 192.168.56.0/29": "must be between a /16 and a /28",
    "network: 192.168.56.0/28": "pool: 192.168.56.100-192.168.56.110: is not inside the network 192.168.56.0/28",
    # the pool
    "pool: 192.168.57.100-192.168.57.110": "is not inside the network 192.168.56.0/24",
    "pool: 192.168.56.110-192.168.56.100": "pool: 192.168.56.110-192.168.56.100: ends before it starts",
    "pool: 192.168.56.11-192.168.56.11": "overlaps node demo-worker-1 (192.168.56.11)",
    "pool: 192.168.56.0-192.168.56.9": "overlaps the network address (192.168.56.0), the gateway (192.168.56.1)",
    "pool: 192.168.56.240/28": "overlaps the broadcast address (192.168.56.255)",
    "pool: fd00::1-fd00::9": "pool: fd00::1-fd00::9: must be IPv4",
    "pool: 192.168.56.100/24": "must be IPv4, such as",
    "pool: many": "pool: many: must be IPv4, such as 192.168.56.100-192.168.56.110",
    "pool: [a]": "pool: ['a']: must be IPv4",
    # numbers
    "workers: -1": "workers: -1: must be at least 0",
    "workers: 21": "workers: 21: must be at most 20",
    "workers: 1.5": "workers: 1.5: must be a whole number",
    "workers: true": "workers: True: must be a whole number",
    "workers:": "workers: None: must be a whole number",
    "cpus: 0": "cpus: 0: must be at least 1",
    "memory: 511": "memory: 511: must be at least 512",
    "memory: 256MiB": "memory: 256: must be at least 512",
    "memory: 2G": "memory: 2G: must be a number of MiB",
    # the version
    "kubernetes: 1.37": "kubernetes: 1.37: must be text, in quotes",
    "kubernetes: v1.37.2": "a full version without a leading v",
    "kubernetes: latest": "kubernetes: latest: must be auto, or a full version",
    # the hosts file
    "hosts_file: hosts": "hosts_file: hosts: must be an absolute path",
    "hosts_file: /etc/ho'sts": "must be an absolute path without quotes",
    'hosts_file: "/etc/hosts\\0"': "hosts_file: '/etc/hosts\\x00': must be an absolute path",
    # apps
    "apps: my-app": "apps: my-app: must be a list",
    "apps: [my-app]": "apps[0]: my-app: must be a mapping",
    "apps: [{}]": "apps[0].name: is missing",
    "apps: [{name: 1st}]": "apps[0].name: 1st: must be lower-case letters, digits and hyphens, with a letter first",
    f"apps: [{{name: {'a' * 51}}}]": "must not be longer than 50 characters",
    "apps: [{name: a}, {name: a, hostname: b.local}]": "apps.name: a: is in 2 apps",
    "apps: [{name: a}, {name: b, hostname: a.local}]": "apps.hostname: a.local: is in 2 apps",
    "apps: [{name: a, hostname: A.local}]": "apps[0].hostname: A.local: must be a hostname in lower case",
    "apps: [{name: a, hostname: a b}]": "apps[0].hostname: a b: must be a hostname",
    "apps: [{name: a, hostname: a_b.local}]": "must be a hostname",
    'apps: [{name: a, hostname: "*.local"}]': "must be a hostname",
    f"apps: [{{name: a, hostname: {'a' * 64}.local}}]": "must be a hostname",
    f"apps: [{{name: a, hostname: {'a.' * 127}local}}]": "must not be longer than 253 characters",
    "apps: [{name: a, hostname: 10.0.0.1}]": "apps[0].hostname: 10.0.0.1: must be a name",
    "apps: [{name: a, hostname: localhost}]": "apps[0].hostname: localhost: must not be localhost",
    "apps: [{name: a, hostname: a.localhost}]": "must not be localhost",
    "apps: [{name: a, hostname: demo-worker-7}]": "apps.hostname: demo-worker-7: is the name of a node",
    "apps: [{name: a, image: a b}]": "apps[0].image: a b: must be an image reference",
    "apps: [{name: a, image: Nginx}]": "must be an image reference",
    'apps: [{name: a, image: "nginx:"}]': "must be an image reference",
    'apps: [{name: a, image: "nginx\\n"}]': "apps[0].image: 'nginx\\n': must be an image reference",
    "apps: [{name: a, port: 0}]": "apps[0].port: 0: must be at least 1",
    "apps: [{name: a, port: 65536}]": "apps[0].port: 65536: must be at most 65535",
    'apps: [{name: a, port: "80"}]': "apps[0].port: 80: must be a whole number",
    "apps: [{name: a, replicas: -1}]": "apps[0].replicas: -1: must be at least 0",
    "apps: [{name: a, replicas: 51}]": "apps[0].replicas: 51: must be at most 50",
    # the document
    "worker: 2": 'worker: 2: is not a known key; did you mean "workers"?',
    "xyz: 2": "xyz: 2: is not a known key",
    "1: 2": "is not a known key",
    "- a": "must be keys and values",
    "demo": "demo: must be keys and values",
    "apps: [": "is not valid YAML: line 1, column 8: ",
    "name: demo\n\tcpus: 1": "is not valid YAML: line 2, column 1: ",
    "name: a\n---\nname: b": "is not valid YAML: line 2, column 1: ",
    "name: 2026-13-45": "is not valid YAML: line 1, column 7: '2026-13-45' cannot be read",
    "cpus: !!int x": "is not valid YAML: line 1, column 7: 'x' cannot be read",
    "name: !!python/name:os.system x": "is not valid YAML: line 1, column 7: ",
    "[" * 500: "is not valid YAML: ",
    "name: \x01": "is not valid YAML: ",
}


@pytest.mark.parametrize(("text", "problem"), ONE_PROBLEM.items())
def test_a_wrong_value_is_one_problem(problems: Problems, text: str, problem: str) -> None:
    (found,) = problems(text)

    assert problem in found


def test_more_workers_than_the_network_has_room_for_are_refused(problems: Problems) -> None:
    text = "network: 192.168.56.0/28\npool: 192.168.56.2-192.168.56.9\nworkers: "

    assert problems(f"{text}5") == ["workers: 5: network 192.168.56.0/28 has room for 4"]


@pytest.mark.parametrize(
    "text",
    [
        "network: 192.168.56.0/28\npool: 192.168.56.2-192.168.56.9\nworkers: 4",
        "network: 172.16.0.0/16",
        "workers: 20",
        "workers: 0\npool: 192.168.56.11-192.168.56.11",
        "pool: 192.168.56.100 - 192.168.56.110",
        "pool: 192.168.56.100/32",
        "memory: 2048MiB",
        "memory: 2 GiB",
        "kubernetes: 1.38.0-rc.1",
        "apps: []",
        "apps: [{name: a, replicas: 0, hostname: a}]",
        'apps: [{name: a, image: "localhost:5000/a/b__c:v1.2@sha256:' + "0" * 64 + '"}]',
        "apps: &apps [{name: a}]",
    ],
)
def test_an_unusual_value_is_accepted(load: Load, text: str) -> None:
    assert isinstance(load(text), Lab)


def test_an_option_is_named_as_one(problems: Problems) -> None:
    assert problems("", Overrides(name="No Good", provider="vmware")) == [
        "--name: No Good: must be lower-case letters, digits and hyphens, with a letter or digit at both ends",
        "--provider: vmware: must be 'auto', 'docker', 'libvirt', 'virtualbox' or 'existing'",
    ]


def test_wrong_options_without_a_file_say_so() -> None:
    with pytest.raises(UsageError, match=r"^configuration: 1 problem\n  --workers: 99: must be at most 20$"):
        config.load(None, Overrides(workers=99))


@pytest.mark.parametrize("value", ["a\x1b[31mb", "a\nb", "", " ", None, {"a": "\x07"}, "x" * 500, "\u2028"])
def test_a_shown_value_is_one_short_line_that_a_terminal_only_prints(value: object) -> None:
    assert shown(value).isprintable()
    assert 0 < len(shown(value).strip()) <= 81


def test_the_schema_describes_the_keys() -> None:
    properties = config.schema()["properties"]

    assert properties["workers"] | {"description": ""} == {
        "title": "Workers",
        "description": "",
        "type": "integer",
        "default": 1,
        "minimum": 0,
        "maximum": 20,
    }
    assert all("description" in entry for entry in properties.values())
    assert config.schema()["additionalProperties"] is False
