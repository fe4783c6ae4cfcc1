"""Find problems with a name that resolves: for the next `up`, other users, browsers, and programs that use a proxy."""

from __future__ import annotations

import shlex
from ipaddress import ip_address
from urllib.parse import urlsplit

from labctl.host import hosts_file, proxies, redaction
from labctl.host.tcp_connect import CONNECTED
from labctl.trace.name import absence, hosts_edits
from labctl.trace.problem import WARNING, Evidence, ProblemError
from labctl.trace.trail import Trail

CONNECT_SECONDS = 0.5
LOCALHOST = "127.0.0.1"
HTTPS_ALONE = frozenset({"app", "bank", "day", "dev", "foo", "google", "insurance", "new", "page", "play"})
"""Top-level domains that are entirely on the HSTS preload list of browsers, which use only HTTPS for them."""


def damaged_hosts_file(trail: Trail, evidence: Evidence) -> ProblemError | None:
    """Return why `up` would refuse to write the hosts file, although the name may resolve; None if it would not."""
    damage = hosts_edits.damage(trail)
    if damage is None:
        return None
    file = hosts_edits.outside_path(trail)
    fix = f"Open {file} in an editor and delete the rest of that block, from BEGIN to END."
    return ProblemError(
        "hosts-damaged",
        f"{file}, {damage.text}, so `labctl up` refuses to write the file",
        evidence,
        fix=f"Remove this lab's markers from {file}, then write its block again." if damage.is_own else fix,
        commands=hosts_edits.repair_commands(trail) if damage.is_own else (),
    )


def further_problem(trail: Trail, evidence: Evidence) -> ProblemError | None:
    """Return why other users, browsers, or programs that use a proxy cannot use the name; None if they can."""
    if not hosts_file.is_world_readable(trail.client.hosts):
        text = f"only its owner can read {trail.hosts}: programs of other users cannot resolve {trail.hostname}"
        return absence.unreadable_hosts_file(trail, text, evidence, state=WARNING)
    domain = trail.hostname.rpartition(".")[2]
    if trail.is_app and domain in HTTPS_ALONE:
        return _secured(trail, domain, evidence)
    proxy = None if trail.context.isolated else proxies.proxy_for(trail.hostname, trail.client.environment)
    return _proxy(trail, *proxy, evidence) if proxy else None


def _secured(trail: Trail, domain: str, evidence: Evidence) -> ProblemError:
    return ProblemError(
        "https-forced",
        f"browsers only use HTTPS for names in .{domain}, but the lab's apps serve HTTP: {trail.hostname} only works "
        "in programs such as curl",
        evidence,
        fix=f"Give the app a `hostname` in another domain, such as {trail.hostname.rpartition('.')[0]}.test, then run `labctl up`.",
        commands=(),
        state=WARNING,
    )


def _proxy(trail: Trail, variable: str, proxy: str, evidence: Evidence) -> ProblemError:
    shown = redaction.without_login(proxy)
    dead = "" if _serves(trail, proxy) else ", which does not accept connections"
    settings = proxies.without_proxy(trail.lab, trail.client.environment, trail.hostname)
    words = " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
    return ProblemError(
        "proxy-in-the-way",
        f"{variable} is {shown}{dead}: programs that use it send requests for {trail.hostname} to that proxy",
        {**evidence, "proxy": {"variable": variable, "value": shown, "serves": not dead}},
        fix=f"Exclude {trail.hostname} from the proxy, in this shell and in your browser. Programs that labctl starts bypass it.",
        commands=(f"export {words}",),
        state=WARNING,
    )


def _serves(trail: Trail, proxy: str) -> bool:
    """Return whether the proxy accepts connections; True if it has a name instead of an address."""
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, port = parts.hostname or "", parts.port or 1080
        address = ip_address(LOCALHOST if host == "localhost" else host)
    except ValueError:
        return True
    return trail.client.connect([address], trail.left(CONNECT_SECONDS), port)[address].outcome == CONNECTED
