#!/usr/bin/env bash
# What three nodes do: new keys, gets and carts; as they are by default, with the cart module, with
# the other engine, and once more as by default: how far the last column is from 1 is what the
# machine does by itself.
#   tests/benches/cluster.sh target/debug/stator
set -euo pipefail
stator=$1
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

measure() {
    "$stator" bench --local 3 --dir "$(dirname "$stator")" --workload load,c,cart --duration 5s \
        --warm-up 1s --output json "${@:2}" >"$results/$1.json"
}
measure default
measure module --module target/components/cart.wasm
measure fjall --engine fjall
measure again
"$stator" bench compare "$results"/{default,module,fjall,again}.json
