//! When segments and their memory go.

use super::*;
use crate::accounts::Resource;

fn promised(desk: &Desk) -> u64 {
    desk.tree.accounts.used(Resource::Segments)
}

fn grow(desk: &mut Desk, node: NodeId, size: u64) {
    let set = SetAttr { size: Some(size), ..SetAttr::default() };
    assert!(matches!(desk.get(node, Op::Setattr(set)), Reply::Attr(..)));
}

#[test]
fn a_segment_stays_until_it_is_removed() {
    let mut desk = Desk::new();
    let (node, fh) = desk.create("segments/seg", BOTH);
    grow(&mut desk, node, 8192);
    desk.release(node, fh);
    assert_eq!(promised(&desk), 8192);
    desk.unlink("segments/seg");
    assert_eq!(promised(&desk), 0);
}

#[test]
fn a_removed_segment_lives_on_while_it_is_open() {
    let mut desk = Desk::new();
    let (node, fh) = desk.create("segments/seg", BOTH);
    assert_eq!(desk.get(node, write(fh, b"bytes")), Reply::Written(5));
    desk.unlink("segments/seg");
    assert_eq!(desk.get(node, read(fh)), Reply::Data(b"bytes".to_vec()));
    assert_eq!(promised(&desk), 4096);
    let again = desk.open(1, node, READ).unwrap();
    desk.release(node, fh);
    assert_eq!(promised(&desk), 4096, "somebody else has it open");
    desk.release(node, again);
    assert_eq!(promised(&desk), 0);
    assert_eq!(desk.open(1, node, READ), Err(Error::Stale));
}

#[test]
fn last_close_takes_the_name_and_the_memory() {
    let mut desk = Desk::new();
    let (node, first) = desk.create("segments/seg", BOTH);
    assert_eq!(desk.store("control/segments/seg/config/lifetime", "last-close"), Reply::Written(10));
    grow(&mut desk, node, 4096);
    let second = desk.open(1, node, READ).unwrap();
    desk.release(node, first);
    assert!(desk.look_up(1, NodeId(3), "seg").is_ok(), "still open");
    desk.release(node, second);
    assert_eq!(desk.look_up(1, NodeId(3), "seg").unwrap_err(), Error::NotFound);
    assert_eq!(promised(&desk), 0);
    desk.create("segments/seg", BOTH);
}

#[test]
fn last_close_follows_a_segment_to_another_name() {
    let mut desk = Desk::new();
    let (node, fh) = desk.create("segments/seg", BOTH);
    assert_eq!(desk.store("control/segments/seg/config/lifetime", "last-close"), Reply::Written(10));
    let how = crate::op::RenameHow::Replace;
    let rename = Op::Rename { name: b"seg", new_parent: NodeId(3), new_name: b"new", how };
    assert_eq!(desk.get(NodeId(3), rename), Reply::Done);
    let (_, other) = desk.create("segments/seg", BOTH);
    desk.release(node, fh);
    assert_eq!(desk.look_up(1, NodeId(3), "new").unwrap_err(), Error::NotFound);
    assert!(desk.look_up(1, NodeId(3), "seg").is_ok(), "the name's new owner stays");
    desk.release(node, other);
}

#[test]
fn no_memory_is_promised_beyond_the_budget() {
    let mut desk = Desk::new();
    let (node, fh) = desk.create("segments/seg", BOTH);
    let set = SetAttr { size: Some((1 << 20) + 1), ..SetAttr::default() };
    assert_eq!(desk.get(node, Op::Setattr(set)), Reply::Failed(Error::NoSpace));
    grow(&mut desk, node, 1 << 20);
    let (other, second) = desk.create("segments/other", BOTH);
    assert_eq!(desk.get(other, write(second, b"x")), Reply::Failed(Error::NoSpace));
    desk.unlink("segments/seg");
    desk.release(node, fh);
    assert_eq!(desk.get(other, write(second, b"x")), Reply::Written(1));
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
    let mut desk = Desk::with(Setup { backing: Some(Box::new(NoBacking)), ..setup(1 << 20) });
    let folder = desk.node("segments");
    let before = desk.tree.names.lock().nodes.len();
    let reply = desk.get(folder, Op::Create { name: b"seg", mode: 0o644, flags: BOTH });
    assert_eq!(reply, Reply::Failed(Error::NoMemory));
    assert_eq!(desk.tree.names.lock().nodes.len(), before, "the kernel never heard of a node");
}
