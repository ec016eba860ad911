//! The mount-wide bound on what waiting messages take.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a message costs beyond its own bytes: its place in the queue (48 bytes, twice that just after the queue has
/// grown) and the allocator's share. A test measures that it is not more.
pub const MESSAGE_COST: u64 = 152;

/// Bytes taken by messages in all the mailboxes of a mount, of which there are `limit`.
///
/// `queued` counts messages in queues, `held` those whose writers wait for room: their bytes are here too, because the
/// kernel hands them over once. Each is bounded by `limit` on its own, so that waiting writers cannot keep room from
/// the queues they wait for. Sequentially consistent: the tree pairs `queued` with its flag for starving mailboxes.
#[derive(Debug)]
pub struct Memory {
    limit: u64,
    queued: AtomicU64,
    held: AtomicU64,
}

impl Memory {
    /// A bound of `limit` bytes.
    pub fn new(limit: u64) -> Memory {
        Memory { limit, queued: AtomicU64::new(0), held: AtomicU64::new(0) }
    }

    /// What a message of `len` bytes costs.
    pub fn cost(len: usize) -> u64 {
        len as u64 + MESSAGE_COST
    }

    /// The bound, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes taken by messages in queues.
    pub fn used(&self) -> u64 {
        self.queued.load(Ordering::SeqCst)
    }

    /// True if a message of `len` bytes would be taken now.
    pub fn has_room(&self, len: usize) -> bool {
        self.used().saturating_add(Self::cost(len)) <= self.limit
    }

    /// Takes room for a message of `len` bytes in a queue.
    #[must_use]
    pub fn take(&self, len: usize) -> bool {
        take(&self.queued, Self::cost(len), self.limit)
    }

    /// Gives back what [`Memory::take`] took.
    pub fn give_back(&self, len: usize) {
        self.queued.fetch_sub(Self::cost(len), Ordering::SeqCst);
    }

    /// Takes room for a message whose writer waits.
    #[must_use]
    pub fn hold(&self, len: usize) -> bool {
        take(&self.held, Self::cost(len), self.limit)
    }

    /// Gives back what [`Memory::hold`] took.
    pub fn let_go(&self, len: usize) {
        self.held.fetch_sub(Self::cost(len), Ordering::SeqCst);
    }
}

fn take(counter: &AtomicU64, cost: u64, limit: u64) -> bool {
    counter
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| {
            used.checked_add(cost).filter(|sum| *sum <= limit)
        })
        .is_ok()
}
