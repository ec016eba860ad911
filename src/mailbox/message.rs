//! A message: its bytes and its attributes.

use std::sync::Arc;

use super::memory::{EXTRA_COST, MESSAGE_COST, cost_of_key};
use crate::accounts::Charge;
use crate::journal::record::{Reason, Rounds};
use crate::op::{Caller, Ino, Moment, Now, Slice, Timestamp};
use crate::state::{Restorer, Saved, Saver, saved};
use crate::sys::state_memory::Slot;

/// A label that a receiver can select messages by. Never empty, at most [`crate::config::NAME_MAX`] bytes.
pub type Tag = Arc<[u8]>;

/// By how many nanoseconds a clock differs from what was expected that was set, and does not only go a little faster or slower.
const SET_AT_LEAST: u64 = 1_000_000_000;

/// How many times in a row a message may expire and move on.
const MAX_DEATHS: usize = 16;

/// Sort key of queued messages: the least is received first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Rank {
    /// 65,535 less the priority, so that the highest priority comes first.
    pub(super) level: u16,
    pub(super) position: u64,
}

saved!(struct Rank { level, position });

impl Rank {
    /// The level of messages without a priority.
    pub(super) const PLAIN: u16 = u16::MAX;

    /// No rank is less.
    pub(super) const FIRST: Rank = Rank { level: 0, position: 0 };

    pub(super) fn level(priority: u16) -> u16 {
        u16::MAX - priority
    }
}

/// A message, queued or leased.
#[derive(Debug)]
pub struct Message {
    /// Never reused within the mount.
    pub id: u64,
    /// When the mailbox accepted it.
    pub sent: Timestamp,
    /// The same by the clock that is never set.
    pub since: Moment,
    /// The process that sent it, as reported by the kernel.
    pub sender: Caller,
    /// 0 to 32,767; higher ones are received first.
    pub priority: u16,
    /// Its bytes.
    pub body: Arc<[u8]>,
    /// Attributes that few messages have.
    pub(super) extra: Option<Box<Extra>>,
    /// Its memory, charged to the sender, from the time when it is accepted.
    pub(super) charge: Option<Charge>,
    /// Where it is recorded, while it is queued or to be moved, and as long as its attributes are what they were then.
    pub(super) record: Option<Slot>,
}

impl Saved for Message {
    fn save(&self, to: &mut Saver<'_>) {
        let Message { id, sent, since, sender, priority, body, extra, charge, record: _ } = self;
        id.save(to);
        sent.save(to);
        sender.save(to);
        priority.save(to);
        body.save(to);
        extra.save(to);
        charge.save(to);
        since.save(to);
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        let (id, sent, sender) = (Saved::restore(from)?, Saved::restore(from)?, Saved::restore(from)?);
        let (priority, body, extra) = (Saved::restore(from)?, Saved::restore(from)?, Saved::restore(from)?);
        let charge = Saved::restore(from)?;
        // In the first version there was one clock.
        let since =
            if from.version() < 2 { from.given()?.now.moment_of(sent) } else { Saved::restore(from)? };
        let message = Message { id, sent, since, sender, priority, body, extra, charge, record: None };
        Some(message).filter(Message::is_sound)
    }
}

/// Attributes that few messages have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Extra {
    pub(super) tag: Option<Tag>,
    pub(super) expires: Option<Moment>,
    /// With which it is sent once, until it is accepted.
    pub(super) key: Option<Tag>,
    /// It cannot be received before. None while it is queued or leased.
    pub(super) due: Option<Moment>,
    /// Since when it can be received, if it was delayed.
    pub(super) since: Option<Moment>,
    /// Why it became a dead letter, of one that is.
    pub(super) reason: Option<Reason>,
    /// How often it became one.
    pub(super) rounds: Rounds,
    /// Leases that ended without `ack`.
    pub(super) deliveries: u32,
    /// Mailboxes in which it has expired since it was last received or sent.
    pub(super) died_in: Vec<Ino>,
    /// It is not one message but several: lines in a part of `body`.
    pub(super) run: Option<Run>,
}

saved!(enum Reason { 0 = Expired, 1 = Deliveries, 2 = Rejected, 3 = Rounds });
saved!(struct Rounds { count, idle, stopped_in });
saved!(struct Extra {
    tag, expires, key since 3, due, since since 3, reason, rounds since 3, deliveries, died_in, run,
});

/// Consecutive lines that came in one write. Each is a message; their ids are consecutive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) lines: u64,
    pub(super) from: usize,
    pub(super) to: usize,
}

saved!(struct Run { lines, from, to });

impl Message {
    /// Its ids are numbers, and its lines are there.
    pub(super) fn is_sound(&self) -> bool {
        let has_lines = |run: Run| {
            let bytes = self.body.get(run.from..run.to).unwrap_or_default();
            run.lines > 0 && run.lines <= memchr::memchr_iter(b'\n', bytes).count() as u64
        };
        self.id <= u64::MAX / 2 && self.run().is_none_or(has_lines)
    }

    /// The tag it was sent with.
    pub fn tag(&self) -> Option<&Tag> {
        self.extra.as_ref()?.tag.as_ref()
    }

    /// The key with which it is sent once, until it is accepted.
    pub(super) fn key(&self) -> Option<&Tag> {
        self.extra.as_ref()?.key.as_ref()
    }

    /// When it expires.
    pub fn expires(&self) -> Option<Moment> {
        self.extra.as_ref()?.expires
    }

    /// When a moment is by the wall clock as it was set when the message was sent or, if it has been set since, as it is now.
    pub fn wall_at(&self, moment: Moment, now: Now) -> Timestamp {
        let then = Now { wall: self.sent, moment: self.since }.wall_at(moment);
        let by_now = now.wall_at(moment);
        if by_now.0.abs_diff(then.0) < SET_AT_LEAST { then } else { by_now }
    }

    /// Before when it cannot be received.
    pub(super) fn due(&self) -> Option<Moment> {
        self.extra.as_ref()?.due
    }

    /// Since when it waits: since it was sent, or was due after a delay.
    pub(super) fn waits_since(&self) -> Moment {
        self.since().unwrap_or(self.since)
    }

    /// Since when it can be received, if it was delayed.
    pub(super) fn since(&self) -> Option<Moment> {
        self.extra.as_ref()?.since
    }

    /// Changes before when it cannot be received, or since when it can be again, and with that what it is charged.
    pub(super) fn set_due(&mut self, due: Option<Moment>, since: Option<Moment>) {
        self.edit_extra(|extra| (extra.due, extra.since) = (due, since));
        let cost = self.cost();
        self.charge.iter_mut().for_each(|charge| charge.force(cost));
    }

    /// Why it became a dead letter, of one that is.
    pub fn reason(&self) -> Option<Reason> {
        self.extra.as_ref()?.reason
    }

    /// Number of its leases that ended without `ack`.
    pub fn deliveries(&self) -> u32 {
        self.extra.as_ref().map_or(0, |extra| extra.deliveries)
    }

    /// How often it became a dead letter.
    pub fn rounds(&self) -> Rounds {
        self.extra.as_ref().map_or_else(Rounds::default, |extra| extra.rounds)
    }

    /// It became a dead letter of the mailbox `ino`, where that may be so often. Only a chain of deaths by time alone can be a circle:
    /// any other takes somebody who receives it.
    pub fn note_death(&mut self, ino: Ino, max_rounds: Option<u32>) {
        self.edit_extra(|extra| {
            let rounds = &mut extra.rounds;
            rounds.count = rounds.count.saturating_add(u32::from(!rounds.idle));
            rounds.idle = true;
            if max_rounds.is_some_and(|most| rounds.count >= most) {
                rounds.stopped_in.get_or_insert(ino);
                extra.reason = Some(Reason::Rounds);
            }
        });
        let expired = self.expires().is_some();
        if expired || self.extra.as_ref().is_some_and(|extra| !extra.died_in.is_empty()) {
            self.edit_extra(|extra| if expired { extra.died_in.push(ino) } else { extra.died_in.clear() });
        }
    }

    /// It comes back to a mailbox in which it died, or has died too often.
    pub fn has_died_in(&self, ino: Ino) -> bool {
        let died_in = self.extra.as_ref().map_or(&[][..], |extra| &extra.died_in);
        died_in.contains(&ino) || died_in.len() > MAX_DEATHS
    }

    /// It has stopped in the mailbox `ino`, which does not take it back as long as it may not become a dead letter there more often.
    pub fn has_stopped_in(&self, ino: Ino, max_rounds: Option<u32>) -> bool {
        let rounds = self.rounds();
        rounds.stopped_in == Some(ino) && max_rounds.is_some_and(|most| rounds.count >= most)
    }

    /// Changes the attributes that few messages have.
    pub(super) fn edit_extra(&mut self, edit: impl FnOnce(&mut Extra)) {
        self.record = None;
        let mut extra = self.extra.take().unwrap_or_default();
        edit(&mut extra);
        self.extra = (*extra != Extra::default()).then_some(extra);
    }

    pub(super) fn run(&self) -> Option<Run> {
        self.extra.as_ref()?.run
    }

    /// Number of messages: the lines of a run, otherwise one.
    pub(super) fn count(&self) -> u64 {
        self.run().map_or(1, |run| run.lines)
    }

    /// Length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.run().map_or(self.body.len(), |run| run.to - run.from) as u64
    }

    /// Bytes that it is charged to the mount's memory. Constant while it is queued or leased.
    pub(super) fn cost(&self) -> u64 {
        let delayed = self.due().is_some() || self.since().is_some();
        let special = self.tag().is_some() || self.expires().is_some() || delayed;
        let each = MESSAGE_COST + if special { EXTRA_COST } else { 0 };
        let names =
            self.tag().map_or(0, |tag| tag.len() as u64) + self.key().map_or(0, |key| cost_of_key(key));
        self.len() + names + each * self.count()
    }

    /// All of its bytes.
    pub(super) fn slice(&self) -> Slice {
        let (from, to) = self.run().map_or((0, self.body.len()), |run| (run.from, run.to));
        Slice { from, to, bytes: Arc::clone(&self.body) }
    }

    /// Splits the first line off a run. `None` if only one message is left. The line gets a copy of its bytes, so that it
    /// does not keep the bytes of the whole run in memory.
    pub(super) fn split_first(&mut self) -> Option<Message> {
        let run = self.run().filter(|run| run.lines > 1)?;
        let rest = self.body.get(run.from..run.to).unwrap_or_default();
        let line = rest.get(..end_of_line(rest)).unwrap_or_default();
        let (from, body) = (run.from + line.len(), Arc::from(line));
        let first = self.split_off(body, None);
        self.skip_lines(1, from);
        Some(first)
    }

    /// Splits as many lines off a run as fit into `room` bytes, and at least one. `None` if that is all of it.
    pub(super) fn split_fitting(&mut self, room: usize) -> Option<Message> {
        let run = self.run().filter(|run| run.to - run.from > room)?;
        let rest = self.body.get(run.from..run.to).unwrap_or_default();
        let fitting = rest.get(..room).unwrap_or(rest);
        let length = memchr::memrchr(b'\n', fitting).map_or_else(|| end_of_line(rest), |at| at + 1);
        let lines = memchr::memchr_iter(b'\n', rest.get(..length).unwrap_or_default()).count() as u64;
        self.split_at(lines, length)
    }

    /// Splits this number of lines off a run. `None` if that is all of it.
    pub(super) fn split_lines(&mut self, lines: u64) -> Option<Message> {
        let run = self.run().filter(|run| lines < run.lines)?;
        let rest = self.body.get(run.from..run.to).unwrap_or_default();
        let last = usize::try_from(lines.checked_sub(1)?).ok()?;
        let length = memchr::memchr_iter(b'\n', rest).nth(last)? + 1;
        self.split_at(lines, length)
    }

    fn split_at(&mut self, lines: u64, length: usize) -> Option<Message> {
        let run = self.run().filter(|run| lines < run.lines)?;
        let middle = run.from + length;
        let first = self.split_off(Arc::clone(&self.body), Some(Run { lines, to: middle, ..run }));
        self.skip_lines(lines, middle);
        Some(first)
    }

    /// The first message of a run, or several, with its part of the charge.
    fn split_off(&mut self, body: Arc<[u8]>, run: Option<Run>) -> Message {
        let Message { id, sent, since, sender, priority, .. } = *self;
        let extra = self.extra.clone();
        let mut first =
            Message { id, sent, since, sender, priority, body, extra, charge: None, record: None };
        first.edit_extra(|extra| extra.run = run);
        let cost = first.cost();
        first.charge = self.charge.as_mut().map(|charge| charge.split(cost));
        first
    }

    /// Copies the bytes of a run, if otherwise it would keep more than twice as many in memory. For a run that is queued or
    /// kept: as it shrinks, all copies together are no longer than it was at first.
    pub(super) fn compact(&mut self) {
        let Some(run) = self.run().filter(|run| (run.to - run.from) * 2 < self.body.len()) else { return };
        self.body = Arc::from(self.slice().as_bytes());
        self.edit_extra(|extra| extra.run = Some(Run { from: 0, to: run.to - run.from, ..run }));
    }

    /// This run begins `lines` lines later, at position `from` of its body.
    fn skip_lines(&mut self, lines: u64, from: usize) {
        if let Some(run) = self.extra.as_mut().and_then(|extra| extra.run.as_mut()) {
            self.id += lines;
            *run = Run { lines: run.lines - lines, from, ..*run };
        }
    }

    /// Turns a run of one line into a plain message with a copy of its bytes.
    pub(super) fn into_single(mut self) -> Message {
        if self.run().is_some() {
            self.body = Arc::from(self.slice().as_bytes());
            self.edit_extra(|extra| extra.run = None);
        }
        self
    }

    /// The bytes of the message, or of the first line of a run.
    pub(super) fn first_slice(&self) -> Slice {
        let slice = self.slice();
        match self.run() {
            Some(run) => Slice { to: run.from + end_of_line(slice.as_bytes()), ..slice },
            None => slice,
        }
    }

    /// Length of the message, or of the first line of a run, in bytes.
    pub(super) fn first_len(&self) -> u64 {
        let slice = self.first_slice();
        (slice.to - slice.from) as u64
    }
}

/// Length of the first line, including its newline.
fn end_of_line(bytes: &[u8]) -> usize {
    memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1)
}
