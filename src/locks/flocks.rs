//! The flock(2) locks held on one file.

use std::collections::BTreeMap;

use super::request::conflicts;
use crate::op::{Fh, LockKind};
use crate::state::saved;

/// Each open file holds at most one lock. Either one lock is exclusive and the only one, or all are shared.
#[derive(Debug, Default)]
pub(super) struct Flocks {
    holders: BTreeMap<Fh, Flock>,
    /// As for ranges.
    changes: Vec<(Fh, bool)>,
}

saved!(struct Flocks { holders, changes });

/// The lock of an open file. `kind` is never `Unlock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flock {
    pub(super) kind: LockKind,
    pub(super) pid: u32,
}

saved!(struct Flock { kind, pid });

impl Flocks {
    pub(super) fn len(&self) -> usize {
        self.holders.len()
    }

    /// A lock of another open file that conflicts with one of `kind` for `fh`. Any other lock will do as a sample: if
    /// one conflicts, it is the only one or they all do.
    pub(super) fn conflicting(&self, fh: Fh, kind: LockKind) -> Option<Flock> {
        let (_, other) = self.holders.iter().find(|(holder, _)| **holder != fh)?;
        conflicts(kind, other.kind).then_some(*other)
    }

    /// The lock that `fh` holds.
    pub(super) fn held(&self, fh: Fh) -> Option<LockKind> {
        self.holders.get(&fh).map(|flock| flock.kind)
    }

    /// Gives `fh` the lock. The caller has checked that nothing is [conflicting](Flocks::conflicting).
    pub(super) fn insert(&mut self, fh: Fh, flock: Flock) {
        if self.holders.insert(fh, flock).is_none() {
            self.changes.push((fh, true));
        }
    }

    /// Removes the lock of `fh`. True if there was one.
    pub(super) fn remove(&mut self, fh: Fh) -> bool {
        let removed = self.holders.remove(&fh).is_some();
        if removed {
            self.changes.push((fh, false));
        }
        removed
    }

    /// What was added and removed since the last call.
    pub(super) fn take_changes(&mut self) -> Vec<(Fh, bool)> {
        std::mem::take(&mut self.changes)
    }
}
