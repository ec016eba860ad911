//! Mailboxes whose writers are blocked only by the mount's memory limit.
//!
//! A mailbox that found no memory enters the list before it looks at the memory once more; whoever frees memory does so
//! before it looks at the list. So one of the two sees the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::state::saved;

#[derive(Debug)]
pub(crate) struct Starved<F> {
    // An innermost lock.
    files: Mutex<Vec<Arc<F>>>,
    /// There are some: can be read without the lock.
    any: AtomicBool,
}

saved!(struct Starved<F> { files, any });

impl<F> Default for Starved<F> {
    fn default() -> Starved<F> {
        Starved { files: Mutex::default(), any: AtomicBool::new(false) }
    }
}

impl<F> Starved<F> {
    pub(crate) fn push(&self, file: &Arc<F>) {
        let mut files = self.files.lock();
        files.push(Arc::clone(file));
        self.any.store(true, Ordering::SeqCst);
    }

    /// Takes all of them; `None` if there are none.
    pub(crate) fn take(&self) -> Option<Vec<Arc<F>>> {
        if !self.any.load(Ordering::SeqCst) {
            return None;
        }
        let mut files = self.files.lock();
        self.any.store(false, Ordering::SeqCst);
        Some(std::mem::take(&mut *files))
    }
}
