//! Random operations through all doors at once. Invariants: each call is answered once, no message is lost,
//! duplicated, truncated or interleaved, no caller waits without reason, and no memory stays charged.

mod killed;
mod steps;
mod taken_over;

use crate::journal::record::How;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::super::{Message, Order, Purge, State};
use super::*;
use crate::journal::record::Object;
use crate::journal::tests::fake::FakeDisk;
use crate::journal::{Durable, Journal};
use crate::op::FileTime;
use steps::{LONG, MEMORY, Step, steps};

struct Opened {
    id: HandleId,
    door: Door,
    mode: Mode,
    /// The position of a seekable descriptor.
    offset: u64,
    /// Bytes that were read and do not end a piece.
    begun: Vec<u8>,
    /// Pieces that are leased.
    leased: Vec<u64>,
    /// Ids and pieces of messages that are leased by id.
    held: Vec<(u64, Vec<u64>)>,
}

struct World {
    mailbox: Mailbox,
    accounts: Arc<Accounts>,
    memory: Memory,
    fx: Effects,
    now: u64,
    calls: u64,
    answered: BTreeMap<u64, Got>,
    /// By call: its wait, its handle, and whether it reads.
    waits: BTreeMap<u64, (WaitId, usize, bool)>,
    calls_made: BTreeMap<u64, killed::Call>,
    handles: Vec<Option<Opened>>,
    /// Numbers of the pieces sent, and of those that were received for good.
    pieces: u64,
    received: BTreeSet<u64>,
    armed: BTreeMap<usize, Ready>,
    woken: BTreeSet<usize>,
    elsewhere: Option<Charge>,
    moving: Vec<Message>,
    blocked_by_memory: bool,
    /// The daemon dies when it has decided something, before anybody gets to know.
    dies: bool,
    /// The clock calls before each step.
    on_time: bool,
    /// Where it is kept, if it is.
    store: Option<(Arc<Journal>, FakeDisk)>,
}

impl World {
    fn new() -> World {
        let accounts = Arc::new(Accounts::unshared(MEMORY));
        World {
            mailbox: Mailbox::new(MailboxLimits { msgsize: 30, maxmsg: 3, maxbytes: 60 }, at(1).time()),
            memory: Memory::new(Arc::clone(&accounts)),
            accounts,
            fx: Effects::new(),
            now: 1,
            calls: 0,
            answered: BTreeMap::new(),
            waits: BTreeMap::new(),
            calls_made: BTreeMap::new(),
            handles: Vec::new(),
            pieces: 0,
            received: BTreeSet::new(),
            armed: BTreeMap::new(),
            woken: BTreeSet::new(),
            elsewhere: None,
            moving: Vec::new(),
            blocked_by_memory: false,
            dies: false,
            on_time: false,
            store: None,
        }
    }

    /// Whose mailbox is in a mount with a store.
    fn with_store() -> World {
        let mut world = World::new();
        let disk = FakeDisk::default();
        let journal = Arc::new(Journal::on_fake(&disk).0);
        world.mailbox = world.mailbox.with_store(Ino(20), Some(&journal));
        world.store = Some((journal, disk));
        world.set_rules(Rules { durable: Durable::Fsync, ..Rules::default() });
        world
    }

    fn set_rules(&mut self, rules: Rules) {
        self.call(|mailbox, cx| {
            let (before, after) = (mailbox.rules().durable, rules.durable);
            if before != after && after == Durable::Off {
                mailbox.record_removed(cx);
            }
            mailbox.set_rules(rules, cx);
            mailbox.record_object(cx, object);
            if before != after && before == Durable::Off {
                mailbox.record_all(cx);
            }
        });
    }

    fn call<T>(&mut self, work: impl FnOnce(&mut Mailbox, &mut Context<'_>) -> T) -> T {
        let mut cx = Context { now: at(self.now), memory: &self.memory, fx: &mut self.fx };
        let section = self.mailbox.section();
        let result = work(&mut self.mailbox, &mut cx);
        self.mailbox.record_changes(section, &mut self.fx);
        let effects: Vec<Effect> = self.fx.drain().collect();
        let effects = self.killed_before(effects);
        for effect in effects {
            match effect {
                Effect::Reply(request_id, reply) => self.note(request_id.unique, reply),
                Effect::Deliver(request_id, reply, taken) => {
                    self.note(request_id.unique, reply);
                    self.store.iter().for_each(|(journal, _)| journal.put_taken(taken.clone()));
                }
                Effect::Wake(poll) => drop(self.woken.insert(poll.0 as usize)),
                other => panic!("{other:?}"),
            }
        }
        let dead_letters = self.mailbox.take_outbox();
        if !dead_letters.is_empty() {
            self.handle_dead_letters(dead_letters);
        }
        self.blocked_by_memory |= self.mailbox.blocked_by_memory();
        result
    }

    /// Every other time there is no dead-letter mailbox.
    fn handle_dead_letters(&mut self, dead_letters: Vec<Message>) {
        if self.now.is_multiple_of(2) {
            self.call(|mailbox, cx| mailbox.drop_dead_letters(dead_letters, cx));
        } else {
            let moved: Vec<_> =
                dead_letters.iter().map(|letter| (letter.id, letter.expires().is_some())).collect();
            drop(dead_letters);
            self.call(|mailbox, cx| mailbox.dead_letters_moved(&moved, cx));
            self.call(Mailbox::admit_writers);
        }
    }

    fn note(&mut self, call: u64, reply: Reply) {
        let got = match reply {
            Reply::Message(slice) => Got::Bytes(slice.as_bytes().to_vec()),
            Reply::Data(bytes) => Got::Bytes(bytes),
            Reply::Written(count) => Got::Written(count),
            Reply::Failed(error) => Got::Failed(error),
            other => panic!("{other:?}"),
        };
        let waited = self.waits.remove(&call);
        if let (Got::Bytes(bytes), Some((_, handle, _))) = (&got, waited) {
            self.arrived(handle, bytes);
        }
        assert_eq!(self.answered.insert(call, got), None, "{call} is answered twice");
    }

    /// Bytes were read through a handle.
    fn arrived(&mut self, handle: usize, bytes: &[u8]) {
        let Some(open) = &mut self.handles[handle] else { return };
        open.offset += bytes.len() as u64;
        open.begun.extend_from_slice(bytes);
        if let Door::Json | Door::LeaseJson = open.door {
            let Some(end) = open.begun.iter().rposition(|byte| *byte == b'\n') else { return };
            let lines: Vec<u8> = open.begun.drain(..=end).collect();
            let mut text = Vec::new();
            for line in String::from_utf8(lines).unwrap().lines() {
                let shown: serde_json::Value = serde_json::from_str(line).unwrap();
                let body = shown["body"].as_str().unwrap().as_bytes();
                text.extend_from_slice(body);
                open.held.push((shown["id"].as_u64().unwrap(), pieces(body).0));
            }
            if open.door == Door::LeaseJson {
                return;
            }
            open.held.clear();
            let (found, left) = pieces(&text);
            assert_eq!(left, 0, "{}", String::from_utf8_lossy(&text));
            self.receive_for_good(found);
            return;
        }
        let (found, left) = pieces(&open.begun);
        let keep = open.begun.len() - left;
        open.begun.drain(..keep);
        match open.door {
            Door::Lease => open.leased.extend(found),
            Door::Peek | Door::Serve | Door::Rpc => {}
            _ => self.receive_for_good(found),
        }
    }

    fn receive_for_good(&mut self, found: Vec<u64>) {
        for piece in found {
            assert!(self.received.insert(piece), "piece {piece} is received twice");
        }
    }

    /// An open handle, if there is one.
    fn pick(&self, choice: u8) -> Option<usize> {
        let open: Vec<usize> = (0..self.handles.len()).filter(|at| self.handles[*at].is_some()).collect();
        (!open.is_empty()).then(|| open[usize::from(choice) % open.len()])
    }

    fn perform(&mut self, step: &Step) {
        self.now += 1;
        if self.on_time {
            self.call(Mailbox::tick);
        }
        match step {
            Step::Open(door, mode) => {
                let account = self.accounts.of(1000);
                let id = self.call(|mailbox, _| mailbox.open(door.clone(), *mode, account).0);
                let (door, mode) = (door.clone(), *mode);
                let opened = Opened {
                    id,
                    door,
                    mode,
                    offset: 0,
                    begun: Vec::new(),
                    leased: Vec::new(),
                    held: Vec::new(),
                };
                self.handles.push(Some(opened));
            }
            Step::Close(choice) => {
                let Some(handle) = self.pick(*choice) else { return };
                // The kernel does not release a file through which a call waits.
                if self.waits.values().all(|(_, waits, _)| *waits != handle) {
                    self.close(handle);
                }
            }
            Step::Read { handle, size, nonblock } => self.read(*handle, *size, *nonblock),
            Step::Write { handle, text, nonblock } => {
                let Some(handle) = self.pick(*handle) else { return };
                let mut body = String::new();
                for (length, ends) in text {
                    self.pieces += 1;
                    body += &piece(self.pieces, *length);
                    body += if *ends { "\n" } else { "" };
                }
                self.write(handle, &body, *nonblock);
            }
            Step::Settle(choice, word) => self.settle(*choice, *word),
            Step::Poll(choice) => {
                let Some(handle) = self.pick(*choice) else { return };
                let id = self.handles[handle].as_ref().unwrap().id;
                let told = self.mailbox.poll(id, Some(Poller::new(PollHandle(handle as u64))));
                let section = self.mailbox.section();
                self.mailbox.record_changes(section, &mut self.fx);
                self.armed.insert(handle, told);
                self.blocked_by_memory |= self.mailbox.blocked_by_memory();
            }
            Step::Cancel(choice) => {
                let waits: Vec<WaitId> = self.waits.values().map(|(id, ..)| *id).collect();
                if waits.is_empty() {
                    return;
                }
                let id = waits[usize::from(*choice) % waits.len()];
                assert!(self.call(|mailbox, cx| mailbox.cancel(id, Error::Interrupted, cx)));
            }
            Step::Limits(limits) => self.call(|mailbox, cx| mailbox.set_limits(*limits, cx)),
            Step::Rules(rules) => self.set_rules(*rules),
            Step::Elsewhere(cost) => self.others_take(*cost),
            Step::RemoveMessage(choice) => {
                let Some(id) = self.waiting_message(*choice) else { return };
                assert_eq!(self.call(|mailbox, cx| mailbox.remove_message(id, cx)), Ok(()));
            }
            Step::Purge(what) => {
                let mut purging = self.call(|mailbox, cx| mailbox.begin_purge(what.clone(), cx));
                let before = self.mailbox.counts().removed;
                while self.call(|mailbox, cx| mailbox.purge_some(&mut purging, cx)) {}
                assert_eq!(self.mailbox.counts().removed - before, purging.removed());
            }
            Step::MoveOut(choice) => {
                let Some(id) = self.waiting_message(*choice) else { return };
                let message = self.call(|mailbox, cx| mailbox.extract_message(id, cx)).unwrap();
                assert_eq!(message.id, id);
                self.call(|mailbox, cx| mailbox.moved_out(id, cx));
                self.moving.push(message);
            }
            Step::MoveIn { reset_deliveries } => {
                let Some(message) = self.moving.pop() else { return };
                self.call(|mailbox, cx| mailbox.insert_message(message, How::Moved, *reset_deliveries, cx));
            }
            Step::Tick(time) => {
                self.now += time;
                self.call(Mailbox::tick);
                assert!(self.mailbox.next_deadline().is_none_or(|next| next > at(self.now).moment));
            }
            Step::Remove => {
                self.call(Mailbox::remove);
                while self.call(Mailbox::discard) {}
            }
        }
    }

    fn waiting_message(&self, choice: u8) -> Option<u64> {
        let list = self.mailbox.list(0, 100);
        assert_eq!(list.len() as u64, self.mailbox.counts().depth);
        (!list.is_empty()).then(|| list[usize::from(choice) % list.len()].1)
    }

    fn read(&mut self, choice: u8, size: usize, nonblock: bool) {
        let Some(handle) = self.pick(choice) else { return };
        let open = self.handles[handle].as_ref().unwrap();
        let seekable = open.mode == Mode::Receive
            && matches!(open.door, Door::Plain | Door::Peek | Door::Tag(_) | Door::From(_));
        if seekable && self.waits.values().any(|(_, waits, reads)| *waits == handle && *reads) {
            return;
        }
        self.calls += 1;
        let offset = if seekable { open.offset } else { 0 };
        let (call, id) = (self.calls, open.id);
        let call = Receive {
            request_id: request_id(call),
            handle: id,
            offset,
            size,
            nonblock,
            caller: caller(call),
        };
        self.calls_made.insert(self.calls, killed::Call::Receive(call));
        let wait = self.call(|mailbox, cx| mailbox.receive(call, cx));
        // Dropping dead letters may have ended the wait.
        match (self.answered.get(&self.calls).cloned(), wait) {
            (Some(Got::Bytes(bytes)), _) => self.arrived(handle, &bytes),
            (Some(_), _) => {}
            (None, wait) => drop(self.waits.insert(self.calls, (wait.unwrap(), handle, true))),
        }
        self.told_by_itself(handle, self.calls, true);
    }

    fn write(&mut self, handle: usize, body: &str, nonblock: bool) -> u64 {
        self.calls += 1;
        let unique = self.calls;
        let (handle_id, uid) = (self.handles[handle].as_ref().unwrap().id, (unique % 2) as u32);
        let caller = Caller { uid, ..caller(unique) };
        let (request_id, body) = (request_id(unique), body.as_bytes());
        let made = killed::Call::Send { handle: handle_id, body: body.to_vec(), caller };
        self.calls_made.insert(unique, made);
        let call = Send { request_id, handle: handle_id, body, continues: false, nonblock, caller };
        let wait = self.call(|mailbox, cx| mailbox.send(call, cx));
        if !self.answered.contains_key(&unique) {
            self.waits.insert(unique, (wait.unwrap(), handle, false));
        }
        // This settles what the handle held.
        let open = self.handles[handle].as_mut().unwrap();
        let settles = match (self.answered.get(&unique), &open.door) {
            (Some(Got::Failed(Error::Cancelled | Error::Removed)), door) => *door == Door::Serve,
            (Some(Got::Failed(_)), _) => false,
            (_, door) => matches!(door, Door::Serve | Door::Rpc),
        };
        if settles {
            open.begun.clear();
        }
        self.told_by_itself(handle, unique, false);
        unique
    }

    fn settle(&mut self, choice: u8, word: u8) {
        let Some(handle) = self.pick(choice) else { return };
        let open = self.handles[handle].as_mut().unwrap();
        if open.door == Door::LeaseJson && open.mode.writes() {
            return self.settle_many(handle, word);
        }
        if open.door != Door::Lease || !open.mode.writes() {
            return;
        }
        // What is due is delivered before, and may be what is settled.
        self.call(Mailbox::tick);
        let open = self.handles[handle].as_mut().unwrap();
        let leased = std::mem::take(&mut open.leased);
        open.begun.clear();
        let word = ["ack\n", "nack", "reject", "nack 1ms"][usize::from(word)];
        // The leased message returns within the call, and may be leased again through the same handle.
        let call = self.write(handle, word, false);
        if word == "ack\n" && self.answered[&call] == Got::Written(4) {
            self.receive_for_good(leased);
        }
    }

    /// All that a handle has in hand, or the first of it. Of those that were leased several at a time, some may have timed out.
    fn settle_many(&mut self, handle: usize, word: u8) {
        let held = &mut self.handles[handle].as_mut().unwrap().held;
        let settled: Vec<(u64, Vec<u64>)> =
            held.drain(..if self.now.is_multiple_of(2) { held.len() } else { held.len().min(1) }).collect();
        let ids: Vec<String> = settled.iter().map(|(id, _)| id.to_string()).collect();
        let text = [["ack", "nack", "reject", "nack 1ms"][usize::from(word)], &ids.join(" ")].join(" ");
        let call = self.write(handle, &text, false);
        match &self.answered[&call] {
            Got::Written(_) if word == 0 => {
                for (_, found) in settled {
                    self.receive_for_good(found);
                }
            }
            Got::Failed(Error::NoMessage) if settled.len() > 1 => {
                self.handles[handle].as_mut().unwrap().held.splice(..0, settled);
            }
            Got::Failed(Error::NoMessage | Error::Removed) => {}
            Got::Failed(error) => assert_eq!((*error, settled.len()), (Error::Invalid, 0)),
            _ => {}
        }
    }

    /// A caller that makes a file ready needs no wake-up for it, unless it was told since that it is not ready.
    fn told_by_itself(&mut self, handle: usize, call: u64, reads: bool) {
        let open = self.handles[handle].as_ref().unwrap();
        let ready = self.mailbox.poll(open.id, None);
        let polls_blocked_by_memory = self.answered.get(&call) == Some(&Got::Failed(Error::WouldWait));
        if let Some(told) = self.armed.get_mut(&handle) {
            told.readable |= ready.readable;
            told.writable |= ready.writable;
            if polls_blocked_by_memory && reads {
                told.readable = ready.readable;
            } else if polls_blocked_by_memory {
                told.writable = ready.writable;
            }
        }
    }

    fn close(&mut self, handle: usize) {
        let open = self.handles[handle].take().unwrap();
        self.armed.remove(&handle);
        self.call(|mailbox, cx| mailbox.close(open.id, cx));
    }

    fn others_take(&mut self, cost: u64) {
        self.elsewhere = None;
        self.elsewhere = self.accounts.of(1).charge(Resource::Memory, cost).ok();
        if std::mem::take(&mut self.blocked_by_memory) {
            self.call(Mailbox::admit_writers);
        }
    }

    fn check(&mut self) {
        let counts = self.mailbox.counts();
        let waits = |reads| self.waits.values().filter(|wait| wait.2 == reads).count() as u64;
        assert_eq!(counts.waiting_readers, waits(true));
        assert!(counts.waiting_writers >= waits(false), "and those who have closed");
        if !self.mailbox.is_removed() {
            let gone =
                counts.received + counts.expired + counts.dropped + counts.dead_lettered + counts.removed;
            let here = counts.depth + counts.delayed + counts.leased;
            assert_eq!(counts.sent + counts.moved_in, here + gone + counts.moved_out, "{counts:?}");
        }
        for (_, handle, reads) in self.waits.values() {
            let open = self.handles[*handle].as_ref().unwrap();
            let ready = self.mailbox.poll(open.id, None);
            assert!(!reads || !ready.readable, "a reader waits in vain: {:?} {:?}", open.door, self.mailbox);
        }
        let in_vain = self.mailbox.blocked_by_memory() && self.mailbox.memory_available();
        assert!(counts.waiting_writers == 0 || !in_vain, "a writer waits in vain: {:?}", self.mailbox);
        for woken in std::mem::take(&mut self.woken) {
            self.armed.remove(&woken);
        }
        for (handle, told) in &self.armed {
            let open = self.handles[*handle].as_ref().unwrap();
            let ready = self.mailbox.poll(open.id, None);
            let news = (ready.readable && !told.readable)
                || (ready.writable && !told.writable)
                || (ready.hangup && !told.hangup);
            assert!(!news, "{:?} polls and was not woken: {told:?}, now {ready:?}", open.door);
        }
    }

    /// The daemon dies now: a mailbox that is made from the store is as this one, with what is leased before the rest.
    fn check_store(&self) {
        let Some((journal, disk)) = &self.store else { return };
        journal.write(&mut Vec::new());
        let (other, mut recovered) = Journal::on_fake(&disk.after_kill());
        assert_eq!(other.figures().lost, 0);
        if self.mailbox.durable() == Durable::Off {
            assert!(recovered.is_empty(), "{recovered:?}");
            return;
        }
        let one = recovered.pop().unwrap();
        let mut again = Mailbox::new(self.mailbox.limits(), at(1).time()).with_rules(self.mailbox.rules());
        let accounts = Arc::new(Accounts::unshared(MEMORY));
        let (memory, mut fx) = (Memory::new(Arc::clone(&accounts)), Effects::new());
        let mut cx = Context { now: at(self.now), memory: &memory, fx: &mut fx };
        again.restore(one.counters, one.messages, one.keys, &accounts, &mut cx);
        let mut leased = BTreeMap::new();
        for (_, open) in self.mailbox.handles.iter() {
            let messages: Vec<&Message> = match &open.state {
                State::Leasing(lease) => vec![&lease.message],
                State::LeasingMany(leases) => leases.messages().collect(),
                _ => Vec::new(),
            };
            for message in messages {
                let message = listed(message, 0).pop().unwrap().1;
                leased.insert(message.0, Shown { 4: message.4 + 1, ..message });
            }
        }
        let (mut first, rest): (Vec<_>, Vec<_>) =
            listing(&again).into_iter().partition(|message| leased.contains_key(&message.0));
        first.sort_by_key(|message| message.0);
        assert_eq!(first, leased.into_values().collect::<Vec<_>>());
        assert_eq!(rest, listing(&self.mailbox));
        assert_eq!(delayed(&again), delayed(&self.mailbox));
        let keys = |mailbox: &Mailbox| {
            mailbox.keys().map(|(key, id, at, _)| (id, Tag::clone(key), at)).collect::<Vec<_>>()
        };
        assert_eq!(keys(&again), keys(&self.mailbox));
        let counts = self.mailbox.counts();
        let expected = Counts {
            waiting_readers: 0,
            waiting_writers: 0,
            leased: 0,
            requests: 0,
            serving: 0,
            replied: 0,
            duplicates: 0,
            depth: counts.depth + counts.leased,
            bytes: again.counts().bytes,
            // Requests that were returned count too, and are not kept.
            redelivered: again.counts().redelivered,
            ..counts
        };
        assert_eq!(again.counts(), expected);
    }

    fn finish(mut self) {
        self.armed.clear();
        self.call(|mailbox, cx| mailbox.end_waits(Error::Ending, cx));
        for handle in 0..self.handles.len() {
            if self.handles[handle].is_some() {
                self.close(handle);
            }
            self.check();
        }
        self.others_take(0);
        self.moving.clear();
        assert_eq!(self.answered.len() as u64, self.calls, "every call is answered: {:?}", self.waits);
        self.call(|mailbox, cx| mailbox.set_rules(Rules::default(), cx));
        self.call(|mailbox, cx| {
            mailbox.set_limits(MailboxLimits { msgsize: 100, maxmsg: 1000, maxbytes: 10_000 }, cx);
        });
        let counts = self.mailbox.counts();
        assert_eq!((counts.leased, counts.serving, counts.requests), (0, 0, 0));
        if !self.mailbox.is_removed() {
            self.perform(&Step::Tick(crate::config::ONCE_WINDOW + LONG));
            assert_eq!((self.mailbox.counts().delayed, self.mailbox.keys().count()), (0, 0));
            self.perform(&Step::Open(Door::Stream, Mode::Receive));
            let last = (self.handles.iter().filter(|handle| handle.is_some()).count() - 1) as u8;
            while self.mailbox.counts().depth > 0 {
                self.read(last, 50, true);
                self.check();
            }
            assert_eq!(self.mailbox.counts().waiting_writers, 0, "who has closed came in at last");
            assert_eq!(self.call(Mailbox::remove), 0);
            self.close(self.handles.len() - 1);
        }
        assert_eq!(self.memory.used(), 0, "queued");
        assert_eq!(self.accounts.used(Resource::Waiting), 0, "held for writers");
    }
}

/// Id, body, priority, tag, deliveries, end and sender of a message, and since when it waits.
#[derive(Debug, PartialEq, Eq)]
struct Shown(u64, Vec<u8>, u16, Option<Tag>, u32, Option<Moment>, Caller, Moment);

/// The messages of a run, with their positions.
fn listed(message: &Message, position: u64) -> Vec<(u64, Shown)> {
    let bytes = message.slice();
    let bodies: Vec<Vec<u8>> = match message.run() {
        Some(_) => bytes.as_bytes().split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect(),
        None => vec![bytes.as_bytes().to_vec()],
    };
    let shown = |(n, body)| {
        let (id, tag) = (message.id + n, message.tag().cloned());
        let shown = Shown(
            id,
            body,
            message.priority,
            tag,
            message.deliveries(),
            message.expires(),
            message.sender,
            message.waits_since(),
        );
        (position + n, shown)
    };
    (0..).zip(bodies).map(shown).collect()
}

/// The queued messages in order.
fn listing(mailbox: &Mailbox) -> Vec<Shown> {
    let mut all: Vec<_> =
        mailbox.queue.entries().flat_map(|(position, message)| listed(message, position)).collect();
    let by_priority = mailbox.rules().order == Order::Priority;
    all.sort_by_key(|(position, shown)| (if by_priority { u16::MAX - shown.2 } else { 0 }, *position));
    all.into_iter().map(|(_, shown)| shown).collect()
}

/// The delayed messages, and when they are due.
fn delayed(mailbox: &Mailbox) -> Vec<(Option<Moment>, Shown)> {
    let all = mailbox.delayed.values();
    all.flat_map(|message| listed(message, 0).into_iter().map(|(_, shown)| (message.due(), shown))).collect()
}

pub(super) fn object(ino: Ino) -> Object {
    Object {
        ino,
        parent: Ino(2),
        name: Arc::from(&b"box"[..]),
        folder: false,
        mode: 0o600,
        uid: 1,
        gid: 1,
        atime: FileTime::default(),
        mtime: FileTime::default(),
        ctime: FileTime::default(),
        settings: String::new(),
        dead_letter: None,
        xattrs: Vec::new(),
    }
}

/// A piece contains its number and its length.
fn piece(number: u64, length: usize) -> String {
    format!("<{number}{}>", "abcdefgh".get(..length).unwrap())
}

/// The complete pieces at the beginning of bytes, and the length of the incomplete one that follows.
fn pieces(bytes: &[u8]) -> (Vec<u64>, usize) {
    let mut found = Vec::new();
    let mut rest = bytes;
    loop {
        if let [b'\n', after @ ..] = rest {
            rest = after;
            continue;
        }
        let Some(end) = rest.iter().position(|byte| *byte == b'>') else { break };
        let text = std::str::from_utf8(&rest[..=end]).unwrap();
        let inner = text.strip_prefix('<').and_then(|text| text.strip_suffix('>'));
        let inner = inner.unwrap_or_else(|| panic!("cut or mixed: {text}"));
        let digits = inner.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = inner[..digits].parse().unwrap();
        assert_eq!(text, piece(number, inner.len() - digits));
        found.push(number);
        rest = &rest[end + 1..];
    }
    assert!(rest.is_empty() || rest[0] == b'<', "{}", String::from_utf8_lossy(rest));
    (found, rest.len())
}

proptest! {
    #![proptest_config(config(3000))]

    #[test]
    fn whatever_happens_through_all_doors_nothing_is_lost_and_nobody_waits_in_vain(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.perform(step);
            world.check();
        }
        world.finish();
    }
}

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn wherever_the_daemon_dies_a_durable_mailbox_is_as_it_was(steps in steps()) {
        let mut world = World::with_store();
        for step in &steps {
            world.perform(step);
            world.check();
            world.check_store();
        }
        world.finish();
    }
}
