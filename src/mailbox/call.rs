//! What callers pass to a mailbox, and what it reports.

use super::memory::Memory;
use super::message::Tag;
use super::queue::{Filter, Order};
use crate::config::NO_LIMIT;
use crate::framing::Piece;
use crate::journal::Durable;
use crate::op::{Caller, Effects, Ino, Moment, Now, RequestId};
use crate::state::saved;

/// An open file of a mailbox or topic. Reused after close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandleId(pub(crate) usize);

saved!(struct HandleId(number));

/// Identifies a waiting call. Never reused within a mailbox or topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaitId(pub u64);

saved!(struct WaitId(number));

/// How a mailbox or topic was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `O_RDONLY`: through [`Door::Plain`], a seekable file of one message at a time.
    Receive,
    /// `O_WRONLY`.
    Send,
    /// `O_RDWR`: through [`Door::Plain`], a stream of messages both ways.
    Both,
}

saved!(enum Mode { 0 = Receive, 1 = Send, 2 = Both });

/// The file through which a mailbox was opened. All doors lead to the same queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Door {
    /// The mailbox itself: a write sends one message, a read receives one.
    Plain,
    /// Read: message after message, without end of file. Write: each line is a message.
    Stream,
    /// All bytes written until the last close are one message.
    Whole,
    /// The next message, which stays queued.
    Peek,
    /// Messages of this priority.
    Priority(u16),
    /// Messages that expire so many nanoseconds after they were sent.
    Ttl(u64),
    /// Messages that cannot be received before so many nanoseconds have passed.
    Delay(u64),
    /// Messages that are sent once: not if one with this key was sent shortly before.
    Once(Tag),
    /// Messages with this tag: written with it, or selected by it.
    Tag(Tag),
    /// Messages that this user sent.
    From(u32),
    /// As `Stream`, each message as a JSON object on a line.
    Json,
    /// Leases: a message returns to the queue unless it is settled.
    Lease,
    /// As `Lease`, several at a time, each message as a JSON object on a line.
    LeaseJson,
    /// Write a request, read its reply.
    Rpc,
    /// Read a request, write its reply.
    Serve,
}

/// What a message gets from the door through which it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Properties {
    pub priority: u16,
    pub tag: Option<Tag>,
    /// In nanoseconds, or [`NO_LIMIT`].
    pub ttl: u64,
    /// In nanoseconds, before it can be received.
    pub delay: u64,
    /// With which it is sent once.
    pub key: Option<Tag>,
}

impl Default for Properties {
    fn default() -> Properties {
        Properties { priority: 0, tag: None, ttl: NO_LIMIT, delay: 0, key: None }
    }
}

saved!(enum Door {
    0 = Plain, 1 = Stream, 2 = Whole, 3 = Peek, 4 = Priority(it), 5 = Tag(it), 6 = From(it), 7 = Json, 8 =
    Lease, 9 = Rpc, 10 = Serve, 11 = Ttl(it), 12 = Delay(it), 13 = LeaseJson, 14 = Once(it),
});

/// What a reader takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Selector {
    Message(Filter),
    Peek,
    Request,
    Reply(HandleId),
}

saved!(enum Selector { 0 = Message(it), 1 = Peek, 2 = Request, 3 = Reply(it) });

/// What a send does when the mailbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The writer waits.
    #[default]
    Wait,
    /// The write fails: [`crate::op::Error::NoSpace`].
    Fail,
    /// The oldest messages are dropped, and counted as dropped.
    DropOldest,
}

saved!(enum WhenFull { 0 = Wait, 1 = Fail, 2 = DropOldest });

/// Who may remove or replace the mailbox while messages wait in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Removal {
    /// Whoever may remove a file.
    Any,
    /// Not a thread that has received from it as from a file.
    #[default]
    Guarded,
    /// Nobody.
    Empty,
}

saved!(enum Removal { 0 = Any, 1 = Guarded, 2 = Empty });

/// How a mailbox treats its messages. Its limits are [`crate::config::MailboxLimits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// What a send does if there is no room.
    pub full: WhenFull,
    /// In what order messages are received.
    pub order: Order,
    /// How long a message is kept before it expires, in nanoseconds, or [`NO_LIMIT`].
    pub ttl: u64,
    /// How often a message is leased before it becomes a dead letter, or [`NO_LIMIT`].
    pub max_deliver: u64,
    /// How often a message becomes a dead letter before it stays one. `None`: as often as may be.
    pub max_rounds: Option<u32>,
    /// How long a key of [`Door::Once`] is remembered, in nanoseconds. `None`: [`crate::config::ONCE_WINDOW`].
    pub once_window: Option<u64>,
    /// How long a lease lasts at most, in nanoseconds, or [`NO_LIMIT`].
    pub lease_time: u64,
    /// Longest message of the `whole` door, in bytes.
    pub wholesize: u64,
    /// The dead-letter mailbox: gets messages that expired, were rejected, or were leased too often. `None`: they are
    /// dropped.
    pub dead_letter: Option<DeadLetter>,
    /// Who may remove it while messages wait.
    pub removal: Removal,
    /// What it survives, in a mount with a store.
    pub durable: Durable,
}

saved!(struct Rules {
    full, order, ttl, max_deliver, max_rounds since 3, once_window since 3, lease_time, wholesize,
    dead_letter, removal since 3, durable,
});

/// Where dead letters go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetter {
    /// The mailbox.
    pub mailbox: Ino,
    /// Who set it, with whose rights they are sent there.
    pub setter: Caller,
}

saved!(struct DeadLetter { mailbox, setter });

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            full: WhenFull::default(),
            order: Order::default(),
            ttl: NO_LIMIT,
            max_deliver: NO_LIMIT,
            max_rounds: None,
            once_window: None,
            lease_time: NO_LIMIT,
            wholesize: crate::config::WHOLESIZE,
            dead_letter: None,
            removal: Removal::default(),
            durable: Durable::Off,
        }
    }
}

/// What every call is given: the time, the mount's memory, and a list for effects.
#[derive(Debug)]
pub struct Context<'a> {
    /// The time of the call.
    pub now: Now,
    /// Shared by all mailboxes and topics of the mount.
    pub memory: &'a Memory,
    /// Receives replies and wake-ups.
    pub fx: &'a mut Effects,
}

/// A READ request.
#[derive(Debug, Clone, Copy)]
pub struct Receive {
    /// Identifies the request in its reply.
    pub request_id: RequestId,
    /// The open file.
    pub handle: HandleId,
    /// Offset of the read; on a stream 0, unless it is a later piece of a read(2) that the kernel has split.
    pub offset: u64,
    /// Size of the caller's buffer, in bytes.
    pub size: usize,
    /// Fail instead of waiting.
    pub nonblock: bool,
    /// Reported in `status`.
    pub caller: Caller,
}

saved!(struct Receive { request_id, handle, offset, size, nonblock, caller });

impl Receive {
    pub(crate) fn piece(&self) -> Piece {
        Piece { offset: self.offset, size: self.size, pid: self.caller.pid }
    }
}

/// A WRITE request.
#[derive(Debug, Clone, Copy)]
pub struct Send<'a> {
    /// Identifies the request in its reply.
    pub request_id: RequestId,
    /// The open file.
    pub handle: HandleId,
    /// The bytes written.
    pub body: &'a [u8],
    /// This is a later part of a write(2) that the kernel has split.
    pub continues: bool,
    /// Fail instead of waiting.
    pub nonblock: bool,
    /// The sender.
    pub caller: Caller,
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident $(since $version:literal)?,)*) => {
        /// Counters and current figures, for `stat` and `status`. The counters start at 0 when the mailbox is created.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[allow(missing_docs)]
        pub struct Counts { $($(#[$doc])* pub $name: u64,)* }

        saved!(struct Counts { $($name $(since $version)?),* });

        impl Counts {
            /// Adds those of another mailbox.
            pub fn add(&mut self, other: &Counts) {
                $(self.$name = self.$name.wrapping_add(other.$name);)*
            }

            /// Subtracts what was added.
            pub fn subtract(&mut self, other: &Counts) {
                $(self.$name = self.$name.wrapping_sub(other.$name);)*
            }

            /// Makes each the greater of the two.
            pub fn raise(&mut self, other: &Counts) {
                $(self.$name = self.$name.max(other.$name);)*
            }
        }
    };
}

counts! {
    /// Messages queued now.
    depth,
    /// Bytes of messages and requests queued now.
    bytes,
    /// Calls that wait now.
    waiting_readers,
    waiting_writers,
    /// Messages that cannot be received yet.
    delayed,
    /// Messages leased now.
    leased,
    /// Requests that wait for a server now, and those that a server has taken.
    requests,
    serving,
    sent,
    received,
    /// Messages and requests that were returned to the queue without `ack` or reply.
    redelivered,
    expired,
    /// Dropped to make room under [`WhenFull::DropOldest`], or because there is no dead-letter mailbox.
    dropped,
    /// Sent to the dead-letter mailbox, except for expired messages.
    dead_lettered,
    /// Removed through `messages/` or `purge`.
    removed,
    /// Moved from and to other mailboxes.
    moved_in,
    moved_out,
    /// Requests that were replied to.
    replied,
    /// Writes with a key that was known: nothing was sent.
    duplicates since 3,
}

/// A waiting caller, reported in `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Waiter {
    pub caller: Caller,
    pub writes: bool,
    pub since: Moment,
}

impl Mode {
    pub(crate) fn reads(self) -> bool {
        self != Mode::Send
    }

    pub(crate) fn writes(self) -> bool {
        self != Mode::Receive
    }
}

impl Door {
    /// Whether it can be opened for reading, and for writing.
    pub fn ways(&self) -> (bool, bool) {
        match self {
            Door::Plain
            | Door::Stream
            | Door::Tag(_)
            | Door::Lease
            | Door::LeaseJson
            | Door::Rpc
            | Door::Serve => (true, true),
            Door::Peek | Door::From(_) | Door::Json => (true, false),
            Door::Whole | Door::Priority(_) | Door::Ttl(_) | Door::Delay(_) | Door::Once(_) => (false, true),
        }
    }

    /// What it gives to the messages that are written through it.
    pub(crate) fn properties(&self) -> Properties {
        let plain = Properties::default();
        match self {
            Door::Priority(priority) => Properties { priority: *priority, ..plain },
            Door::Tag(tag) => Properties { tag: Some(tag.clone()), ..plain },
            Door::Ttl(ttl) => Properties { ttl: *ttl, ..plain },
            Door::Delay(delay) => Properties { delay: *delay, ..plain },
            Door::Once(key) => Properties { key: Some(Tag::clone(key)), ..plain },
            _ => plain,
        }
    }

    pub(super) fn selector(&self, handle: HandleId) -> Selector {
        match self {
            Door::Tag(tag) => Selector::Message(Filter::Tag(tag.clone())),
            Door::From(uid) => Selector::Message(Filter::Sender(*uid)),
            Door::Peek => Selector::Peek,
            Door::Serve => Selector::Request,
            Door::Rpc => Selector::Reply(handle),
            Door::Plain
            | Door::Stream
            | Door::Json
            | Door::Lease
            | Door::LeaseJson
            | Door::Whole
            | Door::Priority(_)
            | Door::Ttl(_)
            | Door::Delay(_)
            | Door::Once(_) => Selector::Message(Filter::Any),
        }
    }

    /// A read through it returns as many messages as fit into its buffer.
    pub(super) fn takes_many(&self) -> bool {
        matches!(self, Door::Stream | Door::Json)
    }
}
