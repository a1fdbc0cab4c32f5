#!/usr/bin/env bash
# What grows with the number of keys: one node (n=1) is filled with KEYS keys of 100 bytes; then its
# memory, the time until it serves again after a clean stop and after a kill, and the latency of gets.
#   STATOR=target/release/stator tests/benches/growth.sh 100000 10000000
set -euo pipefail
stator=${STATOR:-target/debug/stator} port=${PORT:-7600}
source "$(dirname "$0")/support/nodes.sh"
home=/nonexistent
trap clean_up EXIT

bench() {
    "$stator" bench --keyspace growth --endpoints "$(client 1)" --blind --value-bytes 100 \
        --distribution uniform --connections 64 --output json "$@" 2>/dev/null
}
of() { python3 -c "
import json, sys
run = json.load(sys.stdin)['results'][0]
kind = next(iter(run['latency'].values()))
print(f\"{run['per_second']:.0f}/s, p50 {kind['p50_us']/1e3:.2f}, p99 {kind['p99_us']/1e3:.2f} ms\")"; }
memory() { awk '/^VmRSS/ { print int($2 / 1024) " MiB" }' "/proc/${pids[1]}/status"; }
ms() { echo "$((($(date +%s%N) - began) / 1000000)) ms"; }
again() { # SIGNAL
    kill "-$1" "${pids[1]}"
    began=$(date +%s%N)
    wait "${pids[1]}" 2>/dev/null || true
    stopped=$(ms)
    began=$(date +%s%N)
    start 1
    started=$(ms)
}

echo "| keys | filled at | gets | memory | on disk | stop | start after it | start after a kill | memory then |"
echo "|---|---|---|---|---|---|---|---|---|"
for keys in "$@"; do
    home=$(mktemp -d "$(dirname "$stator")/growth.XXXXXX")
    start 1
    found 1
    "$stator" --admin "$(admin 1)" keyspace create growth --reconcile last-write-wins -n 1 -r 1 -w 1 >/dev/null
    until bench --workload load --operations 64 --warm-up 0 >/dev/null; do sleep 0.2; done
    filled=$(bench --workload load --operations "$keys" --warm-up 0 | of)
    gets=$(bench --workload c --keys "$keys" --no-load | of)
    before=$(memory) disk=$(du -sm "$home/n1" | cut -f1)
    again TERM
    stop=$stopped clean=$started
    bench --workload load --operations 1000 --warm-up 0 >/dev/null
    again KILL
    echo "| $keys | $filled | $gets | $before | $disk MiB | $stop | $clean | $started | $(memory) |"
    clean_up
done
home=/nonexistent
