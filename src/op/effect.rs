//! The effects of a request.

use super::answer::Reply;
use super::error::Error;
use super::{NodeId, PollHandle, RequestId, Timestamp};
use crate::accounts::Resource;

/// An effect that the transport carries out after the domain has handled a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send the reply to a request: to the current one, or to one that waited.
    Reply(RequestId, Reply),
    /// Tell the kernel that a polled file may be ready.
    Wake(PollHandle),
    /// No waiting request was found for an interrupt: it came before its request began to wait, or after it was
    /// answered. The kernel repeats the interrupt if the request is still unanswered.
    InterruptAgain {
        /// The interrupted request.
        unique: u64,
    },
    /// The kernel must drop the attributes of a node from its cache. Carried out before the replies to the request
    /// that changed them, so that whoever gets such a reply sees the change.
    InvalidateAttr(NodeId),
    /// Call the tree at this time.
    Alarm(Timestamp),
    /// A request was refused, or waits, because its user has used up a share of the mount's limits; the first of that user
    /// for that resource.
    #[allow(missing_docs)]
    ShareReached { uid: u32, resource: Resource },
    /// Much memory of messages was freed: return it to the system.
    TrimHeap,
}

/// The effects of a call, in order. Reused from call to call, so that the usual call allocates nothing.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
    /// The current request waits, or has waited.
    waiting: bool,
}

impl Effects {
    /// An empty list.
    pub fn new() -> Effects {
        Effects::default()
    }

    /// Adds a reply to `request_id`.
    pub fn reply(&mut self, request_id: RequestId, reply: Reply) {
        self.list.push(Effect::Reply(request_id, reply));
    }

    /// Adds an error as the reply to `request_id`.
    pub fn fail(&mut self, request_id: RequestId, error: Error) {
        self.reply(request_id, Reply::Failed(error));
    }

    /// Adds a wake-up for a polled file.
    pub fn wake(&mut self, handle: PollHandle) {
        self.list.push(Effect::Wake(handle));
    }

    /// Adds the invalidation of a node's cached attributes. It is carried out before everything else.
    pub fn invalidate_attr(&mut self, node: NodeId) {
        self.list.insert(0, Effect::InvalidateAttr(node));
    }

    /// Adds any other effect.
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Notes that the current request waits: its reply ends a wait, even if it comes at once.
    pub fn note_waiting(&mut self) {
        self.waiting = true;
    }

    /// True if the current request waits or has waited. Resets the note.
    pub fn take_waiting(&mut self) -> bool {
        std::mem::take(&mut self.waiting)
    }

    /// Removes all effects, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.list.drain(..)
    }

    /// All effects, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Effect> {
        self.list.iter()
    }
}
