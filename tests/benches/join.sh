#!/usr/bin/env bash
# What a join costs: a fourth node gets its share of PARTITIONS empty partitions. Prints the seconds
# until every move is made, and the bytes that each node wrote meanwhile.
#   STATOR=target/debug/stator PARTITIONS=65536 PORT=7600 tests/benches/join.sh
set -euo pipefail
stator=${STATOR:-target/debug/stator} partitions=${PARTITIONS:-4096} port=${PORT:-7600}
limit=${LIMIT_S:-600}
home=$(mktemp -d)
source "$(dirname "$0")/support/nodes.sh"
trap clean_up EXIT

written() { awk '/^write_bytes/ { print $2 }' "/proc/$1/io"; }
# Who makes a move says so.
left() { echo $((partitions * 3 / 4 - $(cat "$home"/*.err | grep -c 'is handed over' || true))); }
seconds() { echo "$(($(date +%s) - began))"; }

for node in 1 2 3 4; do start $node; done
"$stator" cluster init --nodes "$(admin 1),$(admin 2),$(admin 3)" --partitions "$partitions" >/dev/null
"$stator" --admin "$(admin 1)" cluster join "$(peer 4)" >/dev/null
for n in "${!pids[@]}"; do before[n]=$(written "${pids[$n]}"); done
began=$(date +%s)
"$stator" --admin "$(admin 1)" cluster commit >/dev/null
rest=$(left)
while [ "$rest" -gt 0 ] && [ "$(seconds)" -lt "$limit" ]; do
    sleep 1
    rest=$(left)
done
echo "$partitions partitions: $rest moves are left after $(seconds) s"
for n in "${!pids[@]}"; do
    echo "node $n wrote $((($(written "${pids[$n]}") - before[n]) / 1000)) kB"
done
