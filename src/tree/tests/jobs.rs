//! Work that takes long: it is done in steps, beside other requests, ends early if its caller is interrupted, and leaves nothing
//! of what it did not finish.

use super::*;
use crate::accounts::Resource;
use crate::op::Attr;

const MIB: u64 = 1 << 20;
const KEEP_SIZE: u32 = 1;
const ZERO: u32 = 16;

fn allocate(fh: Fh, length: u64, mode: u32) -> Op<'static> {
    Op::Fallocate { fh, offset: 0, length, mode }
}

fn cut(size: u64) -> Op<'static> {
    Op::Setattr(SetAttr { size: Some(size), ..SetAttr::default() })
}

fn harness() -> Harness {
    let mut setup = setup(1 << 20);
    setup.limits.segment_memory = 128 * MIB;
    Harness::with(setup)
}

impl Harness {
    /// One step of the work that takes long. False if there is none.
    fn step(&mut self) -> bool {
        self.now += 1;
        let mut fx = Effects::new();
        let any = self.tree.work(at(self.now), &mut fx);
        self.carry_out(&mut fx, None);
        any
    }

    /// All of it; the number of steps.
    fn finish(&mut self) -> usize {
        let mut steps = 0;
        while self.step() {
            steps += 1;
        }
        steps
    }

    fn size(&mut self, node: NodeId) -> (u64, u64) {
        match self.get(node, Op::Getattr) {
            Reply::Attr(attr, _) => (attr.size, attr.blocks / 2048),
            other => panic!("{other:?}"),
        }
    }

    fn promised(&self) -> u64 {
        self.tree.accounts.used(Resource::Segments) / MIB
    }
}

#[test]
fn a_long_fallocate_is_done_in_steps_and_others_are_served_between_them() {
    let mut harness = harness();
    let (node, fh) = harness.create("segments/s", BOTH);
    let unique = harness.wait(node, allocate(fh, 20 * MIB, 0));
    assert!(harness.step());
    assert_eq!(
        (harness.size(node), harness.promised()),
        ((0, 0), 20),
        "promised before any of it is allocated"
    );
    assert!(harness.step());
    assert_eq!(harness.size(node), (0, 1));
    assert_eq!(harness.get(node, write(fh, b"in between")), Reply::Written(10));
    assert!(harness.finish() >= 19);
    assert_eq!(harness.late(), [(unique, Reply::Done)]);
    assert_eq!((harness.size(node), harness.promised(), harness.parked()), ((20 * MIB, 20), 20, 0));
    let unique = harness.wait(node, allocate(fh, 30 * MIB, ZERO | KEEP_SIZE));
    harness.finish();
    assert_eq!(harness.late(), [(unique, Reply::Done)]);
    assert_eq!((harness.size(node), harness.promised()), ((20 * MIB, 0), 30));
}

#[test]
fn jobs_take_turns() {
    let mut harness = harness();
    let (long, long_fh) = harness.create("segments/long", BOTH);
    let (short, short_fh) = harness.create("segments/short", BOTH);
    let first = harness.wait(long, allocate(long_fh, 100 * MIB, 0));
    let second = harness.wait(short, allocate(short_fh, 2 * MIB, 0));
    let mut steps = 0;
    while harness.late.is_empty() {
        assert!(harness.step());
        steps += 1;
    }
    assert!(steps < 10, "{steps} steps");
    assert_eq!(harness.late(), [(second, Reply::Done)]);
    harness.finish();
    assert_eq!(harness.late(), [(first, Reply::Done)]);
}

#[test]
fn an_interrupted_fallocate_leaves_nothing() {
    let mut harness = harness();
    let (node, fh) = harness.create("segments/s", BOTH);
    assert_eq!(harness.get(node, write(fh, b"kept")), Reply::Written(4));
    for steps in [0, 1, 5] {
        let unique = harness.wait(node, allocate(fh, 40 * MIB, 0));
        for _ in 0..steps {
            assert!(harness.step());
        }
        harness.interrupt(unique);
        harness.finish();
        assert_eq!(harness.late(), [(unique, Reply::Failed(Error::Interrupted))]);
        assert_eq!((harness.size(node), harness.parked()), ((4, 0), 0), "after {steps} steps");
        assert_eq!(harness.tree.accounts.used(Resource::Segments), 4096, "after {steps} steps");
        assert!(harness.again.is_empty());
    }
    let late = harness.wait(node, allocate(fh, 2 * MIB, 0));
    harness.finish();
    assert_eq!(harness.late(), [(late, Reply::Done)]);
    harness.interrupt(late);
    assert_eq!(harness.again, [late], "it is answered already");
}

#[test]
fn a_fallocate_that_cannot_be_is_refused_before_any_of_it_is_done() {
    let mut harness = harness();
    let (node, fh) = harness.create("segments/s", BOTH);
    for (length, mode, error) in [
        (1 << 40, 0, Error::NoSpace),
        (1 << 62, ZERO, Error::NoSpace),
        (u64::MAX >> 1, KEEP_SIZE, Error::NoSpace),
        (2 * MIB, 64, Error::NotSupported),
        (1 << 63, 0, Error::TooBig),
    ] {
        let unique = harness.wait(node, allocate(fh, length, mode));
        assert_eq!(harness.finish(), 1);
        assert_eq!(harness.late(), [(unique, Reply::Failed(error))], "{length} in mode {mode}");
        assert_eq!((harness.size(node), harness.promised()), ((0, 0), 0));
    }
    let unique = harness.wait(node, allocate(fh, u64::MAX >> 1, 3));
    assert!(harness.finish() < 10, "what has no memory is not punched");
    assert_eq!(harness.late(), [(unique, Reply::Done)]);
}

#[test]
fn a_segment_is_cut_in_steps() {
    let mut harness = harness();
    let (node, fh) = harness.create("segments/s", BOTH);
    harness.wait(node, allocate(fh, 100 * MIB, 0));
    harness.finish();
    harness.late();
    let unique = harness.wait(node, cut(3));
    assert!(harness.step());
    let (size, blocks) = harness.size(node);
    assert!(size > 3 && size < 100 * MIB && blocks == harness.promised(), "{size} {blocks}");
    harness.finish();
    let late = harness.late();
    assert!(
        matches!(late[..], [(number, Reply::Attr(Attr { size: 3, .. }, _))] if number == unique),
        "{late:?}"
    );
    assert_eq!(harness.tree.accounts.used(Resource::Segments), 4096);
}

#[test]
fn the_memory_of_a_removed_segment_is_nobodys_at_once_and_freed_before_more_is_taken() {
    let mut harness = harness();
    let (node, fh) = harness.create("segments/s", BOTH);
    harness.wait(node, allocate(fh, 60 * MIB, 0));
    harness.finish();
    harness.late();
    harness.unlink("segments/s");
    harness.release(node, fh);
    assert_eq!(harness.promised(), 0);
    let (other, other_fh) = harness.create("segments/t", BOTH);
    let unique = harness.wait(other, allocate(other_fh, 2 * MIB, 0));
    for _ in 0..4 {
        assert!(harness.step());
    }
    assert_eq!((harness.size(other), harness.promised()), ((0, 0), 0), "another job came before it");
    harness.finish();
    assert_eq!(harness.late(), [(unique, Reply::Done)]);
    assert_eq!((harness.size(other), harness.promised()), ((2 * MIB, 2), 2));
}

#[test]
fn the_end_of_the_mount_ends_jobs() {
    let mut harness = harness();
    let (node, fh) = harness.create("segments/s", BOTH);
    let unique = harness.wait(node, allocate(fh, 20 * MIB, 0));
    assert!(harness.step());
    let mut fx = Effects::new();
    harness.tree.end(at(harness.now), &mut fx);
    harness.carry_out(&mut fx, None);
    harness.finish();
    assert_eq!(harness.late(), [(unique, Reply::Failed(Error::Ending))]);
    let unique = harness.wait(node, allocate(fh, 20 * MIB, 0));
    harness.finish();
    assert_eq!(harness.late(), [(unique, Reply::Failed(Error::Ending))]);
}

#[test]
fn the_messages_of_a_removed_mailbox_are_freed_in_steps() {
    let mut setup = setup(100 << 20);
    (setup.limits.mailbox.maxmsg, setup.limits.mailbox.maxbytes) = (100_000, 1 << 20);
    let mut harness = Harness::with(setup);
    let (node, both) = harness.create("mailboxes/box", BOTH);
    for _ in 0..10_000 {
        assert_eq!(harness.get(node, write(both, b"m")), Reply::Written(1));
    }
    harness.unlink("mailboxes/box");
    assert!(harness.show("control/status").contains("\ndiscarded 10000\n"));
    assert!(harness.tree.accounts.used(Resource::Memory) > 0);
    assert_eq!(harness.get(node, read(both)), Reply::Failed(Error::Removed));
    assert!(harness.finish() > 5);
    assert_eq!(harness.tree.accounts.used(Resource::Memory), 0);
}

/// A mailbox with many messages, all from root, and a way in that reads those of another user or of root.
fn crowded(uid: u32) -> (Harness, NodeId, Fh, Fh) {
    let mut setup = setup(100 << 20);
    (setup.limits.mailbox.maxmsg, setup.limits.mailbox.maxbytes) = (100_000, 1 << 20);
    let mut harness = Harness::with(setup);
    let (node, both) = harness.create("mailboxes/box", BOTH);
    for number in 0..5000 {
        let text = number.to_string();
        assert_eq!(harness.get(node, write(both, text.as_bytes())), Reply::Written(text.len() as u32));
    }
    let door = harness.node(&format!("control/mailboxes/box/from/{uid}"));
    let from = harness.open(1, door, READ).unwrap();
    (harness, door, from, both)
}

#[test]
fn an_index_is_made_in_steps_and_others_send_and_receive_meanwhile() {
    let (mut harness, door, from, both) = crowded(0);
    let unique = harness.wait(door, read(from));
    let node = harness.node("mailboxes/box");
    for number in 0..3 {
        assert!(harness.step());
        let first = format!("{number}");
        assert!(is_message(&harness.get(node, read(both)), first.as_bytes()), "the next is {first}");
        assert_eq!(harness.get(node, write(both, b"new")), Reply::Written(3));
    }
    harness.finish();
    let late = harness.late();
    assert!(late.len() == 1 && late[0].0 == unique && is_message(&late[0].1, b"3"), "{late:?}");
    // The end of file, and then what is left: the index has all of it.
    assert!(is_message(
        &harness.get(door, Op::Read { fh: from, offset: 1, size: 9, nonblock: true, direct: true }),
        b""
    ));
    for number in 4..5003 {
        let got = harness.get(node, Op::Read { fh: both, offset: 0, size: 9, nonblock: true, direct: true });
        let wanted = if number < 5000 { format!("{number}") } else { String::from("new") };
        assert!(is_message(&got, wanted.as_bytes()), "{number}");
    }
}

#[test]
fn a_poller_waits_for_the_index_and_so_does_a_reader_that_finds_nothing() {
    let (mut harness, door, from, _) = crowded(7);
    let poll = harness.wait(door, Op::Poll { fh: from, arm: None, reads: false });
    harness.finish();
    let late = harness.late();
    assert!(
        matches!(late[..], [(number, Reply::Ready(ready))] if number == poll && !ready.readable),
        "{late:?}"
    );
    let unique = harness.wait(door, read(from));
    assert_eq!(harness.parked(), 1);
    harness.interrupt(unique);
    assert_eq!(harness.late(), [(unique, Reply::Failed(Error::Interrupted))]);
}

#[test]
fn a_read_through_io_uring_waits_for_the_index_and_gets_one_message() {
    let (mut harness, door, from, _) = crowded(0);
    let asks = || Op::Poll { fh: from, arm: None, reads: true };
    let part = |size| Op::Read { fh: from, offset: 0, size, nonblock: false, direct: true };
    let asked = harness.wait(door, asks());
    harness.finish();
    let late = harness.late();
    assert!(matches!(late[..], [(number, Reply::Ready(ready))] if number == asked && ready.readable));
    assert!(is_message(&harness.get(door, part(100)), b"0"));
    assert!(matches!(harness.get(door, asks()), Reply::Ready(ready) if ready.readable));
    assert_eq!(harness.get(door, part(99)), Reply::Data(Vec::new()), "it goes on after a short one");
}

#[test]
fn a_reader_is_interrupted_while_its_index_is_made() {
    let (mut harness, door, from, _) = crowded(7);
    for steps in 0..3 {
        let unique = harness.wait(door, read(from));
        for _ in 0..steps {
            harness.step();
        }
        harness.interrupt(unique);
        harness.finish();
        assert_eq!(harness.late(), [(unique, Reply::Failed(Error::Interrupted))]);
        assert_eq!(harness.parked(), 0);
    }
}

#[test]
fn a_status_of_many_lines_is_written_by_a_job_and_one_of_few_at_once() {
    let mut harness = harness();
    harness.create("topics/t", READ);
    let node = harness.node("topics/t");
    let status = harness.node("control/topics/t/status");
    let lines = |reply: &Reply| match reply {
        Reply::Message(text) | Reply::Text(text) => String::from_utf8_lossy(text.as_bytes())
            .lines()
            .filter(|line| line.starts_with("reader pid"))
            .count(),
        other => panic!("{other:?}"),
    };
    for (more, count) in [(1999, 2000), (1, 2001)] {
        for _ in 0..more {
            harness.open(1, node, READ).unwrap();
        }
        let fh = harness.open(1, status, READ).unwrap();
        let whole = Op::Read { fh, offset: 0, size: 1 << 20, nonblock: false, direct: true };
        if count == 2000 {
            assert_eq!(lines(&harness.get(status, whole)), count);
        } else {
            let unique = harness.wait(status, whole);
            harness.finish();
            let late = harness.late();
            assert_eq!((late[0].0, lines(&late[0].1)), (unique, count));
        }
    }
}

#[test]
fn the_waits_at_a_removed_mailbox_end_in_steps() {
    let mut harness = harness();
    harness.create("mailboxes/box", READ);
    let node = harness.node("mailboxes/box");
    let mut waiting = Vec::new();
    for _ in 0..1000 {
        let fh = harness.open(1, node, READ).unwrap();
        waiting.push(harness.wait(node, read(fh)));
    }
    harness.unlink("mailboxes/box");
    let at_once = harness.late().len();
    assert!((1..1000).contains(&at_once));
    // Signals change nothing for those whose turn has not come.
    harness.interrupt(waiting[999]);
    let steps = harness.finish();
    assert!(steps > 2, "{steps}");
    let late = harness.late();
    assert_eq!(late.len() + at_once, 1000);
    assert!(late.iter().all(|(_, reply)| *reply == Reply::Failed(Error::Removed)));
    assert_eq!(harness.parked(), 0);
}

#[test]
fn a_long_message_is_put_together_in_steps_after_the_last_close() {
    let mut setup = setup(1 << 24);
    setup.limits.mailbox.maxbytes = 1 << 24;
    let mut harness = Harness::with(setup);
    harness.create("mailboxes/box", READ);
    let node = harness.node("mailboxes/box");
    let reader = harness.open(1, node, READ).unwrap();
    let unique =
        harness.wait(node, Op::Read { fh: reader, offset: 0, size: 1 << 22, nonblock: false, direct: true });
    let door = harness.node("control/mailboxes/box/whole");
    let fh = harness.open(1, door, WRITE).unwrap();
    let text: Vec<u8> =
        (0..3 << 19).map(|n: u32| (n % 251) as u8).chain(std::iter::repeat_n(0, 1 << 20)).collect();
    for part in text.chunks(1 << 19) {
        assert_eq!(harness.get(door, write(fh, part)), Reply::Written(part.len() as u32));
    }
    harness.release(door, fh);
    assert_eq!((harness.late(), harness.finish()), (vec![], 3));
    let late = harness.late();
    assert!(matches!(&late[..], [(number, reply)] if *number == unique && is_message(reply, &text)));
    // One that was removed meanwhile takes nothing with it.
    let door = harness.node("control/mailboxes/box/whole");
    let fh = harness.open(1, door, WRITE).unwrap();
    for part in text.chunks(1 << 19) {
        harness.get(door, write(fh, part));
    }
    harness.release(node, reader);
    harness.release(door, fh);
    harness.unlink("mailboxes/box");
    harness.finish();
    assert_eq!(
        harness.tree.accounts.used(Resource::Waiting) + harness.tree.accounts.used(Resource::Memory),
        0
    );
}

#[test]
fn a_read_waits_for_a_job_while_many_messages_expire_and_can_be_ended() {
    let mut setup = setup(1 << 24);
    setup.limits.mailbox = MailboxLimits { maxmsg: 5000, maxbytes: 1 << 20, ..setup.limits.mailbox };
    let mut harness = Harness::with(setup);
    let (node, fh) = harness.create("mailboxes/box", BOTH);
    for nonblock in [false, true] {
        harness.store("control/mailboxes/box/config/ttl", "1s");
        for _ in 0..4000 {
            assert_eq!(harness.get(node, write(fh, b"old")), Reply::Written(3));
        }
        harness.store("control/mailboxes/box/config/ttl", "max");
        assert_eq!(harness.get(node, write(fh, b"live")), Reply::Written(4));
        harness.now += 2_000_000_000;
        let read = Op::Read { fh, offset: 0, size: 4096, nonblock, direct: true };
        let killed = harness.wait(node, read.clone());
        assert!(harness.step());
        harness.interrupt(killed);
        assert!(harness.step());
        assert_eq!(harness.late(), [(killed, Reply::Failed(Error::Interrupted))]);
        let unique = harness.wait(node, read.clone());
        assert!(harness.finish() >= 2, "in steps");
        let late = harness.late();
        assert!(matches!(&late[..], [(number, reply)] if *number == unique && is_message(reply, b"live")));
        assert_eq!(harness.parked(), 0);
    }
}

#[test]
fn what_has_expired_is_nothing_to_poll_for_however_late_the_timer_is() {
    let mut setup = setup(1 << 24);
    setup.limits.mailbox = MailboxLimits { maxmsg: 5000, maxbytes: 1 << 20, ..setup.limits.mailbox };
    let mut harness = Harness::with(setup);
    let (node, fh) = harness.create("mailboxes/box", BOTH);
    harness.store("control/mailboxes/box/config/ttl", "1s");
    let poll = || Op::Poll { fh, arm: None, reads: false };
    assert_eq!(harness.get(node, write(fh, b"one")), Reply::Written(3));
    assert!(matches!(harness.get(node, poll()), Reply::Ready(ready) if ready.readable));
    harness.now += 2_000_000_000;
    assert!(matches!(harness.get(node, poll()), Reply::Ready(ready) if !ready.readable));
    // Many are dropped by a job, for which the poll waits.
    for live in [false, true] {
        harness.store("control/mailboxes/box/config/ttl", "1s");
        for _ in 0..4000 {
            assert_eq!(harness.get(node, write(fh, b"old")), Reply::Written(3));
        }
        if live {
            harness.store("control/mailboxes/box/config/ttl", "max");
            assert_eq!(harness.get(node, write(fh, b"live")), Reply::Written(4));
        }
        harness.now += 2_000_000_000;
        let unique = harness.wait(node, poll());
        assert!(harness.finish() >= 2, "in steps");
        let late = harness.late();
        assert!(
            matches!(late[..], [(number, Reply::Ready(ready))] if number == unique && ready.readable == live),
            "{late:?}"
        );
        assert_eq!(harness.parked(), 0);
    }
}
