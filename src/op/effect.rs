//! The effects of a request.

use super::answer::Reply;
use super::error::Error;
use super::{Ino, Moment, NodeId, PollHandle, RequestId};
use crate::accounts::Resource;
use crate::engine::{Command, DeliveryId};
use crate::state::{Restorer, Saved, Saver};

/// Messages that a reply hands over. They are gone once the kernel has the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Messages of a durable mailbox with consecutive ids.
    #[allow(missing_docs)]
    Stored { mailbox: Ino, first: u64, count: u64 },
    /// A message that the engine has delivered.
    Delivery(DeliveryId),
}

/// Up to which record of the journal a reply waits, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    /// Number of the record.
    pub record: u64,
    /// It must be synchronized, not only written.
    pub synced: bool,
}

// All records are written and synchronized before a state is saved: nobody waits for those any more.
impl Saved for Barrier {
    fn save(&self, _: &mut Saver<'_>) {}

    fn restore(_: &mut Restorer<'_>) -> Option<Barrier> {
        Some(Barrier { record: 0, synced: false })
    }
}

/// An effect that the transport carries out after the domain has handled a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Send the reply to a request: to the current one, or to one that waited.
    Reply(RequestId, Reply),
    /// Send the reply to a request, and then record that these messages are gone.
    Deliver(RequestId, Reply, Vec<Taken>),
    /// Send the reply to a request once the journal has what it promises.
    Promise(Barrier, RequestId, Reply),
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
    /// The kernel is to forget those of these nodes that nobody uses.
    Prune(Vec<NodeId>),
    /// Call the tree at this time.
    Alarm(Moment),
    /// Call [`Tree::work`](crate::tree::Tree::work), on a thread that serves no requests, until nothing is left to do.
    Work,
    /// A request was refused, or waits, because its user has used up a share of the mount's limits; the first of that user
    /// for that resource.
    #[allow(missing_docs)]
    ShareReached { uid: u32, resource: Resource },
    /// Tell the engine that carries the mailboxes of several hosts.
    Engine(Box<Command>),
    /// Much memory of messages was freed: return it to the system.
    TrimHeap,
}

/// The effects of a call, in order. Reused from call to call, so that the usual call allocates nothing.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
    /// The current request waits, or has waited.
    waiting: bool,
    /// The current request is to be handled again.
    postponed: bool,
    /// What was decided is in the journal up to here.
    barrier: Option<Barrier>,
    /// The generation of the history that must stay until all is performed.
    in_hand: Option<u8>,
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

    /// Adds a reply that hands over messages of a durable mailbox.
    pub fn deliver(&mut self, request_id: RequestId, reply: Reply, taken: Vec<Taken>) {
        self.list.push(if taken.is_empty() {
            Effect::Reply(request_id, reply)
        } else {
            Effect::Deliver(request_id, reply, taken)
        });
    }

    /// Notes that a decision was recorded: replies that promise something wait for it.
    pub fn note_recorded(&mut self, record: u64, synced: bool) {
        let synced = synced || self.barrier.is_some_and(|barrier| barrier.synced);
        self.barrier = Some(Barrier { record, synced });
    }

    /// What was decided is in the journal up to here, if anything was recorded.
    pub fn recorded(&self) -> Option<Barrier> {
        self.barrier
    }

    /// Makes the replies wait that promise something, if a decision was recorded. To be called when all effects of a request
    /// are there.
    pub fn defer_promises(&mut self) {
        let Some(barrier) = self.barrier.take() else { return };
        for effect in &mut self.list {
            if let Effect::Reply(request_id, reply @ (Reply::Written(_) | Reply::Done)) = effect {
                *effect = Effect::Promise(barrier, *request_id, reply.clone());
            }
        }
    }

    /// Adds an error as the reply to `request_id`.
    pub fn fail(&mut self, request_id: RequestId, error: Error) {
        self.reply(request_id, Reply::Failed(error));
    }

    /// Whether the reply to `request_id` says that another has a lock.
    pub fn refuses_lock(&self, request_id: RequestId) -> bool {
        self.list.iter().any(|effect| match effect {
            Effect::Reply(id, reply) if *id == request_id => {
                matches!(reply, Reply::Failed(Error::WouldWait | Error::Deadlock) | Reply::Lock(Some(_)))
            }
            _ => false,
        })
    }

    /// Takes back the reply to `request_id`: it is to be decided again.
    pub fn take_back(&mut self, request_id: RequestId) {
        self.list.retain(|effect| !matches!(effect, Effect::Reply(id, _) if *id == request_id));
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

    /// Notes that the current request was not answered and does not wait: other work comes first. It is to be handled again.
    pub fn postpone(&mut self) {
        self.postponed = true;
    }

    /// True if the current request is to be handled again. Resets the note.
    pub fn take_postponed(&mut self) -> bool {
        std::mem::take(&mut self.postponed)
    }

    /// The generation of the history that must stay until all is performed.
    pub fn in_hand(&self) -> Option<u8> {
        self.in_hand
    }

    /// Notes that.
    pub fn set_in_hand(&mut self, generation: Option<u8>) {
        self.in_hand = generation;
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
