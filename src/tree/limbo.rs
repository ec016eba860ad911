//! Segments that nobody has open any more and somebody still has mapped.
//!
//! In passthrough a mapping is one of the memory file itself: the kernel tells us when the last descriptor goes, and of
//! mappings nothing. So whoever might be mapped still is asked about now and then, and when memory is wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Tree;
use super::objects::{SegmentFile, SegmentState};
use crate::mailbox::Context;
use crate::op::{Effect, Effects, Error, Timestamp};
use crate::segment::{Lifetime, Usage};

/// How often they are asked about, in nanoseconds.
const INTERVAL: u64 = 500_000_000;

#[derive(Debug, Default)]
pub(super) struct Limbo {
    // Innermost: taken while a segment's lock is held.
    files: Mutex<Vec<Arc<SegmentFile>>>,
    /// One more came, and the clock does not know.
    news: AtomicBool,
    /// When they are asked about next, in nanoseconds since 1970.
    due: AtomicU64,
}

impl Limbo {
    fn push(&self, file: &Arc<SegmentFile>) {
        self.files.lock().push(Arc::clone(file));
        self.news.store(true, Ordering::SeqCst);
    }

    fn is_empty(&self) -> bool {
        self.files.lock().is_empty()
    }

    /// Sees to it that the clock calls, after one more came.
    pub(super) fn arm(&self, now: Timestamp, fx: &mut Effects) {
        if self.news.load(Ordering::SeqCst) && self.news.swap(false, Ordering::SeqCst) {
            let due = now.0.saturating_add(INTERVAL);
            self.due.store(due, Ordering::SeqCst);
            fx.push(Effect::Alarm(Timestamp(due)));
        }
    }
}

impl Tree {
    /// What becomes of a segment that nobody has open: without a name its memory goes, with the last mapping; with one
    /// that it has until its last close, the name goes then. True: the name is to go now.
    #[must_use]
    pub(super) fn unused(&self, file: &Arc<SegmentFile>, state: &mut SegmentState) -> bool {
        if !state.openers.is_empty() {
            return false;
        }
        if let (Some(id), Some(backing)) = (state.backing.take(), &self.setup.backing) {
            backing.close(id);
        }
        let dying = state.linked && state.segment.lifetime() == Lifetime::LastClose;
        // Or it has no memory that could go, as once it is gone.
        if !dying && (state.linked || state.spared || state.segment.promised() == 0) {
            return false;
        }
        match (state.segment.memory().usage(), dying) {
            (Usage::Used | Usage::Written, _) => {
                if !std::mem::replace(&mut state.in_limbo, true) {
                    self.limbo.push(file);
                }
            }
            (Usage::Unused | Usage::Unknown, true) => return true,
            (Usage::Unused, false) => state.segment.free(),
            // It goes by itself, after the last mapping.
            (Usage::Unknown, false) => state.segment.orphan(),
        }
        false
    }

    /// A segment's name is gone: whoever waits at its doorbell is told, and its memory goes with its last user.
    pub(super) fn lose_name(
        &self,
        file: &Arc<SegmentFile>,
        state: &mut SegmentState,
        now: Timestamp,
        fx: &mut Effects,
    ) {
        state.linked = false;
        if let Some(bell) = &mut state.bell {
            bell.topic.remove(&mut Context { now, memory: &self.memory, fx });
        }
        // It has no name any more that could go.
        let _ = self.unused(file, state);
    }

    /// As [`Tree::sweep`], if that is due: the clock calls for other reasons, too.
    pub(super) fn sweep_in_time(&self, now: Timestamp, fx: &mut Effects) {
        if now.0 >= self.limbo.due.load(Ordering::SeqCst) {
            self.sweep(now, fx);
        } else if !self.limbo.is_empty() {
            // The clock has forgotten.
            fx.push(Effect::Alarm(Timestamp(self.limbo.due.load(Ordering::SeqCst))));
        }
    }

    /// Asks about all whom nobody has open.
    fn sweep(&self, now: Timestamp, fx: &mut Effects) {
        let files = std::mem::take(&mut *self.limbo.files.lock());
        for file in files {
            let dying = {
                let mut state = file.state.lock();
                state.in_limbo = false;
                self.unused(&file, &mut state)
            };
            if dying {
                self.unlink_unused(&file, now, fx);
            }
        }
        self.limbo.arm(now, fx);
    }

    /// Does what may need memory, and once more if some can be had that nobody uses any more.
    pub(super) fn with_room<T>(
        &self,
        file: &SegmentFile,
        now: Timestamp,
        fx: &mut Effects,
        work: impl Fn(&mut SegmentState) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let result = work(&mut file.state.lock());
        if !matches!(result, Err(Error::NoSpace)) || self.limbo.is_empty() {
            return result;
        }
        self.sweep(now, fx);
        work(&mut file.state.lock())
    }
}
