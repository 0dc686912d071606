#!/bin/sh
# Create the virtual environment; Debian and Ubuntu keep the venv module in a package of its own.
set -eu
python=$1 target=$2
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "nattrav needs Python 3.11 or newer; $python is $("$python" -V 2>&1)" >&2; exit 1; }
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3-venv
    else
        echo "Python's venv module is missing: run 'apt install python3-venv' as root, then make again" >&2
        exit 1
    fi
fi
"$python" -m venv "$target"
