//! What every file has besides its contents: owner, mode, times and extended attributes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::accounts::{Account, Charge, Resource};
use crate::config::XATTR_SPACE;
use crate::journal::record::Xattr;
use crate::op::{Attr, Caller, Error, FileTime, Ino, Reply, SetAttr, SetTime};
use crate::state::saved;

/// `S_IFDIR`
pub(crate) const FOLDER: u32 = 0o040_000;
/// `S_IFREG`
pub(crate) const REGULAR: u32 = 0o100_000;
/// `S_IFLNK`
pub(crate) const SYMLINK: u32 = 0o120_000;
/// `S_IFMT`
pub(crate) const TYPE_MASK: u32 = 0o170_000;
/// `S_ISGID`: on a folder, what is created in it gets its group.
pub(crate) const SET_GID: u32 = 0o2000;
const SET_UID: u32 = 0o4000;
const GROUP_EXECUTE: u32 = 0o0010;
const PERMISSIONS: u32 = 0o7777;

/// Owner, mode and times of a file.
#[derive(Debug)]
pub(crate) struct Meta {
    /// Permission bits, without the type.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) atime: FileTime,
    pub(crate) mtime: FileTime,
    pub(crate) ctime: FileTime,
    xattrs: Xattrs,
}

saved!(struct Meta { mode, uid, gid, atime, mtime, ctime, xattrs });

impl Meta {
    pub(crate) fn new(mode: u32, uid: u32, gid: u32, now: FileTime) -> Meta {
        let xattrs = Xattrs::default();
        Meta { mode: mode & PERMISSIONS, uid, gid, atime: now, mtime: now, ctime: now, xattrs }
    }

    /// The attributes of an empty file or folder with one name: `kind` is [`FOLDER`], [`REGULAR`] or [`SYMLINK`].
    pub(crate) fn attr(&self, ino: Ino, kind: u32) -> Attr {
        Attr {
            ino,
            size: 0,
            blocks: 0,
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            mode: kind | self.mode,
            nlink: 1,
            uid: self.uid,
            gid: self.gid,
            blksize: 4096,
        }
    }

    /// Of a file that `caller` creates in the folder that `parent` describes.
    pub(crate) fn created(mode: u32, caller: Caller, parent: &Meta, now: FileTime) -> Meta {
        let gid = if parent.mode & SET_GID == 0 { caller.gid } else { parent.gid };
        Meta::new(mode, caller.uid, gid, now)
    }

    /// Applies what SETATTR asks for, the size aside. Who may do so the kernel has checked.
    pub(crate) fn set(&mut self, set: &SetAttr, folder: bool, now: FileTime) {
        let time = |time: SetTime| match time {
            SetTime::Now => now,
            SetTime::At(at) => at,
        };
        if (set.is_chown() || set.kill_suid) && !folder {
            self.kill_suid();
        }
        self.uid = set.uid.unwrap_or(self.uid);
        self.gid = set.gid.unwrap_or(self.gid);
        self.mode = set.mode.map_or(self.mode, |mode| mode & PERMISSIONS);
        self.atime = set.atime.map_or(self.atime, time);
        self.mtime = set.mtime.map_or(self.mtime, time);
        self.ctime = now;
    }

    /// Clears what a write or a change of owner must clear, as inode(7) says of `S_ISUID` and `S_ISGID`.
    pub(crate) fn kill_suid(&mut self) {
        self.mode &= !SET_UID;
        if self.mode & GROUP_EXECUTE != 0 {
            self.mode &= !SET_GID;
        }
    }

    /// Whether `caller` has the rights in `wanted` (4 read, 2 write, 1 search), as far as the kernel tells: it does not
    /// tell the groups that a process has beside its first.
    pub(crate) fn permits(&self, caller: Caller, wanted: u32) -> bool {
        let shift = match caller {
            Caller { uid: 0, .. } => return true,
            Caller { uid, .. } if uid == self.uid => 6,
            Caller { gid, .. } if gid == self.gid => 3,
            Caller { .. } => 0,
        };
        (self.mode >> shift) & wanted == wanted
    }

    /// GETXATTR.
    pub(crate) fn get_xattr(&self, name: &[u8], size: u32) -> Reply {
        let value = user_name(name).and_then(|()| {
            self.xattrs
                .0
                .as_ref()
                .and_then(|all| all.get(name))
                .map(|value| value.bytes.to_vec())
                .ok_or(Error::NoAttribute)
        });
        sized(value, size)
    }

    /// LISTXATTR.
    pub(crate) fn list_xattrs(&self, size: u32) -> Reply {
        let names = self.xattrs.0.iter().flat_map(|all| all.keys());
        sized(Ok(names.flat_map(|name| name.iter().copied().chain([0])).collect()), size)
    }

    /// Sets an extended attribute of a view that lasts no longer than a request.
    pub(crate) fn show_xattr(&mut self, name: &[u8], value: &[u8]) {
        let value = Value { bytes: value.into(), charge: None };
        self.xattrs.0.get_or_insert_default().insert(name.into(), value);
    }

    /// SETXATTR by the user whose `account` it is.
    pub(crate) fn set_xattr(
        &mut self,
        name: &[u8],
        value: &[u8],
        (create, replace): (bool, bool),
        account: &Arc<Account>,
        now: FileTime,
    ) -> Result<(), Error> {
        user_name(name)?;
        let all = self.xattrs.0.get_or_insert_default();
        let old = all.get(name).map(|value| value.bytes.len());
        if create && old.is_some() {
            return Err(Error::Exists);
        }
        if replace && old.is_none() {
            return Err(Error::NoAttribute);
        }
        let used: usize = all.iter().map(|(name, value)| name.len() + value.bytes.len()).sum();
        let without = used - old.map_or(0, |len| name.len() + len);
        if without.saturating_add(name.len()).saturating_add(value.len()) > XATTR_SPACE {
            return Err(Error::NoSpace);
        }
        let charge = account.charge(Resource::Memory, (name.len() + value.len() + XATTR_COST) as u64);
        let charge = Some(charge.map_err(|_| Error::NoSpace)?);
        all.insert(name.into(), Value { bytes: value.into(), charge });
        self.ctime = now;
        Ok(())
    }

    /// All extended attributes, with their values.
    pub(crate) fn xattrs(&self) -> Vec<Xattr> {
        let all = self.xattrs.0.iter().flat_map(|all| all.iter());
        all.map(|(name, value)| (name.clone(), value.bytes.clone())).collect()
    }

    /// Sets an extended attribute that an earlier mount had, whatever the limits.
    pub(crate) fn restore_xattr(&mut self, name: &[u8], value: &[u8], account: &Arc<Account>) {
        let cost = (name.len() + value.len() + XATTR_COST) as u64;
        let charge = Some(account.charge_regardless(Resource::Memory, cost));
        self.xattrs.0.get_or_insert_default().insert(name.into(), Value { bytes: value.into(), charge });
    }

    /// REMOVEXATTR.
    pub(crate) fn remove_xattr(&mut self, name: &[u8], now: FileTime) -> Result<(), Error> {
        user_name(name)?;
        let removed = self.xattrs.0.as_mut().and_then(|all| all.remove(name));
        self.ctime = if removed.is_some() { now } else { self.ctime };
        removed.map(|_| ()).ok_or(Error::NoAttribute)
    }
}

/// None until the first is set: a mailbox has none as a rule.
#[derive(Debug, Default)]
struct Xattrs(Option<Box<Attributes>>);

saved!(struct Xattrs(all));

type Attributes = BTreeMap<Box<[u8]>, Value>;

/// The value of an extended attribute, and what it is charged to the user who set it.
#[derive(Debug)]
struct Value {
    bytes: Box<[u8]>,
    charge: Option<Charge>,
}

saved!(struct Value { bytes, charge });

/// Bytes that an extended attribute is charged beyond its name and value. `tests/footprint.rs` measures it.
const XATTR_COST: usize = 160;

/// Only `user.` attributes mean something here: no ACLs, no security labels, as on a tmpfs without them.
fn user_name(name: &[u8]) -> Result<(), Error> {
    match name.strip_prefix(b"user.") {
        Some(b"") => Err(Error::Invalid),
        Some(_) => Ok(()),
        None => Err(Error::NotSupported),
    }
}

/// Answers with the length where `size` is 0, with the bytes where they fit, and with `ERANGE` where not.
fn sized(bytes: Result<Vec<u8>, Error>, size: u32) -> Reply {
    match bytes {
        Err(error) => Reply::Failed(error),
        Ok(bytes) if size == 0 => Reply::XattrSize(bytes.len() as u32),
        Ok(bytes) if bytes.len() > size as usize => Reply::Failed(Error::Range),
        Ok(bytes) => Reply::Data(bytes),
    }
}
