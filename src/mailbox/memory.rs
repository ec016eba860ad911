//! The mount-wide limit on the memory of messages.

use std::sync::atomic::{AtomicU64, Ordering};

/// Memory charged for a message beyond its own bytes: its queue entry (64 bytes, twice that just after the queue has
/// grown) and the allocator's overhead. `tests/footprint.rs` measures that a message takes no more.
pub const MESSAGE_COST: u64 = 152;

/// Memory charged in addition for a message with a tag or a time limit: the record of these, and its index entries.
pub(super) const EXTRA_COST: u64 = 256;

/// What all mailboxes of a mount share: `limit` bytes of memory for their messages, and the ids of messages.
///
/// `queued` counts the messages in queues, `waiting` those whose writers wait for room: the kernel has handed over
/// their bytes already. Each is limited to `limit` on its own, so that waiting writers take no room from the queues.
/// Both are sequentially consistent: the tree pairs `queued` with its flag for mailboxes that are blocked by the
/// memory limit.
#[derive(Debug)]
pub struct Memory {
    limit: u64,
    queued: AtomicU64,
    waiting: AtomicU64,
    /// The peak since [`Memory::should_trim`] last returned true, in bytes.
    peak: AtomicU64,
    /// The last message id in use.
    last_id: AtomicU64,
}

/// Bytes that must be freed before the heap is trimmed.
const TRIM_THRESHOLD: u64 = 8 << 20;

impl Memory {
    /// A limit of `limit` bytes.
    pub fn new(limit: u64) -> Memory {
        Memory {
            limit,
            queued: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            last_id: AtomicU64::new(0),
        }
    }

    /// Memory that a message of `len` bytes is charged, in bytes.
    pub fn cost(len: usize) -> u64 {
        len as u64 + MESSAGE_COST
    }

    /// Allocates `count` consecutive message ids that were never used; returns the first.
    pub fn allocate_ids(&self, count: u64) -> u64 {
        self.last_id.fetch_add(count, Ordering::Relaxed) + 1
    }

    /// The limit, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes charged for messages in queues.
    pub fn used(&self) -> u64 {
        self.queued.load(Ordering::SeqCst)
    }

    /// True if `cost` bytes could be charged now.
    pub fn has_room(&self, cost: u64) -> bool {
        self.used().saturating_add(cost) <= self.limit
    }

    /// Charges `cost` bytes for a message in a queue. False, and nothing charged, if that exceeds the limit.
    #[must_use]
    pub fn try_charge(&self, cost: u64) -> bool {
        add_within(&self.queued, cost, self.limit)
    }

    /// Charges `cost` bytes even beyond the limit, for a message that cannot be refused.
    pub fn force_charge(&self, cost: u64) {
        self.queued.fetch_add(cost, Ordering::SeqCst);
    }

    /// Returns bytes that were charged for a message in a queue.
    pub fn uncharge(&self, cost: u64) {
        self.queued.fetch_sub(cost, Ordering::SeqCst);
    }

    /// True if it pays to trim the heap: at least half of the peak, and 8 MiB or more, has been freed. Returns true
    /// once for each such fall. So while a mount is drained, the number of trims grows only with the logarithm of the
    /// peak.
    pub fn should_trim(&self) -> bool {
        let taken = self.used().saturating_add(self.waiting.load(Ordering::Relaxed));
        let peak = self.peak.load(Ordering::Relaxed);
        if taken > peak {
            // If two threads store a peak at the same time, either value will do.
            self.peak.store(taken, Ordering::Relaxed);
        }
        taken.saturating_add(TRIM_THRESHOLD) <= peak
            && taken <= peak / 2
            && self.peak.compare_exchange(peak, taken, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Charges `cost` bytes for what a writer waits with. False, and nothing charged, if that exceeds the limit.
    #[must_use]
    pub fn try_charge_waiting(&self, cost: u64) -> bool {
        add_within(&self.waiting, cost, self.limit)
    }

    /// Returns bytes that [`Memory::try_charge_waiting`] has charged.
    pub fn uncharge_waiting(&self, cost: u64) {
        self.waiting.fetch_sub(cost, Ordering::SeqCst);
    }
}

fn add_within(counter: &AtomicU64, cost: u64, limit: u64) -> bool {
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
    fn trimming_is_asked_for_once_per_fall_and_never_for_small_changes() {
        let memory = Memory::new(1 << 30);
        for _ in 0..3 {
            assert!(memory.try_charge(1 << 20) && !memory.should_trim());
            memory.uncharge(1 << 20);
            assert!(!memory.should_trim());
        }
        let count = 64;
        for _ in 0..count {
            assert!(memory.try_charge(1 << 20) && !memory.should_trim());
        }
        let told = (0..count).filter(|_| {
            memory.uncharge(1 << 20);
            memory.should_trim()
        });
        assert_eq!(told.count(), 4, "at 32, 16 and 8 MiB, and at nothing");
        assert_eq!(memory.used(), 0);
    }
}
