"""Every cause that `trace`, `status` and `up` name: a stable id, what it means, and how long `up` waits for it to go."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """A row of the table. Its id is also an anchor in docs/causes.md."""

    hop: str
    meaning: str
    patience: float = math.inf
    """After how many seconds `up` no longer waits for it to go."""
    passes: bool = False
    """Whether it is seen for a moment in a lab that is well, while something moves or starts: it is looked at again."""


CAUSES: Mapping[str, Cause] = {
    "hosts-entry-missing": Cause("name", "no line of the hosts file gives the hostname an address"),
    "hosts-entry-outdated": Cause(
        "name", "labctl's own line gives an address that the ingress controller does not have"
    ),
    "hosts-entry-shadowed": Cause(
        "name", "another line of the hosts file gives the hostname another address, and browsers stay with it", 2
    ),
    "hosts-entry-of-another-lab": Cause("name", "the block of another lab has the same hostname", 2),
    "hosts-entry-doubled": Cause(
        "name", "another line gives the hostname a second address, and browsers get to the right one nevertheless"
    ),
    "hosts-file-not-read": Cause("name", "the hosts file has the line, and this machine's resolver does not go by it"),
    "hosts-file-unreadable": Cause("name", "not every user may read the hosts file", 2),
    "hosts-damaged": Cause("name", "markers of labctl in the hosts file do not pair up: `up` refuses to write it", 2),
    "name-resolves-elsewhere": Cause("name", "another name server than the hosts file gives another address", 10),
    "resolver-silent": Cause("name", "the resolver does not answer in time, though the hosts file has the line", 10),
    "proxy-in-the-way": Cause("name", "programs with the user's environment ask a proxy for the hostname"),
    "hostname-not-served": Cause("name", "neither an app nor an Ingress of the lab has this hostname", 2),
    "pool-missing": Cause("address", "MetalLB has no IPAddressPool, or not the lab's own"),
    "pool-overlapped": Cause("address", "a pool of somebody else keeps `up` from making the lab's own", 5),
    "pool-invalid": Cause("address", "MetalLB cannot read one of its pools, and so takes no change of any", 10),
    "pool-differs": Cause("address", "the lab's own pool is not as labctl made it"),
    "pool-exhausted": Cause("address", "every address of the pool is given out", 5),
    "auto-assign-off": Cause("address", "the pool gives no address to a Service that does not ask for the pool"),
    "pool-excludes-service": Cause("address", "the pool is for other Services", 10),
    "requested-address-invalid": Cause("address", "what the Service asks for is no address that it could have", 2),
    "requested-address-not-in-pool": Cause("address", "the address that the Service asks for is in no pool", 2),
    "requested-address-in-use": Cause("address", "another Service has the address that the Service asks for", 5),
    "requested-pool-missing": Cause("address", "the Service asks for a pool that MetalLB does not have", 2),
    "load-balancer-class-other": Cause("address", "the Service is for another load balancer than MetalLB", 5),
    "metallb-missing": Cause("address", "MetalLB's controller or its kinds of objects are gone"),
    "metallb-controller-not-ready": Cause("address", "MetalLB's controller does not run, or is not ready"),
    "service-missing": Cause("address", "the ingress controller has no Service"),
    "service-not-a-load-balancer": Cause("address", "the ingress controller's Service is not of type LoadBalancer"),
    "address-refused": Cause(
        "address", "MetalLB refuses the Service an address, for a reason of its own", 10, passes=True
    ),
    "address-missing": Cause(
        "address", "MetalLB has given the ingress controller's Service no address, and does not say why", passes=True
    ),
    "address-not-in-pool": Cause("address", "no pool of MetalLB contains the address", passes=True),
    "address-outside-network": Cause("address", "the address is not in the lab's network", 10),
    "address-claimed-twice": Cause("address", "the status of another Service has the address and the port as well", 5),
    "address-of-another-service": Cause("address", "another Service has the address"),
    "route-missing": Cause("node", "this machine has no direct route to the address"),
    "route-in-the-way": Cause("node", "a route or an address of this machine's own keeps packets from the lab", 2),
    "interface-down": Cause("node", "this machine's interface in the lab's network is down, or has no address", 2),
    "arp-not-asked": Cause("node", "this machine's network cannot be asked who has the address"),
    "address-taken": Cause("node", "a machine that is no node of the lab answers ARP for the address", 10),
    "neighbour-fixed": Cause("node", "this machine has a fixed entry that the address is at another MAC", 2),
    "announced-twice": Cause("node", "several nodes answer ARP for the address", passes=True),
    "advertisement-missing": Cause("node", "MetalLB has no L2Advertisement"),
    "advertisement-of-another-pool": Cause("node", "no L2Advertisement selects the address's pool", 30),
    "advertisement-selects-no-node": Cause("node", "the L2Advertisement's nodeSelectors select no node", 30),
    "advertisement-selects-no-interface": Cause(
        "node", "the L2Advertisement asks for an interface that is not there", 30
    ),
    "interface-excluded": Cause("node", "MetalLB is configured to leave out the interface of the lab's network", 30),
    "nodes-excluded": Cause("node", "every node has the label that keeps it from announcing", 10),
    "speaker-not-ready": Cause("node", "MetalLB's speaker runs on no node that may announce"),
    "pods-and-speakers-apart": Cause("node", "no node that may announce has a pod of the ingress controller", 30),
    "address-not-announced": Cause("node", "no node answers ARP for the address", passes=True),
    "announcer-differs": Cause("node", "another node answers ARP than the one that MetalLB names"),
    "filtered-here": Cause("node", "this machine's packet filter stops packets to the address, or its answers", 2),
    "service-port-missing": Cause("node", "the ingress controller's Service has no port 80", 10),
    "source-not-allowed": Cause("node", "the Service's loadBalancerSourceRanges leave this machine out", 2),
    "controller-not-selected": Cause("node", "the Service's selector selects no pod of the ingress controller", 10),
    "no-pod-on-node": Cause("node", "the announcing node has no pod of the ingress controller", passes=True),
    "kube-proxy-not-running": Cause(
        "node", "kube-proxy does not run on the announcing node, or on one that may announce next", 10
    ),
    "kube-proxy-rules-missing": Cause("node", "kube-proxy has no rule for the address on the announcing node", 30),
    "forwarding-off": Cause("node", "the announcing node does not pass packets on", 5),
    "filtered-on-node": Cause("node", "the announcing node's packet filter stops packets, or their answers", 5),
    "way-back-missing": Cause("node", "the announcing node has no direct route back to this machine", 5),
    "controller-port-closed": Cause("node", "a pod of the ingress controller takes no connections", passes=True),
    "no-connection": Cause(
        "node", "the address takes no connection, and nothing is found that explains it", passes=True
    ),
    "pod-route-missing": Cause("node, response", "a node has no route to the pods of another node", 5),
    "controller-not-ready": Cause("node, rule", "no pod of the ingress controller is ready"),
    "ingress-missing": Cause("rule", "no Ingress has a rule for the hostname", 10),
    "ingress-class-other": Cause("rule", "the Ingress belongs to a class that the controller does not serve", 10),
    "ingress-path-missing": Cause("rule", "no rule for the hostname matches the path", 10),
    "ingress-class-missing": Cause("rule", "there is no IngressClass that the controller serves", 10),
    "ingress-refused": Cause("rule", "the controller serves nothing of an Ingress that it does not take as it is", 10),
    "guard-unusable": Cause(
        "rule", "the controller serves nothing of an Ingress whose login or certificate it cannot use", 10
    ),
    "rules-collide": Cause("rule", "several Ingresses have the same rule and lead to different Services"),
    "annotation-ignored": Cause("rule", "the Ingress has annotations that the controller does not know"),
    "rule-not-found": Cause("rule", "the request was answered by a pod, and labctl cannot tell by which rule"),
    "backend-service-missing": Cause("pod", "the rule names a Service that does not exist", 10),
    "backend-port-missing": Cause("pod", "the rule names a port that the Service does not have", 10),
    "selector-matches-nothing": Cause("pod", "the Service's selector matches no pod", 10),
    "target-port-missing": Cause("pod", "the Service leads to a named port that its pods do not have", 10),
    "endpoints-missing": Cause("pod", "no EndpointSlice of the Service has its pods, which are ready", 30),
    "no-pods-wanted": Cause("pod", "the app has `replicas: 0`"),
    "no-pod-ready": Cause("pod", "no pod behind the Service is ready"),
    "pods-not-all-ready": Cause("pod", "some pods behind the Service are ready, and others are not"),
    "cluster-dns-down": Cause("pod", "CoreDNS does not run: requests get to the app, whose pods find nobody by name"),
    "no-time-left": Cause("response", "the hops before took so long that no answer was waited for"),
    "no-answer": Cause("response", "nothing at the address answers HTTP", passes=True),
    "answered-by-another": Cause(
        "response", "an answer came, and neither the controller nor the app has seen the request", 10, passes=True
    ),
    "answered-by-other-pod": Cause(
        "response", "the controller asked somebody whom the rule does not lead to", 30, passes=True
    ),
    "answerer-unknown": Cause("response", "an answer came, and the logs that say from whom cannot be read"),
    "controller-has-no-route": Cause("response", "the ingress controller itself answers 404", 30, passes=True),
    "controller-has-no-backend": Cause("response", "the ingress controller itself answers 503", 30, passes=True),
    "backend-refused": Cause("response", "the ingress controller reached no pod and answers 502", 30, passes=True),
    "backend-not-http": Cause("response", "the pod takes the connection and does not speak HTTP", 30),
    "backend-too-slow": Cause("response", "the pod did not answer the ingress controller in time: 504", 30),
    "controller-answers": Cause("response", "the ingress controller answers itself, and the app is not asked", 30),
    "controller-asks-for-login": Cause("response", "the ingress controller asks for a login before it asks the app"),
    "body-incomplete": Cause("response", "an answer began to come, and did not come whole", 30),
    "redirect-leads-nowhere": Cause(
        "response", "the answer redirects to an address where nobody answers", 2, passes=True
    ),
    "app-answers-error": Cause("response", "every pod of the app answers with the same error"),
    "pods-differ": Cause("response", "some pods of the app answer well, and others with an error", 30),
    "pod-not-reached": Cause("response", "some pods that are ready did not get any of the requests"),
    "namespace-gone": Cause("node", "the network namespace of an isolated lab is gone"),
    "engine-stopped": Cause("node", "the Docker Engine of an isolated lab does not run"),
    "node-not-running": Cause("node", "a node does not run; at a hop, the control plane, or no node"),
    "api-unreachable": Cause("any", "the Kubernetes API does not answer"),
    "api-not-trusted": Cause("any", "what answers as the Kubernetes API has a certificate that is not valid now"),
    "lab-not-asked": Cause("any", "the Kubernetes API refuses, or the lab's keys do not fit"),
    "node-not-ready": Cause("status", "a node runs, and Kubernetes does not call it Ready"),
    "app-not-ready": Cause("status", "not every pod of an app is ready"),
}
