//! A shared mailbox's rules, by plain calls.

use super::*;
use crate::accounts::{Accounts, Resource};
use crate::config::{MailboxLimits, NO_LIMIT};
use crate::engine::{Answer, Ask, Asked, Message, Sent, Wanted};
use crate::mailbox::{Memory, Send, Tag, WhenFull};
use crate::op::{Caller, Effects, Now, Ready, Reply, RequestId, Slice, Taken, Timestamp};

mod rpc;

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
        self.read_at(handle, 0)
    }

    fn read_at(&mut self, handle: HandleId, offset: u64) -> (Option<WaitId>, Vec<Effect>) {
        self.next += 1;
        let request_id = RequestId { unique: self.next, reply_path: 0, pid: 0 };
        let call =
            Receive { request_id, handle, offset, size: 64, nonblock: false, caller: Caller::default() };
        self.call(|remote, cx| remote.receive(call, cx))
    }

    fn arrive(&mut self, pull: u64, delivery: u64) -> Vec<Effect> {
        let (delivery, body) = (DeliveryId(delivery), Arc::from(&b"job"[..]));
        let message =
            Message { wanted: Wanted::Message, delivery, about: about(), deliveries: 2, body, waiting: 0 };
        self.call(|remote, cx| remote.arrived(pull, message, cx)).1
    }
}

fn about() -> About {
    let sender = Caller { uid: 7, gid: 8, pid: 9 };
    let tag = Some(Tag::from(&b"t"[..]));
    About { number: 5, sent: Timestamp(1_500_000_000), sender, priority: 3, tag, reason: None }
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
        let sent = Sent { accepted: sent, known: 0 };
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

#[test]
fn json_shows_what_is_known_of_a_message_and_takes_it() {
    let mut rig = Rig::new();
    let reader = rig.remote.open(Mode::Receive, &Door::Json, rig.accounts.of(1000)).0;
    let (_, effects) = rig.read(reader);
    let effects = rig.arrive(pull_of(&effects), 7);
    let [Effect::Deliver(_, Reply::Message(begin), taken)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(taken, &[Taken::Delivery(DeliveryId(7))]);
    // What does not fit is there for the next read.
    let mut line = begin.as_bytes().to_vec();
    while line.last() != Some(&b'\n') {
        let (_, effects) = rig.read(reader);
        let Reply::Message(part) = answer(&effects) else { panic!("{effects:?}") };
        line.extend_from_slice(part.as_bytes());
    }
    let shown =
        r#"{"id":5,"sent":1.5,"uid":7,"gid":8,"pid":9,"priority":3,"tag":"t","deliveries":2,"body":"job"}"#;
    assert_eq!(String::from_utf8(line).unwrap().trim_end(), shown);
}

/// The questions for the next message.
fn looks(effects: &[Effect]) -> Vec<(u64, bool)> {
    let asks = effects.iter().filter_map(|effect| match effect {
        Effect::Engine(command) => match &**command {
            Command::Ask(Ask { wait, what: Asked::Next { wait: waits }, .. }) => Some((*wait, *waits)),
            _ => None,
        },
        _ => None,
    });
    asks.collect()
}

#[test]
fn peek_shows_a_message_and_takes_none() {
    let mut rig = Rig::new();
    let looker = rig.remote.open(Mode::Receive, &Door::Peek, rig.accounts.of(1000)).0;
    let (wait, effects) = rig.read(looker);
    assert_eq!((looks(&effects), effects.len()), (vec![(wait.unwrap().0, true)], 1));
    let shown = |text: &'static [u8]| Ok(Answer::Message(about(), Arc::from(text)));
    let ((), effects) = rig.call(|remote, cx| remote.peeked(wait.unwrap(), shown(b"job"), cx));
    let [Effect::Reply(_, Reply::Message(part))] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(part.as_bytes(), b"job");
    // An answer that comes twice is none.
    assert!(rig.call(|remote, cx| remote.peeked(wait.unwrap(), shown(b"job"), cx)).1.is_empty());
    // Its end of file; then it is looked once more.
    assert_eq!(answer(&rig.read_at(looker, 3).1), Reply::Message(Slice::whole([])));
    let (wait, effects) = rig.read_at(looker, 3);
    assert_eq!(looks(&effects).len(), 1);
    // A signal: nobody waits any more, and the engine is told so.
    let ((), effects) = rig.call(|remote, cx| remote.cancel(wait.unwrap(), Error::Interrupted, cx));
    let withdraws = Effect::Engine(Box::new(Command::Withdraw(Ino(20), wait.unwrap().0)));
    assert!(effects.contains(&withdraws), "{effects:?}");
    assert_eq!(answer(&effects), Reply::Failed(Error::Interrupted));
    // The mailbox goes while it is looked.
    let (wait, _) = rig.read_at(looker, 3);
    let ((), effects) = rig.call(Remote::remove);
    assert_eq!(answer(&effects), Reply::Failed(Error::Removed));
    assert!(rig.call(|remote, cx| remote.peeked(wait.unwrap(), shown(b"job"), cx)).1.is_empty());
}

#[test]
fn all_that_is_written_through_whole_is_one_message() {
    let mut rig = Rig::new();
    let text = rig.remote.open(Mode::Send, &Door::Whole, rig.accounts.of(1000)).0;
    for part in [&b"one\n"[..], b"two\n", b"three"] {
        let (wait, effects) = rig.write(text, part);
        assert!(wait.is_none() && sent(&effects).is_empty());
        assert_eq!(answer(&effects), Reply::Written(part.len() as u32));
    }
    let ((), effects) = rig.call(|remote, cx| remote.close(text, cx));
    assert_eq!(sent(&effects), ["one\ntwo\nthree"]);
    // It cannot be sent: nobody is there to be told, and it is counted.
    rig.publish(Some(WaitId(rig.remote.next)), 0, Err(Error::NoSpace));
    assert_eq!((rig.remote.counts().sent, rig.remote.counts().dropped), (0, 1));
    assert_eq!(rig.accounts.used(Resource::Waiting), 0);
}

#[test]
fn a_text_of_which_a_part_is_missing_is_not_sent() {
    let mut rig = Rig::new();
    let open = |rig: &mut Rig| rig.remote.open(Mode::Send, &Door::Whole, rig.accounts.of(1000)).0;
    // Longer than a message may be.
    let text = open(&mut rig);
    rig.write(text, b"begin");
    for _ in 0..2 {
        let (_, effects) = rig.write(text, &vec![b'x'; rig.remote.longest()]);
        assert_eq!(answer(&effects), Reply::Failed(Error::TooLong));
    }
    let ((), effects) = rig.call(|remote, cx| remote.close(text, cx));
    assert!(sent(&effects).is_empty());
    // There was no memory for a part, and then there is.
    let (text, other) = (open(&mut rig), open(&mut rig));
    rig.write(text, b"begin");
    rig.write(other, &vec![b'x'; 1_000_000]);
    let (_, effects) = rig.write(text, &vec![b'x'; 100_000]);
    assert_eq!(answer(&effects), Reply::Failed(Error::NoMemory));
    let ((), effects) = rig.call(|remote, cx| remote.close(text, cx));
    assert!(sent(&effects).is_empty());
    rig.call(|remote, cx| remote.close(other, cx));
}

#[test]
fn a_message_has_what_its_door_says() {
    let mut rig = Rig::new();
    let tag = Tag::from(&b"t"[..]);
    for door in [Door::Tag(Tag::clone(&tag)), Door::Ttl(5), Door::Delay(6), Door::Once(tag), Door::Plain] {
        let file = rig.remote.open(Mode::Send, &door, rig.accounts.of(1000)).0;
        let (_, effects) = rig.write(file, b"x");
        let properties = effects.iter().find_map(|effect| match effect {
            Effect::Engine(command) => match &**command {
                Command::Publish(publish) => Some(publish.properties.clone()),
                _ => None,
            },
            _ => None,
        });
        assert_eq!(properties, Some(door.properties()));
    }
    // One that was known is not one that was sent.
    let known = Sent { accepted: 1, known: 1 };
    let wait = rig.remote.next;
    let ((), effects) = rig.call(|remote, cx| remote.published(wait, known, Ok(()), cx));
    assert_eq!(answer(&effects), Reply::Written(1));
    assert_eq!((rig.remote.counts().sent, rig.remote.counts().duplicates), (0, 1));
}

#[test]
fn a_lease_is_settled_in_each_way_that_a_local_one_is() {
    let mut rig = Rig::new();
    let worker = rig.open(Mode::Both, true);
    let ways = [
        (&b"ack"[..], Settle::Ack),
        (b"nack", Settle::Nack),
        (b"nack 2s\n", Settle::NackFor(2_000_000_000)),
        (b"reject", Settle::Reject),
    ];
    for (text, how) in ways {
        let (_, effects) = rig.read(worker);
        rig.arrive(pull_of(&effects), 7);
        assert_eq!(rig.remote.in_hand(worker), Some(&(about(), 2)));
        // The engine renews it by itself.
        let (wait, effects) = rig.write(worker, b"touch");
        assert_eq!((wait, answer(&effects)), (None, Reply::Written(5)));
        for (wrong, error) in
            [(&b"nack x"[..], Error::Invalid), (b"nack 0s", Error::Range), (b"", Error::Invalid)]
        {
            assert_eq!(answer(&rig.write(worker, wrong).1), Reply::Failed(error));
        }
        let (wait, effects) = rig.write(worker, text);
        let wait = wait.unwrap().0;
        let settles = Command::Settle(DeliveryId(7), how, Some((Ino(20), wait)));
        assert_eq!(effects, [Effect::Engine(Box::new(settles))]);
        rig.call(|remote, cx| remote.settled(wait, Ok(()), cx));
        assert_eq!(rig.remote.in_hand(worker), None);
    }
    assert_eq!(answer(&rig.write(worker, b"touch").1), Reply::Failed(Error::NoMessage));
}
