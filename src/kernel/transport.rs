//! What all transports share: the tree they lead to, and the carrying out of what it decides.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{debug, error, warn};
use rustix::io::Errno;
use zerocopy::IntoBytes;

use super::reply::{self, Encoded};
use super::reply_path::ReplyPath;
use super::request::DecodeError;
use super::uring::ReplyQueue;
use crate::op::{Effect, Effects, Error, Op, Reply, Request, RequestId, Timestamp};
use crate::sys::heap;
use crate::tree::Tree;

/// How long the clock sleeps without looking at the time.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// How long the end of a mount waits for answers to be on their way.
const LONGEST_FLUSH: Duration = Duration::from_secs(2);

/// The ways that requests come by, and the tree they lead to.
#[derive(Debug)]
pub struct Transport {
    /// Descriptors of the device.
    pub(super) devices: Vec<Arc<OwnedFd>>,
    /// Where answers to the requests of each ring go, from other threads than its own.
    pub(super) reply_queues: Vec<Arc<ReplyQueue>>,
    pub(super) tree: Tree,
    /// Where the tree's wishes to be told the time go.
    clock: Sender<Timestamp>,
}

/// A thread that can give some answers itself.
pub(super) trait Responder {
    /// True if the request is one of this thread's own, and answered.
    fn answer(&mut self, request_id: RequestId, reply: &Reply) -> bool;
}

/// No answers of its own.
pub(super) struct NoResponder;

impl Responder for NoResponder {
    fn answer(&mut self, _: RequestId, _: &Reply) -> bool {
        false
    }
}

impl Transport {
    /// Over these descriptors and rings.
    pub fn new(
        devices: Vec<Arc<OwnedFd>>,
        reply_queues: Vec<Arc<ReplyQueue>>,
        tree: Tree,
        clock: Sender<Timestamp>,
    ) -> Transport {
        Transport { devices, reply_queues, tree, clock }
    }

    /// One request, or what came in its place; what follows is left in `fx`.
    pub(super) fn handle(&self, request: Result<Request<'_>, DecodeError>, fx: &mut Effects) {
        match request {
            Ok(request) => {
                debug!("{:?}", Summary(&request));
                // Until the heap's reserve is whole again, nothing more is taken on.
                if heap::is_low() && takes_memory(&request.op) && !heap::set_reserve() {
                    return fx.fail(request.request_id, Error::NoMemory);
                }
                self.tree.handle(&request, now(), fx);
            }
            Err(DecodeError::Named(request_id)) => fx.fail(request_id, Error::Malformed),
            Err(garbage) => warn!("bytes that are no request: {garbage:?}"),
        }
    }

    /// Tells the tree the time whenever it has asked for it. `wishes` is the other end of this transport's clock.
    pub fn keep_time(&self, wishes: &Receiver<Timestamp>) {
        let mut next: Option<Timestamp> = None;
        loop {
            let wish = match next {
                None => wishes.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(next) => {
                    let left = Duration::from_nanos(next.0.saturating_sub(now().0));
                    // The system's clock may be set meanwhile.
                    wishes.recv_timeout(left.min(LONGEST_SLEEP))
                }
            };
            match wish {
                Ok(wish) => next = Some(next.map_or(wish, |next| next.min(wish))),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    let now = now();
                    if next.is_some_and(|next| next <= now) {
                        next = None;
                        let mut fx = Effects::new();
                        self.tree.tick(now, &mut fx);
                        self.perform(&mut fx, &mut NoResponder);
                    }
                }
            }
        }
    }

    /// Ends the waits that began at `limit` or before.
    pub fn expire(&self, limit: Timestamp) {
        let mut fx = Effects::new();
        self.tree.expire(limit, now(), &mut fx);
        self.perform(&mut fx, &mut NoResponder);
    }

    /// Ends all waits, for good, and returns when their answers are on their way.
    pub fn end(&self) {
        let mut fx = Effects::new();
        self.tree.end(now(), &mut fx);
        self.perform(&mut fx, &mut NoResponder);
        let limit = now().0.saturating_add(LONGEST_FLUSH.as_nanos() as u64);
        while self.reply_queues.iter().any(|reply_queue| !reply_queue.is_sent()) && now().0 < limit {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Carries effects out. No lock is held here.
    pub(super) fn perform(&self, fx: &mut Effects, responder: &mut impl Responder) {
        for effect in fx.drain() {
            match effect {
                Effect::Reply(request_id, reply) => self.answer(request_id, reply, responder),
                // ENOENT: nobody polls any more.
                Effect::Wake(handle) => drop(self.write(0, &reply::encode_wake(handle))),
                // ENOENT: the kernel has forgotten the node, and what it knew of it.
                Effect::InvalidateAttr(node) => drop(self.write(0, &reply::encode_invalidate_attr(node))),
                Effect::InterruptAgain { unique } => self.ask_again(unique),
                // Fails only where the clock is gone with the mount.
                Effect::Alarm(time) => drop(self.clock.send(time)),
                Effect::TrimHeap => heap::give_back(),
            }
        }
    }

    fn answer(&self, request_id: RequestId, reply: Reply, responder: &mut impl Responder) {
        match ReplyPath::from(request_id.reply_path) {
            ReplyPath::Device(index) => self.answer_device(index, request_id, &reply),
            ReplyPath::Entry { ring, .. } => {
                if !responder.answer(request_id, &reply)
                    && let Some(reply_queue) = self.reply_queues.get(ring as usize)
                {
                    reply_queue.put(request_id, reply);
                }
            }
        }
    }

    fn answer_device(&self, index: u32, request_id: RequestId, reply: &Reply) {
        match self.write(index, &reply::encode(request_id, reply)) {
            Ok(()) => {}
            // The request was aborted together with the mount.
            Err(Errno::NOENT | Errno::NODEV) => debug!("request {} is gone", request_id.unique),
            Err(refused) => {
                // Without the answer itself, which may be a message.
                error!("the kernel refuses the answer to request {}: {refused}", request_id.unique);
                let failed = Reply::Failed(Error::Io);
                if let Err(error) = self.write(index, &reply::encode(request_id, &failed)) {
                    error!("request {} cannot be answered: {error}", request_id.unique);
                }
            }
        }
    }

    /// The kernel sends the INTERRUPT again as long as it has the request: on the descriptor that it was read from,
    /// which is any. Meanwhile the thread that has the request in hand gets on with it. A ring's requests are not found
    /// so: their ring looks after them (`uring`).
    fn ask_again(&self, unique: u64) {
        let message = reply::encode_interrupt_again(unique);
        let in_hand = (0..self.devices.len()).any(|index| self.write(index as u32, &message).is_ok());
        if in_hand {
            std::thread::yield_now();
        }
    }

    pub(super) fn write(&self, device: u32, message: &Encoded<'_>) -> Result<(), Errno> {
        let device = self.devices.get(device as usize).ok_or(Errno::INVAL)?;
        let parts = [message.header.as_bytes(), message.head(), message.tail()].map(IoSlice::new);
        loop {
            // The device takes a message whole or not at all.
            match rustix::io::writev(device, &parts) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The time, for everything below.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Whether an operation keeps something, or builds an answer of any length. Those that free, and those that cannot be
/// refused, go on.
fn takes_memory(op: &Op<'_>) -> bool {
    matches!(
        op,
        Op::Lookup { .. }
            | Op::Mknod { .. }
            | Op::Mkdir { .. }
            | Op::Rename { .. }
            | Op::Open(_)
            | Op::Create { .. }
            | Op::Write { .. }
            | Op::Opendir
            | Op::Readdir { .. }
            | Op::Setxattr { .. }
            | Op::Setlk { .. }
            | Op::CopyFileRange(_)
    )
}

/// A request in the log: bodies are never shown.
struct Summary<'a>(&'a Request<'a>);

impl std::fmt::Debug for Summary<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let request = self.0;
        write!(f, "#{} node {} pid {}: ", request.request_id.unique, request.node.0, request.caller.pid)?;
        match &request.op {
            Op::Write { fh, offset, data, .. } => {
                write!(f, "Write {fh:?} offset {offset}, {} bytes", data.len())
            }
            Op::Setxattr { name, value, .. } => write!(f, "Setxattr {name:?}, {} bytes", value.len()),
            other => write!(f, "{other:?}"),
        }
    }
}
