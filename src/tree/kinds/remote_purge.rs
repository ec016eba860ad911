//! The file `purge` of a mailbox that several hosts share: as [`super::purge`], and the engine does it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::control::refusal_noted;
use super::remote::RemoteFile;
use super::remote_ask::What;
use super::{Cx, FileOps, Header, Read, Write};
use crate::control;
use crate::engine::Asked;
use crate::op::{Error, NodeId, Reply};
use crate::state::{Restorer, Saved, Saver};

/// An open file that removes messages.
#[derive(Debug)]
pub(crate) struct OpenRemotePurge {
    file: Arc<RemoteFile>,
    /// The node, and whether it was opened for writing.
    node: (NodeId, bool),
    /// What is left to read of the answer to the last write.
    answer: Arc<Mutex<Vec<u8>>>,
}

impl OpenRemotePurge {
    pub(super) fn new(file: &Arc<RemoteFile>, node: (NodeId, bool)) -> OpenRemotePurge {
        OpenRemotePurge { file: Arc::clone(file), node, answer: Arc::default() }
    }
}

/// A tree that has such a file is not saved (`Tree::save`).
impl Saved for OpenRemotePurge {
    fn save(&self, _: &mut Saver<'_>) {}

    fn restore(_: &mut Restorer<'_>) -> Option<OpenRemotePurge> {
        None
    }
}

impl FileOps for OpenRemotePurge {
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
        let about = What::Purge(Arc::clone(&self.answer), call.data.len() as u32);
        self.file.ask(header, about, Asked::Purge(what.ok_or(Error::Invalid)?), cx)?;
        Ok(None)
    }

    fn close(&self, cx: &mut Cx<'_>) {
        cx.tree.names.lock().nodes.close(self.node.0, self.node.1);
    }
}
