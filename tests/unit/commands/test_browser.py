"""Which browser opens which page, with which home, and the errors if none does."""

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
class Programs:
    """The programs that were started, and how they end; an exit code of None means that they keep running."""

    code: int | None = None
    says: bytes = b""
    error: OSError | None = None
    in_terminal: list[list[str]] = field(default_factory=list)
    detached: list[list[str]] = field(default_factory=list)
    environments: list[Mapping[str, str]] = field(default_factory=list)

    def run(self, line: list[str], *, env: Mapping[str, str], check: bool) -> Programs:  # noqa: ARG002 - run's own
        return self._started(self.in_terminal, line, env)

    def start(self, line: list[str], *, env: Mapping[str, str], stdout: IO[bytes], **options: object) -> Programs:
        assert options == {"stdin": subprocess.DEVNULL, "stderr": stdout, "start_new_session": True}
        stdout.write(self.says)
        return self._started(self.detached, line, env)

    @property
    def returncode(self) -> int | None:
        return self.code

    def wait(self, timeout: float) -> int:
        if self.code is None:
            raise subprocess.TimeoutExpired("browser", timeout)
        return self.code

    def _started(self, kind: list[list[str]], line: list[str], env: Mapping[str, str]) -> Programs:
        kind.append(line)
        self.environments.append(env)
        if self.error:
            raise self.error
        return self


@pytest.fixture(autouse=True)
def hops(context: Context, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> dict[str, HopReport]:
    """A running lab whose hops all work, unless a test changes one."""
    provider.nodes |= {node.name for node in context.lab.nodes}
    found = {name: hop(name) for name in trace.HOPS}

    def follow(_context: Context, wanted: str | None) -> TraceReport:
        reports = list(found.values())
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
    return found


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Fakes of the programs that a test starts. The environment names no browser."""
    started = Programs()
    monkeypatch.setattr(subprocess, "run", started.run)
    monkeypatch.setattr(subprocess, "Popen", started.start)
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY"):
        monkeypatch.delenv(name, raising=False)
    return started


def _offers(monkeypatch: pytest.MonkeyPatch, found: webbrowser.BaseBrowser, *, terminal: bool = False) -> None:
    """Give the machine this browser, and the user a terminal or none."""
    monkeypatch.setattr(webbrowser, "get", lambda: found)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: terminal)


# Which page


def test_the_first_apps_page_is_opened_and_left_in_the_browser(
    context: Context, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    _offers(monkeypatch, DESKTOP)

    assert browser.opened(context, None) == OpenReport(version=1, url=URL, browser="xdg-open", warnings=[])
    assert (programs.detached, programs.in_terminal) == ([["xdg-open", URL]], [])


def test_a_hostname_chooses_the_app(context: Context, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    _offers(monkeypatch, DESKTOP)
    two = replace(context, lab=lab(apps=[{"name": "my-app"}, {"name": "shop", "hostname": "shop.test"}]))

    assert browser.opened(two, "shop.test")["url"] == "http://shop.test"
    assert programs.detached == [["xdg-open", "http://shop.test"]]


@pytest.mark.parametrize(
    ("wanted", "url"),
    [("other.test", "http://other.test"), ("http://other.test/docs?page=2", "http://other.test/docs?page=2")],
)
def test_any_page_that_the_lab_serves_can_be_opened(
    wanted: str, url: str, context: Context, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    _offers(monkeypatch, DESKTOP)

    assert browser.opened(context, wanted)["url"] == url
    assert programs.detached == [["xdg-open", url]]


@pytest.mark.parametrize(
    ("wanted", "error"),
    [("https://my-app.local", "url-invalid"), ("my app", "hostname-invalid"), ("-x", "hostname-invalid")],
)
def test_what_is_no_page_of_a_lab_is_refused(wanted: str, error: str, context: Context, programs: Programs) -> None:
    with pytest.raises(UsageError) as raised:
        browser.opened(context, wanted)

    assert (raised.value.id, programs.detached) == (error, [])


def test_a_lab_without_apps_has_no_page(context: Context) -> None:
    with pytest.raises(UsageError) as raised:
        browser.opened(replace(context, lab=lab(apps=[])), None)

    assert raised.value.id == "no-app"


# Whether the page can be loaded


def test_a_page_that_cannot_be_loaded_is_not_opened_and_the_broken_hop_is_told(
    context: Context, programs: Programs, monkeypatch: pytest.MonkeyPatch, hops: dict[str, HopReport]
) -> None:
    _offers(monkeypatch, DESKTOP)
    hops["node"] = hop("node", "arp-silent", "nobody answers ARP", fix="Run `labctl up` to fix it.")
    hops["rule"] = hop("rule", state="not reached")

    with pytest.raises(BrokenError, match=f"{URL} .*nobody answers ARP") as raised:
        browser.opened(context, None)
    assert (raised.value.id, raised.value.exit_code) == ("arp-silent", 8)
    assert raised.value.hint.splitlines() == ["Run `labctl up` to fix it.", "labctl --name demo up"]
    assert programs.detached == []


@pytest.mark.parametrize("state", ["warning", "unknown"])
def test_what_does_not_break_the_page_is_told_and_the_page_opened(
    state: HopState, context: Context, programs: Programs, monkeypatch: pytest.MonkeyPatch, hops: dict[str, HopReport]
) -> None:
    _offers(monkeypatch, DESKTOP)
    hops["pod"] = hop("pod", "pod-not-ready", "one of two is not ready", state=state)

    assert browser.opened(context, None)["warnings"] == [hops["pod"]]
    assert programs.detached == [["xdg-open", URL]]


# Which browser


def test_a_browser_that_hands_the_page_to_one_that_runs_has_opened_it(
    context: Context, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    _offers(monkeypatch, webbrowser.Mozilla("firefox"))
    programs.code = 0

    assert browser.opened(context, None)["browser"] == "firefox"
    assert programs.detached == [["firefox", URL]]


@pytest.mark.parametrize("found", [TEXT, webbrowser.Elinks("elinks")], ids=lambda found: found.name)
def test_a_text_browser_has_the_terminal_until_it_ends(
    found: webbrowser.BaseBrowser, context: Context, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    _offers(monkeypatch, found, terminal=True)
    programs.code = 0

    assert browser.opened(context, None)["browser"] == found.name
    assert (programs.detached, programs.in_terminal) == ([], [[found.name, URL]])


def test_the_users_own_command_line_is_taken_as_it_is(
    context: Context, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    _offers(monkeypatch, webbrowser.GenericBrowser(["chromium", "--headless", "%s"]))
    monkeypatch.setenv("BROWSER", "chromium --headless %s")
    programs.code = 0

    assert browser.opened(context, None)["browser"] == "chromium"
    assert programs.in_terminal == [["chromium", "--headless", URL]]


@pytest.mark.parametrize("works", [True, False])
def test_a_browser_that_python_has_its_own_way_to_is_asked_that_way(
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    works: bool,  # noqa: FBT001 - what it answers
) -> None:
    asked: list[str] = []

    class Script(webbrowser.BaseBrowser):
        def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:  # noqa: ARG002, FBT001, FBT002 - its way
            asked.append(url)
            return works

    _offers(monkeypatch, Script("default"))
    if works:
        assert browser.opened(context, None) == OpenReport(version=1, url=URL, browser="default", warnings=[])
    else:
        with pytest.raises(MissingError) as raised:
            browser.opened(context, None)
        assert raised.value.id == "browser-failed"
    assert asked == [URL]


# Whose home


def test_a_lab_on_this_machines_network_is_shown_by_the_users_own_browser(
    context: Context, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    _offers(monkeypatch, DESKTOP)
    browser.opened(context, None)

    assert programs.environments == [{**os.environ, **without_proxy(context.lab, os.environ)}]


def test_an_isolated_labs_browser_shares_nothing_with_one_that_runs_elsewhere_but_the_desktop(
    context: Context, programs: Programs, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    _offers(monkeypatch, DESKTOP)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    browser.opened(replace(context, isolated=True), None)

    [seen] = programs.environments
    own = context.folder / "browser"
    assert own.stat().st_mode & 0o777 == 0o700
    assert (seen["HOME"], seen["XDG_CONFIG_HOME"], seen["XDG_CACHE_HOME"]) == (
        str(own),
        str(own / ".config"),
        str(own / ".cache"),
    )
    assert seen["XAUTHORITY"] == str(home / ".Xauthority")
    assert os.environ["HOME"] == str(home)


def test_the_desktops_cookie_is_looked_for_where_the_user_says(
    context: Context, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    _offers(monkeypatch, DESKTOP)
    monkeypatch.setenv("XAUTHORITY", "/run/cookie")
    browser.opened(replace(context, isolated=True), None)

    assert programs.environments[0]["XAUTHORITY"] == "/run/cookie"


# No browser


def _none_found() -> webbrowser.BaseBrowser:
    raise webbrowser.Error("could not locate runnable browser")


@pytest.mark.parametrize("isolated", [True, False], ids=["in the lab's network", "on this machine"])
def test_without_a_browser_the_page_is_named_and_another_way_to_it(
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    isolated: bool,  # noqa: FBT001 - a column of the table
    golden: Golden,
) -> None:
    monkeypatch.setattr(webbrowser, "get", _none_found)

    with pytest.raises(MissingError) as raised:
        browser.opened(replace(context, isolated=isolated), None)
    assert (raised.value.id, URL in raised.value.message, URL in raised.value.hint) == ("browser-not-found", True, True)
    golden({"message": raised.value.message, "hint": raised.value.hint})


def test_a_text_browser_without_a_terminal_is_none(
    context: Context, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    _offers(monkeypatch, TEXT)

    with pytest.raises(MissingError) as raised:
        browser.opened(context, None)
    assert raised.value.id == "browser-not-found"
    assert (programs.detached, programs.in_terminal) == ([], [])


@pytest.mark.parametrize(("user", "tells_of_root"), [(0, True), (1000, False)])
def test_a_browser_that_ends_at_once_is_not_called_a_success_and_its_last_lines_are_told(
    context: Context,
    programs: Programs,
    monkeypatch: pytest.MonkeyPatch,
    user: int,
    tells_of_root: bool,  # noqa: FBT001 - a column of the table
) -> None:
    _offers(monkeypatch, webbrowser.Chrome("chromium"))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    programs.code, programs.says = 1, b"Running as root without --no-sandbox is not supported.\n"

    with pytest.raises(MissingError) as raised:
        browser.opened(context, None)
    error = raised.value
    assert (error.id, "chromium" in error.message, URL in error.message) == ("browser-failed", True, True)
    assert "`BROWSER=firefox labctl open`" in error.hint
    assert ("`BROWSER='chromium --no-sandbox %s &' labctl open`" in error.hint) is tells_of_root
    assert error.details == ("Running as root without --no-sandbox is not supported.",)


def test_a_text_browser_that_fails_has_said_why_on_the_terminal(
    context: Context, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    _offers(monkeypatch, TEXT, terminal=True)
    programs.code = 1

    with pytest.raises(MissingError, match="w3m") as raised:
        browser.opened(context, None)
    assert raised.value.details == ()


@pytest.mark.parametrize("found", [TEXT, DESKTOP], ids=lambda found: found.name)
def test_a_browser_that_is_not_there_is_named(
    found: webbrowser.BaseBrowser, context: Context, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    _offers(monkeypatch, found, terminal=True)
    programs.error = FileNotFoundError(2, "No such file or directory", found.name)

    with pytest.raises(MissingError) as raised:
        browser.opened(context, None)
    assert raised.value.details == (f"{found.name}: No such file or directory",)


# The command


@pytest.mark.parametrize(("typed", "hostname"), [(["open"], None), (["open", "shop.test"], "shop.test")])
def test_the_command_enters_the_labs_network_and_says_what_was_opened_where(
    typed: list[str],
    hostname: str | None,
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def opened(made: Context, wanted: str | None) -> OpenReport:
        assert (made, wanted) == (context, hostname)
        return {"version": 1, "url": URL, "browser": "firefox", "warnings": []}

    monkeypatch.setattr(labs, "entered_if_up", lambda _session: context)
    monkeypatch.setattr(browser, "opened", opened)

    cli.app(["-o", "json", *typed], standalone_mode=False)
    assert json.loads(capsys.readouterr().out) == {
        "version": 1,
        "url": URL,
        "browser": "firefox",
        "warnings": [],
    }
