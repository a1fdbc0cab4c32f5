//! Every metric of a node. `docs/metrics.md` explains each; a test compares the two.

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from 0 at the node's start.
    Counter,
    /// What is now.
    Gauge,
    /// Quantiles of what was seen lately, with the sum and count of all.
    Summary,
    /// How much of what was seen is below each of some bounds: it adds up over nodes.
    Histogram,
}

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name; the unit is part of it.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What tells its series apart.
    pub labels: &'static [&'static str],
    /// What it says, in a line.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Metric =
                Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )*
        /// All metrics, by subject.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    NODE = Gauge "stator_node_info" ["node", "version", "engine"]
        "Always 1; the labels say which node this is and what it runs";
    UPTIME = Gauge "stator_uptime_seconds" []
        "Seconds since the node started";
    RESIDENT = Gauge "stator_process_resident_bytes" []
        "Memory of the process that is in RAM";
    CPU = Gauge "stator_process_cpu_seconds" []
        "Processor time of the process since its start, user and system";
    FILES = Gauge "stator_process_open_files" []
        "Open file descriptors of the process, connections included";
    LOG_LINES_DROPPED = Counter "stator_log_lines_dropped_total" []
        "Lines of the log that were dropped because nobody read them";

    TRACE_SPANS = Counter "stator_trace_spans_total" ["outcome"]
        "Spans of traces that the collector took (sent), or that there was no room for or it did not take (lost)";

    REQUESTS = Counter "stator_requests_total" ["method", "code"]
        "Requests answered, by gRPC method and status code";
    REQUEST_SECONDS = Summary "stator_request_seconds" ["method"]
        "Time from a request's first byte to its answer";
    KEYSPACE_SECONDS = Histogram "stator_keyspace_request_seconds" ["keyspace", "operation"]
        "Time of gets, puts and deletes of a keyspace, from their arrival to their answer";
    CONVERGENCE_SECONDS = Histogram "stator_convergence_seconds" ["keyspace"]
        "Time from a put's start until every owner has acknowledged it; without those that got it later";
    STALENESS_SECONDS = Histogram "stator_staleness_seconds" ["keyspace"]
        "How old the newest version was that an owner lacked, when a repair brought it";
    REQUESTS_RUNNING = Gauge "stator_requests_running" []
        "Requests of clients and operators under way";
    PAUSES = Counter "stator_pauses_total" []
        "Times that the process was stopped for a second or more, so that its connections ended";
    EVENTS_WAITING = Gauge "stator_protocol_events_waiting" []
        "Events that wait for the protocol's loop";

    SIBLINGS = Summary "stator_get_siblings" ["keyspace"]
        "Versions that differ, per get: 0 is an absent key, 2 or more a divergence";
    GETS = Counter "stator_gets_total" ["keyspace", "versions"]
        "Gets, by how many versions that differ they met: 0, 1, 2, 3, 4, 5+";
    MERGES = Counter "stator_merges_total" ["keyspace", "outcome"]
        "Divergences put to a module, by outcome: value, delete, kept, in-place, failed";
    CONFLICTS = Counter "stator_conflicts_total" ["keyspace", "cause"]
        "Distinct merges in the conflict feed, by cause: read, fold, trial, retry";
    KEYSPACE_FUEL = Counter "stator_keyspace_fuel_total" ["keyspace"]
        "Fuel that merges of a keyspace used";
    KEYSPACE_MERGE_MEMORY = Summary "stator_keyspace_merge_memory_bytes" ["keyspace"]
        "Memory that a merge of a keyspace had";
    MERGES_OVER_BUDGET = Counter "stator_merges_over_budget_total" ["keyspace"]
        "Merges put off because the keyspace's budget was used up";
    DEAD_LETTERS = Gauge "stator_dead_letters" []
        "Keys that this node could not merge yet";
    MODULES_PAUSED = Gauge "stator_modules_paused" []
        "Modules that rest in a keyspace, for they failed too often in a row";
    MERGE_SECONDS = Summary "stator_merge_seconds" []
        "Time of a module's call, without the wait for its turn";
    MERGE_FUEL = Summary "stator_merge_fuel" []
        "Fuel that a module's call used";
    MERGES_TURNED_AWAY = Counter "stator_merges_turned_away_total" []
        "Merges refused because too many waited; their readers got siblings";
    MEMO_HITS = Counter "stator_merge_memo_hits_total" []
        "Merges answered from memory, without a call";
    MEMO_BYTES = Gauge "stator_merge_memo_bytes" []
        "Memory that remembered merges take";
    MODULES = Gauge "stator_modules_loaded" []
        "Merge modules ready to be called";
    COMPILATIONS = Counter "stator_module_compilations_total" []
        "Modules compiled in a child process; the rest came from the cache";

    HINTS_HELD = Gauge "stator_hints_held" ["target"]
        "Writes kept here for a node that did not take them";
    HINTS_BYTES = Gauge "stator_hints_bytes" []
        "What all hints take";
    HINTS_BYTES_MAX = Gauge "stator_hints_bytes_max" []
        "The budget for that; a put whose hint does not fit is refused";
    HINTS_STORED = Counter "stator_hints_stored_total" ["keyspace"]
        "Hints taken in";
    HINTS_DELIVERED = Counter "stator_hints_delivered_total" ["keyspace"]
        "Hints that their target has synced";
    HINTS_LOST = Counter "stator_hints_lost_total" ["keyspace"]
        "Writes that should have become a hint and did not; a read or repair must bring them";
    HINTS_REFUSED = Counter "stator_hints_refused_total" []
        "Hints refused because hints take all the room they may";
    HINTS_OLDEST = Gauge "stator_hints_oldest_seconds" ["target"]
        "How long the oldest hint for a node has waited";
    FOLDS = Counter "stator_folds_total" ["keyspace"]
        "Times that this node replaced siblings by what a module made of them";
    FOLD_FAILURES = Counter "stator_fold_failures_total" ["keyspace"]
        "Times that a module gave nothing for that; the siblings stay";
    READ_REPAIRS = Counter "stator_read_repairs_total" ["target"]
        "Stale copies that were sent what they lacked after a get";

    COLLECTED = Counter "stator_collected_objects_total" []
        "Deleted objects that left the store, and objects that lost dead actors";
    COLLECT_GIVEN_UP = Counter "stator_collect_rounds_given_up_total" []
        "Rounds of collection that this node led and gave up; the next ones do their work";
    EXCHANGES = Counter "stator_exchanges_total" ["outcome"]
        "Comparisons of a partition with another owner, by outcome: equal, different, skipped, failed";
    EXCHANGE_KEYS_COMPARED = Counter "stator_exchange_keys_compared_total" []
        "Keys whose hashes such a comparison compared; none where the hash trees are equal";
    EXCHANGE_KEYS_REPAIRED = Counter "stator_exchange_keys_repaired_total" []
        "Keys that differed between two owners and do not any more";
    TREES_READY = Gauge "stator_hash_trees_ready" []
        "1 if all hash trees say what the store holds, 0 while they are being rebuilt";
    TREE_BUCKETS = Gauge "stator_hash_tree_buckets" []
        "Buckets of hash trees in memory, about 40 bytes each";

    MOVES = Counter "stator_partitions_moved_total" []
        "Moves of partitions that this node made: it handed one over, or took one from nobody";
    PARTITIONS_DROPPED = Counter "stator_partitions_dropped_total" []
        "Partitions of other owners that were dropped here once every owner had them";
    TRANSFERS = Gauge "stator_transfers" []
        "Partitions that this node is taking over, or giving away, at present";
    SLOTS_PENDING = Gauge "stator_slots_pending" []
        "Ownerships in the whole ring that are still to be handed over";

    BACKGROUND_SLICES = Gauge "stator_background_slices" []
        "Slices of 64 that background work has; fewer while the store is slow for clients";

    MEMBERS = Gauge "stator_members" ["reachability"]
        "Members of the cluster as this node sees them: reachable or unreachable";

    STORE_OBJECTS = Gauge "stator_store_objects" ["store"]
        "Keys in a store";
    KEYSPACE_KEYS = Gauge "stator_keyspace_keys" ["keyspace"]
        "Keys with a value in this node's data store";
    KEYSPACE_BYTES = Gauge "stator_keyspace_bytes" ["keyspace"]
        "Bytes of keys and objects in this node's data store";
    QUOTA = Gauge "stator_keyspace_quota" ["keyspace", "quota"]
        "What a keyspace may hold (keys, bytes) or be asked in a second (requests); 0 for as much as there is";
    QUOTA_USED = Gauge "stator_keyspace_quota_used" ["keyspace", "quota"]
        "What quotas are held against: keys and bytes of one copy, in the whole cluster as far as this node has heard";
    QUOTA_REFUSALS = Counter "stator_quota_refusals_total" ["keyspace", "quota"]
        "Puts and requests that this node refused because of a quota";
    RESIZE_WAITING = Gauge "stator_keyspace_resize_waiting" ["keyspace"]
        "Members for which a change of n waits; 0 without one";
    RESIZE_LEFT = Gauge "stator_keyspace_resize_partitions_left" ["keyspace"]
        "Partitions that this node has still to copy for a change of n";
    STORE_SERVING = Gauge "stator_store_serving" ["store"]
        "1 if the store takes writes, 0 if it is out of service";
    STORE_COMMITS = Counter "stator_store_commits_total" ["store"]
        "Groups of writes applied";
    STORE_SYNCS = Counter "stator_store_syncs_total" ["store"]
        "Syncs to disk; commits per sync tell how well writes share them";
    STORE_SYNC_SECONDS = Summary "stator_store_sync_seconds" ["store"]
        "Time of a sync to disk";
    STORE_GROUP_JOBS = Summary "stator_store_group_jobs" ["store"]
        "Jobs that were committed together";
    STORE_JOBS_WAITING = Gauge "stator_store_jobs_waiting" ["store"]
        "Writes that wait for the store's committer; for `reads`, reads of both stores";
    STORE_DAMAGED = Counter "stator_store_damaged_records_total" ["store"]
        "Records found unreadable; each counts as missing until peers repair it";
}
