//! A segment: a file of shared memory.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use slab::Slab;

use super::{
    Broadcaster, ControlOps, Cx, FileOps, Header, Inode, InodeOps, Job, Names, OpenFile, Read, Write, free,
};
use crate::accounts::{Account, Charge, Resource};
use crate::config::MAX_WRITE;
use crate::control::SegmentSettings;
use crate::mailbox::WaitId;
use crate::op::{
    Attr, Caller, CopyRange, Entry, Error, FileTime, Ino, NodeId, OpenAs, OpenFlags, Opened, Reply, SetAttr,
    Validity, Whence,
};
use crate::segment::{Lifetime, Segment, Usage};
use crate::state::saved;
use crate::topic::{Limits, Topic};
use crate::tree::Tree;
use crate::tree::names::lookups::RecentLookups;
use crate::tree::names::meta::{Meta, REGULAR};

/// A segment and what stat shows of it.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(super) ino: Ino,
    pub(super) state: Mutex<SegmentState>,
    /// For the descriptor of its memory.
    charge: Charge,
}

saved!(struct SegmentFile { ino, state, charge });

/// Guarded by [`SegmentFile::state`].
#[derive(Debug)]
pub(super) struct SegmentState {
    pub(super) meta: Meta,
    pub(super) segment: Segment,
    /// Open files; in cached mode a mapping keeps its file open.
    pub(super) openers: Slab<Opener>,
    pub(super) bell: Option<Box<Bell>>,
    /// On the list of those that are asked now and then whether they are still mapped.
    orphaned: bool,
    /// Names that lead here. Without one, the memory goes with the last open file.
    pub(super) names: u32,
    /// Removed while somebody was about to open it, or made without a name: the memory stays until the kernel forgets the node.
    kept_until_forget: bool,
    /// Of one that was made without a name and may get one: for the file.
    pub(super) nameless: Option<Charge>,
    recent_lookups: RecentLookups,
    /// The kernel's number for the backing memory, while any file is open in passthrough.
    backing: Option<u32>,
    /// Why the last value written to `config/` was refused.
    pub(super) refusal: Option<Box<str>>,
}

saved!(struct SegmentState {
    meta, segment, openers, bell, orphaned, names, kept_until_forget, nameless, recent_lookups, backing,
    refusal,
});

/// The state of a segment's doorbell, from the first time that anyone uses it: a topic whose messages are counts of how
/// often it was rung, of which the last waits for each who listens.
#[derive(Debug)]
pub(super) struct Bell {
    pub(super) count: u64,
    pub(super) topic: Topic,
}

saved!(struct Bell { count, topic });

impl Bell {
    /// If there are many readers, a job serves the rest of them.
    pub(super) fn leave_rest_to_job(&mut self, segment: &Arc<SegmentFile>, cx: &Cx<'_>) {
        if self.topic.needs_job() {
            cx.tree.work.push(Job::Readers(Broadcaster::Segment(Arc::clone(segment))), |_| Ok(()));
        }
    }
}

/// The length of the longest count and a newline, and more.
const LONGEST_COUNT: u32 = 32;

/// Who opened a segment, and for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opener {
    pub(super) caller: Caller,
    pub(super) read: bool,
    pub(super) write: bool,
}

saved!(struct Opener { caller, read, write });

/// An open segment.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    pub(super) file: Arc<SegmentFile>,
    pub(super) write: bool,
    /// Among those who have it open.
    opener: usize,
}

saved!(struct OpenSegment { file, write, opener });

impl SegmentFile {
    pub(super) fn new(
        ino: Ino,
        meta: Meta,
        account: Arc<Account>,
        tree: &Tree,
    ) -> Result<Arc<SegmentFile>, Error> {
        let charge = account.charge(Resource::Descriptors, 1).map_err(|_| Error::NoSpace)?;
        let segment = Segment::new((tree.make_memory)()?, account);
        let state = SegmentState {
            meta,
            segment,
            openers: Slab::new(),
            bell: None,
            orphaned: false,
            names: 1,
            kept_until_forget: false,
            nameless: None,
            recent_lookups: RecentLookups::default(),
            backing: None,
            refusal: None,
        };
        Ok(Arc::new(SegmentFile { ino, state: Mutex::new(state), charge }))
    }

    /// It has no name yet. `charge` is for the file.
    pub(super) fn without_name(&self, charge: Charge) {
        let mut state = self.state.lock();
        (state.names, state.kept_until_forget, state.nameless) = (0, true, Some(charge));
    }

    /// Does what may need memory, and once more if some came free that nobody uses any more.
    pub(super) fn with_memory<T>(
        &self,
        cx: &mut Cx<'_>,
        work: impl Fn(&mut SegmentState) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let result = work(&mut self.state.lock());
        if !matches!(result, Err(Error::NoSpace)) || cx.tree.orphans.is_empty() {
            return result;
        }
        sweep_orphans(cx);
        work(&mut self.state.lock())
    }

    /// What becomes of a segment that nobody has open: without a name its memory goes, with the last mapping; with one
    /// that it has until its last close, the name goes then. True: the name is to go now.
    #[must_use]
    fn unused(self: &Arc<Self>, state: &mut SegmentState, tree: &Tree) -> bool {
        if !state.openers.is_empty() {
            return false;
        }
        if let (Some(id), Some(backing)) = (state.backing.take(), &tree.setup.backing) {
            backing.close(id);
        }
        let dying = state.names > 0 && state.segment.lifetime() == Lifetime::LastClose;
        // Or it has no memory that could go, as once it is gone.
        if !dying && (state.names > 0 || state.kept_until_forget || state.segment.promised() == 0) {
            return false;
        }
        // Only passthrough lets others map the memory itself: otherwise a mapping keeps the file open.
        let passthrough = tree.setup.backing.is_some();
        let usage = if passthrough { state.segment.memory().usage() } else { Usage::Unused };
        match (usage, dying) {
            // What is not known now may be known the next time.
            (Usage::Used | Usage::Written | Usage::Unknown, _) => {
                if !std::mem::replace(&mut state.orphaned, true) {
                    tree.orphans.push(self);
                }
            }
            (Usage::Unused, true) => return true,
            (Usage::Unused, false) => {
                let (memory, at) = (Arc::clone(state.segment.memory()), state.segment.abandon());
                free(memory, at, tree);
            }
        }
        false
    }

    /// The last name is gone: whoever waits at the doorbell is told, and the memory goes with its last user.
    fn lose_name(self: &Arc<Self>, state: &mut SegmentState, cx: &mut Cx<'_>) {
        state.names = 0;
        if let Some(bell) = &mut state.bell {
            bell.topic.remove(&mut cx.domain());
            bell.leave_rest_to_job(self, cx);
        }
        // It has no name any more that could go.
        let _ = self.unused(state, cx.tree);
    }

    /// The names of a segment that lives until its last close go, unless somebody has opened it again.
    fn unlink_unused(self: &Arc<Self>, cx: &mut Cx<'_>) {
        let mut names = cx.tree.names.lock();
        let mut state = self.state.lock();
        if !state.openers.is_empty() || state.names == 0 {
            return;
        }
        while let Some((folder, name)) =
            names.link_of(self.ino).map(|link| (link.folder, Arc::clone(&link.name)))
        {
            if names.unlink(folder, &name, false, cx.now.time()).is_err() {
                return;
            }
        }
        self.lose_name(&mut state, cx);
    }
}

/// Asks each segment that nobody has open whether it is still mapped.
pub(crate) fn sweep_orphans(cx: &mut Cx<'_>) {
    for file in cx.tree.orphans.take() {
        let dying = {
            let mut state = file.state.lock();
            state.orphaned = false;
            file.unused(&mut state, cx.tree)
        };
        if dying {
            file.unlink_unused(cx);
        }
    }
    cx.tree.orphans.arm(cx.now.moment, cx.fx);
}

impl SegmentState {
    /// The doorbell, made when it is first needed.
    pub(super) fn bell(&mut self, now: FileTime) -> &mut Bell {
        self.bell.get_or_insert_with(|| {
            let limits = Limits { msgsize: LONGEST_COUNT, backlog: 1 };
            Box::new(Bell { count: 0, topic: Topic::new(limits, now) })
        })
    }

    pub(super) fn attr(&self, ino: Ino) -> Attr {
        Attr {
            size: self.segment.size(),
            blocks: self.segment.blocks(),
            nlink: self.names,
            ..self.meta.attr(ino, REGULAR)
        }
    }

    pub(super) fn settings(&self) -> SegmentSettings {
        SegmentSettings {
            size_max: self.segment.size_max(),
            lifetime: self.segment.lifetime(),
            seals: self.segment.seals(),
            written: self.openers.iter().any(|(_, opener)| opener.write)
                || self.segment.memory().usage() == Usage::Written,
        }
    }

    /// Whether somebody has it open or mapped. Its memory is asked only where nobody has it open.
    pub(super) fn in_use(&self) -> &'static str {
        if !self.openers.is_empty() {
            return "yes";
        }
        match self.segment.memory().usage() {
            Usage::Used | Usage::Written => "yes",
            Usage::Unused => "no",
            Usage::Unknown => "unknown",
        }
    }
}

impl InodeOps for Arc<SegmentFile> {
    fn ino(&self) -> Ino {
        self.ino
    }

    fn attr(&self, _: NodeId, _: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        Ok((self.state.lock().attr(self.ino), Validity::None))
    }

    fn entry(&self, names: &mut Names, caller: Caller, cx: &mut Cx<'_>) -> Result<Entry, Error> {
        let node = names.nodes.look_up(&Inode::Segment(Arc::clone(self)));
        let mut state = self.state.lock();
        state.recent_lookups.note(caller.pid, cx.now.moment);
        if names.nodes.was_refused(caller.pid) {
            state.recent_lookups.note_refused();
        }
        Ok(Entry { node, attr: state.attr(self.ino), validity: Validity::None })
    }

    fn set_attr(&self, _: Header, set: &SetAttr, cx: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        let now = cx.now.time();
        if let Some(size) = set.size {
            self.with_memory(cx, |state| {
                state.segment.resize(size)?;
                state.meta.mtime = now;
                Ok(())
            })?;
        }
        let mut state = self.state.lock();
        state.meta.set(set, false, now);
        Ok((state.attr(self.ino), Validity::None))
    }

    fn with_meta(&self, work: &mut dyn FnMut(&mut Meta), _: &mut Cx<'_>) -> Result<(), Error> {
        work(&mut self.state.lock().meta);
        Ok(())
    }

    fn open(
        &self,
        header: Header,
        flags: OpenFlags,
        mut names: MutexGuard<'_, Names>,
        cx: &mut Cx<'_>,
    ) -> Result<Opened, Error> {
        let refused_before = names.nodes.came_back(header.caller.pid);
        let mut state = self.state.lock();
        if state.names == 0 && state.openers.is_empty() && !state.kept_until_forget {
            // Its memory is gone; the name may have a new owner, whom the kernel finds when it looks the name up again. It
            // does so once.
            if refused_before {
                return Err(Error::NotFound);
            }
            names.nodes.refuse(header.caller.pid, cx.now.moment);
            return Err(Error::Stale);
        }
        drop(names);
        if flags.write && state.segment.seals().write {
            return Err(Error::NotPermitted);
        }
        state.recent_lookups.clear(header.caller.pid);
        let how = match &cx.tree.setup.backing {
            None => OpenAs::Cached,
            Some(backing) => {
                let id = match state.backing {
                    Some(id) => id,
                    None => backing.open(state.segment.memory().backing().ok_or(Error::Io)?)?,
                };
                state.backing = Some(id);
                OpenAs::Passthrough { id, grows: flags.write && !state.segment.seals().grow }
            }
        };
        if flags.kill_suid {
            state.meta.kill_suid();
        }
        if flags.truncate {
            state.segment.resize(0)?;
            (state.meta.mtime, state.meta.ctime) = (cx.now.time(), cx.now.time());
        }
        let opener = Opener { caller: header.caller, read: flags.read, write: flags.write };
        let opener = state.openers.insert(opener);
        drop(state);
        let open = OpenSegment { file: Arc::clone(self), write: flags.write, opener };
        Ok(Opened { fh: cx.opened(OpenFile::Segment(open)), how })
    }

    fn renamed(&self, _: &Names, _: (Ino, &[u8]), cx: &mut Cx<'_>) {
        self.state.lock().meta.ctime = cx.now.time();
    }

    fn unlinked(&self, cx: &mut Cx<'_>) {
        let mut state = self.state.lock();
        state.meta.ctime = cx.now.time();
        if state.names > 1 {
            state.names -= 1;
            return;
        }
        state.kept_until_forget = state.recent_lookups.meet(cx.now.moment);
        self.lose_name(&mut state, cx);
    }

    fn forgotten(&self, _: &mut Names, cx: &mut Cx<'_>) {
        let mut state = self.state.lock();
        state.kept_until_forget = false;
        let _ = self.unused(&mut state, cx.tree);
    }

    fn cancel(&self, wait: WaitId, error: Error, cx: &mut Cx<'_>) {
        if let Some(bell) = &mut self.state.lock().bell {
            bell.topic.cancel(wait, error, &mut cx.domain());
        }
    }

    fn control(&self) -> Option<&dyn ControlOps> {
        Some(self)
    }
}

impl FileOps for OpenSegment {
    fn read(&self, _: Header, call: Read, cx: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
        // In passthrough only splice(2) and sendfile(2) from a descriptor open for writing ask for the page cache, which
        // would show the next of them what the bytes were. Refused, programs fall back to read(2).
        if !call.direct && cx.tree.setup.backing.is_some() {
            return Err(Error::Invalid);
        }
        let memory = {
            let mut state = self.file.state.lock();
            state.meta.atime = cx.now.time();
            Arc::clone(state.segment.memory())
        };
        memory.read(call.offset, call.size as usize).map(|bytes| Some(Reply::Data(bytes)))
    }

    fn write(&self, _: Header, call: Write<'_>, cx: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
        if !self.write && !call.page_cache {
            return Err(Error::BadDescriptor);
        }
        let now = cx.now.time();
        let written = self.file.with_memory(cx, |state| {
            if call.kill_suid {
                state.meta.kill_suid();
            }
            let written = if call.page_cache {
                state.segment.write_back(call.offset, call.data)
            } else {
                state.segment.write(call.offset, call.data)
            }?;
            (state.meta.mtime, state.meta.ctime) = (now, now);
            Ok(written)
        })?;
        Ok(Some(Reply::Written(written)))
    }

    fn allocate(&self, offset: u64, length: u64, mode: u32, cx: &mut Cx<'_>) -> Result<(), Error> {
        if !self.write {
            return Err(Error::NotSupported);
        }
        let now = cx.now.time();
        self.file.with_memory(cx, |state| {
            state.segment.fallocate(offset, length, mode)?;
            (state.meta.mtime, state.meta.ctime) = (now, now);
            Ok(())
        })
    }

    fn seek(&self, offset: u64, whence: Whence, cx: &mut Cx<'_>) -> Result<u64, Error> {
        let state = self.file.state.lock();
        if cx.tree.setup.backing.is_some() {
            return state.segment.seek(offset, whence);
        }
        // Stores through a mapping reach the backing memory when the kernel writes its pages back, so that what has no
        // memory yet may hold data all the same. Then all of it is data, which lseek(2) allows; a copy that trusts holes
        // must not lose bytes.
        let size = state.segment.size();
        if offset >= size {
            return Err(Error::NoSuchOffset);
        }
        Ok(if whence == Whence::Data { offset } else { size })
    }

    fn close(&self, cx: &mut Cx<'_>) {
        let dying = {
            let mut state = self.file.state.lock();
            state.openers.try_remove(self.opener);
            if state.openers.is_empty() {
                state.openers = Slab::new();
            }
            self.file.unused(&mut state, cx.tree)
        };
        if dying {
            self.file.unlink_unused(cx);
        }
    }

    fn node(&self) -> Option<NodeId> {
        Some(NodeId(self.file.ino.0))
    }
}

/// `COPY_FILE_RANGE`. Where the kernel's page cache has a segment's bytes, it copies by itself. In passthrough the bytes
/// are here, and are copied here: the kernel would copy what its page cache does not have. Out of or into anything else
/// nothing is copied, as the kernel would cut messages at the size of a pipe.
pub(crate) fn copy(call: &CopyRange, cx: &mut Cx<'_>) -> Result<Reply, Error> {
    let (Ok(from), Ok(to)) = (cx.tree.handles.get(call.from), cx.tree.handles.get(call.to)) else {
        return Err(Error::Invalid);
    };
    let (OpenFile::Segment(from), OpenFile::Segment(to)) = (&*from, &*to) else {
        return Err(Error::Invalid);
    };
    if !to.write {
        return Err(Error::Invalid);
    }
    if cx.tree.setup.backing.is_none() {
        return Err(Error::NotSupported);
    }
    let now = cx.now.time();
    let memory = {
        let mut state = from.file.state.lock();
        state.meta.atime = now;
        Arc::clone(state.segment.memory())
    };
    // A short count, as any copy may have: whoever wants more asks again.
    let data = memory.read(call.from_offset, call.length.min(u64::from(MAX_WRITE)) as usize)?;
    to.file.with_memory(cx, |state| {
        let written = state.segment.write(call.to_offset, &data)?;
        (state.meta.mtime, state.meta.ctime) = (now, now);
        Ok(if call.long { Reply::Copied(u64::from(written)) } else { Reply::Written(written) })
    })
}
