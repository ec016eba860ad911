//! What all transports share: they pass requests to the tree, and perform the effects that it returns.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::OsStr;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{debug, error, warn};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use zerocopy::IntoBytes;

use super::abi::RESENT_BIT;
use super::order::{self, Order};
use super::reply::{self, Encoded};
use super::reply_path::ReplyPath;
use super::reply_queue::{Queued, ReplyQueue};
use super::request::DecodeError;
use super::resent::Resent;
use super::run_policy::RunPolicy;
use super::saved_ring::SavedRing;
use super::sleep;
use super::standstill::Standstill;
use super::unclosed::Unclosed;
use crate::engine::{Command, DeliveryId, Event, Settle, Tell};
use crate::history::Recorded;
use crate::journal::Journal;
use crate::op::{
    Effect, Effects, Error, Moment, NodeId, Now, Op, Reply, Request, RequestId, Taken, Timestamp,
};
use crate::sys::{heap, process};

/// Longest time that the timer sleeps before it reads the clock again: it does not sleep by that clock, but by one that stands
/// still while the machine is suspended.
const MAX_SLEEP: Duration = Duration::from_secs(10);

/// How long after an INTERRUPT for a request that does not wait it is asked for again. Most such requests are being handled by
/// another thread, and answered by then.
const INTERRUPT_AGAIN: Duration = Duration::from_millis(1);

/// Longest time between two looks at a caller who waits for the disk and got a signal.
const MAX_LOOK_INTERVAL: Duration = Duration::from_millis(160);

/// Longest time that a standstill waits for the journal, before it looks whether all go on.
const MAX_SETTLE: Duration = Duration::from_millis(100);

/// Longest time that the end of a mount waits for answers to be submitted.
const MAX_FLUSH: Duration = Duration::from_secs(2);

/// What [`Transport::run_timer`] is told.
#[derive(Debug)]
pub enum Alarm {
    /// To call the tree at this time.
    At(Moment),
    /// To look after this time at a request whose caller got a signal.
    Interrupt(u64, Duration),
    /// To look at lock calls that wait for earlier requests.
    Doubt,
    /// To stand still.
    StandStill,
}

/// The connection between the kernel and the tree, shared by all threads that serve.
pub struct Transport {
    /// Descriptors of the device, each with its own queue of requests being processed.
    pub(super) devices: Vec<Arc<OwnedFd>>,
    /// For each ring, the answers that threads other than its own have given.
    pub(super) reply_queues: Vec<Arc<ReplyQueue>>,
    pub(super) tree: Recorded,
    order: Order,
    pub(super) resent: Resent,
    pub(super) unclosed: Unclosed,
    journal: Option<Arc<Journal>>,
    /// Takes what the tree wants of the engine.
    engine: Option<Tell>,
    /// Leads to [`Transport::run_timer`].
    alarms: Sender<Alarm>,
    /// The thread in [`Transport::run_work`].
    worker: OnceLock<Thread>,
    pub(super) standstill: Standstill,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("tree", &self.tree).finish_non_exhaustive()
    }
}

fn delivery_of(taken: &Taken) -> Option<DeliveryId> {
    if let Taken::Delivery(delivery) = taken { Some(*delivery) } else { None }
}

/// A thread that can send the answers to its own requests directly.
pub(super) trait Responder {
    /// Sends the answer if the request is one of this thread's own. False if it is not.
    fn answer(&mut self, request_id: RequestId, reply: &Reply) -> bool;

    /// Returns when the kernel has all answers that this thread has sent.
    fn submit(&mut self);
}

/// The responder of a thread that has no requests of its own.
pub(super) struct NoResponder;

impl Responder for NoResponder {
    fn answer(&mut self, _: RequestId, _: &Reply) -> bool {
        false
    }

    fn submit(&mut self) {}
}

impl Transport {
    /// A transport over these descriptors and rings. `journal` is the tree's. `alarms` leads to [`Transport::run_timer`].
    pub fn new(
        devices: Vec<Arc<OwnedFd>>,
        reply_queues: Vec<Arc<ReplyQueue>>,
        tree: Recorded,
        journal: Option<Arc<Journal>>,
        engine: Option<Tell>,
        alarms: Sender<Alarm>,
    ) -> Transport {
        let (order, resent, unclosed) = (Order::default(), Resent::default(), Unclosed::default());
        let (worker, standstill) = (OnceLock::new(), Standstill::default());
        Transport {
            devices,
            reply_queues,
            tree,
            order,
            resent,
            unclosed,
            journal,
            engine,
            alarms,
            worker,
            standstill,
        }
    }

    /// Passes one decoded request to the tree. What has to be done then is added to `fx`.
    pub(super) fn handle(&self, request: Result<Request<'_>, DecodeError>, fx: &mut Effects) {
        self.handle_and(request, || (), fx);
    }

    /// The same. Calls `written` as soon as the request is in the history, if there is one.
    pub(super) fn handle_and(
        &self,
        request: Result<Request<'_>, DecodeError>,
        written: impl FnOnce(),
        fx: &mut Effects,
    ) {
        let unique = match request {
            Ok(mut request) => {
                match &mut request.op {
                    Op::Interrupt { unique } => *unique = Resent::first(*unique),
                    _ => self.note_resent(&mut request.request_id),
                }
                if let Op::Open(flags) | Op::Create { flags, .. } = &mut request.op {
                    flags.append = flags.appends() && process::may_limit_files(request.caller.pid);
                }
                debug!("{:?}", Summary(&request));
                if heap::missing() > 0 && heap::fill_reserves() > may_be_missing(&request.op) {
                    fx.fail(request.request_id, Error::NoMemory);
                } else {
                    self.tree.handle_and(&request, now(), written, fx);
                    self.doubt_refusal(&request, fx);
                }
                request.request_id.unique
            }
            Err(DecodeError::Malformed(mut request_id)) => {
                self.note_resent(&mut request_id);
                fx.fail(request_id, Error::Malformed);
                request_id.unique
            }
            Err(error) => return warn!("a request cannot be decoded: {error:?}"),
        };
        self.order.note_handled(unique);
        self.ask_again(None, fx);
    }

    /// The tree knows a request that was sent again by the number that it had first.
    fn note_resent(&self, request_id: &mut RequestId) {
        if let ReplyPath::Device(device) = ReplyPath::from(request_id.reply_path) {
            request_id.unique = self.resent.note(request_id.unique, device);
        }
    }

    /// A lock is not refused while a request may be on its way that frees it. If none is, it is asked again all the same: one may
    /// have been handled meanwhile.
    fn doubt_refusal(&self, request: &Request<'_>, fx: &mut Effects) {
        if !matches!(request.op, Op::Setlk { .. } | Op::Getlk(_)) || !fx.refuses_lock(request.request_id) {
            return;
        }
        fx.take_back(request.request_id);
        if self.order.is_certain(request) {
            self.tree.handle(request, now(), fx);
        } else {
            // Fails only if the timer has ended with the mount.
            let _ = self.alarms.send(Alarm::Doubt);
        }
    }

    /// Lock calls that have waited for earlier requests are decided: those whose earlier requests are handled by now, and those
    /// that have waited for as long as `given_up`.
    fn ask_again(&self, given_up: Option<Duration>, fx: &mut Effects) {
        while let Some(request) = self.order.next_certain(given_up) {
            self.tree.handle(&request, now(), fx);
        }
    }

    /// Calls the tree at the times that it asked for, until all senders of `alarms` are gone. `alarms` receives what this
    /// transport's `alarms` sends.
    pub fn run_timer(&self, alarms: &Receiver<Alarm>) {
        // What comes from a store may be due already, and nobody has told of it.
        let mut next = Some(Moment::FIRST);
        let mut interrupts: BinaryHeap<Reverse<(Instant, u64, Duration)>> = BinaryHeap::new();
        let mut fx = Effects::new();
        loop {
            self.ask_again(Some(order::PATIENCE), &mut fx);
            self.close_unclosed(&mut fx);
            self.perform(&mut fx, &mut NoResponder);
            let patience = self.order.patience().into_iter().chain(self.unclosed.patience()).min();
            let left = next.map(|next| Duration::from_nanos(next.since(now().moment)).min(MAX_SLEEP));
            let interrupt = interrupts.peek().map(|next| next.0.0.saturating_duration_since(Instant::now()));
            let alarm = match left.into_iter().chain(interrupt).chain(patience).min() {
                None => alarms.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(left) => alarms.recv_timeout(left),
            };
            match alarm {
                Ok(Alarm::At(alarm)) => next = Some(next.map_or(alarm, |next| next.min(alarm))),
                Ok(Alarm::Interrupt(unique, after)) => {
                    interrupts.push(Reverse((Instant::now() + after, unique, after)));
                }
                Ok(Alarm::StandStill) if self.standstill.is_asked() => {
                    self.standstill.wait_for_others();
                    self.ask_again(Some(Duration::ZERO), &mut fx);
                    self.perform(&mut fx, &mut NoResponder);
                    // Nobody decides anything more, and the rings take answers yet.
                    let settled = |journal: &Arc<Journal>| journal.settle(MAX_SETTLE);
                    while self.standstill.is_asked() && !self.journal.as_ref().is_none_or(settled) {}
                    let kept = interrupts.drain().map(|Reverse((_, unique, _))| unique);
                    let sent = alarms.try_iter().filter_map(|alarm| match alarm {
                        Alarm::Interrupt(unique, _) => Some(unique),
                        Alarm::At(time) => {
                            next = Some(next.map_or(time, |next| next.min(time)));
                            None
                        }
                        Alarm::Doubt | Alarm::StandStill => None,
                    });
                    kept.chain(sent).for_each(|unique| self.request_interrupt_again(unique));
                    self.standstill.stand();
                }
                Ok(Alarm::Doubt | Alarm::StandStill) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while interrupts.peek().is_some_and(|next| next.0.0 <= Instant::now())
                && let Some(Reverse((_, unique, after))) = interrupts.pop()
            {
                if !self.look_at_promise(unique, after * 2, &mut NoResponder) {
                    self.request_interrupt_again(unique);
                }
            }
            let now = now();
            if next.is_some_and(|next| next <= now.moment) {
                next = None;
                self.tree.tick(now, &mut fx);
                self.perform(&mut fx, &mut NoResponder);
            }
        }
    }

    /// Does the tree's work that takes long, for ever. `policy` is that of the threads that serve.
    pub fn run_work(&self, policy: Option<&RunPolicy>) {
        let _ = self.worker.set(thread::current());
        let stand_back = |back| policy.into_iter().for_each(|policy| policy.stand_back(back));
        let mut fx = Effects::new();
        loop {
            if self.standstill.is_worker_asked() {
                self.standstill.stand();
            }
            while !self.standstill.is_worker_asked() && self.tree.work(now(), &mut fx) {
                self.perform(&mut fx, &mut NoResponder);
                // Threads that serve come first where they have the same CPU. During a step this one may hold a file's lock, for
                // which they would wait: then it must run.
                stand_back(true);
                thread::yield_now();
                stand_back(false);
            }
            self.perform(&mut fx, &mut NoResponder);
            if !self.standstill.is_worker_asked() {
                thread::park();
            }
        }
    }

    /// Brings all `threads` that serve to a standstill, and returns what the rings have then. `known` is a plain file that the
    /// kernel knows until this returns.
    ///
    /// # Errors
    /// If threads did not stop in time: which did. Then, too, they stand still until [`Transport::go_on`].
    pub fn stand_still(&self, threads: usize, known: NodeId) -> Result<Vec<SavedRing>, String> {
        self.standstill.bring_about(threads, known, || {
            self.worker.get().into_iter().for_each(Thread::unpark);
            self.reply_queues.iter().for_each(|reply_queue| reply_queue.wake());
            drop(self.alarms.send(Alarm::StandStill));
        })
    }

    /// Lets the threads that serve go on.
    pub fn go_on(&self) {
        self.standstill.end();
        self.worker.get().into_iter().for_each(Thread::unpark);
    }

    /// The descriptors of the device, in the order of their numbers in reply paths.
    pub fn devices(&self) -> &[Arc<OwnedFd>] {
        &self.devices
    }

    /// The numbers of requests that were sent again, and the descriptors that they were read from, for another process.
    pub fn resent(&self) -> Vec<(u64, u32)> {
        self.resent.all()
    }

    /// What another process had of them.
    pub fn note_all_resent(&self, resent: &[(u64, u32)]) {
        for (unique, device) in resent {
            self.resent.note(unique | RESENT_BIT, *device);
        }
    }

    /// Everything below the mount point.
    pub fn tree(&self) -> &Recorded {
        &self.tree
    }

    /// Does what is due. To be called before the first request if the tree is another process's.
    pub fn tick(&self) {
        let mut fx = Effects::new();
        self.tree.tick(now(), &mut fx);
        self.perform(&mut fx, &mut NoResponder);
    }

    /// Passes what the engine reports to the tree.
    pub fn engine(&self, event: Event) {
        let mut fx = Effects::new();
        self.tree.engine(event, now(), &mut fx);
        self.perform(&mut fx, &mut NoResponder);
    }

    fn tell_engine(&self, command: Command) {
        if let Some(engine) = &self.engine {
            engine(command);
        }
    }

    /// Ends the waits that have lasted for `span` or longer, with EINTR.
    pub fn expire(&self, span: Duration) {
        let (mut fx, now) = (Effects::new(), now());
        let limit = now.moment.before(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
        self.tree.expire(limit, now, &mut fx);
        self.perform(&mut fx, &mut NoResponder);
        self.end_promises(limit, Error::Interrupted);
    }

    /// Ends all waits and refuses new ones. Who waits for the disk gets its answer, unless the disk does not respond. Returns when
    /// all answers are submitted, or after 2 s.
    pub fn end(&self) {
        let mut fx = Effects::new();
        self.tree.end(now(), &mut fx);
        self.ask_again(Some(Duration::ZERO), &mut fx);
        self.perform(&mut fx, &mut NoResponder);
        let limit = Instant::now() + MAX_FLUSH;
        let wait_until = |done: &dyn Fn() -> bool| {
            while !done() && Instant::now() < limit {
                thread::sleep(Duration::from_millis(1));
            }
        };
        let promised = |journal: &Arc<Journal>| journal.waiting_since(Moment::LAST).is_empty();
        wait_until(&|| self.journal.as_ref().is_none_or(promised));
        self.end_promises(Moment::LAST, Error::Ending);
        wait_until(&|| self.reply_queues.iter().all(|reply_queue| reply_queue.is_drained()));
    }

    /// Ends the waits for the journal that began at `limit` or before.
    fn end_promises(&self, limit: Moment, error: Error) {
        for unique in self.journal.iter().flat_map(|journal| journal.waiting_since(limit)) {
            self.end_promise(unique, error, &mut NoResponder);
        }
    }

    /// Returns when the work that takes long is done, so that what was accepted is recorded, or after 2 s.
    pub fn finish_work(&self) {
        let limit = Instant::now() + MAX_FLUSH;
        while self.tree.has_work() && Instant::now() < limit {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends the wait of a request for the journal, if it waits for that. What was decided stays so.
    fn end_promise(&self, unique: u64, error: Error, responder: &mut impl Responder) {
        if let Some(request_id) = self.journal.as_ref().and_then(|journal| journal.cancel(unique)) {
            self.answer_all([(request_id, Reply::Failed(error))], responder);
        }
    }

    /// Ends the wait of a request, for whatever it waits.
    pub(super) fn end_wait(
        &self,
        unique: u64,
        error: Error,
        fx: &mut Effects,
        responder: &mut impl Responder,
    ) {
        self.tree.cancel_wait(unique, error, now(), fx);
        self.perform(fx, responder);
        self.end_promise(unique, error, responder);
    }

    /// Ends the wait of a request whose caller got a signal.
    pub(super) fn interrupt(&self, unique: u64, fx: &mut Effects, responder: &mut impl Responder) {
        self.tree.cancel_wait(unique, Error::Interrupted, now(), fx);
        self.perform(fx, responder);
        self.look_at_promise(unique, INTERRUPT_AGAIN, responder);
    }

    /// Ends the wait of a request for the journal if its caller is being killed; otherwise looks at it again after a while,
    /// because the kernel sends one INTERRUPT only. Another signal does not end a write to a disk: its caller would not know
    /// whether the message was accepted, and would send it again. False if the request waits for nothing of the journal.
    fn look_at_promise(&self, unique: u64, again: Duration, responder: &mut impl Responder) -> bool {
        let Some(request_id) = self.journal.as_ref().and_then(|journal| journal.find(unique)) else {
            return false;
        };
        if sleep::is_being_killed(request_id.pid) {
            self.end_promise(unique, Error::Interrupted, responder);
        } else {
            // Fails only if the timer has ended with the mount.
            let _ = self.alarms.send(Alarm::Interrupt(unique, again.min(MAX_LOOK_INTERVAL)));
        }
        true
    }

    /// Performs effects. The caller must hold no lock.
    pub(super) fn perform(&self, fx: &mut Effects, responder: &mut impl Responder) {
        let (mut taken, in_hand) = (Vec::new(), fx.in_hand());
        let answer = |request_id, reply, taken| Queued { request_id, reply, taken, in_hand };
        for effect in fx.drain() {
            match effect {
                Effect::Reply(request_id, reply) => {
                    self.answer(answer(request_id, reply, Vec::new()), responder);
                }
                Effect::Deliver(request_id, reply, messages) => {
                    taken.extend(self.answer(answer(request_id, reply, messages), responder));
                }
                Effect::Promise(barrier, request_id, reply) => {
                    let reply = match &self.journal {
                        Some(journal) => journal.defer(barrier, request_id, reply, now().moment),
                        None => Some(reply),
                    };
                    self.answer_all(reply.map(|reply| (request_id, reply)), responder);
                }
                // ENOENT: nobody polls any longer.
                Effect::Wake(handle) => drop(self.write(0, &reply::encode_wake(handle))),
                // ENOENT: the kernel has forgotten the node and its attributes.
                Effect::InvalidateAttr(node) => drop(self.write(0, &reply::encode_invalidate_attr(node))),
                // EINVAL: the kernel is older.
                Effect::Prune(nodes) => drop(self.write(0, &reply::encode_prune(&nodes))),
                Effect::InterruptAgain { unique } => {
                    if !self.look_at_promise(unique, INTERRUPT_AGAIN, responder) {
                        // Fails only if the timer has ended with the mount.
                        let _ = self.alarms.send(Alarm::Interrupt(unique, INTERRUPT_AGAIN));
                    }
                }
                Effect::Alarm(time) => drop(self.alarms.send(Alarm::At(time))),
                Effect::Work => self.worker.get().into_iter().for_each(Thread::unpark),
                Effect::ShareReached { uid, resource } => {
                    let name = resource.name();
                    warn!("user {uid} has used up the share of {name}: see control/users/{uid}");
                }
                Effect::Engine(command) => self.tell_engine(*command),
                Effect::TrimHeap => heap::trim(),
            }
        }
        if !taken.is_empty() {
            responder.submit();
        }
        self.record(taken, responder);
        self.tree.performed(fx);
    }

    /// Records that messages are gone whose readers' answers the kernel has, and has the journal written. A message of which this
    /// is not written when the daemon dies is delivered once more.
    pub(super) fn record(&self, taken: Vec<Taken>, responder: &mut impl Responder) {
        for delivery in taken.iter().filter_map(delivery_of) {
            self.tell_engine(Command::Settle(delivery, Settle::Ack, None));
        }
        let Some(journal) = &self.journal else { return };
        journal.put_taken(taken);
        let mut due = Vec::new();
        journal.write_soon(&mut due);
        self.answer_all(due, responder);
    }

    fn answer_all(&self, due: impl IntoIterator<Item = (RequestId, Reply)>, responder: &mut impl Responder) {
        for (request_id, reply) in due {
            let answer = Queued { request_id, reply, taken: Vec::new(), in_hand: None };
            self.answer(answer, responder);
        }
    }

    /// Writes the journal, until it ends.
    pub fn run_journal_writer(&self) {
        if let Some(journal) = &self.journal {
            journal.run_writer(|due| self.answer_all(due.drain(..), &mut NoResponder));
        }
    }

    /// Synchronizes and compacts the journal, until it ends.
    pub fn run_journal(&self) {
        if let Some(journal) = &self.journal {
            journal.run(|due| self.answer_all(due.drain(..), &mut NoResponder));
        }
    }

    /// Sends an answer that hands over messages. Returns those for which it is on its way; of the others, the thread that the
    /// answer was left to will record that they are gone.
    fn answer(&self, answer: Queued, responder: &mut impl Responder) -> Vec<Taken> {
        let Queued { request_id, reply, taken, in_hand } = answer;
        match ReplyPath::from(request_id.reply_path) {
            ReplyPath::Device(index) => {
                if !self.answer_device(index, request_id, &reply) {
                    // Its reader has nothing of it. (A durable one is delivered once more by the next daemon.)
                    let back = |delivery| self.tell_engine(Command::Settle(delivery, Settle::Nack, None));
                    taken.iter().filter_map(delivery_of).for_each(back);
                    return taken.into_iter().filter(|taken| delivery_of(taken).is_none()).collect();
                }
            }
            ReplyPath::Entry { ring, .. } => {
                if !responder.answer(request_id, &reply)
                    && let Some(reply_queue) = self.reply_queues.get(ring as usize)
                {
                    if let Some(generation) = in_hand {
                        self.tree.leave_answer(generation);
                    }
                    reply_queue.put(Queued { request_id, reply, taken, in_hand });
                    return Vec::new();
                }
            }
        }
        taken
    }

    /// False if the kernel does not take the answer.
    fn answer_device(&self, index: u32, mut request_id: RequestId, reply: &Reply) -> bool {
        let mut index = index;
        if let Some((device, unique)) = self.resent.take(request_id.unique) {
            (index, request_id.unique) = (device, unique);
        }
        match self.write(index, &reply::encode(request_id, reply)) {
            Ok(()) => return true,
            // The request was aborted with the mount.
            Err(Errno::NOENT | Errno::NODEV) => debug!("request {} is gone", request_id.unique),
            Err(refused) => {
                // The log must not contain the answer itself, which may be a message.
                error!("the kernel refuses the answer to request {}: {refused}", request_id.unique);
                let failed = Reply::Failed(Error::Io);
                if let Err(error) = self.write(index, &reply::encode(request_id, &failed)) {
                    error!("request {} cannot be answered: {error}", request_id.unique);
                }
            }
        }
        false
    }

    /// Answers an INTERRUPT so that the kernel sends it again if its request is still unanswered. The kernel accepts this
    /// only on the descriptor that the request was read from, which is not known here. Requests of a ring are not found this
    /// way; `uring` checks their callers.
    fn request_interrupt_again(&self, unique: u64) {
        let message = reply::encode_interrupt_again(self.resent.number(unique));
        let _ = (0..self.devices.len()).any(|index| self.write(index as u32, &message).is_ok());
    }

    /// Writes a message to the device with index `device`.
    pub(super) fn write(&self, device: u32, message: &Encoded<'_>) -> Result<(), Errno> {
        let device = self.devices.get(device as usize).ok_or(Errno::INVAL)?;
        let parts = [message.header.as_bytes(), message.head(), message.tail()].map(IoSlice::new);
        loop {
            // The device accepts a whole message or nothing.
            match rustix::io::writev(device, &parts) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The time. The tree and all below it are told this time and never ask for it.
pub fn now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall = Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
    let boot = clock_gettime(ClockId::Boottime);
    let moment = boot.tv_sec.saturating_mul(1_000_000_000).saturating_add(boot.tv_nsec);
    Now { wall, moment: Moment(moment) }
}

/// How many of the heap's reserves may be missing for an operation. Those that keep memory need all; those that look for
/// files need half, so that files can be removed; those that free memory or cannot be refused need none.
fn may_be_missing(op: &Op<'_>) -> usize {
    match op {
        Op::Mknod { .. }
        | Op::Mkdir { .. }
        | Op::Rename { .. }
        | Op::Create { .. }
        | Op::Write { .. }
        | Op::Setxattr { .. }
        | Op::Setlk { .. }
        | Op::CopyFileRange(_) => 0,
        Op::Lookup { .. } | Op::Open(_) | Op::Opendir | Op::Readdir { .. } => heap::RESERVES / 2,
        _ => usize::MAX,
    }
}

/// A request as it is logged: without message bodies and values, and with names as text.
struct Summary<'a>(&'a Request<'a>);

impl std::fmt::Debug for Summary<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let request = self.0;
        write!(f, "#{} node {} pid {}: ", request.request_id.unique, request.node.0, request.caller.pid)?;
        match &request.op {
            Op::Write { fh, offset, data, .. } => {
                write!(f, "Write {fh:?} offset {offset}, {} bytes", data.len())
            }
            Op::Setxattr { name, value, .. } => {
                write!(f, "Setxattr {:?}, {} bytes", shown(name), value.len())
            }
            Op::Lookup { name } => write!(f, "Lookup {:?}", shown(name)),
            Op::Mknod { name, mode } => write!(f, "Mknod {:?} mode {mode:o}", shown(name)),
            Op::Mkdir { name, mode } => write!(f, "Mkdir {:?} mode {mode:o}", shown(name)),
            Op::Create { name, mode, flags } => write!(f, "Create {:?} mode {mode:o} {flags:?}", shown(name)),
            Op::Unlink { name } => write!(f, "Unlink {:?}", shown(name)),
            Op::Rmdir { name } => write!(f, "Rmdir {:?}", shown(name)),
            Op::Rename { name, new_parent, new_name, how } => {
                let (name, new_name) = (shown(name), shown(new_name));
                write!(f, "Rename {name:?} to {new_name:?} in node {}, {how:?}", new_parent.0)
            }
            Op::Getxattr { name, size } => write!(f, "Getxattr {:?}, {size} bytes", shown(name)),
            Op::Removexattr { name } => write!(f, "Removexattr {:?}", shown(name)),
            other => write!(f, "{other:?}"),
        }
    }
}

/// Prints in quotes, with escapes for what is no text.
fn shown(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}
