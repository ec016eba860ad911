//! Attributes that the kernel may believe for a moment: never longer than they hold.

use super::*;
use crate::op::{RenameHow, Validity};

/// A mailbox with a message in it and somebody who has it open for both; and a node that the kernel believes.
struct World {
    desk: Desk,
    open: (NodeId, Fh),
    believed: NodeId,
}

fn world() -> World {
    let mut desk = Desk::new();
    let open = desk.create("mailboxes/box", BOTH);
    assert_eq!(desk.get(open.0, write(open.1, b"first")), Reply::Written(5));
    let entry = desk.look_up(2, MAILBOXES, "box").unwrap();
    assert_eq!(entry.validity, Validity::None, "the kernel does not have the node yet");
    let entry = desk.look_up(2, MAILBOXES, "box").unwrap();
    assert_eq!(entry.validity, Validity::Moment);
    assert_ne!(entry.node, open.0);
    assert_eq!(desk.renewed, []);
    World { desk, open, believed: entry.node }
}

/// Whatever changes attributes tells the kernel, once, and before it is answered (see `Desk::carry_out`).
#[test]
fn every_change_tells_the_kernel_once() {
    type Change = fn(&mut World);
    let changes: [(&str, Change); 8] = [
        ("send", |world| drop(world.desk.get(world.open.0, write(world.open.1, b"body")))),
        ("receive", |world| drop(world.desk.get(world.open.0, read(world.open.1)))),
        ("chmod", |world| {
            let set = SetAttr { mode: Some(0o600), ..SetAttr::default() };
            drop(world.desk.get(world.open.0, Op::Setattr(set)));
        }),
        ("setxattr", |world| {
            let call = Op::Setxattr { name: b"user.a", value: b"b", create: false, replace: false };
            assert_eq!(world.desk.get(world.open.0, call), Reply::Done);
        }),
        ("unlink", |world| world.desk.unlink("mailboxes/box")),
        ("rename", |world| {
            let (new_parent, how) = (MAILBOXES, RenameHow::Replace);
            let call = Op::Rename { name: b"box", new_parent, new_name: b"other", how };
            assert_eq!(world.desk.get(MAILBOXES, call), Reply::Done);
        }),
        ("config", |world| {
            let reply = world.desk.store("control/mailboxes/box/config/msgsize", "50");
            assert_eq!(reply, Reply::Written(2));
        }),
        ("rm of a message", |world| {
            let messages = world.desk.node("control/mailboxes/box/messages");
            assert_eq!(world.desk.get(messages, Op::Unlink { name: b"1" }), Reply::Done);
        }),
    ];
    for (name, change) in changes {
        let mut world = world();
        change(&mut world);
        assert_eq!(world.desk.renewed, [world.believed], "{name}");
        change_again(&mut world);
        assert_eq!(world.desk.renewed, [world.believed], "{name}, and then nothing to tell");
    }
}

fn change_again(world: &mut World) {
    let _ = world.desk.ask(1, world.open.0, write(world.open.1, b"again"));
}

#[test]
fn what_changes_nothing_tells_nothing() {
    let World { mut desk, open, believed } = world();
    let fh = desk.open(2, believed, READ).unwrap();
    desk.release(believed, fh);
    assert!(matches!(desk.get(believed, Op::Getattr), Reply::Attr(_, Validity::Moment)));
    desk.show("control/mailboxes/box/status");
    assert!(matches!(
        desk.get(open.0, Op::Lseek { fh: open.1, offset: 0, whence: crate::op::Whence::Data }),
        Reply::Failed(_)
    ));
    assert_eq!(desk.renewed, []);
}

#[test]
fn one_node_is_believed_at_a_time() {
    let World { mut desk, open, believed } = world();
    assert!(matches!(desk.get(open.0, Op::Getattr), Reply::Attr(_, Validity::Moment)));
    assert_eq!(desk.renewed, [believed]);
    assert_eq!(desk.look_up(2, MAILBOXES, "box").unwrap().validity, Validity::Moment);
    assert_eq!(desk.renewed, [believed, open.0]);
}
