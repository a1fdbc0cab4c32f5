//! A journal: records in order in segments on disk, the oldest of which go first.
//!
//! What a node wants to remember of its work, as far as there is room: the conflict feed, recorded
//! conflicts, versions that were superseded. None of it decides what a key holds.
//!
//! A segment is a file of JSON lines named by the number of its first record, each record's number
//! follows from its place in it, so that a reader finds the one that it left off at, and an operator
//! can read them all. When a segment has a quarter of the journal's bytes the next one begins; when
//! all have more than the whole, the oldest is removed. Readers that were still in it go on with the
//! oldest that is left: the numbers tell that some are missing.
//!
//! A record is handed to the system before its cause goes on: it survives the process. It is not
//! synced: a power cut can take the last ones.
//!
//! If the disk refuses, work goes on, and the journal says in the log how many records it lacks.
//!
//! There is no index: who looks for one key passes over the lines that cannot be of it without
//! reading them as JSON, at the speed of memory ([`Journal::read`]).

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// Into how many segments a journal is divided.
const SEGMENTS: u64 = 4;
/// The longest line: what is longer is not kept.
const LINE_BYTES_MAX: u64 = 32 << 20;

/// What a journal holds.
pub trait Entry: Serialize + DeserializeOwned {
    /// Its number, from 1.
    fn number_mut(&mut self) -> &mut u64;
}

/// A journal of one node.
pub struct Journal<T> {
    name: &'static str,
    folder: PathBuf,
    bytes_max: u64,
    inner: Mutex<Inner>,
    /// The number of the last record.
    last: watch::Sender<u64>,
    entries: PhantomData<fn(T) -> T>,
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

impl<T: Entry> Journal<T> {
    /// Opens the journal in `folder`, which is made if it is missing. Blocks.
    ///
    /// # Errors
    /// The folder or the last segment cannot be read.
    pub fn open((name, folder): (&'static str, &Path), bytes_max: u64) -> io::Result<Self> {
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
        if let Some(segment) = segments.back() {
            last = segment.first.saturating_sub(1);
            let mut reader = BufReader::new(File::open(path(folder, segment.first))?);
            while next(&mut reader)?.is_some() {
                last += 1;
            }
        }
        // A torn line may be at the end of the last one: the next record begins a new one.
        let inner = Inner { segments, file: None, missed: 0 };
        Ok(Journal {
            name,
            folder: folder.to_owned(),
            bytes_max,
            inner: Mutex::new(inner),
            last: watch::Sender::new(last),
            entries: PhantomData,
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the record its number and appends it. Writes to the system's memory of files.
    pub fn append(&self, entry: &mut T) {
        let mut inner = self.inner();
        let number = *self.last.borrow() + 1;
        *entry.number_mut() = number;
        if let Err(error) = self.write(&mut inner, number, entry) {
            inner.file = None;
            inner.missed += 1;
            if inner.missed.is_power_of_two() {
                let (missed, journal) = (inner.missed, self.name);
                tracing::error!(%error, missed, journal, "records cannot be written");
            }
        }
        self.last.send_replace(number);
    }

    fn write(&self, inner: &mut Inner, number: u64, entry: &T) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        if line.len() as u64 > LINE_BYTES_MAX {
            return Err(io::Error::other(format!(
                "more than {LINE_BYTES_MAX} bytes in one record"
            )));
        }
        let is_full = inner.segments.back().is_some_and(|s| s.bytes >= self.bytes_max / SEGMENTS);
        if inner.file.is_none() || is_full {
            let mut open = OpenOptions::new();
            let path = path(&self.folder, number);
            // One of this number is there only if its first line was torn.
            inner.file = Some(open.create(true).write(true).truncate(true).open(path)?);
            inner.segments.retain(|segment| segment.first != number);
            inner.segments.push_back(Segment { first: number, bytes: 0 });
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
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// The number of the first record that is left; 0 without any.
    pub fn first(&self) -> u64 {
        self.inner().segments.front().map_or(0, |segment| segment.first)
    }

    /// Records from the cursor on, in order, until about `bytes_max` of them were looked at; only
    /// those whose line `may_be` holds for. Blocks.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn read(
        &self,
        cursor: &mut Cursor,
        bytes_max: u64,
        may_be: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Vec<T>> {
        let segments: Vec<Segment> = self.inner().segments.iter().copied().collect();
        let (mut read, mut bytes) = (Vec::new(), 0);
        for (at, segment) in segments.iter().enumerate() {
            let is_past = segments.get(at + 1).is_some_and(|s| s.first <= cursor.after + 1);
            if is_past || bytes >= bytes_max {
                continue;
            }
            let mut file = match File::open(path(&self.folder, segment.first)) {
                Ok(file) => file,
                // The oldest may just have gone.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let (mut number, mut place) = match cursor.place {
                Some((first, place)) if first == segment.first => (cursor.after, place),
                _ => (segment.first - 1, 0),
            };
            file.seek(SeekFrom::Start(place))?;
            let mut reader = BufReader::new(file);
            while let Some(line) = next(&mut reader)? {
                let length = line.len() as u64 + 1;
                (number, place) = (number + 1, place + length);
                // A place before the cursor would be taken for the cursor's.
                if number < cursor.after {
                    continue;
                }
                cursor.place = Some((segment.first, place));
                if number == cursor.after {
                    continue;
                }
                bytes += length;
                cursor.after = number;
                // Of a damaged line there is nothing to be had, of those behind it there is.
                read.extend(may_be(&line).then(|| serde_json::from_slice(&line).ok()).flatten());
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

/// The next line of a segment; none at the end, or where one is torn.
fn next(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    Ok((line.pop() == Some(b'\n')).then_some(line))
}

/// Bytes as base64, for JSON.
pub(crate) mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

/// Bytes that may be missing, likewise.
pub(crate) mod base64_option {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(|bytes| STANDARD.encode(bytes)).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let decoded = text.map(|text| STANDARD.decode(text)).transpose();
        decoded.map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Line {
        number: u64,
        text: String,
    }

    impl Entry for Line {
        fn number_mut(&mut self) -> &mut u64 {
            &mut self.number
        }
    }

    fn line(text: &str) -> Line {
        Line { number: 0, text: text.to_owned() }
    }

    fn open(folder: &Path, bytes_max: u64) -> Journal<Line> {
        Journal::open(("test", folder), bytes_max).expect("opened")
    }

    fn numbers(journal: &Journal<Line>, cursor: &mut Cursor) -> Vec<u64> {
        let read = journal.read(cursor, u64::MAX, |_| true).expect("read");
        read.iter().map(|line| line.number).collect()
    }

    #[test]
    fn a_reader_goes_on_where_it_was_and_after_a_restart() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let journal = open(folder.path(), 1 << 20);
        let mut cursor = Cursor::default();
        (0..3).for_each(|_| journal.append(&mut line("a")));
        assert_eq!(numbers(&journal, &mut cursor), [1, 2, 3]);
        journal.append(&mut line("b"));
        assert_eq!(numbers(&journal, &mut cursor), [4]);
        assert_eq!(numbers(&journal, &mut cursor), [0; 0]);
        drop(journal);

        let journal = open(folder.path(), 1 << 20);
        journal.append(&mut line("c"));
        assert_eq!(numbers(&journal, &mut cursor), [5]);
        assert_eq!(numbers(&journal, &mut Cursor::after(2)), [3, 4, 5]);
        let mut first = Cursor::default();
        assert_eq!(
            journal.read(&mut first, 1, |_| true).expect("read").len(),
            1,
            "in small pieces too"
        );
        assert_eq!(numbers(&journal, &mut first), [2, 3, 4, 5]);
        let mut late = Cursor::after(4);
        let read = journal.read(&mut late, 1, |_| true).expect("read");
        assert_eq!(read[0].number, 5, "what is before it is passed over, however much that is");
    }

    #[test]
    fn a_torn_line_ends_a_segment_and_loses_no_other() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let journal = open(folder.path(), 1 << 20);
        (0..2).for_each(|_| journal.append(&mut line("a")));
        drop(journal);
        let file = path(folder.path(), 1);
        let bytes = fs::read(&file).expect("read");
        fs::write(&file, &bytes[..bytes.len() - 5]).expect("torn");
        let journal = open(folder.path(), 1 << 20);
        journal.append(&mut line("b"));
        assert_eq!(numbers(&journal, &mut Cursor::default()), [1, 2]);
    }

    #[test]
    fn the_oldest_go_first_and_bytes_are_bounded() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let journal = open(folder.path(), 40_000);
        let mut cursor = Cursor::default();
        journal.append(&mut line("first"));
        assert_eq!(numbers(&journal, &mut cursor), [1]);
        (0..500).for_each(|_| journal.append(&mut line(&"x".repeat(100))));
        assert!(journal.inner().bytes() <= 40_000);
        let left = numbers(&journal, &mut cursor);
        assert!(left[0] > 2 && left.last() == Some(&501), "{} to {:?}", left[0], left.last());
        assert!(left.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    }

    #[test]
    fn lines_that_are_not_wanted_are_passed_over_and_counted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let journal = open(folder.path(), 1 << 20);
        ["a", "b", "a", "b"].iter().for_each(|text| journal.append(&mut line(text)));
        let mut cursor = Cursor::default();
        let read =
            journal.read(&mut cursor, u64::MAX, |line| line.ends_with(b"\"b\"}")).expect("read");
        assert_eq!(read.iter().map(|line| line.number).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(cursor.after, 4);
        journal.append(&mut line("a"));
        assert_eq!(numbers(&journal, &mut cursor), [5]);
    }
}
