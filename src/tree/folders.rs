//! Operations on names: look up, create, remove, rename, list.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use slab::Slab;

use super::Tree;
use super::meta::{FOLDER, Meta, REGULAR, SET_GID, TYPE_MASK};
use super::names::{Kind, Names, ROOT, check_name};
use super::nodes::Object;
use super::objects::{Child, MailboxFile, MailboxState, SegmentFile, SegmentState, TopicFile, TopicState};
use super::place::{NAME, Place};
use crate::config::BACKLOG;
use crate::mailbox::{Context, Mailbox};
use crate::op::{
    Attr, Caller, Effects, Entry, Error, Ino, Listed, NodeId, RenameHow, Reply, Space, Timestamp, Validity,
};
use crate::segment::Segment;
use crate::topic::{self, Topic};

/// The least a name takes in a listing of the kernel's: a listing of n bytes holds no more than n/24 names.
const LEAST_LISTED: usize = 24;

impl Tree {
    pub(super) fn look_up(
        &self,
        parent: NodeId,
        name: &[u8],
        caller: Caller,
        now: Timestamp,
        fx: &mut Effects,
    ) -> Result<Entry, Error> {
        check_name(name)?;
        if let Some(place) = Place::of(parent) {
            return self.look_up_control(place, name);
        }
        let mut names = self.names.lock();
        let folder = folder_of(&names, parent)?;
        let holder = names.folder(folder).ok_or(Error::Stale)?;
        match holder.get(name).cloned() {
            Some(child) => Ok(entry(&mut names, &child, caller.pid, now, fx)),
            None if folder == ROOT && name == NAME => {
                drop(names);
                self.control_entry(Place::ROOT)
            }
            None => Err(Error::NotFound),
        }
    }

    pub(super) fn forget(&self, items: &[(NodeId, u64)]) {
        let mut names = self.names.lock();
        for (node, count) in items {
            match names.nodes.forget(*node, *count) {
                Some(Object::Folder(ino)) => names.drop_folder(ino),
                Some(Object::Segment(file)) => {
                    let mut state = file.state.lock();
                    state.spared = false;
                    let _ = self.unused(&file, &mut state);
                }
                Some(Object::Mailbox(_) | Object::Topic(_) | Object::Door(_) | Object::Message(_)) | None => {
                }
            }
        }
    }

    /// `mknod` of a plain file.
    pub(super) fn make_file(
        &self,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        caller: Caller,
        now: Timestamp,
        fx: &mut Effects,
    ) -> Result<Entry, Error> {
        let mut names = self.names.lock();
        let child = self.new_file(&mut names, parent, name, mode, caller, now)?;
        Ok(entry(&mut names, &child, caller.pid, now, fx))
    }

    pub(super) fn make_folder(
        &self,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        caller: Caller,
        now: Timestamp,
        fx: &mut Effects,
    ) -> Result<Entry, Error> {
        let mut names = self.names.lock();
        let folder = user_folder_of(&names, parent)?;
        let holder = names.check_new(folder, name)?;
        let inherited = holder.meta.mode & SET_GID;
        let meta = Meta::created((mode & !TYPE_MASK) | inherited, caller, &holder.meta, now);
        let child = names.make_folder(folder, name, meta, now);
        Ok(entry(&mut names, &child, caller.pid, now, fx))
    }

    /// A new mailbox or segment, as the folder has it.
    pub(super) fn new_file(
        &self,
        names: &mut Names,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        caller: Caller,
        now: Timestamp,
    ) -> Result<Child, Error> {
        if mode & TYPE_MASK != REGULAR && mode & TYPE_MASK != 0 {
            return Err(Error::KindRefused);
        }
        let folder = user_folder_of(names, parent)?;
        let holder = names.check_new(folder, name)?;
        let meta = Meta::created(mode & !TYPE_MASK, caller, &holder.meta, now);
        let kind = holder.kind;
        let ino = Ino(names.fresh());
        let child = if kind == Kind::Topics {
            let msgsize = self.setup.limits.mailbox.msgsize.min(self.setup.ceiling);
            let topic = Topic::new(topic::Limits { msgsize, backlog: BACKLOG }, now);
            let state = TopicState { meta, topic, refusal: None };
            Child::Topic(Arc::new(TopicFile { ino, state: Mutex::new(state) }))
        } else if kind == Kind::Segments {
            let segment = Segment::new((self.make_memory)()?, Arc::clone(&self.segment_budget));
            let glances = super::glances::Glances::default();
            let (linked, spared, backing, refusal, bell) = (true, false, None, None, None);
            let openers = Slab::new();
            let state = SegmentState {
                meta,
                segment,
                openers,
                bell,
                in_limbo: false,
                linked,
                spared,
                glances,
                backing,
                refusal,
            };
            Child::Segment(Arc::new(SegmentFile { ino, state: Mutex::new(state) }))
        } else {
            let mut limits = self.setup.limits.mailbox;
            limits.msgsize = limits.msgsize.min(self.setup.ceiling);
            let queue = Mailbox::new(limits, now);
            let state = MailboxState {
                meta,
                queue,
                listed: None,
                starving: false,
                believed: None,
                alarm: None,
                refusal: None,
            };
            Child::Mailbox(Arc::new(MailboxFile { ino, state: Mutex::new(state) }))
        };
        names.link(folder, name, child.clone(), now);
        Ok(child)
    }

    pub(super) fn unlink(
        &self,
        parent: NodeId,
        name: &[u8],
        as_folder: bool,
        now: Timestamp,
        fx: &mut Effects,
    ) -> Result<Reply, Error> {
        if let Some(place) = Place::of(parent).filter(|_| !as_folder) {
            return self.unlink_message(place, name, now, fx);
        }
        let child = {
            let mut names = self.names.lock();
            let folder = user_folder_of(&names, parent)?;
            names.unlink(folder, name, as_folder, now)?
        };
        self.unlinked(&child, now, fx);
        Ok(Reply::Done)
    }

    pub(super) fn rename(
        &self,
        from: (NodeId, &[u8]),
        to: (NodeId, &[u8]),
        how: RenameHow,
        now: Timestamp,
        fx: &mut Effects,
    ) -> Result<Reply, Error> {
        if let (Some(source), Some(target)) = (Place::of(from.0), Place::of(to.0)) {
            if how == RenameHow::Exchange {
                return Err(Error::Invalid);
            }
            return self.move_message((source, from.1), (target, to.1), now, fx);
        }
        let replaced = {
            let mut names = self.names.lock();
            let from = (user_folder_of(&names, from.0)?, from.1);
            let to = (user_folder_of(&names, to.0)?, to.1);
            let moved = names.folder(from.0).and_then(|folder| folder.get(from.1)).cloned();
            let replaced = match how {
                RenameHow::Exchange => names.exchange(from, to, now).map(|()| None),
                RenameHow::Replace => names.rename(from, to, true, now),
                RenameHow::NoReplace => names.rename(from, to, false, now),
            }?;
            touch(moved.as_ref(), now, fx);
            replaced
        };
        if let Some(child) = replaced {
            self.unlinked(&child, now, fx);
        }
        Ok(Reply::Done)
    }

    /// What becomes of a file whose name is gone.
    pub(super) fn unlinked(&self, child: &Child, now: Timestamp, fx: &mut Effects) {
        match child {
            Child::Folder(_) => {}
            Child::Mailbox(file) => {
                let lost = self.with_mailbox(file, now, fx, |state, cx| {
                    state.meta.ctime = now;
                    state.queue.remove(cx)
                });
                self.discarded.fetch_add(lost, Ordering::Relaxed);
            }
            Child::Topic(file) => {
                let mut state = file.state.lock();
                state.meta.ctime = now;
                state.topic.remove(&mut Context { now, memory: &self.memory, fx });
            }
            Child::Segment(file) => {
                let mut state = file.state.lock();
                state.spared = state.glances.meet(now);
                state.meta.ctime = now;
                self.lose_name(file, &mut state, now, fx);
            }
        }
    }

    pub(super) fn open_folder(&self, node: NodeId) -> Result<Reply, Error> {
        if let Some(place) = Place::of(node) {
            return self.open_control_folder(place);
        }
        folder_of(&self.names.lock(), node).map(|_| Reply::Directory)
    }

    /// Names after the one with cookie `offset`, as many as `size` bytes can hold at most.
    pub(super) fn list(&self, node: NodeId, offset: u64, size: u32) -> Result<Vec<Listed>, Error> {
        let most = size as usize / LEAST_LISTED + 1;
        if let Some(place) = Place::of(node) {
            return self.list_control(place, offset, most);
        }
        let names = self.names.lock();
        let ino = folder_of(&names, node)?;
        let folder = names.folder(ino).ok_or(Error::Stale)?;
        let mut list = dots(ino, folder.parent, offset);
        let control = (ino == ROOT && offset < CONTROL_COOKIE).then(|| Listed {
            ino: Place::ROOT.ino(),
            cookie: CONTROL_COOKIE,
            folder: true,
            name: Arc::from(NAME),
        });
        list.extend(
            folder.list(offset.max(2)).take(most).map(|(cookie, name, child)| listed(cookie, name, child)),
        );
        list.extend(control);
        Ok(list)
    }

    pub(super) fn space(&self) -> Reply {
        const BLOCK: u64 = 4096;
        let limit = self.segment_budget.limit();
        let free = limit.saturating_sub(self.segment_budget.used());
        Reply::Space(Space {
            blocks: limit / BLOCK,
            free: free / BLOCK,
            files: self.setup.limits.max_files,
            files_free: self.setup.limits.max_files.saturating_sub(self.names.lock().count()),
        })
    }

    /// Looks at what a node has beside its contents.
    pub(super) fn read_meta<T>(
        &self,
        node: NodeId,
        fx: &mut Effects,
        look: impl FnOnce(&Meta) -> T,
    ) -> Result<T, Error> {
        let message = match self.names.lock().nodes.object(node) {
            Some(Object::Message(found)) => Some(Arc::clone(found)),
            _ => None,
        };
        match message {
            Some(found) => found.meta().map(|meta| look(&meta)),
            None => self.with_meta(node, fx, |meta| look(meta)),
        }
    }

    /// Works on what a node has beside its contents.
    pub(super) fn with_meta<T>(
        &self,
        node: NodeId,
        fx: &mut Effects,
        work: impl FnOnce(&mut Meta) -> T,
    ) -> Result<T, Error> {
        if Place::of(node).is_some() {
            return Err(Error::NotSupported);
        }
        let mut names = self.names.lock();
        match names.nodes.object(node).cloned().ok_or(Error::Stale)? {
            Object::Folder(ino) => {
                names.folder_mut(ino).map(|folder| work(&mut folder.meta)).ok_or(Error::Stale)
            }
            Object::Door(_) | Object::Message(_) => Err(Error::NotSupported),
            Object::Mailbox(file) => {
                drop(names);
                let mut state = file.state.lock();
                let ctime = state.meta.ctime;
                let result = work(&mut state.meta);
                if state.meta.ctime != ctime {
                    state.attr_changed(fx);
                }
                Ok(result)
            }
            Object::Topic(file) => {
                drop(names);
                Ok(work(&mut file.state.lock().meta))
            }
            Object::Segment(file) => {
                drop(names);
                Ok(work(&mut file.state.lock().meta))
            }
        }
    }
}

/// `control/` comes last in the root, after entries whose cookies start at 3.
const CONTROL_COOKIE: u64 = u64::MAX >> 1;

/// "." and "..", which a listing from the beginning starts with.
pub(super) fn dots(own: Ino, parent: Ino, offset: u64) -> Vec<Listed> {
    let dot = |ino, cookie, name: &[u8]| Listed { ino, cookie, folder: true, name: Arc::from(name) };
    [dot(own, 1, b"."), dot(parent, 2, b"..")].into_iter().filter(|dot| dot.cookie > offset).collect()
}

/// The attributes of a named file, and the node that the kernel shall know it by.
pub(super) fn entry(names: &mut Names, child: &Child, pid: u32, now: Timestamp, fx: &mut Effects) -> Entry {
    let (node, validity) = match child {
        Child::Mailbox(file) => {
            let fresh = NodeId(names.fresh());
            let (node, known) = names.nodes.look_up_mailbox(file, pid, now, || fresh);
            if known {
                let (attr, validity) = file.state.lock().believed_attr(file.ino, node, fx);
                return Entry { node, attr, validity };
            }
            // A change that comes before the kernel has the node could not be told.
            (node, Validity::None)
        }
        Child::Segment(file) => {
            file.state.lock().glances.note(pid, now);
            (names.nodes.look_up(child), Validity::None)
        }
        // Nobody who uses a topic holds its node locked while waiting, so one serves all.
        Child::Topic(_) => (names.nodes.look_up(child), Validity::None),
        Child::Folder(_) => (names.nodes.look_up(child), Validity::Long),
    };
    Entry { node, attr: attr_of(names, child), validity }
}

pub(super) fn attr_of(names: &Names, child: &Child) -> Attr {
    match child {
        Child::Folder(ino) => match names.folder(*ino) {
            Some(folder) => folder.attr(*ino),
            None => gone_folder(*ino),
        },
        Child::Mailbox(file) => file.state.lock().attr(file.ino),
        Child::Segment(file) => file.state.lock().attr(file.ino),
        Child::Topic(file) => file.state.lock().attr(file.ino),
    }
}

/// The folder that `node` stands for.
pub(super) fn folder_of(names: &Names, node: NodeId) -> Result<Ino, Error> {
    match names.nodes.object(node) {
        Some(Object::Folder(ino)) => Ok(*ino),
        Some(_) => Err(Error::NotFolder),
        None => Err(Error::Stale),
    }
}

/// As [`folder_of`], for changes: nothing can be made or removed in `control/`.
fn user_folder_of(names: &Names, node: NodeId) -> Result<Ino, Error> {
    if Place::of(node).is_some() { Err(Error::NotPermitted) } else { folder_of(names, node) }
}

fn touch(moved: Option<&Child>, now: Timestamp, fx: &mut Effects) {
    match moved {
        Some(Child::Mailbox(file)) => {
            let mut state = file.state.lock();
            state.meta.ctime = now;
            state.attr_changed(fx);
        }
        Some(Child::Segment(file)) => file.state.lock().meta.ctime = now,
        Some(Child::Topic(file)) => file.state.lock().meta.ctime = now,
        Some(Child::Folder(_)) | None => {}
    }
}

fn listed(cookie: u64, name: &Arc<[u8]>, child: &Child) -> Listed {
    Listed { ino: child.ino(), cookie, folder: child.is_folder(), name: Arc::clone(name) }
}

/// A folder that was removed and forgotten while this was asked.
fn gone_folder(ino: Ino) -> Attr {
    let now = Timestamp(0);
    let (size, blocks, nlink, uid, gid) = (0, 0, 0, 0, 0);
    Attr {
        ino,
        size,
        blocks,
        atime: now,
        mtime: now,
        ctime: now,
        mode: FOLDER,
        nlink,
        uid,
        gid,
        blksize: 4096,
    }
}
