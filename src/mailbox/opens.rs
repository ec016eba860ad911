//! The open files of a mailbox, and which of them may have changed.

use slab::Slab;

use super::Open;
use super::call::HandleId;
use super::noted::Noted;
use crate::state::{Restorer, Saved, Saver};

/// Open files, by number.
#[derive(Debug, Default)]
pub(super) struct Opens {
    slab: Slab<Open>,
    /// Those that may have changed.
    touched: Noted<HandleId>,
}

impl Saved for Opens {
    fn save(&self, to: &mut Saver<'_>) {
        self.slab.save(to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        Saved::restore(from).map(|slab| Opens { slab, touched: Noted::default() })
    }
}

impl FromIterator<(usize, Open)> for Opens {
    fn from_iter<I: IntoIterator<Item = (usize, Open)>>(opens: I) -> Opens {
        Opens { slab: Slab::from_iter(opens), touched: Noted::default() }
    }
}

impl Opens {
    /// From now on somebody asks which may have changed.
    pub(super) fn watch(&mut self) {
        self.touched.watch();
    }

    /// Those that may have changed.
    pub(super) fn take_touched(&mut self) -> Vec<HandleId> {
        self.touched.take()
    }

    /// What is kept elsewhere of it has changed.
    pub(super) fn touch(&mut self, handle: HandleId) {
        self.touched.note(handle);
    }

    pub(super) fn insert(&mut self, open: Open) -> HandleId {
        let handle = HandleId(self.slab.insert(open));
        self.touch(handle);
        handle
    }

    pub(super) fn get(&self, number: usize) -> Option<&Open> {
        self.slab.get(number)
    }

    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Open> {
        self.touch(HandleId(number));
        self.slab.get_mut(number)
    }

    /// Returns the open file, which is closed.
    pub(super) fn remove(&mut self, number: usize) -> Option<Open> {
        self.touch(HandleId(number));
        let open = self.slab.try_remove(number);
        if self.slab.is_empty() {
            self.slab = Slab::new();
        }
        open
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Open)> {
        self.slab.iter()
    }
}
