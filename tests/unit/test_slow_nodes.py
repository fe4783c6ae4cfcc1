"""Time limits of a lab with slow nodes apply to everything that waits for the nodes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from fakes import FakeCluster, Watched, lab

from labctl.cluster import state
from labctl.context import Context
from labctl.host import wait
from labctl.model.errors import NotReadyError
from labctl.model.lab import Lab
from labctl.model.limits import NORMAL, limits
from labctl.plans import assembly, up
from labctl.providers.table import HYPERVISORS
from labctl.providers.vagrant import VagrantProvider
from labctl.trace.probes.client import Client
from labctl.trace.trail import Trail

SLOWNESS = (1, 13)


def _lab(slowness: int) -> Lab:
    return replace(lab(provider="libvirt"), slowness=slowness)


@pytest.mark.parametrize("slowness", SLOWNESS)
def test_time_limits_of_requests_grow_with_the_slowness(slowness: int) -> None:
    context = Context(_lab(slowness), Path("/state"), Path("/cache"))
    trail = Trail(context, Client(context.lab.limits), "my-app.local", "/", FakeCluster())

    assert context.cluster.limits.api_answer == 10 * slowness
    assert context.cluster.impatient().limits == context.cluster.limits
    assert trail.left(1000) == pytest.approx(4 * slowness, abs=0.5)
    assert limits(1) == NORMAL


@pytest.mark.parametrize("name", ["libvirt", "virtualbox"])
def test_time_limits_of_node_commands_grow_with_the_slowness(name: str) -> None:
    provider = HYPERVISORS[name].provider(replace(_lab(13), provider=name), Path("/state"), {})

    assert isinstance(provider, VagrantProvider)
    assert provider.limits.node_command == 13 * NORMAL.node_command


@pytest.mark.parametrize(
    ("slowness", "has_detector", "lacks"), [(1, False, True), (1, True, False), (13, False, False)]
)
def test_slow_nodes_need_no_failure_detector(
    context: Context, slowness: int, *, has_detector: bool, lacks: bool
) -> None:
    images = tuple(each for each in context.bundle.images if has_detector or each.short_name != "failure-detector")
    slow = replace(context, lab=_lab(slowness))
    vars(slow).update(bundle=replace(context.bundle, images=images))

    assert slow.lacks_detector is lacks


@pytest.mark.parametrize("slowness", SLOWNESS)
def test_a_crashing_container_is_given_up_later_on_slow_nodes(slowness: int) -> None:
    cluster = FakeCluster()
    cluster.limits = limits(slowness)
    cluster.put("apps/v1", "Deployment", "shop", "default", spec={"selector": {"matchLabels": {"app": "shop"}}})
    cluster.objects["apps/v1", "Deployment", "default", "shop"]["metadata"]["generation"] = 1
    crashed = {"terminated": {"exitCode": 1, "startedAt": "2026-11-25T10:00:00Z", "finishedAt": "2026-11-25T10:00:01Z"}}
    status = {"containerStatuses": [{"name": "web", "state": crashed, "restartCount": 1}]}
    cluster.put("v1", "Pod", "shop-1", "default", metadata={"labels": {"app": "shop"}}, status=status)

    pending = state.rollout(cluster, "default", "shop")

    assert pending is not None
    assert (pending.id, pending.patience) == ("container-exits", 30 * slowness)


@pytest.mark.parametrize("slowness", SLOWNESS)
def test_an_api_that_never_responds_is_waited_for_longer_on_slow_nodes(
    context: Context, cluster: FakeCluster, watched: Watched, monkeypatch: pytest.MonkeyPatch, slowness: int
) -> None:
    pauses: list[float] = []
    slow = replace(context, lab=_lab(slowness))
    vars(slow).update({name: vars(context)[name] for name in ("cluster", "provider")})
    cluster.refusals = [NotReadyError("no answer", id="api-unreachable")] * 1000
    clock = partial(sum, pauses)
    monkeypatch.setattr(assembly, "until", partial(wait.until, clock=clock, sleep=pauses.append))
    monkeypatch.setattr(assembly, "throttled", lambda _look, _seconds: lambda: None)

    with pytest.raises(NotReadyError):
        up.await_cluster(slow, watched.report)

    assert sum(pauses) == pytest.approx(180 * slowness, rel=0.02)
    assert pauses[0] == pytest.approx(0.2 * slowness)
