//! Answers.

use std::sync::Arc;

use super::{Error, Fh, Ino, LockKind, NodeId, Timestamp};

/// A lock that stands in the way, as `F_GETLK` reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LockHeld {
    pub kind: LockKind,
    pub start: u64,
    pub end: u64,
    pub pid: u32,
}

/// stat(2)'s answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Attr {
    pub ino: Ino,
    pub size: u64,
    /// Units of 512 bytes.
    pub blocks: u64,
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    /// Type and permission bits.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub blksize: u32,
}

/// How long the kernel may believe a name or its attributes without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Ask each time: another node may be the answer next time.
    None,
    /// Ask for the name each time. The attributes hold for some milliseconds, thus for the call that asked for the name
    /// in order to use them; or until [`Effect::InvalidateAttr`](super::Effect::InvalidateAttr).
    Moment,
    /// All changes pass through this kernel, which then forgets by itself.
    Long,
}

/// A name's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Entry {
    pub node: NodeId,
    pub attr: Attr,
    pub validity: Validity,
}

/// How the kernel is to treat an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenAs {
    /// A mailbox opened for reading: no page cache, position kept by the kernel.
    Message,
    /// A mailbox opened for writing, or both: no page cache, no position.
    Stream,
    /// A control file: no page cache.
    Text,
    /// A segment whose memory the kernel's page cache holds.
    Cached,
    /// A segment whose memory the kernel maps by itself, by the backing id given; and reads and writes by itself, unless
    /// a write could make it longer: then both come to the daemon, which promises the memory that it takes.
    #[allow(missing_docs)]
    Passthrough { id: u32, grows: bool },
}

/// An opened file's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Opened {
    pub fh: Fh,
    pub how: OpenAs,
}

/// poll(2)'s answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Ready {
    pub readable: bool,
    pub writable: bool,
    /// The object was removed.
    pub hangup: bool,
}

/// A message's bytes, or a run of them. Shared so that neither queue nor reply copies them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// All the bytes.
    pub bytes: Arc<[u8]>,
    /// First one meant.
    pub from: usize,
    /// One past the last one meant.
    pub to: usize,
}

impl Slice {
    /// All of `bytes`.
    pub fn whole(bytes: impl Into<Arc<[u8]>>) -> Slice {
        let bytes = bytes.into();
        Slice { from: 0, to: bytes.len(), bytes }
    }

    /// The bytes meant.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.from..self.to).unwrap_or_default()
    }
}

/// A name in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Of the file.
    pub ino: Ino,
    /// Where a listing that ends with this name goes on.
    pub cookie: u64,
    /// It is a folder; otherwise a regular file.
    pub folder: bool,
    /// The name.
    pub name: Arc<[u8]>,
}

/// statfs(2)'s answer, in blocks of 4096 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Space {
    pub blocks: u64,
    pub free: u64,
    pub files: u64,
    pub files_free: u64,
}

/// What a request is answered with.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Reply {
    Done,
    Failed(Error),
    Entry(Entry),
    Created(Entry, Opened),
    Attr(Attr, Validity),
    Opened(Opened),
    /// A directory was opened.
    Directory,
    /// A message, or the part of it that fits.
    Message(Slice),
    Data(Vec<u8>),
    /// Names, of which those that fit into as many bytes as were asked for are sent.
    Listing(Vec<Listed>, u32),
    /// Bytes taken by a write.
    Written(u32),
    /// That many bytes copied, where the question was a long one.
    Copied(u64),
    /// The length of an extended attribute that was asked for with size 0.
    XattrSize(u32),
    Lock(Option<LockHeld>),
    Ready(Ready),
    Offset(u64),
    Space(Space),
}
