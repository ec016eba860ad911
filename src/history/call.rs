//! The calls of a tree, as bytes.

use crate::codec::{Reader, Writer};
use crate::op::{
    Caller, CopyRange, Error, Fh, LockCall, LockKind, LockOwner, Moment, NodeId, Now, Op, OpenFlags,
    PollEvents, PollHandle, Poller, RenameHow, Request, RequestId, SetAttr, Whence,
};
use crate::state::{alone, restored_alone};

/// A call of a tree.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call<'a> {
    Handle(&'a Request<'a>),
    Cancel(u64, Error),
    Expire(Moment),
    End,
    Tick,
    Work,
}

/// A call that was made.
#[derive(Debug, PartialEq)]
pub(super) enum Made<'a> {
    Handle(Request<'a>),
    Cancel(u64, Error),
    Expire(Moment),
    End,
    Tick,
    Work,
}

const HANDLE: u8 = 0;
const CANCEL: u8 = 1;
const EXPIRE: u8 = 2;
const END: u8 = 3;
const TICK: u8 = 4;
const WORK: u8 = 5;

/// Appends a call and its time. What is returned comes after it.
pub(super) fn save<'a>(call: &Call<'a>, now: Now, to: &mut Vec<u8>) -> &'a [u8] {
    let mut to = Writer(to);
    to.time(now.wall).raw(&now.moment.0.to_le_bytes());
    match call {
        Call::Handle(request) => {
            to.u8(HANDLE);
            return save_request(request, &mut to);
        }
        Call::Cancel(unique, error) => {
            to.u8(CANCEL).number(*unique).raw(&alone(error));
        }
        Call::Expire(limit) => {
            to.u8(EXPIRE).raw(&limit.0.to_le_bytes());
        }
        Call::End => {
            to.u8(END);
        }
        Call::Tick => {
            to.u8(TICK);
        }
        Call::Work => {
            to.u8(WORK);
        }
    }
    &[]
}

/// The call that these bytes are, and its time. `None` if they are none.
pub(super) fn restore(bytes: &[u8]) -> Option<(Made<'_>, Now)> {
    let mut from = Reader(bytes);
    let now = Now { wall: from.time()?, moment: moment(&mut from)? };
    let call = match from.u8()? {
        HANDLE => Made::Handle(restore_request(&mut from)?),
        CANCEL => Made::Cancel(from.number()?, restored_alone(from.take(from.0.len())?)?),
        EXPIRE => Made::Expire(moment(&mut from)?),
        END => Made::End,
        TICK => Made::Tick,
        WORK => Made::Work,
        _ => return None,
    };
    from.0.is_empty().then_some((call, now))
}

fn moment(from: &mut Reader<'_>) -> Option<Moment> {
    Some(Moment(i64::from_le_bytes(from.take(8)?.try_into().ok()?)))
}

fn save_request<'a>(request: &Request<'a>, to: &mut Writer<'_>) -> &'a [u8] {
    let Request { request_id, node, caller, op } = request;
    to.number(request_id.unique).raw(&request_id.reply_path.to_le_bytes()).number(request_id.pid);
    to.number(node.0).caller(*caller);
    match op {
        Op::Lookup { name } => (to.u8(0), *name).1,
        Op::Forget(items) => {
            to.u8(1).number(items.len() as u64);
            for (node, count) in items {
                to.number(node.0).number(*count);
            }
            &[]
        }
        Op::Getattr => (to.u8(2), NOTHING).1,
        Op::Setattr(set) => (to.u8(3).raw(&alone(set)), NOTHING).1,
        Op::Mknod { name, mode } => (to.u8(4).number(*mode), *name).1,
        Op::Mkdir { name, mode } => (to.u8(5).number(*mode), *name).1,
        Op::Link { file, name } => (to.u8(6).number(file.0), *name).1,
        Op::Symlink { name, target } => (to.u8(7).bytes(name), *target).1,
        Op::Readlink => (to.u8(8), NOTHING).1,
        Op::Unlink { name } => (to.u8(9), *name).1,
        Op::Rmdir { name } => (to.u8(10), *name).1,
        Op::Rename { name, new_parent, new_name, how } => {
            let how = match how {
                RenameHow::Replace => 0,
                RenameHow::NoReplace => 1,
                RenameHow::Exchange => 2,
            };
            (to.u8(11).u8(how).number(new_parent.0).bytes(name), *new_name).1
        }
        Op::Open(flags) => (to.u8(12).u8(open_flags(*flags)), NOTHING).1,
        Op::Create { name, mode, flags } => (to.u8(13).number(*mode).u8(open_flags(*flags)), *name).1,
        Op::Tmpfile { mode, flags } => (to.u8(14).number(*mode).u8(open_flags(*flags)), NOTHING).1,
        Op::Read { fh, offset, size, nonblock, direct } => {
            to.u8(15).number(fh.0).number(*offset).number(*size).u8(bits([*nonblock, *direct]));
            NOTHING
        }
        Op::Write { fh, offset, data, nonblock, append, page_cache, kill_suid } => {
            to.u8(16).number(fh.0).number(*offset).u8(bits([*nonblock, *append, *page_cache, *kill_suid]));
            data
        }
        Op::Flush { owner } => (to.u8(17).number(owner.0), NOTHING).1,
        Op::Release { fh } => (to.u8(18).number(fh.0), NOTHING).1,
        Op::Fsync => (to.u8(19), NOTHING).1,
        Op::Statfs => (to.u8(20), NOTHING).1,
        Op::Opendir => (to.u8(21), NOTHING).1,
        Op::Readdir { fh, offset, size } => (to.u8(22).number(fh.0).number(*offset).number(*size), NOTHING).1,
        Op::Releasedir { fh } => (to.u8(23).number(fh.0), NOTHING).1,
        Op::Setxattr { name, value, create, replace } => {
            (to.u8(24).u8(bits([*create, *replace])).bytes(name), *value).1
        }
        Op::Getxattr { name, size } => (to.u8(25).number(*size), *name).1,
        Op::Listxattr { size } => (to.u8(26).number(*size), NOTHING).1,
        Op::Removexattr { name } => (to.u8(27), *name).1,
        Op::Getlk(call) => (save_lock(call, to.u8(28)), NOTHING).1,
        Op::Setlk { lock, wait } => (save_lock(lock, to.u8(29).u8(u8::from(*wait))), NOTHING).1,
        Op::Poll { fh, arm, reads } => {
            let events = arm.map(|arm| arm.events).unwrap_or_default();
            to.u8(30).number(fh.0).u8(bits([*reads, arm.is_some(), events.input, events.output]));
            (to.number(arm.map_or(0, |arm| arm.handle.0)), NOTHING).1
        }
        Op::Fallocate { fh, offset, length, mode } => {
            (to.u8(31).number(fh.0).number(*offset).number(*length).number(*mode), NOTHING).1
        }
        Op::Lseek { fh, offset, whence } => {
            let hole = matches!(whence, Whence::Hole);
            (to.u8(32).number(fh.0).number(*offset).u8(u8::from(hole)), NOTHING).1
        }
        Op::CopyFileRange(CopyRange { from, from_offset, to: into, to_offset, length, long }) => {
            to.u8(33).number(from.0).number(*from_offset).number(into.0).number(*to_offset);
            (to.number(*length).u8(u8::from(*long)), NOTHING).1
        }
        Op::Interrupt { unique } => (to.u8(34).number(*unique), NOTHING).1,
        Op::Refuse(error) => (to.u8(35).raw(&alone(error)), NOTHING).1,
    }
}

const NOTHING: &[u8] = &[];

fn restore_request<'a>(from: &mut Reader<'a>) -> Option<Request<'a>> {
    let unique = from.number()?;
    let reply_path = u32::from_le_bytes(from.take(4)?.try_into().ok()?);
    let request_id = RequestId { unique, reply_path, pid: from.number()? };
    let (node, caller): (_, Caller) = (NodeId(from.number()?), from.caller()?);
    let op = match from.u8()? {
        0 => Op::Lookup { name: rest(from) },
        1 => {
            let count: u32 = from.number()?;
            Op::Forget(
                (0..count).map(|_| Some((NodeId(from.number()?), from.number()?))).collect::<Option<_>>()?,
            )
        }
        2 => Op::Getattr,
        3 => Op::Setattr(restored_alone::<SetAttr>(rest(from))?),
        4 => Op::Mknod { mode: from.number()?, name: rest(from) },
        5 => Op::Mkdir { mode: from.number()?, name: rest(from) },
        6 => Op::Link { file: NodeId(from.number()?), name: rest(from) },
        7 => Op::Symlink { name: from.bytes()?, target: rest(from) },
        8 => Op::Readlink,
        9 => Op::Unlink { name: rest(from) },
        10 => Op::Rmdir { name: rest(from) },
        11 => {
            let how = match from.u8()? {
                0 => RenameHow::Replace,
                1 => RenameHow::NoReplace,
                2 => RenameHow::Exchange,
                _ => return None,
            };
            let new_parent = NodeId(from.number()?);
            Op::Rename { new_parent, name: from.bytes()?, new_name: rest(from), how }
        }
        12 => Op::Open(flags_of(from.u8()?)),
        13 => Op::Create { mode: from.number()?, flags: flags_of(from.u8()?), name: rest(from) },
        14 => Op::Tmpfile { mode: from.number()?, flags: flags_of(from.u8()?) },
        15 => {
            let (fh, offset, size) = (Fh(from.number()?), from.number()?, from.number()?);
            let [nonblock, direct] = bools(from.u8()?);
            Op::Read { fh, offset, size, nonblock, direct }
        }
        16 => {
            let (fh, offset) = (Fh(from.number()?), from.number()?);
            let [nonblock, append, page_cache, kill_suid] = bools(from.u8()?);
            Op::Write { fh, offset, nonblock, append, page_cache, kill_suid, data: rest(from) }
        }
        17 => Op::Flush { owner: LockOwner(from.number()?) },
        18 => Op::Release { fh: Fh(from.number()?) },
        19 => Op::Fsync,
        20 => Op::Statfs,
        21 => Op::Opendir,
        22 => Op::Readdir { fh: Fh(from.number()?), offset: from.number()?, size: from.number()? },
        23 => Op::Releasedir { fh: Fh(from.number()?) },
        24 => {
            let [create, replace] = bools(from.u8()?);
            Op::Setxattr { create, replace, name: from.bytes()?, value: rest(from) }
        }
        25 => Op::Getxattr { size: from.number()?, name: rest(from) },
        26 => Op::Listxattr { size: from.number()? },
        27 => Op::Removexattr { name: rest(from) },
        28 => Op::Getlk(restore_lock(from)?),
        29 => {
            let wait = from.u8()? != 0;
            Op::Setlk { lock: restore_lock(from)?, wait }
        }
        30 => {
            let fh = Fh(from.number()?);
            let [reads, armed, input, output] = bools(from.u8()?);
            let handle = PollHandle(from.number()?);
            let arm = armed.then_some(Poller { handle, events: PollEvents { input, output } });
            Op::Poll { fh, arm, reads }
        }
        31 => {
            let (fh, offset, length) = (Fh(from.number()?), from.number()?, from.number()?);
            Op::Fallocate { fh, offset, length, mode: from.number()? }
        }
        32 => {
            let (fh, offset) = (Fh(from.number()?), from.number()?);
            let whence = if from.u8()? == 0 { Whence::Data } else { Whence::Hole };
            Op::Lseek { fh, offset, whence }
        }
        33 => Op::CopyFileRange(CopyRange {
            from: Fh(from.number()?),
            from_offset: from.number()?,
            to: Fh(from.number()?),
            to_offset: from.number()?,
            length: from.number()?,
            long: from.u8()? != 0,
        }),
        34 => Op::Interrupt { unique: from.number()? },
        35 => Op::Refuse(restored_alone(rest(from))?),
        _ => return None,
    };
    Some(Request { request_id, node, caller, op })
}

/// All that is left.
fn rest<'a>(from: &mut Reader<'a>) -> &'a [u8] {
    std::mem::take(&mut from.0)
}

fn bits<const N: usize>(bools: [bool; N]) -> u8 {
    bools.iter().rev().fold(0, |bits, bit| bits << 1 | u8::from(*bit))
}

fn bools<const N: usize>(bits: u8) -> [bool; N] {
    std::array::from_fn(|number| bits >> number & 1 != 0)
}

fn open_flags(flags: OpenFlags) -> u8 {
    let OpenFlags { read, write, append, truncate, exclusive, no_follow, kill_suid } = flags;
    bits([read, write, append, truncate, exclusive, no_follow, kill_suid])
}

fn flags_of(number: u8) -> OpenFlags {
    let [read, write, append, truncate, exclusive, no_follow, kill_suid] = bools(number);
    OpenFlags { read, write, append, truncate, exclusive, no_follow, kill_suid }
}

fn save_lock(call: &LockCall, to: &mut Writer<'_>) {
    let LockCall { fh, owner, pid, flock, kind, start, end } = *call;
    let kind = match kind {
        LockKind::Shared => 0,
        LockKind::Exclusive => 1,
        LockKind::Unlock => 2,
    };
    to.number(fh.0).number(owner.0).number(pid).u8(u8::from(flock)).u8(kind).number(start).number(end);
}

fn restore_lock(from: &mut Reader<'_>) -> Option<LockCall> {
    let (fh, owner, pid) = (Fh(from.number()?), LockOwner(from.number()?), from.number()?);
    let flock = from.u8()? != 0;
    let kind = match from.u8()? {
        0 => LockKind::Shared,
        1 => LockKind::Exclusive,
        2 => LockKind::Unlock,
        _ => return None,
    };
    Some(LockCall { fh, owner, pid, flock, kind, start: from.number()?, end: from.number()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Timestamp;

    #[test]
    fn each_call_is_made_again_from_its_bytes() {
        let (fh, name, offset) = (Fh(300), &b"name"[..], 1 << 40);
        let flags = OpenFlags { read: true, append: true, kill_suid: true, ..OpenFlags::default() };
        let lock = LockCall {
            fh,
            owner: LockOwner(u64::MAX),
            pid: 7,
            flock: true,
            kind: LockKind::Unlock,
            start: 0,
            end: u64::MAX,
        };
        let poller = Poller { handle: PollHandle(9), events: PollEvents { input: false, output: true } };
        let set = SetAttr { fh: Some(fh), size: Some(0), ..SetAttr::default() };
        let copy =
            CopyRange { from: fh, from_offset: 1, to: Fh(2), to_offset: offset, length: 3, long: true };
        let ops = vec![
            Op::Lookup { name },
            Op::Forget(vec![(NodeId(1), 2), (NodeId(u64::MAX), 1)]),
            Op::Getattr,
            Op::Setattr(set),
            Op::Mknod { name, mode: 0o100_644 },
            Op::Mkdir { name, mode: 0o755 },
            Op::Link { file: NodeId(5), name },
            Op::Symlink { name, target: b"to" },
            Op::Readlink,
            Op::Unlink { name },
            Op::Rmdir { name },
            Op::Rename { name, new_parent: NodeId(4), new_name: b"other", how: RenameHow::Exchange },
            Op::Open(flags),
            Op::Create { name, mode: 0o644, flags },
            Op::Tmpfile { mode: 0o644, flags },
            Op::Read { fh, offset, size: 4096, nonblock: true, direct: false },
            Op::Write {
                fh,
                offset,
                data: b"text",
                nonblock: false,
                append: true,
                page_cache: false,
                kill_suid: true,
            },
            Op::Flush { owner: LockOwner(3) },
            Op::Release { fh },
            Op::Fsync,
            Op::Statfs,
            Op::Opendir,
            Op::Readdir { fh, offset, size: 5 },
            Op::Releasedir { fh },
            Op::Setxattr { name, value: b"value", create: false, replace: true },
            Op::Getxattr { name, size: 9 },
            Op::Listxattr { size: 9 },
            Op::Removexattr { name },
            Op::Getlk(lock),
            Op::Setlk { lock, wait: true },
            Op::Poll { fh, arm: Some(poller), reads: false },
            Op::Poll { fh, arm: None, reads: true },
            Op::Fallocate { fh, offset, length: 9, mode: 3 },
            Op::Lseek { fh, offset, whence: Whence::Hole },
            Op::CopyFileRange(copy),
            Op::Interrupt { unique: 8 },
            Op::Refuse(Error::NoSuchCall),
        ];
        let now = Now { wall: Timestamp(77), moment: Moment(-5) };
        let again = |call: &Call<'_>, made: Made<'_>| {
            let mut bytes = Vec::new();
            let rest = save(call, now, &mut bytes);
            bytes.extend_from_slice(rest);
            assert_eq!(restore(&bytes), Some((made, now)));
        };
        for op in ops {
            let request_id = RequestId { unique: 1 << 50, reply_path: 1 << 31, pid: 12 };
            let caller = Caller { uid: 1000, gid: 0, pid: 12 };
            let request = Request { request_id, node: NodeId(1), caller, op };
            again(&Call::Handle(&request), Made::Handle(request.clone()));
        }
        again(&Call::Cancel(4, Error::Interrupted), Made::Cancel(4, Error::Interrupted));
        again(&Call::Expire(Moment(5)), Made::Expire(Moment(5)));
        again(&Call::End, Made::End);
        again(&Call::Tick, Made::Tick);
        again(&Call::Work, Made::Work);
        assert_eq!(restore(&[0; 17]), None);
    }
}
