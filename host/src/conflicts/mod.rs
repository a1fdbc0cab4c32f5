//! Conflicts: every merge of a node, on record, and modules on trial.
//!
//! All merges go through here: those for readers, and those whose result is stored. [`Conflicts`]
//! asks the merge host, and of every *distinct* merge, one that the host did not remember, keeps a
//! record (`record.rs`) in the node's feed (`feed.rs`) before the answer goes on its way. Failures
//! become dead letters (`letters.rs`), which are tried again when another module is activated.
//!
//! If the keyspace tries a module ([`stator_core::catalogue::Trial`]), the other module of the two
//! runs behind a distinct merge, never before it, and `trials.rs` compares. A canary beyond its
//! limits is ended for the whole cluster by the node that finds it so.
//!
//! | cost of a merge | |
//! |---|---|
//! | remembered by the host | none |
//! | distinct | a line of some hundred bytes, written to the system's memory of files |
//! | distinct, in a trial | a second merge, when a slot is free; none if the node is overloaded |
//!
//! Left out: an order over several nodes (who reads all feeds sorts by time), and records of reads
//! that clients coordinate themselves: a client that merges is none of the node's business.

mod feed;
mod letters;
mod record;
mod trials;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stator_core::catalogue::{Catalogue, Keyspace};
use stator_core::divergence::{Divergence, MergeFailure, Resolution};
use stator_core::id::{Dot, KeyspaceId, ModuleDigest};
use tokio::sync::{mpsc, watch};

pub use feed::Cursor;
pub use letters::{LETTERS_MAX, Letter};
pub use record::{Came, Cause, Comparison, Conflict, Noted};
pub use trials::TrialOver;

use feed::Feed;
use letters::Letters;
use trials::Trials;

use crate::driver::{Clock, Shared};
use crate::merge::MergeHost;

/// How long a comparison waits for its module, and how often it looks.
const LOAD_WAIT: Duration = Duration::from_secs(10);
const LOAD_POLL: Duration = Duration::from_millis(100);

/// What came of a merge.
type Answer = Result<Arc<Resolution>, MergeFailure>;

/// The conflicts of a node. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Conflicts(Arc<Inner>);

struct Inner {
    merges: MergeHost,
    clock: Clock,
    shared: Arc<Shared>,
    /// None if the feed is off.
    book: Option<Book>,
    trials: Trials,
}

/// The feed and what it adds up to.
struct Book {
    feed: Feed,
    letters: Mutex<Letters>,
}

impl Conflicts {
    /// The conflicts of a node that keeps its feed in `folder`, up to so many bytes; 0 for none.
    /// Also what ends trials, to be carried out. Blocks: it reads the feed.
    pub fn open(
        folder: &Path,
        bytes_max: u64,
        merges: MergeHost,
        (clock, shared): (Clock, Arc<Shared>),
    ) -> io::Result<(Self, mpsc::Receiver<TrialOver>)> {
        let book = match bytes_max {
            0 => None,
            bytes_max => {
                let mut letters = Letters::default();
                let feed = Feed::open(folder, bytes_max, |conflict| letters.saw(&conflict))?;
                letters.looked_through = feed.first();
                Some(Book { feed, letters: Mutex::new(letters) })
            }
        };
        let (trials, over) = Trials::new();
        Ok((Conflicts(Arc::new(Inner { merges, clock, shared, book, trials })), over))
    }

    /// Merges by `module`, records it with the writes that each sibling stands for, and sees to the
    /// keyspace's trial.
    pub async fn resolve(
        &self,
        cause: Cause,
        module: &ModuleDigest,
        divergence: &Divergence,
        dots: impl FnOnce() -> Vec<Vec<Dot>>,
    ) -> Answer {
        let (answer, conflict) = self.0.ask(cause, module, divergence).await;
        let Some(mut conflict) = conflict else { return answer };
        let names = |dots: Vec<Dot>| dots.iter().map(ToString::to_string).collect();
        conflict.siblings = dots().into_iter().map(names).collect();
        let is_lasting = answer.as_ref().err().is_none_or(MergeFailure::is_lasting);
        if is_lasting && let Some(keyspace) = self.0.trying(&divergence.keyspace, &divergence.key) {
            self.try_beside(keyspace, *module, (divergence, &conflict.siblings), &answer);
        }
        self.0.record(conflict);
        answer
    }

    /// Has the other module of a trial merge the same, behind the answer.
    fn try_beside(
        &self,
        keyspace: Keyspace,
        module: ModuleDigest,
        (divergence, siblings): (&Divergence, &[Vec<String>]),
        answer: &Answer,
    ) {
        let Some(slot) = self.0.trials.slot() else { return };
        let (inner, answer) = (self.0.clone(), answer.clone());
        let (divergence, siblings) = (divergence.clone(), siblings.to_vec());
        tokio::spawn(async move {
            inner.compare(&keyspace, module, (&divergence, siblings), &answer).await;
            drop(slot);
        });
    }

    /// The numbers of the last record as they come; none if the feed is off.
    pub fn watch(&self) -> Option<watch::Receiver<u64>> {
        self.0.book.as_ref().map(|book| book.feed.watch())
    }

    /// Records from the cursor on, about `bytes_max` of them. Blocks.
    ///
    /// # Errors
    /// The feed cannot be read.
    pub fn read(&self, cursor: &mut Cursor, bytes_max: u64) -> io::Result<Vec<Conflict>> {
        match &self.0.book {
            Some(book) => book.feed.read(cursor, bytes_max),
            None => Ok(Vec::new()),
        }
    }

    /// The dead letters of a keyspace; of all with an empty name.
    pub fn letters(&self, keyspace: &str) -> Vec<Letter> {
        self.0.book.as_ref().map(|book| book.letters().of(keyspace)).unwrap_or_default()
    }

    /// The key has nothing to be merged any more.
    pub fn settle(&self, keyspace: &str, key: &[u8]) {
        if let Some(book) = &self.0.book {
            book.letters().settle(keyspace, key);
        }
    }

    /// What this node has seen of the keyspace's trial.
    pub fn trial_figures(&self, keyspace: &Keyspace) -> stator_core::catalogue::TrialFigures {
        self.0.trials.figures(keyspace)
    }

    /// Forgets trials that are over.
    pub fn forget_trials(&self, catalogue: &Catalogue) {
        self.0.trials.keep(catalogue);
    }
}

impl Inner {
    /// Merges; with the record of it, if it was not remembered.
    async fn ask(
        &self,
        cause: Cause,
        module: &ModuleDigest,
        divergence: &Divergence,
    ) -> (Answer, Option<Conflict>) {
        let begun = Instant::now();
        let resolved = self.merges.merge(module, divergence).await;
        if resolved.is_remembered {
            return (resolved.answer, None);
        }
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let times = (self.clock.now().wall_ms, micros);
        let told = resolved.answer.as_ref().map(AsRef::as_ref);
        let conflict = Conflict::of(cause, module, divergence, told, times);
        (resolved.answer, Some(conflict))
    }

    /// For a comparison, of which nobody waits: the module may just be on its way here.
    async fn ask_once_loaded(
        &self,
        module: &ModuleDigest,
        divergence: &Divergence,
    ) -> (Answer, Option<Conflict>) {
        let until = Instant::now() + LOAD_WAIT;
        while !self.merges.is_loaded(module) && Instant::now() < until {
            tokio::time::sleep(LOAD_POLL).await;
        }
        self.ask(Cause::Trial, module, divergence).await
    }

    fn record(&self, mut conflict: Conflict) {
        let Some(book) = &self.book else { return };
        // One at a time, so that letters change in the feed's order.
        let mut letters = book.letters();
        book.feed.append(&mut conflict);
        letters.saw(&conflict);
        let first = book.feed.first();
        if letters.looked_through != first {
            letters.looked_through = first;
            for mut letter in letters.before(first) {
                book.feed.append(&mut letter);
                letters.saw(&letter);
            }
        }
    }

    /// The keyspace, if it tries a module with the key.
    fn trying(&self, name: &str, key: &[u8]) -> Option<Keyspace> {
        let catalogue = self.shared.catalogue()?;
        let keyspace = catalogue.keyspace(name)?;
        let is_tried = keyspace.trial.value.as_ref().is_some_and(|trial| trial.compares(key));
        is_tried.then(|| keyspace.clone())
    }

    /// Merges by the trial's other module, and compares.
    async fn compare(
        &self,
        keyspace: &Keyspace,
        module: ModuleDigest,
        (divergence, siblings): (&Divergence, Vec<Vec<String>>),
        answer: &Answer,
    ) {
        let Some(trial) = &keyspace.trial.value else { return };
        let Some(pinned) = keyspace.reconcile.value.module() else { return };
        let other = if module == trial.module { pinned } else { trial.module };
        let (others, conflict) = self.ask_once_loaded(&other, divergence).await;
        let is_lasting = others.as_ref().err().is_none_or(MergeFailure::is_lasting);
        let Some(mut conflict) = conflict.filter(|_| is_lasting) else { return };
        let pair = if other == trial.module { [&others, answer] } else { [answer, &others] };
        let compared = self.trials.compare(keyspace, trial, pair);
        if compared != Comparison::Same {
            conflict.siblings = siblings;
            conflict.comparison = Some(compared);
            self.record(conflict);
        }
    }
}

impl Book {
    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which keyspaces are pinned to another module than before, or end a trial.
pub fn reactivated(before: Option<&Catalogue>, now: &Catalogue) -> Vec<KeyspaceId> {
    let merging = |catalogue: &Catalogue, id| {
        let keyspace = catalogue.keyspace_by_id(id)?;
        Some((keyspace.reconcile.value, keyspace.trial.value.clone()))
    };
    let all = now.live_keyspaces().map(|keyspace| keyspace.id);
    all.filter(|id| before.is_some_and(|before| merging(before, *id) != merging(now, *id)))
        .collect()
}
