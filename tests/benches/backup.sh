#!/usr/bin/env bash
# What a backup costs while clients write, and whether all of it comes back: three nodes are loaded, the
# keys of one prefix are deleted, a backup is taken under writes and another one when they have ended; then
# the cluster is wiped, and the backups are restored into five nodes. Two things are checked:
#   - of the backup without writes: what both clusters export is the same bytes, and no deleted key is back;
#   - of the one under writes: by a log of each acknowledged put, nothing that was acknowledged before it began
#     is missing. Each key has what its last such put wrote, or what a later put of it did.
# Loads and writes are those of tests/examples/acknowledged.rs, which `cargo build --all-targets` builds.
#   STATOR=target/release/stator KEYS=1000000 SECONDS_EACH=60 tests/benches/backup.sh
set -euo pipefail
stator=${STATOR:-target/debug/stator} port=${PORT:-7900} keys=${KEYS:-1000000} seconds=${SECONDS_EACH:-60}
home=$(mktemp -d "$(dirname "$stator")/backup.XXXXXX")
source "$(dirname "$0")/support/nodes.sh"
trap clean_up EXIT
# The nodes share the cores of this machine.
export TOKIO_WORKER_THREADS=1
deleted=10000

writers() { # load, or paced RATE SECONDS
    "${stator%/*}/examples/acknowledged" "$home/log" "$(endpoints 1 2 3)" data "$keys" "$@"
}
figure() { python3 -c "import json, sys; print(json.load(open('$home/$1.out'))['$2'])"; }
ask() { "$stator" --admin "$(admin 1)" --endpoint "http://$(client 1)" "$@"; }
timed() { # NAME COMMAND...
    local begun=$EPOCHREALTIME
    "${@:2}" >"$home/$1.out" 2>"$home/$1.err" || { cat "$home/$1.err" >&2; exit 1; }
    python3 -c "print(f'{\"$1\":<24} {$EPOCHREALTIME - $begun:8.1f} s   ' + open('$home/$1.out').readline().strip()[:100])"
}
exported() { # KEYSPACE FILE: in order, since two rings have different partitions
    ask kv export -k "$1" --to "$2.unsorted" >/dev/null 2>&1
    LC_ALL=C sort "$2.unsorted" >"$2"
    rm "$2.unsorted"
}

for node in 1 2 3; do start $node; done
found 1 2 3
ask keyspace create data --reconcile last-write-wins >/dev/null
seq "$deleted" | sed 's/.*/{"key":"gone-&","value":{"any":"value"}}/' >"$home/gone.jsonl"
timed "import of $deleted" ask kv import "$home/gone.jsonl" -k data
timed "deletion of them" ask kv delete-many -k data --prefix gone-
timed "load of $keys" writers load
writers paced 0 8 >"$home/most.out"
rate=$(figure most per_second | cut -d. -f1)
rate=$((rate / 2))
writers paced "$rate" "$seconds" >"$home/quiet.out"
writers paced "$rate" "$seconds" >"$home/backup.out" &
writing=$!
sleep 2 # so that it is under way
begun=${EPOCHREALTIME/[.,]/}
timed "backup under load" ask backup create "$home/backups" -k data --id loaded
wait "$writing"
timed "backup of the changes" ask backup create "$home/backups" -k data --id quiet
timed "verify" ask backup verify "$home/backups" quiet
exported data "$home/before"

pkill -9 -f -- "--data-dir $home/"
wait 2>/dev/null
rm -rf "$home"/n[0-9]*
for node in 1 2 3 4 5; do start $node; done
found 1 2 3 4 5
timed "restore into five" ask backup restore "$home/backups" quiet
exported data "$home/after"
cmp "$home/before" "$home/after" || { echo "what came back differs" >&2; exit 1; }
! grep -qm1 '"key":"gone-' "$home/after" || { echo "a deleted key came back" >&2; exit 1; }
echo "$(wc -l <"$home/after") keys, exported before and after as equal bytes; none of those deleted"
timed "restore of the other" ask backup restore "$home/backups" loaded --keyspace data --as loaded
exported loaded "$home/loaded"
python3 - "$home" "$begun" <<'PYTHON'
import json, sys
home, backup_began = sys.argv[1], int(sys.argv[2])
told, last, counted = {}, {}, 0  # beginnings by key: of all puts; of the last acknowledged before the backup
for line in open(f"{home}/log"):
    key, begun, acknowledged = line.split()
    told.setdefault(key, set()).add(int(begun))
    if acknowledged != "-" and int(acknowledged) < backup_began:
        last[key] = max(last.get(key, 0), int(begun))
        counted += 1
wrong, later = [], 0
for line in open(f"{home}/loaded"):
    found = json.loads(line)
    key = found["key"]
    [value] = [version["value"] for version in found["values"]]
    begun = int(value.split()[1])
    if value != (f"{key} {begun} " * 20)[:256] or begun not in told.get(key, ()):
        wrong.append(f"{key} has what nobody wrote: {value}")
    if begun < last.pop(key, 0):
        wrong.append(f"{key} has an older value than was acknowledged before the backup began")
    later += begun > backup_began
wrong += [f"{key} is missing" for key in last]
if wrong:
    sys.exit(f"{len(wrong)} keys are wrong, such as: " + "; ".join(wrong[:5]))
print(f"{counted} puts were acknowledged before the backup under load began: they are in it, or what replaced "
      f"them; {later} keys have a put of its time")
PYTHON
python3 - "$home" "$rate" <<'PYTHON'
import json, sys
home, rate = sys.argv[1:]
print(f"\n{rate} requests a second, half of what the nodes take")
print(f"{'':<10}{'kind':<10}{'p50 ms':>9}{'p99 ms':>9}{'p99.9 ms':>9}")
for run in ["quiet", "backup"]:
    result = json.load(open(f"{home}/{run}.out"))
    for kind, latency in result["latency"].items():
        figures = [f"{latency[name] / 1e3:9.1f}" for name in ["p50_us", "p99_us", "p999_us"]]
        print(f"{run:<10}{kind:<10}" + "".join(figures))
    print(f"{run:<10}errors    {result['errors']:9}")
PYTHON
