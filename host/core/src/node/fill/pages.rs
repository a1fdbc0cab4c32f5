//! Pages of a fill: asked for one by one, each stored whole before the next.

use bytes::Bytes;

use super::{PAGE_BYTES_MAX, REST_MS, Source, Step, Stream};
use crate::event::{Action, Area, StoreFailure, Stored};
use crate::id::{KeyspaceId, NodeId, PartitionId};
use crate::keys::StoreKey;
use crate::message::{FillPage, Message, ReplicaError, RequestId};
use crate::node::{Node, Purpose};
use crate::write::Change;

impl Node {
    pub(super) fn ask_for_page(&mut self, node: NodeId, source: &mut Source) {
        let request = self.number();
        let due_ms = self.in_ms(self.settings.replica_timeout_ms.saturating_mul(4));
        let ring_version = self.ring_version();
        let Some(stream) = &mut source.stream else { return };
        stream.step = Step::Asked { request, due_ms };
        let (partition, after) = (stream.partition, stream.after.clone());
        let bytes_max = self.admission.window(PAGE_BYTES_MAX) as u64;
        self.send(node, Message::FillRead { request, partition, ring_version, after, bytes_max });
    }

    /// A source has sent a page, or says why it does not.
    pub(in crate::node) fn fill_page(
        &mut self,
        from: NodeId,
        request: RequestId,
        result: Result<FillPage, ReplicaError>,
    ) {
        let Some(mut fill) = self.fill.take() else { return };
        let rest_ms = self.in_ms(REST_MS);
        if let Some(source) = fill.sources.get_mut(&from)
            && let Some(stream) = source.asked(request)
        {
            match result {
                // A page that does not get on would be asked for for ever.
                Ok(page) if page.next.is_none() || page.next > stream.after => {
                    self.store_page(from, request, stream, page);
                }
                Ok(_) | Err(_) => source.rest(rest_ms),
            }
        }
        self.fill = Some(fill);
        self.end_page(from);
    }

    fn store_page(
        &mut self,
        from: NodeId,
        request: RequestId,
        stream: &mut Stream,
        page: FillPage,
    ) {
        stream.is_whole &= page.is_whole;
        let mut waiting = 0;
        for (keyspace, key, siblings) in page.objects {
            if !self.is_wanted(stream.partition, keyspace, &key) {
                continue;
            }
            waiting += 1;
            let token = self.effect(Purpose::Fill(from, request));
            let survivors = self.survivors(keyspace);
            let key = StoreKey { partition: stream.partition, keyspace, key };
            let change = Change::Sync(siblings);
            let (area, targets, is_sync) = (Area::Data, Vec::new(), true);
            self.act(Action::Write { token, area, key, change, targets, survivors, is_sync });
        }
        stream.step = Step::Storing { request, waiting, has_failed: false, next: page.next };
    }

    /// Whether an object is this node's to hold. Of a keyspace that it does not know yet it may
    /// be, of one that was deleted it is nobody's.
    fn is_wanted(&self, partition: PartitionId, keyspace: KeyspaceId, key: &Bytes) -> bool {
        let Ok((catalogue, known)) = self.keyspace(keyspace) else {
            return !self.is_deleted(keyspace);
        };
        let n = known.quorums.value.n as usize;
        catalogue.ring.partition(keyspace, key) == partition
            && catalogue.ring.owners(partition).take(n).any(|owner| owner == self.id)
    }

    /// An object of a page is stored, or not.
    pub(in crate::node) fn fill_stored(
        &mut self,
        from: NodeId,
        page: RequestId,
        result: Result<Stored, StoreFailure>,
    ) {
        let Some(fill) = &mut self.fill else { return };
        let Some(stream) = fill.sources.get_mut(&from).and_then(|source| source.stream.as_mut())
        else {
            return;
        };
        if let Step::Storing { request, waiting, has_failed, .. } = &mut stream.step
            && *request == page
        {
            *waiting -= 1;
            *has_failed |= result.is_err();
            fill.objects_copied += u64::from(result.is_ok());
            self.end_page(from);
        }
    }

    /// Goes on once all of a page is stored.
    fn end_page(&mut self, from: NodeId) {
        let rest_ms = self.in_ms(REST_MS);
        let Some(fill) = &mut self.fill else { return };
        let Some(source) = fill.sources.get_mut(&from) else { return };
        let Some(stream) = &mut source.stream else { return };
        match &mut stream.step {
            Step::Storing { waiting: 0, has_failed: true, .. } => source.rest(rest_ms),
            Step::Storing { waiting: 0, next, .. } => match next.take() {
                Some(next) => {
                    stream.after = Some(next);
                    stream.step = Step::Idle;
                }
                None => {
                    let (partition, is_whole) = (stream.partition, stream.is_whole);
                    source.behind = Some(partition);
                    source.stream = None;
                    self.exchanged(from, partition, is_whole);
                }
            },
            Step::Storing { .. } | Step::Asked { .. } => return,
            Step::Idle => {}
        }
        self.go_on_filling();
    }

    /// All that `from` holds of `partition` is stored here.
    fn exchanged(&mut self, from: NodeId, partition: PartitionId, is_whole: bool) {
        let Some(mut fill) = self.fill.take() else { return };
        if let Some(exchanged) = fill.left.get_mut(&partition) {
            exchanged.insert(from, is_whole);
        }
        if self.is_done(&fill, partition) {
            fill.left.remove(&partition);
        }
        self.fill = Some(fill);
    }

    /// A page was not asked for: the message did not leave this node.
    pub(in crate::node) fn fill_refused(&mut self, to: NodeId, request: RequestId) {
        let rest_ms = self.in_ms(REST_MS);
        let source = self.fill.as_mut().and_then(|fill| fill.sources.get_mut(&to));
        if let Some(source) = source
            && source.asked(request).is_some()
        {
            source.rest(rest_ms);
            self.go_on_filling();
        }
    }
}
