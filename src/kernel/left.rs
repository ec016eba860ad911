//! Requests that a process has left unanswered that was killed. The kernel has them all, and nobody who calls notices anything
//! but the time: they are handled again, in the order in which they were made.
//!
//! Over `/dev/fuse`, the kernel is asked to send again what was read and not answered (`FUSE_NOTIFY_RESEND`, Linux 6.9). The
//! numbers of such requests have a bit more. Over rings, they are in the memory of their entries, which is as it was.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use zerocopy::IntoBytes as _;

use super::abi::RESENT_BIT;
use super::dev::BUFFER;
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
        }
    }

    /// Its number when it came first.
    pub fn place(&self) -> u64 {
        self.unique & !RESENT_BIT
    }
}

/// Has the kernel send again what another process has read from the devices and not answered, and reads all that there is. The
/// process is gone; but all of its descriptors must be open yet, here or elsewhere.
///
/// # Errors
/// EINVAL on kernels before Linux 6.9; those of reading the device.
pub fn read_again(devices: &[Arc<OwnedFd>]) -> io::Result<Vec<LeftRequest>> {
    let device = devices.first().ok_or(io::ErrorKind::NotFound)?;
    let resend = super::reply::encode_resend();
    retry_on_intr(|| rustix::io::write(device, resend.header.as_bytes()))?;
    let mut left = Vec::new();
    let mut buffer = vec![0; BUFFER];
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
        match rustix::io::read(device, &mut buffer[..]) {
            Ok(length) => {
                let bytes = buffer.get(..length).unwrap_or_default().to_vec();
                left.push(LeftRequest { unique: request::unique(&bytes), bytes: Bytes::Device(bytes) });
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
        for LeftRequest { unique, bytes } in left {
            let (reply_path, decoded) = match &bytes {
                Bytes::Device(bytes) => {
                    let reply_path = ReplyPath::Device(0).into();
                    (reply_path, request::decode(bytes, reply_path))
                }
                Bytes::Entry { ring, slot, headers, payload } => {
                    let reply_path = ReplyPath::Entry { ring: *ring, slot: *slot }.into();
                    let (header, operation) = headers.split_at(OPERATION.min(headers.len()));
                    (reply_path, request::decode_entry(header, operation, payload, reply_path))
                }
            };
            let has_answer = match &decoded {
                Ok(request) => !matches!(request.op, Op::Forget(_) | Op::Interrupt { .. }),
                Err(error) => matches!(error, DecodeError::Malformed(_)),
            };
            let first = if has_answer { self.resent.note(unique, 0) } else { unique };
            if let Some((request_id, reply)) = answers.remove(&first) {
                self.tree.leave_answer(held);
                fx.set_in_hand(Some(held));
                fx.reply(request_id, reply);
            } else if !waiting.contains(&first) {
                self.handle(decoded, &mut fx);
                if !has_answer && matches!(bytes, Bytes::Entry { .. }) {
                    // The kernel needs an answer to get the entry back.
                    fx.fail(RequestId { unique, reply_path, pid: 0 }, Error::Malformed);
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
