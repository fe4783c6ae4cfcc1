"""The table: everything that is looked at, in the order in which it is told."""

from __future__ import annotations

from labctl.doctor import (
    bundles,
    conditions,
    engines,
    host_only,
    hypervisors,
    leftovers,
    limits,
    machine,
    names,
    network,
    owner,
    pool,
    registries,
    tools,
    variables,
)
from labctl.doctor.finding import Check

_POOL = "MetalLB hands these addresses out and does not notice that something else has one: both then fail by turns"

CHECKS = (
    # Programs, and who starts them.
    Check(
        "provider",
        "it makes the nodes",
        tools.look_at_provider,
        blocks_up="provider-not-bootable",
    ),
    Check(
        "isolation",
        "only root can make the network namespace that an isolated lab lives in",
        tools.look_at_rights_to_isolate,
        only=(conditions.isolated,),
        blocks_up="isolation-needs-root",
    ),
    Check(
        "tools",
        "labctl starts these programs",
        tools.look_at_tools,
        blocks_up="tools-missing",
    ),
    Check(
        "vagrant",
        "it boots the nodes",
        tools.look_at_vagrant,
        blocks_up="vagrant-unusable",
    ),
    Check(
        "docker-command",
        "labctl and Vagrant make and remove nodes with it",
        engines.look_at_command,
        only=(conditions.containers,),
        blocks_up="docker-command",
    ),
    Check(
        "engine",
        "nodes are containers of the Docker Engine",
        engines.look_at_engine,
        only=(conditions.shared, conditions.containers),
        blocks_up="no-engine",
    ),
    Check(
        "virtualbox",
        "it makes the nodes; Vagrant refuses versions that it does not know",
        hypervisors.look_at_virtualbox,
        only=(conditions.virtualbox,),
        blocks_up="virtualbox-unusable",
    ),
    Check(
        "virtualbox-networks",
        "VirtualBox refuses host-only networks elsewhere",
        hypervisors.look_at_host_only_range,
        only=(conditions.virtualbox,),
        blocks_up="host-only-address-refused",
    ),
    Check(
        "virtualbox-members",
        "another lab's nodes, or anybody's machines, may have the addresses of the lab's",
        host_only.look_at_members,
        only=(conditions.virtualbox,),
        blocks_up="host-only-shared",
    ),
    Check(
        "virtualbox-dhcp",
        _POOL,
        host_only.look_at_servers,
        only=(conditions.virtualbox,),
        blocks_up="dhcp-in-the-way",
        repair=host_only.remove_servers,
    ),
    Check(
        "libvirt",
        "it makes the nodes",
        hypervisors.look_at_libvirt,
        only=(conditions.libvirt,),
    ),
    Check(
        "owner",
        "two labs of one name would end each other's nodes",
        owner.look_at_owner,
        only=(conditions.containers,),
        blocks_up="owned-elsewhere",
    ),
    # The machine.
    Check(
        "capabilities",
        "nodes boot systemd and mount file systems; an isolated lab makes interfaces and routes",
        machine.look_at_capabilities,
        only=(conditions.containers,),
    ),
    Check(
        "kvm",
        "virtual machines without it are emulated",
        machine.look_at_kvm,
        only=(conditions.libvirt,),
    ),
    Check(
        "cgroups",
        "kubelet and containerd put every pod into control groups",
        machine.look_at_cgroups,
        only=(conditions.containers,),
    ),
    Check(
        "kernel",
        "nodes in containers have this machine's kernel: overlay for images, bridges and nftables for Services",
        machine.look_at_kernel,
        only=(conditions.containers,),
    ),
    Check(
        "inotify",
        "past the limit, kubelet and containerd of the nodes fail with `too many open files`",
        limits.look_at_inotify,
        only=(conditions.containers,),
        blocks_up="inotify-exhausted",
    ),
    Check(
        "memory",
        "with less, the kernel ends programs of the nodes",
        machine.look_at_memory,
        only=(conditions.unmade,),
        blocks_up="memory-too-small",
    ),
    Check(
        "disk",
        "nodes unpack images there, and kubelet evicts pods where it is nearly full",
        machine.look_at_disk,
        only=(conditions.unmade,),
        blocks_up="disk-full",
    ),
    Check(
        "filesystem",
        "nodes lay one over the other what their images are made of, which not every file system lets them",
        machine.look_at_filesystem,
        only=(conditions.containers, conditions.unmade),
        blocks_up="filesystem-unusable",
    ),
    # The network.
    Check(
        "network",
        "packets for the lab would go there instead",
        network.look_at_routes,
        only=(conditions.shared, conditions.unmade),
        blocks_up="network-taken",
    ),
    Check(
        "docker-networks",
        "two networks of one Engine cannot have the same addresses",
        network.look_at_docker_networks,
        only=(conditions.containers, conditions.unmade_if_shared),
        blocks_up="docker-network-taken",
    ),
    Check(
        "pool",
        _POOL,
        pool.look_at_pool,
        only=(conditions.shared,),
        blocks_up="pool-taken",
    ),
    Check(
        "pool-dhcp",
        _POOL,
        pool.look_at_dhcp,
        only=(conditions.shared,),
    ),
    Check(
        "pool-answers",
        _POOL,
        pool.look_at_answers,
        only=(conditions.shared, conditions.unmade),
    ),
    # Names.
    Check(
        "hosts-file",
        "browsers find the lab's hostnames there",
        names.look_at_hosts_file,
        only=(conditions.shared,),
        blocks_up="hosts-not-writable",
    ),
    Check(
        "hosts-block",
        "labctl changes nothing in a file where it cannot tell its own lines from others",
        names.look_at_hosts_block,
        only=(conditions.shared,),
    ),
    Check(
        "hosts-shadows",
        "whoever reads the file may take that address for the lab's",
        names.look_at_shadows,
        only=(conditions.shared,),
    ),
    Check(
        "hosts-other-labs",
        "two labs with one hostname: whichever line comes first answers for both",
        names.look_at_other_labs,
        only=(conditions.shared,),
        blocks_up="hostname-taken",
    ),
    Check(
        "name-order",
        "what is asked before the hosts file may answer something else, or late",
        names.look_at_name_order,
    ),
    Check(
        "local-names",
        "names in .local belong to multicast DNS",
        names.look_at_local_names,
    ),
    # Elsewhere.
    Check(
        "environment",
        "variables that other tools have set lead labctl's tools elsewhere",
        variables.look_at_environment,
    ),
    Check(
        "proxy",
        "your own shell and browser may ask a proxy, which cannot reach the lab's addresses; what labctl starts does not",
        names.look_at_proxy,
        only=(conditions.shared,),
    ),
    Check(
        "bundle",
        "a lab boots from it, and pulls nothing that it lacks but images of apps",
        bundles.look_at_bundle,
    ),
    Check(
        "registries",
        "the bundle is yet to be built, from what they serve",
        registries.look_at_registries,
        only=(conditions.unbuilt,),
    ),
    # What was left.
    Check(
        "leftovers",
        "they take memory, names and addresses, and nobody knows of them any more",
        leftovers.look_at_leftovers,
        repair=leftovers.remove_leftovers,
    ),
    Check(
        "unfinished-bundles",
        "they take space on the disk for nothing",
        leftovers.look_at_unfinished_bundles,
        repair=leftovers.remove_unfinished_bundles,
    ),
)
"""Another check is one more row, one function that looks, and its test."""
