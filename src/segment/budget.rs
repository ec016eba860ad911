//! The bytes promised to all segments of a mount.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::op::Error;

/// Bytes promised to all segments of a mount, never more than its limit. Shared by the segments, each of which is
/// changed under a lock of its own; hence atomic.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    /// Never greater than `limit`. Guards no other memory, so that relaxed ordering is enough.
    used: AtomicU64,
}

impl Budget {
    /// Nothing promised yet of `limit` bytes.
    pub fn new(limit: u64) -> Budget {
        Budget { limit, used: AtomicU64::new(0) }
    }

    /// Promises `bytes` more. `Error::NoSpace`, and nothing promised, if that is more than is left.
    pub fn promise(&self, bytes: u64) -> Result<(), Error> {
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map(drop)
            .map_err(|_| Error::NoSpace)
    }

    /// Takes back a promise of `bytes`, which must have been made.
    pub fn give_back(&self, bytes: u64) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "gave back {bytes} of {before} bytes promised");
    }

    /// Bytes promised now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that can be promised in all.
    pub fn limit(&self) -> u64 {
        self.limit
    }
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Promise {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Promise {
    pub(super) fn none(budget: Arc<Budget>) -> Promise {
        Promise { budget, bytes: 0 }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes it `bytes` or leaves it greater. `Error::NoSpace`, and nothing changed, if the budget has not enough.
    pub(super) fn raise_to(&mut self, bytes: u64) -> Result<(), Error> {
        let more = bytes.saturating_sub(self.bytes);
        self.budget.promise(more)?;
        self.bytes += more;
        Ok(())
    }

    /// Makes it `bytes` or leaves it smaller.
    pub(super) fn lower_to(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        self.budget.give_back(less);
        self.bytes -= less;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}
