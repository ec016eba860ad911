//! Reads through `io_uring`, which are other calls to the daemon than read(2).
//!
//! `io_uring` takes what is read here for plain files. It asks whether a read would wait (a POLL like no other), and if not, reads.
//! If it gets less than the buffer has room for, it polls and asks again, and reads on, until it gets nothing. The position does
//! not move meanwhile, neither within a read nor from one to the next that is made at "the current position": the kernel moves it
//! for read(2) only. Answered like read(2), such a read would get one message again and again, or several in one buffer.
//!
//! ```text
//!            asked              read: a part             polls or asked           read on: nothing
//!   Idle ───────────▶ Asked ────────────────▶ Short ────────────────▶ AskedOn ──────────────────────▶ Idle
//!                       ├──── read: all, an error, the end of file ──▶ Idle
//!                       └──── read: all of a piece ──▶ Piece: the next piece is answered, and so on
//! ```
//!
//! So the read that goes on is answered with nothing, and one that begins where the one before began is one for what comes next.
//! A read with a long buffer comes in pieces, each at the offset where the one before ended.

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
    /// `size`: how much the read wanted, [`ALL`] if that is not known; `got`: how much it has.
    Short {
        size: u32,
        got: u32,
    },
    AskedOn {
        size: u32,
        got: u32,
    },
    /// It got so much, in pieces. Another may follow.
    Piece {
        got: u32,
    },
}

/// The size of a read of which several pieces came: the kernel does not tell.
const ALL: u32 = u32::MAX;

saved!(struct RingRead { stage, start, next });
saved!(enum Stage { 0 = Idle, 1 = Asked, 2 = Short { size, got }, 3 = AskedOn { size, got }, 4 = Piece { got } });

/// What a READ is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RingCall {
    /// None of `io_uring`'s, or one that it makes as read(2) does, in a thread that may wait.
    Plain,
    /// It goes on after a short one: nothing is to be read.
    GoesOn,
    /// It begins; or it is the next piece of one that has got `before`. In a file that has a position, it is one at `at`.
    Reads { at: u64, before: u32 },
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
            let goes_on = read.goes_on();
            if !goes_on {
                read.stage = Stage::Asked;
            }
            goes_on
        })
    }

    /// The kernel begins to poll. True if it is to read on after a short read.
    pub(crate) fn polls(&self, who: Who) -> bool {
        !self.is_empty() && self.by_reader.lock().get_mut(&who).is_some_and(RingRead::goes_on)
    }

    /// A READ.
    pub(crate) fn reads(&self, who: Who, offset: u64, size: u32) -> RingCall {
        if self.is_empty() {
            return RingCall::Plain;
        }
        let mut by_reader = self.by_reader.lock();
        let Some(read) = by_reader.get_mut(&who) else { return RingCall::Plain };
        match std::mem::replace(&mut read.stage, Stage::Idle) {
            Stage::Piece { got } if offset == read.start.saturating_add(u64::from(got)) => {
                RingCall::Reads { at: read.next, before: got }
            }
            Stage::Idle | Stage::Short { .. } | Stage::Piece { .. } => RingCall::Plain,
            Stage::AskedOn { size: whole, got }
                if offset == read.start
                    && (size == whole.saturating_sub(got) || (whole >= MAX_READ && size <= whole)) =>
            {
                RingCall::GoesOn
            }
            Stage::Asked | Stage::AskedOn { .. } => {
                RingCall::Reads { at: if offset == read.start { read.next } else { offset }, before: 0 }
            }
        }
    }

    /// A READ at `offset` of a read that had got `before` was carried out at `at`, and got so many bytes, if that is known and no
    /// error. At the end of a text, another may begin with it anew.
    pub(crate) fn answered(
        &self,
        who: Who,
        (offset, at, size, before): (u64, u64, u32, u32),
        got: Option<u32>,
        text: bool,
    ) {
        let mut by_reader = self.by_reader.lock();
        let Some(read) = by_reader.get_mut(&who) else { return };
        let Some(got) = got else { return };
        read.start = offset.saturating_sub(u64::from(before));
        read.next = at.saturating_add(u64::from(got));
        let all = before.saturating_add(got);
        if all == 0 && text {
            read.start = u64::MAX;
        }
        if all > 0 && got < size {
            read.stage = Stage::Short { size: if before == 0 { size } else { ALL }, got: all };
        } else if got == size && size >= MAX_READ {
            read.stage = Stage::Piece { got: all };
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

impl RingRead {
    /// The kernel is about to read on after a short read, if this is true.
    fn goes_on(&mut self) -> bool {
        if let Stage::Short { size, got } = self.stage {
            self.stage = Stage::AskedOn { size, got };
        }
        matches!(self.stage, Stage::AskedOn { .. })
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

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: Who = (Fh(1), 7);
    const LONG: u64 = MAX_READ as u64;

    /// A read with a long buffer has got its first piece.
    fn long_read() -> RingReads {
        let reads = RingReads::default();
        assert!(!reads.asked(WHO));
        assert_eq!(reads.reads(WHO, 0, MAX_READ), RingCall::Reads { at: 0, before: 0 });
        reads.answered(WHO, (0, 0, MAX_READ, 0), Some(MAX_READ), false);
        assert_eq!(reads.reads(WHO, LONG, 20), RingCall::Reads { at: LONG, before: MAX_READ });
        reads
    }

    #[test]
    fn a_long_read_ends_with_the_piece_that_is_short() {
        for got in [0, 10] {
            let reads = long_read();
            reads.answered(WHO, (LONG, LONG, 20, MAX_READ), Some(got), false);
            assert!(reads.polls(WHO) && reads.asked(WHO));
            assert_eq!(reads.reads(WHO, 0, 20 - got), RingCall::GoesOn);
            assert!(!reads.asked(WHO));
            let at = LONG + u64::from(got);
            assert_eq!(reads.reads(WHO, 0, 20), RingCall::Reads { at, before: 0 });
        }
    }

    #[test]
    fn a_long_read_ends_when_its_buffer_is_full() {
        let reads = long_read();
        reads.answered(WHO, (LONG, LONG, 20, MAX_READ), Some(20), false);
        assert!(!reads.polls(WHO) && !reads.asked(WHO));
        assert_eq!(reads.reads(WHO, 0, 20), RingCall::Reads { at: LONG + 20, before: 0 });
    }

    #[test]
    fn a_thread_that_may_wait_polls_and_reads_on_without_asking() {
        let reads = RingReads::default();
        assert!(!reads.asked(WHO));
        assert_eq!(reads.reads(WHO, 0, 100), RingCall::Reads { at: 0, before: 0 });
        reads.answered(WHO, (0, 0, 100, 0), Some(3), false);
        assert!(reads.polls(WHO));
        assert_eq!(reads.reads(WHO, 0, 97), RingCall::GoesOn);
    }
}
