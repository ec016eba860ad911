//! The index of waiting requests: from the kernel's number of a request to the queue that it waits in.
//!
//! The index answers nothing itself. Whoever takes a caller out of the queue that it waits in, under that queue's lock,
//! owns the answer; the index only finds the queue. So an interrupt and a delivery that meet are decided once.
//!
//! ```text
//!              waits                       taken out of its queue, answered
//!   in hand ──────────▶ waiting, indexed ─────────────────────────────────▶ answered, index entry removed
//! ```

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::op::Moment;
use crate::state::saved;
use crate::tree::names::numbers::ByNumber;

/// All requests that wait. `W` says in which queue, and as what there.
#[derive(Debug)]
pub(crate) struct WaitIndex<W> {
    // Innermost lock: taken while a mailbox's or the locks' lock is held, never the other way round.
    waits: Mutex<ByNumber<u64, (W, Moment)>>,
    /// The mount ends: no request may wait any more.
    closed: AtomicBool,
}

saved!(struct WaitIndex<W> { waits, closed });

impl<W> Default for WaitIndex<W> {
    fn default() -> WaitIndex<W> {
        WaitIndex { waits: Mutex::default(), closed: AtomicBool::new(false) }
    }
}

impl<W: Clone> WaitIndex<W> {
    /// To be called under the lock of the queue that the request was put in, so that no answer can come first. False:
    /// the mount ends, and the caller has to end this wait.
    #[must_use]
    pub(crate) fn insert(&self, unique: u64, wait: W, now: Moment) -> bool {
        self.waits.lock().insert(unique, (wait, now));
        !self.closed.load(Ordering::SeqCst)
    }

    /// The request was answered.
    pub(crate) fn remove(&self, unique: u64) {
        let mut waits = self.waits.lock();
        waits.remove(&unique);
        if waits.is_empty() && waits.capacity() > 1024 {
            waits.shrink_to(0);
        }
    }

    /// Where the request waits, if it does.
    pub(crate) fn find(&self, unique: u64) -> Option<W> {
        self.waits.lock().get(&unique).map(|(wait, _)| wait.clone())
    }

    /// All that have waited since `limit` or longer.
    pub(crate) fn since(&self, limit: Moment) -> Vec<W> {
        let waits = self.waits.lock();
        waits.values().filter(|(_, since)| *since <= limit).map(|(wait, _)| wait.clone()).collect()
    }

    /// The numbers of all, in order.
    pub(crate) fn uniques(&self) -> Vec<u64> {
        let mut uniques: Vec<u64> = self.waits.lock().keys().copied().collect();
        uniques.sort_unstable();
        uniques
    }

    /// No request may wait any more. Returns those that do.
    pub(crate) fn close(&self) -> Vec<W> {
        self.closed.store(true, Ordering::SeqCst);
        self.since(Moment::LAST)
    }
}
