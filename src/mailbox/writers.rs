//! Callers that wait to write, and what they wait with.

use std::sync::Arc;

use super::call::{HandleId, Selector, WaitId};
use super::memory::Memory;
use super::message::Message;
use super::queue::Filter;
use super::recorded::OwnRecord;
use crate::accounts::{Account, Charge};
use crate::op::{Caller, Moment, RequestId};
use crate::state::saved;

#[derive(Debug)]
pub(super) struct WaitingWriter {
    pub(super) id: WaitId,
    /// `None`: the writer closed its file, and its last message still waits for room.
    pub(super) request_id: Option<RequestId>,
    pub(super) handle: HandleId,
    pub(super) caller: Caller,
    pub(super) since: Moment,
    /// Of the user who sends.
    pub(super) account: Arc<Account>,
    pub(super) payload: Payload,
    /// Where it is recorded, if its caller does not have all that it wants to send.
    pub(super) record: OwnRecord,
}

saved!(struct WaitingWriter { id, request_id, handle, caller, since, account, payload, record });

/// What a write wants to put into the mailbox.
#[derive(Debug)]
pub(super) enum Payload {
    Message(Message),
    Request(Message),
    Lines(LineBatch),
}

saved!(enum Payload { 0 = Message(it), 1 = Request(it), 2 = Lines(it) });

/// Bytes written through an open file that are not a message yet: a line without its end, or all of a `whole` message.
#[derive(Debug)]
pub(super) struct PartialMessage {
    pub(super) bytes: Vec<u8>,
    pub(super) caller: Caller,
    /// As text that waits. `None` while there are no bytes.
    pub(super) charge: Option<Charge>,
    /// It grew too long. No more bytes are accepted, and nothing is sent, because it would be only a part.
    pub(super) too_long: bool,
    /// There was no memory for the last write. Nothing is sent unless a later write succeeds, for the same reason.
    pub(super) incomplete: bool,
}

saved!(struct PartialMessage { bytes, caller, charge, too_long, incomplete });

/// The lines of one write through `stream`.
#[derive(Debug)]
pub(super) struct LineBatch {
    /// The partial line that an earlier write left, followed by the bytes of this write.
    pub(super) data: Arc<[u8]>,
    pub(super) caller: Caller,
    pub(super) partial: Option<Box<PartialMessage>>,
    /// Length of that partial line.
    pub(super) prefix: usize,
    /// Lines before this position have been sent.
    pub(super) sent: usize,
    /// End of the last complete line.
    pub(super) end: usize,
    /// What the partial line after `end` is charged.
    pub(super) tail: Tail,
    /// What `data` is charged while the writer waits.
    pub(super) charge: Option<Charge>,
}

saved!(struct LineBatch { data, caller, partial, prefix, sent, end, tail, charge });

/// The partial line at the end of a batch.
#[derive(Debug)]
pub(super) enum Tail {
    /// There is none.
    Empty,
    /// It is kept.
    Kept(Charge),
    /// There is no memory for it, or it is too long.
    Refused,
}

saved!(enum Tail { 0 = Empty, 1 = Kept(it), 2 = Refused });

impl WaitingWriter {
    /// Its next message, or its request, is for a reader with `selector`.
    pub(super) fn matches(&self, selector: &Selector) -> bool {
        match (&self.payload, selector) {
            (Payload::Message(message), Selector::Message(filter)) => filter.wants(message),
            (Payload::Lines(_), Selector::Message(filter)) => match filter {
                Filter::Any => true,
                Filter::Sender(uid) => *uid == self.caller.uid,
                Filter::Tag(_) => false,
            },
            (Payload::Request(_), selector) => *selector == Selector::Request,
            _ => false,
        }
    }
}

impl Payload {
    /// What it is charged, and how much that is while it waits.
    pub(super) fn charge(&mut self) -> (&mut Option<Charge>, u64) {
        match self {
            Payload::Message(message) | Payload::Request(message) => {
                let cost = message.cost();
                (&mut message.charge, cost)
            }
            Payload::Lines(lines) => {
                let cost = Memory::cost(lines.data.len());
                (&mut lines.charge, cost)
            }
        }
    }

    /// The byte count that the write returns once all of it is sent.
    pub(super) fn written(&self) -> u64 {
        match self {
            Payload::Message(message) | Payload::Request(message) => message.len(),
            Payload::Lines(lines) => lines.written(),
        }
    }

    /// Bytes of the message to be sent next.
    pub(super) fn next_len(&self) -> u64 {
        match self {
            Payload::Message(message) | Payload::Request(message) => message.len(),
            Payload::Lines(lines) => lines.next_line() as u64,
        }
    }
}

impl PartialMessage {
    pub(super) fn new(caller: Caller) -> PartialMessage {
        PartialMessage { bytes: Vec::new(), caller, charge: None, too_long: false, incomplete: false }
    }
}

impl LineBatch {
    /// The byte count that the write returns once all lines are sent.
    pub(super) fn written(&self) -> u64 {
        let end = if matches!(self.tail, Tail::Refused) { self.end } else { self.data.len() };
        end.saturating_sub(self.prefix) as u64
    }

    /// The complete lines that have not been sent.
    fn unsent(&self) -> &[u8] {
        self.data.get(self.sent..self.end).unwrap_or_default()
    }

    /// Bytes of the line to be sent next.
    fn next_line(&self) -> usize {
        let rest = self.unsent();
        memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1)
    }

    /// The unsent lines before the first that is longer than `longest` bytes, at most `most` of them: where they end,
    /// and their number.
    pub(super) fn valid(&self, longest: u64, most: u64) -> (usize, u64) {
        let rest = self.unsent();
        // A line has at least one byte.
        if rest.len() as u64 <= longest.min(most) {
            return (self.end, memchr::memchr_iter(b'\n', rest).count() as u64);
        }
        let (mut start, mut lines) = (0, 0);
        for at in memchr::memchr_iter(b'\n', rest) {
            if lines == most || (at + 1 - start) as u64 > longest {
                break;
            }
            (start, lines) = (at + 1, lines + 1);
        }
        (self.sent + start, lines)
    }
}
