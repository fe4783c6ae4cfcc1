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


def _machine(monkeypatch: pytest.MonkeyPatch, *, engine: bool, root: bool) -> None:
    obstacle = None if engine else Obstacle("no Docker Engine answers", "")
    monkeypatch.setattr(DockerProvider, "check", lambda _provider, _machine: obstacle)
    monkeypatch.setattr(preflight, "may_isolate", lambda: root)
    machine = partial(Recorded, is_root=root, absent={"virsh", "VBoxManage"})
    monkeypatch.setattr(provider_choice, "Machine", machine)


def test_virtual_machines_cannot_be_isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, engine=True, root=True)

    with pytest.raises(UsageError) as raised:
        labs.requested(OPTIONS, config.Overrides(provider="virtualbox"), isolated=True)

    assert (raised.value.id, raised.value.exit_code) == ("isolation-of-machines", 2)
    assert "virtualbox" in raised.value.message


# Which lab


@pytest.mark.parametrize(
    ("engine", "root", "asked", "isolated"),
    [
        (True, True, False, False),
        (False, True, False, True),
        (False, False, False, False),
        (True, True, True, True),
    ],
)
def test_a_new_lab_is_isolated_if_asked_or_where_root_has_no_engine(
    monkeypatch: pytest.MonkeyPatch,
    engine: bool,  # noqa: FBT001 - a column of the table
    root: bool,  # noqa: FBT001 - the same
    asked: bool,  # noqa: FBT001 - the same
    isolated: bool,  # noqa: FBT001 - the same
) -> None:
    _machine(monkeypatch, engine=engine, root=root)

    assert labs.requested(OPTIONS, config.Overrides(), isolated=asked).isolated is isolated


def test_a_lab_of_virtual_machines_is_never_isolated_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, engine=False, root=True)

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
def test_the_speed_of_nodes_is_measured_before_they_are_emulated_and_where_that_ended(
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

    _machine(monkeypatch, engine=True, root=True)
    described = lab(provider=provider)
    monkeypatch.setattr(config, "load", lambda *_asked, **_options: described)
    monkeypatch.setattr(accelerator, "slowness", lambda _machine: 7)
    monkeypatch.setattr(accelerator, "kvm", lambda _machine: Acceleration("" if kvm else "there is no /dev/kvm"))
    monkeypatch.setattr(LibvirtProvider, "running", nodes)
    if saved is not None:
        made = replace(described, slowness=saved)
        saved_lab.write(paths.state("demo"), saved_lab.SavedLab(made, isolated=False))

    assert labs.requested(OPTIONS, config.Overrides(), isolated=False, to_boot=to_boot).lab.slowness == slowness


@pytest.mark.parametrize("isolated", [False, True])
def test_a_lab_that_was_made_stays_where_it_is(monkeypatch: pytest.MonkeyPatch, *, isolated: bool) -> None:
    _machine(monkeypatch, engine=isolated, root=True)
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(), isolated))

    assert labs.requested(OPTIONS, config.Overrides()).isolated is isolated


def test_a_run_in_the_labs_own_network_is_about_an_isolated_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, engine=True, root=True)
    monkeypatch.setattr(Isolation, "is_entered", lambda _isolation: True)

    assert labs.requested(OPTIONS, config.Overrides()).isolated


def test_options_say_more_than_the_file_and_a_bundle_is_found_from_anywhere(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    _machine(monkeypatch, engine=True, root=True)
    (home / "labctl.yaml").write_text("name: file\nworkers: 3\n")

    context = labs.requested(
        replace(OPTIONS, lab_name="option"), config.Overrides(workers=2), bundle=Path("stick"), may_install=True
    )

    assert (context.lab.name, context.lab.workers) == ("option", 2)
    assert context.folder == home / "state" / "labctl" / "option"
    assert context.bundle_folder == home / "stick"
    assert context.may_install


@pytest.mark.parametrize("is_written", [True, False], ids=["in labctl.yaml", "as an option"])
def test_a_bundle_is_named_by_a_folder_or_by_what_its_reference_was_pulled_as(
    home: Path, monkeypatch: pytest.MonkeyPatch, *, is_written: bool
) -> None:
    _machine(monkeypatch, engine=True, root=True)
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
    made = bundle(cache / "bundles" / "kubernetes-1.37.2")
    references.remember(reference, references.Pulled("sha256:0", made.id), cache)
    assert folder() is None  # a bundle that was removed
    write(made)
    assert folder() == made.folder


def test_the_bundle_that_a_lab_boots_from_goes_before_one_that_only_its_record_remembers(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _machine(monkeypatch, engine=True, root=True)
    for remembered in ("/old", "oci://registry.test/old:1"):
        record = saved_lab.SavedLab(lab(bundle=remembered), isolated=False, bundle=Path("/stick"))
        saved_lab.write(paths.state("demo"), record)
        context = labs.requested(OPTIONS, config.Overrides())
        assert (context.bundle_folder, labs.to_pull(context, None)) == (Path("/stick"), None)

    for written, folder in (("/old", "/old"), ("oci://registry.test/old:1", "/stick")):
        (home / "labctl.yaml").write_text(f"bundle: {written}")
        assert labs.requested(OPTIONS, config.Overrides()).bundle_folder == Path(folder)


def test_a_recipe_goes_before_the_bundle_that_is_written_or_on_record(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _machine(monkeypatch, engine=True, root=True)
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(), isolated=False, bundle=Path("/stick")))
    (home / "labctl.yaml").write_text("bundle: oci://registry.test/old:1")

    policy = labs.bundle_policy(recipes.OWN, None, offline=False)
    context = labs.requested(OPTIONS, config.Overrides(), policy=policy)

    assert (context.bundle_folder, labs.to_pull(context, None)) == (None, None)
    assert (context.policy.recipe, context.lab.kubernetes) == (recipes.load(), recipes.load().kubernetes)
    with pytest.raises(UsageError) as raised:
        labs.bundle_policy(home / "absent", None, offline=False)
    assert raised.value.id == "recipe-not-found"
    with pytest.raises(UsageError) as raised:
        labs.bundle_policy(recipes.OWN, "/stick", offline=False)
    assert raised.value.id == "bundle-and-recipe"


def test_offline_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, engine=True, root=True)
    assert [
        labs.requested(OPTIONS, config.Overrides(), may_install=True, policy=BundlePolicy(offline=offline)).may_install
        for offline in (False, True)
    ] == [True, False]


def test_a_lab_keeps_the_bundle_that_it_was_made_from(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, engine=True, root=True)
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(), isolated=False, bundle=Path("/stick")))

    assert labs.requested(OPTIONS, config.Overrides()).bundle_folder == Path("/stick")
    assert labs.requested(OPTIONS, config.Overrides(), bundle=Path("/other")).bundle_folder == Path("/other")
    monkeypatch.setenv(paths.BUNDLE, "/named")
    assert labs.requested(OPTIONS, config.Overrides()).bundle_folder == Path("/named")
    assert labs.requested(OPTIONS, config.Overrides(), bundle=Path("/other")).bundle_folder == Path("/other")


@pytest.mark.parametrize(("written", "provider"), [("provider: auto\n", "docker"), ("provider: libvirt\n", "libvirt")])
def test_a_provider_of_auto_is_the_one_that_the_lab_has(
    home: Path, monkeypatch: pytest.MonkeyPatch, written: str, provider: str
) -> None:
    _machine(monkeypatch, engine=True, root=True)
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(provider="docker"), isolated=False))
    (home / "labctl.yaml").write_text(written)

    assert labs.requested(OPTIONS, config.Overrides()).lab.provider == provider


def test_an_existing_lab_is_the_one_that_was_made_whatever_the_file_says_now(home: Path) -> None:
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(workers=2), isolated=True, bundle=Path("/stick")))
    (home / "labctl.yaml").write_text("workers: 5\n")

    context = labs.saved(OPTIONS)

    assert (context.lab.workers, context.isolated, context.bundle_folder) == (2, True, Path("/stick"))


def test_a_lab_that_was_never_made_is_not_found() -> None:
    with pytest.raises(MissingError, match="no lab demo") as raised:
        labs.saved(OPTIONS)

    assert raised.value.id == "lab-not-found"


def test_what_an_earlier_destroy_left_can_be_purged_and_nothing_else() -> None:
    with pytest.raises(MissingError, match="no lab demo"):
        labs.removable(OPTIONS, purge=True)

    paths.state("demo").mkdir(parents=True)
    assert labs.removable(OPTIONS, purge=True).folder == paths.state("demo")
    with pytest.raises(MissingError, match="no lab demo"):
        labs.removable(OPTIONS)


@pytest.mark.parametrize("name", ["../demo", "/etc", "..", "a/b", "Demo"])
def test_a_name_that_no_lab_can_have_is_refused_before_it_becomes_a_path(home: Path, name: str) -> None:
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
    monkeypatch.setattr(caller, "owns", lambda path: any(owners.get(each) for each in (path, *path.parents)))
    monkeypatch.setattr(saved_lab, "_is_roots", lambda path: owners.get(path) == 0)
    return owners


@pytest.mark.parametrize(
    ("users", "is_refused"),
    [([], False), ([""], True), (["state"], True), (["cache"], True), (["elsewhere"], False)],
    ids=["root's own home", "the user's home", "its state", "its cache", "another folder of the user's"],
)
@pytest.mark.parametrize("find", [labs.saved, partial(labs.requested, overrides=config.Overrides())])
def test_root_makes_nothing_in_the_home_of_the_user_who_called_sudo(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    through_sudo: dict[Path, int],
    find: Callable[[GlobalOptions], Context],
    users: list[str],
    *,
    is_refused: bool,
) -> None:
    _machine(monkeypatch, engine=True, root=True)
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(), isolated=False))
    through_sudo.update({home / name: 1000 for name in users})

    if is_refused:
        with pytest.raises(UsageError) as raised:
            find(OPTIONS)
        assert (raised.value.exit_code, raised.value.id) == (2, "sudo-not-needed")
    else:
        assert find(OPTIONS).lab.name == "demo"


def test_what_root_made_there_before_can_be_destroyed_by_root(home: Path, through_sudo: dict[Path, int]) -> None:
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
def test_up_does_not_begin_with_a_step_that_needs_a_lab_where_none_was_made(
    context: Context, first: str, *, isolated: bool, has_bundle: bool, is_refused: bool
) -> None:
    context = replace(context, isolated=isolated)

    with pytest.raises(MissingError) if is_refused else nullcontext() as raised:
        labs.refuse_to_begin_late(context, first, has_bundle=has_bundle)

    assert raised is None or raised.value.id == "lab-not-found"
    saved_lab.write(context.folder, saved_lab.SavedLab(context.lab, isolated))
    labs.refuse_to_begin_late(context, first, has_bundle=has_bundle)


# Other programs


def test_a_program_takes_labctls_place_with_what_it_needs(
    context: Context, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    program = home / "kubectl"
    program.touch(mode=0o755)
    seen: list[tuple[str, list[str], dict[str, str]]] = []
    handled: dict[int, object] = {}
    monkeypatch.setattr(signal, "signal", handled.__setitem__)

    def become(*call: Any) -> NoReturn:  # noqa: ANN401 - whatever it is called with
        seen.append(call)
        raise ReplacedError

    monkeypatch.setattr(os, "execve", become)

    with pytest.raises(ReplacedError):
        labs.replace_process(context, ["kubectl", "get"], {"PATH": str(home), "KUBECONFIG": "x"})

    path, line, environment = seen[0]
    assert (path, line) == (str(program), ["kubectl", "get"])
    assert environment["KUBECONFIG"] == "x"
    assert environment["HOME"] == str(home)
    assert handled == dict.fromkeys((signal.SIGPIPE, signal.SIGXFSZ), signal.SIG_DFL), "what Python ignores"


def test_a_command_in_a_lab_whose_bundle_is_gone_lacks_only_the_bundles_own_programs(
    context: Context, home: Path
) -> None:
    gone = replace(context, bundle_folder=home / "gone")

    environment = labs.environment(gone)

    assert environment["PATH"].split(os.pathsep)[0] == str(home / "gone" / "bin")
    assert environment["KUBECONFIG"] == str(gone.folder / lab_folder.KUBECONFIG)
    for program, identity in {"kubectl": "bundle-not-found", "curl": "program-not-found"}.items():
        with pytest.raises(MissingError) as raised:
            labs.replace_process(gone, [program], {"PATH": str(home / "gone" / "bin")})
        assert raised.value.id == identity
        assert f"program {program} is not on PATH" in raised.value.message


@pytest.mark.parametrize("controller", CONTROLLERS, ids=lambda row: row.name)
@pytest.mark.parametrize("wanted", ["auto", "same"])
def test_the_ingress_controller_of_a_lab_is_known_without_its_bundle(
    context: Context, home: Path, controller: IngressController, wanted: str
) -> None:
    values = {} if wanted == "auto" else {"ingress": controller.name}
    gone = replace(context, bundle_folder=home / "gone", lab=lab(**values))
    with pytest.raises(MissingError) as unknown:
        _ = gone.controller
    assert unknown.value.id == "bundle-not-found"
    container = {"image": f"{controller.repository}:v1@sha256:0"}
    objects = [
        {"kind": "Service", "metadata": {"name": "x"}},
        {"kind": "Deployment", "spec": {"template": {"spec": {"containers": [container]}}}},
    ]
    (gone.folder / lab_folder.MANIFESTS).mkdir()
    (gone.folder / lab_folder.INGRESS).write_text(yaml_stream(objects))

    assert gone.controller == controller
    with pytest.raises(MissingError) as refused:
        gone.require_carried()
    assert refused.value.id == "bundle-not-found", "`up` needs the bundle"


def test_a_program_that_is_not_there_is_missing(context: Context, home: Path) -> None:
    with pytest.raises(MissingError, match="kubectl is not on PATH"):
        labs.replace_process(context, ["kubectl"], {"PATH": str(home)})
    (home / "script").touch(mode=0o644)
    with pytest.raises(MissingError, match=r"\./script: no such executable file"):
        labs.replace_process(context, ["./script"], {"PATH": str(home)})


@pytest.mark.parametrize(
    ("text", "name"), [("name: class\nworker: 2", "class"), ("apps: [", "demo"), ("name: Demo", "demo"), ("", "demo")]
)
def test_versions_are_those_of_the_lab_that_is_named_as_far_as_it_can_be_read(
    monkeypatch: pytest.MonkeyPatch, home: Path, text: str, name: str
) -> None:
    _machine(monkeypatch, engine=True, root=True)
    (home / "labctl.yaml").write_text(text)

    assert labs.known_or_default(OPTIONS).lab.name == name
    assert labs.known_or_default(replace(OPTIONS, lab_name="other")).lab.name == "other"


# The list of labs


def test_labs_are_those_that_were_made_in_the_order_of_their_names() -> None:
    saved_lab.write(paths.state("two"), saved_lab.SavedLab(lab(name="two", workers=0), isolated=True))
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(), isolated=False))
    paths.state("destroyed").mkdir()

    assert labs.listed() == [
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


def test_a_lab_whose_record_is_damaged_is_listed_by_its_name_and_hides_no_other() -> None:
    saved_lab.write(paths.state("demo"), saved_lab.SavedLab(lab(), isolated=False))
    (paths.state("broken") / "engine").mkdir(parents=True)
    (paths.state("broken") / lab_folder.RECORD).write_text('{"lab": ')

    broken, demo = labs.listed()

    assert (broken["lab"], broken["nodes"], broken["isolated"], broken["urls"]) == ("broken", None, True, [])
    assert str(paths.state("broken") / lab_folder.RECORD) in str(broken["problem"])
    assert (demo["lab"], demo["problem"]) == ("demo", None)


@pytest.mark.parametrize(
    ("written", "asked", "is_said"),
    [
        ("traefik", "ingress-nginx", True),
        ("auto", "traefik", True),
        ("auto", "ingress-nginx", False),
        ("traefik", None, False),
    ],
)
def test_an_option_that_the_next_plain_up_would_undo_is_said(
    context: Context, written: str, asked: str | None, *, is_said: bool
) -> None:
    nginx = next(each for each in CONTROLLERS if each.manifest)
    image = Image(f"{nginx.repository}:v1.15.1", "images/controller.tar", "node", Phase.ADDONS)
    carried = replace(
        context.bundle,
        images=(*context.bundle.images, image),
        files=(*context.bundle.files, File(nginx.manifest, "", 0, "")),
    )
    chosen = replace(context, lab=replace(context.lab, ingress=asked or written))
    vars(chosen)["bundle"] = carried
    Path("labctl.yaml").write_text(f"ingress: {written}\n")

    said = labs.switched_back(OPTIONS, chosen, asked)

    assert bool(said) is is_said
    assert all(word in said for word in (f"`ingress: {written}`", f"--ingress {asked}") if is_said)
