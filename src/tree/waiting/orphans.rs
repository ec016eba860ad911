//! Segments that no descriptor has open any more and somebody may still have mapped.
//!
//! In passthrough a mapping is one of the memory file itself: the kernel tells us when the last descriptor goes, and
//! nothing of mappings. So each of these is asked now and then whether it is still mapped, and when memory is wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::op::{Effect, Effects, Timestamp};
use crate::state::saved;

/// How often they are asked, in nanoseconds.
const INTERVAL: u64 = 500_000_000;

#[derive(Debug)]
pub(crate) struct Orphans<F> {
    // Innermost: taken while a segment's lock is held.
    files: Mutex<Vec<Arc<F>>>,
    /// One more came, and the clock does not know.
    news: AtomicBool,
    /// When they are asked next, in nanoseconds since 1970.
    due: AtomicU64,
}

saved!(struct Orphans<F> { files, news, due });

impl<F> Default for Orphans<F> {
    fn default() -> Orphans<F> {
        Orphans { files: Mutex::default(), news: AtomicBool::new(false), due: AtomicU64::new(0) }
    }
}

impl<F> Orphans<F> {
    pub(crate) fn push(&self, file: &Arc<F>) {
        self.files.lock().push(Arc::clone(file));
        self.news.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.lock().is_empty()
    }

    /// All of them, to be asked, and pushed again if they are still in use.
    pub(crate) fn take(&self) -> Vec<Arc<F>> {
        std::mem::take(&mut *self.files.lock())
    }

    /// Makes the clock call, after one more came.
    pub(crate) fn arm(&self, now: Timestamp, fx: &mut Effects) {
        if self.news.load(Ordering::SeqCst) && self.news.swap(false, Ordering::SeqCst) {
            let due = now.0.saturating_add(INTERVAL);
            self.due.store(due, Ordering::SeqCst);
            fx.push(Effect::Alarm(Timestamp(due)));
        }
    }

    /// True if it is time to ask them. The clock calls for other reasons, too, and is told of its next call then.
    pub(crate) fn due(&self, now: Timestamp, fx: &mut Effects) -> bool {
        let due = self.due.load(Ordering::SeqCst);
        if now.0 >= due {
            return true;
        }
        if !self.is_empty() {
            fx.push(Effect::Alarm(Timestamp(due)));
        }
        false
    }
}
