//! Writing: sends through the doors that make one message of a write, the room that they need, and waiting for it.

use std::sync::Arc;

use super::call::{Context, Door, HandleId, Selector, Send, WaitId, WhenFull};
use super::lease::deadline;
use super::memory::{EXTRA_COST, Memory};
use super::message::{Message, Tag};
use super::queue::Filter;
use super::rpc::Outstanding;
use super::writers::{Payload, WaitingWriter};
use super::{Mailbox, Open, State};
use crate::config::NO_LIMIT;
use crate::op::{Caller, Error, Reply, RequestId, Timestamp};

impl Mailbox {
    /// A write. Answered now, unless the caller has to wait: then its wait is returned.
    pub fn send(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Option<WaitId> {
        // An expired message takes no room, even before the timer has fired.
        if self.drop_expired(cx) {
            self.admit_writers(cx);
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
        if call.continues || std::mem::take(&mut open.split_refused) {
            open.split_refused = call.continues;
            cx.fx.fail(call.request_id, Error::TooLong);
            return None;
        }
        match &open.door {
            Door::Lease => return self.settle(call, cx),
            Door::Serve => return self.send_reply(call, cx),
            Door::Rpc if !matches!(open.state, State::Idle) => {
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
        if !self.check_length(&call, cx) {
            return None;
        }
        let message = self.new_message(Arc::from(call.body), call.caller, priority, tag, cx.now);
        let payload = if request { Payload::Request(message) } else { Payload::Message(message) };
        self.admit_or_wait(call, payload, cx)
    }

    /// True if a write has the length of a message. If false, it has been answered.
    pub(super) fn check_length(&self, call: &Send<'_>, cx: &mut Context<'_>) -> bool {
        let len = call.body.len();
        if len as u64 > self.longest() {
            cx.fx.fail(call.request_id, Error::TooLong);
        } else if len == 0 {
            cx.fx.reply(call.request_id, Reply::Written(0));
        }
        len > 0 && len as u64 <= self.longest()
    }

    /// Admits a write if no writer waits before it and there is room, or if a reader waits for it. Otherwise it waits.
    pub(super) fn admit_or_wait(
        &mut self,
        call: Send<'_>,
        payload: Payload,
        cx: &mut Context<'_>,
    ) -> Option<WaitId> {
        let (len, first) = (payload.written(), self.writers.is_empty());
        match self.try_admit(payload, call.handle, first, cx) {
            Ok(()) => {
                cx.fx.reply(call.request_id, Reply::Written(len as u32));
                None
            }
            Err(payload) => self.wait_or_fail(call, payload, cx),
        }
    }

    /// A new message that has no id yet.
    pub(super) fn new_message(
        &self,
        body: Arc<[u8]>,
        sender: Caller,
        priority: u16,
        tag: Option<Tag>,
        now: Timestamp,
    ) -> Message {
        let mut message = Message { id: 0, sent: now, sender, priority, body, extra: None };
        let expires = deadline(self.rules.ttl, now);
        if tag.is_some() || expires.is_some() {
            message.edit_extra(|extra| (extra.tag, extra.expires) = (tag, expires));
        }
        message
    }

    /// Admits waiting writers while there is room, and wakes pollers that may write. Must also be called when another
    /// mailbox has freed memory.
    pub fn admit_writers(&mut self, cx: &mut Context<'_>) {
        while let Some(mut writer) = self.writers.pop_front() {
            let len = writer.payload.written();
            match self.try_admit(writer.payload, writer.handle, true, cx) {
                Ok(()) => complete_write(writer.request_id, writer.charge, len, cx),
                Err(Payload::Message(message))
                    if writer.request_id.is_none()
                        && self.queue.is_empty()
                        && message.len() > self.limits.maxbytes =>
                {
                    // `maxbytes` was lowered after it was written, and no caller is left to get the error.
                    cx.memory.force_charge(message.cost());
                    cx.memory.uncharge_waiting(writer.charge);
                    self.accept(message, cx);
                }
                Err(payload) => {
                    let overlong = self.overlong(&payload);
                    writer.payload = payload;
                    if overlong {
                        self.fail_writer(writer, Error::TooLong, cx);
                        continue;
                    }
                    self.writers.push_front(writer.id, writer);
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
            self.polls_blocked_by_memory = false;
            return;
        }
        self.polls_blocked_by_memory = self.has_capacity();
        if self.readers.any_selective() {
            let mut polls = std::mem::take(&mut self.polls_out);
            polls.retain(|handle, poll| {
                let open = self.handles.get(handle.0);
                let wanted = open.is_some_and(|open| self.reader_waits_for(open));
                if wanted {
                    cx.fx.wake(*poll);
                }
                !wanted
            });
            self.polls_out = polls;
        }
    }

    /// True while a writer waits, or polls, that is blocked only by the mount's memory limit. Then
    /// [`Mailbox::admit_writers`] must be called when memory is freed. Reports the state of the last attempt: memory
    /// may have been freed since by a thread that did not yet know of this mailbox.
    pub fn blocked_by_memory(&self) -> bool {
        match self.writers.front() {
            Some(writer) => self.fits(writer.payload.next_len()),
            None => self.polls_blocked_by_memory && !self.polls_out.is_empty(),
        }
    }

    /// True if there is memory now for the first writer or poller that is blocked by the mount's memory limit.
    pub fn memory_available(&self, memory: &Memory) -> bool {
        let cost = match self.writers.front().map(|writer| &writer.payload) {
            Some(Payload::Message(message) | Payload::Request(message)) => message.cost(),
            Some(lines @ Payload::Lines(_)) => self.cost_of(lines.next_len()),
            None => self.cost_of(self.longest()),
        };
        memory.has_room(cost)
    }

    /// Memory that a message of `len` bytes would be charged if it was sent now, in bytes.
    fn cost_of(&self, len: u64) -> u64 {
        Memory::cost(len as usize) + if self.rules.ttl == NO_LIMIT { 0 } else { EXTRA_COST }
    }

    /// Length of the longest message that can be sent, in bytes.
    pub(super) fn longest(&self) -> u64 {
        u64::from(self.limits.msgsize).min(self.limits.maxbytes)
    }

    /// The mailbox's own limits have room for a message of `len` bytes.
    pub(super) fn fits(&self, len: u64) -> bool {
        self.queue.depth() + (self.requests.len() as u64) < self.limits.maxmsg
            && self.queue.bytes().saturating_add(self.request_bytes).saturating_add(len)
                <= self.limits.maxbytes
    }

    /// The mailbox's own limits have room for a message of any length. So if it is not writable, only the mount's
    /// memory limit is in the way.
    pub(super) fn has_capacity(&self) -> bool {
        !self.removed && self.writers.is_empty() && self.fits(self.longest())
    }

    /// A write of any permitted length would not wait.
    pub(super) fn writable(&self, memory: &Memory) -> bool {
        if self.rules.full != WhenFull::Wait || self.readers.any_waits() {
            return !self.removed;
        }
        self.has_capacity() && memory.has_room(self.cost_of(self.longest()))
    }

    /// A write through `open` would not wait, because a reader waits for exactly what comes through its door.
    pub(super) fn reader_waits_for(&self, open: &Open) -> bool {
        match &open.door {
            Door::Rpc => self.readers.has(&Selector::Request),
            Door::Tag(tag) => self.readers.has(&Selector::Message(Filter::Tag(Tag::clone(tag)))),
            _ => false,
        }
    }

    /// A waiting writer has something for a reader with `selector`.
    pub(super) fn writer_matches(&self, selector: &Selector) -> bool {
        !self.writers.is_empty() && self.writers.values().any(|writer| writer.matches(selector))
    }

    /// A reader with `selector` waits, and the queue has nothing for it. The first writer that has something delivers it
    /// ahead of the writers before it. This delays none of them.
    pub(super) fn receive_from_writers(&mut self, selector: &Selector, cx: &mut Context<'_>) {
        while let Some(mut writer) = self.writers.remove_first(|writer| writer.matches(selector)) {
            if self.overlong(&writer.payload) {
                // The limits were changed since it was written.
                self.fail_writer(writer, Error::TooLong, cx);
                continue;
            }
            let len = writer.payload.written();
            match self.try_admit(writer.payload, writer.handle, false, cx) {
                Ok(()) => complete_write(writer.request_id, writer.charge, len, cx),
                Err(payload) => {
                    writer.payload = payload;
                    if self.overlong(&writer.payload) {
                        self.fail_writer(writer, Error::TooLong, cx);
                    } else {
                        self.writers.insert(writer.id, writer);
                    }
                }
            }
            break;
        }
        self.admit_writers(cx);
    }

    /// Charges the memory for a message if the queue has room for it, after dropping old messages if the rules say so.
    pub(super) fn try_charge(&mut self, message: &Message, cx: &mut Context<'_>) -> bool {
        loop {
            if self.fits(message.len()) && cx.memory.try_charge(message.cost()) {
                return true;
            }
            // Nothing is dropped unless that makes enough room.
            if self.rules.full != WhenFull::DropOldest || !self.dropping_helps(message, cx.memory) {
                return false;
            }
            let Some(oldest) = self.queue.pop_oldest() else { return false };
            self.counters.dropped += 1;
            cx.memory.uncharge(oldest.cost());
        }
    }

    /// There would be room for a message if the queue was empty.
    fn dropping_helps(&self, message: &Message, memory: &Memory) -> bool {
        let own = self.queue.cost();
        let others = memory.used().saturating_sub(own);
        message.len().saturating_add(self.request_bytes) <= self.limits.maxbytes
            && (self.requests.len() as u64) < self.limits.maxmsg
            && others.saturating_add(message.cost()) <= memory.limit()
    }

    /// Admits what a writer has if a reader waits for it or, with `room`, if the queue has room for it. Lines are
    /// admitted one by one. Returns what was not admitted.
    pub(super) fn try_admit(
        &mut self,
        payload: Payload,
        handle: HandleId,
        room: bool,
        cx: &mut Context<'_>,
    ) -> Result<(), Payload> {
        match payload {
            Payload::Message(message) => {
                if self.readers.wants(&message) || (room && self.try_charge(&message, cx)) {
                    self.accept(message, cx);
                    Ok(())
                } else {
                    Err(Payload::Message(message))
                }
            }
            Payload::Request(message) => {
                if self.readers.has(&Selector::Request) || (room && self.try_charge(&message, cx)) {
                    self.accept_request(message, handle, cx);
                    Ok(())
                } else {
                    Err(Payload::Request(message))
                }
            }
            Payload::Lines(lines) => self.try_admit_lines(lines, handle, room, cx),
        }
    }

    /// The next line of a batch is too long to be sent.
    fn overlong(&self, payload: &Payload) -> bool {
        matches!(payload, Payload::Lines(_)) && payload.next_len() > self.longest()
    }

    /// Ends a writer's wait with `error`, or with the bytes of the lines that were sent.
    pub(super) fn fail_writer(&mut self, writer: WaitingWriter, error: Error, cx: &mut Context<'_>) {
        cx.memory.uncharge_waiting(writer.charge);
        let Some(request_id) = writer.request_id else { return };
        match writer.payload {
            Payload::Lines(lines) => self.fail_lines(lines, writer.handle, request_id, error, cx),
            Payload::Request(_) => {
                if let Some(open) = self.handles.get_mut(writer.handle.0) {
                    open.state = State::Idle;
                }
                cx.fx.fail(request_id, error);
            }
            Payload::Message(_) => cx.fx.fail(request_id, error),
        }
    }

    fn wait_or_fail(&mut self, call: Send<'_>, payload: Payload, cx: &mut Context<'_>) -> Option<WaitId> {
        let charge = payload.waiting_cost();
        let error = match self.rules.full {
            _ if self.overlong(&payload) => Error::TooLong,
            WhenFull::Wait if call.nonblock => {
                // An edge-triggered poller that was told "writable" must learn of room again after this failure.
                self.polls_blocked_by_memory |= self.has_capacity();
                Error::WouldWait
            }
            WhenFull::Wait if !cx.memory.try_charge_waiting(charge) => Error::NoMemory,
            WhenFull::Wait => {
                if let Payload::Request(_) = payload
                    && let Some(open) = self.handles.get_mut(call.handle.0)
                {
                    open.state = State::Requesting(Outstanding::Unsent);
                    open.framing.clear();
                }
                let id = self.next_wait();
                let (request_id, handle, caller) = (Some(call.request_id), call.handle, call.caller);
                let writer = WaitingWriter { id, request_id, handle, caller, since: cx.now, charge, payload };
                self.writers.push_back(id, writer);
                // A read may not have to wait now: it can receive from the waiting writer.
                self.wake_readers(cx);
                return Some(id);
            }
            WhenFull::Fail | WhenFull::DropOldest => Error::NoSpace,
        };
        match payload {
            Payload::Lines(lines) => self.fail_lines(lines, call.handle, call.request_id, error, cx),
            Payload::Message(_) | Payload::Request(_) => cx.fx.fail(call.request_id, error),
        }
        None
    }
}

/// All of a waiting write was admitted: returns its memory and answers it.
fn complete_write(request_id: Option<RequestId>, charge: u64, len: u64, cx: &mut Context<'_>) {
    cx.memory.uncharge_waiting(charge);
    if let Some(request_id) = request_id {
        cx.fx.reply(request_id, Reply::Written(len as u32));
    }
}
