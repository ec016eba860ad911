//! Messages that are sent once: through the door `once/<key>`. A write with a key with which a message was accepted shortly before
//! succeeds, and sends nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Mailbox;
use super::call::Context;
use super::memory::EXTRA_COST;
use super::message::{Message, Tag};
use crate::accounts::{Account, Charge, Resource};
use crate::config::ONCE_WINDOW;
use crate::journal::Durable;
use crate::journal::record::Record;
use crate::op::Timestamp;
use crate::state::saved;

/// Keys that one call forgets.
const FORGOTTEN_AT_ONCE: usize = 500;

/// Keys are forgotten together, no more often than once in so many nanoseconds.
const TOGETHER: u64 = 1_000_000_000;

/// The keys with which messages were accepted.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// When that was.
    accepted: BTreeMap<Tag, Timestamp>,
    /// In that order, with what each is charged: to who sent the message.
    in_order: BTreeMap<(Timestamp, Tag), Charge>,
}

saved!(struct Keys { accepted, in_order });

/// Memory that a key is charged, in bytes.
pub(super) fn cost(key: &Tag) -> u64 {
    key.len() as u64 + EXTRA_COST
}

impl Keys {
    fn insert(&mut self, key: Tag, at: Timestamp, charge: Charge) {
        if let Some(before) = self.accepted.insert(Tag::clone(&key), at) {
            self.in_order.remove(&(before, Tag::clone(&key)));
        }
        self.in_order.insert((at, key), charge);
    }

    /// Removes the one that was accepted first. Returns when that was.
    pub(super) fn pop_first(&mut self) -> Option<Timestamp> {
        let ((at, key), _) = self.in_order.pop_first()?;
        self.accepted.remove(&key);
        Some(at)
    }

    /// Each with the time, and the user who is charged.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Tag, Timestamp, u32)> {
        self.in_order.iter().map(|((at, key), charge)| (key, *at, charge.account().uid()))
    }
}

impl Mailbox {
    /// How long a key is remembered, in nanoseconds.
    fn once_window(&self) -> u64 {
        self.rules.once_window.unwrap_or(ONCE_WINDOW)
    }

    /// A message with this key was accepted shortly before: this one is not sent, and is counted. Its write promises what that one's
    /// did.
    pub(super) fn is_duplicate(&mut self, key: Option<&Tag>, cx: &mut Context<'_>) -> bool {
        let accepted = key.and_then(|key| self.keys.accepted.get(key));
        if accepted.is_none_or(|at| cx.now.0.saturating_sub(at.0) >= self.once_window()) {
            return false;
        }
        self.counters.duplicates += 1;
        if let Some(store) = self.store.as_ref().filter(|_| self.durable() != Durable::Off) {
            cx.fx.note_recorded(store.journal.last_put(), self.durable() == Durable::Fsync);
        }
        true
    }

    /// A message was accepted: from now on, its key is remembered and not its own.
    pub(super) fn note_key(&mut self, message: &mut Message) {
        let Some(key) = message.key().cloned() else { return };
        message.edit_extra(|extra| extra.key = None);
        if let Some(charge) = message.charge.as_mut().map(|charge| charge.split(cost(&key))) {
            self.keys.insert(key, message.sent, charge);
        }
    }

    /// A key that a store has.
    pub(super) fn restore_key(&mut self, key: Tag, at: Timestamp, account: &Arc<Account>) {
        let charge = account.charge_regardless(Resource::Memory, cost(&key));
        self.keys.insert(key, at, charge);
    }

    /// What is to be done next with keys: when some are to be forgotten.
    pub(super) fn next_forgetting(&self) -> Option<Timestamp> {
        let ((first, _), _) = self.keys.in_order.first_key_value()?;
        let end = first.0.saturating_add(self.once_window());
        Some(Timestamp(end.div_ceil(TOGETHER).saturating_mul(TOGETHER)))
    }

    /// Forgets some of the keys whose time is up, if it is time for that.
    pub(super) fn forget_keys(&mut self, cx: &mut Context<'_>) {
        if self.next_forgetting().is_none_or(|time| time > cx.now) {
            return;
        }
        let mut until = None;
        for _ in 0..FORGOTTEN_AT_ONCE {
            let first = self.keys.in_order.first_key_value().map(|((at, _), _)| at.0);
            if first.is_none_or(|at| at.saturating_add(self.once_window()) > cx.now.0) {
                break;
            }
            until = self.keys.pop_first();
        }
        if let Some(until) = until {
            self.record(cx, |mailbox| Record::Forgotten { mailbox, until });
        }
    }

    /// It has become durable.
    pub(super) fn record_keys(&self, cx: &mut Context<'_>) {
        for (key, at, uid) in self.keys.iter() {
            self.record(cx, |mailbox| Record::Key { mailbox, key: Tag::clone(key), at, uid });
        }
    }
}
