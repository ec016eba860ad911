//! Time limits: what is due happens when the clock calls, and the clock is told no more than it has to know.

use super::*;

/// A second, in nanoseconds: far longer than all calls of a test, each of which takes one.
const TTL: u64 = 1_000_000_000;

fn tick(desk: &mut Desk, now: u64) {
    desk.now = now;
    let mut fx = Effects::new();
    desk.tree.tick(Timestamp(now), &mut fx);
    desk.carry_out(&mut fx, None);
}

fn alarms(desk: &mut Desk) -> usize {
    std::mem::take(&mut desk.alarms).len()
}

/// A mailbox whose messages live a second.
fn short_lived(desk: &mut Desk) -> (NodeId, Fh) {
    let (node, fh) = desk.create("mailboxes/box", BOTH);
    assert!(matches!(desk.store("control/mailboxes/box/config/ttl", "1s"), Reply::Written(_)));
    (node, fh)
}

#[test]
fn the_clock_is_told_once_however_many_messages_come_and_go() {
    let mut desk = Desk::new();
    let (node, fh) = short_lived(&mut desk);
    for _ in 0..5 {
        assert_eq!(desk.get(node, write(fh, b"x")), Reply::Written(1));
    }
    assert_eq!(alarms(&mut desk), 1);
    for _ in 0..5 {
        assert!(is_message(&desk.get(node, read(fh)), b"x"));
        assert_eq!(desk.get(node, write(fh, b"x")), Reply::Written(1));
    }
    assert_eq!(alarms(&mut desk), 0, "it calls early enough");
}

#[test]
fn what_is_left_expires_when_its_time_comes_and_not_before() {
    let mut desk = Desk::new();
    let (node, fh) = short_lived(&mut desk);
    assert_eq!(desk.get(node, write(fh, b"old")), Reply::Written(3));
    let first = desk.alarms[0];
    assert!(is_message(&desk.get(node, read(fh)), b"old"));
    assert_eq!(desk.get(node, write(fh, b"new")), Reply::Written(3));
    assert_eq!(alarms(&mut desk), 1);
    tick(&mut desk, first);
    assert!(
        desk.show("control/mailboxes/box/status").contains("depth 1\n"),
        "the clock came for one that is gone"
    );
    let second = desk.alarms[0];
    assert_eq!(alarms(&mut desk), 1, "and is told when to come again");
    assert!(second > first && second <= first + TTL);
    tick(&mut desk, second);
    let status = desk.show("control/mailboxes/box/status");
    assert!(status.contains("depth 0\n") && status.contains("expired 1\n"), "{status}");
    assert_eq!(alarms(&mut desk), 0);
}
