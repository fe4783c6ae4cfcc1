"""Read labctl.yaml and options into a lab, and report all problems."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import NoReturn

import pytest
import yaml
from golden_files import Golden

from labctl import config
from labctl.config import Overrides
from labctl.config.problems import display_value
from labctl.model.errors import ExitCode, UsageError
from labctl.model.lab import AddressPool, App, Lab

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


def test_without_a_file_the_lab_is_the_default_lab() -> None:
    assert config.load(None, Overrides()) == SEED


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}"])
def test_an_empty_file_gives_the_default_lab(load: Load, text: str) -> None:
    assert load(text) == SEED


def test_the_example_is_the_default_lab_and_explains_every_key(load: Load) -> None:
    assert load(config.example()) == SEED
    uncommented = re.sub(r"^( *)# (?=\w+: )", r"\1", config.example(), flags=re.MULTILINE)
    assert load(uncommented) == SEED
    assert list(yaml.safe_load(uncommented)) == list(config.schema()["properties"])
    assert set(yaml.safe_load(uncommented)["apps"][0]) == set(config.schema()["$defs"]["AppConfig"]["properties"])


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("network: 192.168.56.0/24", "network: 10.20.0.0/24", {"pool": "10.20.0.100-10.20.0.110"}),
        ("name: my-app", "name: shop", {"apps": "shop.local"}),
        ("name: demo", "name: class", {"name": "class"}),
        ("workers: 1", "workers: 20", {"workers": "20"}),
    ],
)
def test_a_changed_key_of_the_example_changes_the_values_derived_from_it(
    load: Load, before: str, after: str, changed: dict[str, str]
) -> None:
    lab = load(config.example().replace(before, after))

    for key, text in changed.items():
        assert text in str(getattr(lab, key))


def test_every_key_sets_a_value_of_the_lab(load: Load) -> None:
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


def test_the_default_pool_is_in_the_network(load: Load) -> None:
    assert str(load("network: 10.20.30.0/24").pool) == "10.20.30.100-10.20.30.110"


@pytest.mark.parametrize("network", ["192.168.56.0/28", "192.168.56.0/26", "192.168.56.64/26", "192.168.56.128/25"])
def test_a_network_too_small_for_the_default_pool_gets_a_chosen_one(load: Load, network: str) -> None:
    follows = str(load(f"network: {network}").pool)

    assert follows in {str(config.UNPLANNED), "192.168.56.228-192.168.56.238"}
    assert load(config.example().replace("192.168.56.0/24", network)) == load(f"network: {network}")


@pytest.mark.parametrize("network", ["192.168.56.0/24", "192.168.56.0/28"])
def test_pool_auto_is_unplanned_until_it_is_chosen(load: Load, network: str) -> None:
    assert load(f"pool: auto\nnetwork: {network}").pool == config.UNPLANNED


def test_options_override_the_file(load: Load) -> None:
    lab = load("name: file\nworkers: 3\nprovider: docker", Overrides(name="option", workers=0, ingress="traefik"))

    assert (lab.name, lab.workers, lab.provider, lab.ingress) == ("option", 0, "docker", "traefik")


def test_the_file_is_the_requested_one_or_labctl_yaml_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert config.find(None) is None
    assert config.find(Path("other.yaml")) == Path("other.yaml")
    (tmp_path / "labctl.yaml").touch()
    assert config.find(None) == Path("labctl.yaml")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"/other\.yaml") as caught:
        config.load(tmp_path / "other.yaml", Overrides())

    assert caught.value.id == "config-not-found"


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=str(tmp_path)) as caught:
        config.load(tmp_path, Overrides())

    assert caught.value.id == "config-unreadable"


def _link_to_missing_file(path: Path) -> None:
    path.symlink_to("gone.yaml")


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def _link_below_a_file(path: Path) -> None:
    (path.parent / "file").touch()
    path.symlink_to("file/labctl.yaml")


@pytest.mark.parametrize(
    ("make", "identity", "expected"),
    [
        (_link_to_missing_file, "config-not-found", "gone.yaml"),
        (_link_to_itself, "config-unreadable", "labctl.yaml"),
        (_link_below_a_file, "config-unreadable", "labctl.yaml"),
        (Path.mkdir, "config-unreadable", "a folder"),
        (os.mkfifo, "config-unreadable", "a pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "config-unreadable", "a device"),
        (lambda path: path.write_bytes(b"name: sch\xf6n\n"), "config-invalid", "byte 10, 0xf6"),
        (lambda path: path.write_bytes(b"name: a\0b\n"), "config-invalid", "labctl.yaml"),
    ],
)
def test_an_unreadable_file_is_an_error_and_never_gives_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object], identity: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "labctl.yaml")
    file = config.find(None)

    for act in (lambda: config.load(file, Overrides()), lambda: config.name_of(file, None)):
        with pytest.raises(UsageError) as caught:
            act()
        assert (caught.value.id, caught.value.exit_code) == (identity, ExitCode.USAGE)
        assert expected in caught.value.message
    assert config.name_of(file, "class") == "class"


def test_a_file_without_read_permission_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)

    with pytest.raises(UsageError, match="Permission denied") as caught:
        config.load(tmp_path / "labctl.yaml", Overrides())

    assert caught.value.id == "config-unreadable"


def test_dev_null_gives_the_default_lab() -> None:
    assert config.load(Path(os.devnull), Overrides()) == SEED


def test_a_labctl_yml_is_refused_unless_it_is_requested_or_labctl_yaml_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labctl.yml").symlink_to("anywhere")

    with pytest.raises(UsageError, match=r"labctl\.yml") as caught:
        config.find(None)
    assert (caught.value.id, caught.value.exit_code) == ("config-misnamed", ExitCode.USAGE)

    assert config.find(Path("labctl.yml")) == Path("labctl.yml")
    (tmp_path / "labctl.yaml").touch()
    assert config.find(None) == Path("labctl.yaml")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("name: class\nworker: 2", "class"),
        ("name: class\nworkers: many\ncpus: 1\ncpus: 2", "class"),
        ("worker: 2", "demo"),
        ("", "demo"),
        ("apps: [{name: kubernetes}]", "demo"),
        ("provider: existing\ningress: contour\nname: class", "class"),
        ("name: class\napps: [", "class"),
        ("apps: {name: other}\nname: class\n\tcpus: 1", "class"),
        ("apps: [name]\nname: class\nworkers: !!int x", "class"),
    ],
)
def test_the_name_is_read_from_a_file_with_other_problems(tmp_path: Path, text: str, name: str) -> None:
    path = tmp_path / "labctl.yaml"
    path.write_text(text)

    assert config.name_of(path, None) == name
    assert config.name_of(path, "option") == "option"


@pytest.mark.parametrize(
    "text",
    [
        "name: Demo",
        "name: 12",
        "name: a\nname: b",
        "name: a\nname: b\napps: [",
        "name: a\n---\nname: b",
        "apps: [\nname: class",
        "- a",
        "workers: [",
        "x: [}",
        "name: [",
        "name:",
    ],
)
def test_an_invalid_or_ambiguous_name_is_an_error_and_never_the_default(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labctl.yaml"
    path.write_text(text)

    with pytest.raises(UsageError) as caught:
        config.name_of(path, None)

    assert caught.value.id == "config-invalid"
    assert "--name" in caught.value.hint


def test_every_problem_is_reported_at_once_with_its_key_and_value(problems: Problems, golden: Golden) -> None:
    lines_found = problems(
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

    assert [text.partition(":")[0] for text in lines_found] == [
        *("cpus", "--workers", "cpus", "apps[2].prot", "apps[3].name", "nam", "pool", "apps.hostname")
    ]
    golden([*lines_found])


@pytest.mark.parametrize("apps", ["", "apps: [{name: a}, {name: 5}]\n"])
@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("mirrors: 5", "mirrors"),
        ("mirrors: [a]", "mirrors"),
        ("mirrors: {docker.io: 5}", "mirrors[docker.io]"),
        ("mirrors: {docker.io: }", "mirrors[docker.io]"),
        ("mirrors: {docker.io: {a: b}}", "mirrors[docker.io]"),
        ("mirrors: {docker.io: 'ftp://a'}", "mirrors"),
        ("bundle: [a]", "bundle"),
        ("network: {a: b}", "network"),
    ],
)
def test_a_wrong_value_in_a_table_is_one_problem_with_its_key(
    problems: Problems, text: str, key: str, apps: str
) -> None:
    expected = [*(["apps[1].name"] if apps else []), key]
    assert sorted(line.partition(": ")[0] for line in problems(apps + text)) == sorted(expected)


ONE_PROBLEM = {
    # names
    'name: "a\\nb"': "name",
    "name: Demo": "name",
    "name: a-": "name",
    "name: ../up": "name",
    "name: ''": "name",
    f"name: {'a' * 33}": "name",
    "name: 12": "name",
    "name: true": "name",
    "provider: dockr": "provider",
    "provider: existing": "provider",
    "ingress: haproxy": "ingress",
    "ingress: contour": "ingress",
    # the network
    "network: 192.168.56.1/24": "network",
    "network: fd00::/64": "network",
    "network: 56": "network",
    "network: 8.8.8.0/24": "network",
    "network: 10.96.0.0/16": "network",
    "network: 10.244.7.0/24": "network",
    "network: 192.168.0.0/15": "network",
    "network: 192.168.56.0/29": "network",
    "network: 192.168.56.0/28\npool: 192.168.56.100/32": "pool",
    # the pool
    "pool: 192.168.57.100-192.168.57.110": "pool",
    "pool: 192.168.56.110-192.168.56.100": "pool",
    "pool: 192.168.56.11-192.168.56.11": "pool",
    "pool: 192.168.56.0-192.168.56.9": "pool",
    "pool: 192.168.56.240/28": "pool",
    "pool: fd00::1-fd00::9": "pool",
    "pool: 192.168.56.100/24": "pool",
    "pool: many": "pool",
    "pool: [a]": "pool",
    # numbers
    "workers: -1": "workers",
    "workers: 21": "workers",
    "workers: 1.5": "workers",
    "workers: true": "workers",
    r'name: "\ud800"': "name",
    "workers:": "workers",
    "cpus: 0": "cpus",
    "memory: 511": "memory",
    "memory: 256MiB": "memory",
    "memory: 2G": "memory",
    # the version
    "kubernetes: 1.37": "kubernetes",
    "kubernetes: v1.37.2": "kubernetes",
    "kubernetes: latest": "kubernetes",
    # the hosts file
    "hosts_file: hosts": "hosts_file",
    "bundle: https://registry.test/labs:1.37": "bundle",
    "bundle: oci://registry.test/labs": "bundle",
    "bundle: oci://registry.test/Labs:1.37": "bundle",
    "hosts_file: /etc/ho'sts": "hosts_file",
    'hosts_file: "/etc/hosts\\0"': "hosts_file",
    # apps
    "apps: my-app": "apps",
    "apps: [my-app]": "apps[0]",
    "apps: [{}]": "apps[0].name",
    "apps: [{name: 1st}]": "apps[0].name",
    f"apps: [{{name: {'a' * 51}}}]": "apps[0].name",
    "apps: [{name: a}, {name: a, hostname: b.local}]": "apps.name",
    "apps: [{name: a}, {name: b, hostname: a.local}]": "apps.hostname",
    "apps: [{name: a, hostname: A.local}]": "apps[0].hostname",
    "apps: [{name: a, hostname: a b}]": "apps[0].hostname",
    "apps: [{name: a, hostname: a_b.local}]": "apps[0].hostname",
    'apps: [{name: a, hostname: "*.local"}]': "apps[0].hostname",
    f"apps: [{{name: a, hostname: {'a' * 64}.local}}]": "apps[0].hostname",
    f"apps: [{{name: a, hostname: {'a.' * 127}local}}]": "apps[0].hostname",
    "apps: [{name: a, hostname: 10.0.0.1}]": "apps[0].hostname",
    "apps: [{name: a, hostname: localhost}]": "apps[0].hostname",
    "apps: [{name: a, hostname: a.localhost}]": "apps[0].hostname",
    "apps: [{name: a, hostname: demo-worker-7}]": "apps.hostname",
    "apps: [{name: a, image: a b}]": "apps[0].image",
    "apps: [{name: a, image: Nginx}]": "apps[0].image",
    'apps: [{name: a, image: "nginx:"}]': "apps[0].image",
    'apps: [{name: a, image: "nginx\\n"}]': "apps[0].image",
    "apps: [{name: a, port: 0}]": "apps[0].port",
    "apps: [{name: a, port: 65536}]": "apps[0].port",
    'apps: [{name: a, port: "80"}]': "apps[0].port",
    "apps: [{name: kubernetes}]": "apps[0].name",
    "apps: [{name: demo-second}]": "apps[0].name",
    "apps: [{name: a, replicas: -1}]": "apps[0].replicas",
    "apps: [{name: a, replicas: 51}]": "apps[0].replicas",
    # the document
    "worker: 2": "worker",
    "xyz: 2": "xyz",
    "1: 2": "1",
    "- a": "",
    "demo": "",
    "apps: [": "",
    "name: demo\n\tcpus: 1": "",
    "name: a\n---\nname: b": "",
    "cpus: !!int x": "",
    'cpus: !!int "010"': "",
    "cpus: !!int 1_0": "",
    "cpus: !!float 1_0.5": "",
    "name: !!bool yes": "",
    "name: !!python/name:os.system x": "",
    "[" * 500: "",
    "name: \x01": "",
}
"""Files with one problem, and the key that it names; an empty key stands for the file itself."""


def test_a_problem_states_what_the_value_must_be(problems: Problems, golden: Golden) -> None:
    problems_by_text = {text: problems(text) for text in ONE_PROBLEM}

    assert {text: lines for text, lines in problems_by_text.items() if len(lines) != 1} == {}
    unnamed = [
        text for text, key in ONE_PROBLEM.items() if key and not problems_by_text[text][0].startswith(f"{key}: ")
    ]
    assert unnamed == []
    golden({text: line for text, (line,) in problems_by_text.items()})


WHOLE_NUMBERS = {"workers", "cpus", "memory", "apps[0].port", "apps[0].replicas"}
NUMBERS_OF_YAML_1_1 = (
    *("010", "0o10", "0o80", "0x10", "0b10", "1_000", "+5", "-0", "00", "12:30", "1:00:00"),
    *("1e3", "1.5e3", "1e+3", ".5", "5.", "1_0.5", "12:30.5", ".inf", "-.INF", ".nan"),
    *("yes", "no", "on", "off", "Yes", "NO", "On", "OFF", "True", "TRUE", "y", "n", "Null", "NULL"),
    *("2026-11-25", "2026-11-25T10:00:00Z", "2026-13-45", "=", "\uff12"),
)
"""Text that YAML 1.1 reads as something else: a number in another base, true, false, nothing or a date."""


def _file_with(keys: Iterable[str], value: str) -> str:
    """Return a file in which each of these keys has this value."""
    plain = "".join(f"{key}: {value}\n" for key in keys if "." not in key)
    apps = "".join(f", {key.rpartition('.')[2]}: {value}" for key in keys if "." in key)
    return f"{plain}apps: [{{name: a{apps}}}]"


@pytest.mark.parametrize("written", [*NUMBERS_OF_YAML_1_1, "1.5", "1.50", "-0.0", "true", "false", "two"])
def test_a_number_in_another_notation_is_refused_and_shown_as_written(problems: Problems, written: str) -> None:
    lines_found = problems(_file_with(WHOLE_NUMBERS, written))

    assert {text.partition(": must be a ")[0] for text in lines_found} == {f"{key}: {written}" for key in WHOLE_NUMBERS}


@pytest.mark.parametrize("quote", ['"', "'"])
def test_a_quoted_number_is_refused_and_shown_with_quotes(problems: Problems, quote: str) -> None:
    lines_found = problems(_file_with(WHOLE_NUMBERS, f"{quote}7{quote}"))

    assert {text.partition(": must be a ")[0] for text in lines_found} == {f'{key}: "7"' for key in WHOLE_NUMBERS}


@pytest.mark.parametrize("written", ["12", "0", "-3", "1.37", "1.30", "1.0", "true", "false"])
def test_a_value_that_is_not_text_is_refused_and_shown_as_written(problems: Problems, written: str) -> None:
    keys = {"name", "kubernetes", "hosts_file", "apps[0].image", "apps[0].hostname"}

    lines_found = problems(_file_with(keys, written))

    assert {text.partition(": must be text")[0] for text in lines_found} == {f"{key}: {written}" for key in keys}


@pytest.mark.parametrize(
    "name", ["no", "on", "off", "yes", "y", "010", "0o80", "0x10", "1e3", "2026-11-25", "2026-13-45"]
)
def test_text_that_yaml_1_1_would_convert_stays_text(load: Load, name: str) -> None:
    assert load(f"name: {name}").name == name
    assert load(f'name: "{name}"').name == name


def test_problems_of_numbers_are_reported_with_all_others(problems: Problems) -> None:
    assert len(problems("cpus: 0o2\nmemory: 2_048\nname: 1.0\napps: [{name: kubernetes, port: 0x50}]")) == 5


@pytest.mark.parametrize("provider", ["auto", "docker", "libvirt", "virtualbox"])
def test_a_supported_provider_is_accepted(load: Load, provider: str) -> None:
    assert load(f"provider: {provider}").provider == provider


@pytest.mark.parametrize("provider", ["existing", "vmware", "1.0", "[a]", "null"])
def test_an_unknown_provider_is_one_problem_that_lists_the_providers(tmp_path: Path, provider: str) -> None:
    (tmp_path / "labctl.yaml").write_text(f"provider: {provider}")
    for path, overrides, key in (
        (tmp_path / "labctl.yaml", Overrides(), "provider"),
        (None, Overrides(provider=provider), "--provider"),
    ):
        with pytest.raises(
            UsageError, match=rf"1 problem\n  {key}: \W*{re.escape(provider.strip('[]'))}\W+.*'auto', .*'virtualbox'"
        ) as caught:
            config.load(path, overrides)
        assert (caught.value.id, caught.value.exit_code) == ("config-invalid", ExitCode.USAGE)


@pytest.mark.parametrize(
    ("text", "key", "minimum"),
    [
        ("provider: libvirt\nmemory: 512", "memory", "1536 MiB"),
        ("provider: virtualbox\nmemory: 1GiB", "memory", "1536 MiB"),
        ("provider: libvirt\ncpus: 0", "cpus", "1"),
        ("memory: 511", "memory", "512 MiB"),
    ],
)
def test_too_small_nodes_are_one_problem_that_names_the_minimum(
    problems: Problems, text: str, key: str, minimum: str
) -> None:
    (problem,) = problems(text)

    assert problem.startswith(f"{key}: ")
    assert f"at least {minimum}" in problem


def test_containers_can_have_less_memory_than_virtual_machines(load: Load) -> None:
    assert load("memory: 512").memory == 512


def test_more_workers_than_fit_in_the_network_are_refused(problems: Problems) -> None:
    text = "network: 192.168.56.0/28\npool: 192.168.56.2-192.168.56.9\nworkers: "

    (problem,) = problems(f"{text}5")

    assert problem.startswith("workers: 5: ")
    assert problem.endswith(" 4")


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


def test_a_problem_of_an_option_is_reported_under_its_name(problems: Problems) -> None:
    lines_found = problems("", Overrides(name="No Good", provider="vmware"))

    assert [text.split(": ")[:2] for text in lines_found] == [["--name", "No Good"], ["--provider", "vmware"]]


def test_wrong_options_without_a_file_are_reported() -> None:
    with pytest.raises(UsageError, match=r"^configuration: 1 problem\n  --workers: 99: .*20$"):
        config.load(None, Overrides(workers=99))


@pytest.mark.parametrize("value", ["a\x1b[31mb", "a\nb", "", " ", None, {"a": "\x07"}, "x" * 500, "\u2028"])
def test_a_shown_value_is_one_short_printable_line(value: object) -> None:
    assert display_value(value).isprintable()
    assert 0 < len(display_value(value).strip()) <= 81


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
