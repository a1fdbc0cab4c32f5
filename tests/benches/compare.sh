#!/usr/bin/env bash
# Stator beside etcd, Redis and a gRPC server that stores nothing, in one run, by the same loop:
# gets and durable puts of 1 KiB values, 64 at a time. What each promises with an answer, and what
# is left out, stands in docs/performance.md. Rounds of all alternate, so that a slow minute hurts
# all alike; the median counts.
#   tests/benches/compare.sh target/debug/stator
# ROUNDS, SECONDS_EACH, KEYS, CONNECTIONS and CONCURRENCY change what is measured.
set -euo pipefail
stator=$1
rounds=${ROUNDS:-3}
seconds=${SECONDS_EACH:-5}
keys=${KEYS:-10000}
concurrency=${CONCURRENCY:-64}
# As many as there are operations at a time: WAIT holds up a whole connection of Redis.
connections=${CONNECTIONS:-$concurrency}

missing=()
command -v etcd >/dev/null || missing+=(etcd-server)
command -v redis-server >/dev/null || missing+=(redis-server)
if [ ${#missing[@]} -gt 0 ]; then
    echo "to compare with others they must be installed: apt-get install ${missing[*]}" >&2
    exit 1
fi

# Beside the program: folders of temporary files are often in memory, where a sync costs nothing.
folder=$(mktemp -d "$(dirname "$stator")/compare.XXXXXX")
data=$folder/data
mkdir "$data"
pids=()
stop() {
    [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait ${pids[@]+"${pids[@]}"} 2>/dev/null || true
    pids=()
    # Full disks help nobody.
    rm -rf "$data"
    mkdir "$data"
}
trap 'trap "" INT TERM HUP; stop; rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM HUP

# Sets `port` to a free one that was not given before, below those that the system gives by itself.
given=' '
free_port() {
    while port=$((RANDOM % 12000 + 20000)); do
        case $given in *" $port "*) continue ;; esac
        if ! (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            given+="$port "
            return
        fi
    done
}

run() { # NAME COMMAND...
    "${@:2}" >"$data/$1.log" 2>&1 &
    pids+=($!)
}

bench() {
    "$stator" bench --distribution uniform --keys "$keys" --concurrency "$concurrency" \
        --connections "$connections" --output json "$@"
}

until_ready() { # options of the bench
    for _ in $(seq 100); do
        if "$stator" bench --workload load --operations 1 --warm-up 0 --connections 3 --timeout 2s \
            "$@" >/dev/null 2>"$data/ready.log"; then
            return
        fi
        sleep 0.2
    done
    tail -n 5 "$data"/*.log >&2
    echo "the servers were not ready in time: bench $*" >&2
    exit 1
}

results=()
measure() { # NAME WORKLOADS options of the bench
    echo "round $round of $rounds: measuring $1" >&2
    local result=$folder/round-$round/$1.json
    results+=("$result")
    bench --workload "$2" --warm-up 1s --duration "${seconds}s" "${@:3}" \
        >"$result" 2>"$data/bench.log" || { cat "$data/bench.log" >&2; exit 1; }
}
servers() { local IFS=,; echo "${pids[*]}"; }

start_etcd() {
    local node clients=() peers=() cluster=()
    for node in 1 2 3; do
        free_port; clients+=("127.0.0.1:$port")
        free_port; peers+=("http://127.0.0.1:$port")
        cluster+=("$node=http://127.0.0.1:$port")
    done
    endpoints=$(IFS=,; echo "${clients[*]}")
    for node in 1 2 3; do
        run "etcd-$node" etcd --name $node --data-dir "$data/etcd-$node" --logger zap --log-level error \
            --listen-client-urls "http://${clients[node - 1]}" \
            --advertise-client-urls "http://${clients[node - 1]}" \
            --listen-peer-urls "${peers[node - 1]}" \
            --initial-advertise-peer-urls "${peers[node - 1]}" \
            --initial-cluster "$(IFS=,; echo "${cluster[*]}")" --initial-cluster-state new
    done
    until_ready --against etcd --endpoints "$endpoints"
}

start_redis() {
    local settings=(--bind 127.0.0.1 --save '' --appendonly yes --appendfsync always)
    mkdir "$data/redis-1" "$data/redis-2"
    free_port
    endpoints=127.0.0.1:$port
    run redis-1 redis-server --port "$port" --dir "$data/redis-1" "${settings[@]}"
    until_ready --against redis --endpoints "$endpoints"
    local primary=$port
    free_port
    run redis-2 redis-server --port "$port" --dir "$data/redis-2" "${settings[@]}" \
        --replicaof 127.0.0.1 "$primary"
    until_ready --against redis --endpoints "$endpoints" --wait-replicas 1
}

for round in $(seq "$rounds"); do
    mkdir "$folder/round-$round"
    start_etcd
    measure etcd c,load --against etcd --endpoints "$endpoints" --server-pid "$(servers)"
    measure etcd-serializable c --against etcd --endpoints "$endpoints" --server-pid "$(servers)" \
        --serializable --no-load
    stop

    start_redis
    measure redis-always-wait-1 c,load --against redis --endpoints "$endpoints" \
        --server-pid "$(servers)" --wait-replicas 1
    stop

    run echo "$stator" bench echo
    until grep -q : "$data/echo.log"; do kill -0 "${pids[0]}" || exit 1; sleep 0.1; done
    measure grpc-limit c,load --endpoints "$(cat "$data/echo.log")" --server-pid "$(servers)"
    stop

    for engine in sled fjall; do
        measure "stator-$engine-r2-w2" c,load --local 3 --dir "$data" --engine $engine \
            -r 2 -w 2 --durability all
        measure "stator-$engine-r1" c --local 3 --dir "$data" --engine $engine -r 1
    done
done

"$stator" bench compare --rows "${results[@]}"
echo "c: gets of $keys keys, uniform; load: durable puts of new keys; $concurrency at a time over" \
    "$connections connections, $seconds s each, median of $rounds rounds; ratios to etcd"
echo "$(date -u +%F), $(nproc) cores, $(uname -m), load average $(cut -d' ' -f1-3 /proc/loadavg)," \
    "$(etcd --version | head -1), Redis $(redis-server --version | sed 's/.*v=\([^ ]*\).*/\1/')"
