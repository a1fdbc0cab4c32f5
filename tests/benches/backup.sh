#!/usr/bin/env bash
# What a backup costs while clients write, and whether all of it comes back: three nodes are loaded, a
# tenth of the keys of one prefix is deleted, a backup is taken under writes and another one when they
# have ended; then the cluster is wiped, and the backup restored into five nodes. What both clusters
# export must be the same bytes.
#   STATOR=target/release/stator KEYS=1000000 tests/benches/backup.sh
set -euo pipefail
stator=${STATOR:-target/debug/stator} port=${PORT:-7900} keys=${KEYS:-1000000} seconds=${SECONDS_EACH:-40}
home=$(mktemp -d "$(dirname "$stator")/backup.XXXXXX")
source "$(dirname "$0")/support/nodes.sh"
trap clean_up EXIT
# The nodes share the cores of this machine.
export TOKIO_WORKER_THREADS=1
# As many deleted as there are of these, and never written again: the bench's keys have other names.
deleted=10000

bench() {
    "$stator" bench --keyspace data --endpoints "$(endpoints 1 2 3)" --blind --keys "$keys" --workload a \
        --distribution uniform --value-bytes 256 --connections 12 --output json "$@"
}
ask() { "$stator" --admin "$(admin 1)" --endpoint "http://$(client 1)" "$@"; }
timed() { # NAME COMMAND...
    local begun=$EPOCHREALTIME
    "${@:2}" >"$home/$1.out" 2>"$home/$1.err" || { cat "$home/$1.err" >&2; exit 1; }
    python3 -c "print(f'{\"$1\":<24} {$EPOCHREALTIME - $begun:8.1f} s   ' + open('$home/$1.out').readline().strip()[:100])"
}
exported() { # FILE: in order, since two rings have different partitions
    ask kv export -k data -o "$1.unsorted" >/dev/null 2>&1
    LC_ALL=C sort "$1.unsorted" >"$1"
    rm "$1.unsorted"
}

for node in 1 2 3; do start $node; done
found 1 2 3
ask keyspace create data --reconcile last-write-wins >/dev/null
seq "$deleted" | sed 's/.*/{"key":"gone-&","value":{"any":"value"}}/' >"$home/gone.jsonl"
timed "import of $deleted" ask kv import "$home/gone.jsonl" -k data
timed "deletion of them" ask kv delete-many -k data --prefix gone-
load() { bench --warm-up 0 --operations 1 >/dev/null; }
timed "load of $keys" load
rate=$(bench --no-load --warm-up 2s --duration 8s 2>/dev/null |
    python3 -c "import json, sys; print(int(json.load(sys.stdin)['results'][0]['per_second'] / 2))")
paced() { bench --no-load --warm-up 1s --rate "$rate" --duration "${seconds}s" --concurrency 2000 >"$home/$1.json" 2>"$home/bench.err"; }
paced quiet
timed "backup under load" ask backup create "$home/backups" -k data --id loaded &
backup=$!
paced backup
wait "$backup"
timed "backup of the changes" ask backup create "$home/backups" -k data --id quiet
timed "verify" ask backup verify "$home/backups" quiet
exported "$home/before"

pkill -9 -f -- "--data-dir $home/"
wait 2>/dev/null
rm -rf "$home"/n[0-9]*
for node in 1 2 3 4 5; do start $node; done
found 1 2 3 4 5
timed "restore into five" ask backup restore "$home/backups" quiet
exported "$home/after"
cmp "$home/before" "$home/after" || { echo "what came back differs" >&2; exit 1; }
! grep -qm1 '"key":"gone-' "$home/after" || { echo "a deleted key came back" >&2; exit 1; }
echo "$(wc -l <"$home/after") keys, exported before and after as equal bytes; none of those deleted"
python3 - "$home" "$rate" <<'PYTHON'
import json, sys
home, rate = sys.argv[1:]
print(f"\n{rate} requests a second, half of what the nodes take")
print(f"{'':<10}{'kind':<10}{'p50 ms':>9}{'p99 ms':>9}{'p99.9 ms':>9}")
for run in ["quiet", "backup"]:
    result = json.load(open(f"{home}/{run}.json"))["results"][0]
    for kind, latency in result["latency"].items():
        figures = [f"{latency[name] / 1e3:9.1f}" for name in ["p50_us", "p99_us", "p999_us"]]
        print(f"{run:<10}{kind:<10}" + "".join(figures))
    print(f"{run:<10}errors    {sum(result['errors'].values()):9}")
PYTHON
