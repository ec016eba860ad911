//! Time limits: what is due happens when the clock calls, and the clock is told no more than it has to know.

use super::*;

/// A second, in nanoseconds: far longer than all calls of a test, each of which takes one.
const TTL: u64 = 1_000_000_000;

/// The clock calls, again and again while something is due.
fn tick(harness: &mut Harness, now: u64) {
    harness.now = now;
    let told = harness.alarms.len();
    while {
        let mut fx = Effects::new();
        harness.tree.tick(at(now), &mut fx);
        harness.carry_out(&mut fx, None);
        harness.alarms.len() > told && harness.alarms.last().is_some_and(|next| *next <= now)
    } {
        harness.alarms.pop();
    }
}

fn alarms(harness: &mut Harness) -> usize {
    std::mem::take(&mut harness.alarms).len()
}

/// A mailbox whose messages live a second.
fn short_lived(harness: &mut Harness) -> (NodeId, Fh) {
    let (node, fh) = harness.create("mailboxes/box", BOTH);
    assert!(matches!(harness.store("control/mailboxes/box/config/ttl", "1s"), Reply::Written(_)));
    (node, fh)
}

#[test]
fn the_clock_is_told_once_however_many_messages_come_and_go() {
    let mut harness = Harness::new();
    let (node, fh) = short_lived(&mut harness);
    for _ in 0..5 {
        assert_eq!(harness.get(node, write(fh, b"x")), Reply::Written(1));
    }
    assert_eq!(alarms(&mut harness), 1);
    for _ in 0..5 {
        assert!(is_message(&harness.get(node, read(fh)), b"x"));
        assert_eq!(harness.get(node, write(fh, b"x")), Reply::Written(1));
    }
    assert_eq!(alarms(&mut harness), 0, "it calls early enough");
}

#[test]
fn delayed_messages_are_queued_when_the_clock_calls_however_many() {
    let mut setup = setup(1 << 22);
    setup.limits.mailbox.maxmsg = 5000;
    let mut harness = Harness::with(setup);
    harness.create("mailboxes/box", BOTH);
    let node = harness.node("control/mailboxes/box/delay/1s");
    let fh = harness.open(1, node, WRITE).unwrap();
    for _ in 0..1200 {
        assert_eq!(harness.get(node, write(fh, b"x")), Reply::Written(1));
    }
    let first = harness.alarms[0];
    assert_eq!(alarms(&mut harness), 1);
    tick(&mut harness, first - 1);
    assert!(harness.show("control/mailboxes/box/status").contains("delayed 1200\n"));
    assert_eq!(alarms(&mut harness), 1, "it is told again");
    let last = harness.now + TTL;
    tick(&mut harness, last);
    let status = harness.show("control/mailboxes/box/status");
    assert!(status.contains("depth 1200\n") && status.contains("delayed 0\n"), "{status}");
    // It may have been told of a step that is done by now.
    alarms(&mut harness);
    tick(&mut harness, last);
    assert_eq!(alarms(&mut harness), 0);
}

#[test]
fn what_is_left_expires_when_its_time_comes_and_not_before() {
    let mut harness = Harness::new();
    let (node, fh) = short_lived(&mut harness);
    assert_eq!(harness.get(node, write(fh, b"old")), Reply::Written(3));
    let first = harness.alarms[0];
    assert!(is_message(&harness.get(node, read(fh)), b"old"));
    assert_eq!(harness.get(node, write(fh, b"new")), Reply::Written(3));
    assert_eq!(alarms(&mut harness), 1);
    tick(&mut harness, first);
    assert!(
        harness.show("control/mailboxes/box/status").contains("depth 1\n"),
        "the clock came for one that is gone"
    );
    let second = harness.alarms[0];
    assert_eq!(alarms(&mut harness), 1, "and is told when to come again");
    assert!(second > first && second <= first + TTL);
    tick(&mut harness, second);
    let status = harness.show("control/mailboxes/box/status");
    assert!(status.contains("depth 0\n") && status.contains("expired 1\n"), "{status}");
    assert_eq!(alarms(&mut harness), 0);
}
