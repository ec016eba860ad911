//! Operations on segments: open, read, copy, allocate, close.

use std::sync::Arc;

use slab::Slab;

use super::Tree;
use super::handles::{Handle, Read, Target};
use super::objects::{Opener, SegmentFile};
use crate::config::MAX_WRITE;
use crate::op::{
    Caller, CopyRange, Effects, Error, Fh, NodeId, OpenAs, OpenFlags, Opened, Reply, Timestamp, Whence,
};

impl Tree {
    pub(super) fn open_segment(
        &self,
        node: NodeId,
        file: &Arc<SegmentFile>,
        flags: OpenFlags,
        caller: Caller,
        now: Timestamp,
    ) -> Result<Opened, Error> {
        let mut state = file.state.lock();
        if !state.linked && state.openers.is_empty() && !state.spared {
            // Its memory is gone; the name may have a new owner.
            return Err(Error::Stale);
        }
        if flags.write && state.segment.seals().write {
            return Err(Error::NotPermitted);
        }
        state.glances.clear(caller.pid);
        let how = match &self.setup.backing {
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
            (state.meta.mtime, state.meta.ctime) = (now, now);
        }
        let opener = state.openers.insert(Opener { caller, read: flags.read, write: flags.write });
        drop(state);
        let target = Target::Segment { file: Arc::clone(file), write: flags.write, opener };
        Ok(Opened { fh: self.handles.insert(Handle { node, target }), how })
    }

    pub(super) fn close_segment(
        &self,
        file: &Arc<SegmentFile>,
        opener: usize,
        now: Timestamp,
        fx: &mut Effects,
    ) {
        let dying = {
            let mut state = file.state.lock();
            state.openers.try_remove(opener);
            if state.openers.is_empty() {
                state.openers = Slab::new();
            }
            self.unused(file, &mut state)
        };
        if dying {
            self.unlink_unused(file, now, fx);
        }
    }

    /// The name of a segment that lives until its last close goes, unless somebody has opened it again.
    pub(super) fn unlink_unused(&self, file: &Arc<SegmentFile>, now: Timestamp, fx: &mut Effects) {
        let mut names = self.names.lock();
        let mut state = file.state.lock();
        if state.openers.is_empty()
            && state.linked
            && let Some(at) = names.located(file.ino).cloned()
            && names.unlink(at.folder, &at.name, false, now).is_ok()
        {
            self.lose_name(file, &mut state, now, fx);
        }
    }

    pub(super) fn read_segment(
        &self,
        file: &SegmentFile,
        call: Read,
        now: Timestamp,
    ) -> Result<Reply, Error> {
        // In passthrough only splice(2) and sendfile(2) from a descriptor open for writing ask for the page cache, which
        // would show the next of them what the bytes were. Refused, programs fall back to read(2).
        if !call.direct && self.setup.backing.is_some() {
            return Err(Error::Invalid);
        }
        let memory = {
            let mut state = file.state.lock();
            state.meta.atime = now;
            Arc::clone(state.segment.memory())
        };
        memory.read(call.offset, call.size as usize).map(Reply::Data)
    }

    pub(super) fn fallocate(
        &self,
        fh: Fh,
        offset: u64,
        length: u64,
        mode: u32,
        now: Timestamp,
        fx: &mut Effects,
    ) -> Result<Reply, Error> {
        let handle = self.handles.get(fh)?;
        let Target::Segment { file, write: true, .. } = &handle.target else {
            return Err(Error::NotSupported);
        };
        self.with_room(file, now, fx, |state| {
            state.segment.fallocate(offset, length, mode)?;
            (state.meta.mtime, state.meta.ctime) = (now, now);
            Ok(Reply::Done)
        })
    }

    pub(super) fn seek(&self, fh: Fh, offset: u64, whence: Whence) -> Result<Reply, Error> {
        let handle = self.handles.get(fh)?;
        let Target::Segment { file, .. } = &handle.target else { return Err(Error::Invalid) };
        let state = file.state.lock();
        if self.setup.backing.is_some() {
            return state.segment.seek(offset, whence).map(Reply::Offset);
        }
        // Stores through a mapping reach the backing memory when the kernel writes its pages back, so that what has no
        // memory yet may hold data all the same. Then all of it is data, which lseek(2) allows; a copy that trusts holes
        // must not lose bytes.
        let size = state.segment.size();
        if offset >= size {
            return Err(Error::NoSuchOffset);
        }
        Ok(Reply::Offset(if whence == Whence::Data { offset } else { size }))
    }

    /// Where the kernel's page cache has a segment's bytes, it copies by itself. In passthrough the bytes are here, and are
    /// copied here: the kernel would copy what its page cache does not have. Out of or into anything else nothing is
    /// copied, as the kernel would cut messages at the size of a pipe.
    pub(super) fn copy(&self, call: &CopyRange, now: Timestamp, fx: &mut Effects) -> Result<Reply, Error> {
        let (Ok(from), Ok(to)) = (self.handles.get(call.from), self.handles.get(call.to)) else {
            return Err(Error::Invalid);
        };
        let (Target::Segment { file: from, .. }, Target::Segment { file: to, write: true, .. }) =
            (&from.target, &to.target)
        else {
            return Err(Error::Invalid);
        };
        if self.setup.backing.is_none() {
            return Err(Error::NotSupported);
        }
        let memory = {
            let mut state = from.state.lock();
            state.meta.atime = now;
            Arc::clone(state.segment.memory())
        };
        // A short count, as any copy may have: whoever wants more asks again.
        let data = memory.read(call.from_offset, call.length.min(u64::from(MAX_WRITE)) as usize)?;
        self.with_room(to, now, fx, |state| {
            let written = state.segment.write(call.to_offset, &data)?;
            (state.meta.mtime, state.meta.ctime) = (now, now);
            Ok(if call.long { Reply::Copied(u64::from(written)) } else { Reply::Written(written) })
        })
    }
}
