//! A folder of `control/`: the tree seen from the operator's side.
//!
//! Its folders and files are not kept anywhere: a node's number says which object's it is and which of that object's
//! files, and all else follows from the object. So they come and go with it by themselves and cost nothing.
//!
//! ```text
//! control/                       view of the root, with `status`
//! control/mailboxes/…            view of each folder
//! control/mailboxes/…/<name>/    view of a mailbox: `config/`, doors and the files of crate::control::MAILBOX
//! ```

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::control::{ControlNode, Slot};
use super::mailbox::MailboxFile;
use super::message;
use super::remote::RemoteFile;
use super::{
    ControlOps, Cx, FIXED_COOKIES, Header, Inode, InodeOps, Names, control_entry, dots, set_size_only,
};
use crate::op::{Attr, Entry, Error, Ino, Listed, NodeId, OpenFlags, Opened, SetAttr, Sort, Validity};
use crate::tree::names::Named;
use crate::tree::names::meta::{FOLDER, REGULAR, TYPE_MASK};

/// A folder of `control/`.
#[derive(Debug, Clone)]
pub(crate) struct ControlFolder {
    place: ControlNode,
    /// What it is a view of.
    object: Inode,
    attr: Attr,
}

/// Cookies of an object's folder: `config/`, then [`ControlOps::others`], then its files of text.
const CONFIG_COOKIE: u64 = 3;
const OTHERS_COOKIE: u64 = 4;
const FILES_COOKIE: u64 = 32;

impl ControlFolder {
    pub(super) fn new(place: ControlNode, object: Inode, mode: u32, owner: Attr) -> ControlFolder {
        let attr = Attr { ino: place.ino(), mode: FOLDER | mode, nlink: 2, size: 0, ..owner };
        ControlFolder { place, object, attr }
    }

    /// The mailbox whose `messages/` it is.
    pub(super) fn messages_of(&self) -> Result<&Arc<MailboxFile>, Error> {
        match &self.object {
            Inode::Mailbox(file) if self.place.slot == Slot::Messages => Ok(file),
            _ => Err(Error::NotPermitted),
        }
    }

    /// The mailbox whose `messages/` it is, if several hosts share it.
    pub(super) fn shared_messages_of(&self) -> Option<&Arc<RemoteFile>> {
        match &self.object {
            Inode::Remote(node) if self.place.slot == Slot::Messages => Some(&node.file),
            _ => None,
        }
    }

    fn control(&self) -> Result<&dyn ControlOps, Error> {
        self.object.ops().control().ok_or(Error::NotFound)
    }

    /// Folders, doors and files of text in an object's folder: name, slot, whether it is a folder, cookie.
    fn items(&self) -> Result<Vec<(&'static str, Slot, bool, u64)>, Error> {
        let control = self.control()?;
        let config = self.place.slot == Slot::Config;
        let mut items = Vec::new();
        let of_folder = self.object.folder().is_some() && !config;
        let first = if of_folder { FIXED_COOKIES } else { 0 };
        if self.place.slot == Slot::Top && control.folder_mode(Slot::Config, 0).is_some() {
            items.push(("config", Slot::Config, true, first + CONFIG_COOKIE));
        }
        if self.place.slot == Slot::Top {
            let others = (first + OTHERS_COOKIE..).zip(control.others());
            items.extend(others.map(|(cookie, other)| (other.name, other.slot, other.folder, cookie)));
        }
        if let Slot::Top | Slot::Config = self.place.slot {
            let files = control.files().into_iter().enumerate().filter(|(_, file)| file.config == config);
            items.extend(files.map(|(index, file)| {
                (file.name, Slot::File(index), false, first + FILES_COOKIE + index as u64)
            }));
        }
        Ok(items)
    }
}

impl InodeOps for ControlFolder {
    fn ino(&self) -> Ino {
        self.place.ino()
    }

    fn attr(&self, _: NodeId, _: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        Ok((self.attr, Validity::None))
    }

    fn set_attr(&self, _: Header, set: &SetAttr, _: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        set_size_only(set)?;
        Ok((self.attr, Validity::None))
    }

    fn look_up(&self, header: Header, name: &[u8], cx: &mut Cx<'_>) -> Result<Entry, Error> {
        if let Some(entry) = self.control()?.look_up(header, self.place, name, cx)? {
            return Ok(entry);
        }
        let item = self.items()?.into_iter().find(|(item, ..)| item.as_bytes() == name);
        let place = if let Some((_, slot, ..)) = item {
            self.place.with(slot)
        } else {
            let names = cx.tree.names.lock();
            let top = self.object.folder().filter(|_| self.place.slot == Slot::Top);
            let folder = top.and_then(|ino| names.folder(ino));
            let inode = folder.and_then(|folder| folder.get_shown(name)).ok_or(Error::NotFound)?;
            ControlNode::top(inode.ino())
        };
        control_entry(place, header.caller, cx)
    }

    fn open_folder(&self) -> Result<(), Error> {
        Ok(())
    }

    fn list(&self, after: u64, most: usize, cx: &mut Cx<'_>) -> Result<Vec<Listed>, Error> {
        let mut list = dots(self.ino(), ControlNode::ROOT.ino(), after);
        let after = after.max(2);
        if let Slot::Messages | Slot::Door(_) = self.place.slot {
            list.extend(self.control()?.list(self.place.slot, after, most));
            return Ok(list);
        }
        if let Some(ino) = self.object.folder().filter(|_| self.place.slot == Slot::Top) {
            let names = cx.tree.names.lock();
            let folder = names.folder(ino).ok_or(Error::Stale)?;
            list.extend(folder.list_shown(after).take(most).map(|(cookie, name, inode)| Listed {
                ino: ControlNode::top(inode.ino()).ino(),
                cookie,
                sort: Sort::Folder,
                name: Arc::clone(name),
            }));
        }
        let items = self.items()?.into_iter().filter(|(.., cookie)| *cookie > after);
        list.extend(items.map(|(name, slot, folder, cookie)| Listed {
            ino: self.place.with(slot).ino(),
            cookie,
            sort: if folder { Sort::Folder } else { Sort::Regular },
            name: Arc::from(name.as_bytes()),
        }));
        Ok(list)
    }

    fn next_cookie(&self, cx: &Cx<'_>) -> Option<u64> {
        match (&self.object, self.place.slot) {
            (Inode::Mailbox(_), Slot::Messages) => Some(message::next_cookie(cx)),
            (Inode::Folder(folder), Slot::Top) => folder.next_cookie(cx),
            _ => None,
        }
    }

    /// A shell that redirects to a name that is not there creates it: what is wrong is the name.
    fn make_file(
        &self,
        _: Header,
        _: &[u8],
        mode: u32,
        open: Option<OpenFlags>,
        _: &mut Cx<'_>,
    ) -> Result<(Entry, Option<Opened>), Error> {
        let regular = open.is_some() || [0, REGULAR].contains(&(mode & TYPE_MASK));
        Err(if regular { Error::NotFound } else { Error::NotPermitted })
    }

    fn unlink(&self, _: Header, name: &[u8], folder: bool, cx: &mut Cx<'_>) -> Result<(), Error> {
        if folder {
            return Err(Error::NotPermitted);
        }
        message::unlink(self.messages_of()?, name, cx)
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
