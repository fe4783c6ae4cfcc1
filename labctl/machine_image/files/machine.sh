# Makes a virtual machine's system ($1) out of a node's: devices and network of its own, and what labctl's files say.
# Runs after node.sh, in the same shell.

tar --extract --directory "$root" --no-same-owner --no-overwrite-dir --file "/proc/self/fd/$LABCTL_FILES"
chroot "$root" depmod "$LABCTL_KERNEL"

for unit in \
    systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket systemd-udevd-varlink.socket \
    systemd-udev-trigger.service systemd-networkd.service systemd-networkd.socket systemd-logind.service; do
    rm -f "$root/etc/systemd/system/$unit"
done
chroot "$root" systemctl enable systemd-networkd.service systemd-networkd.socket labctl-grow.service

# Each of these costs seconds where a processor is emulated, and a node needs none of them.
for unit in \
    systemd-firstboot.service systemd-random-seed.service systemd-journal-flush.service \
    systemd-journal-catalog-update.service systemd-hwdb-update.service systemd-update-done.service \
    systemd-update-utmp.service systemd-sysusers.service systemd-network-generator.service \
    systemd-boot-random-seed.service systemd-pcrmachine.service systemd-pcrphase.service \
    systemd-pcrphase-sysinit.service systemd-pcrlock-make-policy.service systemd-tpm2-setup.service \
    systemd-tpm2-setup-early.service systemd-machine-id-commit.service systemd-binfmt.service \
    systemd-networkd-persistent-storage.service systemd-ask-password-console.path systemd-ask-password-wall.path \
    proc-sys-fs-binfmt_misc.automount ldconfig.service kmod-static-nodes.service e2scrub_all.service \
    systemd-hibernate-clear.service systemd-pstore.service apparmor.service modprobe@drm.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
mkdir -p "$root/etc/systemd/system-generators"
for generator in "$root"/usr/lib/systemd/system-generators/*; do
    ln -sf /dev/null "$root/etc/systemd/system-generators/${generator##*/}"
done

# A node's name and neighbours are on its seed.
for name in hostname hosts resolv.conf; do
    ln -sf "/etc/labctl/$name" "$root/etc/$name"
done
ln -sf /etc/labctl/lab.network "$root/etc/systemd/network/10-lab.network"
