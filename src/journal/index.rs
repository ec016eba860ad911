//! What the records say so far: the mailboxes, their counters, and which messages are where.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::{Counters, How, Message, Object, Record, Rounds, Why};
use crate::op::{Ino, Timestamp};

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// Number of the file.
    pub(super) file: u64,
    pub(super) offset: u64,
    /// Bytes of its frame.
    pub(super) length: u32,
}

/// What is in use of a file, of a mailbox or folder.
#[derive(Debug)]
pub(super) enum Survivor {
    Object,
    /// Messages, with the id of the first.
    Message(u64),
    /// A key, with the id of its message.
    Key(u64),
}

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) kept: BTreeMap<Ino, Kept>,
    /// What is in use of each file. One of which nothing is can go.
    in_use: BTreeMap<u64, Use>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Use {
    /// Messages, mailboxes and folders.
    count: u64,
    bytes: u64,
}

/// Bytes that the record of a key takes beside it.
const KEY_RECORD: u64 = 32;

/// A mailbox or a folder.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// `None`: its record comes later, because an earlier one was in a file that is gone.
    pub(super) object: Option<(Arc<Object>, Place)>,
    pub(super) counters: Counters,
    /// The file in which the counters were last written, and what they were.
    counted: (u64, Counters),
    /// By the id of the first.
    pub(super) messages: BTreeMap<u64, Entry>,
    /// With which messages were accepted, by their ids.
    pub(super) keys: BTreeMap<u64, KeptKey>,
}

/// A key with which a message was accepted.
#[derive(Debug, Clone)]
pub(super) struct KeptKey {
    pub(super) key: Arc<[u8]>,
    pub(super) at: Timestamp,
    pub(super) uid: u32,
    pub(super) place: Place,
}

/// One message, or lines with consecutive ids that stand in one record.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) count: u64,
    pub(super) place: Place,
    /// Bytes of the file that each message is accounted for.
    share: u64,
    /// Lines of the record before the first of these.
    pub(super) skip: u64,
    pub(super) position: u64,
    pub(super) deliveries: u32,
    pub(super) leased: bool,
    /// Before when it cannot be received, or since when it can be again.
    due: Option<Timestamp>,
    since: Option<Timestamp>,
    /// The record itself, while the journal is read.
    pub(super) record: Option<Arc<Message>>,
}

impl Entry {
    /// What it is in the record that was written for it, with what has changed since.
    pub(super) fn message(&self, record: &Message) -> Option<Message> {
        let part = Message { key: None, ..record.part(self.skip, self.count)? };
        let Entry { position, deliveries, due, since, .. } = *self;
        // Whoever gave it back had it in hand.
        let rounds = Rounds { idle: part.rounds.idle && part.deliveries == deliveries, ..part.rounds };
        Some(Message { position, deliveries, due, since, rounds, how: How::Kept, ..part })
    }

    /// The messages from number `from` to `to`.
    fn part(&self, from: u64, to: u64) -> Entry {
        let (skip, position) = (self.skip + from, self.position + from);
        Entry { count: to - from, skip, position, ..self.clone() }
    }
}

impl Index {
    /// Takes a record in. With `read`, messages are kept themselves.
    pub(super) fn apply(&mut self, record: &Record, place: Place, read: bool) {
        match record {
            Record::Object(object) => {
                let kept = self.kept.entry(object.ino).or_default();
                if let Some((_, old)) = kept.object.replace((Arc::clone(object), place)) {
                    self.unuse(old.file, 1, u64::from(old.length));
                }
                self.note_use(place.file, 1, u64::from(place.length));
            }
            Record::Removed(ino) => {
                let Some(kept) = self.kept.remove(ino) else { return };
                if let Some((_, place)) = kept.object {
                    self.unuse(place.file, 1, u64::from(place.length));
                }
                for entry in kept.messages.values() {
                    self.unuse(entry.place.file, entry.count, entry.share * entry.count);
                }
                for KeptKey { key, place, .. } in kept.keys.values() {
                    self.unuse(place.file, 1, share_of(key));
                }
            }
            Record::Message(message) => {
                let count = message.count();
                // A record that is written again replaces the earlier one.
                self.take(message.mailbox, message.id, count);
                let entry = Entry {
                    count,
                    place,
                    share: u64::from(place.length) / count,
                    skip: 0,
                    position: message.position,
                    deliveries: message.deliveries,
                    leased: false,
                    due: message.due,
                    since: message.since,
                    record: read.then(|| Arc::clone(message)),
                };
                self.insert(message.mailbox, message.id, entry);
                if let Some(key) = &message.key {
                    let (key, at, uid) = (Arc::clone(key), message.sent, message.sender.uid);
                    self.note_key(message.mailbox, message.id, KeptKey { key, at, uid, place });
                }
                self.counters(message.mailbox).count_in(message.how, count);
                if let How::MovedFrom(source, why) = message.how
                    && source != message.mailbox
                {
                    self.gone(source, (message.id, count), why);
                }
            }
            Record::Gone { mailbox, first, count, why } => {
                self.gone(*mailbox, (*first, *count), *why);
            }
            Record::Leased { mailbox, id } => {
                for (id, entry) in self.take(*mailbox, *id, 1) {
                    self.insert(*mailbox, id, Entry { leased: true, ..entry });
                }
            }
            Record::Returned { mailbox, id, position, deliveries } => {
                for (id, entry) in self.take(*mailbox, *id, 1) {
                    let (position, deliveries) = (*position, *deliveries);
                    if entry.due.is_none() {
                        self.count_redelivered(*mailbox);
                    }
                    let (leased, due, since) = (false, None, entry.due.or(entry.since));
                    self.insert(*mailbox, id, Entry { position, deliveries, leased, due, since, ..entry });
                }
            }
            Record::Delayed { mailbox, id, due, deliveries } => {
                for (id, entry) in self.take(*mailbox, *id, 1) {
                    self.count_redelivered(*mailbox);
                    let (leased, due, since, deliveries) = (false, Some(*due), None, *deliveries);
                    self.insert(*mailbox, id, Entry { deliveries, leased, due, since, ..entry });
                }
            }
            Record::Key { mailbox, id, key, at, uid } => {
                let key = KeptKey { key: Arc::clone(key), at: *at, uid: *uid, place };
                self.note_key(*mailbox, *id, key);
            }
            Record::Forgotten { mailbox, until } => {
                let keys = self.kept.get_mut(mailbox).map(|kept| &mut kept.keys);
                let Some(keys) = keys else { return };
                let later = keys.split_off(&until.saturating_add(1));
                for KeptKey { key, place, .. } in std::mem::replace(keys, later).into_values() {
                    self.unuse(place.file, 1, share_of(&key));
                }
            }
            Record::Counters(mailbox, counters) => {
                let kept = self.kept.entry(*mailbox).or_default();
                (kept.counters, kept.counted) = (*counters, (place.file, *counters));
            }
            Record::Begin | Record::Synced(_) | Record::Torn { .. } => {}
        }
    }

    /// Bytes in use, all files together.
    pub(super) fn live(&self) -> u64 {
        self.in_use.values().map(|used| used.bytes).sum()
    }

    /// Whether anything in a file is in use.
    pub(super) fn uses(&self, file: u64) -> bool {
        self.in_use.contains_key(&file)
    }

    /// What cannot be counted any more without a file that is about to go. A message that is gone counts only where it is known
    /// to have been there.
    pub(super) fn counters_in(&self, file: u64) -> Vec<Record> {
        let changed = |kept: &Kept| {
            let (counted_in, counted) = kept.counted;
            counted != kept.counters || counted_in <= file && counted != Counters::default()
        };
        self.kept
            .iter()
            .filter(|(_, kept)| changed(kept))
            .map(|(ino, kept)| Record::Counters(*ino, kept.counters))
            .collect()
    }

    /// What is in use of a file.
    pub(super) fn survivors_of(&self, file: u64) -> Vec<(Ino, Survivor)> {
        let mut all = Vec::new();
        for (ino, kept) in &self.kept {
            if kept.object.as_ref().is_some_and(|(_, place)| place.file == file) {
                all.push((*ino, Survivor::Object));
            }
            let messages = kept.messages.iter().filter(|(_, entry)| entry.place.file == file);
            all.extend(messages.map(|(id, _)| (*ino, Survivor::Message(*id))));
            let keys = kept.keys.iter().filter(|(_, key)| key.place.file == file);
            all.extend(keys.map(|(id, _)| (*ino, Survivor::Key(*id))));
        }
        all
    }

    /// Number of messages.
    pub(super) fn messages(&self) -> u64 {
        self.kept.values().flat_map(|kept| kept.messages.values()).map(|entry| entry.count).sum()
    }

    /// Mailboxes whose own record is missing.
    pub(super) fn strays(&self) -> Vec<Ino> {
        self.kept.iter().filter(|(_, kept)| kept.object.is_none()).map(|(ino, _)| *ino).collect()
    }

    fn note_key(&mut self, mailbox: Ino, id: u64, key: KeptKey) {
        let (file, share) = (key.place.file, share_of(&key.key));
        if let Some(old) = self.kept.entry(mailbox).or_default().keys.insert(id, key) {
            self.unuse(old.place.file, 1, share_of(&old.key));
        }
        self.note_use(file, 1, share);
    }

    fn counters(&mut self, mailbox: Ino) -> &mut Counters {
        &mut self.kept.entry(mailbox).or_default().counters
    }

    fn count_redelivered(&mut self, mailbox: Ino) {
        let redelivered = &mut self.counters(mailbox).redelivered;
        *redelivered = redelivered.saturating_add(1);
    }

    fn note_use(&mut self, file: u64, count: u64, bytes: u64) {
        let used = self.in_use.entry(file).or_default();
        (used.count, used.bytes) = (used.count + count, used.bytes + bytes);
    }

    fn unuse(&mut self, file: u64, count: u64, bytes: u64) {
        let Some(used) = self.in_use.get_mut(&file) else { return };
        (used.count, used.bytes) = (used.count.saturating_sub(count), used.bytes.saturating_sub(bytes));
        if used.count == 0 {
            self.in_use.remove(&file);
        }
    }

    fn insert(&mut self, mailbox: Ino, id: u64, entry: Entry) {
        self.note_use(entry.place.file, entry.count, entry.share * entry.count);
        self.kept.entry(mailbox).or_default().messages.insert(id, entry);
    }

    /// Messages with these ids are gone. Those of which that is known already do not count again.
    fn gone(&mut self, mailbox: Ino, (first, count): (u64, u64), why: Why) {
        let taken = self.take(mailbox, first, count);
        let count = taken.iter().map(|(_, entry)| entry.count).sum();
        if count > 0 {
            self.counters(mailbox).count_out(why, count);
        }
    }

    /// Takes out the messages with these ids, as far as they are there.
    fn take(&mut self, mailbox: Ino, first: u64, count: u64) -> Vec<(u64, Entry)> {
        let mut taken = Vec::new();
        let Some(kept) = self.kept.get_mut(&mailbox) else { return taken };
        let end = first.saturating_add(count);
        while let Some((&start, entry)) = kept.messages.range(..end).next_back() {
            let stop = start + entry.count;
            if stop <= first {
                break;
            }
            let Some(entry) = kept.messages.remove(&start) else { break };
            if start < first {
                kept.messages.insert(start, entry.part(0, first - start));
            }
            if end < stop {
                kept.messages.insert(end, entry.part(end - start, stop - start));
            }
            let from = start.max(first);
            taken.push((from, entry.part(from - start, stop.min(end) - start)));
        }
        for (_, entry) in &taken {
            self.unuse(entry.place.file, entry.count, entry.share * entry.count);
        }
        taken
    }
}

/// Bytes of the file that a key is accounted for.
fn share_of(key: &[u8]) -> u64 {
    key.len() as u64 + KEY_RECORD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Caller, Slice, Timestamp};

    const BOX: Ino = Ino(20);

    fn message(id: u64, lines: u64, body: &[u8]) -> Record {
        Record::Message(Arc::new(Message {
            mailbox: BOX,
            id,
            position: 100 + id,
            how: How::Sent,
            sent: Timestamp(1),
            sender: Caller { uid: 1, gid: 1, pid: 1 },
            priority: 0,
            tag: None,
            expires: None,
            key: None,
            due: None,
            since: None,
            reason: None,
            rounds: Rounds::default(),
            deliveries: 0,
            lines,
            body: Slice::whole(body),
        }))
    }

    fn at(file: u64) -> Place {
        Place { file, offset: 64, length: 120 }
    }

    fn bodies(index: &Index) -> Vec<(u64, u64, Vec<u8>)> {
        let entries = index.kept[&BOX].messages.values();
        let part = |entry: &Entry| entry.message(entry.record.as_ref().unwrap()).unwrap();
        entries.map(part).map(|part| (part.id, part.position, part.body.as_bytes().to_vec())).collect()
    }

    #[test]
    fn lines_go_one_by_one_from_anywhere() {
        let mut index = Index::default();
        index.apply(
            &message(
                1,
                4,
                b"a
b
c
d
",
            ),
            at(3),
            true,
        );
        let gone = |first, count| Record::Gone { mailbox: BOX, first, count, why: Why::Received };
        index.apply(&gone(2, 1), at(4), true);
        assert_eq!(
            bodies(&index),
            [
                (
                    1,
                    101,
                    b"a
"
                    .to_vec()
                ),
                (
                    3,
                    103,
                    b"c
d
"
                    .to_vec()
                )
            ]
        );
        index.apply(&gone(1, 3), at(4), true);
        assert_eq!(
            bodies(&index),
            [(
                4,
                104,
                b"d
"
                .to_vec()
            )]
        );
        assert!(index.uses(3) && !index.uses(4));
        index.apply(&gone(4, 1), at(4), true);
        assert!(!index.uses(3));
        assert_eq!((index.live(), index.kept[&BOX].counters.received), (0, 4));
        index.apply(&gone(4, 1), at(4), true);
        assert_eq!(index.kept[&BOX].counters.received, 4, "twice is once");
    }

    #[test]
    fn a_returned_message_has_its_new_place_wherever_its_record_goes() {
        let mut index = Index::default();
        index.apply(
            &message(
                1, 3, b"a
b
c
",
            ),
            at(1),
            true,
        );
        index.apply(&Record::Leased { mailbox: BOX, id: 2 }, at(1), true);
        assert!(index.kept[&BOX].messages[&2].leased);
        index.apply(&Record::Returned { mailbox: BOX, id: 2, position: 50, deliveries: 1 }, at(1), true);
        assert_eq!(
            bodies(&index),
            [
                (
                    1,
                    101,
                    b"a
"
                    .to_vec()
                ),
                (
                    2,
                    50,
                    b"b
"
                    .to_vec()
                ),
                (
                    3,
                    103,
                    b"c
"
                    .to_vec()
                )
            ]
        );
        let entry = index.kept[&BOX].messages[&2].clone();
        assert_eq!((entry.leased, entry.deliveries), (false, 1));
        let again = Record::Message(Arc::new(entry.message(entry.record.as_ref().unwrap()).unwrap()));
        index.apply(&again, at(2), true);
        assert_eq!((bodies(&index)[1].1, index.kept[&BOX].counters.sent), (50, 3));
        index.apply(&Record::Removed(BOX), at(3), true);
        assert!(!index.uses(1) && !index.uses(2));
    }

    #[test]
    fn a_delayed_message_is_due_until_it_is_queued_and_counts_once_as_redelivered() {
        let mut index = Index::default();
        let shown = |index: &Index, id| {
            let entry = index.kept[&BOX].messages[&id].clone();
            let message = entry.message(entry.record.as_ref().unwrap()).unwrap();
            (message.due, message.deliveries, message.position, index.kept[&BOX].counters.redelivered)
        };
        for id in [1, 2] {
            let Record::Message(sent) = message(id, 0, b"x") else { unreachable!() };
            let due = (id == 1).then_some(Timestamp(9));
            index.apply(&Record::Message(Arc::new(Message { due, ..(*sent).clone() })), at(1), true);
        }
        assert_eq!(shown(&index, 1), (Some(Timestamp(9)), 0, 101, 0));
        index.apply(&Record::Returned { mailbox: BOX, id: 1, position: 300, deliveries: 0 }, at(1), true);
        assert_eq!(shown(&index, 1), (None, 0, 300, 0));
        index.apply(&Record::Leased { mailbox: BOX, id: 2 }, at(1), true);
        let due = Timestamp(7);
        index.apply(&Record::Delayed { mailbox: BOX, id: 2, due, deliveries: 1 }, at(1), true);
        assert_eq!(shown(&index, 2), (Some(due), 1, 102, 1));
        assert!(!index.kept[&BOX].messages[&2].leased);
        index.apply(&Record::Returned { mailbox: BOX, id: 2, position: 50, deliveries: 1 }, at(1), true);
        assert_eq!(shown(&index, 2), (None, 1, 50, 1));
        assert_eq!(
            [1, 2].map(|id| index.kept[&BOX].messages[&id].since),
            [9, 7].map(|due| Some(Timestamp(due)))
        );
    }

    /// The record of a mailbox may have been written again behind its messages.
    #[test]
    fn messages_may_come_before_their_mailbox() {
        let mut index = Index::default();
        index.apply(&message(1, 0, b"a"), at(1), true);
        assert_eq!(index.strays(), [BOX]);
        index.apply(&Record::Removed(BOX), at(1), true);
        assert!(index.kept.is_empty() && !index.uses(1));
    }

    #[test]
    fn a_message_that_moves_is_in_one_place_whether_or_not_the_next_record_is_there() {
        const OTHER: Ino = Ino(21);
        let mut index = Index::default();
        index.apply(&message(1, 0, b"moves"), at(3), true);
        index.apply(&message(2, 0, b"stays"), at(3), true);
        let Record::Message(moved) = message(1, 0, b"moves") else { unreachable!() };
        let how = How::MovedFrom(BOX, Why::DeadLetter);
        let moved = Record::Message(Arc::new(Message { mailbox: OTHER, how, ..(*moved).clone() }));
        index.apply(&moved, at(4), true);
        for _ in 0..2 {
            assert_eq!(bodies(&index), [(2, 102, b"stays".to_vec())]);
            let counters = [&index.kept[&BOX], &index.kept[&OTHER]].map(|kept| kept.counters);
            assert_eq!((counters[0].dead_lettered, counters[1].moved_in), (1, 1));
            index.apply(
                &Record::Gone { mailbox: BOX, first: 1, count: 1, why: Why::DeadLetter },
                at(5),
                true,
            );
        }
        assert_eq!(index.messages(), 2);
    }
}
