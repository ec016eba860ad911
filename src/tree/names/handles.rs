//! Open files, by the number that the kernel names them with.

use std::sync::Arc;

use parking_lot::RwLock;
use slab::Slab;

use crate::op::{Error, Fh};

/// All open files of a mount.
#[derive(Debug)]
pub(crate) struct Handles<F> {
    // Held to find, add or drop an entry; never while the entry is worked with.
    open: RwLock<Slab<Arc<F>>>,
}

impl<F> Default for Handles<F> {
    fn default() -> Handles<F> {
        Handles { open: RwLock::default() }
    }
}

impl<F> Handles<F> {
    pub(crate) fn insert(&self, file: F) -> Fh {
        Fh(self.open.write().insert(Arc::new(file)) as u64)
    }

    pub(crate) fn get(&self, fh: Fh) -> Result<Arc<F>, Error> {
        let open = self.open.read();
        usize::try_from(fh.0).ok().and_then(|key| open.get(key)).cloned().ok_or(Error::BadDescriptor)
    }

    pub(crate) fn remove(&self, fh: Fh) -> Option<Arc<F>> {
        let mut open = self.open.write();
        let file = usize::try_from(fh.0).ok().and_then(|key| open.try_remove(key));
        if open.is_empty() && open.capacity() > 1024 {
            *open = Slab::new();
        }
        file
    }
}
