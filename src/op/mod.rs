//! The words that the kernel boundary and the tree exchange: one [`Request`] in, [`Effects`] out.
//!
//! Nothing here knows the FUSE protocol's bytes (that is `kernel`) nor what an operation does (that is `tree`).
//! A request is *answered exactly once*: by an [`Effect::Reply`] carrying its [`RequestId`], now or, when its caller has
//! to wait, from the effects of a later request.

mod answer;
mod effect;
mod error;

pub use answer::{Attr, Entry, Listed, LockHeld, OpenAs, Opened, Ready, Reply, Slice, Space, Validity};
pub use effect::{Effect, Effects};
pub use error::Error;

/// A number the kernel knows a file by. A mailbox has several (see `tree::nodes`), everything else one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The mount's root, numbered so by the protocol.
    pub const ROOT: NodeId = NodeId(1);
}

/// `st_ino`: what `ls -i` shows. The same for all nodes of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

/// An open file description, named by the number that OPEN answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fh(pub u64);

/// Whom the kernel should wake when an open file becomes ready: valid once, re-armed by the next POLL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PollHandle(pub u64);

/// Who holds a lock: the kernel's hash of a process's descriptor table (POSIX), or of an open file (OFD, flock).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockOwner(pub u64);

/// The right, and the duty, to answer one request once. `unique` is the kernel's number for the request and `reply_path`
/// the device descriptor it was read from: the kernel takes the answer on that one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    /// The kernel's number of the request.
    pub unique: u64,
    /// Index of the device descriptor it came from.
    pub reply_path: u32,
}

/// Nanoseconds since 1970-01-01 UTC. Handed to the domain with every call; the domain has no clock of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Whole seconds and the nanoseconds beyond them.
    pub fn split(self) -> (u64, u32) {
        (self.0 / 1_000_000_000, (self.0 % 1_000_000_000) as u32)
    }

    /// From seconds and nanoseconds; times before 1970 become 1970.
    pub fn from_parts(seconds: i64, nanos: u32) -> Timestamp {
        Timestamp((seconds.max(0) as u64).saturating_mul(1_000_000_000).saturating_add(u64::from(nanos)))
    }
}

/// Who asks, as the kernel attests it. `pid` is 0 for a process outside the daemon's pid namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Caller {
    /// Effective user (file system uid).
    pub uid: u32,
    /// Effective group (file system gid).
    pub gid: u32,
    /// Thread that made the call.
    pub pid: u32,
}

/// One request of the kernel's.
#[derive(Debug, Clone, PartialEq)]
pub struct Request<'a> {
    /// To be answered with.
    pub request_id: RequestId,
    /// The node it concerns; a folder for operations that also carry a name.
    pub node: NodeId,
    /// Who asks.
    pub caller: Caller,
    /// What is asked.
    pub op: Op<'a>,
}

/// The operations, with what is needed of their arguments. Names are bytes without `/` and NUL.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Op<'a> {
    Lookup {
        name: &'a [u8],
    },
    /// The kernel drops `1` references for each item: (node, count). Never answered.
    Forget(Vec<(NodeId, u64)>),
    Getattr,
    Setattr(SetAttr),
    /// A plain file without opening it. Devices, sockets and FIFOs come as `Refuse`.
    Mknod {
        name: &'a [u8],
        mode: u32,
    },
    Mkdir {
        name: &'a [u8],
        mode: u32,
    },
    Unlink {
        name: &'a [u8],
    },
    Rmdir {
        name: &'a [u8],
    },
    Rename {
        name: &'a [u8],
        new_parent: NodeId,
        new_name: &'a [u8],
        how: RenameHow,
    },
    Open(OpenFlags),
    Create {
        name: &'a [u8],
        mode: u32,
        flags: OpenFlags,
    },
    /// `direct` is false when the page cache asks, on behalf of splice or a private mapping.
    Read {
        fh: Fh,
        offset: u64,
        size: u32,
        nonblock: bool,
        direct: bool,
    },
    /// `append`: the descriptor is `O_APPEND`, so that the offset means nothing. `page_cache`: dirty pages come back.
    Write {
        fh: Fh,
        offset: u64,
        data: &'a [u8],
        nonblock: bool,
        append: bool,
        page_cache: bool,
        kill_suid: bool,
    },
    Flush {
        owner: LockOwner,
    },
    Release {
        fh: Fh,
    },
    Fsync,
    Statfs,
    Opendir,
    Readdir {
        offset: u64,
        size: u32,
    },
    Releasedir,
    Setxattr {
        name: &'a [u8],
        value: &'a [u8],
        create: bool,
        replace: bool,
    },
    /// `size` 0 asks for the length only.
    Getxattr {
        name: &'a [u8],
        size: u32,
    },
    Listxattr {
        size: u32,
    },
    Removexattr {
        name: &'a [u8],
    },
    Getlk(LockCall),
    Setlk {
        lock: LockCall,
        wait: bool,
    },
    Poll {
        fh: Fh,
        handle: PollHandle,
        arm: bool,
    },
    Fallocate {
        fh: Fh,
        offset: u64,
        length: u64,
        mode: u32,
    },
    Lseek {
        fh: Fh,
        offset: u64,
        whence: Whence,
    },
    CopyFileRange(CopyRange),
    /// The caller of the request numbered `unique` got a signal. Never answered itself.
    Interrupt {
        unique: u64,
    },
    /// A request this file system answers with one fixed error, whatever its arguments.
    Refuse(Error),
}

/// What is to be copied from one open file of this mount to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CopyRange {
    pub from: Fh,
    pub from_offset: u64,
    pub to: Fh,
    pub to_offset: u64,
    pub length: u64,
    /// Whether the answer is [`Reply::Copied`], rather than [`Reply::Written`].
    pub long: bool,
}

/// How RENAME treats a name that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameHow {
    /// Put it in its place.
    Replace,
    /// `RENAME_NOREPLACE`: fail.
    NoReplace,
    /// `RENAME_EXCHANGE`: swap the two.
    Exchange,
}

/// What of open(2)'s flags matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools)]
pub struct OpenFlags {
    /// `O_RDONLY` or `O_RDWR`.
    pub read: bool,
    /// `O_WRONLY` or `O_RDWR`.
    pub write: bool,
    /// `O_TRUNC`, where the kernel leaves it to us.
    pub truncate: bool,
    /// `O_EXCL`.
    pub exclusive: bool,
    /// Clear set-user-id and set-group-id (asked by the kernel when truncating).
    pub kill_suid: bool,
}

/// lseek(2) beyond what the kernel does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// `SEEK_DATA`
    Data,
    /// `SEEK_HOLE`
    Hole,
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The time of the call.
    Now,
    /// The given one.
    At(Timestamp),
}

/// SETATTR: what is `Some` is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct SetAttr {
    pub fh: Option<Fh>,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
    pub kill_suid: bool,
}

/// A lock's strength; `Unlock` gives it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// `F_RDLCK`, `LOCK_SH`
    Shared,
    /// `F_WRLCK`, `LOCK_EX`
    Exclusive,
    /// `F_UNLCK`, `LOCK_UN`
    Unlock,
}

/// GETLK, SETLK and SETLKW, for the three kinds of lock alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockCall {
    /// The open file it is asked through.
    pub fh: Fh,
    /// On whose behalf.
    pub owner: LockOwner,
    /// Process to be named by `F_GETLK`.
    pub pid: u32,
    /// flock(2), which covers the whole file and conflicts only with other flocks.
    pub flock: bool,
    /// What is asked for.
    pub kind: LockKind,
    /// First byte.
    pub start: u64,
    /// Last byte, inclusive; `u64::MAX` or `i64::MAX` mean to the end.
    pub end: u64,
}
