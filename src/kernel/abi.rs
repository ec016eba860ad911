//! The kernel's structures, as defined in Linux's `include/uapi/linux/fuse.h` (protocol 7.40), convertible from and to
//! bytes. Field names are the kernel's, and are documented in that header.

#![allow(missing_docs)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! incoming {
    ($($name:ident { $($field:ident : $type:ty),* $(,)? })*) => {$(
        #[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
        #[repr(C)]
        pub(super) struct $name { $(pub(super) $field: $type),* }
    )*};
}

incoming! {
    InHeader { len: u32, opcode: u32, unique: u64, nodeid: u64, uid: u32, gid: u32, pid: u32, total_extlen: u16, padding: u16 }
    ForgetIn { nlookup: u64 }
    ForgetOne { nodeid: u64, nlookup: u64 }
    BatchForgetIn { count: u32, dummy: u32 }
    SetattrIn {
        valid: u32, padding: u32, fh: u64, size: u64, lock_owner: u64, atime: i64, mtime: i64, ctime: i64,
        atimensec: u32, mtimensec: u32, ctimensec: u32, mode: u32, unused4: u32, uid: u32, gid: u32, unused5: u32,
    }
    MknodIn { mode: u32, rdev: u32, umask: u32, padding: u32 }
    MkdirIn { mode: u32, umask: u32 }
    LinkIn { oldnodeid: u64 }
    RenameIn { newdir: u64 }
    Rename2In { newdir: u64, flags: u32, padding: u32 }
    OpenIn { flags: u32, open_flags: u32 }
    CreateIn { flags: u32, mode: u32, umask: u32, open_flags: u32 }
    ReadIn { fh: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: u32, padding: u32 }
    WriteIn { fh: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: u32, padding: u32 }
    ReleaseIn { fh: u64, flags: u32, release_flags: u32, lock_owner: u64 }
    FlushIn { fh: u64, unused: u32, padding: u32, lock_owner: u64 }
    SetxattrIn { size: u32, flags: u32 }
    GetxattrIn { size: u32, padding: u32 }
    LkIn { fh: u64, owner: u64, start: u64, end: u64, kind: u32, pid: u32, lk_flags: u32, padding: u32 }
    InterruptIn { unique: u64 }
    PollIn { fh: u64, kh: u64, flags: u32, events: u32 }
    FallocateIn { fh: u64, offset: u64, length: u64, mode: u32, padding: u32 }
    LseekIn { fh: u64, offset: u64, whence: u32, padding: u32 }
    CopyFileRangeIn { fh_in: u64, off_in: u64, nodeid_out: u64, fh_out: u64, off_out: u64, len: u64, flags: u64 }

    OutHeader { len: u32, error: i32, unique: u64 }
    Attr {
        ino: u64, size: u64, blocks: u64, atime: u64, mtime: u64, ctime: u64, atimensec: u32, mtimensec: u32,
        ctimensec: u32, mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u32, blksize: u32, flags: u32,
    }
    EntryOut {
        nodeid: u64, generation: u64, entry_valid: u64, attr_valid: u64, entry_valid_nsec: u32, attr_valid_nsec: u32,
        attr: Attr,
    }
    AttrOut { attr_valid: u64, attr_valid_nsec: u32, dummy: u32, attr: Attr }
    OpenOut { fh: u64, open_flags: u32, backing_id: u32 }
    WriteOut { size: u32, padding: u32 }
    CopyFileRangeOut { bytes_copied: u64 }
    GetxattrOut { size: u32, padding: u32 }
    LkOut { start: u64, end: u64, kind: u32, pid: u32 }
    PollOut { revents: u32, padding: u32 }
    LseekOut { offset: u64 }
    StatfsOut {
        blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64, bsize: u32, namelen: u32, frsize: u32,
        padding: u32, spare: [u32; 6],
    }
    Dirent { ino: u64, off: u64, namelen: u32, kind: u32 }
    NotifyPollWakeupOut { kh: u64 }
    NotifyInvalInodeOut { ino: u64, off: i64, len: i64 }
    NotifyPruneOut { count: u32, padding: u32, spare: u64 }
    NotifyRetrieveOut { notify_unique: u64, nodeid: u64, offset: u64, size: u32, padding: u32 }
}

/// Request numbers.
pub(super) mod opcode {
    pub(in crate::kernel) const LOOKUP: u32 = 1;
    pub(in crate::kernel) const TMPFILE: u32 = 51;
    pub(in crate::kernel) const FORGET: u32 = 2;
    pub(in crate::kernel) const GETATTR: u32 = 3;
    pub(in crate::kernel) const SETATTR: u32 = 4;
    pub(in crate::kernel) const READLINK: u32 = 5;
    pub(in crate::kernel) const SYMLINK: u32 = 6;
    pub(in crate::kernel) const MKNOD: u32 = 8;
    pub(in crate::kernel) const MKDIR: u32 = 9;
    pub(in crate::kernel) const UNLINK: u32 = 10;
    pub(in crate::kernel) const RMDIR: u32 = 11;
    pub(in crate::kernel) const RENAME: u32 = 12;
    pub(in crate::kernel) const LINK: u32 = 13;
    pub(in crate::kernel) const OPEN: u32 = 14;
    pub(in crate::kernel) const READ: u32 = 15;
    pub(in crate::kernel) const WRITE: u32 = 16;
    pub(in crate::kernel) const STATFS: u32 = 17;
    pub(in crate::kernel) const RELEASE: u32 = 18;
    pub(in crate::kernel) const FSYNC: u32 = 20;
    pub(in crate::kernel) const SETXATTR: u32 = 21;
    pub(in crate::kernel) const GETXATTR: u32 = 22;
    pub(in crate::kernel) const LISTXATTR: u32 = 23;
    pub(in crate::kernel) const REMOVEXATTR: u32 = 24;
    pub(in crate::kernel) const FLUSH: u32 = 25;
    pub(in crate::kernel) const OPENDIR: u32 = 27;
    pub(in crate::kernel) const READDIR: u32 = 28;
    pub(in crate::kernel) const RELEASEDIR: u32 = 29;
    pub(in crate::kernel) const FSYNCDIR: u32 = 30;
    pub(in crate::kernel) const GETLK: u32 = 31;
    pub(in crate::kernel) const SETLK: u32 = 32;
    pub(in crate::kernel) const SETLKW: u32 = 33;
    pub(in crate::kernel) const CREATE: u32 = 35;
    pub(in crate::kernel) const INTERRUPT: u32 = 36;
    pub(in crate::kernel) const DESTROY: u32 = 38;
    pub(in crate::kernel) const IOCTL: u32 = 39;
    pub(in crate::kernel) const POLL: u32 = 40;
    pub(in crate::kernel) const NOTIFY_REPLY: u32 = 41;
    pub(in crate::kernel) const BATCH_FORGET: u32 = 42;
    pub(in crate::kernel) const FALLOCATE: u32 = 43;
    pub(in crate::kernel) const RENAME2: u32 = 45;
    pub(in crate::kernel) const LSEEK: u32 = 46;
    pub(in crate::kernel) const COPY_FILE_RANGE: u32 = 47;
    pub(in crate::kernel) const COPY_FILE_RANGE_64: u32 = 53;
}

/// `FATTR_*`: which of SETATTR's fields are valid.
pub(super) mod fattr {
    pub(in crate::kernel) const MODE: u32 = 1 << 0;
    pub(in crate::kernel) const UID: u32 = 1 << 1;
    pub(in crate::kernel) const GID: u32 = 1 << 2;
    pub(in crate::kernel) const SIZE: u32 = 1 << 3;
    pub(in crate::kernel) const ATIME: u32 = 1 << 4;
    pub(in crate::kernel) const MTIME: u32 = 1 << 5;
    pub(in crate::kernel) const FH: u32 = 1 << 6;
    pub(in crate::kernel) const ATIME_NOW: u32 = 1 << 7;
    pub(in crate::kernel) const MTIME_NOW: u32 = 1 << 8;
    pub(in crate::kernel) const KILL_SUIDGID: u32 = 1 << 11;
}

/// `FOPEN_*`: how the kernel treats an open file.
pub(super) mod fopen {
    pub(in crate::kernel) const DIRECT_IO: u32 = 1 << 0;
    pub(in crate::kernel) const KEEP_CACHE: u32 = 1 << 1;
    pub(in crate::kernel) const STREAM: u32 = 1 << 4;
    pub(in crate::kernel) const NOFLUSH: u32 = 1 << 5;
    pub(in crate::kernel) const PARALLEL_DIRECT_WRITES: u32 = 1 << 6;
    pub(in crate::kernel) const PASSTHROUGH: u32 = 1 << 7;
}

pub(super) const READ_LOCKOWNER: u32 = 1 << 1;
pub(super) const WRITE_CACHE: u32 = 1 << 0;
pub(super) const WRITE_KILL_SUIDGID: u32 = 1 << 2;
pub(super) const OPEN_KILL_SUIDGID: u32 = 1 << 0;
pub(super) const LK_FLOCK: u32 = 1 << 0;
pub(super) const POLL_SCHEDULE_NOTIFY: u32 = 1 << 0;
/// The bits of `events` that ask for something to read.
pub(super) const POLL_INPUT: u32 = (libc::POLLIN | libc::POLLRDNORM) as u32;
/// The bits of `events` that ask for room to write.
pub(super) const POLL_OUTPUT: u32 = (libc::POLLOUT | libc::POLLWRNORM) as u32;
/// `FUSE_NOTIFY_POLL`, as `error` of a message that is a notification and no answer: pollers are to poll again.
pub(super) const NOTIFY_POLL: i32 = 1;
/// `FUSE_NOTIFY_INVAL_INODE`: what the kernel has cached of a node is out of date.
pub(super) const NOTIFY_INVAL_INODE: i32 = 2;
/// `FUSE_NOTIFY_RETRIEVE`: the kernel is to send what it has cached of a file, in a `NOTIFY_REPLY`.
pub(super) const NOTIFY_RETRIEVE: i32 = 5;
/// `FUSE_NOTIFY_RESEND`: requests that were read and not answered are to be sent again. Since Linux 6.9; before, `EINVAL`.
pub(super) const NOTIFY_RESEND: i32 = 7;
/// `FUSE_UNIQUE_RESEND`, in the number of a request that was sent again.
pub(super) const RESENT_BIT: u64 = 1 << 63;
/// `FUSE_NOTIFY_PRUNE`: nodes that nobody uses are to be forgotten. Since Linux 6.18; before, `EINVAL`.
pub(super) const NOTIFY_PRUNE: i32 = 9;
/// Set in the number of an INTERRUPT, and in that of its answer.
pub(super) const INTERRUPT_BIT: u64 = 1;
