//! Open files, by the number that the kernel names them with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

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
    /// Number of reads by the page cache since the last of other calls.
    page_cache_reads: AtomicU32,
    /// For one open file, of the user who opened it.
    charge: Option<Charge>,
}

saved!(struct Entry<F> { file, page_cache_reads, charge });

impl<F> Default for Handles<F> {
    fn default() -> Handles<F> {
        Handles { open: RwLock::default() }
    }
}

impl<F> Handles<F> {
    pub(crate) fn insert(&self, file: F, charge: Option<Charge>) -> Fh {
        let entry = Entry { file: Arc::new(file), page_cache_reads: AtomicU32::new(0), charge };
        Fh(self.open.write().insert(entry) as u64)
    }

    pub(crate) fn get(&self, fh: Fh) -> Result<Arc<F>, Error> {
        let open = self.open.read();
        let entry = usize::try_from(fh.0).ok().and_then(|key| open.get(key));
        entry.map(|entry| Arc::clone(&entry.file)).ok_or(Error::BadDescriptor)
    }

    /// The same for READ and POLL: also how many reads by the page cache have come in a row, with this one.
    pub(crate) fn get_to_read(&self, fh: Fh, direct: bool) -> Result<(Arc<F>, u32), Error> {
        let open = self.open.read();
        let entry = usize::try_from(fh.0).ok().and_then(|key| open.get(key)).ok_or(Error::BadDescriptor)?;
        let mut reads = entry.page_cache_reads.load(Ordering::Relaxed);
        if !direct || reads > 0 {
            reads = if direct { 0 } else { reads.saturating_add(1) };
            entry.page_cache_reads.store(reads, Ordering::Relaxed);
        }
        Ok((Arc::clone(&entry.file), reads))
    }

    /// Adds those that `wanted` selects among `count` places from `first` on. False if there are no further places.
    pub(crate) fn select(
        &self,
        (first, count): (usize, usize),
        wanted: impl Fn(&F) -> bool,
        selected: &mut Vec<Fh>,
    ) -> bool {
        let open = self.open.read();
        let end = first.saturating_add(count).min(open.capacity());
        let entries = (first..end).filter_map(|key| Some((key, open.get(key)?)));
        selected.extend(entries.filter(|(_, entry)| wanted(&entry.file)).map(|(key, _)| Fh(key as u64)));
        end < open.capacity()
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
