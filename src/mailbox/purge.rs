//! Removing queued messages by what they are, however many: in steps.

use super::Mailbox;
use super::call::Context;
use super::message::{Message, Rank, Tag};
use crate::journal::record::Why;
use crate::op::Timestamp;

/// Which messages to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    /// Whatever is queued.
    All,
    /// Those with this tag.
    Tag(Tag),
    /// Those that this user sent.
    From(u32),
    /// Those that were sent so many nanoseconds ago, or earlier.
    Older(u64),
}

/// A removal that has begun.
#[derive(Debug)]
pub struct Purging {
    what: Purge,
    /// When it began.
    since: Timestamp,
    /// Where the next step goes on. `None`: all is done.
    next: Option<Rank>,
    /// Messages with this position or a later one have come since it began.
    end: u64,
    removed: u64,
}

impl Purging {
    fn wants(&self, message: &Message) -> bool {
        match &self.what {
            Purge::All => true,
            Purge::Tag(tag) => message.tag() == Some(tag),
            Purge::From(uid) => message.sender.uid == *uid,
            Purge::Older(age) => message.sent.0.saturating_add(*age) <= self.since.0,
        }
    }

    /// Messages that were removed so far.
    pub fn removed(&self) -> u64 {
        self.removed
    }
}

impl Mailbox {
    /// Begins to remove messages: of those that are queued now. [`Mailbox::purge_some`] does it.
    pub fn begin_purge(&self, what: Purge, cx: &Context<'_>) -> Purging {
        let (since, end) = (cx.now, Mailbox::next_position(cx.memory));
        Purging { what, since, next: Some(Rank::FIRST), end, removed: 0 }
    }

    /// Takes a short step. False if that was the last.
    pub fn purge_some(&mut self, purging: &mut Purging, cx: &mut Context<'_>) -> bool {
        let Some(from) = purging.next else { return false };
        let (messages, next) = self.queue.remove_some(from, purging.end, |message| purging.wants(message));
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
        purging.next.is_some()
    }
}
