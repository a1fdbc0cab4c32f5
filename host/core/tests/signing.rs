//! Signatures that keyspaces demand of modules: no way round them on one node, and what stands where two
//! nodes change at the same time.

use std::collections::BTreeSet;

use proptest::prelude::*;
use stator_core::catalogue::{
    Catalogue, CatalogueChange, ChangeError, Durability, KeyspaceSpec, KeyspaceUpdate, Merging,
    Module, ModuleClass, PublicKey, Quorums, Reconcile, SIGNATURES_MAX, SIGNERS_MAX, Secret,
    Signature, Signatures, Trial, TrialKind,
};
use stator_core::id::{ClusterId, ModuleDigest, NodeId};
use stator_core::ring::{Seat, claim};

const MODULES: u8 = 3;

fn digest(module: u8) -> ModuleDigest {
    ModuleDigest([module; 32])
}

fn key(key: u8) -> PublicKey {
    PublicKey([key; 32])
}

fn keys(of: &[u8]) -> BTreeSet<PublicKey> {
    of.iter().copied().map(key).collect()
}

/// A catalogue with a keyspace that merges by nothing.
fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::new(ClusterId(1), "test", Secret([1; 32]));
    let seat = Seat { node: NodeId(1), region: String::new(), zone: String::new(), weight: 1 };
    catalogue.ring = claim(1, 8, 1, &[seat]).unwrap();
    CatalogueChange::CreateKeyspace(spec("carts", None, &[])).apply(&mut catalogue).unwrap();
    catalogue
}

fn spec(name: &str, module: Option<u8>, signers: &[u8]) -> KeyspaceSpec {
    KeyspaceSpec {
        name: name.to_owned(),
        quorums: Quorums { n: 1, r: 1, w: 1 },
        durability: Durability::All,
        reconcile: module.map_or(Reconcile::Siblings, |module| Reconcile::Module(digest(module))),
        read_repair_percent: 10,
        merging: Merging::default(),
        signed_by: keys(signers),
        quota: Default::default(),
    }
}

fn push(module: u8, signers: &[u8]) -> CatalogueChange {
    let claimed = signers.iter().map(|signer| (key(*signer), Signature([*signer; 64])));
    let module_of = Module {
        pushed_at_ms: 1,
        name: "cart".to_owned(),
        size_bytes: 9,
        class: ModuleClass::Small,
        generation: 0,
        is_deleted: false,
        laws: None,
        signatures: Signatures::verified(&digest(module), claimed, |_, _, _| true).unwrap(),
    };
    CatalogueChange::AddModule { digest: digest(module), module: module_of }
}

fn update(update: KeyspaceUpdate) -> CatalogueChange {
    CatalogueChange::UpdateKeyspace { name: "carts".to_owned(), etag: None, update }
}

fn demand(signers: &[u8]) -> CatalogueChange {
    update(KeyspaceUpdate { signed_by: Some(keys(signers)), ..Default::default() })
}

fn pin(module: u8) -> CatalogueChange {
    let reconcile = Some(Reconcile::Module(digest(module)));
    update(KeyspaceUpdate { reconcile, ..Default::default() })
}

fn shadow(module: u8) -> CatalogueChange {
    let trial = Trial { module: digest(module), kind: TrialKind::Shadow, began_at_ms: 1 };
    CatalogueChange::BeginTrial { name: "carts".to_owned(), trial, reason: String::new() }
}

fn apply(catalogue: &mut Catalogue, changes: &[CatalogueChange]) {
    changes.iter().for_each(|change| change.apply(catalogue).unwrap());
}

/// What a change is refused for; it must change nothing.
fn refused(catalogue: &Catalogue, change: &CatalogueChange) -> ChangeError {
    let mut tried = catalogue.clone();
    let error = change.apply(&mut tried).expect_err("it is refused");
    assert_eq!(tried, *catalogue, "{change:?}");
    error
}

/// The modules that the keyspace pins or tries without a signature that it demands.
fn unsigned(catalogue: &Catalogue) -> BTreeSet<ModuleDigest> {
    let keyspace = catalogue.keyspace("carts").unwrap();
    let mut unsigned = catalogue.unsigned_in(keyspace);
    if let Some(previous) = keyspace.previous_module() {
        unsigned.remove(&previous);
    }
    unsigned
}

fn joined(a: &Catalogue, b: &Catalogue) -> Catalogue {
    let mut joined = a.clone();
    joined.join(b).unwrap();
    joined
}

fn change() -> impl Strategy<Value = CatalogueChange> {
    let module = 0..MODULES;
    let signers = prop::collection::vec(0..3u8, 0..3);
    prop_oneof![
        2 => (module.clone(), signers.clone()).prop_map(|(module, by)| push(module, &by)),
        2 => signers.prop_map(|by| demand(&by)),
        2 => module.clone().prop_map(pin),
        1 => module.clone().prop_map(shadow),
        1 => module.prop_map(|module| CatalogueChange::DeleteModule(digest(module))),
        1 => any::<bool>().prop_map(|previous| {
            let merging = Some(Merging { previous, ..Merging::default() });
            update(KeyspaceUpdate { merging, ..Default::default() })
        }),
    ]
}

/// What happens at which of three nodes; without a change it is sent what the next one knows.
fn steps() -> impl Strategy<Value = Vec<(usize, Option<CatalogueChange>)>> {
    prop::collection::vec((0..3usize, prop::option::weighted(0.8, change())), 0..40)
}

proptest! {
    #[test]
    fn alone_no_node_comes_to_a_module_that_is_not_signed(
        changes in prop::collection::vec(change(), 0..60),
    ) {
        let mut catalogue = catalogue();
        for change in changes {
            let _ = change.apply(&mut catalogue);
            prop_assert_eq!(unsigned(&catalogue), BTreeSet::new(), "{:?}", change);
        }
    }

    #[test]
    fn signatures_and_demands_join(steps in steps()) {
        let mut all = vec![catalogue(); 3];
        for (at, change) in steps {
            match change {
                Some(change) => drop(change.apply(&mut all[at])),
                None => {
                    let theirs = all[(at + 1) % 3].clone();
                    all[at].join(&theirs).unwrap();
                }
            }
        }
        let [a, b, c] = &all[..] else { unreachable!() };
        prop_assert_eq!(&joined(a, a), a);
        prop_assert_eq!(joined(a, b).digest(), joined(b, a).digest());
        prop_assert_eq!(joined(&joined(a, b), c), joined(a, &joined(b, c)));
        let whole = joined(&joined(a, b), c);
        prop_assert_eq!(Catalogue::decode(&whole.encode()), Ok(whole));
    }
}

#[test]
fn a_module_is_pinned_tried_and_named_at_the_creation_only_if_it_is_signed() {
    let mut catalogue = catalogue();
    apply(&mut catalogue, &[push(0, &[1]), push(1, &[2]), push(2, &[]), demand(&[1, 3]), pin(0)]);
    let create = CatalogueChange::CreateKeyspace(spec("orders", Some(2), &[1]));
    for (change, keyspace, module, found) in [
        (pin(1), "carts", 1, "ed25519:020202020202"),
        (pin(2), "carts", 2, "nobody"),
        (shadow(1), "carts", 1, "ed25519:020202020202"),
        (create, "orders", 2, "nobody"),
    ] {
        let demanded = match keyspace {
            "carts" => "ed25519:010101010101, ed25519:030303030303".to_owned(),
            _ => "ed25519:010101010101".to_owned(),
        };
        let (keyspace, module, found) = (keyspace.to_owned(), digest(module), found.to_owned());
        let expected = ChangeError::NotSigned { keyspace, module, demanded, found };
        assert_eq!(refused(&catalogue, &change), expected);
    }
    // Signed once more, by pushing the same bytes with another signature.
    apply(&mut catalogue, &[push(1, &[3]), shadow(1), pin(1)]);
    assert_eq!(catalogue.module(&digest(1)).unwrap().signatures.iter().count(), 2);
}

#[test]
fn a_key_is_withdrawn_once_what_merges_is_signed_by_another() {
    let mut catalogue = catalogue();
    apply(&mut catalogue, &[push(0, &[1]), push(1, &[1, 2]), demand(&[1, 2]), pin(0)]);
    for change in [demand(&[2]), demand(&[3])] {
        assert!(matches!(refused(&catalogue, &change), ChangeError::NotSigned { module, .. }
            if module == digest(0)));
    }
    apply(&mut catalogue, &[pin(1), demand(&[2])]);
    assert!(matches!(refused(&catalogue, &pin(0)), ChangeError::NotSigned { .. }), "the way back");
    // What stands in is nobody's choice: it is passed over.
    let merging = Some(Merging { previous: true, ..Merging::default() });
    apply(&mut catalogue, &[update(KeyspaceUpdate { merging, ..Default::default() })]);
    let keyspace = catalogue.keyspace("carts").unwrap();
    assert_eq!(keyspace.previous_module(), Some(digest(0)));
    assert!(!catalogue.is_signed_for(keyspace, &digest(0)));
    apply(&mut catalogue, &[demand(&[]), pin(0)]);
}

#[test]
fn of_two_changes_at_the_same_time_both_stand_and_the_module_is_not_called() {
    let mut ours = catalogue();
    apply(&mut ours, &[push(0, &[1]), push(1, &[]), pin(0)]);
    let mut theirs = ours.clone();
    apply(&mut ours, &[demand(&[1])]);
    apply(&mut theirs, &[pin(1)]);
    assert!(unsigned(&ours).is_empty() && unsigned(&theirs).is_empty());
    let mut both = joined(&ours, &theirs);
    assert_eq!(unsigned(&both), [digest(1)].into());
    assert_eq!(both, joined(&theirs, &ours));
    // Other changes go on, and each of these is a way out.
    let w = update(KeyspaceUpdate { read_repair_percent: Some(5), ..Default::default() });
    apply(&mut both, &[w]);
    for way_out in [push(1, &[1]), pin(0), demand(&[])] {
        let mut out = both.clone();
        apply(&mut out, &[way_out]);
        assert!(unsigned(&out).is_empty());
    }
}

#[test]
fn signatures_go_with_their_module_and_are_not_too_many() {
    let mut catalogue = catalogue();
    let many: Vec<u8> = (1..=SIGNATURES_MAX as u8).collect();
    apply(&mut catalogue, &[push(0, &many), push(0, &[3])]);
    let error = refused(&catalogue, &push(0, &[200]));
    assert_eq!(error, ChangeError::TooManySignatures { found: SIGNATURES_MAX + 1 });
    apply(&mut catalogue, &[CatalogueChange::DeleteModule(digest(0)), push(0, &[200])]);
    let left = catalogue.module(&digest(0)).unwrap().signatures.iter().map(|(key, _)| *key);
    assert_eq!(left.collect::<BTreeSet<_>>(), keys(&[200]));
    let signers: Vec<u8> = (0..=SIGNERS_MAX as u8).collect();
    let error = refused(&catalogue, &demand(&signers));
    assert_eq!(error, ChangeError::TooManySigners { found: SIGNERS_MAX + 1 });
}

#[test]
fn a_catalogue_without_any_is_as_before_there_were_some() {
    let mut catalogue = catalogue();
    apply(&mut catalogue, &[push(0, &[]), pin(0)]);
    let text = String::from_utf8(catalogue.encode()).unwrap();
    assert!(!text.contains("sign"), "{text}");
    apply(&mut catalogue, &[push(0, &[1]), demand(&[1])]);
    // A node of before hands on what it does not know as if there were none; nothing is lost by that.
    let mut before: serde_json::Value = serde_json::from_slice(&catalogue.encode()).unwrap();
    before["keyspaces"]["carts"]["latest"].as_object_mut().unwrap().remove("signed_by");
    let module = before["modules"].as_object_mut().unwrap().values_mut().next().unwrap();
    module.as_object_mut().unwrap().remove("signatures");
    let before = Catalogue::decode(before.to_string().as_bytes()).unwrap();
    assert_ne!(before, catalogue);
    assert_eq!(joined(&before, &catalogue), catalogue);
    assert_eq!(joined(&catalogue, &before), catalogue);
}
