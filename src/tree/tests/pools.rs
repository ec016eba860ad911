//! Nodes: one a writer, none for `control/`, and none left when all are forgotten.

use super::*;

/// Nodes in memory beside the root's and those of `mailboxes/` and `segments/`.
fn nodes(harness: &Harness) -> usize {
    let names = harness.tree.names.lock();
    let known = [1, 2, 3].into_iter().filter(|number| names.nodes.object(NodeId(*number)).is_some());
    names.nodes.len() - known.count()
}

fn forget(harness: &mut Harness, node: NodeId, count: u64) {
    assert_eq!(harness.ask(1, node, Op::Forget(vec![(node, count)])).1, None);
}

#[test]
fn every_writer_has_a_node_to_itself_and_all_are_one_file() {
    let mut harness = Harness::new();
    let mut seen = vec![harness.create("mailboxes/box", WRITE).0];
    let ino = harness.look_up(9, MAILBOXES, "box").unwrap().attr.ino;
    for pid in 10..40 {
        let entry = harness.look_up(pid, MAILBOXES, "box").unwrap();
        assert_eq!(entry.attr.ino, ino);
        assert!(!seen.contains(&entry.node), "{:?} is a writer's", entry.node);
        harness.open(pid, entry.node, WRITE).unwrap();
        seen.push(entry.node);
    }
}

#[test]
fn one_client_after_the_other_gets_the_same_node() {
    let mut harness = Harness::new();
    let (node, fh) = harness.create("mailboxes/box", WRITE);
    harness.release(node, fh);
    for pid in 0..100 {
        let entry = harness.look_up(pid, MAILBOXES, "box").unwrap();
        assert_eq!(entry.node, node);
        let fh = harness.open(pid, node, if pid % 2 == 0 { WRITE } else { READ }).unwrap();
        harness.release(node, fh);
    }
    assert_eq!(nodes(&harness), 1);
}

#[test]
fn a_writer_who_would_share_is_sent_to_look_again_and_then_let_in() {
    let mut harness = Harness::new();
    let (node, _) = harness.create("mailboxes/box", WRITE);
    assert_eq!(harness.open(2, node, WRITE), Err(Error::Stale));
    let entry = harness.look_up(2, MAILBOXES, "box").unwrap();
    assert_ne!(entry.node, node);
    harness.open(2, entry.node, WRITE).unwrap();
}

#[test]
fn refused_callers_that_never_come_back_hold_no_node() {
    let mut harness = Harness::new();
    let (node, fh) = harness.create("mailboxes/box", WRITE);
    for pid in 2..10 {
        assert_eq!(harness.open(pid, node, WRITE), Err(Error::Stale));
    }
    assert_eq!(nodes(&harness), 1);
    let looked_up = harness.look_up(2, MAILBOXES, "box").unwrap().node;
    harness.release(node, fh);
    harness.unlink("mailboxes/box");
    forget(&mut harness, looked_up, 1);
    assert_eq!(nodes(&harness), 1, "the file can still be opened again");
    forget(&mut harness, node, 1);
    assert_eq!(nodes(&harness), 0);
}

#[test]
fn a_refused_caller_is_let_in_though_the_kernel_forgot_all_nodes_or_the_name_stands_for_another_file() {
    for replaced in [false, true] {
        let mut harness = Harness::new();
        let (node, fh) = harness.create("mailboxes/box", WRITE);
        assert_eq!(harness.open(2, node, WRITE), Err(Error::Stale));
        harness.release(node, fh);
        forget(&mut harness, node, 1);
        if replaced {
            harness.unlink("mailboxes/box");
            harness.create("mailboxes/box", WRITE);
        }
        let retry = harness.look_up(2, MAILBOXES, "box").unwrap().node;
        forget(&mut harness, retry, 1);
        let retry = harness.look_up(2, MAILBOXES, "box").unwrap().node;
        harness.look_up(3, MAILBOXES, "box").unwrap();
        harness.open(2, retry, WRITE).unwrap();
        assert_eq!(harness.tree.names.lock().nodes.refusals(), 0);
    }
}

#[test]
fn a_segment_that_is_gone_at_the_second_attempt_too_is_not_found() {
    let mut harness = Harness::new();
    let last_close = |harness: &mut Harness| {
        let (node, fh) = harness.create("segments/s", WRITE);
        assert_eq!(harness.store("control/segments/s/config/lifetime", "last-close"), Reply::Written(10));
        let looked_up = harness.look_up(2, NodeId(3), "s").unwrap().node;
        harness.release(node, fh);
        looked_up
    };
    let first = last_close(&mut harness);
    assert_eq!(harness.open(2, first, READ), Err(Error::Stale));
    let second = last_close(&mut harness);
    assert_eq!(harness.open(2, second, READ), Err(Error::NotFound));
    let third = last_close(&mut harness);
    assert_eq!(harness.open(2, third, READ), Err(Error::Stale), "another open(2)");
}

/// However late the second attempt comes.
#[test]
fn a_segment_that_is_replaced_at_both_attempts_is_opened() {
    let mut harness = Harness::new();
    harness.node("segments");
    for attempt in 0..2 {
        let (node, fh) = harness.create("segments/s", WRITE);
        harness.release(node, fh);
        let looked_up = harness.look_up(2, NodeId(3), "s").unwrap().node;
        harness.now += 1_000_000_000;
        harness.look_up(3, NodeId(3), "s").unwrap();
        harness.unlink("segments/s");
        assert_eq!(harness.open(2, looked_up, READ).err(), (attempt == 0).then_some(Error::Stale));
    }
}

#[test]
fn a_forgotten_mailbox_is_found_again_by_its_name() {
    let mut harness = Harness::new();
    let (node, fh) = harness.create("mailboxes/box", WRITE);
    assert_eq!(harness.get(node, write(fh, b"kept")), Reply::Written(4));
    harness.release(node, fh);
    forget(&mut harness, node, 1);
    assert_eq!(nodes(&harness), 0);
    assert_eq!(harness.get(node, Op::Getattr), Reply::Failed(Error::Stale));
    let entry = harness.look_up(1, MAILBOXES, "box").unwrap();
    assert_ne!(entry.node, node, "a number is never used again");
    let fh = harness.open(1, entry.node, READ).unwrap();
    let reply = harness.get(entry.node, read(fh));
    assert!(is_message(&reply, b"kept"), "{reply:?}");
}

#[test]
fn references_are_counted() {
    let mut harness = Harness::new();
    let (node, fh) = harness.create("mailboxes/box", WRITE);
    harness.release(node, fh);
    for _ in 0..4 {
        assert_eq!(harness.look_up(1, MAILBOXES, "box").unwrap().node, node);
    }
    forget(&mut harness, node, 4);
    assert_eq!(nodes(&harness), 1, "one is left, of its creation");
    forget(&mut harness, node, 1);
    assert_eq!(nodes(&harness), 0);
}

#[test]
fn a_removed_folder_lives_as_long_as_the_kernel_knows_it() {
    let mut harness = Harness::new();
    harness.node("mailboxes");
    let Reply::Entry(entry) = harness.get(MAILBOXES, Op::Mkdir { name: b"d", mode: 0o700 }) else { panic!() };
    assert_eq!(harness.get(MAILBOXES, Op::Rmdir { name: b"d" }), Reply::Done);
    let Reply::Attr(attr, _) = harness.get(entry.node, Op::Getattr) else { panic!() };
    assert_eq!(attr.nlink, 0);
    assert_eq!(
        harness.get(entry.node, Op::Mkdir { name: b"e", mode: 0o700 }),
        Reply::Failed(Error::NotFound)
    );
    forget(&mut harness, entry.node, 1);
    assert_eq!(harness.get(entry.node, Op::Getattr), Reply::Failed(Error::Stale));
    assert!(harness.tree.names.lock().folder(attr.ino).is_none());
}

#[test]
fn control_files_cost_no_nodes_and_go_with_their_object() {
    let mut harness = Harness::new();
    let (node, fh) = harness.create("mailboxes/box", WRITE);
    let before = nodes(&harness);
    let status = harness.node("control/mailboxes/box/status");
    let config = harness.node("control/mailboxes/box/config/maxmsg");
    let folder = harness.node("control/mailboxes/box/config");
    assert_eq!(nodes(&harness), before);
    for known in [status, config, folder] {
        let place = ControlNode::of(known).expect("one of control's");
        assert_eq!(place.ino(), Ino(known.0), "a node's number says all");
    }
    let open = harness.open(1, status, READ).unwrap();
    harness.unlink("mailboxes/box");
    for known in [status, config, folder] {
        assert_eq!(harness.get(known, Op::Getattr), Reply::Failed(Error::NotFound));
    }
    assert_eq!(harness.get(status, read(open)), Reply::Failed(Error::NotFound));
    harness.release(node, fh);
    harness.release(status, open);
}

#[test]
fn control_files_follow_their_object_to_another_name() {
    let mut harness = Harness::new();
    harness.create("mailboxes/old", WRITE);
    let config = harness.node("control/mailboxes/old/config/maxmsg");
    let how = crate::op::RenameHow::Replace;
    let rename = Op::Rename { name: b"old", new_parent: MAILBOXES, new_name: b"new", how };
    assert_eq!(harness.get(MAILBOXES, rename), Reply::Done);
    assert_eq!(harness.node("control/mailboxes/new/config/maxmsg"), config);
}

#[test]
fn numbers_that_name_nothing_in_control_are_not_found() {
    let mut harness = Harness::new();
    harness.create("mailboxes/box", WRITE);
    let top = harness.node("control/mailboxes/box").0;
    for number in [top + 2 + 6, top + 63, top + 64, u64::MAX, 1 << 62] {
        assert_eq!(harness.get(NodeId(number), Op::Getattr), Reply::Failed(Error::NotFound), "{number:#x}");
        let open = harness.open(1, NodeId(number), READ);
        assert_eq!(open, Err(Error::NotFound));
    }
}

#[test]
fn nothing_is_made_changed_or_removed_in_control() {
    let mut harness = Harness::new();
    harness.create("mailboxes/box", WRITE);
    let (control, top) = (harness.node("control"), harness.node("control/mailboxes/box"));
    for folder in [control, top] {
        assert_eq!(
            harness.get(folder, Op::Mkdir { name: b"x", mode: 0o700 }),
            Reply::Failed(Error::NotPermitted)
        );
        // No file of this name is there. Others are not made anywhere.
        for (mode, error) in [(0o100_600, Error::NotFound), (0o010_600, Error::NotPermitted)] {
            assert_eq!(harness.get(folder, Op::Mknod { name: b"x", mode }), Reply::Failed(error));
        }
        assert_eq!(harness.get(folder, Op::Unlink { name: b"status" }), Reply::Failed(Error::NotPermitted));
        assert_eq!(harness.get(folder, Op::Rmdir { name: b"config" }), Reply::Failed(Error::NotPermitted));
        let chmod = SetAttr { mode: Some(0o777), ..SetAttr::default() };
        assert_eq!(harness.get(folder, Op::Setattr(chmod)), Reply::Failed(Error::NotPermitted));
        assert_eq!(harness.get(folder, Op::Open(READ)), Reply::Failed(Error::IsFolder));
    }
    let status = harness.node("control/mailboxes/box/status");
    assert_eq!(harness.open(1, status, WRITE), Err(Error::AccessDenied));
    assert_eq!(harness.get(status, Op::Opendir), Reply::Failed(Error::NotFolder));
}

#[test]
fn who_appends_is_sent_to_look_again_and_told_that_the_file_is_empty() {
    let mut harness = Harness::new();
    let (first, fh) = harness.create("mailboxes/box", WRITE);
    harness.release(first, fh);
    let size = |harness: &mut Harness, node| match harness.get(node, Op::Getattr) {
        Reply::Attr(attr, _) => attr.size,
        other => panic!("{other:?}"),
    };
    let usual = size(&mut harness, first);
    assert!(usual > 0);
    assert_eq!(harness.open(5, first, APPEND), Err(Error::Stale));
    let Some(Reply::Entry(entry)) = harness.ask(5, MAILBOXES, Op::Lookup { name: b"box" }).1 else {
        panic!()
    };
    assert_eq!((entry.attr.size, size(&mut harness, entry.node)), (0, 0));
    let fh = harness.open(5, entry.node, APPEND).unwrap();
    // Others are told what it is, all the time.
    assert_eq!((size(&mut harness, entry.node), size(&mut harness, first)), (0, usual));
    let other = harness.node("mailboxes/box");
    assert_eq!(size(&mut harness, other), usual);
    harness.release(entry.node, fh);
    // One that is made and opened in one is told so at once.
    let (made, _) = harness.create("mailboxes/made", APPEND);
    assert_eq!(size(&mut harness, made), 0);
}

#[test]
fn a_file_is_made_at_once_by_a_thread_whose_open_to_append_came_to_nothing() {
    let mut harness = Harness::new();
    let (node, _) = harness.create("mailboxes/box", WRITE);
    assert_eq!(harness.open(5, node, APPEND), Err(Error::Stale));
    harness.unlink("mailboxes/box");
    let flags = OpenFlags { exclusive: true, ..WRITE };
    let made = harness.ask(5, MAILBOXES, Op::Create { name: b"box", mode: 0o600, flags }).1;
    assert!(matches!(made, Some(Reply::Created(entry, _)) if entry.attr.size > 0), "{made:?}");
}
