//! A mailbox that several hosts share: the file, and its doors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::door::open_once_sized;
use super::mailbox::{Receivers, check_receives, open_sized, receive, send, sized};
use super::remote_ask::{Asking, What, meta_of};
use super::{
    ControlOps, Cx, FileOps, Header, Inode, InodeOps, Names, OpenFile, Read, Wait, Write, mode_of,
    set_size_only,
};
use crate::config::NO_LIMIT;
use crate::engine::{Ask, Asked, Command, Described, Path};
use crate::mailbox::{Context, Door, HandleId, WaitId};
use crate::op::{
    Attr, Caller, Effect, Entry, Error, Fh, Ino, Moment, NodeId, OpenAs, OpenFlags, Opened, Poller, Ready,
    Reply, SetAttr, Validity,
};
use crate::remote::Remote;
use crate::state::{Restorer, Saved, Saver};
use crate::tree::names::meta::{Meta, REGULAR};
use crate::tree::names::nodes::Opening;

/// Longest path below `mailboxes/` that the engine takes, in bytes.
const PATH_MAX: usize = 1000;

/// Most changes of names, owners and modes that the engine has not told to the other hosts yet, of all users and of one.
const MAX_UNTOLD: (usize, usize) = (10_000, 1_000);

/// The mailboxes that several hosts share, and whether the engine has a connection.
#[derive(Debug, Default)]
pub(crate) struct Remotes {
    files: Mutex<BTreeMap<Ino, Arc<RemoteFile>>>,
    connected: AtomicBool,
    /// Changes of names that the engine has, by owner, see [`MAX_UNTOLD`].
    untold: Mutex<BTreeMap<u32, usize>>,
}

impl Remotes {
    /// The engine has a connection.
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// What all hosts know of may change. Without a connection it may not: changes of several hosts could not be brought together.
    pub(super) fn check_reachable(&self, uid: u32) -> Result<(), Error> {
        let untold = self.untold.lock();
        let own = untold.get(&uid).copied().unwrap_or_default();
        let may = own < MAX_UNTOLD.1 && untold.values().sum::<usize>() < MAX_UNTOLD.0;
        if self.is_connected() && may { Ok(()) } else { Err(Error::Unreachable) }
    }

    pub(super) fn note_told(&self, uid: u32) {
        let mut untold = self.untold.lock();
        if let Some(count) = untold.get_mut(&uid) {
            *count -= 1;
            if *count == 0 {
                untold.remove(&uid);
            }
        }
    }

    /// There is a connection, or none. Returns all mailboxes.
    pub(super) fn note_connection(&self, connected: bool) -> Vec<Arc<RemoteFile>> {
        self.connected.store(connected, Ordering::Relaxed);
        self.files.lock().values().cloned().collect()
    }

    pub(super) fn get(&self, ino: Ino) -> Option<Arc<RemoteFile>> {
        self.files.lock().get(&ino).cloned()
    }
}

/// A mailbox and what stat shows of it.
#[derive(Debug)]
pub(crate) struct RemoteFile {
    pub(super) ino: Ino,
    pub(super) state: Mutex<RemoteState>,
}

/// Guarded by [`RemoteFile::state`].
#[derive(Debug)]
pub(super) struct RemoteState {
    pub(super) meta: Meta,
    pub(super) queue: Remote,
    /// Why the last value written to `config/` was refused.
    pub(super) refusal: Option<Box<str>>,
    receivers: Receivers,
    /// Requests that wait for the engine to say something of single messages.
    pub(super) asking: BTreeMap<WaitId, Asking>,
}

/// What a node stands for: the mailbox, or with a number of its own one of its doors. Each name and node has an `Inode`, so that there
/// it is in a box.
#[derive(Debug, Clone)]
pub(crate) struct RemoteNode {
    pub(super) file: Arc<RemoteFile>,
    pub(super) door: Option<DoorAt>,
}

/// A door, and its node.
#[derive(Debug, Clone)]
pub(super) struct DoorAt {
    /// `None`: `purge`.
    pub(super) door: Option<Door>,
    pub(super) ino: Ino,
    /// Its size is told as 0, for a writer that appends.
    pub(super) told_empty: bool,
    /// Who opened it last. The number may be another file's since.
    pub(super) opened: Arc<Mutex<Option<Fh>>>,
}

/// An open file.
#[derive(Debug)]
pub(crate) struct OpenRemote {
    file: Arc<RemoteFile>,
    id: HandleId,
    /// It has a position, within the message that it reads.
    pub(super) seekable: bool,
    /// What it has in hand are questions.
    serves: bool,
    opener: Caller,
    /// The node that is given back, and whether it was opened for writing.
    node: (NodeId, bool),
    /// No name led here, so the node is shared: a write that waited would keep it locked for all who come that way.
    never_waits: bool,
}

/// A tree that has such a file is not saved (`Tree::save`).
impl Saved for OpenRemote {
    fn save(&self, _: &mut Saver<'_>) {}

    fn restore(_: &mut Restorer<'_>) -> Option<OpenRemote> {
        None
    }
}

impl RemoteNode {
    /// A new mailbox. The engine is told of it if it was made `here`.
    pub(super) fn make(
        names: &mut Names,
        (folder, name): (Ino, &[u8]),
        (meta, described): (Meta, Described),
        here: bool,
        cx: &mut Cx<'_>,
    ) -> Result<RemoteNode, Error> {
        let path = path_in(names, folder, name)?;
        let remotes = &cx.tree.remotes;
        if here {
            remotes.check_reachable(described.uid)?;
        }
        let ino = Ino(names.fresh());
        let queue = Remote::new(ino, Arc::clone(&path), described.clone(), remotes.is_connected(), cx.now);
        let file = Arc::new(RemoteFile {
            ino,
            state: Mutex::new(RemoteState {
                meta,
                queue,
                refusal: None,
                receivers: Receivers::default(),
                asking: BTreeMap::new(),
            }),
        });
        remotes.files.lock().insert(ino, Arc::clone(&file));
        if here {
            tell(described.uid, Command::Describe(path, described), cx);
        }
        Ok(RemoteNode { file, door: None })
    }
}

/// Tells the engine of a change that all hosts shall know, of something that `uid` owns.
pub(super) fn tell(uid: u32, change: Command, cx: &mut Cx<'_>) {
    *cx.tree.remotes.untold.lock().entry(uid).or_default() += 1;
    cx.fx.push(Effect::Engine(Box::new(change)));
}

/// The path below `mailboxes/` of a name in a folder.
pub(super) fn path_in(names: &Names, folder: Ino, name: &[u8]) -> Result<Path, Error> {
    let mut path = names.path_of(folder);
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    if path.len() > PATH_MAX { Err(Error::NameTooLong) } else { Ok(Path::from(path)) }
}

impl RemoteFile {
    pub(super) fn with<T>(
        &self,
        cx: &mut Cx<'_>,
        work: impl FnOnce(&mut RemoteState, &mut Context<'_>) -> T,
    ) -> T {
        let mut state = self.state.lock();
        work(&mut state, &mut cx.domain())
    }

    /// As [`RemoteFile::with`], for a call that may have to wait.
    pub(super) fn with_waiting(
        self: &Arc<Self>,
        header: Header,
        cx: &mut Cx<'_>,
        work: impl FnOnce(&mut RemoteState, &mut Context<'_>) -> Option<WaitId>,
    ) {
        let waits = &cx.tree.waits;
        self.with(cx, |state, cx| {
            let Some(id) = work(state, cx) else { return };
            cx.fx.note_waiting();
            let node = RemoteNode { file: Arc::clone(self), door: None };
            if !waits.insert(header.unique(), Wait::File(Inode::Remote(Box::new(node)), id), cx.now.moment) {
                state.cancel(id, Error::Ending, cx);
            }
        });
    }

    /// Has a request wait for the engine's answer.
    pub(super) fn ask(
        self: &Arc<Self>,
        header: Header,
        about: What,
        what: Asked,
        cx: &mut Cx<'_>,
    ) -> Result<(), Error> {
        if !cx.tree.remotes.is_connected() {
            return Err(Error::Unreachable);
        }
        let mut result = Ok(());
        self.with_waiting(header, cx, |state, cx| {
            if state.queue.is_removed() {
                result = Err(Error::NotFound);
                return None;
            }
            let id = state.queue.next_wait();
            state.asking.insert(id, Asking { header, about });
            let (mailbox, path) = (self.ino, Arc::clone(state.queue.path()));
            let ask = Ask { mailbox, path, wait: id.0, what };
            cx.fx.push(Effect::Engine(Box::new(Command::Ask(ask))));
            Some(id)
        });
        result
    }

    /// Its name is gone.
    pub(super) fn end(&self, cx: &mut Cx<'_>) {
        cx.tree.remotes.files.lock().remove(&self.ino);
        self.with(cx, |state, cx| {
            state.meta.ctime = cx.now.time();
            for (_, asking) in std::mem::take(&mut state.asking) {
                cx.fx.fail(asking.request_id(), Error::NotFound);
            }
            state.queue.remove(cx);
        });
    }
}

impl RemoteState {
    /// Ends a wait, if it is not over.
    fn cancel(&mut self, wait: WaitId, error: Error, cx: &mut Context<'_>) {
        match self.asking.remove(&wait) {
            Some(asking) => cx.fx.fail(asking.request_id(), error),
            None => self.queue.cancel(wait, error, cx),
        }
    }

    fn attr(&self, ino: Ino) -> Attr {
        let msgsize = self.queue.described().limits.msgsize;
        Attr {
            // As a local mailbox's.
            size: u64::from(msgsize),
            atime: self.queue.last_received,
            mtime: self.queue.last_sent,
            nlink: u32::from(!self.queue.is_removed()),
            blksize: (msgsize + 1).next_power_of_two(),
            ..self.meta.attr(ino, REGULAR)
        }
    }

    /// It is to be as `told`. Returns what all hosts shall know, if that has changed.
    pub(super) fn change(&mut self, told: Described) -> Option<(u32, Command)> {
        let Meta { uid, gid, mode, .. } = self.meta;
        let told = Described { uid, gid, mode, ..told };
        if told == *self.queue.described() {
            return None;
        }
        self.queue.describe(told.clone());
        Some((uid, Command::Describe(Arc::clone(self.queue.path()), told)))
    }
}

impl RemoteNode {
    /// Whether this thread may remove it, or would lose messages by accident.
    ///
    /// # Errors
    /// `Busy`.
    pub(super) fn check_removal(&self, pid: u32, now: Moment) -> Result<(), Error> {
        let state = self.file.state.lock();
        let would_lose = state.queue.waiting() > 0 && state.receivers.have(pid, now);
        if would_lose { Err(Error::Busy) } else { Ok(()) }
    }
}

impl InodeOps for RemoteNode {
    fn ino(&self) -> Ino {
        self.door.as_ref().map_or(self.file.ino, |at| at.ino)
    }

    fn attr(&self, node: NodeId, cx: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        let told_empty = match &self.door {
            Some(at) => at.told_empty,
            None => cx.tree.names.lock().nodes.is_told_empty(node),
        };
        Ok((self.attr_now(told_empty), Validity::None))
    }

    fn entry(&self, names: &mut Names, caller: Caller, cx: &mut Cx<'_>) -> Result<Entry, Error> {
        let fresh = NodeId(names.fresh());
        let inode = Inode::Remote(Box::new(self.clone()));
        let node = names.nodes.look_up_mailbox(&inode, caller.pid, cx.now.moment, || fresh);
        let attr = self.attr_now(names.nodes.is_told_empty(node));
        Ok(Entry { node, attr, validity: Validity::None })
    }

    fn set_attr(&self, header: Header, set: &SetAttr, cx: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        if self.door.is_some() {
            set_size_only(set)?;
            return self.attr(header.node, cx);
        }
        if set.mode.is_some() || set.is_chown() {
            cx.tree.remotes.check_reachable(header.caller.uid)?;
        }
        let change = self.file.with(cx, |state, cx| {
            let RemoteState { meta, queue, .. } = state;
            (meta.atime, meta.mtime) = (queue.last_received, queue.last_sent);
            meta.set(set, false, cx.now.time());
            (queue.last_received, queue.last_sent) = (meta.atime, meta.mtime);
            let told = state.queue.described().clone();
            state.change(told)
        });
        if let Some((uid, change)) = change {
            tell(uid, change, cx);
        }
        self.attr(header.node, cx)
    }

    /// Extended attributes of a door are those of the message in hand.
    fn read_meta(&self, look: &mut dyn FnMut(&Meta), cx: &mut Cx<'_>) -> Result<(), Error> {
        let Some(at) = &self.door else { return self.with_meta(&mut |meta| look(meta), cx) };
        let fh = *at.opened.lock();
        let file = fh.and_then(|fh| cx.tree.handles.get(fh).ok());
        let in_hand = match file.as_deref() {
            Some(OpenFile::Remote(open)) if Arc::ptr_eq(&open.file, &self.file) => open.in_hand(),
            _ => None,
        };
        look(&in_hand.unwrap_or_else(|| Meta::new(0, 0, 0, cx.now.time())));
        Ok(())
    }

    fn with_meta(&self, work: &mut dyn FnMut(&mut Meta), cx: &mut Cx<'_>) -> Result<(), Error> {
        if self.door.is_some() {
            return Err(Error::NotSupported);
        }
        self.file.with(cx, |state, _| work(&mut state.meta));
        Ok(())
    }

    fn open(
        &self,
        header: Header,
        flags: OpenFlags,
        mut names: MutexGuard<'_, Names>,
        cx: &mut Cx<'_>,
    ) -> Result<Opened, Error> {
        let leads = self.door.as_ref().and_then(|at| at.door.as_ref());
        let (reads, writes) = leads.map_or((true, true), Door::ways);
        if (flags.read && !reads) || (flags.write && !writes) {
            return Err(Error::AccessDenied);
        }
        // The servers cannot choose.
        if flags.read && matches!(leads, Some(Door::Tag(_))) {
            return Err(Error::NotSupported);
        }
        check_receives(flags)?;
        let pid = header.caller.pid;
        let node = (header.node, flags.write);
        let opening = match &self.door {
            Some(at) => open_once_sized(&mut names, (header, flags), true, at.told_empty, cx),
            None => open_sized(&mut names, header, flags, cx),
        };
        let never_waits = opening? == Opening::Nameless;
        drop(names);
        let account = cx.opener(header.caller);
        if let Some(DoorAt { door: None, .. }) = &self.door {
            let open = OpenFile::purge_shared(&self.file, node);
            return Ok(Opened { fh: cx.opened(open), how: OpenAs::Stream });
        }
        let door = leads.unwrap_or(&Door::Plain);
        let (id, seekable) = self.file.with(cx, |state, cx| {
            if self.door.is_none() && !flags.write {
                state.receivers.note(pid, cx.now.moment);
            }
            state.queue.open(mode_of(flags), door, account)
        });
        let how = if seekable { OpenAs::Message } else { OpenAs::Stream };
        let (file, opener) = (Arc::clone(&self.file), header.caller);
        let serves = *door == Door::Serve;
        let open = OpenRemote { file, id, seekable, serves, opener, node, never_waits };
        let fh = cx.opened(OpenFile::Remote(open));
        if let Some(at) = &self.door {
            *at.opened.lock() = Some(fh);
        }
        Ok(Opened { fh, how })
    }

    fn unlinked(&self, cx: &mut Cx<'_>) {
        let (path, told) = {
            let state = self.file.state.lock();
            (Arc::clone(state.queue.path()), state.queue.described().clone())
        };
        self.file.end(cx);
        tell(told.uid, Command::Remove(path, told), cx);
    }

    fn cancel(&self, wait: WaitId, error: Error, cx: &mut Cx<'_>) {
        self.file.with(cx, |state, cx| state.cancel(wait, error, cx));
    }

    fn control(&self) -> Option<&dyn ControlOps> {
        Some(self)
    }
}

impl RemoteNode {
    pub(super) fn attr_now(&self, told_empty: bool) -> Attr {
        let attr = self.file.state.lock().attr(self.ino());
        let (receive, send) = (attr.mode & 0o444, attr.mode & 0o222);
        let mode = match self.door.as_ref().map(|at| &at.door) {
            None => return sized(attr, told_empty),
            // Whoever may receive settles what it received.
            Some(Some(Door::Lease | Door::Serve)) => receive | receive >> 1,
            // Whoever may send reads the reply.
            Some(Some(Door::Rpc)) => send | send << 1,
            // As for `rm` in `messages/`.
            Some(None) => (receive & send << 1) | (send & receive >> 1),
            Some(Some(door)) => match door.ways() {
                (true, true) => receive | send,
                (true, false) => receive,
                (false, _) => send,
            },
        };
        sized(Attr { mode: REGULAR | mode, ..attr }, told_empty)
    }
}

impl OpenRemote {
    /// The message that it has leased, as extended attributes.
    fn in_hand(&self) -> Option<Meta> {
        let state = self.file.state.lock();
        // A question does not expire.
        let ttl = if self.serves { NO_LIMIT } else { state.queue.described().ttl };
        state.queue.in_hand(self.id).map(|(about, deliveries)| meta_of(about, Some(*deliveries), ttl))
    }

    /// POLL. `None`: the engine is asked first, whether there is a message.
    pub(super) fn poll_or_wait(&self, header: Header, arm: Option<Poller>, cx: &mut Cx<'_>) -> Option<Ready> {
        let mut ready = None;
        self.file.with_waiting(header, cx, |state, cx| {
            match state.queue.poll(self.id, header.request_id, arm, cx) {
                Ok(now) => {
                    ready = Some(now);
                    None
                }
                Err(wait) => Some(wait),
            }
        });
        ready
    }
}

impl FileOps for OpenRemote {
    fn read(&self, header: Header, call: Read, cx: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
        let call = receive(header, self.id, call);
        self.file.with_waiting(header, cx, |state, cx| state.queue.receive(call, cx));
        Ok(None)
    }

    fn write(&self, header: Header, call: Write<'_>, cx: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
        let call = Write { nonblock: call.nonblock || self.never_waits, ..call };
        let call = send(header, self.id, self.opener, call);
        self.file.with_waiting(header, cx, |state, cx| state.queue.send(call, cx));
        Ok(None)
    }

    fn close(&self, cx: &mut Cx<'_>) {
        self.file.with(cx, |state, cx| state.queue.close(self.id, cx));
        let (node, write) = self.node;
        cx.tree.names.lock().nodes.close(node, write);
    }
}
