//! How long messages waited.

use super::*;

/// Number of messages, the nanoseconds that they waited, and those of the one that waited longest.
fn waited(rig: &Rig) -> (u64, u64, u64) {
    rig.mailbox.waited().map_or((0, 0, 0), |waited| (waited.count(), waited.sum(), waited.percentile(100)))
}

#[test]
fn each_message_counts_once_whichever_way_it_is_received() {
    let mut rig = Rig::new();
    let (writer, reader) = (rig.open(Mode::Send), rig.open(Mode::Both));
    rig.fill(writer, &["one"]);
    assert_eq!(waited(&rig), (0, 0, 0), "it still waits");
    rig.now += 100;
    assert_eq!(rig.read(reader, 64), bytes("one"));
    assert_eq!(waited(&rig), (1, 101, 101), "a call is a nanosecond");
    let call = rig.await_message(reader);
    rig.now += 1000;
    rig.fill(writer, &["two"]);
    assert_eq!(rig.got(call), bytes("two"));
    assert_eq!(waited(&rig), (2, 101, 101), "its reader waited, not the message");
    let (lines, json) = (rig.enter(Door::Stream, Mode::Both), rig.enter(Door::Json, Mode::Receive));
    for reader in [lines, json] {
        assert_eq!(rig.send(lines, "a\nb\nc\n"), Got::Written(6));
        let before = waited(&rig);
        rig.now += 9;
        rig.read(reader, 4096);
        assert_eq!(waited(&rig), (before.0 + 3, before.1 + 30, 101));
    }
}

#[test]
fn what_is_shown_or_comes_back_does_not_count() {
    let mut rig = Rig::new();
    let (writer, lease) = (rig.open(Mode::Send), rig.enter(Door::Lease, Mode::Both));
    let peek = rig.enter(Door::Peek, Mode::Receive);
    rig.fill(writer, &["job"]);
    assert_eq!(rig.read(peek, 64), bytes("job"));
    assert_eq!(waited(&rig).0, 0);
    rig.now += 50;
    for _ in 0..3 {
        assert_eq!(rig.read(lease, 64), bytes("job"));
        assert_eq!(waited(&rig).0, 1, "the first lease only");
        assert_eq!(rig.send(lease, "nack"), Got::Written(4));
        rig.now += 5000;
    }
    assert_eq!(waited(&rig), (1, 52, 52));
}
