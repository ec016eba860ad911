//! Open files, by the number that the kernel names them with.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use slab::Slab;

use super::control::Place;
use super::objects::{MailboxFile, SegmentFile};
use crate::mailbox;
use crate::op::{Error, Fh, NodeId};

/// An open file: what it is open on, so that its reads and writes look up no name and no node.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) node: NodeId,
    pub(super) target: Target,
}

/// What is open.
#[derive(Debug)]
pub(super) enum Target {
    Mailbox { file: Arc<MailboxFile>, id: mailbox::HandleId, write: bool },
    Segment { file: Arc<SegmentFile>, write: bool },
    /// The text as it was when reading began, so that reading in pieces gives one state.
    Control { place: Place, text: Mutex<Arc<[u8]>> },
}

/// All open files of a mount.
#[derive(Debug, Default)]
pub(super) struct Handles {
    // Held to find, add or drop an entry; never while the entry is worked with.
    open: RwLock<Slab<Arc<Handle>>>,
}

impl Handles {
    pub(super) fn insert(&self, handle: Handle) -> Fh {
        Fh(self.open.write().insert(Arc::new(handle)) as u64)
    }

    pub(super) fn get(&self, fh: Fh) -> Result<Arc<Handle>, Error> {
        let open = self.open.read();
        usize::try_from(fh.0).ok().and_then(|key| open.get(key)).cloned().ok_or(Error::BadDescriptor)
    }

    pub(super) fn remove(&self, fh: Fh) -> Option<Arc<Handle>> {
        let mut open = self.open.write();
        let handle = usize::try_from(fh.0).ok().and_then(|key| open.try_remove(key));
        if open.is_empty() && open.capacity() > 1024 {
            *open = Slab::new();
        }
        handle
    }
}
