//! Waiting lock calls, in order of arrival.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::WaitId;
use super::request::{LockRequest, Target};
use crate::op::{Ino, LockOwner, RequestId};
use crate::state::saved;

/// A waiting call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) request: LockRequest,
    pub(super) request_id: RequestId,
}

saved!(struct Waiting { request, request_id });

/// All waiting calls of a mount. Ids increase, so the order of ids is the order of arrival.
///
/// `calls` has the calls. `files` finds the file of a call by its id, `owners` the waiting calls for byte ranges by
/// their owner. [`Waits::add`] and [`Waits::remove`] keep the three consistent.
#[derive(Debug, Default)]
pub(super) struct Waits {
    next: u64,
    calls: BTreeMap<(Ino, WaitId), Waiting>,
    files: HashMap<WaitId, Ino>,
    owners: BTreeSet<(LockOwner, WaitId)>,
}

saved!(struct Waits { next, calls, files, owners });

impl Waits {
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(super) fn add(&mut self, file: Ino, waiting: Waiting) -> WaitId {
        let id = WaitId(self.next);
        self.next += 1;
        self.calls.insert((file, id), waiting);
        self.files.insert(id, file);
        if waiting.request.target != Target::Flock {
            self.owners.insert((waiting.request.holder.owner, id));
        }
        id
    }

    /// `None` if the call does not wait any more.
    pub(super) fn remove(&mut self, id: WaitId) -> Option<Waiting> {
        let file = self.files.remove(&id)?;
        let waiting = self.calls.remove(&(file, id))?;
        self.owners.remove(&(waiting.request.holder.owner, id));
        Some(waiting)
    }

    /// The calls that wait for locks on `file`, in order of arrival.
    pub(super) fn of_file(&self, file: Ino) -> impl Iterator<Item = (WaitId, &Waiting)> {
        self.calls
            .range((file, WaitId(0))..=(file, WaitId(u64::MAX)))
            .map(|(&(_, id), waiting)| (id, waiting))
    }

    /// The waiting calls of `owner` for byte ranges of any file.
    pub(super) fn of_owner(&self, owner: LockOwner) -> impl Iterator<Item = (Ino, &Waiting)> {
        self.owners.range((owner, WaitId(0))..=(owner, WaitId(u64::MAX))).filter_map(|(_, id)| {
            let file = *self.files.get(id)?;
            Some((file, self.calls.get(&(file, *id))?))
        })
    }
}
