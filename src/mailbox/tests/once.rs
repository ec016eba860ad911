//! Messages that are sent once.

use super::*;
use crate::config::ONCE_WINDOW;
use crate::mailbox::memory::EXTRA_COST;

const SECOND: u64 = 1_000_000_000;

fn key(text: &str) -> Door {
    Door::Once(text.as_bytes().into())
}

#[test]
fn a_second_message_with_a_key_is_not_sent_and_its_write_succeeds() {
    let mut rig = Rig::new();
    let [first, same, other] = ["a", "a", "b"].map(|text| rig.enter(key(text), Mode::Send));
    let reader = rig.open(Mode::Both);
    rig.fill(first, &["one", "one again"]);
    rig.fill(same, &["one"]);
    rig.fill(other, &["two"]);
    assert_eq!((rig.counts().sent, rig.counts().duplicates, rig.counts().depth), (2, 2, 2));
    assert_eq!([rig.read(reader, 9), rig.read(reader, 9)], ["one", "two"].map(bytes));
    rig.fill(same, &["one"]);
    assert_eq!((rig.counts().depth, rig.counts().duplicates), (0, 3), "whatever has happened to the message");
    rig.tick(ONCE_WINDOW - 100);
    rig.fill(same, &["one"]);
    assert_eq!(rig.counts().duplicates, 4);
    rig.now += 100;
    rig.fill(same, &["one"]);
    assert_eq!((rig.counts().depth, rig.counts().duplicates), (1, 4), "the key is forgotten");
    rig.fill(same, &["one"]);
    assert_eq!(rig.counts().duplicates, 5, "and known again");
}

#[test]
fn keys_are_charged_to_the_sender_until_they_are_forgotten() {
    let mut rig = Rig::with(LIMITS, 2 * (Memory::cost(1) + EXTRA_COST + 1) + 5);
    let [first, second, third] = ["a", "b", "c"].map(|text| rig.enter(key(text), Mode::Send));
    let reader = rig.open(Mode::Both);
    rig.fill(first, &["1"]);
    assert_eq!(rig.memory.used(), Memory::cost(1) + EXTRA_COST + 1);
    rig.fill(second, &["2"]);
    assert_eq!([rig.read(reader, 9), rig.read(reader, 9)], ["1", "2"].map(bytes));
    assert_eq!(rig.memory.used(), 2 * (EXTRA_COST + 1));
    rig.others_charge(Memory::cost(1));
    assert_eq!(rig.send(third, "3"), Got::Failed(Error::WouldWait), "no memory for its key");
    let waiting = rig.await_room(third, "3");
    let next = rig.mailbox.next_deadline().unwrap();
    assert!(next >= rig.moment().after(ONCE_WINDOW - 100) && next.since(Moment(0)).is_multiple_of(SECOND));
    rig.tick(next.since(rig.moment()) - 1);
    assert_eq!(rig.got(waiting), Got::Written(1));
    rig.free_memory();
    assert_eq!((rig.read(reader, 9), rig.memory.used()), (bytes("3"), EXTRA_COST + 1));
    rig.remove();
    assert_eq!((rig.memory.used(), rig.mailbox.next_deadline()), (0, None));
}

#[test]
fn a_writer_that_waits_with_a_key_sends_nothing_if_another_was_faster() {
    let mut rig = Rig::with(MailboxLimits { maxmsg: 1, ..LIMITS }, PLENTY);
    let writers = [(); 2].map(|()| rig.enter(key("a"), Mode::Send));
    let (plain, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.fill(plain, &["first"]);
    let calls = writers.map(|writer| rig.await_room(writer, "once"));
    assert_eq!(rig.read(reader, 9), bytes("first"));
    assert_eq!(
        calls.map(|call| rig.got(call)),
        [Got::Written(4), Got::Written(4)],
        "a duplicate needs no room"
    );
    assert_eq!(rig.read(reader, 9), bytes("once"));
    assert_eq!((rig.counts().depth, rig.counts().duplicates), (0, 1));
    assert_eq!(rig.held(), 0);
}

#[test]
fn the_window_is_that_of_now() {
    let mut rig = Rig::new();
    let writer = rig.enter(key("a"), Mode::Send);
    rig.fill(writer, &["1"]);
    rig.rules(|rules| rules.once_window = Some(10));
    rig.now += 10;
    rig.fill(writer, &["2"]);
    assert_eq!((rig.counts().sent, rig.counts().duplicates), (2, 0));
    rig.rules(|rules| rules.once_window = None);
    rig.now += 10;
    rig.fill(writer, &["3"]);
    assert_eq!((rig.counts().sent, rig.counts().duplicates), (2, 1));
    let reader = rig.open(Mode::Both);
    assert_eq!([rig.read(reader, 9), rig.read(reader, 9)], ["1", "2"].map(bytes));
    rig.tick(ONCE_WINDOW + SECOND);
    assert_eq!((rig.memory.used(), rig.mailbox.next_deadline()), (0, None), "each key is charged once");
}

#[test]
fn many_keys_are_forgotten_in_steps() {
    const KEYS: u64 = 1200;
    let mut rig = Rig::with(MailboxLimits { maxmsg: 2 * KEYS, maxbytes: 1 << 20, msgsize: 9 }, 1 << 20);
    let stream = rig.enter(Door::Stream, Mode::Receive);
    for n in 0..KEYS {
        let writer = rig.enter(key(&n.to_string()), Mode::Send);
        rig.fill(writer, &["x"]);
        rig.close(writer);
    }
    while rig.counts().depth > 0 {
        rig.read(stream, 1000);
    }
    rig.now += ONCE_WINDOW + SECOND;
    let (mut steps, mut before) = (0, KEYS as usize);
    while let Some(next) = rig.mailbox.next_deadline() {
        assert!(next <= rig.moment(), "the next step is due at once");
        rig.tick(0);
        let left = rig.mailbox.keys().count();
        assert!(left < before && before - left <= 500, "{before} to {left}");
        (steps, before) = (steps + 1, left);
    }
    assert!(steps >= 3);
    assert_eq!(rig.memory.used(), 0);
}
