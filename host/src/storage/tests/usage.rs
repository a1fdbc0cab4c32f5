//! How much there is of each keyspace: always what a scan says, whatever was done, dropped, damaged or
//! restarted; and what a quota refuses.

use proptest::prelude::*;
use stator_core::catalogue::Quota;
use stator_core::collect::Marked;
use stator_core::id::ClusterId;
use stator_core::quota::Allowance;
use stator_core::tree::object_hash;
use stator_core::usage::Usage;
use stator_core::write::WriteRefused;

use super::super::ScanJob;
use super::damage::{RECORDS, flip};
use super::*;

/// Of one of 24 keys, of 3 keyspaces in 2 partitions.
fn place(number: u8) -> StoreKey {
    StoreKey {
        partition: PartitionId(u16::from(number % 2)),
        keyspace: KeyspaceId(u64::from(number % 3)),
        key: format!("key {}", number % 24).into(),
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A put of so many bytes, or a delete; blind, or of what is there.
    Mint(u8, Option<u16>, bool),
    Forget(u8),
    DropPartition(u16),
    DropKeyspace(u64),
    Flip,
    Stop,
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let mint = (any::<u8>(), prop::option::weighted(0.8, 0u16..3_000), any::<bool>());
    let step = prop_oneof![
        40 => mint.prop_map(|(n, bytes, is_blind)| Step::Mint(n, bytes, is_blind)),
        5 => any::<u8>().prop_map(Step::Forget),
        1 => (0u16..2).prop_map(Step::DropPartition),
        1 => (0u64..3).prop_map(Step::DropKeyspace),
        1 => Just(Step::Flip),
        2 => Just(Step::Stop),
        2 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..60)
}

fn held(stores: &Stores, key: &StoreKey) -> Option<Arc<Siblings>> {
    let (done, reply) = reply();
    stores.load(LoadJob { key: key.clone(), from_hints_too: false, done });
    reply.get().ok().flatten()
}

fn write(stores: &Stores, key: &StoreKey, change: Change) -> Result<WriteDone, StoreError> {
    let (done, reply) = reply();
    stores.write(WriteJob { key: key.clone(), change, ..put_job("", "", false, done) });
    reply.get()
}

fn run(stores: &Stores, rig: &Rig, step: &Step) {
    match step {
        Step::Mint(number, bytes, is_blind) => {
            let key = place(*number);
            let seen = held(stores, &key).filter(|_| !is_blind);
            let context = seen.map(|siblings| Context::of(&siblings)).unwrap_or_default();
            let mut change = mint(context, vec![7; bytes.unwrap_or_default().into()]);
            if let (None, Change::Mint { draft, .. }) = (bytes, &mut change) {
                draft.payload = Payload::Tombstone;
            }
            write(stores, &key, change).unwrap();
        }
        Step::Forget(number) => {
            let key = place(*number);
            let Some(siblings) = held(stores, &key) else { return };
            let (hash, now_ms) = (object_hash(&key, &siblings), u64::MAX);
            let marked = Marked {
                key: key.clone(),
                hash,
                may_be_absent: true,
                must_be_absent: false,
                now_ms,
            };
            // What has a value is not forgotten.
            let _ = write(stores, &key, Change::Collect(marked));
        }
        Step::DropPartition(partition) => {
            let (done, reply) = reply();
            stores.drop_partition(PartitionId(*partition), done);
            reply.get().unwrap();
        }
        Step::DropKeyspace(keyspace) => {
            stores.drop_keyspaces([KeyspaceId(*keyspace)].into());
        }
        Step::Flip if !rig.data.scan(RECORDS, &[RECORDS[0] + 1], 1).unwrap().is_empty() => {
            flip(&rig.data, RECORDS);
        }
        Step::Flip | Step::Stop | Step::Kill => {}
    }
}

/// What a scan says. Whoever meets damage has it left out.
fn scanned(stores: &Stores) -> BTreeMap<KeyspaceId, Usage> {
    let (done, reply) = reply();
    let (objects_max, bytes_max) = (1_000, usize::MAX);
    stores.scan(ScanJob { from: vec![0], until: None, objects_max, bytes_max, since: 0, done });
    let mut usages = BTreeMap::<KeyspaceId, Usage>::new();
    for (key, siblings) in reply.get().unwrap().objects {
        let usage = usages.entry(key.keyspace).or_default();
        *usage = usage.plus(Usage::of(&key, &siblings));
    }
    usages
}

/// What is counted, once it is.
fn counted(stores: &Stores) -> BTreeMap<KeyspaceId, Usage> {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let report = stores.usage();
        if report.is_complete {
            return report.usages;
        }
        assert!(std::time::Instant::now() < deadline, "never counted");
        std::thread::yield_now();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_counted_is_what_a_scan_says(steps in steps()) {
        let rig = Rig::new();
        let mut stores = rig.open();
        stores.keep_trees(ClusterId(7));
        let mut is_damaged = false;
        for step in &steps {
            if let Step::Stop | Step::Kill = step {
                if let Step::Stop = step {
                    stores.close().unwrap();
                }
                drop(stores);
                stores = rig.open();
                stores.keep_trees(ClusterId(7));
            }
            is_damaged |= matches!(step, Step::Flip);
            run(&stores, &rig, step);
            if let Step::DropKeyspace(_) = step {
                // It goes a page at a time, and each of these lets one through.
                (0..100).for_each(|_| run(&stores, &rig, &Step::DropPartition(9)));
            }
            if !is_damaged {
                prop_assert_eq!(counted(&stores), scanned(&stores));
            }
        }
        // What rots is counted until somebody meets it: the count from the records is right again.
        drop(stores);
        let stores = rig.open();
        stores.keep_trees(ClusterId(7));
        prop_assert_eq!(counted(&stores), scanned(&stores));
    }
}

#[test]
fn a_group_of_puts_does_not_go_beyond_a_quota() {
    let rig = Rig::new();
    let stores = rig.open();
    stores.keep_trees(ClusterId(7));
    let quota = Quota { keys: 10, bytes: 0, requests_per_second: 0 };
    let put = |name: &str, told: u64| {
        let mut change = mint(Context::default(), "x");
        if let Change::Mint { allowance, .. } = &mut change {
            let told = Usage { keys: told, bytes: 0 };
            *allowance = Some(Box::new(Allowance { quota, told }));
        }
        let (done, reply) = reply();
        stores.write(WriteJob { change, ..put_job(name, "", false, done) });
        reply
    };
    counted(&stores);
    let all: Vec<_> = (0..100).map(|number| put(&format!("{number}"), 0)).collect();
    let taken = all.into_iter().map(Reply::get).filter(Result::is_ok).count();
    assert_eq!(taken, 10);
    assert_eq!(counted(&stores)[&KeyspaceId(7)].keys, 10);
    let refused = StoreError::Refused(WriteRefused::OverKeys { found: 10, max: 10 });
    assert_eq!(put("new", 0).get(), Err(refused));
    assert!(put("0", 0).get().is_ok(), "it is there already");
    let refused = StoreError::Refused(WriteRefused::OverKeys { found: 12, max: 10 });
    assert_eq!(put("new", 12).get(), Err(refused), "as others tell");
}
