//! When segments and their memory go.

use super::*;
use crate::accounts::Resource;

fn promised(harness: &Harness) -> u64 {
    harness.tree.accounts.used(Resource::Segments)
}

fn grow(harness: &mut Harness, node: NodeId, size: u64) {
    let set = SetAttr { size: Some(size), ..SetAttr::default() };
    assert!(matches!(harness.get(node, Op::Setattr(set)), Reply::Attr(..)));
}

#[test]
fn a_segment_stays_until_it_is_removed() {
    let mut harness = Harness::new();
    let (node, fh) = harness.create("segments/seg", BOTH);
    grow(&mut harness, node, 8192);
    harness.release(node, fh);
    assert_eq!(promised(&harness), 8192);
    harness.unlink("segments/seg");
    assert_eq!(promised(&harness), 0);
}

#[test]
fn a_removed_segment_lives_on_while_it_is_open() {
    let mut harness = Harness::new();
    let (node, fh) = harness.create("segments/seg", BOTH);
    assert_eq!(harness.get(node, write(fh, b"bytes")), Reply::Written(5));
    harness.unlink("segments/seg");
    assert_eq!(harness.get(node, read(fh)), Reply::Data(b"bytes".to_vec()));
    assert_eq!(promised(&harness), 4096);
    let again = harness.open(1, node, READ).unwrap();
    harness.release(node, fh);
    assert_eq!(promised(&harness), 4096, "somebody else has it open");
    harness.release(node, again);
    assert_eq!(promised(&harness), 0);
    assert_eq!(harness.open(1, node, READ), Err(Error::Stale));
}

#[test]
fn last_close_takes_the_name_and_the_memory() {
    let mut harness = Harness::new();
    let (node, first) = harness.create("segments/seg", BOTH);
    assert_eq!(harness.store("control/segments/seg/config/lifetime", "last-close"), Reply::Written(10));
    grow(&mut harness, node, 4096);
    let second = harness.open(1, node, READ).unwrap();
    harness.release(node, first);
    assert!(harness.look_up(1, NodeId(3), "seg").is_ok(), "still open");
    harness.release(node, second);
    assert_eq!(harness.look_up(1, NodeId(3), "seg").unwrap_err(), Error::NotFound);
    assert_eq!(promised(&harness), 0);
    harness.create("segments/seg", BOTH);
}

#[test]
fn last_close_follows_a_segment_to_another_name() {
    let mut harness = Harness::new();
    let (node, fh) = harness.create("segments/seg", BOTH);
    assert_eq!(harness.store("control/segments/seg/config/lifetime", "last-close"), Reply::Written(10));
    let how = crate::op::RenameHow::Replace;
    let rename = Op::Rename { name: b"seg", new_parent: NodeId(3), new_name: b"new", how };
    assert_eq!(harness.get(NodeId(3), rename), Reply::Done);
    let (_, other) = harness.create("segments/seg", BOTH);
    harness.release(node, fh);
    assert_eq!(harness.look_up(1, NodeId(3), "new").unwrap_err(), Error::NotFound);
    assert!(harness.look_up(1, NodeId(3), "seg").is_ok(), "the name's new owner stays");
    harness.release(node, other);
}

#[test]
fn no_memory_is_promised_beyond_the_budget() {
    let mut harness = Harness::new();
    let (node, fh) = harness.create("segments/seg", BOTH);
    let set = SetAttr { size: Some((1 << 20) + 1), ..SetAttr::default() };
    assert_eq!(harness.get(node, Op::Setattr(set)), Reply::Failed(Error::NoSpace));
    grow(&mut harness, node, 1 << 20);
    let (other, second) = harness.create("segments/other", BOTH);
    assert_eq!(harness.get(other, write(second, b"x")), Reply::Failed(Error::NoSpace));
    harness.unlink("segments/seg");
    harness.release(node, fh);
    assert_eq!(harness.get(other, write(second, b"x")), Reply::Written(1));
}

/// A table of backing files with nothing in it.
#[derive(Debug)]
struct NoBacking;

impl super::super::Backing for NoBacking {
    fn open(&self, _: std::os::fd::BorrowedFd<'_>) -> Result<u32, Error> {
        Err(Error::NoMemory)
    }

    fn close(&self, _: u32) {}
}

#[test]
fn a_segment_that_could_not_be_opened_when_created_leaves_no_reference() {
    let mut harness = Harness::with(Setup { backing: Some(Box::new(NoBacking)), ..setup(1 << 20) });
    let folder = harness.node("segments");
    let before = harness.tree.names.lock().nodes.len();
    let reply = harness.get(folder, Op::Create { name: b"seg", mode: 0o644, flags: BOTH });
    assert_eq!(reply, Reply::Failed(Error::NoMemory));
    assert_eq!(harness.tree.names.lock().nodes.len(), before, "the kernel never heard of a node");
}

#[test]
fn whoever_has_just_received_does_not_remove_what_still_waits() {
    let mut harness = Harness::new();
    let (_, sender) = harness.create("mailboxes/box", WRITE);
    for body in [b"one", b"two"] {
        let node = harness.node("mailboxes/box");
        assert_eq!(harness.get(node, write(sender, body)), Reply::Written(3));
    }
    let folder = harness.node("mailboxes");
    let node = harness.node("mailboxes/box");
    let reader = harness.open(7, node, READ).unwrap();
    assert!(is_message(&harness.get(node, read(reader)), b"one"));
    harness.release(node, reader);
    let unlink = || Op::Unlink { name: b"box" };
    assert_eq!(harness.ask(7, folder, unlink()).1, Some(Reply::Failed(Error::Busy)));
    // A minute later it is no accident.
    harness.now += 59_000_000_000;
    assert_eq!(harness.ask(7, folder, unlink()).1, Some(Reply::Failed(Error::Busy)));
    harness.now += 1_000_000_000;
    assert_eq!(harness.ask(7, folder, unlink()).1, Some(Reply::Done));
}

#[test]
fn an_open_file_whose_node_is_forgotten_is_nobodys() {
    let mut harness = Harness::new();
    harness.create("mailboxes/q", BOTH);
    let (topic, subscribed) = harness.create("topics/t", READ);
    let (segment, mapped) = harness.create("segments/s", BOTH);
    let lease = harness.node("control/mailboxes/q/lease");
    let held = harness.open(1, lease, BOTH).unwrap();
    assert_eq!(harness.tree.unknown_to_kernel(), []);
    for node in [topic, segment, lease] {
        harness.ask(1, node, Op::Forget(vec![(node, 100)]));
    }
    assert_eq!(harness.tree.unknown_to_kernel(), [subscribed, mapped, held]);
    harness.release(segment, mapped);
    harness.release(lease, held);
    harness.release(topic, subscribed);
    assert_eq!(harness.tree.unknown_to_kernel(), []);
}
