//! Reading: how a message gets to a reader, from the queue or from its sender.

use super::call::{Context, Door, Receive, Selector};
use super::lease::{Lease, deadline};
use super::memory::{Memory, charge_reader, may_begin};
use super::message::Message;
use super::readers::WaitingReader;
use super::{Mailbox, State, json};
use crate::accounts::{Charge, Resource};
use crate::journal::record::{How, Record};
use crate::op::{Error, Moment, Reply, Slice, Taken};

impl Mailbox {
    /// Answers a read from what is queued. False if nothing is queued for it. May make room in the queue.
    pub(super) fn receive_from_queue(&mut self, call: &Receive, cx: &mut Context<'_>) -> bool {
        let Some(open) = self.handles.get(call.handle.0) else { return false };
        let filter = match open.door.selector(call.handle) {
            Selector::Message(filter) => filter,
            Selector::Peek => return self.peek(call, cx),
            Selector::Request => return self.receive_request(call, cx),
            Selector::Reply(_) => return false,
        };
        let (many, json) = (open.door.takes_many(), open.door == Door::Json);
        if !matches!(open.door, Door::Lease | Door::LeaseJson)
            && let Some(next) = self.queue.first_matching(&filter)
            && !call.piece().may_continue()
            && !may_begin(&open.account, next.first_len(), call.size)
        {
            cx.fx.fail(call.request_id, Error::NoMemory);
            return true;
        }
        let first =
            if many && !json { self.queue.pop_run(call.size) } else { self.queue.pop_matching(&filter) };
        let Some(message) = first else { return false };
        if many && (json || (message.len() < call.size as u64 && !self.queue.is_empty())) {
            self.deliver_many(call, message, json, cx);
        } else {
            self.deliver(call, message, cx);
        }
        true
    }

    /// Accepts a message that is charged to its sender: gives it to the first reader that waits for it, or queues it.
    pub(super) fn accept(&mut self, mut message: Message, cx: &mut Context<'_>) {
        message.id = cx.memory.allocate_ids(1);
        // Its times begin now, however long its writer waited for room.
        let waited = cx.now.moment.since(message.since);
        let later = |time: Moment| time.after(waited);
        if message.extra.is_some() {
            message.edit_extra(|extra| {
                (extra.expires, extra.due) = (extra.expires.map(later), extra.due.map(later));
            });
        }
        (message.sent, message.since) = (cx.now.wall, cx.now.moment);
        self.counters.sent += 1;
        self.last_sent = cx.now.time();
        self.record_message(&message, message.id, How::Sent, cx);
        self.note_key(&mut message);
        if message.due().is_some() {
            self.delayed.insert(message);
        } else if let Some(message) = self.offer(message, cx) {
            let id = message.id;
            self.queue.push(message, id);
            self.wake_readers(cx);
        }
    }

    /// Gives a message to the first reader that waits for it. Returns it if none does.
    pub(super) fn offer(&mut self, message: Message, cx: &mut Context<'_>) -> Option<Message> {
        self.reply_to_peekers(&message, cx);
        match self.readers.pop_for(&message) {
            Some(reader) => self.deliver_to_waiting(&reader, message, cx),
            None => return Some(message),
        }
        None
    }

    /// Gives a message to a reader that waited for it.
    pub(super) fn deliver_to_waiting(
        &mut self,
        reader: &WaitingReader,
        message: Message,
        cx: &mut Context<'_>,
    ) {
        self.wait_ended(reader.call.handle);
        self.deliver(&reader.call, message, cx);
    }

    /// Answers a read with the message, or the run, that was taken for it.
    fn deliver(&mut self, call: &Receive, mut message: Message, cx: &mut Context<'_>) {
        self.last_received = cx.now.time();
        self.note_waited(&message, cx.now.moment);
        let (count, id) = (message.count(), message.id);
        let mut taken = self.taken(&message);
        let Some(open) = self.handles.get_mut(call.handle.0) else { return };
        let bytes = match open.door {
            Door::Json | Door::LeaseJson => json::line(&message),
            // The rest of a line is kept without the lines after it.
            _ if message.len() > call.size as u64 => message.slice().compact(),
            _ => message.slice(),
        };
        let mut charge = None;
        if let Door::Lease | Door::LeaseJson = open.door {
            let deadline = deadline(self.rules.lease_time, cx.now.moment);
            let lease = Lease { message: message.into_single(), deadline };
            if open.door == Door::LeaseJson {
                // The message keeps its charge. What the file keeps of the line is the reader's.
                let kept = (bytes.len() > call.size).then(|| Memory::cost(bytes.len()));
                charge = kept.map(|cost| open.account.charge_regardless(Resource::Memory, cost));
                self.lease_one_more(call.handle, lease);
            } else {
                self.lease_ends.extend(deadline.map(|end| (end, call.handle)));
                open.state = State::Leasing(Box::new(lease));
            }
            self.counters.leased += 1;
            taken = None;
            self.record(cx, |mailbox| Record::Leased { mailbox, id });
        } else {
            self.counters.received += count;
            charge = message.charge.take();
        }
        self.begin(call, bytes, charge, taken.into_iter().collect(), cx);
    }

    /// A message, or a run, was taken from those that wait.
    fn note_waited(&mut self, message: &Message, now: Moment) {
        if message.deliveries() == 0 {
            let waited = now.since(message.waits_since());
            self.waited.get_or_insert_default().note(waited, message.count());
        }
    }

    /// Answers a read with the first part of `bytes`, and waiting reads through the same open file with the rest. What the
    /// open file keeps stays charged.
    pub(super) fn begin(
        &mut self,
        call: &Receive,
        bytes: Slice,
        charge: Option<Charge>,
        taken: Vec<Taken>,
        cx: &mut Context<'_>,
    ) {
        let Some(open) = self.handles.get_mut(call.handle.0) else { return };
        let is_kept = bytes.len() > call.size || open.framing.seeks();
        let mut charge = charge.filter(|_| is_kept);
        let charged = |charge: &mut Charge| charge_reader(charge, &open.account, bytes.len());
        let has_room = charge.as_mut().is_none_or(charged);
        let slice = open.framing.begin(bytes, charge, has_room, call.piece());
        open.copies = open.copies.map(|_| false);
        cx.fx.deliver(call.request_id, Reply::Message(slice), taken);
        while open.waiting > 0 && !open.framing.needs_next() {
            let selector = open.door.selector(call.handle);
            let Some(next) = self.readers.remove_by_handle(call.handle, &selector) else { break };
            open.waiting -= 1;
            if !open.answer(&next.call, cx) {
                cx.fx.fail(next.call.request_id, Error::Io);
            }
        }
        // The rest of the message, or its end of file, is ready for pollers of this open file.
        if open.framing.ready() {
            self.wake_reader(call.handle, cx);
        }
    }

    /// Fills a reader's buffer with messages; the first was taken already. If that one is too long for the buffer, the
    /// read begins it. Other messages are taken only if all of their bytes fit.
    fn deliver_many(&mut self, call: &Receive, mut first: Message, json: bool, cx: &mut Context<'_>) {
        let mut bytes = Vec::new();
        let mut handed = Vec::new();
        handed.extend(self.taken(&first));
        self.counters.received += first.count();
        self.note_waited(&first, cx.now.moment);
        if json {
            json::write(&first, &mut bytes);
        } else {
            bytes.extend_from_slice(first.slice().as_bytes());
        }
        loop {
            let room = call.size.saturating_sub(bytes.len());
            let Some(next) = self.queue.first().filter(|next| next.first_len() <= room as u64) else { break };
            let taken = if json {
                let line = json::first_line(next);
                if line.len() > room {
                    break;
                }
                bytes.extend_from_slice(&line);
                self.queue.pop()
            } else {
                let run = self.queue.pop_run(room);
                bytes.extend_from_slice(
                    run.as_ref().map(Message::slice).as_ref().map_or(&[], Slice::as_bytes),
                );
                run
            };
            let Some(taken) = taken else { break };
            self.counters.received += taken.count();
            self.note_waited(&taken, cx.now.moment);
            handed.extend(self.taken(&taken));
        }
        self.last_received = cx.now.time();
        if bytes.len() <= call.size {
            cx.fx.deliver(call.request_id, Reply::Data(bytes), handed);
        } else {
            let mut charge = first.charge.take();
            // A JSON object is longer than its message. Where there is no memory for that, the message's must do.
            let _ = charge.as_mut().map(|charge| charge.resize(Memory::cost(bytes.len())));
            self.begin(call, Slice::whole(bytes), charge, handed, cx);
        }
    }

    /// Answers a read with the next message, which stays queued.
    fn peek(&mut self, call: &Receive, cx: &mut Context<'_>) -> bool {
        let Some(message) = self.queue.first() else { return false };
        let slice = message.first_slice();
        self.show(call, slice, cx);
        true
    }

    /// Answers a read through `peek`. Somebody may receive the message while its bytes are still kept for this one.
    fn show(&mut self, call: &Receive, slice: Slice, cx: &mut Context<'_>) {
        let Some(open) = self.handles.get(call.handle.0) else { return };
        match open.account.charge(Resource::Memory, Memory::cost(slice.as_bytes().len())) {
            Ok(charge) => self.begin(call, slice.compact(), Some(charge), Vec::new(), cx),
            Err(_) => cx.fx.fail(call.request_id, Error::NoMemory),
        }
    }

    /// Answers all waiting peeks with a message that arrives, whoever receives it.
    pub(super) fn reply_to_peekers(&mut self, message: &Message, cx: &mut Context<'_>) {
        while let Some(reader) = self.readers.pop(&Selector::Peek) {
            self.wait_ended(reader.call.handle);
            self.show(&reader.call, message.first_slice(), cx);
        }
    }
}
