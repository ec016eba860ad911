//! What a durable mailbox records in the journal, and how it is made again from there.

use std::sync::Arc;

use super::call::{Context, Counts};
use super::memory::Memory;
use super::message::{Message, Run};
use super::{Mailbox, State};
use crate::accounts::{Accounts, Resource};
use crate::journal::record::{self, Counters, How, Object, Record, Why};
use crate::journal::{Durable, Journal, Key};
use crate::op::{Error, Ino, Now, Taken};
use crate::state::saved;

/// Where a mailbox can be kept.
#[derive(Debug)]
pub(super) struct Store {
    ino: Ino,
    pub(super) journal: Arc<Journal>,
}

saved!(struct Store { ino, journal });

impl Mailbox {
    /// A mailbox of a mount with a store, in which it has the number `ino`.
    #[must_use]
    pub fn with_store(mut self, ino: Ino, journal: Option<&Arc<Journal>>) -> Mailbox {
        self.store = journal.map(|journal| Store { ino, journal: Arc::clone(journal) });
        self
    }

    /// What it survives.
    pub fn durable(&self) -> Durable {
        if self.store.is_some() && !self.removed { self.rules.durable } else { Durable::Off }
    }

    /// Records a decision, if the mailbox is durable.
    pub(super) fn record(&self, cx: &mut Context<'_>, make: impl FnOnce(Ino) -> Record) {
        if let Some(store) = self.store.as_ref().filter(|_| self.durable() != Durable::Off) {
            let number = store.journal.put(make(store.ino));
            cx.fx.note_recorded(number, self.durable() == Durable::Fsync);
        }
    }

    /// What is kept of it beside its messages has changed.
    pub fn record_object(&self, cx: &mut Context<'_>, make: impl FnOnce(Ino) -> Object) {
        self.record(cx, |ino| Record::Object(Arc::new(make(ino))));
    }

    /// Whether messages of `bytes` bytes in all can be kept.
    ///
    /// # Errors
    /// `NoSpace` if the disk is full, `Io` if the store is broken.
    pub fn check_room(&self, bytes: u64) -> Result<(), Error> {
        match &self.store {
            Some(store) if self.durable() != Durable::Off => store.journal.check_room(bytes),
            _ => Ok(()),
        }
    }

    /// A message, or a run, is about to be delivered or queued. `number` is that of [`super::queue::Queue::push`].
    pub(super) fn record_message(&self, message: &Message, number: u64, how: How, cx: &mut Context<'_>) {
        let position = super::queue::FIRST_POSITION + number;
        let now = cx.now;
        self.record(cx, |mailbox| Record::Message(Arc::new(recorded(message, mailbox, position, how, now))));
    }

    /// Messages with consecutive ids are gone.
    pub(super) fn record_gone(&self, first: u64, count: u64, why: Why, cx: &mut Context<'_>) {
        self.record(cx, |mailbox| Record::Gone { mailbox, first, count, why });
    }

    /// What a reply hands over.
    pub(super) fn taken(&self, message: &Message) -> Option<Taken> {
        let store = self.store.as_ref().filter(|_| self.durable() != Durable::Off)?;
        Some(Taken::Stored { mailbox: store.ino, first: message.id, count: message.count() })
    }

    /// How a message comes into another mailbox that leaves this one.
    pub fn how_moved(&self, why: Why) -> How {
        match &self.store {
            Some(store) if self.durable() != Durable::Off => How::MovedFrom(store.ino, why),
            _ => How::Moved,
        }
    }

    /// A message that [`Mailbox::extract_message`] has taken out is in another mailbox now.
    pub fn moved_out(&self, id: u64, cx: &mut Context<'_>) {
        self.record_gone(id, 1, Why::Moved, cx);
    }

    /// Dead letters are in another mailbox now: their ids, and whether they had expired.
    pub fn dead_letters_moved(&self, letters: &[(u64, bool)], cx: &mut Context<'_>) {
        for (id, expired) in letters {
            self.record_gone(*id, 1, if *expired { Why::Expired } else { Why::DeadLetter }, cx);
        }
    }

    /// It has become durable: what is queued or leased is recorded.
    pub fn record_all(&self, cx: &mut Context<'_>) {
        let counters = counters(&self.counters);
        self.record(cx, |mailbox| Record::Counters(mailbox, counters));
        let now = cx.now;
        for (position, message) in self.queue.entries() {
            self.record(cx, |mailbox| {
                Record::Message(Arc::new(recorded(message, mailbox, position, How::Kept, now)))
            });
        }
        self.record_keys(cx);
        for message in self.delayed.values() {
            self.record_message(message, message.id, How::Kept, cx);
        }
        let states = self.handles.iter().map(|(_, open)| &open.state);
        let leased = states.flat_map(|state| {
            let (one, many) = match state {
                State::Leasing(lease) => (Some(&lease.message), None),
                State::LeasingMany(leases) => (None, Some(leases.messages())),
                _ => (None, None),
            };
            one.into_iter().chain(many.into_iter().flatten())
        });
        for message in leased {
            let id = message.id;
            self.record_message(message, id, How::Kept, cx);
            self.record(cx, |mailbox| Record::Leased { mailbox, id });
        }
    }

    /// It is kept no longer, or is removed.
    pub fn record_removed(&self, cx: &mut Context<'_>) {
        self.record(cx, Record::Removed);
    }

    /// Makes it again as it was. Messages are charged to their senders, whatever the limits. What was leased comes first, with
    /// one delivery more.
    pub fn restore(
        &mut self,
        counted: Counters,
        messages: Vec<(record::Message, bool)>,
        keys: Vec<Key>,
        accounts: &Accounts,
        cx: &mut Context<'_>,
    ) {
        set_counters(&mut self.counters, counted);
        for key in keys {
            let account = accounts.of(key.uid);
            self.restore_key(key, &account, cx.now);
        }
        let mut leased = Vec::new();
        for (message, was_leased) in messages {
            let position = message.position;
            let mut message = restored(message, cx.now);
            let account = accounts.of(message.sender.uid);
            message.charge = Some(account.charge_regardless(Resource::Memory, message.cost()));
            self.last_sent = self.last_sent.max(message.sent.into());
            if was_leased {
                leased.push(message);
            } else if message.due().is_some() {
                self.delayed.insert(message);
            } else {
                self.queue.push_at(message, position);
            }
        }
        for mut message in leased.into_iter().rev() {
            super::lease::count_delivery(&mut message);
            self.counters.redelivered += 1;
            let (id, deliveries) = (message.id, message.deliveries());
            let position = self.queue.push_front(message);
            self.record(cx, |mailbox| Record::Returned { mailbox, id, position, deliveries });
        }
    }
}

/// Times are those of the wall clock, because the machine may be started anew before the record is read.
fn recorded(message: &Message, mailbox: Ino, position: u64, how: How, now: Now) -> record::Message {
    record::Message {
        mailbox,
        id: message.id,
        position,
        how,
        sent: message.sent,
        sender: message.sender,
        priority: message.priority,
        tag: message.tag().cloned(),
        expires: message.expires().map(|end| message.wall_at(end, now)),
        key: message.key().cloned(),
        due: message.due().map(|due| message.wall_at(due, now)),
        since: message.since().map(|since| message.wall_at(since, now)),
        reason: message.reason(),
        rounds: message.rounds(),
        deliveries: message.deliveries(),
        lines: message.run().map_or(0, |run| if run.lines > 1 { run.lines } else { 0 }),
        body: message.slice(),
    }
}

fn restored(message: record::Message, now: Now) -> Message {
    let record::Message {
        id,
        sent,
        sender,
        priority,
        tag,
        expires,
        due,
        since,
        reason,
        rounds,
        deliveries,
        lines,
        body,
        ..
    } = message;
    let run = (lines > 0).then_some(Run { lines, from: body.from, to: body.to });
    let bytes = if run.is_none() && body.as_bytes().len() != body.bytes.len() {
        Arc::from(body.as_bytes())
    } else {
        body.bytes
    };
    let moment = |time| now.moment_of(time);
    let (waits_since, since) = (since.map(moment), moment(sent));
    let mut message =
        Message { id, sent, since, sender, priority, body: bytes, extra: None, charge: None, record: None };
    message.edit_extra(|extra| {
        (extra.tag, extra.expires) = (tag, expires.map(moment));
        (extra.due, extra.since) = (due.map(moment), waits_since);
        (extra.reason, extra.rounds, extra.deliveries, extra.run) = (reason, rounds, deliveries, run);
    });
    message.compact();
    message
}

/// A kept message as the `json` door shows it.
pub fn shown(message: record::Message) -> Vec<u8> {
    let mut line = Vec::new();
    super::json::write(&restored(message, Now::default()), &mut line);
    line
}

/// The counters of both, in the same order.
macro_rules! kept_counters {
    ($($name:ident),*) => {
        fn counters(counts: &Counts) -> Counters {
            Counters { $($name: counts.$name),* }
        }

        fn set_counters(counts: &mut Counts, counters: Counters) {
            // Room to count on from whatever a store says.
            $(counts.$name = counters.$name.min(u64::MAX / 2);)*
        }
    };
}

kept_counters!(sent, moved_in, received, expired, dropped, removed, moved_out, dead_lettered, redelivered);

impl Memory {
    /// Ids up to this one were used before.
    pub fn skip_ids(&self, last: u64) {
        self.last_id.fetch_max(last, std::sync::atomic::Ordering::Relaxed);
    }
}
