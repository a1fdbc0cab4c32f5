//! Who is served as which member: one live holder per node id.
//!
//! A data directory can be copied, and a process started on each copy. All of them say, with the
//! cluster's secret, that they are the same node. Only one may be it: its *holder*, a start
//! ([`Incarnation`]) at an address. The catalogue names the holder of each member, in a register
//! that is gossiped and joined like everything in it, so all members come to name the same one.
//! [`Holders`] decides, on each member for itself, when to write another name there.
//!
//! # The rules
//! 1. *Who is dialled is believed, who dials is not.* A process that says of itself that it is a
//!    member proves nothing; one that answers at the address at which the member is known shows that
//!    the process of before is not there any more. It is the holder at once: so is a node that was
//!    restarted where it was, and the process that comes first after a machine's reboot.
//! 2. Who comes from elsewhere *asks*. It becomes the holder if the incumbent is gone, that is, if
//!    there is no session with it, nobody answered as it for [`PATIENCE_MS`], and the failure
//!    detector does not hold it alive by what others say; and if it is found at the address that it
//!    names. So a copy that says that it is where the original is gets nowhere.
//! 3. Something that takes connections at the incumbent's address and says nothing, as a stopped
//!    process does, counts as gone only after [`SILENCE_MS`].
//! 4. While the incumbent lives, whoever else asks is refused by name, and named to operators
//!    ([`Holders::intruders`]). It may ask again, so when the incumbent stops it becomes the holder by
//!    itself.
//!
//! The patience is not politeness: copies of a whole cluster may be started before the cluster
//! itself, and must not take the seats of members that start a few seconds later.
//!
//! In a network that is parted two members may accept two holders. The register's join leaves one
//! of them; the other is told and serves nothing any more. What only it had taken meanwhile stays in
//! its store. Nothing is named alike by the two, because each mints in its own incarnation.
//!
//! Left out: acceptors of a ring (`agreement`) know nodes, not holders. Who is refused, or was not
//! accepted yet, does not vote. But in a parted network both sides may serve a holder of one node, and
//! a copy does not know what the original has promised; if both sides commit a ring then, there may be
//! two of one version. The simulator finds it (scenario "copies in new rings", which no seed takes).

use std::collections::BTreeMap;

use crate::id::{Incarnation, NodeId};

/// How long nobody may have answered as the holder before another process may take its place, in
/// milliseconds.
pub const PATIENCE_MS: u64 = 6_000;
/// The same, if something takes connections at its address, in milliseconds.
pub const SILENCE_MS: u64 = 30_000;
/// How long a process that was refused is named after it asked last, in milliseconds.
pub const NAMED_MS: u64 = 10_000;
/// How long a decision stands before the catalogue must say the same, in milliseconds.
const WRITTEN_WITHIN_MS: u64 = 10_000;
/// The most processes that are known to ask for one node's place; of more, the first.
const ASKING_MAX: usize = 8;

/// A process that is, or says that it is, a member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holder {
    /// Its start; that of nobody is 0: then anyone is it.
    pub incarnation: Incarnation,
    /// Where peers reach it.
    pub peer_address: String,
    /// Where clients reach it.
    pub client_address: String,
    /// Where operators reach it.
    pub admin_address: String,
}

/// Whether a process is served as the member it says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is the holder.
    Held,
    /// That is being looked into: it may ask again.
    Asking,
    /// Another process is.
    Refused(Holder),
}

/// Who answered at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A process that is the node, and proved the secret.
    Process(Holder),
    /// Someone who takes connections and says nothing.
    Silence,
    /// Nobody, or another node.
    Nobody,
}

/// Where a member was dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where<'a> {
    /// Where the catalogue knows it.
    Known,
    /// Where this process says that it is.
    Named(&'a Holder),
    /// Where it was met by other means: it asks there.
    Met,
}

/// What came of dialling a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialled {
    /// The holder that it has from now on, if that is another than before: it is to be written to
    /// the catalogue.
    pub decided: Option<Holder>,
    /// How who answered stands; where nobody did, that is being looked into.
    pub standing: Standing,
}

/// A process that was refused because another one is the node, and asks again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intruder {
    /// The node that it says it is.
    pub node: NodeId,
    /// Itself.
    pub process: Holder,
    /// Who is the node.
    pub holder: Holder,
}

#[derive(Debug)]
struct Asking {
    process: Holder,
    since_ms: u64,
    last_ms: u64,
    was_refused: bool,
}

/// A member's place.
#[derive(Debug, Default)]
struct Place {
    /// The register, as the catalogue had it last, with its version.
    written: (u64, Holder),
    holder: Holder,
    /// Until when what was decided here stands above what was written before.
    decided_until_ms: u64,
    /// Since when nobody answers as the holder.
    gone_since_ms: Option<u64>,
    /// Whether something took connections at its address since then.
    is_silent: bool,
    asking: BTreeMap<Incarnation, Asking>,
}

impl Place {
    fn take(&mut self, holder: Holder) {
        self.asking.remove(&holder.incarnation);
        (self.holder, self.gone_since_ms, self.is_silent) = (holder, None, false);
    }

    fn decide(&mut self, now_ms: u64, holder: Holder) -> Option<Holder> {
        self.take(holder.clone());
        self.decided_until_ms = now_ms + WRITTEN_WITHIN_MS;
        Some(holder)
    }

    fn is_gone(&self, now_ms: u64) -> bool {
        let patience_ms = if self.is_silent { SILENCE_MS } else { PATIENCE_MS };
        self.gone_since_ms.is_some_and(|since_ms| now_ms >= since_ms + patience_ms)
    }
}

/// What one member knows of the holders of all.
#[derive(Debug, Default)]
pub struct Holders {
    places: BTreeMap<NodeId, Place>,
}

impl Holders {
    /// Takes in what the catalogue says of a member: the version of its entry, and the holder. A
    /// catalogue from before what was just decided here is passed over.
    pub fn learn(&mut self, now_ms: u64, node: NodeId, version: u64, holder: Holder) {
        let place = self.places.entry(node).or_default();
        // Of two members that decide at the same time one is overruled: by another holder, of the
        // same version perhaps.
        let written = (version, holder);
        let is_news = written != place.written || now_ms >= place.decided_until_ms;
        if is_news && written.1 != place.holder {
            place.take(written.1.clone());
        }
        place.written = written;
    }

    /// Forgets who is no member.
    pub fn retain(&mut self, is_member: impl Fn(NodeId) -> bool) {
        self.places.retain(|node, _| is_member(*node));
    }

    /// Whether this start is the node, as far as is known.
    pub fn is_holder(&self, node: NodeId, incarnation: Incarnation) -> bool {
        let holder =
            self.places.get(&node).map_or(Incarnation::default(), |p| p.holder.incarnation);
        holder == Incarnation::default() || holder == incarnation
    }

    /// The holder of a member.
    pub fn holder(&self, node: NodeId) -> Option<&Holder> {
        self.places.get(&node).map(|place| &place.holder)
    }

    /// A process dialled this node, proved the secret, and says that it is `node`. `is_connected`
    /// says whether there is a session with the holder.
    pub fn asks(
        &mut self,
        now_ms: u64,
        node: NodeId,
        process: &Holder,
        is_connected: bool,
    ) -> Standing {
        if self.is_holder(node, process.incarnation) {
            let Some(place) = self.places.get_mut(&node) else { return Standing::Held };
            place.gone_since_ms = None;
            if place.holder.peer_address != process.peer_address {
                note(place, now_ms, process, false);
            }
            return Standing::Held;
        }
        let Some(place) = self.places.get_mut(&node) else { return Standing::Held };
        note(place, now_ms, process, is_connected);
        match is_connected {
            true => Standing::Refused(place.holder.clone()),
            false => Standing::Asking,
        }
    }

    /// A member was dialled.
    pub fn dialled(
        &mut self,
        now_ms: u64,
        node: NodeId,
        place: Where<'_>,
        found: Found,
    ) -> Dialled {
        let process = match &found {
            Found::Process(process) => Some(process.clone()),
            Found::Silence | Found::Nobody => None,
        };
        let decided = match place {
            Where::Known => self.answered(now_ms, node, found),
            Where::Named(asked) => self.found(now_ms, node, asked, found),
            Where::Met => {
                let standing = match &process {
                    Some(process) => self.asks(now_ms, node, process, false),
                    None => Standing::Asking,
                };
                return Dialled { decided: None, standing };
            }
        };
        let standing = match (process, self.holder(node)) {
            (Some(process), Some(holder)) if !self.is_holder(node, process.incarnation) => {
                Standing::Refused(holder.clone())
            }
            (Some(_), _) => Standing::Held,
            (None, _) => Standing::Asking,
        };
        Dialled { decided, standing }
    }

    /// The address of a member was dialled. Gives the holder that it has from now on, if that is
    /// another than before.
    pub fn answered(&mut self, now_ms: u64, node: NodeId, found: Found) -> Option<Holder> {
        let place = self.places.get_mut(&node)?;
        let process = match found {
            Found::Process(process) => process,
            Found::Silence | Found::Nobody => {
                place.is_silent |= found == Found::Silence;
                place.gone_since_ms.get_or_insert(now_ms);
                return None;
            }
        };
        place.gone_since_ms = None;
        if process.peer_address != place.holder.peer_address {
            note(place, now_ms, &process, false);
        }
        if place.holder.incarnation == process.incarnation {
            return None;
        }
        // Where it was found is certain, what it says of that is not.
        let peer_address = place.holder.peer_address.clone();
        let asking = place.asking.remove(&process.incarnation);
        let incarnation = process.incarnation;
        let decided = place.decide(now_ms, Holder { peer_address, ..process });
        place.asking.extend(asking.map(|asking| (incarnation, asking)));
        decided
    }

    /// Who is to be dialled at the address that it names itself, because it may become the holder,
    /// or is it and has moved. `is_alive` says whether others hear of the present holder.
    pub fn to_dial(&self, now_ms: u64, node: NodeId, is_alive: bool) -> Option<Holder> {
        let place = self.places.get(&node)?;
        let may_take_over = place.is_gone(now_ms) && !is_alive;
        let may = |asking: &&Asking| {
            asking.process.incarnation == place.holder.incarnation
                || may_take_over && now_ms >= asking.since_ms + PATIENCE_MS
        };
        let asking = place.asking.values().filter(may);
        asking.min_by_key(|asking| asking.since_ms).map(|asking| asking.process.clone())
    }

    /// The address that `asked` named was dialled: see [`Self::to_dial`]. Gives the holder that the
    /// node has from now on, if that is another than before.
    pub fn found(
        &mut self,
        now_ms: u64,
        node: NodeId,
        asked: &Holder,
        found: Found,
    ) -> Option<Holder> {
        let place = self.places.get_mut(&node)?;
        let is_it = matches!(&found, Found::Process(p) if p.incarnation == asked.incarnation);
        let is_holder = place.holder.incarnation == asked.incarnation;
        if is_it && (is_holder || place.is_gone(now_ms)) {
            return place.decide(now_ms, asked.clone());
        }
        if !is_it {
            // It must ask again first.
            place.asking.remove(&asked.incarnation);
        }
        None
    }

    /// Who asks for places whose holders live.
    pub fn intruders(&self, now_ms: u64) -> Vec<Intruder> {
        let of = |(node, place): (&NodeId, &Place)| {
            let (node, holder) = (*node, place.holder.clone());
            let is_named = move |asking: &&Asking| {
                asking.was_refused && now_ms < asking.last_ms.saturating_add(NAMED_MS)
            };
            let intruder = move |asking: &Asking| {
                let process = asking.process.clone();
                Intruder { node, process, holder: holder.clone() }
            };
            place.asking.values().filter(is_named).map(intruder).collect::<Vec<_>>()
        };
        self.places.iter().flat_map(of).collect()
    }
}

/// Notes that a process asks.
fn note(place: &mut Place, now_ms: u64, process: &Holder, was_refused: bool) {
    place.asking.retain(|_, asking| now_ms < asking.last_ms.saturating_add(NAMED_MS));
    let is_known = place.asking.contains_key(&process.incarnation);
    if !is_known && place.asking.len() >= ASKING_MAX {
        return;
    }
    let asking = place.asking.entry(process.incarnation).or_insert_with(|| Asking {
        process: process.clone(),
        since_ms: now_ms,
        last_ms: now_ms,
        was_refused,
    });
    (asking.last_ms, asking.was_refused) = (now_ms, was_refused);
}
