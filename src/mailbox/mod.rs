//! A message queue: what a send, a receive, a wait and a removal do to it. No I/O, no clock, no lock of its own.
//!
//! A mailbox is always in one of four conditions, from which everything else follows:
//!
//! ```text
//!              send                      send, no room
//!   idle ◀──────────────▶ holding ◀────────────────────▶ full: writers wait
//!    ▲  receive the last            receive admits one
//!    │ receive / send
//!    ▼
//!   awaited: readers wait            remove, from any: removed, for good
//! ```
//!
//! Invariant: *while a reader waits, no message that it would take is queued, and no waiting writer has one.* So a send
//! looks for a waiting reader first, and a reader that finds nothing lets waiting writers try again: a writer that is
//! blocked only by the mount's memory limit can deliver to the reader without queueing.
//!
//! A mailbox has several doors ([`Door`]); each open file came through one. Each file here has one subject: `send` and
//! `writers` (writing, capacity, waiting writers), `lines` (writing through `stream` and `whole`), `receive` and
//! `readers` (reading, waiting readers), `durable` (the journal), `delayed`, `lease` and `lease_many` (leases, time limits, dead
//! letters), `due`, `rpc`, `messages` (single messages), `once`, `purge`.

mod call;
mod delayed;
mod due;
mod durable;
mod json;
mod lease;
mod lease_many;
mod lines;
mod memory;
mod message;
mod messages;
mod once;
mod ordered_queue;
mod purge;
mod queue;
mod readers;
mod receive;
mod rpc;
mod send;
#[cfg(test)]
mod tests;
mod waited;
mod writers;

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use slab::Slab;

use crate::accounts::Account;
use crate::config::MailboxLimits;
use crate::framing::{Framing, Single};
use crate::op::{Error, FileTime, Moment, PollHandle, Poller, Ready, Reply, Slice};
use crate::state::saved;
use call::Selector;
use delayed::Delayed;
use durable::Store;
use lease::Lease;
use lease_many::Leases;
use once::Keys;
use ordered_queue::OrderedQueue;
use queue::Queue;
use readers::{Readers, WaitingReader};
use rpc::{Outstanding, Request};
use writers::{PartialMessage, WaitingWriter};

pub use call::{
    Context, Counts, DeadLetter, Door, HandleId, Mode, Properties, Receive, Removal, Rules, Send, WaitId,
    Waiter, WhenFull,
};
pub use durable::shown;
pub(crate) use json::{Facts, write_facts};
pub(crate) use lease::parse as parse_settling;
pub use lines::LongText;
pub(crate) use memory::charge_in_hand;
pub use memory::{MESSAGE_COST, Memory};
pub use message::{Message, Tag};
pub use purge::{Purge, Purging};
pub use queue::Order;
pub use waited::Waited;

/// Messages, or runs of them, that one call frees.
const DISCARDED_AT_ONCE: usize = 1000;

/// Waiting callers, or pollers, that one call tells that the name is gone.
const ENDED_AT_ONCE: usize = 200;

/// What went with the name.
#[derive(Debug)]
struct Discarded {
    readers: std::vec::IntoIter<WaitingReader>,
    writers: OrderedQueue<WaitId, WaitingWriter>,
    polls: std::vec::IntoIter<PollHandle>,
    messages: Queue,
    delayed: Delayed,
    requests: BTreeMap<u64, Request>,
    keys: Option<Box<Keys>>,
}

saved!(struct Discarded { readers, writers, polls, messages, delayed, requests, keys since 3 });

/// A message queue.
#[derive(Debug)]
pub struct Mailbox {
    limits: MailboxLimits,
    rules: Rules,
    queue: Queue,
    delayed: Delayed,
    readers: Readers,
    writers: OrderedQueue<WaitId, WaitingWriter>,
    handles: Slab<Open>,
    /// Requests that no server has taken yet, by id.
    requests: BTreeMap<u64, Request>,
    request_bytes: u64,
    /// Who waited and what was queued when the name was removed, until [`Mailbox::discard`] is done with it.
    discarded: Option<Box<Discarded>>,
    /// When leases end by themselves.
    lease_ends: BTreeSet<(Moment, HandleId)>,
    /// Where it can be kept, in a mount with a store.
    store: Option<Store>,
    /// Dead letters, until the tree moves them to the dead-letter mailbox.
    outbox: Vec<Message>,
    /// Open files whose pollers wait for something to read, and for room to write.
    polls_in: BTreeMap<HandleId, PollHandle>,
    polls_out: BTreeMap<HandleId, PollHandle>,
    /// A poller in `polls_out` was told "not writable" when only the mount's memory limit was in the way.
    polls_blocked_by_memory: bool,
    /// Writers that may not wait for room, and wait until what is due is done.
    deferred: BTreeSet<WaitId>,
    /// A writer needs more room than one step makes by dropping messages.
    dropping: bool,
    next_wait: u64,
    /// Counters of events. Current figures are computed in [`Mailbox::counts`].
    counters: Counts,
    /// Of messages that are sent once. `None` if there are none.
    keys: Option<Box<Keys>>,
    /// How long messages waited. `None` until one was received.
    waited: Option<Box<Waited>>,
    removed: bool,
    /// Time of the last send, or set by utimes(2).
    pub last_sent: FileTime,
    /// Time of the last receive, or set by utimes(2).
    pub last_received: FileTime,
}

saved!(struct Mailbox {
    limits, rules, queue, delayed, readers, writers, handles, requests, request_bytes, discarded, lease_ends,
    store, outbox, polls_in, polls_out, polls_blocked_by_memory, next_wait, counters, keys since 3, waited,
    removed, last_sent, last_received, deferred since 2, dropping since 2,
});

#[derive(Debug)]
struct Open {
    door: Door,
    mode: Mode,
    /// Of the user who opened it, on whose behalf it holds what it holds.
    account: Arc<Account>,
    framing: Framing,
    /// Reads through this open file that wait.
    waiting: u32,
    /// The kernel had split a write. Its first part became a message and a later part was refused. The next write is
    /// refused too, so that a program that continues with the rest (as users of sendfile(2) do) gets an error instead
    /// of a second message.
    split_refused: bool,
    /// Its program has asked for a copy by the kernel (sendfile(2)), as those do that copy files: it gets one message, and from then
    /// on the end of the file, however far it reads. True until it has got it.
    copies: Option<bool>,
    state: State,
}

saved!(struct Open { door, mode, account, framing, waiting, split_refused, copies since 3, state });

/// What an open file holds besides the message that it reads.
#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    /// Bytes written that are not a message yet.
    Partial(Box<PartialMessage>),
    Leasing(Box<Lease>),
    /// Through `lease.json`, which has had some; there may be none now.
    LeasingMany(Box<Leases>),
    /// An rpc client's request that has no reply yet.
    Requesting(Outstanding),
    /// The request that an rpc server has taken and not replied to.
    Serving(Box<Request>),
}

saved!(enum State {
    0 = Idle, 1 = Partial(it), 2 = Leasing(it), 3 = Requesting(it), 4 = Serving(it), 5 = LeasingMany(it),
});

impl Mailbox {
    /// An empty mailbox.
    pub fn new(limits: MailboxLimits, now: FileTime) -> Mailbox {
        Mailbox {
            limits,
            rules: Rules::default(),
            queue: Queue::default(),
            delayed: Delayed::default(),
            readers: Readers::default(),
            writers: OrderedQueue::default(),
            handles: Slab::new(),
            requests: BTreeMap::new(),
            request_bytes: 0,
            discarded: None,
            lease_ends: BTreeSet::new(),
            store: None,
            outbox: Vec::new(),
            polls_in: BTreeMap::new(),
            polls_out: BTreeMap::new(),
            polls_blocked_by_memory: false,
            deferred: BTreeSet::new(),
            dropping: false,
            next_wait: 0,
            counters: Counts::default(),
            keys: None,
            waited: None,
            removed: false,
            last_sent: now,
            last_received: now,
        }
    }

    /// With rules of its own from the start.
    #[must_use]
    pub fn with_rules(mut self, rules: Rules) -> Mailbox {
        self.rules = rules;
        self.queue.set_order(rules.order);
        self
    }

    /// Opens it through `door`, for the user whose `account` it is. Returns true if the reader may seek within a message.
    pub fn open(&mut self, door: Door, mode: Mode, account: Arc<Account>) -> (HandleId, bool) {
        let framing = match (&door, mode) {
            (Door::Lease | Door::Rpc | Door::Serve, _) => Framing::Single(Single::Idle),
            (Door::Stream | Door::Json | Door::LeaseJson, _) | (_, Mode::Both | Mode::Send) => {
                Framing::Stream(Vec::new())
            }
            _ => Framing::File(None),
        };
        let seekable = matches!(framing, Framing::File(_));
        let state = State::Idle;
        let open =
            Open { door, mode, account, framing, waiting: 0, split_refused: false, copies: None, state };
        (HandleId(self.handles.insert(open)), seekable)
    }

    /// Closes an open file. The rest of a partly read message is lost; a leased message returns to the queue; what was
    /// written through `stream` or `whole` and is not a message yet is sent. If it is long, it is returned instead.
    pub fn close(&mut self, handle: HandleId, cx: &mut Context<'_>) -> Option<Box<LongText>> {
        let open = self.handles.get(handle.0)?;
        // The kernel releases an open file after its last request was answered, so no read waits. If one does
        // nevertheless, it must not wait for ever.
        let selector = open.door.selector(handle);
        for _ in 0..open.waiting {
            let Some(reader) = self.readers.remove_by_handle(handle, &selector) else { break };
            cx.fx.fail(reader.call.request_id, Error::BadDescriptor);
        }
        self.polls_in.remove(&handle);
        self.polls_out.remove(&handle);
        let mut long = None;
        if let Some(Open { state, framing, account, .. }) = self.handles.try_remove(handle.0) {
            let idle = matches!(state, State::Idle) && framing.charged() == 0;
            drop(framing);
            match state {
                State::Idle => {}
                State::Partial(partial) if partial.bytes.is_empty() || partial.incomplete => {}
                State::Partial(partial) if partial.bytes.len() > LongText::STEP => {
                    long = Some(Box::new(LongText::new(*partial, handle, account)));
                }
                State::Partial(partial) => self.send_partial(*partial, handle, account, cx),
                State::Leasing(lease) => self.return_lease(handle, *lease, None, cx),
                State::LeasingMany(leases) => self.return_all_leases(handle, *leases, cx),
                State::Requesting(outstanding) => self.cancel_request(&outstanding),
                State::Serving(request) => self.return_request(*request, cx),
            }
            // An idle file changes nothing, and edge-triggered pollers must not be woken for nothing.
            if !idle {
                self.admit_writers(cx);
            }
        }
        if self.handles.is_empty() {
            self.handles = Slab::new();
        }
        long
    }

    /// A read. Answered now, unless the caller has to wait: then its wait is returned; or unless it is postponed.
    pub fn receive(&mut self, call: Receive, cx: &mut Context<'_>) -> Option<WaitId> {
        // Another read through the same open file may wait for what is due.
        let caught_up = self.catch_up(cx);
        let Some(open) = self.handles.get_mut(call.handle.0).filter(|open| open.mode.reads()) else {
            cx.fx.fail(call.request_id, Error::BadDescriptor);
            return None;
        };
        let (charged, answered) = (open.framing.charged(), open.answer(&call, cx));
        if open.framing.charged() < charged {
            self.admit_writers(cx);
        }
        if answered {
            return None;
        }
        let open = self.handles.get(call.handle.0)?;
        if open.copies == Some(false) && matches!(open.framing, Framing::File(_)) {
            cx.fx.reply(call.request_id, Reply::Message(Slice::whole(Vec::new())));
            return None;
        }
        if self.removed {
            cx.fx.fail(call.request_id, Error::Removed);
            return None;
        }
        if matches!(open.door, Door::Rpc) && !matches!(open.state, State::Requesting(_)) {
            cx.fx.fail(call.request_id, Error::NoMessage);
            return None;
        }
        if !caught_up && matches!(open.door.selector(call.handle), Selector::Message(_) | Selector::Peek) {
            cx.fx.postpone();
            return None;
        }
        if self.has_all_leases(call.handle) {
            cx.fx.fail(call.request_id, Error::Busy);
            return None;
        }
        if self.receive_from_queue(&call, cx) {
            self.admit_writers(cx);
            return None;
        }
        // If no writer waits either, there is nothing to receive. A read that will not wait must not wake pollers.
        if call.nonblock && self.writers.is_empty() {
            cx.fx.fail(call.request_id, Error::WouldWait);
            return None;
        }
        let open = self.handles.get_mut(call.handle.0)?;
        open.waiting += 1;
        open.framing.release();
        let selector = open.door.selector(call.handle);
        let id = self.next_wait();
        self.readers.push_back(id, selector.clone(), WaitingReader { call, since: cx.now.moment });
        // A write would not wait now, even if the mount's memory is full.
        self.admit_writers(cx);
        if self.readers.waits(id) {
            self.receive_from_writers(&selector, cx);
        }
        if !self.readers.waits(id) {
            return None;
        }
        if call.nonblock {
            self.cancel(id, Error::WouldWait, cx);
            return None;
        }
        Some(id)
    }

    /// The program that reads `handle` has asked for a copy by the kernel.
    pub fn note_copying(&mut self, handle: HandleId) {
        self.handles.get_mut(handle.0).into_iter().for_each(|open| open.copies = Some(true));
    }

    /// Takes a short step towards the index that reading or polling `handle` needs. True if it is complete: then neither takes
    /// long.
    pub fn index_some(&mut self, handle: HandleId) -> bool {
        match self.handles.get(handle.0).map(|open| open.door.selector(handle)) {
            Some(Selector::Message(filter)) => self.queue.index_some(&filter),
            _ => true,
        }
    }

    /// What poll(2) reports. The next change that it waits for wakes the poller `arm`, and removal in any case.
    pub fn poll(&mut self, handle: HandleId, arm: Option<Poller>) -> Ready {
        let Some(open) = self.handles.get(handle.0) else {
            return Ready { hangup: true, ..Ready::default() };
        };
        let (reads, writes) = (open.mode.reads(), open.mode.writes());
        let selector = open.door.selector(handle);
        let never_waits = matches!(open.door, Door::Whole | Door::Lease | Door::LeaseJson | Door::Serve);
        let requesting = matches!(open.state, State::Requesting(_));
        let needs_next = open.framing.needs_next() && !self.has_all_leases(handle);
        let framing_ready = open.framing.ready();
        let readable = reads
            && (framing_ready
                || needs_next
                    && (self.writer_matches(&selector)
                        || match &selector {
                            Selector::Message(filter) => self.queue.has_matching(filter),
                            Selector::Peek => !self.queue.is_empty(),
                            Selector::Request => !self.requests.is_empty(),
                            Selector::Reply(_) => false,
                        }));
        let room = never_waits || self.writable(open) || self.reader_waits_for(open);
        let has_capacity = self.has_capacity(&open.account);
        let writable = writes && room && !self.removed && !(requesting && matches!(open.door, Door::Rpc));
        let ready = Ready { readable, writable, hangup: self.removed };
        if let Some(Poller { handle: poll, events }) = arm {
            let output = writes && events.output;
            if !output || reads && events.input {
                self.polls_in.insert(handle, poll);
            }
            if output {
                self.polls_blocked_by_memory &= !self.polls_out.is_empty();
                self.polls_blocked_by_memory |= !room && has_capacity;
                self.polls_out.insert(handle, poll);
            }
        }
        ready
    }

    /// Ends a wait with `error`: the caller got a signal, or may not wait any longer. False if it was answered already.
    pub fn cancel(&mut self, id: WaitId, error: Error, cx: &mut Context<'_>) -> bool {
        if let Some(reader) = self.readers.remove(id) {
            self.wait_ended(reader.call.handle);
            cx.fx.fail(reader.call.request_id, error);
            return true;
        }
        if let Some(writer) = self.writers.remove(id) {
            self.fail_writer(writer, error, cx);
            // The writers behind it may have shorter messages.
            self.admit_writers(cx);
            return true;
        }
        false
    }

    /// The name was removed. All waits and all later calls fail with `Removed`. Returns the number of messages lost. If there is
    /// much, [`Mailbox::discard`] must do the rest.
    pub fn remove(&mut self, cx: &mut Context<'_>) -> u64 {
        self.record_removed(cx);
        self.removed = true;
        let lost = self.queue.depth() + self.delayed.len();
        let polls =
            mem::take(&mut self.polls_in).into_values().chain(mem::take(&mut self.polls_out).into_values());
        let polls: Vec<PollHandle> = polls.collect();
        self.discarded = Some(Box::new(Discarded {
            readers: self.readers.drain().into_iter(),
            writers: mem::take(&mut self.writers),
            polls: polls.into_iter(),
            messages: self.queue.clear(),
            delayed: mem::take(&mut self.delayed),
            requests: mem::take(&mut self.requests),
            keys: self.keys.take(),
        }));
        self.request_bytes = 0;
        lost
    }

    /// Tells some of those who waited that the name is gone, and then frees some of the messages and requests that went with it.
    /// False if there are no more.
    pub fn discard(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(mut rest) = self.discarded.take() else { return false };
        for _ in 0..ENDED_AT_ONCE {
            if let Some(reader) = rest.readers.next() {
                self.wait_ended(reader.call.handle);
                cx.fx.fail(reader.call.request_id, Error::Removed);
            } else if let Some(writer) = rest.writers.pop_front() {
                self.fail_writer(writer, Error::Removed, cx);
            } else if let Some(poll) = rest.polls.next() {
                cx.fx.wake(poll);
            } else {
                break;
            }
        }
        let told = rest.readers.len() == 0 && rest.writers.is_empty() && rest.polls.len() == 0;
        let free_one = |_| {
            rest.messages.pop_run(usize::MAX).is_some()
                || rest.delayed.pop_first().is_some()
                || rest.requests.pop_first().is_some()
                || rest.keys.as_mut().is_some_and(|keys| keys.pop_first().is_some())
        };
        let more = !told || (0..DISCARDED_AT_ONCE).all(free_one);
        self.discarded = more.then_some(rest);
        more
    }

    /// Ends all waits with `error`.
    pub fn end_waits(&mut self, error: Error, cx: &mut Context<'_>) {
        for reader in self.readers.drain() {
            self.wait_ended(reader.call.handle);
            cx.fx.fail(reader.call.request_id, error);
        }
        while let Some(writer) = self.writers.pop_front() {
            self.fail_writer(writer, error, cx);
        }
    }

    /// The limits in force.
    pub fn limits(&self) -> MailboxLimits {
        self.limits
    }

    /// Changes the limits. Queued messages stay, even beyond the new limits.
    pub fn set_limits(&mut self, limits: MailboxLimits, cx: &mut Context<'_>) {
        self.limits = limits;
        self.admit_writers(cx);
    }

    /// The rules in force.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Changes the rules, for waiting callers and for messages sent from now on.
    pub fn set_rules(&mut self, rules: Rules, cx: &mut Context<'_>) {
        self.rules = rules;
        self.queue.set_order(rules.order);
        self.admit_writers(cx);
        if rules.full == WhenFull::Fail {
            // Messages whose writer has closed its file keep waiting: no caller is left to get the error.
            while let Some(writer) = self.writers.remove_first(|writer| writer.request_id.is_some()) {
                self.fail_writer(writer, Error::NoSpace, cx);
            }
            self.admit_writers(cx);
        }
    }

    /// True once the name was removed.
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// Counters and current figures.
    pub fn counts(&self) -> Counts {
        Counts {
            depth: self.queue.depth(),
            delayed: self.delayed.len(),
            bytes: self.queue.bytes() + self.bytes_beside_queue(),
            waiting_readers: self.readers.len() as u64,
            waiting_writers: self.writers.len() as u64,
            requests: self.requests.len() as u64,
            ..self.counters
        }
    }

    /// What counts for `maxmsg` beside the queue: requests, and messages that cannot be received yet.
    fn count_beside_queue(&self) -> u64 {
        self.requests.len() as u64 + self.delayed.len()
    }

    /// Their length in bytes.
    fn bytes_beside_queue(&self) -> u64 {
        self.request_bytes + self.delayed.bytes()
    }

    /// Since when the message waits that has waited longest; one that has moved here counts for its place in the queue.
    pub fn oldest(&self) -> Option<Moment> {
        self.queue.oldest()
    }

    /// How long messages waited until they were received or leased for the first time.
    pub fn waited(&self) -> Option<&Waited> {
        self.waited.as_deref()
    }

    /// The waiting callers, readers first, each in order of arrival.
    pub fn waiters(&self) -> Vec<Waiter> {
        let readers = self.readers.in_order().into_iter();
        let readers =
            readers.map(|reader| Waiter { caller: reader.call.caller, writes: false, since: reader.since });
        let writers = self.writers.values().map(|writer| Waiter {
            caller: writer.caller,
            writes: true,
            since: writer.since,
        });
        readers.chain(writers).collect()
    }

    fn next_wait(&mut self) -> WaitId {
        self.next_wait += 1;
        WaitId(self.next_wait)
    }

    /// A read through `handle` waits no longer.
    fn wait_ended(&mut self, handle: HandleId) {
        if let Some(open) = self.handles.get_mut(handle.0) {
            open.waiting -= 1;
        }
    }

    /// Wakes whoever polls for something to read.
    fn wake_readers(&mut self, cx: &mut Context<'_>) {
        for handle in mem::take(&mut self.polls_in).into_values() {
            cx.fx.wake(handle);
        }
    }

    /// Wakes whoever polls for something to read through `handle`.
    fn wake_reader(&mut self, handle: HandleId, cx: &mut Context<'_>) {
        if let Some(poll) = self.polls_in.remove(&handle) {
            cx.fx.wake(poll);
        }
    }
}

impl Open {
    /// Answers a read if that takes no new message. Otherwise returns false.
    fn answer(&mut self, call: &Receive, cx: &mut Context<'_>) -> bool {
        self.framing.answer(call.request_id, call.piece(), cx.fx)
    }
}
