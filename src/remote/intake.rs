//! What comes to readers: the messages of a mailbox, or the questions that were asked in it. Of each, who waits, and for whom the
//! engine is asked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::accounts::Charge;
use crate::engine::Message;
use crate::mailbox::{HandleId, Receive, WaitId};
use crate::op::{Moment, RequestId};

/// Invariant: *while a reader waits, no message is held.*
#[derive(Debug, Default)]
pub(super) struct Intake {
    pub(super) readers: VecDeque<(WaitId, Receive, Moment)>,
    pub(super) pollers: VecDeque<(WaitId, HandleId, RequestId)>,
    /// Pulls that wait, and those that do not, with the read or poll each is for.
    pub(super) pulls: BTreeSet<u64>,
    pub(super) looks: BTreeMap<u64, WaitId>,
    /// For readers that were told of it by poll(2).
    pub(super) held: Option<Held>,
}

/// A message that no reader has yet.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) message: Message,
    pub(super) since: Moment,
    /// Its bytes are charged to one who polls.
    pub(super) _charge: Charge,
}

impl Intake {
    /// A reader waits no more. A look for it goes on.
    pub(super) fn take_reader(&mut self, id: WaitId) -> Option<Receive> {
        let at = self.readers.iter().position(|(reader, ..)| *reader == id)?;
        self.readers.remove(at).map(|(_, call, _)| call)
    }

    /// The reader that gets the message of a pull: the one that it was looked for, or else the one that has waited longest.
    pub(super) fn next_reader(&mut self, looker: Option<WaitId>) -> Option<Receive> {
        let at = self.readers.iter().position(|(id, ..)| Some(*id) == looker).unwrap_or(0);
        let (id, call, _) = self.readers.remove(at)?;
        self.looks.retain(|_, look| *look != id);
        Some(call)
    }

    /// The readers at an open file, in order. They wait no more.
    pub(super) fn take_readers_at(&mut self, handle: HandleId) -> Vec<Receive> {
        let (those, others) =
            std::mem::take(&mut self.readers).into_iter().partition(|(_, call, _)| call.handle == handle);
        self.readers = others;
        let those: VecDeque<(WaitId, Receive, Moment)> = those;
        self.looks.retain(|_, look| those.iter().all(|(id, ..)| id != look));
        those.into_iter().map(|(_, call, _)| call).collect()
    }

    /// A poll waits no more.
    pub(super) fn take_poller(&mut self, id: WaitId) -> Option<RequestId> {
        let at = self.pollers.iter().position(|(poller, ..)| *poller == id)?;
        self.pollers.remove(at).map(|(.., request)| request)
    }
}
