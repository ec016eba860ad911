//! Single messages, by their number: looked at, removed, moved to another mailbox.

use super::message::Message;
use super::{Context, Error, Mailbox};

impl Mailbox {
    /// The message numbered `id`, if it waits here.
    pub fn message_numbered(&mut self, id: u64) -> Option<&Message> {
        self.queue.get(id)
    }

    /// Numbers of waiting messages, as many as `most`: those whose place in the list is behind `place`, with theirs. A
    /// message keeps its place as long as it waits, and no other has it.
    pub fn list(&self, place: u64, most: usize) -> Vec<(u64, u64)> {
        self.queue.list(place, most)
    }

    /// Removes a message.
    pub fn remove_message(&mut self, id: u64, cx: &mut Context<'_>) -> Result<(), Error> {
        let message = self.queue.remove(id).ok_or(Error::NotFound)?;
        self.tally.removed += 1;
        cx.memory.give_back(message.cost());
        self.room_made(cx);
        Ok(())
    }

    /// True if a message from another mailbox can come in, with others waiting for room or not.
    pub fn admits(&self, message: &Message) -> Result<(), Error> {
        if self.removed {
            return Err(Error::NotFound);
        }
        if message.len() > self.longest() {
            return Err(Error::TooLong);
        }
        if self.readers.wants(message) || self.fits(message.len()) { Ok(()) } else { Err(Error::NoSpace) }
    }

    /// Takes a message out, to be put into another mailbox. Its memory stays taken.
    pub fn take_out(&mut self, id: u64, cx: &mut Context<'_>) -> Option<Message> {
        let message = self.queue.remove(id)?;
        self.tally.moved_out += 1;
        self.room_made(cx);
        Some(message)
    }

    /// Puts in a message that was taken out of another mailbox, behind the others. It has its number, sender, priority,
    /// tag and time of sending still, and starts anew as far as its time here and, with `anew`, its deliveries go.
    pub fn put_in(&mut self, mut message: Message, anew: bool, cx: &mut Context<'_>) {
        cx.memory.give_back(message.cost());
        if self.removed {
            // It was on its way while the name went.
            self.tally.dropped += 1;
            return;
        }
        if anew {
            message.extra_mut().deliveries = 0;
        }
        self.start_time(&mut message, cx.now);
        self.tally.moved_in += 1;
        self.show_to_peekers(&message, cx);
        if let Some(reader) = self.readers.serve_for(&message) {
            self.hand_over(&reader, message, cx);
            self.room_made(cx);
            return;
        }
        cx.memory.take_anyway(message.cost());
        let place = cx.memory.number(1);
        self.queue.push(message, place);
        self.wake_readers(cx);
    }

    /// Messages that go to the mailbox for the dead.
    pub fn take_outbox(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.outbox)
    }

    /// There is no mailbox for the dead any more: those are dropped, except that what has expired counts as that.
    pub fn drop_dead_letters(&mut self, dead: Vec<Message>, cx: &mut Context<'_>) {
        for message in dead {
            if message.expires().is_none() {
                self.tally.dead_lettered -= 1;
                self.tally.dropped += 1;
            }
            cx.memory.give_back(message.cost());
        }
        self.room_made(cx);
    }
}
