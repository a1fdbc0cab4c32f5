//! The feed on disk: records of merges in order, in segments, the oldest of which go first.
//!
//! A segment is a file of JSON lines named by the number of its first record, so that a reader finds
//! the one that has the record it left off at, and an operator can read them all. When a segment
//! has a quarter of the feed's bytes the next one begins; when all have more than the whole, the
//! oldest is removed. Readers that were still in it go on with the oldest that is left: the numbers
//! tell that some are missing.
//!
//! A record is handed to the system before the merge's answer is: it survives the process. It is
//! not synced: what the system had not yet written is lost with the machine, and with it the memory
//! that the siblings were merged, so the next read of the key merges and records them again. What
//! was folded meanwhile is not merged again; of that a power cut can take the last records.
//!
//! If the disk refuses, merges go on, and the feed says in the log how many records it lacks.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::record::Conflict;

/// Into how many segments a feed is divided.
const SEGMENTS: u64 = 4;
/// The longest line that is read: far beyond what a merge may say.
const LINE_BYTES_MAX: u64 = 8 << 20;

/// The feed of one node.
pub(super) struct Feed {
    folder: PathBuf,
    bytes_max: u64,
    inner: Mutex<Inner>,
    /// The number of the last record.
    last: watch::Sender<u64>,
}

struct Inner {
    segments: VecDeque<Segment>,
    /// The last segment, if it is open.
    file: Option<File>,
    missed: u64,
}

impl Inner {
    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    first: u64,
    bytes: u64,
}

/// Where a reader is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The number of the last record it has read.
    pub after: u64,
    /// Where the next one begins, if that is known: the segment, and the place in it.
    place: Option<(u64, u64)>,
}

impl Cursor {
    /// After the record of this number.
    pub fn after(sequence: u64) -> Self {
        Cursor { after: sequence, place: None }
    }
}

impl Feed {
    /// Opens the feed in `folder`, which is made if it is missing, and hands what is there to
    /// `seen`, in order. Blocks.
    pub(super) fn open(
        folder: &Path,
        bytes_max: u64,
        mut seen: impl FnMut(Conflict),
    ) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut segments = VecDeque::new();
        for file in fs::read_dir(folder)? {
            let file = file?;
            let name = file.file_name();
            let first = name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.parse().ok());
            if let Some(first) = first {
                segments.push_back(Segment { first, bytes: file.metadata()?.len() });
            }
        }
        segments.make_contiguous().sort_unstable_by_key(|segment| segment.first);
        let mut last = 0;
        for segment in &segments {
            last = last.max(segment.first.saturating_sub(1));
            let mut reader = BufReader::new(File::open(path(folder, segment.first))?);
            while let Some((conflict, _)) = next(&mut reader)? {
                last = last.max(conflict.sequence);
                seen(conflict);
            }
        }
        // A torn line may be at the end of the last one: the next record begins a new one.
        let inner = Inner { segments, file: None, missed: 0 };
        Ok(Feed {
            folder: folder.to_owned(),
            bytes_max,
            inner: Mutex::new(inner),
            last: watch::Sender::new(last),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the record its number and appends it. Writes to the system's memory of files.
    pub(super) fn append(&self, conflict: &mut Conflict) {
        let mut inner = self.inner();
        conflict.sequence = *self.last.borrow() + 1;
        if let Err(error) = self.write(&mut inner, conflict) {
            inner.file = None;
            inner.missed += 1;
            if inner.missed.is_power_of_two() {
                let missed = inner.missed;
                tracing::error!(%error, missed, "the conflict feed cannot be written");
            }
        }
        self.last.send_replace(conflict.sequence);
    }

    fn write(&self, inner: &mut Inner, conflict: &Conflict) -> io::Result<()> {
        let mut line = serde_json::to_vec(conflict)?;
        line.push(b'\n');
        let is_full = inner.segments.back().is_some_and(|s| s.bytes >= self.bytes_max / SEGMENTS);
        if inner.file.is_none() || is_full {
            let mut open = OpenOptions::new();
            let path = path(&self.folder, conflict.sequence);
            // One of this number is there only if its first line was torn.
            inner.file = Some(open.create(true).write(true).truncate(true).open(path)?);
            inner.segments.retain(|segment| segment.first != conflict.sequence);
            inner.segments.push_back(Segment { first: conflict.sequence, bytes: 0 });
        }
        if let (Some(file), Some(segment)) = (&mut inner.file, inner.segments.back_mut()) {
            file.write_all(&line)?;
            segment.bytes += line.len() as u64;
        }
        self.drop_oldest(inner);
        Ok(())
    }

    fn drop_oldest(&self, inner: &mut Inner) {
        while inner.bytes() > self.bytes_max && inner.segments.len() > 1 {
            if let Some(oldest) = inner.segments.pop_front() {
                // What cannot be removed is found again at the next start.
                let _ = fs::remove_file(path(&self.folder, oldest.first));
            }
        }
    }

    /// The numbers of the last record, as they come.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// The number of the first record that is left; 0 without any.
    pub(super) fn first(&self) -> u64 {
        self.inner().segments.front().map_or(0, |segment| segment.first)
    }

    /// Records from the cursor on, in order, about `bytes_max` of them. Blocks.
    pub(super) fn read(&self, cursor: &mut Cursor, bytes_max: u64) -> io::Result<Vec<Conflict>> {
        let segments: Vec<Segment> = self.inner().segments.iter().copied().collect();
        let (mut read, mut bytes) = (Vec::new(), 0);
        for (number, segment) in segments.iter().enumerate() {
            let is_past = segments.get(number + 1).is_some_and(|s| s.first <= cursor.after + 1);
            if is_past || bytes >= bytes_max {
                continue;
            }
            let mut file = match File::open(path(&self.folder, segment.first)) {
                Ok(file) => file,
                // The oldest may just have gone.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let mut place = match cursor.place {
                Some((first, place)) if first == segment.first => place,
                _ => 0,
            };
            file.seek(SeekFrom::Start(place))?;
            let mut reader = BufReader::new(file);
            while let Some((conflict, length)) = next(&mut reader)? {
                place += length;
                bytes += length;
                if conflict.sequence > cursor.after {
                    cursor.after = conflict.sequence;
                    read.push(conflict);
                }
                cursor.place = Some((segment.first, place));
                if bytes >= bytes_max {
                    break;
                }
            }
        }
        Ok(read)
    }
}

fn path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.jsonl"))
}

/// The next record of a segment and its length in bytes; none at the end, or where a line is torn.
fn next(reader: &mut impl BufRead) -> io::Result<Option<(Conflict, u64)>> {
    let mut line = Vec::new();
    reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Ok(None);
    }
    Ok(serde_json::from_slice(&line).ok().map(|conflict| (conflict, line.len() as u64 + 1)))
}

#[cfg(test)]
mod tests {
    use super::super::record::{Came, Cause};
    use super::*;

    fn conflict(note: &str) -> Conflict {
        Conflict {
            sequence: 0,
            id: "id".to_owned(),
            at_ms: 1,
            keyspace: "carts".to_owned(),
            key: vec![0, 255],
            cause: Cause::Read,
            module: "m".to_owned(),
            came: Came::Value,
            siblings: vec![vec!["1.2.3:4".to_owned()]],
            bytes_in: 3,
            bytes_out: 2,
            fuel: 1,
            micros: 9,
            note: note.to_owned(),
            events: Vec::new(),
            comparison: None,
        }
    }

    fn numbers(feed: &Feed, cursor: &mut Cursor) -> Vec<u64> {
        let read = feed.read(cursor, u64::MAX).expect("read");
        read.iter().map(|conflict| conflict.sequence).collect()
    }

    #[test]
    fn a_reader_goes_on_where_it_was_and_after_a_restart() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let feed = Feed::open(folder.path(), 1 << 20, |_| {}).expect("opened");
        let mut cursor = Cursor::default();
        (0..3).for_each(|_| feed.append(&mut conflict("a")));
        assert_eq!(numbers(&feed, &mut cursor), [1, 2, 3]);
        feed.append(&mut conflict("b"));
        assert_eq!(numbers(&feed, &mut cursor), [4]);
        assert_eq!(numbers(&feed, &mut cursor), [0; 0]);
        drop(feed);

        let mut seen = Vec::new();
        let feed = Feed::open(folder.path(), 1 << 20, |c| seen.push(c.sequence)).expect("opened");
        assert_eq!(seen, [1, 2, 3, 4]);
        feed.append(&mut conflict("c"));
        assert_eq!(numbers(&feed, &mut cursor), [5]);
        assert_eq!(numbers(&feed, &mut Cursor::after(2)), [3, 4, 5]);
        let mut first = Cursor::default();
        assert_eq!(feed.read(&mut first, 1).expect("read").len(), 1, "in small pieces too");
        assert_eq!(numbers(&feed, &mut first), [2, 3, 4, 5]);
    }

    #[test]
    fn a_torn_line_ends_a_segment_and_loses_no_other() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let feed = Feed::open(folder.path(), 1 << 20, |_| {}).expect("opened");
        (0..2).for_each(|_| feed.append(&mut conflict("a")));
        drop(feed);
        let file = path(folder.path(), 1);
        let bytes = fs::read(&file).expect("read");
        fs::write(&file, &bytes[..bytes.len() - 5]).expect("torn");
        let feed = Feed::open(folder.path(), 1 << 20, |_| {}).expect("opened");
        feed.append(&mut conflict("b"));
        assert_eq!(numbers(&feed, &mut Cursor::default()), [1, 2]);
    }

    #[test]
    fn the_oldest_go_first_and_bytes_are_bounded() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let feed = Feed::open(folder.path(), 40_000, |_| {}).expect("opened");
        let mut cursor = Cursor::default();
        feed.append(&mut conflict("first"));
        assert_eq!(numbers(&feed, &mut cursor), [1]);
        (0..500).for_each(|_| feed.append(&mut conflict(&"x".repeat(100))));
        assert!(feed.inner().bytes() <= 40_000);
        let left = numbers(&feed, &mut cursor);
        assert!(left[0] > 2 && left.last() == Some(&501), "{} to {:?}", left[0], left.last());
        assert!(left.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    }
}
