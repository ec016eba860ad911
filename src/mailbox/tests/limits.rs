//! Limits, full mailboxes, the memory limit, and writes that the kernel has split.

use super::*;
use crate::mailbox::memory::EXTRA_COST;

#[test]
fn the_longest_message_is_taken_and_one_byte_more_is_refused() {
    let mut rig = Rig::new();
    let writer = rig.open(Mode::Send);
    assert_eq!(rig.send(writer, &"x".repeat(64)), Got::Written(64));
    assert_eq!(rig.send(writer, &"x".repeat(65)), Got::Failed(Error::TooLong));
    assert_eq!((rig.counts().depth, rig.counts().sent), (1, 1), "nothing of it was sent");
    rig.set_limits(MailboxLimits { maxbytes: 10, ..LIMITS });
    assert_eq!(rig.send(writer, &"x".repeat(11)), Got::Failed(Error::TooLong), "it would never fit");
}

#[test]
fn a_message_that_is_too_long_fails_even_if_a_reader_waits() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    let call = rig.await_message(reader);
    assert_eq!(rig.send(writer, &"x".repeat(65)), Got::Failed(Error::TooLong));
    assert_eq!(rig.got(call), Got::Waits);
}

#[test]
fn an_empty_write_sends_nothing() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    let call = rig.await_message(reader);
    assert_eq!(rig.send(writer, ""), Got::Written(0));
    assert_eq!((rig.got(call), rig.counts().sent), (Got::Waits, 0));
}

#[test]
fn messages_and_bytes_are_both_limited_exactly() {
    let mut rig = Rig::new();
    let writer = rig.open(Mode::Send);
    rig.fill(writer, &["1", "2", "3"]);
    assert_eq!(rig.send(writer, "4"), Got::Failed(Error::WouldWait), "maxmsg");
    let mut rig = Rig::new();
    let writer = rig.open(Mode::Send);
    rig.fill(writer, &[&"x".repeat(60), &"x".repeat(40)]);
    assert_eq!(rig.counts().bytes, 100);
    assert_eq!(rig.send(writer, "4"), Got::Failed(Error::WouldWait), "maxbytes");
}

#[test]
fn full_can_be_set_to_fail() {
    let mut rig = Rig::new();
    let writer = rig.open(Mode::Send);
    rig.fill(writer, &["1", "2", "3"]);
    let waiting = rig.await_room(writer, "4");
    rig.when_full(WhenFull::Fail);
    assert_eq!(
        (rig.got(waiting), rig.held()),
        (Got::Failed(Error::NoSpace), 0),
        "those who wait are told too"
    );
    let call = rig.write(writer, "5", false);
    assert_eq!(rig.got(call), Got::Failed(Error::NoSpace));
    assert_eq!(rig.counts(), Counts { depth: 3, bytes: 3, sent: 3, ..Counts::default() });
}

#[test]
fn full_can_be_set_to_drop_the_oldest() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.fill(writer, &["1", "2", "3"]);
    let waiting = rig.await_room(writer, "4");
    rig.when_full(WhenFull::DropOldest);
    assert_eq!((rig.got(waiting), rig.held()), (Got::Written(1), 0), "those who wait come in");
    rig.fill(writer, &["5"]);
    assert_eq!(rig.counts(), Counts { depth: 3, bytes: 3, sent: 5, dropped: 2, ..Counts::default() });
    for body in ["3", "4", "5"] {
        assert_eq!(rig.read(reader, 64), bytes(body));
    }
    assert_eq!(rig.memory.used(), 0);
}

#[test]
fn no_more_messages_are_dropped_than_the_new_one_needs() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.when_full(WhenFull::DropOldest);
    rig.fill(writer, &[&"a".repeat(30), &"b".repeat(30), &"c".repeat(30), &"d".repeat(50)]);
    assert_eq!(rig.counts(), Counts { depth: 2, bytes: 80, sent: 4, dropped: 2, ..Counts::default() });
    assert_eq!(rig.read(reader, 64), bytes(&"c".repeat(30)));
}

#[test]
fn nothing_is_dropped_for_a_message_that_would_not_fit_anyway() {
    let mut rig = Rig::with(LIMITS, Memory::cost(10) + Memory::cost(40));
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.others_charge(Memory::cost(40));
    rig.when_full(WhenFull::DropOldest);
    rig.fill(writer, &["kept"]);
    assert_eq!(rig.send(writer, "longer than what the other has left"), Got::Failed(Error::NoSpace));
    assert_eq!(rig.counts().dropped, 0);
    rig.fill(writer, &["fits in"]);
    assert_eq!(rig.counts().dropped, 1, "with the memory of the one that is dropped");
    assert_eq!(rig.read(reader, 64), bytes("fits in"));

    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.fill(writer, &["1", "2", "3"]);
    let waiting = rig.await_room(writer, "longer than the queue may be");
    rig.set_limits(MailboxLimits { maxbytes: 4, ..LIMITS });
    rig.when_full(WhenFull::DropOldest);
    assert_eq!((rig.got(waiting), rig.counts().depth), (Got::Waits, 3));
    for body in ["1", "2", "3", "longer than the queue may be"] {
        assert_eq!(rig.read(reader, 64), bytes(body));
    }
}

#[test]
fn raised_limits_admit_waiting_writers() {
    let mut rig = Rig::new();
    let writer = rig.open(Mode::Send);
    rig.fill(writer, &["1", "2", "3"]);
    let calls = ["4", "5", "6"].map(|body| rig.await_room(writer, body));
    rig.set_limits(MailboxLimits { maxmsg: 5, ..LIMITS });
    assert_eq!(calls.map(|call| rig.got(call)), [Got::Written(1), Got::Written(1), Got::Waits]);
    assert_eq!(rig.mailbox.limits().maxmsg, 5);
}

#[test]
fn lowered_limits_keep_messages_and_waiting_writers() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.fill(writer, &["one", "two", "six"]);
    let waiting = rig.await_room(writer, "waited");
    rig.set_limits(MailboxLimits { msgsize: 2, maxmsg: 1, maxbytes: 4 });
    for body in ["one", "two", "six"] {
        assert_eq!(rig.read(reader, 64), bytes(body));
    }
    assert_eq!(rig.got(waiting), Got::Waits, "longer than the queue may be now");
    assert_eq!(rig.read(reader, 64), bytes("waited"), "but a reader takes it from the writer's hands");
    assert_eq!(rig.got(waiting), Got::Written(6));
    assert_eq!((rig.memory.used(), rig.held()), (0, 0));
}

#[test]
fn without_a_limit_nothing_is_refused() {
    let none = MailboxLimits { msgsize: 64, maxmsg: u64::MAX, maxbytes: u64::MAX };
    let mut rig = Rig::with(none, PLENTY);
    let writer = rig.open(Mode::Send);
    for _ in 0..1000 {
        rig.fill(writer, &[&"x".repeat(64)]);
    }
    assert_eq!((rig.counts().depth, rig.counts().bytes), (1000, 64_000));
    assert!(rig.ready(writer).writable);
}

#[test]
fn each_message_is_charged_its_cost() {
    let mut rig = Rig::with(LIMITS, 2 * Memory::cost(10));
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.fill(writer, &["0123456789"]);
    assert_eq!(rig.memory.used(), Memory::cost(10));
    assert_eq!(rig.send(writer, "0123456789+"), Got::Failed(Error::WouldWait), "one byte too long");
    rig.fill(writer, &["0123456789"]);
    assert_eq!(rig.memory.used(), rig.memory.limit());
    assert_eq!(rig.read(reader, 1), bytes("0"));
    assert_eq!(rig.memory.used(), rig.memory.limit(), "the rest of it is kept");
    assert_eq!(rig.read(reader, 64), bytes("123456789"));
    assert_eq!(rig.memory.used(), Memory::cost(10), "a message taken is no longer in the queue");
}

#[test]
fn a_writer_is_blocked_by_memory_until_some_is_freed() {
    let mut rig = Rig::new();
    let writer = rig.open(Mode::Send);
    rig.fill_memory();
    let call = rig.await_room(writer, "0123456789");
    assert_eq!(rig.held(), Memory::cost(10));
    assert!(rig.mailbox.blocked_by_memory() && !rig.mailbox.memory_available());
    rig.free_memory();
    assert!(rig.mailbox.blocked_by_memory(), "until it is told, whatever the memory has by then");
    assert!(rig.mailbox.memory_available());
    rig.call(Mailbox::admit_writers);
    assert_eq!((rig.got(call), rig.held()), (Got::Written(10), 0));
    assert!(!rig.mailbox.blocked_by_memory(), "nobody waits");
}

#[test]
fn a_writer_blocked_by_the_mailbox_itself_is_not_blocked_by_memory() {
    let mut rig = Rig::with(LIMITS, 3 * Memory::cost(1));
    let writer = rig.open(Mode::Send);
    rig.fill(writer, &["1", "2", "3"]);
    rig.await_room(writer, "4");
    assert!(!rig.mailbox.blocked_by_memory(), "memory would not help");
}

#[test]
fn a_poller_can_be_blocked_by_memory_too() {
    let mut rig = Rig::new();
    let writer = rig.open(Mode::Send);
    rig.fill_memory();
    assert!(!rig.arm(writer, 1).writable);
    assert!(rig.mailbox.blocked_by_memory());
    rig.free_memory();
    rig.call(Mailbox::admit_writers);
    assert_eq!(rig.woken(), [1]);
    assert!(!rig.mailbox.blocked_by_memory());
}

#[test]
fn a_reader_receives_from_a_writer_that_is_blocked_by_memory() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.fill_memory();
    let calls = ["first", "second"].map(|body| rig.await_room(writer, body));
    assert_eq!(rig.read(reader, 64), bytes("first"));
    assert_eq!(calls.map(|call| rig.got(call)), [Got::Written(5), Got::Waits]);
    assert_eq!(rig.held(), Memory::cost(6));
    assert_eq!(rig.counts(), Counts { waiting_writers: 1, sent: 1, received: 1, ..Counts::default() });
}

#[test]
fn waiting_writers_are_limited_by_memory_too() {
    let mut rig = Rig::with(MailboxLimits { maxmsg: 1, ..LIMITS }, 2 * Memory::cost(10));
    let writer = rig.open(Mode::Send);
    rig.fill(writer, &["x"]);
    let calls = ["0123456789", "0123456789"].map(|body| rig.await_room(writer, body));
    let refused = rig.write(writer, "x", false);
    assert_eq!(rig.got(refused), Got::Failed(Error::NoMemory));
    assert!(rig.cancel(calls[0]));
    rig.await_room(writer, "0123456789");
}

#[test]
fn a_later_part_of_a_split_write_is_refused_and_so_is_the_next_write() {
    let mut rig = Rig::new();
    let (writer, other) = (rig.open(Mode::Send), rig.open(Mode::Send));
    assert_eq!(rig.send(writer, "begin"), Got::Written(5));
    let call = rig.write_part(writer, "middle", true, true);
    assert_eq!(rig.got(call), Got::Failed(Error::TooLong));
    let call = rig.write_part(writer, "end", true, true);
    assert_eq!(rig.got(call), Got::Failed(Error::TooLong));
    assert_eq!(rig.send(other, "other"), Got::Written(5), "another descriptor has nothing to do with it");
    assert_eq!(rig.send(writer, "remainder"), Got::Failed(Error::TooLong), "of a program that goes on");
    assert_eq!(rig.send(writer, "new"), Got::Written(3));
    assert_eq!(rig.counts().sent, 3);
}

#[test]
fn a_refused_write_changes_nothing() {
    let mut rig = Rig::with(LIMITS, Memory::cost(1));
    let writer = rig.open(Mode::Send);
    rig.fill(writer, &["x"]);
    for (full, error) in [(WhenFull::Wait, Error::WouldWait), (WhenFull::Fail, Error::NoSpace)] {
        rig.when_full(full);
        assert_eq!(rig.send(writer, "y"), Got::Failed(error));
    }
    assert_eq!(rig.memory.used(), Memory::cost(1));
    assert_eq!(rig.held(), 0);
}

#[test]
fn a_message_has_the_shorter_of_its_own_time_and_that_of_the_mailbox() {
    let mut rig = Rig::with(MailboxLimits { maxmsg: 9, ..LIMITS }, PLENTY);
    let doors = [Door::Ttl(100), Door::Ttl(5000), Door::Plain];
    let [short, long, plain] = doors.map(|door| rig.enter(door, Mode::Send));
    let expiries = |rig: &mut Rig| -> Vec<Option<u64>> {
        let ids = rig.mailbox.list(0, 9);
        let of = |message: &Message| message.expires().map(|end| end.since(message.since));
        ids.into_iter().map(|(_, id)| of(rig.mailbox.message(id).unwrap())).collect()
    };
    for writer in [short, long, plain] {
        rig.fill(writer, &["x"]);
    }
    assert_eq!(expiries(&mut rig), [Some(100), Some(5000), None]);
    rig.rules(|rules| rules.ttl = 1000);
    for writer in [short, long, plain] {
        rig.fill(writer, &["x"]);
    }
    assert_eq!(expiries(&mut rig)[3..], [Some(100), Some(1000), Some(1000)]);
    rig.now += 200;
    rig.call(Mailbox::tick);
    assert_eq!((rig.counts().expired, rig.counts().depth), (2, 4), "in whatever order they stand");
}

#[test]
fn a_poller_of_a_door_with_a_time_needs_the_memory_that_its_message_takes() {
    let limits = MailboxLimits { msgsize: 1, ..LIMITS };
    let mut rig = Rig::with(limits, Memory::cost(1) + EXTRA_COST - 1);
    let (plain, ttl) = (rig.open(Mode::Send), rig.enter(Door::Ttl(1000), Mode::Send));
    assert_eq!((rig.ready(plain).writable, rig.ready(ttl).writable), (true, false));
    assert_eq!(rig.send(ttl, "x"), Got::Failed(Error::WouldWait));
    assert_eq!(rig.send(plain, "x"), Got::Written(1));
}
