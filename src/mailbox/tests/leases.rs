//! Leases, time limits, dead letters, and messages that are moved.

use super::*;
use crate::config::NO_LIMIT;
use crate::journal::record::{How, Reason};

const NONE: [&str; 0] = [];

/// Takes the dead letters from the outbox; returns their bodies.
fn dead_letters(rig: &mut Rig) -> Vec<String> {
    let messages = rig.mailbox.take_outbox();
    messages.iter().map(|message| String::from_utf8_lossy(&message.body).into_owned()).collect()
}

#[test]
fn a_leased_message_is_received_once_it_is_acknowledged() {
    let mut rig = Rig::new();
    let (writer, lease) = (rig.open(Mode::Send), rig.enter(Door::Lease, Mode::Both));
    rig.fill(writer, &["one", "two"]);
    let got = [rig.read(lease, 2), rig.read(lease, 64), rig.read(lease, 64)];
    assert_eq!(got, [bytes("on"), bytes("e"), bytes("")]);
    assert_eq!(rig.read(lease, 64), bytes(""), "until it is settled");
    assert!(!rig.ready(lease).readable);
    assert_eq!((rig.counts().leased, rig.counts().received, rig.counts().depth), (1, 0, 1));
    assert_eq!(rig.send(lease, "perhaps"), Got::Failed(Error::Invalid));
    assert_eq!(rig.send(lease, "ack\n"), Got::Written(4));
    assert_eq!(rig.send(lease, "ack"), Got::Failed(Error::NoMessage));
    assert_eq!((rig.counts().leased, rig.counts().received), (0, 1));
    assert_eq!(rig.read(lease, 64), bytes("two"));
    assert_eq!(rig.send(lease, " ack "), Got::Written(5));
    assert_eq!(rig.memory.used(), 0);
}

#[test]
fn a_returned_message_is_first_and_counts_one_more_delivery() {
    let mut rig = Rig::new();
    let (writer, lease, reader) =
        (rig.open(Mode::Send), rig.enter(Door::Lease, Mode::Both), rig.open(Mode::Both));
    rig.fill(writer, &["one", "two"]);
    for deliveries in 1..4 {
        assert_eq!(rig.read(lease, 64), bytes("one"));
        if deliveries == 2 {
            rig.close(lease);
            assert_eq!(rig.enter(Door::Lease, Mode::Both), lease);
        } else {
            assert_eq!(rig.send(lease, "nack"), Got::Written(4));
        }
        let id = rig.mailbox.list(0, 1)[0].1;
        assert_eq!(rig.mailbox.message(id).unwrap().deliveries(), deliveries);
    }
    assert_eq!(rig.counts().redelivered, 3);
    assert_eq!([rig.read(reader, 64), rig.read(reader, 64)], [bytes("one"), bytes("two")]);
    assert_eq!(rig.memory.used(), 0);
}

#[test]
fn a_returned_message_goes_to_a_waiting_reader_and_its_room_to_a_writer() {
    let mut rig = Rig::with(LIMITS, Memory::cost(1));
    let (writer, lease) = (rig.open(Mode::Send), rig.enter(Door::Lease, Mode::Both));
    let reader = rig.open(Mode::Both);
    rig.fill(writer, &["1"]);
    assert_eq!(rig.read(lease, 64), bytes("1"));
    let waiting = rig.await_room(writer, "2");
    let call = rig.read_at(reader, 0, 64, false);
    assert_eq!((rig.got(call), rig.got(waiting)), (bytes("2"), Got::Written(1)));
    let (call, waiting) = (rig.await_message(reader), rig.write(writer, "3", false));
    assert_eq!((rig.got(call), rig.got(waiting)), (bytes("3"), Got::Written(1)));
    let waiting = rig.await_room(writer, "4");
    assert_eq!(rig.send(lease, "ack"), Got::Written(3));
    assert_eq!((rig.got(waiting), rig.counts().depth), (Got::Written(1), 1), "a lease keeps its memory");
}

#[test]
fn reads_that_wait_through_one_descriptor_share_one_lease() {
    let mut rig = Rig::new();
    let (writer, lease) = (rig.open(Mode::Send), rig.enter(Door::Lease, Mode::Both));
    let calls = [(); 4].map(|()| rig.read_at(lease, 0, 2, false));
    rig.fill(writer, &["one", "two"]);
    assert_eq!(calls.map(|call| rig.got(call)), [bytes("on"), bytes("e"), bytes(""), bytes("")]);
    assert_eq!((rig.counts().leased, rig.counts().depth), (1, 1));
    assert_eq!(rig.send(lease, "ack"), Got::Written(3));
    assert_eq!(rig.read(lease, 64), bytes("two"));
    rig.close(lease);
    assert_eq!(rig.counts().depth, 1);
}

#[test]
fn a_message_that_was_delivered_too_often_becomes_a_dead_letter_or_is_dropped() {
    for (dead_letter, words) in [
        (None, ["nack", "nack"]),
        (Some(dead_letter()), ["nack", "nack"]),
        (Some(dead_letter()), ["nack", "reject"]),
    ] {
        let mut rig = Rig::new();
        rig.rules(|rules| (rules.max_deliver, rules.dead_letter) = (2, dead_letter));
        let (writer, lease) = (rig.open(Mode::Send), rig.enter(Door::Lease, Mode::Both));
        rig.fill(writer, &["one"]);
        for word in words {
            assert_eq!(rig.read(lease, 64), bytes("one"));
            assert_eq!(dead_letters(&mut rig), NONE);
            assert_eq!(rig.send(lease, word), Got::Written(word.len() as u32));
        }
        assert_eq!(dead_letters(&mut rig), if dead_letter.is_some() { vec!["one"] } else { vec![] });
        let counts = rig.counts();
        assert_eq!(
            (counts.dead_lettered, counts.dropped),
            if dead_letter.is_some() { (1, 0) } else { (0, 1) }
        );
        assert_eq!((counts.depth, counts.leased, counts.redelivered), (0, 0, 1));
        assert_eq!(rig.memory.used(), 0);
    }
}

#[test]
fn a_dead_letter_tells_why_it_is_one() {
    let mut rig = Rig::with(MailboxLimits { maxmsg: 9, ..LIMITS }, PLENTY);
    let (writer, lease) = (rig.open(Mode::Send), rig.enter(Door::Lease, Mode::Both));
    rig.rules(|rules| (rules.max_deliver, rules.dead_letter) = (1, Some(dead_letter())));
    rig.fill(writer, &["fails", "rejected"]);
    rig.rules(|rules| rules.ttl = 1000);
    rig.fill(writer, &["late"]);
    for word in ["nack 1ms", "reject"] {
        assert!(matches!(rig.read(lease, 64), Got::Bytes(_)));
        assert_eq!(rig.send(lease, word), Got::Written(word.len() as u32));
    }
    rig.tick(1000);
    let letters = rig.mailbox.take_outbox();
    let why = |letter: &Message| letter.reason().unwrap();
    assert_eq!(
        letters.iter().map(why).collect::<Vec<_>>(),
        [Reason::Deliveries, Reason::Rejected, Reason::Expired]
    );
    let mut other = Rig::with(MailboxLimits { maxmsg: 9, ..LIMITS }, PLENTY);
    for (letter, reset) in letters.into_iter().zip([false, true, false]) {
        other.call(|mailbox, cx| mailbox.insert_message(letter, How::Moved, reset, cx));
    }
    let ids: Vec<u64> = other.mailbox.list(0, 9).into_iter().map(|(_, id)| id).collect();
    let left: Vec<_> = ids.into_iter().map(|id| other.mailbox.message(id).unwrap().reason()).collect();
    assert_eq!(
        left,
        [Some(Reason::Deliveries), None, Some(Reason::Expired)],
        "who moves it gives it a new life"
    );
}

#[test]
fn a_dead_letter_without_a_mailbox_is_counted_once() {
    let mut rig = Rig::new();
    rig.rules(|rules| (rules.ttl, rules.dead_letter) = (1000, Some(dead_letter())));
    let (writer, lease) = (rig.open(Mode::Send), rig.enter(Door::Lease, Mode::Both));
    rig.fill(writer, &["rejected", "expired"]);
    assert_eq!(rig.read(lease, 64), bytes("rejected"));
    assert_eq!(rig.send(lease, "reject"), Got::Written(6));
    rig.tick(1000);
    let gone = rig.mailbox.take_outbox();
    rig.call(|mailbox, cx| mailbox.drop_dead_letters(gone, cx));
    let counts = rig.counts();
    assert_eq!((counts.dead_lettered, counts.dropped, counts.expired), (0, 1, 1));
    assert_eq!(rig.memory.used(), 0);
}

#[test]
fn a_lease_times_out_and_its_holder_learns_of_it() {
    let mut rig = Rig::new();
    rig.rules(|rules| rules.lease_time = 100);
    let (writer, lease, other) =
        (rig.open(Mode::Send), rig.enter(Door::Lease, Mode::Both), rig.enter(Door::Lease, Mode::Both));
    rig.fill(writer, &["one"]);
    assert_eq!(rig.read(lease, 2), bytes("on"));
    let end = at(rig.now + 100).moment;
    assert_eq!(rig.mailbox.next_deadline(), Some(end));
    rig.arm(lease, 7);
    rig.woken();
    rig.tick(98);
    assert_eq!((rig.counts().leased, rig.counts().depth), (1, 0), "not yet");
    rig.tick(0);
    assert_eq!((rig.counts().leased, rig.counts().depth, rig.counts().redelivered), (0, 1, 1));
    assert_eq!(rig.mailbox.next_deadline(), None);
    assert!(rig.woken().contains(&7));
    assert_eq!(rig.read(lease, 64), bytes(""), "no more of it, nor of another");
    assert_eq!(rig.read(other, 64), bytes("one"));
    assert_eq!(rig.send(lease, "ack"), Got::Failed(Error::NoMessage));
    assert_eq!((rig.counts().leased, rig.counts().received), (1, 0), "the other has it still");
    assert_eq!(rig.read(lease, 64), Got::Failed(Error::WouldWait), "it may lease again");
    assert_eq!(rig.send(other, "ack"), Got::Written(3));
    assert_eq!((rig.memory.used(), rig.mailbox.next_deadline()), (0, None));
}

#[test]
fn a_leased_message_can_be_settled_after_removal() {
    for (word, received) in [("ack", 1), ("nack", 0)] {
        let mut rig = Rig::new();
        let (writer, lease) = (rig.open(Mode::Send), rig.enter(Door::Lease, Mode::Both));
        rig.fill(writer, &["one", "two"]);
        assert_eq!(rig.read(lease, 2), bytes("on"));
        assert_eq!(rig.remove(), 1);
        assert_eq!(rig.read(lease, 64), bytes("e"), "what it holds it may finish");
        assert!(matches!(rig.send(lease, word), Got::Written(_)));
        assert_eq!(rig.send(lease, word), Got::Failed(Error::Removed));
        assert_eq!(rig.read(lease, 64), Got::Failed(Error::Removed));
        assert_eq!((rig.counts().received, rig.memory.used()), (received, 0));
    }
}

#[test]
fn messages_expire_when_their_time_is_up() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.fill(writer, &["stays"]);
    rig.rules(|rules| rules.ttl = 100);
    rig.fill(writer, &["1", "2"]);
    let waiting = rig.await_room(writer, "3");
    let first = at(rig.now - 2 + 100).moment;
    assert_eq!(rig.mailbox.next_deadline(), Some(first));
    rig.now = first.since(Moment(0)) - 1;
    rig.tick(0);
    assert_eq!((rig.counts().expired, rig.got(waiting)), (1, Got::Written(1)));
    rig.tick(50);
    assert_eq!(rig.counts().expired, 2);
    rig.tick(40);
    assert_eq!((rig.counts().expired, rig.counts().depth), (2, 2), "its time began as it came in");
    rig.tick(100);
    assert_eq!(rig.counts().expired, 3);
    assert_eq!([rig.read(reader, 64), rig.read(reader, 64)], [bytes("stays"), Got::Failed(Error::WouldWait)]);
    assert_eq!((rig.memory.used(), rig.mailbox.next_deadline()), (0, None));
}

#[test]
fn no_reader_gets_an_expired_message_even_before_the_timer_fires() {
    let mut rig = Rig::new();
    rig.rules(|rules| rules.ttl = 10);
    let (writer, reader, peek) =
        (rig.open(Mode::Send), rig.open(Mode::Both), rig.enter(Door::Peek, Mode::Receive));
    rig.fill(writer, &["1", "2", "3"]);
    let waiting = rig.await_room(writer, "4");
    rig.now += 6;
    assert_eq!(rig.read(peek, 64), bytes("2"));
    assert_eq!(rig.got(waiting), Got::Written(1), "there was room for it");
    rig.now += 100;
    assert_eq!(rig.read(reader, 64), Got::Failed(Error::WouldWait));
    assert_eq!((rig.counts().expired, rig.memory.used()), (4, Memory::cost(1)), "what is shown");
    rig.close(peek);
    assert_eq!(rig.memory.used(), 0);
}

#[test]
fn a_message_that_expires_while_leased_is_not_redelivered() {
    let mut rig = Rig::new();
    rig.rules(|rules| (rules.ttl, rules.lease_time) = (10, 50));
    let (writer, lease) = (rig.open(Mode::Send), rig.enter(Door::Lease, Mode::Both));
    let other = rig.enter(Door::Lease, Mode::Both);
    rig.fill(writer, &["1", "2"]);
    assert_eq!([rig.read(lease, 64), rig.read(other, 64)], [bytes("1"), bytes("2")]);
    rig.now += 20;
    assert_eq!(rig.send(lease, "nack"), Got::Written(4));
    rig.tick(50);
    let counts = rig.counts();
    assert_eq!((counts.expired, counts.depth, counts.redelivered), (2, 0, 0));
    assert_eq!((rig.memory.used(), rig.mailbox.next_deadline()), (0, None));
}

#[test]
fn a_moved_message_keeps_its_attributes_and_its_time_begins_anew() {
    let mut rig = Rig::new();
    rig.rules(|rules| rules.ttl = 1000);
    let (writer, reader) = (rig.enter(Door::Tag([b't'].as_slice().into()), Mode::Send), rig.open(Mode::Both));
    rig.fill(writer, &["moves", "stays"]);
    let [(_, first), _] = rig.mailbox.list(0, 9)[..] else { panic!() };
    let message = rig.call(|mailbox, cx| mailbox.extract_message(first, cx)).unwrap();
    let (sent, tag) = (message.sent, message.tag().cloned());
    assert_eq!(rig.mailbox.check_insert(&message), Ok(()));
    rig.call(|mailbox, cx| mailbox.insert_message(message, How::Moved, true, cx));
    let now = rig.now;
    let moved = rig.mailbox.message(first).unwrap();
    assert_eq!((moved.sent, moved.tag().cloned(), moved.deliveries()), (sent, tag, 0));
    assert_eq!(moved.expires(), Some(at(now + 1000).moment));
    assert_eq!(
        rig.mailbox.list(0, 9).iter().map(|(_, id)| *id).next_back(),
        Some(first),
        "behind the others"
    );
    assert_eq!([rig.read(reader, 64), rig.read(reader, 64)], [bytes("stays"), bytes("moves")]);
    assert_eq!((rig.counts().moved_in, rig.counts().moved_out, rig.memory.used()), (1, 1, 0));
}

#[test]
fn a_message_is_moved_only_where_it_fits() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.fill(writer, &["0123456789"]);
    let id = rig.mailbox.list(0, 1)[0].1;
    let message = rig.call(|mailbox, cx| mailbox.extract_message(id, cx)).unwrap();
    rig.set_limits(MailboxLimits { msgsize: 9, ..LIMITS });
    assert_eq!(rig.mailbox.check_insert(&message), Err(Error::TooLong));
    rig.set_limits(LIMITS);
    rig.fill(writer, &["1", "2", "3"]);
    assert_eq!(rig.mailbox.check_insert(&message), Err(Error::NoSpace));
    for _ in 0..3 {
        rig.read(reader, 64);
    }
    let call = rig.await_message(reader);
    assert_eq!(rig.mailbox.check_insert(&message), Ok(()));
    rig.call(|mailbox, cx| mailbox.insert_message(message.clone(), How::Moved, true, cx));
    // The clone that went in has no charge.
    assert_eq!((rig.got(call), rig.memory.used()), (bytes("0123456789"), Memory::cost(10)));
    rig.remove();
    assert_eq!(rig.mailbox.check_insert(&message), Err(Error::NotFound));
    rig.call(|mailbox, cx| mailbox.insert_message(message, How::Moved, false, cx));
    assert_eq!((rig.counts().depth, rig.counts().dropped, rig.memory.used()), (0, 1, 0), "it came too late");
}

#[test]
fn single_messages_are_removed_by_id() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.enter(Door::Stream, Mode::Send), rig.open(Mode::Both));
    rig.fill(writer, &["1\n2\n3\n"]);
    let waiting = rig.await_room(writer, "4\n");
    let ids: Vec<u64> = rig.mailbox.list(0, 9).iter().map(|(_, id)| *id).collect();
    assert_eq!(rig.mailbox.message(ids[1]).unwrap().body[..], *b"2\n");
    assert_eq!(rig.call(|mailbox, cx| mailbox.remove_message(ids[1], cx)), Ok(()));
    assert_eq!(rig.call(|mailbox, cx| mailbox.remove_message(ids[1], cx)), Err(Error::NotFound));
    assert_eq!((rig.got(waiting), rig.counts().removed), (Got::Written(2), 1));
    for body in ["1\n", "3\n", "4\n"] {
        assert_eq!(rig.read(reader, 64), bytes(body));
    }
    assert_eq!(rig.memory.used(), 0);
}

#[test]
fn an_expired_message_blocks_no_writer_even_before_the_timer_fires() {
    let mut rig = Rig::with(MailboxLimits { maxmsg: 1, ..LIMITS }, PLENTY);
    let rules = Rules { ttl: 1, ..rig.mailbox.rules() };
    rig.call(|mailbox, cx| mailbox.set_rules(rules, cx));
    let writer = rig.open(Mode::Send);
    assert_eq!(rig.send(writer, "old"), Got::Written(3));
    // Each call is a nanosecond later.
    rig.open(Mode::Send);
    assert_eq!(rig.send(writer, "new"), Got::Written(3));
    assert_eq!((rig.counts().expired, rig.counts().depth), (1, 1));
}

#[test]
fn a_settlement_after_the_end_of_the_lease_is_refused_even_before_the_timer_fires() {
    for word in ["ack", "nack", "reject", "touch"] {
        let mut rig = Rig::new();
        rig.rules(|rules| rules.lease_time = 100);
        let (writer, lease) = (rig.open(Mode::Send), rig.enter(Door::Lease, Mode::Both));
        let reader = rig.open(Mode::Both);
        rig.fill(writer, &["job"]);
        assert_eq!(rig.read(lease, 64), bytes("job"));
        let waiting = rig.await_message(reader);
        rig.now += 100;
        assert_eq!(rig.send(lease, word), Got::Failed(Error::NoMessage), "{word}");
        assert_eq!(rig.got(waiting), bytes("job"), "{word}: the next reader has it");
        let counts = rig.counts();
        assert_eq!((counts.leased, counts.redelivered, counts.received), (0, 1, 1));
        assert_eq!((rig.memory.used(), rig.mailbox.next_deadline()), (0, None));
    }
}

#[test]
fn a_lease_that_is_renewed_lasts_as_if_it_began_then() {
    let mut rig = Rig::new();
    rig.rules(|rules| rules.lease_time = 100);
    let (writer, lease) = (rig.open(Mode::Send), rig.enter(Door::Lease, Mode::Both));
    assert_eq!(rig.send(lease, "touch"), Got::Failed(Error::NoMessage));
    rig.fill(writer, &["0123", "next"]);
    assert_eq!(rig.read(lease, 2), bytes("01"));
    for _ in 0..5 {
        rig.now += 90;
        assert_eq!(rig.send(lease, "touch\n"), Got::Written(6));
        assert_eq!(rig.mailbox.next_deadline(), Some(at(rig.now + 100).moment), "and at no earlier time");
    }
    assert_eq!(rig.read(lease, 64), bytes("23"), "it goes on reading where it was");
    rig.rules(|rules| rules.lease_time = NO_LIMIT);
    assert_eq!(rig.send(lease, "touch"), Got::Written(5));
    assert_eq!(rig.mailbox.next_deadline(), None, "it has the lease_time of now");
    assert_eq!(rig.send(lease, "ack"), Got::Written(3));
    assert_eq!((rig.counts().received, rig.counts().redelivered), (1, 0));
}

#[test]
fn a_round_is_a_death_after_somebody_had_the_message_and_too_many_stop_it() {
    const BOX: Ino = Ino(8);
    const GRAVE: Ino = Ino(9);
    let mut rig = Rig::new();
    let mut grave = Rig::new();
    for rig in [&mut rig, &mut grave] {
        rig.rules(|rules| (rules.dead_letter, rules.ttl) = (Some(dead_letter()), 1000));
    }
    rig.rules(|rules| rules.ttl = NO_LIMIT);
    let (writer, lease) = (rig.open(Mode::Send), rig.enter(Door::Lease, Mode::Both));
    rig.fill(writer, &["fails"]);
    for round in 1..=3 {
        assert_eq!(rig.read(lease, 64), bytes("fails"));
        assert_eq!(rig.send(lease, "reject"), Got::Written(6));
        let mut letter = rig.mailbox.take_outbox().pop().unwrap();
        letter.note_death(BOX, Some(3));
        let stops = round == 3;
        assert_eq!((letter.rounds().count, letter.reason() == Some(Reason::Rounds)), (round, stops));
        assert_eq!(letter.has_stopped_in(BOX, Some(3)), stops);
        grave.call(|mailbox, cx| mailbox.insert_message(letter, How::Moved, false, cx));
        grave.tick(1000);
        let Some(mut letter) = grave.mailbox.take_outbox().pop() else {
            assert!(stops, "it would come back");
            break;
        };
        letter.note_death(GRAVE, None);
        assert_eq!(letter.rounds().count, round, "nobody had it in between");
        rig.call(|mailbox, cx| mailbox.insert_message(letter, How::Moved, false, cx));
    }
    assert_eq!((grave.counts().depth, grave.counts().expired), (1, 2));
    let id = grave.mailbox.list(0, 1)[0].1;
    let stopped = grave.mailbox.message(id).unwrap();
    assert!(stopped.has_stopped_in(BOX, Some(3)));
    assert!(!stopped.has_stopped_in(BOX, Some(4)) && !stopped.has_stopped_in(BOX, None));
    assert!(!stopped.has_stopped_in(GRAVE, Some(1)), "it is another mailbox that does not want it");
    let moved = grave.call(|mailbox, cx| mailbox.extract_message(id, cx)).unwrap();
    rig.call(|mailbox, cx| mailbox.insert_message(moved, How::Moved, true, cx));
    let moved = rig.mailbox.message(id).unwrap();
    assert_eq!((moved.reason(), moved.rounds().count, moved.rounds().idle), (None, 3, false));
}
