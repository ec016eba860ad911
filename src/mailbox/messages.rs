//! Single messages, by their id: shown, removed, moved to another mailbox.

use super::call::{Context, HandleId};
use super::lease::deadline;
use super::memory::Memory;
use super::message::Message;
use super::queue::FIRST_POSITION;
use super::{Mailbox, State};
use crate::journal::record::{How, Reason, Why};
use crate::op::Error;

impl Mailbox {
    /// The queued message with this id.
    pub fn message(&mut self, id: u64) -> Option<&Message> {
        self.queue.get(id)
    }

    /// The message that `handle` has leased, or the request that it serves.
    pub fn in_hand(&self, handle: HandleId) -> Option<&Message> {
        match &self.handles.get(handle.0)?.state {
            State::Leasing(lease) => Some(&lease.message),
            State::Serving(request) => Some(&request.message),
            _ => None,
        }
    }

    /// Positions and ids of queued messages, in order of position: those after `position`, at most `most`. A message
    /// keeps its position while it is queued, and no other message has the same one.
    pub fn list(&self, position: u64, most: usize) -> Vec<(u64, u64)> {
        self.queue.list(position, most)
    }

    /// The position that the next message of any mailbox will have.
    pub fn next_position(memory: &Memory) -> u64 {
        FIRST_POSITION + memory.next_id()
    }

    /// Removes a queued message. `NotFound` if there is none with this id.
    pub fn remove_message(&mut self, id: u64, cx: &mut Context<'_>) -> Result<(), Error> {
        self.queue.remove(id).ok_or(Error::NotFound)?;
        self.counters.removed += 1;
        self.record_gone(id, 1, Why::Removed, cx);
        self.admit_writers(cx);
        Ok(())
    }

    /// Checks that a message of another mailbox can be inserted, ahead of waiting writers. `NotFound` if this mailbox was
    /// removed, `TooLong` if it is longer than `msgsize` or `maxbytes`, `NoSpace` if it does not fit now.
    pub fn check_insert(&self, message: &Message) -> Result<(), Error> {
        if self.removed {
            return Err(Error::NotFound);
        }
        if message.len() > self.longest() {
            return Err(Error::TooLong);
        }
        if self.readers.wants(message) || self.fits(message.len()) { Ok(()) } else { Err(Error::NoSpace) }
    }

    /// Takes a message out, to be inserted into another mailbox.
    pub fn extract_message(&mut self, id: u64, cx: &mut Context<'_>) -> Option<Message> {
        let message = self.queue.remove(id)?;
        self.counters.moved_out += 1;
        self.admit_writers(cx);
        Some(message)
    }

    /// Inserts a message of another mailbox behind all others of its priority. It keeps its id, sender, priority, tag and
    /// time of sending. Its time to live begins anew; with `reset_deliveries`, its count of deliveries too, and it is no dead letter
    /// any more. One that has become a dead letter too often stays.
    pub fn insert_message(
        &mut self,
        mut message: Message,
        how: How,
        reset_deliveries: bool,
        cx: &mut Context<'_>,
    ) {
        if self.removed {
            // The mailbox was removed while the message was on its way.
            self.counters.dropped += 1;
            return;
        }
        let stays = !reset_deliveries && message.reason() == Some(Reason::Rounds);
        let expires = deadline(self.rules.ttl, cx.now.moment).filter(|_| !stays);
        if reset_deliveries || expires != message.expires() {
            message.edit_extra(|extra| {
                extra.expires = expires;
                if reset_deliveries {
                    (extra.deliveries, extra.reason, extra.rounds.idle) = (0, None, false);
                    extra.died_in.clear();
                }
            });
        }
        self.counters.moved_in += 1;
        let number = cx.memory.allocate_ids(1);
        self.record_message(&message, number, how, cx);
        if let Some(message) = self.offer(message, cx) {
            self.queue.push(message, number);
            self.wake_readers(cx);
        } else {
            self.admit_writers(cx);
        }
    }

    /// Takes the dead letters, to be inserted into the dead-letter mailbox.
    pub fn take_outbox(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.outbox)
    }

    /// Drops dead letters whose dead-letter mailbox no longer exists. Expired messages stay counted as expired.
    pub fn drop_dead_letters(&mut self, messages: Vec<Message>, cx: &mut Context<'_>) {
        for message in messages {
            let expired = message.expires().is_some();
            if !expired {
                self.counters.dead_lettered -= 1;
                self.counters.dropped += 1;
            }
            let why = if expired { Why::Expired } else { Why::Dropped };
            self.record_gone(message.id, message.count(), why, cx);
        }
        self.admit_writers(cx);
    }
}
