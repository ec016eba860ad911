//! The words that the kernel boundary and the tree exchange: one [`Request`] in, [`Effects`] out.
//!
//! Nothing here knows the FUSE protocol's bytes (that is `kernel`) nor what an operation does (that is `tree`).
//! A request is *answered exactly once*: by an [`Effect::Reply`] carrying its [`Ticket`], now or, when its caller has
//! to wait, from the effects of a later request.

use std::sync::Arc;

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

/// The right, and the duty, to answer one request once. `unique` is the kernel's number for the request and `lane`
/// the device descriptor it was read from: the kernel takes the answer on that one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    /// The kernel's number of the request.
    pub unique: u64,
    /// Index of the device descriptor it came from.
    pub lane: u32,
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
    pub ticket: Ticket,
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
    Lookup { name: &'a [u8] },
    /// The kernel drops `1` references for each item: (node, count). Never answered.
    Forget(Vec<(NodeId, u64)>),
    Getattr,
    Setattr(SetAttr),
    /// A plain file without opening it. Devices, sockets and FIFOs come as `Refuse`.
    Mknod { name: &'a [u8], mode: u32 },
    Mkdir { name: &'a [u8], mode: u32 },
    Unlink { name: &'a [u8] },
    Rmdir { name: &'a [u8] },
    Rename { name: &'a [u8], new_parent: NodeId, new_name: &'a [u8], how: RenameHow },
    Open(OpenFlags),
    Create { name: &'a [u8], mode: u32, flags: OpenFlags },
    /// `direct` is false when the page cache asks, on behalf of splice or a private mapping.
    Read { fh: Fh, offset: u64, size: u32, nonblock: bool, direct: bool },
    /// `append`: the descriptor is `O_APPEND`, so that the offset means nothing. `page_cache`: dirty pages come back.
    Write { fh: Fh, offset: u64, data: &'a [u8], nonblock: bool, append: bool, page_cache: bool, kill_suid: bool },
    Flush { owner: LockOwner },
    Release { fh: Fh },
    Fsync,
    Statfs,
    Opendir,
    Readdir { offset: u64, size: u32 },
    Releasedir,
    Setxattr { name: &'a [u8], value: &'a [u8], create: bool, replace: bool },
    /// `size` 0 asks for the length only.
    Getxattr { name: &'a [u8], size: u32 },
    Listxattr { size: u32 },
    Removexattr { name: &'a [u8] },
    Getlk(LockCall),
    Setlk { lock: LockCall, wait: bool },
    Poll { fh: Fh, handle: PollHandle, arm: bool },
    Fallocate { fh: Fh, offset: u64, length: u64, mode: u32 },
    Lseek { fh: Fh, offset: u64, whence: Whence },
    /// From one open file of this mount to another. Never done here: the caller falls back to read and write.
    CopyFileRange { fh: Fh, to: Fh },
    /// The caller of the request numbered `unique` got a signal. Never answered itself.
    Interrupt { unique: u64 },
    /// A request this file system answers with one fixed error, whatever its arguments.
    Refuse(Error),
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
    /// A segment whose memory the kernel maps by itself, by the backing id given; and reads by itself, unless it is open
    /// for writing too. Writes come to the daemon, which promises the memory that a longer file takes.
    #[allow(missing_docs)]
    Passthrough { id: u32, write: bool },
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
    /// The length of an extended attribute that was asked for with size 0.
    XattrSize(u32),
    Lock(Option<LockHeld>),
    Ready(Ready),
    Offset(u64),
    Space(Space),
}

/// What the transport has to carry out once the domain has decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Answer a request: the one in hand or one that was waiting.
    Reply(Ticket, Reply),
    /// Tell the kernel that a polled file may be ready.
    Wake(PollHandle),
    /// An interrupt met no waiting request: it came before its request was parked, or after it was answered.
    /// The kernel is to ask again as long as it knows of the request.
    InterruptAgain {
        /// The interrupted request.
        unique: u64,
    },
}

/// The effects of a call, in order. Reused from call to call, so that the usual case allocates nothing.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
    /// The request in hand was put where it waits.
    parked: bool,
}

impl Effects {
    /// None yet.
    pub fn new() -> Effects {
        Effects::default()
    }

    /// Answer `ticket`.
    pub fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.list.push(Effect::Reply(ticket, reply));
    }

    /// Answer `ticket` with an error.
    pub fn fail(&mut self, ticket: Ticket, error: Error) {
        self.reply(ticket, Reply::Failed(error));
    }

    /// Tell the kernel that a polled file may be ready.
    pub fn wake(&mut self, handle: PollHandle) {
        self.list.push(Effect::Wake(handle));
    }

    /// Any other effect.
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// The request in hand waits: its answer, even one that comes at once, ends a wait.
    pub fn note_parked(&mut self) {
        self.parked = true;
    }

    /// True if the request in hand was made to wait; asked once.
    pub fn take_parked(&mut self) -> bool {
        std::mem::take(&mut self.parked)
    }

    /// Takes them all, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.list.drain(..)
    }

    /// Looks at them.
    pub fn iter(&self) -> impl Iterator<Item = &Effect> {
        self.list.iter()
    }
}

/// Why a request fails, in the domain's words. `kernel::errno` has the one table that turns each into a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("no such file or directory")]
    NotFound,
    #[error("already exists")]
    Exists,
    #[error("is a directory")]
    IsFolder,
    #[error("not a directory")]
    NotFolder,
    #[error("directory not empty")]
    NotEmpty,
    #[error("name longer than 255 bytes")]
    NameTooLong,
    #[error("not possible for a name like this")]
    BadName,
    #[error("this kind of file cannot exist here")]
    KindRefused,
    #[error("cannot move between mailboxes, segments and control")]
    OtherKind,
    #[error("not permitted")]
    NotPermitted,
    #[error("permission denied")]
    AccessDenied,
    #[error("the kernel's node is stale")]
    Stale,
    #[error("descriptor not open for this")]
    BadDescriptor,
    #[error("message longer than the mailbox takes")]
    TooLong,
    #[error("would wait")]
    WouldWait,
    #[error("interrupted by a signal")]
    Interrupted,
    #[error("the mailbox was removed")]
    Removed,
    #[error("no space left")]
    NoSpace,
    #[error("out of memory")]
    NoMemory,
    #[error("file too large")]
    TooBig,
    #[error("invalid argument")]
    Invalid,
    #[error("value out of range")]
    Range,
    #[error("no such offset")]
    NoSuchOffset,
    #[error("not supported here")]
    NotSupported,
    #[error("not a terminal")]
    NoSuchControl,
    #[error("no such system call here")]
    NoSuchCall,
    #[error("no such attribute")]
    NoAttribute,
    #[error("deadlock avoided")]
    Deadlock,
    #[error("too many locks")]
    NoLocks,
    #[error("the mount is ending")]
    Ending,
    #[error("malformed request")]
    Malformed,
    #[error("input/output error")]
    Io,
}
