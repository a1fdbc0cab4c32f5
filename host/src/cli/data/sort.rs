//! Sorting more records than memory has room for: runs of what fits are sorted and written to files
//! that have no name, then merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek, SeekFrom, Write};

use bytes::Bytes;

use super::format::{read_record, record};

/// Bytes of a run.
const RUN_BYTES: usize = 64 << 20;

/// Takes records in any order, and gives them by key.
pub(super) struct Sorter {
    run_bytes: usize,
    held: Vec<(Bytes, Bytes)>,
    bytes: usize,
    runs: Vec<File>,
}

impl Sorter {
    pub(super) fn new() -> Self {
        Sorter { run_bytes: RUN_BYTES, held: Vec::new(), bytes: 0, runs: Vec::new() }
    }

    pub(super) fn add(&mut self, key: Bytes, object: Bytes) -> io::Result<()> {
        self.bytes += key.len() + object.len();
        self.held.push((key, object));
        if self.bytes >= self.run_bytes { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> io::Result<()> {
        self.held.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut out = BufWriter::new(tempfile::tempfile()?);
        for (key, object) in self.held.drain(..) {
            record(&mut out, &key, &object)?;
        }
        out.flush()?;
        let mut file = out.into_inner()?;
        file.seek(SeekFrom::Start(0))?;
        self.runs.push(file);
        self.bytes = 0;
        Ok(())
    }

    /// Hands all records on, by key.
    pub(super) fn drain(
        mut self,
        mut take: impl FnMut(&[u8], &Bytes) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.runs.is_empty() {
            self.held.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            return self.held.iter().try_for_each(|(key, object)| take(key, object));
        }
        self.spill()?;
        let mut runs: Vec<_> = self.runs.into_iter().map(BufReader::new).collect();
        let mut next = BinaryHeap::new();
        for (place, run) in runs.iter_mut().enumerate() {
            next.extend(read_record(run)?.map(|(key, object)| Reverse((key, place, object))));
        }
        while let Some(Reverse((key, place, object))) = next.pop() {
            take(&key, &object)?;
            let read = read_record(&mut runs[place])?;
            next.extend(read.map(|(key, object)| Reverse((key, place, object))));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_come_out_by_key_whatever_fits_in_memory(
            keys in prop::collection::btree_set(prop::collection::vec(1u8.., 1..6), 0..60)
                .prop_map(|keys| keys.into_iter().collect::<Vec<_>>()).prop_shuffle(),
            run_bytes in 1..200usize,
        ) {
            let mut sorter = Sorter { run_bytes, ..Sorter::new() };
            for key in &keys {
                sorter.add(key.clone().into(), Bytes::from(key.repeat(2))).unwrap();
            }
            let mut found = Vec::new();
            sorter.drain(|key, object| {
                assert_eq!(object[..], key.repeat(2));
                found.push(key.to_vec());
                Ok(())
            }).unwrap();
            let mut expected = keys;
            expected.sort();
            prop_assert_eq!(found, expected);
        }
    }
}
