#!/bin/sh
# A node's root filesystem ($1), its packages installed: the user that Vagrant logs in as, no identity of its own,
# and only the units that a node needs, in a container as in a virtual machine.
set -eu
root=$1

# `*` takes no password but, unlike a locked account's `!`, lets sshd accept a key.
chroot "$root" useradd --create-home --uid 1000 --shell /bin/bash --password '*' vagrant
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/vagrant"
chmod 0440 "$root/etc/sudoers.d/vagrant"

rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/etc/resolv.conf"
: >"$root/etc/machine-id"

# Each mask is a link to /dev/null, as `systemctl mask` makes it, whether this version of systemd has the unit or not.
for unit in \
    systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket systemd-udevd-varlink.socket \
    systemd-udev-trigger.service systemd-udev-settle.service \
    systemd-logind.service getty.target getty-static.service console-getty.service getty@.service serial-getty@.service \
    systemd-modules-load.service systemd-timesyncd.service systemd-networkd.service systemd-networkd.socket \
    systemd-networkd-wait-online.service systemd-resolved.service \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
    dev-hugepages.mount dev-mqueue.mount \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer systemd-tmpfiles-clean.timer ssh.socket; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
ln -sf /usr/lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
chroot "$root" systemctl enable ssh.service
chroot "$root" systemctl disable containerd.service # started once it has its configuration

# What a lab renders for the node is mounted at /etc/labctl, units among it; these are the links `systemctl enable` makes.
mkdir -p "$root/etc/labctl"
for link in kubelet.service labctl-node.service multi-user.target.wants/labctl-node.service; do
    ln -s "/etc/labctl/${link##*/}" "$root/etc/systemd/system/$link"
done

mkdir -p "$root/usr/share/labctl"
chroot "$root" dpkg-query --show --showformat='${Package} ${Version}\n' | LC_ALL=C sort >"$root/usr/share/labctl/packages"
rm -rf "$root"/var/log/*.log "$root"/var/log/apt
