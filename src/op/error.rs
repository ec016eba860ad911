//! Why a request fails.

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
    #[error("nothing of the kind is in hand")]
    NoMessage,
    #[error("something is in hand already")]
    Busy,
    #[error("whoever asked is gone")]
    Cancelled,
    #[error("input/output error")]
    Io,
}
