//! Leases, time limits and dead letters.
//!
//! ```text
//!              read                ack
//!   waiting ─────────▶ leased ───────────▶ received
//!      ▲                 │ │ nack, last close, lease_time over: one more delivery
//!      └─────────────────┘ └─────────────────────────────────────────────────┐
//!        deliveries < max_deliver                        otherwise, or reject ▼
//!                                                       dead-letter mailbox, or dropped
//! ```
//!
//! `nack <time>` is a `nack` after which the message waits in `delayed` first.

use super::call::{Context, HandleId, Send, WaitId};
use super::due::Budget;
use super::message::Message;
use super::queue::FIRST_POSITION;
use super::{Mailbox, State};
use crate::config::{NO_LIMIT, SPANS, parse_time};
use crate::journal::record::{Reason, Record, Why};
use crate::op::{Error, Moment, Reply};
use crate::state::saved;

/// A message that an open file has leased.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) message: Message,
    pub(super) deadline: Option<Moment>,
}

saved!(struct Lease { message, deadline });

/// The time `duration` nanoseconds from now, or none for [`NO_LIMIT`].
pub(super) fn deadline(duration: u64, now: Moment) -> Option<Moment> {
    (duration != NO_LIMIT).then(|| now.after(duration))
}

impl Mailbox {
    /// A write to the `lease` door: `ack`, `nack`, `nack <time>`, `reject` or `touch` for the leased message. Never waits.
    pub(super) fn settle(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Option<WaitId> {
        let (word, delay) = match parse(call.body.trim_ascii()) {
            Ok(parsed) => parsed,
            Err(error) => {
                cx.fx.fail(call.request_id, error);
                return None;
            }
        };
        // A lease whose time is up is over, even if others that have to be ended are before it.
        if self.lease_is_over(call.handle, cx.now.moment) {
            self.time_out(call.handle, cx);
            self.admit_writers(cx);
        }
        if word == b"touch" && self.renew_lease(call.handle, cx.now.moment) {
            cx.fx.reply(call.request_id, Reply::Written(call.body.len() as u32));
            return None;
        }
        let open = self.handles.get_mut(call.handle.0)?;
        open.framing.clear();
        let lease = match std::mem::take(&mut open.state) {
            State::Leasing(lease) => lease,
            other => {
                // If the lease has timed out, its reader learns that here.
                open.state = other;
                cx.fx.fail(call.request_id, if self.removed { Error::Removed } else { Error::NoMessage });
                self.wake_reader(call.handle, cx);
                return None;
            }
        };
        match word {
            b"ack" => {
                self.end_lease(call.handle, &lease);
                self.counters.received += 1;
                self.last_received = cx.now.time();
                self.record_gone(lease.message.id, 1, Why::Received, cx);
                drop(lease);
            }
            b"nack" => self.return_lease(call.handle, *lease, delay, cx),
            _ => {
                self.end_lease(call.handle, &lease);
                let mut message = lease.message;
                count_delivery(&mut message);
                self.dead_letter_or_drop(message, Reason::Rejected, cx);
            }
        }
        cx.fx.reply(call.request_id, Reply::Written(call.body.len() as u32));
        self.wake_reader(call.handle, cx);
        self.admit_writers(cx);
        None
    }

    /// The lease of `handle` lasts as if it began now. False if it has none.
    fn renew_lease(&mut self, handle: HandleId, now: Moment) -> bool {
        let state = self.handles.get_mut(handle.0).map(|open| &mut open.state);
        let Some(State::Leasing(lease)) = state else { return false };
        if let Some(before) = lease.deadline {
            self.lease_ends.remove(&(before, handle));
        }
        lease.deadline = deadline(self.rules.lease_time, now);
        self.lease_ends.extend(lease.deadline.map(|end| (end, handle)));
        true
    }

    /// A lease ends without `ack` or `reject`: the message is redelivered, unless its time or its deliveries are up; after `delay`
    /// nanoseconds, if there is one.
    pub(super) fn return_lease(
        &mut self,
        handle: HandleId,
        lease: Lease,
        delay: Option<u64>,
        cx: &mut Context<'_>,
    ) {
        self.end_lease(handle, &lease);
        let mut message = lease.message;
        count_delivery(&mut message);
        if self.removed {
            return;
        }
        if u64::from(message.deliveries()) >= self.rules.max_deliver {
            self.dead_letter_or_drop(message, Reason::Deliveries, cx);
        } else if message.expires().is_some_and(|end| end <= cx.now.moment) {
            self.expire(message, cx);
        } else {
            self.counters.redelivered += 1;
            match delay {
                Some(delay) => self.give_back_later(message, delay, cx),
                None => self.requeue(message, cx),
            }
        }
    }

    /// Gives a message to a waiting reader, or puts it at the head of the queue.
    pub(super) fn requeue(&mut self, message: Message, cx: &mut Context<'_>) {
        self.reply_to_peekers(&message, cx);
        let (id, deliveries) = (message.id, message.deliveries());
        let returned = |position| move |mailbox| Record::Returned { mailbox, id, position, deliveries };
        if let Some(reader) = self.readers.pop_for(&message) {
            self.record(cx, returned(FIRST_POSITION));
            self.deliver_to_waiting(&reader, message, cx);
            return;
        }
        let position = self.queue.push_front(message);
        self.record(cx, returned(position));
        self.wake_readers(cx);
    }

    fn end_lease(&mut self, handle: HandleId, lease: &Lease) {
        self.counters.leased -= 1;
        if let Some(deadline) = lease.deadline {
            self.lease_ends.remove(&(deadline, handle));
        }
    }

    /// Sends a message to the dead-letter mailbox. Drops it if there is none.
    pub(super) fn dead_letter_or_drop(&mut self, mut message: Message, reason: Reason, cx: &mut Context<'_>) {
        if self.rules.dead_letter.is_some() {
            message.edit_extra(|extra| extra.reason = Some(reason));
            // A message in the outbox that still has a time limit is one that has expired (`drop_dead_letters`).
            if message.expires().is_some() {
                message.edit_extra(|extra| extra.expires = None);
                let cost = message.cost();
                message.charge.iter_mut().for_each(|charge| charge.lower_to(cost));
            }
            self.counters.dead_lettered += 1;
            self.outbox.push(message);
        } else {
            self.counters.dropped += 1;
            self.record_gone(message.id, 1, Why::Dropped, cx);
        }
    }

    /// The lease of `handle` has lasted its time.
    fn lease_is_over(&self, handle: HandleId, now: Moment) -> bool {
        match self.handles.get(handle.0).map(|open| &open.state) {
            Some(State::Leasing(lease)) => lease.deadline.is_some_and(|end| end <= now),
            _ => false,
        }
    }

    /// Ends the lease of `handle`, whose time is up.
    fn time_out(&mut self, handle: HandleId, cx: &mut Context<'_>) {
        let Some(open) = self.handles.get_mut(handle.0) else { return };
        match std::mem::take(&mut open.state) {
            State::Leasing(lease) => {
                // Its reader must not get the rest of it, nor the beginning of another message in its place.
                open.framing.abort();
                self.wake_reader(handle, cx);
                self.return_lease(handle, *lease, None, cx);
            }
            other => open.state = other,
        }
    }

    /// Ends leases whose time is up. False if there are more.
    pub(super) fn end_leases(&mut self, budget: &mut Budget, cx: &mut Context<'_>) -> bool {
        while let Some((_, handle)) =
            self.lease_ends.first().copied().filter(|(end, _)| *end <= cx.now.moment)
        {
            if budget.is_spent() {
                return false;
            }
            if self.time_out_many(handle, budget, cx) {
                continue;
            }
            budget.spend(0);
            self.lease_ends.pop_first();
            self.time_out(handle, cx);
        }
        true
    }

    /// Expires queued and delayed messages whose time is up. False if there are more.
    pub(super) fn drop_expired(&mut self, budget: &mut Budget, cx: &mut Context<'_>) -> bool {
        while self.has_expired(cx.now.moment) {
            if budget.is_spent() {
                return false;
            }
            budget.spend(self.expire_one(cx));
        }
        true
    }

    /// A message whose time is up is queued or delayed.
    pub(super) fn has_expired(&self, now: Moment) -> bool {
        let ends = self.queue.next_deadline().into_iter().chain(self.delayed.next_end());
        ends.min().is_some_and(|end| end <= now)
    }

    /// Expires one message whose time is up. Returns its length in bytes.
    pub(super) fn expire_one(&mut self, cx: &mut Context<'_>) -> u64 {
        let expired =
            self.queue.pop_expired(cx.now.moment).or_else(|| self.delayed.pop_expired(cx.now.moment));
        let Some(message) = expired else { return 0 };
        let length = message.len();
        self.expire(message, cx);
        length
    }

    pub(super) fn expire(&mut self, mut message: Message, cx: &mut Context<'_>) {
        self.counters.expired += 1;
        if self.rules.dead_letter.is_some() {
            message.edit_extra(|extra| extra.reason = Some(Reason::Expired));
            self.outbox.push(message);
        } else {
            self.record_gone(message.id, message.count(), Why::Expired, cx);
        }
    }
}

/// What is written to the `lease` door: a word, and after how many nanoseconds the message may be received again.
pub(crate) fn parse(text: &[u8]) -> Result<(&[u8], Option<u64>), Error> {
    if let Some(time) = text.strip_prefix(b"nack ") {
        let time = std::str::from_utf8(time).ok().and_then(|time| parse_time(time.trim()));
        let time = time.ok_or(Error::Invalid)?;
        return if SPANS.contains(&time) { Ok((b"nack", Some(time))) } else { Err(Error::Range) };
    }
    if matches!(text, b"ack" | b"nack" | b"reject" | b"touch") {
        Ok((text, None))
    } else {
        Err(Error::Invalid)
    }
}

pub(super) fn count_delivery(message: &mut Message) {
    message.edit_extra(|extra| {
        extra.deliveries = extra.deliveries.saturating_add(1);
        extra.died_in.clear();
        extra.rounds.idle = false;
    });
}
