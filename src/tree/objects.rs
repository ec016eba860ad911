//! The files that names lead to, each with its own lock.

use std::sync::Arc;

use parking_lot::Mutex;
use slab::Slab;

use super::bells::Doorbell;
use super::glances::Glances;
use super::meta::{Meta, REGULAR};
use crate::mailbox::Mailbox;
use crate::op::{Attr, Caller, Effects, Ino, NodeId, Timestamp, Validity};
use crate::segment::Segment;
use crate::topic::Topic;

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
    /// Where it is on the list of mailboxes that were used, see [`super::totals`].
    pub(super) listed: Option<usize>,
    /// On the tree's list of mailboxes that wait for memory.
    pub(super) starving: bool,
    /// The one of its nodes whose attributes the kernel may believe for a moment.
    pub(super) believed: Option<NodeId>,
    /// When the tree's clock will call next.
    pub(super) alarm: Option<Timestamp>,
    /// Why the last value written to `config/` was refused.
    pub(super) refusal: Option<Box<str>>,
}

/// A segment and what stat shows of it.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) ino: Ino,
    pub(super) state: Mutex<SegmentState>,
}

/// Who opened a segment, and for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opener {
    pub(super) caller: Caller,
    pub(super) read: bool,
    pub(super) write: bool,
}

/// Guarded by [`SegmentFile::state`].
#[derive(Debug)]
pub(super) struct SegmentState {
    pub(super) meta: Meta,
    pub(super) segment: Segment,
    /// Open files; a mapping keeps its file open.
    pub(super) openers: Slab<Opener>,
    pub(super) bell: Option<Box<Doorbell>>,
    /// It is asked about now and then whether somebody has it mapped.
    pub(super) in_limbo: bool,
    /// A name leads here. Without one, the memory goes with the last open file.
    pub(super) linked: bool,
    /// Removed while somebody was about to open it: the memory stays until the kernel forgets the node.
    pub(super) spared: bool,
    pub(super) glances: Glances,
    /// The kernel's number for the backing memory, while any file is open in passthrough.
    pub(super) backing: Option<u32>,
    /// Why the last value written to `config/` was refused.
    pub(super) refusal: Option<Box<str>>,
}

/// A topic and what stat shows of it.
#[derive(Debug)]
pub(super) struct TopicFile {
    pub(super) ino: Ino,
    pub(super) state: Mutex<TopicState>,
}

/// Guarded by [`TopicFile::state`].
#[derive(Debug)]
pub(super) struct TopicState {
    pub(super) meta: Meta,
    pub(super) topic: Topic,
    /// Why the last value written to `config/` was refused.
    pub(super) refusal: Option<Box<str>>,
}

/// What a name in a folder stands for.
#[derive(Debug, Clone)]
pub(super) enum Child {
    Folder(Ino),
    Mailbox(Arc<MailboxFile>),
    Segment(Arc<SegmentFile>),
    Topic(Arc<TopicFile>),
}

impl Child {
    pub(super) fn ino(&self) -> Ino {
        match self {
            Child::Folder(ino) => *ino,
            Child::Mailbox(file) => file.ino,
            Child::Segment(file) => file.ino,
            Child::Topic(file) => file.ino,
        }
    }

    pub(super) fn is_folder(&self) -> bool {
        matches!(self, Child::Folder(_))
    }
}

impl MailboxState {
    /// The attributes, which the kernel may believe of this one node from now on, until they change.
    pub(super) fn believed_attr(&mut self, ino: Ino, node: NodeId, fx: &mut Effects) -> (Attr, Validity) {
        if let Some(other) = self.believed.replace(node).filter(|other| *other != node) {
            fx.invalidate_attr(other);
        }
        (self.attr(ino), Validity::Moment)
    }

    /// To be called whenever attributes may have changed.
    pub(super) fn attr_changed(&mut self, fx: &mut Effects) {
        if let Some(node) = self.believed.take() {
            fx.invalidate_attr(node);
        }
    }

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

impl TopicState {
    pub(super) fn attr(&self, ino: Ino) -> Attr {
        let msgsize = self.topic.limits().msgsize;
        Attr {
            ino,
            // As a mailbox's.
            size: u64::from(msgsize),
            blocks: 0,
            atime: self.topic.last_received,
            mtime: self.topic.last_sent,
            ctime: self.meta.ctime,
            mode: REGULAR | self.meta.mode,
            nlink: u32::from(!self.topic.is_removed()),
            uid: self.meta.uid,
            gid: self.meta.gid,
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
