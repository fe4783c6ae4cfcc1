"""The files of a lab, written from the machine, the bundle and the keys."""

from __future__ import annotations

import json
import os
import shutil
import stat
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, NoReturn

import pytest
from fakes import METALLB, lab
from seeds import seed_files

from labctl.context import Context
from labctl.host import lab_folder
from labctl.model.errors import MissingError, UsageError
from labctl.plans import lab_files, rendered_files
from labctl.render import pki
from labctl.render.yaml_stream import documents


@pytest.mark.usefixtures("keyed")
def test_a_labs_folder_has_everything_that_it_boots_from(context: Context) -> None:
    assert lab_files.write_lab(context, context.folder)

    files = {str(path.relative_to(context.folder)) for path in context.folder.rglob("*") if path.is_file()}
    manifests = {f"manifests/{name}.yaml" for name in ("metallb", "memberlist", "pool", "ingress", "app-my-app")}
    nodes = {f"nodes/{node.name}/bootstrap.sh" for node in context.lab.nodes}
    assert {"Vagrantfile", "kubeconfig", "pki/ssh", *manifests, *nodes} <= files
    assert not lab_files.write_lab(context, context.folder)


@pytest.mark.usefixtures("keyed")
def test_a_labs_files_are_private(context: Context) -> None:
    assert lab_files.write_lab(context, context.folder)

    for path in context.folder.rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077 or path.is_dir(), path


def test_a_folder_of_the_user_keeps_its_mode_and_its_files(context: Context, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    folder.chmod(0o1777)
    (folder / "README").write_text("mine")

    assert lab_files.write_lab(context, folder, is_users=True)
    assert not lab_files.write_lab(context, folder, is_users=True)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
    assert (folder / "README").read_text() == "mine"
    for path in set(folder.rglob("*")) - {folder / "README", folder / "nodes"}:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def _context_with(context: Context, **values: Any) -> Context:  # noqa: ANN401 - the values of a labctl.yaml
    changed = replace(context, lab=lab(**values))
    vars(changed).update(bundle=context.bundle)
    return changed


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"apps": [{"name": "my-app"}, {"name": "shop"}]}, {}),
        ({"apps": [{"name": "shop"}]}, {"apps": [{"name": "store"}]}),
        ({"workers": 3}, {}),
        ({"workers": 3, "provider": "libvirt"}, {"provider": "libvirt"}),
        ({"provider": "libvirt"}, {}),
    ],
    ids=["an app less", "an app of another name", "workers less", "machines less", "containers"],
)
@pytest.mark.usefixtures("keyed")
def test_files_that_are_no_longer_rendered_are_removed(
    context: Context, tmp_path: Path, before: dict[str, Any], after: dict[str, Any]
) -> None:
    fresh, folder = tmp_path / "fresh", context.folder
    shutil.copytree(folder, fresh)
    lab_files.write_lab(_context_with(context, **after), fresh)
    lab_files.write_lab(_context_with(context, **before), folder)
    mine = folder / "manifests" / "app-mine.yaml"
    mine.write_text("kind: List")
    consoles = {name for name in _files(folder) if name.startswith(lab_folder.CONSOLES)}

    assert lab_files.write_lab(_context_with(context, **after), folder)

    assert _files(folder) - consoles == (_files(fresh) | {"manifests/app-mine.yaml"}) - consoles
    assert {path.name for path in (folder / "nodes").iterdir()} == {path.name for path in (fresh / "nodes").iterdir()}
    assert not lab_files.write_lab(_context_with(context, **after), folder)


@pytest.mark.parametrize("change", ["edited", "replaced by a link", "replaced by a folder", "gone"])
@pytest.mark.usefixtures("keyed")
def test_a_stale_file_that_the_user_changed_is_kept(context: Context, change: str) -> None:
    shop = context.folder / "manifests" / "app-shop.yaml"
    lab_files.write_lab(_context_with(context, apps=[{"name": "shop"}]), context.folder)
    match change:
        case "edited":
            shop.write_text(shop.read_text() + "# mine\n")
        case "replaced by a link":
            shop.rename(context.folder / "mine.yaml")
            shop.symlink_to(context.folder / "mine.yaml")
        case _:
            shop.unlink()
    if change == "replaced by a folder":
        shop.mkdir()

    lab_files.write_lab(context, context.folder)

    assert os.path.lexists(shop) is (change != "gone")
    lab_files.write_lab(context, context.folder)
    assert os.path.lexists(shop) is (change != "gone")


@pytest.mark.parametrize("record", ["{", "[]", '{"manifests/app-shop.yaml": 1}', None])
@pytest.mark.usefixtures("keyed")
def test_without_a_valid_render_record_nothing_is_removed(context: Context, record: str | None) -> None:
    lab_files.write_lab(_context_with(context, apps=[{"name": "shop"}]), context.folder)
    record_file = context.folder / lab_folder.RENDER_RECORD
    record_file.unlink() if record is None else record_file.write_text(record)

    lab_files.write_lab(context, context.folder)

    assert (context.folder / "manifests" / "app-shop.yaml").exists()


@pytest.mark.usefixtures("keyed")
def test_a_file_outside_of_the_folder_is_never_removed(context: Context, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (name,) = rendered_files.checksums_in(tmp_path, ["mine"]).values()
    lines = {str(mine): name, os.path.relpath(mine, context.folder): name}
    (context.folder / lab_folder.RENDER_RECORD).write_text(json.dumps(lines))

    lab_files.write_lab(context, context.folder)

    assert mine.exists()


@pytest.mark.usefixtures("keyed")
def test_stale_files_of_an_interrupted_render_are_removed(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_arguments: object) -> NoReturn:
        raise KeyboardInterrupt

    lab_files.write_lab(context, context.folder)
    remove_stale = rendered_files.remove_stale
    monkeypatch.setattr(rendered_files, "remove_stale", interrupt)
    with pytest.raises(KeyboardInterrupt):
        lab_files.write_lab(_context_with(context, apps=[{"name": "shop"}]), context.folder)
    monkeypatch.setattr(rendered_files, "remove_stale", remove_stale)
    assert {"manifests/app-shop.yaml", "manifests/app-my-app.yaml"} <= _files(context.folder)

    lab_files.write_lab(context, context.folder)

    assert "manifests/app-shop.yaml" not in _files(context.folder)


@pytest.mark.parametrize("out", ["file", "file/below", "link", "link/below/it"])
def test_an_output_path_that_is_not_a_folder_is_refused(context: Context, tmp_path: Path, out: str) -> None:
    parent = tmp_path / "there"
    parent.mkdir()
    (parent / "file").touch()
    (parent / "link").symlink_to("nowhere")

    with pytest.raises(UsageError) as caught:
        lab_files.write_lab(context, parent / out, is_users=True)

    assert (caught.value.exit_code, caught.value.id) == (2, "not-a-folder")
    assert str(parent / out.partition("/")[0]) in caught.value.message
    assert sorted(path.name for path in parent.iterdir()) == ["file", "link"]


@pytest.mark.parametrize("name", ["Vagrantfile", "kubeconfig", "pki", "nodes", "manifests", ".rendered.json"])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_foreign_files_are_never_overwritten(context: Context, tmp_path: Path, name: str, kind: str) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    match kind:
        case "file":
            (folder / name).write_bytes(b"\xff mine")
        case "folder":
            (folder / name).mkdir(mode=0o755)
        case _:
            (folder / name).symlink_to("nowhere")
    before = (folder / name).lstat()

    with pytest.raises(UsageError) as caught:
        lab_files.write_lab(context, folder, is_users=True)

    assert (caught.value.exit_code, caught.value.id) == (2, "files-in-the-way")
    assert str(folder / name) in caught.value.message
    assert [path.name for path in folder.rglob("*")] == [name]
    assert ((folder / name).lstat().st_mode, (folder / name).lstat().st_mtime_ns) == (
        before.st_mode,
        before.st_mtime_ns,
    )


@pytest.mark.usefixtures("keyed")
def test_nodes_get_the_labs_keys_and_only_the_control_plane_gets_the_ca_key(context: Context) -> None:
    lab_files.write_lab(context, context.folder)

    control_plane, worker = (context.folder / "nodes" / node.name for node in context.lab.nodes)
    assert (worker / "ca.crt").read_text() == (context.folder / lab_folder.CA_CERTIFICATE).read_text()
    assert (control_plane / "ca.key").read_text() == (context.folder / lab_folder.CA_KEY).read_text()
    assert not (worker / "ca.key").exists()
    assert pki.token(context.folder) in (worker / "kubeadm.yaml").read_text()
    assert "certificate-authority: /etc/labctl/ca.crt" in (worker / "discovery.kubeconfig").read_text()


@pytest.mark.usefixtures("keyed")
def test_an_image_of_the_bundle_gets_its_full_name_and_any_other_keeps_its_name(
    context: Context,
) -> None:
    apps = [{"name": "carried", "image": "nginx"}, {"name": "foreign", "image": "ghcr.io/me/shop:2"}]
    several = replace(context, lab=lab(apps=apps))
    vars(several).update(bundle=context.bundle)
    pki.ensure(context.folder, several.lab)

    files = lab_files.cluster_files(several, context.folder)

    assert documents(files["metallb.yaml"]) == documents(METALLB)
    images = {
        name: documents(files[f"app-{name}.yaml"])[0]["spec"]["template"]["spec"]["containers"][0]["image"]
        for name in ("carried", "foreign")
    }
    assert images == {"carried": "labctl.local/nginx:1.26.3", "foreign": "ghcr.io/me/shop:2"}


@pytest.mark.usefixtures("keyed")
def test_the_secret_of_the_speakers_is_the_labs_memberlist_key(context: Context) -> None:
    pki.ensure(context.folder, context.lab)

    secret, *_ = documents(lab_files.cluster_files(context, context.folder)["memberlist.yaml"])

    assert secret["stringData"]["secretkey"] == pki.memberlist(context.folder)


@pytest.mark.usefixtures("keyed")
def test_failure_detectors_are_rendered_if_the_bundle_has_their_image(context: Context) -> None:
    pki.ensure(context.folder, context.lab)
    _, detectors = documents(lab_files.cluster_files(context, context.folder)["memberlist.yaml"])
    reference = context.bundle.image("failure-detector")
    others = tuple(image for image in context.bundle.images if image.reference != reference)
    vars(context).update(bundle=replace(context.bundle, images=others))
    without = documents(lab_files.cluster_files(context, context.folder)["memberlist.yaml"])

    assert [manifest["kind"] for manifest in without] == ["Secret"]
    assert detectors["kind"] == "DaemonSet"
    assert [each["image"] for each in detectors["spec"]["template"]["spec"]["containers"]] == [reference]


@pytest.mark.parametrize(
    ("values", "identity"), [({"ingress": "ingress-nginx"}, "ingress-not-carried"), ({}, "bundle-not-found")]
)
def test_nothing_is_written_for_a_lab_that_the_bundle_cannot_boot(
    context: Context, values: dict[str, str], identity: str
) -> None:
    requested = replace(context, lab=lab(**values))
    if identity == "ingress-not-carried":
        vars(requested).update(bundle=context.bundle)

    with pytest.raises(MissingError) as raised:
        lab_files.write_lab(requested, context.folder)

    assert raised.value.id == identity
    assert not any(context.folder.iterdir())


@pytest.mark.parametrize(
    ("resolv_conf", "servers"),
    [
        ("nameserver 10.0.0.53\n", ("10.0.0.53",)),
        ("# by hand\nnameserver 127.0.0.53\nnameserver 10.0.0.53\nsearch example.test\n", ("10.0.0.53",)),
        ("nameserver fe80::1\nnameserver 127.0.0.1\n", ()),
        ("nameserver\t10.0.0.53 \nnameserver 10.0.0.54", ("10.0.0.53", "10.0.0.54")),
        ("", ()),
    ],
)
def test_nodes_use_nameservers_that_are_not_on_loopback_or_link_local(
    resolv_conf: str, servers: tuple[str, ...]
) -> None:
    assert lab_files.nameservers(resolv_conf) == tuple(IPv4Address(server) for server in servers)


def test_invalid_addresses_of_nameservers_are_ignored() -> None:
    resolv_conf = "nameserver 1.2.3\nnameserver 999.1.1.1\nnameserver 127.0.0.53\nnameserver 10.0.0.2\n"

    assert lab_files.nameservers(resolv_conf) == (IPv4Address("10.0.0.2"),)


@pytest.mark.parametrize("provider", ["libvirt", "virtualbox"])
@pytest.mark.usefixtures("keyed")
def test_a_virtual_machine_has_a_seed_that_is_rewritten_only_if_it_changes(context: Context, provider: str) -> None:
    machines = replace(context, lab=lab(provider=provider))
    vars(machines).update(bundle=context.bundle)

    assert lab_files.write_lab(machines, context.folder)
    seeds = {node.name: context.folder / lab_folder.seed(node.name) for node in machines.lab.nodes}
    before = {path: path.stat().st_ino for path in seeds.values()}
    assert not lab_files.write_lab(machines, context.folder)
    assert {path: path.stat().st_ino for path in seeds.values()} == before
    seeds["demo-worker-1"].write_bytes(b"half")
    assert lab_files.write_lab(machines, context.folder)

    for name, path in seeds.items():
        files_in_seed = seed_files(path)
        folder = context.folder / lab_folder.NODES / name
        assert files_in_seed.keys() == {file.name for file in folder.iterdir()} >= {"hostname", "lab.network", "lab-id"}
        assert {file: text for file, (text, _) in files_in_seed.items()} == {
            file.name: file.read_bytes() for file in folder.iterdir()
        }
        secret = {file for file, (_, mode) in files_in_seed.items() if mode == 0o400}
        assert secret == {"kubeadm.yaml", "ca.key"} & files_in_seed.keys()
        assert {mode for _, mode in files_in_seed.values()} == {0o400, 0o444}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (context.folder / lab_folder.console(name)).read_bytes() == b""
