"""Write all files of a lab, from facts about the machine, the bundle and the keys."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from labctl.context import Context
from labctl.host import accelerator, lab_folder
from labctl.host.docker_engine import proxy_mode, supports_privileged
from labctl.host.files import write, write_changed
from labctl.host.machine import Machine as HostMachine
from labctl.host.paths import real
from labctl.machine_image import seed
from labctl.machine_image.format import CATALOGUE, box_name, load
from labctl.model.errors import UsageError
from labctl.model.lab import Node, Role
from labctl.plans import rendered_files
from labctl.plans.applying import app_manifest
from labctl.render import ingress, manifests, pki
from labctl.render.node_files import SECRETS, Box, Credentials, Libvirt, Machine, Supplies, lab_files
from labctl.render.probes import with_patience
from labctl.render.templates import text
from labctl.render.yaml_stream import documents, yaml_stream

HEADING = b"# Rendered by labctl "
"""The beginning of each Vagrantfile that labctl writes."""
RENDERED = (
    *(lab_folder.VAGRANTFILE, lab_folder.KUBECONFIG, lab_folder.PKI, lab_folder.NODES, lab_folder.MANIFESTS),
    *(lab_folder.SEEDS, lab_folder.CONSOLES, lab_folder.RENDER_RECORD),
)
MAX_BYTE = 255


def write_lab(context: Context, folder: Path, *, is_users: bool = False) -> bool:
    """Write all of the lab's files, keys included, to the folder; return whether one of them changed.

    Remove stale files of earlier renders. A user's folder (`is_users`) keeps its mode and other files. Raises UsageError
    `files-in-the-way` if this would replace files that labctl did not write.
    """
    if is_users:
        _refuse_others(folder)
    context.require_bundle_contents()
    hypervisor, supplied = context.hypervisor, supplies(context)
    has_new_keys = pki.ensure(folder, context.lab)
    files = lab_files(context.lab, hypervisor.name, machine(context), supplied, credentials(folder))
    applied = {f"{lab_folder.MANIFESTS}/{name}": content for name, content in cluster_files(context, folder).items()}
    contents = files | applied
    earlier, now = rendered_files.read_record(folder), rendered_files.checksums_of(contents)
    rendered_files.write_record(folder, {**earlier, **now})  # first: an interrupted run may have written any of them
    written = write_changed(folder, contents)
    machines = () if hypervisor.are_containers else context.lab.nodes
    seeded = [_write_seed(folder, node, files) for node in machines]
    now = {**now, **rendered_files.checksums_in(folder, (lab_folder.seed(node.name) for node in machines))}
    removed = rendered_files.remove_stale(folder, earlier, now)
    rendered_files.write_record(folder, now)
    for node in machines:
        console = folder / lab_folder.console(node.name)
        if not console.exists():  # so that it belongs to the user, not to the hypervisor that writes to it
            write(console, b"")
    return has_new_keys or written or removed or any(seeded)


def _write_seed(folder: Path, node: Node, files: Mapping[str, str]) -> bool:
    """Write the seed disk of a node with its files; return whether it changed."""
    prefix = f"{lab_folder.NODES}/{node.name}/"
    own = {path.removeprefix(prefix): content for path, content in files.items() if path.startswith(prefix)}
    return seed.write(
        folder / lab_folder.seed(node.name),
        {
            name: seed.SeedFile(content.encode(), seed.SECRET if name in SECRETS else seed.READABLE)
            for name, content in own.items()
        },
    )


def _refuse_others(folder: Path) -> None:
    nearest = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not nearest.is_dir():
        raise UsageError(f"{nearest}: not a folder", id="not-a-folder", hint="Choose another folder with --out.")
    vagrantfile = folder / lab_folder.VAGRANTFILE
    if vagrantfile.is_file() and vagrantfile.read_bytes().startswith(HEADING):
        return
    others = [str(folder / name) for name in RENDERED if os.path.lexists(folder / name)]
    if others:
        raise UsageError(
            f"labctl would overwrite {', '.join(others)}, which it did not write",
            id="files-in-the-way",
            hint="Choose another folder, or move these files away.",
        )


def cluster_files(context: Context, folder: Path) -> dict[str, str]:
    """Return the manifests that are applied to the lab's cluster, by file name."""
    lab = context.lab
    is_slow = lab.slowness > 1
    files = {
        "control-plane.yaml": manifests.control_plane(lab),
        "metallb.yaml": manifests.metallb(
            upstream=_text(context.bundle.path("manifests/metallb-native.yaml")),
            webhook_certificate=_text(folder / lab_folder.WEBHOOK_CERTIFICATE),
            webhook_key=_text(folder / lab_folder.WEBHOOK_KEY),
            is_slow=is_slow,
        ),
        # The failure detector works within seconds: it would report slow nodes as failed.
        "memberlist.yaml": manifests.memberlist(
            lab, pki.memberlist(folder), None if is_slow else context.bundle.image("failure-detector")
        ),
        "pool.yaml": manifests.pool(lab),
        "ingress.yaml": yaml_stream(
            controller_objects(
                context,
                ingress.Certificate(
                    _text(folder / lab_folder.ADMISSION_CERTIFICATE), _text(folder / lab_folder.ADMISSION_KEY)
                ),
            )
        ),
    }
    for app in lab.apps:
        files[f"app-{app.name}.yaml"] = app_manifest(context, app)
    return {name: with_patience(content, lab.slowness) for name, content in files.items()}


def controller_objects(context: Context, certificate: ingress.Certificate | None = None) -> list[dict[str, Any]]:
    """Return the objects of the lab's ingress controller. Raises MissingError as `ingress.objects` does."""
    images = {reference: context.bundle.digest(reference) for reference in context.images}
    upstreams, replicas = documents(_controller_text(context)), len(context.lab.serving_nodes)
    return ingress.objects(context.controller, upstreams, images, replicas, context.lab.limits, certificate)


def machine(context: Context) -> Machine:
    """Return the facts about the nodes' machine: containers share this kernel, virtual machines boot Debian's."""
    hypervisor = context.hypervisor
    host = hypervisor.host()
    return Machine(
        cgroup_version=host.cgroup_version,
        proxy_mode=proxy_mode(host.kernel),
        full_privileges=supports_privileged(host.version, _text(Path("/proc/self/status"))),
        kvm=hypervisor.can_use_kvm and accelerator.kvm(HostMachine()).is_usable,
        nameservers=nameservers(_text(Path("/etc/resolv.conf")))
        or nameservers(_text(Path("/run/systemd/resolve/resolv.conf"))),
        libvirt=hypervisor.libvirt() if hypervisor.libvirt else Libvirt(),
    )


def nameservers(resolv_conf: str) -> tuple[IPv4Address, ...]:
    """Return the name servers that are reachable from the nodes: all but loopback addresses."""
    addresses = re.findall(r"^nameserver\s+(\d+\.\d+\.\d+\.\d+)\s*$", resolv_conf, re.MULTILINE)
    valid = [IPv4Address(address) for address in addresses if all(int(part) <= MAX_BYTE for part in address.split("."))]
    return tuple(address for address in valid if not address.is_loopback)


def supplies(context: Context) -> Supplies:
    """Return what the nodes use from the bundle; its machine image may not exist yet."""
    bundle, image = context.bundle, load(context.bundle)
    return Supplies(
        folder=real(bundle.folder),
        id=bundle.id,
        versions=bundle.versions,
        pause_image=str(bundle.image("pause")),
        node_image=context.node_image,
        box=Box(box_name(bundle.id), image.version if image else "0", real(bundle.path(CATALOGUE))),
        archives={role: bundle.archives(role) for role in Role},
    )


def credentials(folder: Path) -> Credentials:
    """Return the credentials that nodes and host use to trust each other."""
    return Credentials(
        ca_certificate=(folder / lab_folder.CA_CERTIFICATE).read_text(encoding="ascii"),
        ca_key=(folder / lab_folder.CA_KEY).read_text(encoding="ascii"),
        token=pki.token(folder),
        ssh_public_key=pki.ssh_public_key(folder),
    )


def _controller_text(context: Context) -> str:
    controller = context.controller
    if controller.manifest:
        return context.bundle.path(controller.manifest).read_text(encoding="utf-8")
    image = next(reference for reference in context.images if reference.startswith(f"{controller.repository}:"))
    return text(controller.template, controller=controller, image=image, limits=context.lab.limits)


def _text(path: Path) -> str:
    """Return a file's content; empty if it, or the target of its link, does not exist."""
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
