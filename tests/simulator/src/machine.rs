//! One machine: a real node, its store, its clocks.

use std::sync::Arc;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use stator_core::agreement::Acceptor;
use stator_core::catalogue::{Catalogue, Decision};
use stator_core::event::{Area, Backlog, Epochs, Now};
use stator_core::id::{Incarnation, NodeId};
use stator_core::node::{Node, Settings};
use stator_core::ring::MadeMoves;

use super::doors::{Door, Sender};
use super::queue::Micros;
use super::store::Store;

/// When the world begins, in milliseconds since 1970 (UTC).
const BEGIN_MS: u64 = 1_800_000_000_000;

/// A machine that runs a node, or lies still.
pub struct Machine {
    /// The node's id.
    pub id: NodeId,
    /// Where it is reached.
    pub address: String,
    /// Whom it is connected with, where directories are copied.
    pub door: Option<Door>,
    /// Whether others ever had reason to take it for gone.
    pub was_gone: bool,
    /// Who told it last, and when, that another process is its node.
    pub refused_by: Option<(usize, Micros)>,
    /// The node, while it runs.
    pub node: Option<Node>,
    /// Counts its starts. Effects of an earlier life are void.
    pub life: u64,
    /// Its store.
    pub store: Store,
    /// Does nothing until then.
    pub frozen_until_us: Micros,
    /// Whether what waits until then is dropped.
    pub is_paused: bool,
    /// How often its disk answers a write with an error.
    pub disk_failure: f64,
    /// How often its disk does not save a small file.
    pub file_failure: f64,
    /// Whether it is about to stop, and hands over what it owes.
    pub is_stopping: bool,
    /// How much longer its disk takes than a good one.
    pub disk_factor: u64,
    /// The tick that is planned, if one is.
    pub tick_at_us: Option<Micros>,
    /// Whether it lost its power since it ran last.
    pub is_unclean: bool,
    /// How often it compares its partitions with others.
    pub exchange_cover_ms: u64,
    /// How often it looks for what was deleted.
    pub collect_period_ms: u64,
    /// Whether the next page for its hash trees is planned.
    pub is_rebuild_planned: bool,
    /// The catalogue that it has persisted, as bytes.
    pub catalogue: Vec<u8>,
    /// The moves that were made since.
    pub moves: String,
    /// What it has promised and accepted, as persisted.
    pub ballot: Acceptor<Arc<Decision>>,
    /// The last loss of its disk.
    pub loss: Option<u64>,
    /// What is left of the fill after it, as persisted.
    pub backlog: Option<String>,
    /// Its send epochs, as persisted.
    pub epochs: Option<String>,
    /// An old copy of its store.
    pub copy: Option<Box<Store>>,
    /// When each area's disk is free again.
    busy_until_us: [Micros; 2],
    /// When each area's last sync ends.
    synced_at_us: [Micros; 2],
    started_us: Micros,
    /// Its monotonic clock at the start.
    origin_ms: u64,
    /// How far its wall clock is off.
    pub skew_ms: i64,
    /// The latest time that its wall clock has said to its node.
    pub wall_max_ms: u64,
}

impl Machine {
    /// A machine that was never started, with the catalogue that it will start with.
    pub fn new(id: NodeId, catalogue: &Catalogue, rng: &mut ChaCha8Rng) -> Self {
        let store = Store::new(id, Incarnation(rng.random()));
        Machine {
            id,
            address: format!("n{}", id.0),
            door: None,
            was_gone: false,
            refused_by: None,
            node: None,
            life: 0,
            store,
            frozen_until_us: 0,
            is_paused: false,
            disk_failure: 0.0,
            file_failure: 0.0,
            is_stopping: false,
            disk_factor: 1,
            tick_at_us: None,
            is_unclean: false,
            exchange_cover_ms: 0,
            collect_period_ms: 0,
            is_rebuild_planned: false,
            catalogue: catalogue.encode(),
            moves: String::new(),
            ballot: Acceptor::default(),
            loss: None,
            backlog: None,
            epochs: None,
            copy: None,
            busy_until_us: [0; 2],
            synced_at_us: [0; 2],
            started_us: 0,
            origin_ms: 0,
            skew_ms: 0,
            wall_max_ms: 0,
        }
    }

    /// Starts the node with what is on disk.
    pub fn start(&mut self, now_us: Micros, rng: &mut ChaCha8Rng) {
        self.life += 1;
        self.started_us = now_us;
        self.origin_ms = rng.random_range(0..1_000_000_000);
        self.busy_until_us = [now_us; 2];
        self.synced_at_us = [now_us; 2];
        self.frozen_until_us = 0;
        self.tick_at_us = None;
        self.is_rebuild_planned = false;
        self.is_stopping = false;
        let catalogue = Catalogue::decode(&self.catalogue).ok().map(|mut catalogue| {
            MadeMoves::replay(self.moves.as_bytes(), &mut catalogue.ring);
            Arc::new(catalogue)
        });
        let now = self.now(now_us);
        let settings = Settings {
            exchange_cover_ms: self.exchange_cover_ms,
            collect_period_ms: self.collect_period_ms,
            ..Settings::default()
        };
        let mut node = Node::new(self.id, settings, catalogue, rng.random(), now);
        node.remember_ballot(self.ballot.clone());
        if std::mem::take(&mut self.is_unclean) {
            node.recover();
        }
        let epochs = self.epochs.as_ref().and_then(|text| Epochs::decode(text));
        epochs.into_iter().for_each(|epochs| node.keep_epochs(epochs));
        if let Some(backlog) = self.left_to_fill() {
            node.fill(backlog);
        }
        self.node = Some(node);
    }

    /// What is left to be filled after the last loss of the disk.
    pub fn left_to_fill(&self) -> Option<Backlog> {
        let kept = self.backlog.as_ref().and_then(|text| Backlog::decode(text));
        Backlog::after(self.loss, kept)
    }

    /// Whether anything is left to be filled after the last loss of the disk.
    pub fn is_left_to_fill(&self) -> bool {
        let left = self.left_to_fill().map(|backlog| backlog.left);
        left.is_some_and(|left| left.is_none_or(|left| !left.is_empty()))
    }

    /// A machine that has a copy of this one's files as they are now, and stands at `address`. Of what
    /// was not synced `kept` of 1 is in it.
    pub fn copied(&self, address: String, kept: f64, incarnation: Incarnation) -> Machine {
        let mut store = self.store.clone();
        let steps = |area| (store.shelf(area).unsynced() as f64 * kept) as usize;
        let kept = (steps(Area::Data), steps(Area::Hints));
        let is_unclean = self.node.is_some() || self.is_unclean;
        match is_unclean {
            true => store.restart_unclean(kept, incarnation),
            false => store.restart_clean(incarnation),
        }
        Machine {
            id: self.id,
            address,
            door: None,
            was_gone: true,
            refused_by: None,
            node: None,
            life: 0,
            store,
            frozen_until_us: 0,
            is_paused: false,
            disk_failure: 0.0,
            file_failure: 0.0,
            is_stopping: false,
            disk_factor: 1,
            tick_at_us: None,
            is_unclean,
            exchange_cover_ms: 0,
            collect_period_ms: 0,
            is_rebuild_planned: false,
            catalogue: self.catalogue.clone(),
            moves: self.moves.clone(),
            ballot: self.ballot.clone(),
            loss: self.loss,
            backlog: self.backlog.clone(),
            epochs: self.epochs.clone(),
            copy: None,
            busy_until_us: [0; 2],
            synced_at_us: [0; 2],
            started_us: 0,
            origin_ms: 0,
            skew_ms: self.skew_ms,
            wall_max_ms: 0,
        }
    }

    /// As whom it sends.
    pub fn sender(&self) -> Sender {
        Sender { node: self.id, incarnation: self.store.incarnation() }
    }

    /// Whether it runs, and does not move.
    pub fn is_still(&self, now_us: Micros) -> bool {
        self.node.is_some() && !self.is_stopping && self.frozen_until_us > now_us
    }

    /// Whether clients' requests are taken.
    pub fn takes_requests(&self, now_us: Micros) -> bool {
        self.node.is_some() && !self.is_stopping && self.frozen_until_us <= now_us
    }

    /// What time the machine believes it is.
    pub fn now(&self, now_us: Micros) -> Now {
        let monotonic_ms = self.origin_ms + (now_us - self.started_us) / 1_000;
        let wall_ms = (BEGIN_MS + now_us / 1_000).saturating_add_signed(self.skew_ms);
        Now { monotonic_ms, wall_ms }
    }

    /// When the node's next timer is due, at the earliest after `now_us`.
    pub fn next_timer_us(&self, now_us: Micros) -> Option<Micros> {
        let at_ms = self.node.as_ref()?.next_timer_ms()?;
        let after_start_ms = at_ms.saturating_sub(self.origin_ms);
        Some((self.started_us + after_start_ms * 1_000).max(now_us))
    }

    /// When the disk has carried out a step of `area` that arrives now.
    pub fn disk_us(&mut self, area: Area, now_us: Micros, rng: &mut ChaCha8Rng) -> Micros {
        let busy_us = rng.random_range(20..400) * self.disk_factor;
        let at = &mut self.busy_until_us[area as usize];
        *at = (*at).max(now_us) + busy_us;
        *at
    }

    /// When a sync of `area` that is asked for now ends.
    pub fn sync_us(&mut self, area: Area, now_us: Micros, rng: &mut ChaCha8Rng) -> Micros {
        let busy_us = rng.random_range(200..6_000) * self.disk_factor;
        let at = &mut self.synced_at_us[area as usize];
        *at = (*at).max(now_us + busy_us);
        *at
    }
}
