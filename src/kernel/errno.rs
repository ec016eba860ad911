//! The only table that converts the domain's errors to errno numbers.

use rustix::io::Errno;

use crate::op::Error;

/// The errno that a caller sees for `error`. The match is exhaustive, so a new error must be added here.
#[allow(clippy::match_same_arms)] // each arm has its own reason
pub(super) fn errno(error: Error) -> Errno {
    match error {
        Error::NotFound => Errno::NOENT,
        Error::Exists => Errno::EXIST,
        Error::IsFolder => Errno::ISDIR,
        Error::NotFolder => Errno::NOTDIR,
        Error::NotEmpty => Errno::NOTEMPTY,
        Error::NameTooLong => Errno::NAMETOOLONG,
        // creat(2), for a name that the file system does not allow.
        Error::BadName => Errno::INVAL,
        // mknod(2), symlink(2) and link(2): "the filesystem does not support the type of node requested".
        Error::KindRefused | Error::NotPermitted => Errno::PERM,
        // As between two file systems: mv(1) then copies, or reports that it cannot.
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
        // The kernel remembers this and does not send the operation again.
        Error::NoSuchCall => Errno::NOSYS,
        Error::NoSuchControl => Errno::NOTTY,
        Error::NoAttribute => Errno::NODATA,
        Error::TooManyLinks => Errno::MLINK,
        Error::TooManyOpen => Errno::MFILE,
        Error::Deadlock => Errno::DEADLK,
        Error::NoLocks => Errno::NOLCK,
        // What the kernel itself returns once the daemon has ended.
        Error::Ending => Errno::NOTCONN,
        // msgrcv(2): "no message of the desired type". Here: no message that could be settled or answered.
        Error::NoMessage => Errno::NOMSG,
        Error::Busy => Errno::BUSY,
        Error::Cancelled => Errno::CANCELED,
        // connect(2): what all hosts shall know cannot be told to them.
        Error::Unreachable => Errno::HOSTUNREACH,
        Error::Malformed | Error::Io => Errno::IO,
    }
}
