//! Messages that cannot be received before a time.

use super::*;
use crate::mailbox::memory::EXTRA_COST;

const MS: u64 = 1_000_000;

#[test]
fn a_delayed_message_is_not_there_before_it_is_due() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.enter(Door::Delay(1000), Mode::Send), rig.open(Mode::Both));
    let (peek, poller) = (rig.enter(Door::Peek, Mode::Receive), rig.open(Mode::Receive));
    rig.fill(writer, &["later"]);
    assert_eq!((rig.counts().depth, rig.counts().delayed, rig.counts().bytes), (0, 1, 5));
    assert_eq!(rig.read(reader, 9), Got::Failed(Error::WouldWait));
    assert_eq!(rig.read(peek, 9), Got::Failed(Error::WouldWait));
    assert!(!rig.arm(poller, 1).readable);
    assert_eq!(rig.mailbox.list(0, 9), []);
    let due = rig.mailbox.next_deadline().unwrap().since(Moment(0));
    rig.tick(due - rig.now - 2);
    assert_eq!(rig.counts().delayed, 1, "a nanosecond too early");
    rig.tick(0);
    assert_eq!((rig.counts().depth, rig.counts().delayed, rig.woken()), (1, 0, vec![1]));
    assert_eq!(rig.mailbox.next_deadline(), None);
    assert_eq!(rig.memory.used(), Memory::cost(5) + EXTRA_COST, "since when it waits is kept");
    assert_eq!(rig.read(reader, 9), bytes("later"));
    assert_eq!(rig.memory.used(), 0);
}

#[test]
fn it_waits_since_it_is_due_and_not_since_it_was_sent() {
    let mut rig = Rig::new();
    let (writer, plain) = (rig.enter(Door::Delay(1000), Mode::Send), rig.open(Mode::Send));
    let lease = rig.enter(Door::Lease, Mode::Both);
    rig.fill(writer, &["later"]);
    let due = rig.mailbox.next_deadline().unwrap();
    assert_eq!(rig.mailbox.oldest(), None, "nobody could receive it yet");
    rig.tick(1500);
    assert_eq!(rig.mailbox.oldest(), Some(due));
    rig.fill(plain, &["next"]);
    let sent = rig.moment();
    assert_eq!(rig.read(lease, 9), bytes("later"));
    let waited = rig.moment().since(due);
    assert_eq!(rig.mailbox.waited().unwrap().sum(), waited, "without the delay");
    assert_eq!(rig.send(lease, "nack"), Got::Written(4));
    assert_eq!(rig.mailbox.oldest(), Some(due), "whoever gives it back changes nothing");
    assert_eq!((rig.read(lease, 9), rig.send(lease, "nack 1ms")), (bytes("later"), Got::Written(8)));
    assert_eq!(rig.mailbox.oldest(), Some(sent));
    let due = rig.mailbox.next_deadline().unwrap();
    rig.tick(MS + 500);
    assert_eq!(rig.mailbox.list(0, 9).len(), 2);
    assert_eq!(rig.mailbox.oldest(), Some(sent), "what waits behind it is older");
    let (first, reader) = (rig.read(lease, 9), rig.open(Mode::Both));
    assert_eq!((first, rig.read(reader, 9)), (bytes("later"), bytes("next")));
    assert_eq!(rig.send(lease, "nack"), Got::Written(4));
    assert_eq!(rig.mailbox.oldest(), Some(due));
}

#[test]
fn a_reader_that_waits_gets_it_when_it_is_due_and_others_first() {
    let mut rig = Rig::new();
    let (writer, plain) = (rig.enter(Door::Delay(1000), Mode::Send), rig.open(Mode::Send));
    let [any, selective] = [Door::Plain, Door::From(1000)].map(|door| rig.enter(door, Mode::Both));
    let calls = [any, selective].map(|reader| rig.await_message(reader));
    rig.fill(writer, &["later"]);
    assert_eq!(calls.map(|call| rig.got(call)), [Got::Waits, Got::Waits]);
    rig.fill(plain, &["now"]);
    assert_eq!(calls.map(|call| rig.got(call)), [bytes("now"), Got::Waits]);
    rig.tick(1000);
    assert_eq!(rig.got(calls[1]), bytes("later"));
    assert_eq!((rig.counts().sent, rig.counts().received), (2, 2));
}

#[test]
fn a_read_after_the_time_finds_it_even_if_the_timer_is_late() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.enter(Door::Delay(1000), Mode::Send), rig.open(Mode::Both));
    rig.fill(writer, &["due"]);
    rig.now += 1000;
    assert_eq!(rig.read(reader, 9), bytes("due"));
}

#[test]
fn it_is_queued_behind_what_was_sent_before_it_is_due() {
    let mut rig = Rig::with(MailboxLimits { maxmsg: 9, ..LIMITS }, PLENTY);
    let [long, short] = [2000, 1000].map(|delay| rig.enter(Door::Delay(delay), Mode::Send));
    let (plain, raised, reader) =
        (rig.open(Mode::Send), rig.enter(Door::Priority(1), Mode::Send), rig.open(Mode::Both));
    rig.fill(long, &["last"]);
    rig.fill(short, &["middle"]);
    rig.fill(plain, &["first"]);
    rig.tick(1000);
    rig.fill(raised, &["raised"]);
    rig.tick(1000);
    rig.fill(plain, &["behind"]);
    let all = [(); 5].map(|()| rig.read(reader, 9));
    assert_eq!(all, ["raised", "first", "middle", "last", "behind"].map(bytes));
}

#[test]
fn it_counts_for_the_limits() {
    let mut rig = Rig::new();
    let (delayed, plain) = (rig.enter(Door::Delay(1000), Mode::Send), rig.open(Mode::Send));
    let stream = rig.enter(Door::Stream, Mode::Send);
    rig.fill(delayed, &["1", "2"]);
    rig.fill(plain, &["3"]);
    for writer in [delayed, plain] {
        assert_eq!(rig.send(writer, "4"), Got::Failed(Error::WouldWait), "maxmsg is 3");
        assert!(!rig.ready(writer).writable);
    }
    assert_eq!(rig.send(stream, "a\n"), Got::Failed(Error::WouldWait));
    rig.when_full(WhenFull::DropOldest);
    assert_eq!(rig.send(plain, "4"), Got::Written(1));
    assert_eq!(rig.send(delayed, "5"), Got::Written(1));
    assert_eq!((rig.counts().dropped, rig.counts().delayed, rig.counts().depth), (2, 3, 0));
    assert_eq!(rig.send(plain, "6"), Got::Failed(Error::NoSpace), "what is delayed is not dropped");
    rig.set_limits(MailboxLimits { maxmsg: 9, maxbytes: 3, ..LIMITS });
    assert_eq!(rig.send(plain, "7"), Got::Failed(Error::NoSpace), "nor for its bytes");
    rig.tick(1000);
    assert_eq!(rig.send(plain, "8"), Got::Written(1));
    assert_eq!(rig.counts().dropped, 3);
}

#[test]
fn a_writer_that_waits_for_room_is_delayed_from_when_it_gets_it() {
    let mut rig = Rig::with(MailboxLimits { maxmsg: 1, ..LIMITS }, PLENTY);
    let (delayed, plain, reader) =
        (rig.enter(Door::Delay(1000), Mode::Send), rig.open(Mode::Send), rig.open(Mode::Both));
    rig.fill(plain, &["first"]);
    let call = rig.await_room(delayed, "delayed");
    rig.now += 5000;
    let waiting = rig.await_message_after(reader, "first");
    assert_eq!((rig.got(call), rig.got(waiting)), (Got::Written(7), Got::Waits));
    rig.tick(900);
    assert_eq!(rig.counts().delayed, 1);
    rig.tick(100);
    assert_eq!(rig.got(waiting), bytes("delayed"));
}

impl Rig {
    /// Reads a message that is there, and then waits for the next.
    fn await_message_after(&mut self, reader: HandleId, body: &str) -> u64 {
        assert_eq!(self.read(reader, 64), bytes(body));
        self.await_message(reader)
    }
}

#[test]
fn a_waiting_writer_does_not_hand_it_to_a_reader() {
    let mut rig = Rig::with(LIMITS, Memory::cost(1) + EXTRA_COST);
    // So that a plain message has memory and a delayed one has not.
    rig.others_charge(EXTRA_COST);
    let (delayed, plain) = (rig.enter(Door::Delay(1000), Mode::Send), rig.open(Mode::Send));
    let reader = rig.open(Mode::Both);
    let call = rig.await_room(delayed, "x");
    assert!(!rig.ready(reader).readable);
    assert_eq!(rig.read(reader, 9), Got::Failed(Error::WouldWait));
    let waiting = rig.await_message(reader);
    assert!(!rig.ready(delayed).writable, "no reader takes it at once");
    assert_eq!(rig.send(plain, "y"), Got::Written(1));
    assert_eq!((rig.got(call), rig.got(waiting)), (Got::Waits, bytes("y")));
    assert!(rig.cancel(call));
}

#[test]
fn its_time_to_live_counts_from_when_it_was_sent() {
    for (ttl, expired) in [(900, 1), (1100, 0)] {
        let mut rig = Rig::new();
        rig.rules(|rules| (rules.ttl, rules.dead_letter) = (ttl, Some(dead_letter())));
        let (writer, reader) = (rig.enter(Door::Delay(1000), Mode::Send), rig.open(Mode::Both));
        rig.fill(writer, &["mortal"]);
        assert_eq!(rig.mailbox.next_deadline(), Some(at(rig.now + ttl.min(1000)).moment));
        rig.tick(1000);
        assert_eq!((rig.counts().expired, rig.counts().depth), (expired, 1 - expired));
        assert_eq!(rig.mailbox.take_outbox().len() as u64, expired);
        let got = if expired == 0 { bytes("mortal") } else { Got::Failed(Error::WouldWait) };
        assert_eq!(rig.read(reader, 9), got);
    }
}

#[test]
fn many_that_are_due_at_once_are_queued_in_steps_and_in_order() {
    let mut rig = Rig::with(MailboxLimits { maxmsg: 5000, maxbytes: 100_000, ..LIMITS }, 10 * PLENTY);
    let (writer, reader) = (rig.enter(Door::Delay(MS), Mode::Send), rig.open(Mode::Both));
    for n in 0..1200 {
        rig.fill(writer, &[&format!("{n}")]);
    }
    rig.now += MS;
    let mut steps = 0;
    while rig.mailbox.next_deadline().is_some_and(|next| next <= rig.moment()) {
        let before = rig.counts().depth;
        rig.tick(0);
        assert!(rig.counts().depth - before <= 500, "a step is short");
        steps += 1;
    }
    assert_eq!((rig.counts().depth, steps), (1200, 3));
    for n in 0..1200 {
        assert_eq!(rig.read(reader, 9), bytes(&format!("{n}")));
    }
}

#[test]
fn what_is_delayed_goes_with_the_mailbox() {
    let mut rig = Rig::new();
    let (writer, plain) = (rig.enter(Door::Delay(1000), Mode::Send), rig.open(Mode::Send));
    rig.fill(writer, &["1", "2"]);
    rig.fill(plain, &["3"]);
    assert_eq!(rig.remove(), 3);
    assert_eq!((rig.memory.used(), rig.counts().delayed), (0, 0));
    assert_eq!(rig.mailbox.next_deadline(), None);
}

#[test]
fn a_poller_needs_the_memory_that_a_delayed_message_takes() {
    let limits = MailboxLimits { msgsize: 1, ..LIMITS };
    let mut rig = Rig::with(limits, Memory::cost(1) + 10);
    let doors = [Door::Plain, Door::Delay(1000), Door::Tag(Arc::from(&b"tag"[..]))];
    let writers = doors.map(|door| rig.enter(door, Mode::Send));
    assert_eq!(writers.map(|writer| rig.ready(writer).writable), [true, false, false]);
    assert_eq!(writers.map(|writer| rig.send(writer, "x") == Got::Written(1)), [true, false, false]);
}

#[test]
fn a_message_given_back_with_a_time_comes_first_when_that_is_over() {
    let mut rig = Rig::new();
    let (writer, lease, reader) =
        (rig.open(Mode::Send), rig.enter(Door::Lease, Mode::Both), rig.open(Mode::Both));
    rig.fill(writer, &["one", "two"]);
    assert_eq!(rig.read(lease, 9), bytes("one"));
    assert_eq!(rig.send(lease, "nack 2ms\n"), Got::Written(9));
    assert_eq!((rig.counts().delayed, rig.counts().leased, rig.counts().redelivered), (1, 0, 1));
    assert_eq!(rig.read(lease, 9), bytes("two"));
    assert_eq!(rig.send(lease, "nack"), Got::Written(4));
    rig.tick(2 * MS);
    assert_eq!((rig.counts().delayed, rig.counts().redelivered), (0, 2));
    let id = rig.mailbox.list(0, 1)[0].1;
    assert_eq!(rig.mailbox.message(id).unwrap().deliveries(), 1);
    assert_eq!([rig.read(reader, 9), rig.read(reader, 9)], ["one", "two"].map(bytes));
    assert_eq!(rig.memory.used(), 0);
}

#[test]
fn one_given_back_with_a_time_goes_to_a_reader_that_waits_then() {
    let mut rig = Rig::new();
    let (writer, lease, reader) =
        (rig.open(Mode::Send), rig.enter(Door::Lease, Mode::Both), rig.enter(Door::Lease, Mode::Both));
    rig.fill(writer, &["job"]);
    assert_eq!(rig.read(lease, 9), bytes("job"));
    let waiting = rig.await_message(reader);
    assert_eq!(rig.send(lease, "nack 1ms"), Got::Written(8));
    assert_eq!(rig.got(waiting), Got::Waits);
    rig.tick(MS);
    assert_eq!(rig.got(waiting), bytes("job"));
    assert_eq!(rig.send(reader, "ack"), Got::Written(3));
}

#[test]
fn a_time_does_not_keep_a_message_from_its_end() {
    let mut rig = Rig::new();
    rig.rules(|rules| (rules.ttl, rules.max_deliver) = (3 * MS, 2));
    let (writer, lease) = (rig.open(Mode::Send), rig.enter(Door::Lease, Mode::Both));
    rig.fill(writer, &["expires"]);
    assert_eq!(rig.read(lease, 9), bytes("expires"));
    assert_eq!(rig.send(lease, "nack 1h"), Got::Written(7));
    rig.tick(3 * MS);
    assert_eq!((rig.counts().expired, rig.counts().delayed), (1, 0));
    rig.fill(writer, &["fails"]);
    assert_eq!(rig.read(lease, 9), bytes("fails"));
    assert_eq!(rig.send(lease, "nack 1ms"), Got::Written(8));
    rig.tick(MS);
    assert_eq!(rig.read(lease, 9), bytes("fails"));
    assert_eq!(rig.send(lease, "nack 1ms"), Got::Written(8));
    assert_eq!((rig.counts().dropped, rig.counts().delayed), (1, 0), "it was delivered twice");
    assert_eq!(rig.memory.used(), 0);
}

#[test]
fn a_time_that_is_none_leaves_the_lease() {
    let mut rig = Rig::new();
    let (writer, lease) = (rig.open(Mode::Send), rig.enter(Door::Lease, Mode::Both));
    rig.fill(writer, &["job"]);
    assert_eq!(rig.read(lease, 9), bytes("job"));
    for (word, error) in [
        ("nack soon", Error::Invalid),
        ("nack max", Error::Invalid),
        ("nack -1", Error::Invalid),
        ("nacked", Error::Invalid),
        ("ack 1s", Error::Invalid),
        ("nack 0", Error::Range),
        ("nack 1us", Error::Range),
        ("nack 11years", Error::Range),
    ] {
        assert_eq!(rig.send(lease, word), Got::Failed(error), "{word}");
    }
    assert_eq!(rig.counts().leased, 1);
    assert_eq!(rig.send(lease, " nack  1h 30m "), Got::Written(14));
    assert_eq!(rig.counts().delayed, 1);
}
