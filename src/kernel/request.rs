//! Decodes bytes from the device or from a ring's entry into a [`Request`]. Any bytes give a request or an error, and the error
//! says which request to answer, if that is known.

use libc::{O_ACCMODE, O_APPEND, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::abi::{self, fattr, opcode};
use crate::op::{
    Caller, CopyRange, Error, Fh, FileTime, LockCall, LockKind, LockOwner, NodeId, Op, OpenFlags, PollEvents,
    PollHandle, Poller, RenameHow, Request, RequestId, SetAttr, SetTime, Whence,
};

/// Why bytes are not a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// There is no complete header, so nobody can be answered.
    NoHeader,
    /// The body does not match the header. The request must be answered with an error.
    Malformed(RequestId),
    /// As `Malformed`, but the operation takes no answer.
    Unanswerable,
}

/// The kernel's number of a request, from its header. 0, which no request has, if the header is incomplete.
pub(super) fn unique(header: &[u8]) -> u64 {
    abi::InHeader::read_from_prefix(header).map_or(0, |(header, _)| header.unique)
}

/// The FORGET that is in a buffer, if one is.
pub(super) fn forget_of(buffer: &[u8]) -> Option<&[u8]> {
    let (header, _) = abi::InHeader::read_from_prefix(buffer).ok()?;
    let is_forget = matches!(header.opcode, opcode::FORGET | opcode::BATCH_FORGET);
    buffer.get(..header.len as usize).filter(|_| is_forget)
}

/// The node that a request is for and the thread that made it, from its header.
pub(super) fn origin(header: &[u8]) -> Option<(NodeId, u32)> {
    let (header, _) = abi::InHeader::read_from_prefix(header).ok()?;
    Some((NodeId(header.nodeid), header.pid))
}

/// Decodes one request as read from the device: header and body in one piece.
///
/// # Errors
/// [`DecodeError`] if the bytes are cut short or contradict each other.
pub fn decode(bytes: &[u8], reply_path: u32) -> Result<Request<'_>, DecodeError> {
    let (header, body) = abi::InHeader::read_from_prefix(bytes).map_err(|_| DecodeError::NoHeader)?;
    decode_body(&header, header.len as usize == bytes.len(), Body { first: &[], rest: body }, reply_path)
}

/// Decodes one request as a ring's entry carries it. `operation` is the whole space for the fixed argument, of which a part
/// may be used; `payload` is the variable part.
///
/// # Errors
/// As [`decode`].
pub fn decode_entry<'a>(
    header: &[u8],
    operation: &'a [u8],
    payload: &'a [u8],
    reply_path: u32,
) -> Result<Request<'a>, DecodeError> {
    let (header, _) = abi::InHeader::read_from_prefix(header).map_err(|_| DecodeError::NoHeader)?;
    let fixed = (header.len as usize).checked_sub(size_of::<abi::InHeader>() + payload.len());
    let first = fixed.and_then(|length| operation.get(..length));
    decode_body(
        &header,
        first.is_some(),
        Body { first: first.unwrap_or_default(), rest: payload },
        reply_path,
    )
}

fn decode_body<'a>(
    header: &abi::InHeader,
    fits: bool,
    mut body: Body<'a>,
    reply_path: u32,
) -> Result<Request<'a>, DecodeError> {
    let request_id = RequestId { unique: header.unique, reply_path, pid: header.pid };
    let answered = !matches!(header.opcode, opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT);
    let malformed = if answered { DecodeError::Malformed(request_id) } else { DecodeError::Unanswerable };
    // The kernel may append extensions. They are not needed here.
    let extensions = header.total_extlen as usize * 8;
    let end = body.rest.len().checked_sub(extensions).filter(|_| fits).ok_or(malformed)?;
    body.rest = body.rest.get(..end).ok_or(malformed)?;
    let node = NodeId(header.nodeid);
    let op = decode_op(header.opcode, node, body).ok_or(malformed)?;
    let caller = Caller { uid: header.uid, gid: header.gid, pid: header.pid };
    Ok(Request { request_id, node, caller, op })
}

fn decode_op(code: u32, node: NodeId, mut body: Body<'_>) -> Option<Op<'_>> {
    Some(match code {
        opcode::LOOKUP => Op::Lookup { name: body.name()? },
        opcode::FORGET => Op::Forget(vec![(node, body.take::<abi::ForgetIn>()?.nlookup)]),
        opcode::BATCH_FORGET => {
            let count = body.take::<abi::BatchForgetIn>()?.count;
            let items = (0..count).map_while(|_| body.take::<abi::ForgetOne>());
            Op::Forget(items.map(|item| (NodeId(item.nodeid), item.nlookup)).collect())
        }
        opcode::GETATTR => Op::Getattr,
        opcode::SETATTR => Op::Setattr(set_attr(&body.take()?)),
        opcode::MKNOD => {
            let arg: abi::MknodIn = body.take()?;
            Op::Mknod { name: body.name()?, mode: arg.mode }
        }
        opcode::MKDIR => {
            let arg: abi::MkdirIn = body.take()?;
            Op::Mkdir { name: body.name()?, mode: arg.mode }
        }
        opcode::UNLINK => Op::Unlink { name: body.name()? },
        opcode::RMDIR => Op::Rmdir { name: body.name()? },
        opcode::RENAME => {
            let arg: abi::RenameIn = body.take()?;
            rename(&mut body, NodeId(arg.newdir), 0)?
        }
        opcode::RENAME2 => {
            let arg: abi::Rename2In = body.take()?;
            rename(&mut body, NodeId(arg.newdir), arg.flags)?
        }
        opcode::SYMLINK => Op::Symlink { name: body.name()?, target: body.name()? },
        opcode::READLINK => Op::Readlink,
        opcode::LINK => {
            let arg: abi::LinkIn = body.take()?;
            Op::Link { file: NodeId(arg.oldnodeid), name: body.name()? }
        }
        opcode::OPEN => {
            let arg: abi::OpenIn = body.take()?;
            Op::Open(open_flags(arg.flags, arg.open_flags))
        }
        opcode::CREATE => {
            let arg: abi::CreateIn = body.take()?;
            Op::Create { name: body.name()?, mode: arg.mode, flags: open_flags(arg.flags, arg.open_flags) }
        }
        opcode::TMPFILE => {
            let arg: abi::CreateIn = body.take()?;
            Op::Tmpfile { mode: arg.mode, flags: open_flags(arg.flags, arg.open_flags) }
        }
        opcode::READ => {
            let arg: abi::ReadIn = body.take()?;
            Op::Read {
                fh: Fh(arg.fh),
                offset: arg.offset,
                size: arg.size,
                nonblock: has(arg.flags, O_NONBLOCK),
                direct: arg.read_flags & abi::READ_LOCKOWNER != 0,
            }
        }
        opcode::WRITE => {
            let arg: abi::WriteIn = body.take()?;
            Op::Write {
                fh: Fh(arg.fh),
                offset: arg.offset,
                data: body.rest.get(..arg.size as usize)?,
                nonblock: has(arg.flags, O_NONBLOCK),
                append: has(arg.flags, O_APPEND),
                page_cache: arg.write_flags & abi::WRITE_CACHE != 0,
                kill_suid: arg.write_flags & abi::WRITE_KILL_SUIDGID != 0,
            }
        }
        opcode::STATFS => Op::Statfs,
        opcode::RELEASE => Op::Release { fh: Fh(body.take::<abi::ReleaseIn>()?.fh) },
        opcode::FLUSH => Op::Flush { owner: LockOwner(body.take::<abi::FlushIn>()?.lock_owner) },
        // There is no storage to write to, and DESTROY needs no clean-up.
        opcode::FSYNC | opcode::FSYNCDIR | opcode::DESTROY => Op::Fsync,
        opcode::SETXATTR => set_xattr(&mut body)?,
        opcode::GETXATTR => {
            let size = body.take::<abi::GetxattrIn>()?.size;
            Op::Getxattr { name: body.name()?, size }
        }
        opcode::LISTXATTR => Op::Listxattr { size: body.take::<abi::GetxattrIn>()?.size },
        opcode::REMOVEXATTR => Op::Removexattr { name: body.name()? },
        opcode::OPENDIR => Op::Opendir,
        opcode::READDIR => {
            let arg: abi::ReadIn = body.take()?;
            Op::Readdir { fh: Fh(arg.fh), offset: arg.offset, size: arg.size }
        }
        opcode::RELEASEDIR => Op::Releasedir { fh: Fh(body.take::<abi::ReleaseIn>()?.fh) },
        opcode::GETLK => Op::Getlk(lock_call(&body.take()?)?),
        opcode::SETLK => Op::Setlk { lock: lock_call(&body.take()?)?, wait: false },
        opcode::SETLKW => Op::Setlk { lock: lock_call(&body.take()?)?, wait: true },
        opcode::INTERRUPT => Op::Interrupt { unique: body.take::<abi::InterruptIn>()?.unique },
        opcode::POLL => {
            let arg: abi::PollIn = body.take()?;
            let waits_for = |events: u32| arg.events & events != 0;
            let events =
                PollEvents { input: waits_for(abi::POLL_INPUT), output: waits_for(abi::POLL_OUTPUT) };
            let poller = Poller { handle: PollHandle(arg.kh), events };
            let arm = (arg.flags & abi::POLL_SCHEDULE_NOTIFY != 0).then_some(poller);
            // poll(2), select(2) and epoll(7) ask for errors as well, always.
            let reads = arm.is_none() && arg.events == libc::POLLIN as u32;
            Op::Poll { fh: Fh(arg.fh), arm, reads }
        }
        opcode::FALLOCATE => {
            let arg: abi::FallocateIn = body.take()?;
            Op::Fallocate { fh: Fh(arg.fh), offset: arg.offset, length: arg.length, mode: arg.mode }
        }
        opcode::LSEEK => {
            let arg: abi::LseekIn = body.take()?;
            match arg.whence as i32 {
                libc::SEEK_DATA => Op::Lseek { fh: Fh(arg.fh), offset: arg.offset, whence: Whence::Data },
                libc::SEEK_HOLE => Op::Lseek { fh: Fh(arg.fh), offset: arg.offset, whence: Whence::Hole },
                _ => Op::Refuse(Error::Invalid),
            }
        }
        // The 64-bit variant exists since Linux 6.18. Both must be supported: if two concurrent calls are told that one
        // variant is missing, the kernel considers the other missing too, and copies by itself from then on.
        opcode::COPY_FILE_RANGE | opcode::COPY_FILE_RANGE_64 => {
            let arg: abi::CopyFileRangeIn = body.take()?;
            Op::CopyFileRange(CopyRange {
                from: Fh(arg.fh_in),
                from_offset: arg.off_in,
                to: Fh(arg.fh_out),
                to_offset: arg.off_out,
                length: arg.len,
                long: code == opcode::COPY_FILE_RANGE_64,
            })
        }
        // ioctl(2): as for any file that is not a terminal.
        opcode::IOCTL => Op::Refuse(Error::NoSuchControl),
        opcode::NOTIFY_REPLY => Op::Forget(Vec::new()),
        _ => Op::Refuse(Error::NoSuchCall),
    })
}

/// The bytes after the header, consumed from the front.
struct Body<'a> {
    /// The fixed argument, if the transport keeps it separate.
    first: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    /// Takes a fixed-size structure.
    fn take<T: FromBytes + KnownLayout + Immutable>(&mut self) -> Option<T> {
        let part = if self.first.is_empty() { &mut self.rest } else { &mut self.first };
        let (value, rest) = T::read_from_prefix(part).ok()?;
        *part = rest;
        Some(value)
    }

    /// Takes the bytes up to a NUL, and the NUL.
    fn name(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == 0)?;
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest.get(1..)?;
        Some(name)
    }
}

fn has(flags: u32, flag: i32) -> bool {
    flags & flag as u32 != 0
}

fn open_flags(flags: u32, open_flags: u32) -> OpenFlags {
    let access = flags as i32 & O_ACCMODE;
    OpenFlags {
        read: access == O_RDONLY || access == O_RDWR,
        write: access == O_WRONLY || access == O_RDWR,
        append: has(flags, O_APPEND),
        truncate: has(flags, O_TRUNC),
        exclusive: has(flags, O_EXCL),
        no_follow: has(flags, O_NOFOLLOW),
        kill_suid: open_flags & abi::OPEN_KILL_SUIDGID != 0,
    }
}

fn set_attr(arg: &abi::SetattrIn) -> SetAttr {
    let given = |bit| arg.valid & bit != 0;
    let time = |bit, now_bit, seconds, nanos| match (given(bit), given(now_bit)) {
        (false, _) => None,
        (true, true) => Some(SetTime::Now),
        (true, false) => Some(SetTime::At(FileTime::new(seconds, nanos))),
    };
    SetAttr {
        fh: given(fattr::FH).then_some(Fh(arg.fh)),
        mode: given(fattr::MODE).then_some(arg.mode),
        uid: given(fattr::UID).then_some(arg.uid),
        gid: given(fattr::GID).then_some(arg.gid),
        size: given(fattr::SIZE).then_some(arg.size),
        atime: time(fattr::ATIME, fattr::ATIME_NOW, arg.atime, arg.atimensec),
        mtime: time(fattr::MTIME, fattr::MTIME_NOW, arg.mtime, arg.mtimensec),
        kill_suid: given(fattr::KILL_SUIDGID),
    }
}

fn rename<'a>(body: &mut Body<'a>, new_parent: NodeId, flags: u32) -> Option<Op<'a>> {
    let (name, new_name) = (body.name()?, body.name()?);
    let how = match flags {
        0 => RenameHow::Replace,
        libc::RENAME_NOREPLACE => RenameHow::NoReplace,
        libc::RENAME_EXCHANGE => RenameHow::Exchange,
        // RENAME_WHITEOUT, which overlay file systems use on their lower layers.
        _ => return Some(Op::Refuse(Error::Invalid)),
    };
    Some(Op::Rename { name, new_parent, new_name, how })
}

fn set_xattr<'a>(body: &mut Body<'a>) -> Option<Op<'a>> {
    let arg: abi::SetxattrIn = body.take()?;
    let name = body.name()?;
    let value = body.rest.get(..arg.size as usize)?;
    let create = has(arg.flags, libc::XATTR_CREATE);
    Some(Op::Setxattr { name, value, create, replace: has(arg.flags, libc::XATTR_REPLACE) })
}

fn lock_call(arg: &abi::LkIn) -> Option<LockCall> {
    let kind = match arg.kind as i32 {
        libc::F_RDLCK => LockKind::Shared,
        libc::F_WRLCK => LockKind::Exclusive,
        libc::F_UNLCK => LockKind::Unlock,
        _ => return None,
    };
    let flock = arg.lk_flags & abi::LK_FLOCK != 0;
    let (fh, owner, pid) = (Fh(arg.fh), LockOwner(arg.owner), arg.pid);
    Some(LockCall { fh, owner, pid, flock, kind, start: arg.start, end: arg.end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    fn bytes(code: u32, parts: &[&[u8]]) -> Vec<u8> {
        let len = 40 + parts.iter().map(|part| part.len()).sum::<usize>();
        let header = abi::InHeader {
            len: len as u32,
            opcode: code,
            unique: 6,
            nodeid: 2,
            uid: 1000,
            gid: 100,
            pid: 7,
            total_extlen: 0,
            padding: 0,
        };
        let mut all = header.as_bytes().to_vec();
        for part in parts {
            all.extend_from_slice(part);
        }
        all
    }

    #[test]
    fn a_request_is_decoded() {
        let all = bytes(opcode::LOOKUP, &[b"box\0"]);
        let request = decode(&all, 3).unwrap();
        assert_eq!(request.request_id, RequestId { unique: 6, reply_path: 3, pid: 7 });
        assert_eq!(request.caller, Caller { uid: 1000, gid: 100, pid: 7 });
        assert_eq!(request.op, Op::Lookup { name: b"box" });
    }

    #[test]
    fn truncated_requests_give_an_error() {
        let write =
            abi::WriteIn { fh: 1, offset: 0, size: 10, write_flags: 0, lock_owner: 0, flags: 0, padding: 0 };
        let all = bytes(opcode::WRITE, &[write.as_bytes(), b"short"]);
        assert_eq!(
            decode(&all, 0),
            Err(DecodeError::Malformed(RequestId { unique: 6, reply_path: 0, pid: 7 }))
        );
        assert_eq!(
            decode(&bytes(opcode::LOOKUP, &[b"no end"]), 0).unwrap_err(),
            DecodeError::Malformed(RequestId { unique: 6, reply_path: 0, pid: 7 })
        );
        assert_eq!(decode(&bytes(opcode::FORGET, &[]), 0), Err(DecodeError::Unanswerable));
        assert_eq!(decode(b"tiny", 0), Err(DecodeError::NoHeader));
    }

    /// The same request as an entry of a ring carries it, with arbitrary bytes after the fixed argument.
    fn entry(code: u32, fixed: &[u8], payload: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let header = bytes(code, &[fixed, payload]).drain(..40).collect();
        let mut operation = fixed.to_vec();
        operation.resize(128, 0xff);
        (header, operation)
    }

    #[test]
    fn an_entry_is_decoded_like_bytes_of_the_device() {
        let write =
            abi::WriteIn { fh: 1, offset: 0, size: 4, write_flags: 0, lock_owner: 0, flags: 0, padding: 0 };
        let mknod = abi::MknodIn { mode: 0o100_644, rdev: 0, umask: 0, padding: 0 };
        let cases: [(u32, &[u8], &[u8]); 4] = [
            (opcode::WRITE, write.as_bytes(), b"body"),
            (opcode::MKNOD, mknod.as_bytes(), b"box\0"),
            (opcode::LOOKUP, &[], b"box\0"),
            (opcode::STATFS, &[], &[]),
        ];
        for (code, fixed, payload) in cases {
            let (header, operation) = entry(code, fixed, payload);
            let whole = bytes(code, &[fixed, payload]);
            assert_eq!(decode_entry(&header, &operation, payload, 0), decode(&whole, 0), "{code}");
        }
    }

    #[test]
    fn an_inconsistent_entry_gives_an_error() {
        let (header, operation) = entry(opcode::LOOKUP, &[], b"box\0");
        let malformed = Err(DecodeError::Malformed(RequestId { unique: 6, reply_path: 0, pid: 7 }));
        assert_eq!(decode_entry(&header, &operation, b"a longer payload than said\0", 0), malformed);
        assert_eq!(decode_entry(&header, &operation, b"box", 0), malformed, "a name without a NUL");
        assert_eq!(decode_entry(&header, &[], b"", 0), malformed);
        assert_eq!(decode_entry(&header[..39], &operation, b"box\0", 0), Err(DecodeError::NoHeader));
    }

    #[test]
    fn an_unknown_operation_is_refused() {
        let all = bytes(4711, &[]);
        assert_eq!(decode(&all, 0).unwrap().op, Op::Refuse(Error::NoSuchCall));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_request_or_an_error(body in proptest::collection::vec(any::<u8>(), 0..300), code in 0u32..60) {
            let _ = decode(&body, 0);
            let _ = decode(&bytes(code, &[&body]), 0);
            let _ = decode_entry(&body, &body, &body, 0);
            let _ = decode_entry(&bytes(code, &[&body]), &body, &body, 0);
        }
    }
}
