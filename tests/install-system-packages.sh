#!/bin/sh
# Install the Debian packages the tests need. Without root, or on another system, say what will be left out.
set -eu
list=$(sed 's/#.*//' "$(dirname "$0")/apt-packages.txt" | xargs)
if ! command -v dpkg-query >/dev/null; then
    echo "not a Debian system: tests that need one of these programs will say so and be skipped: $list"
    exit 0
fi
missing=
for package in $list; do
    dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "not root: laboratory and interoperability tests are left out; they need:$missing"
    exit 0
fi
# Services that packages would start on this machine take the very ports the tests use.
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
    made=yes
fi
trap '[ -z "$made" ] || rm -f "$policy"' EXIT
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing
