//! Priorities, and readers who choose or only look.

use super::super::Order;
use super::*;

fn tag(text: &str) -> Door {
    Door::Tag(text.as_bytes().into())
}

#[test]
fn higher_priorities_come_first_unless_the_order_is_that_of_sending() {
    let mut desk = Desk::with(MailboxLimits { maxmsg: 10, ..LIMITS }, PLENTY);
    let reader = desk.open(Mode::Both);
    let writers = [0, 5, 32_767, 5].map(|priority| desk.enter(Door::Priority(priority), Mode::Send));
    for _ in 0..2 {
        for (writer, body) in writers.into_iter().zip(["0", "5", "max", "5 too"]) {
            desk.fill(writer, &[body]);
        }
    }
    for body in ["max", "max", "5", "5 too", "5"] {
        assert_eq!(desk.read(reader, 64), bytes(body));
    }
    desk.rules(|rules| rules.order = Order::Fifo);
    for body in ["0", "0", "5 too"] {
        assert_eq!(desk.read(reader, 64), bytes(body));
    }
    desk.fill(writers[0], &["0"]);
    desk.fill(writers[1], &["5"]);
    desk.rules(|rules| rules.order = Order::Priority);
    assert_eq!([desk.read(reader, 64), desk.read(reader, 64)], [bytes("5"), bytes("0")]);
}

#[test]
fn who_chooses_takes_its_own_and_leaves_the_rest_in_order() {
    let mut desk = Desk::new();
    let (a, b) = (desk.enter(tag("a"), Mode::Both), desk.enter(tag("b"), Mode::Both));
    let (reader, from) = (desk.open(Mode::Both), desk.enter(Door::From(1000), Mode::Receive));
    desk.fill(a, &["a1"]);
    desk.fill(b, &["b1"]);
    desk.fill(a, &["a2"]);
    assert_eq!([desk.read(b, 64), desk.read(b, 64)], [bytes("b1"), Got::Failed(Error::WouldWait)]);
    assert_eq!(desk.read(reader, 64), bytes("a1"));
    assert_eq!(desk.read(from, 64), bytes("a2"));
    let nobody = desk.enter(Door::From(7), Mode::Receive);
    desk.fill(a, &["a3"]);
    assert_eq!(desk.read(nobody, 64), Got::Failed(Error::WouldWait));
    assert!(!desk.ready(nobody).readable && desk.ready(a).readable && !desk.ready(b).readable);
}

#[test]
fn whoever_waits_longest_of_those_who_would_take_it_gets_a_message() {
    let mut desk = Desk::new();
    let (a, b, any) =
        (desk.enter(tag("a"), Mode::Both), desk.enter(tag("b"), Mode::Both), desk.open(Mode::Both));
    let from = desk.enter(Door::From(1000), Mode::Receive);
    let calls =
        [desk.await_message(b), desk.await_message(from), desk.await_message(a), desk.await_message(any)];
    desk.fill(a, &["1", "2", "3"]);
    assert_eq!(calls.map(|call| desk.got(call)), [Got::Waits, bytes("1"), bytes("2"), bytes("3")]);
}

#[test]
fn who_chooses_takes_from_a_writer_who_waits_and_the_others_keep_their_places() {
    let mut desk = Desk::new();
    let (a, plain, reader) = (desk.enter(tag("a"), Mode::Both), desk.open(Mode::Send), desk.open(Mode::Both));
    desk.fill(plain, &["1", "2", "3"]);
    desk.arm(a, 1);
    let calls = [desk.await_room(plain, "4"), desk.await_room(a, "a"), desk.await_room(plain, "5")];
    assert_eq!(desk.woken(), [1], "there is something for it");
    assert!(desk.ready(a).readable);
    assert_eq!(desk.read(a, 64), bytes("a"));
    assert_eq!(calls.map(|call| desk.got(call)), [Got::Waits, Got::Written(1), Got::Waits]);
    for body in ["1", "2", "3", "4", "5"] {
        assert_eq!(desk.read(reader, 64), bytes(body));
    }
    assert_eq!((desk.memory.used(), desk.held()), (0, 0));
}

#[test]
fn who_waits_for_a_tag_gets_it_past_writers_who_wait() {
    let mut desk = Desk::new();
    let (a, plain) = (desk.enter(tag("a"), Mode::Both), desk.open(Mode::Send));
    desk.fill(plain, &["1", "2", "3"]);
    let (waiting, other) = (desk.await_room(plain, "4"), desk.enter(tag("a"), Mode::Send));
    assert!(!desk.arm(other, 1).writable);
    let call = desk.await_message(a);
    assert_eq!(desk.woken(), [1]);
    assert!(desk.ready(other).writable && !desk.ready(plain).writable);
    desk.fill(other, &["a"]);
    assert_eq!((desk.got(call), desk.got(waiting)), (bytes("a"), Got::Waits));
}

#[test]
fn one_line_is_taken_from_a_writer_who_waits_with_many_and_keeps_its_place() {
    let mut desk = Desk::new();
    let (plain, reader) = (desk.open(Mode::Send), desk.open(Mode::Both));
    let (lines, from) = (desk.enter(Door::Stream, Mode::Send), desk.enter(Door::From(7), Mode::Receive));
    desk.fill(plain, &["1", "2", "3"]);
    let first = desk.await_room(plain, "4");
    let call = desk.write_as(7, lines, "a\nb\nc\n");
    let last = desk.await_room(plain, "5");
    assert_eq!([desk.read(from, 64), desk.read_on(from, 2, 64)], [bytes("a\n"), bytes("")]);
    assert_eq!([first, call, last].map(|call| desk.got(call)), [Got::Waits, Got::Waits, Got::Waits]);
    assert!(desk.cancel(call), "it can still be found");
    assert_eq!(desk.got(call), Got::Written(2));
    for body in ["1", "2", "3", "4", "5"] {
        assert_eq!(desk.read(reader, 64), bytes(body));
    }
    assert_eq!((desk.memory.used(), desk.held()), (0, 0));
}

#[test]
fn what_is_closed_into_a_full_mailbox_goes_to_who_waits_for_it() {
    let mut desk = Desk::new();
    let (plain, from) = (desk.open(Mode::Send), desk.enter(Door::From(7), Mode::Receive));
    let whole = desk.enter(Door::Whole, Mode::Send);
    desk.fill(plain, &["1", "2", "3"]);
    let waiting = desk.await_room(plain, "4");
    let call = desk.await_message(from);
    desk.write_as(7, whole, "all");
    desk.close(whole);
    assert_eq!((desk.got(call), desk.got(waiting)), (bytes("all"), Got::Waits));
}

#[test]
fn to_peek_takes_nothing() {
    let mut desk = Desk::new();
    let (writer, peek, reader) =
        (desk.open(Mode::Send), desk.enter(Door::Peek, Mode::Receive), desk.open(Mode::Both));
    let call = desk.await_message(peek);
    desk.fill(writer, &["1", "2"]);
    assert_eq!(desk.got(call), bytes("1"));
    assert_eq!([desk.read_on(peek, 1, 64), desk.read_on(peek, 1, 64)], [bytes(""), bytes("1")]);
    assert_eq!(desk.read(reader, 64), bytes("1"));
    assert_eq!([desk.read_on(peek, 2, 64), desk.read_on(peek, 2, 64)], [bytes(""), bytes("2")]);
    assert_eq!((desk.counts().received, desk.counts().depth), (1, 1));
}

#[test]
fn who_waits_to_peek_sees_what_another_reader_takes() {
    let mut desk = Desk::new();
    let (writer, peek, reader) =
        (desk.enter(Door::Stream, Mode::Send), desk.enter(Door::Peek, Mode::Receive), desk.open(Mode::Both));
    let calls = [desk.await_message(reader), desk.await_message(peek)];
    desk.fill(writer, &["1\n2\n"]);
    assert_eq!(calls.map(|call| desk.got(call)), [bytes("1\n"), bytes("1\n")]);
    assert_eq!(desk.counts().depth, 1);
}

#[test]
fn removal_tells_those_who_choose_or_only_look_too() {
    let mut desk = Desk::new();
    let doors = [tag("a"), tag("b"), Door::From(1), Door::Peek, Door::Lease, Door::Json];
    let calls = doors.map(|door| {
        let handle = desk.enter(door, Mode::Receive);
        desk.await_message(handle)
    });
    desk.remove();
    assert!(calls.iter().all(|call| desk.got(*call) == Got::Failed(Error::Removed)));
    assert_eq!(desk.counts().waiting_readers, 0);
}
