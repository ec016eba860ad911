//! Segments that no descriptor has open any more and somebody may still have mapped.
//!
//! In passthrough a mapping is one of the memory file itself: the kernel tells us when the last descriptor goes, and
//! nothing of mappings. So each of these is asked now and then whether it is still mapped, and when memory is wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;

use crate::op::{Effect, Effects, Moment, Timestamp};
use crate::state::{Restorer, Saved, Saver, saved};

/// How often they are asked, in nanoseconds.
const INTERVAL: u64 = 500_000_000;

#[derive(Debug)]
pub(crate) struct Orphans<F> {
    // Innermost: taken while a segment's lock is held.
    files: Mutex<Vec<Arc<F>>>,
    /// One more came, and the clock does not know.
    news: AtomicBool,
    due: Due,
}

saved!(struct Orphans<F> { files, news, due });

/// When they are asked next.
#[derive(Debug, Default)]
struct Due(AtomicI64);

impl Due {
    fn get(&self) -> Moment {
        Moment(self.0.load(Ordering::SeqCst))
    }

    fn set(&self, at: Moment) {
        self.0.store(at.0, Ordering::SeqCst);
    }
}

/// In the first version it was a number.
impl Saved for Due {
    fn save(&self, to: &mut Saver<'_>) {
        self.get().save(to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        let at = if from.version() < 2 {
            let time = Timestamp(from.number()?);
            from.given()?.now.moment_of(time)
        } else {
            Moment::restore(from)?
        };
        Some(Due(AtomicI64::new(at.0)))
    }
}

impl<F> Default for Orphans<F> {
    fn default() -> Orphans<F> {
        Orphans { files: Mutex::default(), news: AtomicBool::new(false), due: Due::default() }
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
    pub(crate) fn arm(&self, now: Moment, fx: &mut Effects) {
        if self.news.load(Ordering::SeqCst) && self.news.swap(false, Ordering::SeqCst) {
            let due = now.after(INTERVAL);
            self.due.set(due);
            fx.push(Effect::Alarm(due));
        }
    }

    /// True if it is time to ask them. The clock calls for other reasons, too, and is told of its next call then.
    pub(crate) fn due(&self, now: Moment, fx: &mut Effects) -> bool {
        let due = self.due.get();
        if now >= due {
            return true;
        }
        if !self.is_empty() {
            fx.push(Effect::Alarm(due));
        }
        false
    }
}
