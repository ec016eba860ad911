//! Removing messages by what they are.

use super::*;
use crate::mailbox::Purge;

impl Rig {
    /// All steps of a removal; how many messages went, and in how many steps.
    fn purge(&mut self, what: Purge) -> (u64, usize) {
        let mut purging = self.call(|mailbox, cx| mailbox.begin_purge(what, cx));
        let mut steps = 1;
        while self.call(|mailbox, cx| mailbox.purge_some(&mut purging, cx)) {
            steps += 1;
        }
        (purging.removed(), steps)
    }

    /// What is queued, in the order in which it is received.
    fn drain(&mut self) -> Vec<String> {
        let reader = self.enter(Door::Plain, Mode::Both);
        let mut all = Vec::new();
        while let Got::Bytes(bytes) = self.read(reader, 99) {
            all.push(String::from_utf8(bytes).unwrap());
        }
        self.close(reader);
        all
    }
}

fn roomy() -> Rig {
    Rig::with(MailboxLimits { maxmsg: 5000, maxbytes: 100_000, msgsize: 20_000 }, 10 * PLENTY)
}

fn tag(tag: &str) -> Tag {
    tag.as_bytes().into()
}

/// Messages through each door that gives them something: from one user, with a tag, with a priority, lines.
fn mixed() -> Rig {
    let mut rig = roomy();
    let doors = [Door::Plain, Door::Tag(tag("red")), Door::Tag(tag("blue")), Door::Priority(7), Door::Stream];
    for (door, body) in doors.into_iter().zip(["plain", "red", "blue", "high", "a\nb\nc\n"]) {
        let writer = rig.enter(door, Mode::Send);
        rig.fill(writer, &[body]);
    }
    let other = rig.open(Mode::Send);
    rig.write_as(7, other, "of 7");
    rig
}

#[test]
fn only_what_is_named_is_removed() {
    for (what, removed, left) in [
        (Purge::All, 8, &[][..]),
        (Purge::Tag(tag("red")), 1, &["high", "plain", "blue", "a\n", "b\n", "c\n", "of 7"]),
        (Purge::Tag(tag("green")), 0, &["high", "plain", "red", "blue", "a\n", "b\n", "c\n", "of 7"]),
        (Purge::From(7), 1, &["high", "plain", "red", "blue", "a\n", "b\n", "c\n"]),
        (Purge::From(1000), 7, &["of 7"]),
    ] {
        let mut rig = mixed();
        assert_eq!(rig.purge(what.clone()).0, removed, "{what:?}");
        let counts = rig.counts();
        assert_eq!((counts.removed, counts.depth), (removed, 8 - removed), "{what:?}");
        assert_eq!(rig.drain(), left, "{what:?}");
        assert_eq!((rig.counts().bytes, rig.memory.used()), (0, 0), "{what:?}");
    }
}

#[test]
fn what_a_reader_finds_by_an_index_is_removed_as_well() {
    let mut rig = mixed();
    let readers = [Door::Tag(tag("blue")), Door::From(1000)].map(|door| rig.enter(door, Mode::Receive));
    for reader in readers {
        assert!(rig.ready(reader).readable);
    }
    assert_eq!(rig.purge(Purge::Tag(tag("blue"))).0, 1);
    assert_eq!(rig.read(readers[0], 9), Got::Failed(Error::WouldWait));
    assert_eq!(rig.purge(Purge::From(1000)).0, 6);
    assert_eq!(rig.read(readers[1], 9), Got::Failed(Error::WouldWait));
    assert_eq!(rig.drain(), ["of 7"]);
}

#[test]
fn what_is_old_goes_and_what_is_younger_stays() {
    let mut rig = roomy();
    let writer = rig.open(Mode::Send);
    rig.fill(writer, &["old", "older than"]);
    rig.now += 1000;
    rig.fill(writer, &["young"]);
    assert_eq!(rig.purge(Purge::Older(5000)).0, 0);
    assert_eq!(rig.purge(Purge::Older(900)).0, 2);
    assert_eq!(rig.drain(), ["young"]);
}

#[test]
fn messages_in_hand_and_requests_stay() {
    let mut rig = mixed();
    let (worker, client) = (rig.enter(Door::Lease, Mode::Both), rig.enter(Door::Rpc, Mode::Both));
    assert_eq!(rig.read(worker, 9), bytes("high"));
    rig.fill(client, &["request"]);
    assert_eq!(rig.purge(Purge::All).0, 7);
    assert_eq!((rig.counts().leased, rig.counts().requests), (1, 1));
    assert_eq!(rig.send(worker, "nack"), Got::Written(4));
    assert_eq!(rig.drain(), ["high"]);
    let server = rig.enter(Door::Serve, Mode::Both);
    assert_eq!(rig.read(server, 9), bytes("request"));
}

#[test]
fn delayed_messages_go_too_but_not_those_that_come_meanwhile() {
    let mut rig = roomy();
    let writer = rig.enter(Door::Delay(1_000_000), Mode::Send);
    for _ in 0..700 {
        rig.fill(writer, &["x"]);
    }
    let mut purging = rig.call(|mailbox, cx| mailbox.begin_purge(Purge::All, cx));
    assert!(rig.call(|mailbox, cx| mailbox.purge_some(&mut purging, cx)));
    assert_eq!(rig.counts().delayed, 200, "a step is short");
    rig.fill(writer, &["new"]);
    // Those that are due meanwhile go as well.
    rig.tick(1_000_000);
    assert_eq!((rig.counts().depth, rig.counts().delayed), (201, 0));
    rig.fill(writer, &["newer"]);
    while rig.call(|mailbox, cx| mailbox.purge_some(&mut purging, cx)) {}
    assert_eq!(purging.removed(), 700);
    assert_eq!(rig.drain(), ["new"]);
    assert_eq!(rig.counts().delayed, 1);
}

#[test]
fn it_goes_in_steps_and_spares_what_comes_meanwhile() {
    let mut rig = roomy();
    let (writer, raised) = (rig.open(Mode::Send), rig.enter(Door::Priority(3), Mode::Send));
    for n in 0..1600 {
        rig.fill(if n % 2 == 0 { writer } else { raised }, &["x"]);
    }
    let mut purging = rig.call(|mailbox, cx| mailbox.begin_purge(Purge::All, cx));
    let mut steps = 1;
    loop {
        let before = rig.counts().depth;
        let more = rig.call(|mailbox, cx| mailbox.purge_some(&mut purging, cx));
        assert!(before - rig.counts().depth <= 500, "a step is short");
        if !more {
            break;
        }
        rig.fill(writer, &[&format!("new {steps}")]);
        rig.fill(raised, &[&format!("raised {steps}")]);
        steps += 1;
    }
    assert_eq!((purging.removed(), steps), (1600, 4));
    assert_eq!(rig.drain(), ["raised 1", "raised 2", "raised 3", "new 1", "new 2", "new 3"]);
}

#[test]
fn a_step_frees_no_more_bytes_than_one_may() {
    let mut rig = Rig::with(MailboxLimits { maxmsg: 99, maxbytes: 1 << 30, msgsize: 1 << 20 }, 1 << 30);
    let writer = rig.open(Mode::Send);
    let long = "x".repeat(1 << 20);
    rig.fill(writer, &[&long, &long, &long]);
    assert_eq!(rig.purge(Purge::All), (3, 3));
}

#[test]
fn writers_who_wait_get_the_room_and_are_not_purged() {
    let mut rig = Rig::new();
    let writer = rig.open(Mode::Send);
    rig.fill(writer, &["1", "2", "3"]);
    let late: Vec<u64> = ["4", "5"].into_iter().map(|body| rig.await_room(writer, body)).collect();
    assert_eq!(rig.purge(Purge::All).0, 3);
    for call in late {
        assert_eq!(rig.got(call), Got::Written(1));
    }
    assert_eq!(rig.drain(), ["4", "5"]);
}
