//! Open files, by the number that the kernel names them with.

use std::sync::Arc;

use parking_lot::RwLock;
use slab::Slab;

use crate::accounts::Charge;
use crate::op::{Error, Fh};
use crate::state::saved;

/// All open files of a mount.
#[derive(Debug)]
pub(crate) struct Handles<F> {
    // Held to find, add or drop an entry; never while the entry is worked with.
    open: RwLock<Slab<Entry<F>>>,
}

saved!(struct Handles<F> { open });

#[derive(Debug)]
struct Entry<F> {
    file: Arc<F>,
    /// For one open file, of the user who opened it.
    charge: Option<Charge>,
}

saved!(struct Entry<F> { file, charge });

impl<F> Default for Handles<F> {
    fn default() -> Handles<F> {
        Handles { open: RwLock::default() }
    }
}

impl<F> Handles<F> {
    pub(crate) fn insert(&self, file: F, charge: Option<Charge>) -> Fh {
        Fh(self.open.write().insert(Entry { file: Arc::new(file), charge }) as u64)
    }

    pub(crate) fn get(&self, fh: Fh) -> Result<Arc<F>, Error> {
        let open = self.open.read();
        let entry = usize::try_from(fh.0).ok().and_then(|key| open.get(key));
        entry.map(|entry| Arc::clone(&entry.file)).ok_or(Error::BadDescriptor)
    }

    pub(crate) fn remove(&self, fh: Fh) -> Option<Arc<F>> {
        let mut open = self.open.write();
        let entry = usize::try_from(fh.0).ok().and_then(|key| open.try_remove(key));
        if open.is_empty() && open.capacity() > 1024 {
            *open = Slab::new();
        }
        entry.map(|entry| entry.file)
    }
}
