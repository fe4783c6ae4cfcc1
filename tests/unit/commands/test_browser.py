"""The browser that opens a page, its home, and the errors if none can open it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import pytest
from fake_trace import hop
from fakes import FakeProvider, lab
from golden_files import Golden

from labctl import cli, trace
from labctl.commands import browser, labs
from labctl.context import Context
from labctl.host.proxies import without_proxy
from labctl.isolation.isolation import Isolation
from labctl.model.errors import BrokenError, MissingError, UsageError
from labctl.model.reports import HopReport, HopState, OpenReport, TraceReport

URL = "http://my-app.local"
DESKTOP = webbrowser.BackgroundBrowser("xdg-open")
TEXT = webbrowser.GenericBrowser("w3m")


@dataclass
class FakePrograms:
    """The programs that were started, and their exit code; None means that they keep running."""

    code: int | None = None
    output: bytes = b""
    error: OSError | None = None
    in_terminal: list[list[str]] = field(default_factory=list)
    detached: list[list[str]] = field(default_factory=list)
    environments: list[Mapping[str, str]] = field(default_factory=list)

    def run(self, line: list[str], *, env: Mapping[str, str], check: bool) -> FakePrograms:  # noqa: ARG002 - run's own
        return self._started(self.in_terminal, line, env)

    def start(self, line: list[str], *, env: Mapping[str, str], stdout: IO[bytes], **options: object) -> FakePrograms:
        assert options == {"stdin": subprocess.DEVNULL, "stderr": stdout, "start_new_session": True}
        stdout.write(self.output)
        return self._started(self.detached, line, env)

    @property
    def returncode(self) -> int | None:
        return self.code

    def wait(self, timeout: float) -> int:
        if self.code is None:
            raise subprocess.TimeoutExpired("browser", timeout)
        return self.code

    def _started(self, kind: list[list[str]], line: list[str], env: Mapping[str, str]) -> FakePrograms:
        kind.append(line)
        self.environments.append(env)
        if self.error:
            raise self.error
        return self


@pytest.fixture(autouse=True)
def hops(context: Context, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> dict[str, HopReport]:
    """A running lab whose hops all work, unless a test changes one."""
    provider.nodes |= {node.name for node in context.lab.nodes}
    reports_by_hop = {name: hop(name) for name in trace.HOPS}

    def follow(_context: Context, wanted: str | None) -> TraceReport:
        reports = list(reports_by_hop.values())
        return {
            "version": 1,
            "hostname": wanted or "",
            "ok": trace.broken_hop({"version": 1, "hostname": "", "ok": False, "hops": reports}) is None,
            "hops": reports,
        }

    monkeypatch.setattr(Context, "provider", provider)
    monkeypatch.setattr(trace, "follow", follow)
    monkeypatch.setattr(Isolation, "exists", lambda _self: True)
    monkeypatch.setattr(Isolation, "engine_runs", lambda _self: True)
    return reports_by_hop


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> FakePrograms:
    """Fakes of the programs that a test starts. The environment names no browser."""
    started = FakePrograms()
    monkeypatch.setattr(subprocess, "run", started.run)
    monkeypatch.setattr(subprocess, "Popen", started.start)
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY"):
        monkeypatch.delenv(name, raising=False)
    return started


def _install_browser(
    monkeypatch: pytest.MonkeyPatch, installed: webbrowser.BaseBrowser, *, terminal: bool = False
) -> None:
    """Give the machine this browser, and the user a terminal or none."""
    monkeypatch.setattr(webbrowser, "get", lambda: installed)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: terminal)


# The page


def test_the_page_of_the_first_app_is_opened_in_a_detached_browser(
    context: Context, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install_browser(monkeypatch, DESKTOP)

    assert browser.open_page(context, None) == OpenReport(version=1, url=URL, browser="xdg-open", warnings=[])
    assert (programs.detached, programs.in_terminal) == ([["xdg-open", URL]], [])


def test_a_hostname_selects_the_app(context: Context, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch) -> None:
    _install_browser(monkeypatch, DESKTOP)
    two = replace(context, lab=lab(apps=[{"name": "my-app"}, {"name": "shop", "hostname": "shop.test"}]))

    assert browser.open_page(two, "shop.test")["url"] == "http://shop.test"
    assert programs.detached == [["xdg-open", "http://shop.test"]]


@pytest.mark.parametrize(
    ("wanted", "url"),
    [("other.test", "http://other.test"), ("http://other.test/docs?page=2", "http://other.test/docs?page=2")],
)
def test_any_page_that_the_lab_serves_can_be_opened(
    wanted: str, url: str, context: Context, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install_browser(monkeypatch, DESKTOP)

    assert browser.open_page(context, wanted)["url"] == url
    assert programs.detached == [["xdg-open", url]]


@pytest.mark.parametrize(
    ("wanted", "error"),
    [("https://my-app.local", "url-invalid"), ("my app", "hostname-invalid"), ("-x", "hostname-invalid")],
)
def test_an_invalid_hostname_or_url_is_refused(
    wanted: str, error: str, context: Context, programs: FakePrograms
) -> None:
    with pytest.raises(UsageError) as raised:
        browser.open_page(context, wanted)

    assert (raised.value.id, programs.detached) == (error, [])


def test_a_lab_without_apps_has_no_page(context: Context) -> None:
    with pytest.raises(UsageError) as raised:
        browser.open_page(replace(context, lab=lab(apps=[])), None)

    assert raised.value.id == "no-app"


# Pages that cannot be loaded


def test_an_unreachable_page_is_not_opened_and_the_broken_hop_is_reported(
    context: Context, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch, hops: dict[str, HopReport]
) -> None:
    _install_browser(monkeypatch, DESKTOP)
    hops["node"] = hop("node", "arp-silent", "nobody answers ARP", fix="Run `labctl up` to fix it.")
    hops["rule"] = hop("rule", state="not reached")

    with pytest.raises(BrokenError, match=f"{URL} .*nobody answers ARP") as raised:
        browser.open_page(context, None)
    assert (raised.value.id, raised.value.exit_code) == ("arp-silent", 8)
    assert raised.value.hint.splitlines() == ["Run `labctl up` to fix it.", "labctl --name demo up"]
    assert programs.detached == []


@pytest.mark.parametrize("state", ["warning", "unknown"])
def test_a_problem_that_does_not_break_the_page_is_reported_and_the_page_is_opened(
    state: HopState,
    context: Context,
    programs: FakePrograms,
    monkeypatch: pytest.MonkeyPatch,
    hops: dict[str, HopReport],
) -> None:
    _install_browser(monkeypatch, DESKTOP)
    hops["pod"] = hop("pod", "pod-not-ready", "one of two is not ready", state=state)

    assert browser.open_page(context, None)["warnings"] == [hops["pod"]]
    assert programs.detached == [["xdg-open", URL]]


# The browser


def test_a_browser_that_exits_after_passing_the_page_to_a_running_one_counts_as_success(
    context: Context, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install_browser(monkeypatch, webbrowser.Mozilla("firefox"))
    programs.code = 0

    assert browser.open_page(context, None)["browser"] == "firefox"
    assert programs.detached == [["firefox", URL]]


@pytest.mark.parametrize(
    "text_browser", [TEXT, webbrowser.Elinks("elinks")], ids=lambda text_browser: text_browser.name
)
def test_a_text_browser_runs_in_the_terminal_until_it_exits(
    text_browser: webbrowser.BaseBrowser, context: Context, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install_browser(monkeypatch, text_browser, terminal=True)
    programs.code = 0

    assert browser.open_page(context, None)["browser"] == text_browser.name
    assert (programs.detached, programs.in_terminal) == ([], [[text_browser.name, URL]])


def test_the_users_command_line_is_used_unchanged(
    context: Context, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install_browser(monkeypatch, webbrowser.GenericBrowser(["chromium", "--headless", "%s"]))
    monkeypatch.setenv("BROWSER", "chromium --headless %s")
    programs.code = 0

    assert browser.open_page(context, None)["browser"] == "chromium"
    assert programs.in_terminal == [["chromium", "--headless", URL]]


@pytest.mark.parametrize("works", [True, False])
def test_a_browser_with_a_python_interface_is_opened_through_it(
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    works: bool,  # noqa: FBT001 - its result
) -> None:
    opened_urls: list[str] = []

    class Script(webbrowser.BaseBrowser):
        def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:  # noqa: ARG002, FBT001, FBT002 - its way
            opened_urls.append(url)
            return works

    _install_browser(monkeypatch, Script("default"))
    if works:
        assert browser.open_page(context, None) == OpenReport(version=1, url=URL, browser="default", warnings=[])
    else:
        with pytest.raises(MissingError) as raised:
            browser.open_page(context, None)
        assert raised.value.id == "browser-failed"
    assert opened_urls == [URL]


# The home


def test_a_lab_on_this_machines_network_is_opened_with_the_users_environment(
    context: Context, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install_browser(monkeypatch, DESKTOP)
    browser.open_page(context, None)

    assert programs.environments == [{**os.environ, **without_proxy(context.lab, os.environ)}]


def test_the_browser_of_an_isolated_lab_has_a_home_of_its_own_and_shares_the_desktop(
    context: Context, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    _install_browser(monkeypatch, DESKTOP)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    browser.open_page(replace(context, isolated=True), None)

    [environment] = programs.environments
    own = context.folder / "browser"
    assert own.stat().st_mode & 0o777 == 0o700
    assert (environment["HOME"], environment["XDG_CONFIG_HOME"], environment["XDG_CACHE_HOME"]) == (
        str(own),
        str(own / ".config"),
        str(own / ".cache"),
    )
    assert environment["XAUTHORITY"] == str(home / ".Xauthority")
    assert os.environ["HOME"] == str(home)


def test_xauthority_of_the_user_is_kept(
    context: Context, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install_browser(monkeypatch, DESKTOP)
    monkeypatch.setenv("XAUTHORITY", "/run/cookie")
    browser.open_page(replace(context, isolated=True), None)

    assert programs.environments[0]["XAUTHORITY"] == "/run/cookie"


# No browser


def _raise_not_found() -> webbrowser.BaseBrowser:
    raise webbrowser.Error("could not locate runnable browser")


@pytest.mark.parametrize("isolated", [True, False], ids=["in the lab's network", "on this machine"])
def test_without_a_browser_the_url_and_an_alternative_are_printed(
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    isolated: bool,  # noqa: FBT001 - a column of the table
    golden: Golden,
) -> None:
    monkeypatch.setattr(webbrowser, "get", _raise_not_found)

    with pytest.raises(MissingError) as raised:
        browser.open_page(replace(context, isolated=isolated), None)
    assert (raised.value.id, URL in raised.value.message, URL in raised.value.hint) == ("browser-not-found", True, True)
    golden({"message": raised.value.message, "hint": raised.value.hint})


def test_a_text_browser_without_a_terminal_is_not_used(
    context: Context, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install_browser(monkeypatch, TEXT)

    with pytest.raises(MissingError) as raised:
        browser.open_page(context, None)
    assert raised.value.id == "browser-not-found"
    assert (programs.detached, programs.in_terminal) == ([], [])


@pytest.mark.parametrize(("user", "mentions_root"), [(0, True), (1000, False)])
def test_a_browser_that_fails_at_once_is_an_error_with_its_last_lines(
    context: Context,
    programs: FakePrograms,
    monkeypatch: pytest.MonkeyPatch,
    user: int,
    mentions_root: bool,  # noqa: FBT001 - a column of the table
) -> None:
    _install_browser(monkeypatch, webbrowser.Chrome("chromium"))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    programs.code, programs.output = 1, b"Running as root without --no-sandbox is not supported.\n"

    with pytest.raises(MissingError) as raised:
        browser.open_page(context, None)
    error = raised.value
    assert (error.id, "chromium" in error.message, URL in error.message) == ("browser-failed", True, True)
    assert "`BROWSER=firefox labctl open`" in error.hint
    assert ("`BROWSER='chromium --no-sandbox %s &' labctl open`" in error.hint) is mentions_root
    assert error.details == ("Running as root without --no-sandbox is not supported.",)


def test_the_error_of_a_text_browser_does_not_repeat_its_output(
    context: Context, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install_browser(monkeypatch, TEXT, terminal=True)
    programs.code = 1

    with pytest.raises(MissingError, match="w3m") as raised:
        browser.open_page(context, None)
    assert raised.value.details == ()


@pytest.mark.parametrize("missing_browser", [TEXT, DESKTOP], ids=lambda missing_browser: missing_browser.name)
def test_a_missing_browser_is_named(
    missing_browser: webbrowser.BaseBrowser, context: Context, programs: FakePrograms, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install_browser(monkeypatch, missing_browser, terminal=True)
    programs.error = FileNotFoundError(2, "No such file or directory", missing_browser.name)

    with pytest.raises(MissingError) as raised:
        browser.open_page(context, None)
    assert raised.value.details == (f"{missing_browser.name}: No such file or directory",)


# The command


@pytest.mark.parametrize(("typed", "hostname"), [(["open"], None), (["open", "shop.test"], "shop.test")])
def test_open_enters_the_labs_network_and_prints_the_url_and_the_browser(
    typed: list[str],
    hostname: str | None,
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def opened(entered: Context, wanted: str | None) -> OpenReport:
        assert (entered, wanted) == (context, hostname)
        return {"version": 1, "url": URL, "browser": "firefox", "warnings": []}

    monkeypatch.setattr(labs, "entered_if_up", lambda _session: context)
    monkeypatch.setattr(browser, "open_page", opened)

    cli.app(["-o", "json", *typed], standalone_mode=False)
    assert json.loads(capsys.readouterr().out) == {
        "version": 1,
        "url": URL,
        "browser": "firefox",
        "warnings": [],
    }
