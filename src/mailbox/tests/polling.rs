//! poll(2): what it reports, and when pollers are woken.

use super::*;

const NOBODY: [u64; 0] = [];
const NOTHING: Ready = Ready { readable: false, writable: false, hangup: false };

#[test]
fn ready_means_that_a_call_would_not_wait() {
    let mut rig = Rig::new();
    let (writer, reader, both) = (rig.open(Mode::Send), rig.open(Mode::Receive), rig.open(Mode::Both));
    assert_eq!(rig.ready(writer), Ready { writable: true, ..NOTHING });
    assert_eq!(rig.ready(reader), NOTHING, "neither readable nor, as it is not open for writing, writable");
    assert_eq!(rig.ready(both), Ready { writable: true, ..NOTHING });
    rig.fill(writer, &["1"]);
    assert_eq!(rig.ready(reader), Ready { readable: true, ..NOTHING });
    assert_eq!(rig.ready(both), Ready { readable: true, writable: true, ..NOTHING });
    assert_eq!(rig.ready(writer), Ready { writable: true, ..NOTHING });
    rig.fill(writer, &["2", "3"]);
    assert_eq!(rig.ready(writer), NOTHING, "full");
    rig.when_full(WhenFull::Fail);
    assert!(rig.ready(writer).writable, "to fail is not to wait");
}

#[test]
fn the_current_message_is_ready_until_its_end_of_file_was_read() {
    let mut rig = Rig::new();
    let (writer, file, stream) = (rig.open(Mode::Send), rig.open(Mode::Receive), rig.open(Mode::Both));
    rig.fill(writer, &["ab", "cd"]);
    for (offset, expected) in [(0, "a"), (1, "b"), (2, "")] {
        assert!(rig.ready(file).readable);
        let call = rig.read_at(file, offset, 1, true);
        assert_eq!(rig.got(call), bytes(expected));
    }
    assert_eq!(rig.read(stream, 1), bytes("c"));
    assert!(!rig.ready(file).readable, "its end was told, and no other message waits");
    assert!(rig.ready(stream).readable);
    assert_eq!(rig.read(stream, 1), bytes("d"));
    assert!(!rig.ready(stream).readable);
    let call = rig.read_at(file, 0, 1, true);
    assert_eq!(rig.got(call), bytes("a"));
    assert!(rig.ready(file).readable, "it sought back");
}

#[test]
fn writable_means_a_message_of_any_length() {
    let mut rig = Rig::new();
    let writer = rig.open(Mode::Send);
    rig.fill(writer, &[&"x".repeat(37)]);
    assert!(!rig.ready(writer).writable, "63 bytes are free, and a message may have 64");
    rig.set_limits(MailboxLimits { msgsize: 63, ..LIMITS });
    assert!(rig.ready(writer).writable);
}

#[test]
fn a_send_wakes_armed_readers_once() {
    let mut rig = Rig::new();
    let (writer, readers) = (rig.open(Mode::Send), [rig.open(Mode::Receive), rig.open(Mode::Both)]);
    rig.arm(readers[0], 1);
    rig.arm(readers[1], 2);
    rig.arm(writer, 3);
    rig.fill(writer, &["x"]);
    assert_eq!(rig.woken(), [1, 2]);
    rig.fill(writer, &["y"]);
    assert_eq!(rig.woken(), NOBODY, "not armed again");
}

#[test]
fn a_poll_without_arming_wakes_nobody() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    rig.ready(reader);
    rig.fill(writer, &["x"]);
    assert_eq!(rig.woken(), NOBODY);
}

#[test]
fn the_latest_arming_of_a_descriptor_counts() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    rig.arm(reader, 1);
    rig.arm(reader, 2);
    rig.fill(writer, &["x"]);
    assert_eq!(rig.woken(), [2]);
}

#[test]
fn a_poller_is_woken_by_what_it_waits_for_and_by_removal() {
    let mut rig = Rig::new();
    let (writer, handle) = (rig.open(Mode::Send), rig.open(Mode::Both));
    let wait_for = |rig: &mut Rig, input, output| {
        let poller = Poller { handle: PollHandle(1), events: PollEvents { input, output } };
        rig.mailbox.poll(handle, Some(poller));
    };
    wait_for(&mut rig, true, false);
    rig.fill(writer, &["x"]);
    assert_eq!(rig.woken(), [1]);
    wait_for(&mut rig, true, false);
    assert_eq!(rig.read(handle, 9), bytes("x"));
    assert_eq!(rig.woken(), NOBODY, "room is not what it waits for");
    rig.fill(writer, &["y"]);
    assert_eq!(rig.woken(), [1]);
    wait_for(&mut rig, false, true);
    rig.fill(writer, &["z"]);
    assert_eq!(rig.woken(), NOBODY, "a message is not what it waits for");
    assert_eq!(rig.read(handle, 9), bytes("y"));
    assert_eq!(rig.woken(), [1]);
    for (input, output) in [(false, false), (true, false), (false, true)] {
        let mut rig = Rig::new();
        let handle = rig.open(Mode::Both);
        rig.mailbox
            .poll(handle, Some(Poller { handle: PollHandle(2), events: PollEvents { input, output } }));
        rig.remove();
        assert_eq!(rig.woken(), [2]);
    }
}

#[test]
fn a_closed_descriptor_is_not_woken_and_polls_as_hung_up() {
    let mut rig = Rig::new();
    let (writer, both) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.arm(both, 1);
    rig.close(both);
    rig.fill(writer, &["x"]);
    rig.remove();
    assert_eq!(rig.woken(), NOBODY);
    assert_eq!(rig.ready(both), Ready { hangup: true, ..NOTHING });
}

#[test]
fn a_message_for_a_waiting_reader_wakes_no_poller() {
    let mut rig = Rig::new();
    let (writer, reader, poller) = (rig.open(Mode::Send), rig.open(Mode::Receive), rig.open(Mode::Receive));
    rig.await_message(reader);
    rig.arm(poller, 1);
    rig.fill(writer, &["x"]);
    assert_eq!(rig.woken(), NOBODY, "there is nothing for it");
    rig.fill(writer, &["y"]);
    assert_eq!(rig.woken(), [1], "but it stays armed");
}

#[test]
fn the_rest_of_a_message_wakes_pollers_of_the_same_descriptor() {
    for mode in [Mode::Receive, Mode::Both] {
        let mut rig = Rig::new();
        let (writer, reader, other) = (rig.open(Mode::Send), rig.open(mode), rig.open(mode));
        let call = rig.read_at(reader, 0, 2, false);
        assert!(!rig.arm(reader, 1).readable);
        rig.arm(other, 2);
        rig.fill(writer, &["abc"]);
        assert_eq!(rig.got(call), bytes("ab"));
        assert_eq!(rig.woken(), [1]);
        assert!(rig.ready(reader).readable);
    }
}

#[test]
fn room_wakes_armed_writers_when_any_message_fits() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.fill(writer, &["a", "b", &"x".repeat(60)]);
    assert!(!rig.arm(writer, 1).writable);
    assert_eq!(rig.read(reader, 64), bytes("a"));
    assert_eq!(rig.woken(), NOBODY, "39 bytes are free");
    assert_eq!(rig.read(reader, 64), bytes("b"));
    assert_eq!(rig.woken(), NOBODY);
    assert_eq!(rig.read(reader, 64), bytes(&"x".repeat(60)));
    assert_eq!(rig.woken(), [1]);
    assert!(rig.ready(writer).writable);
}

#[test]
fn room_taken_by_a_waiting_writer_wakes_no_poller() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.fill(writer, &["1", "2", "3"]);
    rig.arm(writer, 1);
    rig.await_room(writer, "4");
    assert_eq!(rig.read(reader, 64), bytes("1"));
    assert_eq!(rig.woken(), NOBODY);
    assert_eq!(rig.read(reader, 64), bytes("2"));
    assert_eq!(rig.woken(), [1]);
}

#[test]
fn a_waiting_reader_wakes_armed_writers() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    rig.fill_memory();
    assert!(!rig.arm(writer, 1).writable);
    let call = rig.await_message(reader);
    assert_eq!(rig.woken(), [1]);
    assert!(rig.ready(writer).writable);
    assert!(rig.cancel(call));
    assert!(!rig.arm(writer, 2).writable);
}

#[test]
fn a_writer_blocked_by_memory_makes_an_empty_mailbox_readable() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    rig.fill_memory();
    assert!(!rig.arm(reader, 1).readable);
    let call = rig.await_room(writer, "x");
    assert_eq!(rig.woken(), [1], "a read would not wait any more");
    assert!(rig.ready(reader).readable);
    assert_eq!(rig.read(reader, 64), bytes("x"));
    assert_eq!(rig.got(call), Got::Written(1));
}

#[test]
fn changed_settings_wake_the_pollers_concerned() {
    let full = || {
        let mut rig = Rig::new();
        let writer = rig.open(Mode::Send);
        rig.fill(writer, &["1", "2", "3"]);
        assert!(!rig.arm(writer, 1).writable);
        rig
    };
    let mut rig = full();
    rig.set_limits(MailboxLimits { maxmsg: 4, ..LIMITS });
    assert_eq!(rig.woken(), [1]);
    for policy in [WhenFull::Fail, WhenFull::DropOldest] {
        let mut rig = full();
        rig.when_full(policy);
        assert_eq!(rig.woken(), [1]);
    }
}

#[test]
fn a_cancelled_writer_makes_room_for_pollers() {
    let mut rig = Rig::new();
    let writer = rig.open(Mode::Send);
    rig.fill(writer, &["x"]);
    rig.set_limits(MailboxLimits { msgsize: 64, maxmsg: 3, maxbytes: 64 });
    let call = rig.await_room(writer, &"y".repeat(64));
    rig.set_limits(MailboxLimits { msgsize: 8, maxmsg: 3, maxbytes: 64 });
    assert!(!rig.arm(writer, 1).writable, "somebody waits before it");
    assert!(rig.cancel(call));
    assert_eq!(rig.woken(), [1]);
}

#[test]
fn removal_wakes_everyone_and_polls_as_hung_up() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Receive));
    rig.fill(writer, &["ab"]);
    assert_eq!(rig.read(reader, 1), bytes("a"));
    rig.arm(writer, 1);
    rig.arm(reader, 2);
    rig.remove();
    assert_eq!(rig.woken(), [1, 2]);
    assert_eq!(rig.ready(writer), Ready { hangup: true, ..NOTHING });
    assert_eq!(
        rig.ready(reader),
        Ready { readable: true, hangup: true, ..NOTHING },
        "it has a message to finish"
    );
}
