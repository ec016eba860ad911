//! A shared mailbox's rules, by plain calls.

use super::*;
use crate::accounts::{Accounts, Resource};
use crate::config::{MailboxLimits, NO_LIMIT};
use crate::mailbox::{Send, WhenFull};
use crate::op::{Caller, Effects, Now};

struct Rig {
    remote: Remote,
    accounts: Arc<Accounts>,
    memory: Memory,
    next: u64,
}

impl Rig {
    fn new() -> Rig {
        let described = Described {
            folder: false,
            uid: 0,
            gid: 0,
            mode: 0o600,
            limits: MailboxLimits::default(),
            full: WhenFull::Wait,
            ttl: NO_LIMIT,
            lease_time: NO_LIMIT,
            max_deliver: NO_LIMIT,
            dead_letter: None,
        };
        let accounts = Arc::new(Accounts::unshared(1 << 20));
        let memory = Memory::new(Arc::clone(&accounts));
        let remote = Remote::new(Ino(20), Path::from(&b"jobs"[..]), described, true, Now::same(0));
        Rig { remote, accounts, memory, next: 0 }
    }

    fn call<T>(&mut self, work: impl FnOnce(&mut Remote, &mut Context<'_>) -> T) -> (T, Vec<Effect>) {
        let mut fx = Effects::new();
        let result =
            work(&mut self.remote, &mut Context { now: Now::same(1), memory: &self.memory, fx: &mut fx });
        (result, fx.drain().collect())
    }

    fn open(&mut self, mode: Mode, lease: bool) -> HandleId {
        let door = if lease { Door::Lease } else { Door::Plain };
        self.remote.open(mode, &door, self.accounts.of(1000)).0
    }

    fn read(&mut self, handle: HandleId) -> (Option<WaitId>, Vec<Effect>) {
        self.next += 1;
        let request_id = RequestId { unique: self.next, reply_path: 0, pid: 0 };
        let call =
            Receive { request_id, handle, offset: 0, size: 64, nonblock: false, caller: Caller::default() };
        self.call(|remote, cx| remote.receive(call, cx))
    }

    fn arrive(&mut self, pull: u64, delivery: u64) -> Vec<Effect> {
        let message = Message { delivery: DeliveryId(delivery), body: Arc::from(&b"job"[..]), waiting: 0 };
        self.call(|remote, cx| remote.arrived(pull, message, cx)).1
    }
}

fn pull_of(effects: &[Effect]) -> u64 {
    let mut pulls = effects.iter().filter_map(|effect| match effect {
        Effect::Engine(command) => match **command {
            Command::Pull { pull, .. } => Some(pull),
            _ => None,
        },
        _ => None,
    });
    pulls.next_back().unwrap()
}

#[test]
fn a_message_goes_to_the_reader_that_waits_and_is_acknowledged_with_its_answer() {
    let mut rig = Rig::new();
    let reader = rig.open(Mode::Receive, false);
    let (wait, effects) = rig.read(reader);
    assert!(wait.is_some());
    let effects = rig.arrive(pull_of(&effects), 7);
    let [Effect::Deliver(_, Reply::Message(_), taken)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(taken, &[Taken::Delivery(DeliveryId(7))]);
}

#[test]
fn a_message_whose_reader_has_left_goes_back_at_once() {
    let mut rig = Rig::new();
    let reader = rig.open(Mode::Receive, false);
    let (wait, effects) = rig.read(reader);
    let pull = pull_of(&effects);
    rig.call(|remote, cx| remote.cancel(wait.unwrap(), Error::Interrupted, cx));
    let back = Command::Settle(DeliveryId(7), Settle::Nack, None);
    assert_eq!(rig.arrive(pull, 7), [Effect::Engine(Box::new(back))]);
}

#[test]
fn a_message_whose_reader_has_left_goes_to_the_next_reader_here() {
    let mut rig = Rig::new();
    let reader = rig.open(Mode::Receive, false);
    let (wait, effects) = rig.read(reader);
    let pull = pull_of(&effects);
    rig.call(|remote, cx| remote.cancel(wait.unwrap(), Error::Interrupted, cx));
    let other = rig.open(Mode::Receive, false);
    rig.read(other);
    assert!(matches!(rig.arrive(pull, 7)[0], Effect::Deliver(..)));
}

#[test]
fn a_lease_goes_back_when_its_file_is_closed() {
    let mut rig = Rig::new();
    let worker = rig.open(Mode::Both, true);
    let (_, effects) = rig.read(worker);
    rig.arrive(pull_of(&effects), 7);
    let ((), effects) = rig.call(|remote, cx| remote.close(worker, cx));
    let back = Command::Settle(DeliveryId(7), Settle::Nack, None);
    assert_eq!(effects, [Effect::Engine(Box::new(back))]);
}

#[test]
fn one_who_polls_is_answered_whoever_gets_what_was_found_for_it() {
    let mut rig = Rig::new();
    let (reader, polls) = (rig.open(Mode::Receive, false), rig.open(Mode::Receive, false));
    let request = RequestId { unique: 100, reply_path: 0, pid: 0 };
    let (ready, effects) = rig.call(|remote, cx| remote.poll(polls, request, None, cx));
    assert!(ready.is_err());
    // A reader comes while it is looked for a message, and gets it.
    rig.read(reader);
    let effects = rig.arrive(pull_of(&effects), 7);
    assert!(matches!(effects[0], Effect::Deliver(..)));
    let not_ready = Reply::Ready(Ready { readable: false, writable: false, hangup: false });
    assert!(effects.contains(&Effect::Reply(request, not_ready)), "{effects:?}");
}

#[test]
fn a_look_for_one_call_ends_no_pull_of_another() {
    let mut rig = Rig::new();
    let (reader, polls) = (rig.open(Mode::Receive, false), rig.open(Mode::Receive, false));
    rig.read(reader);
    let request = RequestId { unique: 100, reply_path: 0, pid: 0 };
    rig.call(|remote, cx| remote.poll(polls, request, None, cx)).0.unwrap_err();
    let ((), effects) = rig.call(|remote, cx| remote.connection(false, cx));
    let ends = |effect: &Effect| matches!(effect, Effect::Engine(command) if matches!(**command, Command::EndPull(..)));
    assert!(!effects.iter().any(ends), "{effects:?}");
}

impl Rig {
    fn write(&mut self, handle: HandleId, body: &[u8]) -> (Option<WaitId>, Vec<Effect>) {
        self.next += 1;
        let request_id = RequestId { unique: self.next, reply_path: 0, pid: 0 };
        let call = Send {
            request_id,
            handle,
            body,
            continues: false,
            nonblock: false,
            caller: Caller { pid: 7, ..Caller::default() },
        };
        self.call(|remote, cx| remote.send(call, cx))
    }

    fn lines(&mut self) -> HandleId {
        self.remote.open(Mode::Both, &Door::Stream, self.accounts.of(1000)).0
    }

    fn publish(&mut self, wait: Option<WaitId>, sent: usize, result: Result<(), Error>) -> Vec<Effect> {
        self.call(|remote, cx| remote.published(wait.unwrap().0, sent, result, cx)).1
    }
}

/// What the engine is to send.
fn sent(effects: &[Effect]) -> Vec<String> {
    let texts = effects.iter().filter_map(|effect| match effect {
        Effect::Engine(command) => match &**command {
            Command::Publish(publish) => Some(&publish.bodies),
            _ => None,
        },
        _ => None,
    });
    texts.flatten().map(|body| String::from_utf8(body.as_bytes().to_vec()).unwrap()).collect()
}

fn answer(effects: &[Effect]) -> Reply {
    let mut replies = effects.iter().filter_map(|effect| match effect {
        Effect::Reply(_, reply) => Some(reply.clone()),
        _ => None,
    });
    replies.next_back().unwrap()
}

#[test]
fn each_line_of_a_write_is_a_message_and_what_follows_is_the_next_line() {
    let mut rig = Rig::new();
    let lines = rig.lines();
    let (wait, effects) = rig.write(lines, b"one");
    assert!(wait.is_none() && sent(&effects).is_empty());
    assert_eq!(answer(&effects), Reply::Written(3));
    let (wait, effects) = rig.write(lines, b" line\ntwo\nthr");
    assert_eq!(sent(&effects), ["one line\n", "two\n"]);
    assert_eq!(answer(&rig.publish(wait, 2, Ok(()))), Reply::Written(13));
    let ((), effects) = rig.call(|remote, cx| remote.close(lines, cx));
    assert_eq!(sent(&effects), ["thr"]);
    rig.publish(Some(WaitId(rig.remote.next)), 1, Ok(()));
    assert_eq!(rig.remote.counts().sent, 3);
    assert_eq!(rig.accounts.used(Resource::Waiting), 0);
}

#[test]
fn a_write_of_lines_says_how_many_bytes_of_it_were_sent() {
    let mut rig = Rig::new();
    let lines = rig.lines();
    rig.write(lines, b"begin");
    let (wait, _) = rig.write(lines, b"ning\nsecond\nthird\nrest");
    assert_eq!(answer(&rig.publish(wait, 2, Err(Error::Interrupted))), Reply::Written(12));
    // Whoever writes the rest again sends each line once.
    let (wait, effects) = rig.write(lines, b"third\nrest");
    assert_eq!(sent(&effects), ["third\n"]);
    // None was sent: what was written before is still the beginning of the line.
    assert_eq!(answer(&rig.publish(wait, 0, Err(Error::NoSpace))), Reply::Failed(Error::NoSpace));
    rig.write(lines, b"fif");
    let (wait, _) = rig.write(lines, b"th\n");
    assert_eq!(answer(&rig.publish(wait, 0, Err(Error::Interrupted))), Reply::Failed(Error::Interrupted));
    let (_, effects) = rig.write(lines, b"teen\n");
    assert_eq!(sent(&effects), ["fifteen\n"]);
}

#[test]
fn a_line_that_is_too_long_ends_what_is_taken() {
    let mut rig = Rig::new();
    let described = rig.remote.described().clone();
    let limits = MailboxLimits { msgsize: 8, ..described.limits };
    rig.remote.describe(Described { limits, ..described });
    let lines = rig.lines();
    let (wait, effects) = rig.write(lines, b"short\nfar too long\nshort\n");
    assert_eq!(sent(&effects), ["short\n"]);
    assert_eq!(answer(&rig.publish(wait, 1, Ok(()))), Reply::Written(6));
    for text in [&b"far too long\nshort\n"[..], b"short\n"] {
        assert_eq!(answer(&rig.write(lines, text).1), Reply::Failed(Error::TooLong));
    }
    let ((), effects) = rig.call(|remote, cx| remote.close(lines, cx));
    assert!(sent(&effects).is_empty());
    assert_eq!(rig.accounts.used(Resource::Waiting), 0);
}

#[test]
fn many_short_lines_are_charged_for_what_they_take() {
    let mut rig = Rig::new();
    let lines = rig.lines();
    // The bytes alone would have room.
    let (_, effects) = rig.write(lines, &vec![b'\n'; 100_000]);
    assert_eq!(answer(&effects), Reply::Failed(Error::NoMemory));
    let used = |rig: &Rig| rig.accounts.used(Resource::Memory) + rig.accounts.used(Resource::Waiting);
    let (wait, effects) = rig.write(lines, &[b'\n'; 1000]);
    assert_eq!(sent(&effects).len(), 1000);
    assert!(used(&rig) > 30_000);
    assert_eq!(answer(&rig.publish(wait, 1000, Ok(()))), Reply::Written(1000));
    rig.call(|remote, cx| remote.close(lines, cx));
    assert_eq!(used(&rig), 0);
}
