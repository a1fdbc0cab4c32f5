#!/usr/bin/env bash
# What the conflict feed, recordings and history cost: three nodes once without and once with each,
# by the same loads in turn: puts and gets of a keyspace without conflicts, puts that replace (the
# history notes what they replace), and carts with concurrent writers (merged, recorded, in the feed).
#   STATOR=target/release/stator SECONDS_EACH=8 ROUNDS=2 tests/benches/journals.sh
set -euo pipefail
stator=${STATOR:-target/debug/stator} port=${PORT:-7500}
seconds=${SECONDS_EACH:-6} rounds=${ROUNDS:-2}
components=${COMPONENTS:-$(dirname "$stator")/../components}
home=$(mktemp -d "$(dirname "$stator")/journals.XXXXXX")
source "$(dirname "$0")/support/nodes.sh"
trap clean_up EXIT
export TOKIO_WORKER_THREADS=1

bench() { # NAME, then what `stator bench` takes
    echo "measuring: $1" >&2
    "$stator" bench --endpoints "$nodes" --connections 32 --duration "${seconds}s" --warm-up 1s \
        --output json "${@:2}" >"$home/$1.json" 2>"$home/bench.err" || { cat "$home/bench.err" >&2; exit 1; }
}
limits=(STATOR_LIMITS__{CONFLICTS,RECORDINGS,HISTORY}_BYTES_MAX)

for round in $(seq "$rounds"); do
    for kind in off on; do
        for limit in "${limits[@]}"; do
            if [ $kind = on ]; then unset "$limit"; else export "$limit=0"; fi
        done
        for node in 1 2 3; do start $node; done
        found 1 2 3
        nodes=$(endpoints 1 2 3)
        operator=("$stator" --admin "$(admin 1)")
        history=$([ $kind = on ] && echo 1h || echo 0s)
        "${operator[@]}" keyspace create plain --history "$history" >/dev/null
        "${operator[@]}" module push "$components/cart.wasm" >/dev/null 2>&1
        "${operator[@]}" keyspace create carts --module cart >/dev/null
        for node in 1 2 3; do
            until "$stator" --endpoint "http://$(client $node)" kv put -k carts ready yes >/dev/null 2>&1; do sleep 0.2; done
        done
        bench "$kind-$round-puts" --keyspace plain --workload load --keys 1000000
        bench "$kind-$round-replace-and-get" --keyspace plain --workload a --keys 5000 --distribution uniform
        bench "$kind-$round-carts" --keyspace carts --workload cart --keys 500
        for node in 1 2 3; do kill -9 "${pids[$node]}"; wait "${pids[$node]}" 2>/dev/null || true; done
        rm -rf "$home"/n[123]
    done
done

python3 - "$home" "$rounds" <<'PYTHON'
import json, statistics, sys
home, rounds = sys.argv[1], int(sys.argv[2])
def results(kind, load):
    return [json.load(open(f"{home}/{kind}-{n + 1}-{load}.json"))["results"][0] for n in range(rounds)]
print("| load | per second without | with | ratio | p99 ms without | with |")
print("|---|---|---|---|---|---|")
for load in ["puts", "replace-and-get", "carts"]:
    rate = {kind: statistics.median(r["per_second"] for r in results(kind, load)) for kind in ("off", "on")}
    p99 = {kind: statistics.median(max(l["p99_us"] for l in r["latency"].values()) / 1000 for r in results(kind, load)) for kind in ("off", "on")}
    print(f"| {load} | {rate['off']:.0f} | {rate['on']:.0f} | {rate['on'] / rate['off']:.2f} | {p99['off']:.1f} | {p99['on']:.1f} |")
PYTHON
