//! Both stores of a node, opened, running and closed together.
//!
//! The order of a start is what keeps dots unique (see `stator_core::write`): open the engines,
//! read what they hold, take away the note of the last clean stop, compare. Only if the note is
//! there and names exactly what the engines hold does the node go on with its incarnation; else
//! it draws a new one, durably, before anything is served.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use stator_core::id::{Incarnation, NodeId};
use stator_core::keys::StoreKey;
use stator_core::write::Minter;

use super::committer::{Committer, Job};
use super::engine::{Engine, MemoryEngine, SledEngine};
use super::error::{CloseError, OpenError, StoreError};
use super::group::{Group, answer};
use super::hints::HintIndex;
use super::home::{CleanStop, Home, HomeError};
use super::job::{Area, Done, HintFigures, ListHintsJob, LoadJob, StoreFigures, WriteJob};
use super::meta::Meta;
use super::options::{EngineKind, StoreOptions};
use super::queue::{Queue, Rejected};
use super::readers::{Read, Reader};
use super::records::{Found, Health, Kept, Records};

/// A node's stores. Calls never block, but [`Self::open`] and [`Self::close`] do. Dropping it
/// without [`Self::close`] is an unclean stop: what waits is done, but not synced.
pub struct Stores {
    home: Arc<Home>,
    incarnation: Incarnation,
    minter: Arc<Mutex<Minter>>,
    index: Arc<HintIndex>,
    data: StoreHandle,
    hints: StoreHandle,
    reads: Arc<Queue<Read>>,
    threads: Mutex<Option<Threads>>,
    /// Whether what it holds outlives the process.
    is_kept: bool,
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
    /// Opens the stores in `home`. Blocks; a large store takes seconds.
    ///
    /// # Errors
    /// No write was done. The stop before counts as unclean from now on.
    pub fn open(home: Arc<Home>, options: &StoreOptions) -> Result<Stores, OpenError> {
        let (data, hints): (Arc<dyn Engine>, Arc<dyn Engine>) = match options.engine {
            EngineKind::Memory => (Arc::new(MemoryEngine::new()), Arc::new(MemoryEngine::new())),
            EngineKind::Sled => {
                let at = |area: Area| home.path().join(area.name());
                // Hints are written once and read once: a cache would only hold what is leaving.
                let hints_cache_bytes = options.cache_bytes.min(8 << 20);
                (
                    Arc::new(SledEngine::open(&at(Area::Data), options.cache_bytes)?),
                    Arc::new(SledEngine::open(&at(Area::Hints), hints_cache_bytes)?),
                )
            }
        };
        Self::start(home, options, data, hints)
    }

    /// Starts the stores on these engines.
    pub(super) fn start(
        home: Arc<Home>,
        options: &StoreOptions,
        data: Arc<dyn Engine>,
        hints: Arc<dyn Engine>,
    ) -> Result<Stores, OpenError> {
        let opened = |area, engine| Records { area, engine, health: Arc::default() };
        let data = opened(Area::Data, data);
        let hints = opened(Area::Hints, hints);
        let kept = (data.kept()?, hints.kept()?);
        let is_kept = options.engine != EngineKind::Memory;
        let (incarnation, data_meta, hints_meta) = match go_on(&home, kept)?.filter(|_| is_kept) {
            Some(gone_on) => gone_on,
            None => {
                let metas = (kept.0.after_unclean_stop(), kept.1.after_unclean_stop());
                data.note(&metas.0)?;
                hints.note(&metas.1)?;
                (home.draw_incarnation()?, metas.0, metas.1)
            }
        };
        let reserved_until = data_meta.reserved_until.max(hints_meta.reserved_until);
        let minter = Minter::new(home.node(), incarnation, reserved_until);
        let index = Arc::new(HintIndex::new(options.hints_bytes_max));
        hints.for_each(|key, found| {
            if let Found::Whole(record, _) = found {
                index.set(&key, Some(&record));
            }
        })?;
        let start = Start { options, minter: Arc::new(Mutex::new(minter)), index };
        start.run(home, incarnation, is_kept, (data, data_meta), (hints, hints_meta))
    }

    /// The node's present life.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The first epoch that is not reserved: it never goes back in a data directory's life.
    pub fn reserved_until(&self) -> u64 {
        self.minter.lock().unwrap_or_else(PoisonError::into_inner).reserved_until()
    }

    /// Queues a change of one key.
    pub fn write(&self, job: WriteJob) {
        self.store(job.area).queue_job(Job::Write(job));
    }

    /// Takes `target` off the hint for `key`, which it has synced as it stood at `sequence`. The
    /// answer is whether it was taken off: a hint that changed since it was sent stays.
    pub fn settle_hint(&self, target: NodeId, key: StoreKey, sequence: u64, done: Done<bool>) {
        self.hints.queue_job(Job::Settle { target, key, sequence, done });
    }

    /// Queues a read of one key.
    pub fn load(&self, job: LoadJob) {
        self.queue_read(Read::Load(job));
    }

    /// Queues a read of the hints for one node.
    pub fn list_hints(&self, job: ListHintsJob) {
        self.queue_read(Read::ListHints(job));
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
        self.reads.len()
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
        // An engine may write while it closes.
        for area in [Area::Data, Area::Hints] {
            sync_files(&self.home.path().join(area.name())).map_err(CloseError::Files)?;
        }
        self.home.note_clean_stop(CleanStop {
            incarnation: self.incarnation,
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
        let (read, error) = match self.reads.push(read) {
            Ok(()) => return,
            Err(Rejected::Full(read)) => {
                let jobs_max = self.reads.items_max();
                (read, StoreError::Overloaded { store, jobs_max })
            }
            Err(Rejected::Closed(read)) => (read, StoreError::Closed { store }),
        };
        match read {
            Read::Load(job) => answer(job.done, Err(error)),
            Read::ListHints(job) => answer(job.done, Err(error)),
        }
    }

    /// Takes no more jobs; the threads end once they have done those that wait.
    fn stop(&self) -> Option<Threads> {
        self.data.queue.close();
        self.hints.queue.close();
        self.reads.close();
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
    options: &'a StoreOptions,
    minter: Arc<Mutex<Minter>>,
    index: Arc<HintIndex>,
}

impl Start<'_> {
    fn run(
        self,
        home: Arc<Home>,
        incarnation: Incarnation,
        is_kept: bool,
        (data, data_meta): (Records, Meta),
        (hints, hints_meta): (Records, Meta),
    ) -> Result<Stores, OpenError> {
        let reads = Arc::new(Queue::new(self.options.jobs_max));
        let reader = Arc::new(Reader {
            data: data.share(),
            hints: hints.share(),
            index: self.index.clone(),
            queue: reads.clone(),
        });
        let (data, data_thread) = self.committer(data, data_meta)?;
        let (hints, hints_thread) = self.committer(hints, hints_meta)?;
        let readers = (0..self.options.readers.max(1))
            .map(|_| {
                let reader = reader.clone();
                spawn("store-reader", move || reader.run())
            })
            .collect::<Result<Vec<_>, _>>()?;
        let threads = Threads { data: data_thread, hints: hints_thread, readers };
        Ok(Stores {
            home,
            incarnation,
            minter: self.minter,
            index: self.index,
            data,
            hints,
            reads,
            threads: Mutex::new(Some(threads)),
            is_kept,
        })
    }

    fn committer(
        &self,
        records: Records,
        meta: Meta,
    ) -> Result<(StoreHandle, JoinHandle<Committer>), OpenError> {
        let handle = StoreHandle {
            area: records.area,
            queue: Arc::new(Queue::new(self.options.jobs_max)),
            health: records.health.clone(),
        };
        records.health.show(&meta);
        let committer = Committer {
            queue: handle.queue.clone(),
            minter: self.minter.clone(),
            meta,
            hints: (records.area == Area::Hints).then(|| self.index.clone()),
            sync_within: self.options.sync_within,
            group: Group::default(),
            unsynced_since: None,
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

/// Takes away the note of the last clean stop, and answers with what to go on with if it is
/// there and nothing was lost since.
fn go_on(home: &Home, kept: (Kept, Kept)) -> Result<Option<(Incarnation, Meta, Meta)>, HomeError> {
    let stop = home.take_clean_stop()?;
    let (Some(incarnation), (Kept::Noted(data), Kept::Noted(hints))) = (home.incarnation()?, kept)
    else {
        return Ok(None);
    };
    let now =
        CleanStop { incarnation, data_sequence: data.sequence, hints_sequence: hints.sequence };
    Ok((stop == Some(now)).then_some((incarnation, data, hints)))
}

fn finish(area: Area, thread: JoinHandle<Committer>) -> Result<Meta, CloseError> {
    let store = area.name();
    let committer = thread.join().map_err(|_| CloseError::Panicked { store })?;
    Ok(committer.finish()?)
}

fn sync_files(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        std::fs::File::open(entry?.path())?.sync_all()?;
    }
    std::fs::File::open(directory)?.sync_all()
}
