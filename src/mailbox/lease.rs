//! Leases, time limits, and messages nobody could deal with.
//!
//! ```text
//!              read                ack
//!   waiting ─────────▶ leased ───────────▶ received
//!      ▲                 │ │ nack, last close, lease_time over: one more delivery
//!      └─────────────────┘ └──────────────────────────────────────────────────┐
//!        deliveries < max_deliver                          otherwise, or dead  ▼
//!                                                      the mailbox for the dead, or dropped
//! ```

use super::message::{Extra, Message};
use super::{Context, Error, Hand, HandleId, Mailbox, Reply, Send, WaitId, open_mut};
use crate::config::NO_LIMIT;
use crate::op::Timestamp;

/// A message in the hands of an open file.
#[derive(Debug)]
pub(super) struct Lease {
    /// Its memory stays taken.
    pub(super) message: Message,
    pub(super) deadline: Option<Timestamp>,
}

/// When something ends that lasts so long from now on.
pub(super) fn deadline(lasts: u64, now: Timestamp) -> Option<Timestamp> {
    (lasts != NO_LIMIT).then(|| Timestamp(now.0.saturating_add(lasts)))
}

impl Mailbox {
    /// A word about the message that the descriptor has leased. Never waits.
    pub(super) fn settle(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Option<WaitId> {
        let word = call.body.trim_ascii();
        if !matches!(word, b"ack" | b"nack" | b"reject") {
            cx.fx.fail(call.request_id, Error::Invalid);
            return None;
        }
        let open = self.handles.get_mut(call.handle.0)?;
        let lease = match std::mem::take(&mut open.hand) {
            Hand::Lease(lease) => {
                open.framing.clear();
                lease
            }
            other => {
                // One that was leased too long came back, and its reader learns so here.
                open.framing.clear();
                open.hand = other;
                cx.fx.fail(call.request_id, if self.removed { Error::Removed } else { Error::NoMessage });
                self.next_is_due(call.handle, cx);
                return None;
            }
        };
        match word {
            b"ack" => {
                self.end_lease(call.handle, &lease);
                self.tally.received += 1;
                self.last_received = cx.now;
                cx.memory.give_back(lease.message.cost());
            }
            b"nack" => self.lease_returned(call.handle, *lease, cx),
            _ => {
                self.end_lease(call.handle, &lease);
                let mut message = lease.message;
                count_delivery(&mut message);
                self.give_up(message, cx);
            }
        }
        cx.fx.reply(call.request_id, Reply::Written(call.body.len() as u32));
        self.next_is_due(call.handle, cx);
        self.room_made(cx);
        None
    }

    /// What an open file had in hand is settled: whoever polls through it may find the next message.
    pub(super) fn next_is_due(&mut self, handle: HandleId, cx: &mut Context<'_>) {
        if let Some(poll) = self.polls_in.remove(&handle) {
            cx.fx.wake(poll);
        }
    }

    /// A leased message comes back.
    pub(super) fn lease_returned(&mut self, handle: HandleId, lease: Lease, cx: &mut Context<'_>) {
        self.end_lease(handle, &lease);
        let mut message = lease.message;
        count_delivery(&mut message);
        if self.removed {
            cx.memory.give_back(message.cost());
        } else if u64::from(message.deliveries()) >= self.rules.max_deliver {
            self.give_up(message, cx);
        } else if message.expires().is_some_and(|end| end <= cx.now) {
            self.expire(message, cx);
        } else {
            self.tally.redelivered += 1;
            self.come_back(message, cx);
        }
    }

    /// A message that has its memory goes to whoever waits for it, or to the head of the queue.
    fn come_back(&mut self, message: Message, cx: &mut Context<'_>) {
        self.show_to_peekers(&message, cx);
        if let Some(reader) = self.readers.serve_for(&message) {
            cx.memory.give_back(message.cost());
            self.hand_over(&reader, message, cx);
            return;
        }
        self.queue.push_front(message);
        self.wake_readers(cx);
    }

    fn end_lease(&mut self, handle: HandleId, lease: &Lease) {
        self.tally.leased -= 1;
        if let Some(deadline) = lease.deadline {
            self.lease_ends.remove(&(deadline, handle));
        }
    }

    /// Nobody could deal with a message: to the mailbox for the dead, or away.
    fn give_up(&mut self, mut message: Message, cx: &mut Context<'_>) {
        if self.rules.dead_letter.is_some() {
            // Its time here is over either way. What has a limit still, among the dead, has gone by that.
            let cost = message.cost();
            message.extra_mut().expires = None;
            cx.memory.give_back(cost - message.cost());
            self.tally.dead_lettered += 1;
            self.outbox.push(message);
        } else {
            self.tally.dropped += 1;
            cx.memory.give_back(message.cost());
        }
    }

    /// When something is due here next: [`Mailbox::tick`] wants to be called then.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let lease = self.lease_ends.first().map(|(deadline, _)| *deadline);
        match (self.queue.next_deadline(), lease) {
            (Some(message), Some(lease)) => Some(message.min(lease)),
            (message, lease) => message.or(lease),
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, cx: &mut Context<'_>) {
        self.drop_expired(cx);
        while let Some((_, handle)) = self.lease_ends.first().copied().filter(|(end, _)| *end <= cx.now) {
            let mut lease = None;
            open_mut(&mut self.handles, handle, |open| match std::mem::take(&mut open.hand) {
                Hand::Lease(held) => {
                    // Its reader gets no more of it, nor the beginning of another one in its place.
                    open.framing.cut_off();
                    lease = Some(held);
                }
                other => open.hand = other,
            });
            match lease {
                Some(lease) => {
                    self.next_is_due(handle, cx);
                    self.lease_returned(handle, *lease, cx);
                }
                None => drop(self.lease_ends.pop_first()),
            }
        }
        self.room_made(cx);
    }

    /// Messages whose time is over go. True: there were some.
    pub(super) fn drop_expired(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while let Some(message) = self.queue.pop_expired(cx.now) {
            self.expire(message, cx);
            any = true;
        }
        any
    }

    /// A message's time is over.
    fn expire(&mut self, message: Message, cx: &mut Context<'_>) {
        self.tally.expired += 1;
        if self.rules.dead_letter.is_some() {
            self.outbox.push(message);
        } else {
            cx.memory.give_back(message.cost());
        }
    }

    /// A message's time begins. Its cost is another one afterwards.
    pub(super) fn start_time(&self, message: &mut Message, now: Timestamp) {
        let expires = deadline(self.rules.ttl, now);
        if expires != message.expires() {
            message.extra_mut().expires = expires;
        }
        if message.extra.as_deref() == Some(&Extra::default()) {
            message.extra = None;
        }
    }
}

fn count_delivery(message: &mut Message) {
    let deliveries = message.deliveries().saturating_add(1);
    message.extra_mut().deliveries = deliveries;
}
