//! A symbolic link, which the kernel follows.
//!
//! Where others than the owner of a folder may write, a link of a stranger could take the place of a name that people know, and
//! lead what they write somewhere else. Elsewhere such folders have the sticky bit, and the kernel follows no stranger's link in
//! them (`fs.protected_symlinks` in `proc_sys_fs(5)`). Here the kernel is not told of a sticky bit. So in such a folder a link leads
//! no further than to what is in it or below, and through a folder below it (which may have links to anywhere) only whom the
//! kernel would let follow it.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::{Cx, Header, Inode, InodeOps, Names};
use crate::accounts::{Charge, Resource};
use crate::config::SYMLINK_MAX;
use crate::op::{Attr, Caller, Entry, Error, Ino, NodeId, OpenFlags, Opened, SetAttr, Validity};
use crate::state::saved;
use crate::tree::names::meta::{Meta, SYMLINK};

/// A symbolic link and what lstat shows of it.
#[derive(Debug)]
pub(crate) struct SymlinkFile {
    ino: Ino,
    target: Arc<[u8]>,
    state: Mutex<State>,
    /// For the target, of the user who made it.
    charge: Charge,
}

saved!(struct SymlinkFile { ino, target, state, charge });

/// Guarded by [`SymlinkFile::state`].
#[derive(Debug)]
struct State {
    meta: Meta,
    /// A name leads here.
    linked: bool,
}

saved!(struct State { meta, linked });

/// Others than the owner may make and rename names in a folder.
fn is_shared(folder: &Meta) -> bool {
    folder.mode & 0o022 != 0
}

fn check_target(target: &[u8], folder: &Meta) -> Result<(), Error> {
    let leads_out = target.starts_with(b"/") || target.split(|byte| *byte == b'/').any(|name| name == b"..");
    if leads_out && is_shared(folder) { Err(Error::NotPermitted) } else { Ok(()) }
}

/// SYMLINK in the folder numbered `folder`.
pub(super) fn make(
    folder: Ino,
    name: &[u8],
    target: &[u8],
    caller: Caller,
    cx: &mut Cx<'_>,
) -> Result<Entry, Error> {
    if target.is_empty() {
        return Err(Error::NotFound);
    }
    if target.len() > SYMLINK_MAX {
        return Err(Error::NameTooLong);
    }
    let mut names = cx.tree.names.lock();
    let holder = names.check_new(folder, name)?;
    check_target(target, &holder.meta)?;
    let account = cx.tree.accounts.of(caller.uid);
    let charge = |resource, amount| account.charge(resource, amount).map_err(|_| Error::NoSpace);
    let (own, for_target) = (charge(Resource::Files, 1)?, charge(Resource::Memory, target.len() as u64)?);
    let meta = Meta::created(0o777, caller, &holder.meta, cx.now.time());
    let ino = Ino(names.fresh());
    let state = Mutex::new(State { meta, linked: true });
    let file = Arc::new(SymlinkFile { ino, target: Arc::from(target), state, charge: for_target });
    let inode = Inode::Symlink(file);
    names.link(folder, name, &inode, own, cx.now.time());
    inode.ops().entry(&mut names, caller, cx)
}

/// What stands in the way of moving a file to a folder, if it is a symbolic link.
pub(super) fn check_move(names: &Names, moved: Option<&Inode>, folder: Ino) -> Result<(), Error> {
    match (moved, names.folder(folder)) {
        (Some(Inode::Symlink(file)), Some(folder)) => check_target(&file.target, &folder.meta),
        _ => Ok(()),
    }
}

impl State {
    fn attr(&self, file: &SymlinkFile) -> Attr {
        let (size, nlink) = (file.target.len() as u64, u32::from(self.linked));
        Attr { size, nlink, ..self.meta.attr(file.ino, SYMLINK) }
    }
}

impl InodeOps for Arc<SymlinkFile> {
    fn ino(&self) -> Ino {
        self.ino
    }

    fn attr(&self, _: NodeId, _: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        Ok((self.state.lock().attr(self), Validity::Long))
    }

    fn entry(&self, names: &mut Names, _: Caller, _: &mut Cx<'_>) -> Result<Entry, Error> {
        let node = names.nodes.look_up(&Inode::Symlink(Arc::clone(self)));
        Ok(Entry { node, attr: self.state.lock().attr(self), validity: Validity::Long })
    }

    fn set_attr(&self, _: Header, set: &SetAttr, cx: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        if set.mode.is_some() || set.size.is_some() {
            return Err(Error::NotSupported);
        }
        let mut state = self.state.lock();
        state.meta.set(set, false, cx.now.time());
        Ok((state.attr(self), Validity::Long))
    }

    fn with_meta(&self, work: &mut dyn FnMut(&mut Meta), _: &mut Cx<'_>) -> Result<(), Error> {
        work(&mut self.state.lock().meta);
        Ok(())
    }

    fn target(&self, caller: Caller, cx: &mut Cx<'_>) -> Result<Arc<[u8]>, Error> {
        let names = cx.tree.names.lock();
        let owner = self.state.lock().meta.uid;
        let holder = names.link_of(self.ino).and_then(|link| names.folder(link.folder));
        let is_foreign = |folder: &Meta| is_shared(folder) && ![caller.uid, folder.uid].contains(&owner);
        if self.target.contains(&b'/') && holder.is_some_and(|folder| is_foreign(&folder.meta)) {
            return Err(Error::AccessDenied);
        }
        Ok(Arc::clone(&self.target))
    }

    fn open(
        &self,
        _: Header,
        _: OpenFlags,
        _: MutexGuard<'_, Names>,
        _: &mut Cx<'_>,
    ) -> Result<Opened, Error> {
        Err(Error::Invalid)
    }

    fn renamed(&self, _: &Names, _: (Ino, &[u8]), cx: &mut Cx<'_>) {
        self.state.lock().meta.ctime = cx.now.time();
    }

    fn unlinked(&self, cx: &mut Cx<'_>) {
        let mut state = self.state.lock();
        (state.linked, state.meta.ctime) = (false, cx.now.time());
    }
}
