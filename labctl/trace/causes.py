"""Causes that `trace`, `status` and `up` report: a stable id, its meaning, and how long `up` waits for it to pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause. Its id is also an anchor in docs/causes.md."""

    hop: str
    meaning: str
    patience: float = math.inf
    """Seconds after which `up` stops waiting for the cause to pass."""
    passes: bool = False
    """Whether a healthy lab may have it briefly, while an address moves or a pod starts; the hop is checked again."""


CAUSES: Mapping[str, Cause] = {
    "hosts-entry-missing": Cause("name", "the hosts file has no entry for the hostname"),
    "hosts-entry-outdated": Cause("name", "labctl's own entry has an address that is not the ingress controller's"),
    "hosts-entry-shadowed": Cause(
        "name", "another line of the hosts file resolves the hostname to another address, and browsers use it", 2
    ),
    "hosts-entry-of-another-lab": Cause("name", "another lab's block in the hosts file has the same hostname", 2),
    "hosts-entry-doubled": Cause(
        "name", "another line adds a second address for the hostname; browsers still reach the right one"
    ),
    "hosts-file-not-read": Cause("name", "the hosts file has the entry, but this machine's resolver does not use it"),
    "hosts-file-unreadable": Cause("name", "some users cannot read the hosts file", 2),
    "hosts-damaged": Cause(
        "name", "labctl's markers in the hosts file do not pair up, so `up` refuses to write the file", 2
    ),
    "name-resolves-elsewhere": Cause("name", "a name server resolves the hostname to another address", 10),
    "resolver-silent": Cause("name", "the resolver does not answer in time, although the hosts file has the entry", 10),
    "proxy-in-the-way": Cause(
        "name", "programs that use the user's environment send requests for the hostname to a proxy"
    ),
    "https-forced": Cause("name", "browsers only use HTTPS for names in the hostname's top-level domain"),
    "hostname-not-served": Cause("name", "no app and no Ingress of the lab has this hostname", 2),
    "pool-missing": Cause("address", "MetalLB has no IPAddressPool, or the lab's own is missing"),
    "pool-overlapped": Cause("address", "another pool overlaps the lab's own, so `up` cannot create it", 5),
    "pool-invalid": Cause("address", "MetalLB rejects one of its pools, and so ignores all changes to its pools", 10),
    "pool-differs": Cause("address", "the lab's own pool was changed"),
    "pool-exhausted": Cause("address", "every address of the pool is allocated", 5),
    "auto-assign-off": Cause("address", "the pool only serves Services that request it by name"),
    "pool-excludes-service": Cause("address", "the pool's serviceAllocation excludes the Service", 10),
    "requested-address-invalid": Cause("address", "the Service requests an address that is not valid for it", 2),
    "requested-address-not-in-pool": Cause("address", "the address that the Service requests is in no pool", 2),
    "requested-address-in-use": Cause("address", "another Service has the address that the Service requests", 5),
    "requested-pool-missing": Cause("address", "the Service requests a pool that does not exist", 2),
    "load-balancer-class-other": Cause(
        "address", "the Service's class belongs to a load balancer other than MetalLB", 5
    ),
    "metallb-missing": Cause("address", "MetalLB's controller or its CustomResourceDefinitions are missing"),
    "metallb-controller-not-ready": Cause("address", "MetalLB's controller is not running or not ready"),
    "service-missing": Cause("address", "the ingress controller has no Service"),
    "service-not-a-load-balancer": Cause("address", "the ingress controller's Service is not of type LoadBalancer"),
    "address-refused": Cause(
        "address", "MetalLB refuses to allocate an address to the Service, and reports its reason", 10, passes=True
    ),
    "address-missing": Cause(
        "address",
        "MetalLB has not allocated an address to the ingress controller's Service, and reports no reason",
        passes=True,
    ),
    "address-not-in-pool": Cause("address", "no pool of MetalLB contains the address", passes=True),
    "address-outside-network": Cause("address", "the address is outside the lab's network", 10),
    "address-claimed-twice": Cause("address", "another Service has the same address and port", 5),
    "address-of-another-service": Cause("address", "another Service has the address"),
    "route-missing": Cause("node", "this machine has no direct route to the address"),
    "route-in-the-way": Cause("node", "a route or an address on this machine keeps packets from the lab", 2),
    "interface-down": Cause("node", "this machine's interface in the lab's network is down or has no address", 2),
    "arp-not-asked": Cause("node", "this machine cannot send ARP requests for the address"),
    "address-taken": Cause("node", "a machine outside the lab answers ARP for the address", 10),
    "neighbour-fixed": Cause(
        "node, response", "this machine or a node has a static ARP entry with a wrong MAC for another one", 2
    ),
    "announced-twice": Cause("node", "several nodes answer ARP for the address", passes=True),
    "advertisement-missing": Cause("node", "MetalLB has no L2Advertisement"),
    "advertisement-of-another-pool": Cause("node", "no L2Advertisement selects the address's pool", 30),
    "advertisement-selects-no-node": Cause("node", "the L2Advertisement's nodeSelectors select no node", 30),
    "advertisement-selects-no-interface": Cause(
        "node", "the L2Advertisement selects an interface that does not exist", 30
    ),
    "interface-excluded": Cause("node", "MetalLB is configured to exclude the interface of the lab's network", 30),
    "nodes-excluded": Cause("node", "every node has the label that excludes it from announcing", 10),
    "network-unavailable": Cause("node", "every node that may announce has the condition NetworkUnavailable", 10),
    "speaker-not-ready": Cause("node", "MetalLB's speaker is not ready on any node that may announce"),
    "pods-and-speakers-apart": Cause("node", "no node that may announce has a pod of the ingress controller", 30),
    "nodes-silent": Cause("node", "no node answers ARP, not even for its own address", 30, passes=True),
    "address-not-announced": Cause("node", "no node answers ARP for the address", passes=True),
    "announcer-differs": Cause("node", "the node that answers ARP is not the one that MetalLB reports as announcing"),
    "clock-off": Cause("node", "the clock of a virtual machine differs from this machine's, as after a suspend"),
    "filtered-here": Cause(
        "node, response",
        "this machine's packet filter drops packets to the address or between nodes, or the replies",
        2,
    ),
    "service-port-missing": Cause("node", "the ingress controller's Service has no port 80", 10),
    "source-not-allowed": Cause("node", "the Service's loadBalancerSourceRanges do not include this machine", 2),
    "controller-not-selected": Cause("node", "the Service's selector selects no pod of the ingress controller", 10),
    "no-pod-on-node": Cause("node", "the announcing node has no pod of the ingress controller", passes=True),
    "kube-proxy-not-running": Cause(
        "node", "kube-proxy is not running on the announcing node, or on one that may announce next", 10
    ),
    "kube-proxy-rules-missing": Cause("node", "kube-proxy has no rule for the address on the announcing node", 30),
    "forwarding-off": Cause("node, response", "IP forwarding is off on a node that requests pass", 5),
    "filtered-on-node": Cause(
        "node, response", "a node's packet filter drops packets to the address or to the app, or the replies", 5
    ),
    "way-back-missing": Cause("node", "the announcing node has no direct route back to this machine", 5),
    "controller-port-closed": Cause("node", "a pod of the ingress controller does not accept connections", passes=True),
    "no-connection": Cause("node", "the address does not accept connections, for an unknown reason", passes=True),
    "pod-route-missing": Cause("node, response", "a node has no route to the pods of another node", 5),
    "node-not-reached": Cause(
        "response", "a node does not reach another node, or the app's pods there", 30, passes=True
    ),
    "controller-not-ready": Cause("node, rule", "no pod of the ingress controller is ready"),
    "ingress-missing": Cause("rule", "no Ingress has a rule for the hostname", 10),
    "ingress-class-other": Cause("rule", "the Ingress belongs to a class that the controller does not serve", 10),
    "ingress-path-missing": Cause("rule", "no rule for the hostname matches the path", 10),
    "ingress-class-missing": Cause("rule", "there is no IngressClass that the controller serves", 10),
    "ingress-refused": Cause("rule", "the controller rejects the Ingress and serves none of its rules", 10),
    "guard-unusable": Cause(
        "rule", "the controller cannot use the login or certificate of the Ingress, and serves none of its rules", 10
    ),
    "rules-collide": Cause("rule", "several Ingresses have the same rule and route to different Services"),
    "annotation-ignored": Cause("rule", "the Ingress has annotations that the controller ignores"),
    "rule-not-found": Cause("rule", "a pod answered the request, and labctl cannot tell which rule matched"),
    "backend-service-missing": Cause("pod", "the rule names a Service that does not exist", 10),
    "backend-port-missing": Cause("pod", "the rule names a port that the Service does not have", 10),
    "selector-matches-nothing": Cause("pod", "the Service's selector matches no pod", 10),
    "target-port-missing": Cause("node, pod", "the Service's targetPort is a name that its pods do not have", 10),
    "endpoints-missing": Cause("pod", "the Service's pods are ready, but no EndpointSlice lists them", 30),
    "no-pods-wanted": Cause("pod", "the app has `replicas: 0`"),
    "no-pod-ready": Cause("pod, response", "no pod behind the Service is ready"),
    "pods-not-all-ready": Cause("pod", "some pods behind the Service are ready, others are not"),
    "cluster-dns-down": Cause("pod", "CoreDNS is not ready: requests reach the app, but its pods cannot resolve names"),
    "no-time-left": Cause("response", "the time limit ended before the response, or why it failed, was checked"),
    "no-answer": Cause("response", "nothing at the address answers HTTP", passes=True),
    "answered-by-another": Cause(
        "response", "a response came, but neither the controller nor the app logged the request", 10, passes=True
    ),
    "answered-by-other-pod": Cause(
        "response", "the controller forwarded the request to an address that is not behind the rule", 30, passes=True
    ),
    "answerer-unknown": Cause("response", "a response came, but the logs that show who sent it cannot be read"),
    "controller-has-no-route": Cause("response", "the ingress controller itself answers 404", 30, passes=True),
    "controller-has-no-backend": Cause("response", "the ingress controller itself answers 503", 30, passes=True),
    "backend-refused": Cause(
        "response", "the ingress controller could not reach a pod and answers 502", 30, passes=True
    ),
    "backend-not-http": Cause("response", "the pod accepts the connection but does not speak HTTP", 30),
    "backend-too-slow": Cause("response", "the pod did not answer the ingress controller in time: 504", 30),
    "controller-answers": Cause("response", "the ingress controller itself answers, instead of the app", 30),
    "controller-asks-for-login": Cause(
        "response", "the ingress controller requires a login before it forwards requests to the app"
    ),
    "body-incomplete": Cause("response", "the response began but was not complete", 30),
    "redirect-leads-nowhere": Cause("response", "the response redirects to a URL that does not work", 2, passes=True),
    "app-answers-error": Cause("response", "every pod of the app answers with the same error"),
    "pods-differ": Cause("response", "some pods of the app serve the request, others answer with an error", 30),
    "pod-not-reached": Cause("response", "some ready pods received none of the requests"),
    "namespace-gone": Cause("node", "the network namespace of an isolated lab is gone"),
    "engine-stopped": Cause("node", "the Docker Engine of an isolated lab is not running"),
    "node-not-running": Cause("node", "a node is not running; at a hop, it is the control plane or all nodes"),
    "api-unreachable": Cause("any", "the Kubernetes API does not answer"),
    "api-not-trusted": Cause("any", "the Kubernetes API's certificate is not valid now"),
    "lab-not-asked": Cause("any", "the Kubernetes API refuses the request, or the lab's credentials do not match"),
    "node-not-ready": Cause("status", "a node is running but not Ready"),
    "app-not-ready": Cause("status", "some pods of an app are not ready"),
}
