//! Conflicts: every merge of a node, on record, and modules on trial.
//!
//! All merges go through here: those for readers, and those whose result is stored. [`Conflicts`]
//! asks the merge host, and of every *distinct* merge, one that the host did not remember, keeps a
//! record (`record.rs`) in the node's feed, a [journal](crate::journal), before the answer goes on
//! its way. Failures become dead letters (`letters.rs`), which are tried again when another module is
//! activated. Of some it keeps the input too (`recorder.rs`).
//!
//! A record is not synced. What a power cut takes of the feed it takes of the memory that the siblings
//! were merged, too, so the next read of the key merges and records them again; only what was folded
//! meanwhile is not merged again.
//!
//! If the keyspace tries a module ([`stator_core::catalogue::Trial`]), the other module of the two
//! runs behind a distinct merge, never before it, and `trials.rs` compares. A canary beyond its
//! limits is ended for the whole cluster by the node that finds it so.
//!
//! | cost of a merge | |
//! |---|---|
//! | remembered by the host | none |
//! | distinct | a line of some hundred bytes, and its input if there is room, written to the system's memory of files |
//! | distinct, in a trial | a second merge, when a slot is free; none if the node is overloaded |
//!
//! Left out: an order over several nodes (who reads all feeds sorts by time), and records of reads
//! that clients coordinate themselves: a client that merges is none of the node's business.

mod care;
mod letters;
mod record;
mod recorder;
mod trials;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use stator_core::catalogue::{Catalogue, Keyspace};
use stator_core::divergence::{Divergence, MergeFailure, Outcome, Resolution};
use stator_core::id::{Dot, KeyspaceId, ModuleDigest};
use tokio::sync::mpsc;

pub use letters::{LETTERS_MAX, Letter};
pub use record::{Came, Cause, Comparison, Conflict, Noted};
pub use recorder::Recording;
pub use trials::TrialOver;

use care::Care;
use letters::Letters;
use recorder::Recorder;
use trials::Trials;

use crate::driver::{Clock, Shared};
use crate::journal::{Cursor, Journal};
use crate::merge::{MergeHost, Used};
use crate::telemetry::names::{
    CONFLICTS, KEYSPACE_FUEL, KEYSPACE_MERGE_MEMORY, MERGES_OVER_BUDGET,
};
use crate::telemetry::traces::{self, Span};

/// How long a comparison waits for its module, and how often it looks.
const LOAD_WAIT: Duration = Duration::from_secs(10);
const LOAD_POLL: Duration = Duration::from_millis(100);

/// How long a merge beyond a budget waits for its turn, and how often it looks.
const BEHIND_WAIT: Duration = Duration::from_secs(60);
const BEHIND_POLL: Duration = Duration::from_millis(100);
/// How much of the feed is read at a time, in bytes.
const READ_BYTES: u64 = 1 << 20;

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
    /// None if nothing is recorded.
    recorder: Option<Recorder>,
    trials: Trials,
    care: Care,
}

/// The feed and what it adds up to.
struct Book {
    feed: Journal<Conflict>,
    letters: Mutex<Letters>,
}

impl Conflicts {
    /// The conflicts of a node that keeps its feed and recordings in folders of `home`, each up to so
    /// many bytes; 0 for none. Also what ends trials, to be carried out. Blocks: it reads the feed.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn open(
        home: &Path,
        [feed_bytes_max, recordings_bytes_max]: [u64; 2],
        merges: MergeHost,
        (clock, shared): (Clock, Arc<Shared>),
    ) -> io::Result<(Self, mpsc::Receiver<TrialOver>)> {
        let book = match feed_bytes_max {
            0 => None,
            bytes_max => Some(Book::open(&home.join("conflicts"), bytes_max)?),
        };
        let recorder = match recordings_bytes_max {
            0 => None,
            bytes_max => Some(Recorder::open(&home.join("recordings"), bytes_max)?),
        };
        let (trials, over) = Trials::new();
        let care = Care::new();
        Ok((
            Conflicts(Arc::new(Inner { merges, clock, shared, book, recorder, trials, care })),
            over,
        ))
    }

    /// Merges by `module`, records it with the writes that each sibling stands for, and sees to the
    /// keyspace's budget, its pauses and its trial.
    pub async fn resolve(
        &self,
        cause: Cause,
        module: &ModuleDigest,
        divergence: &Divergence,
        dots: impl Fn() -> Vec<Vec<Dot>>,
    ) -> Answer {
        let answer = self.resolve_within(cause, module, divergence, &dots).await;
        if matches!(answer, Err(MergeFailure::OverBudget { .. })) {
            let keyspace = divergence.keyspace.clone();
            metrics::counter!(MERGES_OVER_BUDGET.name, "keyspace" => keyspace).increment(1);
            self.merge_behind(cause, *module, (divergence, dots()));
        }
        answer
    }

    /// [`Self::resolve`], if the keyspace's budget has room for it now.
    async fn resolve_within(
        &self,
        cause: Cause,
        module: &ModuleDigest,
        divergence: &Divergence,
        dots: impl Fn() -> Vec<Vec<Dot>>,
    ) -> Answer {
        let catalogue = self.0.shared.catalogue();
        let keyspace = catalogue.as_ref().and_then(|c| c.keyspace(&divergence.keyspace));
        if catalogue.as_ref().zip(keyspace).is_some_and(|(c, k)| !c.is_signed_for(k, module)) {
            return Err(MergeFailure::NotSigned(*module));
        }
        // It was just deleted, or the node has no cluster: what comes of it reaches nobody.
        let gone = || MergeFailure::Unavailable("the keyspace is gone".to_owned());
        let keyspace = keyspace.ok_or_else(gone)?;
        let (merging, merges) = (&keyspace.merging.value, &self.0.merges);
        if !merging.paused
            && let Some(answer) = merges.recall(module, divergence, merging.memory_bytes)
        {
            if let Some(mut span) = traces::below(traces::here(), "merge") {
                describe(&mut span, (module, divergence), &answer, None);
            }
            return answer;
        }
        let needed = (module, merges.memory_needed(module));
        let held = self.0.care.admit(keyspace, needed, Instant::now())?;
        let span = traces::below(traces::here(), "merge");
        let (answer, made) = self.0.ask(cause, keyspace, module, divergence).await;
        drop(held);
        if let Some(mut span) = span {
            describe(
                &mut span,
                (module, divergence),
                &answer,
                made.as_ref().map(|(_, used)| *used),
            );
        }
        let Some((mut conflict, used)) = made else { return answer };
        self.0.ended(keyspace, module, &answer, used);
        if let Some(recorder) = &self.0.recorder {
            recorder.saw((&conflict.module, answer.is_err()), divergence, conflict.at_ms);
        }
        let names = |dots: Vec<Dot>| dots.iter().map(ToString::to_string).collect();
        conflict.siblings = dots().into_iter().map(names).collect();
        let is_lasting = answer.as_ref().err().is_none_or(MergeFailure::is_lasting);
        let trial = keyspace.trial.value.as_ref();
        if is_lasting && trial.is_some_and(|trial| trial.compares(&divergence.key)) {
            self.try_beside(keyspace, *module, (divergence, &conflict.siblings), &answer);
        }
        self.0.record(conflict);
        answer
    }

    /// Makes a merge once the keyspace's budget allows it, so that the next reader finds it.
    fn merge_behind(
        &self,
        cause: Cause,
        module: ModuleDigest,
        (divergence, dots): (&Divergence, Vec<Vec<Dot>>),
    ) {
        let Some(room) = self.0.care.behind() else { return };
        let (conflicts, divergence) = (self.clone(), divergence.clone());
        tokio::spawn(async move {
            let until = Instant::now() + BEHIND_WAIT;
            while Instant::now() < until {
                tokio::time::sleep(BEHIND_POLL).await;
                let merge = conflicts.resolve_within(cause, &module, &divergence, || dots.clone());
                if !matches!(merge.await, Err(MergeFailure::OverBudget { .. })) {
                    break;
                }
            }
            drop(room);
        });
    }

    /// Has the other module of a trial merge the same, behind the answer.
    fn try_beside(
        &self,
        keyspace: &Keyspace,
        module: ModuleDigest,
        (divergence, siblings): (&Divergence, &[Vec<String>]),
        answer: &Answer,
    ) {
        let Some(slot) = self.0.trials.slot() else { return };
        let (inner, keyspace, answer) = (self.0.clone(), keyspace.clone(), answer.clone());
        let (divergence, siblings) = (divergence.clone(), siblings.to_vec());
        tokio::spawn(async move {
            inner.compare(&keyspace, module, (&divergence, siblings), &answer).await;
            drop(slot);
        });
    }

    /// The feed; none if it is off.
    pub fn feed(&self) -> Option<&Journal<Conflict>> {
        self.0.book.as_ref().map(|book| &book.feed)
    }

    /// The recordings; none if they are off.
    pub fn recordings(&self) -> Option<&Journal<Recording>> {
        self.0.recorder.as_ref().map(|recorder| &recorder.journal)
    }

    /// The dead letters of a keyspace; of all with an empty name.
    pub fn letters(&self, keyspace: &str) -> Vec<Letter> {
        self.0.book.as_ref().map(|book| book.letters().of(keyspace)).unwrap_or_default()
    }

    /// How many dead letters there are.
    pub fn letter_count(&self) -> usize {
        self.0.book.as_ref().map_or(0, |book| book.letters().count())
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

    /// The modules that are paused here, with their failures in a row.
    pub fn paused(&self) -> Vec<(KeyspaceId, ModuleDigest, u32)> {
        self.0.care.resting(Instant::now())
    }

    /// Forgets trials and pauses that are over.
    pub fn follow(&self, catalogue: &Catalogue) {
        self.0.trials.keep(catalogue);
        self.0.care.keep(catalogue);
    }
}

impl Inner {
    /// Merges; with the record of it and what it used, if it was not remembered.
    async fn ask(
        &self,
        cause: Cause,
        keyspace: &Keyspace,
        module: &ModuleDigest,
        divergence: &Divergence,
    ) -> (Answer, Option<(Conflict, Used)>) {
        let begun = Instant::now();
        let memory_bytes_max = keyspace.merging.value.memory_bytes;
        let resolved = self.merges.merge(module, divergence, memory_bytes_max).await;
        let Some(used) = resolved.used else { return (resolved.answer, None) };
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let times = (self.clock.now().wall_ms, micros);
        let told = resolved.answer.as_ref().map(AsRef::as_ref);
        let conflict = Conflict::of(cause, module, divergence, told, times);
        (resolved.answer, Some((conflict, used)))
    }

    /// For a comparison, of which nobody waits: the module may just be on its way here.
    async fn ask_once_loaded(
        &self,
        keyspace: &Keyspace,
        module: &ModuleDigest,
        divergence: &Divergence,
    ) -> (Answer, Option<(Conflict, Used)>) {
        let until = Instant::now() + LOAD_WAIT;
        while !self.merges.is_loaded(module) && Instant::now() < until {
            tokio::time::sleep(LOAD_POLL).await;
        }
        self.ask(Cause::Trial, keyspace, module, divergence).await
    }

    fn record(&self, mut conflict: Conflict) {
        let cause = conflict.cause.word().to_owned();
        let labels = [("keyspace", conflict.keyspace.clone()), ("cause", cause)];
        metrics::counter!(CONFLICTS.name, &labels).increment(1);
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

    /// Notes what a merge that ran used of its keyspace's budget, and whether its module failed.
    fn ended(&self, keyspace: &Keyspace, module: &ModuleDigest, answer: &Answer, used: Used) {
        // The node's own fault says nothing of the module.
        if answer.as_ref().err().is_some_and(|failure| !failure.is_lasting()) {
            return;
        }
        let name = || [("keyspace", keyspace.name.clone())];
        metrics::counter!(KEYSPACE_FUEL.name, &name()).increment(used.fuel);
        metrics::histogram!(KEYSPACE_MERGE_MEMORY.name, &name()).record(used.memory_bytes as f64);
        self.care.ended(keyspace, module, (used.fuel, answer.is_err()), Instant::now());
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
        if !self.shared.catalogue().is_some_and(|known| known.is_signed_for(keyspace, &other)) {
            return;
        }
        let (others, conflict) = self.ask_once_loaded(keyspace, &other, divergence).await;
        let is_lasting = others.as_ref().err().is_none_or(MergeFailure::is_lasting);
        let Some((mut conflict, _)) = conflict.filter(|_| is_lasting) else { return };
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
    fn open(folder: &Path, bytes_max: u64) -> io::Result<Self> {
        let feed: Journal<Conflict> = Journal::open(("conflicts", folder), bytes_max)?;
        let mut letters = Letters::default();
        let (mut cursor, last) = (Cursor::default(), *feed.watch().borrow());
        while cursor.after < last {
            let before = cursor.after;
            let read = feed.read(&mut cursor, READ_BYTES, |_| true)?;
            read.iter().for_each(|conflict| letters.saw(conflict));
            if cursor.after == before {
                break;
            }
        }
        letters.looked_through = feed.first();
        Ok(Book { feed, letters: Mutex::new(letters) })
    }

    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says of the span of a merge what it was of and what came of it; with what it used, unless the answer
/// was remembered.
fn describe(
    span: &mut Span,
    (module, divergence): (&ModuleDigest, &Divergence),
    answer: &Answer,
    used: Option<Used>,
) {
    let values = divergence.siblings.iter().filter_map(|sibling| sibling.value.as_ref());
    span.set("stator.keyspace", divergence.keyspace.clone());
    span.set("stator.module", module.to_string());
    span.set("stator.siblings", divergence.siblings.len() as i64);
    span.set("stator.value_bytes", values.map(|value| value.len() as i64).sum::<i64>());
    span.set("stator.remembered", used.is_none());
    if let Some(used) = used {
        span.set("stator.fuel", used.fuel as i64);
        span.set("stator.memory_bytes", used.memory_bytes as i64);
    }
    let outcome = match answer {
        Ok(resolution) => match &resolution.outcome {
            Outcome::Value(value) => {
                span.set("stator.merged_bytes", value.len() as i64);
                "value"
            }
            Outcome::Delete => "delete",
            Outcome::KeepSiblings => "kept",
        },
        Err(failure) => {
            span.fail(failure);
            "failed"
        }
    };
    span.set("stator.outcome", outcome);
}

/// Which keyspaces are pinned to another module than before, end a trial, or may call what they could
/// not.
pub fn reactivated(before: Option<&Catalogue>, now: &Catalogue) -> Vec<KeyspaceId> {
    let merging = |catalogue: &Catalogue, id| {
        let keyspace = catalogue.keyspace_by_id(id)?;
        let unsigned = catalogue.unsigned_in(keyspace);
        Some((keyspace.reconcile.value, keyspace.trial.value.clone(), unsigned))
    };
    let all = now.live_keyspaces().map(|keyspace| keyspace.id);
    all.filter(|id| before.is_some_and(|before| merging(before, *id) != merging(now, *id)))
        .collect()
}
