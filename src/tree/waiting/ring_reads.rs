//! Reads through `io_uring`, which are other calls to the daemon than read(2).
//!
//! `io_uring` takes what is read here for plain files. It asks whether a read would wait (a POLL like no other), and if not, reads.
//! If it gets less than the buffer has room for, it polls and asks again, and reads on, until it gets nothing. The position does
//! not move meanwhile, neither within a read nor from one to the next that is made at "the current position": the kernel moves it
//! for read(2) only. Answered like read(2), such a read would get one message again and again, or several in one buffer.
//!
//! ```text
//!            asked              read: a part              asked again              read on: nothing
//!   Idle ───────────▶ Asked ────────────────▶ Short ────────────────▶ AskedOn ──────────────────────▶ Idle
//!                       └──── read: all, an error, the end of file ──▶ Idle
//! ```
//!
//! So the read that goes on is answered with nothing, and one that begins where the one before began is one for what comes next.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::config::MAX_READ;
use crate::op::Fh;
use crate::state::{Restorer, Saved, Saver, saved};

/// How many threads of one open file are remembered.
const MAX_THREADS: usize = 16;

/// An open file, and the thread in which the kernel carries the read out.
pub(crate) type Who = (Fh, u32);

/// The reads through `io_uring` of a mount.
#[derive(Debug, Default)]
pub(crate) struct RingReads {
    // Innermost.
    by_reader: Mutex<BTreeMap<Who, RingRead>>,
    /// How many there are.
    count: AtomicUsize,
}

#[derive(Debug, Clone, Copy)]
struct RingRead {
    stage: Stage,
    /// The offset at which the last read began, and where what it got ended.
    start: u64,
    next: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Asked,
    Short { size: u32, got: u32 },
    AskedOn { size: u32, got: u32 },
}

saved!(struct RingRead { stage, start, next });
saved!(enum Stage { 0 = Idle, 1 = Asked, 2 = Short { size, got }, 3 = AskedOn { size, got } });

/// What a READ is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RingCall {
    /// None of `io_uring`'s, or one that it makes as read(2) does, in a thread that may wait.
    Plain,
    /// It goes on after a short one: nothing is to be read.
    GoesOn,
    /// It begins. In a file that has a position, at this offset.
    Begins(u64),
}

impl RingReads {
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<Who, RingRead>) -> T) -> T {
        let mut by_reader = self.by_reader.lock();
        let result = work(&mut by_reader);
        self.count.store(by_reader.len(), Ordering::Relaxed);
        result
    }

    /// The kernel asks whether a read would wait. True if it is to read on after a short one.
    pub(crate) fn asked(&self, who: Who) -> bool {
        self.with(|by_reader| {
            if !by_reader.contains_key(&who) {
                let others = || by_reader.range((who.0, 0)..=(who.0, u32::MAX)).map(|(other, _)| *other);
                if others().count() >= MAX_THREADS
                    && let Some(other) = others().next()
                {
                    by_reader.remove(&other);
                }
            }
            let unused = RingRead { stage: Stage::Idle, start: u64::MAX, next: 0 };
            let read = by_reader.entry(who).or_insert(unused);
            if let Stage::Short { size, got } = read.stage {
                read.stage = Stage::AskedOn { size, got };
                return true;
            }
            read.stage = Stage::Asked;
            false
        })
    }

    /// The kernel begins to poll. True if it is to read on after a short read.
    pub(crate) fn polls(&self, who: Who) -> bool {
        !self.is_empty()
            && self.by_reader.lock().get(&who).is_some_and(|read| matches!(read.stage, Stage::Short { .. }))
    }

    /// A READ.
    pub(crate) fn reads(&self, who: Who, offset: u64, size: u32) -> RingCall {
        if self.is_empty() {
            return RingCall::Plain;
        }
        let mut by_reader = self.by_reader.lock();
        let Some(read) = by_reader.get_mut(&who) else { return RingCall::Plain };
        match std::mem::replace(&mut read.stage, Stage::Idle) {
            Stage::Idle | Stage::Short { .. } => RingCall::Plain,
            // Of a read that the kernel makes in pieces, the whole size is not known.
            Stage::AskedOn { size: whole, got }
                if offset == read.start
                    && (size == whole.saturating_sub(got) || (whole >= MAX_READ && size <= whole)) =>
            {
                RingCall::GoesOn
            }
            Stage::Asked | Stage::AskedOn { .. } => {
                RingCall::Begins(if offset == read.start { read.next } else { offset })
            }
        }
    }

    /// A READ that began at `offset` was carried out at `at`, and got so many bytes, if that is known and no error. At the end of
    /// a text, another may begin with it anew.
    pub(crate) fn answered(
        &self,
        who: Who,
        (offset, at, size): (u64, u64, u32),
        got: Option<u32>,
        text: bool,
    ) {
        let mut by_reader = self.by_reader.lock();
        let Some(read) = by_reader.get_mut(&who) else { return };
        let Some(got) = got else { return };
        (read.start, read.next) = (offset, at.saturating_add(u64::from(got)));
        if got == 0 && text {
            read.start = u64::MAX;
        }
        if got > 0 && got < size {
            read.stage = Stage::Short { size, got };
        }
    }

    /// It does not read after all, because it would wait.
    pub(crate) fn waits(&self, who: Who) {
        if let Some(read) = self.by_reader.lock().get_mut(&who) {
            read.stage = Stage::Idle;
        }
    }

    /// An open file was closed.
    pub(crate) fn closed(&self, fh: Fh) {
        if !self.is_empty() {
            self.with(|by_reader| by_reader.retain(|who, _| who.0 != fh));
        }
    }
}

impl Saved for RingReads {
    fn save(&self, to: &mut Saver<'_>) {
        self.by_reader.save(to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<RingReads> {
        let by_reader: Mutex<BTreeMap<Who, RingRead>> = Saved::restore(from)?;
        let count = AtomicUsize::new(by_reader.lock().len());
        Some(RingReads { by_reader, count })
    }
}
