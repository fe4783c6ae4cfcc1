"""A node's system built in the Engine: the Dockerfile, and the cleanup."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from labctl.bundle import images
from labctl.bundle.build import debian
from labctl.bundle.build.build import NODE
from labctl.bundle.download import by_engine, order, tools
from labctl.bundle.download.order import Order
from labctl.bundle.download.recipe import load
from labctl.host import docker_engine
from labctl.host.process import Finished
from labctl.host.wait import until
from labctl.model.errors import MissingError, ProviderError
from labctl.transfer import mirrors

PROXY = "http://me:secret@proxy.example:3128"
MIRROR = "https://mirror.example"
SECURITY = f"deb [signed-by={debian.KEYRING}] {MIRROR}/debian-security trixie-security main"
BASE = by_engine.base_name(Path("/cache/bundles/some.partial"))


def test_the_dockerfile_runs_the_same_mmdebstrap_command_as_the_machine() -> None:
    sources = tools.debian_sources("trixie", mirrors.parse_mirrors({order.DEBIAN: MIRROR, order.SECURITY: MIRROR}, ""))
    text = by_engine.dockerfile(BASE, NODE.packages, "arm64", sources)
    line = debian.line(NODE.packages, "arm64", Path("/node.tar"), "minbase", "customize", sources)

    assert text.startswith(f"FROM {BASE}\n")
    words = shlex.split(text.splitlines()[-1])
    assert words[-len(line) :] == [os.fspath(word) for word in line]
    assert words[1:3] == [f"SOURCE_DATE_EPOCH={images.EPOCH}", f"{debian.HOOK}=$(cat /node.sh)"]
    assert f"{debian.KEYRING} {MIRROR}/debian " in text
    assert "deb.debian.org" not in text
    assert not [word for word in ("trusted", "allow-", "insecure", "unauth") if word in text.replace("ca-cert", "")]


@pytest.mark.parametrize(
    ("hosts", "sources"),
    [
        ([], ()),
        ([order.DEBIAN], (f"{MIRROR}/debian",)),
        ([order.SECURITY], ("http://deb.debian.org/debian", SECURITY)),
        ([order.DEBIAN, order.SECURITY], (f"{MIRROR}/debian", SECURITY)),
        (["docker.io"], ()),
    ],
)
def test_packages_come_from_the_configured_debian_mirrors(hosts: list[str], sources: tuple[str, ...]) -> None:
    table = mirrors.parse_mirrors(dict.fromkeys(hosts, MIRROR), "")

    assert tools.debian_sources("trixie", table) == sources
    named = [host for host in hosts if host != "docker.io"]
    assert len(Order(load(), table).servers()) == len(Order(load()).servers()) + (order.SECURITY in named)


def test_without_a_mirror_the_images_own_sources_are_kept() -> None:
    text = by_engine.dockerfile(BASE, NODE.packages, "amd64", ())

    assert "sources.list" not in text
    assert shlex.split(text.splitlines()[-1])[-2:] == ["trixie", "/node.tar"]


@dataclass
class FakeEngine:
    """A fake Engine that records what it creates. Its build raises the exception in `ends`."""

    ends: BaseException | None = None
    containers: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    environment: Mapping[str, str] = field(default_factory=dict)
    dockerfile: str = ""
    certificates: str = ""
    words: list[str] = field(default_factory=list)

    def check(self, line: Sequence[str], **options: Mapping[str, str]) -> str:
        words = [os.fspath(word) for word in line]
        self.words += words
        match words[1:3]:
            case ["image", "load"]:
                self.names.append(images.reference_of(Path(words[-1])))
            case ["build", _]:
                self.environment, self.dockerfile = options["env"], Path(words[-1], "Dockerfile").read_text("utf-8")
                self.certificates = Path(words[-1], by_engine.CERTIFICATES).read_text("utf-8")
                self.images.append("made")
                if self.ends:
                    self.containers.append("running")
                    raise self.ends
            case ["create", _]:
                self.containers.append("container")
                return "container\n"
            case ["cp", _]:
                Path(words[-1]).write_text("system", encoding="utf-8")
            case ["ps", _]:
                return "\n".join(self.containers)
            case ["image", "ls"]:
                return "\n".join(self.names if words[-1] == BASE else self.images)
        return ""

    def run(self, line: Sequence[str]) -> Finished:
        for kept in (self.containers, self.images, self.names):
            kept[:] = [each for each in kept if each not in line]
        return Finished(0, "", ())


@pytest.mark.parametrize(
    "ends", [None, KeyboardInterrupt(), MissingError("no", id="tool-failed")], ids=["well", "interrupted", "failed"]
)
def test_nothing_is_left_in_the_engine_after_success_failure_or_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: BaseException | None
) -> None:
    engine = FakeEngine(ends, containers=["left"], images=["left"], names=[BASE])
    monkeypatch.setattr(by_engine, "check", engine.check)
    monkeypatch.setattr(by_engine, "run", engine.run)
    monkeypatch.setattr(by_engine, "until", partial(until, sleep=lambda _seconds: None))
    monkeypatch.setenv("http_proxy", PROXY)
    folder, trusted = tmp_path / "making", tmp_path / "trusted.pem"
    folder.mkdir()
    trusted.write_text("a company's own", encoding="utf-8")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    base, target = folder / by_engine.BASE, folder / "node.tar"
    images.write_archive(base, reference=BASE, architecture="amd64", config={}, layers=[])

    if ends:
        with pytest.raises(type(ends)):
            by_engine.make_node(NODE.packages, target, "amd64", (), base)
    else:
        by_engine.make_node(NODE.packages, target, "amd64", (), base)

    assert target.exists() == (ends is None)
    assert (engine.containers, engine.images, engine.names) == ([], [], [])
    assert engine.environment == {"http_proxy": PROXY, "DOCKER_BUILDKIT": "0"}
    assert "--build-arg=http_proxy" in engine.words
    assert not [word for word in (*engine.words, engine.dockerfile) if "secret" in word]
    assert engine.certificates == "a company's own"
    assert engine.dockerfile == by_engine.dockerfile(BASE, NODE.packages, "amd64", ())
    assert sorted(path.name for path in folder.iterdir()) == sorted([base.name, *([] if ends else [target.name])])


@pytest.mark.parametrize(
    ("response", "is_selected"),
    [
        (Finished(0, "linux/arm64\n", ()), True),
        (Finished(0, "linux/amd64\n", ()), False),
        (Finished(1, "linux/arm64\n", ()), False),
        (ProviderError("cannot run docker", id="tool-not-started"), False),
    ],
)
def test_only_a_reachable_engine_of_this_architecture_is_selected(
    monkeypatch: pytest.MonkeyPatch, response: Finished | ProviderError, *, is_selected: bool
) -> None:
    def run(_line: Sequence[str], **_options: float) -> Finished:
        if isinstance(response, ProviderError):
            raise response
        return response

    monkeypatch.setattr(docker_engine, "run", run)

    assert by_engine.engine_answers("arm64") == is_selected
