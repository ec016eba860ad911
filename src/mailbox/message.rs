//! A message, and what may be known of it beside its bytes.

use std::sync::Arc;

use super::memory::{EXTRA_COST, MESSAGE_COST};
use crate::op::{Caller, Slice, Timestamp};

/// What a message can be chosen by. Never empty, at most [`crate::config::NAME_MAX`] bytes.
pub type Tag = Arc<[u8]>;

/// Where a message stands among others: those with the least are received first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Rank {
    /// 65,535 less the priority, so that the highest comes first.
    pub(super) reply_path: u16,
    pub(super) place: u64,
}

impl Rank {
    /// Where messages without a priority stand.
    pub(super) const PLAIN: u16 = u16::MAX;

    pub(super) fn reply_path(priority: u16) -> u16 {
        u16::MAX - priority
    }
}

/// A message as it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Never reused within the mount.
    pub id: u64,
    /// When it was taken into the queue.
    pub sent: Timestamp,
    /// Who sent it, as the kernel attests.
    pub sender: Caller,
    /// 0 to 32,767; higher ones are received first.
    pub priority: u16,
    /// Its bytes.
    pub body: Arc<[u8]>,
    /// What few messages have.
    pub(super) extra: Option<Box<Extra>>,
}

/// What few messages have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Extra {
    pub(super) tag: Option<Tag>,
    pub(super) expires: Option<Timestamp>,
    /// How often it was handed out without being settled.
    pub(super) deliveries: u32,
    /// Not one message but so many, the lines of a part of `body`.
    pub(super) run: Option<Run>,
}

/// Consecutive lines that came in one write. Each is a message, with the numbers from the first one's on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) lines: u64,
    pub(super) from: usize,
    pub(super) to: usize,
}

impl Message {
    /// What was given to it to be chosen by.
    pub fn tag(&self) -> Option<&Tag> {
        self.extra.as_ref()?.tag.as_ref()
    }

    /// When it goes by itself.
    pub fn expires(&self) -> Option<Timestamp> {
        self.extra.as_ref()?.expires
    }

    /// How often it was handed out without being settled.
    pub fn deliveries(&self) -> u32 {
        self.extra.as_ref().map_or(0, |extra| extra.deliveries)
    }

    pub(super) fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    pub(super) fn run(&self) -> Option<Run> {
        self.extra.as_ref()?.run
    }

    /// Messages: one, or as many as there are lines.
    pub(super) fn count(&self) -> u64 {
        self.run().map_or(1, |run| run.lines)
    }

    /// Bytes.
    pub(super) fn len(&self) -> u64 {
        self.run().map_or(self.body.len(), |run| run.to - run.from) as u64
    }

    /// What it takes of the mount's memory. The same from its acceptance to its end.
    pub(super) fn cost(&self) -> u64 {
        let special = self.tag().is_some() || self.expires().is_some();
        let each = MESSAGE_COST + if special { EXTRA_COST } else { 0 };
        self.len() + self.tag().map_or(0, |tag| tag.len() as u64) + each * self.count()
    }

    /// All of its bytes.
    pub(super) fn slice(&self) -> Slice {
        let (from, to) = self.run().map_or((0, self.body.len()), |run| (run.from, run.to));
        Slice { from, to, bytes: Arc::clone(&self.body) }
    }

    /// Takes the first line off a run that has more; `None` if there is but one message. The line has bytes of its own,
    /// so that it does not keep the whole run in memory.
    pub(super) fn split_first(&mut self) -> Option<Message> {
        let run = self.run().filter(|run| run.lines > 1)?;
        let rest = self.body.get(run.from..run.to).unwrap_or_default();
        let line = rest.get(..end_of_line(rest)).unwrap_or_default();
        let mut first = Message { body: Arc::from(line), extra: None, ..self.clone() };
        first.extra.clone_from(&self.extra);
        first.extra_mut().run = None;
        if first.extra.as_deref() == Some(&Extra::default()) {
            first.extra = None;
        }
        self.id += 1;
        self.extra_mut().run = Some(Run { lines: run.lines - 1, from: run.from + line.len(), ..run });
        Some(first)
    }

    /// Takes as many lines off a run as `room` bytes hold, and one in any case; `None` if that is all there is.
    pub(super) fn split_fitting(&mut self, room: usize) -> Option<Message> {
        let run = self.run().filter(|run| run.to - run.from > room)?;
        let rest = self.body.get(run.from..run.to).unwrap_or_default();
        let fitting = rest.get(..room).unwrap_or(rest);
        let length = memchr::memrchr(b'\n', fitting).map_or_else(|| end_of_line(rest), |at| at + 1);
        let lines = memchr::memchr_iter(b'\n', rest.get(..length).unwrap_or_default()).count() as u64;
        self.split_at(lines, length)
    }

    /// Takes so many lines off a run; `None` if that is all there is.
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
        let mut first = self.clone();
        first.extra_mut().run = Some(Run { lines, to: middle, ..run });
        self.id += lines;
        self.extra_mut().run = Some(Run { lines: run.lines - lines, from: middle, ..run });
        Some(first)
    }

    /// The bytes of the message, or of the first line of a run.
    pub(super) fn first_slice(&self) -> Slice {
        let slice = self.slice();
        match self.run() {
            Some(run) => Slice { to: run.from + end_of_line(slice.as_bytes()), ..slice },
            None => slice,
        }
    }

    /// Their number.
    pub(super) fn first_len(&self) -> u64 {
        let slice = self.first_slice();
        (slice.to - slice.from) as u64
    }
}

/// Where the first line ends: behind its newline.
fn end_of_line(bytes: &[u8]) -> usize {
    memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1)
}
