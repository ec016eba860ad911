//! The one table from the domain's errors to the kernel's numbers.

use rustix::io::Errno;

use crate::op::Error;

/// What a caller sees for `error`. Exhaustive: a new error has to be placed here.
#[allow(clippy::match_same_arms)] // each line has its own reason
pub(super) fn errno(error: Error) -> Errno {
    match error {
        Error::NotFound => Errno::NOENT,
        Error::Exists => Errno::EXIST,
        Error::IsFolder => Errno::ISDIR,
        Error::NotFolder => Errno::NOTDIR,
        Error::NotEmpty => Errno::NOTEMPTY,
        Error::NameTooLong => Errno::NAMETOOLONG,
        // What creat(2) gives for a name that the file system cannot have.
        Error::BadName => Errno::INVAL,
        // mknod(2), symlink(2) and link(2): "the filesystem does not support the type of node requested".
        Error::KindRefused | Error::NotPermitted => Errno::PERM,
        // As between two file systems, so that mv(1) falls back to copying or says that it cannot.
        Error::OtherKind => Errno::XDEV,
        Error::AccessDenied => Errno::ACCESS,
        Error::Stale => Errno::STALE,
        Error::BadDescriptor => Errno::BADF,
        // mq_send(3).
        Error::TooLong => Errno::MSGSIZE,
        // mq_send(3) and mq_receive(3) of an O_NONBLOCK queue; fcntl(2) of F_SETLK.
        Error::WouldWait => Errno::AGAIN,
        Error::Interrupted => Errno::INTR,
        // msgrcv(2) and msgsnd(2): "the message queue was removed".
        Error::Removed => Errno::IDRM,
        Error::NoSpace => Errno::NOSPC,
        Error::NoMemory => Errno::NOMEM,
        Error::TooBig => Errno::FBIG,
        Error::Invalid => Errno::INVAL,
        Error::Range => Errno::RANGE,
        // lseek(2) of SEEK_DATA and SEEK_HOLE.
        Error::NoSuchOffset => Errno::NXIO,
        Error::NotSupported => Errno::OPNOTSUPP,
        // The kernel remembers it and does not ask again.
        Error::NoSuchCall => Errno::NOSYS,
        Error::NoSuchControl => Errno::NOTTY,
        Error::NoAttribute => Errno::NODATA,
        Error::Deadlock => Errno::DEADLK,
        Error::NoLocks => Errno::NOLCK,
        // What the kernel itself says once the daemon is gone.
        Error::Ending => Errno::NOTCONN,
        // msgrcv(2): "no message of the desired type"; here: none that could be settled or answered.
        Error::NoMessage => Errno::NOMSG,
        Error::Busy => Errno::BUSY,
        Error::Cancelled => Errno::CANCELED,
        Error::Malformed | Error::Io => Errno::IO,
    }
}
