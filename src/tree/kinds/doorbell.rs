//! The files of a segment's doorbell: `notify`, which whoever may write to the segment can ring, and `wait`, which waits
//! for that.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::control::{ControlNode, Slot};
use super::mailbox::{check_receives, receive};
use super::segment::{Bell, SegmentFile};
use super::{
    Cx, FileOps, Header, Inode, InodeOps, Names, OpenFile, Read, Wait, Write, mode_of, set_size_only,
};
use crate::mailbox::{Context, HandleId, WaitId};
use crate::op::{
    Attr, Error, Ino, NodeId, OpenAs, OpenFlags, Opened, Poller, Ready, Reply, SetAttr, Validity,
};
use crate::state::saved;
use crate::tree::names::meta::REGULAR;

/// What its files report as their size: no less than one reading of them gives.
const SIZE: u64 = 4096;

/// The files of a doorbell, in the order of [`crate::control::DOORBELL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DoorbellFile {
    Notify,
    Wait,
}

/// A node of one of them.
#[derive(Debug, Clone)]
pub(crate) struct Doorbell {
    place: ControlNode,
    file: DoorbellFile,
    segment: Arc<SegmentFile>,
}

/// One of them, open. `id` is of the topic's reader, for `wait`.
#[derive(Debug)]
pub(crate) struct OpenDoorbell {
    segment: Arc<SegmentFile>,
    id: Option<HandleId>,
    /// It has a position, within the count that it reads.
    pub(super) seekable: bool,
}

saved!(struct OpenDoorbell { segment, id, seekable since 4 });

impl DoorbellFile {
    /// The one at a slot of a segment's folder.
    pub(super) fn at(slot: Slot) -> Option<DoorbellFile> {
        match slot {
            Slot::Door(0) => Some(DoorbellFile::Notify),
            Slot::Door(1) => Some(DoorbellFile::Wait),
            _ => None,
        }
    }

    /// Permissions: whoever may write rings, whoever may read waits. To wait without ends of file, it is opened `O_RDWR`.
    fn mode(self, segment: u32) -> u32 {
        match self {
            DoorbellFile::Notify => segment & 0o222,
            DoorbellFile::Wait => segment & 0o444 | (segment & 0o444) >> 1,
        }
    }
}

impl Doorbell {
    pub(super) fn new(place: ControlNode, file: DoorbellFile, segment: &Arc<SegmentFile>) -> Doorbell {
        Doorbell { place, file, segment: Arc::clone(segment) }
    }

    fn attr_now(&self) -> Attr {
        let meta = self.segment.state.lock().meta.attr(self.place.ino(), REGULAR);
        Attr { size: SIZE, mode: REGULAR | self.file.mode(meta.mode), ..meta }
    }
}

impl InodeOps for Doorbell {
    fn ino(&self) -> Ino {
        self.place.ino()
    }

    fn attr(&self, _: NodeId, _: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        Ok((self.attr_now(), Validity::None))
    }

    fn set_attr(&self, _: Header, set: &SetAttr, _: &mut Cx<'_>) -> Result<(Attr, Validity), Error> {
        set_size_only(set)?;
        Ok((self.attr_now(), Validity::None))
    }

    fn open(
        &self,
        header: Header,
        flags: OpenFlags,
        names: MutexGuard<'_, Names>,
        cx: &mut Cx<'_>,
    ) -> Result<Opened, Error> {
        drop(names);
        let (id, how) = match self.file {
            DoorbellFile::Notify if flags.read => return Err(Error::AccessDenied),
            DoorbellFile::Wait if !flags.read => return Err(Error::AccessDenied),
            DoorbellFile::Notify => (None, OpenAs::Text),
            DoorbellFile::Wait => {
                check_receives(flags)?;
                let topic = &mut self.segment.state.lock();
                let topic = &mut topic.bell(cx.now.time()).topic;
                let (id, seekable) = topic.open(mode_of(flags), header.caller, cx.opener(header.caller));
                (Some(id), if seekable { OpenAs::Message } else { OpenAs::Stream })
            }
        };
        let seekable = how == OpenAs::Message;
        let open = OpenDoorbell { segment: Arc::clone(&self.segment), id, seekable };
        Ok(Opened { fh: cx.opened(OpenFile::Doorbell(open)), how })
    }
}

impl OpenDoorbell {
    /// Works on the doorbell under the segment's lock, for a call that may have to wait.
    fn with_waiting(
        &self,
        header: Header,
        cx: &mut Cx<'_>,
        work: impl FnOnce(&mut Bell, &mut Context<'_>) -> Option<WaitId>,
    ) {
        let mut state = self.segment.state.lock();
        let bell = state.bell(cx.now.time());
        if let Some(id) = work(bell, &mut cx.domain()) {
            cx.fx.note_waiting();
            let wait = Wait::File(Inode::Segment(Arc::clone(&self.segment)), id);
            if !cx.tree.waits.insert(header.unique(), wait, cx.now.moment) {
                bell.topic.cancel(id, Error::Ending, &mut cx.domain());
            }
        }
        bell.leave_rest_to_job(&self.segment, cx);
    }
}

/// Takes a step of what was left for a job. False if that was all.
pub(super) fn advance(segment: &SegmentFile, cx: &mut Cx<'_>) -> bool {
    let mut state = segment.state.lock();
    state.bell.as_mut().is_some_and(|bell| bell.topic.advance(&mut cx.domain()))
}

impl FileOps for OpenDoorbell {
    fn read(&self, header: Header, call: Read, cx: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
        let id = self.id.ok_or(Error::BadDescriptor)?;
        let call = receive(header, id, call);
        self.with_waiting(header, cx, |bell, cx| bell.topic.receive(call, cx));
        Ok(None)
    }

    /// Rings, whatever was written. Everyone who waits gets the count.
    fn write(&self, header: Header, call: Write<'_>, cx: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
        if self.id.is_some() {
            return Err(Error::BadDescriptor);
        }
        let written = call.data.len() as u32;
        self.with_waiting(header, cx, |bell, cx| {
            bell.count += 1;
            let count = format!("{}\n", bell.count);
            bell.topic.publish(count.as_bytes(), header.request_id, written, cx)
        });
        Ok(None)
    }

    fn poll(&self, arm: Option<Poller>, cx: &mut Cx<'_>) -> Ready {
        let Some(id) = self.id else { return Ready { readable: true, writable: true, hangup: false } };
        let mut state = self.segment.state.lock();
        let ready = state.bell.as_mut().map(|bell| bell.topic.poll(id, arm, &mut cx.domain()));
        ready.unwrap_or_default()
    }

    fn close(&self, cx: &mut Cx<'_>) {
        if let Some(id) = self.id
            && let Some(bell) = &mut self.segment.state.lock().bell
        {
            bell.topic.close(id, &mut cx.domain());
        }
    }
}
