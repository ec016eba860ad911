//! A lock call, validated once: after [`LockRequest::parse`] every range is usable.

use crate::op::{Fh, LockCall, LockKind, LockOwner};
use crate::state::saved;

/// The greatest offset in a file (`OFFSET_MAX` in the kernel). A range that ends here or beyond extends to the end of
/// the file, however long the file becomes.
pub(super) const END: u64 = i64::MAX as u64;

/// Bytes from `start` to `end`, both included. Always `start <= end <= END`, so that neither `end + 1` nor the
/// number of bytes overflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

saved!(struct Span { start, end } if |span: &Span| span.start <= span.end && span.end <= END);

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

    /// The smallest span that covers both.
    pub(super) fn hull(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// This span and the byte on either side of it, if there is one.
    pub(super) fn with_neighbours(self) -> Span {
        Span { start: self.start.saturating_sub(1), end: (self.end + 1).min(END) }
    }

    /// The parts of this span before and after `cut`.
    pub(super) fn subtract(self, cut: Span) -> impl Iterator<Item = Span> {
        let before =
            (self.start < cut.start).then(|| Span { start: self.start, end: self.end.min(cut.start - 1) });
        let after = (self.end > cut.end).then(|| Span { start: self.start.max(cut.end + 1), end: self.end });
        before.into_iter().chain(after)
    }
}

/// The holder of a lock. Two ranges of equal type merge where they touch, if all three fields agree:
///
/// - `owner` alone decides which locks conflict.
/// - `fh` distinguishes the locks of a closed open file from those of a new one with the same owner number. The
///   kernel makes that number from an address, which it may reuse before it reports the close.
/// - `pid` is what `F_GETLK` reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) owner: LockOwner,
    pub(super) fh: Fh,
    pub(super) pid: u32,
}

saved!(struct Holder { owner, fh, pid });

/// What a request locks. The two kinds of lock never conflict with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The whole file, by flock(2). The holder is the open file, `Holder::fh`, not the owner.
    Flock,
    /// Bytes of the file, by fcntl(2).
    Range(Span),
}

saved!(enum Target { 0 = Flock, 1 = Range(it) });

impl Target {
    /// True if a change of one can concern the other.
    pub(super) fn overlaps(self, other: Target) -> bool {
        match (self, other) {
            (Target::Flock, Target::Flock) => true,
            (Target::Range(a), Target::Range(b)) => a.overlaps(b),
            _ => false,
        }
    }
}

/// A valid lock call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LockRequest {
    pub(super) holder: Holder,
    pub(super) kind: LockKind,
    pub(super) target: Target,
}

saved!(struct LockRequest { holder, kind, target });

impl LockRequest {
    /// `None` if the range ends before it starts, or starts beyond the greatest file size.
    pub(super) fn parse(call: &LockCall) -> Option<LockRequest> {
        let target = if call.flock { Target::Flock } else { Target::Range(Span::new(call.start, call.end)?) };
        let holder = Holder { owner: call.owner, fh: call.fh, pid: call.pid };
        Some(LockRequest { holder, kind: call.kind, target })
    }
}

/// True if two locks on the same bytes conflict when their holders differ.
pub(super) fn conflicts(a: LockKind, b: LockKind) -> bool {
    use LockKind::{Exclusive, Shared};
    matches!((a, b), (Exclusive, Exclusive | Shared) | (Shared, Exclusive))
}
