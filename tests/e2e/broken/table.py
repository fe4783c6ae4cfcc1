"""Every broken lab, and the causes that are not made, or not labctl's to mend, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping

from . import BrokenLab, address, names, node, pod, response, rule

ROWS: tuple[BrokenLab, ...] = (
    *names.ROWS,
    *address.ROWS,
    *node.ROWS,
    *rule.ROWS,
    *pod.ROWS,
    *response.ROWS,
)

WITHOUT_COMMANDS: Mapping[str, str] = {
    "address-taken": "the machine that has the address is somebody else's, and labctl cannot know which one it is",
    "arp-not-asked": "the request is served, and what keeps this machine from asking is its owner's",
    "no-connection": "nothing was found that takes the packets: it is somebody else's network or filter",
    "pool-exhausted": "which of the Services that have its addresses can do without one is their owners' to say",
    "app-answers-error": "what an app answers is its own",
    "controller-asks-for-login": "who put the login there wants it",
    "pod-not-reached": "which pod a client gets is the Ingress' own choice",
    "pods-differ": "where others of the same make do not show that a new pod is well, it is the app's own",
    "rules-collide": "which of two Ingresses is wanted, their users know",
    "hosts-entry-of-another-lab": "the users of both labs decide which one keeps the hostname",
    "hosts-damaged": "where the markers are another lab's, so are the lines between them",
    "hosts-file-not-read": "where no line of nsswitch.conf is to blame, nobody can say what answers instead",
    "hostname-not-served": "the name is somebody else's",
    "resolver-silent": "what the resolver asks before the hosts file is somebody else's",
}
"""The causes for which a hop prints no command: what would mend them is not labctl's to change."""
