//! Writing: sending through the doors that make a message of a write, room, and those who wait for it.

use std::sync::Arc;

use super::memory::EXTRA_COST;
use super::text::Lines;
use super::{
    Asked, Caller, Context, Door, Error, Filter, Hand, HandleId, Mailbox, Memory, Message, Open, Reply,
    RequestId, Selector, Send, Tag, Timestamp, WaitId, WhenFull, open_mut,
};
use crate::config::NO_LIMIT;

#[derive(Debug)]
pub(super) struct WaitingWriter {
    pub(super) id: WaitId,
    /// `None`: the writer closed its file without waiting, and what it had written waits on.
    pub(super) request_id: Option<RequestId>,
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
        // What has had its time keeps nobody out, even before the clock has come round.
        if self.drop_expired(cx) {
            self.room_made(cx);
        }
        let Some(open) = self.handles.get_mut(call.handle.0).filter(|open| open.mode.writes()) else {
            cx.fx.fail(call.request_id, Error::BadDescriptor);
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
            cx.fx.fail(call.request_id, Error::TooLong);
            return None;
        }
        match &open.door {
            Door::Lease => return self.settle(call, cx),
            Door::Serve => return self.answer(call, cx),
            Door::Rpc if !matches!(open.hand, Hand::Nothing) => {
                cx.fx.fail(call.request_id, Error::Busy);
                return None;
            }
            _ => {}
        }
        let request = open.door == Door::Rpc;
        if self.removed {
            cx.fx.fail(call.request_id, Error::Removed);
            return None;
        }
        let len = call.body.len();
        if !self.has_length(&call, cx) {
            return None;
        }
        let message = self.message(Arc::from(call.body), call.caller, priority, tag, cx.now);
        let load = if request { Load::Request(message) } else { Load::Message(message) };
        self.come_in(call, load, len as u64, cx)
    }

    /// A write has the length of a message. False: it is answered.
    pub(super) fn has_length(&self, call: &Send<'_>, cx: &mut Context<'_>) -> bool {
        let len = call.body.len();
        if len as u64 > self.longest() {
            cx.fx.fail(call.request_id, Error::TooLong);
        } else if len == 0 {
            cx.fx.reply(call.request_id, Reply::Written(0));
        }
        len > 0 && len as u64 <= self.longest()
    }

    /// A write of `len` bytes comes in, if nobody waits who came before it and there is room, or to whom it is for.
    pub(super) fn come_in(
        &mut self,
        call: Send<'_>,
        load: Load,
        len: u64,
        cx: &mut Context<'_>,
    ) -> Option<WaitId> {
        let first = self.writers.is_empty();
        match self.take_load(load, call.handle, first, cx) {
            Ok(()) => {
                cx.fx.reply(call.request_id, Reply::Written(len as u32));
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
            let len = writer.load.written();
            match self.take_load(writer.load, writer.handle, true, cx) {
                Ok(()) => came_in(writer.request_id, writer.held, len, cx),
                Err(Load::Message(message))
                    if writer.request_id.is_none()
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
            return;
        }
        self.denied = self.only_memory_lacks();
        if self.readers.selective_wait() {
            let mut polls = std::mem::take(&mut self.polls_out);
            polls.retain(|handle, poll| {
                let open = self.handles.get(handle.0);
                let served = open.is_some_and(|open| self.takes_from(open));
                if served {
                    cx.fx.wake(*poll);
                }
                !served
            });
            self.polls_out = polls;
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
            Some(writer) => self.next_cost(&writer.load),
            None => self.cost_of(self.longest()),
        };
        memory.has_room(cost)
    }

    /// What a writer's next message takes of the memory.
    fn next_cost(&self, load: &Load) -> u64 {
        match load {
            Load::Message(message) | Load::Request(message) => message.cost(),
            Load::Lines(_) => self.cost_of(load.next_len()),
        }
    }

    /// What a message of so many bytes would take of the memory if it was sent now.
    fn cost_of(&self, len: u64) -> u64 {
        Memory::cost(len as usize) + if self.rules.ttl == NO_LIMIT { 0 } else { EXTRA_COST }
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
            && memory.has_room(self.cost_of(longest))
    }

    /// A write through `open` would not wait, because somebody waits for just that.
    pub(super) fn takes_from(&self, open: &Open) -> bool {
        match &open.door {
            Door::Rpc => self.readers.has(&Selector::Request),
            Door::Tag(tag) => self.readers.has(&Selector::Message(Filter::Tag(Tag::clone(tag)))),
            _ => false,
        }
    }

    /// Why it is not writable: the mailbox's own bounds have room.
    pub(super) fn only_memory_lacks(&self) -> bool {
        !self.removed && self.writers.is_empty() && self.fits(self.longest())
    }

    /// A writer who waits has something that a reader with `selector` would get.
    pub(super) fn writers_have(&self, selector: &Selector) -> bool {
        !self.writers.is_empty() && self.writers.iter().any(|writer| writer.suits(selector))
    }

    /// A reader with `selector` has come, for whom the first who wait for room have nothing: the first writer who has hands
    /// that over, though others wait before him. Nobody has to wait longer for that.
    pub(super) fn serve_from_writers(&mut self, selector: &Selector, cx: &mut Context<'_>) {
        while let Some(mut writer) = self.writers.leave_first(|writer| writer.suits(selector)) {
            if self.overlong(&writer.load) {
                // The limits were changed since it was written.
                self.refuse_writer(writer, Error::TooLong, cx);
                continue;
            }
            let len = writer.load.written();
            match self.take_load(writer.load, writer.handle, false, cx) {
                Ok(()) => came_in(writer.request_id, writer.held, len, cx),
                Err(load) => {
                    writer.load = load;
                    if self.overlong(&writer.load) {
                        self.refuse_writer(writer, Error::TooLong, cx);
                    } else {
                        self.writers.rejoin(writer.id, writer);
                    }
                }
            }
            break;
        }
        self.room_made(cx);
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

    /// Takes what a writer has: where somebody waits for it, and with `room` also where there is room; of lines, as many as
    /// there is one or the other for. What is not taken comes back.
    pub(super) fn take_load(
        &mut self,
        load: Load,
        handle: HandleId,
        room: bool,
        cx: &mut Context<'_>,
    ) -> Result<(), Load> {
        match load {
            Load::Message(message) => {
                if self.readers.wants(&message) || (room && self.try_room(&message, cx)) {
                    self.accept(message, cx);
                    Ok(())
                } else {
                    Err(Load::Message(message))
                }
            }
            Load::Request(message) => {
                if self.readers.has(&Selector::Request) || (room && self.try_room(&message, cx)) {
                    self.accept_request(message, handle, cx);
                    Ok(())
                } else {
                    Err(Load::Request(message))
                }
            }
            Load::Lines(lines) => self.take_lines(lines, handle, room, cx),
        }
    }

    /// Among the lines of one write is one that is too long, and it is its turn.
    fn overlong(&self, load: &Load) -> bool {
        matches!(load, Load::Lines(_)) && load.next_len() > self.longest()
    }

    /// A writer is answered that it may not wait, or has to wait no longer: with what was taken of its lines.
    pub(super) fn refuse_writer(&mut self, writer: WaitingWriter, error: Error, cx: &mut Context<'_>) {
        cx.memory.let_go(writer.held);
        let Some(request_id) = writer.request_id else { return };
        match writer.load {
            Load::Lines(lines) => self.refuse_lines(lines, writer.handle, request_id, error, cx),
            Load::Request(_) => {
                open_mut(&mut self.handles, writer.handle, |open| open.hand = Hand::Nothing);
                cx.fx.fail(request_id, error);
            }
            Load::Message(_) => cx.fx.fail(request_id, error),
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
                let (request_id, handle, caller) = (Some(call.request_id), call.handle, call.caller);
                let writer = WaitingWriter { id, request_id, handle, caller, since: cx.now, held, load };
                self.writers.join(id, writer);
                // A read may not have to wait now: one who finds nothing else takes from a waiting writer.
                self.wake_readers(cx);
                return Some(id);
            }
            WhenFull::Fail | WhenFull::DropOldest => Error::NoSpace,
        };
        match load {
            Load::Lines(lines) => self.refuse_lines(lines, call.handle, call.request_id, error, cx),
            Load::Message(_) | Load::Request(_) => cx.fx.fail(call.request_id, error),
        }
        None
    }
}

impl WaitingWriter {
    fn suits(&self, selector: &Selector) -> bool {
        match (&self.load, selector) {
            (Load::Message(message), Selector::Message(filter)) => filter.wants(message),
            (Load::Lines(_), Selector::Message(filter)) => match filter {
                Filter::Any => true,
                Filter::Sender(uid) => *uid == self.caller.uid,
                Filter::Tag(_) => false,
            },
            (Load::Request(_), selector) => *selector == Selector::Request,
            _ => false,
        }
    }
}

/// What a writer had is taken.
fn came_in(request_id: Option<RequestId>, held: u64, len: u64, cx: &mut Context<'_>) {
    cx.memory.let_go(held);
    if let Some(request_id) = request_id {
        cx.fx.reply(request_id, Reply::Written(len as u32));
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

    /// Bytes of the write.
    fn written(&self) -> u64 {
        match self {
            Load::Message(message) | Load::Request(message) => message.len(),
            Load::Lines(lines) => lines.written(),
        }
    }

    /// Bytes of the message that is to be taken next.
    fn next_len(&self) -> u64 {
        match self {
            Load::Message(message) | Load::Request(message) => message.len(),
            Load::Lines(lines) => lines.next_line() as u64,
        }
    }
}
