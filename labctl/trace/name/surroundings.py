"""What is not well though the name is found: for the next `up`, for other users, for programs with a proxy."""

from __future__ import annotations

import shlex
import stat
from ipaddress import ip_address
from urllib.parse import urlsplit

from labctl.host import proxies, redaction
from labctl.trace.name import absence, hosts_edits
from labctl.trace.probes.knock import CONNECTED
from labctl.trace.problem import WARNING, Evidence, ProblemError
from labctl.trace.trail import Trail

KNOCK_SECONDS = 0.5
LOCALHOST = "127.0.0.1"


def damaged(trail: Trail, evidence: Evidence) -> ProblemError | None:
    """Return that `up` refuses to write the hosts file, though the name may be found; None where it does not."""
    damage = hosts_edits.damage(trail)
    if damage is None:
        return None
    file = hosts_edits.named(trail)
    fix = f"Open {file} in an editor and delete what is left of that block, from BEGIN to END."
    return ProblemError(
        "hosts-damaged",
        f"{file}, {damage.text}; `labctl up` refuses to write the file",
        evidence,
        fix=f"Remove this lab's markers from {file}, and write its block anew." if damage.is_own else fix,
        commands=hosts_edits.mending(trail) if damage.is_own else (),
    )


def doubt(trail: Trail, evidence: Evidence) -> ProblemError | None:
    """Return what keeps the name from others than this user, or from programs with a proxy; None where nothing does."""
    if not _is_readable(trail):
        text = f"only its owner may read {trail.hosts}: programs of other users do not find {trail.hostname}"
        return absence.unreadable(trail, text, evidence, state=WARNING)
    proxy = None if trail.context.isolated else proxies.proxy_for(trail.hostname, trail.client.environment)
    return _proxy(trail, *proxy, evidence) if proxy else None


def _is_readable(trail: Trail) -> bool:
    try:
        return bool(trail.client.hosts.stat().st_mode & stat.S_IROTH)
    except OSError:  # it is not there, and another resolver knows the name
        return True


def _proxy(trail: Trail, variable: str, proxy: str, evidence: Evidence) -> ProblemError:
    shown = redaction.redacted(proxy, ())
    dead = "" if _serves(trail, proxy) else ", where nobody takes connections"
    settings = proxies.without_proxy(trail.lab, trail.client.environment, trail.hostname)
    words = " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
    return ProblemError(
        "proxy-in-the-way",
        f"{variable} is {shown}{dead}: programs that are started with it ask that proxy for {trail.hostname}",
        {**evidence, "proxy": {"variable": variable, "value": shown, "serves": not dead}},
        fix=f"Except {trail.hostname} from the proxy, here and in your browser's settings. What labctl starts bypasses it.",
        commands=(f"export {words}",),
        state=WARNING,
    )


def _serves(trail: Trail, proxy: str) -> bool:
    """Whether something listens where the proxy should be; who is named is taken at its word."""
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, port = parts.hostname or "", parts.port or 1080
        address = ip_address(LOCALHOST if host == "localhost" else host)
    except ValueError:
        return True
    return trail.client.knock([address], trail.left(KNOCK_SECONDS), port)[address].outcome == CONNECTED
