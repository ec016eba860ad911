//! poll(2): what it finds, and when those who wait in it are woken.

use super::*;

const NOBODY: [u64; 0] = [];
const NOTHING: Ready = Ready { readable: false, writable: false, hangup: false };

#[test]
fn ready_is_what_would_not_wait() {
    let mut desk = Desk::new();
    let (writer, reader, both) = (desk.open(Mode::Send), desk.open(Mode::Receive), desk.open(Mode::Both));
    assert_eq!(desk.ready(writer), Ready { writable: true, ..NOTHING });
    assert_eq!(desk.ready(reader), NOTHING, "neither readable nor, as it is not open for writing, writable");
    assert_eq!(desk.ready(both), Ready { writable: true, ..NOTHING });
    desk.fill(writer, &["1"]);
    assert_eq!(desk.ready(reader), Ready { readable: true, ..NOTHING });
    assert_eq!(desk.ready(both), Ready { readable: true, writable: true, ..NOTHING });
    assert_eq!(desk.ready(writer), Ready { writable: true, ..NOTHING });
    desk.fill(writer, &["2", "3"]);
    assert_eq!(desk.ready(writer), NOTHING, "full");
    desk.when_full(WhenFull::Fail);
    assert!(desk.ready(writer).writable, "to fail is not to wait");
}

#[test]
fn a_message_in_hand_is_ready_until_its_end_was_told() {
    let mut desk = Desk::new();
    let (writer, file, stream) = (desk.open(Mode::Send), desk.open(Mode::Receive), desk.open(Mode::Both));
    desk.fill(writer, &["ab", "cd"]);
    for (offset, expected) in [(0, "a"), (1, "b"), (2, "")] {
        assert!(desk.ready(file).readable);
        let call = desk.read_at(file, offset, 1, true);
        assert_eq!(desk.got(call), bytes(expected));
    }
    assert_eq!(desk.read(stream, 1), bytes("c"));
    assert!(!desk.ready(file).readable, "its end was told, and no other message waits");
    assert!(desk.ready(stream).readable);
    assert_eq!(desk.read(stream, 1), bytes("d"));
    assert!(!desk.ready(stream).readable);
    let call = desk.read_at(file, 0, 1, true);
    assert_eq!(desk.got(call), bytes("a"));
    assert!(desk.ready(file).readable, "it sought back");
}

#[test]
fn writable_means_a_message_of_any_length() {
    let mut desk = Desk::new();
    let writer = desk.open(Mode::Send);
    desk.fill(writer, &[&"x".repeat(37)]);
    assert!(!desk.ready(writer).writable, "63 bytes are free, and a message may have 64");
    desk.set_limits(MailboxLimits { msgsize: 63, ..LIMITS });
    assert!(desk.ready(writer).writable);
}

#[test]
fn a_send_wakes_those_who_armed_for_reading_once() {
    let mut desk = Desk::new();
    let (writer, readers) = (desk.open(Mode::Send), [desk.open(Mode::Receive), desk.open(Mode::Both)]);
    desk.arm(readers[0], 1);
    desk.arm(readers[1], 2);
    desk.arm(writer, 3);
    desk.fill(writer, &["x"]);
    assert_eq!(desk.woken(), [1, 2]);
    desk.fill(writer, &["y"]);
    assert_eq!(desk.woken(), NOBODY, "not armed again");
}

#[test]
fn a_poll_without_arming_wakes_nobody() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    desk.ready(reader);
    desk.fill(writer, &["x"]);
    assert_eq!(desk.woken(), NOBODY);
}

#[test]
fn the_latest_arming_of_a_descriptor_counts() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    desk.arm(reader, 1);
    desk.arm(reader, 2);
    desk.fill(writer, &["x"]);
    assert_eq!(desk.woken(), [2]);
}

#[test]
fn a_closed_descriptor_is_not_woken_and_polls_as_hung_up() {
    let mut desk = Desk::new();
    let (writer, both) = (desk.open(Mode::Send), desk.open(Mode::Both));
    desk.arm(both, 1);
    desk.close(both);
    desk.fill(writer, &["x"]);
    desk.remove();
    assert_eq!(desk.woken(), NOBODY);
    assert_eq!(desk.ready(both), Ready { hangup: true, ..NOTHING });
}

#[test]
fn a_message_handed_over_wakes_nobody() {
    let mut desk = Desk::new();
    let (writer, reader, poller) =
        (desk.open(Mode::Send), desk.open(Mode::Receive), desk.open(Mode::Receive));
    desk.await_message(reader);
    desk.arm(poller, 1);
    desk.fill(writer, &["x"]);
    assert_eq!(desk.woken(), NOBODY, "there is nothing for it");
    desk.fill(writer, &["y"]);
    assert_eq!(desk.woken(), [1], "but it stays armed");
}

#[test]
fn the_rest_of_a_message_wakes_who_polls_through_the_same_descriptor() {
    for mode in [Mode::Receive, Mode::Both] {
        let mut desk = Desk::new();
        let (writer, reader, other) = (desk.open(Mode::Send), desk.open(mode), desk.open(mode));
        let call = desk.read_at(reader, 0, 2, false);
        assert!(!desk.arm(reader, 1).readable);
        desk.arm(other, 2);
        desk.fill(writer, &["abc"]);
        assert_eq!(desk.got(call), bytes("ab"));
        assert_eq!(desk.woken(), [1]);
        assert!(desk.ready(reader).readable);
    }
}

#[test]
fn room_wakes_those_who_armed_for_writing_when_any_message_fits() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Both));
    desk.fill(writer, &["a", "b", &"x".repeat(60)]);
    assert!(!desk.arm(writer, 1).writable);
    assert_eq!(desk.read(reader, 64), bytes("a"));
    assert_eq!(desk.woken(), NOBODY, "39 bytes are free");
    assert_eq!(desk.read(reader, 64), bytes("b"));
    assert_eq!(desk.woken(), NOBODY);
    assert_eq!(desk.read(reader, 64), bytes(&"x".repeat(60)));
    assert_eq!(desk.woken(), [1]);
    assert!(desk.ready(writer).writable);
}

#[test]
fn room_that_a_waiting_writer_takes_is_no_room_for_pollers() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Both));
    desk.fill(writer, &["1", "2", "3"]);
    desk.arm(writer, 1);
    desk.await_room(writer, "4");
    assert_eq!(desk.read(reader, 64), bytes("1"));
    assert_eq!(desk.woken(), NOBODY);
    assert_eq!(desk.read(reader, 64), bytes("2"));
    assert_eq!(desk.woken(), [1]);
}

#[test]
fn a_waiting_reader_is_room_and_wakes_those_who_armed_for_writing() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    desk.crowd();
    assert!(!desk.arm(writer, 1).writable);
    let call = desk.await_message(reader);
    assert_eq!(desk.woken(), [1]);
    assert!(desk.ready(writer).writable);
    assert!(desk.cancel(call));
    assert!(!desk.arm(writer, 2).writable);
}

#[test]
fn a_writer_whom_memory_keeps_out_of_an_empty_mailbox_is_something_to_read() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    desk.crowd();
    assert!(!desk.arm(reader, 1).readable);
    let call = desk.await_room(writer, "x");
    assert_eq!(desk.woken(), [1], "a read would not wait any more");
    assert!(desk.ready(reader).readable);
    assert_eq!(desk.read(reader, 64), bytes("x"));
    assert_eq!(desk.got(call), Got::Written(1));
}

#[test]
fn changed_settings_wake_whom_they_concern() {
    let full = || {
        let mut desk = Desk::new();
        let writer = desk.open(Mode::Send);
        desk.fill(writer, &["1", "2", "3"]);
        assert!(!desk.arm(writer, 1).writable);
        desk
    };
    let mut desk = full();
    desk.set_limits(MailboxLimits { maxmsg: 4, ..LIMITS });
    assert_eq!(desk.woken(), [1]);
    for policy in [WhenFull::Fail, WhenFull::DropOldest] {
        let mut desk = full();
        desk.when_full(policy);
        assert_eq!(desk.woken(), [1]);
    }
}

#[test]
fn a_writer_who_leaves_makes_room_for_pollers() {
    let mut desk = Desk::new();
    let writer = desk.open(Mode::Send);
    desk.fill(writer, &["x"]);
    desk.set_limits(MailboxLimits { msgsize: 64, maxmsg: 3, maxbytes: 64 });
    let call = desk.await_room(writer, &"y".repeat(64));
    desk.set_limits(MailboxLimits { msgsize: 8, maxmsg: 3, maxbytes: 64 });
    assert!(!desk.arm(writer, 1).writable, "somebody waits before it");
    assert!(desk.cancel(call));
    assert_eq!(desk.woken(), [1]);
}

#[test]
fn removal_wakes_everyone_and_polls_as_hung_up() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    desk.fill(writer, &["ab"]);
    assert_eq!(desk.read(reader, 1), bytes("a"));
    desk.arm(writer, 1);
    desk.arm(reader, 2);
    desk.remove();
    assert_eq!(desk.woken(), [1, 2]);
    assert_eq!(desk.ready(writer), Ready { hangup: true, ..NOTHING });
    assert_eq!(
        desk.ready(reader),
        Ready { readable: true, hangup: true, ..NOTHING },
        "it has a message to finish"
    );
}
