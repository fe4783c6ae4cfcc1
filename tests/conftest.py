"""Options, marks and fixtures of all tests. Those of some folders start no process, open no socket and do not wait."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import fake_trace
import groups
import pytest
from fake_trace import FakeFollow
from fakes import MACHINE, FakeCluster, FakeProvider, Watched, bundle, lab, ready_node, with_doors
from golden_files import Golden, Wording, is_complete
from recorded_machine import Recorded

from labctl import cli, trace
from labctl.context import Context
from labctl.doctor import preflight
from labctl.host import arp, http_probe, lab_folder, locks
from labctl.isolation import isolation
from labctl.plans import lab_files, up
from labctl.render import pki

if TYPE_CHECKING:
    from side_by_side import GroupScheduling
    from xdist.remote import Producer

# A runner that was started in the background ignores SIGINT, and so would every program that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
ALONE = tuple(str(Path(__file__).parent / name) + os.sep for name in ("unit", "golden/every", "properties"))
"""The folders whose tests start no process, open no socket and need no disk."""
MEMORY = Path("/dev/shm")  # noqa: S108 - what is made there has a name that nobody can guess
numbers = itertools.count()
SLOWEST_FILES = 30
PRIORITY = os.getpriority(os.PRIO_PROCESS, 0)
INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
ENOUGH_INSTANCES = 1024
SUMMARY = {"away": "faults", "broken": "broken labs", "kept": "kept", "seconds": "interruptions"}
"""What end-to-end tests record, and the title it is shown under."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--everything", action="store_true", help="also run what takes long, needs root or boots a lab; not the sweeps"
    )
    parser.addoption("--update-golden", action="store_true", help="write the golden files of the tests that run")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Prepare several processes where `-n` asks for them: groups begin in their order, and Ctrl-C destroys their labs."""
    if not (_is_worker(config) or config.option.numprocesses):
        return
    import side_by_side  # noqa: PLC0415 - only where there are several processes

    if _is_worker(config):
        side_by_side.interrupt_once()
    else:
        config.option.loadscopereorder = False
        side_by_side.let_processes_end()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling:
    """Hand out tests in groups, each of which runs in one process in its order."""
    import side_by_side  # noqa: PLC0415 - only where there are several processes

    return side_by_side.GroupScheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    """Raise a limit of the machine while end-to-end tests run, in one process for all of them."""
    boots = session.config.option.everything or any(item.get_closest_marker("e2e") for item in session.items)
    with _enough_instances() if boots and _is_root() and not _is_worker(session.config) else nullcontext():
        return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for, and skip what needs root where there is none."""
    left_out = _left_out(config)
    deselected = [item for item in items if any(item.get_closest_marker(mark) for mark in left_out)]
    config.hook.pytest_deselected(items=deselected)
    items[:] = [item for item in items if item not in deselected]
    if not _is_root():
        for item in items:
            if item.get_closest_marker("root"):
                item.add_marker(pytest.mark.skip(reason="needs root on Linux"))
    if _is_worker(config):
        items.sort(key=lambda item: groups.turn(item.nodeid))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let tests beside the first lab, and whatever they start, leave the processor to its tests."""
    if _is_worker(item.config) and _is_root():
        is_first = groups.group(item.nodeid) == groups.FIRST_LAB
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY if is_first else PRIORITY + groups.LOWER_PRIORITY)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show what end-to-end tests recorded, and which files a full run spends its time in."""
    passed = terminalreporter.getreports("passed")
    for kind, title in SUMMARY.items():
        lines = [str(value) for report in passed for name, value in report.user_properties if name == kind]
        if lines:
            terminalreporter.section(title)
            for line in lines:
                terminalreporter.write_line(line)
    if not config.option.everything or config.option.collectonly:
        return
    seconds: defaultdict[str, float] = defaultdict(float)
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        if isinstance(report, pytest.TestReport):
            seconds[report.location[0]] += report.duration
    terminalreporter.section("seconds by file")
    for name, spent in sorted(seconds.items(), key=itemgetter(1), reverse=True)[:SLOWEST_FILES]:
        terminalreporter.write_line(f"{spent:7.1f} {name}")


def _left_out(config: pytest.Config) -> set[str]:
    """Return the marks of the tests that do not run.

    `-m` and paths ask for tests of any kind; only the sweeps, which take an hour, always have to be asked for by `-m`.
    """
    if config.option.markexpr:
        return set() if "sweep" in config.option.markexpr else {"sweep"}
    if config.option.everything or config.args_source is pytest.Config.ArgsSource.ARGS:
        return {"sweep"}
    return {"sweep", "e2e", "root", "slow"}


def _is_root() -> bool:
    return sys.platform == "linux" and os.geteuid() == 0


def _is_worker(config: pytest.Config) -> bool:
    """Return whether this is one of several processes that run tests."""
    return hasattr(config, "workerinput")


@contextmanager
def _enough_instances() -> Iterator[None]:
    """Let the machine have inotify instances for the nodes of three labs: a desktop leaves too few of 128."""
    before = INSTANCES.read_text()
    is_low = int(before) < ENOUGH_INSTANCES
    if is_low:
        INSTANCES.write_text(str(ENOUGH_INSTANCES))
    try:
        yield
    finally:
        if is_low:
            INSTANCES.write_text(before)


@pytest.fixture(autouse=True, scope="module")
def _alone(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Fail a test of these folders that starts a process or opens a socket; take away what it would wait for.

    What is left out is writing through to the disk.
    """
    is_alone = str(request.path).startswith(ALONE)
    with pytest.MonkeyPatch.context() as patch:
        if is_alone:
            patch.setattr(subprocess.Popen, "__init__", _refuse)
            patch.setattr(socket.socket, "__init__", _refuse)
            for name in ("execve", "execvpe", "fork", "posix_spawn", "system"):
                patch.setattr(os, name, _refuse)
            patch.setattr(isolation, "NAMESPACES", MEMORY / "labctl-no-namespaces")  # those of real labs are no test's
            patch.setattr(os, "fsync", lambda _file: None)
            patch.setattr(locks, "INTERVAL", 0.01)
        yield is_alone


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Every SIGINT is a KeyboardInterrupt: a process of several that run tests lets only the first one be."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def _memory() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="labctl-unit-", dir=MEMORY if MEMORY.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def _folders(tmp_path_factory: pytest.TempPathFactory, _memory: Path, *, _alone: bool) -> Path:
    """Return where tests have their folders: those of unit tests are in memory, which takes a third of a disk's time."""
    return _memory if _alone else tmp_path_factory.mktemp("tests")


@pytest.fixture
def tmp_path(_folders: Path) -> Path:
    """Return a folder of the test's own."""
    folder = _folders / str(next(numbers))
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the home of a user who has nothing yet: every folder of labctl's is below it, and it is the current folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(isolation, "RUNTIME", tmp_path / "run")  # labs of this machine are no test's
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in ("KUBECONFIG", "DOCKER_HOST", "LABCTL_BUNDLE", "LABCTL_INSIDE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def provider() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
def cluster() -> FakeCluster:
    """A cluster whose nodes are those of the default lab, all Ready."""
    fake = FakeCluster()
    for node in lab().nodes:
        fake.put("v1", "Node", node.name, **ready_node(node))
    return fake


@pytest.fixture
def hosts_file(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost\n")
    return path


@pytest.fixture
def context(
    home: Path, hosts_file: Path, provider: FakeProvider, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> Context:
    """The default lab behind three fake doors: provider, cluster and hosts file."""
    monkeypatch.setattr(lab_files, "machine", lambda *_provider: MACHINE)
    return _context(home, hosts_file, provider, cluster)


@pytest.fixture(scope="session")
def lab_keys(_memory: Path) -> Path:
    """Return a folder that has nothing but a lab's keys: finding the primes of one takes longer than most tests."""
    folder = _memory / "keys"
    pki.ensure(folder, lab())
    return folder


@pytest.fixture
def keyed(context: Context, lab_keys: Path) -> Context:
    """The lab, with its keys on disk and nothing else."""
    shutil.copytree(lab_keys, context.folder, dirs_exist_ok=True)
    return context


@pytest.fixture(scope="session")
def lab_contents(lab_keys: Path) -> Path:
    """Return the home of a lab that has all its files: rendering them takes ten times as long as copying them."""
    home = lab_keys.with_name("rendered")
    context = _context(home, home / "hosts", FakeProvider(), FakeCluster())
    shutil.copytree(lab_keys, context.folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab_files, "machine", lambda *_provider: MACHINE)
        up.render(context, Watched().report)
    return home


@pytest.fixture
def rendered(context: Context, home: Path, lab_contents: Path) -> Context:
    """The lab, with its files on disk."""
    shutil.copytree(lab_contents / context.folder.relative_to(home), context.folder, dirs_exist_ok=True)
    for file in (context.folder / lab_folder.VAGRANTFILE, context.folder / lab_folder.RECORD):
        file.write_text(file.read_text().replace(str(lab_contents), str(home)))
    return context


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, http_probe.Answer]:
    """A machine that has everything, and on which every name answers as said here, or well."""
    answers: dict[str, http_probe.Answer] = {}
    monkeypatch.setattr(preflight, "Machine", Recorded)
    monkeypatch.setattr(arp, "route", lambda _address: None)
    monkeypatch.setattr(trace, "follow", FakeFollow(answers))
    monkeypatch.setattr(trace, "shared", fake_trace.shared)
    monkeypatch.setattr(
        http_probe, "get", lambda hostname, _address=None: answers.get(hostname, http_probe.Answer(200))
    )
    return answers


@pytest.fixture(scope="module")
def _wording(request: pytest.FixtureRequest) -> Iterator[Wording]:
    wording = Wording(request.path, update=request.config.option.update_golden)
    yield wording
    wording.finish(complete=is_complete(request.session))


@pytest.fixture
def golden(request: pytest.FixtureRequest, _wording: Wording) -> Golden:
    """Hold wording against tests/golden/wording, and files against a folder of tests/golden; see golden_files.py."""
    hidden = {}
    if "tmp_path" in request.fixturenames:
        hidden[str(request.getfixturevalue("tmp_path"))] = "$TMP"
    return Golden(request.node.name, _wording, hidden)


@pytest.fixture
def labctl(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a command line in this process, on a terminal of 80 columns, and return its exit code."""
    monkeypatch.setattr(signal, "signal", lambda *_arguments: None)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["labctl", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0)

    return run


@pytest.fixture
def watched() -> Watched:
    return Watched()


def _context(home: Path, hosts_file: Path, provider: FakeProvider, cluster: FakeCluster) -> Context:
    folder = home / "state" / "labctl" / "demo"
    folder.mkdir(parents=True)
    carried = bundle(home / "bundle")
    made = Context(replace(lab(), hosts_file=hosts_file), folder, home / "cache" / "labctl", carried.folder)
    return with_doors(made, provider, cluster, carried)


def _refuse(*arguments: object, **_keywords: object) -> NoReturn:
    pytest.fail(f"a test that is to be alone reached for the world outside: {arguments}")
