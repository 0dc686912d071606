#!/bin/sh
# Builds BPF objects: build-bpf.sh SOURCE.bpf.c [OBJECT]. Run it from the top of the source tree: paths are in the result.
# The objects in the tree are made by Debian 12's clang 14; they are the same for every processor (little-endian).
set -eu
source=$1
object=${2:-${source%.c}.o}
clang=${CLANG:-clang}
"$clang" -O2 -g -Wall -Wextra -Werror -target bpf -mcpu=v3 -I. \
    -idirafter "/usr/include/$("$clang" -print-multiarch 2>/dev/null || gcc -print-multiarch)" \
    -fdebug-compilation-dir=. -c "$source" -o "$object"
"${LLVM_STRIP:-llvm-strip}" -g "$object"
