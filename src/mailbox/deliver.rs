//! Reading: how a message gets from the queue, or from whoever sends it, to a reader.

use super::message::Message;
use super::readers::WaitingReader;
use super::{Context, Door, Error, Hand, Lease, Mailbox, Receive, Reply, Selector, json, open_mut, queue};
use crate::op::{Slice, Timestamp};

impl Mailbox {
    /// Answers a read from what waits. False: there is nothing for it. Room may have been made.
    pub(super) fn serve_from_queue(&mut self, call: &Receive, cx: &mut Context<'_>) -> bool {
        let Some(open) = self.handles.get(call.handle.0) else { return false };
        let filter = match open.door.selector(call.handle) {
            Selector::Message(filter) => filter,
            Selector::Peek => return self.peek(call, cx),
            Selector::Request => return self.serve_request(call, cx),
            Selector::Reply(_) => return false,
        };
        let (many, keep) = (open.door.takes_many(), open.door == Door::Lease);
        let json = open.door == Door::Json;
        let first =
            if many && !json { self.queue.pop_run(call.size) } else { self.queue.pop_matching(&filter) };
        let Some(message) = first else { return false };
        if !keep {
            cx.memory.give_back(message.cost());
        }
        if many && (json || (message.len() < call.size as u64 && !self.queue.is_empty())) {
            self.deliver_many(call, &message, json, cx);
        } else {
            self.deliver(call, message, cx);
        }
        true
    }

    /// A message for which there is room comes in: to the first who waits for it, or into the queue.
    pub(super) fn accept(&mut self, mut message: Message, cx: &mut Context<'_>) {
        message.id = cx.memory.number(1);
        // Its time begins when it comes in, however long its writer waited for room.
        let waited = cx.now.0.saturating_sub(message.sent.0);
        if let Some(expires) = message.expires() {
            message.extra_mut().expires = Some(Timestamp(expires.0.saturating_add(waited)));
        }
        message.sent = cx.now;
        self.tally.sent += 1;
        self.last_sent = cx.now;
        self.show_to_peekers(&message, cx);
        if let Some(reader) = self.readers.serve_for(&message) {
            self.hand_over(&reader, message, cx);
            return;
        }
        let id = message.id;
        self.queue.push(message, id);
        self.wake_readers(cx);
    }

    /// Gives a message that takes no room yet to a reader who waited for it.
    pub(super) fn hand_over(&mut self, reader: &WaitingReader, message: Message, cx: &mut Context<'_>) {
        let handle = reader.call.handle;
        let mut leases = false;
        open_mut(&mut self.handles, handle, |open| {
            open.waiting -= 1;
            leases = open.door == Door::Lease;
        });
        if leases {
            cx.memory.take_anyway(message.cost());
        }
        self.deliver(&reader.call, message, cx);
    }

    /// Answers a read with a message, or with a run, that was taken for it.
    pub(super) fn deliver(&mut self, call: &Receive, message: Message, cx: &mut Context<'_>) {
        self.last_received = cx.now;
        let count = message.count();
        let Some(open) = self.handles.get_mut(call.handle.0) else { return };
        let bytes = match open.door {
            Door::Json => json::line(&message),
            _ => message.slice(),
        };
        if open.door == Door::Lease {
            let deadline = super::lease::deadline(self.rules.lease_time, cx.now);
            if let Some(deadline) = deadline {
                self.lease_ends.insert((deadline, call.handle));
            }
            open.hand = Hand::Lease(Box::new(Lease { message: queue::single(message), deadline }));
            self.tally.leased += 1;
        } else {
            self.tally.received += count;
        }
        self.begin(call, bytes, cx);
    }

    /// Answers a read with bytes of which this is the beginning, and further reads through the same open file with what
    /// its buffer was too short for.
    pub(super) fn begin(&mut self, call: &Receive, bytes: Slice, cx: &mut Context<'_>) {
        let Some(open) = self.handles.get_mut(call.handle.0) else { return };
        let slice = open.framing.begin(bytes, call.offset, call.size);
        cx.fx.reply(call.request_id, Reply::Message(slice));
        while open.waiting > 0 && !open.framing.next_due() {
            let selector = open.door.selector(call.handle);
            let Some(next) = self.readers.leave_through(call.handle, &selector) else { break };
            open.waiting -= 1;
            let Receive { request_id, offset, size, .. } = next.call;
            if !open.framing.answer(request_id, offset, size, cx.fx) {
                cx.fx.fail(request_id, Error::Io);
            }
        }
        // Whoever polls through the same open file has the rest of the message to read, or its end.
        if open.framing.ready()
            && let Some(poll) = self.polls_in.remove(&call.handle)
        {
            cx.fx.wake(poll);
        }
    }

    /// Fills a reader's buffer with messages, of which the first is taken already. One that is too long for any buffer is
    /// begun; others wait until they fit whole.
    fn deliver_many(&mut self, call: &Receive, first: &Message, json: bool, cx: &mut Context<'_>) {
        let mut bytes = Vec::new();
        self.tally.received += first.count();
        if json {
            json::write(first, &mut bytes);
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
            self.tally.received += taken.count();
            cx.memory.give_back(taken.cost());
        }
        self.last_received = cx.now;
        if bytes.len() <= call.size {
            cx.fx.reply(call.request_id, Reply::Data(bytes));
        } else {
            let slice = Slice { from: 0, to: bytes.len(), bytes: bytes.into() };
            self.begin(call, slice, cx);
        }
    }

    /// Answers a read with the next message, which stays.
    fn peek(&mut self, call: &Receive, cx: &mut Context<'_>) -> bool {
        let Some(message) = self.queue.first() else { return false };
        let slice = message.first_slice();
        self.begin(call, slice, cx);
        true
    }

    /// Those who wait to peek see what comes, whoever takes it.
    pub(super) fn show_to_peekers(&mut self, message: &Message, cx: &mut Context<'_>) {
        while let Some(reader) = self.readers.serve(&Selector::Peek) {
            open_mut(&mut self.handles, reader.call.handle, |open| open.waiting -= 1);
            self.begin(&reader.call, message.first_slice(), cx);
        }
    }
}
