//! A walk through a keyspace: its partitions in turn, each a page at a time
//! ([`stator_core::listing`]). Partitions are read ahead, so many at a time, because most waiting is
//! for the owners' answers.
//!
//! Where a walk is can be printed and read back, so a walk that broke off goes on, on any node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use stator_core::causality::Siblings;
use stator_core::id::{KeyspaceId, PartitionId};
use stator_core::listing::{KeyRange, ListRequest};
use stator_core::request::RequestError;

use super::Node;
use crate::driver::DriverStopped;

/// Partitions that are read at a time.
const AHEAD: usize = 4;
/// How long the owners may take for a page.
const PAGE_TIME: Duration = Duration::from_secs(5);

/// Which keys of a keyspace.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// From this one on.
    pub from: Bytes,
    /// Below this one; `None` is up to the last.
    pub until: Option<Bytes>,
}

/// Where a walk is: in this partition, before this key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The partition.
    pub partition: u32,
    /// The key; empty is the first of the partition.
    pub from: Bytes,
}

impl Place {
    /// What [`Self::parse`] reads.
    pub fn print(&self) -> String {
        format!("{}.{}", self.partition, hex::encode(&self.from))
    }

    /// The place that `token` names; the start if that is empty.
    pub fn parse(token: &str) -> Option<Place> {
        if token.is_empty() {
            return Some(Place::default());
        }
        let (partition, from) = token.split_once('.')?;
        let from = hex::decode(from).ok()?.into();
        Some(Place { partition: partition.parse().ok()?, from })
    }
}

/// A page of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Of which partition.
    pub partition: u32,
    /// The objects, in key order.
    pub objects: Vec<(Bytes, Arc<Siblings>)>,
    /// Where the walk goes on; `None` is its end.
    pub next: Option<Place>,
    /// How much of the partitions is done, of 1,000.
    pub permille: u32,
}

/// Why a walk breaks off. Nothing was changed; it can go on from the last page's place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// A page could not be read.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The node is stopping.
    #[error(transparent)]
    Stopped(#[from] DriverStopped),
}

impl Node {
    /// The keys of a keyspace from `place` on. `r` owners must answer for each partition; `None` is
    /// the keyspace's r.
    pub fn walk(
        self: &Arc<Self>,
        (keyspace, partitions): (KeyspaceId, u32),
        keys: Keys,
        r: Option<u32>,
        place: Place,
    ) -> impl Stream<Item = Result<Page, WalkError>> + Send + use<> {
        let (node, first) = (self.clone(), place.partition);
        let range = move |partition: u32, from: &Bytes| KeyRange {
            partition: PartitionId(partition as u16),
            keyspace,
            from: from.max(&keys.from).clone(),
            until: keys.until.clone(),
        };
        let reader = node.clone();
        let read = move |range: KeyRange| {
            let node = reader.clone();
            async move {
                let request = ListRequest { range: range.clone(), r, timeout_ms: 0 };
                let page = node.driver.list(request, Instant::now() + PAGE_TIME).await??;
                Ok::<_, WalkError>((range, page))
            }
        };
        let (ahead, ahead_range) = (read.clone(), range.clone());
        let firsts = futures::stream::iter(first..partitions).map(move |partition| {
            let from = if partition == first { place.from.clone() } else { Bytes::new() };
            ahead(ahead_range(partition, &from))
        });
        async_stream::try_stream! {
            let mut firsts = std::pin::pin!(firsts.buffered(AHEAD));
            while let Some(read_first) = firsts.next().await {
                let (mut at, mut page) = read_first?;
                loop {
                    let partition = u32::from(at.partition.0);
                    let behind = (partition + 1 < partitions)
                        .then(|| Place { partition: partition + 1, from: Bytes::new() });
                    let cut = page.next.clone();
                    let next = cut.clone().map(|from| Place { partition, from }).or(behind);
                    let done = partition + u32::from(cut.is_none());
                    let permille = u64::from(done) * 1_000 / u64::from(partitions.max(1));
                    yield Page { partition, objects: page.objects, next, permille: permille as u32 };
                    let Some(from) = cut else { break };
                    (at, page) = read(range(partition, &from)).await?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_and_nonsense_does_not() {
        for place in
            [Place::default(), Place { partition: 65_535, from: Bytes::from_static(b"a.b") }]
        {
            assert_eq!(Place::parse(&place.print()), Some(place));
        }
        assert_eq!(Place::parse(""), Some(Place::default()));
        for nonsense in ["x", "1", "x.", "1.zz", ".", "1.0"] {
            assert_eq!(Place::parse(nonsense), None, "{nonsense}");
        }
    }
}
