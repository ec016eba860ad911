//! Seals: changes that are forbidden for ever, as by `memfd_create(2)`.

use std::fmt;

use crate::op::Error;
use crate::state::saved;

/// The changes to a segment that are forbidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seals {
    /// Growing.
    pub grow: bool,
    /// Shrinking.
    pub shrink: bool,
    /// Writing, and opening for writing.
    pub write: bool,
}

saved!(struct Seals { grow, shrink, write });

impl Seals {
    /// These and `more`.
    pub(super) fn with(self, more: Seals) -> Seals {
        Seals {
            grow: self.grow || more.grow,
            shrink: self.shrink || more.shrink,
            write: self.write || more.write,
        }
    }

    pub(super) fn permit_resize(self, from: u64, to: u64) -> Result<(), Error> {
        if (to > from && self.grow) || (to < from && self.shrink) { Err(Error::NotPermitted) } else { Ok(()) }
    }

    pub(super) fn permit_write(self) -> Result<(), Error> {
        if self.write { Err(Error::NotPermitted) } else { Ok(()) }
    }
}

/// The names of the seals that are set.
impl fmt::Display for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [("grow", self.grow), ("shrink", self.shrink), ("write", self.write)];
        let set: Vec<&str> = all.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect();
        f.write_str(&set.join(" "))
    }
}
