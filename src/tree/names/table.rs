//! All names of a mount: which folder has them, and what they lead to.

use std::sync::Arc;

use super::folder::{Defaults, Folder, Namespace};
use super::meta::Meta;
use super::nodes::Nodes;
use super::numbers::ByNumber;
use super::{MAILBOXES, Named, ROOT, SEGMENTS, TOPICS};
use crate::accounts::Charge;
use crate::config::{LINK_MAX, NAME_MAX};
use crate::op::{Caller, Error, FileTime, Ino, NodeId};
use crate::state::saved;

const FIRST_FREE: u64 = 16;

/// Where a file's name is: its first, if it has several.
#[derive(Debug)]
pub(crate) struct Link<O> {
    pub(crate) object: O,
    pub(crate) folder: Ino,
    pub(crate) name: Arc<[u8]>,
    /// For the user who made it.
    charge: Charge,
    /// Its other names, at most [`LINK_MAX`] with the first. `control/` does not show them.
    others: Vec<Alias>,
}

/// A name of a file beside its first.
#[derive(Debug)]
struct Alias {
    folder: Ino,
    name: Arc<[u8]>,
    /// For the user who made it.
    charge: Charge,
}

impl<O> Link<O> {
    fn is_at(&self, (folder, name): (Ino, &[u8])) -> bool {
        self.folder == folder && *self.name == *name
    }

    /// The name at `from` is at `to` now. True if it is the first.
    fn relocate(&mut self, from: (Ino, &[u8]), to: (Ino, &Arc<[u8]>)) -> bool {
        if self.is_at(from) {
            (self.folder, self.name) = (to.0, Arc::clone(to.1));
            return true;
        }
        if let Some(alias) = self.others.iter_mut().find(|alias| alias.is_at(from)) {
            (alias.folder, alias.name) = (to.0, Arc::clone(to.1));
        }
        false
    }
}

impl Alias {
    fn is_at(&self, (folder, name): (Ino, &[u8])) -> bool {
        self.folder == folder && *self.name == *name
    }
}

saved!(struct Link<O> { object, folder, name, charge, others });
saved!(struct Alias { folder, name, charge });

/// All names and nodes of a mount.
#[derive(Debug)]
pub(crate) struct Names<O> {
    pub(crate) nodes: Nodes<O>,
    folders: ByNumber<Ino, Folder<O>>,
    /// Every file and folder that has a name, except those made at start.
    links: ByNumber<Ino, Link<O>>,
    count: Count,
    next: u64,
}

saved!(struct Names<O> { nodes, folders, links, count, next });

/// How many names there are, except those made at start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Count {
    pub(crate) folders: u64,
    pub(crate) symlinks: u64,
    files: [u64; 4],
}

saved!(struct Count { folders, symlinks, files });

impl Count {
    /// Files below `mailboxes/`, or another of the folders made at start.
    pub(crate) fn files_in(&self, namespace: Namespace) -> u64 {
        self.files.get(namespace.index()).copied().unwrap_or_default()
    }

    fn of<O: Named>(&mut self, object: &O, namespace: Namespace) -> &mut u64 {
        match object.folder() {
            Some(_) => &mut self.folders,
            None if object.is_symlink() => &mut self.symlinks,
            None => &mut self.files[namespace.index()],
        }
    }
}

impl<O: Named> Names<O> {
    /// `mailboxes/`, `segments/` and `topics/` with the given mode, the rest read-only; all of `meta`'s owner.
    pub(crate) fn new(meta: &Meta, shared_mode: u32, defaults: Defaults) -> Names<O> {
        let defaults = Arc::new(defaults);
        let copy = |mode| Meta::new(mode, meta.uid, meta.gid, meta.mtime);
        let mut root = Folder::new(copy(meta.mode), Namespace::Root, ROOT, Arc::clone(&defaults));
        let now = meta.mtime;
        root.insert(&Arc::from(*b"mailboxes"), O::of_folder(MAILBOXES, Namespace::Mailboxes), true, now);
        root.insert(&Arc::from(*b"segments"), O::of_folder(SEGMENTS, Namespace::Segments), true, now);
        root.insert(&Arc::from(*b"topics"), O::of_folder(TOPICS, Namespace::Topics), true, now);
        let folder = |namespace| Folder::new(copy(shared_mode), namespace, ROOT, Arc::clone(&defaults));
        let folders = ByNumber::from_iter([
            (ROOT, root),
            (MAILBOXES, folder(Namespace::Mailboxes)),
            (SEGMENTS, folder(Namespace::Segments)),
            (TOPICS, folder(Namespace::Topics)),
        ]);
        let mut nodes = Nodes::default();
        // The kernel holds the root without ever looking it up.
        nodes.look_up(&O::of_folder(ROOT, Namespace::Root));
        let (links, count) = (ByNumber::default(), Count::default());
        Names { nodes, folders, links, count, next: FIRST_FREE }
    }

    pub(crate) fn folder(&self, ino: Ino) -> Option<&Folder<O>> {
        self.folders.get(&ino)
    }

    pub(crate) fn folder_mut(&mut self, ino: Ino) -> Option<&mut Folder<O>> {
        self.folders.get_mut(&ino)
    }

    /// The file or folder numbered `ino`, as long as it has a name.
    pub(crate) fn link_of(&self, ino: Ino) -> Option<&Link<O>> {
        self.links.get(&ino)
    }

    /// What `ino` is the number of, as long as it has a name.
    pub(crate) fn object(&self, ino: Ino) -> Option<O> {
        let folder =
            || Some(O::of_folder(ino, self.folders.get(&ino).filter(|folder| !folder.removed)?.namespace));
        self.links.get(&ino).map(|link| link.object.clone()).or_else(folder)
    }

    /// The mailbox at a path below `mailboxes/`, if `caller` may go there.
    pub(crate) fn find_mailbox(&self, path: &[u8], caller: Caller) -> Result<O, Error> {
        let mut object = O::of_folder(MAILBOXES, Namespace::Mailboxes);
        for name in path.split(|byte| *byte == b'/') {
            let ino = object.folder().ok_or(Error::NotFolder)?;
            let folder = self.folders.get(&ino).ok_or(Error::NotFound)?;
            if !folder.meta.permits(caller, 1) {
                return Err(Error::AccessDenied);
            }
            object = folder.get(name).cloned().ok_or(Error::NotFound)?;
        }
        Ok(object)
    }

    /// Whether `caller` may search all folders on the way to the file or folder numbered `ino`.
    pub(crate) fn may_reach(&self, ino: Ino, caller: Caller) -> bool {
        let mut at = ino;
        while at != ROOT {
            let above = self.links.get(&at).map(|link| link.folder);
            let above = above.or_else(|| self.folders.get(&at).map(|folder| folder.parent));
            let Some(folder) = above.and_then(|above| self.folders.get(&above)) else { return false };
            if !folder.meta.permits(caller, 1) {
                return false;
            }
            at = above.unwrap_or(ROOT);
        }
        true
    }

    /// The path of a file, below `mailboxes/` or `segments/`; empty if it has no name any more.
    pub(crate) fn path_of(&self, ino: Ino) -> Vec<u8> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut at = ino;
        while let Some(located) = self.links.get(&at) {
            names.push(&located.name);
            at = located.folder;
        }
        names.reverse();
        names.join(&b"/"[..])
    }

    /// How many of each kind those are.
    pub(crate) fn counted(&self) -> Count {
        self.count
    }

    /// A number that was never an inode's or a node's before.
    pub(crate) fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Checks that `name` can be created in `folder`.
    pub(crate) fn check_new(&self, folder: Ino, name: &[u8]) -> Result<&Folder<O>, Error> {
        check_name(name)?;
        let folder = self.folders.get(&folder).ok_or(Error::NotFolder)?;
        if folder.removed {
            return Err(Error::NotFound);
        }
        if folder.get(name).is_some() {
            return Err(Error::Exists);
        }
        if folder.reserves(name) {
            return Err(Error::BadName);
        }
        if folder.namespace == Namespace::Root {
            return Err(Error::KindRefused);
        }
        Ok(folder)
    }

    /// Gives `object` a name that [`Names::check_new`] has found free. `charge` is for one file.
    pub(crate) fn link(&mut self, folder: Ino, name: &[u8], object: &O, charge: Charge, now: FileTime) {
        self.place(folder, &Arc::from(name), object, charge, now);
    }

    /// Gives a file that may have a name already another, which [`Names::check_new`] has found free.
    pub(crate) fn link_again(
        &mut self,
        folder: Ino,
        name: &[u8],
        object: &O,
        charge: Charge,
        now: FileTime,
    ) -> Result<(), Error> {
        let Some(link) = self.links.get_mut(&object.ino()) else {
            self.link(folder, name, object, charge, now);
            return Ok(());
        };
        if link.others.len() + 1 >= LINK_MAX {
            return Err(Error::TooManyLinks);
        }
        let name = Arc::from(name);
        link.others.push(Alias { folder, name: Arc::clone(&name), charge });
        if let Some(holder) = self.folders.get_mut(&folder) {
            holder.insert(&name, object.clone(), false, now);
        }
        Ok(())
    }

    /// A new folder; `check_new` comes first.
    pub(crate) fn make_folder(
        &mut self,
        folder: Ino,
        name: &[u8],
        meta: Meta,
        charge: Charge,
        now: FileTime,
    ) -> O {
        let parent = self.folders.get(&folder);
        let namespace = parent.map_or(Namespace::Mailboxes, |parent| parent.namespace);
        let defaults = parent.map(|parent| Arc::clone(&parent.defaults)).unwrap_or_default();
        let ino = Ino(self.fresh());
        self.folders.insert(ino, Folder::new(meta, namespace, folder, defaults));
        let object = O::of_folder(ino, namespace);
        self.link(folder, name, &object, charge, now);
        object
    }

    /// A folder of mailboxes as an earlier mount had it, with its number.
    pub(crate) fn restore_folder(
        &mut self,
        ino: Ino,
        folder: Ino,
        name: &Arc<[u8]>,
        meta: Meta,
        charge: Charge,
    ) {
        let (times, now) = ((meta.mtime, meta.ctime), meta.ctime);
        let defaults =
            self.folders.get(&folder).map(|parent| Arc::clone(&parent.defaults)).unwrap_or_default();
        self.folders.insert(ino, Folder::new(meta, Namespace::Mailboxes, folder, defaults));
        self.place(folder, name, &O::of_folder(ino, Namespace::Mailboxes), charge, now);
        if let Some(folder) = self.folders.get_mut(&ino) {
            (folder.meta.mtime, folder.meta.ctime) = times;
        }
    }

    /// Numbers up to this one were used before.
    pub(crate) fn skip_numbers(&mut self, last: u64) {
        self.next = self.next.max(last);
    }

    /// Takes a name away. A folder must be empty.
    pub(crate) fn unlink(
        &mut self,
        folder: Ino,
        name: &[u8],
        as_folder: bool,
        now: FileTime,
    ) -> Result<O, Error> {
        check_name(name)?;
        let holder = self.folders.get(&folder).ok_or(Error::NotFolder)?;
        // First of all, because `control` is a name that is not kept here.
        if holder.namespace == Namespace::Root {
            return Err(Error::NotPermitted);
        }
        let object = holder.get(name).ok_or(Error::NotFound)?;
        self.check_removable(object, as_folder)?;
        let object = self
            .folders
            .get_mut(&folder)
            .and_then(|holder| holder.remove(name, now))
            .ok_or(Error::NotFound)?;
        self.forget_name(&object, (folder, name));
        Ok(object)
    }

    /// Moves a name, over an existing one if `replace`. Returns what was replaced.
    pub(crate) fn rename(
        &mut self,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        replace: bool,
        now: FileTime,
    ) -> Result<Option<O>, Error> {
        let object = self.movable(from, to.0)?;
        check_name(to.1)?;
        if self.folders.get(&to.0).is_some_and(|folder| folder.reserves(to.1)) {
            return Err(Error::BadName);
        }
        let target = self.folders.get(&to.0).and_then(|folder| folder.get(to.1)).cloned();
        if let Some(target) = &target {
            if !replace {
                return Err(Error::Exists);
            }
            if target.ino() == object.ino() {
                return Ok(None);
            }
            self.check_removable(target, object.folder().is_some())?;
        }
        if let (Some(target), Some(folder)) = (&target, self.folders.get_mut(&to.0)) {
            folder.remove(to.1, now);
            self.forget_name(target, to);
        }
        self.take(from, now);
        self.relocate(from, to, &object, now);
        Ok(target)
    }

    /// Swaps two names.
    pub(crate) fn exchange(
        &mut self,
        one: (Ino, &[u8]),
        two: (Ino, &[u8]),
        now: FileTime,
    ) -> Result<(), Error> {
        let first = self.movable(one, two.0)?;
        let second = self.movable(two, one.0)?;
        if first.ino() == second.ino() {
            return Ok(());
        }
        self.take(one, now);
        self.take(two, now);
        self.relocate(one, two, &first, now);
        self.relocate(two, one, &second, now);
        Ok(())
    }

    /// The kernel forgot a folder's node. A folder without a name goes with it.
    pub(crate) fn drop_folder(&mut self, ino: Ino) {
        if self.folders.get(&ino).is_some_and(|folder| folder.removed) {
            self.folders.remove(&ino);
        }
    }

    fn check_removable(&self, object: &O, as_folder: bool) -> Result<(), Error> {
        match object.folder() {
            Some(_) if !as_folder => Err(Error::IsFolder),
            Some(ino) if !self.folders.get(&ino).is_some_and(Folder::is_empty) => Err(Error::NotEmpty),
            None if as_folder => Err(Error::NotFolder),
            _ => Ok(()),
        }
    }

    /// What stands at `from`, if it may go to the folder `to`.
    fn movable(&self, from: (Ino, &[u8]), to: Ino) -> Result<O, Error> {
        let source = self.folders.get(&from.0).ok_or(Error::NotFolder)?;
        let target = self.folders.get(&to).ok_or(Error::NotFolder)?;
        if source.namespace == Namespace::Root {
            return Err(Error::NotPermitted);
        }
        let object = source.get(from.1).ok_or(Error::NotFound)?;
        if source.namespace != target.namespace {
            return Err(Error::OtherKind);
        }
        if target.removed {
            return Err(Error::NotFound);
        }
        // The kernel checks this too; a loop would cut the folders in it off for ever.
        let mut above = to;
        while above != ROOT {
            if above == object.ino() {
                return Err(Error::Invalid);
            }
            above = self.folders.get(&above).map_or(ROOT, |folder| folder.parent);
        }
        Ok(object.clone())
    }

    fn take(&mut self, (folder, name): (Ino, &[u8]), now: FileTime) {
        if let Some(folder) = self.folders.get_mut(&folder) {
            folder.remove(name, now);
        }
    }

    /// The name that `object` had at `from`, where it was taken, is at `to` now, in the same namespace.
    fn relocate(&mut self, from: (Ino, &[u8]), to: (Ino, &[u8]), object: &O, now: FileTime) {
        let name = Arc::from(to.1);
        let Some(link) = self.links.get_mut(&object.ino()) else { return };
        let is_first = link.relocate(from, (to.0, &name));
        self.put(to.0, &name, object, is_first, now);
    }

    fn place(&mut self, folder: Ino, name: &Arc<[u8]>, object: &O, charge: Charge, now: FileTime) {
        let Some(namespace) = self.put(folder, name, object, true, now) else { return };
        let (object, name, others) = (object.clone(), Arc::clone(name), Vec::new());
        *self.count.of(&object, namespace) += 1;
        self.links.insert(object.ino(), Link { object, folder, name, charge, others });
    }

    /// Puts a name into a folder. Returns its namespace.
    fn put(
        &mut self,
        folder: Ino,
        name: &Arc<[u8]>,
        object: &O,
        is_first: bool,
        now: FileTime,
    ) -> Option<Namespace> {
        if let Some(moved) = object.folder().and_then(|ino| self.folders.get_mut(&ino)) {
            moved.parent = folder;
            moved.meta.ctime = now;
        }
        let holder = self.folders.get_mut(&folder)?;
        holder.insert(name, object.clone(), is_first && !object.is_symlink(), now);
        Some(holder.namespace)
    }

    /// The name that `object` had at `from` is gone.
    fn forget_name(&mut self, object: &O, from: (Ino, &[u8])) {
        if let Some(link) = self.links.get_mut(&object.ino())
            && !link.others.is_empty()
        {
            if let Some(at) = link.others.iter().position(|alias| alias.is_at(from)) {
                link.others.remove(at);
            } else {
                let Alias { folder, name, charge } = link.others.remove(0);
                if let Some(holder) = self.folders.get_mut(&folder) {
                    holder.show(&name);
                }
                (link.folder, link.name, link.charge) = (folder, name, charge);
            }
            return;
        }
        let namespace = self.folders.get(&from.0).map_or(Namespace::Root, |folder| folder.namespace);
        if self.links.remove(&object.ino()).is_some() {
            *self.count.of(object, namespace) -= 1;
        }
        if let Some(ino) = object.folder() {
            // It may be a working directory: it stays while the kernel knows its node.
            let known = self.nodes.object(NodeId(ino.0)).is_some();
            match self.folders.get_mut(&ino) {
                Some(folder) if known => folder.removed = true,
                _ => drop(self.folders.remove(&ino)),
            }
        }
    }
}

/// Names are any bytes but `/` and NUL, up to 255.
pub(crate) fn check_name(name: &[u8]) -> Result<(), Error> {
    if name.len() > NAME_MAX {
        return Err(Error::NameTooLong);
    }
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(Error::BadName);
    }
    Ok(())
}
