//! What is due because of the time: messages expire, leases end, delayed messages are queued. It is done in short steps, by the
//! timer and by whoever sends or receives; so a late timer changes nothing, and nobody holds the mailbox for long.
//!
//! While more is due than one step does, a read or poll is *postponed*: it is to be called again. A write that has no room waits until
//! all is done, even if it may not wait for room, because what has expired takes none. Such a writer is *deferred*.

use super::Mailbox;
use super::call::{Context, WhenFull};
use super::queue::{BYTES_REMOVED_AT_ONCE, REMOVED_AT_ONCE};
use crate::op::{Error, Moment};

/// What one step may still do.
pub(super) struct Budget {
    count: usize,
    bytes: u64,
}

impl Budget {
    /// Of a whole step.
    pub(super) fn new() -> Budget {
        Budget { count: REMOVED_AT_ONCE, bytes: BYTES_REMOVED_AT_ONCE }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.count == 0 || self.bytes == 0
    }

    /// A message of this length, or a lease, is done with.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Mailbox {
    /// When [`Mailbox::tick`] must be called next: the earliest end of a message's, a lease's, a delay's or a key's time.
    pub fn next_deadline(&self) -> Option<Moment> {
        if self.dropping || !self.deferred.is_empty() {
            return Some(Moment::FIRST);
        }
        let lease = self.lease_ends.first().map(|(deadline, _)| *deadline);
        let queued = self.queue.next_deadline().into_iter();
        let others = self.delayed.next_deadline().into_iter().chain(self.next_forgetting());
        queued.chain(lease).chain(others).min()
    }

    /// Does a step of what is due. If that is not all, it is due again at once.
    pub fn tick(&mut self, cx: &mut Context<'_>) {
        self.dropping = false;
        let mut budget = Budget::new();
        let done = self.catch_up_within(&mut budget, cx);
        // Nobody waits for that but writers for its memory.
        self.forget_keys(&mut budget, cx);
        self.admit_writers(cx);
        if done && !self.dropping {
            self.end_deferred(cx);
        }
    }

    /// Does a step of what is due. False if there is more.
    pub(crate) fn catch_up(&mut self, cx: &mut Context<'_>) -> bool {
        self.catch_up_within(&mut Budget::new(), cx)
    }

    fn catch_up_within(&mut self, budget: &mut Budget, cx: &mut Context<'_>) -> bool {
        let done =
            self.drop_expired(budget, cx) && self.end_leases(budget, cx) && self.release_due(budget, cx);
        if budget.count < REMOVED_AT_ONCE {
            self.admit_writers(cx);
        }
        done
    }

    /// A writer that may not wait for room waits until all that is due is done, and no longer drops messages.
    pub(super) fn defers(&self, cx: &Context<'_>) -> bool {
        self.dropping || self.has_expired(cx.now.moment)
    }

    /// Nothing is left that would make room for writers that may not wait for it.
    fn end_deferred(&mut self, cx: &mut Context<'_>) {
        let deferred = std::mem::take(&mut self.deferred);
        if deferred.is_empty() {
            return;
        }
        let error = if self.rules.full == WhenFull::Wait { Error::WouldWait } else { Error::NoSpace };
        for id in deferred {
            let Some(writer) = self.writers.remove(id) else { continue };
            // An edge-triggered poller that was told "writable" must learn of room again after this failure.
            self.polls_blocked_by_memory |= self.has_capacity(&writer.account);
            self.fail_writer(writer, error, cx);
        }
        self.admit_writers(cx);
    }
}
