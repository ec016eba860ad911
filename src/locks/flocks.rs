//! The flock(2) locks held on one file.

use std::collections::BTreeMap;

use super::request::conflicts;
use crate::op::{Fh, LockKind};

/// Each open file holds at most one. Either one of them is exclusive and alone, or all are shared.
#[derive(Debug, Default)]
pub(super) struct Flocks {
    holders: BTreeMap<Fh, Flock>,
}

/// What an open file holds. `kind` is never `Unlock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flock {
    pub(super) kind: LockKind,
    pub(super) pid: u32,
}

impl Flocks {
    pub(super) fn len(&self) -> usize {
        self.holders.len()
    }

    /// A lock of another open file that keeps `fh` from locking. Any other one will do to judge by: if one excludes,
    /// it is the only one or they all do.
    pub(super) fn conflicting(&self, fh: Fh, kind: LockKind) -> Option<Flock> {
        let (_, other) = self.holders.iter().find(|(holder, _)| **holder != fh)?;
        conflicts(kind, other.kind).then_some(*other)
    }

    /// What `fh` holds.
    pub(super) fn held(&self, fh: Fh) -> Option<LockKind> {
        self.holders.get(&fh).map(|flock| flock.kind)
    }

    /// Gives `fh` the lock. The caller has made sure that nothing is [in the way](Flocks::conflicting).
    pub(super) fn insert(&mut self, fh: Fh, flock: Flock) {
        self.holders.insert(fh, flock);
    }

    /// True if `fh` held one.
    pub(super) fn remove(&mut self, fh: Fh) -> bool {
        self.holders.remove(&fh).is_some()
    }
}
