"""Move hostnames between apps, although a webhook rejects an Ingress whose hostname is taken."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from labctl.cluster import apps
from labctl.context import Context
from labctl.host.wait import Pending
from labctl.model.errors import RefusedError
from labctl.model.kinds import ROUTE
from labctl.model.lab import App

T = TypeVar("T")
NAMESPACE = "default"


def ordered_apps(context: Context) -> tuple[Sequence[App], set[str]]:
    """Return the apps, each after the one that gives up its hostname, and the names of Ingresses deleted for that.

    If apps exchange hostnames, none can be first: the Ingress of one of them is deleted, and applied again later.
    """
    holders = _holders(context)
    waiting, ordered, deleted = list(context.lab.apps), list[App](), set[str]()
    while waiting:
        names = {app.name for app in waiting}
        free = [app for app in waiting if holders.get(app.hostname) not in names - {app.name}]
        if not free:
            free, holder = waiting[:1], holders[waiting[0].hostname]
            context.cluster.delete(*ROUTE, holder, NAMESPACE)
            deleted.add(holder)
        waiting.remove(free[0])
        ordered.append(free[0])
    return ordered, deleted


def pending_while_taken(context: Context, freed: Collection[str], act: Callable[[], T]) -> T | Pending:
    """Return what `act` returns, or Pending while it is blocked by an Ingress in `freed`, just deleted or changed.

    The ingress controller notices such a change a moment later.
    """
    try:
        return act()
    except RefusedError as error:
        if not {f"{NAMESPACE}/{name}" for name in freed} & set(error.message.split()):
            raise
        return Pending(error.message, id=error.id, hint=error.hint, patience=context.lab.limits.settling)


def _holders(context: Context) -> Mapping[str, str]:
    """Return the names of labctl's Ingresses by hostname."""
    return {
        rule["host"]: ingress["metadata"]["name"]
        for ingress in context.cluster.find(*ROUTE, NAMESPACE, apps.MANAGED)
        if apps.is_applied_by_labctl(ingress)
        for rule in ingress["spec"].get("rules") or []
        if rule.get("host")
    }
