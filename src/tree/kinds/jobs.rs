//! Work that takes long, one step at a time, and the requests that begin it.

use std::sync::Arc;

use super::{
    Broadcaster, Cx, FREE_STEP, Header, Inode, Job, OpenFile, Read, Selecting, Step, Wait, doorbell, mailbox,
    segment_work,
};
use crate::op::{Effect, Error, Fh, Poller, Ready, Reply, SetAttr};
use crate::tree::waiting::ring_reads::{Carried, RingCall};

/// Number of reads by the page cache, without one by read(2) between them, that are refused before they get the end of the
/// file. No program calls splice(2) as often without falling back to read(2).
const MAX_REFUSALS: u32 = 64;

/// Takes one step of the next job. False if there is none.
pub(crate) fn work(cx: &mut Cx<'_>) -> bool {
    let work = &cx.tree.work;
    let Some((id, job, ended)) = work.take() else { return false };
    let step = match job {
        Job::Segment(job) => job.step(ended, cx),
        Job::Select(file, header, what) => match ended {
            Some(error) => {
                cx.fx.fail(header.request_id, error);
                Step::Done
            }
            None => select_step(file, header, what, cx),
        },
        Job::Send(file, mut text) => {
            if text.copy_some() {
                Step::More(Job::Send(file, text))
            } else {
                mailbox::send_long(&file, *text, cx);
                Step::Done
            }
        }
        Job::Purge(job) => job.step(ended, cx),
        Job::Readers(of) => {
            let more = match &of {
                Broadcaster::Topic(file) => file.advance(cx),
                Broadcaster::Segment(file) => doorbell::advance(file, cx),
            };
            if more { Step::More(Job::Readers(of)) } else { Step::Done }
        }
        Job::Discard(file) => {
            if mailbox::discard(&file, cx) {
                Step::First(Job::Discard(file))
            } else {
                Step::Done
            }
        }
        Job::Prune(uid) => {
            let (nodes, more) = cx.tree.names.lock().nodes.superfluous(uid);
            if !nodes.is_empty() {
                cx.fx.push(Effect::Prune(nodes));
            }
            if more { Step::More(Job::Prune(uid)) } else { Step::Done }
        }
        Job::Free { memory, at } => {
            let at = at.saturating_sub(FREE_STEP);
            // If truncating fails, the memory is freed with the last reference to it.
            let more = memory.set_len(at).is_ok() && at > 0;
            if more { Step::First(Job::Free { memory, at }) } else { Step::Done }
        }
    };
    match step {
        Step::More(job) => work.put_back(id, job, false),
        Step::First(job) => work.put_back(id, job, true),
        Step::Waits(unique) => {
            // Its caller got a signal during the last step.
            if let Some(error) = work.done(id)
                && let Some(Wait::File(inode, wait)) = cx.tree.waits.find(unique)
            {
                inode.ops().cancel(wait, error, cx);
            }
        }
        Step::Done => drop(work.done(id)),
    }
    true
}

impl OpenFile {
    /// Whether a read through `io_uring` that begins where the one before began is for what comes next. Any part of a segment
    /// may be read again, and a stream has no position.
    fn is_read_on(&self) -> bool {
        match self {
            OpenFile::Mailbox(open) => open.seekable,
            OpenFile::Topic(open) => open.seekable,
            OpenFile::Doorbell(open) => open.seekable,
            OpenFile::Remote(open) => open.seekable,
            OpenFile::Message(_) | OpenFile::RemoteMessage(_) | OpenFile::Control(_) => true,
            OpenFile::Segment(_) | OpenFile::Purge(_) | OpenFile::RemotePurge(_) | OpenFile::Listing(_) => {
                false
            }
        }
    }
}

/// READ of an open file. `None`: answered among the effects, or waiting.
pub(crate) fn read(header: Header, fh: Fh, call: Read, cx: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
    let who = (fh, header.caller.pid);
    let ring_call =
        if call.direct { cx.tree.ring_reads.reads(who, call.offset, call.size) } else { RingCall::Plain };
    let (at, before) = match ring_call {
        RingCall::Plain => return select(header, fh, Selecting::Read(call), cx),
        RingCall::GoesOn => return Ok(Some(Reply::Data(Vec::new()))),
        RingCall::Reads { at, before } => (at, before),
    };
    let file = cx.tree.handles.get(fh)?;
    let at = if file.is_read_on() { at } else { call.offset };
    let text = matches!(*file, OpenFile::Message(_) | OpenFile::RemoteMessage(_) | OpenFile::Control(_));
    let carried = Carried { offset: call.offset, at, size: call.size, before, text };
    cx.tree.ring_reads.carried(who, header.unique(), carried);
    // Somebody else may have been faster. Then it polls.
    select(header, fh, Selecting::Read(Read { offset: at, nonblock: true, ..call }), cx)
}

/// POLL of an open file. `reads`: `io_uring` asks, see [`crate::tree::waiting::ring_reads`].
pub(crate) fn poll(
    header: Header,
    fh: Fh,
    arm: Option<Poller>,
    reads: bool,
    cx: &mut Cx<'_>,
) -> Result<Option<Reply>, Error> {
    let (ring_reads, who) = (&cx.tree.ring_reads, (fh, header.caller.pid));
    let goes_on = if reads { ring_reads.asked(who, header.unique()) } else { ring_reads.polls(who) };
    if goes_on {
        return Ok(Some(Reply::Ready(Ready { readable: true, ..Ready::default() })));
    }
    select(header, fh, Selecting::Poll(arm), cx)
}

/// READ or POLL of an open file. `None`: answered among the effects, or waiting.
fn select(header: Header, fh: Fh, what: Selecting, cx: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
    let direct = !matches!(what, Selecting::Read(Read { direct: false, .. }));
    let (file, page_cache_reads) = cx.tree.handles.get_to_read(fh, direct)?;
    if !direct && !matches!(*file, OpenFile::Segment(_)) {
        if let OpenFile::Mailbox(open) = &*file {
            open.note_copying();
        }
        return refuse_page_cache(page_cache_reads).map(Some);
    }
    let takes_long = match (&*file, what) {
        (OpenFile::Mailbox(open), _) => !open.index_some(),
        (OpenFile::Control(open), Selecting::Read(call)) => open.is_long(call, cx),
        _ => false,
    };
    if takes_long {
        cx.wait_for(header, Job::Select(file, header, what));
        return Ok(None);
    }
    let answer = selected(&file, header, what, cx)?;
    if cx.fx.take_postponed() {
        cx.wait_for(header, Job::Select(file, header, what));
        return Ok(None);
    }
    Ok(answer)
}

/// Only read(2) takes messages and texts. The page cache asks for whole pages on behalf of others, and would keep what it
/// gets. Refused, a program that used splice(2) or sendfile(2) falls back to read(2).
///
/// A mapping with `MAP_POPULATE` asks again and again, because the kernel takes any failure of the page cache for a fault to
/// be repeated (`populate_vma_page_range` in its mm/gup.c). The end of the file ends that: no page is beyond it.
fn refuse_page_cache(reads: u32) -> Result<Reply, Error> {
    if reads <= MAX_REFUSALS { Err(Error::Invalid) } else { Ok(Reply::Data(Vec::new())) }
}

fn selected(
    file: &OpenFile,
    header: Header,
    what: Selecting,
    cx: &mut Cx<'_>,
) -> Result<Option<Reply>, Error> {
    match (what, file) {
        (Selecting::Read(call), _) => file.ops().read(header, call, cx),
        (Selecting::Poll(arm), OpenFile::Remote(open)) => {
            Ok(open.poll_or_wait(header, arm, cx).map(Reply::Ready))
        }
        (Selecting::Poll(arm), _) => Ok(Some(Reply::Ready(file.ops().poll(arm, cx)))),
    }
}

fn select_step(file: Arc<OpenFile>, header: Header, what: Selecting, cx: &mut Cx<'_>) -> Step {
    if let OpenFile::Mailbox(open) = &*file
        && !open.index_some()
    {
        return Step::More(Job::Select(file, header, what));
    }
    match selected(&file, header, what, cx) {
        Ok(_) if cx.fx.take_postponed() => return Step::More(Job::Select(file, header, what)),
        Ok(Some(reply)) => cx.fx.reply(header.request_id, reply),
        Ok(None) => {}
        Err(error) => cx.fx.fail(header.request_id, error),
    }
    Step::Waits(header.unique())
}

/// FALLOCATE of an offset and a length, in a mode. `None`: it waits for a job.
pub(crate) fn allocate(
    header: Header,
    fh: Fh,
    range: (u64, u64, u32),
    cx: &mut Cx<'_>,
) -> Result<Option<Reply>, Error> {
    let file = cx.tree.handles.get(fh)?;
    if let OpenFile::Segment(open) = &*file
        && segment_work::allocate(header, open, range, cx)
    {
        return Ok(None);
    }
    file.ops().allocate(range.0, range.1, range.2, cx).map(|()| Some(Reply::Done))
}

/// SETATTR of a size that frees so much memory that a job does it. True: the request waits for it.
pub(crate) fn shrink(header: Header, inode: &Inode, set: &SetAttr, cx: &mut Cx<'_>) -> bool {
    if let Inode::Segment(file) = inode { segment_work::shrink(header, file, set, cx) } else { false }
}
