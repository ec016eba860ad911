//! Shares of the mount's memory: what one user holds keeps no other out.

use super::*;
use crate::accounts::COUNT;

const A: u32 = 1001;
const B: u32 = 1002;

/// Memory for `messages` of one byte, of which one user may take half.
fn shared(messages: u64) -> Rig {
    let limit = messages * Memory::cost(1);
    Rig::with_accounts(LIMITS, Accounts::new([limit; COUNT], [limit / 2; COUNT], 0))
}

#[test]
fn a_writer_that_waits_for_its_users_share_holds_up_its_user_only() {
    let mut rig = shared(4);
    let [a, b] = [A, B].map(|uid| rig.enter_as(uid, Door::Plain, Mode::Send));
    let reader = rig.enter_as(B, Door::Stream, Mode::Receive);
    rig.fill(a, &["1", "2"]);
    let waiting = [rig.await_room(a, "3"), rig.await_room(a, "4")];
    assert!(rig.mailbox.blocked_by_memory() && !rig.mailbox.memory_available());
    assert!(!rig.ready(a).writable && rig.ready(b).writable);
    rig.fill(b, &["5"]);
    assert_eq!(waiting.map(|call| rig.got(call)), [Got::Waits, Got::Waits]);
    assert_eq!(rig.read(reader, 1), bytes("1"));
    assert_eq!(waiting.map(|call| rig.got(call)), [Got::Written(1), Got::Waits], "in order");
    for body in ["2", "5", "3", "4"] {
        assert_eq!(rig.read(reader, 1), bytes(body));
    }
    assert_eq!((rig.got(waiting[1]), rig.memory.used(), rig.held()), (Got::Written(1), 0, 0));
}

#[test]
fn what_waits_has_a_share_of_its_own() {
    let mut rig = shared(4);
    rig.set_limits(MailboxLimits { maxmsg: 1, ..LIMITS });
    let [a, b] = [A, B].map(|uid| rig.enter_as(uid, Door::Plain, Mode::Send));
    rig.fill(a, &["1"]);
    let waiting = [rig.await_room(a, "2"), rig.await_room(a, "3")];
    let refused = rig.write(a, "4", false);
    assert_eq!(rig.got(refused), Got::Failed(Error::NoMemory));
    rig.await_room(b, "5");
    assert_eq!(waiting.map(|call| rig.got(call)), [Got::Waits, Got::Waits]);
    let whole = rig.enter_as(A, Door::Whole, Mode::Send);
    assert_eq!(rig.send(whole, "6"), Got::Failed(Error::NoMemory));
    let whole = rig.enter_as(B, Door::Whole, Mode::Send);
    assert_eq!(rig.send(whole, "7"), Got::Written(1));
}

#[test]
fn a_message_counts_for_its_sender_until_the_last_of_its_bytes_is_gone() {
    for door in [Door::Plain, Door::Lease, Door::Peek, Door::Json] {
        let mut rig = shared(20);
        let writer = rig.enter_as(A, Door::Plain, Mode::Send);
        let mode = if door == Door::Lease { Mode::Both } else { Mode::Receive };
        let reader = rig.enter_as(B, door.clone(), mode);
        rig.fill(writer, &["message"]);
        rig.read(reader, 3);
        assert!(rig.memory.used() >= Memory::cost(7), "{door:?}");
        let taker = rig.enter_as(B, Door::Stream, Mode::Receive);
        rig.read(taker, 64);
        assert!(rig.memory.used() >= Memory::cost(7), "{door:?}: whoever received it meanwhile");
        rig.close(reader);
        rig.read(taker, 64);
        assert_eq!(rig.memory.used(), 0, "{door:?}");
    }
}

#[test]
fn a_peek_that_its_user_has_no_share_for_fails() {
    let mut rig = shared(4);
    let writer = rig.enter_as(A, Door::Plain, Mode::Send);
    rig.fill(writer, &["1"]);
    let peeks = [(); 3].map(|()| rig.enter_as(B, Door::Peek, Mode::Receive));
    let refused = Got::Failed(Error::NoMemory);
    assert_eq!(peeks.map(|peek| rig.read(peek, 9)), [bytes("1"), bytes("1"), refused]);
    rig.close(peeks[0]);
    assert_eq!(rig.read(peeks[2], 9), bytes("1"));
}

#[test]
fn a_reply_that_its_client_has_no_share_for_stays_with_the_server() {
    let mut rig = shared(4);
    let (client, server) = (rig.enter_as(A, Door::Rpc, Mode::Both), rig.enter_as(B, Door::Serve, Mode::Both));
    rig.fill(client, &["?"]);
    assert_eq!(rig.read(server, 9), bytes("?"));
    let others = [Resource::Memory, Resource::Waiting]
        .map(|resource| rig.accounts.of(A).charge(resource, Memory::cost(1)).unwrap());
    assert_eq!(rig.send(server, "longer"), Got::Failed(Error::NoMemory));
    drop(others);
    assert_eq!(rig.send(server, "longer"), Got::Written(6));
    assert_eq!((rig.read(client, 9), rig.memory.used(), rig.held()), (bytes("longer"), 0, 0));
}

#[test]
fn where_the_share_is_full_the_oldest_message_of_the_same_user_is_dropped() {
    let mut rig = shared(6);
    rig.set_limits(MailboxLimits { maxmsg: 10, ..LIMITS });
    let [a, b] = [A, B].map(|uid| rig.enter_as(uid, Door::Plain, Mode::Send));
    rig.when_full(WhenFull::DropOldest);
    rig.fill(a, &["1", "2", "3", "4"]);
    assert_eq!((rig.counts().depth, rig.counts().dropped), (3, 1));
    let reader = rig.enter_as(B, Door::Stream, Mode::Receive);
    assert_eq!(rig.read(reader, 3), bytes("234"));
    rig.fill(b, &["5"]);
    rig.fill(a, &["6", "7", "8"]);
    assert_eq!(rig.send(a, "9"), Got::Failed(Error::NoSpace), "the oldest is another's");
    assert_eq!((rig.counts().depth, rig.counts().dropped), (4, 1));
}

#[test]
fn a_short_line_keeps_no_long_write_in_memory() {
    let mut rig = Rig::new();
    rig.set_limits(MailboxLimits { msgsize: 4096, maxmsg: 100, maxbytes: 8192 });
    let (writer, reader) = (rig.enter(Door::Stream, Mode::Send), rig.enter(Door::Stream, Mode::Receive));
    let long = "x".repeat(4000);
    rig.fill(writer, &[&format!("a\nb\n{long}")]);
    let first = rig.mailbox.list(0, 1)[0].1;
    assert!(rig.mailbox.message(first).unwrap().body.len() <= 4);
    rig.fill(writer, &["\nc\n"]);
    assert_eq!(rig.read(reader, 4), bytes("a\nb\n"));
    assert_eq!(rig.read(reader, 4096), bytes(&format!("{long}\nc\n")));

    // What is left of a run that is received bit by bit, and of a line that is too long for the buffer.
    rig.fill(writer, &[&"12345678\n".repeat(50)]);
    rig.read(reader, 49 * 9);
    assert!(rig.mailbox.queue.first().unwrap().body.len() <= 2 * 9);
    assert_eq!(rig.read(reader, 4), bytes("1234"));
    assert_eq!(rig.read(reader, 64), bytes("5678\n"));
    assert_eq!((rig.memory.used(), rig.held()), (0, 0));
}

/// Longer than what an open file keeps at its sender's expense.
const LONG: usize = 5000;

/// A mailbox, and memory of each kind for `messages` long messages, of which one user may take half.
fn shared_long(messages: u64) -> Rig {
    let limit = messages * Memory::cost(LONG);
    let limits = MailboxLimits { msgsize: 10_000, maxmsg: u64::MAX, maxbytes: u64::MAX };
    Rig::with_accounts(limits, Accounts::new([limit; COUNT], [limit / 2; COUNT], 0))
}

#[test]
fn what_readers_have_in_hand_keeps_nobody_from_sending() {
    let mut rig = shared_long(8);
    let writer = rig.enter_as(A, Door::Plain, Mode::Send);
    let body = "x".repeat(LONG);
    let mut readers = Vec::new();
    for _ in 0..4 {
        rig.fill(writer, &[&body]);
        let reader = rig.enter_as(A, Door::Plain, Mode::Receive);
        assert_eq!(rig.read(reader, 1), bytes("x"));
        readers.push(reader);
    }
    assert_eq!((rig.memory.used(), rig.held()), (0, 4 * Memory::cost(LONG)));
    // No room for another that is not read to its end.
    rig.fill(writer, &[&body]);
    for mode in [Mode::Receive, Mode::Both] {
        let reader = rig.enter_as(A, Door::Plain, mode);
        assert_eq!(rig.read(reader, LONG - 1), Got::Failed(Error::NoMemory));
        assert_eq!((rig.counts().depth, rig.counts().received), (1, 4), "it stays");
        rig.close(reader);
    }
    let other = rig.enter_as(B, Door::Plain, Mode::Both);
    assert_eq!(rig.read(other, 1), bytes("x"), "another user has a share of his own");
    rig.close(other);
    rig.fill(writer, &[&body, &body]);
    rig.close(readers[0]);
    let reader = rig.enter_as(A, Door::Stream, Mode::Receive);
    assert_eq!(rig.read(reader, 1), bytes("x"));
    assert_eq!(rig.read(reader, LONG), bytes(&body[1..]), "the rest of it");
    assert_eq!(rig.read(reader, LONG), bytes(&body));
    readers[1..].iter().for_each(|reader| rig.close(*reader));
    assert_eq!((rig.memory.used(), rig.held()), (0, 0));
}

#[test]
fn what_was_read_to_its_end_is_dropped_where_there_is_no_room_to_keep_it() {
    let mut rig = shared_long(4);
    let writer = rig.enter_as(A, Door::Plain, Mode::Send);
    let (body, end) = ("x".repeat(LONG), LONG as u64);
    let readers: Vec<HandleId> = (0..20)
        .map(|_| {
            rig.fill(writer, &[&body]);
            let reader = rig.enter_as(A, Door::Plain, Mode::Receive);
            assert_eq!(rig.read(reader, 2 * LONG), bytes(&body));
            reader
        })
        .collect();
    // The first two are kept.
    assert_eq!(rig.read(readers[0], 2), bytes("xx"));
    assert_eq!(rig.held(), 2 * Memory::cost(LONG));
    assert_eq!(rig.memory.used(), 0);
    let last = readers[19];
    assert_eq!(rig.read_on(last, 1, 2), Got::Failed(Error::NoMemory));
    assert_eq!(rig.read(last, 2), Got::Failed(Error::NoMemory), "it is not the next message");
    assert_eq!(rig.read_on(last, end, 2), bytes(""));
    assert_eq!(rig.read(last, 2), Got::Failed(Error::NoMemory));
    rig.fill(writer, &["next"]);
    assert_eq!(rig.read_on(last, end, 9), bytes("next"));
    assert_eq!(rig.read_on(last, end, 9), bytes("next"), "this one is kept");
}

#[test]
fn a_reader_that_waited_gets_the_beginning_of_a_message_at_its_senders_expense() {
    let mut rig = shared_long(4);
    let writer = rig.enter_as(A, Door::Plain, Mode::Send);
    let held = rig.accounts.of(A).charge(Resource::Waiting, 2 * Memory::cost(LONG)).unwrap();
    let reader = rig.enter_as(A, Door::Plain, Mode::Both);
    let waiting = rig.await_message(reader);
    rig.fill(writer, &[&"x".repeat(LONG)]);
    assert_eq!(rig.got(waiting), bytes(&"x".repeat(64)));
    assert_eq!(rig.memory.used(), Memory::cost(LONG));
    drop(held);
    assert_eq!(rig.read(reader, LONG), bytes(&"x".repeat(LONG - 64)));
    assert_eq!(rig.memory.used(), 0);
}

#[test]
fn a_message_that_is_more_than_its_readers_share_can_be_read() {
    let mut rig = shared_long(1);
    let writer = rig.enter_as(0, Door::Plain, Mode::Send);
    rig.fill(writer, &[&"x".repeat(LONG)]);
    let reader = rig.enter_as(A, Door::Plain, Mode::Receive);
    assert_eq!(rig.read(reader, 1), bytes("x"));
    assert_eq!((rig.memory.used(), rig.held()), (Memory::cost(LONG), 0), "it counts for its sender");
    assert_eq!(rig.read_on(reader, 1, LONG), bytes(&"x".repeat(LONG - 1)));
    assert_eq!((rig.memory.used(), rig.held()), (0, 0), "until it was read");
}

#[test]
fn a_long_read_is_passed_on_in_pieces_and_ends_where_there_is_no_room_to_keep_what_it_read() {
    const PIECE: usize = MAX_READ as usize;
    let length = 2 * PIECE + 100;
    let limit = 6 * Memory::cost(length);
    let limits = MailboxLimits { msgsize: u32::MAX, maxmsg: u64::MAX, maxbytes: u64::MAX };
    let mut rig = Rig::with_accounts(limits, Accounts::new([limit; COUNT], [limit / 2; COUNT], 0));
    let writer = rig.enter_as(A, Door::Plain, Mode::Send);
    let body = "x".repeat(length);
    for _ in 0..10 {
        rig.fill(writer, &[&body]);
        let reader = rig.enter_as(A, Door::Plain, Mode::Receive);
        for (offset, expected) in [(0, PIECE), (PIECE, PIECE), (2 * PIECE, 100), (length, 0)] {
            let got = rig.read_by(3, reader, offset as u64, PIECE);
            assert_eq!(got, bytes(&body[..expected]), "at {offset}");
        }
    }
    assert_eq!((rig.memory.used(), rig.held()), (0, 3 * Memory::cost(length)));
}
