"""Labs in which no node, or the wrong machine, answers at the ingress controller's address."""

from __future__ import annotations

import json

from e2e.reallab import RealLab, run

from . import BrokenLab
from .breaking import ADDRESS, CONTROLLER, METALLB, kubectl

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


def _bridge(lab: RealLab) -> str:
    """The lab's network on this machine."""
    links = json.loads(lab.inside("ip", "-j", "-4", "address", "show"))
    return next(
        str(link["ifname"]) for link in links if any(each["local"] == "192.168.56.1" for each in link["addr_info"])
    )


def _let_a_stranger_in(lab: RealLab) -> None:
    """Somebody else on the lab's network has the address."""
    stranger = f"{lab.name}-stranger"
    run("ip", "netns", "add", stranger)
    lab.inside("ip", "link", "add", "stranger", "type", "veth", "peer", "name", "eth0", "netns", stranger)
    lab.inside("ip", "link", "set", "stranger", "master", _bridge(lab), "up")
    run("ip", "-n", stranger, "address", "add", f"{ADDRESS}/24", "dev", "eth0")
    run("ip", "-n", stranger, "link", "set", "eth0", "up")


def _send_the_stranger_away(lab: RealLab) -> None:
    run("ip", "netns", "delete", f"{lab.name}-stranger", code=None)


ROWS = (
    BrokenLab(
        "no L2Advertisement",
        kubectl("delete", "l2advertisements", "--all", *METALLB),
        "node",
        "advertisement-missing",
    ),
    BrokenLab(
        "the exclude label on every node",
        kubectl("label", "nodes", "--all", "--overwrite", f"{EXCLUDED}="),
        "node",
        "nodes-excluded",
        up="names",
        undo=kubectl("label", "nodes", "--all", f"{EXCLUDED}-"),
    ),
    BrokenLab("no speaker", kubectl("delete", "daemonset", "speaker", *METALLB), "node", "speaker-not-ready"),
    BrokenLab(
        "the address at a foreign MAC",
        _let_a_stranger_in,
        "node",
        "address-taken",
        up="names",
        mended_by="undo",
        undo=_send_the_stranger_away,
    ),
    BrokenLab("no controller pod", kubectl("scale", *CONTROLLER, "--replicas=0"), "node", "controller-not-ready"),
)
