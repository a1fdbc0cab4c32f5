# Nodes for the benches that are scripts: sourced, with $stator, $home and $port set.
# Node N listens on $port + 10 N for clients, one more for operators, two more for peers.
pids=()
client() { echo "127.0.0.1:$((port + 10 * $1))"; }
admin() { echo "127.0.0.1:$((port + 10 * $1 + 1))"; }
peer() { echo "127.0.0.1:$((port + 10 * $1 + 2))"; }

start() { # NODE; flags of `stator serve` in FLAGS
    # What an earlier start of it said must not count.
    : >"$home/n$1.out"
    "$stator" serve --data-dir "$home/n$1" --bootstrap wait --admin-listen "$(admin "$1")" \
        --client-listen "$(client "$1")" --peer-listen "$(peer "$1")" ${FLAGS:-} \
        >"$home/n$1.out" 2>>"$home/n$1.err" &
    pids[$1]=$!
    until grep -q 'is ready' "$home/n$1.out"; do
        kill -0 "${pids[$1]}" || { tail -n 5 "$home/n$1.err" >&2; exit 1; }
        sleep 0.02
    done
}

found() { # NODES...: makes them one cluster
    local list=()
    for node in "$@"; do list+=("$(admin "$node")"); done
    "$stator" cluster init --nodes "$(IFS=,; echo "${list[*]}")" >/dev/null
}

endpoints() { # NODES...
    local list=()
    for node in "$@"; do list+=("$(client "$node")"); done
    (IFS=,; echo "${list[*]}")
}

clean_up() {
    # By their folder: one may have been started by a shell that is gone.
    pkill -9 -f -- "--data-dir $home/" || true
    wait 2>/dev/null || true
    rm -rf "$home"
}
