//! What the kernel boundary and the tree exchange: one [`Request`] in, [`Effects`] out.
//!
//! Nothing here knows the bytes of the FUSE protocol (`kernel` does) nor what an operation does (`tree` does). A
//! request is *answered exactly once*, by an [`Effect::Reply`] that carries its [`RequestId`]: among the effects of
//! the request itself or, if its caller has to wait, of a later request.

use crate::state::saved;

mod answer;
mod effect;
mod error;
mod time;

pub use answer::{Attr, Entry, Listed, LockHeld, OpenAs, Opened, Ready, Reply, Slice, Sort, Space, Validity};
pub use effect::{Barrier, Effect, Effects, Taken};
pub use error::Error;
pub use time::{FileTime, Moment, Now, Timestamp};

/// The number by which the kernel knows a file. A mailbox has several, everything else has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

saved!(struct NodeId(number));

impl NodeId {
    /// The mount's root. The protocol fixes its number.
    pub const ROOT: NodeId = NodeId(1);
}

/// `st_ino`: what `ls -i` shows. The same for all nodes of a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

saved!(struct Ino(number));

/// An open file description: the number that OPEN was answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fh(pub u64);

saved!(struct Fh(number));

/// Identifies the pollers that the kernel wakes when an open file becomes ready. Used once; the next POLL arms it
/// again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PollHandle(pub u64);

saved!(struct PollHandle(number));

/// Whom to wake when an open file becomes ready, and for what. The end of the file's name wakes him in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Poller {
    /// What the kernel knows it by.
    pub handle: PollHandle,
    /// What it waits for.
    pub events: PollEvents,
}

saved!(struct Poller { handle, events since 2 });

/// What a poller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PollEvents {
    /// Something to read.
    pub input: bool,
    /// Room to write.
    pub output: bool,
}

saved!(struct PollEvents { input, output });

impl Poller {
    /// A poller that waits for everything.
    pub fn new(handle: PollHandle) -> Poller {
        Poller { handle, events: PollEvents::default() }
    }
}

/// A poller that does not say what it waits for waits for everything.
impl Default for PollEvents {
    fn default() -> PollEvents {
        PollEvents { input: true, output: true }
    }
}

/// The owner of a lock: the kernel's hash of a process's descriptor table (POSIX), or of an open file (OFD, flock).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LockOwner(pub u64);

saved!(struct LockOwner(number));

/// Identifies a request in its reply. `unique` is the kernel's number for the request, `reply_path` the device
/// descriptor that it was read from: the kernel accepts the reply only there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId {
    /// The kernel's number of the request.
    pub unique: u64,
    /// Index of the device descriptor it came from.
    pub reply_path: u32,
    /// Thread that made the call; 0 if it is outside the daemon's pid namespace.
    pub pid: u32,
}

saved!(struct RequestId { unique, reply_path, pid });

/// The calling process, as reported by the kernel. `pid` is 0 for a process outside the daemon's pid namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Caller {
    /// Effective user (file system uid).
    pub uid: u32,
    /// Effective group (file system gid).
    pub gid: u32,
    /// Thread that made the call.
    pub pid: u32,
}

saved!(struct Caller { uid, gid, pid });

/// A request from the kernel.
#[derive(Debug, Clone, PartialEq)]
pub struct Request<'a> {
    /// Identifies the request in its reply.
    pub request_id: RequestId,
    /// The node that it concerns; a folder for operations that also carry a name.
    pub node: NodeId,
    /// The calling process.
    pub caller: Caller,
    /// The operation.
    pub op: Op<'a>,
}

/// The operations, with those of their arguments that matter. Names are bytes without `/` and NUL.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Op<'a> {
    Lookup {
        name: &'a [u8],
    },
    /// The kernel drops references: (node, count). Never answered.
    Forget(Vec<(NodeId, u64)>),
    Getattr,
    Setattr(SetAttr),
    /// Creates a plain file without opening it. Devices, sockets and FIFOs come as `Refuse`.
    Mknod {
        name: &'a [u8],
        mode: u32,
    },
    Mkdir {
        name: &'a [u8],
        mode: u32,
    },
    /// Another name for a file; the request's node is the folder.
    Link {
        file: NodeId,
        name: &'a [u8],
    },
    Symlink {
        name: &'a [u8],
        target: &'a [u8],
    },
    Readlink,
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
    /// open(2) with `O_TMPFILE` in a folder.
    Tmpfile {
        mode: u32,
        flags: OpenFlags,
    },
    /// `direct` is false if the page cache reads, on behalf of splice(2) or a private mapping.
    Read {
        fh: Fh,
        offset: u64,
        size: u32,
        nonblock: bool,
        direct: bool,
    },
    /// `append`: the descriptor is `O_APPEND`, so the offset means nothing. `page_cache`: dirty pages are written
    /// back.
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
        /// The open folder.
        fh: Fh,
        offset: u64,
        size: u32,
    },
    #[allow(missing_docs)]
    Releasedir {
        fh: Fh,
    },
    Setxattr {
        name: &'a [u8],
        value: &'a [u8],
        create: bool,
        replace: bool,
    },
    /// `size` 0 asks only for the length.
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
    /// `reads`: `io_uring` asks, and reads at once if there is something to read.
    Poll {
        fh: Fh,
        arm: Option<Poller>,
        reads: bool,
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
    /// A request that is always answered with this error.
    Refuse(Error),
}

/// A copy from one open file of this mount to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CopyRange {
    pub from: Fh,
    pub from_offset: u64,
    pub to: Fh,
    pub to_offset: u64,
    pub length: u64,
    /// The reply is [`Reply::Copied`] rather than [`Reply::Written`].
    pub long: bool,
}

/// What RENAME does if the new name exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameHow {
    /// Replace it.
    Replace,
    /// `RENAME_NOREPLACE`: fail.
    NoReplace,
    /// `RENAME_EXCHANGE`: swap the two.
    Exchange,
}

/// The flags of open(2) that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools)]
pub struct OpenFlags {
    /// `O_RDONLY` or `O_RDWR`.
    pub read: bool,
    /// `O_WRONLY` or `O_RDWR`.
    pub write: bool,
    /// `O_APPEND`, of a caller who may have a limit of file sizes. To others, the position at which they append means nothing.
    pub append: bool,
    /// `O_TRUNC`, if the kernel leaves it to the daemon.
    pub truncate: bool,
    /// `O_EXCL`.
    pub exclusive: bool,
    /// `O_NOFOLLOW`.
    pub no_follow: bool,
    /// Clear set-user-id and set-group-id; the kernel sets this when it truncates.
    pub kill_suid: bool,
}

impl OpenFlags {
    /// Writes begin at the end, wherever the kernel takes that to be.
    pub fn appends(self) -> bool {
        self.write && self.append
    }
}

/// The kinds of lseek(2) that the kernel sends to the daemon.
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
    /// This time.
    At(FileTime),
}

saved!(enum SetTime { 0 = Now, 1 = At(it) });

/// SETATTR: the attributes that are `Some` are changed.
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

impl SetAttr {
    /// chown(2), which clears set-ID bits. With neither a user nor a group the kernel sends it as a change of nothing, which no
    /// other call is.
    pub fn is_chown(&self) -> bool {
        self.uid.is_some() || self.gid.is_some() || *self == SetAttr::default()
    }
}

saved!(struct SetAttr { fh, mode, uid, gid, size, atime, mtime, kill_suid });

/// The type of a lock; `Unlock` releases it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockKind {
    /// `F_RDLCK`, `LOCK_SH`
    Shared,
    /// `F_WRLCK`, `LOCK_EX`
    Exclusive,
    /// `F_UNLCK`, `LOCK_UN`
    Unlock,
}

saved!(enum LockKind { 0 = Shared, 1 = Exclusive, 2 = Unlock });

/// GETLK, SETLK and SETLKW, for all three kinds of lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockCall {
    /// The open file that the call was made through.
    pub fh: Fh,
    /// The owner of the lock.
    pub owner: LockOwner,
    /// The process that `F_GETLK` reports.
    pub pid: u32,
    /// flock(2), which covers the whole file and conflicts only with other flocks.
    pub flock: bool,
    /// The type of lock.
    pub kind: LockKind,
    /// First byte.
    pub start: u64,
    /// Last byte, inclusive; `u64::MAX` and `i64::MAX` mean the end of the file.
    pub end: u64,
}
