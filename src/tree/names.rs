//! Folders and the names in them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::meta::{FOLDER, Meta};
use super::nodes::Nodes;
use super::numbers::ByNumber;
use super::objects::{Child, TopicFile};
use crate::config::NAME_MAX;
use crate::op::{Attr, Caller, Error, Ino, NodeId, Timestamp};

/// The mount's root.
pub(super) const ROOT: Ino = Ino(1);
/// `mailboxes/`
pub(super) const MAILBOXES: Ino = Ino(2);
/// `segments/`
pub(super) const SEGMENTS: Ino = Ino(3);
/// `topics/`
pub(super) const TOPICS: Ino = Ino(4);
const FIRST_FREE: u64 = 16;

/// What may be created in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Root,
    Mailboxes,
    Segments,
    Topics,
}

/// A folder. Its entries have two orders: by name for look-ups, and by a cookie that only grows for listings, so that a
/// listing shows every entry that was there all along exactly once, whatever comes and goes meanwhile.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) meta: Meta,
    pub(super) kind: Kind,
    pub(super) parent: Ino,
    names: HashMap<Arc<[u8]>, u64>,
    entries: BTreeMap<u64, (Arc<[u8]>, Child)>,
    next_cookie: u64,
    folders: u32,
    removed: bool,
}

/// Where a file's name is.
#[derive(Debug, Clone)]
pub(super) struct Located {
    pub(super) child: Child,
    pub(super) folder: Ino,
    pub(super) name: Arc<[u8]>,
}

/// All names and nodes of a mount.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) nodes: Nodes,
    folders: ByNumber<Ino, Folder>,
    /// Every file and folder that has a name, those made at start aside.
    files: ByNumber<Ino, Located>,
    named: Named,
    topics: BTreeMap<Ino, Arc<TopicFile>>,
    next: u64,
    max_files: u64,
}

/// How many of each kind have a name, those made at start aside.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)]
pub(super) struct Named {
    pub(super) folders: u64,
    pub(super) mailboxes: u64,
    pub(super) segments: u64,
    pub(super) topics: u64,
}

impl Named {
    fn of(&mut self, child: &Child) -> &mut u64 {
        match child {
            Child::Folder(_) => &mut self.folders,
            Child::Mailbox(_) => &mut self.mailboxes,
            Child::Segment(_) => &mut self.segments,
            Child::Topic(_) => &mut self.topics,
        }
    }
}

impl Folder {
    fn new(meta: Meta, kind: Kind, parent: Ino) -> Folder {
        let (names, entries) = (HashMap::new(), BTreeMap::new());
        // 0 means "from the beginning"; 1 and 2 are "." and "..".
        Folder { meta, kind, parent, names, entries, next_cookie: 3, folders: 0, removed: false }
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Child> {
        self.names.get(name).and_then(|cookie| self.entries.get(cookie)).map(|(_, child)| child)
    }

    /// Entries after the one with `cookie`, in the order of their creation.
    pub(super) fn list(&self, cookie: u64) -> impl Iterator<Item = (u64, &Arc<[u8]>, &Child)> {
        let from = cookie.saturating_add(1);
        self.entries.range(from..).map(|(cookie, (name, child))| (*cookie, name, child))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn attr(&self, ino: Ino) -> Attr {
        Attr {
            ino,
            size: 0,
            blocks: 0,
            atime: self.meta.atime,
            mtime: self.meta.mtime,
            ctime: self.meta.ctime,
            mode: FOLDER | self.meta.mode,
            nlink: if self.removed { 0 } else { 2 + self.folders },
            uid: self.meta.uid,
            gid: self.meta.gid,
            blksize: 4096,
        }
    }

    fn insert(&mut self, name: &Arc<[u8]>, child: Child, now: Timestamp) {
        self.folders += u32::from(child.is_folder());
        self.names.insert(Arc::clone(name), self.next_cookie);
        self.entries.insert(self.next_cookie, (Arc::clone(name), child));
        self.next_cookie += 1;
        self.touch(now);
    }

    fn remove(&mut self, name: &[u8], now: Timestamp) -> Option<Child> {
        let cookie = self.names.remove(name)?;
        let (_, child) = self.entries.remove(&cookie)?;
        self.folders -= u32::from(child.is_folder());
        self.touch(now);
        Some(child)
    }

    fn touch(&mut self, now: Timestamp) {
        (self.meta.mtime, self.meta.ctime) = (now, now);
    }
}

impl Names {
    /// `mailboxes/`, `segments/` and `topics/` with the given mode, the rest read-only; all of `meta`'s owner.
    pub(super) fn new(meta: &Meta, shared_mode: u32, max_files: u64) -> Names {
        let mut shared = meta.clone();
        shared.mode = shared_mode;
        let mut root = Folder::new(meta.clone(), Kind::Root, ROOT);
        let now = meta.mtime;
        root.insert(&Arc::from(*b"mailboxes"), Child::Folder(MAILBOXES), now);
        root.insert(&Arc::from(*b"segments"), Child::Folder(SEGMENTS), now);
        root.insert(&Arc::from(*b"topics"), Child::Folder(TOPICS), now);
        let folders = ByNumber::from_iter([
            (ROOT, root),
            (MAILBOXES, Folder::new(shared.clone(), Kind::Mailboxes, ROOT)),
            (SEGMENTS, Folder::new(shared.clone(), Kind::Segments, ROOT)),
            (TOPICS, Folder::new(shared, Kind::Topics, ROOT)),
        ]);
        let mut nodes = Nodes::default();
        // The kernel holds the root without ever looking it up.
        nodes.look_up(&Child::Folder(ROOT));
        let (named, topics) = (Named::default(), BTreeMap::new());
        Names { nodes, folders, files: ByNumber::default(), named, topics, next: FIRST_FREE, max_files }
    }

    pub(super) fn folder(&self, ino: Ino) -> Option<&Folder> {
        self.folders.get(&ino)
    }

    pub(super) fn folder_mut(&mut self, ino: Ino) -> Option<&mut Folder> {
        self.folders.get_mut(&ino)
    }

    /// The file or folder numbered `ino`, as long as it has a name.
    pub(super) fn located(&self, ino: Ino) -> Option<&Located> {
        self.files.get(&ino)
    }

    /// The mailbox at a path below `mailboxes/`, if `caller` may go there.
    pub(super) fn find_mailbox(&self, path: &[u8], caller: Caller) -> Result<Child, Error> {
        let mut child = Child::Folder(MAILBOXES);
        for name in path.split(|byte| *byte == b'/') {
            let Child::Folder(ino) = child else { return Err(Error::NotFolder) };
            let folder = self.folders.get(&ino).ok_or(Error::NotFound)?;
            if !folder.meta.permits(caller, 1) {
                return Err(Error::AccessDenied);
            }
            child = folder.get(name).cloned().ok_or(Error::NotFound)?;
        }
        Ok(child)
    }

    /// The path of a file, below `mailboxes/` or `segments/`; empty if it has no name any more.
    pub(super) fn path_of(&self, ino: Ino) -> String {
        let mut names = Vec::new();
        let mut at = ino;
        while let Some(located) = self.files.get(&at) {
            names.push(String::from_utf8_lossy(&located.name));
            at = located.folder;
        }
        names.reverse();
        names.join("/")
    }

    /// Files and folders that users made.
    pub(super) fn count(&self) -> u64 {
        self.files.len() as u64
    }

    /// How many of each kind those are.
    pub(super) fn named(&self) -> Named {
        self.named
    }

    pub(super) fn topics(&self) -> Vec<Arc<TopicFile>> {
        self.topics.values().cloned().collect()
    }

    /// A number that was never an inode's or a node's before.
    pub(super) fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Checks that `name` can be created in `folder`, and that there may be one more file.
    pub(super) fn check_new(&self, folder: Ino, name: &[u8]) -> Result<&Folder, Error> {
        check_name(name)?;
        let folder = self.folders.get(&folder).ok_or(Error::NotFolder)?;
        if folder.removed {
            return Err(Error::NotFound);
        }
        if folder.get(name).is_some() {
            return Err(Error::Exists);
        }
        if folder.kind == Kind::Root {
            return Err(Error::KindRefused);
        }
        if self.files.len() as u64 >= self.max_files {
            return Err(Error::NoSpace);
        }
        Ok(folder)
    }

    /// Gives `child` a name that [`Names::check_new`] has found free.
    pub(super) fn link(&mut self, folder: Ino, name: &[u8], child: Child, now: Timestamp) {
        let name: Arc<[u8]> = Arc::from(name);
        self.place(folder, &name, child, now);
    }

    /// A new folder; `check_new` comes first.
    pub(super) fn make_folder(&mut self, folder: Ino, name: &[u8], meta: Meta, now: Timestamp) -> Child {
        let kind = self.folders.get(&folder).map_or(Kind::Mailboxes, |folder| folder.kind);
        let ino = Ino(self.fresh());
        self.folders.insert(ino, Folder::new(meta, kind, folder));
        let child = Child::Folder(ino);
        self.link(folder, name, child.clone(), now);
        child
    }

    /// Takes a name away. A folder must be empty.
    pub(super) fn unlink(
        &mut self,
        folder: Ino,
        name: &[u8],
        as_folder: bool,
        now: Timestamp,
    ) -> Result<Child, Error> {
        check_name(name)?;
        let holder = self.folders.get(&folder).ok_or(Error::NotFolder)?;
        // First of all, because `control` is a name that is not kept here.
        if holder.kind == Kind::Root {
            return Err(Error::NotPermitted);
        }
        let child = holder.get(name).ok_or(Error::NotFound)?;
        self.check_removable(child, as_folder)?;
        let child = self
            .folders
            .get_mut(&folder)
            .and_then(|holder| holder.remove(name, now))
            .ok_or(Error::NotFound)?;
        self.forget_name(&child);
        Ok(child)
    }

    /// Moves a name, over an existing one if `replace`. Returns what was replaced.
    pub(super) fn rename(
        &mut self,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        replace: bool,
        now: Timestamp,
    ) -> Result<Option<Child>, Error> {
        let child = self.movable(from, to.0)?;
        check_name(to.1)?;
        let target = self.folders.get(&to.0).and_then(|folder| folder.get(to.1)).cloned();
        if let Some(target) = &target {
            if !replace {
                return Err(Error::Exists);
            }
            if target.ino() == child.ino() {
                return Ok(None);
            }
            self.check_removable(target, child.is_folder())?;
        }
        if let (Some(target), Some(folder)) = (&target, self.folders.get_mut(&to.0)) {
            folder.remove(to.1, now);
            self.forget_name(target);
        }
        self.take(from, now);
        self.place(to.0, &Arc::from(to.1), child, now);
        Ok(target)
    }

    /// Swaps two names.
    pub(super) fn exchange(
        &mut self,
        one: (Ino, &[u8]),
        two: (Ino, &[u8]),
        now: Timestamp,
    ) -> Result<(), Error> {
        let first = self.movable(one, two.0)?;
        let second = self.movable(two, one.0)?;
        if first.ino() == second.ino() {
            return Ok(());
        }
        self.take(one, now);
        self.take(two, now);
        self.place(two.0, &Arc::from(two.1), first, now);
        self.place(one.0, &Arc::from(one.1), second, now);
        Ok(())
    }

    /// The kernel forgot a folder's node. A folder without a name goes with it.
    pub(super) fn drop_folder(&mut self, ino: Ino) {
        if self.folders.get(&ino).is_some_and(|folder| folder.removed) {
            self.folders.remove(&ino);
        }
    }

    fn check_removable(&self, child: &Child, as_folder: bool) -> Result<(), Error> {
        match child {
            Child::Folder(_) if !as_folder => Err(Error::IsFolder),
            Child::Folder(ino) if !self.folders.get(ino).is_some_and(Folder::is_empty) => {
                Err(Error::NotEmpty)
            }
            Child::Mailbox(_) | Child::Segment(_) | Child::Topic(_) if as_folder => Err(Error::NotFolder),
            _ => Ok(()),
        }
    }

    /// What stands at `from`, if it may go to the folder `to`.
    fn movable(&self, from: (Ino, &[u8]), to: Ino) -> Result<Child, Error> {
        let source = self.folders.get(&from.0).ok_or(Error::NotFolder)?;
        let target = self.folders.get(&to).ok_or(Error::NotFolder)?;
        if source.kind == Kind::Root {
            return Err(Error::NotPermitted);
        }
        let child = source.get(from.1).ok_or(Error::NotFound)?;
        if source.kind != target.kind {
            return Err(Error::OtherKind);
        }
        if target.removed {
            return Err(Error::NotFound);
        }
        // The kernel checks this too; a loop would cut the folders in it off for ever.
        let mut above = to;
        while above != ROOT {
            if above == child.ino() {
                return Err(Error::Invalid);
            }
            above = self.folders.get(&above).map_or(ROOT, |folder| folder.parent);
        }
        Ok(child.clone())
    }

    fn take(&mut self, (folder, name): (Ino, &[u8]), now: Timestamp) {
        if let Some(folder) = self.folders.get_mut(&folder) {
            folder.remove(name, now);
        }
    }

    fn place(&mut self, folder: Ino, name: &Arc<[u8]>, child: Child, now: Timestamp) {
        if let Child::Folder(ino) = &child
            && let Some(moved) = self.folders.get_mut(ino)
        {
            moved.parent = folder;
            moved.meta.ctime = now;
        }
        let located = Located { child: child.clone(), folder, name: Arc::clone(name) };
        // Not if it has moved.
        if self.files.insert(child.ino(), located).is_none() {
            *self.named.of(&child) += 1;
            if let Child::Topic(file) = &child {
                self.topics.insert(file.ino, Arc::clone(file));
            }
        }
        if let Some(holder) = self.folders.get_mut(&folder) {
            holder.insert(name, child, now);
        }
    }

    fn forget_name(&mut self, child: &Child) {
        if self.files.remove(&child.ino()).is_some() {
            *self.named.of(child) -= 1;
            self.topics.remove(&child.ino());
        }
        if let Child::Folder(ino) = child {
            // Kept while the kernel has its node, as somebody's working directory perhaps.
            let known = self.nodes.object(NodeId(ino.0)).is_some();
            match self.folders.get_mut(ino) {
                Some(folder) if known => folder.removed = true,
                _ => drop(self.folders.remove(ino)),
            }
        }
    }
}

/// Names are any bytes but `/` and NUL, up to 255.
pub(super) fn check_name(name: &[u8]) -> Result<(), Error> {
    if name.len() > NAME_MAX {
        return Err(Error::NameTooLong);
    }
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(Error::BadName);
    }
    Ok(())
}
