//! Transport over `io_uring`: a ring for each CPU, served by a thread on that CPU.
//!
//! A request is served on its caller's CPU, so that no other CPU has to be woken. The kernel puts it into an entry of that
//! CPU's queue, and the entry stays with the request until that is answered. Therefore:
//!
//! - **A queue must always have free entries** (`queue`). Without any it would serve nobody. More are added as callers
//!   wait.
//! - **Answers are submitted by the ring's own thread**, because no other thread may submit. Other threads leave them in
//!   the ring's `ReplyQueue`.
//! - **INTERRUPT and FORGET** come through the device, which one thread reads.
//! - **No signal may be lost** (`check_waiting_callers`). The kernel sends no INTERRUPT for a signal that arrives while its
//!   caller's request is on the way here, and an INTERRUPT may come before its request waits.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, error, warn};
use rustix::io::Errno;
use zerocopy::IntoBytes;

use super::cpus;
use super::left::LeftRequest;
use super::queue::{Epoch, Queue};
use super::reply;
use super::reply_path::{MAX_ENTRIES, ReplyPath};
use super::reply_queue::{Queued, ReplyQueue};
use super::request::{self, DecodeError};
use super::run_policy::RingPolicy;
use super::saved_ring::SavedRing;
use super::sleep::{SleepState, sleep_state};
use super::transport::{Responder, Transport};
use crate::op::{Effects, Error, NodeId, Op, Reply, RequestId};
use crate::sys::fuse_ring::{Event, FuseRing, Left, OPERATION, Slot};

/// How long a request waits before its caller is checked for a lost signal.
const FIRST_CHECK: Duration = Duration::from_millis(5);
/// Longest time between two checks of a caller that is neither asleep nor interrupted. A busy machine may keep it so.
const MAX_CHECK_INTERVAL: Duration = Duration::from_millis(160);
/// Most callers checked in one turn, so that requests are not kept waiting.
const MAX_CHECKS_PER_TURN: usize = 32;

/// How long a thread looks for something to do before it sleeps.
const SPIN: Duration = Duration::from_micros(20);
/// How short a sleep must have been for the next wait to begin with looking: without the sleep, and the other's, it would have
/// been shorter by the time that waking two CPUs takes.
const SHORT_SLEEP: Duration = Duration::from_micros(60);
/// Initial number of entries of an offline CPU's queue. The kernel requires at least one of each queue.
pub(super) const ENTRIES_OFFLINE: u32 = 2;

/// How long a thread that comes to a standstill waits for the kernel to fill entries before it sends more kicks; then twice as long.
const FILLING: Duration = Duration::from_millis(20);

/// Number of turns after which a thread checks whether it still runs on its CPU.
const AFFINITY_CHECK_TURNS: u64 = 1024;

/// State of one entry.
#[derive(Debug, Clone, Copy, Default)]
struct EntryState {
    /// The kernel's number of the request in the entry; 0, which no request has, if there is none.
    unique: u64,
    /// Epoch of its queue in which its last answer was committed.
    epoch: Epoch,
}

/// A request that waits, and whose caller has not been seen asleep. The greatest is the one that is due first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct UnconfirmedWait {
    due: Reverse<Instant>,
    interval: Duration,
    slot: Slot,
    unique: u64,
    pid: u32,
}

/// Serves one ring.
#[derive(Debug)]
pub(super) struct RingServer {
    /// Number of the ring in reply paths.
    index: u32,
    /// The CPU that the thread is pinned to.
    cpu: usize,
    ring: FuseRing,
    reply_queue: Arc<ReplyQueue>,
    queues: Vec<Queue>,
    entries: Vec<EntryState>,
    /// Entries that carry a request not yet looked at.
    arrived: Vec<Slot>,
    unconfirmed_waits: BinaryHeap<UnconfirmedWait>,
    policy: RingPolicy,
    /// The last wait was so short that the next one is spent looking, not sleeping.
    spins: bool,
    /// Turns of the request loop so far.
    turns: u64,
    failed: Option<io::Error>,
}

impl RingServer {
    /// Registers the entries of each queue with the kernel. Must be called by the thread that will serve.
    pub(super) fn start(
        index: u32,
        cpu: usize,
        mut ring: FuseRing,
        entries: Vec<(u16, Range<Slot>)>,
        device: &Arc<OwnedFd>,
        reply_queue: Arc<ReplyQueue>,
        policy: RingPolicy,
    ) -> io::Result<RingServer> {
        ring.enable(device)?;
        let mut server = RingServer::new(index, cpu, ring, reply_queue, policy);
        for (id, range) in entries {
            server.queues.push(Queue::new(id, Instant::now()));
            server.register(id, range)?;
        }
        // The kernel returns entries that it refuses at once. Other queues may be registered by now, so that requests come.
        while let Some(event) = server.ring.next_event() {
            match event {
                Event::Woken => {}
                Event::Entry(slot, Ok(())) => server.request_arrived(slot),
                Event::Entry(_, Err(error)) => return Err(error.into()),
            }
        }
        Ok(server)
    }

    /// Continues with what another process had. `ring` has the memory of `saved`. Must be called by the thread that will serve.
    pub(super) fn take_over(
        mut ring: FuseRing,
        saved: &SavedRing,
        device: &Arc<OwnedFd>,
        reply_queue: Arc<ReplyQueue>,
        policy: RingPolicy,
    ) -> io::Result<RingServer> {
        ring.enable(device)?;
        let now = Instant::now();
        let mut server = RingServer::new(saved.index, saved.cpu, ring, reply_queue, policy);
        server.queues = saved.queues.iter().map(|(id, kicks)| Queue::take_over(*id, *kicks, now)).collect();
        let count = saved.extents.iter().map(|extent| extent.count as usize).sum();
        server.entries.resize(count, EntryState::default());
        for slot in saved.waiting.iter().chain(&saved.arrived) {
            let unique = server.ring.request(*slot).map_or(0, |(headers, _)| request::unique(headers));
            let entry = server.entries.get_mut(*slot as usize).ok_or(Errno::INVAL)?;
            entry.unique = unique;
            let queue = server.queue_of(*slot).ok_or(Errno::INVAL)?;
            queue.entries_added(1, now);
            queue.request_arrived(Epoch::default());
        }
        for slot in &saved.waiting {
            let (node, pid) = server
                .ring
                .request(*slot)
                .and_then(|(headers, _)| request::origin(headers))
                .ok_or(Errno::INVAL)?;
            if let Some(queue) = server.queue_of(*slot) {
                queue.request_waits(node);
            }
            server.check_soon(*slot, pid);
        }
        server.arrived.clone_from(&saved.arrived);
        Ok(server)
    }

    /// Continues with what a process has left that was killed: `ring` has the memory of its entries. What it has answered goes to
    /// the kernel; what it has not is returned, to be handled by whoever calls [`Transport::handle_left`]. All other entries
    /// are the kernel's again. Must be called by the thread that will serve.
    pub(super) fn adopt(
        ring: FuseRing,
        lost: SavedRing,
        device: &Arc<OwnedFd>,
        reply_queue: Arc<ReplyQueue>,
        policy: RingPolicy,
    ) -> io::Result<(RingServer, Vec<LeftRequest>)> {
        let (mut saved, mut answers, mut free) = (lost, Vec::new(), Vec::new());
        for slot in 0..ring.entries() {
            match ring.left(slot) {
                Left::Request(unique) if Queue::is_kick(unique) => saved.arrived.push(slot),
                Left::Request(_) => saved.waiting.push(slot),
                Left::Answer(unique) => answers.push((slot, unique)),
                Left::Nothing => free.push(slot),
            }
        }
        let mut server = RingServer::take_over(ring, &saved, device, reply_queue, policy)?;
        for (slot, unique) in answers {
            server.entry_added(slot);
            server.ring.commit_left(slot, unique)?;
        }
        server.ring.submit()?;
        // The kernel returns at once what it does not want: answers that it has already.
        while let Some(event) = server.ring.next_event() {
            match event {
                Event::Woken => {}
                Event::Entry(slot, Ok(())) => server.request_arrived(slot),
                Event::Entry(slot, Err(Errno::NOENT)) => {
                    server.entry_lost(slot, Errno::NOENT);
                    free.push(slot);
                }
                Event::Entry(_, Err(error)) => return Err(error.into()),
            }
        }
        server.failed = None;
        for slot in free {
            server.ring.register(slot)?;
            server.entry_added(slot);
        }
        let left = |slot: &Slot| {
            let (headers, payload) = server.ring.request(*slot)?;
            Some(LeftRequest::in_entry(server.index, *slot, headers, payload))
        };
        let left = saved.waiting.iter().filter_map(left).collect();
        Ok((server, left))
    }

    fn entry_added(&mut self, slot: Slot) {
        if let Some(queue) = self.queue_of(slot) {
            queue.entries_added(1, Instant::now());
        }
    }

    fn new(
        index: u32,
        cpu: usize,
        ring: FuseRing,
        reply_queue: Arc<ReplyQueue>,
        policy: RingPolicy,
    ) -> RingServer {
        RingServer {
            index,
            cpu,
            ring,
            reply_queue,
            queues: Vec::new(),
            entries: Vec::new(),
            arrived: Vec::new(),
            unconfirmed_waits: BinaryHeap::new(),
            policy,
            spins: false,
            turns: 0,
            failed: None,
        }
    }

    /// Serves requests until the mount ends.
    ///
    /// # Errors
    /// Those of `io_uring_enter(2)`; and the reason why a queue lost its last entry.
    pub(super) fn serve(mut self, transport: &Transport) -> io::Result<()> {
        let mut fx = Effects::new();
        let (mut arrived, mut answers) = (Vec::new(), Vec::new());
        self.fill_empty_queues()?;
        loop {
            if self.arrived.is_empty() {
                self.wait()?;
            }
            if !self.collect() {
                return Ok(());
            }
            if transport.standstill.is_asked() && !self.stand_still(transport, &mut answers)? {
                return Ok(());
            }
            std::mem::swap(&mut self.arrived, &mut arrived);
            for slot in arrived.drain(..) {
                self.receive(slot, transport, &mut fx);
            }
            self.submit_answers(transport, &mut answers)?;
            self.check_waiting_callers(transport, &mut fx);
            self.kick_stalled_queues(transport);
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
        }
    }

    /// Submits the answers that other threads gave.
    fn submit_answers(&mut self, transport: &Transport, answers: &mut Vec<Queued>) -> io::Result<()> {
        self.reply_queue.take(answers);
        if !answers.is_empty() {
            let mut gone = Vec::new();
            for Queued { request_id, reply, taken, in_hand } in answers.drain(..) {
                self.answer(request_id, &reply);
                gone.extend(taken);
                if let Some(generation) = in_hand {
                    transport.tree.given(generation);
                }
            }
            self.ring.submit()?;
            if !gone.is_empty() {
                transport.record(gone, self);
            }
        }
        if !self.reply_queue.is_drained() && self.ring.is_submitted() {
            self.reply_queue.mark_drained();
        }
        Ok(())
    }

    /// Handles no more requests, and lets the kernel fill all entries. When it has none of them, it sends nothing to this ring, and
    /// nothing is lost if the ring ends. Returns when all threads go on; false if the mount has ended.
    fn stand_still(&mut self, transport: &Transport, answers: &mut Vec<Queued>) -> io::Result<bool> {
        let Some(known) = transport.standstill.settle_ring() else { return Ok(true) };
        self.submit_answers(transport, answers)?;
        let (mut due, mut patience) = (Instant::now(), FILLING);
        while transport.standstill.is_asked() {
            self.ring.submit()?;
            let is_filled = self.queues.iter().all(|queue| queue.idle() == 0);
            if self.ring.is_submitted() && (is_filled || due <= Instant::now()) {
                if !self.send_fillers(transport, known) {
                    self.answer_kicks_first();
                    let saved = self.saved()?;
                    transport.standstill.stand_with(Some(saved));
                    break;
                }
                // One kick too many is a request too many in the kernel, when all goes on.
                due = Instant::now() + patience;
                patience *= 2;
            }
            self.ring.submit_and_wait(Some(FILLING))?;
            if !self.collect() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Entries of kicks must be free again before it is looked at whether there are enough free ones.
    fn answer_kicks_first(&mut self) {
        let mut arrived = std::mem::take(&mut self.arrived);
        arrived.sort_by_key(|slot| {
            !self.entries.get(*slot as usize).is_some_and(|entry| Queue::is_kick(entry.unique))
        });
        self.arrived = arrived;
    }

    /// Sends a kick for each entry that the kernel has. False if there is none. Entries of a CPU that is offline stay as they are:
    /// nobody calls from there.
    fn send_fillers(&mut self, transport: &Transport, known: NodeId) -> bool {
        let mut any = false;
        for queue in self.queues.iter_mut().filter(|queue| queue.idle() > 0) {
            let id = usize::from(queue.id());
            let send = || {
                for _ in 0..queue.idle() {
                    // Fails only without memory: then again later.
                    let _ = transport.write(0, &reply::encode_kick(queue.next_kick(), known));
                }
            };
            any |= cpus::on_cpu(id, self.cpu, send).is_some();
        }
        any
    }

    /// What another process needs to take this ring over.
    fn saved(&self) -> io::Result<SavedRing> {
        let unhandled: BTreeSet<Slot> = self.arrived.iter().copied().collect();
        let carries = |slot: &Slot| self.entries.get(*slot as usize).is_some_and(|entry| entry.unique != 0);
        let waits = |slot: &Slot| carries(slot) && !unhandled.contains(slot);
        Ok(SavedRing {
            index: self.index,
            cpu: self.cpu,
            payload: self.ring.payload(),
            memory: rustix::io::fcntl_dupfd_cloexec(self.ring.memory(), 3)?,
            extents: self.ring.extents(),
            queues: self.queues.iter().map(|queue| (queue.id(), queue.kicks())).collect(),
            waiting: (0..self.entries.len() as Slot).filter(waits).collect(),
            arrived: self.arrived.clone(),
        })
    }

    /// Adds entries to queues that have none: those of CPUs that were offline when the ring was taken over.
    fn fill_empty_queues(&mut self) -> io::Result<()> {
        let empty = self.queues.iter().filter(|queue| queue.entries() == 0);
        for id in empty.map(Queue::id).collect::<Vec<_>>() {
            self.add_entries(id, ENTRIES_OFFLINE)?;
        }
        Ok(())
    }

    /// Submits all answers, and returns when there is something to do.
    fn wait(&mut self) -> io::Result<()> {
        let limit = self.wait_limit();
        let began = Instant::now();
        let spins = self.spins && !self.unconfirmed_waits.is_empty() && self.policy.is_idle();
        if spins {
            self.ring.submit()?;
            while !self.ring.has_event() && !self.reply_queue.has_any() {
                if began.elapsed() > SPIN {
                    break;
                }
                std::hint::spin_loop();
            }
        }
        if self.reply_queue.sleep(|| self.ring.submit_and_wait(limit)).transpose()?.is_none() {
            self.ring.submit_and_poll()?;
        }
        self.spins = began.elapsed() < if spins { SPIN } else { SHORT_SLEEP };
        Ok(())
    }

    /// Takes all completions. False if the mount has ended.
    fn collect(&mut self) -> bool {
        while let Some(event) = self.ring.next_event() {
            match event {
                Event::Woken => {}
                Event::Entry(slot, Ok(())) => self.request_arrived(slot),
                Event::Entry(_, Err(Errno::NOTCONN | Errno::CONNABORTED | Errno::CANCELED)) => return false,
                // The kernel does not know the request that was answered. Only this entry is lost.
                Event::Entry(slot, Err(error)) => {
                    warn!("the kernel refuses entry {slot} of ring {}: {error}", self.index);
                    self.entry_lost(slot, error);
                }
            }
        }
        let submitted = self.ring.is_submitted() && !self.ring.has_overflowed();
        for queue in &mut self.queues {
            queue.turn_ended(submitted);
        }
        self.policy.turn();
        self.turns += 1;
        if self.turns.is_multiple_of(AFFINITY_CHECK_TURNS) {
            cpus::return_to(self.cpu);
        }
        self.ring.release_memory();
        true
    }

    /// The kernel returned an entry with a request.
    fn request_arrived(&mut self, slot: Slot) {
        let unique = self.ring.request(slot).map_or(0, |(headers, _)| request::unique(headers));
        let Some(entry) = self.entries.get_mut(slot as usize) else { return };
        let epoch = entry.epoch;
        *entry = EntryState { unique, epoch: Epoch::default() };
        if let Some(queue) = self.queue_of(slot) {
            queue.request_arrived(epoch);
        }
        self.arrived.push(slot);
    }

    /// The kernel returned an entry without a request, for good. A queue without entries would serve nobody.
    fn entry_lost(&mut self, slot: Slot, why: Errno) {
        let Some(entry) = self.entries.get_mut(slot as usize) else { return };
        let epoch = std::mem::take(entry).epoch;
        if self.queue_of(slot).is_some_and(|queue| !queue.entry_lost(epoch)) {
            self.failed = Some(why.into());
        }
    }

    /// Handles one request, and answers it unless it waits.
    fn receive(&mut self, slot: Slot, transport: &Transport, fx: &mut Effects) {
        let Some((headers, payload)) = self.ring.request(slot) else { return };
        let reply_path = ReplyPath::Entry { ring: self.index, slot }.into();
        let (header, operation) = headers.split_at(OPERATION);
        let request_id = RequestId { unique: request::unique(header), reply_path, pid: 0 };
        if Queue::is_kick(request_id.unique) {
            if let Some(queue) = self.queue_of(slot) {
                debug!("the kernel looks at the pending requests of CPU {} again", queue.id());
                queue.kick_arrived(Instant::now());
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
            Err(error) => (0, NodeId::ROOT, matches!(error, DecodeError::Malformed(_))),
        };
        transport.handle(decoded, fx);
        transport.perform(fx, self);
        if !has_answer {
            // The kernel needs an answer to get the entry back.
            self.answer(request_id, &Reply::Failed(Error::Malformed));
        } else if self.holds(slot, request_id.unique) {
            if let Some(queue) = self.queue_of(slot) {
                queue.request_waits(node);
            }
            self.park(slot, request_id.unique, pid, transport, fx);
        }
    }

    /// Keeps a request that waits in its entry, and adds entries if few are left.
    fn park(&mut self, slot: Slot, unique: u64, pid: u32, transport: &Transport, fx: &mut Effects) {
        self.check_soon(slot, pid);
        let Some(queue) = self.queue_of(slot) else { return };
        let (id, more) = (queue.id(), queue.entries_to_add());
        if more == 0 && queue.has_room() {
            return;
        }
        let added = self.add_entries(id, more);
        let Some(queue) = self.queue_of(slot) else { return };
        if let Err(error) = added
            && !queue.has_room()
        {
            warn!("at most {} calls can wait on CPU {id}: {error}", queue.entries());
            transport.end_wait(unique, Error::NoMemory, fx, self);
        }
    }

    /// The caller of the request that waits in an entry is to be checked for a lost signal.
    fn check_soon(&mut self, slot: Slot, pid: u32) {
        let due = Reverse(Instant::now() + FIRST_CHECK);
        if let Some(EntryState { unique, .. }) = self.entries.get(slot as usize).copied() {
            self.unconfirmed_waits.push(UnconfirmedWait { due, interval: FIRST_CHECK, slot, unique, pid });
        }
    }

    fn add_entries(&mut self, queue: u16, count: u32) -> io::Result<()> {
        if count == 0 || self.entries.len() as u32 + count > MAX_ENTRIES {
            return Err(Errno::NOMEM.into());
        }
        let range = self.ring.add(queue, count)?;
        self.register(queue, range)
    }

    fn register(&mut self, id: u16, range: Range<Slot>) -> io::Result<()> {
        self.entries.resize(range.end as usize, EntryState::default());
        let (mut count, mut result) = (0, Ok(()));
        for slot in range {
            result = self.ring.register(slot);
            if result.is_err() {
                break;
            }
            count += 1;
        }
        if let Some(queue) = self.queues.iter_mut().find(|queue| queue.id() == id) {
            queue.entries_added(count, Instant::now());
        }
        result
    }

    /// Ends waits whose callers got a signal that the kernel sent no INTERRUPT for.
    ///
    /// A caller that has sent its request sleeps interruptibly. A signal wakes it, and it sends an INTERRUPT if the daemon has
    /// its request by then. After that, or if the daemon does not have the request yet, it sleeps uninterruptibly. So a
    /// caller that is seen in interruptible sleep will send an INTERRUPT when a signal comes. One that is seen in
    /// uninterruptible sleep has had its signal already: it came before the request was delivered, or the INTERRUPT came
    /// before the request waited.
    fn check_waiting_callers(&mut self, transport: &Transport, fx: &mut Effects) {
        if self.unconfirmed_waits.is_empty() {
            return;
        }
        let instant = Instant::now();
        for _ in 0..MAX_CHECKS_PER_TURN {
            if self.unconfirmed_waits.peek().is_none_or(|wait| wait.due.0 > instant) {
                return;
            }
            let Some(mut wait) = self.unconfirmed_waits.pop() else { return };
            if !self.holds(wait.slot, wait.unique) {
                continue;
            }
            match sleep_state(wait.pid) {
                // It waits for longer than most calls do, and its payload is not needed any longer.
                Some(SleepState::Interruptible) => self.ring.shrink(wait.slot),
                Some(SleepState::Uninterruptible) => transport.interrupt(wait.unique, fx, self),
                // It is about to enter one of these states, or it is stopped.
                _ => {
                    wait.interval = (wait.interval * 2).min(MAX_CHECK_INTERVAL);
                    wait.due = Reverse(instant + wait.interval);
                    self.unconfirmed_waits.push(wait);
                }
            }
        }
    }

    /// How long the ring may wait for the kernel; `None` for no limit.
    fn wait_limit(&self) -> Option<Duration> {
        let check = self.unconfirmed_waits.peek().map(|wait| wait.due.0);
        let due = self.queues.iter().filter_map(Queue::kick_due).chain(check).min();
        due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// Sends kicks to queues in which requests may be pending although entries are free.
    fn kick_stalled_queues(&mut self, transport: &Transport) {
        for queue in &mut self.queues {
            if queue.kick_due().is_none() {
                continue;
            }
            let Some((unique, node)) = queue.take_kick(Instant::now()) else { continue };
            let (id, kick) = (queue.id(), reply::encode_kick(unique, node));
            match cpus::on_cpu(usize::from(id), self.cpu, || transport.write(0, &kick)) {
                Some(Ok(())) => {}
                Some(Err(Errno::NOENT)) => queue.kick_refused(),
                Some(Err(error)) => warn!("pending requests of CPU {id} may be stalled: {error}"),
                None => debug!("CPU {id} is offline; its pending requests wait until it is back"),
            }
        }
    }

    /// Whether an entry holds the request `unique`, unanswered.
    fn holds(&self, slot: Slot, unique: u64) -> bool {
        self.entries.get(slot as usize).is_some_and(|entry| entry.unique == unique && unique != 0)
    }

    fn queue_of(&mut self, slot: Slot) -> Option<&mut Queue> {
        let id = self.ring.queue(slot)?;
        self.queues.iter_mut().find(|queue| queue.id() == id)
    }
}

impl Responder for RingServer {
    fn answer(&mut self, request_id: RequestId, reply: &Reply) -> bool {
        let slot = match ReplyPath::from(request_id.reply_path) {
            ReplyPath::Entry { ring, slot } if ring == self.index => slot,
            _ => return false,
        };
        if !self.holds(slot, request_id.unique) {
            error!("request {} is no longer in its entry", request_id.unique);
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
        let epoch = self.queue_of(slot).map(Queue::answer_committed).unwrap_or_default();
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            *entry = EntryState { unique: 0, epoch };
        }
        true
    }

    fn submit(&mut self) {
        if let Err(error) = self.ring.submit() {
            self.failed = Some(error);
        }
    }
}
