#!/bin/sh
# Installs what the build needs beyond Rust: a C++ compiler, and libclang for RocksDB's bindings.
# `./setup.sh chaos` installs what the runs under faults call as well.
set -eu

has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    ldconfig -p 2>/dev/null | grep -q 'libclang[-.0-9]*\.so' && return 0
    # Not libclang-cpp, which comes with other packages and is of no use here.
    for library in /usr/lib/llvm-*/lib/libclang.so* /usr/lib/llvm-*/lib/libclang-[0-9]*.so*; do
        [ -e "$library" ] && return 0
    done
    return 1
}

packages=
command -v c++ >/dev/null 2>&1 || packages="$packages g++"
has_libclang || packages="$packages libclang-dev"
command -v cargo >/dev/null 2>&1 || {
    echo "setup: cargo is missing: install Rust's stable toolchain from https://rustup.rs" >&2
    exit 1
}
if [ "${1:-}" = chaos ]; then
    needs() { command -v "$1" >/dev/null 2>&1 || packages="$packages $2"; }
    needs ip iproute2
    needs nft nftables
    needs strace strace
    needs unshare util-linux
    needs mount mount
    needs mkfs.ext4 e2fsprogs
    needs patch patch
fi
[ -z "$packages" ] && exit 0

sudo=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null && sudo="sudo -n"
    [ -n "$sudo" ] || {
        echo "setup: missing:$packages. Install them as root, then run this again." >&2
        exit 1
    }
fi
command -v apt-get >/dev/null 2>&1 || {
    echo "setup: missing:$packages (Debian's names). Install them with your system's tools, then run this again." >&2
    exit 1
}
echo "setup: installing$packages" >&2
$sudo apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $packages >/dev/null
