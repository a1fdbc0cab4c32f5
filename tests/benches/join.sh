#!/usr/bin/env bash
# What a join costs: a fourth node gets its share of PARTITIONS empty partitions. Prints the seconds
# until every move is made, and the bytes that each node wrote meanwhile.
#   STATOR=target/debug/stator PARTITIONS=65536 PORT=7600 tests/benches/join.sh
set -euo pipefail
stator=${STATOR:-target/debug/stator} partitions=${PARTITIONS:-4096} port=${PORT:-7600}
limit=${LIMIT_S:-600}
home=$(mktemp -d) pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$home"' EXIT

admin() { echo "127.0.0.1:$((port + 10 * $1 + 1))"; }
peer() { echo "127.0.0.1:$((port + 10 * $1 + 2))"; }
start() {
    "$stator" serve --data-dir "$home/n$1" --bootstrap wait --admin-listen "$(admin "$1")" \
        --client-listen "127.0.0.1:$((port + 10 * $1))" --peer-listen "$(peer "$1")" \
        >"$home/n$1.out" 2>"$home/n$1.err" &
    pids+=($!)
    until grep -q 'is ready' "$home/n$1.out"; do sleep 0.1; done
}
written() { awk '/^write_bytes/ { print $2 }' "/proc/$1/io"; }
# Who makes a move says so.
left() { echo $((partitions * 3 / 4 - $(cat "$home"/*.err | grep -c 'is handed over' || true))); }
seconds() { echo "$(($(date +%s) - began))"; }

for node in 1 2 3 4; do start $node; done
"$stator" cluster init --nodes "$(admin 1),$(admin 2),$(admin 3)" --partitions "$partitions" >/dev/null
"$stator" --admin "$(admin 1)" cluster join "$(peer 4)" >/dev/null
before=()
for pid in "${pids[@]}"; do before+=("$(written "$pid")"); done
began=$(date +%s)
"$stator" --admin "$(admin 1)" cluster commit >/dev/null
rest=$(left)
while [ "$rest" -gt 0 ] && [ "$(seconds)" -lt "$limit" ]; do
    sleep 1
    rest=$(left)
done
echo "$partitions partitions: $rest moves are left after $(seconds) s"
for n in "${!pids[@]}"; do
    echo "node $((n + 1)) wrote $((($(written "${pids[$n]}") - before[n]) / 1000)) kB"
done
