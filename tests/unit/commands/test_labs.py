"""Choose the lab of a command, and list all labs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
from fakes import bundle, lab
from recorded_machine import Recorded

from labctl import config
from labctl.bundle import File, Image
from labctl.bundle.download import recipe as recipes
from labctl.bundle.format import write
from labctl.bundle.oci import references
from labctl.commands import labs
from labctl.config import saved_lab
from labctl.context import BundlePolicy, Context
from labctl.doctor import preflight
from labctl.host import accelerator, caller, lab_folder, paths
from labctl.host.accelerator import Acceleration
from labctl.isolation.isolation import Isolation
from labctl.model.errors import MissingError, ProviderError, UsageError
from labctl.model.lab import Phase
from labctl.model.options import GlobalOptions
from labctl.plans import provider_choice
from labctl.providers.docker import DockerProvider
from labctl.providers.libvirt import LibvirtProvider
from labctl.providers.protocol import Obstacle
from labctl.render.ingress import CONTROLLERS, IngressController
from labctl.render.yaml_stream import yaml_stream
from labctl.transfer.reference import parse

OPTIONS = GlobalOptions(config_file=None, lab_name=None, output="json", verbosity=0)
pytestmark = pytest.mark.usefixtures("home")


class ReplacedError(Exception):
    """Another program has replaced this process."""


def _set_machine(monkeypatch: pytest.MonkeyPatch, *, engine: bool, root: bool) -> None:
    obstacle = None if engine else Obstacle("no Docker Engine answers", "")
    monkeypatch.setattr(DockerProvider, "check", lambda _provider, _set_machine: obstacle)
    monkeypatch.setattr(preflight, "may_isolate", lambda: root)
    machine = partial(Recorded, is_root=root, absent={"virsh", "VBoxManage"})
    monkeypatch.setattr(provider_choice, "Machine", machine)


def test_virtual_machines_cannot_be_isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    _set_machine(monkeypatch, engine=True, root=True)

    with pytest.raises(UsageError) as raised:
        labs.requested(OPTIONS, config.Overrides(provider="virtualbox"), isolated=True)

    assert (raised.value.id, raised.value.exit_code) == ("isolation-of-machines", 2)
    assert "virtualbox" in raised.value.message


# The selected lab


@pytest.mark.parametrize(
    ("engine", "root", "requested", "isolated"),
    [
        (True, True, False, False),
        (False, True, False, True),
        (False, False, False, False),
        (True, True, True, True),
    ],
)
def test_a_new_lab_is_isolated_if_requested_or_if_root_has_no_engine(
    monkeypatch: pytest.MonkeyPatch,
    engine: bool,  # noqa: FBT001 - a column of the table
    root: bool,  # noqa: FBT001 - the same
    requested: bool,  # noqa: FBT001 - the same
    isolated: bool,  # noqa: FBT001 - the same
) -> None:
    _set_machine(monkeypatch, engine=engine, root=root)

    assert labs.requested(OPTIONS, config.Overrides(), isolated=requested).isolated is isolated


def test_a_lab_of_virtual_machines_is_never_isolated_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    _set_machine(monkeypatch, engine=False, root=True)

    assert not labs.requested(OPTIONS, config.Overrides(provider="libvirt")).isolated


@pytest.mark.parametrize(
    ("provider", "to_boot", "saved", "kvm", "running", "slowness"),
    [
        ("libvirt", True, None, False, (), 7),
        ("libvirt", False, None, False, (), 1),
        ("libvirt", True, 13, False, (), 13),
        ("libvirt", False, 13, False, (), 13),
        ("libvirt", True, 1, True, (), 1),
        ("libvirt", True, 1, False, (), 7),
        ("libvirt", False, 1, False, (), 1),
        ("libvirt", True, 13, True, (), 7),
        ("libvirt", True, 13, True, ("demo-worker-1",), 13),
        ("libvirt", True, 13, True, None, 13),
        ("virtualbox", True, None, False, (), 1),
        ("docker", True, None, False, (), 1),
    ],
)
def test_slowness_is_measured_if_nodes_will_be_emulated_and_otherwise_read_from_the_record(
    monkeypatch: pytest.MonkeyPatch,
    provider: str,
    to_boot: bool,  # noqa: FBT001 - a column of the table
    saved: int | None,
    kvm: bool,  # noqa: FBT001 - the same
    running: tuple[str, ...] | None,
    slowness: int,
) -> None:
    def nodes(_provider: object) -> frozenset[str]:
        if running is None:
            raise ProviderError("libvirt cannot be reached", id="libvirt-unreachable")
        return frozenset(running)

    _set_machine(monkeypatch, engine=True, root=True)
    described = lab(provider=provider)
    monkeypatch.setattr(config, "load", lambda *_asked, **_options: described)
    monkeypatch.setattr(accelerator, "slowness", lambda _set_machine: 7)
    monkeypatch.setattr(accelerator, "kvm", lambda _set_machine: Acceleration("" if kvm else "there is no /dev/kvm"))
    monkeypatch.setattr(LibvirtProvider, "running", nodes)
    if saved is not None:
        measured = replace(described, slowness=saved)
        saved_lab.write(paths.state("demo"), saved_lab.SavedLab(measured, isolated=False))

    assert labs.requested(OPTIONS, config.Overrides(), isolated=False, to_boot=to_boot).lab.slowness == slowness


@pytest.mark.parametrize("isolated", [False, True])
def test_an_existing_lab_stays_isolated_or_not(monkeypatch: pytest.MonkeyPatch, *, isolated: bool) -> None:
    _set_machine(monkeypatch, engine=isolated, root=True)
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(), isolated))

    assert labs.requested(OPTIONS, config.Overrides()).isolated is isolated


def test_a_run_inside_a_labs_network_selects_an_isolated_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    _set_machine(monkeypatch, engine=True, root=True)
    monkeypatch.setattr(Isolation, "is_entered", lambda _isolation: True)

    assert labs.requested(OPTIONS, config.Overrides()).isolated


def test_options_override_the_file_and_a_bundle_path_becomes_absolute(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    _set_machine(monkeypatch, engine=True, root=True)
    (home / "labctl.yaml").write_text("name: file\nworkers: 3\n")

    context = labs.requested(
        replace(OPTIONS, lab_name="option"), config.Overrides(workers=2), bundle=Path("stick"), may_install=True
    )

    assert (context.lab.name, context.lab.workers) == ("option", 2)
    assert context.folder == home / "state" / "labctl" / "option"
    assert context.bundle_folder == home / "stick"
    assert context.may_install


@pytest.mark.parametrize("is_written", [True, False], ids=["in labctl.yaml", "as an option"])
def test_a_bundle_option_is_a_folder_or_a_reference_that_was_pulled(
    home: Path, monkeypatch: pytest.MonkeyPatch, *, is_written: bool
) -> None:
    _set_machine(monkeypatch, engine=True, root=True)
    named = "oci://registry.test/labs:1.37"
    if is_written:
        Path("labctl.yaml").write_text(f"bundle: {named}\n")
    reference = parse("registry.test/labs:1.37")
    cache = home / "cache" / "labctl"

    def folder() -> Path | None:
        option = None if is_written else named
        return labs.requested(OPTIONS, config.Overrides(), bundle=option).bundle_folder

    assert (labs.bundle_reference("stick"), labs.bundle_reference(named)) == (None, reference)
    assert folder() is None
    pulled = bundle(cache / "bundles" / "kubernetes-1.37.2")
    references.record_pulled(reference, references.PulledReference("sha256:0", pulled.id), cache)
    assert folder() is None  # a bundle that was removed
    write(pulled)
    assert folder() == pulled.folder


def test_the_bundle_that_a_lab_boots_from_overrides_the_recorded_setting(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set_machine(monkeypatch, engine=True, root=True)
    for remembered in ("/old", "oci://registry.test/old:1"):
        record = saved_lab.SavedLab(lab(bundle=remembered), isolated=False, bundle=Path("/stick"))
        saved_lab.write(paths.state("demo"), record)
        context = labs.requested(OPTIONS, config.Overrides())
        assert (context.bundle_folder, labs.reference_to_pull(context, None)) == (Path("/stick"), None)

    for written, folder in (("/old", "/old"), ("oci://registry.test/old:1", "/stick")):
        (home / "labctl.yaml").write_text(f"bundle: {written}")
        assert labs.requested(OPTIONS, config.Overrides()).bundle_folder == Path(folder)


def test_a_recipe_overrides_the_configured_and_the_recorded_bundle(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _set_machine(monkeypatch, engine=True, root=True)
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(), isolated=False, bundle=Path("/stick")))
    (home / "labctl.yaml").write_text("bundle: oci://registry.test/old:1")

    policy = labs.bundle_policy(recipes.OWN, None, offline=False)
    context = labs.requested(OPTIONS, config.Overrides(), policy=policy)

    assert (context.bundle_folder, labs.reference_to_pull(context, None)) == (None, None)
    assert (context.policy.recipe, context.lab.kubernetes) == (recipes.load(), recipes.load().kubernetes)
    with pytest.raises(UsageError) as raised:
        labs.bundle_policy(home / "absent", None, offline=False)
    assert raised.value.id == "recipe-not-found"
    with pytest.raises(UsageError) as raised:
        labs.bundle_policy(recipes.OWN, "/stick", offline=False)
    assert raised.value.id == "bundle-and-recipe"


def test_offline_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    _set_machine(monkeypatch, engine=True, root=True)
    assert [
        labs.requested(OPTIONS, config.Overrides(), may_install=True, policy=BundlePolicy(offline=offline)).may_install
        for offline in (False, True)
    ] == [True, False]


def test_a_lab_keeps_its_bundle_unless_another_is_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    _set_machine(monkeypatch, engine=True, root=True)
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(), isolated=False, bundle=Path("/stick")))

    assert labs.requested(OPTIONS, config.Overrides()).bundle_folder == Path("/stick")
    assert labs.requested(OPTIONS, config.Overrides(), bundle=Path("/other")).bundle_folder == Path("/other")
    monkeypatch.setenv(paths.BUNDLE, "/named")
    assert labs.requested(OPTIONS, config.Overrides()).bundle_folder == Path("/named")
    assert labs.requested(OPTIONS, config.Overrides(), bundle=Path("/other")).bundle_folder == Path("/other")


@pytest.mark.parametrize(("written", "provider"), [("provider: auto\n", "docker"), ("provider: libvirt\n", "libvirt")])
def test_provider_auto_keeps_the_provider_of_the_lab(
    home: Path, monkeypatch: pytest.MonkeyPatch, written: str, provider: str
) -> None:
    _set_machine(monkeypatch, engine=True, root=True)
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(provider="docker"), isolated=False))
    (home / "labctl.yaml").write_text(written)

    assert labs.requested(OPTIONS, config.Overrides()).lab.provider == provider


def test_a_saved_lab_ignores_later_changes_of_the_file(home: Path) -> None:
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(workers=2), isolated=True, bundle=Path("/stick")))
    (home / "labctl.yaml").write_text("workers: 5\n")

    context = labs.saved(OPTIONS)

    assert (context.lab.workers, context.isolated, context.bundle_folder) == (2, True, Path("/stick"))


def test_a_lab_without_a_record_is_not_found() -> None:
    with pytest.raises(MissingError, match="demo") as raised:
        labs.saved(OPTIONS)

    assert raised.value.id == "lab-not-found"


def test_leftovers_of_a_destroyed_lab_can_only_be_purged() -> None:
    with pytest.raises(MissingError, match="demo"):
        labs.removable(OPTIONS, purge=True)

    paths.state("demo").mkdir(parents=True)
    assert labs.removable(OPTIONS, purge=True).folder == paths.state("demo")
    with pytest.raises(MissingError, match="demo"):
        labs.removable(OPTIONS)


@pytest.mark.parametrize("name", ["../demo", "/etc", "..", "a/b", "Demo"])
def test_an_invalid_lab_name_is_refused_before_it_becomes_a_path(home: Path, name: str) -> None:
    saved_lab.write(home / "demo", saved_lab.SavedLab(lab(), isolated=False))

    with pytest.raises(UsageError, match="name"):
        labs.saved(replace(OPTIONS, lab_name=name))


# Through sudo


@pytest.fixture
def through_sudo(monkeypatch: pytest.MonkeyPatch) -> dict[Path, int]:
    """Run as root through sudo by the user 1000. Return the owners of paths; root owns all others."""
    owners: dict[Path, int] = {}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", "1000")
    monkeypatch.setenv("SUDO_GID", "1000")
    monkeypatch.setattr(caller, "caller_owns", lambda path: any(owners.get(each) for each in (path, *path.parents)))
    monkeypatch.setattr(saved_lab, "_is_roots", lambda path: owners.get(path) == 0)
    return owners


@pytest.mark.parametrize(
    ("users", "is_refused"),
    [([], False), ([""], True), (["state"], True), (["cache"], True), (["elsewhere"], False)],
    ids=["root's own home", "the user's home", "its state", "its cache", "another folder of the user's"],
)
@pytest.mark.parametrize("find", [labs.saved, partial(labs.requested, overrides=config.Overrides())])
def test_root_creates_nothing_in_the_home_of_the_user_who_called_sudo(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    through_sudo: dict[Path, int],
    find: Callable[[GlobalOptions], Context],
    users: list[str],
    *,
    is_refused: bool,
) -> None:
    _set_machine(monkeypatch, engine=True, root=True)
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(), isolated=False))
    through_sudo.update({home / name: 1000 for name in users})

    if is_refused:
        with pytest.raises(UsageError) as raised:
            find(OPTIONS)
        assert (raised.value.exit_code, raised.value.id) == (2, "sudo-not-needed")
    else:
        assert find(OPTIONS).lab.name == "demo"


def test_a_lab_that_root_created_there_earlier_can_be_used_by_root(home: Path, through_sudo: dict[Path, int]) -> None:
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(), isolated=False))
    through_sudo.update({home: 1000, paths.state("demo") / "lab.json": 0})

    assert labs.saved(OPTIONS).lab.name == "demo"


@pytest.mark.parametrize(
    ("isolated", "has_bundle", "first", "is_refused"),
    [
        (True, True, "isolation", False),
        (True, True, "render", True),
        (False, True, "render", False),
        (False, False, "render", True),
        (False, False, "bundle", False),
        (False, True, "boot", True),
    ],
)
def test_up_refuses_to_start_at_a_step_that_needs_an_existing_lab(
    context: Context, first: str, *, isolated: bool, has_bundle: bool, is_refused: bool
) -> None:
    context = replace(context, isolated=isolated)

    with pytest.raises(MissingError) if is_refused else nullcontext() as raised:
        labs.require_earlier_steps(context, first, has_bundle=has_bundle)

    assert raised is None or raised.value.id == "lab-not-found"
    saved_lab.write(context.folder, saved_lab.SavedLab(context.lab, isolated))
    labs.require_earlier_steps(context, first, has_bundle=has_bundle)


# Other programs


def test_a_program_replaces_labctl_with_the_given_environment(
    context: Context, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    program = home / "kubectl"
    program.touch(mode=0o755)
    calls: list[tuple[str, list[str], dict[str, str]]] = []
    handled: dict[int, object] = {}
    monkeypatch.setattr(signal, "signal", handled.__setitem__)

    def execve(*call: Any) -> NoReturn:  # noqa: ANN401 - whatever it is called with
        calls.append(call)
        raise ReplacedError

    monkeypatch.setattr(os, "execve", execve)

    with pytest.raises(ReplacedError):
        labs.replace_process(context, ["kubectl", "get"], {"PATH": str(home), "KUBECONFIG": "x"})

    path, line, environment = calls[0]
    assert (path, line) == (str(program), ["kubectl", "get"])
    assert environment["KUBECONFIG"] == "x"
    assert environment["HOME"] == str(home)
    assert handled == dict.fromkeys((signal.SIGPIPE, signal.SIGXFSZ), signal.SIG_DFL), "what Python ignores"


def test_without_its_bundle_a_lab_lacks_only_the_programs_of_the_bundle(context: Context, home: Path) -> None:
    without_bundle = replace(context, bundle_folder=home / "gone")

    environment = labs.environment(without_bundle)

    assert environment["PATH"].split(os.pathsep)[0] == str(home / "gone" / "bin")
    assert environment["KUBECONFIG"] == str(without_bundle.folder / lab_folder.KUBECONFIG)
    for program, identity in {"kubectl": "bundle-not-found", "curl": "program-not-found"}.items():
        with pytest.raises(MissingError) as raised:
            labs.replace_process(without_bundle, [program], {"PATH": str(home / "gone" / "bin")})
        assert raised.value.id == identity
        assert f"program {program} is not on PATH" in raised.value.message


@pytest.mark.parametrize("controller", CONTROLLERS, ids=lambda row: row.name)
@pytest.mark.parametrize("wanted", ["auto", "same"])
def test_the_ingress_controller_is_read_from_the_manifests_if_the_bundle_is_missing(
    context: Context, home: Path, controller: IngressController, wanted: str
) -> None:
    values = {} if wanted == "auto" else {"ingress": controller.name}
    without_bundle = replace(context, bundle_folder=home / "gone", lab=lab(**values))
    with pytest.raises(MissingError) as unknown:
        _ = without_bundle.controller
    assert unknown.value.id == "bundle-not-found"
    container = {"image": f"{controller.repository}:v1@sha256:0"}
    objects = [
        {"kind": "Service", "metadata": {"name": "x"}},
        {"kind": "Deployment", "spec": {"template": {"spec": {"containers": [container]}}}},
    ]
    (without_bundle.folder / lab_folder.MANIFESTS).mkdir()
    (without_bundle.folder / lab_folder.INGRESS).write_text(yaml_stream(objects))

    assert without_bundle.controller == controller
    with pytest.raises(MissingError) as refused:
        without_bundle.require_bundle_contents()
    assert refused.value.id == "bundle-not-found", "`up` needs the bundle"


def test_a_missing_program_is_reported(context: Context, home: Path) -> None:
    with pytest.raises(MissingError, match="kubectl"):
        labs.replace_process(context, ["kubectl"], {"PATH": str(home)})
    (home / "script").touch(mode=0o644)
    with pytest.raises(MissingError, match=r"\./script"):
        labs.replace_process(context, ["./script"], {"PATH": str(home)})


@pytest.mark.parametrize(
    ("text", "name"), [("name: class\nworker: 2", "class"), ("apps: [", "demo"), ("name: Demo", "demo"), ("", "demo")]
)
def test_the_lab_is_the_configured_one_or_the_default_if_the_file_is_invalid(
    monkeypatch: pytest.MonkeyPatch, home: Path, text: str, name: str
) -> None:
    _set_machine(monkeypatch, engine=True, root=True)
    (home / "labctl.yaml").write_text(text)

    assert labs.saved_or_default(OPTIONS).lab.name == name
    assert labs.saved_or_default(replace(OPTIONS, lab_name="other")).lab.name == "other"


# The list of labs


def test_saved_labs_are_listed_by_name() -> None:
    saved_lab.write(paths.state("two"), saved_lab.SavedLab(lab(name="two", workers=0), isolated=True))
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(), isolated=False))
    paths.state("destroyed").mkdir()

    assert labs.list_labs() == [
        {
            "lab": "demo",
            "provider": "docker",
            "nodes": 2,
            "network": "192.168.56.0/24",
            "pool": "192.168.56.100-192.168.56.110",
            "isolated": False,
            "urls": ["http://my-app.local"],
            "problem": None,
        },
        {
            "lab": "two",
            "provider": "docker",
            "nodes": 1,
            "network": "192.168.56.0/24",
            "pool": "192.168.56.100-192.168.56.110",
            "isolated": True,
            "urls": ["http://my-app.local"],
            "problem": None,
        },
    ]


def test_a_lab_with_a_damaged_record_is_listed_with_the_others() -> None:
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(), isolated=False))
    (paths.state("broken") / "engine").mkdir(parents=True)
    (paths.state("broken") / lab_folder.RECORD).write_text('{"lab": ')

    broken, demo = labs.list_labs()

    assert (broken["lab"], broken["nodes"], broken["isolated"], broken["urls"]) == ("broken", None, True, [])
    assert str(paths.state("broken") / lab_folder.RECORD) in str(broken["problem"])
    assert (demo["lab"], demo["problem"]) == ("demo", None)


@pytest.mark.parametrize(
    ("written", "option", "is_warned"),
    [
        ("traefik", "ingress-nginx", True),
        ("auto", "traefik", True),
        ("auto", "ingress-nginx", False),
        ("traefik", None, False),
    ],
)
def test_an_option_that_the_next_up_would_undo_is_reported(
    context: Context, written: str, option: str | None, *, is_warned: bool
) -> None:
    nginx = next(each for each in CONTROLLERS if each.manifest)
    image = Image(f"{nginx.repository}:v1.15.1", "images/controller.tar", "node", Phase.ADDONS)
    controllers_bundle = replace(
        context.bundle,
        images=(*context.bundle.images, image),
        files=(*context.bundle.files, File(nginx.manifest, "", 0, "")),
    )
    chosen = replace(context, lab=replace(context.lab, ingress=option or written))
    vars(chosen)["bundle"] = controllers_bundle
    Path("labctl.yaml").write_text(f"ingress: {written}\n")

    warning = labs.ingress_warning(OPTIONS, chosen, option)

    assert bool(warning) is is_warned
    assert all(word in warning for word in (f"`ingress: {written}`", f"--ingress {option}") if is_warned)
