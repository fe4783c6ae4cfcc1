"""Labs whose app's name leads nowhere, or elsewhere."""

from __future__ import annotations

from . import BrokenLab
from .breaking import edit_hosts

SHADOW = b"192.168.56.77 my-app.local\n"

ROWS = (
    BrokenLab("no hosts line", lambda lab: lab.labctl("hosts", "remove"), "name", "hosts-entry-missing"),
    BrokenLab(
        "a wrong address in the hosts line",
        edit_hosts(b"192.168.56.100", b"192.168.56.99"),
        "name",
        "hosts-entry-outdated",
    ),
    BrokenLab(
        "a shadowing line",
        edit_hosts(b"", SHADOW),
        "name",
        "hosts-entry-shadowed",
        up="names",
        undo=edit_hosts(SHADOW, b""),
    ),
)
