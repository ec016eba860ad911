//! What a mailbox is asked, and what it tells of itself.

use super::Memory;
use super::message::Tag;
use super::queue::{Filter, Order};
use crate::config::NO_LIMIT;
use crate::op::{Caller, Effects, Ino, RequestId, Timestamp};

/// An open file of a mailbox or topic. Reused after it was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandleId(pub(crate) usize);

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

/// By which of its files a mailbox was opened. All lead to the same queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Door {
    /// The mailbox itself: a write sends one message, a read receives one.
    Plain,
    /// Message after message without an end of file; a message of each line.
    Stream,
    /// All that is written until the last close is one message.
    Whole,
    /// The next message, not taken.
    Peek,
    /// Messages of this priority.
    Priority(u16),
    /// Messages with this tag.
    Tag(Tag),
    /// Messages of this user.
    From(u32),
    /// As the stream, each message as a JSON object in a line.
    Json,
    /// A message that comes back unless it is settled.
    Lease,
    /// Requests, and their answers.
    Rpc,
    /// The other end of [`Door::Rpc`].
    Serve,
}

/// What a reader waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Selector {
    Message(Filter),
    Peek,
    Request,
    Reply(HandleId),
}

/// What a send does when the mailbox is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The writer waits.
    #[default]
    Wait,
    /// The write fails: [`crate::op::Error::NoSpace`].
    Fail,
    /// The oldest messages make room, and are counted.
    DropOldest,
}

/// What a mailbox does with its messages; its bounds are [`crate::config::MailboxLimits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// When there is no room.
    pub full: WhenFull,
    /// In what order messages are received.
    pub order: Order,
    /// How long a message waits before it goes by itself, in nanoseconds, or [`NO_LIMIT`].
    pub ttl: u64,
    /// How often a message is leased, or [`NO_LIMIT`]; then it goes.
    pub max_deliver: u64,
    /// How long a lease is left to its holder, in nanoseconds, or [`NO_LIMIT`].
    pub lease_time: u64,
    /// Longest message of the `whole` door, in bytes.
    pub wholesize: u64,
    /// The mailbox that messages go to that nobody could deal with.
    pub dead_letter: Option<Ino>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            full: WhenFull::default(),
            order: Order::default(),
            ttl: NO_LIMIT,
            max_deliver: NO_LIMIT,
            lease_time: NO_LIMIT,
            wholesize: crate::config::WHOLESIZE,
            dead_letter: None,
        }
    }
}

/// What every call is given: the time, the mount's memory, and where effects go.
#[derive(Debug)]
pub struct Context<'a> {
    /// The time of the call.
    pub now: Timestamp,
    /// What all mailboxes share.
    pub memory: &'a Memory,
    /// Answers and wake-ups.
    pub fx: &'a mut Effects,
}

/// One READ.
#[derive(Debug, Clone, Copy)]
pub struct Receive {
    /// To be answered.
    pub request_id: RequestId,
    /// The open file.
    pub handle: HandleId,
    /// Position of the descriptor; 0 on a stream.
    pub offset: u64,
    /// Bytes the caller has room for.
    pub size: usize,
    /// Fail instead of waiting.
    pub nonblock: bool,
    /// For `status`.
    pub caller: Caller,
}

/// One WRITE.
#[derive(Debug, Clone, Copy)]
pub struct Send<'a> {
    /// To be answered.
    pub request_id: RequestId,
    /// The open file.
    pub handle: HandleId,
    /// The message.
    pub body: &'a [u8],
    /// The second or a later part of one write(2) that the kernel cut.
    pub continues: bool,
    /// Fail instead of waiting.
    pub nonblock: bool,
    /// The sender.
    pub caller: Caller,
}

/// Figures for `stat` and `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Counts {
    pub depth: u64,
    pub bytes: u64,
    pub waiting_readers: u64,
    pub waiting_writers: u64,
    /// Handed out, neither settled nor given back.
    pub leased: u64,
    /// Of `rpc`, waiting for a server, and being served.
    pub requests: u64,
    pub serving: u64,
    pub sent: u64,
    pub received: u64,
    /// Given back by whoever had leased them.
    pub redelivered: u64,
    /// Gone by themselves.
    pub expired: u64,
    /// Dropped to make room, under [`WhenFull::DropOldest`], or given up with no mailbox for the dead.
    pub dropped: u64,
    /// Given up, to the mailbox for the dead.
    pub dead_lettered: u64,
    /// Removed, or moved to or from another mailbox, through `messages/`.
    pub removed: u64,
    pub moved_in: u64,
    pub moved_out: u64,
    /// Requests answered.
    pub replied: u64,
}

impl Counts {
    /// Adds another mailbox's.
    pub fn add(&mut self, other: &Counts) {
        self.change(*other, u64::wrapping_add);
    }

    /// Takes away what was added.
    pub fn subtract(&mut self, other: &Counts) {
        self.change(*other, u64::wrapping_sub);
    }

    fn change(&mut self, mut other: Counts, by: impl Fn(u64, u64) -> u64) {
        for (figure, other) in self.figures().into_iter().zip(other.figures()) {
            *figure = by(*figure, *other);
        }
    }

    fn figures(&mut self) -> [&mut u64; 17] {
        let Counts {
            depth,
            bytes,
            waiting_readers,
            waiting_writers,
            leased,
            requests,
            serving,
            sent,
            received,
            redelivered,
            expired,
            dropped,
            dead_lettered,
            removed,
            moved_in,
            moved_out,
            replied,
        } = self;
        [
            depth,
            bytes,
            waiting_readers,
            waiting_writers,
            leased,
            requests,
            serving,
            sent,
            received,
            redelivered,
            expired,
            dropped,
            dead_lettered,
            removed,
            moved_in,
            moved_out,
            replied,
        ]
    }
}

/// A waiting caller, for `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Waiter {
    pub caller: Caller,
    pub writes: bool,
    pub since: Timestamp,
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
            Door::Plain | Door::Stream | Door::Tag(_) | Door::Lease | Door::Rpc | Door::Serve => (true, true),
            Door::Peek | Door::From(_) | Door::Json => (true, false),
            Door::Whole | Door::Priority(_) => (false, true),
        }
    }

    pub(super) fn selector(&self, handle: HandleId) -> Selector {
        match self {
            Door::Tag(tag) => Selector::Message(Filter::Tag(tag.clone())),
            Door::From(uid) => Selector::Message(Filter::Sender(*uid)),
            Door::Peek => Selector::Peek,
            Door::Serve => Selector::Request,
            Door::Rpc => Selector::Reply(handle),
            Door::Plain | Door::Stream | Door::Json | Door::Lease | Door::Whole | Door::Priority(_) => {
                Selector::Message(Filter::Any)
            }
        }
    }

    /// A read through it gets as many messages as its buffer holds.
    pub(super) fn takes_many(&self) -> bool {
        matches!(self, Door::Stream | Door::Json)
    }
}
