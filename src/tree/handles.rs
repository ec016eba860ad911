//! Open files, by the number that the kernel names them with.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use slab::Slab;

use super::objects::{MailboxFile, SegmentFile, TopicFile};
use super::place::Place;
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
    Mailbox {
        file: Arc<MailboxFile>,
        id: mailbox::HandleId,
        write: bool,
    },
    Topic {
        file: Arc<TopicFile>,
        id: mailbox::HandleId,
    },
    Segment {
        file: Arc<SegmentFile>,
        write: bool,
        /// Among those who have it open.
        opener: usize,
    },
    /// A segment's doorbell, to be rung.
    Notify {
        file: Arc<SegmentFile>,
    },
    /// A segment's doorbell, to be heard.
    Wait {
        file: Arc<SegmentFile>,
        id: mailbox::HandleId,
    },
    /// A waiting message, as it was when the file was opened.
    Message(Arc<[u8]>),
    /// The text as it was when reading began, so that reading in pieces gives one state.
    Control {
        place: Place,
        text: Mutex<Arc<[u8]>>,
    },
}

/// READ's arguments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) offset: u64,
    pub(super) size: u32,
    pub(super) nonblock: bool,
    pub(super) direct: bool,
}

/// WRITE's arguments.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools)]
pub(super) struct Write<'a> {
    pub(super) offset: u64,
    pub(super) data: &'a [u8],
    pub(super) nonblock: bool,
    pub(super) append: bool,
    pub(super) page_cache: bool,
    pub(super) kill_suid: bool,
}

/// The text of a control file that nothing was read from yet.
pub(super) fn no_text() -> Mutex<Arc<[u8]>> {
    Mutex::new(Arc::from([]))
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
