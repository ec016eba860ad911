//! What fits: limits, what a full mailbox does, memory, and writes that the kernel has cut.

use super::*;

#[test]
fn the_longest_message_is_taken_and_one_byte_more_is_refused() {
    let mut desk = Desk::new();
    let writer = desk.open(Mode::Send);
    assert_eq!(desk.send(writer, &"x".repeat(64)), Got::Written(64));
    assert_eq!(desk.send(writer, &"x".repeat(65)), Got::Failed(Error::TooLong));
    assert_eq!((desk.counts().depth, desk.counts().sent), (1, 1), "nothing of it was sent");
    desk.set_limits(MailboxLimits { maxbytes: 10, ..LIMITS });
    assert_eq!(desk.send(writer, &"x".repeat(11)), Got::Failed(Error::TooLong), "it would never fit");
}

#[test]
fn too_long_is_told_even_where_a_reader_waits() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    let call = desk.await_message(reader);
    assert_eq!(desk.send(writer, &"x".repeat(65)), Got::Failed(Error::TooLong));
    assert_eq!(desk.got(call), Got::Waits);
}

#[test]
fn nothing_is_no_message() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Receive));
    let call = desk.await_message(reader);
    assert_eq!(desk.send(writer, ""), Got::Written(0));
    assert_eq!((desk.got(call), desk.counts().sent), (Got::Waits, 0));
}

#[test]
fn messages_and_bytes_are_both_bounded_exactly() {
    let mut desk = Desk::new();
    let writer = desk.open(Mode::Send);
    desk.fill(writer, &["1", "2", "3"]);
    assert_eq!(desk.send(writer, "4"), Got::Failed(Error::WouldWait), "maxmsg");
    let mut desk = Desk::new();
    let writer = desk.open(Mode::Send);
    desk.fill(writer, &[&"x".repeat(60), &"x".repeat(40)]);
    assert_eq!(desk.counts().bytes, 100);
    assert_eq!(desk.send(writer, "4"), Got::Failed(Error::WouldWait), "maxbytes");
}

#[test]
fn full_can_mean_to_fail() {
    let mut desk = Desk::new();
    let writer = desk.open(Mode::Send);
    desk.fill(writer, &["1", "2", "3"]);
    let waiting = desk.await_room(writer, "4");
    desk.when_full(WhenFull::Fail);
    assert_eq!(
        (desk.got(waiting), desk.held()),
        (Got::Failed(Error::NoSpace), 0),
        "those who wait are told too"
    );
    let call = desk.write(writer, "5", false);
    assert_eq!(desk.got(call), Got::Failed(Error::NoSpace));
    assert_eq!(desk.counts(), Counts { depth: 3, bytes: 3, sent: 3, ..Counts::default() });
}

#[test]
fn full_can_mean_to_drop_the_oldest() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Both));
    desk.fill(writer, &["1", "2", "3"]);
    let waiting = desk.await_room(writer, "4");
    desk.when_full(WhenFull::DropOldest);
    assert_eq!((desk.got(waiting), desk.held()), (Got::Written(1), 0), "those who wait come in");
    desk.fill(writer, &["5"]);
    assert_eq!(desk.counts(), Counts { depth: 3, bytes: 3, sent: 5, dropped: 2, ..Counts::default() });
    for body in ["3", "4", "5"] {
        assert_eq!(desk.read(reader, 64), bytes(body));
    }
    assert_eq!(desk.memory.used(), 0);
}

#[test]
fn as_many_are_dropped_as_the_new_one_needs_and_no_more() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Both));
    desk.when_full(WhenFull::DropOldest);
    desk.fill(writer, &[&"a".repeat(30), &"b".repeat(30), &"c".repeat(30), &"d".repeat(50)]);
    assert_eq!(desk.counts(), Counts { depth: 2, bytes: 80, sent: 4, dropped: 2, ..Counts::default() });
    assert_eq!(desk.read(reader, 64), bytes(&"c".repeat(30)));
}

#[test]
fn nothing_is_dropped_for_a_message_that_has_no_room_all_the_same() {
    let mut desk = Desk::with(LIMITS, Memory::cost(10) + Memory::cost(40));
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Both));
    assert!(desk.memory.try_charge(Memory::cost(40)), "another mailbox's message");
    desk.when_full(WhenFull::DropOldest);
    desk.fill(writer, &["kept"]);
    assert_eq!(desk.send(writer, "longer than what the other has left"), Got::Failed(Error::NoSpace));
    assert_eq!(desk.counts().dropped, 0);
    desk.fill(writer, &["fits in"]);
    assert_eq!(desk.counts().dropped, 1, "with the memory of the one that is dropped");
    assert_eq!(desk.read(reader, 64), bytes("fits in"));

    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Both));
    desk.fill(writer, &["1", "2", "3"]);
    let waiting = desk.await_room(writer, "longer than the queue may be");
    desk.set_limits(MailboxLimits { maxbytes: 4, ..LIMITS });
    desk.when_full(WhenFull::DropOldest);
    assert_eq!((desk.got(waiting), desk.counts().depth), (Got::Waits, 3));
    for body in ["1", "2", "3", "longer than the queue may be"] {
        assert_eq!(desk.read(reader, 64), bytes(body));
    }
}

#[test]
fn raised_limits_let_waiting_writers_in() {
    let mut desk = Desk::new();
    let writer = desk.open(Mode::Send);
    desk.fill(writer, &["1", "2", "3"]);
    let calls = ["4", "5", "6"].map(|body| desk.await_room(writer, body));
    desk.set_limits(MailboxLimits { maxmsg: 5, ..LIMITS });
    assert_eq!(calls.map(|call| desk.got(call)), [Got::Written(1), Got::Written(1), Got::Waits]);
    assert_eq!(desk.mailbox.limits().maxmsg, 5);
}

#[test]
fn lowered_limits_keep_what_is_there_and_who_waits() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Both));
    desk.fill(writer, &["one", "two", "six"]);
    let waiting = desk.await_room(writer, "waited");
    desk.set_limits(MailboxLimits { msgsize: 2, maxmsg: 1, maxbytes: 4 });
    for body in ["one", "two", "six"] {
        assert_eq!(desk.read(reader, 64), bytes(body));
    }
    assert_eq!(desk.got(waiting), Got::Waits, "longer than the queue may be now");
    assert_eq!(desk.read(reader, 64), bytes("waited"), "but a reader takes it from the writer's hands");
    assert_eq!(desk.got(waiting), Got::Written(6));
    assert_eq!((desk.memory.used(), desk.held()), (0, 0));
}

#[test]
fn no_limit_is_none() {
    let none = MailboxLimits { msgsize: 64, maxmsg: u64::MAX, maxbytes: u64::MAX };
    let mut desk = Desk::with(none, PLENTY);
    let writer = desk.open(Mode::Send);
    for _ in 0..1000 {
        desk.fill(writer, &[&"x".repeat(64)]);
    }
    assert_eq!((desk.counts().depth, desk.counts().bytes), (1000, 64_000));
    assert!(desk.ready(writer).writable);
}

#[test]
fn memory_counts_each_message_with_its_cost() {
    let mut desk = Desk::with(LIMITS, 2 * Memory::cost(10));
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Both));
    desk.fill(writer, &["0123456789"]);
    assert_eq!(desk.memory.used(), Memory::cost(10));
    assert_eq!(desk.send(writer, "0123456789+"), Got::Failed(Error::WouldWait), "one byte too long");
    desk.fill(writer, &["0123456789"]);
    assert_eq!(desk.memory.used(), desk.memory.limit());
    assert_eq!(desk.read(reader, 1), bytes("0"));
    assert_eq!(desk.memory.used(), Memory::cost(10), "a message taken is no longer in the queue");
}

#[test]
fn a_writer_kept_out_by_memory_starves_until_there_is_some() {
    let mut desk = Desk::new();
    let writer = desk.open(Mode::Send);
    desk.crowd();
    let call = desk.await_room(writer, "0123456789");
    assert_eq!(desk.held(), Memory::cost(10));
    assert!(desk.mailbox.blocked_by_memory() && !desk.mailbox.memory_available(&desk.memory));
    desk.clear();
    assert!(desk.mailbox.blocked_by_memory(), "until it is told, whatever the memory has by then");
    assert!(desk.mailbox.memory_available(&desk.memory));
    desk.call(Mailbox::admit_writers);
    assert_eq!((desk.got(call), desk.held()), (Got::Written(10), 0));
    assert!(!desk.mailbox.blocked_by_memory(), "nobody waits");
}

#[test]
fn a_writer_kept_out_by_the_mailbox_itself_does_not_starve() {
    let mut desk = Desk::with(LIMITS, 3 * Memory::cost(1));
    let writer = desk.open(Mode::Send);
    desk.fill(writer, &["1", "2", "3"]);
    desk.await_room(writer, "4");
    assert!(!desk.mailbox.blocked_by_memory(), "memory would not help");
}

#[test]
fn whoever_polls_for_room_that_memory_lacks_starves_too() {
    let mut desk = Desk::new();
    let writer = desk.open(Mode::Send);
    desk.crowd();
    assert!(!desk.arm(writer, 1).writable);
    assert!(desk.mailbox.blocked_by_memory());
    desk.clear();
    desk.call(Mailbox::admit_writers);
    assert_eq!(desk.woken(), [1]);
    assert!(!desk.mailbox.blocked_by_memory());
}

#[test]
fn a_reader_takes_from_a_writer_whom_memory_keeps_out() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Both));
    desk.crowd();
    let calls = ["first", "second"].map(|body| desk.await_room(writer, body));
    assert_eq!(desk.read(reader, 64), bytes("first"));
    assert_eq!(calls.map(|call| desk.got(call)), [Got::Written(5), Got::Waits]);
    assert_eq!(desk.held(), Memory::cost(6));
    assert_eq!(desk.counts(), Counts { waiting_writers: 1, sent: 1, received: 1, ..Counts::default() });
}

#[test]
fn waiting_writers_are_bounded_by_memory_too() {
    let mut desk = Desk::with(MailboxLimits { maxmsg: 1, ..LIMITS }, 2 * Memory::cost(10));
    let writer = desk.open(Mode::Send);
    desk.fill(writer, &["x"]);
    let calls = ["0123456789", "0123456789"].map(|body| desk.await_room(writer, body));
    let refused = desk.write(writer, "x", false);
    assert_eq!(desk.got(refused), Got::Failed(Error::NoMemory));
    assert!(desk.cancel(calls[0]));
    desk.await_room(writer, "0123456789");
}

#[test]
fn a_later_part_of_a_cut_write_is_refused_and_so_is_what_follows_it_once() {
    let mut desk = Desk::new();
    let (writer, other) = (desk.open(Mode::Send), desk.open(Mode::Send));
    assert_eq!(desk.send(writer, "begin"), Got::Written(5));
    let call = desk.write_part(writer, "middle", true, true);
    assert_eq!(desk.got(call), Got::Failed(Error::TooLong));
    let call = desk.write_part(writer, "end", true, true);
    assert_eq!(desk.got(call), Got::Failed(Error::TooLong));
    assert_eq!(desk.send(other, "other"), Got::Written(5), "another descriptor has nothing to do with it");
    assert_eq!(desk.send(writer, "remainder"), Got::Failed(Error::TooLong), "of a program that goes on");
    assert_eq!(desk.send(writer, "new"), Got::Written(3));
    assert_eq!(desk.counts().sent, 3);
}

#[test]
fn a_refused_write_leaves_no_trace() {
    let mut desk = Desk::with(LIMITS, Memory::cost(1));
    let writer = desk.open(Mode::Send);
    desk.fill(writer, &["x"]);
    for (full, error) in [(WhenFull::Wait, Error::WouldWait), (WhenFull::Fail, Error::NoSpace)] {
        desk.when_full(full);
        assert_eq!(desk.send(writer, "y"), Got::Failed(error));
    }
    assert_eq!(desk.memory.used(), Memory::cost(1));
    assert_eq!(desk.held(), 0);
}
