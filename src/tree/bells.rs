//! A segment's doorbell: `notify`, which anyone who may write to the segment can ring, and `wait`, which hears it.
//!
//! It is a topic whose messages are counts of how often it was rung, of which the last waits for each who listens.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Tree;
use super::handles::{Handle, Read, Target};
use super::objects::{Child, SegmentFile, SegmentState};
use super::parked;
use super::place::{Place, Slot};
use crate::mailbox::{Context, HandleId, Mode, Receive};
use crate::op::{
    Caller, Effects, Error, Ino, NodeId, OpenAs, OpenFlags, Opened, Reply, RequestId, Timestamp,
};
use crate::topic::{self, Topic};

/// A count and a newline.
const LONGEST: u32 = 32;

/// `notify` and `wait`, in this order in listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bell {
    Notify,
    Wait,
}

/// A segment's doorbell, from the first time that anyone uses it.
#[derive(Debug)]
pub(super) struct Doorbell {
    rung: u64,
    pub(super) topic: Topic,
}

impl Bell {
    pub(super) const ALL: [Bell; 2] = [Bell::Notify, Bell::Wait];

    /// Permissions: whoever may write rings, whoever may read hears. To hear without ends of file, it is opened `O_RDWR`.
    pub(super) fn mode(self, segment: u32) -> u32 {
        match self {
            Bell::Notify => segment & 0o222,
            Bell::Wait => segment & 0o444 | (segment & 0o444) >> 1,
        }
    }
}

impl SegmentState {
    /// The doorbell, made when it is first needed.
    fn bell(&mut self, now: Timestamp) -> &mut Doorbell {
        self.bell.get_or_insert_with(|| {
            let limits = topic::Limits { msgsize: LONGEST, backlog: 1 };
            Box::new(Doorbell { rung: 0, topic: Topic::new(limits, now) })
        })
    }
}

impl Tree {
    pub(super) fn open_bell(
        &self,
        place: Place,
        bell: Bell,
        flags: OpenFlags,
        caller: Caller,
        now: Timestamp,
    ) -> Result<Opened, Error> {
        let file = self.segment_numbered(place.object).ok_or(Error::NotFound)?;
        let node = NodeId(place.ino().0);
        let (target, how) = match bell {
            Bell::Notify if flags.read => return Err(Error::AccessDenied),
            Bell::Notify => (Target::Notify { file }, OpenAs::Text),
            Bell::Wait if !flags.read => return Err(Error::AccessDenied),
            Bell::Wait => {
                let mode = if flags.write { Mode::Both } else { Mode::Receive };
                let (id, seekable) = file.state.lock().bell(now).topic.open(mode, caller);
                let how = if seekable { OpenAs::Message } else { OpenAs::Stream };
                (Target::Wait { file, id }, how)
            }
        };
        Ok(Opened { fh: self.handles.insert(Handle { node, target }), how })
    }

    /// Rings: whatever was written. Everyone who waits gets the count.
    pub(super) fn ring(&self, file: &SegmentFile, length: usize, now: Timestamp, fx: &mut Effects) -> Reply {
        let mut state = file.state.lock();
        let bell = state.bell(now);
        bell.rung += 1;
        let count = format!("{}\n", bell.rung);
        bell.topic.publish(count.as_bytes(), &mut Context { now, memory: &self.memory, fx });
        Reply::Written(length as u32)
    }

    /// `Ok(None)`: answered among the effects, or waiting.
    pub(super) fn hear(
        &self,
        file: &Arc<SegmentFile>,
        handle: HandleId,
        (request_id, caller): (RequestId, Caller),
        call: Read,
        now: Timestamp,
        fx: &mut Effects,
    ) -> Result<Option<Reply>, Error> {
        if !call.direct {
            return Err(Error::Invalid);
        }
        let Read { offset, nonblock, .. } = call;
        let receive = Receive { request_id, handle, offset, size: call.size as usize, nonblock, caller };
        let mut state = file.state.lock();
        let mut cx = Context { now, memory: &self.memory, fx };
        let topic = &mut state.bell(now).topic;
        if let Some(id) = topic.receive(receive, &mut cx) {
            self.parked.insert(request_id.unique, parked::Place::Bell(Arc::clone(file), id), now);
            cx.fx.note_waiting();
            if self.ending.load(Ordering::SeqCst) {
                topic.cancel(id, Error::Ending, &mut cx);
            }
        }
        Ok(None)
    }

    fn segment_numbered(&self, ino: Ino) -> Option<Arc<SegmentFile>> {
        match &self.names.lock().located(ino)?.child {
            Child::Segment(file) => Some(Arc::clone(file)),
            Child::Folder(_) | Child::Mailbox(_) | Child::Topic(_) => None,
        }
    }
}

/// The bell at a place, if the object there is a segment.
pub(super) fn bell_at(slot: Slot) -> Option<Bell> {
    match slot {
        Slot::Door(index) => Bell::ALL.get(index).copied(),
        Slot::Top | Slot::Config | Slot::Messages | Slot::File(_) => None,
    }
}
