"""Open an app's page in the user's browser; for an isolated lab, in a separate browser in the lab's network."""

from __future__ import annotations

import os
import subprocess
import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path

from labctl import trace
from labctl.context import Context
from labctl.host import lab_folder
from labctl.host.paths import home as home_folder
from labctl.host.paths import private_folder
from labctl.host.process import last_lines
from labctl.host.proxies import without_proxy
from labctl.model.errors import BrokenError, MissingError
from labctl.model.reports import OpenReport
from labctl.trace.trail import target

START_SECONDS = 3.0
"""A graphical browser that fails to start has exited by then; one that still runs shows the page."""


def open_page(context: Context, wanted: str | None) -> OpenReport:
    """Open the page of a hostname or URL, by default the first app's; return the URL and the browser.

    A trace checks the lab first. The browser runs in this process's network; a text browser has exited on return.
    Raises BrokenError, with the cause of the first broken hop, if the page cannot be loaded; UsageError as `trace`
    does; MissingError `browser-not-found` and `browser-failed`.
    """
    hostname, _ = target(context, wanted)
    url = wanted if wanted and "://" in wanted else f"http://{hostname}"
    report = trace.follow(context, wanted)
    if hop := trace.broken_hop(report):
        raise BrokenError(
            f"{url} cannot be opened: {hop['hop']}: {trace.finding(hop)}",
            id=str(hop["cause"]),
            hint="\n".join([hop["fix"] or "", *hop["commands"]]),
        )
    browser = _browser(context, url)
    if isinstance(browser, webbrowser.GenericBrowser | webbrowser.UnixBrowser):
        line = [browser.name, *(argument.replace("%s", url) for argument in browser.args)]
        _run_browser(line, context, url, in_terminal=_may_need_terminal(browser))
    elif not browser.open(url):
        raise _start_error(browser.name, url)
    return {
        "version": 1,
        "url": url,
        "browser": browser.name,
        "warnings": [hop for hop in report["hops"] if hop["cause"]],
    }


def _browser(context: Context, url: str) -> webbrowser.BaseBrowser:
    """Return the first browser that Python's `webbrowser` finds: of the desktop, of $BROWSER or of the terminal."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error as error:
        raise _not_found(context, url) from error
    has_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if _may_need_terminal(browser) and not has_terminal and not os.environ.get("BROWSER"):
        raise _not_found(context, url)
    return browser


def _may_need_terminal(browser: webbrowser.BaseBrowser) -> bool:
    """Return whether a browser may need the terminal until it exits, like a command in $BROWSER without an `&`."""
    if isinstance(browser, webbrowser.UnixBrowser):
        return not browser.background
    return isinstance(browser, webbrowser.GenericBrowser) and not isinstance(browser, webbrowser.BackgroundBrowser)


def _run_browser(line: list[str], context: Context, url: str, *, in_terminal: bool) -> None:
    """Start the browser. Python's own `webbrowser.open` returns too early to notice a browser that fails."""
    home = _profile_environment(context.folder) if context.isolated else {}
    environment = {**os.environ, **without_proxy(context.lab, os.environ), **home}
    log_file = context.folder / lab_folder.BROWSER_LOG
    try:
        if in_terminal:
            code = subprocess.run(line, env=environment, check=False).returncode
        else:
            code = _start_browser(line, environment, log_file)
    except OSError as error:
        raise _start_error(line[0], url, (f"{error.filename or line[0]}: {error.strerror}",)) from error
    if code != 0:
        raise _start_error(line[0], url, () if in_terminal else last_lines(log_file.read_text(errors="replace")))


def _start_browser(line: list[str], environment: Mapping[str, str], log_file: Path) -> int:
    """Return the exit code of a browser that exits after passing the page to a running one; 0 if it keeps running."""
    with log_file.open("wb") as log:
        child = subprocess.Popen(
            line, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        return child.wait(START_SECONDS)
    except subprocess.TimeoutExpired:
        return 0


def _profile_environment(folder: Path) -> dict[str, str]:
    """Return environment variables that give browsers profiles for this lab alone.

    With the user's own profile, a browser that already runs would open the page, from its own network.
    """
    home = private_folder(folder / "browser")
    folders = {"HOME": home, "XDG_CONFIG_HOME": home / ".config", "XDG_CACHE_HOME": home / ".cache"}
    # The X server requires its cookie, which is in the user's real home by default.
    authority = os.environ.get("XAUTHORITY") or home_folder() / ".Xauthority"
    return {**{name: str(path) for name, path in folders.items()}, "XAUTHORITY": str(authority)}


def _not_found(context: Context, url: str) -> MissingError:
    by_hand = f"`labctl exec -- curl {url}` requests the page in the lab's network."
    return MissingError(
        f"no browser was found to show {url}",
        id="browser-not-found",
        hint=by_hand if context.isolated else f"Open {url} by hand, in a browser on this machine.",
    )


def _start_error(browser: str, url: str, lines: tuple[str, ...] = ()) -> MissingError:
    hint = "Set BROWSER to use another one: `BROWSER=firefox labctl open`."
    if os.geteuid() == 0:
        hint += " As root, Chromium needs an option: `BROWSER='chromium --no-sandbox %s &' labctl open`."
    return MissingError(f"the browser {browser} did not open {url}", id="browser-failed", hint=hint, details=lines)
