//! Answers that wait until their records are written or synchronized.

use std::collections::BTreeMap;

use crate::op::{Barrier, Moment, Reply, RequestId};

/// All of them. The work of each call grows with what it takes out, not with what waits.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// By the number of the record and that of the request: those that wait until it is written.
    until_written: Line,
    /// And until it is synchronized.
    until_synced: Line,
    /// By the number of the request.
    barriers: BTreeMap<u64, Barrier>,
}

type Line = BTreeMap<(u64, u64), Promise>;

#[derive(Debug)]
struct Promise {
    request_id: RequestId,
    reply: Reply,
    since: Moment,
}

impl Promises {
    pub(super) fn insert(&mut self, barrier: Barrier, request_id: RequestId, reply: Reply, since: Moment) {
        self.barriers.insert(request_id.unique, barrier);
        self.line(barrier).insert((barrier.record, request_id.unique), Promise { request_id, reply, since });
    }

    fn line(&mut self, barrier: Barrier) -> &mut Line {
        if barrier.synced { &mut self.until_synced } else { &mut self.until_written }
    }

    /// Takes the answers to requests whose records are written and synchronized up to these numbers.
    pub(super) fn take_due(&mut self, written: u64, synced: u64, due: &mut Vec<(RequestId, Reply)>) {
        for (line, reached) in [(&mut self.until_written, written), (&mut self.until_synced, synced)] {
            while let Some(first) = line.first_entry().filter(|first| first.key().0 <= reached) {
                let Promise { request_id, reply, .. } = first.remove();
                self.barriers.remove(&request_id.unique);
                due.push((request_id, reply));
            }
        }
    }

    /// Takes a request out, whose answer then is the caller's.
    pub(super) fn cancel(&mut self, unique: u64) -> Option<RequestId> {
        let barrier = self.barriers.remove(&unique)?;
        self.line(barrier).remove(&(barrier.record, unique)).map(|promise| promise.request_id)
    }

    /// The request with this number, if it waits.
    pub(super) fn find(&self, unique: u64) -> Option<RequestId> {
        let barrier = self.barriers.get(&unique)?;
        let line = if barrier.synced { &self.until_synced } else { &self.until_written };
        line.get(&(barrier.record, unique)).map(|promise| promise.request_id)
    }

    /// All that have waited since `limit` or longer.
    pub(super) fn since(&self, limit: Moment) -> Vec<u64> {
        let all = self.until_written.values().chain(self.until_synced.values());
        all.filter(|promise| promise.since <= limit).map(|promise| promise.request_id.unique).collect()
    }

    /// Whether anybody waits for fdatasync(2).
    pub(super) fn want_sync(&self) -> bool {
        !self.until_synced.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(unique: u64) -> RequestId {
        RequestId { unique, reply_path: 0, pid: 7 }
    }

    #[test]
    fn what_is_due_goes_in_the_order_of_the_records_and_what_is_cancelled_goes_alone() {
        let mut promises = Promises::default();
        for (record, unique, synced) in
            [(5, 1, false), (3, 2, false), (4, 3, true), (9, 4, true), (3, 5, true)]
        {
            promises.insert(Barrier { record, synced }, id(unique), Reply::Done, Moment(unique as i64));
        }
        let mut due = Vec::new();
        promises.take_due(4, 2, &mut due);
        assert_eq!(due, [(id(2), Reply::Done)]);
        assert_eq!((promises.find(3), promises.cancel(3)), (Some(id(3)), Some(id(3))));
        assert_eq!((promises.find(3), promises.cancel(3)), (None, None));
        assert_eq!(promises.since(Moment(4)), [1, 4]);
        assert!(promises.want_sync());
        due.clear();
        promises.take_due(5, 9, &mut due);
        assert_eq!(due.iter().map(|(id, _)| id.unique).collect::<Vec<_>>(), [1, 5, 4]);
        assert!(promises.barriers.is_empty() && !promises.want_sync());
    }
}
