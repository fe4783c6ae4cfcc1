"""Every environment variable that labctl reads or passes on, from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from generator import markdown, sources
from labctl.cli.man import ENVIRONMENT
from labctl.host import tool_environment

ALSO_READ: Mapping[str, str] = {
    "HOME": "The user's home folder.",
    "PATH": "Where programs are found.",
    "USER": "Who has to be in libvirt's group, for `labctl doctor`.",
    "http_proxy, all_proxy, no_proxy": "In lower or upper case: the proxy for downloads, and whether programs would use it for the lab's hostnames.",
    "https_proxy": "In lower or upper case: the proxy for downloads over TLS.",
    "SSL_CERT_FILE": "A file with the certificates of all CAs that downloads trust, instead of the system's.",
    "DOCKER_CONFIG": "The folder with Docker's config.json, which has the logins of registries; ~/.docker if it is not set.",
    "DOCKER_HOST": "The Docker Engine of labs that are not isolated. `labctl doctor` warns if it is set.",
    "LIBVIRT_DEFAULT_URI": "The libvirt that runs the nodes of `provider: libvirt`; qemu:///system if it is not set.",
    "VAGRANT_HOME": "The user's boxes and plugins for `provider: libvirt`.",
    "GOPROXY": "The Go module proxy that `labctl doctor` checks and `labctl bundle build` downloads from.",
    "PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, PIP_NO_INDEX, PIP_CONFIG_FILE, UV_DEFAULT_INDEX, UV_INDEX_URL, "
    "UV_INDEX, UV_FIND_LINKS, XDG_CONFIG_DIRS": "Where pip and uv find packages: `labctl bundle build` downloads from there.",
    "SUDO_UID, SUDO_GID": "Set by sudo: the user who ran labctl, who becomes the owner of files that labctl writes.",
    "TMPDIR": "Where the system of a virtual machine is installed, for a user other than root; /var/tmp if it is not set.",
    "TERM, LANG, LC_ALL": "What the terminal can show.",
    "SHELL": "Written into the recording of a demo.",
    "XAUTHORITY": "How a browser in the network of an isolated lab reaches the display.",
    "_LABCTL_COMPLETE": "Set by the shells' scripts for completion.",
    "LABCTL_FAULT": "For tests: where labctl kills itself.",
}
"""Variables that labctl reads and the manual page omits, and their meaning."""


def page() -> str:
    """Return the page."""
    return markdown.page(
        "Environment variables",
        "## Settings",
        _table(ENVIRONMENT),
        "## Other variables that labctl reads",
        _table(ALSO_READ),
        "## What tools get",
        "The programs that labctl starts for itself get the variables below and no others, so that a setting for another"
        " project does not change the lab. Programs that you start through labctl, with `labctl exec`, `labctl ssh`,"
        " `labctl open` or a demo, get your environment.",
        markdown.table(
            ("Program", "Variables"),
            (
                ("every program", markdown.listed(tool_environment.COMMON)),
                *((markdown.code(name), markdown.listed(given)) for name, given in tool_environment.TOOLS.items()),
            ),
        ),
    )


def read() -> set[str]:
    """Return the variables that the sources read by a literal name or a constant."""
    return {
        name
        for module, tree in sources.modules().items()
        for node in ast.walk(tree)
        for key in _keys(node)
        for name in sources.texts(module, key) or ()
    }


def described() -> set[str]:
    """Return the variables that the page describes."""
    return {name for names in (*ENVIRONMENT, *ALSO_READ) for name in names.split(", ")}


def _keys(node: ast.AST) -> Iterator[ast.expr]:
    match node:
        case ast.Call(func=ast.Attribute(value=owner, attr="get"), args=[key, *_]) if _is_environment(owner):
            yield key
        case ast.Subscript(value=owner, slice=key) if _is_environment(owner):
            yield key
        case ast.Compare(left=key, ops=[ast.In()], comparators=[owner]) if _is_environment(owner):
            yield key


def _is_environment(owner: ast.expr) -> bool:
    return ast.unparse(owner).rpartition(".")[2] in {"environ", "environment"}


def _table(variables: Mapping[str, str]) -> str:
    return markdown.table(
        ("Variable", "Meaning"), ((markdown.listed(names.split(", ")), text) for names, text in variables.items())
    )
