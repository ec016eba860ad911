//! Why a request fails.

use crate::state::saved;

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
    #[error("operation not possible for this name")]
    BadName,
    #[error("this kind of file cannot exist here")]
    KindRefused,
    #[error("cannot move between mailboxes, topics, segments and control")]
    OtherKind,
    #[error("not permitted")]
    NotPermitted,
    #[error("permission denied")]
    AccessDenied,
    #[error("the kernel's node is stale")]
    Stale,
    #[error("descriptor not open for this operation")]
    BadDescriptor,
    #[error("message longer than the limit")]
    TooLong,
    #[error("would wait")]
    WouldWait,
    #[error("interrupted by a signal")]
    Interrupted,
    #[error("the mailbox, topic or segment was removed")]
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
    #[error("not supported")]
    NotSupported,
    #[error("no such ioctl")]
    NoSuchControl,
    #[error("operation not implemented")]
    NoSuchCall,
    #[error("no such attribute")]
    NoAttribute,
    #[error("too many links")]
    TooManyLinks,
    #[error("too many open files")]
    TooManyOpen,
    #[error("would deadlock")]
    Deadlock,
    #[error("too many locks")]
    NoLocks,
    #[error("the mount is ending")]
    Ending,
    #[error("malformed request")]
    Malformed,
    #[error("no message or request to act on")]
    NoMessage,
    #[error("in use, or a request is outstanding")]
    Busy,
    #[error("the client has closed its request")]
    Cancelled,
    #[error("the engine cannot be reached")]
    Unreachable,
    #[error("input/output error")]
    Io,
}

saved!(enum Error {
    0 = NotFound, 1 = Exists, 2 = IsFolder, 3 = NotFolder, 4 = NotEmpty, 5 = NameTooLong, 6 = BadName, 7 =
    KindRefused, 8 = OtherKind, 9 = NotPermitted, 10 = AccessDenied, 11 = Stale, 12 = BadDescriptor, 13 =
    TooLong, 14 = WouldWait, 15 = Interrupted, 16 = Removed, 17 = NoSpace, 18 = NoMemory, 19 = TooBig, 20
    = Invalid, 21 = Range, 22 = NoSuchOffset, 23 = NotSupported, 24 = NoSuchControl, 25 = NoSuchCall, 26 =
    NoAttribute, 27 = TooManyOpen, 28 = Deadlock, 29 = NoLocks, 30 = Ending, 31 = Malformed, 32 =
    NoMessage, 33 = Busy, 34 = Cancelled, 35 = Io, 36 = TooManyLinks, 37 =
    Unreachable,
});
