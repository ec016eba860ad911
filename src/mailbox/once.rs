//! Messages that are sent once: through the door `once/<key>`. A write with a key with which a message was accepted shortly before
//! succeeds, and sends nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Mailbox;
use super::call::Context;
use super::due::Budget;
use super::memory::cost_of_key;
use super::message::{Message, Tag};
use crate::accounts::{Account, Charge, Resource};
use crate::config::ONCE_WINDOW;
use crate::journal::record::Record;
use crate::journal::{Durable, Key};
use crate::op::{Moment, Now};
use crate::state::saved;

/// Keys are forgotten together, no more often than once in so many nanoseconds.
const TOGETHER: i64 = 1_000_000_000;

/// The keys with which messages were accepted.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// With the id of the message.
    accepted: BTreeMap<Tag, u64>,
    /// By that id, which grows, so that the first is the oldest.
    in_order: BTreeMap<u64, Accepted>,
}

saved!(struct Keys { accepted, in_order });

#[derive(Debug)]
pub(super) struct Accepted {
    key: Tag,
    at: Moment,
    /// Of who sent the message.
    charge: Charge,
}

saved!(struct Accepted { key, at, charge });

impl Keys {
    /// Returns the id of the message that was accepted with the same key before.
    pub(super) fn insert(&mut self, id: u64, accepted: Accepted) -> Option<u64> {
        let before = self.accepted.insert(Tag::clone(&accepted.key), id);
        before.map(|before| self.in_order.remove(&before));
        self.in_order.insert(id, accepted);
        before
    }

    /// The key of the message with this id.
    pub(super) fn get(&self, id: u64) -> Option<&Accepted> {
        self.in_order.get(&id)
    }

    /// Removes the one that was accepted first. Returns the id of its message.
    pub(super) fn pop_first(&mut self) -> Option<u64> {
        let (id, Accepted { key, .. }) = self.in_order.pop_first()?;
        self.accepted.remove(&key);
        Some(id)
    }

    /// When a message with this key was accepted, if it is remembered.
    fn accepted_at(&self, key: &Tag) -> Option<Moment> {
        let id = self.accepted.get(key)?;
        self.in_order.get(id).map(|accepted| accepted.at)
    }

    /// When the first of them was accepted.
    fn first(&self) -> Option<Moment> {
        self.in_order.first_key_value().map(|(_, accepted)| accepted.at)
    }

    fn is_empty(&self) -> bool {
        self.in_order.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = (&Tag, u64, Moment, u32)> {
        let all = self.in_order.iter();
        all.map(|(id, accepted)| (&accepted.key, *id, accepted.at, accepted.charge.account().uid()))
    }
}

impl Mailbox {
    /// Those that are remembered: each with the id of the message, when that was accepted, and the user who is charged.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&Tag, u64, Moment, u32)> {
        self.keys.iter().flat_map(|keys| keys.iter())
    }

    /// When the first of them was accepted.
    fn first_key(&self) -> Option<Moment> {
        self.keys.as_ref()?.first()
    }

    /// How long a key is remembered, in nanoseconds.
    fn once_window(&self) -> u64 {
        self.rules.once_window.unwrap_or(ONCE_WINDOW)
    }

    /// A message with this key was accepted shortly before: this one is not sent, and is counted. Its write promises what that one's
    /// did.
    pub(super) fn is_duplicate(&mut self, key: Option<&Tag>, cx: &mut Context<'_>) -> bool {
        let accepted = key.and_then(|key| self.keys.as_ref()?.accepted_at(key));
        if accepted.is_none_or(|at| at.after(self.once_window()) <= cx.now.moment) {
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
        if let Some(charge) = message.charge.as_mut().map(|charge| charge.split(cost_of_key(&key))) {
            self.insert_key(message.id, Accepted { key, at: message.since, charge });
        }
    }

    /// A key that a store has.
    pub(super) fn restore_key(&mut self, kept: Key, account: &Arc<Account>, now: Now) {
        let Key { id, key, at, .. } = kept;
        let charge = account.charge_regardless(Resource::Memory, cost_of_key(&key));
        // If the clock was set back since, nobody knows how long ago it was.
        let at = now.moment_of(at).min(now.moment);
        self.insert_key(id, Accepted { key, at, charge });
    }

    fn insert_key(&mut self, id: u64, accepted: Accepted) {
        if let Some(before) = self.keys.get_or_insert_default().insert(id, accepted) {
            self.keys_noted.note(before);
        }
        self.keys_noted.note(id);
    }

    /// What is to be done next with keys: when some are to be forgotten.
    pub(super) fn next_forgetting(&self) -> Option<Moment> {
        let end = self.first_key()?.after(self.once_window()).0;
        let beyond = end.rem_euclid(TOGETHER);
        Some(Moment(if beyond == 0 { end } else { end.saturating_add(TOGETHER - beyond) }))
    }

    /// Forgets keys whose time is up, if it is time for that: some, if they are many. Then it is time again at once.
    pub(super) fn forget_keys(&mut self, budget: &mut Budget, cx: &mut Context<'_>) {
        if self.next_forgetting().is_none_or(|time| time > cx.now.moment) {
            return;
        }
        let mut until = None;
        while !budget.is_spent()
            && self.first_key().is_some_and(|at| at.after(self.once_window()) <= cx.now.moment)
        {
            budget.spend(0);
            until = self.keys.as_mut().and_then(|keys| keys.pop_first());
            if let Some(id) = until {
                self.keys_noted.note(id);
            }
        }
        self.keys.take_if(|keys| keys.is_empty());
        if let Some(until) = until {
            self.record(cx, |mailbox| Record::Forgotten { mailbox, until });
        }
    }

    /// It has become durable.
    pub(super) fn record_keys(&self, cx: &mut Context<'_>) {
        for (key, id, at, uid) in self.keys() {
            let at = cx.now.wall_at(at);
            self.record(cx, |mailbox| Record::Key { mailbox, id, key: Tag::clone(key), at, uid });
        }
    }
}
