//! Who waits, in what order they are served, and how a wait ends otherwise.

use super::*;

#[test]
fn readers_are_served_first_come_first_served() {
    let mut desk = Desk::new();
    let writer = desk.open(Mode::Send);
    let readers: Vec<HandleId> = (0..3).map(|_| desk.open(Mode::Receive)).collect();
    let calls: Vec<u64> = readers.iter().map(|reader| desk.await_message(*reader)).collect();
    assert_eq!(desk.counts().waiting_readers, 3);
    for (call, body) in calls.iter().zip(["first", "second", "third"]) {
        assert_eq!(desk.send(writer, body), Got::Written(body.len() as u32));
        assert_eq!(desk.got(*call), bytes(body));
    }
    assert!(desk.answers.is_empty());
    let expected = Counts { sent: 3, received: 3, ..Counts::default() };
    assert_eq!(desk.counts(), expected, "handed over without ever being in the queue");
}

#[test]
fn a_message_handed_over_needs_no_room() {
    let mut desk = Desk::with(LIMITS, 0);
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    let call = desk.await_message(reader);
    assert_eq!(desk.send(writer, "x"), Got::Written(1));
    assert_eq!(desk.got(call), bytes("x"));
}

#[test]
fn a_reader_who_leaves_takes_nothing_whatever_its_place() {
    for leaving in 0..3 {
        let mut desk = Desk::new();
        let writer = desk.open(Mode::Send);
        let readers: Vec<HandleId> = (0..3).map(|_| desk.open(Mode::Receive)).collect();
        let mut calls: Vec<u64> = readers.iter().map(|reader| desk.await_message(*reader)).collect();
        let gone = calls.remove(leaving);
        assert!(desk.cancel(gone));
        assert_eq!(desk.got(gone), Got::Failed(Error::Interrupted));
        assert!(!desk.cancel(gone), "once");
        desk.fill(writer, &["one", "two", "left"]);
        assert_eq!(
            calls.iter().map(|call| desk.got(*call)).collect::<Vec<_>>(),
            [bytes("one"), bytes("two")]
        );
        assert_eq!(desk.counts().depth, 1);
        assert_eq!(desk.read(readers[leaving], 64), bytes("left"), "it may come again");
    }
}

#[test]
fn an_answered_call_cannot_be_cancelled() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    let call = desk.await_message(reader);
    desk.fill(writer, &["x"]);
    assert!(!desk.cancel(call), "late");
    assert_eq!(desk.got(call), bytes("x"));
}

#[test]
fn a_full_mailbox_makes_writers_wait_and_lets_them_in_as_they_came() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Both));
    desk.fill(writer, &["1", "2", "3"]);
    assert_eq!(desk.send(writer, "x"), Got::Failed(Error::WouldWait));
    let calls = [desk.await_room(writer, "4"), desk.await_room(writer, "5")];
    assert_eq!((desk.counts().depth, desk.counts().waiting_writers, desk.counts().sent), (3, 2, 3));
    assert_eq!(desk.read(reader, 64), bytes("1"));
    assert_eq!((desk.got(calls[0]), desk.got(calls[1])), (Got::Written(1), Got::Waits));
    assert_eq!(desk.read(reader, 64), bytes("2"));
    assert_eq!(desk.got(calls[1]), Got::Written(1));
    for body in ["3", "4", "5"] {
        assert_eq!(desk.read(reader, 64), bytes(body));
    }
    assert_eq!((desk.memory.used(), desk.held()), (0, 0));
}

#[test]
fn nobody_overtakes_a_waiting_writer() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Both));
    let long = "l".repeat(60);
    desk.fill(writer, &[&long, "s"]);
    let first = desk.await_room(writer, &long);
    assert_eq!(desk.send(writer, "s"), Got::Failed(Error::WouldWait), "there would be room, but others wait");
    let second = desk.await_room(writer, "t");
    assert_eq!(desk.read(reader, 64), bytes(&long));
    assert_eq!((desk.got(first), desk.got(second)), (Got::Written(60), Got::Written(1)));
    for body in ["s", &long, "t"] {
        assert_eq!(desk.read(reader, 64), bytes(body));
    }
}

#[test]
fn a_writer_who_leaves_sent_nothing_whatever_its_place() {
    for leaving in 0..3 {
        let mut desk = Desk::new();
        let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Both));
        desk.fill(writer, &["x", "x", "x"]);
        let mut calls = ["a", "b", "c"].map(|body| (body, desk.await_room(writer, body))).to_vec();
        let (_, gone) = calls.remove(leaving);
        assert!(desk.cancel(gone));
        assert_eq!(desk.got(gone), Got::Failed(Error::Interrupted));
        assert!(!desk.cancel(gone));
        for _ in 0..3 {
            assert_eq!(desk.read(reader, 64), bytes("x"));
        }
        for (body, call) in calls {
            assert_eq!(desk.got(call), Got::Written(1));
            assert_eq!(desk.read(reader, 64), bytes(body));
        }
        assert_eq!((desk.counts().sent, desk.memory.used(), desk.held()), (5, 0, 0));
    }
}

#[test]
fn those_behind_a_long_message_come_in_when_its_writer_leaves() {
    let mut desk = Desk::new();
    let writer = desk.open(Mode::Send);
    desk.fill(writer, &[&"l".repeat(60)]);
    let (long, short) = (desk.await_room(writer, &"m".repeat(50)), desk.await_room(writer, "s"));
    assert!(desk.cancel(long));
    assert_eq!((desk.got(long), desk.got(short)), (Got::Failed(Error::Interrupted), Got::Written(1)));
}

#[test]
fn removal_tells_everyone_who_waits() {
    let mut desk = Desk::new();
    let readers = [desk.open(Mode::Receive), desk.open(Mode::Both)];
    let calls = readers.map(|reader| desk.await_message(reader));
    assert_eq!(desk.remove(), 0);
    assert!(calls.iter().all(|call| desk.got(*call) == Got::Failed(Error::Removed)));

    let mut desk = Desk::new();
    let writer = desk.open(Mode::Send);
    desk.fill(writer, &["1", "2", "3"]);
    let calls = [desk.await_room(writer, "4"), desk.await_room(writer, "5")];
    assert_eq!(desk.remove(), 3, "a message that was never sent is not lost");
    assert!(calls.iter().all(|call| desk.got(*call) == Got::Failed(Error::Removed)));
    assert_eq!((desk.memory.used(), desk.held()), (0, 0));
    assert!(desk.mailbox.is_removed());
}

#[test]
fn the_end_tells_everyone_who_waits_and_keeps_the_messages() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    desk.fill(writer, &["1", "2", "3"]);
    let call = desk.await_room(writer, "4");
    desk.call(|mailbox, cx| mailbox.end_waits(Error::Ending, cx));
    assert_eq!((desk.got(call), desk.held()), (Got::Failed(Error::Ending), 0));
    assert_eq!(desk.read(reader, 64), bytes("1"));
}

#[test]
fn closing_ends_the_reads_that_wait_through_it_and_no_others() {
    let mut desk = Desk::new();
    let (writer, closing, other) = (desk.open(Mode::Send), desk.open(Mode::Both), desk.open(Mode::Both));
    let calls = [closing, other, closing].map(|handle| desk.await_message(handle));
    desk.close(closing);
    let got = calls.map(|call| desk.got(call));
    assert_eq!(got, [Got::Failed(Error::BadDescriptor), Got::Waits, Got::Failed(Error::BadDescriptor)]);
    desk.fill(writer, &["x"]);
    assert_eq!(desk.got(calls[1]), bytes("x"));
}

#[test]
fn reads_that_wait_through_one_descriptor_share_a_message_too_long_for_the_first() {
    let mut desk = Desk::new();
    let (writer, both, other) = (desk.open(Mode::Send), desk.open(Mode::Both), desk.open(Mode::Both));
    let first = desk.read_at(both, 0, 2, false);
    let elsewhere = desk.read_at(other, 0, 2, false);
    let second = desk.read_at(both, 0, 2, false);
    let third = desk.read_at(both, 0, 2, false);
    assert_eq!(desk.counts().waiting_readers, 4);
    desk.fill(writer, &["abc"]);
    assert_eq!(
        (desk.got(first), desk.got(second)),
        (bytes("ab"), bytes("c")),
        "no message overtakes its rest"
    );
    assert_eq!((desk.got(elsewhere), desk.got(third)), (Got::Waits, Got::Waits));
    desk.fill(writer, &["d"]);
    desk.fill(writer, &["e"]);
    assert_eq!((desk.got(elsewhere), desk.got(third)), (bytes("d"), bytes("e")));
    assert_eq!(desk.counts(), Counts { sent: 3, received: 3, ..Counts::default() });
}

#[test]
fn a_second_read_at_the_same_place_gets_the_message_again_as_from_any_file() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    desk.fill(writer, &["xyz"]);
    for (offset, expected) in [(0, "xyz"), (3, "")] {
        let call = desk.read_at(reader, offset, 64, true);
        assert_eq!(desk.got(call), bytes(expected));
    }
    let calls = [desk.read_at(reader, 3, 2, false), desk.read_at(reader, 3, 64, false)];
    let ends = [desk.read_at(reader, 6, 64, false), desk.read_at(reader, 6, 64, false)];
    desk.fill(writer, &["abc"]);
    assert_eq!(calls.map(|call| desk.got(call)), [bytes("ab"), bytes("abc")], "pread(2) twice at one place");
    assert_eq!(ends.map(|call| desk.got(call)), [bytes(""), Got::Waits], "the end of file is told once");
    desk.fill(writer, &["d"]);
    assert_eq!(desk.got(ends[1]), bytes("d"));
}

#[test]
fn a_cancelled_read_is_no_longer_counted_for_its_descriptor() {
    let mut desk = Desk::new();
    let (writer, both) = (desk.open(Mode::Send), desk.open(Mode::Both));
    let (gone, stays) = (desk.await_message(both), desk.read_at(both, 0, 1, false));
    assert!(desk.cancel(gone));
    desk.fill(writer, &["ab"]);
    assert_eq!(desk.got(stays), bytes("a"));
    assert_eq!(desk.read(both, 64), bytes("b"));
    let again = desk.await_message(both);
    desk.fill(writer, &["c"]);
    assert_eq!(desk.got(again), bytes("c"));
}

#[test]
fn status_lists_who_waits_since_when() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    let call = desk.await_message(reader);
    let listed = desk.mailbox.waiters();
    let [one] = listed[..] else { panic!("{listed:?}") };
    assert_eq!((one.caller, one.writes, one.since), (caller(call), false, Timestamp(call)));
    assert!(desk.cancel(call));
    desk.fill(writer, &["1", "2", "3"]);
    let calls = [desk.await_room(writer, "4"), desk.await_room(writer, "5")];
    let listed = desk.mailbox.waiters();
    assert!(listed.iter().all(|waiter| waiter.writes));
    assert_eq!(listed.iter().map(|waiter| waiter.caller).collect::<Vec<_>>(), calls.map(caller));
}
