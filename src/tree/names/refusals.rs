//! The threads whose open(2) was refused with `ESTALE`, until they come back.
//!
//! The kernel answers `ESTALE` with a second attempt: it looks the name up again and opens what it finds, once. A second
//! refusal would reach the caller as an error. So a refusal is remembered until the thread's next OPEN, whatever happens to
//! the file, its nodes or its name meanwhile. A thread has at most one open(2) under way, and so at most one record.
//!
//! A caller may be killed between the two attempts, or its second one may end without an OPEN. Such a record goes when it is
//! old, or when there are too many. Until then it does little: the thread's next look-up reserves a node, and its next OPEN
//! is not refused.

use std::collections::BTreeMap;

use crate::op::{Moment, NodeId};
use crate::state::saved;

/// How many are remembered. Far more than can be between two attempts at a time; beyond that the oldest is dropped.
pub(crate) const MAX_REFUSALS: usize = 16_384;

/// How long one is remembered, in nanoseconds: ten minutes. A caller that runs when nothing else does may need minutes.
pub(crate) const REFUSAL_LIFETIME: u64 = 600_000_000_000;

#[derive(Debug)]
struct Refusal {
    /// Its key in `by_age`.
    serial: u64,
    at: Moment,
    /// It has looked something up since.
    looked_up: bool,
    /// The node that LOOKUP reserved for the second attempt.
    reserved: Option<NodeId>,
    /// It opens to append.
    appends: bool,
}

saved!(struct Refusal { serial, at, looked_up, reserved, appends since 4 });

/// The refusals of a mount, by thread.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    by_thread: BTreeMap<u32, Refusal>,
    /// The threads, the one refused first at the beginning. One entry for each in `by_thread`.
    by_age: BTreeMap<u64, u32>,
    last_serial: u64,
}

saved!(struct Refusals { by_thread, by_age, last_serial });

impl Refusals {
    pub(crate) fn contains(&self, pid: u32) -> bool {
        !self.by_thread.is_empty() && self.by_thread.contains_key(&pid)
    }

    /// The node reserved for thread `pid`.
    pub(crate) fn reserved(&self, pid: u32) -> Option<NodeId> {
        self.by_thread.get(&pid).and_then(|refusal| refusal.reserved)
    }

    /// Thread `pid` looks something up.
    pub(crate) fn note_look_up(&mut self, pid: u32) {
        if let Some(refusal) = self.by_thread.get_mut(&pid) {
            refusal.looked_up = true;
        }
    }

    /// Thread `pid` was refused and has looked nothing up since: no name led it to what it opens.
    pub(crate) fn came_without_look_up(&self, pid: u32) -> bool {
        self.by_thread.get(&pid).is_some_and(|refusal| !refusal.looked_up)
    }

    /// Thread `pid`, of which there is no record, is refused.
    pub(crate) fn insert(&mut self, pid: u32, now: Moment) {
        self.last_serial += 1;
        let serial = self.last_serial;
        let refusal = Refusal { serial, at: now, looked_up: false, reserved: None, appends: false };
        self.by_age.insert(refusal.serial, pid);
        if let Some(before) = self.by_thread.insert(pid, refusal) {
            self.by_age.remove(&before.serial);
        }
    }

    /// Thread `pid`, if it was refused, opens to append.
    pub(crate) fn note_append(&mut self, pid: u32) {
        if let Some(refusal) = self.by_thread.get_mut(&pid) {
            refusal.appends = true;
        }
    }

    /// Thread `pid` was refused and opens to append.
    pub(crate) fn appends(&self, pid: u32) -> bool {
        !self.by_thread.is_empty() && self.by_thread.get(&pid).is_some_and(|refusal| refusal.appends)
    }

    /// Sets the node reserved for thread `pid`, if that was refused.
    pub(crate) fn reserve(&mut self, pid: u32, node: Option<NodeId>) {
        if let Some(refusal) = self.by_thread.get_mut(&pid) {
            refusal.reserved = node;
        }
    }

    /// Drops the record of thread `pid`. Returns the node that was reserved for it.
    pub(crate) fn remove(&mut self, pid: u32) -> Option<NodeId> {
        let refusal = self.by_thread.remove(&pid)?;
        self.by_age.remove(&refusal.serial);
        refusal.reserved
    }

    /// A thread whose record is to be dropped: it is too old, or there is one too many.
    pub(crate) fn overdue(&self, now: Moment) -> Option<u32> {
        let (_, pid) = self.by_age.first_key_value()?;
        let oldest = self.by_thread.get(pid)?;
        let old = now >= oldest.at.after(REFUSAL_LIFETIME);
        (old || self.by_thread.len() > MAX_REFUSALS).then_some(*pid)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.by_age.len(), self.by_thread.len());
        self.by_thread.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_lasts_until_it_is_removed() {
        let mut refusals = Refusals::default();
        refusals.insert(1, Moment(5));
        assert!(refusals.contains(1) && !refusals.contains(2));
        refusals.reserve(1, Some(NodeId(7)));
        refusals.reserve(2, Some(NodeId(8)));
        assert_eq!((refusals.reserved(1), refusals.reserved(2)), (Some(NodeId(7)), None));
        assert_eq!(refusals.remove(1), Some(NodeId(7)));
        assert_eq!(refusals.remove(1), None);
        assert_eq!(refusals.len(), 0);
    }

    #[test]
    fn the_oldest_is_overdue_when_it_is_old_or_there_are_too_many() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.overdue(Moment::LAST), None);
        refusals.insert(1, Moment(5));
        refusals.insert(2, Moment(6));
        refusals.insert(1, Moment(7));
        assert_eq!(refusals.overdue(Moment(5).after(REFUSAL_LIFETIME)), None);
        assert_eq!(refusals.overdue(Moment(6).after(REFUSAL_LIFETIME)), Some(2));
        refusals.remove(2);
        assert_eq!(refusals.overdue(Moment(7).after(REFUSAL_LIFETIME)), Some(1));
        for pid in 2..=MAX_REFUSALS as u32 {
            refusals.insert(pid, Moment(8));
        }
        assert_eq!(refusals.overdue(Moment(8)), None);
        refusals.insert(MAX_REFUSALS as u32 + 1, Moment(8));
        assert_eq!(refusals.overdue(Moment(8)), Some(1));
        refusals.remove(1);
        assert_eq!((refusals.overdue(Moment(8)), refusals.len()), (None, MAX_REFUSALS));
    }
}
