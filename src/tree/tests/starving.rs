//! Mailboxes that wait for memory which only another one can free.

use super::*;

const FULL: [u8; LONGEST] = [b'x'; LONGEST];

/// Memory for two messages, both in `full`; `poor` is empty.
struct Poverty {
    harness: Harness,
    full: (NodeId, Fh),
    poor: (NodeId, Fh),
}

impl Poverty {
    fn new() -> Poverty {
        let mut harness = Harness::with(setup(room_for(2)));
        let full = harness.create("mailboxes/full", BOTH);
        let poor = harness.create("mailboxes/poor", BOTH);
        for _ in 0..2 {
            assert_eq!(harness.get(full.0, write(full.1, &FULL)), Reply::Written(100));
        }
        Poverty { harness, full, poor }
    }

    /// A writer who has to wait for memory.
    fn starve(&mut self, data: &[u8]) -> u64 {
        self.harness.wait(self.poor.0, write(self.poor.1, data))
    }

    fn take_one(&mut self) {
        let reply = self.harness.get(self.full.0, read(self.full.1));
        assert!(is_message(&reply, &FULL), "{reply:?}");
    }
}

#[test]
fn a_receive_in_one_mailbox_lets_a_writer_of_another_in() {
    let mut world = Poverty::new();
    let unique = world.starve(&FULL);
    world.take_one();
    assert_eq!(world.harness.late(), [(unique, Reply::Written(100))], "in the same call");
    assert_eq!(world.harness.parked(), 0);
    assert_eq!(world.harness.tree.memory.used(), world.harness.tree.memory.limit());
}

#[test]
fn each_piece_of_memory_lets_one_writer_in() {
    let mut world = Poverty::new();
    let waits = [world.starve(&FULL), world.starve(&FULL)];
    for unique in waits {
        world.take_one();
        assert_eq!(world.harness.late(), [(unique, Reply::Written(100))]);
    }
    assert!(world.harness.tree.starved.take().is_none());
}

#[test]
fn memory_freed_in_any_way_is_given_on() {
    #[allow(clippy::type_complexity)] // a table
    let ways: [(&str, fn(&mut Harness)); 3] = [
        ("removal", |harness| harness.unlink("mailboxes/full")),
        ("dropping the oldest", |harness| {
            let config = "control/mailboxes/full/config";
            assert_eq!(harness.store(&format!("{config}/full"), "drop-oldest"), Reply::Written(11));
            assert_eq!(harness.store(&format!("{config}/maxmsg"), "1"), Reply::Written(1));
            let node = harness.node("mailboxes/full");
            let fh = harness.open(1, node, WRITE).unwrap();
            assert_eq!(harness.get(node, write(fh, b"short")), Reply::Written(5));
        }),
        ("renaming over it", |harness| {
            harness.create("mailboxes/new", WRITE);
            let how = crate::op::RenameHow::Replace;
            let rename = Op::Rename { name: b"new", new_parent: MAILBOXES, new_name: b"full", how };
            assert_eq!(harness.get(MAILBOXES, rename), Reply::Done);
        }),
    ];
    for (way, free) in ways {
        let mut world = Poverty::new();
        let unique = world.starve(&FULL);
        free(&mut world.harness);
        assert_eq!(world.harness.late(), [(unique, Reply::Written(100))], "{way}");
    }
}

#[test]
fn those_who_poll_for_room_are_woken_when_memory_is_free() {
    let mut world = Poverty::new();
    let poll = Op::Poll { fh: world.poor.1, arm: Some(Poller::new(PollHandle(77))), reads: false };
    let Reply::Ready(ready) = world.harness.get(world.poor.0, poll) else { panic!() };
    assert!(!ready.writable);
    world.take_one();
    assert_eq!(world.harness.woken, [77]);
}

#[test]
fn those_who_poll_for_messages_are_woken_by_a_starving_writer() {
    let mut world = Poverty::new();
    let poll = Op::Poll { fh: world.poor.1, arm: Some(Poller::new(PollHandle(77))), reads: false };
    let Reply::Ready(ready) = world.harness.get(world.poor.0, poll) else { panic!() };
    assert!(!ready.readable);
    let unique = world.starve(b"short");
    assert_eq!(world.harness.woken, [77]);
    let reply = world.harness.get(world.poor.0, read(world.poor.1));
    assert!(is_message(&reply, b"short"), "{reply:?}");
    assert_eq!(world.harness.late(), [(unique, Reply::Written(5))]);
}

#[test]
fn a_starving_writer_who_leaves_takes_his_claim_along() {
    let mut world = Poverty::new();
    let (first, second) = (world.starve(&FULL), world.starve(&FULL));
    world.harness.interrupt(first);
    assert_eq!(world.harness.late(), [(first, Reply::Failed(Error::Interrupted))]);
    world.take_one();
    assert_eq!(world.harness.late(), [(second, Reply::Written(100))]);
    world.take_one();
    let reply = world.harness.get(world.poor.0, read(world.poor.1));
    assert!(is_message(&reply, &FULL), "{reply:?}");
    assert_eq!(world.harness.tree.memory.used(), 0);
}

#[test]
fn waiting_bytes_do_not_keep_room_from_the_queues() {
    let mut world = Poverty::new();
    let waits = [world.starve(&FULL), world.starve(&FULL)];
    let refused = world.harness.get(world.poor.0, write(world.poor.1, &FULL));
    assert_eq!(refused, Reply::Failed(Error::NoMemory), "as much waits as may be queued");
    world.take_one();
    world.take_one();
    assert_eq!(world.harness.late(), waits.map(|unique| (unique, Reply::Written(100))));
}
