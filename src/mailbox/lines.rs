//! Writing through `stream`, which sends each line as a message, and `whole`, which sends one message at the last close.

use std::sync::Arc;

use super::call::{Context, Door, HandleId, Send, WaitId, WhenFull};
use super::memory::Memory;
use super::message::{Message, Run};
use super::writers::{LineBatch, PartialMessage, Payload, WaitingWriter};
use super::{Mailbox, State};
use crate::op::{Error, Reply, RequestId};

impl Mailbox {
    /// A write through `stream`.
    pub(super) fn send_lines(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Option<WaitId> {
        let Some(end) = memchr::memrchr(b'\n', call.body) else { return self.append(call, cx) };
        if let Err(error) = self.check_writable(call.handle) {
            cx.fx.fail(call.request_id, error);
            return None;
        }
        let mut partial = None;
        if let Some(open) = self.handles.get_mut(call.handle.0)
            && let State::Partial(line) = std::mem::take(&mut open.state)
        {
            partial = Some(line);
        }
        let prefix = partial.as_ref().map_or(0, |line| line.bytes.len());
        let data: Arc<[u8]> = match &partial {
            Some(line) => [&line.bytes, call.body].concat().into(),
            None => Arc::from(call.body),
        };
        let end = prefix + end + 1;
        let tail_charge = match data.len() - end {
            0 => Some(0),
            tail => {
                let cost = Memory::cost(tail);
                (tail as u64 <= self.longest() && cx.memory.try_charge_waiting(cost)).then_some(cost)
            }
        };
        let lines = LineBatch { data, caller: call.caller, partial, prefix, sent: 0, end, tail_charge };
        self.admit_or_wait(call, Payload::Lines(lines), cx)
    }

    /// Sends lines as [`Mailbox::send_some`] does. Returns the batch if lines are left.
    pub(super) fn try_admit_lines(
        &mut self,
        mut lines: LineBatch,
        handle: HandleId,
        room: bool,
        cx: &mut Context<'_>,
    ) -> Result<(), Payload> {
        self.send_some(&mut lines, room, cx);
        if lines.sent < lines.end {
            return Err(Payload::Lines(lines));
        }
        self.keep_tail(&lines, handle, cx);
        Ok(())
    }

    /// Sends as many lines as readers wait for and, with `room`, as the mailbox has room for.
    fn send_some(&mut self, lines: &mut LineBatch, room: bool, cx: &mut Context<'_>) {
        // If the mailbox is full, a long write is not scanned again for each line that is received.
        let readers_wait = self.readers.any_waits() || self.readers.any_selective();
        let most = match self.rules.full {
            WhenFull::Wait | WhenFull::Fail if !readers_wait => self.free_slots(),
            _ => u64::MAX,
        };
        let (stop, count) = lines.valid(self.longest(), most);
        if count == 0 {
            return;
        }
        let mut run = self.new_message(Arc::clone(&lines.data), lines.caller, 0, None, cx.now);
        run.edit_extra(|extra| extra.run = Some(Run { lines: count, from: lines.sent, to: stop }));
        loop {
            let mut reader = None;
            if self.readers.wants(&run) {
                self.reply_to_peekers(&run, cx);
                reader = self.readers.pop_for(&run);
            }
            let part = match &reader {
                Some(reader) => {
                    let open = self.handles.get(reader.call.handle.0);
                    let takes_many = open.is_some_and(|open| open.door == Door::Stream);
                    if takes_many { run.split_fitting(reader.call.size) } else { run.split_first() }
                }
                None if !room => return,
                None => match self.fitting(&run, cx.memory) {
                    0 if self.rules.full == WhenFull::DropOldest => {
                        let first = run.clone().split_first().unwrap_or_else(|| run.clone());
                        if !self.try_charge(&first, cx) {
                            return;
                        }
                        cx.memory.uncharge(first.cost());
                        run.split_first()
                    }
                    0 => return,
                    count => run.split_lines(count),
                },
            };
            let last = part.is_none();
            let mut part = part.unwrap_or_else(|| run.clone());
            part.id = cx.memory.allocate_ids(part.count());
            if reader.is_none() && !cx.memory.try_charge(part.cost()) {
                return;
            }
            lines.sent += part.len() as usize;
            self.counters.sent += part.count();
            self.last_sent = cx.now;
            if let Some(reader) = reader {
                self.deliver_to_waiting(&reader, part, cx);
            } else {
                self.reply_to_peekers(&part, cx);
                let number = part.id;
                self.queue.push(part, number);
                self.wake_readers(cx);
            }
            if last {
                return;
            }
        }
    }

    /// How many lines of a run there is room for.
    fn fitting(&self, run: &Message, memory: &Memory) -> u64 {
        let messages = self.free_slots();
        let bytes = self.limits.maxbytes.saturating_sub(self.queue.bytes() + self.request_bytes);
        if run.count() <= messages && run.len() <= bytes && memory.has_room(run.cost()) {
            return run.count();
        }
        let overhead = (run.cost() - run.len()) / run.count();
        let slice = run.slice();
        let mut count = 0;
        for at in memchr::memchr_iter(b'\n', slice.as_bytes()) {
            let length = at as u64 + 1;
            if count == messages || length > bytes || !memory.has_room(length + overhead * (count + 1)) {
                break;
            }
            count += 1;
        }
        count
    }

    /// Messages that may still be queued before `maxmsg` is reached.
    fn free_slots(&self) -> u64 {
        self.limits.maxmsg.saturating_sub(self.queue.depth() + self.requests.len() as u64)
    }

    /// All complete lines are sent: what follows them is kept as the beginning of the next line.
    fn keep_tail(&mut self, lines: &LineBatch, handle: HandleId, cx: &mut Context<'_>) {
        if let Some(partial) = &lines.partial {
            cx.memory.uncharge_waiting(partial.charge);
        }
        if let Some(charge) = lines.tail_charge.filter(|charge| *charge > 0) {
            let bytes = lines.data.get(lines.end..).unwrap_or_default().to_vec();
            self.keep_partial(
                PartialMessage { bytes, charge, ..PartialMessage::new(lines.caller) },
                handle,
                cx,
            );
        }
    }

    /// Keeps the beginning of a line. It precedes whatever another write has left there while this one waited.
    fn keep_partial(&mut self, mut partial: PartialMessage, handle: HandleId, cx: &mut Context<'_>) {
        let longest = self.longest();
        let Some(open) = self.handles.get_mut(handle.0) else {
            cx.memory.uncharge_waiting(partial.charge);
            return;
        };
        if let State::Partial(later) = std::mem::take(&mut open.state) {
            partial.charge += later.charge;
            partial.too_long |= later.too_long;
            partial.incomplete |= later.incomplete;
            partial.bytes.extend_from_slice(&later.bytes);
        }
        if partial.too_long || partial.bytes.len() as u64 > longest {
            cx.memory.uncharge_waiting(partial.charge);
            partial = PartialMessage { too_long: true, ..PartialMessage::new(partial.caller) };
        }
        open.state = State::Partial(Box::new(partial));
    }

    /// A write of lines ends before all of them were sent. It returns the bytes of those that were, or fails with
    /// `error` if none was.
    pub(super) fn fail_lines(
        &mut self,
        mut lines: LineBatch,
        handle: HandleId,
        request_id: RequestId,
        error: Error,
        cx: &mut Context<'_>,
    ) {
        cx.memory.uncharge_waiting(lines.tail_charge.unwrap_or(0));
        let partial = lines.partial.take();
        if lines.sent > 0 {
            if let Some(partial) = partial {
                cx.memory.uncharge_waiting(partial.charge);
            }
            cx.fx.reply(request_id, Reply::Written(lines.sent.saturating_sub(lines.prefix) as u32));
            return;
        }
        if let Some(mut partial) = partial {
            partial.too_long |= error == Error::TooLong;
            self.keep_partial(*partial, handle, cx);
        }
        cx.fx.fail(request_id, error);
    }

    /// A write through `whole`, or a write through `stream` that ends no line. Never waits.
    pub(super) fn append(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Option<WaitId> {
        match self.try_append(call, cx) {
            Ok(()) => cx.fx.reply(call.request_id, Reply::Written(call.body.len() as u32)),
            Err(error) => cx.fx.fail(call.request_id, error),
        }
        None
    }

    fn try_append(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Result<(), Error> {
        self.check_writable(call.handle)?;
        let longest = self.longest();
        let whole = self.rules.wholesize.min(self.limits.maxbytes);
        let Some(open) = self.handles.get_mut(call.handle.0) else { return Err(Error::BadDescriptor) };
        if call.body.is_empty() {
            return Ok(());
        }
        let most = if open.door == Door::Whole { whole } else { longest };
        let mut partial = match std::mem::take(&mut open.state) {
            State::Partial(partial) => partial,
            _ => Box::new(PartialMessage::new(call.caller)),
        };
        let cost = call.body.len() as u64 + if partial.bytes.is_empty() { Memory::cost(0) } else { 0 };
        let result = if partial.bytes.len() as u64 + call.body.len() as u64 > most {
            cx.memory.uncharge_waiting(partial.charge);
            *partial = PartialMessage { too_long: true, ..PartialMessage::new(call.caller) };
            Err(Error::TooLong)
        } else if cx.memory.try_charge_waiting(cost) {
            partial.charge += cost;
            partial.bytes.extend_from_slice(call.body);
            partial.incomplete = false;
            Ok(())
        } else {
            partial.incomplete = true;
            Err(Error::NoMemory)
        };
        open.state = State::Partial(partial);
        result
    }

    fn check_writable(&self, handle: HandleId) -> Result<(), Error> {
        let open = self.handles.get(handle.0).ok_or(Error::BadDescriptor)?;
        if self.removed {
            return Err(Error::Removed);
        }
        match &open.state {
            State::Partial(partial) if partial.too_long => Err(Error::TooLong),
            _ => Ok(()),
        }
    }

    /// The last close: what was written is sent. If there is no room, it waits as a writer without a caller.
    pub(super) fn send_partial(&mut self, partial: PartialMessage, handle: HandleId, cx: &mut Context<'_>) {
        let PartialMessage { bytes, caller, charge, incomplete, .. } = partial;
        if bytes.is_empty() || incomplete || self.removed {
            cx.memory.uncharge_waiting(charge);
            return;
        }
        let message = self.new_message(Arc::from(bytes), caller, 0, None, cx.now);
        let payload = match self.try_admit(Payload::Message(message), handle, false, cx) {
            Ok(()) => {
                cx.memory.uncharge_waiting(charge);
                return;
            }
            Err(payload) => payload,
        };
        let (id, since) = (self.next_wait(), cx.now);
        self.writers
            .push_back(id, WaitingWriter { id, request_id: None, handle, caller, since, charge, payload });
        self.admit_writers(cx);
        if !self.writers.is_empty() {
            self.wake_readers(cx);
        }
    }
}
