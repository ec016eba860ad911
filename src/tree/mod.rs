//! The mount's tree: which object a request concerns, and what becomes of it.
//!
//! [`Tree::handle`] is the one way in. It finds the object by node or by open file, takes that object's lock, lets
//! `mailbox`, `segment`, `locks` or `control` decide, and leaves answers and wake-ups in [`Effects`]. It never blocks.
//!
//! Locks, outermost first; a thread takes them in this order and holds at most one of the second row
//! (two mailboxes, that with the lower number first, where a message moves from one to the other):
//!
//! ```text
//! names | reading of totals   folders, names, nodes
//! a mailbox | a topic | a segment | locks | handles
//! starving | totals | alarms | limbo | parked
//! ```

mod alarms;
mod bells;
mod control;
mod doors;
mod files;
mod folders;
mod glances;
mod handles;
mod limbo;
mod meta;
mod names;
mod nodes;
mod numbers;
mod objects;
mod parked;
mod place;
mod segments;
#[cfg(test)]
mod tests;
mod totals;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::config::{Limits, MAX_LOCKS};
use crate::locks::Locks;
use crate::mailbox::{Context, Memory, WaitId};
use crate::op::{Effect, Effects, Error, LockCall, NodeId, Op, Reply, Request, RequestId, Timestamp};
use crate::segment;
use alarms::Alarms;
use handles::Handles;
use limbo::Limbo;
use meta::Meta;
use names::Names;
use objects::{MailboxFile, MailboxState};
use parked::{Parked, Place};
use totals::Totals;

/// Makes the memory of a new segment.
pub type MakeMemory = Box<dyn Fn() -> Result<Arc<dyn segment::Memory>, Error> + Send + Sync>;

/// The kernel's table of backing files, for segments in passthrough.
pub trait Backing: Send + Sync + fmt::Debug {
    /// Registers a file; the number is good until it is closed.
    fn open(&self, memory: BorrowedFd<'_>) -> Result<u32, Error>;
    /// Takes a number back.
    fn close(&self, id: u32);
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
    /// Threads that serve, for `control/status`.
    pub threads: usize,
    /// Process id of the daemon, for `control/status`.
    pub pid: u32,
}

/// Everything below the mount point.
pub struct Tree {
    setup: Setup,
    started: Timestamp,
    names: Mutex<Names>,
    handles: Handles,
    locks: Mutex<Locks>,
    parked: Parked,
    memory: Memory,
    segment_budget: Arc<segment::Budget>,
    make_memory: MakeMemory,
    /// Mailboxes where someone waits for memory. `any_starving` says that there are some, to be read without the lock.
    starving: Mutex<Vec<Arc<MailboxFile>>>,
    totals: Totals,
    alarms: Alarms,
    limbo: Limbo,
    any_starving: AtomicBool,
    /// Messages that went with their mailbox.
    discarded: AtomicU64,
    /// Nobody may wait any more.
    ending: AtomicBool,
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("setup", &self.setup).finish_non_exhaustive()
    }
}

impl Tree {
    /// A tree with nothing in it but its folders.
    pub fn new(setup: Setup, make_memory: MakeMemory, now: Timestamp) -> Tree {
        let meta = Meta::new(0o755, setup.uid, setup.gid, now);
        let shared_mode = if setup.shared { 0o1777 } else { 0o755 };
        Tree {
            started: now,
            names: Mutex::new(Names::new(&meta, shared_mode, setup.limits.max_files)),
            handles: Handles::default(),
            locks: Mutex::new(Locks::new(MAX_LOCKS)),
            parked: Parked::default(),
            memory: Memory::new(setup.limits.memory),
            segment_budget: Arc::new(segment::Budget::new(setup.limits.segment_memory)),
            make_memory,
            starving: Mutex::new(Vec::new()),
            totals: Totals::default(),
            alarms: Alarms::default(),
            limbo: Limbo::default(),
            any_starving: AtomicBool::new(false),
            discarded: AtomicU64::new(0),
            ending: AtomicBool::new(false),
            setup,
        }
    }

    /// Does what `request` asks. Its answer is among the effects, unless its caller has to wait (or it is one that has
    /// none, FORGET and INTERRUPT); so are the answers to those whose wait it ended.
    pub fn handle(&self, request: &Request<'_>, now: Timestamp, fx: &mut Effects) {
        let request_id = request.request_id;
        match self.answer(request, now, fx) {
            Ok(Some(reply)) => fx.reply(request_id, reply),
            Ok(None) => {}
            Err(error) => fx.fail(request_id, error),
        }
        self.settle(Some(request_id), now, fx);
    }

    /// Ends the wait of one request, if it waits.
    pub fn cancel_wait(&self, unique: u64, error: Error, now: Timestamp, fx: &mut Effects) {
        if let Some(place) = self.parked.find(unique) {
            self.cancel(&place, error, now, fx);
        }
        self.settle(None, now, fx);
    }

    /// Ends the waits that began at `limit` or before, with [`Error::Interrupted`].
    pub fn expire(&self, limit: Timestamp, now: Timestamp, fx: &mut Effects) {
        for place in self.parked.since(limit) {
            self.cancel(&place, Error::Interrupted, now, fx);
        }
        self.settle(None, now, fx);
    }

    /// The mount ends: everyone who waits is told so, and nobody waits any more.
    pub fn end(&self, now: Timestamp, fx: &mut Effects) {
        self.ending.store(true, Ordering::SeqCst);
        for place in self.parked.since(Timestamp(u64::MAX)) {
            self.cancel(&place, Error::Ending, now, fx);
        }
        self.settle(None, now, fx);
    }

    /// `Ok(None)`: it is answered already, or waits, or has no answer.
    fn answer(
        &self,
        request: &Request<'_>,
        now: Timestamp,
        fx: &mut Effects,
    ) -> Result<Option<Reply>, Error> {
        let Request { request_id, node, caller, .. } = *request;
        let reply = match &request.op {
            Op::Lookup { name } => Reply::Entry(self.look_up(node, name, caller, now, fx)?),
            Op::Forget(items) => {
                self.forget(items);
                return Ok(None);
            }
            Op::Getattr => self.getattr(node, fx)?,
            Op::Setattr(set) => self.setattr(node, set, caller.pid, now, fx)?,
            Op::Mknod { name, mode } => Reply::Entry(self.make_file(node, name, *mode, caller, now, fx)?),
            Op::Mkdir { name, mode } => Reply::Entry(self.make_folder(node, name, *mode, caller, now, fx)?),
            Op::Unlink { name } => self.unlink(node, name, false, now, fx)?,
            Op::Rmdir { name } => self.unlink(node, name, true, now, fx)?,
            Op::Rename { name, new_parent, new_name, how } => {
                self.rename((node, name), (*new_parent, new_name), *how, now, fx)?
            }
            Op::Open(flags) => Reply::Opened(self.open(node, *flags, caller, now)?),
            Op::Create { name, mode, flags } => {
                let (entry, opened) = self.create(request, name, *mode, *flags, now, fx)?;
                Reply::Created(entry, opened)
            }
            Op::Read { fh, offset, size, nonblock, direct } => {
                let call =
                    handles::Read { offset: *offset, size: *size, nonblock: *nonblock, direct: *direct };
                return self.read(request_id, caller, *fh, call, now, fx);
            }
            Op::Write { fh, offset, data, nonblock, append, page_cache, kill_suid } => {
                let call = handles::Write {
                    offset: *offset,
                    data,
                    nonblock: *nonblock,
                    append: *append,
                    page_cache: *page_cache,
                    kill_suid: *kill_suid,
                };
                return self.write(request_id, caller, *fh, call, now, fx);
            }
            Op::Flush { owner } => {
                let file = self.lock_target(node)?;
                self.locks.lock().close_owner(file, *owner, fx);
                Reply::Done
            }
            Op::Release { fh } => self.release(*fh, now, fx)?,
            Op::Fsync | Op::Releasedir => Reply::Done,
            Op::Opendir => self.open_folder(node)?,
            Op::Readdir { offset, size } => {
                return self.list(node, *offset, *size).map(|list| Some(Reply::Listing(list, *size)));
            }
            Op::Statfs => self.space(),
            Op::Setxattr { name, value, create, replace } => {
                self.with_meta(node, fx, |meta| meta.set_xattr(name, value, *create, *replace, now))??;
                Reply::Done
            }
            Op::Getxattr { name, size } => self.read_meta(node, fx, |meta| meta.get_xattr(name, *size))?,
            Op::Listxattr { size } => self.read_meta(node, fx, |meta| meta.list_xattrs(*size))?,
            Op::Removexattr { name } => {
                self.with_meta(node, fx, |meta| meta.remove_xattr(name, now))??;
                Reply::Done
            }
            Op::Getlk(call) => {
                let file = self.lock_target(node)?;
                Reply::Lock(self.locks.lock().test(file, call))
            }
            Op::Setlk { lock, wait } => {
                self.set_lock(node, lock, *wait, request_id, now, fx)?;
                return Ok(None);
            }
            Op::Poll { fh, handle, arm } => self.poll(*fh, arm.then_some(*handle))?,
            Op::Fallocate { fh, offset, length, mode } => {
                self.fallocate(*fh, *offset, *length, *mode, now, fx)?
            }
            Op::Lseek { fh, offset, whence } => self.seek(*fh, *offset, *whence)?,
            Op::CopyFileRange(copy) => self.copy(copy, now, fx)?,
            Op::Interrupt { unique } => {
                self.interrupt(*unique, now, fx);
                return Ok(None);
            }
            Op::Refuse(error) => return Err(*error),
        };
        Ok(Some(reply))
    }

    /// A caller got a signal. Where it waits, its wait ends; where it does not, its request is still in another
    /// thread's hands or was answered, which only the kernel can tell.
    fn interrupt(&self, unique: u64, now: Timestamp, fx: &mut Effects) {
        match self.parked.find(unique) {
            Some(place) => self.cancel(&place, Error::Interrupted, now, fx),
            None => fx.push(Effect::InterruptAgain { unique }),
        }
    }

    fn cancel(&self, place: &Place, error: Error, now: Timestamp, fx: &mut Effects) {
        match place {
            Place::Mailbox(file, id) => {
                self.with_mailbox(file, now, fx, |state, cx| state.queue.cancel(*id, error, cx));
            }
            Place::Topic(file, id) => {
                let mut cx = Context { now, memory: &self.memory, fx };
                file.state.lock().topic.cancel(*id, error, &mut cx);
            }
            Place::Bell(file, id) => {
                let mut cx = Context { now, memory: &self.memory, fx };
                if let Some(bell) = &mut file.state.lock().bell {
                    bell.topic.cancel(*id, error, &mut cx);
                }
            }
            Place::Lock(id) => {
                self.locks.lock().cancel(*id, error, fx);
            }
        }
    }

    fn set_lock(
        &self,
        node: NodeId,
        call: &LockCall,
        wait: bool,
        request_id: RequestId,
        now: Timestamp,
        fx: &mut Effects,
    ) -> Result<(), Error> {
        let file = self.lock_target(node)?;
        let mut locks = self.locks.lock();
        if let Some(id) = locks.set(file, call, request_id, wait, fx) {
            self.parked.insert(request_id.unique, Place::Lock(id), now);
            fx.note_waiting();
            if self.ending.load(Ordering::SeqCst) {
                locks.cancel(id, Error::Ending, fx);
            }
        }
        Ok(())
    }

    /// Works on a mailbox under its lock, and sees to it that it is called when memory is free, if it waits for that.
    fn with_mailbox<T>(
        &self,
        file: &Arc<MailboxFile>,
        now: Timestamp,
        fx: &mut Effects,
        work: impl FnOnce(&mut MailboxState, &mut Context<'_>) -> T,
    ) -> T {
        let mut state = file.state.lock();
        self.totals.note_use(file, &mut state);
        let believed = state.believed.is_some().then(|| state.attr(file.ino));
        let result = work(&mut state, &mut Context { now, memory: &self.memory, fx });
        if believed.is_some_and(|believed| believed != state.attr(file.ino)) {
            state.attr_changed(fx);
        }
        let dead = state.queue.take_outbox();
        self.note_changed(file, &mut state, fx);
        drop(state);
        self.bury(file, dead, now, fx);
        result
    }

    /// What the tree keeps of a mailbox's state, after that has changed.
    fn note_changed(&self, file: &Arc<MailboxFile>, state: &mut MailboxState, fx: &mut Effects) {
        self.totals.note_changed(state);
        self.note_starving(file, state);
        self.alarms.note(file, state, fx);
    }

    /// As [`Tree::with_mailbox`], for a call that may have to wait.
    fn with_waiting(
        &self,
        file: &Arc<MailboxFile>,
        request_id: RequestId,
        now: Timestamp,
        fx: &mut Effects,
        work: impl FnOnce(&mut MailboxState, &mut Context<'_>) -> Option<WaitId>,
    ) {
        self.with_mailbox(file, now, fx, |state, cx| {
            if let Some(id) = work(state, cx) {
                self.parked.insert(request_id.unique, Place::Mailbox(Arc::clone(file), id), now);
                cx.fx.note_waiting();
                if self.ending.load(Ordering::SeqCst) {
                    state.queue.cancel(id, Error::Ending, cx);
                }
            }
        });
    }

    fn note_starving(&self, file: &Arc<MailboxFile>, state: &mut MailboxState) {
        if !state.starving && state.queue.blocked_by_memory() {
            state.starving = true;
            let mut starving = self.starving.lock();
            starving.push(Arc::clone(file));
            self.any_starving.store(true, Ordering::SeqCst);
        }
    }

    /// What follows from a request's effects: waits that ended leave the index, and memory that came free goes to the
    /// mailboxes that starve.
    ///
    /// A mailbox that found no memory puts itself on the list, whatever there is by then, before it looks at the memory
    /// once more; and whoever frees memory does so before he looks at the list. So one of the two sees the other.
    fn settle(&self, own: Option<RequestId>, now: Timestamp, fx: &mut Effects) {
        while self.any_starving.load(Ordering::SeqCst) {
            let hungry = {
                let mut starving = self.starving.lock();
                self.any_starving.store(false, Ordering::SeqCst);
                std::mem::take(&mut *starving)
            };
            let mut again = false;
            for file in hungry {
                let mut state = file.state.lock();
                state.starving = false;
                self.totals.note_use(&file, &mut state);
                state.queue.admit_writers(&mut Context { now, memory: &self.memory, fx });
                state.attr_changed(fx);
                self.note_changed(&file, &mut state, fx);
                again |= state.starving && state.queue.memory_available(&self.memory);
            }
            if !again {
                break;
            }
        }
        self.limbo.arm(now, fx);
        if self.memory.should_trim() {
            fx.push(Effect::TrimHeap);
        }
        let never_parked = if fx.take_waiting() { None } else { own };
        for effect in fx.iter() {
            if let Effect::Reply(request_id, _) = effect
                && Some(*request_id) != never_parked
            {
                self.parked.remove(request_id.unique);
            }
        }
    }
}
