//! Removing queued messages by what they are, however many: in steps.

use super::Mailbox;
use super::call::Context;
use super::delayed::Place;
use super::message::{Message, Rank, Tag};
use crate::journal::record::Why;
use crate::op::Moment;
use crate::state::saved;

/// Which messages to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// Whatever is queued or delayed.
    All,
    /// Those with this tag.
    Tag(Tag),
    /// Those that this user sent.
    From(u32),
    /// Those that were sent so many nanoseconds ago, or earlier.
    Older(u64),
}

saved!(enum Purge { 0 = All, 1 = Tag(it), 2 = From(it), 3 = Older(it) });

/// A removal that has begun.
#[derive(Debug)]
pub struct Purging {
    what: Purge,
    /// When it began.
    since: Moment,
    /// Messages with this id or a later one have come since it began.
    first_new: u64,
    next: Next,
    removed: u64,
}

saved!(struct Purging { what, since, first_new, next, removed });

/// Where the next step goes on.
#[derive(Debug, Clone, Copy)]
enum Next {
    Delayed(Place),
    /// As far as a position.
    Queued(Rank, u64),
    Nowhere,
}

saved!(enum Next { 0 = Delayed(place), 1 = Queued(rank, position), 2 = Nowhere });

impl Next {
    /// All that is queued by now, also what was delayed before.
    fn queue(cx: &Context<'_>) -> Next {
        Next::Queued(Rank::FIRST, Mailbox::next_position(cx.memory))
    }
}

impl Purging {
    fn wants(&self, message: &Message) -> bool {
        let is_named = match &self.what {
            Purge::All => true,
            Purge::Tag(tag) => message.tag() == Some(tag),
            Purge::From(uid) => message.sender.uid == *uid,
            Purge::Older(age) => message.since.after(*age) <= self.since,
        };
        is_named && message.id < self.first_new
    }

    /// Messages that were removed so far.
    pub fn removed(&self) -> u64 {
        self.removed
    }
}

impl Mailbox {
    /// Begins to remove messages: of those that are queued or delayed now. [`Mailbox::purge_some`] does it.
    pub fn begin_purge(&self, what: Purge, cx: &Context<'_>) -> Purging {
        let first_new = cx.memory.next_id();
        let next = if self.delayed.len() == 0 { Next::queue(cx) } else { Next::Delayed(Place::default()) };
        Purging { what, since: cx.now.moment, first_new, next, removed: 0 }
    }

    /// Takes a short step. False if that was the last.
    pub fn purge_some(&mut self, purging: &mut Purging, cx: &mut Context<'_>) -> bool {
        let wanted = |message: &Message| purging.wants(message);
        let (messages, next) = match purging.next {
            Next::Delayed(from) => {
                let (messages, next) = self.delayed.remove_some(from, wanted);
                (messages, next.map_or_else(|| Next::queue(cx), Next::Delayed))
            }
            Next::Queued(from, end) => {
                let (messages, next) = self.queue.remove_some(from, end, wanted);
                (messages, next.map_or(Next::Nowhere, |from| Next::Queued(from, end)))
            }
            Next::Nowhere => return false,
        };
        purging.next = next;
        for message in &messages {
            purging.removed += message.count();
            self.counters.removed += message.count();
            self.record_gone(message.id, message.count(), Why::Removed, cx);
        }
        if !messages.is_empty() {
            drop(messages);
            self.admit_writers(cx);
        }
        !matches!(purging.next, Next::Nowhere)
    }
}
