//! Leases, time limits, the dead, and messages that are moved.

use super::*;
use crate::op::Ino;

const NONE: [&str; 0] = [];

/// Bodies of those that went to the dead, which are then where they belong.
fn dead(desk: &mut Desk) -> Vec<String> {
    let dead = desk.mailbox.take_outbox();
    for message in &dead {
        desk.memory.uncharge(message.cost());
    }
    dead.iter().map(|message| String::from_utf8_lossy(&message.body).into_owned()).collect()
}

#[test]
fn a_leased_message_is_received_once_it_is_acknowledged() {
    let mut desk = Desk::new();
    let (writer, lease) = (desk.open(Mode::Send), desk.enter(Door::Lease, Mode::Both));
    desk.fill(writer, &["one", "two"]);
    let got = [desk.read(lease, 2), desk.read(lease, 64), desk.read(lease, 64)];
    assert_eq!(got, [bytes("on"), bytes("e"), bytes("")]);
    assert_eq!(desk.read(lease, 64), bytes(""), "until it is settled");
    assert!(!desk.ready(lease).readable);
    assert_eq!((desk.counts().leased, desk.counts().received, desk.counts().depth), (1, 0, 1));
    assert_eq!(desk.send(lease, "perhaps"), Got::Failed(Error::Invalid));
    assert_eq!(desk.send(lease, "ack\n"), Got::Written(4));
    assert_eq!(desk.send(lease, "ack"), Got::Failed(Error::NoMessage));
    assert_eq!((desk.counts().leased, desk.counts().received), (0, 1));
    assert_eq!(desk.read(lease, 64), bytes("two"));
    assert_eq!(desk.send(lease, " ack "), Got::Written(5));
    assert_eq!(desk.memory.used(), 0);
}

#[test]
fn what_is_given_back_comes_first_with_one_more_delivery() {
    let mut desk = Desk::new();
    let (writer, lease, reader) =
        (desk.open(Mode::Send), desk.enter(Door::Lease, Mode::Both), desk.open(Mode::Both));
    desk.fill(writer, &["one", "two"]);
    for deliveries in 1..4 {
        assert_eq!(desk.read(lease, 64), bytes("one"));
        if deliveries == 2 {
            desk.close(lease);
            assert_eq!(desk.enter(Door::Lease, Mode::Both), lease);
        } else {
            assert_eq!(desk.send(lease, "nack"), Got::Written(4));
        }
        let id = desk.mailbox.list(0, 1)[0].1;
        assert_eq!(desk.mailbox.message(id).unwrap().deliveries(), deliveries);
    }
    assert_eq!(desk.counts().redelivered, 3);
    assert_eq!([desk.read(reader, 64), desk.read(reader, 64)], [bytes("one"), bytes("two")]);
    assert_eq!(desk.memory.used(), 0);
}

#[test]
fn what_is_given_back_goes_to_whoever_waits_and_room_to_writers() {
    let mut desk = Desk::with(LIMITS, Memory::cost(1));
    let (writer, lease) = (desk.open(Mode::Send), desk.enter(Door::Lease, Mode::Both));
    let reader = desk.open(Mode::Both);
    desk.fill(writer, &["1"]);
    assert_eq!(desk.read(lease, 64), bytes("1"));
    let waiting = desk.await_room(writer, "2");
    let call = desk.read_at(reader, 0, 64, false);
    assert_eq!((desk.got(call), desk.got(waiting)), (bytes("2"), Got::Written(1)));
    let (call, waiting) = (desk.await_message(reader), desk.write(writer, "3", false));
    assert_eq!((desk.got(call), desk.got(waiting)), (bytes("3"), Got::Written(1)));
    let waiting = desk.await_room(writer, "4");
    assert_eq!(desk.send(lease, "ack"), Got::Written(3));
    assert_eq!((desk.got(waiting), desk.counts().depth), (Got::Written(1), 1), "a lease keeps its memory");
}

#[test]
fn reads_that_wait_through_one_descriptor_lease_one_message_between_them() {
    let mut desk = Desk::new();
    let (writer, lease) = (desk.open(Mode::Send), desk.enter(Door::Lease, Mode::Both));
    let calls = [(); 4].map(|()| desk.read_at(lease, 0, 2, false));
    desk.fill(writer, &["one", "two"]);
    assert_eq!(calls.map(|call| desk.got(call)), [bytes("on"), bytes("e"), bytes(""), bytes("")]);
    assert_eq!((desk.counts().leased, desk.counts().depth), (1, 1));
    assert_eq!(desk.send(lease, "ack"), Got::Written(3));
    assert_eq!(desk.read(lease, 64), bytes("two"));
    desk.close(lease);
    assert_eq!(desk.counts().depth, 1);
}

#[test]
fn a_message_that_was_delivered_too_often_goes_to_the_dead_or_is_dropped() {
    for (grave, words) in
        [(None, ["nack", "nack"]), (Some(Ino(9)), ["nack", "nack"]), (Some(Ino(9)), ["nack", "reject"])]
    {
        let mut desk = Desk::new();
        desk.rules(|rules| (rules.max_deliver, rules.dead_letter) = (2, grave));
        let (writer, lease) = (desk.open(Mode::Send), desk.enter(Door::Lease, Mode::Both));
        desk.fill(writer, &["one"]);
        for word in words {
            assert_eq!(desk.read(lease, 64), bytes("one"));
            assert_eq!(dead(&mut desk), NONE);
            assert_eq!(desk.send(lease, word), Got::Written(4));
        }
        assert_eq!(dead(&mut desk), if grave.is_some() { vec!["one"] } else { vec![] });
        let counts = desk.counts();
        assert_eq!((counts.dead_lettered, counts.dropped), if grave.is_some() { (1, 0) } else { (0, 1) });
        assert_eq!((counts.depth, counts.leased, counts.redelivered), (0, 0, 1));
        assert_eq!(desk.memory.used(), 0);
    }
}

#[test]
fn what_nobody_buries_counts_once() {
    let mut desk = Desk::new();
    desk.rules(|rules| (rules.ttl, rules.dead_letter) = (1000, Some(Ino(9))));
    let (writer, lease) = (desk.open(Mode::Send), desk.enter(Door::Lease, Mode::Both));
    desk.fill(writer, &["given up", "expired"]);
    assert_eq!(desk.read(lease, 64), bytes("given up"));
    assert_eq!(desk.send(lease, "reject"), Got::Written(6));
    desk.tick(1000);
    let gone = desk.mailbox.take_outbox();
    desk.call(|mailbox, cx| mailbox.drop_dead_letters(gone, cx));
    let counts = desk.counts();
    assert_eq!((counts.dead_lettered, counts.dropped, counts.expired), (0, 1, 1));
    assert_eq!(desk.memory.used(), 0);
}

#[test]
fn a_lease_ends_by_itself_and_its_holder_learns_of_it() {
    let mut desk = Desk::new();
    desk.rules(|rules| rules.lease_time = 100);
    let (writer, lease, other) =
        (desk.open(Mode::Send), desk.enter(Door::Lease, Mode::Both), desk.enter(Door::Lease, Mode::Both));
    desk.fill(writer, &["one"]);
    assert_eq!(desk.read(lease, 2), bytes("on"));
    let end = Timestamp(desk.now + 100);
    assert_eq!(desk.mailbox.next_deadline(), Some(end));
    desk.arm(lease, 7);
    desk.woken();
    desk.tick(98);
    assert_eq!((desk.counts().leased, desk.counts().depth), (1, 0), "not yet");
    desk.tick(0);
    assert_eq!((desk.counts().leased, desk.counts().depth, desk.counts().redelivered), (0, 1, 1));
    assert_eq!(desk.mailbox.next_deadline(), None);
    assert!(desk.woken().contains(&7));
    assert_eq!(desk.read(lease, 64), bytes(""), "no more of it, nor of another");
    assert_eq!(desk.read(other, 64), bytes("one"));
    assert_eq!(desk.send(lease, "ack"), Got::Failed(Error::NoMessage));
    assert_eq!((desk.counts().leased, desk.counts().received), (1, 0), "the other has it still");
    assert_eq!(desk.read(lease, 64), Got::Failed(Error::WouldWait), "it may lease again");
    assert_eq!(desk.send(other, "ack"), Got::Written(3));
    assert_eq!((desk.memory.used(), desk.mailbox.next_deadline()), (0, None));
}

#[test]
fn a_leased_message_can_be_settled_after_the_name_is_gone() {
    for (word, received) in [("ack", 1), ("nack", 0)] {
        let mut desk = Desk::new();
        let (writer, lease) = (desk.open(Mode::Send), desk.enter(Door::Lease, Mode::Both));
        desk.fill(writer, &["one", "two"]);
        assert_eq!(desk.read(lease, 2), bytes("on"));
        assert_eq!(desk.remove(), 1);
        assert_eq!(desk.read(lease, 64), bytes("e"), "what it holds it may finish");
        assert!(matches!(desk.send(lease, word), Got::Written(_)));
        assert_eq!(desk.send(lease, word), Got::Failed(Error::Removed));
        assert_eq!(desk.read(lease, 64), Got::Failed(Error::Removed));
        assert_eq!((desk.counts().received, desk.memory.used()), (received, 0));
    }
}

#[test]
fn messages_go_by_themselves_when_their_time_is_over() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Both));
    desk.fill(writer, &["stays"]);
    desk.rules(|rules| rules.ttl = 100);
    desk.fill(writer, &["1", "2"]);
    let waiting = desk.await_room(writer, "3");
    let first = Timestamp(desk.now - 2 + 100);
    assert_eq!(desk.mailbox.next_deadline(), Some(first));
    desk.now = first.0 - 1;
    desk.tick(0);
    assert_eq!((desk.counts().expired, desk.got(waiting)), (1, Got::Written(1)));
    desk.tick(50);
    assert_eq!(desk.counts().expired, 2);
    desk.tick(40);
    assert_eq!((desk.counts().expired, desk.counts().depth), (2, 2), "its time began as it came in");
    desk.tick(100);
    assert_eq!(desk.counts().expired, 3);
    assert_eq!(
        [desk.read(reader, 64), desk.read(reader, 64)],
        [bytes("stays"), Got::Failed(Error::WouldWait)]
    );
    assert_eq!((desk.memory.used(), desk.mailbox.next_deadline()), (0, None));
}

#[test]
fn no_reader_gets_what_is_over_though_nobody_has_told_the_time() {
    let mut desk = Desk::new();
    desk.rules(|rules| rules.ttl = 10);
    let (writer, reader, peek) =
        (desk.open(Mode::Send), desk.open(Mode::Both), desk.enter(Door::Peek, Mode::Receive));
    desk.fill(writer, &["1", "2", "3"]);
    let waiting = desk.await_room(writer, "4");
    desk.now += 6;
    assert_eq!(desk.read(peek, 64), bytes("2"));
    assert_eq!(desk.got(waiting), Got::Written(1), "there was room for it");
    desk.now += 100;
    assert_eq!(desk.read(reader, 64), Got::Failed(Error::WouldWait));
    assert_eq!((desk.counts().expired, desk.memory.used()), (4, 0));
}

#[test]
fn what_expires_while_it_is_leased_does_not_come_back() {
    let mut desk = Desk::new();
    desk.rules(|rules| (rules.ttl, rules.lease_time) = (10, 50));
    let (writer, lease) = (desk.open(Mode::Send), desk.enter(Door::Lease, Mode::Both));
    let other = desk.enter(Door::Lease, Mode::Both);
    desk.fill(writer, &["1", "2"]);
    assert_eq!([desk.read(lease, 64), desk.read(other, 64)], [bytes("1"), bytes("2")]);
    desk.now += 20;
    assert_eq!(desk.send(lease, "nack"), Got::Written(4));
    desk.tick(50);
    let counts = desk.counts();
    assert_eq!((counts.expired, counts.depth, counts.redelivered), (2, 0, 0));
    assert_eq!((desk.memory.used(), desk.mailbox.next_deadline()), (0, None));
}

#[test]
fn a_moved_message_keeps_what_it_is_and_its_time_begins_anew() {
    let mut desk = Desk::new();
    desk.rules(|rules| rules.ttl = 1000);
    let (writer, reader) =
        (desk.enter(Door::Tag([b't'].as_slice().into()), Mode::Send), desk.open(Mode::Both));
    desk.fill(writer, &["moves", "stays"]);
    let [(_, first), _] = desk.mailbox.list(0, 9)[..] else { panic!() };
    let message = desk.call(|mailbox, cx| mailbox.extract_message(first, cx)).unwrap();
    let (sent, tag) = (message.sent, message.tag().cloned());
    assert_eq!(desk.mailbox.check_insert(&message), Ok(()));
    desk.call(|mailbox, cx| mailbox.insert_message(message, true, cx));
    let now = desk.now;
    let moved = desk.mailbox.message(first).unwrap();
    assert_eq!((moved.sent, moved.tag().cloned(), moved.deliveries()), (sent, tag, 0));
    assert_eq!(moved.expires(), Some(Timestamp(now + 1000)));
    assert_eq!(
        desk.mailbox.list(0, 9).iter().map(|(_, id)| *id).next_back(),
        Some(first),
        "behind the others"
    );
    assert_eq!([desk.read(reader, 64), desk.read(reader, 64)], [bytes("stays"), bytes("moves")]);
    assert_eq!((desk.counts().moved_in, desk.counts().moved_out, desk.memory.used()), (1, 1, 0));
}

#[test]
fn a_message_is_moved_only_where_it_would_come_in() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.open(Mode::Send), desk.open(Mode::Both));
    desk.fill(writer, &["0123456789"]);
    let id = desk.mailbox.list(0, 1)[0].1;
    let message = desk.call(|mailbox, cx| mailbox.extract_message(id, cx)).unwrap();
    desk.set_limits(MailboxLimits { msgsize: 9, ..LIMITS });
    assert_eq!(desk.mailbox.check_insert(&message), Err(Error::TooLong));
    desk.set_limits(LIMITS);
    desk.fill(writer, &["1", "2", "3"]);
    assert_eq!(desk.mailbox.check_insert(&message), Err(Error::NoSpace));
    for _ in 0..3 {
        desk.read(reader, 64);
    }
    let call = desk.await_message(reader);
    assert_eq!(desk.mailbox.check_insert(&message), Ok(()));
    desk.call(|mailbox, cx| mailbox.insert_message(message.clone(), true, cx));
    assert_eq!((desk.got(call), desk.memory.used()), (bytes("0123456789"), 0));
    desk.remove();
    assert_eq!(desk.mailbox.check_insert(&message), Err(Error::NotFound));
    assert!(desk.memory.try_charge(message.cost()));
    desk.call(|mailbox, cx| mailbox.insert_message(message, false, cx));
    assert_eq!(
        (desk.counts().depth, desk.counts().dropped, desk.memory.used()),
        (0, 1, 0),
        "it came too late"
    );
}

#[test]
fn single_messages_are_removed_by_their_number() {
    let mut desk = Desk::new();
    let (writer, reader) = (desk.enter(Door::Stream, Mode::Send), desk.open(Mode::Both));
    desk.fill(writer, &["1\n2\n3\n"]);
    let waiting = desk.await_room(writer, "4\n");
    let ids: Vec<u64> = desk.mailbox.list(0, 9).iter().map(|(_, id)| *id).collect();
    assert_eq!(desk.mailbox.message(ids[1]).unwrap().body[..], *b"2\n");
    assert_eq!(desk.call(|mailbox, cx| mailbox.remove_message(ids[1], cx)), Ok(()));
    assert_eq!(desk.call(|mailbox, cx| mailbox.remove_message(ids[1], cx)), Err(Error::NotFound));
    assert_eq!((desk.got(waiting), desk.counts().removed), (Got::Written(2), 1));
    for body in ["1\n", "3\n", "4\n"] {
        assert_eq!(desk.read(reader, 64), bytes(body));
    }
    assert_eq!(desk.memory.used(), 0);
}

#[test]
fn what_has_expired_keeps_no_writer_out_even_before_the_clock_comes_round() {
    let mut desk = Desk::with(MailboxLimits { maxmsg: 1, ..LIMITS }, PLENTY);
    let rules = Rules { ttl: 1, ..desk.mailbox.rules() };
    desk.call(|mailbox, cx| mailbox.set_rules(rules, cx));
    let writer = desk.open(Mode::Send);
    assert_eq!(desk.send(writer, "old"), Got::Written(3));
    // Each call is a nanosecond later.
    desk.open(Mode::Send);
    assert_eq!(desk.send(writer, "new"), Got::Written(3));
    assert_eq!((desk.counts().expired, desk.counts().depth), (1, 1));
}
