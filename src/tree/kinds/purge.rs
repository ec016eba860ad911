//! The file `purge` of a mailbox: what is written says which queued messages to remove, what is read how many that were.

use std::sync::Arc;

use parking_lot::Mutex;

use super::control::refusal_noted;
use super::mailbox::MailboxFile;
use super::{Cx, FileOps, Header, Job, Read, Step, Write};
use crate::control;
use crate::mailbox::{Purge, Purging};
use crate::op::{Barrier, Error, NodeId, Reply, RequestId};
use crate::state::saved;

/// An open file that removes messages.
#[derive(Debug)]
pub(crate) struct OpenPurge {
    file: Arc<MailboxFile>,
    node: NodeId,
    write: bool,
    answer: Answer,
}

saved!(struct OpenPurge { file, node, write, answer });

/// What is left to read of the answer to the last write.
type Answer = Arc<Mutex<Vec<u8>>>;

/// Removes messages, for a write that waits.
#[derive(Debug)]
pub(crate) struct PurgeJob {
    file: Arc<MailboxFile>,
    request_id: RequestId,
    written: u32,
    answer: Answer,
    what: Purge,
    /// `None` before the first step.
    purging: Option<Purging>,
    /// What its steps have recorded, which the answer has to wait for.
    recorded: Option<Barrier>,
}

saved!(struct PurgeJob { file, request_id, written, answer, what, purging, recorded });

impl OpenPurge {
    pub(super) fn new(file: &Arc<MailboxFile>, node: NodeId, write: bool) -> OpenPurge {
        OpenPurge { file: Arc::clone(file), node, write, answer: Answer::default() }
    }
}

impl FileOps for OpenPurge {
    fn read(&self, _: Header, call: Read, _: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
        let mut answer = self.answer.lock();
        let length = answer.len().min(call.size as usize);
        let rest = answer.split_off(length);
        Ok(Some(Reply::Data(std::mem::replace(&mut *answer, rest))))
    }

    fn write(&self, header: Header, call: Write<'_>, cx: &mut Cx<'_>) -> Result<Option<Reply>, Error> {
        let mut what = None;
        let parsed = control::purge(call.data).map(|parsed| what = Some(parsed));
        refusal_noted(parsed, &mut self.file.state.lock().refusal)?;
        let job = PurgeJob {
            file: Arc::clone(&self.file),
            request_id: header.request_id,
            written: call.data.len() as u32,
            answer: Arc::clone(&self.answer),
            what: what.ok_or(Error::Invalid)?,
            purging: None,
            recorded: None,
        };
        cx.wait_for(header, Job::Purge(Box::new(job)));
        Ok(None)
    }

    fn close(&self, cx: &mut Cx<'_>) {
        cx.tree.names.lock().nodes.close(self.node, self.write);
    }

    fn node(&self) -> Option<NodeId> {
        Some(self.node)
    }
}

impl PurgeJob {
    /// Takes a step.
    pub(super) fn step(mut self: Box<Self>, ended: Option<Error>, cx: &mut Cx<'_>) -> Step {
        if let Some(error) = ended {
            cx.fx.fail(self.request_id, error);
            return Step::Done;
        }
        if let Some(Barrier { record, synced }) = self.recorded {
            cx.fx.note_recorded(record, synced);
        }
        let PurgeJob { file, what, purging, .. } = &mut *self;
        let (more, removed) = file.with(cx, |state, cx| {
            if state.queue.is_removed() {
                return (false, None);
            }
            let purging = purging.get_or_insert_with(|| state.queue.begin_purge(what.clone(), cx));
            (state.queue.purge_some(purging, cx), Some(purging.removed()))
        });
        self.recorded = cx.fx.recorded();
        if more {
            return Step::More(Job::Purge(self));
        }
        match removed {
            Some(removed) => {
                *self.answer.lock() = format!("{removed}\n").into_bytes();
                cx.fx.reply(self.request_id, Reply::Written(self.written));
            }
            None => cx.fx.fail(self.request_id, Error::Removed),
        }
        Step::Done
    }
}
