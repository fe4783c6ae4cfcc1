"""Images are loaded into a lab from files, Docker and registries, imported by its nodes, and removed."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest
from fakes import IMAGES, FakeProvider, Watched, bundle

from labctl.bundle.images import write_archive
from labctl.commands import images as command
from labctl.commands import labs
from labctl.config import saved_lab
from labctl.context import Context
from labctl.host.process import Finished
from labctl.images import sources
from labctl.model.errors import LabError
from labctl.model.options import GlobalOptions
from labctl.plans import assembly, images, up
from labctl.plans.plan import Outcome

OPTIONS = GlobalOptions(config_file=None, lab_name=None, output="json", verbosity=0)
SHOP = "docker.io/library/shop:1"
NGINX = IMAGES[-1].reference
HUNG_SECONDS = 5.0
HEADER = "REF TYPE DIGEST SIZE PLATFORMS LABELS\n"


@dataclass
class FakeNodes:
    """A fake of `ctr` on every node, with the node's images."""

    images: dict[str, dict[str, str]] = field(default_factory=dict)
    full: set[str] = field(default_factory=set)
    """Nodes whose disk is full."""
    hung: set[str] = field(default_factory=set)
    """Nodes whose import hangs until it is killed."""
    stuck: set[str] = field(default_factory=set)
    """Nodes whose removals fail."""

    def responder(self, node: str) -> Callable[[Sequence[str]], Finished]:
        def respond(command: Sequence[str]) -> Finished:
            node_images = self.images.setdefault(node, {})
            if "remove" in command and node in self.stuck:
                return Finished(1, "", ("ctr: context deadline exceeded",))
            if "remove" in command:
                for name in command[command.index("--sync") + 1 :]:
                    del node_images[name]
            rows = "".join(
                f"{name} application/x {digest} 1 MiB linux/amd64 -\n" for name, digest in node_images.items()
            )
            return Finished(0, HEADER + rows, ())

        return respond

    def feed(
        self,
        line: Sequence[str],
        write: Callable[[IO[bytes]], None],
        *,
        timeout: float,
        started: Callable[[Callable[[], None]], None],
    ) -> Finished:
        assert timeout > 0
        _, node, *command = line
        assert tuple(command) == images.IMPORT
        if node in self.hung:
            killed = threading.Event()
            started(killed.set)
            assert killed.wait(HUNG_SECONDS)
            return Finished(-9, "", ())
        if node in self.full:
            return Finished(1, "", ("ctr: write /var/lib/containerd/x: no space left on device",))
        archive = io.BytesIO()
        write(archive)
        archive.seek(0)
        with tarfile.open(fileobj=archive) as tar:
            index = tar.extractfile("index.json")
            assert index is not None
            entry = json.load(index)["manifests"][0]
            manifest = tar.extractfile(f"blobs/{entry['digest'].replace(':', '/')}")
            assert manifest is not None
            identity = json.load(manifest)["config"]["digest"]
        names = (entry["annotations"]["io.containerd.image.name"], identity)
        self.images[node] |= dict.fromkeys(names, entry["digest"])
        return Finished(0, "", ())


@pytest.fixture
def nodes(context: Context, provider: FakeProvider, home: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNodes:
    """A lab that is up."""
    saved_lab.write(context.folder, saved_lab.SavedLab(context.lab, isolated=False))
    fake_nodes = FakeNodes()
    for node in context.lab.nodes:
        provider.nodes.add(node.name)
        provider.answers[node.name] = fake_nodes.responder(node.name)
    monkeypatch.setattr(images, "feed", fake_nodes.feed)
    monkeypatch.setattr(sources, "run", lambda *_arguments, **_options: Finished(1, "", ("No such image",)))
    monkeypatch.setattr(Context, "provider", provider)
    node_bundle = bundle(home / "bundle", IMAGES[-1:])
    node_bundle.path("images").mkdir()
    (node_bundle.path("images") / "layer").touch()
    _archive(node_bundle.path(node_bundle.images[0].archive), NGINX)
    monkeypatch.setattr(Context, "bundle", node_bundle)
    return fake_nodes


@pytest.fixture
def shop(home: Path) -> Path:
    """An archive with an image."""
    (home / "layer").write_bytes(b"shop")
    return _archive(home / "shop.tar", "shop:1")


def _archive(path: Path, name: str) -> Path:
    layer = path.with_name("layer")
    write_archive(path, reference=name, architecture="amd64", config={"User": name}, layers=[layer])
    return path


def _run_plan(context_and_plan: tuple[Context, Any]) -> list[Outcome]:
    context, plan = context_and_plan
    return [step.run(context, Watched().report) for step in plan]


def _error_of(act: Callable[[], Any]) -> LabError:
    with pytest.raises(LabError) as raised:
        act()
    return raised.value


def test_an_image_is_loaded_on_every_node_once_and_removed_again(
    nodes: FakeNodes, context: Context, shop: Path
) -> None:
    first, again = (_run_plan(command.load(OPTIONS, [str(shop)])) for _ in range(2))
    (image,) = context.loaded_images.images()

    assert ([each.changed for each in first], [each.changed for each in again]) == ([True, True], [False, False])
    assert image.reference == SHOP
    both = {SHOP: image.digest, image.config.digest: image.digest}
    assert nodes.images == {node.name: both for node in context.lab.nodes}
    assert (context.image("shop:1"), context.image("shop:2"), context.image("No name")) == (SHOP, None, None)

    listed = [(each["image"], each["source"], each["nodes"]) for each in command.list_images(labs.saved(OPTIONS))]
    assert listed == [(SHOP, "loaded", [node.name for node in context.lab.nodes]), (NGINX, "bundle", [])]

    _run_plan(command.remove(OPTIONS, ["shop:1"]))
    assert context.loaded_images.images() == ()
    assert nodes.images == {node.name: {} for node in context.lab.nodes}
    assert not list((context.folder / "images" / "blobs").rglob("*.*"))
    assert not list((context.folder / "images" / "blobs" / "sha256").iterdir())


def test_a_new_image_of_the_same_name_replaces_the_first(nodes: FakeNodes, context: Context, shop: Path) -> None:
    _run_plan(command.load(OPTIONS, [str(shop)]))
    shop.with_name("layer").write_bytes(b"another")
    _archive(shop, "shop:1")

    outcomes = _run_plan(command.load(OPTIONS, [str(shop)]))

    (image,) = context.loaded_images.images()
    assert [each.changed for each in outcomes] == [True, True]
    assert {each[SHOP] for each in nodes.images.values()} == {image.digest}
    assert len(list((context.folder / "images" / "blobs" / "sha256").iterdir())) == len((image.digest, *image.blobs))


def test_removing_an_image_keeps_another_with_the_same_content(nodes: FakeNodes, context: Context, shop: Path) -> None:
    _run_plan(command.load(OPTIONS, [str(shop)]))
    (image,) = context.loaded_images.images()
    for node_images in nodes.images.values():
        node_images["registry.example/same:1"] = image.digest

    _run_plan(command.remove(OPTIONS, ["shop:1"]))

    left = {"registry.example/same:1": image.digest, image.config.digest: image.digest}
    assert nodes.images == {node.name: left for node in context.lab.nodes}


def test_an_interrupt_does_not_wait_for_a_hanging_node(
    nodes: FakeNodes, context: Context, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes.hung = {context.lab.nodes[-1].name}
    monkeypatch.setattr(images, "PROGRESS_SECONDS", 0.01)
    _, plan = command.load(OPTIONS, [str(shop)])

    def interrupt(text: str) -> None:
        if "sent to the nodes" in text:
            raise KeyboardInterrupt

    plan[0].run(context, Watched().report)
    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        plan[1].run(context, interrupt)

    assert time.monotonic() - before < HUNG_SECONDS


@pytest.mark.parametrize(("state", "reason"), [("down", "not running"), ("full", "the disk is full")])
def test_a_node_where_loading_fails_is_named_and_gets_the_image_later(
    nodes: FakeNodes, context: Context, provider: FakeProvider, shop: Path, state: str, reason: str
) -> None:
    control_plane, worker = (node.name for node in context.lab.nodes)
    nodes.full = {worker} if state == "full" else set()
    provider.nodes -= {worker} if state == "down" else set()

    error = _error_of(lambda: _run_plan(command.load(OPTIONS, [str(shop)])))

    assert error.id == "image-not-given"
    assert f"not on {worker}: " in error.message
    assert reason in error.message
    assert f"; on {control_plane}" in error.message
    assert SHOP in nodes.images[control_plane]

    nodes.full, provider.nodes = set(), {control_plane, worker}
    given = images.load_into_nodes(context, context.loaded_images.images(), Watched().report)
    assert (given.nodes, given.failures) == ((worker,), {})


def test_a_removal_that_fails_on_a_node_can_be_repeated(nodes: FakeNodes, context: Context, shop: Path) -> None:
    control_plane, worker = (node.name for node in context.lab.nodes)
    _run_plan(command.load(OPTIONS, [str(shop)]))
    nodes.stuck = {worker}

    error = _error_of(lambda: _run_plan(command.remove(OPTIONS, ["shop:1"])))

    assert (error.id, worker in error.message) == ("image-not-removed", True)
    assert [image.reference for image in context.loaded_images.images()] == [SHOP]
    assert (SHOP in nodes.images[control_plane], SHOP in nodes.images[worker]) == (False, True)

    nodes.stuck = set()
    _run_plan(command.remove(OPTIONS, ["shop:1"]))
    assert (context.loaded_images.images(), nodes.images[worker]) == ((), {})


def test_a_stopped_node_loses_a_removed_image_when_it_runs_again(
    nodes: FakeNodes, context: Context, provider: FakeProvider, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "await_nodes", lambda *_arguments: None)
    monkeypatch.setattr(up, "apply", lambda *_arguments: [])
    control_plane, worker = (node.name for node in context.lab.nodes)
    _run_plan(command.load(OPTIONS, [str(shop)]))
    provider.nodes -= {worker}

    (outcome,) = _run_plan(command.remove(OPTIONS, ["shop:1"]))

    assert worker in outcome.text
    assert control_plane not in outcome.text
    assert (context.loaded_images.images(), context.image("shop:1"), nodes.images[control_plane]) == ((), None, {})
    assert len(list((context.folder / "images" / "blobs" / "sha256").iterdir())) == 1

    provider.nodes |= {worker}
    up.await_cluster(context, Watched().report)
    assert nodes.images[worker] == {}
    assert (
        context.loaded_images.removed_images(),
        list((context.folder / "images" / "blobs" / "sha256").iterdir()),
    ) == (
        (),
        [],
    )


@pytest.mark.usefixtures("nodes")
def test_an_image_that_is_loaded_again_is_no_longer_pending_removal(
    context: Context, provider: FakeProvider, shop: Path
) -> None:
    _run_plan(command.load(OPTIONS, [str(shop)]))
    all_nodes = set(provider.nodes)
    provider.nodes -= {context.lab.nodes[-1].name}
    _run_plan(command.remove(OPTIONS, ["shop:1"]))
    provider.nodes |= all_nodes

    _run_plan(command.load(OPTIONS, [str(shop)]))

    assert context.loaded_images.removed_images() == ()
    assert [image.reference for image in context.loaded_images.images()] == [SHOP]


@pytest.mark.parametrize(
    ("words", "identity"),
    [
        (["./none.tar"], "archive-not-found"),
        (["none.tar.gz"], "archive-not-found"),
        (["~no-such-user/shop.tar"], "archive-not-found"),
        (["./" + "long" * 1250], "archive-not-found"),
        (["long" * 1250], "reference-invalid"),
        (["/"], "archive-unreadable"),
        (["shop.tar", "junk.tar"], "archive-unreadable"),
        (["shop.tar", "nginx.tar"], "image-of-bundle"),
        (["No such:name"], "reference-invalid"),
    ],
)
@pytest.mark.usefixtures("nodes")
def test_a_failed_load_leaves_nothing(context: Context, shop: Path, words: list[str], identity: str) -> None:
    shop.with_name("junk.tar").write_bytes(b"junk")
    _archive(shop.with_name("nginx.tar"), NGINX)

    assert _error_of(lambda: _run_plan(command.load(OPTIONS, words))).id == identity
    assert context.loaded_images.images() == ()
    assert not [path for path in (context.folder / "images").rglob("*") if path.is_file()]


def test_images_in_use_of_the_bundle_or_unknown_are_not_removed(
    nodes: FakeNodes, context: Context, shop: Path, home: Path
) -> None:
    _run_plan(command.load(OPTIONS, [str(shop)]))
    (home / "labctl.yaml").write_text("apps: [{name: store, image: 'shop:1'}]\n")

    used = _error_of(lambda: command.remove(OPTIONS, ["shop:1"]))

    assert (used.id, "store" in used.message) == ("image-used-by-app", True)
    assert _error_of(lambda: command.remove(OPTIONS, ["nginx"])).id == "image-of-bundle"
    assert _error_of(lambda: command.remove(OPTIONS, ["other:1"])).id == "image-not-loaded"
    assert [image.reference for image in context.loaded_images.images()] == [SHOP]
    assert all(SHOP in node_images for node_images in nodes.images.values())


@pytest.mark.parametrize("act", [command.load, command.remove])
@pytest.mark.usefixtures("nodes")
def test_a_halted_lab_refuses_to_load_and_remove_images(provider: FakeProvider, act: Callable[..., object]) -> None:
    provider.nodes.clear()

    assert _error_of(lambda: act(OPTIONS, ["shop:1"])).id == "lab-not-running"
