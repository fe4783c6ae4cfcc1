#!/bin/sh
# An image's root filesystem ($1), its packages extracted and not configured: notes their versions, and
# drops what belongs to the building machine.
set -eu
root=$1

mkdir -p "$root/usr/share/labctl"
for archive in "$root"/var/cache/apt/archives/*.deb; do
    dpkg-deb --show --showformat='${Package} ${Version}\n' "$archive"
done | LC_ALL=C sort >"$root/usr/share/labctl/packages"

rm -f "$root/etc/hostname" "$root/etc/resolv.conf"
