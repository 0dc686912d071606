#!/bin/sh
# Install a package into a throw-away overlay of this host, run it, remove and purge it. Needs root.
# Usage: sh deploy/debian/try-install.sh PACKAGE.deb
set -eu
package=$(readlink -f "$1")
exec unshare --mount --pid --fork --net --propagation private sh -eu -c '
work=$(mktemp -d)
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/merged"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/merged"
root=$work/merged
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
rm -rf "$root/var/lib/nattrav" "$root/etc/nattrav"
ip link set lo up
cp "$1" "$root/tmp/nattrav.deb"
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$@"; }
inside dpkg --install /tmp/nattrav.deb
inside nattrav --version
inside nattrav check
inside id nattrav
inside setpriv --reuid nattrav --regid nattrav --init-groups nattrav check
inside install -d -o nattrav -g nattrav -m 0750 /run/nattrav
inside setpriv --reuid nattrav --regid nattrav --init-groups env RUNTIME_DIRECTORY=/run/nattrav STATE_DIRECTORY=/var/lib/nattrav sh -c "echo \$\$ > /run/nattrav/pid; exec nattrav run" &
tries=0
until inside nattrav status --check >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 30 ] || exit 1
    sleep 0.5
done
inside nattrav reload
kill -TERM $(cat "$root/run/nattrav/pid")
wait
inside dpkg --purge nattrav
[ ! -e "$root/opt/nattrav/bin/nattrav" ] && [ ! -e "$root/etc/nattrav" ] && [ ! -e "$root/var/lib/nattrav" ]
echo "installed, ran, removed and purged"
' sh "$package"
