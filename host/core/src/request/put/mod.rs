//! The state of one put: get the write a dot (`naming`), then replicate until every owner has it
//! or a durable hint for it exists (`debts`); answer the client at w distinct nodes. While a keyspace's
//! n changes that alone does not do: w of the smaller number of owners must have it, too, or nodes
//! that stand in for them.

mod debts;
mod naming;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::{Effect, PutReceipt, PutRequest, QuorumKind, RequestError};
use crate::catalogue::Durability;
use crate::causality::{Context, LiveVersion, Siblings};
use crate::id::{Dot, NodeId, Ticket};
use crate::keys::StoreKey;
use crate::quorum::{Standing, Tally};
use crate::region::Regions;
use crate::ring::PreferenceList;
use crate::version::Origin;

pub use debts::{Debts, HINT_TRIES, Place};
use naming::Naming;
pub use naming::Next;

/// The dot of the write.
#[derive(Debug)]
enum Name {
    Wanted(Naming),
    Given(Dot, Arc<Siblings>),
}

/// One put that this node coordinates.
#[derive(Debug)]
pub struct Put {
    /// Whom to answer.
    pub ticket: Ticket,
    /// What is written.
    pub key: StoreKey,
    /// When the client stops waiting, by the monotonic clock.
    pub deadline_ms: u64,
    /// When it began, by the monotonic clock.
    pub began_ms: u64,
    /// The ring that says who its owners are.
    pub ring_version: u64,
    /// What the acknowledgement promises.
    pub durability: Durability,
    me: NodeId,
    kind: QuorumKind,
    tally: Tally,
    /// Who counts: all, or the owners of a region.
    counting: Option<BTreeSet<NodeId>>,
    /// The first of the owners, so many of which must have it as well.
    also: Option<(BTreeSet<NodeId>, Tally)>,
    hinted: u32,
    primaries: Vec<NodeId>,
    name: Name,
    /// What the owners are owed, once it has its dot.
    pub debts: Debts,
    /// Whether the store of this node has minted it.
    is_minted_here: bool,
    /// Whether it has, and is making it durable.
    is_applied: bool,
    /// Why a required hint was refused.
    refusal: Option<String>,
    is_answered: bool,
}

impl Put {
    /// A put coordinated by `me` that needs `needed` acknowledgements, and whose dot is to come
    /// from one of `namers`.
    pub fn new(
        (ticket, put): (Ticket, PutRequest),
        key: StoreKey,
        terms: (u64, Durability, usize),
        (me, list): (NodeId, &PreferenceList),
        namers: VecDeque<NodeId>,
        is_reachable: impl Fn(NodeId) -> bool,
    ) -> Self {
        let kind = put.quorum;
        let name = Name::Wanted(Naming::new(me, put, namers));
        Put::named((ticket, kind), key, terms, (me, list), name, is_reachable)
    }

    /// One that has its dot, in this object, which nobody has stored: an import.
    pub fn given(
        (ticket, dot, siblings): (Ticket, Dot, Arc<Siblings>),
        key: StoreKey,
        terms: (u64, Durability, usize),
        (me, list): (NodeId, &PreferenceList),
        is_reachable: impl Fn(NodeId) -> bool,
    ) -> Self {
        let name = Name::Given(dot, siblings);
        Put::named((ticket, QuorumKind::Sloppy), key, terms, (me, list), name, is_reachable)
    }

    fn named(
        (ticket, kind): (Ticket, QuorumKind),
        key: StoreKey,
        (deadline_ms, durability, needed): (u64, Durability, usize),
        (me, list): (NodeId, &PreferenceList),
        name: Name,
        is_reachable: impl Fn(NodeId) -> bool,
    ) -> Self {
        let fallbacks = match kind {
            QuorumKind::Sloppy => list.fallbacks(),
            QuorumKind::Strict | QuorumKind::Local => &[],
        };
        let spare = |node: &NodeId| *node != me && is_reachable(*node);
        let spares = fallbacks.iter().copied().filter(spare).collect();
        Put {
            ticket,
            key,
            deadline_ms,
            began_ms: 0,
            ring_version: 0,
            durability,
            me,
            kind,
            tally: Tally::new(needed),
            counting: None,
            also: None,
            hinted: 0,
            primaries: list.primaries().to_vec(),
            name,
            debts: Debts::new(me, spares),
            is_minted_here: false,
            is_applied: false,
            refusal: None,
            is_answered: false,
        }
    }

    /// The same in a cluster of these regions.
    pub fn minding(mut self, regions: Option<Arc<Regions>>) -> Self {
        self.debts.regions = regions;
        self
    }

    /// The same with only these owners counting.
    pub fn counting(self, owners: impl Iterator<Item = NodeId>) -> Self {
        Put { counting: Some(owners.collect()), ..self }
    }

    /// The same with so many of these owners, or of who stands in for them, needed as well.
    pub fn reaching_also(self, owners: impl Iterator<Item = NodeId>, needed: usize) -> Self {
        Put { also: Some((owners.collect(), Tally::new(needed))), ..self }
    }

    fn counts(&self, node: NodeId) -> bool {
        self.counting.as_ref().is_none_or(|counting| counting.contains(&node))
    }

    /// `node` has it, in the place of this owner.
    fn count(&mut self, node: NodeId, owner: NodeId) {
        if self.counts(node) {
            self.tally.count(node);
        }
        if let Some((owners, tally)) = &mut self.also
            && owners.contains(&owner)
        {
            tally.count(node);
        }
    }

    /// Whether too few nodes are in reach for it.
    pub fn is_out_of_reach(&self, is_reachable: impl Fn(NodeId) -> bool) -> bool {
        let also = self.also.as_ref().map(|(owners, tally)| (tally.needed(), Some(owners)));
        let all = [(self.tally.needed(), None)];
        let mut needs = all.into_iter().chain(also);
        needs.any(|(needed, owners)| self.possible_of(owners, &is_reachable) < needed)
    }

    /// How many distinct nodes could hold the write, as far as `is_reachable`.
    pub fn possible(&self, is_reachable: impl Fn(NodeId) -> bool) -> usize {
        self.possible_of(None, &is_reachable)
    }

    /// The same of some of the owners, or of all.
    fn possible_of(
        &self,
        some: Option<&BTreeSet<NodeId>>,
        is_reachable: &impl Fn(NodeId) -> bool,
    ) -> usize {
        let is_there = |node: NodeId| node == self.me || is_reachable(node);
        let is_asked = |node: &&NodeId| some.is_none_or(|some| some.contains(*node));
        let asked = self.primaries.iter().filter(is_asked);
        let owners = asked.clone().filter(|node| is_there(**node)).count();
        if self.counting.is_some() {
            let counts = |node: &&NodeId| self.counts(**node) && is_there(**node);
            return asked.filter(counts).count();
        }
        let is_minting = matches!(&self.name, Name::Wanted(naming) if naming.is_last());
        // More owners are away than others stand in for: this node does.
        let is_standing_in = asked.count() - owners > self.debts.spares();
        let own_hint = usize::from((is_minting || is_standing_in) && self.may_stand_in());
        owners + own_hint + self.debts.spares()
    }

    /// Whether this node owns the key. If not, what it mints itself is a hint for all who do.
    pub fn is_owner(&self) -> bool {
        self.primaries.contains(&self.me)
    }

    /// Whether a hint that this node keeps itself counts as another node's would.
    fn may_stand_in(&self) -> bool {
        !self.is_owner() && self.kind == QuorumKind::Sloppy
    }

    /// Whether replicas sync before they acknowledge. For `one` that who has minted it is enough.
    pub fn is_sync(&self) -> bool {
        match self.durability {
            Durability::All => true,
            Durability::One => !self.is_minted_here,
            Durability::Buffered => false,
        }
    }

    /// The owners, in order.
    pub fn primaries(&self) -> &[NodeId] {
        &self.primaries
    }

    // The dot.

    /// Turns to the next node that could give the write its dot. An owner has until `due_ms`.
    pub fn next_namer(&mut self, due_ms: u64) -> Next {
        let terms = (self.may_stand_in(), self.needed());
        match &mut self.name {
            Name::Wanted(naming) => naming.next(due_ms, terms),
            Name::Given(..) => Next::Wait,
        }
    }

    fn naming(&self) -> Option<&Naming> {
        match &self.name {
            Name::Wanted(naming) => Some(naming),
            Name::Given(..) => None,
        }
    }

    /// Whether the write waits for `node` to lend it a dot.
    pub fn is_asking(&self, node: NodeId) -> bool {
        self.naming().is_some_and(|naming| naming.is_asking(node))
    }

    /// Whether a dot that an owner lends is taken: the write has none, and the store here mints
    /// none.
    pub fn is_borrowing(&self) -> bool {
        self.naming().is_some_and(|naming| !naming.is_here())
    }

    /// An owner that was asked does not lend a dot.
    pub fn namer_gone(&mut self, node: NodeId) {
        if let Name::Wanted(naming) = &mut self.name {
            naming.gone(node);
        }
    }

    /// Who was to give the dot did certainly nothing, and says why.
    pub fn namer_failed(&mut self, error: RequestError) {
        if let Name::Wanted(naming) = &mut self.name {
            naming.failed(error);
        }
    }

    /// Whether others are to have it as soon as the store here holds it, durable or not: while the
    /// one syncs so do they. For `one` its sync is all there is, so that comes first; a stranger's
    /// own record is a hint, which must be kept before anyone counts on it.
    pub fn is_told(&self) -> bool {
        self.durability == Durability::All && self.is_owner()
    }

    /// The write is minted here, and not durable yet: this node is owed it like the other owners.
    pub fn applied(&mut self, dot: Dot, siblings: Arc<Siblings>) {
        self.name = Name::Given(dot, siblings);
        self.is_applied = true;
    }

    /// Whether the store here holds the write before it is durable.
    pub fn is_applied(&self) -> bool {
        self.is_applied
    }

    /// The write is minted and stored here.
    pub fn minted(&mut self, dot: Dot, siblings: Arc<Siblings>) {
        self.name = Name::Given(dot, siblings);
        self.is_minted_here = true;
        self.debts.is_covered = !self.is_owner();
        self.hinted += u32::from(self.debts.is_covered);
        // Who is none stands in for all owners: for the first of them, too.
        let owner = if self.is_owner() { Some(self.me) } else { self.primaries.first().copied() };
        self.count(self.me, owner.unwrap_or(self.me));
    }

    /// An owner has lent the write this dot, in an object that nobody has stored.
    pub fn lent(&mut self, dot: Dot, siblings: Arc<Siblings>) {
        self.name = Name::Given(dot, siblings);
    }

    /// The object to replicate, once there is one.
    pub fn siblings(&self) -> Option<&Arc<Siblings>> {
        match &self.name {
            Name::Given(_, siblings) => Some(siblings),
            Name::Wanted(_) => None,
        }
    }

    // The owners.

    /// What is to be done for the owners once the write has its dot.
    pub fn spread(&mut self, is_reachable: impl Fn(NodeId) -> bool, due_ms: u64) -> Vec<Place> {
        let (tally, debts) = (&self.tally, &mut self.debts);
        let owners = self.primaries.iter().copied().filter(|owner| !tally.has_counted(*owner));
        // What it is about to have need not be placed.
        let own = self.is_applied.then_some(self.me);
        let is_there = |owner| own == Some(owner) || is_reachable(owner);
        let places = owners.filter_map(|owner| debts.begin(owner, is_there(owner), due_ms));
        places.filter(|place| Some(*place) != own.map(Place::Owner)).collect()
    }

    /// `node` holds the write.
    pub fn acknowledged(&mut self, node: NodeId) {
        let owner = self.debts.sent_for(node).unwrap_or(node);
        self.hinted += u32::from(self.debts.acknowledged(node));
        self.count(node, owner);
    }

    /// The hint for `owner` is stored here.
    pub fn hint_stored(&mut self, owner: NodeId) {
        self.debts.hint_stored(owner);
        if self.may_stand_in() {
            self.hinted += u32::from(!self.tally.has_counted(self.me));
            self.count(self.me, owner);
        }
    }

    /// The hint for `owner` could not be stored here; it is tried again at `retry_ms`. Says
    /// whether there is no further attempt.
    pub fn hint_failed(&mut self, owner: NodeId, reason: String, retry_ms: u64) -> bool {
        let (is_required, is_over) = self.debts.hint_failed(owner, retry_ms);
        if is_required {
            self.refusal = Some(reason);
        }
        is_over
    }

    // Time and answers.

    /// Whether the owner that was asked for a dot is overdue.
    pub fn is_namer_overdue(&self, now_ms: u64) -> bool {
        self.naming().and_then(Naming::due_ms).is_some_and(|due_ms| due_ms <= now_ms)
    }

    /// When something is to be looked at again.
    pub fn next_due_ms(&self) -> Option<u64> {
        let namer = self.naming().and_then(Naming::due_ms);
        let answer = (!self.is_answered).then_some(self.deadline_ms);
        [namer, answer, self.debts.next_due_ms()].into_iter().flatten().min()
    }

    /// The answer for the client, once, as soon as it is certain.
    pub fn take_answer(
        &mut self,
        now_ms: u64,
        ring_version: u64,
    ) -> Option<Result<PutReceipt, RequestError>> {
        if self.is_answered {
            return None;
        }
        let acked = self.tally.answered() as u32;
        let is_required = self.debts.is_required();
        let may_count = self.may_stand_in() && !self.tally.has_counted(self.me);
        let own = usize::from(may_count && self.debts.is_storing());
        let possible = self.debts.possible(|node| self.counts(node)) + own;
        // The one that is short, where two must be reached.
        let is_short = |tally: &&Tally| tally.standing(possible) != Standing::Reached;
        let also = self.also.as_ref().map(|(_, tally)| tally);
        let tally = also.filter(is_short).filter(|_| !is_short(&&self.tally));
        let tally = tally.unwrap_or(&self.tally);
        let standing = tally.standing(possible);
        let is_early = now_ms < self.deadline_ms;
        let short = |effect| {
            let (needed, answered) = (tally.needed() as u32, tally.answered() as u32);
            Err(RequestError::QuorumNotReached { needed, answered, effect })
        };
        let answer = match (&self.name, standing) {
            (Name::Wanted(_), _) if is_early => return None,
            // What the store here mints may yet be.
            (Name::Wanted(naming), _) if naming.is_here() => short(Effect::Maybe),
            (Name::Wanted(_), _) => short(Effect::None),
            (Name::Given(..), _) if self.refusal.is_some() => {
                let reason = self.refusal.take().unwrap_or_default();
                Err(RequestError::Store { reason, effect: Effect::Maybe })
            }
            (Name::Given(..), Standing::Reached) if is_required && is_early => return None,
            (Name::Given(dot, siblings), Standing::Reached) if !is_required => {
                Ok(self.receipt(*dot, siblings, acked, ring_version))
            }
            (Name::Given(..), Standing::Pending) if is_early => return None,
            _ => short(Effect::Maybe),
        };
        self.is_answered = true;
        Some(answer)
    }

    fn receipt(&self, dot: Dot, siblings: &Siblings, acked: u32, ring_version: u64) -> PutReceipt {
        let versions = siblings.versions();
        let others = versions.iter().filter(|v| !v.dots.contains(&dot)).count();
        // A retry may find that its write was replaced meanwhile, or that another version stands
        // under its dot since a fold: its client has seen neither.
        let is_own = |v: &LiveVersion| v.version.origin == Origin::Client(dot);
        let is_sole = others == 0 && versions.iter().any(is_own);
        PutReceipt {
            dot,
            context: is_sole.then(|| Context::of(siblings)),
            siblings_remaining: others as u32,
            acked,
            hinted: self.hinted,
            ring_version,
        }
    }

    /// Whether the client is answered, be it that its deadline has passed.
    pub fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// Whether every owner has acknowledged it.
    pub fn is_everywhere(&self) -> bool {
        self.primaries.iter().all(|owner| self.tally.has_counted(*owner))
    }

    /// Whether the write may be: it has its dot, or the store here is about to mint it.
    pub fn is_begun(&self) -> bool {
        self.naming().is_none_or(Naming::is_here)
    }

    /// How many nodes must hold it.
    pub fn needed(&self) -> u32 {
        self.tally.needed() as u32
    }

    /// Whether the write may be, and an owner have nothing of it.
    pub fn is_in_debt(&self) -> bool {
        match &self.name {
            Name::Wanted(naming) => naming.is_here(),
            Name::Given(..) => !self.debts.are_settled(),
        }
    }

    /// Whether the client is answered and no owner is owed anything.
    pub fn is_finished(&self) -> bool {
        self.is_answered && !self.is_in_debt()
    }
}
