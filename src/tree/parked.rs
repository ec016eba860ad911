//! The index of requests that wait: from the kernel's number of a request to where it waits.
//!
//! The index answers nothing itself. Whoever takes a caller out of the line it waits in, under that line's lock, owns
//! the answer; the index only finds the line. So an interrupt and a delivery that meet are decided once.
//!
//! ```text
//!              parked                      taken out of its line, answered
//!   in hand ──────────▶ waiting, indexed ─────────────────────────────────▶ answered, index entry removed
//! ```

use std::sync::Arc;

use parking_lot::Mutex;

use super::numbers::ByNumber;
use super::objects::{MailboxFile, SegmentFile, TopicFile};
use crate::op::Timestamp;
use crate::{locks, mailbox};

/// Where a request waits.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// In a mailbox's line of readers or writers.
    Mailbox(Arc<MailboxFile>, mailbox::WaitId),
    /// In a topic, for what comes.
    Topic(Arc<TopicFile>, mailbox::WaitId),
    /// At a segment's doorbell.
    Bell(Arc<SegmentFile>, mailbox::WaitId),
    /// In a file's line for a lock.
    Lock(locks::WaitId),
}

/// All requests that wait.
#[derive(Debug, Default)]
pub(super) struct Parked {
    // Innermost lock: taken while a mailbox's or the locks' lock is held, never the other way round.
    waits: Mutex<ByNumber<u64, (Place, Timestamp)>>,
}

impl Parked {
    /// To be called under the lock of the line that the request was put in, so that no answer can come first.
    pub(super) fn insert(&self, unique: u64, place: Place, now: Timestamp) {
        self.waits.lock().insert(unique, (place, now));
    }

    /// The request was answered.
    pub(super) fn remove(&self, unique: u64) {
        let mut waits = self.waits.lock();
        waits.remove(&unique);
        if waits.is_empty() && waits.capacity() > 1024 {
            waits.shrink_to(0);
        }
    }

    /// Where the request waits, if it does.
    pub(super) fn find(&self, unique: u64) -> Option<Place> {
        self.waits.lock().get(&unique).map(|(place, _)| place.clone())
    }

    /// All that have waited since `limit` or longer.
    pub(super) fn since(&self, limit: Timestamp) -> Vec<Place> {
        let waits = self.waits.lock();
        waits.values().filter(|(_, since)| *since <= limit).map(|(place, _)| place.clone()).collect()
    }
}
