//! Replies to requests.

use std::sync::Arc;

use super::error::Error;
use super::{Fh, FileTime, Ino, LockKind, NodeId};
use crate::state::saved;

/// A conflicting lock, as `F_GETLK` reports it. `start` and `end` are the first and the last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct LockHeld {
    pub kind: LockKind,
    pub start: u64,
    pub end: u64,
    pub pid: u32,
}

/// Attributes, for stat(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Attr {
    pub ino: Ino,
    pub size: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    pub atime: FileTime,
    pub mtime: FileTime,
    pub ctime: FileTime,
    /// Type and permission bits.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub blksize: u32,
}

/// How long the kernel may cache a name or its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Not at all: the next look-up may return another node.
    None,
    /// The name not at all. The attributes for some milliseconds, enough for the call that looked up the name in
    /// order to use them; or until [`Effect::InvalidateAttr`](crate::op::Effect::InvalidateAttr).
    Moment,
    /// For long: all changes pass through this kernel, which updates its cache itself.
    Long,
}

/// A name that was looked up or created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Entry {
    pub node: NodeId,
    pub attr: Attr,
    pub validity: Validity,
}

/// How the kernel treats an open file.
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
    /// A segment whose memory the kernel maps itself, by its backing id. With `grows`, a write may extend the file:
    /// then the kernel sends reads and writes to the daemon, which promises the memory. Otherwise the kernel does
    /// them itself.
    #[allow(missing_docs)]
    Passthrough { id: u32, grows: bool },
}

/// An opened file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Opened {
    pub fh: Fh,
    pub how: OpenAs,
}

/// Readiness, for poll(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Ready {
    pub readable: bool,
    pub writable: bool,
    /// The object was removed.
    pub hangup: bool,
}

/// A range of shared bytes. Neither queue nor reply copies them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// All the bytes.
    pub bytes: Arc<[u8]>,
    /// First byte of the range.
    pub from: usize,
    /// One past the last byte of the range.
    pub to: usize,
}

saved!(struct Slice { bytes, from, to } if |slice: &Slice| slice.from <= slice.to && slice.to <= slice.bytes.len());

impl Slice {
    /// All of `bytes`.
    pub fn whole(bytes: impl Into<Arc<[u8]>>) -> Slice {
        let bytes = bytes.into();
        Slice { from: 0, to: bytes.len(), bytes }
    }

    /// The same bytes in memory of their own, if otherwise more than twice as many would be kept.
    #[must_use]
    pub fn compact(self) -> Slice {
        if (self.to - self.from) * 2 < self.bytes.len() { Slice::whole(self.as_bytes()) } else { self }
    }

    /// How many bytes it has.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.to.saturating_sub(self.from)
    }

    /// The bytes in the range.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.from..self.to).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// What sort of file a name leads to, as a listing shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Sort {
    Folder,
    Regular,
    Symlink,
}

/// A directory entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// `st_ino` of the file.
    pub ino: Ino,
    /// The offset at which a listing continues after this entry.
    pub cookie: u64,
    /// `d_type`
    pub sort: Sort,
    /// The name.
    pub name: Arc<[u8]>,
}

/// Free space, for statfs(2), in blocks of 4096 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Space {
    pub blocks: u64,
    pub free: u64,
    pub files: u64,
    pub files_free: u64,
}

impl Reply {
    /// How many bytes a READ gets; `None` of an error.
    pub fn bytes_read(&self) -> Option<u32> {
        match self {
            Reply::Message(slice) | Reply::Text(slice) => Some(slice.len() as u32),
            Reply::Data(bytes) => Some(bytes.len() as u32),
            _ => None,
        }
    }
}

/// The reply to a request.
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
    Directory(Fh),
    /// A message, or as much of it as fits.
    Message(Slice),
    /// Part of a text that the daemon has made, and that tells of its process, too.
    Text(Slice),
    Data(Vec<u8>),
    /// Directory entries, and the size of the buffer in bytes. Those that fit are sent.
    Listing(Vec<Listed>, u32),
    /// Bytes written.
    Written(u32),
    /// Bytes copied, in reply to a request with [`CopyRange::long`](crate::op::CopyRange::long).
    Copied(u64),
    /// Length of an extended attribute in bytes, in reply to a request with size 0.
    XattrSize(u32),
    Lock(Option<LockHeld>),
    Ready(Ready),
    Offset(u64),
    Space(Space),
}
