//! The files that names lead to, each with its own lock.

use std::sync::Arc;

use parking_lot::Mutex;

use super::meta::{Meta, REGULAR};
use crate::mailbox::Mailbox;
use crate::op::{Attr, Ino};
use crate::segment::Segment;

/// A mailbox and what stat shows of it.
#[derive(Debug)]
pub(super) struct MailboxFile {
    pub(super) ino: Ino,
    pub(super) state: Mutex<MailboxState>,
}

/// Guarded by [`MailboxFile::state`], which is held for decisions only, never while anyone waits or bytes are copied
/// to the kernel.
#[derive(Debug)]
pub(super) struct MailboxState {
    pub(super) meta: Meta,
    pub(super) queue: Mailbox,
    /// On the tree's list of mailboxes that wait for memory.
    pub(super) starving: bool,
    /// Why the last value written to `config/` was refused.
    pub(super) refusal: Option<Box<str>>,
}

/// A segment and what stat shows of it.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) ino: Ino,
    pub(super) state: Mutex<SegmentState>,
}

/// Guarded by [`SegmentFile::state`].
#[derive(Debug)]
pub(super) struct SegmentState {
    pub(super) meta: Meta,
    pub(super) segment: Segment,
    /// Open files; a mapping keeps its file open.
    pub(super) opens: u32,
    /// A name leads here. Without one, the memory goes with the last open file.
    pub(super) linked: bool,
    /// The kernel's number for the backing memory, while any file is open in passthrough.
    pub(super) backing: Option<u32>,
    /// Why the last value written to `config/` was refused.
    pub(super) refusal: Option<Box<str>>,
}

/// What a name in a folder stands for.
#[derive(Debug, Clone)]
pub(super) enum Child {
    Folder(Ino),
    Mailbox(Arc<MailboxFile>),
    Segment(Arc<SegmentFile>),
}

impl Child {
    pub(super) fn ino(&self) -> Ino {
        match self {
            Child::Folder(ino) => *ino,
            Child::Mailbox(file) => file.ino,
            Child::Segment(file) => file.ino,
        }
    }

    pub(super) fn is_folder(&self) -> bool {
        matches!(self, Child::Folder(_))
    }
}

impl MailboxState {
    pub(super) fn attr(&self, ino: Ino) -> Attr {
        let msgsize = self.queue.limits().msgsize;
        Attr {
            ino,
            // What one read may return: programs that read `st_size` bytes get all of a message.
            size: u64::from(msgsize),
            blocks: self.queue.counts().bytes.div_ceil(512),
            atime: self.queue.last_received,
            mtime: self.queue.last_sent,
            ctime: self.meta.ctime,
            mode: REGULAR | self.meta.mode,
            nlink: u32::from(!self.queue.is_removed()),
            uid: self.meta.uid,
            gid: self.meta.gid,
            // Programs that copy in blocks of this size send a file in one piece, or learn that it is too long.
            blksize: (msgsize + 1).next_power_of_two(),
        }
    }
}

impl SegmentState {
    pub(super) fn attr(&self, ino: Ino) -> Attr {
        Attr {
            ino,
            size: self.segment.size(),
            blocks: self.segment.blocks(),
            atime: self.meta.atime,
            mtime: self.meta.mtime,
            ctime: self.meta.ctime,
            mode: REGULAR | self.meta.mode,
            nlink: u32::from(self.linked),
            uid: self.meta.uid,
            gid: self.meta.gid,
            blksize: 4096,
        }
    }
}
