//! A folder of names: the root, `mailboxes/`, `segments/`, `topics/` and what users make below them.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::control::{ControlNode, NAME};
use super::durable::{record_folder, record_folder_removed};
use super::mailbox::MailboxFile;
use super::remote::RemoteNode;
use super::remote_names::{
    check_movable, check_reachable, describe_folder, described, forget_folder, shared_folder,
};
use super::segment::SegmentFile;
use super::segment_names;
use super::symlink;
use super::topic::TopicFile;
use super::{ControlOps, Cx, FIXED_COOKIES, Header, Inode, InodeOps, Names, control_entry};
use crate::accounts::Resource;
use crate::engine::Carrier;
use crate::op::{
    Attr, Caller, Entry, Error, FileTime, Ino, Listed, NodeId, OpenFlags, Opened, RenameHow, SetAttr, Sort,
    Validity,
};
use crate::state::saved;
use crate::tree::names::meta::{FOLDER, Meta, REGULAR, SET_GID, TYPE_MASK};
use crate::tree::names::{Folder, MAILBOXES, Named, Namespace, ROOT, SEGMENTS, TOPICS};

/// A folder's number: its names are in [`Names`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct FolderInode {
    pub(crate) ino: Ino,
    pub(crate) namespace: Namespace,
}

saved!(struct FolderInode { ino, namespace });

/// `control/` comes last in the root.
const CONTROL_COOKIE: u64 = FIXED_COOKIES;

/// RENAME from one folder to another.
pub(super) fn rename(
    caller: Caller,
    from: (Ino, &[u8]),
    to: (Ino, &[u8]),
    how: RenameHow,
    mut names: MutexGuard<'_, Names>,
    cx: &mut Cx<'_>,
) -> Result<(), Error> {
    check_removable(&names, from, caller, cx)?;
    check_removable(&names, to, caller, cx)?;
    if how == RenameHow::Replace && from != to {
        check_removal(&names, to, caller, cx)?;
    }
    check_movable(&names, from.0, from.1)?;
    check_movable(&names, to.0, to.1)?;
    let moved = names.folder(from.0).and_then(|folder| folder.get(from.1)).cloned();
    let other = names.folder(to.0).and_then(|folder| folder.get(to.1)).cloned();
    symlink::check_move(&names, moved.as_ref(), to.0)?;
    if how == RenameHow::Exchange {
        symlink::check_move(&names, other.as_ref(), from.0)?;
    }
    let replaced = match how {
        RenameHow::Exchange => names.exchange(from, to, cx.now.time()).map(|()| None),
        RenameHow::Replace => names.rename(from, to, true, cx.now.time()),
        RenameHow::NoReplace => names.rename(from, to, false, cx.now.time()),
    }?;
    if let Some(moved) = moved {
        moved.ops().renamed(&names, to, cx);
    }
    if let Some(other) = other.filter(|_| how == RenameHow::Exchange) {
        other.ops().renamed(&names, from, cx);
    }
    drop(names);
    if let Some(replaced) = replaced {
        replaced.ops().unlinked(cx);
    }
    Ok(())
}

/// Everyone may write it since the start, and the rules of sticky folders hold in it.
fn is_like_sticky(folder: Ino, cx: &Cx<'_>) -> bool {
    cx.tree.setup.shared && matches!(folder, MAILBOXES | SEGMENTS | TOPICS)
}

/// In folders that everyone may write since the start, only the owner of a name's file, the folder's owner and root remove or
/// replace the name, as in a sticky folder. The kernel is not told of a sticky bit: with `fs.protected_regular`, it would
/// refuse `echo > box` to all but the box's owner.
fn check_removable(
    names: &Names,
    (folder, name): (Ino, &[u8]),
    caller: Caller,
    cx: &mut Cx<'_>,
) -> Result<(), Error> {
    if !is_like_sticky(folder, cx) || caller.uid == 0 {
        return Ok(());
    }
    let Some(holder) = names.folder(folder).filter(|holder| holder.meta.uid != caller.uid) else {
        return Ok(());
    };
    let Some(object) = holder.get(name) else { return Ok(()) };
    let mut owner = object.folder().and_then(|ino| names.folder(ino)).map(|folder| folder.meta.uid);
    if object.folder().is_none() {
        object.ops().read_meta(&mut |meta| owner = Some(meta.uid), cx)?;
    }
    if owner == Some(caller.uid) { Ok(()) } else { Err(Error::NotPermitted) }
}

/// A mailbox in which messages wait may not be removed, or replaced, by anybody who would lose them by accident.
fn check_removal(
    names: &Names,
    (folder, name): (Ino, &[u8]),
    caller: Caller,
    cx: &Cx<'_>,
) -> Result<(), Error> {
    match names.folder(folder).and_then(|folder| folder.get(name)) {
        Some(Inode::Mailbox(file)) => file.state.lock().check_removal(caller.pid, cx.now.moment),
        Some(Inode::Remote(node)) => node.check_removal(caller.pid, cx.now.moment),
        _ => Ok(()),
    }
}

fn sort_of(inode: &Inode) -> Sort {
    match inode {
        Inode::Folder(_) => Sort::Folder,
        Inode::Symlink(_) => Sort::Symlink,
        _ => Sort::Regular,
    }
}

/// "." and "..", which a listing from the beginning starts with.
pub(super) fn dots(own: Ino, parent: Ino, after: u64) -> Vec<Listed> {
    let dot = |ino, cookie, name: &[u8]| Listed { ino, cookie, sort: Sort::Folder, name: Arc::from(name) };
    [dot(own, 1, b"."), dot(parent, 2, b"..")].into_iter().filter(|dot| dot.cookie > after).collect()
}

impl FolderInode {
    /// A new file, of the kind that the folder has.
    fn new_file(
        self,
        names: &mut Names,
        name: &[u8],
        mode: u32,
        caller: Caller,
        cx: &mut Cx<'_>,
    ) -> Result<Inode, Error> {
        if mode & TYPE_MASK != REGULAR && mode & TYPE_MASK != 0 {
            return Err(Error::KindRefused);
        }
        let folder = names.check_new(self.ino, name)?;
        let account = cx.tree.accounts.of(caller.uid);
        let charge = account.charge(Resource::Files, 1).map_err(|_| Error::NoSpace)?;
        let meta = Meta::created(mode & !TYPE_MASK, caller, &folder.meta, cx.now.time());
        let defaults = Arc::clone(&folder.defaults);
        let ino = Ino(names.fresh());
        let home = (self.ino, name);
        let inode = match self.namespace {
            Namespace::Topics => Inode::Topic(TopicFile::new(ino, meta, cx.tree, cx.now.time())),
            Namespace::Segments => Inode::Segment(SegmentFile::new(ino, meta, account, cx.tree)?),
            Namespace::Mailboxes if defaults.carrier == Carrier::Nats => {
                let told = described(&meta, &defaults, false);
                Inode::Remote(Box::new(RemoteNode::make(names, home, (meta, told), true, cx)?))
            }
            Namespace::Mailboxes | Namespace::Root => {
                let file = MailboxFile::new(ino, meta, &defaults, home, cx);
                file.state.lock().record(ino, cx.tree.setup.ceiling, &mut cx.domain());
                Inode::Mailbox(file)
            }
        };
        names.link(self.ino, name, &inode, charge, cx.now.time());
        Ok(inode)
    }

    /// Something of it has changed that is kept in a store.
    pub(super) fn record(self, names: &Names, cx: &mut Cx<'_>) {
        if self.namespace == Namespace::Mailboxes {
            record_folder(names, self.ino, cx);
            describe_folder(names, self.ino, cx);
        }
    }

    /// How long the kernel may keep its name and attributes. Other hosts change what is shared without the kernel's knowledge, and
    /// the kernel may have been told of a folder before it is shared.
    fn validity(self, cx: &Cx<'_>) -> Validity {
        let may_be_shared = cx.tree.setup.engine && self.namespace == Namespace::Mailboxes;
        if may_be_shared { Validity::None } else { Validity::Long }
    }

    fn attr_in(self, names: &Names) -> Attr {
        match names.folder(self.ino) {
            Some(folder) => folder.attr(self.ino),
            // It was removed and forgotten while this was asked.
            None => Attr { nlink: 0, ..Meta::new(0, 0, 0, FileTime::default()).attr(self.ino, FOLDER) },
        }
    }
}

impl InodeOps for FolderInode {
    fn ino(&self) -> Ino {
        self.ino
    }

    fn attr(&self, _: NodeId, cx: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        let names = cx.tree.names.lock();
        Ok((self.attr_in(&names), self.validity(cx)))
    }

    fn entry(&self, names: &mut Names, _: Caller, cx: &mut Cx<'_>) -> Result<Entry, Error> {
        let node = names.nodes.look_up(&Inode::Folder(*self));
        Ok(Entry { node, attr: self.attr_in(names), validity: self.validity(cx) })
    }

    fn set_attr(&self, header: Header, set: &SetAttr, cx: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        if set.size.is_some() {
            return Err(Error::IsFolder);
        }
        let mut names = cx.tree.names.lock();
        check_reachable(&names, self.ino, None, header.caller, cx)?;
        let folder = names.folder_mut(self.ino).ok_or(Error::Stale)?;
        folder.meta.set(set, true, cx.now.time());
        let attr = folder.attr(self.ino);
        self.record(&names, cx);
        Ok((attr, self.validity(cx)))
    }

    fn with_meta(&self, work: &mut dyn FnMut(&mut Meta), cx: &mut Cx<'_>) -> Result<(), Error> {
        let mut names = cx.tree.names.lock();
        work(&mut names.folder_mut(self.ino).ok_or(Error::Stale)?.meta);
        self.record(&names, cx);
        Ok(())
    }

    /// As in a sticky folder: its attributes are its owner's to change, and what is charged for them is not left behind by
    /// others.
    fn check_set_xattr(&self, caller: Caller, cx: &mut Cx<'_>) -> Result<(), Error> {
        if !is_like_sticky(self.ino, cx) || caller.uid == 0 {
            return Ok(());
        }
        let names = cx.tree.names.lock();
        let owner = names.folder(self.ino).map(|folder| folder.meta.uid);
        if owner == Some(caller.uid) { Ok(()) } else { Err(Error::NotPermitted) }
    }

    fn read_meta(&self, look: &mut dyn FnMut(&Meta), cx: &mut Cx<'_>) -> Result<(), Error> {
        look(&cx.tree.names.lock().folder(self.ino).ok_or(Error::Stale)?.meta);
        Ok(())
    }

    fn renamed(&self, names: &Names, _: (Ino, &[u8]), cx: &mut Cx<'_>) {
        self.record(names, cx);
    }

    fn unlinked(&self, cx: &mut Cx<'_>) {
        if self.namespace == Namespace::Mailboxes {
            record_folder_removed(self.ino, cx);
        }
    }

    fn look_up(&self, header: Header, name: &[u8], cx: &mut Cx<'_>) -> Result<Entry, Error> {
        let mut names = cx.tree.names.lock();
        let folder = names.folder(self.ino).ok_or(Error::Stale)?;
        match folder.get(name).cloned() {
            Some(inode) => inode.ops().entry(&mut names, header.caller, cx),
            None if self.ino == ROOT && name == NAME => {
                drop(names);
                control_entry(ControlNode::ROOT, header.caller, cx)
            }
            None => Err(Error::NotFound),
        }
    }

    fn open_folder(&self) -> Result<(), Error> {
        Ok(())
    }

    fn list(&self, after: u64, most: usize, cx: &mut Cx<'_>) -> Result<Vec<Listed>, Error> {
        let names = cx.tree.names.lock();
        let folder = names.folder(self.ino).ok_or(Error::Stale)?;
        let mut list = dots(self.ino, folder.parent, after);
        list.extend(folder.list(after.max(2)).take(most).map(|(cookie, name, inode)| Listed {
            ino: inode.ino(),
            cookie,
            sort: sort_of(inode),
            name: Arc::clone(name),
        }));
        if self.ino == ROOT && after < CONTROL_COOKIE {
            let (ino, name) = (ControlNode::ROOT.ino(), Arc::from(NAME));
            list.push(Listed { ino, cookie: CONTROL_COOKIE, sort: Sort::Folder, name });
        }
        Ok(list)
    }

    fn next_cookie(&self, cx: &Cx<'_>) -> Option<u64> {
        cx.tree.names.lock().folder(self.ino).map(Folder::next_cookie)
    }

    fn make_file(
        &self,
        header: Header,
        name: &[u8],
        mode: u32,
        open: Option<OpenFlags>,
        cx: &mut Cx<'_>,
    ) -> Result<(Entry, Option<Opened>), Error> {
        let mut names = cx.tree.names.lock();
        let inode = match self.new_file(&mut names, name, mode, header.caller, cx) {
            // Somebody was faster. The kernel looks the name up again and opens what is there, permissions checked. Not
            // twice: it holds the folder locked from that look-up to the next CREATE.
            Err(Error::Exists) if open.is_some_and(|flags| !flags.exclusive) => {
                names.nodes.refuse(header.caller.pid, cx.now.moment);
                if open.is_some_and(OpenFlags::appends) {
                    names.nodes.note_append(header.caller.pid);
                }
                return Err(Error::Stale);
            }
            other => other?,
        };
        if let Some(flags) = open
            && self.namespace != Namespace::Segments
        {
            names.nodes.note_create(flags.appends(), header.caller.pid, cx.now.moment);
        }
        let entry = inode.ops().entry(&mut names, header.caller, cx)?;
        // The kernel takes this answer in, whatever has overtaken it.
        names.nodes.asked_for_attr(entry.node, (&entry.attr).into());
        let Some(flags) = open else { return Ok((entry, None)) };
        let header = Header { node: entry.node, ..header };
        // A new file is empty, and has the bits that it was made with.
        let flags = OpenFlags { truncate: false, no_follow: false, kill_suid: false, ..flags };
        let opened = inode.ops().open(header, flags, names, cx);
        // The kernel learns of no node with an error, and will forget none.
        let opened = opened.inspect_err(|_| cx.tree.forget(&[(entry.node, 1)], cx.now))?;
        Ok((entry, Some(opened)))
    }

    fn make_nameless(
        &self,
        header: Header,
        mode: u32,
        open: OpenFlags,
        cx: &mut Cx<'_>,
    ) -> Result<(Entry, Opened), Error> {
        match self.namespace {
            Namespace::Segments => segment_names::make_nameless(self.ino, header, mode, open, cx),
            _ => Err(Error::NotSupported),
        }
    }

    fn make_folder(&self, header: Header, name: &[u8], mode: u32, cx: &mut Cx<'_>) -> Result<Entry, Error> {
        let mut names = cx.tree.names.lock();
        check_reachable(&names, self.ino, None, header.caller, cx)?;
        let parent = names.check_new(self.ino, name)?;
        let charge = cx.tree.accounts.of(header.caller.uid).charge(Resource::Files, 1);
        let charge = charge.map_err(|_| Error::NoSpace)?;
        let inherited = parent.meta.mode & SET_GID;
        let meta = Meta::created((mode & !TYPE_MASK) | inherited, header.caller, &parent.meta, cx.now.time());
        let inode = names.make_folder(self.ino, name, meta, charge, cx.now.time());
        if let Inode::Folder(folder) = inode {
            folder.record(&names, cx);
        }
        inode.ops().entry(&mut names, header.caller, cx)
    }

    fn make_symlink(
        &self,
        header: Header,
        name: &[u8],
        target: &[u8],
        cx: &mut Cx<'_>,
    ) -> Result<Entry, Error> {
        symlink::make(self.ino, name, target, header.caller, cx)
    }

    fn unlink(&self, header: Header, name: &[u8], folder: bool, cx: &mut Cx<'_>) -> Result<(), Error> {
        let (inode, shared) = {
            let mut names = cx.tree.names.lock();
            check_removable(&names, (self.ino, name), header.caller, cx)?;
            check_removal(&names, (self.ino, name), header.caller, cx)?;
            let found = names.folder(self.ino).and_then(|holder| holder.get(name));
            check_reachable(&names, self.ino, found, header.caller, cx)?;
            let shared = found.and_then(Named::folder).and_then(|ino| shared_folder(&names, ino));
            (names.unlink(self.ino, name, folder, cx.now.time())?, shared)
        };
        inode.ops().unlinked(cx);
        forget_folder(shared, cx);
        Ok(())
    }

    fn open(
        &self,
        _: Header,
        _: OpenFlags,
        _: MutexGuard<'_, Names>,
        _: &mut Cx<'_>,
    ) -> Result<Opened, Error> {
        Err(Error::IsFolder)
    }

    fn forgotten(&self, names: &mut Names, _: &mut Cx<'_>) {
        names.drop_folder(self.ino);
    }

    fn control(&self) -> Option<&dyn ControlOps> {
        Some(self)
    }
}
