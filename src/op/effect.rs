//! What follows from a request.

use super::{Error, NodeId, PollHandle, Reply, RequestId, Timestamp};

/// What the transport has to carry out once the domain has decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Answer a request: the one in hand or one that was waiting.
    Reply(RequestId, Reply),
    /// Tell the kernel that a polled file may be ready.
    Wake(PollHandle),
    /// An interrupt met no waiting request: it came before its request was parked, or after it was answered.
    /// The kernel is to ask again as long as it knows of the request.
    InterruptAgain {
        /// The interrupted request.
        unique: u64,
    },
    /// The kernel is to believe no more what it was told of a node's attributes, and to ask when it needs them. Comes
    /// before the answers of the request that changed them, so that whoever has such an answer sees the change.
    InvalidateAttr(NodeId),
    /// The tree wants to be told when it is this time.
    Alarm(Timestamp),
    /// Much of the memory that messages took has come free: the system may have it.
    TrimHeap,
}

/// The effects of a call, in order. Reused from call to call, so that the usual case allocates nothing.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
    /// The request in hand was put where it waits.
    parked: bool,
}

impl Effects {
    /// None yet.
    pub fn new() -> Effects {
        Effects::default()
    }

    /// Answer `request_id`.
    pub fn reply(&mut self, request_id: RequestId, reply: Reply) {
        self.list.push(Effect::Reply(request_id, reply));
    }

    /// Answer `request_id` with an error.
    pub fn fail(&mut self, request_id: RequestId, error: Error) {
        self.reply(request_id, Reply::Failed(error));
    }

    /// Tell the kernel that a polled file may be ready.
    pub fn wake(&mut self, handle: PollHandle) {
        self.list.push(Effect::Wake(handle));
    }

    /// What the kernel knows of a node's attributes is out of date. Done before everything else.
    pub fn invalidate_attr(&mut self, node: NodeId) {
        self.list.insert(0, Effect::InvalidateAttr(node));
    }

    /// Any other effect.
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// The request in hand waits: its answer, even one that comes at once, ends a wait.
    pub fn note_waiting(&mut self) {
        self.parked = true;
    }

    /// True if the request in hand was made to wait; asked once.
    pub fn take_waiting(&mut self) -> bool {
        std::mem::take(&mut self.parked)
    }

    /// Takes them all, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.list.drain(..)
    }

    /// Looks at them.
    pub fn iter(&self) -> impl Iterator<Item = &Effect> {
        self.list.iter()
    }
}
