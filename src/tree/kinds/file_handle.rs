//! Finding a file by number, for `open_by_handle_at(2)` and for NFS.
//!
//! A file handle has the number of a node. If the kernel has forgotten the node, it looks "." up in it; and ".." in a folder's, for
//! the way from the root. The node of a folder, symbolic link, segment or topic has the number of the file, and that of a text of
//! `control/` says what it is. Nodes of a mailbox, a door or a message are made anew, so that their handles are stale by then.

use super::{ControlNode, Cx, Header, Inode, Names};
use crate::op::{Entry, Error, Ino};
use crate::tree::names::Named as _;

/// LOOKUP of "." or, with `parent`, of "..".
pub(crate) fn find_again(header: Header, parent: bool, cx: &mut Cx<'_>) -> Result<Entry, Error> {
    let mut names = cx.tree.names.lock();
    let mut inode = match ControlNode::of(header.node) {
        Some(_) => Inode::of_node(header.node, &names)?,
        None => numbered(Ino(header.node.0), &names)?,
    };
    if parent {
        let folder = inode.folder().and_then(|ino| names.folder(ino)).ok_or(Error::Stale)?;
        inode = numbered(folder.parent, &names)?;
    }
    inode.ops().entry(&mut names, header.caller, cx)
}

fn numbered(ino: Ino, names: &Names) -> Result<Inode, Error> {
    match names.object(ino) {
        None | Some(Inode::Mailbox(_) | Inode::Remote(_)) => Err(Error::Stale),
        Some(inode) => Ok(inode),
    }
}
