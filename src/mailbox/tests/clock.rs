//! Somebody sets the wall clock, forward or back: no span gets longer or shorter.

use super::*;
use crate::accounts::Accounts;
use crate::journal::tests::fake::FakeDisk;
use crate::journal::{Durable, Journal};
use crate::mailbox::Purge;

const DAY: i64 = 86_400_000_000_000;

/// Not set at all, forward, back, and before 1970, where no clock can be.
const SET: [i64; 4] = [0, DAY, -DAY, i64::MIN];

#[test]
fn messages_live_as_long_as_they_would_have() {
    for set in SET {
        let mut rig = Rig::new();
        rig.rules(|rules| rules.ttl = 1000);
        let handle = rig.open(Mode::Both);
        rig.fill(handle, &["short"]);
        let end = rig.now + 1000;
        rig.set = set;
        assert_eq!(rig.mailbox.next_deadline(), Some(at(end).moment));
        rig.tick(end - rig.now - 2);
        assert_eq!((rig.counts().depth, rig.counts().expired), (1, 0), "{set}");
        rig.tick(0);
        assert_eq!((rig.counts().depth, rig.counts().expired), (0, 1), "{set}");
    }
}

#[test]
fn leases_and_delays_last_as_long_as_they_would_have() {
    for set in SET {
        let mut rig = Rig::new();
        rig.rules(|rules| rules.lease_time = 1000);
        let (lease, delay) = (rig.enter(Door::Lease, Mode::Both), rig.enter(Door::Delay(4000), Mode::Send));
        rig.fill(delay, &["later"]);
        let due = rig.now + 4000;
        let writer = rig.open(Mode::Send);
        rig.fill(writer, &["work"]);
        assert_eq!(rig.read(lease, 64), bytes("work"));
        let end = rig.now + 1000;
        rig.set = set;
        rig.now = end - 2;
        assert_eq!(rig.send(lease, "touch"), Got::Written(5), "{set}: a nanosecond before its end");
        rig.now += 999;
        assert_eq!(rig.send(lease, "ack"), Got::Failed(Error::NoMessage), "{set}: renewed and over");
        rig.tick(due - rig.now - 2);
        assert_eq!(rig.counts().delayed, 1, "{set}");
        rig.tick(0);
        assert_eq!((rig.counts().delayed, rig.counts().depth), (0, 2), "{set}");
    }
}

#[test]
fn ages_are_spans_and_times_of_sending_are_those_of_the_clock() {
    for set in SET {
        let mut rig = Rig::new();
        let (handle, sent) = (rig.open(Mode::Both), rig.now);
        rig.fill(handle, &["one"]);
        let sent = (at(sent + 1).wall, at(sent + 1).moment);
        rig.set = set;
        rig.now += 500;
        rig.fill(handle, &["two"]);
        assert_eq!(rig.mailbox.oldest(), Some(sent.1));
        let ids: Vec<u64> = rig.mailbox.list(0, 9).into_iter().map(|(_, id)| id).collect();
        assert_eq!(rig.mailbox.message(ids[0]).unwrap().sent, sent.0, "as it was");
        let wall = rig.wall();
        assert_eq!(rig.mailbox.message(ids[1]).unwrap().sent, wall, "as it is");
        assert_eq!(rig.mailbox.last_sent, rig.wall().into());
        let purge = |rig: &mut Rig, age| {
            let mut purging = rig.call(|mailbox, cx| mailbox.begin_purge(Purge::Older(age), cx));
            while rig.call(|mailbox, cx| mailbox.purge_some(&mut purging, cx)) {}
            purging.removed()
        };
        assert_eq!([purge(&mut rig, 600), purge(&mut rig, 400)], [0, 1], "{set}");
        rig.now += 30;
        assert_eq!(rig.read(handle, 64), bytes("two"));
        assert!((30..60).contains(&rig.mailbox.waited().unwrap().sum()), "{set}");
    }
}

#[test]
fn when_a_message_expires_is_told_by_the_clock_as_it_is() {
    let mut rig = Rig::new();
    rig.rules(|rules| rules.ttl = 1000);
    let handle = rig.open(Mode::Both);
    rig.fill(handle, &["short"]);
    let (id, end) = (rig.mailbox.list(0, 1)[0].1, Timestamp(rig.wall().0 + 1000));
    let told = |rig: &mut Rig| {
        let now = Now { wall: rig.wall(), moment: rig.moment() };
        let message = rig.mailbox.message(id).unwrap();
        message.wall_at(message.expires().unwrap(), now)
    };
    assert_eq!(told(&mut rig), end);
    rig.set = 50_000_000;
    assert_eq!(told(&mut rig), end, "a clock that goes a little faster changes nothing");
    rig.set = DAY;
    assert_eq!(told(&mut rig).0, end.0 + DAY as u64);
}

/// A mailbox that is made again from the store, when the other clock shows `moment` and the wall clock `wall`.
fn after_restart(disk: &FakeDisk, now: Now) -> Mailbox {
    let (_, mut recovered) = Journal::on_fake(&disk.after_kill());
    let one = recovered.pop().unwrap();
    let accounts = Arc::new(Accounts::unshared(PLENTY));
    let (memory, mut fx) = (Memory::new(Arc::clone(&accounts)), Effects::new());
    let mut mailbox = Mailbox::new(LIMITS, now.time());
    mailbox.restore(
        one.counters,
        one.messages,
        one.keys,
        &accounts,
        &mut Context { now, memory: &memory, fx: &mut fx },
    );
    mailbox
}

#[test]
fn a_deadline_means_the_same_after_a_restart_however_long_that_took() {
    let disk = FakeDisk::default();
    let journal = Arc::new(Journal::on_fake(&disk).0);
    let mut rig = Rig::new();
    rig.mailbox = Mailbox::new(LIMITS, at(1).time()).with_store(Ino(20), Some(&journal));
    let rules = Rules { durable: Durable::Fsync, ttl: 5000, ..Rules::default() };
    rig.call(|mailbox, cx| mailbox.set_rules(rules, cx));
    rig.call(|mailbox, cx| mailbox.record_object(cx, all_doors::object));
    let (handle, delay) = (rig.open(Mode::Both), rig.enter(Door::Delay(1000), Mode::Send));
    rig.fill(handle, &["one"]);
    let sent = rig.now;
    rig.fill(delay, &["two"]);
    journal.write(&mut Vec::new());
    // The machine was off, and started anew: the clock that is never set began at 0 again.
    for (off, lived) in [(100, 40), (3000, 40), (10_000, 3), (10_000, 20_000_000)] {
        let wall = Timestamp(at(sent).wall.0 + off);
        let now = Now { wall, moment: Moment(lived) };
        let mailbox = after_restart(&disk, now);
        let (expires, due) = (Moment(lived - off as i64 + 5000), Moment(lived - off as i64 + 1001));
        assert_eq!(mailbox.queue.first().unwrap().expires(), Some(expires));
        assert_eq!(mailbox.next_deadline(), Some(due.min(expires)));
        assert_eq!(now.moment.since(mailbox.oldest().unwrap()), off, "as long as it was off");
        assert_eq!(mailbox.queue.first().unwrap().sent, at(sent).wall);
    }
}

#[test]
fn what_is_recorded_is_a_time_even_if_the_clock_shows_none() {
    let disk = FakeDisk::default();
    let journal = Arc::new(Journal::on_fake(&disk).0);
    let mut rig = Rig::new();
    rig.mailbox = Mailbox::new(LIMITS, at(1).time()).with_store(Ino(20), Some(&journal));
    let handle = rig.open(Mode::Both);
    rig.rules(|rules| rules.ttl = 10);
    rig.fill(handle, &["gone"]);
    rig.now += 1000;
    rig.set = i64::MIN;
    rig.rules(|rules| rules.durable = Durable::Fsync);
    rig.call(|mailbox, cx| mailbox.record_object(cx, all_doors::object));
    rig.call(|mailbox, cx| mailbox.record_all(cx));
    journal.write(&mut Vec::new());
    let mailbox = after_restart(&disk, Now { wall: Timestamp(0), moment: Moment(7) });
    assert!(mailbox.next_deadline().is_some_and(|end| end <= Moment(8)), "it does not live for ever");
}

/// What the mailbox sends with keys, and whether each was sent.
fn sends_once(rig: &mut Rig, keys: &[&str]) -> Vec<bool> {
    let sent = |key: &&str| {
        let (door, before) = (rig.enter(Door::Once(key.as_bytes().into()), Mode::Send), rig.counts().sent);
        rig.fill(door, &["x"]);
        rig.close(door);
        rig.counts().sent > before
    };
    keys.iter().map(sent).collect()
}

#[test]
fn a_key_is_remembered_for_its_window_however_the_clock_is_set() {
    for set in [-DAY, DAY] {
        let mut rig = Rig::new();
        rig.rules(|rules| rules.once_window = Some(1000));
        assert_eq!(sends_once(&mut rig, &["a"]), [true]);
        rig.set = set;
        rig.now += 900;
        assert_eq!(sends_once(&mut rig, &["a", "b"]), [false, true]);
        rig.now += 100;
        assert_eq!(sends_once(&mut rig, &["a", "b"]), [true, false]);
    }
}

#[test]
fn the_store_forgets_the_keys_that_are_forgotten_and_no_others_however_the_clock_is_set() {
    for set in [-DAY, DAY] {
        let disk = FakeDisk::default();
        let journal = Arc::new(Journal::on_fake(&disk).0);
        let mut rig = Rig::new();
        rig.mailbox = Mailbox::new(LIMITS, at(1).time()).with_store(Ino(20), Some(&journal));
        rig.rules(|rules| (rules.durable, rules.once_window) = (Durable::Fsync, Some(3_000_000_000)));
        rig.call(|mailbox, cx| mailbox.record_object(cx, all_doors::object));
        sends_once(&mut rig, &["a"]);
        rig.set = set;
        rig.now += 1_500_000_000;
        sends_once(&mut rig, &["b"]);
        rig.tick(2_500_000_000);
        journal.write(&mut Vec::new());
        let keys = |mailbox: &Mailbox| -> Vec<String> {
            mailbox.keys().map(|(key, ..)| String::from_utf8_lossy(key).into()).collect()
        };
        assert_eq!(keys(&rig.mailbox), ["b"]);
        let now = Now { wall: rig.wall(), moment: rig.moment() };
        assert_eq!(keys(&after_restart(&disk, now)), ["b"]);
        // The clock was set back meanwhile: it is not remembered for longer than a window.
        let now = Now { wall: at(1).wall, moment: Moment(5) };
        let again = after_restart(&disk, now);
        assert_eq!(keys(&again), ["b"]);
        assert!(again.keys().all(|(_, _, at, _)| at <= now.moment));
    }
}
