//! A mailbox made again from its records, by another daemon.

#![cfg_attr(not(test), expect(dead_code, reason = "no mount has state memory yet"))]

use std::collections::BTreeMap;

use super::call::{Counts, HandleId, WaitId};
use super::delayed::Delayed;
use super::message::{Message, Run};
use super::once::Accepted;
use super::queue::Queue;
use super::recorded::{
    DELAYED, FIGURE_WORDS, FIGURES, FROM, GIVEN_UP, HEAD, Head, ID, KEY, LINES, MAILBOX, NUMBER, OPEN,
    OwnRecord, POSITION, Polls, QUEUED, REQUEST, Recorded, Records, SENT, WRITER,
};
use super::rpc::{Outstanding, Request};
use super::writers::{Payload, WaitingWriter};
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
        let mut recorded = Recorded::new(ino, memory);
        let mut writers = BTreeMap::new();
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
                    if let State::Requesting(Outstanding::Unsent) = open.state {
                        // Its write comes again.
                        open.state = State::Idle;
                    }
                    polls.extend(input.into_iter().chain(output));
                    recorded.opens.insert(HandleId(number), slot);
                    opens.push((Some(number).filter(|number| *number < longest)?, open));
                }
                WRITER => {
                    let (id, sent) = (WaitId(slot.word(NUMBER)), slot.word(SENT) as usize);
                    let mut writer: WaitingWriter = from.alone(slot.bytes())?;
                    if let Payload::Lines(lines) = &mut writer.payload {
                        lines.sent = Some(sent).filter(|sent| *sent <= lines.end)?;
                    }
                    (writer.id, writer.record) = (id, OwnRecord(Some(slot)));
                    writers.insert(id, writer);
                }
                KEY => {
                    let id = slot.word(NUMBER);
                    let key: Accepted = from.alone(slot.bytes())?;
                    mailbox.keys.get_or_insert_default().insert(id, key);
                    recorded.keys.insert(id, slot);
                }
                kind @ (QUEUED | DELAYED | GIVEN_UP | REQUEST) => {
                    let position = slot.word(POSITION);
                    let message = recovered(slot, from)?;
                    match kind {
                        QUEUED => queued.push((position, message)),
                        DELAYED => mailbox.delayed.insert(message),
                        REQUEST => {
                            let client = HandleId(position as usize);
                            mailbox.request_bytes += message.len();
                            mailbox.requests.insert(message.id, Request { message, client });
                        }
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
            (mailbox.requests, mailbox.request_bytes) = (BTreeMap::new(), 0);
            writers.clear();
        }
        for (id, writer) in writers {
            mailbox.next_wait = id.0;
            mailbox.writers.push_back(id, writer);
        }
        mailbox.queue = Queue::of_messages(rules.order, queued)?;
        for (number, open) in &opens {
            let end = match &open.state {
                State::Leasing(lease) => lease.deadline,
                State::LeasingMany(leases) => leases.next_end(),
                _ => None,
            };
            mailbox.lease_ends.extend(end.map(|end| (end, HandleId(*number))));
        }
        mailbox.handles = opens.into_iter().collect();
        mailbox.watch();
        mailbox.records = Records(Some(Box::new(recorded)));
        Some((mailbox, polls))
    }

    fn set_figures(&mut self, words: &[u64; FIGURE_WORDS]) -> Option<()> {
        let (times, counters) = words.get(1..)?.split_at_checked(5)?;
        let [sent, sent_nanos, received, received_nanos, dropping] = *times else { return None };
        let time = |seconds: u64, nanos: u64| {
            Some(FileTime { seconds: seconds as i64, nanos: u32::try_from(nanos).ok()? })
        };
        self.last_sent = time(sent, sent_nanos)?;
        self.last_received = time(received, received_nanos)?;
        self.dropping = dropping != 0;
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
