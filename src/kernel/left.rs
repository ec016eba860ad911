//! Requests that a process has left unanswered that was killed. The kernel has them all, and nobody who calls notices anything
//! but the time: they are handled again, in the order in which they were made.
//!
//! Over `/dev/fuse`, the kernel is asked to send again what was read and not answered (`FUSE_NOTIFY_RESEND`, Linux 6.9). The
//! numbers of such requests have a bit more. Over rings, they are in the memory of their entries, which is as it was.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use zerocopy::IntoBytes as _;

use super::abi::RESENT_BIT;
use super::read_buffer::ReadBuffer;
use super::reply_path::ReplyPath;
use super::request::{self, DecodeError};
use super::transport::{NoResponder, Transport, now};
use crate::op::{Caller, Effects, Error, NodeId, Op, PollHandle, Reply, Request, RequestId};
use crate::sys::fuse_ring::{OPERATION, Slot};

/// A request as it came.
#[derive(Debug)]
pub struct LeftRequest {
    pub(super) unique: u64,
    bytes: Bytes,
    /// The buffer that it is kept in, if it is a FORGET.
    buffer: Option<usize>,
}

#[derive(Debug)]
enum Bytes {
    /// Read from the first descriptor of the device.
    Device(Vec<u8>),
    /// From an entry.
    Entry { ring: u32, slot: Slot, headers: Vec<u8>, payload: Vec<u8> },
}

impl LeftRequest {
    /// The one in an entry of a ring.
    pub(super) fn in_entry(ring: u32, slot: Slot, headers: &[u8], payload: &[u8]) -> LeftRequest {
        let (headers, payload) = (headers.to_vec(), payload.to_vec());
        LeftRequest {
            unique: request::unique(&headers),
            bytes: Bytes::Entry { ring, slot, headers, payload },
            buffer: None,
        }
    }

    /// One read from the device.
    fn of_device(bytes: &[u8], buffer: Option<usize>) -> LeftRequest {
        LeftRequest { unique: request::unique(bytes), bytes: Bytes::Device(bytes.to_vec()), buffer }
    }

    /// Its number when it came first.
    pub fn place(&self) -> u64 {
        self.unique & !RESENT_BIT
    }

    fn decode(&self) -> Result<Request<'_>, DecodeError> {
        let reply_path = self.reply_path();
        match &self.bytes {
            Bytes::Device(bytes) => request::decode(bytes, reply_path),
            Bytes::Entry { headers, payload, .. } => {
                let (header, operation) = headers.split_at(OPERATION.min(headers.len()));
                request::decode_entry(header, operation, payload, reply_path)
            }
        }
    }

    fn reply_path(&self) -> u32 {
        match &self.bytes {
            Bytes::Device(_) => ReplyPath::Device(0).into(),
            Bytes::Entry { ring, slot, .. } => ReplyPath::Entry { ring: *ring, slot: *slot }.into(),
        }
    }

    /// Whether the kernel waits for an answer, apart from the entry.
    fn has_answer(&self) -> bool {
        match self.decode() {
            Ok(request) => !matches!(request.op, Op::Forget(_) | Op::Interrupt { .. }),
            Err(error) => matches!(error, DecodeError::Malformed(_)),
        }
    }
}

/// Leaves out the FORGETs that are among those `written` down.
pub fn leave_out(left: &mut Vec<LeftRequest>, written: &BTreeSet<u64>, buffers: &mut [ReadBuffer]) {
    left.retain(|left| {
        let buffer = left.buffer.filter(|_| written.contains(&left.unique));
        let buffer = buffer.and_then(|index| buffers.get_mut(index));
        buffer.map(|buffer| buffer.written(left.unique)).is_none()
    });
}

/// Has the kernel send again what another process has read from the devices and not answered, and reads all that there is. The
/// process is gone; but all of its descriptors must be open yet, here or elsewhere. A FORGET is not sent again: it is in one of the
/// `buffers` that the process has left, and stays there until it is written down.
///
/// # Errors
/// EINVAL on kernels before Linux 6.9; those of reading the device.
pub fn read_again(devices: &[Arc<OwnedFd>], buffers: &mut [ReadBuffer]) -> io::Result<Vec<LeftRequest>> {
    let device = devices.first().ok_or(io::ErrorKind::NotFound)?;
    let resend = super::reply::encode_resend();
    retry_on_intr(|| rustix::io::write(device, resend.header.as_bytes()))?;
    let forgets = buffers.iter().enumerate().filter_map(|(index, buffer)| Some((buffer.forget()?, index)));
    let mut left: Vec<_> = forgets.map(|(bytes, index)| LeftRequest::of_device(bytes, Some(index))).collect();
    let mut other = ReadBuffer::new();
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        let mut polled = [PollFd::new(device, PollFlags::IN)];
        match poll(&mut polled, Some(&at_once)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !polled.iter().any(|polled| polled.revents().contains(PollFlags::IN)) {
            return Ok(left);
        }
        let free = buffers.iter().position(|buffer| buffer.forget().is_none());
        let buffer = free.and_then(|free| buffers.get_mut(free)).unwrap_or(&mut other);
        match buffer.read(device) {
            Ok(length) => {
                let index = free.filter(|_| buffer.forget().is_some());
                left.push(LeftRequest::of_device(buffer.bytes(length), index));
            }
            Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Transport {
    /// Sees to what was left, in the order in which it came first: gives the answers that were decided; lets those wait on that
    /// wait; handles the others. `stale` are nodes whose attributes the kernel must drop before, `wakes` pollers to wake; `held` is the generation of the history that tells all this. Must be
    /// called before any other request is handled.
    pub fn handle_left(
        &self,
        mut left: Vec<LeftRequest>,
        mut answers: BTreeMap<u64, (RequestId, Reply)>,
        stale: &[NodeId],
        wakes: Vec<PollHandle>,
        held: u8,
        buffers: &mut [ReadBuffer],
    ) {
        let mut fx = Effects::new();
        for node in stale {
            fx.invalidate_attr(*node);
        }
        self.perform(&mut fx, &mut NoResponder);
        left.sort_by_key(LeftRequest::place);
        let here: HashSet<u64> = left.iter().map(LeftRequest::place).collect();
        let waiting: HashSet<u64> = self.tree.tree().waiting().into_iter().collect();
        // Whoever was killed meanwhile must not be given anything.
        let mut gone: Vec<u64> = waiting.difference(&here).copied().collect();
        gone.sort_unstable();
        for unique in gone {
            self.end_wait(unique, Error::Interrupted, &mut fx, &mut NoResponder);
        }
        // All of them before any is handled, which may answer others.
        let answered: Vec<bool> = left.iter().map(LeftRequest::has_answer).collect();
        for (left, _) in left.iter().zip(&answered).filter(|(_, has_answer)| **has_answer) {
            self.resent.note(left.unique, 0);
        }
        for (left, has_answer) in left.iter().zip(answered) {
            if let Some((request_id, reply)) = answers.remove(&left.place()) {
                self.tree.leave_answer(held);
                fx.set_in_hand(Some(held));
                fx.reply(request_id, reply);
            } else if !waiting.contains(&left.place()) {
                let buffer = left.buffer.and_then(|index| buffers.get_mut(index));
                let written = || buffer.into_iter().for_each(|buffer| buffer.written(left.unique));
                self.handle_and(left.decode(), written, &mut fx);
                if !has_answer && matches!(left.bytes, Bytes::Entry { .. }) {
                    // The kernel needs an answer to get the entry back.
                    let request_id = RequestId { unique: left.unique, reply_path: left.reply_path(), pid: 0 };
                    fx.fail(request_id, Error::Malformed);
                }
            }
            self.perform(&mut fx, &mut NoResponder);
        }
        for handle in wakes {
            fx.wake(handle);
        }
        self.perform(&mut fx, &mut NoResponder);
        self.tree.given(held);
    }

    /// To be called when this daemon goes on over rings: some files may be open only because nobody could say that they are closed.
    pub fn look_for_unclosed(&self) {
        self.unclosed.begin();
    }

    /// Closes them.
    pub(super) fn close_unclosed(&self, fx: &mut Effects) {
        for fh in self.unclosed.look(|| self.tree.tree().unknown_to_kernel()) {
            log::info!("open file {} is closed: the kernel has forgotten it", fh.0);
            // The number of no request of the kernel's.
            let request_id = RequestId { unique: 0, reply_path: 0, pid: 0 };
            let op = Op::Release { fh };
            let request = Request { request_id, node: NodeId::ROOT, caller: Caller::default(), op };
            self.tree.handle(&request, now(), fx);
            fx.take_back(request_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};

    use super::super::abi::{InHeader, OutHeader, ReadIn, WriteIn, opcode};
    use super::*;
    use crate::config::Limits;
    use crate::history::Recorded;
    use crate::op::OpenFlags;
    use crate::sys::memfd::Memfd;
    use crate::tree::{Setup, Tree};

    fn tree() -> Tree {
        let setup = Setup {
            limits: Limits::for_machine(1 << 30),
            ceiling: 1 << 20,
            uid: 0,
            gid: 0,
            shared: false,
            backing: None,
            transport: "dev",
            scheduling: None,
            restart: None,
            threads: 1,
            descriptors: 1000,
            pid: 1,
            journal: None,
            engine: false,
        };
        Tree::new(setup, Arc::new(|| Ok(Arc::new(Memfd::new()?))), now())
    }

    fn ask(tree: &Tree, unique: u64, node: NodeId, op: Op<'_>) -> Option<Reply> {
        let request_id = RequestId { unique, reply_path: 0, pid: 1 };
        let mut fx = Effects::new();
        tree.handle(&Request { request_id, node, caller: Caller::default(), op }, now(), &mut fx);
        fx.drain().find_map(|effect| match effect {
            crate::op::Effect::Reply(_, reply) => Some(reply),
            _ => None,
        })
    }

    fn look_up(tree: &Tree, unique: u64, folder: NodeId, name: &[u8]) -> NodeId {
        let Some(Reply::Entry(entry)) = ask(tree, unique, folder, Op::Lookup { name }) else { panic!() };
        entry.node
    }

    fn resent(unique: u64, code: u32, node: NodeId, parts: [&[u8]; 2]) -> LeftRequest {
        let header = InHeader {
            len: (size_of::<InHeader>() + parts.concat().len()) as u32,
            opcode: code,
            unique: unique | RESENT_BIT,
            nodeid: node.0,
            uid: 0,
            gid: 0,
            pid: 1,
            total_extlen: 0,
            padding: 0,
        };
        let bytes = [header.as_bytes(), parts[0], parts[1]].concat();
        LeftRequest::of_device(&bytes, None)
    }

    #[test]
    fn a_request_that_waits_is_answered_by_an_older_one_that_was_not_handled() {
        let tree = tree();
        let folder = look_up(&tree, 2, NodeId::ROOT, b"mailboxes");
        ask(&tree, 4, folder, Op::Mknod { name: b"q", mode: 0o100_644 });
        let open = |unique, read| {
            let node = look_up(&tree, unique, folder, b"q");
            let flags = OpenFlags { read, write: true, ..OpenFlags::default() };
            let Some(Reply::Opened(opened)) = ask(&tree, unique + 2, node, Op::Open(flags)) else { panic!() };
            (node, opened.fh)
        };
        let ((to, writer), (from, reader)) = (open(6, false), open(10, true));
        let read = Op::Read { fh: reader, offset: 0, size: 100, nonblock: false, direct: true };
        assert_eq!(ask(&tree, 22, from, read), None, "it waits");
        let (kernel, device) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let (alarms, _alarms) = mpsc::channel();
        let transport =
            Transport::new(vec![Arc::new(device)], Vec::new(), Recorded::new(tree), None, None, alarms);
        let write =
            WriteIn { fh: writer.0, offset: 0, size: 5, write_flags: 0, lock_owner: 0, flags: 0, padding: 0 };
        let read =
            ReadIn { fh: reader.0, offset: 0, size: 100, read_flags: 0, lock_owner: 0, flags: 0, padding: 0 };
        let left = vec![
            resent(22, opcode::READ, from, [read.as_bytes(), b""]),
            resent(20, opcode::WRITE, to, [write.as_bytes(), b"hello"]),
        ];
        transport.handle_left(left, BTreeMap::new(), &[], Vec::new(), 0, &mut []);
        let mut answers = Vec::new();
        let mut packet = [0; 100];
        while let Ok((length, _)) = recv(&kernel, &mut packet[..], RecvFlags::DONTWAIT) {
            let mut header = OutHeader { len: 0, error: 0, unique: 0 };
            header.as_mut_bytes().copy_from_slice(&packet[..16]);
            if header.unique != 0 {
                answers.push((header.unique & !RESENT_BIT, header.unique & RESENT_BIT != 0, length));
            }
        }
        answers.sort_unstable();
        assert_eq!(answers, [(20, true, 24), (22, true, 21)], "with the numbers that the kernel knows");
    }
}
