//! The queue: what a send, a receive, a wait and a removal do to it. No I/O, no clock, no lock of its own.
//!
//! A mailbox is always in one of four conditions, from which everything else follows:
//!
//! ```text
//!              send                      send, no room
//!   idle ◀──────────────▶ holding ◀────────────────────▶ full: writers wait
//!    ▲  receive the last            receive lets one in
//!    │ receive / send
//!    ▼
//!   awaited: readers wait            remove, from any: removed, for good
//! ```
//!
//! Invariant: *while a reader waits, no message that it would take does, and no writer who has one.* A send therefore
//! looks for a waiting reader first, and a reader who finds nothing lets waiting writers try again: one whom only the
//! mount's memory kept out can hand its message over past the queue.
//!
//! A mailbox has several doors ([`Door`]); each open file has come through one. What is special to some is in a file of
//! its own: `text` (stream and whole, writing), `deliver` (reading), `lease` (leases, time limits, the dead), `rpc`.

mod call;
mod deliver;
mod json;
mod lease;
mod line;
mod memory;
mod message;
mod moving;
mod queue;
mod readers;
mod room;
mod rpc;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use slab::Slab;

use crate::config::MailboxLimits;
use crate::framing::{Framing, Single};
use crate::op::{Caller, Error, PollHandle, Ready, Reply, RequestId, Timestamp};
use call::Selector;
use lease::Lease;
use line::Line;
use queue::{Filter, Queue};
use readers::{Readers, WaitingReader};
use room::WaitingWriter;
use rpc::{Asked, Request, Serving};
use text::Text;

pub use call::{Context, Counts, Door, HandleId, Mode, Receive, Rules, Send, Waiter, WhenFull};
pub use line::WaitId;
pub use memory::{MESSAGE_COST, Memory};
pub use message::{Message, Tag};
pub use queue::Order;

/// A message queue.
#[derive(Debug)]
pub struct Mailbox {
    limits: MailboxLimits,
    rules: Rules,
    queue: Queue,
    readers: Readers,
    writers: Line<WaitId, WaitingWriter>,
    handles: Slab<Open>,
    /// Requests that no server has taken yet.
    requests: BTreeMap<u64, Request>,
    request_bytes: u64,
    /// When leases end by themselves.
    lease_ends: BTreeSet<(Timestamp, HandleId)>,
    /// Messages that go to the mailbox for the dead: whoever called takes them there.
    outbox: Vec<Message>,
    /// Open files that poll for something to read, and for room to write.
    polls_in: BTreeMap<HandleId, PollHandle>,
    polls_out: BTreeMap<HandleId, PollHandle>,
    /// One of `polls_out` was told that there is no room, where nothing but the mount's memory lacked.
    denied: bool,
    next_wait: u64,
    /// What has happened; what is the case is counted where it is.
    tally: Counts,
    removed: bool,
    /// Time of the last send, or set by utimes(2).
    pub last_sent: Timestamp,
    /// Time of the last receive, or set by utimes(2).
    pub last_received: Timestamp,
}

#[derive(Debug)]
struct Open {
    door: Door,
    mode: Mode,
    framing: Framing,
    /// Reads through this open file that wait.
    waiting: u32,
    /// A part of a write that the kernel had cut was refused after its first part had become a message. The next write
    /// is refused too, so that a program that goes on with the remainder (as `sendfile` users do) gets an error instead
    /// of a second message.
    cut_short: bool,
    hand: Hand,
}

/// What an open file has in hand beside what it reads.
#[derive(Debug, Default)]
enum Hand {
    #[default]
    Nothing,
    /// Written, and no message yet.
    Text(Box<Text>),
    Lease(Box<Lease>),
    /// A request that was not answered yet.
    Asked(Asked),
    /// A request to be answered.
    Serving(Box<Serving>),
}

impl Mailbox {
    /// An empty mailbox.
    pub fn new(limits: MailboxLimits, now: Timestamp) -> Mailbox {
        Mailbox {
            limits,
            rules: Rules::default(),
            queue: Queue::default(),
            readers: Readers::default(),
            writers: Line::default(),
            handles: Slab::new(),
            requests: BTreeMap::new(),
            request_bytes: 0,
            lease_ends: BTreeSet::new(),
            outbox: Vec::new(),
            polls_in: BTreeMap::new(),
            polls_out: BTreeMap::new(),
            denied: false,
            next_wait: 0,
            tally: Counts::default(),
            removed: false,
            last_sent: now,
            last_received: now,
        }
    }

    /// Opens it by `door`. True: its reader may seek, within a message.
    pub fn open(&mut self, door: Door, mode: Mode) -> (HandleId, bool) {
        let framing = match (&door, mode) {
            (Door::Lease | Door::Rpc | Door::Serve, _) => Framing::Single(Single::Nothing),
            (Door::Stream | Door::Json, _) | (_, Mode::Both | Mode::Send) => Framing::Stream(None),
            _ => Framing::File(None),
        };
        let hand = Hand::Nothing;
        let seekable = matches!(framing, Framing::File(_));
        let open = Open { door, mode, framing, waiting: 0, cut_short: false, hand };
        (HandleId(self.handles.insert(open)), seekable)
    }

    /// Closes an open file. A message begun through it and not finished goes with it; one that is leased comes back, one
    /// that is being written through `stream` or `whole` is sent.
    pub fn close(&mut self, handle: HandleId, cx: &mut Context<'_>) {
        let Some(open) = self.handles.get(handle.0) else { return };
        // The kernel releases an open file after its last request was answered, so nothing waits. If something does all
        // the same, it must not wait for ever.
        let selector = open.door.selector(handle);
        for _ in 0..open.waiting {
            let Some(reader) = self.readers.leave_through(handle, &selector) else { break };
            cx.fx.fail(reader.call.request_id, Error::BadDescriptor);
        }
        self.polls_in.remove(&handle);
        self.polls_out.remove(&handle);
        if let Some(open) = self.handles.try_remove(handle.0) {
            let empty = matches!(open.hand, Hand::Nothing);
            match open.hand {
                Hand::Nothing => {}
                Hand::Text(text) => self.finish(*text, handle, cx),
                Hand::Lease(lease) => self.lease_returned(handle, *lease, cx),
                Hand::Asked(asked) => self.withdraw(&asked, cx),
                Hand::Serving(serving) => self.request_returned(*serving, cx),
            }
            // Otherwise nothing has changed, and those who poll edges are to be told of none.
            if !empty {
                self.room_made(cx);
            }
        }
        if self.handles.is_empty() {
            self.handles = Slab::new();
        }
    }

    /// A read. Answered now unless the caller has to wait.
    pub fn receive(&mut self, call: Receive, cx: &mut Context<'_>) -> Option<WaitId> {
        let Some(open) = self.handles.get_mut(call.handle.0).filter(|open| open.mode.reads()) else {
            cx.fx.fail(call.request_id, Error::BadDescriptor);
            return None;
        };
        if open.framing.answer(call.request_id, call.offset, call.size, cx.fx) {
            return None;
        }
        if self.removed {
            cx.fx.fail(call.request_id, Error::Removed);
            return None;
        }
        if matches!(open.door, Door::Rpc) && !matches!(open.hand, Hand::Asked(_)) {
            cx.fx.fail(call.request_id, Error::NoMessage);
            return None;
        }
        if self.drop_expired(cx) {
            self.room_made(cx);
        }
        if self.serve_from_queue(&call, cx) {
            self.room_made(cx);
            return None;
        }
        // With nobody who waits to write, there is nothing to be had; and nobody is to be told that a reader waits.
        if call.nonblock && self.writers.is_empty() {
            cx.fx.fail(call.request_id, Error::WouldWait);
            return None;
        }
        let selector = self.handles.get(call.handle.0)?.door.selector(call.handle);
        open_mut(&mut self.handles, call.handle, |open| open.waiting += 1);
        let id = self.next_wait();
        self.readers.join(id, selector.clone(), WaitingReader { call, since: cx.now });
        // A write would not wait now, even where the mount's memory is full.
        self.room_made(cx);
        if self.readers.waits(id) {
            self.serve_from_writers(&selector, cx);
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

    /// What poll(2) would find. With `arm`, the next change wakes `handle`'s poller.
    pub fn poll(&mut self, handle: HandleId, arm: Option<PollHandle>, memory: &Memory) -> Ready {
        let Some(open) = self.handles.get(handle.0) else {
            return Ready { hangup: true, ..Ready::default() };
        };
        let (reads, writes) = (open.mode.reads(), open.mode.writes());
        let in_hand = open.framing.ready();
        let selector = open.door.selector(handle);
        let never_waits = matches!(open.door, Door::Whole | Door::Lease | Door::Serve);
        let asked = matches!(open.hand, Hand::Asked(_));
        let next_due = open.framing.next_due();
        let readable = reads
            && (in_hand
                || next_due
                    && (self.writers_have(&selector)
                        || match &selector {
                            Selector::Message(filter) => self.queue.has_matching(filter),
                            Selector::Peek => !self.queue.is_empty(),
                            Selector::Request => !self.requests.is_empty(),
                            Selector::Reply(_) => false,
                        }));
        let room = never_waits || self.writable(memory) || self.takes_from(open);
        let writable = writes && room && !self.removed && !(asked && matches!(open.door, Door::Rpc));
        let ready = Ready { readable, writable, hangup: self.removed };
        if let Some(poll) = arm {
            if reads {
                self.polls_in.insert(handle, poll);
            }
            if writes {
                self.denied &= !self.polls_out.is_empty();
                self.denied |= !room && self.only_memory_lacks();
                self.polls_out.insert(handle, poll);
            }
        }
        ready
    }

    /// A waiting caller got a signal, or may wait no longer. False if it was answered already.
    pub fn cancel(&mut self, id: WaitId, error: Error, cx: &mut Context<'_>) -> bool {
        if let Some(reader) = self.readers.leave(id) {
            open_mut(&mut self.handles, reader.call.handle, |open| open.waiting -= 1);
            cx.fx.fail(reader.call.request_id, error);
            return true;
        }
        if let Some(writer) = self.writers.leave(id) {
            self.refuse_writer(writer, error, cx);
            // Those behind it may be shorter.
            self.room_made(cx);
            return true;
        }
        false
    }

    /// The name was removed: whoever waits is told, and so is everyone who comes later. Returns the messages lost.
    pub fn remove(&mut self, cx: &mut Context<'_>) -> u64 {
        self.removed = true;
        self.end_waits(Error::Removed, cx);
        let mut lost = 0;
        for message in self.queue.clear() {
            lost += message.count();
            cx.memory.give_back(message.cost());
        }
        self.drop_requests(cx);
        self.wake_readers(cx);
        for handle in std::mem::take(&mut self.polls_out).into_values() {
            cx.fx.wake(handle);
        }
        lost
    }

    /// Everyone who waits is told `error`.
    pub fn end_waits(&mut self, error: Error, cx: &mut Context<'_>) {
        for reader in self.readers.leave_all() {
            open_mut(&mut self.handles, reader.call.handle, |open| open.waiting -= 1);
            cx.fx.fail(reader.call.request_id, error);
        }
        while let Some(writer) = self.writers.serve() {
            self.refuse_writer(writer, error, cx);
        }
    }

    /// The bounds in force.
    pub fn limits(&self) -> MailboxLimits {
        self.limits
    }

    /// Changes the bounds. What is in the queue stays, whatever they are.
    pub fn set_limits(&mut self, limits: MailboxLimits, cx: &mut Context<'_>) {
        self.limits = limits;
        self.room_made(cx);
    }

    /// The rules in force.
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Changes the rules: for those who wait too, and for messages sent from now on.
    pub fn set_rules(&mut self, rules: Rules, cx: &mut Context<'_>) {
        self.rules = rules;
        self.queue.set_order(rules.order);
        self.room_made(cx);
        if rules.full == WhenFull::Fail {
            // What was taken from a writer who is gone waits on: nobody can be told.
            while let Some(writer) = self.writers.leave_first(|writer| writer.request_id.is_some()) {
                self.refuse_writer(writer, Error::NoSpace, cx);
            }
            self.room_made(cx);
        }
    }

    /// True once the name is gone.
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// Figures.
    pub fn counts(&self) -> Counts {
        Counts {
            depth: self.queue.depth(),
            bytes: self.queue.bytes() + self.request_bytes,
            waiting_readers: self.readers.len() as u64,
            waiting_writers: self.writers.len() as u64,
            requests: self.requests.len() as u64,
            ..self.tally
        }
    }

    /// Who waits, readers first, each in order of arrival.
    pub fn waiters(&self) -> Vec<Waiter> {
        let readers = self.readers.all().into_iter();
        let readers =
            readers.map(|reader| Waiter { caller: reader.call.caller, writes: false, since: reader.since });
        let writers = self.writers.iter().map(|writer| Waiter {
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

    fn wake_readers(&mut self, cx: &mut Context<'_>) {
        if !self.polls_in.is_empty() {
            for handle in std::mem::take(&mut self.polls_in).into_values() {
                cx.fx.wake(handle);
            }
        }
    }
}

fn open_mut(handles: &mut Slab<Open>, handle: HandleId, change: impl FnOnce(&mut Open)) {
    if let Some(open) = handles.get_mut(handle.0) {
        change(open);
    }
}
