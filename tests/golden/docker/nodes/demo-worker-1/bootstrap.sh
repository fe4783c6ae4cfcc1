#!/bin/bash
# Assemble demo-worker-1. Runs at every boot of the node, and skips what is already done.
set -euo pipefail

settings=/etc/labctl
bundle=/opt/labctl/bundle
state=/var/lib/labctl
pod_network=/etc/cni/net.d/10-labctl.conflist

say() { echo "labctl: $*"; }

until_true() { # SECONDS WHAT COMMAND...
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= deadline)); then
      say "gave up waiting for $what"
      return 1
    fi
    sleep 0.2
  done
}

until_answered() { # SECONDS WHAT URL
  local ask=(curl --silent --fail --max-time 2 --cacert "$settings/ca.crt" "$3")
  until_true "$1" "$2" "${ask[@]}"
}

let_vagrant_in() {
  install -d -m 700 -o vagrant -g vagrant /home/vagrant/.ssh
  install -m 600 -o vagrant -g vagrant "$settings/authorized_keys" /home/vagrant/.ssh/authorized_keys
  # systemd generates host keys only on a first boot, which a container's boot never counts as. sshd has failed by now.
  if [ ! -e /etc/ssh/ssh_host_ed25519_key ]; then
    ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
    systemctl reset-failed ssh
    systemctl start ssh
  fi
}

prepare_kernel() {
  # A container's cgroup v1 hierarchies are mounted read-only, but the kubelet creates its pods' groups in them.
  local hierarchy
  for hierarchy in $(awk '$3 == "cgroup" && $4 ~ /^ro(,|$)/ {print $2}' /proc/mounts); do
    mount -o remount,bind,rw "$hierarchy"
  done
  # The kubelet reads the kernel's log, and exits if there is none, as in most containers.
  [ -e /dev/kmsg ] || ln -s /dev/null /dev/kmsg
  mount --make-rshared /
  sysctl --quiet --write net.ipv4.ip_forward=1
}

private_interface() { ip -4 -o address show to 192.168.56.11/32 | awk '{print $2}' | grep .; }

connect() {
  until_true 60 "the address 192.168.56.11" private_interface
  local interface
  interface=$(private_interface)
  # Detect a dead node within two seconds, so that connections to its pods fail at once. By default the kernel sends
  # packets to its MAC for half a minute, and after that every connection waits for three seconds.
  sysctl --quiet --write "net.ipv4.neigh.$interface.base_reachable_time_ms=1000" \
    "net.ipv4.neigh.$interface.delay_first_probe_time=1" "net.ipv4.neigh.$interface.retrans_time_ms=100" \
    net.ipv4.icmp_ratelimit=0 # by default a host gets only one ICMP error a second
  # Traffic to pods and Services must not take the default route, not even before the cluster has its rules.
  ip route replace unreachable 10.244.0.0/16 metric 9999
  ip route replace 10.96.0.0/12 dev "$interface"
  ip route replace 10.244.0.0/24 via 192.168.56.10 dev "$interface"
  ip route replace 10.244.2.0/24 via 192.168.56.12 dev "$interface"
  ip route replace 10.244.3.0/24 via 192.168.56.13 dev "$interface"
  ip route replace 10.244.4.0/24 via 192.168.56.14 dev "$interface"
  ip route replace 10.244.5.0/24 via 192.168.56.15 dev "$interface"
  ip route replace 10.244.6.0/24 via 192.168.56.16 dev "$interface"
  ip route replace 10.244.7.0/24 via 192.168.56.17 dev "$interface"
  ip route replace 10.244.8.0/24 via 192.168.56.18 dev "$interface"
  ip route replace 10.244.9.0/24 via 192.168.56.19 dev "$interface"
  ip route replace 10.244.10.0/24 via 192.168.56.20 dev "$interface"
  ip route replace 10.244.11.0/24 via 192.168.56.21 dev "$interface"
  ip route replace 10.244.12.0/24 via 192.168.56.22 dev "$interface"
  ip route replace 10.244.13.0/24 via 192.168.56.23 dev "$interface"
  ip route replace 10.244.14.0/24 via 192.168.56.24 dev "$interface"
  ip route replace 10.244.15.0/24 via 192.168.56.25 dev "$interface"
  ip route replace 10.244.16.0/24 via 192.168.56.26 dev "$interface"
  ip route replace 10.244.17.0/24 via 192.168.56.27 dev "$interface"
  ip route replace 10.244.18.0/24 via 192.168.56.28 dev "$interface"
  ip route replace 10.244.19.0/24 via 192.168.56.29 dev "$interface"
  ip route replace 10.244.20.0/24 via 192.168.56.30 dev "$interface"
  nft --file - <<'RULES'
add table ip labctl
delete table ip labctl
table ip labctl {
  # Traffic that leaves the pod network gets the node's address; between pods, the source address is kept.
  chain postrouting {
    type nat hook postrouting priority srcnat
    ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade
  }
  # Reject at once what kube-proxy has not redirected to a pod: otherwise the sender would wait for minutes.
  chain forward {
    type filter hook forward priority filter
    ip daddr 10.96.0.0/12 reject
  }
  chain output {
    type filter hook output priority filter
    ip daddr 10.96.0.0/12 reject
  }
}
RULES
}

# containerd runs without a plugin that failed to load, and retries it only when it is restarted.
cri_works() {
  ctr plugins list | awk '$2 == "cri" { state = $NF } END { exit state != "ok" }' || {
    systemctl restart containerd
    return 1
  }
}

install_programs() {
  local program
  for program in kubeadm kubelet kubectl; do
    ln -sfn "$bundle/bin/$program" "/usr/local/bin/$program"
  done
  rm -f "$pod_network" # keeps this node not Ready, and without pods, until Services work
  install -D -m 644 "$settings/containerd.toml" /etc/containerd/config.toml
  systemctl start containerd
  if ! until_true 60 "containerd and its CRI plugin" cri_works; then
    journalctl --unit containerd --boot --output cat | grep "failed to load plugin" | tail -n 1
    return 1
  fi
}

import_images() { # ARCHIVE...
  local archive imported
  for archive in "$@"; do
    imported=$state/kubernetes-1.37.2-amd64/$(basename "$archive")
    [ -e "$imported" ] && continue
    if [ ! -e "$bundle/$archive" ]; then # the lab has another bundle now, and this node boots from its old one
      echo "labctl: $archive is not in the bundle that this node was made from" >&2
      continue
    fi
    ctr --namespace k8s.io images import --no-unpack "$bundle/$archive"
    install -D /dev/null "$imported"
  done
}

become_member() {
  say "waiting for the control plane at https://192.168.56.10:6443"
  # The last object that kubeadm creates for joining nodes.
  until_answered 600 "the control plane at https://192.168.56.10:6443" \
    https://192.168.56.10:6443/api/v1/namespaces/kube-public/configmaps/cluster-info
  say "joining the cluster"
  kubeadm join --config "$settings/kubeadm.yaml"
}

let_vagrant_in
prepare_kernel
connect
install_programs
say "importing images"
import_images images/pause.tar
import_images images/kube-proxy.tar images/failure-detector.tar images/traefik.tar images/nginx.tar &
beside=$!
# kubeadm cannot resume an interrupted attempt.
if [ ! -e "$state/member" ] && { [ -e /etc/kubernetes/manifests ] || [ -e /etc/kubernetes/kubelet.conf ]; }; then
  kubeadm reset --force
fi
was_member=
if [ -e "$state/member" ]; then
  was_member=yes
  systemctl start kubelet
else
  become_member
  touch "$state/member"
fi
wait "$beside"
import_images &
after=$!
say "waiting for services to work"
until_answered 300 "kube-proxy" https://10.96.0.1/livez
wait "$after" # otherwise the kubelet would pull missing images from a registry
install -D -m 644 "$settings/cni.conflist" "$pod_network"
# The kubelet could not yet mount the volumes of pods from before this boot, and retries only after up to two minutes.
# A restart makes it retry at once.
[ -z "$was_member" ] || systemctl restart kubelet
say "demo-worker-1 is assembled"
