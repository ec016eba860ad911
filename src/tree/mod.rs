//! The mount's tree: which file a request concerns, and what becomes of it.
//!
//! [`Tree::handle`] is the one way in. It finds the file by node or by open file and calls the verb of its kind. The kind
//! takes the file's lock, lets `mailbox`, `topic`, `segment`, `locks` or `control` decide, and leaves answers and
//! wake-ups in [`Effects`]. Nothing here blocks.
//!
//! Three folders, which import in one direction: `kinds` → `waiting` → `names`.
//!
//! Locks, outermost first; a thread takes them in this order and holds at most one of the second row
//! (two mailboxes, that with the lower number first, where a message moves from one to the other):
//!
//! ```text
//! names | reading of totals   folders, names, nodes
//! a mailbox | a topic | a segment | locks | handles
//! starved | totals | alarms | orphans | work | ring reads
//! waits
//! ```

mod kinds;
mod metrics;
mod names;
mod saved;
mod status;
#[cfg(test)]
mod tests;
mod waiting;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use crate::accounts::{Accounts, Resource};
use crate::config::{Limits, MAX_LOCKS, MAX_OPEN, MAX_TEXTS, MIN_MEMORY};
use crate::engine::Event;
use crate::journal::{Journal, Recovered};
use crate::locks::Locks;
use crate::mailbox::Memory;
use crate::op::{
    Effect, Effects, Error, Fh, FileTime, Ino, LockCall, Moment, NodeId, Now, Op, Reply, Request, RequestId,
    Slice, Space,
};
use crate::segment;
use kinds::{
    ControlNode, Cx, Header, Inode, Job, MailboxFile, Names, OpenFile, Question, Read, Remotes, SegmentFile,
    TopicTotals,
};
use kinds::{Wait, Write};
use names::handles::Handles;
use names::meta::Meta;
use names::{Defaults, Named as _};
use waiting::alarms::Alarms;
use waiting::index::WaitIndex;
use waiting::orphans::Orphans;
use waiting::ring_reads::RingReads;
use waiting::starved::Starved;
use waiting::totals::Totals;
use waiting::work::Work;

/// Makes the memory of a new segment.
pub type MakeMemory = Arc<dyn Fn() -> Result<Arc<dyn segment::Memory>, Error> + Send + Sync>;

/// The kernel's table of backing files, for segments in passthrough.
pub trait Backing: Send + Sync + fmt::Debug {
    /// Registers a file; the number is good until it is closed.
    fn open(&self, memory: BorrowedFd<'_>) -> Result<u32, Error>;
    /// Takes a number back.
    fn close(&self, id: u32);
}

/// How the threads that serve are scheduled.
pub trait Scheduling: Send + Sync + fmt::Debug {
    /// The policy and the reason for it, for `control/status`: `idle: …`, `normal: …` or `mixed: …`.
    fn describe(&self) -> &'static str;
}

/// Whether the mount goes on if its daemon is killed.
pub trait Restart: Send + Sync + fmt::Debug {
    /// `on`, or `off: ` and the reason, for `control/status`.
    fn describe(&self) -> &'static str;
}

/// It does not, for this reason.
impl Restart for &'static str {
    fn describe(&self) -> &'static str {
        self
    }
}

/// What a tree is made with.
#[derive(Debug)]
pub struct Setup {
    /// The mount's bounds.
    pub limits: Limits,
    /// The longest message the kernel hands over in one piece, in bytes.
    pub ceiling: u32,
    /// Who mounts, and owns what is there from the start.
    pub uid: u32,
    /// The mounting user's group.
    pub gid: u32,
    /// Everyone may create mailboxes and segments.
    pub shared: bool,
    /// Passthrough, where segments use it.
    pub backing: Option<Box<dyn Backing>>,
    /// How requests come, for `control/status`: `dev` or `uring`.
    pub transport: &'static str,
    /// How threads are scheduled, for `control/status`; `None` over `/dev/fuse`, where it does not matter.
    pub scheduling: Option<Arc<dyn Scheduling>>,
    /// Whether the daemon can be killed, for `control/status`; `None` if nobody asked for it.
    pub restart: Option<Arc<dyn Restart>>,
    /// Threads that serve, for `control/status`.
    pub threads: usize,
    /// Descriptors that segments may have.
    pub descriptors: u64,
    /// Process id of the daemon, for `control/status`.
    pub pid: u32,
    /// Where durable mailboxes are kept; `None` without a store.
    pub journal: Option<Arc<Journal>>,
    /// An engine carries mailboxes of several hosts.
    pub engine: bool,
}

/// Everything below the mount point.
pub struct Tree {
    setup: Arc<Setup>,
    started: Moment,
    names: Mutex<Names>,
    handles: Handles<OpenFile>,
    locks: Mutex<Locks>,
    waits: WaitIndex<Wait>,
    memory: Memory,
    accounts: Arc<Accounts>,
    make_memory: MakeMemory,
    starved: Starved<MailboxFile>,
    totals: Totals<MailboxFile>,
    topic_totals: TopicTotals,
    remotes: Remotes,
    alarms: Alarms<MailboxFile>,
    orphans: Orphans<SegmentFile>,
    work: Work<Job>,
    ring_reads: RingReads,
    /// Messages that went with their mailbox.
    discarded: AtomicU64,
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("setup", &self.setup).finish_non_exhaustive()
    }
}

/// The least that a name takes in a listing of the kernel's: a listing of n bytes holds no more than n/24 names.
const LEAST_LISTED: usize = 24;

impl Tree {
    /// A tree with nothing in it but its folders.
    pub fn new(setup: Setup, make_memory: MakeMemory, now: Now) -> Tree {
        let meta = Meta::new(0o755, setup.uid, setup.gid, now.time());
        let mut defaults = Defaults { limits: setup.limits.mailbox, ..Defaults::default() };
        defaults.limits.msgsize = defaults.limits.msgsize.min(setup.ceiling);
        let accounts = Arc::new(accounts(&setup));
        let shared_mode = if setup.shared { 0o777 } else { 0o755 };
        Tree {
            started: now.moment,
            names: Mutex::new(Names::new(&meta, shared_mode, defaults)),
            handles: Handles::default(),
            locks: Mutex::default(),
            waits: WaitIndex::default(),
            memory: Memory::new(Arc::clone(&accounts)),
            accounts,
            make_memory,
            starved: Starved::default(),
            totals: Totals::default(),
            topic_totals: TopicTotals::default(),
            remotes: Remotes::default(),
            alarms: Alarms::default(),
            orphans: Orphans::default(),
            work: Work::default(),
            ring_reads: RingReads::default(),
            discarded: AtomicU64::new(0),
            setup: Arc::new(setup),
        }
    }

    /// Makes everything again that the store has. To be called before the first request.
    pub fn restore(&self, recovered: Vec<Recovered>, now: Now) {
        let mut fx = Effects::new();
        if let Some(journal) = &self.setup.journal {
            kinds::restore(recovered, journal, &mut Cx::new(self, now, &mut fx));
        }
    }

    /// Does what `request` asks. Its answer is among the effects, unless its caller has to wait (or it is one that has
    /// none, FORGET and INTERRUPT); so are the answers to those whose wait it ended.
    pub fn handle(&self, request: &Request<'_>, now: Now, fx: &mut Effects) {
        let request_id = request.request_id;
        match self.answer(request, &mut Cx::new(self, now, fx)) {
            Ok(Some(reply)) => fx.reply(request_id, reply),
            Ok(None) => {}
            Err(error) => fx.fail(request_id, error),
        }
        self.settle(Some(request_id), now, fx);
    }

    /// Ends the wait of one request, if it waits.
    pub fn cancel_wait(&self, unique: u64, error: Error, now: Now, fx: &mut Effects) {
        if let Some(wait) = self.waits.find(unique) {
            cancel(&wait, error, &mut Cx::new(self, now, fx));
        }
        self.settle(None, now, fx);
    }

    /// Ends the waits that began at `limit` or before, with [`Error::Interrupted`].
    pub fn expire(&self, limit: Moment, now: Now, fx: &mut Effects) {
        for wait in self.waits.since(limit) {
            cancel(&wait, Error::Interrupted, &mut Cx::new(self, now, fx));
        }
        self.settle(None, now, fx);
    }

    /// The mount ends: everyone who waits is told so, and nobody waits any more.
    pub fn end(&self, now: Now, fx: &mut Effects) {
        for wait in self.waits.close() {
            cancel(&wait, Error::Ending, &mut Cx::new(self, now, fx));
        }
        self.settle(None, now, fx);
    }

    /// It is `now`: some of what is due by that is done. If there is more, the clock is told to call at once.
    pub fn tick(&self, now: Now, fx: &mut Effects) {
        self.alarms.called();
        kinds::tick(&mut Cx::new(self, now, fx));
        self.alarms.tell(fx);
        if self.orphans.due(now.moment, fx) {
            kinds::sweep_orphans(&mut Cx::new(self, now, fx));
        }
        self.settle(None, now, fx);
    }

    /// Takes in what the engine reports.
    pub fn engine(&self, event: Event, now: Now, fx: &mut Effects) {
        kinds::engine(event, &mut Cx::new(self, now, fx));
        self.settle(None, now, fx);
    }

    /// Takes one short step of the work that takes long. False if there is nothing to do.
    pub fn work(&self, now: Now, fx: &mut Effects) -> bool {
        let any = kinds::work(&mut Cx::new(self, now, fx));
        self.settle(None, now, fx);
        any
    }

    /// The numbers of the requests that wait.
    pub fn waiting(&self) -> Vec<u64> {
        self.waits.uniques()
    }

    /// There is work that takes long.
    pub fn has_work(&self) -> bool {
        self.work.is_any()
    }

    /// `Ok(None)`: it is answered already, or waits, or has no answer.
    fn answer(&self, request: &Request<'_>, cx: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
        let Request { request_id, node, caller, .. } = *request;
        let header = Header { request_id, node, caller };
        let reply = match &request.op {
            Op::Lookup { name: b"." } => Reply::Entry(kinds::find_again(header, false, cx)?),
            Op::Lookup { name: b".." } => Reply::Entry(kinds::find_again(header, true, cx)?),
            Op::Lookup { name } => {
                names::check_name(name)?;
                let inode = self.inode(node)?;
                if kinds::ask(header, &inode, Question::LookUp(name), cx)? {
                    return Ok(None);
                }
                Reply::Entry(inode.ops().look_up(header, name, cx)?)
            }
            Op::Forget(items) => {
                self.forget(items, cx.now);
                return Ok(None);
            }
            Op::Getattr => {
                let (attr, validity) = self.inode(node)?.ops().attr(node, cx)?;
                Reply::Attr(attr, validity)
            }
            Op::Setattr(set) => {
                let inode = {
                    let mut names = self.names.lock();
                    names.nodes.changed(node, caller.pid);
                    Inode::of_node(node, &names)?
                };
                if kinds::shrink(header, &inode, set, cx) {
                    return Ok(None);
                }
                let (attr, validity) = inode.ops().set_attr(header, set, cx)?;
                Reply::Attr(attr, validity)
            }
            Op::Mknod { name, mode } => {
                Reply::Entry(self.inode(node)?.ops().make_file(header, name, *mode, None, cx)?.0)
            }
            Op::Mkdir { name, mode } => {
                Reply::Entry(self.inode(node)?.ops().make_folder(header, name, *mode, cx)?)
            }
            Op::Link { file, name } => Reply::Entry(kinds::link(header, *file, name, cx)?),
            Op::Symlink { name, target } => {
                Reply::Entry(self.inode(node)?.ops().make_symlink(header, name, target, cx)?)
            }
            Op::Readlink => Reply::Message(Slice::whole(self.inode(node)?.ops().target(caller, cx)?)),
            Op::Unlink { name } => {
                let inode = self.inode(node)?;
                if kinds::ask(header, &inode, Question::Unlink(name), cx)? {
                    return Ok(None);
                }
                done(inode.ops().unlink(header, name, false, cx))?
            }
            Op::Rmdir { name } => done(self.inode(node)?.ops().unlink(header, name, true, cx))?,
            Op::Rename { name, new_parent, new_name, how } => {
                return kinds::rename(header, name, (*new_parent, new_name), *how, cx);
            }
            Op::Open(flags) => {
                cx.charge_open(caller)?;
                let names = self.names.lock();
                let inode = Inode::of_node(node, &names)?;
                Reply::Opened(inode.ops().open(header, *flags, names, cx)?)
            }
            Op::Create { name, mode, flags } => {
                cx.charge_open(caller)?;
                match self.inode(node)?.ops().make_file(header, name, *mode, Some(*flags), cx)? {
                    (entry, Some(opened)) => Reply::Created(entry, opened),
                    (_, None) => return Err(Error::Io),
                }
            }
            Op::Tmpfile { mode, flags } => {
                cx.charge_open(caller)?;
                let (entry, opened) = self.inode(node)?.ops().make_nameless(header, *mode, *flags, cx)?;
                Reply::Created(entry, opened)
            }
            Op::Read { fh, offset, size, nonblock, direct } => {
                let call = Read { offset: *offset, size: *size, nonblock: *nonblock, direct: *direct };
                return kinds::read(header, *fh, call, cx);
            }
            Op::Write { fh, offset, data, nonblock, append, page_cache, kill_suid } => {
                let call = Write {
                    offset: *offset,
                    data,
                    nonblock: *nonblock,
                    append: *append,
                    page_cache: *page_cache,
                    kill_suid: *kill_suid,
                };
                return self.handles.get(*fh)?.ops().write(header, call, cx);
            }
            Op::Flush { owner } => {
                let file = self.lock_target(node)?;
                self.locks.lock().close_owner(file, *owner, cx.fx);
                Reply::Done
            }
            Op::Release { fh } => self.release(*fh, cx)?,
            Op::Fsync => Reply::Done,
            Op::Opendir => {
                let inode = self.inode(node)?;
                inode.ops().open_folder()?;
                cx.charge_open(caller)?;
                Reply::Directory(cx.open_listing(&inode))
            }
            Op::Readdir { fh, offset, size } => {
                let most = *size as usize / LEAST_LISTED + 1;
                let inode = self.inode(node)?;
                let question = Question::List { fh: *fh, after: *offset, most, size: *size };
                if kinds::ask(header, &inode, question, cx)? {
                    return Ok(None);
                }
                Reply::Listing(cx.list(&inode, *fh, *offset, most)?, *size)
            }
            Op::Releasedir { fh } => done(self.handles.remove(*fh).map(drop).ok_or(Error::BadDescriptor))?,
            Op::Statfs => self.space(),
            Op::Setxattr { name, value, create, replace } => {
                self.inode(node)?.ops().check_set_xattr(caller, cx)?;
                let account = self.accounts.of(caller.uid);
                self.with_meta(node, cx, |meta, now| {
                    meta.set_xattr(name, value, (*create, *replace), &account, now).map(|()| Reply::Done)
                })?
            }
            Op::Getxattr { name, size } => self.read_meta(node, cx, |meta| meta.get_xattr(name, *size))?,
            Op::Listxattr { size } => self.read_meta(node, cx, |meta| meta.list_xattrs(*size))?,
            Op::Removexattr { name } => {
                self.inode(node)?.ops().check_set_xattr(caller, cx)?;
                self.with_meta(node, cx, |meta, now| meta.remove_xattr(name, now).map(|()| Reply::Done))?
            }
            Op::Getlk(call) => {
                let file = self.lock_target(node)?;
                Reply::Lock(self.locks.lock().test(file, call))
            }
            Op::Setlk { lock, wait } => {
                self.set_lock(header, lock, *wait, cx)?;
                return Ok(None);
            }
            Op::Poll { fh, arm, reads } => return kinds::poll(header, *fh, *arm, *reads, cx),
            Op::Fallocate { fh, offset, length, mode } => {
                return kinds::allocate(header, *fh, (*offset, *length, *mode), cx);
            }
            Op::Lseek { fh, offset, whence } => {
                Reply::Offset(self.handles.get(*fh)?.ops().seek(*offset, *whence, cx)?)
            }
            Op::CopyFileRange(call) => kinds::copy(call, cx)?,
            Op::Interrupt { unique } => {
                interrupt(*unique, cx);
                return Ok(None);
            }
            Op::Refuse(error) => return Err(*error),
        };
        Ok(Some(reply))
    }

    /// What a node stands for.
    fn inode(&self, node: NodeId) -> Result<Inode, Error> {
        Inode::of_node(node, &self.names.lock())
    }

    fn forget(&self, items: &[(NodeId, u64)], now: Now) {
        // Forgetting answers nobody.
        let mut fx = Effects::new();
        let mut names = self.names.lock();
        for (node, count) in items {
            if let Some(inode) = names.nodes.forget(*node, *count) {
                inode.ops().forgotten(&mut names, &mut Cx::new(self, now, &mut fx));
            }
        }
    }

    /// Open files by nodes that the kernel does not know any more: nobody has them, though nobody has closed them. Usually a RELEASE is
    /// on its way.
    pub fn unknown_to_kernel(&self) -> Vec<Fh> {
        const STEP: usize = 1000;
        let mut unknown = Vec::new();
        let look = |first| {
            let names = self.names.lock();
            let wanted =
                |file: &OpenFile| file.ops().node().is_some_and(|node| names.nodes.object(node).is_none());
            self.handles.select((first, STEP), wanted, &mut unknown)
        };
        let _ = (0..).step_by(STEP).map(look).find(|has_more| !has_more);
        unknown
    }

    fn release(&self, fh: Fh, cx: &mut Cx<'_>) -> Result<Reply, Error> {
        // While the number is taken: once it is free it may be another open file's, with locks of its own.
        self.locks.lock().close_handle(fh, cx.fx);
        self.ring_reads.closed(fh);
        self.handles.remove(fh).ok_or(Error::BadDescriptor)?.ops().close(cx);
        Ok(Reply::Done)
    }

    fn with_meta(
        &self,
        node: NodeId,
        cx: &mut Cx<'_>,
        work: impl Fn(&mut Meta, FileTime) -> Result<Reply, Error>,
    ) -> Result<Reply, Error> {
        let (mut result, now) = (Err(Error::NotSupported), cx.now.time());
        self.inode(node)?.ops().with_meta(&mut |meta| result = work(meta, now), cx)?;
        result
    }

    fn read_meta(
        &self,
        node: NodeId,
        cx: &mut Cx<'_>,
        look: impl Fn(&Meta) -> Reply,
    ) -> Result<Reply, Error> {
        let mut reply = Reply::Failed(Error::NotSupported);
        self.inode(node)?.ops().read_meta(&mut |meta| reply = look(meta), cx)?;
        Ok(reply)
    }

    fn space(&self) -> Reply {
        const BLOCK: u64 = 4096;
        let free = |resource| self.accounts.limit(resource).saturating_sub(self.accounts.used(resource));
        Reply::Space(Space {
            blocks: self.accounts.limit(Resource::Segments) / BLOCK,
            free: free(Resource::Segments) / BLOCK,
            files: self.accounts.limit(Resource::Files),
            files_free: free(Resource::Files),
        })
    }

    /// The file whose locks a node's are: one for all nodes of a mailbox. Nodes of `control/` have locks of their own.
    fn lock_target(&self, node: NodeId) -> Result<Ino, Error> {
        if ControlNode::of(node).is_some() {
            return Ok(Ino(node.0));
        }
        self.names.lock().nodes.object(node).map(Inode::ino).ok_or(Error::Stale)
    }

    fn set_lock(&self, header: Header, call: &LockCall, wait: bool, cx: &mut Cx<'_>) -> Result<(), Error> {
        let file = self.lock_target(header.node)?;
        let account = self.accounts.of(header.caller.uid);
        let mut locks = self.locks.lock();
        if let Some(id) = locks.set(file, call, &account, (header.request_id, wait), cx.fx) {
            cx.fx.note_waiting();
            if !self.waits.insert(header.unique(), Wait::Lock(id), cx.now.moment) {
                locks.cancel(id, Error::Ending, cx.fx);
            }
        }
        Ok(())
    }

    /// What follows from a request's effects: waits that ended leave the index, and memory that came free goes to the
    /// mailboxes that wait for it.
    fn settle(&self, own: Option<RequestId>, now: Now, fx: &mut Effects) {
        kinds::feed_starved(&mut Cx::new(self, now, fx));
        self.orphans.arm(now.moment, fx);
        self.work.arm(fx);
        if self.memory.should_trim() {
            fx.push(Effect::TrimHeap);
        }
        for (uid, resource) in self.accounts.take_refusals() {
            fx.push(Effect::ShareReached { uid, resource });
        }
        let never_waited = if fx.take_waiting() { None } else { own };
        fx.defer_promises();
        self.ring_reads.answered(fx.iter().filter_map(|effect| match effect {
            Effect::Reply(request_id, reply)
            | Effect::Deliver(request_id, reply, _)
            | Effect::Promise(_, request_id, reply) => Some((request_id.unique, reply)),
            _ => None,
        }));
        for effect in fx.iter() {
            if let Effect::Reply(request_id, _)
            | Effect::Deliver(request_id, ..)
            | Effect::Promise(_, request_id, _) = effect
                && Some(*request_id) != never_waited
            {
                self.waits.remove(request_id.unique);
            }
        }
    }
}

/// A caller got a signal. Where it waits, its wait ends; where it does not, its request is still in another thread's
/// hands or was answered, which only the kernel can tell.
fn interrupt(unique: u64, cx: &mut Cx<'_>) {
    match cx.tree.waits.find(unique) {
        Some(wait) => cancel(&wait, Error::Interrupted, cx),
        None => cx.fx.push(Effect::InterruptAgain { unique }),
    }
}

fn cancel(wait: &Wait, error: Error, cx: &mut Cx<'_>) {
    match wait {
        Wait::File(inode, id) => inode.ops().cancel(*id, error, cx),
        Wait::Lock(id) => {
            cx.tree.locks.lock().cancel(*id, error, cx.fx);
        }
        Wait::Job(id) => cx.tree.work.end(*id, error),
    }
}

fn done(result: Result<(), Error>) -> Result<Reply, Error> {
    result.map(|()| Reply::Done)
}

/// The limits of a mount, and what one user may take of each. Of memory that is no less than one message needs.
fn accounts(setup: &Setup) -> Accounts {
    let limits = Resource::ALL.map(|resource| match resource {
        Resource::Memory | Resource::Waiting => setup.limits.memory,
        Resource::Texts => MAX_TEXTS,
        Resource::Segments => setup.limits.segment_memory,
        Resource::Files => setup.limits.max_files,
        Resource::Open => MAX_OPEN,
        Resource::Descriptors => setup.descriptors,
        Resource::Locks => MAX_LOCKS as u64,
    });
    let shares = Resource::ALL.map(|resource| {
        let limit = limits[resource as usize];
        let share = (u128::from(limit) * u128::from(setup.limits.user_share) / 100) as u64;
        match resource {
            Resource::Memory | Resource::Waiting => share.max(limit.min(MIN_MEMORY / 2)),
            _ => share.max(1),
        }
    });
    Accounts::new(limits, shares, setup.uid)
}
