#!/usr/bin/env bash
# What clients feel while nodes fail, return, join and are repaired: five nodes in an open loop at
# half of what they take in a closed one, quiet first, then with one event each, 5 s after the
# beginning of its run. Prints every run beside the quiet one, and the seconds above twice the quiet
# run's p99.9.
#   STATOR=target/release/stator SECONDS_EACH=25 KEYS=50000 tests/benches/tails.sh
set -euo pipefail
stator=${STATOR:-target/debug/stator} port=${PORT:-7600}
seconds=${SECONDS_EACH:-25} keys=${KEYS:-50000} export_to=${EXPORT:-}
home=$(mktemp -d "$(dirname "$stator")/tails.XXXXXX")
source "$(dirname "$0")/support/nodes.sh"
trap clean_up EXIT
# Six nodes share the cores of this machine.
export TOKIO_WORKER_THREADS=1

bench() {
    "$stator" bench --keyspace tails --endpoints "$nodes" --blind --keys "$keys" --workload a \
        --distribution uniform --connections 40 --output json "$@"
}
# The event happens in the background of the run that it names.
during() { # NAME EVENT...
    echo "measuring: $1" >&2
    (sleep 6; "${@:2}") >"$home/$1.event" 2>&1 &
    local event=$!
    bench --no-load --warm-up 1s --rate "$rate" --duration "${seconds}s" --attempts 4 --by-second \
        --concurrency 2000 >"$home/$1.json" 2>"$home/bench.err" || { cat "$home/bench.err" >&2; exit 1; }
    wait "$event" || { cat "$home/$1.event" >&2; exit 1; }
}
join() {
    "$stator" --admin "$(admin 1)" cluster join "$(peer 6)"
    "$stator" --admin "$(admin 1)" cluster commit
}

for node in 1 2 3 4 5 6; do start $node; done
found 1 2 3 4 5
"$stator" --admin "$(admin 1)" keyspace create tails --reconcile last-write-wins >/dev/null
nodes=$(endpoints 1 2 3 4 5)
# Each node must know the keyspace, or a bench that asks it is refused.
for node in 1 2 3 4 5; do
    until "$stator" --endpoint "http://$(client $node)" kv put -k tails ready yes >/dev/null 2>&1; do sleep 0.2; done
done
echo "measuring: what they take" >&2
bench --warm-up 2s --duration 8s >"$home/closed.json" 2>"$home/bench.err" || { cat "$home/bench.err" >&2; exit 1; }
rate=$(python3 -c "import json; print(int(json.load(open('$home/closed.json'))['results'][0]['per_second'] / 2))")

during quiet true
during killed kill -9 "${pids[5]}"
# A bench begins with nodes that answer.
nodes=$(endpoints 1 2 3 4)
during returned start 5
during joined join
during repaired "$stator" --admin "$(admin 1)" cluster repair
during quiet-again true
[ -z "$export_to" ] || cp "$home"/*.json "$export_to"

python3 - "$home" "$rate" <<'PYTHON'
import json, sys
home, rate = sys.argv[1:]
runs = ["quiet", "killed", "returned", "joined", "repaired", "quiet-again"]
quiet = None
print(f"{rate} operations a second")
print("| run | p50 ms | p99 | p99.9 | max | p99.9 to quiet | failed | seconds with a p99 above twice the quiet p99.9 |")
print("|---|---|---|---|---|---|---|---|")
for name in runs:
    run = json.load(open(f"{home}/{name}.json"))["results"][0]
    counts = {}
    for kind in run["latency"].values():
        for value, count in kind["histogram"]:
            counts[value] = counts.get(value, 0) + count
    total = sum(counts.values())
    def at(share):
        seen = 0
        for value in sorted(counts):
            seen += counts[value]
            if seen >= share * total:
                return value / 1e3
    p999 = at(0.999)
    quiet = quiet or p999
    slow = [row["second"] for row in run["by_second"] if row["p99_us"] / 1e3 > 2 * quiet]
    failed = sum(run["errors"].values())
    print(f"| {name} | {at(.5):.1f} | {at(.99):.1f} | {p999:.1f} | {at(1):.0f} | {p999 / quiet:.2f} | {failed} | {slow or 'none'} |")
PYTHON
