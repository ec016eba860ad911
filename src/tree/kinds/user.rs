//! `control/users/`: what the daemon holds on behalf of each user, for that user and root.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::control::{ControlNode, SIZE, Slot, TextFile};
use super::{ControlOps, Cx, Header, InodeOps, Names, control_entry, dots};
use crate::control::{UserView, user_status};
use crate::op::{
    Attr, Caller, Entry, Error, Ino, Listed, NodeId, OpenFlags, Opened, SetAttr, Sort, Validity,
};
use crate::tree::names::ROOT;
use crate::tree::names::meta::FOLDER;

/// The folder's name in `control/`.
pub(super) const NAME: &str = "users";
/// Where the folder is.
pub(super) const SLOT: Slot = Slot::Door(0);
/// Numbers of users, as objects of `control/`, begin here. No file's number is as high.
const FIRST: u64 = 1 << 55;
/// Cookies of users in a listing: the uid and this.
const FIRST_COOKIE: u64 = 3;

/// The folder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UsersFolder {
    attr: Attr,
}

/// A user who has an account.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User(u32);

impl UsersFolder {
    pub(super) fn new(names: &Names) -> Result<UsersFolder, Error> {
        let root = names.folder(ROOT).ok_or(Error::NotFound)?.attr(ROOT);
        let ino = ControlNode::ROOT.with(SLOT).ino();
        Ok(UsersFolder { attr: Attr { ino, mode: FOLDER | 0o555, nlink: 2, ..root } })
    }
}

impl User {
    /// The one that is numbered `object`.
    pub(super) fn of(object: Ino) -> Option<User> {
        object.0.checked_sub(FIRST).and_then(|uid| u32::try_from(uid).ok()).map(User)
    }

    fn file(self) -> ControlNode {
        ControlNode::top(Ino(FIRST + u64::from(self.0))).with(Slot::File(0))
    }
}

impl InodeOps for UsersFolder {
    fn ino(&self) -> Ino {
        self.attr.ino
    }

    fn attr(&self, _: NodeId, _: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        Ok((self.attr, Validity::None))
    }

    fn set_attr(&self, _: Header, _: &SetAttr, _: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        Err(Error::NotPermitted)
    }

    fn look_up(&self, header: Header, name: &[u8], cx: &mut Cx<'_>) -> Result<Entry, Error> {
        let text = std::str::from_utf8(name).map_err(|_| Error::NotFound)?;
        let uid: u32 = text.parse().map_err(|_| Error::NotFound)?;
        if uid.to_string() != text || cx.tree.accounts.find(uid).is_none() {
            return Err(Error::NotFound);
        }
        control_entry(User(uid).file(), header.caller, cx)
    }

    fn open_folder(&self) -> Result<(), Error> {
        Ok(())
    }

    fn list(&self, after: u64, most: usize, cx: &mut Cx<'_>) -> Result<Vec<Listed>, Error> {
        let mut list = dots(self.attr.ino, ControlNode::ROOT.ino(), after);
        let last = after.checked_sub(FIRST_COOKIE).and_then(|uid| u32::try_from(uid).ok());
        let users = cx.tree.accounts.list(last, most).into_iter();
        list.extend(users.map(|uid| Listed {
            ino: User(uid).file().ino(),
            cookie: FIRST_COOKIE + u64::from(uid),
            sort: Sort::Regular,
            name: Arc::from(uid.to_string().into_bytes()),
        }));
        Ok(list)
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
}

/// A user is no file, but has one in `control/`.
impl InodeOps for User {
    fn ino(&self) -> Ino {
        self.file().ino()
    }

    fn attr(&self, _: NodeId, _: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        Err(Error::NotFound)
    }

    fn set_attr(&self, _: Header, _: &SetAttr, _: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        Err(Error::NotFound)
    }

    fn open(
        &self,
        _: Header,
        _: OpenFlags,
        _: MutexGuard<'_, Names>,
        _: &mut Cx<'_>,
    ) -> Result<Opened, Error> {
        Err(Error::NotFound)
    }

    fn control(&self) -> Option<&dyn ControlOps> {
        Some(self)
    }
}

impl ControlOps for User {
    fn owner(&self, names: &Names) -> Result<Attr, Error> {
        let root = names.folder(ROOT).ok_or(Error::NotFound)?.attr(ROOT);
        Ok(Attr { uid: self.0, ..root })
    }

    fn folder_mode(&self, _: Slot, _: u32) -> Option<u32> {
        None
    }

    fn files(&self) -> Vec<TextFile> {
        vec![TextFile { name: "", config: false, writable: false, private: true, size: SIZE }]
    }

    fn show(&self, _: usize, _: Caller, cx: &mut Cx<'_>) -> Result<Vec<u8>, Error> {
        let account = cx.tree.accounts.find(self.0).ok_or(Error::NotFound)?;
        Ok(user_status(&UserView { usage: account.usage() }).into_bytes())
    }
}
