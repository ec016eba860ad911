//! Writing: sends through the doors that make one message of a write, the room that they need, and waiting for it.

use std::sync::Arc;

use super::call::{Context, Door, HandleId, Properties, Selector, Send, WaitId, WhenFull};
use super::due::Budget;
use super::lease::deadline;
use super::memory::{EXTRA_COST, Memory, charge_in_hand, cost_of_key};
use super::message::{Message, Tag};
use super::queue::Filter;
use super::rpc::Outstanding;
use super::writers::{Payload, WaitingWriter};
use super::{Mailbox, Open, State};
use crate::accounts::{Account, Exceeded, Resource};
use crate::config::NO_LIMIT;
use crate::journal::record::Why;
use crate::op::{Caller, Error, Now, Reply, RequestId};

impl Mailbox {
    /// A write. Answered now, unless the caller has to wait: then its wait is returned.
    pub fn send(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Option<WaitId> {
        // An expired message takes no room, even before the timer has fired.
        self.catch_up(cx);
        let Some(open) = self.handles.get_mut(call.handle.0).filter(|open| open.mode.writes()) else {
            cx.fx.fail(call.request_id, Error::BadDescriptor);
            return None;
        };
        match &open.door {
            Door::Stream => return self.send_lines(call, cx),
            Door::Whole => return self.append(call, cx),
            _ => {}
        }
        if call.continues || std::mem::take(&mut open.split_refused) {
            open.split_refused = call.continues;
            cx.fx.fail(call.request_id, Error::TooLong);
            return None;
        }
        match &open.door {
            Door::Lease => return self.settle(call, cx),
            Door::LeaseJson => return self.settle_many(call, cx),
            Door::Serve => return self.send_reply(call, cx),
            Door::Rpc if !matches!(open.state, State::Idle) => {
                cx.fx.fail(call.request_id, Error::Busy);
                return None;
            }
            _ => {}
        }
        let (request, properties) = (open.door == Door::Rpc, open.door.properties());
        if self.removed {
            cx.fx.fail(call.request_id, Error::Removed);
            return None;
        }
        if !self.check_length(&call, cx) {
            return None;
        }
        if self.is_duplicate(properties.key.as_ref(), cx) {
            cx.fx.reply(call.request_id, Reply::Written(call.body.len() as u32));
            return None;
        }
        if let Err(error) = self.check_room(call.body.len() as u64) {
            cx.fx.fail(call.request_id, error);
            return None;
        }
        let message = self.new_message(Arc::from(call.body), call.caller, properties, cx.now);
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
        let account = Arc::clone(&self.handles.get(call.handle.0)?.account);
        let (len, first) = (payload.written(), self.no_writer_before(&account));
        let is_request = matches!(payload, Payload::Request(_));
        match self.try_admit(payload, call.handle, &account, first, cx) {
            Ok(()) => {
                cx.fx.reply(call.request_id, Reply::Written(len as u32));
                if is_request {
                    // The last reply is gone, if the client has not read it.
                    self.admit_writers(cx);
                }
                None
            }
            Err(payload) => self.wait_or_fail(call, payload, account, cx),
        }
    }

    /// No writer waits that a new one of `account` would have to wait behind: those do not count that wait for memory of
    /// another user's share.
    fn no_writer_before(&self, account: &Account) -> bool {
        self.writers.values().all(|writer| writer.account.uid() != account.uid() && self.over_share(writer))
    }

    /// A writer waits only for its user's share of the mount's memory.
    fn over_share(&self, writer: &WaitingWriter) -> bool {
        self.fits(writer.payload.next_len())
            && !writer.account.has_share(Resource::Memory, self.next_cost(writer))
    }

    /// A new message that has no id yet.
    pub(super) fn new_message(
        &self,
        body: Arc<[u8]>,
        sender: Caller,
        properties: Properties,
        now: Now,
    ) -> Message {
        let Properties { priority, tag, ttl, delay, key } = properties;
        let Now { wall: sent, moment: since } = now;
        let mut message = Message { id: 0, sent, since, sender, priority, body, extra: None, charge: None };
        let expires = deadline(ttl.min(self.rules.ttl), since);
        let due = (delay > 0).then(|| since.after(delay));
        if tag.is_some() || expires.is_some() || due.is_some() || key.is_some() {
            message.edit_extra(|extra| {
                (extra.tag, extra.expires, extra.due, extra.key) = (tag, expires, due, key);
            });
        }
        message
    }

    /// Admits waiting writers while there is room, and wakes pollers that may write. Must also be called when another
    /// mailbox has freed memory. Writers that wait for their user's share of the memory hold up no other user's.
    pub fn admit_writers(&mut self, cx: &mut Context<'_>) {
        let mut over_share: Vec<u32> = Vec::new();
        let mut after = None;
        while let Some((id, writer)) = self.writers.first_after(after) {
            let uid = writer.account.uid();
            if over_share.contains(&uid) || self.over_share(writer) {
                over_share.push(uid);
                after = Some(id);
                continue;
            }
            if let Err(error) = self.check_room(writer.payload.next_len()) {
                if writer.request_id.is_none() {
                    // It waits for the disk.
                    break;
                }
                let Some(writer) = self.writers.remove(id) else { break };
                self.fail_writer(writer, error, cx);
                continue;
            }
            let Some(mut writer) = self.writers.remove(id) else { break };
            let len = writer.payload.written();
            match self.try_admit(writer.payload, writer.handle, &writer.account, true, cx) {
                Ok(()) => complete_write(writer.request_id, len, cx),
                Err(Payload::Message(message))
                    if writer.request_id.is_none()
                        && self.queue.is_empty()
                        && message.len() > self.limits.maxbytes =>
                {
                    // `maxbytes` was lowered after it was written, and no caller is left to get the error.
                    self.accept(message, cx);
                }
                Err(payload) => {
                    let overlong = self.overlong(&payload);
                    writer.payload = payload;
                    if overlong {
                        self.fail_writer(writer, Error::TooLong, cx);
                        continue;
                    }
                    let over_share = self.over_share(&writer);
                    self.writers.insert(id, writer);
                    if !over_share {
                        break;
                    }
                }
            }
        }
        self.wake_writers(cx);
    }

    /// Wakes pollers that may write.
    fn wake_writers(&mut self, cx: &mut Context<'_>) {
        if self.polls_out.is_empty() {
            return;
        }
        let mut polls = std::mem::take(&mut self.polls_out);
        polls.retain(|handle, poll| {
            let writable = self
                .handles
                .get(handle.0)
                .is_none_or(|open| self.writable(open) || self.reader_waits_for(open));
            if writable {
                cx.fx.wake(*poll);
            }
            !writable
        });
        self.polls_blocked_by_memory = polls
            .keys()
            .any(|handle| self.handles.get(handle.0).is_some_and(|open| self.has_capacity(&open.account)));
        self.polls_out = polls;
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

    /// True if there is memory now for a writer or poller that is blocked by the memory limit, as
    /// [`Mailbox::admit_writers`] would find.
    pub fn memory_available(&self) -> bool {
        let mut over_share: Vec<u32> = Vec::new();
        for writer in self.writers.values() {
            let uid = writer.account.uid();
            if over_share.contains(&uid) || self.over_share(writer) {
                over_share.push(uid);
                continue;
            }
            return self.fits(writer.payload.next_len())
                && writer.account.has_room(Resource::Memory, self.next_cost(writer));
        }
        let mut polls = self.polls_out.keys().filter_map(|handle| self.handles.get(handle.0));
        self.polls_blocked_by_memory && polls.any(|open| self.writable(open))
    }

    /// Memory that a waiting writer needs for its next message, in bytes.
    fn next_cost(&self, writer: &WaitingWriter) -> u64 {
        match &writer.payload {
            Payload::Message(message) | Payload::Request(message) => message.cost(),
            lines @ Payload::Lines(_) => self.cost_of(lines.next_len(), &Properties::default()),
        }
    }

    /// Memory that a message of `len` bytes would be charged if it was sent now, in bytes.
    fn cost_of(&self, len: u64, properties: &Properties) -> u64 {
        let Properties { tag, ttl, delay, key, .. } = properties;
        let special = tag.is_some() || (*ttl).min(self.rules.ttl) != NO_LIMIT || *delay > 0;
        let tag = tag.as_ref().map_or(0, |tag| tag.len() as u64);
        let names = tag + key.as_ref().map_or(0, |key| cost_of_key(key));
        Memory::cost(len as usize) + names + if special { EXTRA_COST } else { 0 }
    }

    /// Length of the longest message that can be sent, in bytes.
    pub(super) fn longest(&self) -> u64 {
        u64::from(self.limits.msgsize).min(self.limits.maxbytes)
    }

    /// The mailbox's own limits have room for a message of `len` bytes.
    pub(super) fn fits(&self, len: u64) -> bool {
        self.queue.depth() + self.count_beside_queue() < self.limits.maxmsg
            && self.queue.bytes().saturating_add(self.bytes_beside_queue()).saturating_add(len)
                <= self.limits.maxbytes
    }

    /// The mailbox's own limits have room for a message of any length. So if it is not writable, only the mount's
    /// memory limit is in the way.
    pub(super) fn has_capacity(&self, account: &Account) -> bool {
        !self.removed && self.no_writer_before(account) && self.fits(self.longest())
    }

    /// A write of any permitted length through `open` would not wait.
    pub(super) fn writable(&self, open: &Open) -> bool {
        let properties = open.door.properties();
        if self.rules.full != WhenFull::Wait || (properties.delay == 0 && self.readers.any_waits()) {
            return !self.removed;
        }
        let cost = self.cost_of(self.longest(), &properties);
        self.has_capacity(&open.account) && open.account.has_room(Resource::Memory, cost)
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
            match self.try_admit(writer.payload, writer.handle, &writer.account, false, cx) {
                Ok(()) => complete_write(writer.request_id, len, cx),
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

    /// Charges the memory for a message if the queue has room for it, after dropping old messages if the rules say so: some, so
    /// that it is a short step. The next step is due at once.
    pub(super) fn try_charge(
        &mut self,
        message: &mut Message,
        account: &Arc<Account>,
        cx: &mut Context<'_>,
    ) -> bool {
        let mut budget = Budget::new();
        while !budget.is_spent() {
            let mut exceeded = None;
            if self.fits(message.len()) {
                match account.charge(Resource::Memory, message.cost()) {
                    Ok(charge) => {
                        message.charge = Some(charge);
                        return true;
                    }
                    Err(error) => exceeded = Some(error),
                }
            }
            if self.has_expired(cx.now.moment) {
                budget.spend(self.expire_one(cx));
                continue;
            }
            // Nothing is dropped unless that makes enough room.
            let helps = match exceeded {
                Some(Exceeded::Share) => self.queue.oldest_is_charged_to(account),
                Some(Exceeded::Limit) | None => self.dropping_helps(message, cx.memory),
            };
            if self.rules.full != WhenFull::DropOldest || !helps {
                return false;
            }
            let Some(dropped) = self.queue.pop_oldest() else { return false };
            self.counters.dropped += 1;
            self.record_gone(dropped.id, 1, Why::Dropped, cx);
            budget.spend(dropped.len());
        }
        self.dropping = true;
        false
    }

    /// There would be room for a message if the queue was empty.
    fn dropping_helps(&self, message: &Message, memory: &Memory) -> bool {
        let own = self.queue.cost();
        let others = memory.used().saturating_sub(own);
        message.len().saturating_add(self.bytes_beside_queue()) <= self.limits.maxbytes
            && self.count_beside_queue() < self.limits.maxmsg
            && others.saturating_add(message.cost()) <= memory.limit()
    }

    /// Admits what a writer of `account` has if a reader waits for it or, with `room`, if the queue has room for it. Lines
    /// are admitted one by one. Returns what was not admitted.
    pub(super) fn try_admit(
        &mut self,
        payload: Payload,
        handle: HandleId,
        account: &Arc<Account>,
        room: bool,
        cx: &mut Context<'_>,
    ) -> Result<(), Payload> {
        match payload {
            // One with the same key was accepted while its writer waited.
            Payload::Message(message) if self.is_duplicate(message.key(), cx) => Ok(()),
            Payload::Message(mut message) => {
                let admitted = if self.readers.wants(&message) {
                    charge_for_reader(&mut message, account)
                } else {
                    room && self.try_charge(&mut message, account, cx)
                };
                if admitted {
                    self.accept(message, cx);
                    Ok(())
                } else {
                    Err(Payload::Message(message))
                }
            }
            Payload::Request(mut message) => {
                let admitted = if self.readers.has(&Selector::Request) {
                    charge_for_reader(&mut message, account)
                } else {
                    room && self.try_charge(&mut message, account, cx)
                };
                if admitted {
                    self.accept_request(message, handle, cx);
                    Ok(())
                } else {
                    Err(Payload::Request(message))
                }
            }
            Payload::Lines(lines) => self.try_admit_lines(lines, handle, account, room, cx),
        }
    }

    /// The next line of a batch is too long to be sent.
    fn overlong(&self, payload: &Payload) -> bool {
        matches!(payload, Payload::Lines(_)) && payload.next_len() > self.longest()
    }

    /// Ends a writer's wait with `error`, or with the bytes of the lines that were sent.
    pub(super) fn fail_writer(&mut self, writer: WaitingWriter, error: Error, cx: &mut Context<'_>) {
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

    fn wait_or_fail(
        &mut self,
        call: Send<'_>,
        mut payload: Payload,
        account: Arc<Account>,
        cx: &mut Context<'_>,
    ) -> Option<WaitId> {
        let deferred = (call.nonblock || self.rules.full != WhenFull::Wait) && self.defers(cx);
        let error = match self.rules.full {
            _ if self.overlong(&payload) => Error::TooLong,
            WhenFull::Wait if call.nonblock && !deferred => {
                // An edge-triggered poller that was told "writable" must learn of room again after this failure.
                self.polls_blocked_by_memory |= self.has_capacity(&account);
                Error::WouldWait
            }
            WhenFull::Fail | WhenFull::DropOldest if !deferred => Error::NoSpace,
            _ if !charge_waiting(&mut payload, &account) => Error::NoMemory,
            _ => {
                let mut freed = false;
                if let Payload::Request(_) = payload
                    && let Some(open) = self.handles.get_mut(call.handle.0)
                {
                    open.state = State::Requesting(Outstanding::Unsent);
                    freed = open.framing.charged() > 0;
                    open.framing.clear();
                }
                let id = self.next_wait();
                let (request_id, handle, caller) = (Some(call.request_id), call.handle, call.caller);
                let writer =
                    WaitingWriter { id, request_id, handle, caller, since: cx.now.moment, account, payload };
                self.writers.push_back(id, writer);
                if deferred {
                    self.deferred.insert(id);
                }
                // A read may not have to wait now: it can receive from the waiting writer.
                self.wake_readers(cx);
                if freed {
                    // The last reply, which the client has not read.
                    self.admit_writers(cx);
                }
                return self.writers.get(id).is_some().then_some(id);
            }
        };
        match payload {
            Payload::Lines(lines) => self.fail_lines(lines, call.handle, call.request_id, error, cx),
            Payload::Message(_) | Payload::Request(_) => cx.fx.fail(call.request_id, error),
        }
        None
    }
}

/// Charges a message that a reader waits for, unless its writer waits and it is charged already.
fn charge_for_reader(message: &mut Message, account: &Arc<Account>) -> bool {
    if message.charge.is_none() {
        message.charge = charge_in_hand(account, message.cost()).ok();
    }
    message.charge.is_some()
}

/// Charges what a writer waits with.
fn charge_waiting(payload: &mut Payload, account: &Arc<Account>) -> bool {
    let (charge, cost) = payload.charge();
    *charge = account.charge(Resource::Waiting, cost).ok();
    charge.is_some()
}

/// All of a waiting write was admitted: answers it.
fn complete_write(request_id: Option<RequestId>, len: u64, cx: &mut Context<'_>) {
    if let Some(request_id) = request_id {
        cx.fx.reply(request_id, Reply::Written(len as u32));
    }
}
