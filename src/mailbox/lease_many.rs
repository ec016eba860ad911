//! The door `lease.json`: several leases through one descriptor, told apart by the ids of their messages.

use std::collections::{BTreeMap, BTreeSet};

use super::call::{Context, HandleId, Send, WaitId};
use super::due::Budget;
use super::lease::{Lease, count_delivery, deadline};
use super::message::Message;
use super::{Mailbox, State};
use crate::config::{LEASED_BYTES_MAX, LEASES_MAX, SPANS, parse_time};
use crate::journal::record::{Reason, Why};
use crate::op::{Error, Moment, Reply};
use crate::state::saved;

/// The leases of an open file.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// In the order in which they began.
    held: BTreeMap<u64, Lease>,
    /// Where each is in that order, by the id of its message.
    places: BTreeMap<u64, u64>,
    /// When each ends by itself, and its place.
    ends: BTreeSet<(Moment, u64)>,
    begun: u64,
    bytes: u64,
}

saved!(struct Leases { held, places, ends, begun, bytes });

impl Leases {
    /// The messages, in the order in which they were leased.
    pub(super) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.held.values().map(|lease| &lease.message)
    }

    /// When the first of them ends by itself.
    pub(super) fn next_end(&self) -> Option<Moment> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// The time of this lease is not over.
    fn lasts(&self, place: u64, now: Moment) -> bool {
        self.held.get(&place).is_some_and(|lease| lease.deadline.is_none_or(|end| end > now))
    }

    fn is_full(&self, waiting: u64) -> bool {
        self.held.len() as u64 + waiting >= LEASES_MAX as u64 || self.bytes >= LEASED_BYTES_MAX
    }

    fn add(&mut self, lease: Lease) {
        self.bytes += lease.message.len();
        self.begun += 1;
        self.places.insert(lease.message.id, self.begun);
        self.ends.extend(lease.deadline.map(|end| (end, self.begun)));
        self.held.insert(self.begun, lease);
    }

    fn remove(&mut self, place: u64) -> Option<Message> {
        let Lease { message, deadline } = self.held.remove(&place)?;
        self.bytes -= message.len();
        self.places.remove(&message.id);
        deadline.map(|end| self.ends.remove(&(end, place)));
        Some(message)
    }

    fn renew(&mut self, place: u64, deadline: Option<Moment>) {
        let Some(lease) = self.held.get_mut(&place) else { return };
        lease.deadline.map(|end| self.ends.remove(&(end, place)));
        self.ends.extend(deadline.map(|end| (end, place)));
        lease.deadline = deadline;
    }
}

/// What is written to the door.
struct Order {
    what: What,
    /// The ids of messages; `None`: all that are in hand.
    ids: Option<Vec<u64>>,
}

enum What {
    Ack,
    /// After so many nanoseconds.
    Nack(Option<u64>),
    Reject,
    Touch,
}

impl Mailbox {
    /// A message is leased through the door.
    pub(super) fn lease_one_more(&mut self, handle: HandleId, lease: Lease) {
        let Some(open) = self.handles.get_mut(handle.0) else { return };
        if !matches!(open.state, State::LeasingMany(_)) {
            open.state = State::LeasingMany(Box::default());
        }
        self.change_leases(handle, |leases| leases.add(lease));
    }

    /// A read through `handle`, beside those that wait, would begin more leases than it may have.
    pub(super) fn has_all_leases(&self, handle: HandleId) -> bool {
        self.handles.get(handle.0).is_some_and(|open| match &open.state {
            State::LeasingMany(leases) => leases.is_full(u64::from(open.waiting)),
            _ => false,
        })
    }

    /// Changes the leases of `handle`, and with them when the first ends. `None` if it has had none.
    fn change_leases<T>(&mut self, handle: HandleId, change: impl FnOnce(&mut Leases) -> T) -> Option<T> {
        let state = self.handles.get_mut(handle.0).map(|open| &mut open.state);
        let Some(State::LeasingMany(leases)) = state else { return None };
        let before = leases.next_end();
        let result = change(leases);
        let after = leases.next_end();
        if before != after {
            before.map(|end| self.lease_ends.remove(&(end, handle)));
            self.lease_ends.extend(after.map(|end| (end, handle)));
        }
        Some(result)
    }

    /// A write to the door: a word, and of which messages; all of them, or it fails and nothing changes. Never waits.
    pub(super) fn settle_many(&mut self, call: Send<'_>, cx: &mut Context<'_>) -> Option<WaitId> {
        // A lease whose time is up is over, even if others that have to be ended are before it.
        self.time_out_many(call.handle, &mut Budget::new(), cx);
        let settled = parse(call.body.trim_ascii()).and_then(|order| self.carry_out(&order, call.handle, cx));
        match settled {
            Ok(()) => cx.fx.reply(call.request_id, Reply::Written(call.body.len() as u32)),
            Err(error) => cx.fx.fail(call.request_id, error),
        }
        self.admit_writers(cx);
        None
    }

    fn carry_out(&mut self, order: &Order, handle: HandleId, cx: &mut Context<'_>) -> Result<(), Error> {
        let none = if self.removed { Error::Removed } else { Error::NoMessage };
        let Some(State::LeasingMany(leases)) = self.handles.get(handle.0).map(|open| &open.state) else {
            return Err(none);
        };
        let last = |place: &u64| leases.lasts(*place, cx.now.moment);
        let places: Option<BTreeSet<u64>> = match &order.ids {
            None => Some(leases.places.values().copied().filter(last).collect()),
            Some(ids) => ids.iter().map(|id| leases.places.get(id).copied().filter(last)).collect(),
        };
        let places = places.filter(|places| !places.is_empty()).ok_or(none)?;
        if let What::Touch = order.what {
            let end = deadline(self.rules.lease_time, cx.now.moment);
            let renew = |leases: &mut Leases| places.iter().for_each(|place| leases.renew(*place, end));
            self.change_leases(handle, renew);
            return Ok(());
        }
        let take = |leases: &mut Leases| places.iter().filter_map(|place| leases.remove(*place)).collect();
        let messages: Vec<Message> = self.change_leases(handle, take).unwrap_or_default();
        match order.what {
            What::Ack => {
                self.last_received = cx.now.time();
                for message in messages {
                    self.counters.leased -= 1;
                    self.counters.received += 1;
                    self.record_gone(message.id, 1, Why::Received, cx);
                }
            }
            What::Nack(delay) => self.give_back(handle, messages, delay, cx),
            What::Reject | What::Touch => {
                for mut message in messages {
                    self.counters.leased -= 1;
                    count_delivery(&mut message);
                    self.dead_letter_or_drop(message, Reason::Rejected, cx);
                }
            }
        }
        self.wake_reader(handle, cx);
        Ok(())
    }

    /// Ends all leases of a file that was closed.
    pub(super) fn return_all_leases(&mut self, handle: HandleId, leases: Leases, cx: &mut Context<'_>) {
        leases.next_end().map(|end| self.lease_ends.remove(&(end, handle)));
        let messages = leases.held.into_values().map(|lease| lease.message).collect();
        self.give_back(handle, messages, None, cx);
    }

    /// Ends leases of `handle` whose time is up: those that were leased last, if it is not all, so that after all of them the
    /// messages are in order. False if it is not of this door.
    pub(super) fn time_out_many(
        &mut self,
        handle: HandleId,
        budget: &mut Budget,
        cx: &mut Context<'_>,
    ) -> bool {
        let now = cx.now.moment;
        let take = |leases: &mut Leases| {
            let due = leases.ends.iter().take_while(|(end, _)| *end <= now);
            let due: BTreeSet<u64> = due.map(|(_, place)| *place).collect();
            let mut over = Vec::new();
            for place in due.into_iter().rev() {
                if budget.is_spent() {
                    break;
                }
                budget.spend(0);
                over.extend(leases.remove(place));
            }
            over.reverse();
            over
        };
        let Some(messages) = self.change_leases(handle, take) else { return false };
        if !messages.is_empty() {
            self.give_back(handle, messages, None, cx);
            self.wake_reader(handle, cx);
        }
        true
    }

    /// Leases end: the messages are at the head in the order in which they were leased.
    fn give_back(
        &mut self,
        handle: HandleId,
        messages: Vec<Message>,
        delay: Option<u64>,
        cx: &mut Context<'_>,
    ) {
        for message in messages.into_iter().rev() {
            self.return_lease(handle, Lease { message, deadline: None }, delay, cx);
        }
    }
}

/// `ack 5 6`, `nack all`, `nack 30s 5`, `reject 5`, `touch all`. A time has its unit: a number is an id.
fn parse(text: &[u8]) -> Result<Order, Error> {
    let text = std::str::from_utf8(text).map_err(|_| Error::Invalid)?;
    let mut words = text.split_ascii_whitespace().peekable();
    let what = match words.next() {
        Some("ack") => What::Ack,
        Some("nack") => {
            let is_time = |word: &&str| *word != "all" && !word.bytes().all(|byte| byte.is_ascii_digit());
            let time =
                words.next_if(is_time).map(|word| parse_time(word).ok_or(Error::Invalid)).transpose()?;
            if time.is_some_and(|time| !SPANS.contains(&time)) {
                return Err(Error::Range);
            }
            What::Nack(time)
        }
        Some("reject") => What::Reject,
        Some("touch") => What::Touch,
        _ => return Err(Error::Invalid),
    };
    let ids = if words.next_if_eq(&"all").is_some() {
        if words.next().is_some() {
            return Err(Error::Invalid);
        }
        None
    } else {
        let ids = words.take(LEASES_MAX + 1).map(|word| word.parse().map_err(|_| Error::Invalid));
        let ids = ids.collect::<Result<Vec<u64>, Error>>()?;
        if !(1..=LEASES_MAX).contains(&ids.len()) {
            return Err(Error::Invalid);
        }
        Some(ids)
    };
    Ok(Order { what, ids })
}
