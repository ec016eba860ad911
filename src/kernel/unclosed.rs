//! Open files that the kernel has closed, and the daemon does not know of it.
//!
//! Over rings, the kernel cancels the calls that it is about to hand to a daemon when that is killed, and a RELEASE is never sent
//! again. FORGET is not cancelled, because it comes over the device. So an open file whose node the kernel has forgotten, and which no
//! RELEASE has closed by the next look, is closed by the daemon itself: else a lease, for example, would never end.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::op::Fh;

/// Time between two looks. No RELEASE that was sent takes so long.
const INTERVAL: Duration = Duration::from_secs(2);

/// So many looks after a death.
const LOOKS: u32 = 5;

/// When to look, and what was seen.
#[derive(Debug, Default)]
pub(super) struct Unclosed(Mutex<Option<Next>>);

#[derive(Debug)]
struct Next {
    at: Instant,
    left: u32,
    seen: HashSet<Fh>,
}

impl Unclosed {
    /// From now on there are looks.
    pub(super) fn begin(&self) {
        let next = Next { at: Instant::now() + INTERVAL, left: LOOKS, seen: HashSet::new() };
        *self.0.lock() = Some(next);
    }

    /// How long until the next look.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.0.lock().as_ref().map(|next| next.at.saturating_duration_since(Instant::now()))
    }

    /// If it is time, looks at the open files whose nodes the kernel has forgotten, and returns those that were so at the last look.
    pub(super) fn look(&self, unknown: impl FnOnce() -> Vec<Fh>) -> Vec<Fh> {
        let mut unclosed = self.0.lock();
        let Some(next) = unclosed.as_mut().filter(|next| next.at <= Instant::now()) else {
            return Vec::new();
        };
        let (again, new) = unknown().into_iter().partition(|fh| next.seen.contains(fh));
        (next.at, next.left, next.seen) =
            (Instant::now() + INTERVAL, next.left - 1, Vec::into_iter(new).collect());
        if next.left == 0 {
            *unclosed = None;
        }
        again
    }
}
