//! Transport over `io_uring`: a ring for each CPU, served by a thread on that CPU.
//!
//! A caller's request stays on its CPU: no other one has to be woken for it. The kernel puts it into an entry of that
//! CPU's queue, and the entry stays with the request until that is answered. So:
//!
//! - **A queue never runs out of entries** (`queue`). One with none would serve nobody. There are always some
//!   free ones: more are added as callers wait.
//! - **Answers go through the ring's own thread**, because only that one may submit: other threads leave them in its
//!   [`ReplyQueue`].
//! - **INTERRUPT and FORGET** come through the device, which one thread reads.
//! - **Nobody's signal is lost** (`look_after`). The kernel sends no INTERRUPT where a signal arrives while a request
//!   is on its way here; and one that does come may find its request not waiting yet.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use log::{debug, error, warn};
use parking_lot::Mutex;
use rustix::io::Errno;
use zerocopy::IntoBytes;

use super::cpus;
use super::queue::{Queue, Round};
use super::reply;
use super::reply_path::{MAX_ENTRIES, ReplyPath};
use super::request::{self, DecodeError};
use super::sleep::{Sleep, sleep_of};
use super::transport::{Responder, Transport, now};
use crate::op::{Effects, Error, NodeId, Op, Reply, RequestId};
use crate::sys::fuse_ring::{Event, FuseRing, OPERATION, Slot, Waker};

/// How long a request waits before its caller is looked at.
const FIRST_LOOK: Duration = Duration::from_millis(5);
/// Longest time between two looks at a caller who is neither asleep nor interrupted, as a busy machine may keep him.
const LONGEST_PAUSE: Duration = Duration::from_millis(160);
/// Callers looked at in a row before requests get their turn.
const LOOKS: usize = 32;

/// Turns after which a thread sees whether it is where it belongs.
const AFFINITY_CHECK_TURNS: u64 = 1024;

/// Answers to one ring's requests by other threads than its own.
#[derive(Debug)]
pub struct ReplyQueue {
    answers: Mutex<Vec<(RequestId, Reply)>>,
    waker: Waker,
    /// All that was put here was submitted.
    sent: AtomicBool,
}

impl ReplyQueue {
    pub(super) fn new(waker: Waker) -> ReplyQueue {
        ReplyQueue { answers: Mutex::default(), waker, sent: AtomicBool::new(true) }
    }

    pub(super) fn put(&self, request_id: RequestId, reply: Reply) {
        let mut answers = self.answers.lock();
        let first = answers.is_empty();
        answers.push((request_id, reply));
        self.sent.store(false, Ordering::SeqCst);
        drop(answers);
        if first {
            self.waker.wake();
        }
    }

    /// Nothing is left to be submitted.
    pub(super) fn is_sent(&self) -> bool {
        self.sent.load(Ordering::SeqCst)
    }

    fn take(&self, into: &mut Vec<(RequestId, Reply)>) {
        std::mem::swap(&mut *self.answers.lock(), into);
    }

    fn note_sent(&self) {
        let answers = self.answers.lock();
        if answers.is_empty() {
            self.sent.store(true, Ordering::SeqCst);
        }
    }
}

/// What is in an entry.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    /// The kernel's number of the request; 0, which no request has, for none.
    unique: u64,
    /// When it last went back.
    went: Round,
}

/// A request that waits, and whose caller has not been seen asleep. The first in time is the greatest.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct UnconfirmedWait {
    due: Reverse<Instant>,
    pause: Duration,
    slot: Slot,
    unique: u64,
    pid: u32,
}

/// A ring, and what its thread keeps of it.
#[derive(Debug)]
pub(super) struct Serving {
    /// Of the ring, in its reply_paths.
    index: u32,
    /// Where its thread belongs.
    cpu: usize,
    ring: FuseRing,
    reply_queue: Arc<ReplyQueue>,
    queues: Vec<Queue>,
    slots: Vec<Held>,
    unconfirmed: BinaryHeap<UnconfirmedWait>,
    /// Turns so far.
    turns: u64,
    failed: Option<io::Error>,
}

impl Serving {
    /// Gives the entries of each queue to the kernel. To be called by the thread that will serve.
    pub(super) fn start(
        index: u32,
        cpu: usize,
        mut ring: FuseRing,
        entries: Vec<(u16, Range<Slot>)>,
        device: &Arc<OwnedFd>,
        reply_queue: Arc<ReplyQueue>,
    ) -> io::Result<Serving> {
        ring.enable(device)?;
        let (queues, slots, unconfirmed) = (Vec::new(), Vec::new(), BinaryHeap::new());
        let mut serving =
            Serving { index, cpu, ring, reply_queue, queues, slots, unconfirmed, turns: 0, failed: None };
        for (id, range) in entries {
            serving.queues.push(Queue::new(id, Instant::now()));
            serving.register(id, range)?;
        }
        // What the kernel refuses is back already.
        while let Some(event) = serving.ring.next_event() {
            if let Event::Entry(_, Err(error)) = event {
                return Err(error.into());
            }
        }
        Ok(serving)
    }

    /// Serves until the mount ends.
    pub(super) fn serve(mut self, transport: &Transport) -> io::Result<()> {
        let mut fx = Effects::new();
        let (mut arrived, mut answers) = (Vec::new(), Vec::new());
        loop {
            self.ring.turn(self.next_look())?;
            if !self.collect(&mut arrived) {
                return Ok(());
            }
            for slot in arrived.drain(..) {
                self.receive(slot, transport, &mut fx);
            }
            self.reply_queue.take(&mut answers);
            if !answers.is_empty() {
                for (request_id, reply) in answers.drain(..) {
                    self.answer(request_id, &reply);
                }
                self.ring.submit()?;
            }
            if !self.reply_queue.is_sent() && self.ring.is_handed_over() {
                self.reply_queue.note_sent();
            }
            self.look_after(transport, &mut fx);
            self.keep_moving(transport);
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
        }
    }

    /// What the kernel did: entries with requests go into `arrived`. False if the mount has ended.
    fn collect(&mut self, arrived: &mut Vec<Slot>) -> bool {
        while let Some(event) = self.ring.next_event() {
            let slot = match event {
                Event::Woken => continue,
                Event::Entry(slot, Ok(())) => slot,
                Event::Entry(_, Err(Errno::NOTCONN | Errno::CONNABORTED | Errno::CANCELED)) => return false,
                // It does not know the request that was answered: the entry is lost, and nothing else.
                Event::Entry(slot, Err(error)) => {
                    warn!("the kernel refuses entry {slot} of ring {}: {error}", self.index);
                    self.lose(slot, error);
                    continue;
                }
            };
            let unique = self.ring.request(slot).map_or(0, |(headers, _)| request::unique(headers));
            let Some(held) = self.slots.get_mut(slot as usize) else { continue };
            let went = held.went;
            *held = Held { unique, went: Round::default() };
            if let Some(queue) = self.queue_of(slot) {
                queue.came(went);
            }
            arrived.push(slot);
        }
        let settled = self.ring.is_handed_over() && self.ring.has_told_all();
        for queue in &mut self.queues {
            queue.turned(settled);
        }
        self.turns += 1;
        if self.turns.is_multiple_of(AFFINITY_CHECK_TURNS) {
            cpus::return_to(self.cpu);
        }
        self.ring.tidy();
        true
    }

    /// An entry is the kernel's no more, and has no request. Without any, its queue would serve nobody.
    fn lose(&mut self, slot: Slot, why: Errno) {
        let Some(held) = self.slots.get_mut(slot as usize) else { return };
        let went = std::mem::take(held).went;
        if self.queue_of(slot).is_some_and(|queue| !queue.lost(went)) {
            self.failed = Some(why.into());
        }
    }

    /// One request: handled and, unless it waits, answered.
    fn receive(&mut self, slot: Slot, transport: &Transport, fx: &mut Effects) {
        let Some((headers, payload)) = self.ring.request(slot) else { return };
        let reply_path = ReplyPath::Entry { ring: self.index, slot }.into();
        let (header, operation) = headers.split_at(OPERATION);
        let request_id = RequestId { unique: request::unique(header), reply_path };
        if Queue::is_pump(request_id.unique) {
            if let Some(queue) = self.queue_of(slot) {
                debug!("the queue of CPU {} is looked through again", queue.id());
                queue.pumped(Instant::now());
            }
            self.answer(request_id, &Reply::Done);
            return;
        }
        let decoded = request::decode_entry(header, operation, payload, reply_path);
        let (pid, node, has_answer) = match &decoded {
            Ok(request) => {
                let has_answer = !matches!(request.op, Op::Forget(_) | Op::Interrupt { .. });
                (request.caller.pid, request.node, has_answer)
            }
            Err(garbage) => (0, NodeId::ROOT, matches!(garbage, DecodeError::Named(_))),
        };
        transport.handle(decoded, fx);
        transport.perform(fx, self);
        if !has_answer {
            // Its entry is wanted back all the same.
            self.answer(request_id, &Reply::Failed(Error::Malformed));
        } else if self.holds(slot, request_id.unique) {
            if let Some(queue) = self.queue_of(slot) {
                queue.waits(node);
            }
            self.park(slot, request_id.unique, pid, transport, fx);
        }
    }

    /// A request waits.
    fn park(&mut self, slot: Slot, unique: u64, pid: u32, transport: &Transport, fx: &mut Effects) {
        let doubt = UnconfirmedWait {
            due: Reverse(Instant::now() + FIRST_LOOK),
            pause: FIRST_LOOK,
            slot,
            unique,
            pid,
        };
        self.unconfirmed.push(doubt);
        let Some(queue) = self.queue_of(slot) else { return };
        let (id, more) = (queue.id(), queue.wanted());
        if more == 0 && queue.has_room() {
            return;
        }
        let added = self.add(id, more);
        let Some(queue) = self.queue_of(slot) else { return };
        if let Err(error) = added
            && !queue.has_room()
        {
            warn!("no more calls can wait on CPU {id} than {}: {error}", queue.entries());
            transport.tree.cancel_wait(unique, Error::NoMemory, now(), fx);
            transport.perform(fx, self);
        }
    }

    fn add(&mut self, queue: u16, count: u32) -> io::Result<()> {
        if count == 0 || self.slots.len() as u32 + count > MAX_ENTRIES {
            return Err(Errno::NOMEM.into());
        }
        let range = self.ring.add(queue, count)?;
        self.register(queue, range)
    }

    fn register(&mut self, id: u16, range: Range<Slot>) -> io::Result<()> {
        self.slots.resize(range.end as usize, Held::default());
        let (mut count, mut result) = (0, Ok(()));
        for slot in range {
            result = self.ring.register(slot);
            if result.is_err() {
                break;
            }
            count += 1;
        }
        if let Some(queue) = self.queues.iter_mut().find(|queue| queue.id() == id) {
            queue.grew(count, Instant::now());
        }
        result
    }

    /// Ends the waits whose callers got a signal that the kernel did not tell of.
    ///
    /// A caller who has sent his request sleeps so that a signal wakes him, and then sends an INTERRUPT if the request has
    /// been handed over by then. Having done so, or where it had not been, he sleeps on uninterruptibly. So one that is seen in
    /// the first sleep will send his INTERRUPT, and one seen in the second has had his signal: it came before the
    /// request did, or the INTERRUPT before the request was made to wait.
    fn look_after(&mut self, transport: &Transport, fx: &mut Effects) {
        let now_here = if self.unconfirmed.is_empty() { return } else { Instant::now() };
        for _ in 0..LOOKS {
            if self.unconfirmed.peek().is_none_or(|doubt| doubt.due.0 > now_here) {
                return;
            }
            let Some(mut doubt) = self.unconfirmed.pop() else { return };
            if !self.holds(doubt.slot, doubt.unique) {
                continue;
            }
            match sleep_of(doubt.pid) {
                // It waits for longer than most, and needs no memory for that.
                Some(Sleep::Interruptible) => self.ring.shrink(doubt.slot),
                Some(Sleep::Uninterruptible) => {
                    transport.tree.cancel_wait(doubt.unique, Error::Interrupted, now(), fx);
                    transport.perform(fx, self);
                }
                // On its way into the one or the other, or stopped there.
                _ => {
                    doubt.pause = (doubt.pause * 2).min(LONGEST_PAUSE);
                    doubt.due = Reverse(now_here + doubt.pause);
                    self.unconfirmed.push(doubt);
                }
            }
        }
    }

    /// How long the ring may wait for the kernel.
    fn next_look(&self) -> Option<Duration> {
        let doubt = self.unconfirmed.peek().map(|doubt| doubt.due.0);
        let due = self.queues.iter().filter_map(Queue::due).chain(doubt).min();
        due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// Gets queues moving in which requests may lie beside free entries.
    fn keep_moving(&mut self, transport: &Transport) {
        for queue in &mut self.queues {
            if queue.due().is_none() {
                continue;
            }
            let Some((unique, node)) = queue.pump(Instant::now()) else { continue };
            let (id, pump) = (queue.id(), reply::encode_pump(unique, node));
            match cpus::on_cpu(usize::from(id), self.cpu, || transport.write(0, &pump)) {
                Some(Ok(())) => {}
                Some(Err(Errno::NOENT)) => queue.is_answered(),
                Some(Err(error)) => warn!("the queue of CPU {id} cannot be kept moving: {error}"),
                None => debug!("the queue of CPU {id} waits for its CPU"),
            }
        }
    }

    fn holds(&self, slot: Slot, unique: u64) -> bool {
        self.slots.get(slot as usize).is_some_and(|held| held.unique == unique && unique != 0)
    }

    fn queue_of(&mut self, slot: Slot) -> Option<&mut Queue> {
        let id = self.ring.queue(slot)?;
        self.queues.iter_mut().find(|queue| queue.id() == id)
    }
}

impl Responder for Serving {
    fn answer(&mut self, request_id: RequestId, reply: &Reply) -> bool {
        let slot = match ReplyPath::from(request_id.reply_path) {
            ReplyPath::Entry { ring, slot } if ring == self.index => slot,
            _ => return false,
        };
        if !self.holds(slot, request_id.unique) {
            error!("request {} is not in its entry any more", request_id.unique);
            return true;
        }
        let encoded = reply::encode(request_id, reply);
        let parts = [encoded.head(), encoded.tail()];
        let mut done = self.ring.commit(slot, request_id.unique, encoded.header.as_bytes(), parts);
        if let Ok(false) = done {
            error!("the answer to request {} does not fit into its entry", request_id.unique);
            let failed = reply::encode(request_id, &Reply::Failed(Error::Io));
            done = self.ring.commit(slot, request_id.unique, failed.header.as_bytes(), [&[], &[]]);
        }
        if let Err(error) = done {
            self.failed = Some(error);
        }
        let went = self.queue_of(slot).map(Queue::went).unwrap_or_default();
        if let Some(held) = self.slots.get_mut(slot as usize) {
            *held = Held { unique: 0, went };
        }
        true
    }
}
