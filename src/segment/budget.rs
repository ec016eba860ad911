//! The limit on the memory of all segments of a mount.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::op::Error;

/// The bytes promised to all segments of a mount, at most `limit`. It is atomic because each segment changes under a
/// lock of its own.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    /// Never greater than `limit`. It protects no other data, so relaxed ordering is enough.
    used: AtomicU64,
}

impl Budget {
    /// A budget of `limit` bytes, none of them promised.
    pub fn new(limit: u64) -> Budget {
        Budget { limit, used: AtomicU64::new(0) }
    }

    /// Promises `bytes` more. `NoSpace`, and nothing promised, if less is left.
    pub fn promise(&self, bytes: u64) -> Result<(), Error> {
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map(drop)
            .map_err(|_| Error::NoSpace)
    }

    /// Takes back `bytes` that were promised.
    pub fn give_back(&self, bytes: u64) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "gave back {bytes} of {before} bytes promised");
    }

    /// Bytes promised now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The limit, in bytes.
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

    /// Raises the promise to `bytes`, if it is less. `NoSpace`, and nothing changed, if the budget has not enough.
    pub(super) fn raise_to(&mut self, bytes: u64) -> Result<(), Error> {
        let more = bytes.saturating_sub(self.bytes);
        self.budget.promise(more)?;
        self.bytes += more;
        Ok(())
    }

    /// Lowers the promise to `bytes`, if it is more.
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
