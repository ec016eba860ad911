//! Requests that wait: interrupted early, in time and late; expired; ended. Each is answered once, and the index
//! forgets it then.

use super::*;

/// A tree in which nothing waits yet, with two ways into one empty mailbox.
fn mailbox() -> (Desk, NodeId, Fh, Fh) {
    let mut desk = Desk::new();
    let (node, both) = desk.create("mailboxes/box", BOTH);
    let other = desk.look_up(2, MAILBOXES, "box").unwrap();
    let writer = desk.open(2, other.node, WRITE).unwrap();
    (desk, node, both, writer)
}

#[test]
fn an_interrupt_in_time_ends_the_wait() {
    let (mut desk, node, both, _) = mailbox();
    let unique = desk.wait(node, read(both));
    assert_eq!(desk.parked(), 1);
    desk.interrupt(unique);
    assert_eq!(desk.late(), [(unique, Reply::Failed(Error::Interrupted))]);
    assert!(desk.again.is_empty());
    assert_eq!(desk.parked(), 0);
}

#[test]
fn an_interrupt_that_comes_before_its_request_waits_is_asked_for_again() {
    let (mut desk, node, both, _) = mailbox();
    let unique = desk.unique + 4;
    desk.interrupt(unique);
    assert_eq!(desk.again, [unique]);
    assert_eq!(desk.wait(node, read(both)), unique);
    desk.interrupt(unique);
    assert_eq!(desk.late(), [(unique, Reply::Failed(Error::Interrupted))]);
    assert_eq!(desk.again, [unique], "once was enough");
}

#[test]
fn a_late_interrupt_ends_nothing() {
    let (mut desk, node, both, writer) = mailbox();
    let (first, second) = (desk.wait(node, read(both)), desk.wait(node, read(both)));
    assert_eq!(desk.get(node, write(writer, b"x")), Reply::Written(1));
    let late = desk.late();
    assert!(late.len() == 1 && late[0].0 == first && is_message(&late[0].1, b"x"), "{late:?}");
    assert_eq!(desk.parked(), 1, "the answered one is out of the index");
    desk.interrupt(first);
    assert_eq!((desk.late(), desk.again.as_slice()), (vec![], &[first][..]));
    desk.interrupt(second);
    assert_eq!(desk.late(), [(second, Reply::Failed(Error::Interrupted))]);
}

#[test]
fn a_waiting_writer_is_interrupted_and_sent_nothing() {
    let (mut desk, node, both, writer) = mailbox();
    assert_eq!(desk.store("control/mailboxes/box/config/maxmsg", "1"), Reply::Written(1));
    assert_eq!(desk.get(node, write(writer, b"first")), Reply::Written(5));
    let unique = desk.wait(node, write(writer, b"second"));
    desk.interrupt(unique);
    assert_eq!(desk.late(), [(unique, Reply::Failed(Error::Interrupted))]);
    let reply = desk.get(node, read(both));
    assert!(is_message(&reply, b"first"), "{reply:?}");
    assert!(desk.show("control/mailboxes/box/status").starts_with("depth 0\n"));
    assert_eq!(desk.parked(), 0);
}

#[test]
fn who_waits_for_a_lock_is_interrupted_or_granted_it() {
    let (mut desk, node, both, writer) = mailbox();
    assert_eq!(desk.get(node, lock(both, 1, LockKind::Exclusive)), Reply::Done);
    let waits = [2, 3].map(|owner| desk.wait(node, lock(writer, owner, LockKind::Exclusive)));
    assert_eq!(desk.parked(), 2);
    desk.interrupt(waits[0]);
    assert_eq!(desk.late(), [(waits[0], Reply::Failed(Error::Interrupted))]);
    assert_eq!(desk.get(node, lock(both, 1, LockKind::Unlock)), Reply::Done);
    assert_eq!(desk.late(), [(waits[1], Reply::Done)]);
    assert_eq!(desk.parked(), 0);
}

#[test]
fn closing_a_lock_holder_lets_the_next_in() {
    let (mut desk, node, both, writer) = mailbox();
    assert_eq!(desk.get(node, lock(both, 1, LockKind::Exclusive)), Reply::Done);
    let unique = desk.wait(node, lock(writer, 2, LockKind::Exclusive));
    desk.release(node, both);
    assert_eq!(desk.late(), [(unique, Reply::Done)]);
    assert_eq!(desk.parked(), 0);
}

#[test]
fn waits_expire_by_their_beginning() {
    let (mut desk, node, both, _) = mailbox();
    let old = desk.wait(node, read(both));
    let limit = desk.now;
    let young = desk.wait(node, read(both));
    let mut fx = Effects::new();
    desk.tree.expire(Timestamp(limit), Timestamp(limit + 100), &mut fx);
    desk.carry_out(&mut fx, None);
    assert_eq!(desk.late(), [(old, Reply::Failed(Error::Interrupted))]);
    assert_eq!(desk.parked(), 1);
    desk.interrupt(young);
    assert_eq!(desk.late().len(), 1);
}

#[test]
fn the_end_answers_everyone_and_lets_nobody_wait_any_more() {
    let (mut desk, node, both, writer) = mailbox();
    assert_eq!(desk.get(node, lock(both, 1, LockKind::Exclusive)), Reply::Done);
    let waits = [desk.wait(node, read(both)), desk.wait(node, lock(writer, 2, LockKind::Shared))];
    let mut fx = Effects::new();
    desk.tree.end(Timestamp(desk.now), &mut fx);
    desk.carry_out(&mut fx, None);
    let mut late = desk.late();
    late.sort_by_key(|answer| answer.0);
    assert_eq!(late, waits.map(|unique| (unique, Reply::Failed(Error::Ending))));
    assert_eq!(desk.parked(), 0);

    assert_eq!(desk.get(node, read(both)), Reply::Failed(Error::Ending));
    assert_eq!(desk.get(node, lock(writer, 2, LockKind::Shared)), Reply::Failed(Error::Ending));
    assert_eq!(desk.parked(), 0, "answered in the call that would have waited");
    assert_eq!(desk.get(node, write(writer, b"x")), Reply::Written(1), "what need not wait is done");
}

#[test]
fn removal_ends_all_waits_for_a_mailbox() {
    let (mut desk, node, both, _) = mailbox();
    let waits = [desk.wait(node, read(both)), desk.wait(node, read(both))];
    desk.unlink("mailboxes/box");
    assert_eq!(desk.late(), waits.map(|unique| (unique, Reply::Failed(Error::Removed))));
    assert_eq!(desk.parked(), 0);
    assert_eq!(desk.get(node, read(both)), Reply::Failed(Error::Removed));
}

#[test]
fn renaming_over_a_mailbox_removes_it() {
    let (mut desk, node, both, _) = mailbox();
    let (other, writer) = desk.create("mailboxes/new", WRITE);
    assert_eq!(desk.get(other, write(writer, b"moved")), Reply::Written(5));
    let unique = desk.wait(node, read(both));
    let how = crate::op::RenameHow::Replace;
    let rename = Op::Rename { name: b"new", new_parent: MAILBOXES, new_name: b"box", how };
    assert_eq!(desk.get(MAILBOXES, rename), Reply::Done);
    assert_eq!(desk.late(), [(unique, Reply::Failed(Error::Removed))]);
    let moved = desk.node("mailboxes/box");
    let fh = desk.open(1, moved, READ).unwrap();
    let reply = desk.get(moved, read(fh));
    assert!(is_message(&reply, b"moved"), "{reply:?}");
}

#[test]
fn a_message_delivered_in_pieces_leaves_nothing_in_the_index() {
    let (mut desk, node, both, writer) = mailbox();
    let short = |fh| Op::Read { fh, offset: 0, size: 2, nonblock: false, direct: true };
    let waits = [desk.wait(node, short(both)), desk.wait(node, short(both))];
    assert_eq!(desk.get(node, write(writer, b"abcd")), Reply::Written(4));
    let late = desk.late();
    assert_eq!(late.iter().map(|answer| answer.0).collect::<Vec<_>>(), waits);
    assert!(is_message(&late[0].1, b"ab") && is_message(&late[1].1, b"cd"), "{late:?}");
    assert_eq!(desk.parked(), 0);
}
