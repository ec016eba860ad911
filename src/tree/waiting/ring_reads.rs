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
use crate::op::{Fh, Ready, Reply};
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
    /// How many there are, and how many of their requests are not answered yet.
    count: AtomicUsize,
    unanswered: AtomicUsize,
}

#[derive(Debug, Clone, Copy)]
struct RingRead {
    stage: Stage,
    /// The offset at which the last read began, and where what it got ended.
    start: u64,
    next: u64,
    /// The number of a request that is not answered yet. The answer may come later, from an engine or a job.
    unanswered: Option<(u64, Request)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Poll,
    Read(Carried),
}

/// A READ at `offset` of a read that had got `before`, which is carried out at `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) offset: u64,
    pub(crate) at: u64,
    pub(crate) size: u32,
    pub(crate) before: u32,
    /// Of a text, which may begin anew after its end.
    pub(crate) text: bool,
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

saved!(struct RingRead { stage, start, next, unanswered });
saved!(enum Request { 0 = Poll, 1 = Read(carried) });
saved!(struct Carried { offset, at, size, before, text });
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
        let unanswered = by_reader.values().filter(|read| read.unanswered.is_some()).count();
        self.unanswered.store(unanswered, Ordering::Relaxed);
        result
    }

    /// The kernel asks by request `unique` whether a read would wait. True if it is to read on after a short one.
    pub(crate) fn asked(&self, who: Who, unique: u64) -> bool {
        // Threads that the kernel can tell no number of are many.
        if who.1 == 0 {
            return false;
        }
        self.with(|by_reader| {
            if !by_reader.contains_key(&who) {
                let others = || by_reader.range((who.0, 0)..=(who.0, u32::MAX)).map(|(other, _)| *other);
                if others().count() >= MAX_THREADS
                    && let Some(other) = others().next()
                {
                    by_reader.remove(&other);
                }
            }
            let unused = RingRead { stage: Stage::Idle, start: u64::MAX, next: 0, unanswered: None };
            let read = by_reader.entry(who).or_insert(unused);
            let goes_on = read.goes_on();
            if !goes_on {
                read.stage = Stage::Asked;
                read.unanswered = Some((unique, Request::Poll));
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

    /// A READ by request `unique` is about to be carried out.
    pub(crate) fn carried(&self, who: Who, unique: u64, carried: Carried) {
        self.with(|by_reader| {
            if let Some(read) = by_reader.get_mut(&who) {
                read.unanswered = Some((unique, Request::Read(carried)));
            }
        });
    }

    /// Requests were answered: those that are reads' go on from there.
    pub(crate) fn answered<'a>(&self, answers: impl Iterator<Item = (u64, &'a Reply)>) {
        if self.unanswered.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.with(|by_reader| {
            for (unique, reply) in answers {
                let asked = |read: &&mut RingRead| read.unanswered.is_some_and(|(asked, _)| asked == unique);
                if let Some(read) = by_reader.values_mut().find(asked) {
                    read.answered(reply);
                }
            }
        });
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

    fn answered(&mut self, reply: &Reply) {
        match self.unanswered.take() {
            // It does not read after all, because it would wait.
            Some((_, Request::Poll)) if !matches!(reply, Reply::Ready(Ready { readable: true, .. })) => {
                self.stage = Stage::Idle;
            }
            Some((_, Request::Read(carried))) => {
                if let Some(got) = reply.bytes_read() {
                    self.got(carried, got);
                }
            }
            _ => {}
        }
    }

    fn got(&mut self, Carried { offset, at, size, before, text }: Carried, got: u32) {
        self.start = offset.saturating_sub(u64::from(before));
        self.next = at.saturating_add(u64::from(got));
        let all = before.saturating_add(got);
        if all == 0 && text {
            self.start = u64::MAX;
        }
        if all > 0 && got < size {
            self.stage = Stage::Short { size: if before == 0 { size } else { ALL }, got: all };
        } else if got == size && size >= MAX_READ {
            self.stage = Stage::Piece { got: all };
        }
    }
}

impl Saved for RingReads {
    fn save(&self, to: &mut Saver<'_>) {
        self.by_reader.save(to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<RingReads> {
        let by_reader: Mutex<BTreeMap<Who, RingRead>> = Saved::restore(from)?;
        let reads = RingReads { by_reader, ..RingReads::default() };
        reads.with(|_| ());
        Some(reads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: Who = (Fh(1), 7);
    const LONG: u64 = MAX_READ as u64;

    /// A READ was carried out, and answered with so many bytes.
    fn got(reads: &RingReads, (offset, at, size, before): (u64, u64, u32, u32), got: u32) {
        reads.carried(WHO, 1, Carried { offset, at, size, before, text: false });
        reads.answered([(1, &Reply::Data(vec![0; got as usize]))].into_iter());
    }

    /// A read with a long buffer has got its first piece.
    fn long_read() -> RingReads {
        let reads = RingReads::default();
        assert!(!reads.asked(WHO, 1));
        assert_eq!(reads.reads(WHO, 0, MAX_READ), RingCall::Reads { at: 0, before: 0 });
        got(&reads, (0, 0, MAX_READ, 0), MAX_READ);
        assert_eq!(reads.reads(WHO, LONG, 20), RingCall::Reads { at: LONG, before: MAX_READ });
        reads
    }

    #[test]
    fn a_long_read_ends_with_the_piece_that_is_short() {
        for count in [0, 10] {
            let reads = long_read();
            got(&reads, (LONG, LONG, 20, MAX_READ), count);
            assert!(reads.polls(WHO) && reads.asked(WHO, 1));
            assert_eq!(reads.reads(WHO, 0, 20 - count), RingCall::GoesOn);
            assert!(!reads.asked(WHO, 1));
            let at = LONG + u64::from(count);
            assert_eq!(reads.reads(WHO, 0, 20), RingCall::Reads { at, before: 0 });
        }
    }

    #[test]
    fn a_long_read_ends_when_its_buffer_is_full() {
        let reads = long_read();
        got(&reads, (LONG, LONG, 20, MAX_READ), 20);
        assert!(!reads.polls(WHO) && !reads.asked(WHO, 1));
        assert_eq!(reads.reads(WHO, 0, 20), RingCall::Reads { at: LONG + 20, before: 0 });
    }

    #[test]
    fn a_thread_that_may_wait_polls_and_reads_on_without_asking() {
        let reads = RingReads::default();
        assert!(!reads.asked(WHO, 1));
        assert_eq!(reads.reads(WHO, 0, 100), RingCall::Reads { at: 0, before: 0 });
        got(&reads, (0, 0, 100, 0), 3);
        assert!(reads.polls(WHO));
        assert_eq!(reads.reads(WHO, 0, 97), RingCall::GoesOn);
    }

    fn is_ready(reads: &RingReads, readable: bool) {
        reads.answered([(1, &Reply::Ready(Ready { readable, ..Ready::default() }))].into_iter());
    }

    #[test]
    fn answers_that_come_later_count_and_other_requests_do_not() {
        let reads = RingReads::default();
        assert!(!reads.asked(WHO, 1));
        reads.answered([(2, &Reply::Ready(Ready::default()))].into_iter());
        is_ready(&reads, true);
        assert_eq!(reads.reads(WHO, 0, 100), RingCall::Reads { at: 0, before: 0 });
        reads.carried(WHO, 1, Carried { offset: 0, at: 0, size: 100, before: 0, text: false });
        reads.answered([(2, &Reply::Data(vec![0; 50]))].into_iter());
        reads.answered([(1, &Reply::Data(vec![0; 3]))].into_iter());
        assert!(reads.polls(WHO));
        assert_eq!(reads.reads(WHO, 0, 97), RingCall::GoesOn);
        // It would wait, so what comes next is no read of io_uring's.
        assert!(!reads.asked(WHO, 1));
        is_ready(&reads, false);
        assert_eq!(reads.reads(WHO, 0, 100), RingCall::Plain);
        reads.closed(WHO.0);
        assert!(reads.is_empty());
    }
}
