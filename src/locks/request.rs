//! What a lock call asks for, checked once: nothing behind [`LockRequest::parse`] overlaps a range it cannot work with.

use crate::op::{Fh, LockCall, LockKind, LockOwner};

/// The last byte a file can have, as the kernel counts (`OFFSET_MAX`). A range that ends here or beyond goes to the
/// end of the file, however long that becomes.
pub(super) const END: u64 = i64::MAX as u64;

/// Bytes from `start` to `end`, both included. Always `start <= end <= END`, so that neither `end + 1` nor the
/// number of bytes overflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Span {
    pub(super) fn new(start: u64, end: u64) -> Option<Span> {
        let end = end.min(END);
        (start <= end).then_some(Span { start, end })
    }

    /// Number of bytes, 1 or more.
    pub(super) fn len(self) -> u64 {
        self.end - self.start + 1
    }

    pub(super) fn overlaps(self, other: Span) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// The least span that covers both.
    pub(super) fn hull(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// This span and the byte on either side of it, where there is one.
    pub(super) fn with_neighbours(self) -> Span {
        Span { start: self.start.saturating_sub(1), end: (self.end + 1).min(END) }
    }

    /// What is left of this span on either side of `cut`.
    pub(super) fn subtract(self, cut: Span) -> impl Iterator<Item = Span> {
        let before =
            (self.start < cut.start).then(|| Span { start: self.start, end: self.end.min(cut.start - 1) });
        let after = (self.end > cut.end).then(|| Span { start: self.start.max(cut.end + 1), end: self.end });
        before.into_iter().chain(after)
    }
}

/// On whose behalf a lock is held. Two ranges are alike, and join where they touch, only if all three agree:
///
/// - `owner` alone decides who conflicts with whom.
/// - `fh` tells the locks of a closed open file from those of a new one that the kernel gave the same owner number
///   (it hashes an address, which is used again) before it told us of the close.
/// - `pid` is what `F_GETLK` reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) owner: LockOwner,
    pub(super) fh: Fh,
    pub(super) pid: u32,
}

/// What a request is candidates. The two sorts of lock never conflict with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The file as a whole, by flock(2). Held by the open file: `Holder::fh`, not the owner, tells holders apart.
    Flock,
    /// Bytes of it, by fcntl(2).
    Range(Span),
}

impl Target {
    /// Whether a change of one can matter to the other.
    pub(super) fn overlaps(self, other: Target) -> bool {
        match (self, other) {
            (Target::Flock, Target::Flock) => true,
            (Target::Range(a), Target::Range(b)) => a.overlaps(b),
            _ => false,
        }
    }
}

/// A lock call that makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LockRequest {
    pub(super) holder: Holder,
    pub(super) kind: LockKind,
    pub(super) target: Target,
}

impl LockRequest {
    /// `None` if the range ends before it starts or starts where no file reaches.
    pub(super) fn parse(call: &LockCall) -> Option<LockRequest> {
        let target = if call.flock { Target::Flock } else { Target::Range(Span::new(call.start, call.end)?) };
        let holder = Holder { owner: call.owner, fh: call.fh, pid: call.pid };
        Some(LockRequest { holder, kind: call.kind, target })
    }
}

/// Whether two locks on the same bytes, of different holders, conflicts each other.
pub(super) fn conflicts(a: LockKind, b: LockKind) -> bool {
    use LockKind::{Exclusive, Shared};
    matches!((a, b), (Exclusive, Exclusive | Shared) | (Shared, Exclusive))
}
