//! A topic's rules, by plain calls.

use super::*;
use crate::accounts::Accounts;
use crate::config::NO_LIMIT;
use crate::op::{Effect, Effects, Now, PollEvents, PollHandle, RequestId};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Got {
    Bytes(Vec<u8>),
    Written(u32),
    Failed(Error),
}

struct Rig {
    topic: Topic,
    accounts: Arc<Accounts>,
    memory: Memory,
    next: u64,
    answers: BTreeMap<u64, Got>,
    woken: Vec<u64>,
}

impl Rig {
    fn new(backlog: u64, memory: u64) -> Rig {
        let topic = Topic::new(Limits { msgsize: 64, backlog }, FileTime::default());
        let accounts = Arc::new(Accounts::unshared(memory));
        let memory = Memory::new(Arc::clone(&accounts));
        Rig { topic, accounts, memory, next: 0, answers: BTreeMap::new(), woken: Vec::new() }
    }

    fn call<T>(&mut self, work: impl FnOnce(&mut Topic, &mut Context<'_>) -> T) -> T {
        self.next += 1;
        let mut fx = Effects::new();
        let result = work(
            &mut self.topic,
            &mut Context { now: Now::same(self.next), memory: &self.memory, fx: &mut fx },
        );
        for effect in fx.drain() {
            match effect {
                Effect::Reply(request_id, reply) => {
                    let got = match reply {
                        Reply::Message(slice) => Got::Bytes(slice.as_bytes().to_vec()),
                        Reply::Written(count) => Got::Written(count),
                        Reply::Failed(error) => Got::Failed(error),
                        other => panic!("{other:?}"),
                    };
                    assert_eq!(self.answers.insert(request_id.unique, got), None, "answered twice");
                }
                Effect::Wake(handle) => self.woken.push(handle.0),
                other => panic!("{other:?}"),
            }
        }
        let waiting: u64 = self.topic.readers().iter().map(|reader| reader.backlog).sum();
        assert_eq!(self.topic.counts().backlog, waiting);
        result
    }

    fn open(&mut self, mode: Mode) -> HandleId {
        self.topic.open(mode, Caller::default(), self.accounts.of(1000)).0
    }

    fn read_at(
        &mut self,
        handle: HandleId,
        offset: u64,
        size: usize,
        nonblock: bool,
    ) -> (u64, Option<WaitId>) {
        let unique = self.next + 1;
        let request_id = RequestId { unique, reply_path: 0, pid: 0 };
        let call = Receive { request_id, handle, offset, size, nonblock, caller: Caller::default() };
        (unique, self.call(|topic, cx| topic.receive(call, cx)))
    }

    fn read(&mut self, handle: HandleId) -> Got {
        let (unique, _) = self.read_at(handle, 0, 64, true);
        self.answers.remove(&unique).unwrap()
    }

    fn poll(&mut self, handle: HandleId, arm: Option<Poller>) -> Ready {
        self.call(|topic, cx| topic.poll(handle, arm, cx))
    }

    fn send(&mut self, handle: HandleId, body: &str) -> Got {
        let (unique, wait) = self.start_send(handle, body);
        assert_eq!(wait, None, "few readers");
        self.answers.remove(&unique).unwrap()
    }

    fn start_send(&mut self, handle: HandleId, body: &str) -> (u64, Option<WaitId>) {
        let unique = self.next + 1;
        let (request_id, caller) = (RequestId { unique, reply_path: 0, pid: 0 }, Caller::default());
        let body = body.as_bytes();
        let call = Send { request_id, handle, body, continues: false, nonblock: false, caller };
        (unique, self.call(|topic, cx| topic.send(call, cx)))
    }

    /// The job, to its end; the number of steps.
    fn finish(&mut self) -> usize {
        assert!(
            self.call(|topic, _| topic.needs_job()) && !self.call(|topic, _| topic.needs_job()),
            "one job"
        );
        let mut steps = 1;
        while self.call(Topic::advance) {
            steps += 1;
        }
        steps
    }
}

fn bytes(text: &str) -> Got {
    Got::Bytes(text.as_bytes().to_vec())
}

#[test]
fn every_reader_gets_each_message_sent_since_it_opened() {
    let mut rig = Rig::new(NO_LIMIT, 1 << 20);
    let writer = rig.open(Mode::Send);
    assert_eq!(rig.send(writer, "unheard"), Got::Written(7));
    let first = rig.open(Mode::Both);
    assert_eq!(rig.send(writer, "one"), Got::Written(3));
    let second = rig.open(Mode::Both);
    assert_eq!(rig.send(writer, "two"), Got::Written(3));
    for text in ["one", "two"] {
        assert_eq!(rig.read(first), bytes(text));
    }
    assert_eq!(rig.read(second), bytes("two"));
    assert_eq!(rig.read(second), Got::Failed(Error::WouldWait));
    let counts = rig.topic.counts();
    assert_eq!((counts.sent, counts.unheard, counts.received, counts.readers), (3, 1, 3, 2));
    assert_eq!(rig.memory.used(), 0);
}

#[test]
fn a_reader_that_waits_is_served_and_reads_to_the_end_of_file() {
    let mut rig = Rig::new(NO_LIMIT, 1 << 20);
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    let (call, wait) = rig.read_at(reader, 0, 3, false);
    assert!(wait.is_some());
    rig.send(writer, "hello");
    assert_eq!(rig.answers.remove(&call), Some(bytes("hel")));
    let (call, _) = rig.read_at(reader, 3, 9, true);
    assert_eq!(rig.answers.remove(&call), Some(bytes("lo")));
    let (call, _) = rig.read_at(reader, 5, 9, true);
    assert_eq!(rig.answers.remove(&call), Some(bytes("")), "end of file");
    assert!(rig.topic.waits.is_empty());
}

#[test]
fn a_slow_reader_misses_the_oldest_and_nobody_else_does() {
    let mut rig = Rig::new(2, 1 << 20);
    let (writer, slow, quick) = (rig.open(Mode::Send), rig.open(Mode::Both), rig.open(Mode::Both));
    for text in ["1", "2", "3", "4"] {
        assert_eq!(rig.send(writer, text), Got::Written(1));
        assert_eq!(rig.read(quick), bytes(text));
    }
    assert_eq!(rig.topic.readers().iter().map(|reader| reader.dropped).collect::<Vec<_>>(), [2, 0]);
    assert_eq!([rig.read(slow), rig.read(slow)], [bytes("3"), bytes("4")]);
    assert_eq!(rig.topic.counts().dropped, 2);
}

#[test]
fn where_the_mounts_memory_is_full_the_reader_misses_the_message() {
    let mut rig = Rig::new(NO_LIMIT, Memory::cost(3));
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.send(writer, "one");
    rig.send(writer, "two");
    assert_eq!(rig.read(reader), bytes("two"));
    let others = rig.accounts.of(1).charge(Resource::Memory, 1).unwrap();
    assert_eq!(rig.send(writer, "three"), Got::Written(5));
    assert_eq!(rig.read(reader), Got::Failed(Error::WouldWait));
    drop(others);
    rig.send(writer, "4");
    rig.call(|topic, cx| topic.close(reader, cx));
    assert_eq!(rig.memory.used(), 0);
    assert_eq!(rig.topic.counts().dropped, 2);
}

#[test]
fn a_wait_is_interrupted_and_a_removal_ends_all() {
    let mut rig = Rig::new(NO_LIMIT, 1 << 20);
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    let (call, wait) = rig.read_at(reader, 0, 9, false);
    assert!(rig.call(|topic, cx| topic.cancel(wait.unwrap(), Error::Interrupted, cx)));
    assert_eq!(rig.answers.remove(&call), Some(Got::Failed(Error::Interrupted)));
    assert!(!rig.call(|topic, cx| topic.cancel(wait.unwrap(), Error::Interrupted, cx)), "answered already");
    let late = rig.open(Mode::Both);
    let (call, _) = rig.read_at(late, 0, 9, false);
    rig.send(writer, "x");
    assert_eq!(rig.answers.remove(&call), Some(bytes("x")));
    let (call, _) = rig.read_at(late, 0, 9, false);
    rig.call(Topic::remove);
    assert_eq!(rig.answers.remove(&call), Some(Got::Failed(Error::Removed)));
    assert_eq!(rig.read(reader), bytes("x"), "what was sent before can be read");
    assert_eq!(rig.read(reader), Got::Failed(Error::Removed));
    assert_eq!(rig.send(writer, "y"), Got::Failed(Error::Removed));
}

#[test]
fn pollers_are_woken() {
    let mut rig = Rig::new(NO_LIMIT, 1 << 20);
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    assert!(!rig.poll(reader, Some(Poller::new(PollHandle(5)))).readable);
    assert!(rig.poll(writer, None).writable);
    rig.send(writer, "x");
    assert_eq!(rig.woken, [5]);
    assert!(rig.poll(reader, None).readable);
    let both = rig.open(Mode::Both);
    let events = PollEvents { input: false, output: true };
    rig.poll(both, Some(Poller { handle: PollHandle(6), events }));
    rig.send(writer, "y");
    assert_eq!(rig.woken, [5], "only a removal is news for who polls to write");
    assert_eq!(rig.send(writer, &"x".repeat(65)), Got::Failed(Error::TooLong));
}

/// 1,000 readers: some wait, some poll, some do neither, and one in the middle of them closes.
fn crowd(rig: &mut Rig) -> (Vec<HandleId>, Vec<u64>) {
    let readers: Vec<HandleId> = (0..1000).map(|_| rig.open(Mode::Both)).collect();
    let calls = readers.iter().step_by(3).map(|reader| rig.read_at(*reader, 0, 9, false).0).collect();
    for reader in readers.iter().skip(1).step_by(3) {
        rig.poll(*reader, Some(Poller::new(PollHandle(reader.0 as u64))));
    }
    (readers, calls)
}

#[test]
fn many_readers_are_served_in_steps_and_none_sees_it() {
    let mut rig = Rig::new(NO_LIMIT, 1 << 20);
    let writer = rig.open(Mode::Send);
    let (readers, calls) = crowd(&mut rig);
    let (first, wait) = rig.start_send(writer, "one");
    assert!(wait.is_some() && !rig.answers.contains_key(&first), "it waits for the rest");
    let (second, _) = rig.start_send(writer, "two");
    let late = rig.open(Mode::Both);
    assert!(rig.poll(readers[998], None).readable, "its turn has not come");
    assert_eq!([rig.read(readers[998]), rig.read(readers[998])], [bytes("one"), bytes("two")]);
    assert_eq!(rig.read(readers[998]), Got::Failed(Error::WouldWait));
    // One whose turn has not come closes, and another takes its place in the table.
    rig.call(|topic, cx| topic.close(readers[997], cx));
    let later = rig.open(Mode::Both);
    assert_eq!(rig.read(later), Got::Failed(Error::WouldWait));
    assert!(rig.finish() > 5);
    assert_eq!(
        (rig.answers.remove(&first), rig.answers.remove(&second)),
        (Some(Got::Written(3)), Some(Got::Written(3)))
    );
    for call in calls {
        assert_eq!(rig.answers.remove(&call), Some(bytes("one")));
    }
    rig.woken.sort_unstable();
    let polled = readers.iter().skip(1).step_by(3).map(|reader| reader.0 as u64);
    assert_eq!(rig.woken, polled.filter(|number| *number != readers[997].0 as u64).collect::<Vec<_>>());
    for (n, reader) in readers.iter().enumerate().filter(|(n, _)| ![997, 998].contains(n)) {
        let expected: &[&str] = if n % 3 == 0 { &["two"] } else { &["one", "two"] };
        for text in expected {
            assert_eq!(rig.read(*reader), bytes(text), "reader {n}");
        }
        assert_eq!(rig.read(*reader), Got::Failed(Error::WouldWait));
    }
    assert_eq!(
        [rig.read(late), rig.read(later)],
        [Got::Failed(Error::WouldWait), Got::Failed(Error::WouldWait)]
    );
    assert_eq!((rig.topic.counts().dropped, rig.memory.used()), (0, 0));
}

#[test]
fn a_sender_who_is_interrupted_has_sent() {
    let mut rig = Rig::new(NO_LIMIT, 1 << 20);
    let writer = rig.open(Mode::Send);
    let (readers, _) = crowd(&mut rig);
    let (call, wait) = rig.start_send(writer, "one");
    assert!(rig.call(|topic, cx| topic.cancel(wait.unwrap(), Error::Interrupted, cx)));
    assert_eq!(rig.answers.remove(&call), Some(Got::Written(3)));
    rig.finish();
    assert!(!rig.call(|topic, cx| topic.cancel(wait.unwrap(), Error::Interrupted, cx)), "answered already");
    assert_eq!(rig.read(readers[998]), bytes("one"));
}

#[test]
fn a_removal_ends_many_waits_in_steps_after_what_was_sent_before_is_received() {
    let mut rig = Rig::new(NO_LIMIT, 1 << 20);
    let writer = rig.open(Mode::Send);
    let (readers, calls) = crowd(&mut rig);
    let (call, _) = rig.start_send(writer, "one");
    rig.call(Topic::remove);
    assert_eq!(rig.start_send(writer, "two").1, None);
    assert!(rig.finish() > 5);
    assert_eq!(rig.answers.remove(&call), Some(Got::Written(3)));
    for call in calls {
        assert_eq!(rig.answers.remove(&call), Some(bytes("one")));
    }
    let mut rig = Rig::new(NO_LIMIT, 1 << 20);
    let (_, calls) = crowd(&mut rig);
    rig.call(Topic::remove);
    assert!(rig.finish() > 3);
    for call in calls {
        assert_eq!(rig.answers.remove(&call), Some(Got::Failed(Error::Removed)));
    }
    drop(readers);
}
