"""The names of all files in a lab's folder, which no other module spells, and those that `destroy` keeps."""

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
"""Vagrant's records of the lab's machines."""
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
"""The output of each virtual machine's serial console."""
ENGINE = "engine"
"""The data of an isolated lab's Engine; missing in a folder that was only rendered."""
ENGINE_LOG = "dockerd.log"
CONTAINERD_LOG = "containerd.log"
BROWSER_LOG = "browser.log"
HOSTS_BACKUP = "hosts.before"
BOX = "box"
"""The name of the box that a destroyed lab left on the machine, where other labs can use it."""

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
"""Files that `destroy` keeps for later inspection; `--purge` removes them as well."""


def seed(node: str) -> str:
    """Return the path of a node's seed disk in the lab's folder."""
    return f"{SEEDS}/{node}.iso"


def console(node: str) -> str:
    """Return the path of a node's console output in the lab's folder."""
    return f"{CONSOLES}/{node}.log"


def empty(folder: Path, keep: Collection[str] = ()) -> None:
    """Remove everything but the names in `keep`; the lab's record last, so that an interrupted run can be repeated.

    Files may vanish meanwhile: a read-only command holds no lock, and removes its own temporary files.
    """
    for path in sorted(folder.iterdir(), key=lambda path: path.name == RECORD):
        if path.name not in keep:
            failpoint("remove")
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
