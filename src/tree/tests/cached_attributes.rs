//! Attributes that the kernel may believe for a moment: never longer than they hold.

use super::*;
use crate::op::{RenameHow, Validity};

/// A mailbox with a message in it and somebody who has it open for both; and a node that the kernel believes.
struct World {
    harness: Harness,
    open: (NodeId, Fh),
    cached: NodeId,
}

fn world() -> World {
    let mut harness = Harness::new();
    let open = harness.create("mailboxes/box", BOTH);
    assert_eq!(harness.get(open.0, write(open.1, b"first")), Reply::Written(5));
    let cached = known_node(&mut harness);
    let entry = harness.look_up(2, MAILBOXES, "box").unwrap();
    assert_eq!((entry.node, entry.validity), (cached, Validity::Moment));
    assert_ne!(entry.node, open.0);
    assert_eq!(harness.renewed, []);
    World { harness, open, cached }
}

/// A node of the mailbox that nobody has open and whose permissions the kernel has.
fn known_node(harness: &mut Harness) -> NodeId {
    let entry = harness.look_up(2, MAILBOXES, "box").unwrap();
    assert_eq!(
        entry.validity,
        Validity::None,
        "the kernel may know no permissions of it, and must not drop these"
    );
    let Reply::Attr(_, validity) = harness.get(entry.node, Op::Getattr) else { panic!() };
    assert_eq!(validity, Validity::None, "the caller's rights are checked by this answer");
    entry.node
}

/// Whatever changes attributes tells the kernel, once, and before it is answered (see `Harness::carry_out`).
#[test]
fn every_change_tells_the_kernel_once() {
    type Change = fn(&mut World);
    let changes: [(&str, Change); 8] = [
        ("send", |world| drop(world.harness.get(world.open.0, write(world.open.1, b"body")))),
        ("receive", |world| drop(world.harness.get(world.open.0, read(world.open.1)))),
        ("chmod", |world| {
            let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
            drop(world.harness.get(world.open.0, Op::Setattr(set)));
        }),
        ("setxattr", |world| {
            let call = Op::Setxattr { name: b"user.a", value: b"b", create: false, replace: false };
            assert_eq!(world.harness.get(world.open.0, call), Reply::Done);
        }),
        ("unlink", |world| world.harness.unlink("mailboxes/box")),
        ("rename", |world| {
            let (new_parent, how) = (MAILBOXES, RenameHow::Replace);
            let call = Op::Rename { name: b"box", new_parent, new_name: b"other", how };
            assert_eq!(world.harness.get(MAILBOXES, call), Reply::Done);
        }),
        ("config", |world| {
            let reply = world.harness.store("control/mailboxes/box/config/msgsize", "50");
            assert_eq!(reply, Reply::Written(2));
        }),
        ("rm of a message", |world| {
            let messages = world.harness.node("control/mailboxes/box/messages");
            assert_eq!(world.harness.get(messages, Op::Unlink { name: b"1" }), Reply::Done);
        }),
    ];
    for (name, change) in changes {
        let mut world = world();
        change(&mut world);
        assert_eq!(world.harness.renewed, [world.cached], "{name}");
        change_again(&mut world);
        assert_eq!(world.harness.renewed, [world.cached], "{name}, and then nothing to tell");
    }
}

fn change_again(world: &mut World) {
    let _ = world.harness.ask(1, world.open.0, write(world.open.1, b"again"));
}

#[test]
fn what_changes_nothing_tells_nothing() {
    let World { mut harness, open, cached } = world();
    let fh = harness.open(2, cached, READ).unwrap();
    assert_eq!(std::mem::take(&mut harness.renewed), [cached], "a reader may ask for the size first");
    assert!(matches!(harness.get(cached, Op::Getattr), Reply::Attr(_, Validity::Moment)));
    harness.release(cached, fh);
    harness.show("control/mailboxes/box/status");
    assert!(matches!(
        harness.get(open.0, Op::Lseek { fh: open.1, offset: 0, whence: crate::op::Whence::Data }),
        Reply::Failed(_)
    ));
    assert_eq!(harness.renewed, []);
}

#[test]
fn one_node_is_cached_at_a_time() {
    let World { mut harness, open, cached } = world();
    assert!(matches!(harness.get(open.0, Op::Getattr), Reply::Attr(_, Validity::Moment)));
    assert_eq!(harness.renewed, [cached]);
    assert_eq!(harness.look_up(2, MAILBOXES, "box").unwrap().validity, Validity::Moment);
    assert_eq!(harness.renewed, [cached, open.0]);
}

#[test]
fn new_permissions_are_cached_once_the_kernel_has_them() {
    let World { mut harness, open, cached } = world();
    let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    drop(harness.get(open.0, Op::Setattr(set)));
    assert_eq!(known_node(&mut harness), cached);
    assert_eq!(harness.look_up(2, MAILBOXES, "box").unwrap().validity, Validity::Moment);
    assert_eq!(harness.renewed, [cached]);
}

/// The kernel may have given up the inode, and made another by a look-up whose answer is on its way.
#[test]
fn a_node_that_the_kernel_gave_up_in_part_is_cached_no_more_and_replaced() {
    let World { mut harness, cached, .. } = world();
    assert_eq!(harness.ask(1, cached, Op::Forget(vec![(cached, 1)])).1, None);
    for _ in 0..2 {
        assert!(matches!(harness.get(cached, Op::Getattr), Reply::Attr(_, Validity::None)));
    }
    assert_ne!(known_node(&mut harness), cached);
}

#[test]
fn a_mailbox_that_was_just_created_is_cached_at_its_first_look_up() {
    let mut harness = Harness::new();
    let (node, fh) = harness.create("mailboxes/box", BOTH);
    harness.release(node, fh);
    let entry = harness.look_up(2, MAILBOXES, "box").unwrap();
    assert_eq!((entry.node, entry.validity), (node, Validity::Moment));
}
