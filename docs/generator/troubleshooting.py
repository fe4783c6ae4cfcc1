"""Known failures by symptom, from their table and the recorded output of the tools."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from generator import markdown, sources
from labctl.host import known_failures
from labctl.host.known_failures import Failure, recognise
from labctl.model.errors import ProviderError

SAMPLES = sources.CHECKOUT / "tests" / "unit" / "host" / "recorded"
TITLES = {
    "any": "Any tool",
    "vagrant": "Vagrant",
    "libvirt": "libvirt, and Vagrant's plugin for it",
    "virtualbox": "VirtualBox, and Vagrant's driver for it",
    "docker": "The docker command and the Engine",
    "dockerd": "dockerd, of an isolated lab",
    "containerd": "containerd, of an isolated lab",
    "iptables": "iptables",
    "ip": "ip",
    "apt-get": "apt-get",
    "go": "go",
    "mmdebstrap": "mmdebstrap",
    "kubeadm": "kubeadm, on a node",
    "ssh": "ssh",
}
SHOWN = 160
"""How many characters of a tool's output a section quotes."""
INTRODUCTION = """\
- `labctl up` failed: read the hint, fix the problem, and run the same command again. It resumes.
- The app does not answer: run `labctl trace`. It reports the first broken hop, its [cause](causes.md) and the fix.
- Something in the lab is not ready: run `labctl status`.
- You suspect the machine: run `labctl doctor`, which makes [these checks](reference/doctor.md).
- You have an error id that is not on this page: look in [error ids](reference/errors.md).
- You found a bug: attach the output of `labctl logs --export DIR`. It contains no keys, tokens or passwords.

## A request fails

| Symptom | See |
| --- | --- |
| The browser or curl cannot resolve the hostname | [Name](causes.md#name) |
| The hostname resolves to a wrong address | [hosts-entry-shadowed](causes.md#hosts-entry-shadowed), [name-resolves-elsewhere](causes.md#name-resolves-elsewhere) |
| The Service of the ingress controller has no address: `EXTERNAL-IP` is `<pending>` | [Address](causes.md#address) |
| The connection times out, or there is no route to the host | [Node](causes.md#node) |
| The answer is 404 | [ingress-missing](causes.md#ingress-missing), [ingress-path-missing](causes.md#ingress-path-missing), [controller-has-no-route](causes.md#controller-has-no-route) |
| The answer is 502 | [backend-refused](causes.md#backend-refused), [backend-not-http](causes.md#backend-not-http) |
| The answer is 503 | [controller-has-no-backend](causes.md#controller-has-no-backend), [no-pod-ready](causes.md#no-pod-ready) |
| The answer is 504 | [backend-too-slow](causes.md#backend-too-slow) |
| Some requests fail and others succeed | [pods-differ](causes.md#pods-differ), [address-taken](causes.md#address-taken), [pod-route-missing](causes.md#pod-route-missing), [node-not-reached](causes.md#node-not-reached) |
| curl works, the browser does not | [hosts-entry-shadowed](causes.md#hosts-entry-shadowed), [proxy-in-the-way](causes.md#proxy-in-the-way) |
| Pods are `Pending`, `ImagePullBackOff` or `CrashLoopBackOff` | [Why pods are not ready](causes.md#why-pods-are-not-ready) |
| Isolated lab: only `labctl exec` and `labctl open` reach the app | An isolated lab has its own network: use these two commands |

## A tool fails

When a tool fails, labctl looks for a known failure in its output, and reports what it means and what to do. Each entry below
quotes the tool, then labctl."""


def page() -> str:
    """Return the page."""
    tools = groupby(known_failures.table(), key=lambda failure: failure.tool)
    return markdown.page(
        "Troubleshooting",
        INTRODUCTION,
        *(
            block
            for tool, rows in tools
            for block in (f"### {TITLES[tool]}", *(part for failure in rows for part in _section(failure)))
        ),
    )


def _section(failure: Failure) -> Iterator[str]:
    output = (SAMPLES / f"{failure.tool}-{failure.id}.txt").read_text(encoding="utf-8")
    match = next(failure.pattern.finditer(output))
    error = recognise(ProviderError("", id="tool-failed"), output, node="demo-worker-1")
    yield f"#### {failure.id}"
    yield markdown.block(_line(output, match.start(), match.end()), "text")
    yield f"{markdown.sentence(error.message)} {error.hint}"


def _line(output: str, start: int, end: int) -> str:
    """Return the lines of the output that contain the match, shortened to `SHOWN` characters."""
    first = output.rfind("\n", 0, start) + 1
    last = output.find("\n", end)
    text = output[first : last if last >= 0 else len(output)].strip()
    if len(text) <= SHOWN:
        return text
    middle = start - first
    begin = max(min(middle - 20, len(text) - SHOWN), 0)
    return f"{'…' if begin else ''}{text[begin : begin + SHOWN]}{'…' if begin + SHOWN < len(text) else ''}"
