//! The mount-wide bound on what waiting messages take.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a message costs beyond its own bytes: its place in the queue (64 bytes, twice that just after the queue has
/// grown) and the allocator's share. `tests/footprint.rs` measures that it is not more.
pub const MESSAGE_COST: u64 = 152;

/// What one with a tag or a time limit costs on top: the record of those, and its places in the indices of them.
pub(super) const EXTRA_COST: u64 = 256;

/// What all the mailboxes of a mount share: `limit` bytes for their messages, and the numbers of these.
///
/// `queued` counts messages in queues, `held` those whose writers wait for room: their bytes are here too, because the
/// kernel hands them over once. Each is bounded by `limit` on its own, so that waiting writers cannot keep room from
/// the queues they wait for. Sequentially consistent: the tree pairs `queued` with its flag for starving mailboxes.
#[derive(Debug)]
pub struct Memory {
    limit: u64,
    queued: AtomicU64,
    held: AtomicU64,
    /// The most that was taken since [`Memory::should_trim`] was last true.
    peak: AtomicU64,
    /// Numbers given to messages so far.
    numbered: AtomicU64,
}

/// So much has to come free before the system is given any of it, in bytes.
const EBB: u64 = 8 << 20;

impl Memory {
    /// A bound of `limit` bytes.
    pub fn new(limit: u64) -> Memory {
        Memory {
            limit,
            queued: AtomicU64::new(0),
            held: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            numbered: AtomicU64::new(0),
        }
    }

    /// What a message of `len` bytes costs.
    pub fn cost(len: usize) -> u64 {
        len as u64 + MESSAGE_COST
    }

    /// The first of `count` numbers that no message has had.
    pub fn number(&self, count: u64) -> u64 {
        self.numbered.fetch_add(count, Ordering::Relaxed) + 1
    }

    /// The bound, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes taken by messages in queues.
    pub fn used(&self) -> u64 {
        self.queued.load(Ordering::SeqCst)
    }

    /// True if so much could be taken now.
    pub fn has_room(&self, cost: u64) -> bool {
        self.used().saturating_add(cost) <= self.limit
    }

    /// Takes room in a queue.
    #[must_use]
    pub fn take(&self, cost: u64) -> bool {
        take(&self.queued, cost, self.limit)
    }

    /// Takes room whether there is any or not, for a message that is here already.
    pub fn take_anyway(&self, cost: u64) {
        self.queued.fetch_add(cost, Ordering::SeqCst);
    }

    /// Gives back what was taken.
    pub fn give_back(&self, cost: u64) {
        self.queued.fetch_sub(cost, Ordering::SeqCst);
    }

    /// True once whenever half of what was taken, and 8 MiB or more, has come free: worth giving back. So a
    /// drained mount is asked for it a number of times that grows with the logarithm of what was taken.
    pub fn should_trim(&self) -> bool {
        let taken = self.used().saturating_add(self.held.load(Ordering::Relaxed));
        let peak = self.peak.load(Ordering::Relaxed);
        if taken > peak {
            // A peak that another thread sees at the same time is as good.
            self.peak.store(taken, Ordering::Relaxed);
        }
        taken.saturating_add(EBB) <= peak
            && taken <= peak / 2
            && self.peak.compare_exchange(peak, taken, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Takes room for what a writer has handed over and is not in a queue yet.
    #[must_use]
    pub fn hold(&self, cost: u64) -> bool {
        take(&self.held, cost, self.limit)
    }

    /// Gives back what [`Memory::hold`] took.
    pub fn let_go(&self, cost: u64) {
        self.held.fetch_sub(cost, Ordering::SeqCst);
    }
}

fn take(counter: &AtomicU64, cost: u64, limit: u64) -> bool {
    counter
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
            used.checked_add(cost).filter(|sum| *sum <= limit)
        })
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ebbs_is_told_once_and_what_comes_and_goes_never() {
        let memory = Memory::new(1 << 30);
        for _ in 0..3 {
            assert!(memory.take(1 << 20) && !memory.should_trim());
            memory.give_back(1 << 20);
            assert!(!memory.should_trim());
        }
        let count = 64;
        for _ in 0..count {
            assert!(memory.take(1 << 20) && !memory.should_trim());
        }
        let told = (0..count).filter(|_| {
            memory.give_back(1 << 20);
            memory.should_trim()
        });
        assert_eq!(told.count(), 4, "at 32, 16 and 8 MiB, and at nothing");
        assert_eq!(memory.used(), 0);
    }
}
