"""Limits on the effects of configurations, templates and tools' environments."""

from __future__ import annotations

import ast
import dataclasses
import os
import re
import stat
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from ipaddress import IPv4Network
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar, get_args

import pytest
from fakes import IMAGES, MACHINE, VERSIONS, lab
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.bundle.build import debian, toolchain
from labctl.bundle.build.ingredients import DebianPackages, GoModule, WheelProgram
from labctl.bundle.build.recipe import RECIPE
from labctl.config import schema
from labctl.config.model import AppConfig, Config, Provider
from labctl.host import paths, process
from labctl.isolation import isolation
from labctl.isolation.isolation import Isolation
from labctl.model.errors import UsageError
from labctl.model.lab import Lab, Phase, Role
from labctl.render import manifests
from labctl.render.node_files import Box, Credentials, Supplies, lab_files
from labctl.render.yaml_stream import documents
from labctl.trace.node import node_facts

CHECKOUT = Path(__file__).parents[2]
MODULES = sorted((CHECKOUT / "labctl").rglob("*.py"))
TEMPLATES = sorted([*(CHECKOUT / "templates").rglob("*.j2"), CHECKOUT / "Vagrantfile.j2"])
CREDENTIALS = Credentials("certificate\n", "key\n", "abcdef.0123456789abcdef", "ssh-ed25519 AAAA labctl\n")
SUPPLIES = Supplies(
    folder=Path("/cache/bundle"),
    id="kubernetes-1.37.2-amd64",
    versions=VERSIONS,
    pause_image="labctl.local/pause:1.0",
    node_image="labctl.local/node:0123456789ab",
    box=Box("labctl/kubernetes-1.37.2-amd64", "1.37.2", Path("/cache/bundle/machine/metadata.json")),
    archives={
        role: {phase: tuple(image.archive for image in IMAGES if image.phase is phase) for phase in Phase}
        for role in Role
    },
)

Where = Literal["lab", "app"]
PROPERTIES: dict[Where, dict[str, Any]] = {
    "lab": schema()["properties"],
    "app": schema()["$defs"][AppConfig.__name__]["properties"],
}
KEYS: list[tuple[Where, str]] = [(where, key) for where, keys in PROPERTIES.items() for key in keys if key != "apps"]
PATTERNS = {key: pattern for key in KEYS if (pattern := PROPERTIES[key[0]][key[1]].get("pattern"))}
every_key = pytest.mark.parametrize(("where", "key"), KEYS)
VALID: dict[str, object] = {"name": "my-app", "hostname": "my-app.test", "pool": "192.168.56.100-192.168.56.110"}
"""Valid values of keys without a default in the schema."""
HOSTILE = (
    *("'", '"', "`id`", "$(id)", "${HOME}", "; id", "| id", "&& id", "\\", "#{`id`}", "#$0", "<<~X", "%x(id)"),
    *("\n- evil", "\n---\nkind: Evil\n", "\r\nevil: 1", "\0", "\x1b[31m", "\u0085", "\u2028evil: 1", "\u202e"),
    *("&a [*a]", "*a", "!!python/object:os.system {}", "{{ lab }}", "{% raw %}", ": {evil: 1}", " # x", "%YAML 1.1"),
    *(
        "../../evil",
        "/../evil",
        "-rf",
        "--privileged",
        "a" * 5000,
        "9" * 400,
        "\N{FULLWIDTH LATIN SMALL LETTER A}",
        "\N{KELVIN SIGN}",
        "💥",
    ),
)


T = TypeVar("T")
quick = settings(deadline=None, max_examples=10, suppress_health_check=list(HealthCheck))


def _module(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


# Shells

ON_A_NODE = {"labctl/trace/node/node_facts.py": 1}
"""By module, how many shells it runs on a node, never on this machine: one login runs several quoted commands there."""


@pytest.mark.parametrize("path", MODULES, ids=_module)
def test_no_module_runs_a_shell(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    sequences = [node for node in ast.walk(tree) if isinstance(node, ast.List | ast.Tuple)]

    with_shell_option = [call.lineno for call in calls if any(keyword.arg == "shell" for keyword in call.keywords)]
    shell_functions = [
        call.lineno
        for call in calls
        if re.fullmatch(r"os\.(system|popen)|(subprocess\.)?get(status)?output|pty\.spawn", ast.unparse(call.func))
    ]
    shell_programs = [
        each.lineno
        for each in sequences
        if {"sh", "bash", "/bin/sh", "/bin/bash"} & (words := _constants(each)) and "-c" in words
    ]
    assert with_shell_option + shell_functions == []
    assert len(shell_programs) == ON_A_NODE.get(_module(path), 0), shell_programs


@pytest.mark.parametrize("word", [each for each in HOSTILE if "\0" not in each], ids=repr)
def test_a_script_for_a_node_runs_each_command_with_its_words_unchanged(word: str) -> None:
    script = node_facts.script([("printf", "%s", word), ("false",), ("printf", "%s", "last")])
    ran = subprocess.run(["sh", "-c", script], capture_output=True, check=True, timeout=10)

    ends = [f"\n{node_facts.ENDED} {code}\n" for code in (0, 1, 0)]
    assert ran.stdout.decode() == f"{word}{ends[0]}{ends[1]}last{ends[2]}"


def _constants(sequence: ast.List | ast.Tuple) -> set[object]:
    return {item.value for item in sequence.elts if isinstance(item, ast.Constant)}


SAFE_IN = {
    "bootstrap.sh.j2": {
        *("node.name", "node.address", "peer.address", "peer.pod_network", "api_server"),
        *("pod_network", "service_network", "first_service", "static_pods"),
        *("bundle_id", "archive"),  # of the bundle, whose programs run on the node anyway
    },
    "Vagrantfile.j2": {'", primary: true" if loop.first'},
    "docker.rb.j2": {"lab.network.prefixlen", "lab.cpus", "lab.memory"},
    "libvirt.rb.j2": {"lab.cpus", "lab.memory", "libvirt.code_cache"},
    "virtualbox.rb.j2": {"lab.cpus", "lab.memory"},
}
"""Expressions that templates of programs may contain without a filter: numbers, addresses, and names that consist of
letters, digits, dots and hyphens."""
LIMIT = re.compile(r"lab\.limits\.\w+|\(1000 \* lab\.limits\.\w+\) \| int")
"""A time limit, which is a number of seconds or milliseconds."""


@pytest.mark.parametrize("name", SAFE_IN)
def test_unquoted_expressions_in_programs_are_the_reviewed_ones(name: str) -> None:
    (template,) = (path for path in TEMPLATES if path.name == name)
    expressions = set(re.findall(r"{{\s*(.*?)\s*}}", template.read_text(encoding="utf-8")))

    unfiltered = {expression for expression in expressions if not expression.endswith("| ruby")}
    assert {expression for expression in unfiltered if not LIMIT.fullmatch(expression)} == SAFE_IN[name]


def test_every_template_of_a_program_is_reviewed() -> None:
    programs = {path.name for path in TEMPLATES if path.name.endswith((".sh.j2", ".rb.j2")) or "Vagrant" in path.name}

    assert programs == SAFE_IN.keys()


# Configuration


def test_every_key_of_the_configuration_is_tested() -> None:
    assert {key for where, key in KEYS if where == "lab"} == Config.model_fields.keys() - {"apps"}
    assert {key for where, key in KEYS if where == "app"} == AppConfig.model_fields.keys()


@every_key
def test_a_hostile_value_is_an_error_of_its_key_or_stays_a_value(where: Where, key: str) -> None:
    valid = str(_valid(where, key))
    for hostile in HOSTILE:
        for value in (hostile, valid + hostile, hostile + valid):
            _assert_harmless(where, key, value)


@every_key
@given(value=st.one_of(st.text(max_size=40), st.integers(), st.floats(), st.none(), st.booleans(), st.lists(st.text())))
@settings(quick, max_examples=30)
def test_any_value_is_an_error_of_its_key_or_stays_a_value(where: Where, key: str, value: object) -> None:
    _assert_harmless(where, key, value)


@pytest.mark.parametrize(("where", "key"), PATTERNS)
@given(data=st.data())
@quick
def test_a_value_that_matches_the_pattern_of_its_key_stays_a_value(where: Where, key: str, data: st.DataObject) -> None:
    _assert_harmless(where, key, data.draw(st.from_regex(PATTERNS[where, key], fullmatch=True)))


@pytest.mark.parametrize("name", ["..", "../demo", "/etc", "a/b", ".", "a\0b", ""])
def test_a_name_cannot_lead_to_another_folder(name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        lab(name=name)


def _assert_harmless(where: Where, key: str, value: object) -> None:
    """Check that a value is refused with its key named, or that every file has the same form as with a valid value."""
    described = _described(where, key, value)
    if isinstance(described, UsageError):
        assert re.search(rf"^  (apps\[0\]\.)?{key}\b", described.message, re.MULTILINE), described.message
        assert all(line.isprintable() for line in described.message.split("\n")), "a terminal would interpret it"
        return
    assert paths.state(described.name).parent == paths.state_home()
    for provider in set(get_args(Provider)) - {"auto"}:
        files = _files(described, provider)
        assert not [path for path in files if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts]
        size = (str(described.network), described.workers, str(described.pool))
        assert _forms(files) == _forms_of_a_valid_lab(*size, provider)


def _described(where: Where, key: str, value: object) -> Lab | UsageError:
    try:
        return lab(**({key: value} if where == "lab" else {"apps": [{"name": "my-app"} | {key: value}]}))
    except UsageError as error:
        return error


@cache
def _forms_of_a_valid_lab(network: str, workers: int, pool: str, provider: str) -> set[tuple[str, str]]:
    return _forms(_files(lab(network=network, workers=workers, pool=pool), provider))


def _files(described: Lab, provider: str) -> dict[str, str]:
    files = lab_files(described, provider, MACHINE, SUPPLIES, CREDENTIALS)
    files |= {f"manifests/app-{app.name}.yaml": manifests.app(app, app.image, "nginx") for app in described.apps}
    return files | {"manifests/pool.yaml": manifests.pool(described)}


def _forms(files: Mapping[str, str]) -> set[tuple[str, str]]:
    return {_form(path, text) for path, text in files.items()}


@cache
def _form(path: str, text: str) -> tuple[str, str]:
    """Return a file without its values: keys and types of YAML, otherwise all characters outside words."""
    kind = PurePosixPath(path).suffix
    if kind == ".yaml":
        return kind, repr([_kinds(document) for document in documents(text)])
    return kind, re.sub(r"[A-Za-z0-9][-A-Za-z0-9._/:]*", "word", text)


def _kinds(value: object) -> object:
    match value:
        case dict():
            return {str(name): _kinds(each) for name, each in value.items()}
        case list():
            return [_kinds(each) for each in value]
        case _:
            return type(value).__name__


def _valid(where: Where, key: str) -> object:
    return VALID.get(key, PROPERTIES[where][key].get("default"))


# Temporary files, and the Engine's socket


@pytest.mark.parametrize("path", MODULES, ids=_module)
def test_temporary_files_are_created_in_an_explicit_folder(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    temporary = [call for call in calls if ast.unparse(call.func).startswith("tempfile.")]

    assert [call.lineno for call in temporary if "dir" not in {keyword.arg for keyword in call.keywords}] == []


def test_the_labs_engine_listens_only_on_its_sockets(tmp_path: Path) -> None:
    demo = Isolation("demo", IPv4Network("192.168.56.0/24"), tmp_path)
    containerd, dockerd = (daemon.line for daemon in demo._daemons())

    assert [word for word in dockerd if "://" in word] == ["unix:///run/labctl/demo/docker.sock"]
    assert dockerd[dockerd.index("--host") + 1] == "unix:///run/labctl/demo/docker.sock"
    assert dockerd.count("--host") == 1
    assert "-H" not in dockerd
    assert containerd[containerd.index("--address") + 1] == "/run/labctl/demo/containerd.sock"
    assert not {"--tlsverify", "--metrics-addr", "--insecure-registry"} & {*dockerd, *containerd}


def test_neither_daemon_reads_the_machines_configuration(tmp_path: Path) -> None:
    demo = Isolation("demo", IPv4Network("192.168.56.0/24"), tmp_path)
    containerd, dockerd = (daemon.line for daemon in demo._daemons())

    assert dockerd[dockerd.index("--config-file") + 1] == "/run/labctl/demo/daemon.json"
    assert containerd[containerd.index("--config") + 1] == "/run/labctl/demo/containerd.toml"


def test_the_folders_of_the_sockets_are_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = tmp_path / "run" / "labctl" / "demo"
    monkeypatch.setattr(isolation, "RUNTIME", runtime.parent)
    for part in ("_ensure_namespace", "_ensure_forwarding"):
        monkeypatch.setattr(Isolation, part, lambda _self: False)
    monkeypatch.setattr(Isolation, "_daemons", lambda _self: ())

    Isolation("demo", IPv4Network("192.168.56.0/24"), tmp_path / "state").ensure()

    for folder in (runtime, runtime.parent, tmp_path / "state" / "engine"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder


# Checksums


def _ingredients(of: type[T]) -> list[T]:
    """Return every ingredient of this type, at any depth of the recipe."""
    ingredients: list[T] = []

    def look(value: object) -> None:
        if isinstance(value, of):
            ingredients.append(value)
        if dataclasses.is_dataclass(value):
            look([getattr(value, field.name) for field in dataclasses.fields(value)])
        elif isinstance(value, list | tuple):
            for each in value:
                look(each)

    look(RECIPE)
    return ingredients


def test_go_sum_has_the_checksum_of_every_named_module() -> None:
    modules = {module for module in _ingredients(GoModule) if module.upstream}

    assert len(modules) > 3
    for module in modules:
        sums = (toolchain.MODULES / module.folder / "go.sum").read_text(encoding="ascii")
        for name in (module.version, f"{module.version}/go.mod"):
            assert re.search(
                rf"^{re.escape(module.upstream)} {re.escape(name)} h1:[A-Za-z0-9+/]{{43}}=$", sums, re.MULTILINE
            )


def test_every_wheel_is_pinned_by_its_checksum_for_every_architecture() -> None:
    programs = [*_ingredients(WheelProgram), toolchain.GO]

    assert len(programs) > 1
    for program in programs:
        assert program.wheels.keys() == {"amd64", "arm64"}
        assert all(re.fullmatch("[0-9a-f]{64}", wheel.sha256) for wheel in program.wheels.values())


def test_the_signatures_of_debian_packages_are_checked(tmp_path: Path, tools: list[list[str]]) -> None:
    packages = _ingredients(DebianPackages)[0]

    debian.make_node(packages, tmp_path / "node.tar", "amd64")
    debian.extract(packages, tmp_path / "image.tar", "amd64")

    assert [line[0] for line in tools] == ["mmdebstrap"] * 2
    for line in tools:
        assert not [
            word for word in line if re.search("(?i)trusted|allow-|insecure|unauth|aptopt|keyring|check-", word)
        ]
        assert line[-2:-1] == [packages.suite], "a mirror in the arguments could carry options"


def test_a_hook_needs_no_file_in_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root, the hook runs as another user, who cannot enter a home of mode 0700."""
    calls: list[tuple[list[str], Mapping[str, str]]] = []

    def check(args: Sequence[process.Argument], **options: Any) -> str:  # noqa: ANN401 - any options
        calls.append(([os.fspath(arg) for arg in args], options["env"]))
        return ""

    monkeypatch.setattr(process, "check", check)

    debian.make_node(_ingredients(DebianPackages)[0], tmp_path / "node.tar", "amd64")
    debian.extract(_ingredients(DebianPackages)[0], tmp_path / "image.tar", "amd64")

    for (line, environment), script in zip(calls, ("node.sh", "image.sh"), strict=True):
        (hook,) = (word for word in line if "-hook=" in word)
        assert environment[debian.HOOK] == (debian.ROOTFS / script).read_text(encoding="utf-8")
        assert "/" not in hook
        assert debian.HOOK in hook


def test_the_users_go_environment_does_not_change_the_build() -> None:
    assert toolchain.PINNED.keys() >= {"GOFLAGS", "GOWORK", "GO111MODULE"}
    assert "-mod" not in toolchain.PINNED["GOFLAGS"]


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines of programs that would have been run."""
    lines: list[list[str]] = []

    def check(args: Sequence[process.Argument], **_options: object) -> str:
        lines.append([os.fspath(arg) for arg in args])
        return ""

    monkeypatch.setattr(process, "check", check)
    return lines
