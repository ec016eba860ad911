//! Writing through `stream`, which sends each line as a message, and `whole`, which sends one message at the last close.

use std::sync::Arc;

use super::call::{Context, Door, HandleId, Properties, Send, WaitId, WhenFull};
use super::memory::{Memory, charge_in_hand};
use super::message::{Message, Run};
use super::queue::LONGEST_RUN;
use super::readers::WaitingReader;
use super::recorded::OwnRecord;
use super::writers::{LineBatch, PartialMessage, Payload, Tail, WaitingWriter};
use super::{Mailbox, State};
use crate::accounts::{Account, Charge, Resource};
use crate::journal::record::How;
use crate::op::{Caller, Error, Reply, RequestId};
use crate::state::{Restorer, Saved, Saver};
use crate::sys::bytes::Filling;

/// What was written through `whole`, if it is long: the bytes are copied in steps to where they can be shared, and then sent.
#[derive(Debug)]
pub struct LongText {
    partial: PartialMessage,
    copied: Filling,
    handle: HandleId,
    /// Of the user who sends.
    account: Arc<Account>,
}

/// What was copied is copied again.
impl Saved for LongText {
    fn save(&self, to: &mut Saver<'_>) {
        let LongText { partial, copied, handle, account } = self;
        partial.save(to);
        handle.save(to);
        account.save(to);
        copied.filled().save(to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        let mut text = LongText::new(Saved::restore(from)?, Saved::restore(from)?, Saved::restore(from)?);
        let filled: usize = from.number()?;
        text.copied.append(text.partial.bytes.get(..filled)?);
        Some(text)
    }
}

impl LongText {
    /// Bytes that one step copies.
    pub(super) const STEP: usize = 1 << 20;

    pub(super) fn new(partial: PartialMessage, handle: HandleId, account: Arc<Account>) -> LongText {
        LongText { copied: Filling::new(partial.bytes.len()), partial, handle, account }
    }

    /// Copies some bytes. True if there are more.
    pub fn copy_some(&mut self) -> bool {
        let rest = self.partial.bytes.get(self.copied.filled()..).unwrap_or_default();
        self.copied.append(rest.get(..LongText::STEP).unwrap_or(rest));
        self.copied.filled() < self.partial.bytes.len()
    }
}

impl Mailbox {
    /// A write through `stream`.
    pub(super) fn send_lines(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Option<WaitId> {
        let Some(end) = memchr::memrchr(b'\n', call.body) else { return self.append(call, cx) };
        let room = self.check_room(call.body.len() as u64);
        if let Err(error) = self.check_writable(call.handle).and(room) {
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
        let account = &self.handles.get(call.handle.0)?.account;
        let tail = match data.len() - end {
            0 => Tail::Empty,
            tail if tail as u64 > self.longest() => Tail::Refused,
            tail => account.charge(Resource::Waiting, Memory::cost(tail)).map_or(Tail::Refused, Tail::Kept),
        };
        let charge = None;
        let lines = LineBatch { data, caller: call.caller, partial, prefix, sent: 0, end, tail, charge };
        self.admit_or_wait(call, Payload::Lines(lines), cx)
    }

    /// Sends lines as [`Mailbox::send_some`] does. Returns the batch if lines are left.
    pub(super) fn try_admit_lines(
        &mut self,
        mut lines: LineBatch,
        handle: HandleId,
        account: &Arc<Account>,
        room: bool,
        cx: &mut Context<'_>,
    ) -> Result<(), Payload> {
        self.send_some(&mut lines, account, room, cx);
        if lines.sent < lines.end {
            return Err(Payload::Lines(lines));
        }
        self.keep_tail(lines, handle);
        Ok(())
    }

    /// Sends as many lines as readers wait for and, with `room`, as the mailbox has room for.
    fn send_some(&mut self, lines: &mut LineBatch, account: &Arc<Account>, room: bool, cx: &mut Context<'_>) {
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
        let mut run = self.new_message(Arc::clone(&lines.data), lines.caller, Properties::default(), cx.now);
        run.edit_extra(|extra| extra.run = Some(Run { lines: count, from: lines.sent, to: stop }));
        loop {
            let (mut reader, mut charge) = (None, None);
            if self.readers.wants(&run) {
                // A reader that gets several lines keeps none of them, so that the first decides.
                let cost = Memory::cost(run.first_len() as usize);
                charge = match charge_in_hand(account, cost) {
                    Ok(charged) => Some(charged),
                    // Its writer waits with it and is charged for it. A reader must not wait beside that.
                    Err(_) if lines.charge.is_some() => {
                        Some(account.charge_regardless(Resource::Waiting, cost))
                    }
                    Err(_) => return,
                };
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
                None => match self.fitting(&run, account) {
                    0 if self.rules.full == WhenFull::DropOldest => {
                        let mut first = run.split_first();
                        let next = first.as_mut().unwrap_or(&mut run);
                        if !self.try_charge(next, account, cx) {
                            return;
                        }
                        charge = next.charge.take();
                        first
                    }
                    0 => return,
                    count => run.split_lines(count.min(LONGEST_RUN)),
                },
            };
            let Some(part) = part else {
                lines.sent += self.send_part(run, charge, reader, account, cx);
                return;
            };
            let sent = self.send_part(part, charge, reader, account, cx);
            if sent == 0 {
                return;
            }
            lines.sent += sent;
        }
    }

    /// Gives a line or several to `reader`, or queues them. Returns their length in bytes: 0 if there is no memory for them.
    fn send_part(
        &mut self,
        mut part: Message,
        charge: Option<Charge>,
        reader: Option<WaitingReader>,
        account: &Arc<Account>,
        cx: &mut Context<'_>,
    ) -> usize {
        if reader.is_none() {
            part.compact();
        }
        part.charge = charge.or_else(|| account.charge(Resource::Memory, part.cost()).ok());
        if part.charge.is_none() {
            return 0;
        }
        let length = part.len() as usize;
        part.id = cx.memory.allocate_ids(part.count());
        self.counters.sent += part.count();
        self.last_sent = cx.now.time();
        self.record_message(&part, part.id, How::Sent, cx);
        if let Some(reader) = reader {
            self.deliver_to_waiting(&reader, part, cx);
        } else {
            self.reply_to_peekers(&part, cx);
            let number = part.id;
            self.queue.push(part, number);
            self.wake_readers(cx);
        }
        length
    }

    /// How many lines of a run there is room for.
    fn fitting(&self, run: &Message, account: &Account) -> u64 {
        let messages = self.free_slots();
        let bytes = self.limits.maxbytes.saturating_sub(self.queue.bytes() + self.bytes_beside_queue());
        if run.count() <= messages && run.len() <= bytes && account.has_room(Resource::Memory, run.cost()) {
            return run.count();
        }
        let overhead = (run.cost() - run.len()) / run.count();
        let slice = run.slice();
        let mut count = 0;
        for at in memchr::memchr_iter(b'\n', slice.as_bytes()) {
            let length = at as u64 + 1;
            let cost = length + overhead * (count + 1);
            if count == messages || length > bytes || !account.has_room(Resource::Memory, cost) {
                break;
            }
            count += 1;
        }
        count
    }

    /// Messages that may still be queued before `maxmsg` is reached.
    fn free_slots(&self) -> u64 {
        self.limits.maxmsg.saturating_sub(self.queue.depth() + self.count_beside_queue())
    }

    /// All complete lines are sent: what follows them is kept as the beginning of the next line.
    fn keep_tail(&mut self, lines: LineBatch, handle: HandleId) {
        if let Tail::Kept(charge) = lines.tail {
            let bytes = lines.data.get(lines.end..).unwrap_or_default().to_vec();
            let partial = PartialMessage { bytes, charge: Some(charge), ..PartialMessage::new(lines.caller) };
            self.keep_partial(partial, handle);
        }
    }

    /// Keeps the beginning of a line. It precedes whatever another write has left there while this one waited.
    fn keep_partial(&mut self, mut partial: PartialMessage, handle: HandleId) {
        let longest = self.longest();
        let Some(open) = self.handles.get_mut(handle.0) else { return };
        if let State::Partial(later) = std::mem::take(&mut open.state) {
            partial.charge = match (partial.charge.take(), later.charge) {
                (Some(mut own), Some(more)) => {
                    own.merge(more);
                    Some(own)
                }
                (own, more) => own.or(more),
            };
            partial.too_long |= later.too_long;
            partial.incomplete |= later.incomplete;
            partial.bytes.extend_from_slice(&later.bytes);
        }
        if partial.too_long || partial.bytes.len() as u64 > longest {
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
        let partial = lines.partial.take();
        if lines.sent > 0 {
            cx.fx.reply(request_id, Reply::Written(lines.sent.saturating_sub(lines.prefix) as u32));
            return;
        }
        if let Some(mut partial) = partial {
            partial.too_long |= error == Error::TooLong;
            self.keep_partial(*partial, handle);
        }
        cx.fx.fail(request_id, error);
    }

    /// A write through `whole`, or a write through `stream` that ends no line. Never waits.
    pub(super) fn append(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Option<WaitId> {
        match self.try_append(call) {
            Ok(()) => cx.fx.reply(call.request_id, Reply::Written(call.body.len() as u32)),
            Err(error) => cx.fx.fail(call.request_id, error),
        }
        None
    }

    fn try_append(&mut self, call: Send<'_>) -> Result<(), Error> {
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
        let cost = Memory::cost(partial.bytes.len() + call.body.len());
        let charged = match &mut partial.charge {
            Some(charge) => charge.resize(cost),
            none => open.account.charge(Resource::Waiting, cost).map(|charge| *none = Some(charge)),
        };
        let result = if partial.bytes.len() as u64 + call.body.len() as u64 > most {
            *partial = PartialMessage { too_long: true, ..PartialMessage::new(call.caller) };
            Err(Error::TooLong)
        } else if charged.is_ok() {
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

    /// The last close: what was written is sent.
    pub(super) fn send_partial(
        &mut self,
        partial: PartialMessage,
        handle: HandleId,
        account: Arc<Account>,
        cx: &mut Context<'_>,
    ) {
        self.send_closed(Arc::from(partial.bytes), partial.charge, partial.caller, handle, account, cx);
    }

    /// Sends a text of which [`LongText::copy_some`] has copied all.
    pub fn send_long(&mut self, text: LongText, cx: &mut Context<'_>) {
        let LongText { partial, copied, handle, account } = text;
        if let Ok(bytes) = copied.finish() {
            self.send_closed(bytes, partial.charge, partial.caller, handle, account, cx);
        }
    }

    /// Sends what was written through a file that is closed. If there is no room, it waits as a writer without a caller.
    fn send_closed(
        &mut self,
        bytes: Arc<[u8]>,
        charge: Option<Charge>,
        caller: Caller,
        handle: HandleId,
        account: Arc<Account>,
        cx: &mut Context<'_>,
    ) {
        if self.removed {
            return;
        }
        let mut message = self.new_message(bytes, caller, Properties::default(), cx.now);
        message.charge = charge;
        let Err(payload) = self.try_admit(Payload::Message(message), handle, &account, false, cx) else {
            return;
        };
        let (id, since) = (self.next_wait(), cx.now.moment);
        let record = OwnRecord::default();
        let writer = WaitingWriter { id, request_id: None, handle, caller, since, account, payload, record };
        self.writers.push_back(id, writer);
        self.writers_noted.note(id);
        self.admit_writers(cx);
        if !self.writers.is_empty() {
            self.wake_readers(cx);
        }
    }
}
