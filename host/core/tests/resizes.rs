//! Changes of a keyspace's n in the catalogue: which are taken, and what members lead them to.

use stator_core::catalogue::{
    Catalogue, CatalogueChange, ChangeError, Durability, Keyspace, KeyspaceSpec, KeyspaceUpdate,
    Member, Merging, Quorums, Reconcile, Report, Secret, Stage, Versioned,
};
use stator_core::id::{ClusterId, NodeId};
use stator_core::ring::claim;

const NAME: &str = "carts";
const STAGES: [Stage; 5] = [Stage::Spread, Stage::Copy, Stage::Agree, Stage::Turn, Stage::Settle];

/// Three nodes, rings of at most four owners, and a keyspace of n=2, r=1, w=2.
fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::new(ClusterId(1), "test", Secret([1; 32]));
    for node in 1..=3 {
        let member = Member {
            peer_address: format!("n{node}"),
            client_address: String::new(),
            admin_address: String::new(),
            region: String::new(),
            zone: String::new(),
            weight: 1,
            incarnation: Default::default(),
        };
        catalogue.members.insert(NodeId(node), Versioned::new(member));
    }
    catalogue.ring = claim(1, 8, 4, &catalogue.seats()).unwrap();
    let spec = KeyspaceSpec {
        name: NAME.to_owned(),
        quorums: Quorums { n: 2, r: 1, w: 2 },
        durability: Durability::All,
        reconcile: Reconcile::Siblings,
        read_repair_percent: 10,
        merging: Merging::default(),
        signed_by: Default::default(),
        quota: Default::default(),
    };
    CatalogueChange::CreateKeyspace(spec).apply(&mut catalogue).unwrap();
    catalogue
}

fn asked(n: u32, r: u32, w: u32) -> KeyspaceUpdate {
    let given = |count: u32| (count > 0).then_some(count);
    KeyspaceUpdate { n: given(n), r: given(r), w: given(w), ..Default::default() }
}

fn update(catalogue: &mut Catalogue, update: KeyspaceUpdate) -> Result<(), ChangeError> {
    CatalogueChange::UpdateKeyspace { name: NAME.to_owned(), etag: None, update }.apply(catalogue)
}

fn keyspace(catalogue: &Catalogue) -> &Keyspace {
    catalogue.keyspace(NAME).unwrap()
}

fn say(catalogue: &mut Catalogue, node: u64, through: Option<Stage>, is_cancelled: bool) {
    let report = Report { through, is_cancelled, ring_version: catalogue.ring.version() };
    catalogue.go_on_resizing(NAME, NodeId(node), report);
}

fn stage(catalogue: &Catalogue) -> Option<Stage> {
    keyspace(catalogue).resizes.present.as_ref().map(|resize| resize.stage)
}

#[test]
fn every_stage_waits_for_all_members() {
    let mut catalogue = catalogue();
    update(&mut catalogue, asked(3, 2, 2)).unwrap();
    let (old, new) = (Quorums { n: 2, r: 1, w: 2 }, Quorums { n: 3, r: 2, w: 2 });
    for now in STAGES {
        assert_eq!(stage(&catalogue), Some(now));
        let reading = if now < Stage::Turn { old } else { new };
        let writing = if now < Stage::Settle { (new, Some(old)) } else { (new, None) };
        let known = keyspace(&catalogue);
        assert_eq!((known.reading(), known.writing(), known.holders()), (reading, writing, 3));
        for node in 1..=3 {
            assert_eq!(stage(&catalogue), Some(now));
            say(&mut catalogue, node, Some(now), false);
        }
    }
    let known = keyspace(&catalogue);
    assert_eq!((stage(&catalogue), known.quorums.value, known.writing()), (None, new, (new, None)));
}

#[test]
fn what_was_copied_for_another_ring_does_not_count() {
    let mut catalogue = catalogue();
    update(&mut catalogue, asked(3, 2, 2)).unwrap();
    (1..=3).for_each(|node| say(&mut catalogue, node, Some(Stage::Spread), false));
    (1..=2).for_each(|node| say(&mut catalogue, node, Some(Stage::Copy), false));
    catalogue.ring = claim(2, 8, 4, &catalogue.seats()).unwrap();
    say(&mut catalogue, 3, Some(Stage::Copy), false);
    assert_eq!(stage(&catalogue), Some(Stage::Copy));
    (1..=2).for_each(|node| say(&mut catalogue, node, Some(Stage::Copy), false));
    assert_eq!(stage(&catalogue), Some(Stage::Agree));
}

#[test]
fn it_can_be_taken_back_until_all_have_agreed() {
    for until in 0..3 {
        let mut catalogue = catalogue();
        update(&mut catalogue, asked(3, 2, 2)).unwrap();
        for now in &STAGES[..until] {
            (1..=3).for_each(|node| say(&mut catalogue, node, Some(*now), false));
        }
        update(&mut catalogue, asked(2, 0, 0)).unwrap();
        assert_eq!(stage(&catalogue), Some(STAGES[until]), "nobody has said so yet");
        let before = until.checked_sub(1).map(|before| STAGES[before]);
        say(&mut catalogue, 2, before, true);
        assert_eq!(stage(&catalogue), None);
        assert_eq!(keyspace(&catalogue).quorums.value.n, 2);
        // The next one is another one.
        update(&mut catalogue, asked(1, 1, 1)).unwrap();
        assert_eq!(keyspace(&catalogue).resizes.number, 2);
    }
    let mut catalogue = catalogue();
    update(&mut catalogue, asked(3, 2, 2)).unwrap();
    for now in &STAGES[..3] {
        (1..=3).for_each(|node| say(&mut catalogue, node, Some(*now), false));
    }
    assert_eq!(stage(&catalogue), Some(Stage::Turn));
    assert!(matches!(
        update(&mut catalogue, asked(2, 0, 0)),
        Err(ChangeError::ResizeUnderWay { from: 2, to: 3, .. })
    ));
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut catalogue = catalogue();
    let mut refused = |n, r, w| {
        let before = catalogue.clone();
        let error = update(&mut catalogue, asked(n, r, w)).expect_err("refused");
        assert_eq!(catalogue, before);
        error
    };
    assert!(matches!(refused(3, 0, 0), ChangeError::ResizeTooWeak { n: 3, r: 1, w: 2 }));
    assert!(matches!(refused(1, 0, 0), ChangeError::BadQuorums { n: 1, r: 1, w: 2 }));
    assert!(matches!(refused(3, 4, 2), ChangeError::BadQuorums { .. }));
    assert!(matches!(refused(4, 2, 3), ChangeError::TooFewOwners { n: 4, owners: 3 }));
    assert!(matches!(refused(5, 3, 3), ChangeError::TooManyReplicas { n: 5, replicas: 4 }));

    // What is meant may be weak, and what is under way may be asked for again.
    update(&mut catalogue, asked(3, 1, 1)).unwrap();
    update(&mut catalogue, asked(3, 0, 0)).unwrap();
    for (n, r, w) in [(1, 1, 1), (3, 2, 2), (0, 1, 0)] {
        let error = update(&mut catalogue, asked(n, r, w)).expect_err("under way");
        assert!(matches!(error, ChangeError::ResizeUnderWay { from: 2, to: 3, .. }), "{error}");
    }
}
