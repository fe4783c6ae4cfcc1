"""Problems that stop `up`, all reported at once with their fixes, and tools that `--yes` installs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from fakes import Watched, lab
from golden_files import Golden
from recorded_machine import Recorded

from labctl.config import saved_lab
from labctl.context import Context
from labctl.doctor import CHECKS, preflight
from labctl.host.process import Finished
from labctl.host.wait import until
from labctl.model.errors import MissingError

HEADER = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
TAKEN = {"/proc/net/route": f"{HEADER}vboxnet0 0038A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n"}
NO_ENGINE = {"docker version --format {{json .}}": ("Cannot connect to the Docker daemon", 1)}

APT_IS_BUSY = Finished(
    100,
    "Reading package lists...",
    (
        "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)",
        "E: Unable to lock directory /var/lib/apt/lists/",
    ),
)


class FakeApt:
    """A fake apt, with the programs that are missing until it installs them, and the commands that were run."""

    def __init__(self) -> None:
        self.absent: set[str] = set()
        self.commands: list[str] = []
        self.installs = True
        self.results: list[Finished] = []

    def run(self, line: Sequence[str], **_options: object) -> Finished:
        self.commands.append(" ".join(line))
        return self.results.pop(0) if self.results else Finished(0, "", ())

    def check(self, line: Sequence[str], **_options: object) -> str:
        self.commands.append(" ".join(line))
        if self.installs:
            self.absent.clear()
        return ""


Machine = Callable[..., FakeApt]


@pytest.fixture
def machine_with(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a function that replaces this machine by a recorded one with these differences, and apt by a fake."""

    def replace_machine(**differences: object) -> FakeApt:
        packages = FakeApt()
        packages.absent |= set(differences.pop("absent", ()))  # type: ignore[call-overload]
        monkeypatch.setattr(preflight, "Machine", partial(Recorded, absent=packages.absent, **differences))
        monkeypatch.setattr(preflight, "run", packages.run)
        monkeypatch.setattr(preflight, "check", packages.check)
        return packages

    return replace_machine


def _problem(context: Context, watched: Watched) -> MissingError:
    with pytest.raises(MissingError) as raised:
        preflight.require_machine(context, watched.report)
    return raised.value


def test_a_complete_machine_needs_no_installation(machine_with: Machine, context: Context, watched: Watched) -> None:
    packages = machine_with()

    assert not preflight.require_machine(replace(context, may_install=True), watched.report)
    assert not packages.commands


@pytest.mark.parametrize(
    ("differences", "values", "identity"),
    [
        ({"absent": {"vagrant", "docker"}}, {}, "tools-missing"),
        ({"files": TAKEN}, {}, "network-taken"),
        ({"outputs": NO_ENGINE}, {}, "no-engine"),
        ({"absent": {"VBoxManage"}}, {"provider": "virtualbox"}, "virtualbox-unusable"),
        ({"space": 1 << 30}, {}, "disk-full"),
        ({"files": {"/proc/meminfo": "MemTotal: 500000 kB\nMemAvailable: 400000 kB\n"}}, {}, "memory-too-small"),
        ({"outputs": {"ip -j address show": "ip-address.json"}}, {"network": "192.168.60.0/24"}, "pool-taken"),
    ],
)
def test_a_single_problem_has_its_own_id_and_a_hint(
    machine_with: Machine,
    context: Context,
    watched: Watched,
    differences: dict[str, object],
    values: dict[str, str],
    identity: str,
) -> None:
    machine_with(**differences)
    requested = lab(hosts_file=str(context.lab.hosts_file), **values)

    problem = _problem(replace(context, lab=requested), watched)

    assert problem.id == identity
    assert problem.hint


@pytest.mark.parametrize("differences", [{"is_root": False}, {"platform": "darwin"}])
def test_only_root_on_linux_can_isolate(
    machine_with: Machine, context: Context, watched: Watched, differences: dict[str, object]
) -> None:
    machine_with(**differences)

    assert not preflight.may_isolate()
    assert _problem(replace(context, isolated=True), watched).id == "isolation-needs-root"


def test_an_unwritable_hosts_file_is_not_a_problem(
    machine_with: Machine, context: Context, watched: Watched, hosts_file: Path
) -> None:
    machine_with(readonly={str(hosts_file)}, absent={"sudo"})

    assert not preflight.require_machine(context, watched.report)


def test_a_missing_hosts_file_is_a_problem(
    machine_with: Machine, context: Context, watched: Watched, hosts_file: Path
) -> None:
    machine_with()
    hosts_file.unlink()

    problem = _problem(context, watched)

    assert problem.id == "hosts-not-writable"
    assert str(hosts_file) in problem.message


def test_a_hostname_of_another_lab_is_refused_and_the_lab_is_named(
    machine_with: Machine, context: Context, watched: Watched, hosts_file: Path
) -> None:
    machine_with()
    hosts_file.write_text("# BEGIN labctl other\n10.0.0.1 my-app.local\n# END labctl other\n")

    problem = _problem(context, watched)

    assert problem.id == "hostname-taken"
    assert "lab other" in problem.message
    assert "`labctl --name other destroy`" in f"{problem.message}{problem.hint}"
    assert "elete" not in problem.hint


def test_all_problems_are_reported_at_once_with_their_fixes(
    machine_with: Machine, context: Context, watched: Watched, hosts_file: Path, golden: Golden
) -> None:
    machine_with(absent={"vagrant"}, files=TAKEN, outputs=NO_ENGINE)
    hosts_file.unlink()

    problem = _problem(context, watched)

    assert problem.id == "machine-not-ready"
    golden(problem.message)


def test_the_network_of_an_existing_lab_is_not_a_conflict(
    machine_with: Machine, context: Context, watched: Watched
) -> None:
    machine_with(files=TAKEN)
    saved_lab.write(context.folder, saved_lab.SavedLab(context.lab, isolated=False))

    assert not preflight.require_machine(context, watched.report)


def test_problems_that_do_not_concern_an_isolated_lab_are_ignored(
    machine_with: Machine, context: Context, watched: Watched, hosts_file: Path
) -> None:
    machine_with(files=TAKEN, outputs=NO_ENGINE, readonly={str(hosts_file)})

    assert not preflight.require_machine(replace(context, isolated=True), watched.report)


def test_up_starts_no_slow_tool(context: Context, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(preflight, "Machine", partial(Recorded, started=started))

    preflight.require_machine(context, watched.report)
    with_bundle, started[:] = set(started), []
    preflight.require_machine(replace(context, bundle_folder=None), watched.report)

    assert with_bundle == {"docker", "ip"}
    assert set(started) == {"docker", "ip", "vagrant"}


def test_nothing_is_installed_if_apt_lacks_a_package(machine_with: Machine, context: Context, watched: Watched) -> None:
    packages = machine_with(absent={"vagrant", "docker"}, without_packages={"vagrant", "docker-cli"})

    problem = _problem(replace(context, may_install=True), watched)

    assert (problem.id, packages.commands) == ("tools-missing", [])
    assert "apt.releases.hashicorp.com" in problem.hint


def test_apt_is_updated_before_packages_are_installed(machine_with: Machine, watched: Watched) -> None:
    packages = machine_with(absent={"vagrant"}, apt_lists=())

    assert preflight.require(["vagrant"], may_install=True, report=watched.report)
    assert [line.split()[4] for line in packages.commands] == ["update", "install"]


def test_a_running_apt_is_waited_for(machine_with: Machine, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "until", partial(until, sleep=lambda _seconds: None))
    packages = machine_with(absent={"vagrant"})
    packages.results = [APT_IS_BUSY, APT_IS_BUSY]

    assert preflight.require(["vagrant"], may_install=True, report=watched.report)
    assert [line.split()[4] for line in packages.commands] == ["update", "update", "update", "install"]


@pytest.mark.parametrize("said", [("cannot load such file -- vagrant/bundler (LoadError)", 1), ("", 0)])
def test_a_broken_vagrant_is_reported_before_anything_is_built(
    machine_with: Machine, context: Context, watched: Watched, said: tuple[str, int]
) -> None:
    machine_with(outputs={"vagrant --version": said})

    assert _problem(replace(context, bundle_folder=None), watched).id == "vagrant-unusable"


def test_all_missing_programs_are_named_with_the_install_command(
    machine_with: Machine, watched: Watched, golden: Golden
) -> None:
    packages = machine_with(absent={"vagrant", "iptables"}, is_root=False)

    with pytest.raises(MissingError) as raised:
        preflight.require(["vagrant", "docker", "iptables"], may_install=True, report=watched.report)

    assert raised.value.id == "tools-missing"
    golden({"message": raised.value.message, "hint": raised.value.hint})
    assert not packages.commands, "`--yes` installs nothing without root"


def test_with_permission_root_installs_missing_packages_and_reports_it(machine_with: Machine, watched: Watched) -> None:
    packages = machine_with(absent={"vagrant", "mmdebstrap"})

    assert preflight.require(["vagrant", "mmdebstrap"], may_install=True, report=watched.report)

    names = "mmdebstrap vagrant"
    apt = "apt-get -q -o DPkg::Lock::Timeout=60"
    assert packages.commands == [f"{apt} update", f"{apt} install -y --no-install-recommends {names}"]
    assert watched.texts == [f"installing {names}"]


def test_an_installed_program_is_no_longer_missing(machine_with: Machine, context: Context, watched: Watched) -> None:
    machine_with(absent={"vagrant"})

    assert preflight.require_machine(replace(context, may_install=True), watched.report)


def test_a_program_that_its_package_does_not_provide_is_still_missing(machine_with: Machine, watched: Watched) -> None:
    machine_with(absent={"vagrant"}).installs = False

    with pytest.raises(MissingError, match="vagrant"):
        preflight.require(["vagrant"], may_install=True, report=watched.report)


def test_every_blocking_check_has_a_unique_error_id() -> None:
    identities = [check.blocks_up for check in CHECKS if check.blocks_up]

    assert len(identities) == len(set(identities)) > 5


# Virtual machines


@pytest.mark.parametrize(
    ("values", "differences", "identity"),
    [
        ({"network": "10.20.0.0/24", "provider": "virtualbox"}, {}, "host-only-address-refused"),
        (
            {"provider": "virtualbox", "pool": "auto"},
            {"files": {"/proc/cpuinfo": "flags : fpu\n"}},
            "virtualisation-missing",
        ),
        (
            {"provider": "virtualbox", "workers": 9},
            {"files": {"/proc/meminfo": "MemTotal: 90000000 kB\nMemAvailable: 9000000 kB\n"}},
            "memory-too-small",
        ),
    ],
)
def test_problems_of_virtual_machines_have_their_own_ids(
    machine_with: Machine,
    context: Context,
    watched: Watched,
    values: dict[str, object],
    differences: dict[str, object],
    identity: str,
) -> None:
    machine_with(**{"outputs": {"VBoxManage --version": "vbox-version.txt"}, **differences})

    problem = _problem(replace(context, lab=lab(hosts_file=str(context.lab.hosts_file), **values)), watched)

    assert (problem.id, int(problem.exit_code)) == (identity, 3)
