"""Hostnames move between apps, although the webhook rejects a hostname that another Ingress has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from fakes import FakeCluster, Watched, lab, set_limits

from labctl.context import Context
from labctl.host.wait import until
from labctl.model.errors import NotReadyError, RefusedError
from labctl.model.kinds import ROUTE
from labctl.model.limits import NORMAL
from labctl.plans import up
from labctl.plans.applying import app_manifest
from labctl.render.ingress import CONTROLLERS

BEFORE = {"shop": "shop.test", "blog": "blog.test"}


class FakeWebhook:
    """A webhook that rejects Ingresses as ingress-nginx does, and notices a change only one request later."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.notices_changes = True
        self._known_hosts: dict[str, str] = {}

    def accepts(self, manifest: Mapping[str, Any]) -> None:
        known_hosts = self._known_hosts
        self._known_hosts = _hosts_by_ingress(self.cluster) if self.notices_changes else known_hosts
        host = manifest["spec"]["rules"][0]["host"]
        for name, its_host in known_hosts.items():
            if (name, its_host) != (manifest["metadata"]["name"], host) and its_host == host:
                denied = f'denied the request: host "{host}" and path "/" is already defined in ingress default/{name}'
                raise RefusedError(denied, id="kubernetes-refused")


@pytest.fixture
def webhook(context: Context, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> FakeWebhook:
    """A lab with two apps, behind ingress-nginx; waits take no time."""
    passed: list[float] = []
    set_limits(monkeypatch, poll=1.0)
    monkeypatch.setattr(up, "until", partial(until, clock=partial(sum, passed), sleep=passed.append))
    fake = FakeWebhook(cluster)
    monkeypatch.setattr(cluster, "accepts", fake.accepts)
    vars(context)["controller"] = next(each for each in CONTROLLERS if each.admission)
    _apply(context, BEFORE)
    return fake


def _apply(context: Context, apps: Mapping[str, str]) -> bool:
    values = [{"name": name, "hostname": host, "image": "nginx"} for name, host in apps.items()]
    vars(context)["lab"] = replace(context.lab, apps=lab(apps=values).apps)
    folder = context.folder / "manifests"
    folder.mkdir(exist_ok=True)
    for app in context.lab.apps:
        (folder / f"app-{app.name}.yaml").write_text(app_manifest(context, app))
    return up.apply_apps(context, Watched().report).changed


def _hosts_by_ingress(cluster: FakeCluster) -> dict[str, str]:
    return {each["metadata"]["name"]: each["spec"]["rules"][0]["host"] for each in cluster.find(*ROUTE)}


@pytest.mark.parametrize(
    "after",
    [
        {"store": "shop.test", "blog": "blog.test"},
        {"shop": "blog.test", "blog": "news.test"},
        {"shop": "blog.test", "blog": "shop.test"},
        {"blog": "shop.test"},
        {"new": "shop.test", "shop": "blog.test", "blog": "news.test"},
    ],
    ids=["renamed", "moved to an earlier app", "exchanged", "the other app removed", "in a chain"],
)
def test_a_hostname_moves_to_another_app_and_a_second_run_changes_nothing(
    webhook: FakeWebhook, context: Context, after: dict[str, str]
) -> None:
    assert _apply(context, after)

    assert _hosts_by_ingress(webhook.cluster) == after
    assert not _apply(context, after)


def test_a_controller_that_never_notices_the_change_fails_after_some_seconds(
    webhook: FakeWebhook, context: Context
) -> None:
    assert not _apply(context, BEFORE)
    webhook.notices_changes = False

    with pytest.raises(NotReadyError, match=f"default/{next(iter(BEFORE))}") as raised:
        _apply(context, {"store": "shop.test"})

    assert raised.value.id == "ingress-refused"
    assert "labctl app remove store" in raised.value.hint
    assert NORMAL.settling < NORMAL.ready


def test_a_hostname_of_a_foreign_ingress_is_refused_at_once(webhook: FakeWebhook, context: Context) -> None:
    webhook.cluster.put(*ROUTE, "front", "default", spec={"rules": [{"host": "store.test"}]})
    assert not _apply(context, BEFORE)

    with pytest.raises(RefusedError, match="default/front") as raised:
        _apply(context, {"store": "store.test", **BEFORE})

    assert raised.value.id == "ingress-refused"
    assert _hosts_by_ingress(webhook.cluster) == {**BEFORE, "front": "store.test"}
