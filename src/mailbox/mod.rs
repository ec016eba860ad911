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
//! Invariant: *while a reader waits, no message and no writer does.* A send therefore looks for a waiting reader first,
//! and a receive takes from the queue or, where only the mount's memory kept a writer out, from that writer.

mod call;
mod framing;
mod line;
mod memory;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use slab::Slab;

use crate::config::MailboxLimits;
use crate::op::{Caller, Error, PollHandle, Ready, Reply, Ticket, Timestamp};
use framing::{Framing, Resumed};
use line::Line;

pub use call::{Context, Counts, HandleId, Message, Mode, Receive, Send, Waiter, WhenFull};
pub use line::WaitId;
pub use memory::{MESSAGE_COST, Memory};

/// A message queue.
#[derive(Debug)]
pub struct Mailbox {
    limits: MailboxLimits,
    full: WhenFull,
    queue: VecDeque<Message>,
    bytes: u64,
    readers: Line<WaitingReader>,
    writers: Line<WaitingWriter>,
    handles: Slab<Open>,
    /// Open files that poll for something to read, and for room to write.
    polls_in: BTreeMap<HandleId, PollHandle>,
    polls_out: BTreeMap<HandleId, PollHandle>,
    /// One of `polls_out` was told that there is no room, where nothing but the mount's memory lacked.
    denied: bool,
    next_wait: u64,
    sent: u64,
    received: u64,
    dropped: u64,
    removed: bool,
    /// Time of the last send, or set by utimes(2).
    pub last_sent: Timestamp,
    /// Time of the last receive, or set by utimes(2).
    pub last_received: Timestamp,
}

#[derive(Debug)]
struct Open {
    mode: Mode,
    framing: Framing,
    /// Reads through this open file that wait.
    waiting: u32,
    /// A part of a write that the kernel had cut was refused after its first part had become a message. The next write
    /// is refused too, so that a program that goes on with the remainder (as `sendfile` users do) gets an error instead
    /// of a second message.
    cut_short: bool,
}

#[derive(Debug)]
struct WaitingReader {
    call: Receive,
    since: Timestamp,
}

#[derive(Debug)]
struct WaitingWriter {
    ticket: Ticket,
    body: Arc<[u8]>,
    caller: Caller,
    since: Timestamp,
}

impl Mailbox {
    /// An empty mailbox.
    pub fn new(limits: MailboxLimits, now: Timestamp) -> Mailbox {
        Mailbox {
            limits,
            full: WhenFull::Wait,
            queue: VecDeque::new(),
            bytes: 0,
            readers: Line::default(),
            writers: Line::default(),
            handles: Slab::new(),
            polls_in: BTreeMap::new(),
            polls_out: BTreeMap::new(),
            denied: false,
            next_wait: 0,
            sent: 0,
            received: 0,
            dropped: 0,
            removed: false,
            last_sent: now,
            last_received: now,
        }
    }

    /// Opens it.
    pub fn open(&mut self, mode: Mode) -> HandleId {
        let framing = if mode == Mode::Both { Framing::Stream(None) } else { Framing::File(None) };
        HandleId(self.handles.insert(Open { mode, framing, waiting: 0, cut_short: false }))
    }

    /// Closes an open file. A message begun through it and not finished goes with it.
    pub fn close(&mut self, handle: HandleId, cx: &mut Context<'_>) {
        // The kernel releases an open file after its last request was answered, so nothing waits. If something does all
        // the same, it must not wait for ever.
        while let Some(reader) = self.readers.leave_first(|reader| reader.call.handle == handle) {
            cx.fx.fail(reader.call.ticket, Error::BadDescriptor);
        }
        self.polls_in.remove(&handle);
        self.polls_out.remove(&handle);
        self.handles.try_remove(handle.0);
        if self.handles.is_empty() {
            self.handles = Slab::new();
        }
    }

    /// A read. Answered now unless the caller has to wait.
    pub fn receive(&mut self, call: Receive, cx: &mut Context<'_>) -> Option<WaitId> {
        let Some(open) = self.handles.get_mut(call.handle.0).filter(|open| open.mode.reads()) else {
            cx.fx.fail(call.ticket, Error::BadDescriptor);
            return None;
        };
        match open.framing.resume(call.offset, call.size) {
            Resumed::Bytes(slice) => {
                cx.fx.reply(call.ticket, Reply::Message(slice));
                return None;
            }
            Resumed::Refused(error) => {
                cx.fx.fail(call.ticket, error);
                return None;
            }
            Resumed::NextDue => {}
        }
        if self.removed {
            cx.fx.fail(call.ticket, Error::Removed);
            return None;
        }
        if let Some(body) = self.take_next(cx) {
            self.deliver(&call, body, cx);
            self.room_made(cx);
            return None;
        }
        if call.nonblock {
            cx.fx.fail(call.ticket, Error::WouldWait);
            return None;
        }
        open_mut(&mut self.handles, call.handle, |open| open.waiting += 1);
        let id = self.next_wait();
        self.readers.join(id, WaitingReader { call, since: cx.now });
        // A write would not wait now, even where the mount's memory is full.
        self.room_made(cx);
        Some(id)
    }

    /// A write. Answered now unless the caller has to wait.
    pub fn send(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Option<WaitId> {
        let Some(open) = self.handles.get_mut(call.handle.0).filter(|open| open.mode.writes()) else {
            cx.fx.fail(call.ticket, Error::BadDescriptor);
            return None;
        };
        if call.continues || std::mem::take(&mut open.cut_short) {
            open.cut_short = call.continues;
            cx.fx.fail(call.ticket, Error::TooLong);
            return None;
        }
        if self.removed {
            cx.fx.fail(call.ticket, Error::Removed);
            return None;
        }
        let len = call.body.len();
        if len as u64 > self.longest() {
            cx.fx.fail(call.ticket, Error::TooLong);
            return None;
        }
        if len == 0 {
            cx.fx.reply(call.ticket, Reply::Written(0));
            return None;
        }
        if !self.make_room(len, cx) {
            return self.wait_for_room(call, cx);
        }
        self.accept(Arc::from(call.body), call.caller, cx);
        cx.fx.reply(call.ticket, Reply::Written(len as u32));
        None
    }

    /// What poll(2) would find. With `arm`, the next change wakes `handle`'s poller.
    pub fn poll(&mut self, handle: HandleId, arm: Option<PollHandle>, memory: &Memory) -> Ready {
        let Some(open) = self.handles.get(handle.0) else {
            return Ready { hangup: true, ..Ready::default() };
        };
        let waiting = !self.queue.is_empty() || !self.writers.is_empty();
        let ready = Ready {
            readable: open.mode.reads() && (open.framing.ready() || waiting),
            writable: open.mode.writes() && self.writable(memory),
            hangup: self.removed,
        };
        if let Some(poll) = arm {
            if open.mode.reads() {
                self.polls_in.insert(handle, poll);
            }
            if open.mode.writes() {
                self.denied &= !self.polls_out.is_empty();
                self.denied |= !ready.writable && self.only_memory_lacks();
                self.polls_out.insert(handle, poll);
            }
        }
        ready
    }

    /// A waiting caller got a signal, or may wait no longer. False if it was answered already.
    pub fn cancel(&mut self, id: WaitId, error: Error, cx: &mut Context<'_>) -> bool {
        if let Some(reader) = self.readers.leave(id) {
            open_mut(&mut self.handles, reader.call.handle, |open| open.waiting -= 1);
            cx.fx.fail(reader.call.ticket, error);
            return true;
        }
        if let Some(writer) = self.writers.leave(id) {
            cx.memory.let_go(writer.body.len());
            cx.fx.fail(writer.ticket, error);
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
        let lost = self.queue.len() as u64;
        for message in std::mem::take(&mut self.queue) {
            cx.memory.give_back(message.body.len());
        }
        self.bytes = 0;
        self.wake_readers(cx);
        for handle in std::mem::take(&mut self.polls_out).into_values() {
            cx.fx.wake(handle);
        }
        lost
    }

    /// Everyone who waits is told `error`.
    pub fn end_waits(&mut self, error: Error, cx: &mut Context<'_>) {
        while let Some(reader) = self.readers.serve() {
            open_mut(&mut self.handles, reader.call.handle, |open| open.waiting -= 1);
            cx.fx.fail(reader.call.ticket, error);
        }
        while let Some(writer) = self.writers.serve() {
            cx.memory.let_go(writer.body.len());
            cx.fx.fail(writer.ticket, error);
        }
    }

    /// Lets waiting writers in as far as there is room, and tells pollers. To be called when room was made elsewhere in
    /// the mount.
    pub fn room_made(&mut self, cx: &mut Context<'_>) {
        while let Some(writer) = self.writers.first() {
            let len = writer.body.len();
            if !self.try_room(len, cx) {
                break;
            }
            if let Some(writer) = self.writers.serve() {
                cx.memory.let_go(len);
                self.accept(writer.body, writer.caller, cx);
                cx.fx.reply(writer.ticket, Reply::Written(len as u32));
            }
        }
        if self.polls_out.is_empty() {
            return;
        }
        if self.writable(cx.memory) {
            for handle in std::mem::take(&mut self.polls_out).into_values() {
                cx.fx.wake(handle);
            }
            self.denied = false;
        } else {
            self.denied = self.only_memory_lacks();
        }
    }

    /// True while someone waits, or polls, for room that only the mount's memory can give: [`Mailbox::room_made`] must
    /// be called when there is some. Says what was found when the memory was last looked at, because there may be some
    /// by now, of which whoever freed it could not tell this mailbox.
    pub fn starves(&self) -> bool {
        match self.writers.first() {
            Some(writer) => self.fits(writer.body.len()),
            None => self.denied && !self.polls_out.is_empty(),
        }
    }

    /// True if the memory has room by now for the first who starves.
    pub fn could_feed(&self, memory: &Memory) -> bool {
        memory.has_room(self.writers.first().map_or(self.longest() as usize, |writer| writer.body.len()))
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

    /// What a send does when there is no room.
    pub fn when_full(&self) -> WhenFull {
        self.full
    }

    /// Changes what a send does when there is no room, for those who wait too.
    pub fn set_when_full(&mut self, full: WhenFull, cx: &mut Context<'_>) {
        self.full = full;
        self.room_made(cx);
        if full == WhenFull::Fail {
            while let Some(writer) = self.writers.serve() {
                cx.memory.let_go(writer.body.len());
                cx.fx.fail(writer.ticket, Error::NoSpace);
            }
        }
    }

    /// True once the name is gone.
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// Figures.
    pub fn counts(&self) -> Counts {
        Counts {
            depth: self.queue.len() as u64,
            bytes: self.bytes,
            waiting_readers: self.readers.len() as u64,
            waiting_writers: self.writers.len() as u64,
            sent: self.sent,
            received: self.received,
            dropped: self.dropped,
        }
    }

    /// Who waits, readers first, each in order of arrival.
    pub fn waiters(&self) -> impl Iterator<Item = Waiter> + '_ {
        let readers = self.readers.iter();
        let readers =
            readers.map(|reader| Waiter { caller: reader.call.caller, writes: false, since: reader.since });
        let writers = self.writers.iter();
        readers.chain(writers.map(|writer| Waiter {
            caller: writer.caller,
            writes: true,
            since: writer.since,
        }))
    }

    /// The longest message that is ever taken.
    fn longest(&self) -> u64 {
        u64::from(self.limits.msgsize).min(self.limits.maxbytes)
    }

    /// The mailbox's own bounds have room.
    fn fits(&self, len: usize) -> bool {
        (self.queue.len() as u64) < self.limits.maxmsg
            && self.bytes.saturating_add(len as u64) <= self.limits.maxbytes
    }

    /// A write of any length that is ever taken would not wait.
    fn writable(&self, memory: &Memory) -> bool {
        if self.full != WhenFull::Wait || !self.readers.is_empty() {
            return !self.removed;
        }
        let longest = self.longest() as usize;
        !self.removed && self.writers.is_empty() && self.fits(longest) && memory.has_room(longest)
    }

    /// Why it is not writable: the mailbox's own bounds have room.
    fn only_memory_lacks(&self) -> bool {
        !self.removed && self.writers.is_empty() && self.fits(self.longest() as usize)
    }

    /// Room for a message that is not waiting yet: none while others wait before it.
    fn make_room(&mut self, len: usize, cx: &mut Context<'_>) -> bool {
        self.writers.is_empty() && self.try_room(len, cx)
    }

    /// Takes room for a message of `len` bytes: none is needed where a reader waits for it.
    fn try_room(&mut self, len: usize, cx: &mut Context<'_>) -> bool {
        loop {
            if !self.readers.is_empty() || (self.fits(len) && cx.memory.take(len)) {
                return true;
            }
            // Nothing is dropped in vain.
            if self.full != WhenFull::DropOldest || !self.dropping_helps(len, cx.memory) {
                return false;
            }
            let Some(oldest) = self.queue.pop_front() else { return false };
            self.bytes -= oldest.body.len() as u64;
            self.dropped += 1;
            cx.memory.give_back(oldest.body.len());
        }
    }

    /// There would be room for a message of `len` bytes if nothing else waited here.
    fn dropping_helps(&self, len: usize, memory: &Memory) -> bool {
        let own = self.bytes + MESSAGE_COST * self.queue.len() as u64;
        let others = memory.used().saturating_sub(own);
        len as u64 <= self.limits.maxbytes && others.saturating_add(Memory::cost(len)) <= memory.limit()
    }

    /// A message for which there is room comes in: to the first who waits, or into the queue.
    fn accept(&mut self, body: Arc<[u8]>, sender: Caller, cx: &mut Context<'_>) {
        self.sent += 1;
        self.last_sent = cx.now;
        if let Some(reader) = self.readers.serve() {
            let handle = reader.call.handle;
            open_mut(&mut self.handles, handle, |open| open.waiting -= 1);
            self.deliver(&reader.call, body, cx);
            // Whoever polls through the same open file has the rest of the message to read, or its end.
            if self.handles.get(handle.0).is_some_and(|open| open.framing.ready())
                && let Some(poll) = self.polls_in.remove(&handle)
            {
                cx.fx.wake(poll);
            }
            return;
        }
        self.bytes += body.len() as u64;
        self.queue.push_back(Message { id: self.sent, sent: cx.now, sender, body });
        self.wake_readers(cx);
    }

    /// The next message, if there is one.
    fn take_next(&mut self, cx: &mut Context<'_>) -> Option<Arc<[u8]>> {
        if let Some(message) = self.queue.pop_front() {
            self.bytes -= message.body.len() as u64;
            cx.memory.give_back(message.body.len());
            if self.queue.is_empty() && self.queue.capacity() > 64 {
                self.queue = VecDeque::new();
            }
            return Some(message.body);
        }
        let writer = self.writers.serve()?;
        cx.memory.let_go(writer.body.len());
        cx.fx.reply(writer.ticket, Reply::Written(writer.body.len() as u32));
        self.sent += 1;
        self.last_sent = cx.now;
        Some(writer.body)
    }

    /// Answers a read with a message that was taken for it, and further reads through the same open file with what its
    /// buffer was too short for.
    fn deliver(&mut self, call: &Receive, body: Arc<[u8]>, cx: &mut Context<'_>) {
        self.received += 1;
        self.last_received = cx.now;
        let Some(open) = self.handles.get_mut(call.handle.0) else { return };
        let slice = open.framing.begin(body, call.offset, call.size);
        cx.fx.reply(call.ticket, Reply::Message(slice));
        while open.waiting > 0 && open.framing.ready() {
            let Some(next) = self.readers.leave_first(|reader| reader.call.handle == call.handle) else {
                break;
            };
            open.waiting -= 1;
            let reply = match open.framing.resume(next.call.offset, next.call.size) {
                Resumed::Bytes(slice) => Reply::Message(slice),
                Resumed::Refused(error) => Reply::Failed(error),
                Resumed::NextDue => Reply::Failed(Error::Io),
            };
            cx.fx.reply(next.call.ticket, reply);
        }
    }

    fn wait_for_room(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Option<WaitId> {
        let error = match self.full {
            WhenFull::Wait if call.nonblock => {
                // Whoever polls for changes only was told of room before, and now that there is none.
                self.denied |= self.only_memory_lacks();
                Error::WouldWait
            }
            WhenFull::Wait if !cx.memory.hold(call.body.len()) => Error::NoMemory,
            WhenFull::Wait => {
                let id = self.next_wait();
                let body = Arc::from(call.body);
                let writer = WaitingWriter { ticket: call.ticket, body, caller: call.caller, since: cx.now };
                self.writers.join(id, writer);
                if self.queue.is_empty() {
                    // A read would not wait now: it takes from the writer whom only the mount's memory keeps out.
                    self.wake_readers(cx);
                }
                return Some(id);
            }
            WhenFull::Fail | WhenFull::DropOldest => Error::NoSpace,
        };
        cx.fx.fail(call.ticket, error);
        None
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
