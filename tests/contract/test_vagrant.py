"""What providers ask of `vagrant`, `docker` and `ssh`, and what they make of the answers: against programs that play them."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from threading import Timer

import pytest
from fakes import Watched, lab

from labctl.errors import ProviderError
from labctl.log import logging_to
from labctl.providers import Provider
from labctl.providers.docker import DockerProvider
from labctl.providers.engine import engine_answers, kernel
from labctl.providers.vagrant import VagrantProvider

NODES = lab().nodes
CONTROL_PLANE, WORKER = NODES
IMAGE = "labctl.local/node:0123456789ab"


class Programs:
    """Programs on PATH that note how they were called, and then do what their script says."""

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
def virtual(programs: Programs, folder: Path) -> VagrantProvider:  # noqa: ARG001 - it runs them
    return VagrantProvider(folder, "libvirt", {"DOCKER_HOST": "unix:///lab.sock"})


@pytest.fixture
def docker(programs: Programs, folder: Path) -> DockerProvider:  # noqa: ARG001 - it runs them
    return DockerProvider(folder, {"DOCKER_HOST": "unix:///lab.sock"})


def _machine(folder: Path, name: str, identity: str, hypervisor: str = "docker") -> None:
    path = folder / ".vagrant" / "machines" / name / hypervisor / "id"
    path.parent.mkdir(parents=True)
    path.write_text(identity)


def test_both_are_providers(virtual: VagrantProvider, docker: DockerProvider) -> None:
    providers: list[Provider] = [virtual, docker]

    assert len(providers) == 2


def test_nodes_are_booted_one_after_the_other_and_kept_when_they_fail(
    virtual: VagrantProvider, programs: Programs, watched: Watched
) -> None:
    programs.put("vagrant", f'echo "parallel $VAGRANT_NO_PARALLEL host $DOCKER_HOST in $(pwd)" >>{programs.notes}')

    virtual.up(NODES, watched.say)

    names = f"{CONTROL_PLANE.name} {WORKER.name}"
    assert programs.calls == [
        f"vagrant up {names} --provider=libvirt --no-destroy-on-error",
        f"parallel 1 host unix:///lab.sock in {virtual.folder}",
    ]


def test_the_headlines_of_vagrant_are_progress_and_all_it_says_is_in_the_log(
    virtual: VagrantProvider, programs: Programs, watched: Watched
) -> None:
    programs.put(
        "vagrant",
        "echo 'Bringing machine up...'; echo '==> demo-worker-1: Booting'; echo '    demo-worker-1: detail' >&2",
    )

    with logging_to(virtual.folder / "log"):
        virtual.up([WORKER], watched.say)

    assert watched.texts == ["demo-worker-1: Booting"]
    assert "    demo-worker-1: detail\n" in (virtual.folder / "log").read_text()


def test_a_failure_carries_what_vagrant_said_on_either_stream(
    virtual: VagrantProvider, programs: Programs, watched: Watched
) -> None:
    programs.put("vagrant", "echo 'The box could not be found.' >&2; echo 'Try another.'; exit 1")

    log = virtual.folder / "log"
    with pytest.raises(ProviderError, match=r"vagrant up demo-worker-1 .*failed") as raised, logging_to(log):
        virtual.up([WORKER], watched.say)

    assert raised.value.id == "vagrant-failed"
    assert raised.value.details == ("The box could not be found.", "Try another.")
    assert str(log) in raised.value.hint
    assert len(programs.calls) == 1


@pytest.mark.parametrize("lasting", [False, True])
def test_the_race_of_dockers_provider_is_tried_once_more(
    virtual: VagrantProvider, programs: Programs, watched: Watched, *, lasting: bool
) -> None:
    marker = virtual.folder / "tried"
    second = "" if lasting else f"[ -e {marker} ] && exit 0; touch {marker}"
    programs.put("vagrant", f"{second}\necho 'Error: No such object: 0123abcd' >&2; exit 1")

    if lasting:
        with pytest.raises(ProviderError, match="failed"):
            virtual.up(NODES, watched.say)
    else:
        virtual.up(NODES, watched.say)

    assert len(programs.calls) == 2


def test_vagrant_says_which_machines_run(virtual: VagrantProvider, programs: Programs) -> None:
    lines = (f"1,{CONTROL_PLANE.name},state,running", f"1,{WORKER.name},state,poweroff")
    programs.put("vagrant", f"printf '%s\\n' {' '.join(lines)}")

    assert virtual.running() == {CONTROL_PLANE.name}
    assert programs.calls == ["vagrant status --machine-readable"]


def test_a_status_that_cannot_be_had_is_an_error(virtual: VagrantProvider, programs: Programs) -> None:
    programs.put("vagrant", "exit 1")

    with pytest.raises(ProviderError, match="vagrant status"):
        virtual.running()


def test_nothing_is_destroyed_where_nothing_was_made(
    virtual: VagrantProvider, programs: Programs, watched: Watched
) -> None:
    assert not virtual.destroy(watched.say)
    assert not programs.calls


def test_machines_are_destroyed_without_a_question(
    virtual: VagrantProvider, programs: Programs, watched: Watched
) -> None:
    _machine(virtual.folder, WORKER.name, "1", "libvirt")

    assert virtual.destroy(watched.say)
    assert programs.calls == ["vagrant destroy --force"]


def test_a_failed_destroy_is_an_error(virtual: VagrantProvider, programs: Programs, watched: Watched) -> None:
    _machine(virtual.folder, WORKER.name, "1", "libvirt")
    programs.put("vagrant", "echo 'in use' >&2; exit 1")

    with pytest.raises(ProviderError) as raised:
        virtual.destroy(watched.say)

    assert raised.value.details == ("in use",)


def test_machines_are_halted_by_vagrant(virtual: VagrantProvider, programs: Programs, watched: Watched) -> None:
    virtual.halt({WORKER.name, CONTROL_PLANE.name}, watched.say)
    virtual.power_off({WORKER.name}, watched.say)

    assert programs.calls == [
        f"vagrant halt {CONTROL_PLANE.name} {WORKER.name}",
        f"vagrant halt {WORKER.name} --force",
    ]


def test_containers_are_stopped_all_at_once(docker: DockerProvider, programs: Programs, watched: Watched) -> None:
    docker.halt({WORKER.name, CONTROL_PLANE.name}, watched.say)
    docker.power_off({WORKER.name}, watched.say)

    assert programs.calls == [
        f"docker stop --time 10 {CONTROL_PLANE.name} {WORKER.name}",
        f"docker kill {WORKER.name}",
    ]
    assert watched.texts == [f"stopping {CONTROL_PLANE.name}, {WORKER.name}", f"cutting the power of {WORKER.name}"]


def test_a_vagrant_that_a_killed_labctl_left_at_work_is_waited_for(
    virtual: VagrantProvider, programs: Programs, watched: Watched
) -> None:
    programs.put(
        "vagrant", 'if [ "$1" = up ]; then sleep 1; echo "up ended" >>"$PWD/order"; else echo halt >>"$PWD/order"; fi'
    )
    pid = os.fork()
    if pid == 0:
        Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
        virtual.up([WORKER], watched.say)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL

    virtual.halt({WORKER.name}, watched.say)

    assert (virtual.folder / "order").read_text().split("\n") == ["up ended", "halt", ""]
    assert f"(pid {pid})" in watched.texts[0]


def test_a_command_on_a_node_is_one_word_for_ssh_and_no_command_is_a_login(virtual: VagrantProvider) -> None:
    login = virtual.command(WORKER, [])

    assert login[0] == "ssh"
    assert login[-1] == "vagrant@192.168.56.11"
    assert str(virtual.folder / "pki" / "ssh") in login
    assert virtual.command(WORKER, ["echo", "two words"]) == [*login, "--", "echo 'two words'"]


def test_the_log_of_a_machine_comes_by_ssh(virtual: VagrantProvider, programs: Programs) -> None:
    programs.put("ssh", "echo 'labctl: joining the cluster'")

    assert virtual.log(WORKER) == ("labctl: joining the cluster",)
    assert "--unit=labctl-node" in programs.calls[0]


def test_a_log_that_cannot_be_had_says_why(virtual: VagrantProvider, programs: Programs) -> None:
    programs.put("ssh", "echo 'ssh: no route to host' >&2; exit 255")

    assert virtual.log(WORKER) == ("ssh: no route to host",)


def test_running_containers_are_those_of_this_lab(docker: DockerProvider, programs: Programs) -> None:
    _machine(docker.folder, CONTROL_PLANE.name, "aaaa")
    _machine(docker.folder, WORKER.name, "bbbb")
    programs.put("docker", f"echo 'aaaa {CONTROL_PLANE.name}'; echo 'cccc another-lab'")

    assert docker.running() == {CONTROL_PLANE.name}


def test_docker_is_not_asked_about_a_lab_that_has_no_machine(docker: DockerProvider, programs: Programs) -> None:
    assert docker.running() == frozenset()
    assert not programs.calls


def test_the_nodes_system_is_given_to_docker_once(docker: DockerProvider, programs: Programs, watched: Watched) -> None:
    given = docker.folder / "given"
    programs.put(
        "docker",
        f'[ "$DOCKER_HOST" = unix:///lab.sock ] || exit 9\ncase $1 in image) [ -e {given} ];; import) touch {given};; esac',
    )

    docker.take_system(IMAGE, Path("node.tar"), watched.say)
    docker.take_system(IMAGE, Path("node.tar"), watched.say)

    imports = [call for call in programs.calls if call.startswith("docker import")]
    assert imports == [f'docker import --change CMD ["/sbin/init"] node.tar {IMAGE}']
    assert watched.texts == [f"giving Docker the node's system, {IMAGE}"]


def test_running_containers_are_killed_while_vagrant_begins_to_remove_them(
    docker: DockerProvider, programs: Programs, watched: Watched
) -> None:
    _machine(docker.folder, WORKER.name, "bbbb")
    programs.put("docker", f'[ "$1" = ps ] && echo "bbbb {WORKER.name}"; true')

    assert docker.destroy(watched.say)
    assert sorted(programs.calls[1:]) == [f"docker kill {WORKER.name}", "vagrant destroy --force"]


def test_the_log_of_a_container_comes_from_docker(docker: DockerProvider, programs: Programs) -> None:
    programs.put("docker", "echo 'labctl: starting the control plane'")

    assert docker.log(CONTROL_PLANE) == ("labctl: starting the control plane",)
    assert programs.calls[0].startswith(f"docker exec {CONTROL_PLANE.name} journalctl --unit=labctl-node")


def test_the_engine_says_which_kernel_its_containers_have(programs: Programs) -> None:
    programs.put("docker", "echo '1 5.10.0-28-amd64'")

    assert kernel() == (1, "5.10.0-28-amd64")


def test_the_kernel_is_this_machines_where_no_engine_answers(programs: Programs) -> None:
    programs.put("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1")

    assert kernel()[1] == os.uname().release


def test_the_kernel_is_this_machines_where_there_is_no_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert kernel()[1] == os.uname().release


@pytest.mark.parametrize("code", [0, 1])
def test_an_engine_answers_or_does_not(programs: Programs, code: int) -> None:
    programs.put("docker", f"exit {code}")

    assert engine_answers() == (code == 0)


def test_no_engine_answers_where_there_is_no_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert not engine_answers()
