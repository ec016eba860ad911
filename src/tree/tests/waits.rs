//! Requests that wait: interrupted early, in time and late; expired; ended. Each is answered once, and the index
//! forgets it then.

use super::*;

/// A tree in which nothing waits yet, with two ways into one empty mailbox.
fn mailbox() -> (Harness, NodeId, Fh, Fh) {
    let mut harness = Harness::new();
    let (node, both) = harness.create("mailboxes/box", BOTH);
    let other = harness.look_up(2, MAILBOXES, "box").unwrap();
    let writer = harness.open(2, other.node, WRITE).unwrap();
    (harness, node, both, writer)
}

#[test]
fn an_interrupt_in_time_ends_the_wait() {
    let (mut harness, node, both, _) = mailbox();
    let unique = harness.wait(node, read(both));
    assert_eq!(harness.parked(), 1);
    harness.interrupt(unique);
    assert_eq!(harness.late(), [(unique, Reply::Failed(Error::Interrupted))]);
    assert!(harness.again.is_empty());
    assert_eq!(harness.parked(), 0);
}

#[test]
fn an_interrupt_that_comes_before_its_request_waits_is_asked_for_again() {
    let (mut harness, node, both, _) = mailbox();
    let unique = harness.unique + 4;
    harness.interrupt(unique);
    assert_eq!(harness.again, [unique]);
    assert_eq!(harness.wait(node, read(both)), unique);
    harness.interrupt(unique);
    assert_eq!(harness.late(), [(unique, Reply::Failed(Error::Interrupted))]);
    assert_eq!(harness.again, [unique], "once was enough");
}

#[test]
fn a_late_interrupt_ends_nothing() {
    let (mut harness, node, both, writer) = mailbox();
    let (first, second) = (harness.wait(node, read(both)), harness.wait(node, read(both)));
    assert_eq!(harness.get(node, write(writer, b"x")), Reply::Written(1));
    let late = harness.late();
    assert!(late.len() == 1 && late[0].0 == first && is_message(&late[0].1, b"x"), "{late:?}");
    assert_eq!(harness.parked(), 1, "the answered one is out of the index");
    harness.interrupt(first);
    assert_eq!((harness.late(), harness.again.as_slice()), (vec![], &[first][..]));
    harness.interrupt(second);
    assert_eq!(harness.late(), [(second, Reply::Failed(Error::Interrupted))]);
}

#[test]
fn a_waiting_writer_is_interrupted_and_sent_nothing() {
    let (mut harness, node, both, writer) = mailbox();
    assert_eq!(harness.store("control/mailboxes/box/config/maxmsg", "1"), Reply::Written(1));
    assert_eq!(harness.get(node, write(writer, b"first")), Reply::Written(5));
    let unique = harness.wait(node, write(writer, b"second"));
    harness.interrupt(unique);
    assert_eq!(harness.late(), [(unique, Reply::Failed(Error::Interrupted))]);
    let reply = harness.get(node, read(both));
    assert!(is_message(&reply, b"first"), "{reply:?}");
    assert!(harness.show("control/mailboxes/box/status").starts_with("depth 0\n"));
    assert_eq!(harness.parked(), 0);
}

#[test]
fn who_waits_for_a_lock_is_interrupted_or_granted_it() {
    let (mut harness, node, both, writer) = mailbox();
    assert_eq!(harness.get(node, lock(both, 1, LockKind::Exclusive)), Reply::Done);
    let waits = [2, 3].map(|owner| harness.wait(node, lock(writer, owner, LockKind::Exclusive)));
    assert_eq!(harness.parked(), 2);
    harness.interrupt(waits[0]);
    assert_eq!(harness.late(), [(waits[0], Reply::Failed(Error::Interrupted))]);
    assert_eq!(harness.get(node, lock(both, 1, LockKind::Unlock)), Reply::Done);
    assert_eq!(harness.late(), [(waits[1], Reply::Done)]);
    assert_eq!(harness.parked(), 0);
}

#[test]
fn closing_a_lock_holder_lets_the_next_in() {
    let (mut harness, node, both, writer) = mailbox();
    assert_eq!(harness.get(node, lock(both, 1, LockKind::Exclusive)), Reply::Done);
    let unique = harness.wait(node, lock(writer, 2, LockKind::Exclusive));
    harness.release(node, both);
    assert_eq!(harness.late(), [(unique, Reply::Done)]);
    assert_eq!(harness.parked(), 0);
}

#[test]
fn waits_expire_by_their_beginning() {
    let (mut harness, node, both, _) = mailbox();
    let old = harness.wait(node, read(both));
    let limit = harness.now;
    let young = harness.wait(node, read(both));
    let mut fx = Effects::new();
    harness.tree.expire(at(limit).moment, at(limit + 100), &mut fx);
    harness.carry_out(&mut fx, None);
    assert_eq!(harness.late(), [(old, Reply::Failed(Error::Interrupted))]);
    assert_eq!(harness.parked(), 1);
    harness.interrupt(young);
    assert_eq!(harness.late().len(), 1);
}

#[test]
fn the_end_answers_everyone_and_lets_nobody_wait_any_more() {
    let (mut harness, node, both, writer) = mailbox();
    assert_eq!(harness.get(node, lock(both, 1, LockKind::Exclusive)), Reply::Done);
    let waits = [harness.wait(node, read(both)), harness.wait(node, lock(writer, 2, LockKind::Shared))];
    let mut fx = Effects::new();
    harness.tree.end(at(harness.now), &mut fx);
    harness.carry_out(&mut fx, None);
    let mut late = harness.late();
    late.sort_by_key(|answer| answer.0);
    assert_eq!(late, waits.map(|unique| (unique, Reply::Failed(Error::Ending))));
    assert_eq!(harness.parked(), 0);

    assert_eq!(harness.get(node, read(both)), Reply::Failed(Error::Ending));
    assert_eq!(harness.get(node, lock(writer, 2, LockKind::Shared)), Reply::Failed(Error::Ending));
    assert_eq!(harness.parked(), 0, "answered in the call that would have waited");
    assert_eq!(harness.get(node, write(writer, b"x")), Reply::Written(1), "what need not wait is done");
}

#[test]
fn removal_ends_all_waits_for_a_mailbox() {
    let (mut harness, node, both, _) = mailbox();
    let waits = [harness.wait(node, read(both)), harness.wait(node, read(both))];
    harness.unlink("mailboxes/box");
    assert_eq!(harness.late(), waits.map(|unique| (unique, Reply::Failed(Error::Removed))));
    assert_eq!(harness.parked(), 0);
    assert_eq!(harness.get(node, read(both)), Reply::Failed(Error::Removed));
}

#[test]
fn renaming_over_a_mailbox_removes_it() {
    let (mut harness, node, both, _) = mailbox();
    let (other, writer) = harness.create("mailboxes/new", WRITE);
    assert_eq!(harness.get(other, write(writer, b"moved")), Reply::Written(5));
    let unique = harness.wait(node, read(both));
    let how = crate::op::RenameHow::Replace;
    let rename = Op::Rename { name: b"new", new_parent: MAILBOXES, new_name: b"box", how };
    assert_eq!(harness.get(MAILBOXES, rename), Reply::Done);
    assert_eq!(harness.late(), [(unique, Reply::Failed(Error::Removed))]);
    let moved = harness.node("mailboxes/box");
    let fh = harness.open(1, moved, READ).unwrap();
    let reply = harness.get(moved, read(fh));
    assert!(is_message(&reply, b"moved"), "{reply:?}");
}

#[test]
fn a_message_delivered_in_pieces_leaves_nothing_in_the_index() {
    let (mut harness, node, both, writer) = mailbox();
    let short = |fh| Op::Read { fh, offset: 0, size: 2, nonblock: false, direct: true };
    let waits = [harness.wait(node, short(both)), harness.wait(node, short(both))];
    assert_eq!(harness.get(node, write(writer, b"abcd")), Reply::Written(4));
    let late = harness.late();
    assert_eq!(late.iter().map(|answer| answer.0).collect::<Vec<_>>(), waits);
    assert!(is_message(&late[0].1, b"ab") && is_message(&late[1].1, b"cd"), "{late:?}");
    assert_eq!(harness.parked(), 0);
}
