"""Where every file of a lab is in the lab's folder, and what `destroy` keeps: the one place that spells these names."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from labctl.host.failpoints import failpoint

RECORD = "lab.json"
LOCK = "lock"
LOG = "log"
KUBECONFIG = "kubeconfig"
VAGRANTFILE = "Vagrantfile"
VAGRANT = ".vagrant"
"""What Vagrant knows of its machines."""
PKI = "pki"
NODES = "nodes"
MANIFESTS = "manifests"
INGRESS = f"{MANIFESTS}/ingress.yaml"
RENDER_RECORD = ".rendered.json"
"""Which files the last render wrote, so that the next one can remove those that it does not write."""
IMAGES = "images"
"""The images that were loaded into the lab."""
SEEDS = "seeds"
"""The seed disk of each virtual machine: the folder of its node in `NODES`, as a CD."""
CONSOLES = "console"
"""What each virtual machine writes to its serial console."""
ENGINE = "engine"
"""The data of an isolated lab's Engine, which a folder that was only rendered does not have."""
ENGINE_LOG = "dockerd.log"
CONTAINERD_LOG = "containerd.log"
BROWSER_LOG = "browser.log"
HOSTS_BACKUP = "hosts.before"
BOX = "box"
"""Which box the machines of a destroyed lab were made from; it is where others can use it."""

CA_CERTIFICATE = f"{PKI}/ca.crt"
CA_KEY = f"{PKI}/ca.key"
TOKEN = f"{PKI}/token"
MEMBERLIST = f"{PKI}/memberlist"
WEBHOOK_CERTIFICATE = f"{PKI}/metallb-webhook.crt"
WEBHOOK_KEY = f"{PKI}/metallb-webhook.key"
ADMISSION_CERTIFICATE = f"{PKI}/ingress-admission.crt"
ADMISSION_KEY = f"{PKI}/ingress-admission.key"
SSH_KEY = f"{PKI}/ssh"
SSH_PUBLIC_KEY = f"{PKI}/ssh.pub"

OLDER_LOGS = (f"{LOG}.1", f"{LOG}.2")
LOGS = (LOG, *OLDER_LOGS, ENGINE_LOG, CONTAINERD_LOG, BROWSER_LOG)
KEPT = (LOG, *OLDER_LOGS, HOSTS_BACKUP, BOX)
"""What `destroy` leaves for looking back; `--purge` removes it as well."""


def seed(node: str) -> str:
    """Return where the seed disk of a node is."""
    return f"{SEEDS}/{node}.iso"


def console(node: str) -> str:
    """Return where the console of a node is written to."""
    return f"{CONSOLES}/{node}.log"


def empty(folder: Path, keep: Collection[str] = ()) -> None:
    """Remove everything but what is to be kept. The record goes last, or a cut-off run could not be repeated.

    A command that only looks at the lab holds no lock, and removes its own temporary files meanwhile.
    """
    for path in sorted(folder.iterdir(), key=lambda path: path.name == RECORD):
        if path.name not in keep:
            failpoint("remove")
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
