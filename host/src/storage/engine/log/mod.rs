//! A log in front of an engine: every sync is one `fdatasync` of one file that has its room
//! already (`segment.rs` says what that is worth), whatever the engine is.
//!
//! ```text
//!   apply ─▶ a frame in the log ─▶ pending, in memory ── a segment is full ──▶ the engine,
//!   sync  ─▶ fdatasync of the log        ▲                                     behind: apply
//!   get   ───────────────────────────────┴─ and what is not there ─▶ engine    in order, sync,
//!   scan  ── both, merged                                                      segment removed
//! ```
//!
//! This is write-ahead logging with redo only (Gray and Reuter, *Transaction Processing*, 1993,
//! chapter 10): operations are whole keys and values, so to do them twice does no harm, and
//! nothing that the engine has got before its time need be undone, because [`LoggedEngine::open`]
//! does all of them again before anyone reads. The engine gets what is pending in large batches,
//! of each key only the last value. Its last batch carries a mark, up to which segment it has
//! everything; so a segment that is missing is noticed.
//!
//! The engine is given no more than the writers make room for: a generation goes to it in small
//! batches, each when the younger one is as full as the older one is gone ([`Pace`]). All at once it
//! would take the processor and the disk from the requests of the whole machine every few seconds.
//!
//! Left out: a second write of what is applied and not synced when the process is killed. It was
//! handed to the operating system by then, and only a power cut takes it.

mod frame;
mod pending;
mod segment;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Batch, Engine, EngineError, Entries, Fault};
use frame::Place;
use pending::{Generation, Pending};
use segment::Segments;

/// The log's directory in the store's.
pub(in crate::storage) const DIRECTORY: &str = "log";

/// The room of a segment.
const SEGMENT_BYTES: u64 = 16 << 20;

/// What may be pending in memory before the engine gets it, if its segment is not full before.
const PENDING_BYTES: usize = 32 << 20;

/// How much the engine gets at a time. Some engines (`sled`) let nobody read meanwhile.
const BATCH_BYTES: usize = 128 << 10;

/// How long the engine may be left alone between two batches, and how often it is looked at.
const REST_MAX: Duration = Duration::from_millis(25);
const REST: Duration = Duration::from_millis(2);

/// Behind all keys of the stores: the number of the last segment whose batches the engine has.
const MARK: &[u8] = b"\xfflog";

/// Planted by a test, to show that it would notice: a log without the `fdatasync`.
#[cfg(test)]
pub(super) static FORGETS_TO_SYNC: AtomicBool = AtomicBool::new(false);

/// An engine with a log in front of it.
pub struct LoggedEngine {
    inner: Arc<dyn Engine>,
    pending: Arc<RwLock<Pending>>,
    writer: Mutex<Writer>,
}

/// What only who writes needs.
struct Writer {
    segments: Segments,
    /// Of the last frame of the current segment.
    place: Place,
    frame: Vec<u8>,
    flusher: Option<Flusher>,
    /// Why nothing is taken any more.
    failure: Option<EngineError>,
}

/// The thread that hands generations to the engine, one at a time.
struct Flusher {
    todo: SyncSender<Todo>,
    done: Receiver<Result<(), EngineError>>,
    /// Somebody waits for it.
    is_urgent: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Keeps who hands a generation on in step with who fills the next one.
struct Pace {
    pending: Arc<RwLock<Pending>>,
    full_bytes: usize,
    is_urgent: Arc<AtomicBool>,
}

impl Pace {
    /// Waits until the younger generation is full by `done` of `all`, or nobody fills it.
    fn keep(&self, done: usize, all: usize) {
        let began = Instant::now();
        let is_ahead = || {
            let young = read(&self.pending).young_bytes();
            (young as u128) * (all as u128) < (done as u128) * (self.full_bytes as u128)
        };
        while began.elapsed() < REST_MAX && !self.is_urgent.load(Ordering::Relaxed) && is_ahead() {
            thread::sleep(REST);
        }
    }
}

/// A generation, and the last segment that it is of.
type Todo = (Arc<Generation>, u64);

impl LoggedEngine {
    /// Puts a log, in a directory of its own in `directory`, in front of `inner`, which gets what
    /// an earlier stop has left in the log first.
    ///
    /// # Errors
    /// The log cannot be read or written, or is damaged: something that was synced is missing.
    pub fn open(directory: &Path, inner: Arc<dyn Engine>) -> Result<Self, EngineError> {
        Self::open_with(directory, inner, SEGMENT_BYTES)
    }

    fn open_with(
        directory: &Path,
        inner: Arc<dyn Engine>,
        segment_bytes: u64,
    ) -> Result<Self, EngineError> {
        let directory = directory.join(DIRECTORY);
        let failed = |error: &io::Error| failure(&*inner, "open the log of", error);
        let made = fs::create_dir_all(&directory).and_then(|()| {
            directory.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
        });
        made.map_err(|error| failed(&error))?;
        let left = left_over(&directory, &*inner)?;
        // Before the engine has the last one: one of them is always there.
        let next = left.last().map_or(1, |(last, _)| last + 1);
        let segments = Segments::begin(&directory, next, segment_bytes);
        let segments = segments.map_err(|error| failed(&error))?;
        for (segment, generation) in left {
            flush(&directory, &*inner, &generation, segment, |_, _| {})?;
        }
        let pending = Arc::new(RwLock::default());
        let pace = Pace {
            pending: pending.clone(),
            full_bytes: PENDING_BYTES.min(segment_bytes as usize),
            is_urgent: Arc::default(),
        };
        let flusher = Flusher::start(&directory, inner.clone(), pace);
        let flusher = flusher.map_err(|error| failed(&error))?;
        let writer = Writer {
            segments,
            place: Place { segment: next, number: 0, synced: 0, before: 0 },
            frame: Vec::new(),
            flusher: Some(flusher),
            failure: None,
        };
        Ok(LoggedEngine { inner, pending, writer: Mutex::new(writer) })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `step`, after which nothing more is taken if it fails.
    fn write<T>(
        &self,
        step: impl FnOnce(&mut Writer) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let mut writer = self.writer();
        if let Some(failure) = &writer.failure {
            return Err(failure.clone());
        }
        step(&mut writer).inspect_err(|error| writer.failure = Some(error.clone()))
    }

    /// Hands the younger generation to the engine, behind, and goes on in the next segment.
    fn turn(&self, writer: &mut Writer) -> Result<(), EngineError> {
        let flusher = writer.flusher.as_ref().ok_or_else(|| self.no_flusher())?;
        flusher.is_urgent.store(true, Ordering::Relaxed);
        while read(&self.pending).is_flushing() {
            flusher.done.recv().map_err(|_| self.no_flusher())??;
        }
        flusher.is_urgent.store(false, Ordering::Relaxed);
        let next = writer.segments.next();
        next.map_err(|error| failure(&*self.inner, "begin a segment of the log of", &error))?;
        let Place { segment: last, number: before, .. } = writer.place;
        writer.place = Place { segment: last + 1, number: 0, synced: 0, before };
        let old = write(&self.pending).turn();
        flusher.todo.send((old, last)).map_err(|_| self.no_flusher())
    }

    fn no_flusher(&self) -> EngineError {
        let error = io::Error::other("the thread that hands the log to it has ended");
        failure(&*self.inner, "write", &error)
    }
}

impl Engine for LoggedEngine {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let pending = read(&self.pending).get(key);
        pending.map_or_else(|| self.inner.get(key), Ok)
    }

    fn apply(&self, batch: Batch) -> Result<(), EngineError> {
        let ops = frame::ops(batch);
        self.write(|writer| {
            writer.look_at_flusher(|| self.no_flusher())?;
            let failed = |error: &io::Error| failure(&*self.inner, "write to the log of", error);
            let encode = |writer: &mut Writer| {
                let place = Place { number: writer.place.number + 1, ..writer.place };
                writer.frame.clear();
                frame::encode(&mut writer.frame, place, &ops)
                    .then_some(())
                    .ok_or_else(|| failed(&io::ErrorKind::FileTooLarge.into()))
            };
            encode(writer)?;
            let is_full = !writer.segments.has_room(writer.frame.len())
                || read(&self.pending).young_bytes() > PENDING_BYTES;
            if is_full {
                self.turn(writer)?;
                encode(writer)?;
            }
            writer.segments.append(&writer.frame).map_err(|error| failed(&error))?;
            writer.place.number += 1;
            write(&self.pending).add(ops);
            Ok(())
        })
    }

    fn sync(&self) -> Result<(), EngineError> {
        #[cfg(test)]
        if FORGETS_TO_SYNC.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.write(|writer| {
            let synced = writer.segments.sync();
            synced.map_err(|error| failure(&*self.inner, "sync the log of", &error))?;
            writer.place.synced = writer.place.number;
            Ok(())
        })
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Entries, EngineError> {
        let mut found = Entries::new();
        let mut from = Bytes::copy_from_slice(from);
        while found.len() < limit && from < to {
            let wanted = limit - found.len();
            let (mut pending, bound) = read(&self.pending).range(&from, to, wanted);
            let to = bound.clone().unwrap_or_else(|| Bytes::copy_from_slice(to));
            let entries = self.inner.scan(&from, &to, wanted)?;
            // Behind a full page there may be more of the engine's, in between what is pending.
            let page_end = (entries.len() == wanted)
                .then(|| entries.last().map(|(last, _)| behind(last)))
                .flatten();
            let end = page_end.unwrap_or(to);
            drop(pending.split_off(&end));
            for (key, value) in entries {
                pending.entry(key).or_insert(Some(value));
            }
            let live = pending.into_iter().filter_map(|(key, value)| Some((key, value?)));
            found.extend(live.filter(|(key, _)| key != MARK).take(wanted));
            from = end;
        }
        Ok(found)
    }
}

/// What stops in order leaves an empty log, if the engine takes what is pending.
impl Drop for LoggedEngine {
    fn drop(&mut self) {
        let mut writer = self.writer();
        let is_pending = read(&self.pending).young_bytes() > 0;
        if writer.failure.is_none() && is_pending {
            // It is in the log, and the next open says what is the matter.
            let _ = self.turn(&mut writer);
        }
        if let Some(Flusher { todo, is_urgent, thread, .. }) = writer.flusher.take() {
            is_urgent.store(true, Ordering::Relaxed);
            drop(todo);
            let _ = thread.join();
        }
    }
}

impl Writer {
    /// An engine that does not take what it is handed is noticed at the next write.
    fn look_at_flusher(&self, no_flusher: impl Fn() -> EngineError) -> Result<(), EngineError> {
        let done = self.flusher.as_ref().map(|flusher| flusher.done.try_recv());
        match done {
            Some(Ok(result)) => result,
            Some(Err(TryRecvError::Empty)) => Ok(()),
            Some(Err(TryRecvError::Disconnected)) | None => Err(no_flusher()),
        }
    }
}

impl Flusher {
    fn start(directory: &Path, inner: Arc<dyn Engine>, pace: Pace) -> io::Result<Self> {
        let (todo, todos) = sync_channel::<Todo>(1);
        // Room for all that is ever under way: nobody need take an answer.
        let (answer, done) = sync_channel(2);
        let directory = directory.to_owned();
        let is_urgent = pace.is_urgent.clone();
        let work = move || {
            for (generation, last) in todos {
                let keep = |done, all| pace.keep(done, all);
                let result = flush(&directory, &*inner, &generation, last, keep);
                let is_last = result.is_err();
                if !is_last {
                    write(&pace.pending).is_flushed();
                }
                if answer.send(result).is_err() || is_last {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("store-log".to_owned()).spawn(work)?;
        Ok(Flusher { todo, done, is_urgent, thread })
    }
}

/// Has `inner` take `generation`, durably, and takes the segments up to `last` away. Between two
/// batches `rest` is told how many of how many entries are done.
fn flush(
    directory: &Path,
    inner: &dyn Engine,
    generation: &Generation,
    last: u64,
    rest: impl Fn(usize, usize),
) -> Result<(), EngineError> {
    let mut batch = Batch::new();
    let mut bytes = 0;
    for (done, (key, value)) in generation.iter().enumerate() {
        if bytes > BATCH_BYTES {
            inner.apply(std::mem::take(&mut batch))?;
            bytes = 0;
            rest(done, generation.len());
        }
        bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        match value {
            Some(value) => batch.put(key.to_vec(), value.clone()),
            None => batch.delete(key.to_vec()),
        }
    }
    batch.put(MARK.to_vec(), last.to_be_bytes().to_vec());
    inner.apply(batch)?;
    inner.sync()?;
    segment::remove(directory, last)
        .map_err(|error| failure(inner, "remove a segment of the log of", &error))
}

/// What the log has and the engine may not have, a generation for each segment.
fn left_over(directory: &Path, inner: &dyn Engine) -> Result<Vec<(u64, Generation)>, EngineError> {
    let failed = |error: io::Error| failure(inner, "read the log of", &error);
    let marked = inner.get(MARK)?.map(|mark| mark[..].try_into().map(u64::from_be_bytes));
    let marked = marked.transpose().map_err(|_| damage(inner, "its mark is no number"))?;
    let applied = marked.unwrap_or(0);
    let segments = segment::list(directory).map_err(failed)?;
    let segments: Vec<u64> = segments.into_iter().filter(|segment| *segment > applied).collect();
    let expected = applied + 1;
    let is_begun = !segments.is_empty() || marked.is_some();
    if is_begun && !segments.iter().copied().eq(expected..expected + segments.len().max(1) as u64) {
        return Err(damage(inner, &format!("of segments {expected} on there are {segments:?}")));
    }
    let mut count = None;
    let mut found = Vec::new();
    for segment in segments {
        let bytes = segment::read(directory, segment).map_err(failed)?;
        let (generation, frames) = replay(bytes.into(), segment, count)
            .map_err(|why| damage(inner, &format!("segment {segment}: {why}")))?;
        count = Some(frames);
        found.push((segment, generation));
    }
    Ok(found)
}

/// The batches of a segment, and how many frames they are; of the one before there are `before`.
fn replay(bytes: Bytes, segment: u64, before: Option<u64>) -> Result<(Generation, u64), String> {
    let (mut pending, mut rest, mut count) = (Pending::default(), bytes, 0);
    while let Some((place, ops, length)) = frame::decode(&rest, segment) {
        if let Some(before) = before.filter(|before| *before != place.before) {
            return Err(format!("the one before had {} frames, {before} are left", place.before));
        }
        if place.number != count + 1 {
            return Err(format!("behind frame {count} is {}", place.number));
        }
        count = place.number;
        pending.add(ops);
        rest = rest.slice(length..);
    }
    // What was never synced may be missing, whole or in part, and what stands behind it not.
    match frame::search(&rest, segment).filter(|later| later.synced > count) {
        Some(Place { synced, .. }) => {
            Err(format!("frames up to {synced} were synced, and behind {count} they are damaged"))
        }
        None => Ok((pending.into_young(), count)),
    }
}

fn read(pending: &RwLock<Pending>) -> RwLockReadGuard<'_, Pending> {
    pending.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(pending: &RwLock<Pending>) -> RwLockWriteGuard<'_, Pending> {
    pending.write().unwrap_or_else(PoisonError::into_inner)
}

/// The smallest key behind `key`.
fn behind(key: &[u8]) -> Bytes {
    [key, &[0]].concat().into()
}

fn failure(inner: &dyn Engine, doing: &'static str, error: &io::Error) -> EngineError {
    let (fault, why) = (Fault::of(error), error.to_string());
    EngineError { engine: inner.describe(), doing, fault, why }
}

fn damage(inner: &dyn Engine, why: &str) -> EngineError {
    let (engine, why) = (inner.describe(), why.to_owned());
    EngineError { engine, doing: "read the log of", fault: Fault::Damage, why }
}
