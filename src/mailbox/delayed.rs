//! Messages that cannot be received before a time: sent through `delay/<time>`, or given back with `nack <time>`.
//!
//! They count for the mailbox's limits and expire as queued ones do, but no reader finds them. When one is due, it is queued: a
//! new one behind all others of its priority, one that was leased before all others.

use std::collections::{BTreeMap, BTreeSet};

use super::Mailbox;
use super::call::Context;
use super::due::Budget;
use super::message::Message;
use super::noted::Noted;
use super::queue::{BYTES_REMOVED_AT_ONCE, FIRST_POSITION, REMOVED_AT_ONCE};
use crate::journal::record::Record;
use crate::op::Moment;
use crate::state::saved;

/// When a message is due, and its id.
pub(super) type Place = (Moment, u64);

#[derive(Debug, Default)]
pub(super) struct Delayed {
    messages: BTreeMap<Place, Message>,
    /// When they expire, of those that do.
    deadlines: BTreeSet<(Moment, Place)>,
    bytes: u64,
    /// Where messages came.
    noted: Noted<Place>,
}

saved!(struct Delayed { messages, deadlines, bytes, noted });

impl Delayed {
    /// Number of messages.
    pub(super) fn len(&self) -> u64 {
        self.messages.len() as u64
    }

    /// Their length in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All of them.
    pub(super) fn values(&self) -> impl Iterator<Item = &Message> {
        self.messages.values()
    }

    /// Adds a message that has a due time.
    pub(super) fn insert(&mut self, message: Message) {
        let place = (message.due().unwrap_or_default(), message.id);
        self.bytes += message.len();
        self.deadlines.extend(message.expires().map(|end| (end, place)));
        self.messages.insert(place, message);
        self.noted.note(place);
    }

    /// From now on somebody asks what is new.
    pub(super) fn watch(&mut self) {
        self.noted.watch();
    }

    /// Calls `record` with each message that has come.
    pub(super) fn record(&mut self, mut record: impl FnMut(&mut Message)) {
        for place in self.noted.take() {
            if let Some(message) = self.messages.get_mut(&place) {
                record(message);
            }
        }
    }

    /// When the first of those expires that do.
    pub(super) fn next_end(&self) -> Option<Moment> {
        self.deadlines.first().map(|(end, _)| *end)
    }

    /// When something is to be done: the earliest time at which one is due or expires.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        let due = self.messages.first_key_value().map(|((due, _), _)| *due);
        due.into_iter().chain(self.next_end()).min()
    }

    /// The first is due.
    fn is_due(&self, now: Moment) -> bool {
        self.messages.first_key_value().is_some_and(|((due, _), _)| *due <= now)
    }

    /// Removes one that has expired.
    pub(super) fn pop_expired(&mut self, now: Moment) -> Option<Message> {
        let (_, place) = *self.deadlines.first().filter(|(end, _)| *end <= now)?;
        self.remove(place)
    }

    /// Removes any one.
    pub(super) fn pop_first(&mut self) -> Option<Message> {
        let place = *self.messages.first_key_value()?.0;
        self.remove(place)
    }

    /// Removes the first. From now on, it waits since it was due.
    fn pop_due(&mut self) -> Option<Message> {
        let place = *self.messages.first_key_value()?.0;
        let mut message = self.remove(place)?;
        message.set_due(None, Some(place.0));
        Some(message)
    }

    /// Removes a message. It is delayed no longer.
    fn remove(&mut self, place: Place) -> Option<Message> {
        let mut message = self.messages.remove(&place)?;
        self.bytes -= message.len();
        if let Some(end) = message.expires() {
            self.deadlines.remove(&(end, place));
        }
        message.set_due(None, None);
        Some(message)
    }

    /// Removes some of the messages that are `wanted`, of those from `from` on. Returns them, and where to go on, unless it has come
    /// to the end.
    pub(super) fn remove_some(
        &mut self,
        from: Place,
        wanted: impl Fn(&Message) -> bool,
    ) -> (Vec<Message>, Option<Place>) {
        let (mut found, mut next) = (Vec::new(), None);
        let mut bytes = 0;
        for (looked, (place, message)) in self.messages.range(from..).enumerate() {
            if looked == REMOVED_AT_ONCE || bytes >= BYTES_REMOVED_AT_ONCE {
                next = Some(*place);
                break;
            }
            if wanted(message) {
                bytes += message.len();
                found.push(*place);
            }
        }
        (found.into_iter().filter_map(|place| self.remove(place)).collect(), next)
    }
}

impl Mailbox {
    /// A leased message is given back, but not before `delay` nanoseconds have passed.
    pub(super) fn give_back_later(&mut self, mut message: Message, delay: u64, cx: &mut Context<'_>) {
        let due = cx.now.moment.after(delay);
        message.set_due(Some(due), None);
        let (id, deliveries) = (message.id, message.deliveries());
        let until = message.wall_at(due, cx.now);
        self.record(cx, |mailbox| Record::Delayed { mailbox, id, due: until, deliveries });
        self.delayed.insert(message);
    }

    /// Queues messages that are due, or gives them to readers that wait. False if there are more.
    pub(super) fn release_due(&mut self, budget: &mut Budget, cx: &mut Context<'_>) -> bool {
        while self.delayed.is_due(cx.now.moment) {
            if budget.is_spent() {
                return false;
            }
            budget.spend(0);
            let Some(message) = self.delayed.pop_due() else { break };
            if message.expires().is_some_and(|end| end <= cx.now.moment) {
                self.expire(message, cx);
                continue;
            }
            if message.deliveries() > 0 {
                self.requeue(message, cx);
                continue;
            }
            let (id, number) = (message.id, cx.memory.allocate_ids(1));
            let position = FIRST_POSITION + number;
            self.record(cx, |mailbox| Record::Returned { mailbox, id, position, deliveries: 0 });
            if let Some(message) = self.offer(message, cx) {
                self.queue.push(message, number);
                self.wake_readers(cx);
            }
        }
        true
    }
}
