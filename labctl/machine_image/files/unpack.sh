# Unpacks the archives of container images in /images of a system ($root) into its containerd's store, and removes them.
# Runs after machine.sh, in the same shell; containerd ends with the processes of this namespace, however that happens.
unshare --mount --pid --fork --kill-child=KILL chroot "$root" /bin/sh -eu <<'INSIDE'
mount -t proc proc /proc
mkdir /images/run
cat >/images/containerd.toml <<'CONFIG'
version = 2
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.native", "io.containerd.snapshotter.v1.zfs",
]
state = "/images/run"
[grpc]
  address = "/images/run/containerd.sock"
[plugins."io.containerd.metadata.v1.bolt"]
  content_sharing_policy = "shared"
CONFIG
containerd --config /images/containerd.toml >/images/log 2>&1 &
daemon=$!
export CONTAINERD_ADDRESS=/images/run/containerd.sock CONTAINERD_NAMESPACE=k8s.io
tries=0
until ctr version >/dev/null 2>&1; do
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ] || ! kill -0 "$daemon"; then
        cat /images/log >&2
        exit 1
    fi
    sleep 0.1
done
# In the order of their names: the numbers of the snapshots are the same each time.
for archive in /images/*.tar; do
    ctr images import --discard-unpacked-layers "$archive" >/dev/null || { tail -n 5 /images/log >&2; exit 1; }
    rm "$archive"
done
for image in $(ctr images list --quiet); do
    ctr images label "$image" io.cri-containerd.image=managed >/dev/null
done
ctr content prune references >/dev/null
kill "$daemon"
wait "$daemon" || true
INSIDE
rm -rf "$root/images"
# What differs each time: the daemon's own id, and what the kernel leaves of mounts that it makes without root.
rm -rf "$root"/var/lib/containerd/io.containerd.grpc.v1.introspection \
    "$root"/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/*/work/*
