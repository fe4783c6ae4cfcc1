"""Every time limit of a lab that depends on how fast its nodes are."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cache


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a lab whose nodes are as fast as containers, in seconds. `limits` returns those of a slower one.

    Limits that do not depend on nodes are not here: waits for this machine (locks, package managers, its resolver), and
    polling intervals where polling less often would only delay the lab.
    """

    # labctl, while it brings the lab up
    api: float = 180
    """Until the API server answers."""
    nodes: float = 180
    """Until every node is Ready."""
    ready: float = 120
    """Until a controller, an address or an app is ready."""
    next_pod: float = 30
    """Until the next pod of a rollout is ready."""
    api_silent: float = 30
    """Until an API server that stopped answering answers again: the kubelet restarts it within seconds."""
    poll: float = 0.2
    """Between two requests to the API while waiting: each costs the API server processor time."""
    node_check: float = 3
    """Between two checks that no node has failed: each starts programs on every node."""
    reason_check: float = 2
    """Between two searches for the reason why something is not ready: each queries nodes and pods."""
    node_command: float = 5
    """A short command on a node."""
    node_log: float = 20
    """Reading a log on a node."""
    shutdown: float = 60
    """Until a machine has shut down; then its power is cut."""
    pod_exits: float = 30
    """How long a container may crash repeatedly."""
    quick_exit: float = 30
    """A container that ran longer than this was stopped rather than crashed, for example by halting its node."""
    port_refused: float = 30
    """How long an app's container may take to listen on its port."""
    settling: float = 15
    """How long a pod may lack a node or a container, while other objects are still being applied."""
    mount: float = 30
    """How long a pod may wait for a volume."""

    # labctl, as a client of the lab
    api_answer: float = 10
    """An answer of the API server."""
    api_glance: float = 1.5
    """An answer of the API server to `status` and `trace`: far longer than a healthy one takes, yet short."""
    http_answer: float = 2
    """A page. Polling again is faster than waiting for TCP's SYN retransmission."""
    http_good: float = 60
    """Until a demo's traffic gets a good answer."""
    demo_names: float = 30
    """Until a demo knows the values of its names: an address may move, or a node may boot."""
    arp: float = 0.3
    """ARP answers; neighbours on one machine answer in less than a millisecond."""

    # trace
    trace: float = 4
    """A whole trace."""
    trace_again: float = 1.5
    """How long a hop is checked again if its cause may be temporary."""
    trace_enough: float = 1
    """The least time for the response hop: with less, a response still on its way would be mistaken for none."""
    trace_connect: float = 1.4
    """A connection to the address."""
    trace_node: float = 2
    """A command on a node."""
    trace_lease: float = 10
    """If a Ready node's lease is further from now than this, in either direction, the node is asked for its time."""
    trace_pod: float = 1
    """A connection from a node to a pod."""
    trace_log: float = 1
    """Until the ingress controller has logged the request."""
    trace_body: float = 1
    """How long a body that keeps arriving is read."""
    trace_stall: float = 1.5
    """How long a body may pause before it counts as stopped."""
    survey_answer: float = 1
    """A further request; it may also take three times as long as the first one, if that is longer."""
    survey_least: float = 0.4
    """The least time for a further request, or 1.2 times what the first request took, if that is longer."""
    survey_spare: float = 1
    """Time reserved at the end of the trace to explain the outcome of the requests."""
    survey_nodes: float = 0.8
    """The part of it reserved for asking nodes what is lost between them."""

    # a node's assembly
    ssh: float = 600
    """Until a machine answers SSH."""
    node_address: float = 60
    containerd: float = 60
    control_plane: float = 600
    """Until a worker may join."""
    services: float = 300
    """Until kube-proxy has set up Services."""
    node_request: float = 2
    """A request of the node to the API server."""
    node_poll: float = 0.2
    """Between two of them: on a slow node, each takes processor time from the work that it waits for."""
    neighbour_reachable: float = 1
    """How long the kernel trusts another node's MAC."""
    neighbour_doubted: float = 1
    """How long it then waits before it sends a probe."""
    neighbour_answer: float = 0.1
    """How long it waits for the answer to each of three probes before the other node counts as unreachable."""

    # kubeadm
    component_health: float = 240
    """Also the limit of the startup probes of the control plane."""
    kubelet_health: float = 240
    kubeadm_api_call: float = 60
    etcd_api_call: float = 120
    tls_bootstrap: float = 300
    discovery: float = 300

    # the control plane
    api_request: float = 60
    """The API server's --request-timeout."""
    etcd_health: float = 2
    """How long etcd's answer may take before the API server counts as unhealthy."""
    eviction: float = 5
    """How long pods stay on a node that is not Ready or unreachable."""
    node_grace: float = 3
    """A node that has not renewed its lease for this long is marked as not Ready."""
    node_startup_grace: float = 60
    """The same, before its first lease."""
    service_rules: float = 0.1
    """The least time between two updates of a node's rules for Services. Until the rules have a pod that has become
    ready, its node drops the requests for an address that MetalLB already announces there."""
    etcd_progress: float = 5
    """Between two progress notifications of etcd to an idle watch; a client that needs one sooner requests it."""

    # kubelet
    node_lease: float = 4
    """The duration of a node's lease, which the node renews after a quarter of it."""
    runtime_request: float = 120
    """A request to containerd."""
    restart: float = 2
    """The longest back-off before a container is restarted."""

    # the ingress controller
    pod_connect: float = 1
    """A connection to a pod of an app."""
    pod_retry: float = 5
    """How long other pods are tried, in total."""
    drain: float = 2
    """How long a terminating pod keeps serving, until the address is announced from another node."""
    open_connections: float = 5
    """How long it then waits for open connections."""
    status_update: float = 5
    """Between two checks for Ingresses without an address."""
    election: float = 8
    """Until another pod takes over writing the addresses of Ingresses from one that has exited."""


NORMAL = Limits()


UNCHANGED = ("ssh", "status_update")
"""Limits that are as long for slow nodes: an emulated machine answers SSH within a minute, and a slow node can answer
one request every few seconds as well."""
EXTENDED = {"node_check": 4, "node_grace": 3}
"""By how much limits are extended further on slow nodes. A check for failed nodes is an SSH login, which costs a slow
node ten seconds of processor time. While another node boots, a slow control plane can be silent for 45 s; if it counted
as not Ready, no pod of its apps would be ready."""


@cache
def limits(slowness: int) -> Limits:
    """Return the limits of a lab whose nodes are this many times slower than containers."""
    extended = EXTENDED if slowness > 1 else {}
    slow = {name: round(value * slowness * extended.get(name, 1), 3) for name, value in asdict(NORMAL).items()}
    return replace(Limits(**slow), **{name: getattr(NORMAL, name) for name in UNCHANGED})
