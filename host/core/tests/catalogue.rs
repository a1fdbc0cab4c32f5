//! The catalogue: its join on random histories, its bytes, and which changes are refused.

use std::collections::BTreeSet;

use proptest::prelude::*;
use stator_core::catalogue::{
    Catalogue, CatalogueChange, ChangeError, Durability, KeyspaceSpec, KeyspaceUpdate, Member,
    Merging, Module, ModuleClass, Quorums, Reconcile, Report, Secret, Stage, Versioned,
};
use stator_core::id::{ClusterId, KeyspaceId, ModuleDigest, NodeId};
use stator_core::ring::claim;

const NODES: usize = 3;

fn member(zone: &str) -> Member {
    Member {
        peer_address: "node:7000".to_owned(),
        client_address: "node:7001".to_owned(),
        admin_address: "node:7002".to_owned(),
        region: String::new(),
        zone: zone.to_owned(),
        weight: 1,
        incarnation: Default::default(),
    }
}

fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::new(ClusterId(1), "test", Secret([1; 32]));
    for node in 1..=3 {
        catalogue.members.insert(NodeId(node), Versioned::new(member("")));
    }
    catalogue.ring = claim(1, 8, 3, &catalogue.seats()).unwrap();
    catalogue
}

fn spec(name: &str, n: u32, r: u32, w: u32) -> KeyspaceSpec {
    KeyspaceSpec {
        name: name.to_owned(),
        quorums: Quorums { n, r, w },
        durability: Durability::All,
        reconcile: Reconcile::Siblings,
        read_repair_percent: 100,
        merging: Merging::default(),
        signed_by: Default::default(),
        quota: Default::default(),
    }
}

fn module(pushed_at_ms: u64) -> Module {
    let class =
        if pushed_at_ms.is_multiple_of(2) { ModuleClass::Small } else { ModuleClass::Large };
    Module {
        pushed_at_ms,
        name: "cart".to_owned(),
        size_bytes: 9,
        class,
        generation: 0,
        is_deleted: false,
        laws: None,
        signatures: Default::default(),
    }
}

/// Something that happens to the catalogue of one node.
#[derive(Debug, Clone)]
enum Step {
    Create { at: usize, name: u8, w: u32 },
    Update { at: usize, name: u8, w: Option<u32>, lww: Option<bool> },
    Delete { at: usize, name: u8 },
    Resize { at: usize, name: u8, n: u32 },
    Report { at: usize, name: u8, node: u64, stage: usize, is_cancelled: bool },
    Push { at: usize, module: u8, pushed_at_ms: u64 },
    ChangeMember { at: usize, node: u64, zone: u8 },
    Rotate { at: usize, secret: u8 },
    Claim { at: usize, replicas: u16 },
    Sync { from: usize, to: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = 0..NODES;
    let name = 0u8..2;
    let step = prop_oneof![
        3 => (at.clone(), name.clone(), 1u32..4)
            .prop_map(|(at, name, w)| Step::Create { at, name, w }),
        3 => (at.clone(), name.clone(), prop::option::of(1u32..4), any::<Option<bool>>())
            .prop_map(|(at, name, w, lww)| Step::Update { at, name, w, lww }),
        2 => (at.clone(), name.clone()).prop_map(|(at, name)| Step::Delete { at, name }),
        2 => (at.clone(), name.clone(), 1u32..4)
            .prop_map(|(at, name, n)| Step::Resize { at, name, n }),
        4 => (at.clone(), name, 1u64..4, 0usize..6, any::<bool>())
            .prop_map(|(at, name, node, stage, is_cancelled)| Step::Report {
                at, name, node, stage, is_cancelled,
            }),
        1 => (at.clone(), 0u8..2, 0u64..3)
            .prop_map(|(at, module, pushed_at_ms)| Step::Push { at, module, pushed_at_ms }),
        1 => (at.clone(), 1u64..6, 0u8..3)
            .prop_map(|(at, node, zone)| Step::ChangeMember { at, node, zone }),
        1 => (at.clone(), 0u8..3).prop_map(|(at, secret)| Step::Rotate { at, secret }),
        1 => (at.clone(), 1u16..4).prop_map(|(at, replicas)| Step::Claim { at, replicas }),
        3 => (at.clone(), at).prop_map(|(from, to)| Step::Sync { from, to }),
    ];
    prop::collection::vec(step, 0..30)
}

fn apply(catalogues: &mut [Catalogue], step: &Step) {
    let name = |name: u8| format!("keyspace-{name}");
    let change = match *step {
        Step::Create { at, name: n, w } => {
            (at, CatalogueChange::CreateKeyspace(spec(&name(n), 3, 1, w)))
        }
        Step::Update { at, name: n, w, lww } => {
            let reconcile = lww.map(|lww| match lww {
                true => Reconcile::LastWriteWins,
                false => Reconcile::Siblings,
            });
            let update = KeyspaceUpdate { w, reconcile, ..Default::default() };
            (at, CatalogueChange::UpdateKeyspace { name: name(n), etag: None, update })
        }
        Step::Delete { at, name: n } => {
            (at, CatalogueChange::DeleteKeyspace { name: name(n), etag: None })
        }
        Step::Resize { at, name: n, n: to } => {
            let asked = Some(to);
            let update = KeyspaceUpdate { n: asked, r: asked, w: asked, ..Default::default() };
            (at, CatalogueChange::UpdateKeyspace { name: name(n), etag: None, update })
        }
        Step::Report { at, name: n, node, stage, is_cancelled } => {
            let stages = [Stage::Spread, Stage::Copy, Stage::Agree, Stage::Turn, Stage::Settle];
            let through = stages.get(stage).copied();
            let report = Report { through, is_cancelled, ring_version: 1 };
            return catalogues[at].go_on_resizing(&name(n), NodeId(node), report);
        }
        Step::Push { at, module: m, pushed_at_ms } => {
            let digest = ModuleDigest([m; 32]);
            (at, CatalogueChange::AddModule { digest, module: module(pushed_at_ms) })
        }
        Step::ChangeMember { at, node, zone } => {
            let value = member(&zone.to_string());
            let members = &mut catalogues[at].members;
            return match members.get_mut(&NodeId(node)) {
                Some(member) => member.change(value),
                None => drop(members.insert(NodeId(node), Versioned::new(value))),
            };
        }
        Step::Rotate { at, secret } => {
            return catalogues[at].context_secrets.change(vec![Secret([secret; 32])]);
        }
        Step::Claim { at, replicas } => {
            let catalogue = &mut catalogues[at];
            let version = catalogue.ring.version() + 1;
            catalogue.ring = claim(version, 8, replicas, &catalogue.seats()).unwrap();
            return;
        }
        Step::Sync { from, to } => {
            let theirs = catalogues[from].clone();
            return catalogues[to].join(&theirs).unwrap();
        }
    };
    // A change that is refused is a part of the history that does not happen.
    let _ = change.1.apply(&mut catalogues[change.0]);
}

fn joined(a: &Catalogue, b: &Catalogue) -> Catalogue {
    let mut joined = a.clone();
    joined.join(b).unwrap();
    joined
}

proptest! {
    #[test]
    fn join_is_a_join(steps in steps()) {
        let mut all = vec![catalogue(); NODES];
        steps.iter().for_each(|step| apply(&mut all, step));
        for a in &all {
            prop_assert_eq!(&joined(a, a), a);
            for b in &all {
                let ab = joined(a, b);
                prop_assert_eq!(ab.encode(), joined(b, a).encode());
                prop_assert_eq!(&joined(&ab, b), &ab);
                prop_assert_eq!(a.digest() == b.digest(), a == b);
                for c in &all {
                    prop_assert_eq!(joined(&ab, c), joined(a, &joined(b, c)));
                }
            }
        }
    }

    #[test]
    fn a_keyspace_that_was_deleted_never_comes_back(steps in steps()) {
        let mut all = vec![catalogue(); NODES];
        let mut deleted: Vec<BTreeSet<KeyspaceId>> = vec![BTreeSet::new(); NODES];
        for step in &steps {
            let live = |catalogue: &Catalogue| -> BTreeSet<KeyspaceId> {
                catalogue.live_keyspaces().map(|keyspace| keyspace.id).collect()
            };
            let before: Vec<_> = all.iter().map(live).collect();
            apply(&mut all, step);
            for (at, catalogue) in all.iter().enumerate() {
                let now = live(catalogue);
                prop_assert!(now.is_disjoint(&deleted[at]), "{step:?}");
                deleted[at].extend(before[at].difference(&now));
            }
        }
    }

    #[test]
    fn catalogues_read_back(steps in steps()) {
        let mut all = vec![catalogue(); NODES];
        steps.iter().for_each(|step| apply(&mut all, step));
        for catalogue in all {
            prop_assert_eq!(Catalogue::decode(&catalogue.encode()), Ok(catalogue));
        }
    }

    #[test]
    fn noise_is_refused(noise: Vec<u8>) {
        prop_assert!(Catalogue::decode(&noise).is_err());
    }
}

#[test]
fn a_foreign_catalogue_changes_nothing() {
    let mut ours = catalogue();
    let theirs = Catalogue { cluster: ClusterId(2), ..catalogue() };
    let error = ours.join(&theirs).unwrap_err();
    assert_eq!((error.ours, error.theirs), (ClusterId(1), ClusterId(2)));
    assert_eq!(ours, catalogue());
}

#[test]
fn a_ring_that_contradicts_itself_is_refused() {
    let text = String::from_utf8(catalogue().encode()).unwrap();
    assert!(Catalogue::decode(text.as_bytes()).is_ok());
    let mut parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    for owners in
        [serde_json::json!([9, 1, 2]), serde_json::json!([1, 1, 2]), serde_json::json!([1])]
    {
        parsed["ring"]["owners"][0] = owners;
        assert!(Catalogue::decode(parsed.to_string().as_bytes()).is_err());
    }
}

#[test]
fn a_successor_shares_nothing_with_the_deleted() {
    let mut catalogue = catalogue();
    let mut ids = BTreeSet::new();
    for generation in 1..=3 {
        CatalogueChange::CreateKeyspace(spec("carts", 3, 2, 2)).apply(&mut catalogue).unwrap();
        let keyspace = catalogue.keyspace("carts").unwrap();
        assert_eq!(keyspace.generation, generation);
        assert_eq!(catalogue.keyspace_by_id(keyspace.id), Some(keyspace));
        assert!(ids.insert(keyspace.id));
        let delete = CatalogueChange::DeleteKeyspace {
            name: "carts".to_owned(),
            etag: Some(keyspace.etag()),
        };
        delete.apply(&mut catalogue).unwrap();
        assert_eq!(catalogue.keyspace("carts"), None);
    }
}

#[test]
fn changes_are_checked() {
    let mut before = catalogue();
    CatalogueChange::CreateKeyspace(spec("carts", 3, 2, 2)).apply(&mut before).unwrap();
    let etag = before.keyspace("carts").unwrap().etag();
    let unknown = ModuleDigest([9; 32]);
    let create = CatalogueChange::CreateKeyspace;
    let delete = |name: &str, etag: Option<&str>| CatalogueChange::DeleteKeyspace {
        name: name.to_owned(),
        etag: etag.map(str::to_owned),
    };
    let bad_name = |name: &str| ChangeError::BadName { name: name.to_owned() };
    let with_module =
        KeyspaceSpec { reconcile: Reconcile::Module(unknown), ..spec("orders", 3, 2, 2) };
    let greedy = KeyspaceSpec { read_repair_percent: 101, ..spec("orders", 3, 2, 2) };
    let long = "a".repeat(65);
    let refused = [
        (create(spec("carts", 3, 2, 2)), ChangeError::KeyspaceExists("carts".to_owned())),
        (create(spec("", 3, 2, 2)), bad_name("")),
        (create(spec("Carts", 3, 2, 2)), bad_name("Carts")),
        (create(spec("-carts", 3, 2, 2)), bad_name("-carts")),
        (create(spec("a/b", 3, 2, 2)), bad_name("a/b")),
        (create(spec("ü", 3, 2, 2)), bad_name("ü")),
        (create(spec(&long, 3, 2, 2)), bad_name(&long)),
        (create(spec("orders", 0, 1, 1)), ChangeError::BadQuorums { n: 0, r: 1, w: 1 }),
        (create(spec("orders", 3, 0, 2)), ChangeError::BadQuorums { n: 3, r: 0, w: 2 }),
        (create(spec("orders", 3, 2, 0)), ChangeError::BadQuorums { n: 3, r: 2, w: 0 }),
        (create(spec("orders", 3, 4, 2)), ChangeError::BadQuorums { n: 3, r: 4, w: 2 }),
        (create(spec("orders", 3, 2, 4)), ChangeError::BadQuorums { n: 3, r: 2, w: 4 }),
        (create(greedy), ChangeError::BadReadRepair { percent: 101 }),
        (create(spec("orders", 4, 2, 2)), ChangeError::TooManyReplicas { n: 4, replicas: 3 }),
        (create(with_module.clone()), ChangeError::NoSuchModule(unknown)),
        (delete("orders", None), ChangeError::NoSuchKeyspace("orders".to_owned())),
        (
            delete("carts", Some("old")),
            ChangeError::EtagMismatch {
                name: "carts".to_owned(),
                found: etag.clone(),
                expected: "old".to_owned(),
            },
        ),
    ];
    for (change, expected) in refused {
        let mut catalogue = before.clone();
        assert_eq!(change.apply(&mut catalogue), Err(expected), "{change:?}");
        assert_eq!(catalogue, before, "{change:?}");
    }
    let made = [
        create(spec("orders", 3, 1, 3)),
        create(spec("0.a-b_c", 1, 1, 1)),
        create(spec(&long[..64], 2, 2, 2)),
        delete("carts", None),
        delete("carts", Some(&etag)),
        CatalogueChange::AddModule { digest: unknown, module: module(5) },
    ];
    for change in made {
        let mut catalogue = before.clone();
        assert_eq!(change.apply(&mut catalogue), Ok(()), "{change:?}");
        assert_ne!(catalogue.digest(), before.digest(), "{change:?}");
    }
    let mut catalogue = before;
    let push = CatalogueChange::AddModule { digest: unknown, module: module(5) };
    push.apply(&mut catalogue).unwrap();
    assert_eq!(create(with_module).apply(&mut catalogue), Ok(()));
}

fn update(etag: Option<String>, update: KeyspaceUpdate) -> CatalogueChange {
    CatalogueChange::UpdateKeyspace { name: "carts".to_owned(), etag, update }
}

#[test]
fn an_update_changes_what_it_names_and_nothing_else() {
    let mut ours = catalogue();
    CatalogueChange::CreateKeyspace(spec("carts", 3, 2, 2)).apply(&mut ours).unwrap();
    let before = ours.keyspace("carts").unwrap().clone();
    let w3 = KeyspaceUpdate { w: Some(3), ..Default::default() };
    update(Some(before.etag()), w3.clone()).apply(&mut ours).unwrap();
    let after = ours.keyspace("carts").unwrap().clone();
    assert_eq!(after.quorums.value, Quorums { n: 3, r: 2, w: 3 });
    assert_eq!(after.quorums.version, before.quorums.version + 1);
    assert_eq!((&after.durability, &after.reconcile), (&before.durability, &before.reconcile));
    assert_eq!((after.id, after.generation), (before.id, before.generation));
    assert_ne!(after.etag(), before.etag());
    // What is so already does not count as a change.
    update(None, w3).apply(&mut ours).unwrap();
    assert_eq!(*ours.keyspace("carts").unwrap(), after);
}

#[test]
fn an_update_is_checked_like_a_new_keyspace() {
    let mut ours = catalogue();
    CatalogueChange::CreateKeyspace(spec("carts", 3, 2, 2)).apply(&mut ours).unwrap();
    let before = ours.clone();
    let etag = ours.keyspace("carts").unwrap().etag();
    let unknown = ModuleDigest([9; 32]);
    let w = |w| KeyspaceUpdate { w: Some(w), ..Default::default() };
    let module =
        KeyspaceUpdate { reconcile: Some(Reconcile::Module(unknown)), ..Default::default() };
    let mismatch = ChangeError::EtagMismatch {
        name: "carts".to_owned(),
        found: etag,
        expected: "stale".to_owned(),
    };
    let table = [
        (update(None, w(4)), ChangeError::BadQuorums { n: 3, r: 2, w: 4 }),
        (update(None, w(0)), ChangeError::BadQuorums { n: 3, r: 2, w: 0 }),
        (update(None, module), ChangeError::NoSuchModule(unknown)),
        (update(Some("stale".to_owned()), w(3)), mismatch),
        (
            CatalogueChange::UpdateKeyspace {
                name: "nowhere".to_owned(),
                etag: None,
                update: w(3),
            },
            ChangeError::NoSuchKeyspace("nowhere".to_owned()),
        ),
    ];
    for (change, expected) in table {
        assert_eq!(change.apply(&mut ours), Err(expected));
        assert_eq!(ours, before);
    }
}

#[test]
fn updates_of_different_fields_at_the_same_time_both_stand() {
    let mut ours = catalogue();
    CatalogueChange::CreateKeyspace(spec("carts", 3, 2, 2)).apply(&mut ours).unwrap();
    let mut theirs = ours.clone();
    let w3 = KeyspaceUpdate { w: Some(3), ..Default::default() };
    let lww = KeyspaceUpdate { reconcile: Some(Reconcile::LastWriteWins), ..Default::default() };
    update(None, w3).apply(&mut ours).unwrap();
    update(None, lww).apply(&mut theirs).unwrap();
    let both = joined(&ours, &theirs);
    let keyspace = both.keyspace("carts").unwrap();
    assert_eq!(keyspace.quorums.value.w, 3);
    assert_eq!(keyspace.reconcile.value, Reconcile::LastWriteWins);
}
