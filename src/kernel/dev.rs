//! The classic transport: requests read from `/dev/fuse`, answers written to it.
//!
//! Each thread has a *lane*: a descriptor of its own with its own queue of requests being served, so that threads do
//! not contend for one. The kernel takes an answer on the lane that its request came by, whichever thread gives it.
//! Where descriptors cannot be had (an ordinary user may not be able to open `/dev/fuse`), all threads share one.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{debug, error, warn};
use rustix::io::Errno;
use zerocopy::IntoBytes;

use super::reply::{self, Encoded};
use super::request::{self, Garbage};
use crate::config::MAX_WRITE;
use crate::op::{Effect, Effects, Error, Reply, Ticket, Timestamp};
use crate::sys::{fuse_device, heap};
use crate::tree::Tree;

/// Room for the longest request: a WRITE of the greatest size with its headers. The kernel wants no less.
const BUFFER: usize = MAX_WRITE as usize + 4096;

/// How long the clock sleeps without looking at the time.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// The lanes of a mount and the tree they lead to.
#[derive(Debug)]
pub struct Transport {
    lanes: Vec<Arc<OwnedFd>>,
    tree: Tree,
    /// Where the tree's wishes to be told the time go.
    clock: Sender<Timestamp>,
}

impl Transport {
    /// As many lanes as `threads`, or one.
    pub fn new(device: &Arc<OwnedFd>, threads: usize, tree: Tree, clock: Sender<Timestamp>) -> Transport {
        let mut lanes = vec![Arc::clone(device)];
        for _ in 1..threads {
            match fuse_device::clone_device(device.as_fd()) {
                Ok(lane) => lanes.push(Arc::new(lane)),
                Err(error) => {
                    debug!("threads share one descriptor of /dev/fuse: {error}");
                    break;
                }
            }
        }
        Transport { lanes, tree, clock }
    }

    /// Serves the requests of one lane until the mount ends.
    pub fn serve(&self, thread: usize) -> io::Result<()> {
        let index = thread % self.lanes.len();
        let Some(lane) = self.lanes.get(index) else { return Ok(()) };
        let mut buffer = vec![0; BUFFER];
        let mut fx = Effects::new();
        loop {
            let length = match rustix::io::read(lane, &mut buffer[..]) {
                Ok(length) => length,
                // ENOENT: the caller gave up before its request was read.
                Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => continue,
                // Unmounted; or aborted, by `umount --force` or through /sys/fs/fuse/connections.
                Err(Errno::NODEV | Errno::CONNABORTED) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            match request::decode(buffer.get(..length).unwrap_or_default(), index as u32) {
                Ok(request) => {
                    debug!("{:?}", Summary(&request));
                    self.tree.handle(&request, now(), &mut fx);
                }
                Err(Garbage::Named(ticket)) => fx.fail(ticket, Error::Malformed),
                Err(garbage) => warn!("{length} bytes that are no request: {garbage:?}"),
            }
            self.perform(&mut fx);
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
                        self.perform(&mut fx);
                    }
                }
            }
        }
    }

    /// Ends the waits that began at `limit` or before.
    pub fn expire(&self, limit: Timestamp) {
        let mut fx = Effects::new();
        self.tree.expire(limit, now(), &mut fx);
        self.perform(&mut fx);
    }

    /// Ends all waits, for good.
    pub fn end(&self) {
        let mut fx = Effects::new();
        self.tree.end(now(), &mut fx);
        self.perform(&mut fx);
    }

    /// Carries effects out. No lock is held here.
    fn perform(&self, fx: &mut Effects) {
        for effect in fx.drain() {
            match effect {
                Effect::Reply(ticket, reply) => self.answer(ticket, &reply),
                // ENOENT: nobody polls any more.
                Effect::Wake(handle) => drop(self.write(0, &reply::encode_wake(handle))),
                Effect::InterruptAgain { unique } => self.ask_again(unique),
                // Fails only where the clock is gone with the mount.
                Effect::Alarm(time) => drop(self.clock.send(time)),
                Effect::GiveMemoryBack => heap::give_back(),
            }
        }
    }

    fn answer(&self, ticket: Ticket, reply: &Reply) {
        match self.write(ticket.lane, &reply::encode(ticket, reply)) {
            Ok(()) => {}
            // The request was aborted together with the mount.
            Err(Errno::NOENT | Errno::NODEV) => debug!("request {} is gone", ticket.unique),
            Err(refused) => {
                // Without the answer itself, which may be a message.
                error!("the kernel refuses the answer to request {}: {refused}", ticket.unique);
                let failed = Reply::Failed(Error::Io);
                if let Err(error) = self.write(ticket.lane, &reply::encode(ticket, &failed)) {
                    error!("request {} cannot be answered: {error}", ticket.unique);
                }
            }
        }
    }

    /// The kernel sends the INTERRUPT again as long as it has the request: on the lane that it was read from, which is
    /// any. Meanwhile the thread that has the request in hand gets on with it.
    fn ask_again(&self, unique: u64) {
        let message = reply::encode_interrupt_again(unique);
        let in_hand = (0..self.lanes.len()).any(|lane| self.write(lane as u32, &message).is_ok());
        if in_hand {
            std::thread::yield_now();
        }
    }

    fn write(&self, lane: u32, message: &Encoded<'_>) -> Result<(), Errno> {
        let lane = self.lanes.get(lane as usize).ok_or(Errno::INVAL)?;
        let parts = [message.header.as_bytes(), message.head(), message.tail()].map(IoSlice::new);
        loop {
            // The device takes a message whole or not at all.
            match rustix::io::writev(lane, &parts) {
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

/// A request in the log: bodies are never shown.
struct Summary<'a>(&'a crate::op::Request<'a>);

impl std::fmt::Debug for Summary<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use crate::op::Op;
        let request = self.0;
        write!(f, "#{} node {} pid {}: ", request.ticket.unique, request.node.0, request.caller.pid)?;
        match &request.op {
            Op::Write { fh, offset, data, .. } => {
                write!(f, "Write {fh:?} offset {offset}, {} bytes", data.len())
            }
            Op::Setxattr { name, value, .. } => write!(f, "Setxattr {name:?}, {} bytes", value.len()),
            other => write!(f, "{other:?}"),
        }
    }
}
