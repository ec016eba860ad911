//! The kinds of files, one file a kind.
//!
//! A request reaches a kind through [`Inode`] (by node) or [`OpenFile`] (by open file), each of which has one `match`. The
//! verbs of a kind are those of [`InodeOps`] and [`FileOps`], in the order given there, as the kernel's own
//! `inode_operations` and `file_operations` have them. A verb that a kind does not have fails as the default says.

mod control;
mod control_file;
mod control_folder;
mod door;
mod doorbell;
mod durable;
mod file_handle;
mod folder;
mod folder_control;
mod jobs;
mod listing;
mod mailbox;
mod mailbox_control;
mod message;
mod purge;
mod remote;
mod remote_ask;
mod remote_control;
mod remote_events;
mod remote_message;
mod remote_names;
mod remote_purge;
mod segment;
mod segment_control;
mod segment_names;
mod segment_work;
mod symlink;
mod topic;
mod user;

use std::fmt::Debug;
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::Tree;
use super::names::meta::Meta;
use super::names::{self, Named, Namespace};
use super::waiting::work::JobId;
use crate::accounts::{Account, Charge, Resource};
use crate::mailbox::{Context, LongText, Mode, WaitId};
use crate::op::{
    Attr, Caller, Effects, Entry, Error, Fh, Ino, Listed, NodeId, Now, OpenFlags, Opened, Poller, Ready,
    RenameHow, Reply, RequestId, SetAttr, Slice, Validity, Whence,
};
use crate::segment::Memory;
use crate::state::{Restorer, Saved, Saver, saved};
use control_file::ControlFile;
use control_folder::ControlFolder;
use segment_work::SegmentJob;

pub(crate) use control::ControlNode;
pub(crate) use durable::restore;
pub(crate) use file_handle::find_again;
pub(crate) use folder::FolderInode;
use folder::dots;
pub(crate) use jobs::{allocate, poll, read, shrink, work};
use listing::{FIXED_COOKIES, OpenListing};
pub(crate) use mailbox::{MailboxFile, feed_starved, tick};
pub(crate) use remote::Remotes;
pub(crate) use remote_events::engine;
pub(crate) use remote_message::{Question, ask};
pub(crate) use segment::{SegmentFile, copy, sweep_orphans};
pub(crate) use segment_names::link;
pub(crate) use topic::TopicTotals;

/// All names of a mount.
pub(crate) type Names = names::Names<Inode>;

/// What a node of the kernel's stands for.
#[derive(Debug, Clone)]
pub(crate) enum Inode {
    Folder(FolderInode),
    Mailbox(Arc<MailboxFile>),
    Remote(Box<remote::RemoteNode>),
    RemoteMessage(Arc<remote_message::RemoteMessage>),
    Topic(Arc<topic::TopicFile>),
    Segment(Arc<SegmentFile>),
    Symlink(Arc<symlink::SymlinkFile>),
    Door(Arc<door::DoorNode>),
    Message(Arc<message::MessageNode>),
    Doorbell(Box<doorbell::Doorbell>),
    ControlFolder(Box<ControlFolder>),
    ControlFile(Box<ControlFile>),
    Users(Box<user::UsersFolder>),
    User(user::User),
}

impl Saved for Inode {
    fn save(&self, to: &mut Saver<'_>) {
        match self {
            Inode::Folder(folder) => (to.u8(0), folder.save(to)).1,
            Inode::Mailbox(file) => (to.u8(1), file.save(to)).1,
            Inode::Topic(file) => (to.u8(2), file.save(to)).1,
            Inode::Segment(file) => (to.u8(3), file.save(to)).1,
            Inode::Door(node) => (to.u8(4), node.save(to)).1,
            Inode::Message(node) => (to.u8(5), node.save(to)).1,
            Inode::Symlink(file) => (to.u8(6), file.save(to)).1,
            // Found anew each time, and kept nowhere.
            Inode::Doorbell(_)
            | Inode::ControlFolder(_)
            | Inode::ControlFile(_)
            | Inode::Users(_)
            | Inode::User(_)
            // A tree that has some is not saved.
            | Inode::Remote(_)
            | Inode::RemoteMessage(_) => to.u8(u8::MAX),
        }
    }

    fn restore(from: &mut Restorer<'_>) -> Option<Self> {
        Some(match from.u8()? {
            0 => Inode::Folder(Saved::restore(from)?),
            1 => Inode::Mailbox(Saved::restore(from)?),
            2 => Inode::Topic(Saved::restore(from)?),
            3 => Inode::Segment(Saved::restore(from)?),
            4 => Inode::Door(Saved::restore(from)?),
            5 => Inode::Message(Saved::restore(from)?),
            6 => Inode::Symlink(Saved::restore(from)?),
            _ => return None,
        })
    }
}

/// An open file: what it is open on, so that its reads and writes look up no name and no node.
#[derive(Debug)]
pub(crate) enum OpenFile {
    Mailbox(mailbox::OpenMailbox),
    Remote(remote::OpenRemote),
    RemoteMessage(remote_message::OpenRemoteMessage),
    RemotePurge(remote_purge::OpenRemotePurge),
    Topic(topic::OpenTopic),
    Segment(segment::OpenSegment),
    Message(message::OpenMessage),
    Doorbell(doorbell::OpenDoorbell),
    Purge(purge::OpenPurge),
    Control(control_file::OpenControl),
    Listing(OpenListing),
}

saved!(enum OpenFile {
    0 = Mailbox(it), 1 = Topic(it), 2 = Segment(it), 3 = Message(it), 4 = Doorbell(it), 5 = Control(it), 6
    = Listing(it), 7 = Purge(it), 8 = Remote(it), 9 = RemoteMessage(it), 10 = RemotePurge(it),
});

/// What every verb works with.
pub(crate) struct Cx<'a> {
    pub(crate) tree: &'a Tree,
    pub(crate) now: Now,
    pub(crate) fx: &'a mut Effects,
    /// For the file that the request opens, until it is open.
    opening: Option<Charge>,
}

/// The header of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) request_id: RequestId,
    pub(crate) node: NodeId,
    pub(crate) caller: Caller,
}

saved!(struct Header { request_id, node, caller });

/// READ's arguments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read {
    pub(crate) offset: u64,
    /// In bytes.
    pub(crate) size: u32,
    pub(crate) nonblock: bool,
    /// False when the page cache asks, on behalf of splice(2), sendfile(2) or a private mapping.
    pub(crate) direct: bool,
}

saved!(struct Read { offset, size, nonblock, direct });

/// WRITE's arguments.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools)]
pub(crate) struct Write<'a> {
    pub(crate) offset: u64,
    pub(crate) data: &'a [u8],
    pub(crate) nonblock: bool,
    /// The descriptor is `O_APPEND`, so that the offset means nothing.
    pub(crate) append: bool,
    /// Dirty pages come back.
    pub(crate) page_cache: bool,
    pub(crate) kill_suid: bool,
}

/// What may be done to a file by its node.
pub(crate) trait InodeOps {
    /// `st_ino`, the same for all nodes of a file.
    fn ino(&self) -> Ino;

    /// GETATTR by `node`.
    fn attr(&self, node: NodeId, cx: &mut Cx<'_>) -> Result<(Attr, Validity), Error>;

    /// LOOKUP has found it: the node to answer with, and its attributes. The default is for kinds with one node, which has
    /// the number of the inode and is not kept.
    fn entry(&self, _names: &mut Names, _caller: Caller, cx: &mut Cx<'_>) -> Result<Entry, Error> {
        let node = NodeId(self.ino().0);
        let (attr, validity) = self.attr(node, cx)?;
        Ok(Entry { node, attr, validity })
    }

    /// SETATTR. The kernel has checked who may.
    fn set_attr(&self, header: Header, set: &SetAttr, cx: &mut Cx<'_>) -> Result<(Attr, Validity), Error>;

    /// Works on owner, mode and extended attributes.
    fn with_meta(&self, _work: &mut dyn FnMut(&mut Meta), _cx: &mut Cx<'_>) -> Result<(), Error> {
        Err(Error::NotSupported)
    }

    /// As [`InodeOps::with_meta`], for a look.
    fn read_meta(&self, look: &mut dyn FnMut(&Meta), cx: &mut Cx<'_>) -> Result<(), Error> {
        self.with_meta(&mut |meta| look(meta), cx)
    }

    /// Whether the caller may set and remove extended attributes, beyond what the kernel checks.
    fn check_set_xattr(&self, _caller: Caller, _cx: &mut Cx<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// LOOKUP of a name in it.
    fn look_up(&self, _header: Header, _name: &[u8], _cx: &mut Cx<'_>) -> Result<Entry, Error> {
        Err(Error::NotFolder)
    }

    /// OPENDIR.
    fn open_folder(&self) -> Result<(), Error> {
        Err(Error::NotFolder)
    }

    /// READDIR: the names after the one with the cookie `after`, `most` or a few more.
    fn list(&self, _after: u64, _most: usize, _cx: &mut Cx<'_>) -> Result<Vec<Listed>, Error> {
        Err(Error::NotFolder)
    }

    /// MKNOD of a plain file in it; and CREATE, which opens it as well.
    fn make_file(
        &self,
        _header: Header,
        _name: &[u8],
        _mode: u32,
        _open: Option<OpenFlags>,
        _cx: &mut Cx<'_>,
    ) -> Result<(Entry, Option<Opened>), Error> {
        Err(Error::NotPermitted)
    }

    /// TMPFILE in it.
    fn make_nameless(
        &self,
        _: Header,
        _mode: u32,
        _open: OpenFlags,
        _: &mut Cx<'_>,
    ) -> Result<(Entry, Opened), Error> {
        Err(Error::NotSupported)
    }

    /// MKDIR in it.
    fn make_folder(&self, _: Header, _name: &[u8], _mode: u32, _: &mut Cx<'_>) -> Result<Entry, Error> {
        Err(Error::NotPermitted)
    }

    /// SYMLINK in it.
    fn make_symlink(&self, _: Header, _name: &[u8], _target: &[u8], _: &mut Cx<'_>) -> Result<Entry, Error> {
        Err(Error::NotPermitted)
    }

    /// READLINK.
    fn target(&self, _: Caller, _: &mut Cx<'_>) -> Result<Arc<[u8]>, Error> {
        Err(Error::Invalid)
    }

    /// UNLINK in it, or RMDIR.
    fn unlink(&self, _header: Header, _name: &[u8], _folder: bool, _cx: &mut Cx<'_>) -> Result<(), Error> {
        Err(Error::NotPermitted)
    }

    /// The cookie that the next name in it would get. `None`: what it lists does not change while it is listed.
    fn next_cookie(&self, _cx: &Cx<'_>) -> Option<u64> {
        None
    }

    /// OPEN. The names are locked, for kinds that claim the node.
    fn open(
        &self,
        header: Header,
        flags: OpenFlags,
        names: MutexGuard<'_, Names>,
        cx: &mut Cx<'_>,
    ) -> Result<Opened, Error>;

    /// Its name has changed: it is in this folder now, under this name.
    fn renamed(&self, _names: &Names, _home: (Ino, &[u8]), _cx: &mut Cx<'_>) {}

    /// Its name is gone.
    fn unlinked(&self, _cx: &mut Cx<'_>) {}

    /// The kernel has forgotten its last node.
    fn forgotten(&self, _names: &mut Names, _cx: &mut Cx<'_>) {}

    /// Ends one wait, if it is not over.
    fn cancel(&self, _wait: WaitId, _error: Error, _cx: &mut Cx<'_>) {}

    /// What `control/` shows of it.
    fn control(&self) -> Option<&dyn ControlOps> {
        None
    }
}

/// What may be done to an open file.
pub(crate) trait FileOps {
    /// READ. `None`: answered among the effects, waiting, or postponed.
    fn read(&self, header: Header, call: Read, cx: &mut Cx<'_>) -> Result<Option<Reply>, Error>;

    /// WRITE. `None`: answered among the effects, or waiting.
    fn write(&self, _header: Header, _call: Write<'_>, _cx: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
        Err(Error::BadDescriptor)
    }

    /// POLL. The next change that it waits for wakes the poller `arm`.
    fn poll(&self, _arm: Option<Poller>, _cx: &mut Cx<'_>) -> Ready {
        Ready { readable: true, writable: true, hangup: false }
    }

    /// FALLOCATE, if it is short.
    fn allocate(&self, _offset: u64, _length: u64, _mode: u32, _cx: &mut Cx<'_>) -> Result<(), Error> {
        Err(Error::NotSupported)
    }

    /// LSEEK for data or a hole.
    fn seek(&self, _offset: u64, _whence: Whence, _cx: &mut Cx<'_>) -> Result<u64, Error> {
        Err(Error::Invalid)
    }

    /// RELEASE.
    fn close(&self, _cx: &mut Cx<'_>) {}

    /// The node by which it is open, if others notice when it is closed.
    fn node(&self) -> Option<NodeId> {
        None
    }
}

/// What `control/` shows of a file that has a name.
pub(crate) trait ControlOps {
    /// Owner, mode and times, with the number of the file.
    fn owner(&self, names: &Names) -> Result<Attr, Error>;

    /// Permissions of one of its folders there, by those of the file. `None`: it has no such folder.
    fn folder_mode(&self, slot: control::Slot, file: u32) -> Option<u32>;

    /// Its files of text: `config/` and those beside it. The index of each is its slot.
    fn files(&self) -> Vec<control::TextFile>;

    /// Folders and doors beside those.
    fn others(&self) -> Vec<control::Other> {
        Vec::new()
    }

    /// One of [`ControlOps::others`] that is neither a folder of `control/` nor has a node for each look-up.
    fn node(&self, _place: ControlNode) -> Result<Inode, Error> {
        Err(Error::NotFound)
    }

    /// LOOKUP of a name that has a node for each look-up. `None`: there is no such name.
    fn look_up(&self, _: Header, _: ControlNode, _: &[u8], _: &mut Cx<'_>) -> Result<Option<Entry>, Error> {
        Ok(None)
    }

    /// READDIR of a folder that is neither the first nor `config/`.
    fn list(&self, _slot: control::Slot, _after: u64, _most: usize) -> Vec<Listed> {
        Vec::new()
    }

    /// How many lines `status` has for callers and open files, at most.
    fn status_lines(&self) -> u64 {
        0
    }

    /// The text of a file, for whoever opened it.
    fn show(&self, index: usize, reader: Caller, cx: &mut Cx<'_>) -> Result<Vec<u8>, Error>;

    /// A value was written to a file.
    fn store(&self, _index: usize, _: &[u8], _: Caller, _: &mut Cx<'_>) -> Result<(), Error> {
        Err(Error::AccessDenied)
    }
}

/// Where a request waits.
#[derive(Debug, Clone)]
pub(crate) enum Wait {
    /// For a message, or for room, at a file.
    File(Inode, WaitId),
    /// For a lock.
    Lock(crate::locks::WaitId),
    /// For work that takes long.
    Job(JobId),
}

saved!(enum Wait { 0 = File(inode, id), 1 = Lock(id), 2 = Job(id) });

/// Work that takes long.
#[derive(Debug)]
pub(crate) enum Job {
    Segment(SegmentJob),
    /// Does what a reader or poller needs first, if anything, and then what it asked.
    Select(Arc<OpenFile>, Header, Selecting),
    /// Sends what was written through `whole`.
    Send(Arc<MailboxFile>, Box<LongText>),
    /// Removes messages of a mailbox by what they are.
    Purge(Box<purge::PurgeJob>),
    /// Gives messages to readers who are many.
    Readers(Broadcaster),
    /// Frees what was queued in a mailbox that was removed.
    Discard(Arc<MailboxFile>),
    /// Has the kernel forget nodes that this user's look-ups have made.
    Prune(u32),
    /// Cuts memory that nobody uses any more, from `at` down.
    Free {
        memory: Arc<dyn Memory>,
        at: u64,
    },
}

saved!(enum Job {
    0 = Segment(job), 1 = Select(file, header, what), 2 = Send(file, text), 3 = Readers(of), 4 =
    Discard(file), 5 = Free { memory, at }, 6 = Purge(job), 7 = Prune(uid),
});

/// What has readers who each get a copy.
#[derive(Debug)]
pub(crate) enum Broadcaster {
    Topic(Arc<topic::TopicFile>),
    /// Its doorbell.
    Segment(Arc<SegmentFile>),
}

saved!(enum Broadcaster { 0 = Topic(it), 1 = Segment(it) });

/// What may take long: to make an index first, to expire many messages, or to make a text of many lines.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Selecting {
    Read(Read),
    /// The next change that it waits for wakes this poller.
    Poll(Option<Poller>),
}

saved!(enum Selecting { 0 = Read(it), 1 = Poll(it) });

/// Bytes of memory that one step frees.
const FREE_STEP: u64 = 16 << 20;

/// What became of a job.
pub(crate) enum Step {
    /// Its next step is the others' turn first.
    More(Job),
    /// Its next step comes before all others: it frees memory.
    First(Job),
    /// The request with this number may wait elsewhere now.
    Waits(u64),
    Done,
}

impl Inode {
    /// What `node` stands for.
    pub(crate) fn of_node(node: NodeId, names: &Names) -> Result<Inode, Error> {
        match ControlNode::of(node) {
            Some(place) => Inode::at(place, names),
            None => names.nodes.object(node).cloned().ok_or(Error::Stale),
        }
    }

    /// What is at a place of `control/`, found anew each time.
    fn at(place: ControlNode, names: &Names) -> Result<Inode, Error> {
        if place == ControlNode::ROOT.with(user::SLOT) {
            return Ok(Inode::Users(Box::new(user::UsersFolder::new(names)?)));
        }
        let object = match (names.folder(place.object), user::User::of(place.object)) {
            (Some(folder), _) => Inode::of_folder(place.object, folder.namespace),
            (None, Some(user)) => Inode::User(user),
            (None, None) => names.link_of(place.object).ok_or(Error::NotFound)?.object.clone(),
        };
        let control = object.ops().control().ok_or(Error::NotFound)?;
        let owner = control.owner(names)?;
        if let control::Slot::File(index) = place.slot {
            let file = *control.files().get(index).ok_or(Error::NotFound)?;
            return Ok(Inode::ControlFile(Box::new(ControlFile::new(place, object, file, owner))));
        }
        match control.folder_mode(place.slot, owner.mode) {
            Some(mode) => Ok(Inode::ControlFolder(Box::new(ControlFolder::new(place, object, mode, owner)))),
            None => control.node(place),
        }
    }

    /// The one dispatch of what is done by node.
    pub(crate) fn ops(&self) -> &dyn InodeOps {
        match self {
            Inode::Folder(folder) => folder,
            Inode::Mailbox(file) => file,
            Inode::Remote(node) => &**node,
            Inode::RemoteMessage(node) => node,
            Inode::Topic(file) => file,
            Inode::Segment(file) => file,
            Inode::Symlink(file) => file,
            Inode::Door(node) => node,
            Inode::Message(node) => node,
            Inode::Doorbell(node) => &**node,
            Inode::ControlFolder(folder) => &**folder,
            Inode::ControlFile(file) => &**file,
            Inode::Users(folder) => &**folder,
            Inode::User(user) => user,
        }
    }
}

impl Named for Inode {
    fn of_folder(ino: Ino, namespace: Namespace) -> Inode {
        Inode::Folder(FolderInode { ino, namespace })
    }

    fn ino(&self) -> Ino {
        self.ops().ino()
    }

    fn folder(&self) -> Option<Ino> {
        if let Inode::Folder(folder) = self { Some(folder.ino) } else { None }
    }

    fn is_symlink(&self) -> bool {
        matches!(self, Inode::Symlink(_))
    }
}

impl OpenFile {
    /// The file `purge` of a mailbox that several hosts share.
    fn purge_shared(file: &Arc<remote::RemoteFile>, node: (NodeId, bool)) -> OpenFile {
        OpenFile::RemotePurge(remote_purge::OpenRemotePurge::new(file, node))
    }

    /// The one dispatch of what is done by open file.
    pub(crate) fn ops(&self) -> &dyn FileOps {
        match self {
            OpenFile::Mailbox(open) => open,
            OpenFile::Remote(open) => open,
            OpenFile::RemoteMessage(open) => open,
            OpenFile::RemotePurge(open) => open,
            OpenFile::Topic(open) => open,
            OpenFile::Segment(open) => open,
            OpenFile::Message(open) => open,
            OpenFile::Doorbell(open) => open,
            OpenFile::Purge(open) => open,
            OpenFile::Control(open) => open,
            OpenFile::Listing(open) => open,
        }
    }
}

impl<'a> Cx<'a> {
    pub(crate) fn new(tree: &'a Tree, now: Now, fx: &'a mut Effects) -> Cx<'a> {
        Cx { tree, now, fx, opening: None }
    }
}

impl Cx<'_> {
    /// Charges for a file that `caller` is about to open.
    pub(crate) fn charge_open(&mut self, caller: Caller) -> Result<(), Error> {
        let charge = self.tree.accounts.of(caller.uid).charge(Resource::Open, 1);
        self.opening = Some(charge.map_err(|_| Error::TooManyOpen)?);
        Ok(())
    }

    /// The account of the user who opens a file.
    fn opener(&self, caller: Caller) -> Arc<Account> {
        let opening = self.opening.as_ref().map(|charge| Arc::clone(charge.account()));
        opening.unwrap_or_else(|| self.tree.accounts.of(caller.uid))
    }

    /// A file is open.
    fn opened(&mut self, file: OpenFile) -> Fh {
        self.tree.handles.insert(file, self.opening.take())
    }

    /// A request waits for a job.
    fn wait_for(&mut self, header: Header, job: Job) {
        self.fx.note_waiting();
        self.tree.work.push(job, |id| {
            let may_wait = self.tree.waits.insert(header.unique(), Wait::Job(id), self.now.moment);
            if may_wait { Ok(()) } else { Err(Error::Ending) }
        });
    }

    /// As the domain knows it.
    pub(crate) fn domain(&mut self) -> Context<'_> {
        Context { now: self.now, memory: &self.tree.memory, fx: self.fx }
    }
}

impl Header {
    /// The request's number.
    pub(crate) fn unique(&self) -> u64 {
        self.request_id.unique
    }
}

/// LOOKUP has found a place of `control/`.
fn control_entry(place: ControlNode, caller: Caller, cx: &mut Cx<'_>) -> Result<Entry, Error> {
    let mut names = cx.tree.names.lock();
    Inode::at(place, &names)?.ops().entry(&mut names, caller, cx)
}

/// Cuts memory of `length` that nobody uses any more.
fn free(memory: Arc<dyn Memory>, length: u64, tree: &Tree) {
    if length > FREE_STEP {
        tree.work.push_first(Job::Free { memory, at: length });
    } else {
        // If truncating fails, the memory is freed with the last reference to it.
        let _ = memory.set_len(0);
    }
}

/// RENAME, which concerns two folders. `None`: it waits.
pub(crate) fn rename(
    header: Header,
    name: &[u8],
    to: (NodeId, &[u8]),
    how: RenameHow,
    cx: &mut Cx<'_>,
) -> Result<Option<Reply>, Error> {
    let names = cx.tree.names.lock();
    let from = (header.node, name);
    match (Inode::of_node(from.0, &names)?, Inode::of_node(to.0, &names)?) {
        (Inode::Folder(source), Inode::Folder(target)) => {
            folder::rename(header.caller, (source.ino, from.1), (target.ino, to.1), how, names, cx)?;
        }
        (Inode::ControlFolder(_), Inode::ControlFolder(_)) if how == RenameHow::Exchange => {
            return Err(Error::Invalid);
        }
        (Inode::ControlFolder(source), Inode::ControlFolder(target)) => {
            drop(names);
            if remote_message::rename(header, (&source, from.1), (&target, to.1), cx)? {
                return Ok(None);
            }
            message::rename((source.messages_of()?, from.1), (target.messages_of()?, to.1), cx)?;
        }
        _ => return Err(Error::NotPermitted),
    }
    Ok(Some(Reply::Done))
}

/// Part of a text that is shown as it was when reading began.
fn part_of(bytes: &Arc<[u8]>, call: Read) -> Reply {
    let from = usize::try_from(call.offset).unwrap_or(usize::MAX).min(bytes.len());
    let to = from.saturating_add(call.size as usize).min(bytes.len());
    Reply::Text(Slice { bytes: Arc::clone(bytes), from, to })
}

fn mode_of(flags: OpenFlags) -> Mode {
    match (flags.read, flags.write) {
        (true, true) => Mode::Both,
        (false, true) => Mode::Send,
        _ => Mode::Receive,
    }
}

/// SETATTR of a file that has no attributes of its own. A size is accepted and means nothing, as `echo >` sets one; the
/// rest belongs to the file that it is a view of.
fn set_size_only(set: &SetAttr) -> Result<(), Error> {
    if set.mode.is_some() || set.uid.is_some() || set.gid.is_some() {
        return Err(Error::NotPermitted);
    }
    Ok(())
}
