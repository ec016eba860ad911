//! Priorities, selective readers, and peeking.

use super::super::Order;
use super::*;

fn tag(text: &str) -> Door {
    Door::Tag(text.as_bytes().into())
}

#[test]
fn higher_priorities_come_first_unless_the_order_is_that_of_sending() {
    let mut rig = Rig::with(MailboxLimits { maxmsg: 10, ..LIMITS }, PLENTY);
    let reader = rig.open(Mode::Both);
    let writers = [0, 5, 32_767, 5].map(|priority| rig.enter(Door::Priority(priority), Mode::Send));
    for _ in 0..2 {
        for (writer, body) in writers.into_iter().zip(["0", "5", "max", "5 too"]) {
            rig.fill(writer, &[body]);
        }
    }
    for body in ["max", "max", "5", "5 too", "5"] {
        assert_eq!(rig.read(reader, 64), bytes(body));
    }
    rig.rules(|rules| rules.order = Order::Fifo);
    for body in ["0", "0", "5 too"] {
        assert_eq!(rig.read(reader, 64), bytes(body));
    }
    rig.fill(writers[0], &["0"]);
    rig.fill(writers[1], &["5"]);
    rig.rules(|rules| rules.order = Order::Priority);
    assert_eq!([rig.read(reader, 64), rig.read(reader, 64)], [bytes("5"), bytes("0")]);
}

#[test]
fn a_selective_reader_leaves_the_rest_in_order() {
    let mut rig = Rig::new();
    let (a, b) = (rig.enter(tag("a"), Mode::Both), rig.enter(tag("b"), Mode::Both));
    let (reader, from) = (rig.open(Mode::Both), rig.enter(Door::From(1000), Mode::Receive));
    rig.fill(a, &["a1"]);
    rig.fill(b, &["b1"]);
    rig.fill(a, &["a2"]);
    assert_eq!([rig.read(b, 64), rig.read(b, 64)], [bytes("b1"), Got::Failed(Error::WouldWait)]);
    assert_eq!(rig.read(reader, 64), bytes("a1"));
    assert_eq!(rig.read(from, 64), bytes("a2"));
    let nobody = rig.enter(Door::From(7), Mode::Receive);
    rig.fill(a, &["a3"]);
    assert_eq!(rig.read(nobody, 64), Got::Failed(Error::WouldWait));
    assert!(!rig.ready(nobody).readable && rig.ready(a).readable && !rig.ready(b).readable);
}

#[test]
fn a_message_goes_to_the_longest_waiting_reader_that_takes_it() {
    let mut rig = Rig::new();
    let (a, b, any) =
        (rig.enter(tag("a"), Mode::Both), rig.enter(tag("b"), Mode::Both), rig.open(Mode::Both));
    let from = rig.enter(Door::From(1000), Mode::Receive);
    let calls = [rig.await_message(b), rig.await_message(from), rig.await_message(a), rig.await_message(any)];
    rig.fill(a, &["1", "2", "3"]);
    assert_eq!(calls.map(|call| rig.got(call)), [Got::Waits, bytes("1"), bytes("2"), bytes("3")]);
}

#[test]
fn a_selective_reader_receives_from_a_waiting_writer_and_the_others_stay_in_order() {
    let mut rig = Rig::new();
    let (a, plain, reader) = (rig.enter(tag("a"), Mode::Both), rig.open(Mode::Send), rig.open(Mode::Both));
    rig.fill(plain, &["1", "2", "3"]);
    rig.arm(a, 1);
    let calls = [rig.await_room(plain, "4"), rig.await_room(a, "a"), rig.await_room(plain, "5")];
    assert_eq!(rig.woken(), [1], "there is something for it");
    assert!(rig.ready(a).readable);
    assert_eq!(rig.read(a, 64), bytes("a"));
    assert_eq!(calls.map(|call| rig.got(call)), [Got::Waits, Got::Written(1), Got::Waits]);
    for body in ["1", "2", "3", "4", "5"] {
        assert_eq!(rig.read(reader, 64), bytes(body));
    }
    assert_eq!((rig.memory.used(), rig.held()), (0, 0));
}

#[test]
fn a_reader_that_waits_for_a_tag_gets_it_ahead_of_waiting_writers() {
    let mut rig = Rig::new();
    let (a, plain) = (rig.enter(tag("a"), Mode::Both), rig.open(Mode::Send));
    rig.fill(plain, &["1", "2", "3"]);
    let (waiting, other) = (rig.await_room(plain, "4"), rig.enter(tag("a"), Mode::Send));
    assert!(!rig.arm(other, 1).writable);
    let call = rig.await_message(a);
    assert_eq!(rig.woken(), [1]);
    assert!(rig.ready(other).writable && !rig.ready(plain).writable);
    rig.fill(other, &["a"]);
    assert_eq!((rig.got(call), rig.got(waiting)), (bytes("a"), Got::Waits));
}

#[test]
fn a_writer_that_waits_with_lines_can_deliver_one_and_keeps_its_place() {
    let mut rig = Rig::new();
    let (plain, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    let (lines, from) = (rig.enter(Door::Stream, Mode::Send), rig.enter(Door::From(7), Mode::Receive));
    rig.fill(plain, &["1", "2", "3"]);
    let first = rig.await_room(plain, "4");
    let call = rig.write_as(7, lines, "a\nb\nc\n");
    let last = rig.await_room(plain, "5");
    assert_eq!([rig.read(from, 64), rig.read_on(from, 2, 64)], [bytes("a\n"), bytes("")]);
    assert_eq!([first, call, last].map(|call| rig.got(call)), [Got::Waits, Got::Waits, Got::Waits]);
    assert!(rig.cancel(call), "it can still be found");
    assert_eq!(rig.got(call), Got::Written(2));
    for body in ["1", "2", "3", "4", "5"] {
        assert_eq!(rig.read(reader, 64), bytes(body));
    }
    rig.close(from);
    assert_eq!((rig.memory.used(), rig.held()), (0, 0));
}

#[test]
fn a_message_sent_by_close_into_a_full_mailbox_goes_to_a_waiting_reader() {
    let mut rig = Rig::new();
    let (plain, from) = (rig.open(Mode::Send), rig.enter(Door::From(7), Mode::Receive));
    let whole = rig.enter(Door::Whole, Mode::Send);
    rig.fill(plain, &["1", "2", "3"]);
    let waiting = rig.await_room(plain, "4");
    let call = rig.await_message(from);
    rig.write_as(7, whole, "all");
    rig.close(whole);
    assert_eq!((rig.got(call), rig.got(waiting)), (bytes("all"), Got::Waits));
}

#[test]
fn peeking_removes_nothing() {
    let mut rig = Rig::new();
    let (writer, peek, reader) =
        (rig.open(Mode::Send), rig.enter(Door::Peek, Mode::Receive), rig.open(Mode::Both));
    let call = rig.await_message(peek);
    rig.fill(writer, &["1", "2"]);
    assert_eq!(rig.got(call), bytes("1"));
    assert_eq!([rig.read_on(peek, 1, 64), rig.read_on(peek, 1, 64)], [bytes(""), bytes("1")]);
    assert_eq!(rig.read(reader, 64), bytes("1"));
    assert_eq!([rig.read_on(peek, 2, 64), rig.read_on(peek, 2, 64)], [bytes(""), bytes("2")]);
    assert_eq!((rig.counts().received, rig.counts().depth), (1, 1));
}

#[test]
fn a_waiting_peek_sees_a_message_that_another_reader_receives() {
    let mut rig = Rig::new();
    let (writer, peek, reader) =
        (rig.enter(Door::Stream, Mode::Send), rig.enter(Door::Peek, Mode::Receive), rig.open(Mode::Both));
    let calls = [rig.await_message(reader), rig.await_message(peek)];
    rig.fill(writer, &["1\n2\n"]);
    assert_eq!(calls.map(|call| rig.got(call)), [bytes("1\n"), bytes("1\n")]);
    assert_eq!(rig.counts().depth, 1);
}

#[test]
fn removal_ends_selective_reads_and_peeks_too() {
    let mut rig = Rig::new();
    let doors = [tag("a"), tag("b"), Door::From(1), Door::Peek, Door::Lease, Door::Json];
    let calls = doors.map(|door| {
        let handle = rig.enter(door, Mode::Receive);
        rig.await_message(handle)
    });
    rig.remove();
    assert!(calls.iter().all(|call| rig.got(*call) == Got::Failed(Error::Removed)));
    assert_eq!(rig.counts().waiting_readers, 0);
}
