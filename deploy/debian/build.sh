#!/bin/sh
# Build nattrav_VERSION_ARCH.deb: a private virtual environment under /opt/nattrav, units, sysctl and docs.
# Usage: sh deploy/debian/build.sh [OUTPUT-DIRECTORY]. Needs Debian's python3-venv and dpkg-deb, no root.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
output=${1:-$source/.build}
python=/usr/bin/python3
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$source/pyproject.toml")
architecture=$(dpkg --print-architecture)
minor=$("$python" -c 'import sys; print(sys.version_info.minor)')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$output" "$root/opt"

"$python" -m venv --without-pip "$root/opt/nattrav"
"$python" -m venv "$work/pip"
"$work/pip/bin/pip" wheel --quiet --no-deps --wheel-dir "$work/wheel" "$source"
"$work/pip/bin/pip" --python "$root/opt/nattrav/bin/python" install --quiet "$work"/wheel/nattrav-*.whl
# Scripts were written for the place they were built in.
grep -rlIF "$root" "$root/opt/nattrav/bin" "$root/opt/nattrav/pyvenv.cfg" | xargs sed -i "s|$root||g"
find "$root" -name __pycache__ -type d -prune -exec rm -rf {} +

install -D -m 644 "$source/deploy/systemd/nattrav.service" "$root/lib/systemd/system/nattrav.service"
install -D -m 644 "$source/deploy/systemd/nattrav@.service" "$root/lib/systemd/system/nattrav@.service"
install -D -m 644 "$source/deploy/systemd/nattrav.socket" "$root/usr/share/doc/nattrav/examples/nattrav.socket"
install -D -m 644 "$source/deploy/systemd/kernel-plane.conf" "$root/usr/share/doc/nattrav/examples/kernel-plane.conf"
install -D -m 644 "$source/deploy/systemd/frames.conf" "$root/usr/share/doc/nattrav/examples/frames.conf"
install -D -m 644 "$source/deploy/systemd/nattrav.sysusers" "$root/usr/lib/sysusers.d/nattrav.conf"
install -D -m 644 "$source/deploy/systemd/nattrav.tmpfiles" "$root/usr/lib/tmpfiles.d/nattrav.conf"
install -D -m 644 "$source/deploy/sysctl.d/90-nattrav.conf" "$root/usr/lib/sysctl.d/90-nattrav.conf"
install -D -m 640 "$source/deploy/nattrav.toml" "$root/etc/nattrav/nattrav.toml"
install -D -m 644 "$source/deploy/nftables/nattrav.nft" "$root/usr/share/doc/nattrav/examples/nattrav.nft"
install -D -m 644 -t "$root/usr/share/doc/nattrav/examples" "$source"/deploy/examples/*.toml
install -D -m 644 -t "$root/usr/share/doc/nattrav" "$source/README.md" "$source/CHANGELOG.md" "$source/LICENSE"
install -D -m 644 "$source/LICENSE" "$root/usr/share/doc/nattrav/copyright"
install -D -m 644 "$source/deploy/man/nattrav.1" "$root/usr/share/man/man1/nattrav.1"
install -D -m 644 "$source/deploy/man/nattrav.toml.5" "$root/usr/share/man/man5/nattrav.toml.5"
gzip -9n "$root/usr/share/man/man1/nattrav.1" "$root/usr/share/man/man5/nattrav.toml.5"
scripts="$source/nattrav/cli/completions"
install -D -m 644 "$scripts/nattrav.bash" "$root/usr/share/bash-completion/completions/nattrav"
install -D -m 644 "$scripts/nattrav.zsh" "$root/usr/share/zsh/vendor-completions/_nattrav"
install -D -m 644 "$scripts/nattrav.fish" "$root/usr/share/fish/vendor_completions.d/nattrav.fish"
mkdir -p "$root/usr/bin"
ln -s /opt/nattrav/bin/nattrav "$root/usr/bin/nattrav"

mkdir -p "$root/DEBIAN"
for script in postinst prerm postrm; do
    install -m 755 "$here/$script" "$root/DEBIAN/$script"
done
printf '/etc/nattrav/nattrav.toml\n' > "$root/DEBIAN/conffiles"
cat > "$root/DEBIAN/control" <<END
Package: nattrav
Version: $version
Architecture: $architecture
Maintainer: nattrav maintainers <maintainers@nattrav.invalid>
Installed-Size: $(du -sk "$root" | cut -f1)
Depends: python3 (>= 3.$minor), python3 (<< 3.$((minor + 1)))
Recommends: chrony, libbpf1, nftables
Section: comm
Priority: optional
Description: SIP phones behind any NAT register, call and are heard
 STUN server, SIP NAT proxy and RTP relay for the edge of a provider's network,
 tied together by rtpengine's ng protocol, with metrics, dashboards and a
 command line to look into calls.
END
package=$output/nattrav_${version}_${architecture}.deb
dpkg-deb --root-owner-group --build "$root" "$package" > /dev/null
echo "$package"
