//! Segments with several names, or none.

use super::segment::SegmentFile;
use super::{Cx, Header, Inode, InodeOps as _};
use crate::accounts::Resource;
use crate::op::{Caller, Entry, Error, Ino, NodeId, OpenFlags, Opened};
use crate::tree::names::Namespace;
use crate::tree::names::meta::{Meta, TYPE_MASK};

/// LINK: the segment at the node `file` gets another name, in the folder that the request is about.
pub(crate) fn link(header: Header, file: NodeId, name: &[u8], cx: &mut Cx<'_>) -> Result<Entry, Error> {
    let mut names = cx.tree.names.lock();
    let Inode::Folder(folder) = Inode::of_node(header.node, &names)? else { return Err(Error::NotPermitted) };
    let inode = Inode::of_node(file, &names)?;
    let Inode::Segment(segment) = &inode else { return Err(Error::KindRefused) };
    if names.check_new(folder.ino, name)?.namespace != Namespace::Segments {
        return Err(Error::OtherKind);
    }
    let mut state = segment.state.lock();
    let charge = match state.nameless.take() {
        Some(charge) => charge,
        // It was removed.
        None if state.names == 0 => return Err(Error::NotFound),
        None => charge_file(header.caller, cx)?,
    };
    names.link_again(folder.ino, name, &inode, charge, cx.now.time())?;
    state.names += 1;
    state.meta.ctime = cx.now.time();
    drop(state);
    segment.entry(&mut names, header.caller, cx)
}

/// TMPFILE in the folder numbered `folder`: a segment that has no name and goes with its last descriptor, unless LINK gives it
/// one.
pub(super) fn make_nameless(
    folder: Ino,
    header: Header,
    mode: u32,
    flags: OpenFlags,
    cx: &mut Cx<'_>,
) -> Result<(Entry, Opened), Error> {
    let mut names = cx.tree.names.lock();
    let holder = names.folder(folder).ok_or(Error::NotFound)?;
    let charge = charge_file(header.caller, cx)?;
    let meta = Meta::created(mode & !TYPE_MASK, header.caller, &holder.meta, cx.now.time());
    let (ino, account) = (Ino(names.fresh()), cx.tree.accounts.of(header.caller.uid));
    let file = SegmentFile::new(ino, meta, account, cx.tree)?;
    file.without_name(charge);
    let entry = file.entry(&mut names, header.caller, cx)?;
    let header = Header { node: entry.node, ..header };
    // A new file is empty, and has the bits that it was made with.
    let flags = OpenFlags { truncate: false, no_follow: false, kill_suid: false, ..flags };
    let opened = file.open(header, flags, names, cx);
    // The kernel learns of no node with an error, and will forget none.
    let opened = opened.inspect_err(|_| cx.tree.forget(&[(entry.node, 1)], cx.now))?;
    Ok((entry, opened))
}

fn charge_file(caller: Caller, cx: &Cx<'_>) -> Result<crate::accounts::Charge, Error> {
    cx.tree.accounts.of(caller.uid).charge(Resource::Files, 1).map_err(|_| Error::NoSpace)
}
