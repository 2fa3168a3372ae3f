#!/bin/sh
# The core stays pure: its normal dependencies hold no runtime, consensus, wire or storage.
set -eu
found=$(cargo tree --locked -p kura-cluster --edges normal --prefix none | awk '{print $1}' | sort -u |
    grep -E '^(tokio|openraft|tonic|rocksdb|librocksdb-sys|hyper|getrandom|rand)$' || true)
[ -z "$found" ] || {
    echo "purity: cluster must not depend on:" $found >&2
    exit 1
}
echo "purity: cluster depends on no runtime, consensus, wire or storage"
