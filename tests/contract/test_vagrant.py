"""Providers with fake `vagrant`, `docker` and `ssh`: the command lines, and the handling of their output."""

from __future__ import annotations

import json
import os
import signal
from contextlib import nullcontext
from pathlib import Path
from threading import Timer

import pytest
from fakes import Watched, bundle, lab

from labctl.host import lab_folder
from labctl.host.docker_engine import Engine, engine
from labctl.host.log import logging_to
from labctl.host.machine import Machine
from labctl.model.errors import MissingError, ProviderError
from labctl.providers import vagrant_home
from labctl.providers.docker import DockerProvider
from labctl.providers.docker_images import NODE_SYSTEM, DockerImages, node_image
from labctl.providers.docker_network import DockerNetwork
from labctl.providers.libvirt import LibvirtProvider
from labctl.providers.protocol import ASSEMBLY, CONSOLE, LabNetwork, NodeImages, Provider, Removed, last_log_lines
from labctl.providers.vagrant import VagrantProvider
from labctl.providers.virtualbox import VirtualBoxProvider

NODES = lab().nodes
CONTROL_PLANE, WORKER = NODES
IMAGE = "labctl.local/node:0123456789ab"


class Programs:
    """Fake programs on PATH that record their command lines and then run a script."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / "calls"

    def put(self, name: str, script: str = "") -> None:
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.notes}\n{script}\n')
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    fake = Programs(folder)
    for name in ("vagrant", "docker", "ssh"):
        fake.put(name)
    return fake


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "lab"
    path.mkdir()
    return path


@pytest.fixture
def virtual(programs: Programs, folder: Path) -> VagrantProvider:  # noqa: ARG001 - puts them on PATH
    return VagrantProvider(folder, "libvirt", {"DOCKER_HOST": "unix:///lab.sock"})


@pytest.fixture
def machines(programs: Programs, folder: Path) -> LibvirtProvider:  # noqa: ARG001 - puts them on PATH
    return LibvirtProvider(lab(provider="libvirt"), folder, {})


@pytest.fixture
def docker(programs: Programs, folder: Path) -> DockerProvider:  # noqa: ARG001 - puts them on PATH
    return DockerProvider(DockerNetwork("demo", lab().network, folder, {"DOCKER_HOST": "unix:///lab.sock"}))


def _record_machine(folder: Path, name: str, identity: str, hypervisor: str = "docker") -> None:
    path = folder / ".vagrant" / "machines" / name / hypervisor / "id"
    path.parent.mkdir(parents=True)
    path.write_text(identity)


def test_all_providers_satisfy_the_protocol(docker: DockerProvider, machines: LibvirtProvider, folder: Path) -> None:
    providers: list[Provider] = [docker, machines, VirtualBoxProvider(machines.lab, folder, {})]

    assert len(providers) == 3


def test_nodes_boot_one_after_the_other_and_are_kept_on_failure(
    virtual: VagrantProvider, programs: Programs, watched: Watched
) -> None:
    programs.put("vagrant", f'echo "parallel $VAGRANT_NO_PARALLEL host $DOCKER_HOST in $(pwd)" >>{programs.notes}')

    virtual.up(NODES, watched.report)

    names = f"{CONTROL_PLANE.name} {WORKER.name}"
    assert programs.calls == [
        f"vagrant up {names} --provider=libvirt --no-destroy-on-error",
        f"parallel 1 host unix:///lab.sock in {virtual.folder}",
    ]


def test_vagrants_headlines_are_progress_and_all_output_is_logged(
    virtual: VagrantProvider, programs: Programs, watched: Watched
) -> None:
    programs.put(
        "vagrant",
        "echo 'Bringing machine up...'; echo '==> demo-worker-1: Booting'; echo '    demo-worker-1: detail' >&2",
    )

    with logging_to(virtual.folder / "log"):
        virtual.up([WORKER], watched.report)

    assert watched.texts == ["demo-worker-1: Booting"]
    assert "    demo-worker-1: detail\n" in (virtual.folder / "log").read_text()


def test_a_failure_has_vagrants_output_from_both_streams(
    virtual: VagrantProvider, programs: Programs, watched: Watched
) -> None:
    programs.put("vagrant", "echo 'The box could not be found.' >&2; echo 'Try another.'; exit 1")

    log = virtual.folder / "log"
    with pytest.raises(ProviderError, match=r"vagrant up demo-worker-1 .*failed") as raised, logging_to(log):
        virtual.up([WORKER], watched.report)

    assert raised.value.id == "vagrant-failed"
    assert raised.value.details == ("The box could not be found.", "Try another.")
    assert str(log) in raised.value.hint
    assert len(programs.calls) == 1


@pytest.mark.parametrize("lasting", [False, True])
def test_the_race_in_vagrants_docker_provider_is_retried_once(
    virtual: VagrantProvider, programs: Programs, watched: Watched, *, lasting: bool
) -> None:
    marker = virtual.folder / "tried"
    second = "" if lasting else f"[ -e {marker} ] && exit 0; touch {marker}"
    programs.put("vagrant", f"{second}\necho 'Error: No such object: 0123abcd' >&2; exit 1")

    if lasting:
        with pytest.raises(ProviderError, match="failed"):
            virtual.up(NODES, watched.report)
    else:
        virtual.up(NODES, watched.report)

    assert len(programs.calls) == 2


def test_containers_are_stopped_by_one_command(docker: DockerProvider, programs: Programs, watched: Watched) -> None:
    _record_machine(docker.folder, CONTROL_PLANE.name, "aaaa")
    _record_machine(docker.folder, WORKER.name, "bbbb")
    rows = (
        ("aaaa", CONTROL_PLANE.name, "Up 3 seconds", OURS, ""),
        ("bbbb", WORKER.name, "Up 3 seconds (Paused)", OURS, ""),
    )
    programs.put("docker", f"{_listing(docker, *rows)}; exit 0")

    assert docker.halt({WORKER.name, CONTROL_PLANE.name}, watched.report) == {WORKER.name, CONTROL_PLANE.name}
    assert docker.halt({WORKER.name, "another"}, watched.report, hard=True) == {WORKER.name}

    assert [call for call in programs.calls if "docker ps" not in call] == [
        f"docker stop -t 10 {CONTROL_PLANE.name} {WORKER.name}",
        f"docker kill {WORKER.name}",
    ]
    assert watched.texts == [f"stopping {CONTROL_PLANE.name}, {WORKER.name}", f"powering off {WORKER.name}"]


def test_a_vagrant_left_running_by_a_killed_labctl_is_waited_for(
    virtual: VagrantProvider, programs: Programs, watched: Watched
) -> None:
    programs.put("vagrant", 'echo "$2 begins" >>"$PWD/order"; sleep 1; echo "$2 ends" >>"$PWD/order"')
    pid = os.fork()
    if pid == 0:
        Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
        virtual.up([WORKER], watched.report)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL

    virtual.up([CONTROL_PLANE], watched.report)

    acts = [f"{node.name} {act}" for node in (WORKER, CONTROL_PLANE) for act in ("begins", "ends")]
    assert (virtual.folder / "order").read_text().splitlines() == acts
    assert f"(pid {pid})" in watched.texts[0]


def test_a_command_on_a_node_is_one_argument_of_ssh_and_none_is_a_login(virtual: VagrantProvider) -> None:
    login = virtual.command(WORKER, [])

    assert login[0] == "ssh"
    assert login[-1] == "vagrant@192.168.56.11"
    assert str(virtual.folder / "pki" / "ssh") in login
    assert {"IdentitiesOnly=yes", "BatchMode=yes"} < {*login}  # no keys of an agent, and no prompts
    assert virtual.command(WORKER, ["echo", "two words"]) == [*login, "--", "echo 'two words'"]


def test_logs_of_a_machine_come_through_ssh_and_its_console_from_the_labs_folder(
    machines: LibvirtProvider, programs: Programs
) -> None:
    programs.put("ssh", "echo 'labctl: joining the cluster'")
    console = machines.folder / lab_folder.console(WORKER.name)
    console.parent.mkdir()
    console.write_text("a kernel\n")

    assert machines.collect_logs(WORKER, [ASSEMBLY]) == {
        ASSEMBLY: ("labctl: joining the cluster",),
        CONSOLE: ("a kernel",),
    }
    assert "--unit=labctl-node" in programs.calls[0]


def test_an_unreachable_machine_has_only_its_console(machines: LibvirtProvider, programs: Programs) -> None:
    programs.put("ssh", "echo 'ssh: no route to host' >&2; exit 255")

    assert machines.collect_logs(WORKER, [ASSEMBLY]) == {CONSOLE: ()}


@pytest.mark.parametrize("kind", ["machines", "docker"])
def test_the_requested_number_of_a_units_journal_lines_is_read(
    kind: str, programs: Programs, request: pytest.FixtureRequest
) -> None:
    provider: Provider = request.getfixturevalue(kind)
    for program in ("ssh", "docker"):
        programs.put(program, "seq 100")

    assert provider.collect_logs(WORKER, ["kubelet"], 50)["kubelet"] == tuple(map(str, range(51, 101)))
    assert "--unit=kubelet" in programs.calls[0]
    assert "--lines=50" in programs.calls[0]


def _listing(docker: DockerProvider, *rows: tuple[str, str, str, str, str]) -> str:
    """Return the script of a docker that lists these containers: id, name, status, networks and lab label."""
    (docker.folder / "Vagrantfile").touch()
    listing = docker.folder / "listing"
    listing.write_text("".join("\t".join(row) + "\n" for row in rows))
    return f'[ "$1" = ps ] && cat {listing}'


OURS = "bridge,labctl-demo"


def test_only_containers_of_this_lab_count_as_running(docker: DockerProvider, programs: Programs) -> None:
    _record_machine(docker.folder, CONTROL_PLANE.name, "aaaa")
    _record_machine(docker.folder, WORKER.name, "bbbb")
    rows = (
        ("aaaa", CONTROL_PLANE.name, "Up 3 seconds", OURS, ""),
        ("bbbb", WORKER.name, "Exited (137) 2 seconds ago", OURS, ""),
        ("cccc", "another-lab", "Up 3 seconds", "bridge,labctl-another", "/elsewhere"),
        ("dddd", "demo-worker-2", "Up 3 seconds", OURS, str(docker.folder)),
        ("eeee", "demo-worker-3", "Up 1 second", "bridge", str(docker.folder)),
    )
    programs.put("docker", _listing(docker, *rows))

    assert docker.running() == {CONTROL_PLANE.name, "demo-worker-2"}


def test_docker_is_not_queried_for_a_lab_without_machines(docker: DockerProvider, programs: Programs) -> None:
    assert docker.running() == frozenset()
    assert not programs.calls


def test_the_labs_network_is_created_before_its_first_node(
    docker: DockerProvider, programs: Programs, watched: Watched
) -> None:
    docker.up(NODES, watched.report)

    assert programs.calls[:3] == [
        "docker network ls --format {{.Name}}",
        (
            "docker network create --driver=bridge --subnet=192.168.56.0/24 --gateway=192.168.56.1 --label=labctl.lab=demo "
            f"--label=labctl.state={docker.folder} labctl-demo"
        ),
        f"vagrant up {CONTROL_PLANE.name} {WORKER.name} --provider=docker --no-destroy-on-error",
    ]


def _network(docker: DockerProvider, owner: str, *users: str) -> str:
    """Return the script of a docker with the network labctl-demo, which has this owner and these containers."""
    used = {str(index): {"Name": user} for index, user in enumerate(users)}
    described = [{"Name": "labctl-demo", "Labels": {"labctl.state": owner}, "Containers": used}]
    file = docker.folder / "network"
    file.write_text(json.dumps(described))
    return f'case "$1 $2" in "network ls") echo labctl-demo;; "network inspect") cat {file};; esac'


def test_a_foreign_network_with_the_labs_name_is_refused(
    docker: DockerProvider, programs: Programs, watched: Watched
) -> None:
    programs.put("docker", _network(docker, "/elsewhere"))

    with pytest.raises(ProviderError, match="/elsewhere") as raised:
        docker.up(NODES, watched.report)

    assert raised.value.id == "network-not-ours"


@pytest.mark.parametrize(
    ("identity", "status", "networks", "acts"),
    [
        ("bbbb", "Up 1 second", OURS, []),
        ("bbbb", "Exited (0) 1 second ago", OURS, []),
        ("bbbb", "Created", OURS, []),
        ("bbbb", "Exited (137) 1 second ago", "bridge", []),
        ("bbbb", "Up 1 second", "bridge", ["stop -t 10"]),
        ("bbbb", "Up 1 second", "bridge,another", ["stop -t 10"]),
        ("bbbb", "Removal In Progress", OURS, ["rm --force --volumes"]),
        ("bbbb", "Dead", OURS, ["rm --force --volumes"]),
        ("ffff", "Created", "bridge", ["rm --force --volumes"]),
        ("ffff", "Created", "", ["rm --force --volumes"]),
        ("ffff", "Up 1 second", "bridge", ["rm --force --volumes"]),
        ("ffff", "Exited (0) 1 second ago", "another", ["rm --force --volumes"]),
        ("ffff", "Exited (0) 1 second ago", OURS, []),
        ("ffff", "Dead", OURS, ["rm --force --volumes"]),
    ],
)
def test_a_node_of_an_interrupted_run_is_completed_or_recreated(
    docker: DockerProvider,
    programs: Programs,
    watched: Watched,
    *,
    identity: str,
    status: str,
    networks: str,
    acts: list[str],
) -> None:
    _record_machine(docker.folder, WORKER.name, "bbbb")
    ours = (identity, WORKER.name, status, networks, str(docker.folder))
    programs.put("docker", f"{_listing(docker, ours)}\n{_network(docker, str(docker.folder))}")

    docker.up([WORKER], watched.report)

    done = [call for call in programs.calls if call.startswith(("docker rm", "docker stop"))]
    assert done == [f"docker {act} {identity}" for act in acts]


@pytest.mark.parametrize("content", [None, "preparing", "bbbb"])
def test_a_complete_node_that_vagrant_does_not_know_is_registered(
    docker: DockerProvider, programs: Programs, watched: Watched, content: str | None
) -> None:
    if content is not None:
        _record_machine(docker.folder, WORKER.name, content)
    ours = ("ffff", WORKER.name, "Exited (0) 1 second ago", OURS, str(docker.folder))
    programs.put("docker", f"{_listing(docker, ours)}\n{_network(docker, str(docker.folder))}")
    file = docker.folder / ".vagrant" / "machines" / WORKER.name / "docker" / "id"
    programs.put("vagrant", f"cp {file} {programs.notes}.id")

    docker.up([WORKER], watched.report)

    assert Path(f"{programs.notes}.id").read_text() == "ffff"


@pytest.mark.parametrize("content", ["", "preparing", "bb"])
def test_a_node_with_a_truncated_id_is_recreated(
    docker: DockerProvider, programs: Programs, watched: Watched, content: str
) -> None:
    _record_machine(docker.folder, WORKER.name, content)
    ours = ("bbbb", WORKER.name, "Up 1 second", "bridge", str(docker.folder))
    programs.put("docker", f"{_listing(docker, ours)}\n{_network(docker, str(docker.folder))}")

    docker.up([WORKER], watched.report)

    assert "docker rm --force --volumes bbbb" in programs.calls


def test_vagrants_state_is_reset_except_for_the_ids_of_containers(
    docker: DockerProvider, programs: Programs, watched: Watched
) -> None:
    _record_machine(docker.folder, WORKER.name, "bbbb")
    cut_off = ("vagrant/setup_version", "vagrant/data/machine-index/index", ".vagrant/rgloader/loader.rb")
    for name in (*cut_off, f".vagrant/machines/{WORKER.name}/docker/synced_folders"):
        file = docker.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    programs.put("vagrant", f"find {docker.folder} -type f >{programs.notes}.found")

    docker.up([WORKER], watched.report)

    files = Path(f"{programs.notes}.found").read_text().splitlines()
    assert set(files) == {
        str(docker.folder / name) for name in ("vagrant.lock", f".vagrant/machines/{WORKER.name}/docker/id")
    }


def test_containers_of_a_vagrant_left_running_are_checked_after_its_exit(
    docker: DockerProvider, programs: Programs, watched: Watched
) -> None:
    created = docker.folder / "created"
    (docker.folder / "Vagrantfile").touch()
    row = "\\t".join(("bbbb", WORKER.name, "Up 1 second", "bridge", str(docker.folder)))
    programs.put("docker", f'[ "$1" = ps ] && [ -e {created} ] && printf "{row}\\n"; true')
    programs.put("vagrant", f"sleep 0.6; touch {created}")
    pid = os.fork()
    if pid == 0:
        Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
        docker.up([WORKER], watched.report)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL

    docker.up([WORKER], watched.report)

    assert programs.calls.index("docker rm --force --volumes bbbb") > programs.calls.index(
        f"vagrant up {WORKER.name} --provider=docker --no-destroy-on-error"
    )


def test_a_container_still_being_created_for_a_killed_run_is_removed_before_a_retry(
    docker: DockerProvider, programs: Programs, watched: Watched
) -> None:
    """The Engine reserves the name before it lists the container."""
    tried, listed, gone = (docker.folder / name for name in ("tried", "listed", "gone"))
    (docker.folder / "Vagrantfile").touch()
    row = "\\t".join(("bbbb", WORKER.name, "Created", "bridge", str(docker.folder)))
    shown = f'case "$*" in *State*|*state*) printf "{row}\\n";; *) echo {WORKER.name};; esac'
    programs.put(
        "docker",
        f'[ "$1" = rm ] && touch {gone}\n[ "$1" = ps ] && [ -e {tried} ] && [ ! -e {gone} ] || exit 0\n'
        f"[ -e {listed} ] && {{ {shown}; }}\ntouch {listed}",
    )
    conflict = f'Conflict. The container name \\"/{WORKER.name}\\" is already in use'
    programs.put("vagrant", f'[ -e {tried} ] && exit 0; touch {tried}; echo "{conflict}"; exit 1')

    docker.up([WORKER], watched.report)

    boot = f"vagrant up {WORKER.name} --provider=docker --no-destroy-on-error"
    acts = [call for call in programs.calls if call.startswith(("docker rm", "vagrant"))]
    assert acts == [boot, "docker rm --force --volumes bbbb", boot]


@pytest.mark.parametrize("stays", [False, True])
def test_containers_that_are_already_being_removed_are_waited_for(
    docker: DockerProvider, programs: Programs, watched: Watched, monkeypatch: pytest.MonkeyPatch, *, stays: bool
) -> None:
    monkeypatch.setattr("labctl.providers.docker.ENGINE_SECONDS", 0.5)
    queried = docker.folder / "queried"
    listing = _listing(docker, ("bbbb", WORKER.name, "Removal In Progress", OURS, str(docker.folder)))
    quiet = "echo bbbb" if stays else f"[ -e {queried} ] || echo bbbb; touch {queried}"
    busy = "echo 'Error response from daemon: removal of container bbbb is already in progress' >&2; exit 1"
    programs.put("docker", f'case "$*" in *--quiet*) {quiet}; exit 0;; rm*) {busy};; ps*) {listing};; esac')

    if stays:
        with pytest.raises(ProviderError, match="bbbb") as raised:
            docker.destroy(watched.report)
        assert "already in progress" in " ".join(raised.value.details)
    else:
        assert docker.destroy(watched.report).changed


def test_a_halted_lab_of_an_earlier_version_is_not_booted(
    docker: DockerProvider, programs: Programs, watched: Watched
) -> None:
    _record_machine(docker.folder, WORKER.name, "bbbb")
    network = "bridge,vagrant_network_192.168.56.0/24"
    programs.put("docker", _listing(docker, ("bbbb", WORKER.name, "Exited (0) 1 second ago", network, "")))

    with pytest.raises(ProviderError) as raised:
        docker.up([WORKER], watched.report)

    assert raised.value.id == "lab-outdated"


def test_destroy_removes_only_the_labs_containers_and_network(
    docker: DockerProvider, programs: Programs, watched: Watched
) -> None:
    _record_machine(docker.folder, WORKER.name, "bbbb")
    rows = (("bbbb", WORKER.name, "Up 3 seconds", OURS, ""), ("cccc", "theirs", "Up 3 seconds", "bridge", ""))
    programs.put("docker", f"{_listing(docker, *rows)}\n{_network(docker, str(docker.folder))}")

    assert docker.destroy(watched.report) == Removed(changed=True)
    assert [call for call in programs.calls if "ps" not in call and "inspect" not in call and "ls" not in call] == [
        "docker kill bbbb",
        "docker rm --force --volumes bbbb",
        "docker network rm labctl-demo",
    ]
    assert not (docker.folder / ".vagrant").exists()


@pytest.mark.parametrize(
    ("owner", "users"), [("{folder}", ("mine",)), ("/elsewhere", ())], ids=["in use", "somebody else's"]
)
def test_a_network_that_cannot_be_removed_is_left_and_reported(
    docker: DockerProvider, programs: Programs, watched: Watched, owner: str, users: tuple[str, ...]
) -> None:
    (docker.folder / "Vagrantfile").touch()
    programs.put("docker", _network(docker, owner.format(folder=docker.folder), *users))

    removed = docker.destroy(watched.report)

    assert "labctl-demo" in removed.left
    assert all(user in removed.left for user in users)
    assert not [call for call in programs.calls if call.startswith("docker network rm")]


def test_the_vagrant_network_of_an_old_lab_is_removed_with_it(
    docker: DockerProvider, programs: Programs, watched: Watched
) -> None:
    _record_machine(docker.folder, WORKER.name, "bbbb")
    ours, theirs = "vagrant_network_192.168.56.0/24", "vagrant_network_172.31.0.0/24"
    file = docker.folder / "network"
    file.write_text(json.dumps([{"Name": ours, "Containers": {}}]))
    listing = _listing(docker, ("bbbb", WORKER.name, "Up 3 seconds", f"bridge,{ours}", ""))
    networks = f"echo {ours}; echo {theirs}"
    programs.put(
        "docker", f'{listing}\ncase "$1 $2" in "network ls") {networks};; "network inspect") cat {file};; esac'
    )

    assert docker.destroy(watched.report) == Removed(changed=True)
    assert [call for call in programs.calls if "network rm" in call] == [f"docker network rm {ours}"]


def test_the_nodes_system_is_imported_into_docker_once(
    docker: DockerProvider, programs: Programs, watched: Watched
) -> None:
    images: NodeImages = DockerImages(docker.folder, docker.environment)
    imported = docker.folder / "imported"
    programs.put(
        "docker",
        f'[ "$DOCKER_HOST" = unix:///lab.sock ] || exit 9\ncase $1 in image) [ -e {imported} ];; import) touch {imported};; esac',
    )

    carried = bundle(docker.folder / "bundle")
    images.prepare(carried, watched.report)
    images.prepare(carried, watched.report)

    imports = [call for call in programs.calls if call.startswith("docker import")]
    name, system = node_image(carried), carried.path(NODE_SYSTEM)
    assert imports == [f'docker import --change CMD ["/sbin/init"] {system} {name}']
    assert watched.texts == [f"importing the node's system into Docker, {name}"]


@pytest.mark.parametrize(
    ("linked", "target", "error"),
    [
        (NODE_SYSTEM, "outside", "bundle-linked"),
        ("base", "outside", "bundle-linked"),
        (NODE_SYSTEM, "bundle/inside", None),
        ("", "outside", None),  # the bundle's folder itself may be a link
    ],
)
def test_a_bundle_with_links_that_nodes_cannot_follow_is_refused(
    docker: DockerProvider, programs: Programs, watched: Watched, linked: str, target: str, error: str | None
) -> None:
    programs.put("docker", "")
    carried = bundle(docker.folder / "bundle")
    link, moved = carried.path(linked), docker.folder / target
    link.rename(moved)
    link.symlink_to(moved)

    with pytest.raises(MissingError) if error else nullcontext() as refused:
        DockerImages(docker.folder, docker.environment).prepare(carried, watched.report)

    if refused is not None:
        assert refused.value.id == error
        assert NODE_SYSTEM in refused.value.message
        assert str(moved.resolve()) in refused.value.message
    assert bool(programs.calls) == (error is None)


def test_the_log_of_a_container_comes_from_docker(docker: DockerProvider, programs: Programs) -> None:
    programs.put("docker", "echo 'labctl: starting the control plane'")

    assert docker.collect_logs(CONTROL_PLANE, [ASSEMBLY]) == dict.fromkeys(
        (ASSEMBLY, CONSOLE), ("labctl: starting the control plane",)
    )
    assert programs.calls[0].startswith(f"docker exec {CONTROL_PLANE.name} journalctl --unit=labctl-node")


def test_a_stopped_container_has_only_its_console(docker: DockerProvider, programs: Programs) -> None:
    programs.put(
        "docker", "case $1 in exec) echo 'is not running' >&2; exit 1;; logs) echo 'Too many open files';; esac"
    )

    logs = docker.collect_logs(WORKER, [ASSEMBLY])

    assert logs == {CONSOLE: ("Too many open files",)}
    assert last_log_lines(logs) == logs[CONSOLE]


@pytest.mark.parametrize(
    ("status", "unit", "failure"),
    [
        ("Up 3 seconds", "NRestarts=0\nActiveState=activating", None),
        ("Up 3 seconds", "NRestarts=2\nActiveState=activating", None),
        ("Up 3 seconds", "NRestarts=0\nActiveState=active", None),
        ("Up 3 seconds (Paused)", "NRestarts=0\nActiveState=active", (False, "(Paused)")),
        ("Up 3 seconds", "", None),
        ("Up 3 seconds", "NRestarts=3\nActiveState=activating", (True, "in 4 attempts")),
        ("Up 3 seconds", "NRestarts=1\nActiveState=failed", (True, "in 2 attempts")),
        ("Exited (255) 1 second ago", "", (False, "Exited (255)")),
        ("Created", "", (False, "Created")),
        ("", "", (False, "gone")),
    ],
)
def test_a_container_that_exited_or_cannot_bootstrap_is_failed(
    docker: DockerProvider, programs: Programs, status: str, unit: str, failure: tuple[bool, str] | None
) -> None:
    programs.put("docker", f"case $1 in ps) echo '{status}';; exec) printf '{unit}\\n';; esac")

    reported = docker.failure(WORKER)

    assert (reported is None) == (failure is None)
    if reported and failure:
        assert reported.is_running == failure[0]
        assert failure[1] in reported.text
        assert WORKER.name in reported.text


@pytest.mark.parametrize(
    ("script", "is_failed"),
    [
        ("echo ActiveState=failed; echo NRestarts=4", True),
        ("echo ActiveState=activating; echo NRestarts=0", False),
        ("echo 'ssh: no route to host' >&2; exit 255", False),
    ],
)
def test_the_bootstrap_of_a_machine_is_queried_through_ssh(
    virtual: VagrantProvider, programs: Programs, script: str, *, is_failed: bool
) -> None:
    programs.put("ssh", script)

    assert (virtual.failure(WORKER) is not None) == is_failed


def test_the_kernel_is_that_of_the_engine(programs: Programs) -> None:
    programs.put("docker", "echo '1 5.10.0-28-amd64 26.1.5+dfsg1'")

    assert engine() == Engine(1, "5.10.0-28-amd64", (26, 1))


def test_the_kernel_is_this_machines_if_no_engine_responds(programs: Programs) -> None:
    programs.put("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")

    assert engine().kernel == os.uname().release


def test_the_kernel_is_this_machines_if_docker_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert engine().kernel == os.uname().release


@pytest.mark.parametrize(("script", "see"), [("exit 0", None), ("exit 1", "engine")])
def test_containers_can_run_if_an_engine_responds(
    programs: Programs, folder: Path, script: str, see: str | None
) -> None:
    programs.put("docker", script)
    obstacle = _without_isolation(folder).check(Machine())

    assert (obstacle and obstacle.see) == see


def test_containers_cannot_run_if_docker_is_missing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    obstacle = _without_isolation(folder).check(Machine())

    assert obstacle
    assert obstacle.see == "tools"


def test_a_lab_whose_hypervisor_is_missing_can_be_destroyed(
    machines: LibvirtProvider, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    providers: dict[str, Provider] = {"virsh": machines, "VBoxManage": VirtualBoxProvider(machines.lab, folder, {})}

    for program, provider in providers.items():
        removed = provider.destroy(pytest.fail)
        assert (removed.changed, program in removed.left) == (False, True)


@pytest.mark.parametrize(
    ("named", "home"),
    [(None, ".vagrant.d"), ("", ".vagrant.d"), ("~/boxes", "boxes"), ("boxes", "work/boxes"), ("{home}/it", "it")],
)
def test_vagrant_gets_the_home_that_labctl_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None, home: str
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(vagrant_home.VARIABLE, raising=False)
    if named is not None:
        monkeypatch.setenv(vagrant_home.VARIABLE, named.format(home=tmp_path))

    assert vagrant_home.named_in({"A": "1"}) == {"A": "1", "VAGRANT_HOME": str(tmp_path / home)}
    assert vagrant_home.named_in({"VAGRANT_HOME": "/lab"}) == {"VAGRANT_HOME": "/lab"}


def test_the_engine_of_an_isolated_lab_need_not_respond_yet(docker: DockerProvider, programs: Programs) -> None:
    assert docker.check(Machine()) is None
    assert programs.calls == []


def test_the_labs_network_has_its_bridge_and_members(docker: DockerProvider, programs: Programs) -> None:
    name = docker.lab_network.name
    described = [
        {"Id": "0123456789abcdef", "Containers": {"aaaa": {"Name": WORKER.name, "MacAddress": "02:42:00:00:00:0b"}}}
    ]
    programs.put("docker", f"case $2 in ls) echo {name};; inspect) echo '{json.dumps(described)}';; esac")

    assert docker.network() == LabNetwork("br-0123456789ab", {"02:42:00:00:00:0b": f"container {WORKER.name}"})


def test_a_lab_that_is_not_up_has_no_network(docker: DockerProvider) -> None:
    assert docker.network() is None


def test_an_image_is_removed_only_if_docker_has_it(docker: DockerProvider, programs: Programs) -> None:
    images: NodeImages = DockerImages(docker.folder, docker.environment)
    programs.put("docker", f'[ "$2" = ls ] && printf "{IMAGE}\nlabctl.local/node:1\n"; exit 0')

    assert images.list() == (IMAGE, "labctl.local/node:1")
    images.forget(IMAGE)
    images.forget("labctl.local/node:none")

    assert [call for call in programs.calls if " rm " in call] == [f"docker image rm {IMAGE}"]


def _without_isolation(folder: Path) -> DockerProvider:
    return DockerProvider(DockerNetwork("demo", lab().network, folder, {}))
