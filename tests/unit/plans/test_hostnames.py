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


class Webhook:
    """A webhook that rejects as that of ingress-nginx, and notices a change only one request later."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.learns = True
        self._known: dict[str, str] = {}

    def accepts(self, manifest: Mapping[str, Any]) -> None:
        known = self._known
        self._known = _hosts(self.cluster) if self.learns else known
        host = manifest["spec"]["rules"][0]["host"]
        for name, its_host in known.items():
            if (name, its_host) != (manifest["metadata"]["name"], host) and its_host == host:
                denied = f'denied the request: host "{host}" and path "/" is already defined in ingress default/{name}'
                raise RefusedError(denied, id="kubernetes-refused")


@pytest.fixture
def webhook(context: Context, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> Webhook:
    """A lab with two apps, behind ingress-nginx; waits take no time."""
    passed: list[float] = []
    set_limits(monkeypatch, poll=1.0)
    monkeypatch.setattr(up, "until", partial(until, clock=partial(sum, passed), sleep=passed.append))
    made = Webhook(cluster)
    monkeypatch.setattr(cluster, "accepts", made.accepts)
    vars(context)["controller"] = next(each for each in CONTROLLERS if each.admission)
    _up(context, BEFORE)
    return made


def _up(context: Context, apps: Mapping[str, str]) -> bool:
    values = [{"name": name, "hostname": host, "image": "nginx"} for name, host in apps.items()]
    vars(context)["lab"] = replace(context.lab, apps=lab(apps=values).apps)
    folder = context.folder / "manifests"
    folder.mkdir(exist_ok=True)
    for app in context.lab.apps:
        (folder / f"app-{app.name}.yaml").write_text(app_manifest(context, app))
    return up.apply_apps(context, Watched().report).changed


def _hosts(cluster: FakeCluster) -> dict[str, str]:
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
def test_a_hostname_moves_to_another_app_and_the_same_again_changes_nothing(
    webhook: Webhook, context: Context, after: dict[str, str]
) -> None:
    assert _up(context, after)

    assert _hosts(webhook.cluster) == after
    assert not _up(context, after)


def test_a_controller_that_never_learns_of_the_change_is_waited_for_some_seconds(
    webhook: Webhook, context: Context
) -> None:
    assert not _up(context, BEFORE)
    webhook.learns = False

    with pytest.raises(NotReadyError, match=f"default/{next(iter(BEFORE))}") as raised:
        _up(context, {"store": "shop.test"})

    assert raised.value.id == "ingress-refused"
    assert "labctl app remove store" in raised.value.hint
    assert NORMAL.settling < NORMAL.ready


def test_the_hostname_of_an_ingress_that_somebody_else_made_is_refused_at_once(
    webhook: Webhook, context: Context
) -> None:
    webhook.cluster.put(*ROUTE, "front", "default", spec={"rules": [{"host": "store.test"}]})
    assert not _up(context, BEFORE)

    with pytest.raises(RefusedError, match="default/front") as raised:
        _up(context, {"store": "store.test", **BEFORE})

    assert raised.value.id == "ingress-refused"
    assert _hosts(webhook.cluster) == {**BEFORE, "front": "store.test"}
