//! Writing: sending through the doors that make a message of a write, room, and those who wait for it.

use std::sync::Arc;

use super::text::Lines;
use super::{
    Asked, Caller, Context, Door, Error, Filter, Hand, HandleId, Mailbox, Memory, Message, Reply, Send, Tag,
    Ticket, Timestamp, WaitId, WhenFull, Wish, open_mut,
};
use crate::config::NO_LIMIT;

#[derive(Debug)]
pub(super) struct WaitingWriter {
    pub(super) id: WaitId,
    /// `None`: the writer closed its file without waiting, and what it had written waits on.
    pub(super) ticket: Option<Ticket>,
    pub(super) handle: HandleId,
    pub(super) caller: Caller,
    pub(super) since: Timestamp,
    /// What the mount's memory holds for it.
    pub(super) held: u64,
    pub(super) load: Load,
}

/// What a writer waits with.
#[derive(Debug)]
pub(super) enum Load {
    Message(Message),
    Request(Message),
    Lines(Lines),
}

impl Mailbox {
    /// A write. Answered now unless the caller has to wait.
    pub fn send(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Option<WaitId> {
        let Some(open) = self.handles.get_mut(call.handle.0).filter(|open| open.mode.writes()) else {
            cx.fx.fail(call.ticket, Error::BadDescriptor);
            return None;
        };
        let (priority, tag) = match &open.door {
            Door::Stream => return self.send_lines(call, cx),
            Door::Whole => return self.append(call, cx),
            Door::Priority(priority) => (*priority, None),
            Door::Tag(tag) => (0, Some(tag.clone())),
            _ => (0, None),
        };
        if call.continues || std::mem::take(&mut open.cut_short) {
            open.cut_short = call.continues;
            cx.fx.fail(call.ticket, Error::TooLong);
            return None;
        }
        match &open.door {
            Door::Lease => return self.settle(call, cx),
            Door::Serve => return self.answer(call, cx),
            Door::Rpc if !matches!(open.hand, Hand::Nothing) => {
                cx.fx.fail(call.ticket, Error::Busy);
                return None;
            }
            _ => {}
        }
        let request = open.door == Door::Rpc;
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
        let message = self.message(Arc::from(call.body), call.caller, priority, tag, cx.now);
        let load = if request { Load::Request(message) } else { Load::Message(message) };
        if !self.writers.is_empty() {
            return self.wait_for_room(call, load, cx);
        }
        match self.take_load(load, call.handle, cx) {
            Ok(()) => {
                cx.fx.reply(call.ticket, Reply::Written(len as u32));
                None
            }
            Err(load) => self.wait_for_room(call, load, cx),
        }
    }

    /// A new message, not yet numbered.
    pub(super) fn message(
        &self,
        body: Arc<[u8]>,
        sender: Caller,
        priority: u16,
        tag: Option<Tag>,
        now: Timestamp,
    ) -> Message {
        let mut message = Message { id: 0, sent: now, sender, priority, body, extra: None };
        if tag.is_some() {
            message.extra_mut().tag = tag;
        }
        if self.rules.ttl != NO_LIMIT {
            message.extra_mut().expires = Some(Timestamp(now.0.saturating_add(self.rules.ttl)));
        }
        message
    }

    /// Lets waiting writers in as far as there is room, and tells pollers. To be called when room was made elsewhere in
    /// the mount.
    pub fn room_made(&mut self, cx: &mut Context<'_>) {
        while let Some(mut writer) = self.writers.serve() {
            let len = match &writer.load {
                Load::Message(message) | Load::Request(message) => message.len(),
                Load::Lines(lines) => lines.written(),
            };
            match self.take_load(writer.load, writer.handle, cx) {
                Ok(()) => {
                    cx.memory.let_go(writer.held);
                    if let Some(ticket) = writer.ticket {
                        cx.fx.reply(ticket, Reply::Written(len as u32));
                    }
                }
                Err(Load::Message(message))
                    if writer.ticket.is_none()
                        && self.queue.is_empty()
                        && message.len() > self.limits.maxbytes =>
                {
                    // `maxbytes` was lowered since it was written, and nobody can be told that it will never fit.
                    cx.memory.take_anyway(message.cost());
                    cx.memory.let_go(writer.held);
                    self.accept(message, cx);
                }
                Err(load) => {
                    let overlong = self.overlong(&load);
                    writer.load = load;
                    if overlong {
                        self.refuse_writer(writer, Error::TooLong, cx);
                        continue;
                    }
                    self.writers.join_first(writer.id, writer);
                    break;
                }
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
            Some(writer) => self.fits(writer.load.next_len()),
            None => self.denied && !self.polls_out.is_empty(),
        }
    }

    /// True if the memory has room by now for the first who starves.
    pub fn could_feed(&self, memory: &Memory) -> bool {
        let cost = match self.writers.first() {
            Some(writer) => writer.load.next_cost(),
            None => Memory::cost(self.longest() as usize),
        };
        memory.has_room(cost)
    }

    /// The longest message that is ever taken.
    pub(super) fn longest(&self) -> u64 {
        u64::from(self.limits.msgsize).min(self.limits.maxbytes)
    }

    /// The mailbox's own bounds have room.
    pub(super) fn fits(&self, len: u64) -> bool {
        self.queue.depth() + (self.requests.len() as u64) < self.limits.maxmsg
            && self.queue.bytes().saturating_add(self.request_bytes).saturating_add(len)
                <= self.limits.maxbytes
    }

    /// A write of any length that is ever taken would not wait.
    pub(super) fn writable(&self, memory: &Memory) -> bool {
        if self.rules.full != WhenFull::Wait || self.readers.any_waits() {
            return !self.removed;
        }
        let longest = self.longest();
        !self.removed
            && self.writers.is_empty()
            && self.fits(longest)
            && memory.has_room(Memory::cost(longest as usize))
    }

    /// Why it is not writable: the mailbox's own bounds have room.
    pub(super) fn only_memory_lacks(&self) -> bool {
        !self.removed && self.writers.is_empty() && self.fits(self.longest())
    }

    /// A writer who waits has something that a reader with `filter` would get.
    pub(super) fn writers_have(&self, filter: &Filter) -> bool {
        !self.writers.is_empty() && self.writers.iter().any(|writer| writer.suits(filter))
    }

    /// A reader who chooses has come: the first waiting writer who has what it wants hands that over, though others wait
    /// before him. Nobody has to wait longer for that.
    pub(super) fn serve_from_writers(&mut self, filter: &Filter, cx: &mut Context<'_>) {
        if *filter != Filter::Any
            && let Some(writer) = self.writers.leave_first(|writer| writer.suits(filter))
        {
            self.writers.join_first(WaitId(0), writer);
            self.room_made(cx);
        }
    }

    /// Takes room for a message in the queue.
    pub(super) fn try_room(&mut self, message: &Message, cx: &mut Context<'_>) -> bool {
        loop {
            if self.fits(message.len()) && cx.memory.take(message.cost()) {
                return true;
            }
            // Nothing is dropped in vain.
            if self.rules.full != WhenFull::DropOldest || !self.dropping_helps(message, cx.memory) {
                return false;
            }
            let Some(oldest) = self.queue.pop_oldest() else { return false };
            self.tally.dropped += 1;
            cx.memory.give_back(oldest.cost());
        }
    }

    /// There would be room for a message if nothing else waited here.
    fn dropping_helps(&self, message: &Message, memory: &Memory) -> bool {
        let own = self.queue.cost();
        let others = memory.used().saturating_sub(own);
        message.len().saturating_add(self.request_bytes) <= self.limits.maxbytes
            && (self.requests.len() as u64) < self.limits.maxmsg
            && others.saturating_add(message.cost()) <= memory.limit()
    }

    /// Takes what a writer has, if there is room; of lines, as many as there is room for. What is not taken comes back.
    pub(super) fn take_load(
        &mut self,
        load: Load,
        handle: HandleId,
        cx: &mut Context<'_>,
    ) -> Result<(), Load> {
        match load {
            Load::Message(mut message) => {
                // Its sender's wait is none of the time it has to be received.
                self.start_time(&mut message, cx.now);
                if !self.readers.wants(&message) && !self.try_room(&message, cx) {
                    return Err(Load::Message(message));
                }
                self.accept(message, cx);
                Ok(())
            }
            Load::Request(message) => {
                if !self.readers.has(&Wish::Request) && !self.try_room(&message, cx) {
                    return Err(Load::Request(message));
                }
                self.accept_request(message, handle, cx);
                Ok(())
            }
            Load::Lines(mut lines) => {
                self.take_lines(&mut lines, cx);
                if !lines.all_taken() {
                    return Err(Load::Lines(lines));
                }
                self.keep_tail(&lines, handle, cx);
                Ok(())
            }
        }
    }

    /// Among the lines of one write is one that is too long, and it is its turn.
    fn overlong(&self, load: &Load) -> bool {
        matches!(load, Load::Lines(_)) && load.next_len() > self.longest()
    }

    /// A writer is answered that it may not wait, or has to wait no longer: with what was taken of its lines.
    pub(super) fn refuse_writer(&mut self, writer: WaitingWriter, error: Error, cx: &mut Context<'_>) {
        cx.memory.let_go(writer.held);
        let Some(ticket) = writer.ticket else { return };
        match writer.load {
            Load::Lines(lines) => self.refuse_lines(lines, writer.handle, ticket, error, cx),
            Load::Request(_) => {
                open_mut(&mut self.handles, writer.handle, |open| open.hand = Hand::Nothing);
                cx.fx.fail(ticket, error);
            }
            Load::Message(_) => cx.fx.fail(ticket, error),
        }
    }

    pub(super) fn wait_for_room(
        &mut self,
        call: Send<'_>,
        load: Load,
        cx: &mut Context<'_>,
    ) -> Option<WaitId> {
        let held = load.held();
        let error = match self.rules.full {
            _ if self.overlong(&load) => Error::TooLong,
            WhenFull::Wait if call.nonblock => {
                // Whoever polls for changes only was told of room before, and now that there is none.
                self.denied |= self.only_memory_lacks();
                Error::WouldWait
            }
            WhenFull::Wait if !cx.memory.hold(held) => Error::NoMemory,
            WhenFull::Wait => {
                if let Load::Request(_) = load {
                    open_mut(&mut self.handles, call.handle, |open| {
                        open.hand = Hand::Asked(Asked::Room);
                        open.framing.clear();
                    });
                }
                let id = self.next_wait();
                let (ticket, handle, caller) = (Some(call.ticket), call.handle, call.caller);
                let writer = WaitingWriter { id, ticket, handle, caller, since: cx.now, held, load };
                self.writers.join(id, writer);
                if self.queue.is_empty() {
                    // A read would not wait now: it takes from the writer whom only the mount's memory keeps out.
                    self.wake_readers(cx);
                }
                return Some(id);
            }
            WhenFull::Fail | WhenFull::DropOldest => Error::NoSpace,
        };
        match load {
            Load::Lines(lines) => self.refuse_lines(lines, call.handle, call.ticket, error, cx),
            Load::Message(_) | Load::Request(_) => cx.fx.fail(call.ticket, error),
        }
        None
    }
}

impl WaitingWriter {
    fn suits(&self, filter: &Filter) -> bool {
        match &self.load {
            Load::Message(message) => filter.wants(message),
            Load::Lines(_) => matches!(filter, Filter::Any) || *filter == Filter::Sender(self.caller.uid),
            Load::Request(_) => false,
        }
    }
}

impl Load {
    /// What the mount's memory holds while it waits.
    fn held(&self) -> u64 {
        match self {
            Load::Message(message) | Load::Request(message) => message.cost(),
            Load::Lines(lines) => Memory::cost(lines.len()),
        }
    }

    /// Bytes of the message that is to be taken next.
    fn next_len(&self) -> u64 {
        match self {
            Load::Message(message) | Load::Request(message) => message.len(),
            Load::Lines(lines) => lines.next_line() as u64,
        }
    }

    fn next_cost(&self) -> u64 {
        match self {
            Load::Message(message) | Load::Request(message) => message.cost(),
            Load::Lines(lines) => Memory::cost(lines.next_line()),
        }
    }
}
