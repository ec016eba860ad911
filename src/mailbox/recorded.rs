//! What of a mailbox outlives its daemon: records in state memory, one for each thing.
//!
//! Nothing in the other files here records anything. What changes is noted where it changes, in few places: messages where they come
//! into a queue, open files where they are lent out to be changed. [`Mailbox::record_changes`] then makes the records agree. It comes
//! at the end of each call, before the mailbox's lock is released, and in the same section as the call, so that all that the call did
//! is decided at once. A record that belongs to something that is dropped ends with it.
//!
//! Who waits is not recorded: after the death of a daemon the kernel presents its request again. So an open file is recorded as if
//! nobody waited, and most waiting writers have no record. Those have one whose request is not all: a text whose file is closed, and
//! lines, of which some may have been sent. Lines wait again when their request comes ([`Mailbox::resume_write`]).

use std::collections::BTreeMap;

use super::call::{Counts, HandleId};
use super::message::Message;
use super::once::Accepted;
use super::writers::{Payload, WaitingWriter};
use super::{Mailbox, Open, Rules};
use crate::config::MailboxLimits;
use crate::op::{Effects, Ino, PollHandle};
use crate::state::{Restorer, Saved, Saver, saved_alone};
use crate::sys::state_memory::{Section, Slot, StateMemory};

/// Kinds of records.
pub(super) const HEAD: u8 = 16;
pub(super) const FIGURES: u8 = 17;
pub(super) const OPEN: u8 = 18;
pub(super) const QUEUED: u8 = 19;
pub(super) const DELAYED: u8 = 20;
pub(super) const GIVEN_UP: u8 = 21;
pub(super) const REQUEST: u8 = 22;
pub(super) const KEY: u8 = 23;
pub(super) const WRITER: u8 = 24;

/// Word of all of them: the mailbox.
pub(super) const MAILBOX: usize = 0;
/// Of an open file: its number. Of a key: the id of the message. Of a
/// writer: its place.
pub(super) const NUMBER: usize = 1;
/// Of a writer: where the lines end that it has sent.
pub(super) const SENT: usize = 2;

/// The records of a mailbox, but for those that belong to a message.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) memory: &'static StateMemory,
    pub(super) ino: Ino,
    /// What is recorded of the mailbox itself, and its record.
    pub(super) head: Option<(Head, Slot)>,
    pub(super) figures: Option<([u64; FIGURE_WORDS], Slot)>,
    pub(super) opens: BTreeMap<HandleId, Slot>,
    /// By the id of the message.
    pub(super) keys: BTreeMap<u64, Slot>,
}

impl Recorded {
    /// Nothing is recorded yet.
    pub(super) fn new(ino: Ino, memory: &'static StateMemory) -> Recorded {
        let (opens, keys) = (BTreeMap::new(), BTreeMap::new());
        Recorded { memory, ino, head: None, figures: None, opens, keys }
    }
}

/// The records of a mailbox that is recorded.
#[derive(Debug, Default)]
pub(super) struct Records(pub(super) Option<Box<Recorded>>);

/// Not saved: whoever takes it over has it recorded anew.
impl Saved for Records {
    fn save(&self, _: &mut Saver<'_>) {}

    fn restore(_: &mut Restorer<'_>) -> Option<Self> {
        Some(Records(None))
    }
}

/// The record of something, which ends with it.
#[derive(Debug, Default)]
pub(super) struct OwnRecord(pub(super) Option<Slot>);

/// Not saved, as [`Records`].
impl Saved for OwnRecord {
    fn save(&self, _: &mut Saver<'_>) {}

    fn restore(_: &mut Restorer<'_>) -> Option<Self> {
        Some(OwnRecord(None))
    }
}

/// Pollers of an open file that wait for something to read, and for room to write.
pub(super) type Polls = (Option<PollHandle>, Option<PollHandle>);

pub(super) type Head = (MailboxLimits, Rules, bool);

/// Words of the figures: the mailbox, two times, whether it drops messages, and the counters.
pub(super) const FIGURE_WORDS: usize = 1 + 5 + Counts::COUNT;

impl Mailbox {
    /// It is recorded from now on, as the mailbox `ino`.
    #[must_use]
    pub fn with_records(mut self, ino: Ino, memory: &'static StateMemory) -> Mailbox {
        self.watch();
        self.records = Records(Some(Box::new(Recorded::new(ino, memory))));
        self
    }

    pub(super) fn watch(&mut self) {
        self.handles.watch();
        self.queue.watch();
        self.delayed.watch();
        self.requests_noted.watch();
        self.keys_noted.watch();
        self.writers_noted.watch();
    }

    /// Where it is recorded.
    #[cfg(test)]
    pub(super) fn state_memory(&self) -> Option<&'static StateMemory> {
        self.records.0.as_ref().map(|recorded| recorded.memory)
    }

    /// To be begun before a call, and to be given to [`Mailbox::record_changes`].
    pub fn section(&self) -> Option<Section> {
        self.records.0.as_ref().map(|recorded| recorded.memory.section())
    }

    /// Records what a call has changed, and its effects, and decides it all.
    pub fn record_changes(&mut self, section: Option<Section>, fx: &mut Effects) {
        let Some(section) = section else { return };
        let Some(mut recorded) = self.records.0.take() else { return };
        recorded.record_head((self.limits, self.rules, self.removed));
        recorded.record_figures(self.figures(recorded.ino));
        for handle in self.handles.take_touched() {
            match self.handles.get(handle.0) {
                None => drop(recorded.opens.remove(&handle)),
                Some(open) => {
                    let polls = (self.polls_in.get(&handle).copied(), self.polls_out.get(&handle).copied());
                    recorded.record_open(handle, open, polls);
                }
            }
        }
        self.queue.record(|position, message| recorded.record_message(QUEUED, position, message));
        self.delayed.record(|message| recorded.record_message(DELAYED, 0, message));
        for id in self.requests_noted.take() {
            if let Some(request) = self.requests.get_mut(&id) {
                recorded.record_message(REQUEST, request.client.0 as u64, &mut request.message);
            }
        }
        for id in self.writers_noted.take() {
            if let Some(writer) = self.writers.get_mut(id) {
                recorded.record_writer(writer);
            }
        }
        for id in self.keys_noted.take() {
            match self.keys.as_ref().and_then(|keys| keys.get(id)) {
                None => drop(recorded.keys.remove(&id)),
                Some(key) => recorded.record_key(id, key),
            }
        }
        if self.removed {
            recorded.keys.clear();
        }
        for letter in &mut self.outbox {
            recorded.record_message(GIVEN_UP, 0, letter);
        }
        if section.is_empty() {
            fx.skip_records();
        } else {
            fx.record(recorded.memory);
        }
        // Whoever gets the lock next may build on it.
        section.decide();
        self.records = Records(Some(recorded));
    }

    fn figures(&self, ino: Ino) -> [u64; FIGURE_WORDS] {
        let mut words = [0; FIGURE_WORDS];
        let times = [self.last_sent, self.last_received];
        let times = times.map(|time| [time.seconds as u64, u64::from(time.nanos)]);
        let times = times.into_iter().flatten().chain([u64::from(self.dropping)]);
        let all = [ino.0].into_iter().chain(times).chain(self.counters.numbers());
        words.iter_mut().zip(all).for_each(|(word, value)| *word = value);
        words
    }
}

/// Words of a message beside the mailbox. The position of a request is the open file of its client. A run shrinks from its beginning without being recorded again.
pub(super) const POSITION: usize = 1;
pub(super) const ID: usize = 2;
pub(super) const LINES: usize = 3;
pub(super) const FROM: usize = 4;

impl Recorded {
    fn record_head(&mut self, head: Head) {
        if self.head.as_ref().is_some_and(|(recorded, _)| *recorded == head) {
            return;
        }
        let bytes = saved_alone(|to| head.save(to));
        self.head = self.memory.record_or_give_up(HEAD, &[self.ino.0], &[&bytes]).map(|slot| (head, slot));
    }

    fn record_figures(&mut self, words: [u64; FIGURE_WORDS]) {
        let Some((recorded, slot)) = &mut self.figures else {
            let slot = self.memory.record_or_give_up(FIGURES, &words, &[]);
            self.figures = slot.map(|slot| (words, slot));
            return;
        };
        for (number, (old, new)) in recorded.iter_mut().zip(words).enumerate() {
            if *old != new {
                slot.set_word(number, new);
                *old = new;
            }
        }
    }

    fn record_open(&mut self, handle: HandleId, open: &Open, polls: Polls) {
        let bytes = saved_alone(|to| {
            open.save(to);
            polls.save(to);
        });
        let words = [self.ino.0, handle.0 as u64];
        match self.memory.record_or_give_up(OPEN, &words, &[&bytes]) {
            Some(slot) => drop(self.opens.insert(handle, slot)),
            None => drop(self.opens.remove(&handle)),
        }
    }

    fn record_writer(&self, writer: &mut WaitingWriter) {
        let sent = match &writer.payload {
            Payload::Lines(lines) => lines.sent as u64,
            _ if writer.request_id.is_none() => 0,
            // It is made anew.
            _ => return,
        };
        if let Some(slot) = &writer.record.0 {
            slot.set_word(SENT, sent);
            return;
        }
        let bytes = saved_alone(|to| writer.save(to));
        writer.record.0 = self.memory.record_or_give_up(WRITER, &[self.ino.0, writer.id.0, sent], &[&bytes]);
    }

    fn record_key(&mut self, id: u64, key: &Accepted) {
        let bytes = saved_alone(|to| key.save(to));
        match self.memory.record_or_give_up(KEY, &[self.ino.0, id], &[&bytes]) {
            Some(slot) => drop(self.keys.insert(id, slot)),
            None => drop(self.keys.remove(&id)),
        }
    }

    fn record_message(&self, kind: u8, position: u64, message: &mut Message) {
        let (lines, from) = message.run().map_or((0, 0), |run| (run.lines, run.from as u64));
        let words = [self.ino.0, position, message.id, lines, from];
        match &message.record {
            Some(slot) if slot.kind() == kind => {
                words.iter().enumerate().for_each(|(number, word)| slot.set_word(number, *word));
            }
            _ => {
                let bytes = saved_alone(|to| message.save(to));
                message.record = self.memory.record_or_give_up(kind, &words, &[&bytes]);
            }
        }
    }
}
