//! Much is due at once: each call does a short step of it, and no caller notices.

use super::*;
use crate::config::NO_LIMIT;

/// More than any one call may do, and what that is.
const MANY: u64 = 100_000;
const STEP: u64 = 500;

/// Longer than it takes to send all messages of a test.
const TTL: u64 = 10_000_000;

fn roomy() -> Rig {
    Rig::with(MailboxLimits { msgsize: 1000, maxmsg: 2 * MANY, maxbytes: 1 << 30 }, 1 << 30)
}

/// A mailbox with this many messages that have expired, of which nothing knows, and then `live` ones.
fn stale(count: u64, live: &[&str]) -> (Rig, HandleId) {
    let mut rig = roomy();
    rig.rules(|rules| rules.ttl = TTL);
    let handle = rig.open(Mode::Both);
    for _ in 0..count {
        assert_eq!(rig.send(handle, "old"), Got::Written(3));
    }
    rig.rules(|rules| rules.ttl = NO_LIMIT);
    rig.fill(handle, live);
    rig.now += TTL;
    (rig, handle)
}

/// Repeats a read as long as it is postponed. Returns the answer and the number of calls, none of which may expire more than a step.
fn read_to_the_end(rig: &mut Rig, handle: HandleId, nonblock: bool) -> (u64, u64) {
    for calls in 1.. {
        let before = rig.counts().expired;
        let call = rig.read_at(handle, 0, 1000, nonblock);
        assert!(rig.counts().expired - before <= STEP);
        if !std::mem::take(&mut rig.postponed) {
            return (call, calls);
        }
        assert_eq!(rig.got(call), Got::Waits, "neither answered nor waiting");
        assert!(!rig.waits.contains_key(&call));
    }
    unreachable!()
}

#[test]
fn a_read_passes_over_any_number_of_expired_messages_in_short_steps() {
    let (mut rig, handle) = stale(MANY, &["live"]);
    let (call, calls) = read_to_the_end(&mut rig, handle, true);
    assert_eq!((rig.got(call), calls), (bytes("live"), MANY / STEP));
    assert_eq!((rig.counts().expired, rig.counts().depth, rig.memory.used()), (MANY, 0, 0));
    let (call, calls) = read_to_the_end(&mut rig, handle, true);
    assert_eq!((rig.got(call), calls), (Got::Failed(Error::WouldWait), 1));
}

#[test]
fn no_read_says_that_a_mailbox_is_empty_while_messages_have_to_expire_first() {
    for door in [Door::Plain, Door::Peek, Door::Stream, Door::Json, Door::From(1000), Door::Lease] {
        let (mut rig, _) = stale(3 * STEP, &["live"]);
        let mode = if door == Door::Lease { Mode::Both } else { Mode::Receive };
        let reader = rig.enter(door.clone(), mode);
        let (call, calls) = read_to_the_end(&mut rig, reader, true);
        let got = rig.got(call);
        assert!(matches!(&got, Got::Bytes(text) if text.windows(4).any(|part| part == b"live")), "{got:?}");
        assert!(calls >= 3, "{door:?}");
    }
}

#[test]
fn a_read_that_may_wait_waits_once_all_has_expired() {
    let (mut rig, handle) = stale(3 * STEP, &[]);
    let (call, _) = read_to_the_end(&mut rig, handle, false);
    assert_eq!(rig.got(call), Got::Waits);
    rig.fill(handle, &["new"]);
    assert_eq!(rig.got(call), bytes("new"));
}

#[test]
fn the_timer_takes_short_steps_until_nothing_is_due() {
    let (mut rig, handle) = stale(MANY, &["live"]);
    let mut steps = 0;
    while rig.mailbox.next_deadline().is_some_and(|next| next <= rig.moment()) {
        let before = rig.counts().expired;
        rig.tick(0);
        assert!(rig.counts().expired - before <= STEP);
        steps += 1;
    }
    assert_eq!((rig.counts().expired, steps), (MANY, MANY / STEP));
    assert_eq!(rig.read(handle, 64), bytes("live"));
}

#[test]
fn delayed_messages_that_have_expired_hide_none_that_are_due() {
    let mut rig = roomy();
    let (reader, delay) = (rig.open(Mode::Both), rig.enter(Door::Delay(TTL), Mode::Send));
    rig.rules(|rules| rules.ttl = 2 * TTL);
    for _ in 0..3 * STEP {
        assert_eq!(rig.send(delay, "old"), Got::Written(3));
    }
    rig.rules(|rules| rules.ttl = NO_LIMIT);
    rig.fill(delay, &["live"]);
    rig.now += 2 * TTL;
    let (call, calls) = read_to_the_end(&mut rig, reader, true);
    assert_eq!((rig.got(call), rig.counts().expired), (bytes("live"), 3 * STEP));
    assert!(calls > 1);
}

#[test]
fn an_expired_message_takes_no_room_however_many_there_are() {
    for full in [WhenFull::Wait, WhenFull::Fail, WhenFull::DropOldest] {
        let (mut rig, handle) = stale(4 * STEP, &["live"]);
        rig.when_full(full);
        rig.set_limits(MailboxLimits { msgsize: 64, maxmsg: 2, maxbytes: 100 });
        let before = rig.counts().expired;
        // It may not wait for room, but has to until all is gone that takes none.
        let call = rig.write(handle, "new", true);
        assert_eq!(rig.got(call), Got::Waits, "{full:?}");
        assert!(rig.counts().expired - before <= 2 * STEP);
        while rig.got_yet(call).is_none() {
            let before = rig.counts().expired;
            assert!(rig.mailbox.next_deadline().is_some_and(|next| next <= rig.moment()));
            rig.tick(0);
            assert!(rig.counts().expired - before <= 2 * STEP);
        }
        assert_eq!((rig.got(call), rig.counts().dropped), (Got::Written(3), 0), "{full:?}");
        assert_eq!([rig.read(handle, 64), rig.read(handle, 64)], [bytes("live"), bytes("new")]);
    }
}

#[test]
fn a_write_that_may_not_wait_fails_once_all_has_expired_and_there_is_no_room() {
    for (full, error) in [(WhenFull::Wait, Error::WouldWait), (WhenFull::Fail, Error::NoSpace)] {
        let (mut rig, handle) = stale(4 * STEP, &["live"]);
        rig.when_full(full);
        rig.set_limits(MailboxLimits { msgsize: 64, maxmsg: 1, maxbytes: 100 });
        let (call, patient) = (rig.write(handle, "new", true), rig.write(handle, "later", false));
        while rig.got_yet(call).is_none() {
            rig.tick(0);
        }
        assert_eq!((rig.got(call), rig.counts().expired), (Got::Failed(error), 4 * STEP));
        let waits = if full == WhenFull::Wait { Got::Waits } else { Got::Failed(error) };
        assert_eq!(rig.got(patient), waits);
        assert_eq!(rig.mailbox.next_deadline(), None);
        assert_eq!(rig.held(), if full == WhenFull::Wait { Memory::cost(5) } else { 0 });
    }
}

#[test]
fn room_is_made_by_dropping_in_short_steps() {
    let mut rig = roomy();
    let handle = rig.open(Mode::Both);
    for _ in 0..4 * STEP {
        assert_eq!(rig.send(handle, "old"), Got::Written(3));
    }
    rig.when_full(WhenFull::DropOldest);
    rig.set_limits(MailboxLimits { msgsize: 64, maxmsg: 2, maxbytes: 100 });
    let call = rig.write(handle, "new", true);
    assert_eq!((rig.got(call), rig.counts().dropped), (Got::Waits, STEP));
    while rig.got_yet(call).is_none() {
        let before = rig.counts().dropped;
        assert!(rig.mailbox.next_deadline().is_some_and(|next| next <= rig.moment()));
        rig.tick(0);
        assert!(rig.counts().dropped - before <= STEP);
    }
    assert_eq!((rig.got(call), rig.counts().dropped), (Got::Written(3), 4 * STEP - 1));
    assert_eq!([rig.read(handle, 64), rig.read(handle, 64)], [bytes("old"), bytes("new")]);
    assert_eq!((rig.mailbox.next_deadline(), rig.held()), (None, 0));
}

#[test]
fn leases_end_in_short_steps_and_none_is_acknowledged_late() {
    let mut rig = roomy();
    let writer = rig.open(Mode::Send);
    let leases: Vec<HandleId> = (0..3 * STEP).map(|_| rig.enter(Door::Lease, Mode::Both)).collect();
    rig.rules(|rules| rules.lease_time = TTL);
    for lease in &leases {
        rig.fill(writer, &["work"]);
        assert_eq!(rig.read(*lease, 64), bytes("work"));
    }
    rig.now += TTL;
    let last = leases[leases.len() - 1];
    assert_eq!(rig.send(last, "ack"), Got::Failed(Error::NoMessage), "though others have ended before it");
    assert_eq!(rig.counts().leased, 3 * STEP - STEP - 1);
    rig.tick(0);
    assert_eq!(rig.counts().leased, STEP - 1);
    rig.tick(0);
    assert_eq!((rig.counts().leased, rig.counts().depth, rig.counts().received), (0, 3 * STEP, 0));
}
