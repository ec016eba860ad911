//! Waiting callers: the order in which they are served, and other ends of a wait.

use super::*;

#[test]
fn readers_are_served_first_come_first_served() {
    let mut rig = Rig::new();
    let writer = rig.open(Mode::Send);
    let readers: Vec<HandleId> = (0..3).map(|_| rig.open(Mode::Receive)).collect();
    let calls: Vec<u64> = readers.iter().map(|reader| rig.await_message(*reader)).collect();
    assert_eq!(rig.counts().waiting_readers, 3);
    for (call, body) in calls.iter().zip(["first", "second", "third"]) {
        assert_eq!(rig.send(writer, body), Got::Written(body.len() as u32));
        assert_eq!(rig.got(*call), bytes(body));
    }
    assert!(rig.answers.is_empty());
    let expected = Counts { sent: 3, received: 3, ..Counts::default() };
    assert_eq!(rig.counts(), expected, "handed over without ever being in the queue");
}

#[test]
fn a_message_for_a_waiting_reader_needs_no_room() {
    let mut rig = Rig::new();
    rig.fill_memory();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    let call = rig.await_message(reader);
    assert_eq!(rig.send(writer, "x"), Got::Written(1));
    assert_eq!(rig.got(call), bytes("x"));
}

#[test]
fn a_cancelled_reader_takes_nothing_whatever_its_place() {
    for leaving in 0..3 {
        let mut rig = Rig::new();
        let writer = rig.open(Mode::Send);
        let readers: Vec<HandleId> = (0..3).map(|_| rig.open(Mode::Receive)).collect();
        let mut calls: Vec<u64> = readers.iter().map(|reader| rig.await_message(*reader)).collect();
        let gone = calls.remove(leaving);
        assert!(rig.cancel(gone));
        assert_eq!(rig.got(gone), Got::Failed(Error::Interrupted));
        assert!(!rig.cancel(gone), "once");
        rig.fill(writer, &["one", "two", "left"]);
        assert_eq!(calls.iter().map(|call| rig.got(*call)).collect::<Vec<_>>(), [bytes("one"), bytes("two")]);
        assert_eq!(rig.counts().depth, 1);
        assert_eq!(rig.read(readers[leaving], 64), bytes("left"), "it may come again");
    }
}

#[test]
fn an_answered_call_cannot_be_cancelled() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    let call = rig.await_message(reader);
    rig.fill(writer, &["x"]);
    assert!(!rig.cancel(call), "late");
    assert_eq!(rig.got(call), bytes("x"));
}

#[test]
fn a_full_mailbox_makes_writers_wait_and_admits_them_in_order() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.fill(writer, &["1", "2", "3"]);
    assert_eq!(rig.send(writer, "x"), Got::Failed(Error::WouldWait));
    let calls = [rig.await_room(writer, "4"), rig.await_room(writer, "5")];
    assert_eq!((rig.counts().depth, rig.counts().waiting_writers, rig.counts().sent), (3, 2, 3));
    assert_eq!(rig.read(reader, 64), bytes("1"));
    assert_eq!((rig.got(calls[0]), rig.got(calls[1])), (Got::Written(1), Got::Waits));
    assert_eq!(rig.read(reader, 64), bytes("2"));
    assert_eq!(rig.got(calls[1]), Got::Written(1));
    for body in ["3", "4", "5"] {
        assert_eq!(rig.read(reader, 64), bytes(body));
    }
    assert_eq!((rig.memory.used(), rig.held()), (0, 0));
}

#[test]
fn nobody_overtakes_a_waiting_writer() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    let long = "l".repeat(60);
    rig.fill(writer, &[&long, "s"]);
    let first = rig.await_room(writer, &long);
    assert_eq!(rig.send(writer, "s"), Got::Failed(Error::WouldWait), "there would be room, but others wait");
    let second = rig.await_room(writer, "t");
    assert_eq!(rig.read(reader, 64), bytes(&long));
    assert_eq!((rig.got(first), rig.got(second)), (Got::Written(60), Got::Written(1)));
    for body in ["s", &long, "t"] {
        assert_eq!(rig.read(reader, 64), bytes(body));
    }
}

#[test]
fn a_cancelled_writer_sends_nothing_whatever_its_place() {
    for leaving in 0..3 {
        let mut rig = Rig::new();
        let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
        rig.fill(writer, &["x", "x", "x"]);
        let mut calls = ["a", "b", "c"].map(|body| (body, rig.await_room(writer, body))).to_vec();
        let (_, gone) = calls.remove(leaving);
        assert!(rig.cancel(gone));
        assert_eq!(rig.got(gone), Got::Failed(Error::Interrupted));
        assert!(!rig.cancel(gone));
        for _ in 0..3 {
            assert_eq!(rig.read(reader, 64), bytes("x"));
        }
        for (body, call) in calls {
            assert_eq!(rig.got(call), Got::Written(1));
            assert_eq!(rig.read(reader, 64), bytes(body));
        }
        assert_eq!((rig.counts().sent, rig.memory.used(), rig.held()), (5, 0, 0));
    }
}

#[test]
fn writers_behind_a_long_message_are_admitted_when_it_is_cancelled() {
    let mut rig = Rig::new();
    let writer = rig.open(Mode::Send);
    rig.fill(writer, &[&"l".repeat(60)]);
    let (long, short) = (rig.await_room(writer, &"m".repeat(50)), rig.await_room(writer, "s"));
    assert!(rig.cancel(long));
    assert_eq!((rig.got(long), rig.got(short)), (Got::Failed(Error::Interrupted), Got::Written(1)));
}

#[test]
fn removal_ends_all_waits() {
    let mut rig = Rig::new();
    let readers = [rig.open(Mode::Receive), rig.open(Mode::Both)];
    let calls = readers.map(|reader| rig.await_message(reader));
    assert_eq!(rig.remove(), 0);
    assert!(calls.iter().all(|call| rig.got(*call) == Got::Failed(Error::Removed)));

    let mut rig = Rig::new();
    let writer = rig.open(Mode::Send);
    rig.fill(writer, &["1", "2", "3"]);
    let calls = [rig.await_room(writer, "4"), rig.await_room(writer, "5")];
    assert_eq!(rig.remove(), 3, "a message that was never sent is not lost");
    assert!(calls.iter().all(|call| rig.got(*call) == Got::Failed(Error::Removed)));
    assert_eq!((rig.memory.used(), rig.held()), (0, 0));
    assert!(rig.mailbox.is_removed());
}

#[test]
fn the_end_of_the_mount_ends_all_waits_and_keeps_the_messages() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    rig.fill(writer, &["1", "2", "3"]);
    let call = rig.await_room(writer, "4");
    rig.call(|mailbox, cx| mailbox.end_waits(Error::Ending, cx));
    assert_eq!((rig.got(call), rig.held()), (Got::Failed(Error::Ending), 0));
    assert_eq!(rig.read(reader, 64), bytes("1"));
}

#[test]
fn closing_ends_the_reads_that_wait_through_it_and_no_others() {
    let mut rig = Rig::new();
    let (writer, closing, other) = (rig.open(Mode::Send), rig.open(Mode::Both), rig.open(Mode::Both));
    let calls = [closing, other, closing].map(|handle| rig.await_message(handle));
    rig.close(closing);
    let got = calls.map(|call| rig.got(call));
    assert_eq!(got, [Got::Failed(Error::BadDescriptor), Got::Waits, Got::Failed(Error::BadDescriptor)]);
    rig.fill(writer, &["x"]);
    assert_eq!(rig.got(calls[1]), bytes("x"));
}

#[test]
fn reads_that_wait_through_one_descriptor_share_a_message_too_long_for_the_first() {
    let mut rig = Rig::new();
    let (writer, both, other) = (rig.open(Mode::Send), rig.open(Mode::Both), rig.open(Mode::Both));
    let first = rig.read_at(both, 0, 2, false);
    let elsewhere = rig.read_at(other, 0, 2, false);
    let second = rig.read_at(both, 0, 2, false);
    let third = rig.read_at(both, 0, 2, false);
    assert_eq!(rig.counts().waiting_readers, 4);
    rig.fill(writer, &["abc"]);
    assert_eq!((rig.got(first), rig.got(second)), (bytes("ab"), bytes("c")), "no message overtakes its rest");
    assert_eq!((rig.got(elsewhere), rig.got(third)), (Got::Waits, Got::Waits));
    rig.fill(writer, &["d"]);
    rig.fill(writer, &["e"]);
    assert_eq!((rig.got(elsewhere), rig.got(third)), (bytes("d"), bytes("e")));
    assert_eq!(rig.counts(), Counts { sent: 3, received: 3, ..Counts::default() });
}

#[test]
fn a_second_read_at_the_same_place_gets_the_message_again_as_from_any_file() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    rig.fill(writer, &["xyz"]);
    for (offset, expected) in [(0, "xyz"), (3, "")] {
        let call = rig.read_at(reader, offset, 64, true);
        assert_eq!(rig.got(call), bytes(expected));
    }
    let calls = [rig.read_at(reader, 3, 2, false), rig.read_at(reader, 3, 64, false)];
    let ends = [rig.read_at(reader, 6, 64, false), rig.read_at(reader, 6, 64, false)];
    rig.fill(writer, &["abc"]);
    assert_eq!(calls.map(|call| rig.got(call)), [bytes("ab"), bytes("abc")], "pread(2) twice at one place");
    assert_eq!(ends.map(|call| rig.got(call)), [bytes(""), Got::Waits], "the end of file is told once");
    rig.fill(writer, &["d"]);
    assert_eq!(rig.got(ends[1]), bytes("d"));
}

#[test]
fn a_cancelled_read_is_no_longer_counted_for_its_descriptor() {
    let mut rig = Rig::new();
    let (writer, both) = (rig.open(Mode::Send), rig.open(Mode::Both));
    let (gone, stays) = (rig.await_message(both), rig.read_at(both, 0, 1, false));
    assert!(rig.cancel(gone));
    rig.fill(writer, &["ab"]);
    assert_eq!(rig.got(stays), bytes("a"));
    assert_eq!(rig.read(both, 64), bytes("b"));
    let again = rig.await_message(both);
    rig.fill(writer, &["c"]);
    assert_eq!(rig.got(again), bytes("c"));
}

#[test]
fn status_lists_the_waiting_callers_with_their_times() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    let call = rig.await_message(reader);
    let listed = rig.mailbox.waiters();
    let [one] = listed[..] else { panic!("{listed:?}") };
    assert_eq!((one.caller, one.writes, one.since), (caller(call), false, at(call).moment));
    assert!(rig.cancel(call));
    rig.fill(writer, &["1", "2", "3"]);
    let calls = [rig.await_room(writer, "4"), rig.await_room(writer, "5")];
    let listed = rig.mailbox.waiters();
    assert!(listed.iter().all(|waiter| waiter.writes));
    assert_eq!(listed.iter().map(|waiter| waiter.caller).collect::<Vec<_>>(), calls.map(caller));
}
