//! A mailbox made again from its records, by another daemon.

#![cfg_attr(not(test), expect(dead_code, reason = "no mount has state memory yet"))]

use std::collections::BTreeMap;

use super::call::{Counts, HandleId};
use super::delayed::Delayed;
use super::message::{Message, Run};
use super::queue::Queue;
use super::recorded::{
    DELAYED, FIGURE_WORDS, FIGURES, FROM, GIVEN_UP, HEAD, Head, ID, LINES, MAILBOX, NUMBER, OPEN, POSITION,
    Polls, QUEUED, Recorded, Records,
};
use super::{Mailbox, Open, State};
use crate::config::MailboxLimits;
use crate::op::{FileTime, Ino, PollHandle};
use crate::state::Restorer;
use crate::sys::state_memory::{Slot, StateMemory};

impl Mailbox {
    /// The mailbox that has these records, with nobody who waits. `None` if they are not what this program makes. Pollers that were
    /// armed are returned: they are to be woken, as nobody knows what they have missed.
    pub(crate) fn of_records(
        slots: Vec<Slot>,
        memory: &'static StateMemory,
        from: &mut Restorer<'_>,
    ) -> Option<(Mailbox, Vec<PollHandle>)> {
        let ino = Ino(slots.first()?.word(MAILBOX));
        let mut mailbox = Mailbox::new(MailboxLimits::default(), FileTime::default());
        let mut recorded = Recorded { memory, ino, head: None, figures: None, opens: BTreeMap::new() };
        let (mut opens, mut queued, mut polls) = (Vec::new(), Vec::new(), Vec::new());
        for slot in slots {
            match slot.kind() {
                HEAD => {
                    let head: Head = from.alone(slot.bytes())?;
                    recorded.head = Some((head, slot));
                }
                FIGURES => {
                    let mut words = [0; FIGURE_WORDS];
                    words.iter_mut().zip(slot.words()).for_each(|(word, value)| *word = value);
                    mailbox.set_figures(&words)?;
                    recorded.figures = Some((words, slot));
                }
                OPEN => {
                    let number = slot.word(NUMBER) as usize;
                    let longest = from.given()?.longest_table;
                    let (mut open, (input, output)): (Open, Polls) = from.alone(slot.bytes())?;
                    open.waiting = 0;
                    polls.extend(input.into_iter().chain(output));
                    recorded.opens.insert(HandleId(number), slot);
                    opens.push((Some(number).filter(|number| *number < longest)?, open));
                }
                kind @ (QUEUED | DELAYED | GIVEN_UP) => {
                    let position = slot.word(POSITION);
                    let message = recovered(slot, from)?;
                    match kind {
                        QUEUED => queued.push((position, message)),
                        DELAYED => mailbox.delayed.insert(message),
                        _ => mailbox.outbox.push(message),
                    }
                }
                _ => return None,
            }
        }
        let (limits, rules, removed) = recorded.head.as_ref()?.0;
        (mailbox.limits, mailbox.rules, mailbox.removed) = (limits, rules, removed);
        if removed {
            // They went with its name.
            (queued, mailbox.delayed) = (Vec::new(), Delayed::default());
        }
        mailbox.queue = Queue::of_messages(rules.order, queued)?;
        for (number, open) in &opens {
            if let State::Leasing(lease) = &open.state
                && let Some(end) = lease.deadline
            {
                mailbox.lease_ends.insert((end, HandleId(*number)));
            }
        }
        mailbox.handles = opens.into_iter().collect();
        mailbox.watch();
        mailbox.records = Records(Some(Box::new(recorded)));
        Some((mailbox, polls))
    }

    fn set_figures(&mut self, words: &[u64; FIGURE_WORDS]) -> Option<()> {
        let (times, counters) = words.get(1..)?.split_at_checked(4)?;
        let [sent, sent_nanos, received, received_nanos] = *times else { return None };
        let time = |seconds: u64, nanos: u64| {
            Some(FileTime { seconds: seconds as i64, nanos: u32::try_from(nanos).ok()? })
        };
        self.last_sent = time(sent, sent_nanos)?;
        self.last_received = time(received, received_nanos)?;
        self.counters = Counts::of_numbers(counters.try_into().ok()?);
        Some(())
    }
}

/// The message that is recorded here.
fn recovered(slot: Slot, from: &mut Restorer<'_>) -> Option<Message> {
    let mut message: Message = from.alone(slot.bytes())?;
    message.id = slot.word(ID);
    if let Some(run) = message.run() {
        let run = Run { lines: slot.word(LINES), from: slot.word(FROM) as usize, ..run };
        message.edit_extra(|extra| extra.run = Some(run));
    }
    message.record = Some(slot);
    Some(message).filter(Message::is_sound)
}
