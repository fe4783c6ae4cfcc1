"""Options, marks and fixtures of all tests. Tests in some folders may start no process and open no socket."""

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
from fakes import MACHINE, FakeCluster, FakeProvider, Watched, bundle, lab, ready_node, with_fakes
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
WITHOUT_PROCESSES = tuple(str(Path(__file__).parent / name) + os.sep for name in ("unit", "golden/every", "properties"))
"""Folders whose tests may start no process and open no socket, and have their files in memory."""
MEMORY = Path("/dev/shm")  # noqa: S108 - folders in it get unpredictable names
numbers = itertools.count()
SLOWEST_FILES = 30
PRIORITY = os.getpriority(os.PRIO_PROCESS, 0)
INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
ENOUGH_INSTANCES = 1024
SUMMARY = {"away": "faults", "broken": "broken labs", "kept": "kept", "seconds": "interruptions"}
"""Properties that end-to-end tests record, and the title of each in the summary."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--everything", action="store_true", help="also run slow tests and those that need root or a lab; no sweeps"
    )
    parser.addoption("--update-golden", action="store_true", help="write the golden files of the tests that run")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Prepare for several processes if `-n` is given: run groups in their order, and destroy labs on Ctrl-C."""
    if not (_is_worker(config) or config.option.numprocesses):
        return
    import side_by_side  # noqa: PLC0415 - only where there are several processes

    if _is_worker(config):
        side_by_side.interrupt_once()
    else:
        config.option.loadscopereorder = False
        side_by_side.extend_exit_timeout()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> GroupScheduling:
    """Return a scheduler that runs each group of tests in one process, in order."""
    import side_by_side  # noqa: PLC0415 - only where there are several processes

    return side_by_side.GroupScheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    """Raise the limit of inotify instances while end-to-end tests run; the main process does it for all of them."""
    boots = session.config.option.everything or any(item.get_closest_marker("e2e") for item in session.items)
    with _enough_instances() if boots and _is_root() and not _is_worker(session.config) else nullcontext():
        return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests that were not requested, and skip tests that need root if this process is not root's."""
    marks = _deselected_marks(config)
    deselected = [item for item in items if any(item.get_closest_marker(mark) for mark in marks)]
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
    """Lower the priority of tests that run in parallel with those of the first lab, and of their children."""
    if _is_worker(item.config) and _is_root():
        is_first = groups.group(item.nodeid) == groups.FIRST_LAB
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY if is_first else PRIORITY + groups.LOWER_PRIORITY)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show what end-to-end tests recorded and, for a full run, the slowest files."""
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


def _deselected_marks(config: pytest.Config) -> set[str]:
    """Return the marks of the tests to deselect.

    `-m` and paths select tests of any kind, except the sweeps, which take an hour and need `-m sweep`.
    """
    if config.option.markexpr:
        return set() if "sweep" in config.option.markexpr else {"sweep"}
    if config.option.everything or config.args_source is pytest.Config.ArgsSource.ARGS:
        return {"sweep"}
    return {"sweep", "e2e", "root", "slow"}


def _is_root() -> bool:
    return sys.platform == "linux" and os.geteuid() == 0


def _is_worker(config: pytest.Config) -> bool:
    """Return whether this is a worker process of pytest-xdist."""
    return hasattr(config, "workerinput")


@contextmanager
def _enough_instances() -> Iterator[None]:
    """Allow enough inotify instances for the nodes of three labs: with a limit of 128, a desktop leaves too few."""
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
def _without_processes(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Fail a test in the folders of `WITHOUT_PROCESSES` that starts a process or opens a socket.

    Also make these tests fast: fsync does nothing, and locks are polled every 10 ms.
    """
    is_restricted = str(request.path).startswith(WITHOUT_PROCESSES)
    with pytest.MonkeyPatch.context() as patch:
        if is_restricted:
            patch.setattr(subprocess.Popen, "__init__", _refuse)
            patch.setattr(socket.socket, "__init__", _refuse)
            for name in ("execve", "execvpe", "fork", "posix_spawn", "system"):
                patch.setattr(os, name, _refuse)
            patch.setattr(isolation, "NAMESPACES", MEMORY / "labctl-no-namespaces")  # hide those of real labs
            patch.setattr(os, "fsync", lambda _file: None)
            patch.setattr(locks, "INTERVAL", 0.01)
        yield is_restricted


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Turn every SIGINT into a KeyboardInterrupt: a worker process of pytest-xdist does so for the first one only."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def _memory() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="labctl-unit-", dir=MEMORY if MEMORY.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def _folders(tmp_path_factory: pytest.TempPathFactory, _memory: Path, *, _without_processes: bool) -> Path:
    """Return the parent of the tests' folders: in memory for unit tests, which takes a third of a disk's time."""
    return _memory if _without_processes else tmp_path_factory.mktemp("tests")


@pytest.fixture
def tmp_path(_folders: Path) -> Path:
    """Return an empty folder for the test."""
    folder = _folders / str(next(numbers))
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty home, which is the current folder; all of labctl's folders are below it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(isolation, "RUNTIME", tmp_path / "run")  # hide this machine's labs
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
    """A cluster with the nodes of the default lab, all Ready."""
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
    """The default lab with a fake provider, a fake cluster and a hosts file of its own."""
    monkeypatch.setattr(lab_files, "machine", lambda *_provider: MACHINE)
    return _context(home, hosts_file, provider, cluster)


@pytest.fixture(scope="session")
def lab_keys(_memory: Path) -> Path:
    """Return a folder with a lab's keys, created once: generating the RSA key takes longer than most tests."""
    folder = _memory / "keys"
    pki.ensure(folder, lab())
    return folder


@pytest.fixture
def keyed(context: Context, lab_keys: Path) -> Context:
    """The lab with only its keys on disk."""
    shutil.copytree(lab_keys, context.folder, dirs_exist_ok=True)
    return context


@pytest.fixture(scope="session")
def lab_contents(lab_keys: Path) -> Path:
    """Return a home with a rendered lab, created once: rendering takes ten times as long as copying."""
    home = lab_keys.with_name("rendered")
    context = _context(home, home / "hosts", FakeProvider(), FakeCluster())
    shutil.copytree(lab_keys, context.folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab_files, "machine", lambda *_provider: MACHINE)
        up.render(context, Watched().report)
    return home


@pytest.fixture
def rendered(context: Context, home: Path, lab_contents: Path) -> Context:
    """The lab with all its files on disk."""
    shutil.copytree(lab_contents / context.folder.relative_to(home), context.folder, dirs_exist_ok=True)
    for file in (context.folder / lab_folder.VAGRANTFILE, context.folder / lab_folder.RECORD):
        file.write_text(file.read_text().replace(str(lab_contents), str(home)))
    return context


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, http_probe.ProbeResult]:
    """A machine that passes all checks; this mapping has the responses of hostnames, which are 200 by default."""
    answers: dict[str, http_probe.ProbeResult] = {}
    monkeypatch.setattr(preflight, "Machine", Recorded)
    monkeypatch.setattr(arp, "route", lambda _address: None)
    monkeypatch.setattr(trace, "follow", FakeFollow(answers))
    monkeypatch.setattr(trace, "shared", fake_trace.shared)
    monkeypatch.setattr(
        http_probe, "get", lambda hostname, _address=None: answers.get(hostname, http_probe.ProbeResult(200))
    )
    return answers


@pytest.fixture(scope="module")
def _wording(request: pytest.FixtureRequest) -> Iterator[Wording]:
    wording = Wording(request.path, update=request.config.option.update_golden)
    yield wording
    wording.finish(complete=is_complete(request.session))


@pytest.fixture
def golden(request: pytest.FixtureRequest, _wording: Wording) -> Golden:
    """Compare wording with tests/golden/wording, and files with a folder of tests/golden; see golden_files.py."""
    hidden = {}
    if "tmp_path" in request.fixturenames:
        hidden[str(request.getfixturevalue("tmp_path"))] = "$TMP"
    return Golden(request.node.name, _wording, hidden)


@pytest.fixture
def labctl(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run a command line in this process, 80 columns wide, and return its exit code."""
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
    lab_context = Context(replace(lab(), hosts_file=hosts_file), folder, home / "cache" / "labctl", carried.folder)
    return with_fakes(lab_context, provider, cluster, carried)


def _refuse(*arguments: object, **_keywords: object) -> NoReturn:
    shown = [each for each in arguments if not isinstance(each, subprocess.Popen)]  # it has no attributes yet to show
    pytest.fail(f"tests in this folder must not start processes or open sockets: {shown}")
