//! What takes long with a segment's memory, in steps: allocating and clearing pages, and cutting it. tmpfs holds a file's lock
//! throughout; here other calls see how far it has come.

use std::sync::Arc;

use super::segment::{OpenSegment, SegmentFile};
use super::{Cx, FREE_STEP, Header, Job, Step};
use crate::op::{Error, Reply, RequestId, SetAttr, Validity};
use crate::segment::{KEEP_SIZE, Promised};
use crate::state::saved;

/// Bytes that one step allocates or clears.
const STEP: u64 = 1 << 20;

/// A job.
#[derive(Debug)]
pub(crate) enum SegmentJob {
    Allocate {
        request_id: RequestId,
        file: Arc<SegmentFile>,
        range: Range,
        promised: Option<Promised>,
    },
    Shrink {
        request_id: RequestId,
        file: Arc<SegmentFile>,
        set: SetAttr,
        size: u64,
        at: u64,
    },
    /// Frees what a job that had to end has allocated, from `at` to `end`.
    Undo {
        file: Arc<SegmentFile>,
        promised: Promised,
        at: u64,
        end: u64,
    },
}

saved!(enum SegmentJob {
    0 = Allocate { request_id, file, range, promised }, 1 = Shrink { request_id, file, set, size, at }, 2
    = Undo { file, promised, at, end },
});

/// What fallocate(2) was called with, and where it has come to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(super) at: u64,
    pub(super) end: u64,
    pub(super) mode: u32,
    from: u64,
}

saved!(struct Range { at, end, mode, from });

/// fallocate(2), if it is too long for one step.
pub(super) fn allocate(
    header: Header,
    open: &OpenSegment,
    (from, length, mode): (u64, u64, u32),
    cx: &mut Cx<'_>,
) -> bool {
    let Some(end) = from.checked_add(length).filter(|_| open.write && length > STEP) else { return false };
    let range = Range { at: from, end, mode, from };
    let (request_id, file) = (header.request_id, Arc::clone(&open.file));
    let job = SegmentJob::Allocate { request_id, file, range, promised: None };
    cx.wait_for(header, Job::Segment(job));
    true
}

/// ftruncate(2), if it frees too much for one step.
pub(super) fn shrink(header: Header, file: &Arc<SegmentFile>, set: &SetAttr, cx: &mut Cx<'_>) -> bool {
    let now = file.state.lock().segment.size();
    let Some(size) = set.size.filter(|size| now.saturating_sub(*size) > FREE_STEP) else { return false };
    let (request_id, file) = (header.request_id, Arc::clone(file));
    let job = SegmentJob::Shrink { request_id, file, set: *set, size, at: now };
    cx.wait_for(header, Job::Segment(job));
    true
}

impl SegmentJob {
    /// Takes a step.
    pub(super) fn step(self, ended: Option<Error>, cx: &mut Cx<'_>) -> Step {
        match self {
            SegmentJob::Allocate { request_id, file, range, promised } => {
                let error = match (ended, promised) {
                    (Some(error), _) => error,
                    (None, None) => match begin(&file, range, cx) {
                        Ok((range, promised)) => {
                            let promised = Some(promised);
                            return more(SegmentJob::Allocate { request_id, file, range, promised });
                        }
                        Err(error) => error,
                    },
                    (None, Some(_)) => match advance(&file, range, cx) {
                        Ok(range) if range.at < range.end => {
                            return more(SegmentJob::Allocate { request_id, file, range, promised });
                        }
                        Ok(_) => {
                            cx.fx.reply(request_id, Reply::Done);
                            return Step::Done;
                        }
                        Err(error) => error,
                    },
                };
                cx.fx.fail(request_id, error);
                match promised {
                    Some(promised) => {
                        more(SegmentJob::Undo { file, promised, at: range.from, end: range.at })
                    }
                    None => Step::Done,
                }
            }
            SegmentJob::Shrink { request_id, file, set, size, at } => {
                let at = size.max(at.saturating_sub(FREE_STEP));
                let mut state = file.state.lock();
                let current = state.segment.size();
                // ftruncate(2) of tmpfs is never interrupted; what is cut already cannot come back.
                let resized = match ended.filter(|error| *error != Error::Interrupted) {
                    Some(error) => Err(error),
                    None => state.segment.resize(if at == size { size } else { at.min(current) }),
                };
                match resized {
                    Ok(()) if at > size => {
                        drop(state);
                        return more(SegmentJob::Shrink { request_id, file, set, size, at });
                    }
                    Ok(()) => {
                        state.meta.mtime = cx.now.time();
                        state.meta.set(&set, false, cx.now.time());
                        cx.fx.reply(request_id, Reply::Attr(state.attr(file.ino), Validity::None));
                    }
                    Err(error) => cx.fx.fail(request_id, error),
                }
                Step::Done
            }
            SegmentJob::Undo { file, promised, at, end } => {
                let mut state = file.state.lock();
                let at = at.max(state.segment.size());
                if at >= end {
                    state.segment.undo_allocate(promised);
                    return Step::Done;
                }
                // If this fails, the pages are freed with the last step.
                let _ = state.segment.memory().punch(at, FREE_STEP.min(end - at));
                drop(state);
                let at = at.saturating_add(FREE_STEP);
                Step::First(Job::Segment(SegmentJob::Undo { file, promised, at, end }))
            }
        }
    }
}

fn more(job: SegmentJob) -> Step {
    Step::More(Job::Segment(job))
}

/// Checks all of it, and promises the memory.
fn begin(file: &SegmentFile, range: Range, cx: &mut Cx<'_>) -> Result<(Range, Promised), Error> {
    let (end, promised) = file.with_memory(cx, |state| {
        state.segment.begin_allocate(range.from, range.end - range.from, range.mode)
    })?;
    Ok((Range { end, ..range }, promised))
}

/// The next part of it. The last part makes the file longer, if it does.
fn advance(file: &SegmentFile, range: Range, cx: &mut Cx<'_>) -> Result<Range, Error> {
    let now = cx.now.time();
    let left = range.end.saturating_sub(range.at);
    let (length, mode) = if left > STEP { (STEP, range.mode | KEEP_SIZE) } else { (left, range.mode) };
    file.with_memory(cx, |state| {
        if length > 0 {
            state.segment.fallocate(range.at, length, mode)?;
        }
        (state.meta.mtime, state.meta.ctime) = (now, now);
        Ok(Range { at: range.at + length, ..range })
    })
}
