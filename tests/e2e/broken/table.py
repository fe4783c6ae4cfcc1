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
    "no-time-left": "how busy the machine is, its users know",
    "guard-unusable": "taking the login away would let everybody in, and which Secret is meant its users know",
    "app-answers-error": "what an app answers is its own",
    "controller-asks-for-login": "who put the login there wants it",
    "pod-not-reached": "which pod a client gets is the Ingress' own choice",
    "pods-differ": "where others of the same make do not show that a new pod is well, it is the app's own",
    "rules-collide": "which of two Ingresses is wanted, their users know",
    "hosts-entry-of-another-lab": "the users of both labs decide which one keeps the hostname",
    "hosts-damaged": "where the markers are another lab's, so are the lines between them",
    "hosts-file-not-read": "where no line of nsswitch.conf is to blame, nobody can say what answers instead",
    "hostname-not-served": "the name is somebody else's",
    "ingress-missing": "where only canaries name the host, their author knows what they are canaries of",
    "redirect-leads-nowhere": "where it is the app that redirects, it is the app's own",
    "no-pods-wanted": "`replicas: 0` in labctl.yaml is what its author wants",
    "no-pod-ready": "what keeps a container from running is its own",
    "pods-not-all-ready": "what keeps a container from running is its own",
    "endpoints-missing": "kube-controller-manager is Kubernetes' own, and runs or starts again by itself",
    "no-answer": "nothing was found that takes the packets: it is somebody else's network or filter",
    "answerer-unknown": "the request is served, and who keeps the logs from labctl is not known",
    "rule-not-found": "the request is served: there is nothing to mend",
    "controller-answers": "what the controller is told to answer itself, its user wants",
    "resolver-silent": "what the resolver asks before the hosts file is somebody else's",
}
"""The causes for which a hop prints no command: what would mend them is not labctl's to change."""

IN_UNIT_TESTS = "tests of the trace show it; in a lab it passes too quickly to be asked for three times"
LATE = "it takes a lab whose nodes stop: tests of halt, resume and kills have those"
NOT_MADE: Mapping[str, str] = {
    "hosts-damaged": "`up` refuses the file as a whole, which tests of the hosts file and of `up` show",
    "name-resolves-elsewhere": "it takes a name server that lies",
    "resolver-silent": "it takes a name server that is silent, and a resolver that asks it first",
    "proxy-in-the-way": "it is in the environment of a user, not in a lab",
    "hostname-not-served": "nothing is broken: the name is none of the lab's",
    "pool-overlapped": "MetalLB's webhook refuses a pool that overlaps the lab's own while there is one",
    "pool-invalid": "MetalLB's webhook refuses such a pool while it runs",
    "address-refused": "it is what is left of MetalLB's reasons; every one that is known has a row",
    "address-missing": IN_UNIT_TESTS,
    "address-not-in-pool": IN_UNIT_TESTS,
    "address-of-another-service": IN_UNIT_TESTS,
    "route-missing": "without the lab's network no command of the test would reach the lab",
    "interface-down": "without the lab's network no command of the test would reach the lab",
    "arp-not-asked": "it takes a user who is not root",
    "interface-excluded": "the speakers read it at their start only: minutes, there and back",
    "address-not-announced": IN_UNIT_TESTS,
    "announcer-differs": IN_UNIT_TESTS,
    "no-pod-on-node": IN_UNIT_TESTS,
    "kube-proxy-rules-missing": "kube-proxy puts its rules back within seconds",
    "way-back-missing": "the node would lose its way to the API as well",
    "controller-port-closed": IN_UNIT_TESTS,
    "no-connection": "it is what is left where none of the known reasons is found",
    "rule-not-found": "labctl reads every rule that the lab's controller is known to read",
    "endpoints-missing": "it takes a lab without kube-controller-manager, which comes back too slowly",
    "no-time-left": "it takes a machine that is too busy for the test",
    "no-answer": "the hop to the node finds it first",
    "answered-by-another": "the hop to the node finds it first, but for a rule of a packet filter that redirects",
    "answered-by-other-pod": IN_UNIT_TESTS,
    "answerer-unknown": IN_UNIT_TESTS,
    "controller-has-no-route": IN_UNIT_TESTS,
    "controller-has-no-backend": IN_UNIT_TESTS,
    "controller-answers": IN_UNIT_TESTS,
    "namespace-gone": LATE,
    "engine-stopped": LATE,
    "node-not-running": LATE,
    "api-unreachable": "`up` waits for an API server that may still start: test_3_trace has a test of its own for it",
    "api-not-trusted": "it takes a clock that is wrong by a year, and this machine has one clock only",
    "lab-not-asked": "it takes keys of another lab; tests of `status` have them",
}
"""The causes that no row makes."""
