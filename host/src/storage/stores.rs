//! Both stores of a node, opened, running and closed together.
//!
//! The order of a start is what finds losses: open the engines, read what they hold, take away
//! the note of the last clean stop, compare. Only if the note is there and names exactly what the
//! engines hold was nothing lost; else the node compares with its peers what it has. Dots are
//! unique whatever happened, because every start draws an incarnation of its own.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use stator_core::causality::Siblings;
use stator_core::id::{ClusterId, Incarnation, KeyspaceId, NodeId, PartitionId};
use stator_core::keys::StoreKey;
use stator_core::usage::UsageReport;
use stator_core::write::Minter;

use super::aside::{self, SetAside};
use super::cache::RecordCache;
use super::changes::{ChangeLog, Watcher};
use super::committer::{Committer, Job};
use super::drops::DropJob;
use super::engine::{Engine, EngineError};
use super::error::{CloseError, OpenError, StoreError};
use super::group::{Group, answer};
use super::hints::HintIndex;
use super::history::{History, SharedHistory};
use super::home::{CleanStop, Home, HomeError};
use super::job::{
    Area, Done, FindAnyJob, HintFigures, IndexJob, ListHintsJob, LoadJob, ScanJob, StoreFigures,
    TreeJob, WriteJob,
};
use super::meta::Meta;
use super::open::{self, Opener};
use super::options::StoreOptions;
use super::queue::{Queue, Rejected};
use super::readers::{Read, Reader};
use super::records::{Health, Kept, Records};
use super::reopen::Reopening;
use super::slot::Slot;
use super::trees::SharedTrees;
use super::trial;
use crate::budget::ByteBudget;

/// A node's stores. Calls never block, but [`Self::open`] and [`Self::close`] do. Dropping it
/// without [`Self::close`] is an unclean stop: what waits is done, but not synced.
pub struct Stores {
    home: Arc<Home>,
    incarnation: Incarnation,
    index: Arc<HintIndex>,
    data: StoreHandle,
    hints: StoreHandle,
    reads: Arc<Queue<Read>>,
    budget: Arc<OnceLock<ByteBudget>>,
    /// Those of the background.
    pages: Arc<Queue<Read>>,
    trees: Arc<SharedTrees>,
    cache: Option<Arc<RecordCache>>,
    history: SharedHistory,
    /// Deleted keyspaces of which nothing is held any more, or soon.
    dropped: Arc<Mutex<BTreeSet<KeyspaceId>>>,
    changes: Arc<ChangeLog>,
    /// Whether the stop before may have lost writes that were not synced.
    is_after_unclean_stop: bool,
    threads: Mutex<Option<Threads>>,
    set_aside: Vec<SetAside>,
    /// Whether what it holds outlives the process.
    is_kept: bool,
}

/// A store's engine, open and looked through.
struct Opened {
    area: Area,
    slot: Arc<Slot>,
    kept: Kept,
    opener: Option<Opener>,
}

impl Opened {
    fn records(&self, objects_bytes_max: u64) -> Records {
        let cache =
            (self.area == Area::Data).then(|| Arc::new(RecordCache::new(objects_bytes_max)));
        Records { area: self.area, engine: self.slot.clone(), health: Arc::default(), cache }
    }
}

/// What is left of a store on this side of its thread.
struct StoreHandle {
    area: Area,
    queue: Arc<Queue<Job>>,
    health: Arc<Health>,
}

struct Threads {
    data: JoinHandle<Committer>,
    hints: JoinHandle<Committer>,
    readers: Vec<JoinHandle<()>>,
}

impl Stores {
    /// Opens the stores in `home`. Blocks; a large store takes seconds. A store that cannot be
    /// used is set aside and starts empty: see [`Self::set_aside`].
    ///
    /// # Errors
    /// No write was done. The stop before counts as unclean from now on.
    pub fn open(home: Arc<Home>, options: &StoreOptions) -> Result<Stores, OpenError> {
        open::claim(&home, options.engine)?;
        aside::finish(&home)?;
        let index = Arc::new(HintIndex::new(options.hints_bytes_max));
        let open_area = |area| {
            let opener = Opener::new(&home, area, options);
            let index = (area == Area::Hints).then(|| index.clone());
            let look = move |engine: &Arc<dyn Engine>| look(area, engine, index.as_deref());
            let (engine, kept) = open::open_or_set_aside(&home, &opener, look)?;
            trial::end(&home, area);
            Ok::<_, OpenError>(Opened { area, slot: Slot::new(engine), kept, opener: Some(opener) })
        };
        let (data, hints) = (open_area(Area::Data)?, open_area(Area::Hints)?);
        Self::start(home, options, data, hints, index)
    }

    /// Starts the stores on these engines, which are never reopened.
    #[cfg(test)]
    pub(super) fn on(
        home: Arc<Home>,
        options: &StoreOptions,
        data: Arc<dyn Engine>,
        hints: Arc<dyn Engine>,
    ) -> Result<Stores, OpenError> {
        let index = Arc::new(HintIndex::new(options.hints_bytes_max));
        let opened = |area, engine: Arc<dyn Engine>, index| {
            let kept = look(area, &engine, index)?;
            Ok::<_, OpenError>(Opened { area, slot: Slot::new(engine), kept, opener: None })
        };
        let data = opened(Area::Data, data, None)?;
        let hints = opened(Area::Hints, hints, Some(&index))?;
        Self::start(home, options, data, hints, index)
    }

    /// Starts the stores on these engines; that of the data is made anew when it is reopened.
    #[cfg(test)]
    pub(super) fn on_reopened(
        home: Arc<Home>,
        options: &StoreOptions,
        make: open::Make,
        hints: Arc<dyn Engine>,
    ) -> Result<Stores, OpenError> {
        let index = Arc::new(HintIndex::new(options.hints_bytes_max));
        let opener = Opener { make, ..Opener::new(&home, Area::Data, options) };
        let (engine, kept) =
            open::open_or_set_aside(&home, &opener, |engine| look(Area::Data, engine, None))?;
        let data = Opened { area: Area::Data, slot: Slot::new(engine), kept, opener: Some(opener) };
        let kept = look(Area::Hints, &hints, Some(&index))?;
        let hints = Opened { area: Area::Hints, slot: Slot::new(hints), kept, opener: None };
        Self::start(home, options, data, hints, index)
    }

    fn start(
        home: Arc<Home>,
        options: &StoreOptions,
        data: Opened,
        hints: Opened,
        index: Arc<HintIndex>,
    ) -> Result<Stores, OpenError> {
        let is_kept = options.engine.is_kept();
        let kept = (data.kept, hints.kept);
        let had_run = home.is_used();
        let stop = home.take_clean_stop()?;
        if is_kept && had_run {
            for (area, kept, noted) in [
                (Area::Data, kept.0, stop.map(|stop| stop.data_sequence)),
                (Area::Hints, kept.1, stop.map(|stop| stop.hints_sequence)),
            ] {
                if let Some(why) = loss(kept, noted) {
                    aside::note_loss(&home, area, &why)?;
                }
            }
        }
        if had_run && loss(kept.0, stop.map(|stop| stop.data_sequence)).is_some() {
            // Before the store's own note: once that is there it looks like any other store.
            home.note_loss()?;
        }
        let mut set_aside = aside::finish(&home)?;
        if !had_run && !set_aside.is_empty() {
            // A life begins before the first commit. What cannot be opened was half made by a start that
            // was broken off, and lacks nothing.
            aside::forget(&home, Area::Data)?;
            aside::forget(&home, Area::Hints)?;
            set_aside.clear();
        }
        let is_whole = is_kept && set_aside.is_empty();
        let gone_on = go_on(stop, kept).filter(|_| is_whole);
        let indexed = gone_on.as_ref().filter(|(data, _)| data.is_indexed);
        let sequence = indexed.map(|(data, _)| data.sequence);
        let trees = Arc::new(SharedTrees::take(&home, sequence)?);
        let is_after_unclean_stop = had_run && gone_on.is_none();
        let bytes_max = options.objects_bytes_max;
        let (data_records, hints_records) = (data.records(bytes_max), hints.records(bytes_max));
        let (data_meta, hints_meta) = match gone_on {
            Some(metas) => metas,
            None => {
                let metas = (kept.0.after_unclean_stop(), kept.1.after_unclean_stop());
                data_records.note(&metas.0)?;
                hints_records.note(&metas.1)?;
                metas
            }
        };
        let incarnation = home.begin_life()?;
        let loss = home.loss()?.unwrap_or_default();
        let minter = Minter::new(home.node(), incarnation);
        for aside in &set_aside {
            let records = if aside.area == Area::Data { &data_records } else { &hints_records };
            let words = if aside.path == home.path().join(aside.area.name()) {
                format!("to be refilled: {}", aside.why)
            } else {
                format!("set aside as {}: {}", aside.path.display(), aside.why)
            };
            records.health.show_set_aside(Some(words));
        }
        let minter = Arc::new(Mutex::new(minter));
        let history = history(&home, options.history_bytes_max)?;
        let start = Start {
            home,
            options,
            minter,
            index,
            trees,
            history,
            is_after_unclean_stop,
            set_aside,
        };
        start.run(
            (loss, incarnation),
            (data_records, data_meta, data),
            (hints_records, hints_meta, hints),
        )
    }

    /// Has the values that it reads for clients and peers charged to `reads`.
    pub fn charging(self, reads: ByteBudget) -> Self {
        // Set once, before anyone reads.
        let _ = self.budget.set(reads);
        self
    }

    /// The stores that are empty ones in the place of others, at this start or an earlier one:
    /// what they lack is with the node's peers. A store stays in this list, over starts too,
    /// until [`Self::refilled`] was called.
    pub fn set_aside(&self) -> &[SetAside] {
        &self.set_aside
    }

    /// Notes, durably, that the store of `area` holds again what it should. The next start no
    /// longer reports it as set aside. Blocks.
    ///
    /// # Errors
    /// The next start reports it once more.
    pub fn refilled(&self, area: Area) -> Result<(), HomeError> {
        aside::forget(&self.home, area)?;
        self.store(area).health.show_set_aside(None);
        Ok(())
    }

    /// Whether writes that were acknowledged before this start, but not synced, may be lost.
    pub fn is_after_unclean_stop(&self) -> bool {
        self.is_after_unclean_stop
    }

    /// What was superseded, if any of it is kept.
    pub fn history(&self) -> Option<&Arc<History>> {
        self.history.as_ref()
    }

    /// Watches what is changed in the data store from now on.
    pub fn watch(&self) -> Watcher {
        Watcher::new(self.changes.clone())
    }

    /// Keeps hash trees of this cluster from now on, if that is not done yet.
    pub fn keep_trees(&self, cluster: ClusterId) {
        self.trees.keep(cluster);
        self.look_at_trees();
    }

    /// Counts the hash trees of `partition` anew.
    pub fn rebuild_trees(&self, partition: PartitionId) {
        self.trees.distrust(partition);
        self.look_at_trees();
    }

    /// Whether all hash trees say what the store holds, and how many of their buckets take
    /// memory, about 40 bytes each.
    pub fn tree_figures(&self) -> (bool, usize) {
        self.trees.figures()
    }

    /// How much there is of each keyspace in the data store; it is complete when the trees are.
    pub fn usage(&self) -> UsageReport {
        self.trees.usage()
    }

    /// Queues a read of hash trees.
    pub fn read_tree(&self, job: TreeJob) {
        self.queue_read(Read::Tree(job));
    }

    fn look_at_trees(&self) {
        // Whoever finds the queue full finds a committer that will look.
        drop(self.data.queue.push(Job::Rebuild));
    }

    /// The node's present life.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Queues a change of one key.
    pub fn write(&self, job: WriteJob) {
        self.store(job.area).queue_job(Job::Write(Box::new(job)));
    }

    /// Takes `target` off the hint for `key`, which it has synced as it stood at `sequence`. The
    /// answer is whether it was taken off: a hint that changed since it was sent stays.
    pub fn settle_hint(&self, target: NodeId, key: StoreKey, sequence: u64, done: Done<bool>) {
        self.hints.queue_job(Job::Settle { target, key, sequence, done });
    }

    /// Queues a look for anything of a partition.
    pub fn find_any(&self, job: FindAnyJob) {
        self.store(job.area).queue_job(Job::FindAny(job));
    }

    /// Removes, synced, everything that the data store holds of `partition`. What is written to it
    /// meanwhile may stay.
    pub fn drop_partition(&self, partition: PartitionId, done: Done<()>) {
        self.data.queue_job(Job::Drop(DropJob::partition(partition, done)));
    }

    /// The same of one keyspace in a partition.
    pub fn drop_stretch(&self, stretch: (PartitionId, KeyspaceId), done: Done<()>) {
        self.data.queue_job(Job::Drop(DropJob::stretch(stretch, done)));
    }

    /// Removes everything that the data store holds of keyspaces that were deleted, behind all writes
    /// that are queued by now. Does nothing for those of which it did before; where it fails it tries
    /// again with the next call.
    pub fn drop_keyspaces(&self, deleted: BTreeSet<KeyspaceId>) {
        let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        if deleted.is_subset(&dropped) {
            return;
        }
        *dropped = deleted.clone();
        let again = self.dropped.clone();
        let done = Box::new(move |result: Result<(), StoreError>| {
            if let Err(error) = result {
                tracing::warn!(%error, "some of what deleted keyspaces held is still on disk");
                again.lock().unwrap_or_else(PoisonError::into_inner).clear();
            }
        });
        self.data.queue_job(Job::Drop(DropJob::keyspaces(deleted, done)));
    }

    /// What the data store holds of `key`, if that is in memory: the object, or that there is none.
    pub fn loaded(&self, key: &StoreKey) -> Option<Option<Arc<Siblings>>> {
        let seen = self.cache.as_ref()?.get(key)?;
        Some(seen.map(|record| record.siblings.clone()))
    }

    /// Has the next read of each key come from the engine.
    #[cfg(test)]
    pub(super) fn forget_kept(&self) {
        self.cache.iter().for_each(|cache| cache.clear());
    }

    /// Queues a read of one key.
    pub fn load(&self, job: LoadJob) {
        self.queue_read(Read::Load(job));
    }

    /// Queues a read of the hints for one node.
    pub fn list_hints(&self, job: ListHintsJob) {
        self.queue_read(Read::ListHints(job));
    }

    /// Queues a read of a partition.
    pub fn scan(&self, job: ScanJob) {
        self.queue_read(Read::Scan(job));
    }

    /// Reads a page of the data store's index of what collection is to look at.
    pub fn read_index(&self, job: IndexJob) {
        self.queue_read(Read::Index(job));
    }

    /// Who waits for how many hints.
    pub fn hint_figures(&self) -> HintFigures {
        self.index.figures()
    }

    /// How the store of `area` is doing.
    pub fn figures(&self, area: Area) -> StoreFigures {
        self.store(area).health.figures()
    }

    /// How many changes wait for the committer of `area`.
    pub fn jobs_waiting(&self, area: Area) -> usize {
        self.store(area).queue.len()
    }

    /// How many reads, of either store, wait.
    pub fn reads_waiting(&self) -> usize {
        self.reads.len() + self.pages.len()
    }

    /// Stops cleanly: does what waits, makes everything durable, lets the engines go and notes
    /// it, so that the next start goes on where this one ends. Blocks. Jobs that come later get
    /// [`StoreError::Closed`]. A second call does nothing.
    ///
    /// # Errors
    /// The stores are closed all the same, as after an unclean stop.
    pub fn close(&self) -> Result<(), CloseError> {
        let Some(threads) = self.stop() else {
            return Ok(());
        };
        // The readers' engines first: the committers' are then the last and close the files.
        for reader in threads.readers {
            reader.join().map_err(|_| CloseError::Panicked { store: "data or hints" })?;
        }
        let data = finish(Area::Data, threads.data);
        let hints = finish(Area::Hints, threads.hints);
        let (data, hints) = (data?, hints?);
        if !self.is_kept {
            return Ok(());
        }
        // What was not synced before a store was reopened may be lost, and only this process
        // knows it.
        if self.data.health.was_reopened() || self.hints.health.was_reopened() {
            tracing::info!("a store was reopened: the next start compares it with its peers");
            return Ok(());
        }
        // An engine may write while it closes.
        for area in [Area::Data, Area::Hints] {
            sync_files(&self.home.path().join(area.name())).map_err(CloseError::Files)?;
        }
        self.trees.save(&self.home, data.sequence)?;
        self.home.note_clean_stop(CleanStop {
            data_sequence: data.sequence,
            hints_sequence: hints.sequence,
        })?;
        Ok(())
    }

    fn store(&self, area: Area) -> &StoreHandle {
        match area {
            Area::Data => &self.data,
            Area::Hints => &self.hints,
        }
    }

    fn queue_read(&self, read: Read) {
        let store = Area::Data.name();
        let queue = if matches!(read, Read::Load(_)) { &self.reads } else { &self.pages };
        let (read, error) = match queue.push(read) {
            Ok(()) => return,
            Err(Rejected::Full(read)) => {
                let jobs_max = queue.items_max();
                (read, StoreError::Overloaded { store, jobs_max })
            }
            Err(Rejected::Closed(read)) => (read, StoreError::Closed { store }),
        };
        match read {
            Read::Load(job) => answer(job.done, Err(error)),
            Read::ListHints(job) => answer(job.done, Err(error)),
            Read::Scan(job) => answer(job.done, Err(error)),
            Read::Index(job) => answer(job.done, Err(error)),
            Read::Tree(job) => answer(job.done, Err(error)),
        }
    }

    /// Takes no more jobs; the threads end once they have done those that wait.
    fn stop(&self) -> Option<Threads> {
        self.data.queue.close();
        self.hints.queue.close();
        self.reads.close();
        self.pages.close();
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        if let Some(threads) = self.stop() {
            // So that the engines are closed, and can be opened again, when this returns.
            threads.readers.into_iter().for_each(|reader| drop(reader.join()));
            drop((threads.data.join(), threads.hints.join()));
        }
    }
}

impl StoreHandle {
    fn queue_job(&self, job: Job) {
        let store = self.area.name();
        match self.queue.push(job) {
            Ok(()) => {}
            Err(Rejected::Full(job)) => {
                let jobs_max = self.queue.items_max();
                job.refuse(StoreError::Overloaded { store, jobs_max });
            }
            Err(Rejected::Closed(job)) => job.refuse(StoreError::Closed { store }),
        }
    }
}

/// The parts that the stores' threads share, while they are being started.
struct Start<'a> {
    home: Arc<Home>,
    options: &'a StoreOptions,
    minter: Arc<Mutex<Minter>>,
    index: Arc<HintIndex>,
    trees: Arc<SharedTrees>,
    history: SharedHistory,
    is_after_unclean_stop: bool,
    set_aside: Vec<SetAside>,
}

/// The journal of what is superseded, up to so many bytes; none with 0.
fn history(home: &Home, bytes_max: u64) -> Result<SharedHistory, OpenError> {
    if bytes_max == 0 {
        return Ok(None);
    }
    let path = home.path().join("history");
    match History::open(&path, bytes_max) {
        Ok(history) => Ok(Some(Arc::new(history))),
        Err(error) => Err(OpenError::History { path, error }),
    }
}

impl Start<'_> {
    fn run(
        self,
        (loss, incarnation): (u64, Incarnation),
        (data, data_meta, data_opened): (Records, Meta, Opened),
        (hints, hints_meta, hints_opened): (Records, Meta, Opened),
    ) -> Result<Stores, OpenError> {
        let read = [(data.share(), hints.share()), (data.share(), hints.share())];
        let cache = data.cache.clone();
        let changes = ChangeLog::new((loss, incarnation), &data_meta, data.health.clone());
        let changes = Arc::new(changes);
        let told = Some(changes.clone());
        let (data, data_thread) = self.committer((data, told), data_meta, data_opened)?;
        let (hints, hints_thread) = self.committer((hints, None), hints_meta, hints_opened)?;
        let [of_clients, of_background] = read.map(|(data_records, hints_records)| {
            Arc::new(Reader {
                data: data_records,
                hints: hints_records,
                index: self.index.clone(),
                trees: self.trees.clone(),
                queue: Arc::new(Queue::new(self.options.jobs_max)),
                budget: Arc::default(),
                committer: data.queue.clone(),
            })
        });
        let (reads, pages) = (of_clients.queue.clone(), of_background.queue.clone());
        let budget = of_clients.budget.clone();
        let of_clients = std::iter::repeat_n(of_clients, self.options.readers.max(1));
        let readers = of_clients
            .chain([of_background])
            .map(|reader| spawn("store-reader", move || reader.run()))
            .collect::<Result<Vec<_>, _>>()?;
        let threads = Threads { data: data_thread, hints: hints_thread, readers };
        Ok(Stores {
            home: self.home,
            incarnation,
            index: self.index,
            data,
            hints,
            reads,
            budget,
            pages,
            trees: self.trees,
            cache,
            history: self.history,
            dropped: Arc::default(),
            changes,
            is_after_unclean_stop: self.is_after_unclean_stop,
            threads: Mutex::new(Some(threads)),
            set_aside: self.set_aside,
            is_kept: self.options.engine.is_kept(),
        })
    }

    fn committer(
        &self,
        (records, changes): (Records, Option<Arc<ChangeLog>>),
        meta: Meta,
        opened: Opened,
    ) -> Result<(StoreHandle, JoinHandle<Committer>), OpenError> {
        let handle = StoreHandle {
            area: records.area,
            queue: Arc::new(Queue::weighing(self.options.jobs_max, Job::weight_bytes)),
            health: records.health.clone(),
        };
        records.health.show(&meta);
        let committer = Committer {
            queue: handle.queue.clone(),
            minter: self.minter.clone(),
            // Else the trees are rebuilt, and with them the index.
            meta: Meta { is_indexed: true, ..meta },
            hints: (records.area == Area::Hints).then(|| self.index.clone()),
            sync_within: self.options.sync_within,
            group: Group::default(),
            unsynced_since: None,
            trees: (records.area == Area::Data).then(|| self.trees.clone()),
            history: self.history.clone().filter(|_| records.area == Area::Data),
            changes,
            applied_sequence: meta.sequence,
            rebuild_step: 1,
            trees_rest_until: None,
            synced_sequence: meta.sequence,
            reopening: opened.opener.filter(|opener| opener.kind.is_kept()).map(|opener| {
                let wait = self.options.reopen_after;
                Reopening::new(self.home.clone(), opened.slot, opener, wait)
            }),
            records,
        };
        let name = format!("store-{}", handle.area.name());
        Ok((handle, spawn(&name, move || committer.run())?))
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, OpenError> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map_err(OpenError::Thread)
}

/// What the engine says of the store; hints are put into `index`.
pub(super) fn look(
    area: Area,
    engine: &Arc<dyn Engine>,
    index: Option<&HintIndex>,
) -> Result<Kept, EngineError> {
    let records = Records { area, engine: engine.clone(), health: Arc::default(), cache: None };
    let kept = records.kept()?;
    if let Some(index) = index {
        index.rebuild(&records)?;
    }
    Ok(kept)
}

/// What a store that has run before shows to have lost, in silence.
fn loss(kept: Kept, noted: Option<u64>) -> Option<String> {
    match (kept, noted) {
        (Kept::Nothing, _) => Some("it is empty, and it was not".to_owned()),
        (Kept::Rebuilt(_), _) => Some("its note of what it holds was lost".to_owned()),
        (Kept::Noted(meta), Some(noted)) if meta.sequence != noted => {
            Some(format!("it held commits up to {noted}, and now up to {}", meta.sequence))
        }
        (Kept::Noted(_), _) => None,
    }
}

/// What to go on with, if the note of the last clean stop was there and nothing was lost since.
fn go_on(stop: Option<CleanStop>, kept: (Kept, Kept)) -> Option<(Meta, Meta)> {
    let (Kept::Noted(data), Kept::Noted(hints)) = kept else { return None };
    let now = CleanStop { data_sequence: data.sequence, hints_sequence: hints.sequence };
    (stop == Some(now)).then_some((data, hints))
}

fn finish(area: Area, thread: JoinHandle<Committer>) -> Result<Meta, CloseError> {
    let store = area.name();
    let committer = thread.join().map_err(|_| CloseError::Panicked { store })?;
    Ok(committer.finish()?)
}

fn sync_files(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_files(&path)?;
        } else {
            std::fs::File::open(path)?.sync_all()?;
        }
    }
    std::fs::File::open(directory)?.sync_all()
}
