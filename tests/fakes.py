"""Fakes of the provider, the cluster and other interfaces of steps, and default values for tests."""

from __future__ import annotations

import copy
import hashlib
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from labctl.bundle import Bundle, File, Image
from labctl.bundle.build.ingredients import Artefact, ContainerImage
from labctl.bundle.build.toolchain import Go
from labctl.bundle.images import write_archive
from labctl.cluster.client import Cluster, Manifest
from labctl.config import from_values
from labctl.context import Context
from labctl.host import machine
from labctl.host.process import LAST_LINES, Finished
from labctl.model import lab as model_lab
from labctl.model.demo_reports import LoadReport
from labctl.model.events import Event, Progress
from labctl.model.lab import Lab, Node, Phase
from labctl.model.limits import Limits
from labctl.providers.docker_images import NODE_SYSTEM, node_image
from labctl.providers.protocol import CONSOLE, LabNetwork, NodeFailure, Obstacle, Provider, Removed
from labctl.render.node_files import Machine
from labctl.trace.node.node_facts import ENDED, SHOW_CODE

ADDRESS = "192.168.56.100"
METALLB = """\
apiVersion: v1
kind: Namespace
metadata: {name: metallb-system}
"""
IMAGES = (
    Image("labctl.local/pause:1.0", "images/pause.tar", "node", Phase.SANDBOX),
    Image("registry.k8s.io/etcd:3.7.3-0", "images/etcd.tar", "control-plane", Phase.CONTROL_PLANE),
    Image("registry.k8s.io/kube-apiserver:v1.37.2", "images/kube-apiserver.tar", "control-plane", Phase.CONTROL_PLANE),
    Image(
        "registry.k8s.io/kube-controller-manager:v1.37.2",
        "images/kube-controller-manager.tar",
        "control-plane",
        Phase.CONTROL_PLANE,
    ),
    Image("registry.k8s.io/kube-scheduler:v1.37.2", "images/kube-scheduler.tar", "control-plane", Phase.CONTROL_PLANE),
    Image("registry.k8s.io/kube-proxy:v1.37.2", "images/kube-proxy.tar", "node", Phase.CLUSTER),
    Image("labctl.local/failure-detector:1.0", "images/failure-detector.tar", "node", Phase.ADDONS),
    Image("docker.io/library/traefik:v3.7.15", "images/traefik.tar", "node", Phase.ADDONS),
    Image("labctl.local/nginx:1.26.3", "images/nginx.tar", "node", Phase.ADDONS),
)
Names = list[str]
VERSIONS = {"kubernetes": "1.37.2", "etcd": "3.7.3", "coredns": "1.14.1", "metallb": "0.15.2"}
CONTENTS = {NODE_SYSTEM: b"-", "manifests/metallb-native.yaml": METALLB.encode()}
FILES = tuple(
    File(path, hashlib.sha256(content).hexdigest(), len(content), "a test") for path, content in CONTENTS.items()
)
MACHINE = Machine(
    cgroup_version=2, proxy_mode="nftables", full_privileges=True, kvm=True, nameservers=(IPv4Address("10.0.0.53"),)
)


APPLIED = [{"manager": "labctl", "operation": "Apply"}]
"""`managedFields` of an object that labctl applied."""


CHECKED = frozenset({"IPAddressPool", "L2Advertisement"})
"""The kinds that MetalLB's webhook validates."""


class FakeGo(Go):
    """A Go toolchain that only has a version."""

    def version(self) -> str:
        return "1.26.8"


class FakeMakers:
    """Makers that write a small file for each file of an artefact; optionally they fail at one and leave half of it."""

    def __init__(self, fails_at: str = "", error: BaseException | None = None) -> None:
        self.created: list[str] = []
        self.checked = False
        self._fails_at = fails_at
        self._error = error or KeyboardInterrupt()

    def check_tools(self) -> None:
        self.checked = True

    def find_go(self, cache: Path, architecture: str, report: Progress) -> Go:  # noqa: ARG002 - always found
        return FakeGo()

    def make(self, artefact: Artefact, scratch: Path, architecture: str, go: Go) -> None:  # noqa: ARG002 - it compiles nothing
        if artefact.path == self._fails_at:
            (scratch / Path(artefact.path).name).write_text("half", encoding="utf-8")
            raise self._error
        for path in artefact.files:
            (scratch / Path(path).name).write_text(f"{path} for {architecture}", encoding="utf-8")
        if isinstance(artefact.made_from, ContainerImage):
            write_archive(
                scratch / Path(artefact.path).name,
                reference=artefact.made_from.reference.format(nginx="1.26.3"),
                architecture=architecture,
                config={},
                layers=[],
            )
        self.created.append(artefact.path)


class FakeImages:
    """Node images in memory. Implements NodeImages."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def prepare(self, bundle: Bundle, report: Progress) -> None:
        image = node_image(bundle)
        report(f"giving {image}")
        self.names.add(image)

    def forget(self, image: str) -> None:
        self.names.discard(image)

    def list(self) -> tuple[str, ...]:
        return tuple(sorted(self.names))


class FakeProvider:
    """Nodes that start and stop at once. Implements Provider."""

    def __init__(self) -> None:
        self.nodes: set[str] = set()
        self.booted: list[list[str]] = []
        self.lines: tuple[str, ...] = ()
        self.images = FakeImages()
        self.obstacle: Obstacle | None = None
        self.lab_network: LabNetwork | None = None
        self.failures: dict[str, NodeFailure] = {}
        """Why nodes failed, by their names."""
        self.answers: dict[str, Callable[[Sequence[str]], Finished]] = {}
        """The answers of nodes to a command, by their names."""

    def check(self, machine: machine.Machine) -> Obstacle | None:  # noqa: ARG002 - the machine does not matter
        return self.obstacle

    def running(self) -> frozenset[str]:
        return frozenset(self.nodes)

    def up(self, nodes: Sequence[Node], report: Progress) -> None:
        report("bringing machines up")
        self.booted.append([node.name for node in nodes])
        self.nodes |= {node.name for node in nodes}

    def halt(self, names: Collection[str], report: Progress, *, hard: bool = False) -> frozenset[str]:
        report("cutting the power of machines" if hard else "halting machines")
        on = frozenset(self.nodes.intersection(names))
        self.nodes -= on
        return on

    def destroy(self, report: Progress) -> Removed:
        report("destroying machines")
        existed, self.nodes = bool(self.nodes), set()
        return Removed(existed)

    def command(self, node: Node, command: Sequence[str]) -> list[str]:
        return ["ssh", node.name, *command]

    def run(self, node: Node, command: Sequence[str], seconds: float) -> Finished:  # noqa: ARG002 - it answers at once
        answer = self.answers.get(node.name)
        if answer is None:
            return Finished(1, "", ("it says nothing",))
        if SHOW_CODE not in command[-1]:
            return answer(command)
        lines = (shlex.split(line.removesuffix(SHOW_CODE)) for line in command[-1].splitlines())
        ended = (answer(line) for line in lines)
        return Finished(0, "".join(f"{each.out}\n{ENDED} {each.code}\n" for each in ended), ())

    def network(self) -> LabNetwork | None:
        return self.lab_network

    def collect_logs(self, node: Node, units: Sequence[str], lines: int = LAST_LINES) -> Mapping[str, tuple[str, ...]]:
        names = (*units, CONSOLE)
        return {name: tuple(each.format(node=node.name, unit=name) for each in self.lines[-lines:]) for name in names}

    def failure(self, node: Node) -> NodeFailure | None:
        return self.failures.get(node.name)


class FakeCluster(Cluster):
    """Objects in memory; every Service of type LoadBalancer gets `address`, every Deployment its ready pods."""

    def __init__(self, address: str | None = ADDRESS) -> None:
        super().__init__(Path("/nowhere/kubeconfig"))
        self.address = address
        self.objects: dict[tuple[str, str, str, str], dict[str, Any]] = {}
        self.refusals: list[Exception] = []
        """Errors that `is_up` and `apply` raise, one on each call."""
        self.webhook_refusals: list[Exception | None] = []
        """Errors of `accepts`, and of `apply` for kinds that MetalLB's webhook validates; None lets one call pass."""
        self.logs: dict[tuple[str, ...], str] = {}
        """Logs of pods, by namespace and name; those of a previous run also by the container and "previous"."""

    def impatient(self) -> FakeCluster:
        return self

    def is_up(self) -> None:
        _raise_next(self.refusals)

    def apply(self, manifests: Iterable[Manifest]) -> Names:
        manifests = list(manifests)
        _raise_next(self.refusals)
        if any(manifest["kind"] in CHECKED for manifest in manifests):
            _raise_next(self.webhook_refusals)
        return [f"{manifest['kind']} {manifest['metadata']['name']}" for manifest in manifests if self._store(manifest)]

    def accepts(self, manifest: Manifest) -> None:  # noqa: ARG002 - the manifest does not matter
        _raise_next(self.webhook_refusals)

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        return self.objects.get((api_version, kind, namespace or "", name))

    def find(
        self, api_version: str, kind: str, namespace: str | None = None, selector: str = "", fields: str = ""
    ) -> list[dict[str, Any]]:
        wanted = dict(pair.split("=") for pair in selector.split(",") if pair)
        same = dict(pair.split("=") for pair in fields.split(",") if pair)
        matching = [
            each
            for (its_version, its_kind, its_namespace, _), each in self.objects.items()
            if (its_version, its_kind) == (api_version, kind)
            and namespace in {None, its_namespace}
            and wanted.items() <= each["metadata"].get("labels", {}).items()
            and all(_field(each, path) == value for path, value in same.items())
        ]
        is_for_unknown = kind == "Pod" and wanted and not any("status" in pod for pod in matching)
        return [*matching, *self._pods(namespace, wanted)] if is_for_unknown else matching

    def _pods(self, namespace: str | None, labels: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Yield the ready pods that Deployments with these labels report, for tests that put no pods."""
        for (_, kind, its_namespace, name), deployment in self.objects.items():
            is_theirs = deployment.get("spec", {}).get("selector", {}).get("matchLabels") == labels
            if kind == "Deployment" and namespace in {None, its_namespace} and is_theirs:
                yield from (
                    ready_pod(name, number) for number in range(deployment.get("status", {}).get("readyReplicas", 0))
                )

    def log(self, pod: str, namespace: str, container: str = "", *, previous: bool = False) -> str:
        return self.logs.get((namespace, pod, container, "previous") if previous else (namespace, pod), "")

    def delete(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> bool:
        return self.objects.pop((api_version, kind, namespace or "", name), None) is not None

    def put(self, api_version: str, kind: str, name: str, namespace: str = "", **fields: Any) -> None:  # noqa: ANN401 - any object
        """Add an object to the cluster, as if somebody else had created it."""
        metadata = {"name": name, "namespace": namespace, **fields.pop("metadata", {})}
        self.objects[api_version, kind, namespace, name] = {"metadata": metadata, **fields}

    def _store(self, manifest: Manifest) -> bool:
        metadata = manifest["metadata"]
        key = (manifest["apiVersion"], manifest["kind"], metadata.get("namespace", ""), metadata["name"])
        before = self.objects.get(key, {})
        stored = {**before, **copy.deepcopy(dict(manifest)), **self._status(manifest)}
        stored["metadata"] = {**before.get("metadata", {}), **stored["metadata"], "managedFields": APPLIED}
        changed = before != stored
        self.objects[key] = stored
        return changed

    def _status(self, manifest: Manifest) -> dict[str, Any]:
        match manifest["kind"]:
            case "Service" if manifest["spec"].get("type") == "LoadBalancer" and self.address:
                return {"status": {"loadBalancer": {"ingress": [{"ip": self.address}]}}}
            case "Ingress" if self.address:
                return {"status": {"loadBalancer": {"ingress": [{"ip": self.address}]}}}
            case "Deployment":
                ready = dict.fromkeys(
                    ("replicas", "updatedReplicas", "readyReplicas"), manifest["spec"].get("replicas", 1)
                )
                metadata = {**manifest["metadata"], "generation": 1}
                return {"metadata": metadata, "status": {"observedGeneration": 1, **ready}}
            case _:
                return {}


@dataclass
class Watched:
    """Records the events of a run, and the progress of a step."""

    events: list[Event] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def report(self, text: str) -> None:
        self.texts.append(text)


def lab(**values: Any) -> Lab:  # noqa: ANN401 - the values of a labctl.yaml
    """Return the lab of a labctl.yaml with these values."""
    return from_values(values) if values else _default_lab()


def set_limits(patch: pytest.MonkeyPatch, **seconds: float) -> None:
    """Override time limits of every lab."""
    before: Callable[[int], Limits] = vars(model_lab)["limits"]
    patch.setattr(model_lab, "limits", cache(lambda slowness: replace(before(slowness), **seconds)))


def bundle(folder: Path, images: tuple[Image, ...] = IMAGES) -> Bundle:
    """Return a bundle that contains only the node's system, one byte long, and a manifest of MetalLB."""
    for path, content in CONTENTS.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return Bundle(folder, "kubernetes-1.37.2", "build", "amd64", VERSIONS, images, "labctl.local/nginx:1.26.3", FILES)


def with_fakes(context: Context, provider: Provider, cluster: Cluster, carried: Bundle) -> Context:
    """Return the context with these values in place of its cached properties."""
    images = getattr(provider, "images", FakeImages())
    vars(context).update(provider=provider, node_images=images, cluster=cluster, bundle=carried)
    return context


def owned_by(deployment: str) -> dict[str, Any]:
    """Return the owner reference of a Deployment's pod."""
    return {"ownerReferences": [{"kind": "ReplicaSet", "name": f"{deployment}-5d4f8c7b9c"}]}


def ready_pod(deployment: str, number: int) -> dict[str, Any]:
    """Return a ready pod of a Deployment."""
    name = f"{deployment}-5d4f8c7b9c-{number}"
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"name": name, **owned_by(deployment)}, "status": status, "spec": {}}


def _field(item: Mapping[str, Any], path: str) -> object:
    value: Any = item
    for key in path.split("."):
        value = value.get(key, {})
    return value


def ready_node(node: Node) -> dict[str, Any]:
    """Return the fields of a node that is Ready."""
    return {"status": {"conditions": [{"type": "Ready", "status": "True"}]}, "metadata": {"name": node.name}}


def load_report(per_second: list[int], first_command: float | None) -> LoadReport:
    """Return the report of a client with this number of good answers in each second."""
    return {
        "hostname": "my-app.local",
        "seconds": float(len(per_second)),
        "answers": sum(per_second),
        "failures": 1,
        "gap": 2.0,
        "per_second": per_second,
        "first_command": first_command,
    }


@cache
def _default_lab() -> Lab:
    return from_values({})


def _raise_next(errors: list[Exception] | list[Exception | None]) -> None:
    error = errors.pop(0) if errors else None
    if error is not None:
        raise error
