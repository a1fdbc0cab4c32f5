#!/usr/bin/env bash
# What grows, and how: with keys, nodes and keyspaces.
#   STATOR=target/release/stator tests/benches/growth.sh keys 100000 10000000
#   STATOR=target/release/stator tests/benches/growth.sh nodes 3 5 8
#   STATOR=target/release/stator tests/benches/growth.sh keyspaces 1 100 1000
#
# keys: one node (n=1) is filled with so many keys of 100 bytes. Its memory, the time until it serves
# again after a clean stop and after a kill, and the latency of gets.
# nodes: so many nodes, n=3, r=2, w=2, all on this machine: new keys of 1 KiB, and gets.
# keyspaces: three nodes with so many keyspaces that nobody uses, and one that is: what the nodes do at
# rest, the time of a start, and the same load in the one that is used.
set -euo pipefail
stator=${STATOR:-target/debug/stator} port=${PORT:-7600} engine=${ENGINE:-sled} seconds=${SECONDS_EACH:-8}
export STATOR_ENGINE=$engine
source "$(dirname "$0")/support/nodes.sh"
home=/nonexistent
trap clean_up EXIT

fresh_home() { home=$(mktemp -d "$(dirname "$stator")/growth.XXXXXX"); }
bench() { "$stator" bench --connections 64 --output json "$@" 2>/dev/null; }
of() { python3 -c "
import json, sys
for run in json.load(sys.stdin)['results']:
    kind = next(iter(run['latency'].values()))
    took = f\", {run['server_us']:.0f} µs of servers\" if run.get('server_us') else ''
    print(f\"{run['per_second']:.0f}/s, p50 {kind['p50_us']/1e3:.2f}, p99 {kind['p99_us']/1e3:.2f} ms{took}\", end=' | ')
" | sed 's/ | $//'; }
memory() { awk '/^VmRSS/ { print int($2 / 1024) " MiB" }' "/proc/${pids[1]}/status"; }
ms() { echo "$((($(date +%s%N) - began) / 1000000)) ms"; }
again() { # SIGNAL: the first node stops and starts
    began=$(date +%s%N)
    kill "-$1" "${pids[1]}"
    wait "${pids[1]}" 2>/dev/null || true
    stopped=$(ms)
    began=$(date +%s%N)
    start 1
    started=$(ms)
}

keys() {
    echo "| keys | filled at | gets | memory | on disk | stop | start after it | start after a kill | memory then |"
    echo "|---|---|---|---|---|---|---|---|---|"
    for keys in "$@"; do
        local on=(--keyspace growth --endpoints "$(client 1)" --blind --value-bytes 100 --distribution uniform)
        fresh_home
        start 1
        found 1
        "$stator" --admin "$(admin 1)" keyspace create growth --reconcile last-write-wins -n 1 -r 1 -w 1 >/dev/null
        until bench "${on[@]}" --workload load --operations 64 --warm-up 0 >/dev/null; do sleep 0.2; done
        filled=$(bench "${on[@]}" --workload load --operations "$keys" --warm-up 0 | of)
        gets=$(bench "${on[@]}" --workload c --keys "$keys" --no-load --duration "${seconds}s" | of)
        before=$(memory) disk=$(du -sm "$home/n1" | cut -f1)
        again TERM
        stop=$stopped clean=$started
        bench "${on[@]}" --workload load --operations 1000 --warm-up 0 >/dev/null
        again KILL
        echo "| $keys | $filled | $gets | $before | $disk MiB | $stop | $clean | $started | $(memory) |"
        clean_up
    done
}

nodes() {
    echo "| nodes | new keys | gets |"
    echo "|---|---|---|"
    for nodes in "$@"; do
        echo "| $nodes | $(bench --local "$nodes" --engine "$engine" --workload load,c --distribution uniform \
            --duration "${seconds}s" | of) |"
    done
}

at_rest() { # Processor time that the first node takes in ten seconds of rest, in milliseconds a second.
    local ticks='{ print $14 + $15 }'
    local before after
    before=$(awk "$ticks" "/proc/${pids[1]}/stat")
    sleep 10
    after=$(awk "$ticks" "/proc/${pids[1]}/stat")
    echo "$(((after - before) * 1000 / $(getconf CLK_TCK) / 10)) ms/s"
}

keyspaces() {
    echo "| keyspaces | to make them | catalogue | memory of a node | at rest | stop | start after it | new keys | gets |"
    echo "|---|---|---|---|---|---|---|---|---|"
    export TOKIO_WORKER_THREADS=1
    for keyspaces in "$@"; do
        fresh_home
        for node in 1 2 3; do start $node; done
        found 1 2 3
        local operator=("$stator" --admin "$(admin 1)")
        began=$(date +%s%N)
        for number in $(seq "$keyspaces"); do "${operator[@]}" keyspace create "ks-$number" >/dev/null; done
        made=$(ms)
        for node in 1 2 3; do
            until "$stator" --endpoint "http://$(client $node)" kv put -k "ks-$keyspaces" ready yes >/dev/null 2>&1; do sleep 0.2; done
        done
        loads=$(bench --endpoints "$(endpoints 1 2 3)" --keyspace "ks-$keyspaces" --workload load,c --distribution uniform \
            --duration "${seconds}s" | of)
        before=$(memory) rest=$(at_rest)
        again TERM
        echo "| $keyspaces | $made | $(stat -c %s "$home/n1/catalogue") bytes | $before | $rest | $stopped | $started | $loads |"
        clean_up
    done
}

case ${1:-} in
    keys | nodes | keyspaces) "$@" ;;
    *) sed -n '2,5p' "$0" >&2; exit 2 ;;
esac
home=/nonexistent
