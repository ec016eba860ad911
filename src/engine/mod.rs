//! The words between the tree and the engine that carries the mailboxes of several hosts: the tree emits a [`Command`], and is
//! told an [`Event`]. Neither waits for the other.

#[cfg(feature = "nats")]
mod nats;
#[cfg(not(feature = "nats"))]
mod none;

#[cfg(feature = "nats")]
pub use nats::{Engine, Sink};
#[cfg(not(feature = "nats"))]
pub use none::{Engine, Sink};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{MailboxLimits, NO_LIMIT};
use crate::journal::record::Reason;
use crate::mailbox::{Properties, Purge, Tag, WhenFull};
use crate::op::{Caller, Error, Ino, Slice, Timestamp};
use crate::state::saved;

/// Where the messages of a mailbox are. Chosen when it is made, by the folder that it is made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Carrier {
    /// In the daemon.
    #[default]
    Local,
    /// In NATS `JetStream`.
    Nats,
}

saved!(enum Carrier { 0 = Local, 1 = Nats });

/// Which engine a mount uses.
#[derive(Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// `nats://HOST[,HOST…]`. May have a password.
    pub url: String,
    /// Mounts with the same space have the same mailboxes. Letters, digits, `_` and `-`.
    pub space: String,
    /// A credentials file of NATS.
    pub credentials: Option<PathBuf>,
    /// Certificates by which servers are known, beside the system's.
    pub ca: Option<PathBuf>,
}

impl std::fmt::Debug for EngineConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineConfig").field("space", &self.space).finish_non_exhaustive()
    }
}

/// Path below `mailboxes/`.
pub type Path = Arc<[u8]>;

/// What all hosts know of a mailbox or folder. Times are in nanoseconds, or [`NO_LIMIT`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Described {
    pub folder: bool,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub limits: MailboxLimits,
    pub full: WhenFull,
    pub ttl: u64,
    pub lease_time: u64,
    pub max_deliver: u64,
    pub dead_letter: Option<DeadLetter>,
}

/// The shared mailbox that gets messages that were rejected or leased too often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it is.
    pub path: Path,
    /// Uid and gid of who has set it, with whose rights they are sent there.
    pub setter: (u32, u32),
}

impl Described {
    /// What the servers have to know.
    pub fn rules(&self) -> (u64, u64) {
        (self.ttl, self.lease_time)
    }

    /// For how long a host that has a message in hand may say nothing before another reader gets it.
    pub fn silence(&self) -> Duration {
        let time = if self.lease_time == NO_LIMIT { SILENCE } else { Duration::from_nanos(self.lease_time) };
        time.max(LEAST_SILENCE)
    }
}

/// As long as `lease_time` is `max`.
const SILENCE: Duration = Duration::from_secs(30);

/// A busy host needs so long to say a word.
const LEAST_SILENCE: Duration = Duration::from_secs(1);

/// Identifies a message that was handed over and is not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId(pub u64);

/// What a reader takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// What was sent to the mailbox.
    Message,
    /// What was asked through `rpc`.
    Question,
}

/// A message that was handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whose it is.
    pub wanted: Wanted,
    /// Identifies it until it is settled.
    pub delivery: DeliveryId,
    /// What is known of it.
    pub about: About,
    /// How often it was handed over before.
    pub deliveries: u32,
    /// The message.
    pub body: Arc<[u8]>,
    /// How many others waited for a reader by then.
    pub waiting: u64,
}

/// What is known of a message beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Its number in its mailbox. Those that were sent later have higher ones.
    pub number: u64,
    /// When the servers got it.
    pub sent: Timestamp,
    /// As the host says from which it came.
    pub sender: Caller,
    /// Messages with a higher one are received first.
    pub priority: u16,
    /// With which it was sent.
    pub tag: Option<Tag>,
    /// Why it is a dead letter, if it is one.
    pub reason: Option<Reason>,
}

/// What becomes of a delivered message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// It is done with.
    Ack,
    /// It goes back, or is a dead letter if it was leased too often.
    Nack,
    /// As `Nack`, and it can be received again after so many nanoseconds.
    NackFor(u64),
    /// It is a dead letter.
    Reject,
}

/// Messages to send.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Publish {
    pub mailbox: Ino,
    pub path: Path,
    /// Identifies the write.
    pub wait: u64,
    /// One after the other. The first that cannot be sent ends it.
    pub bodies: Vec<Slice>,
    /// Of each.
    pub properties: Properties,
    pub sender: Caller,
    /// Try once only.
    pub once: bool,
    /// Its file is closed, so that nobody waits.
    pub closed: bool,
    /// It is a question, which `wait` identifies until [`Command::Forget`]: there is an [`Event::Reply`] to it.
    pub asks: bool,
}

/// A question about the messages of a mailbox that are not acknowledged, or a change of one of them. Each has one [`Event::Answered`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Ask {
    pub mailbox: Ino,
    pub path: Path,
    /// Identifies the call.
    pub wait: u64,
    pub what: Asked,
}

/// What is asked. Messages are known by their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Asked {
    /// Which messages there are after this one, `most` at most.
    List { after: u64, most: usize },
    /// A message.
    Look(u64),
    /// The next message. With `wait`, until there is one, or [`Command::Withdraw`].
    Next { wait: bool },
    /// To remove one.
    Remove(u64),
    /// To move one into the mailbox with this path.
    Move(u64, Path),
    /// To remove those that are like this. It takes as long as it takes.
    Purge(Purge),
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Answer {
    /// In order; and the last that there is, or was.
    List {
        numbers: Vec<u64>,
        last: u64,
    },
    Message(About, Arc<[u8]>),
    /// So many.
    Removed(u64),
    Done,
}

/// How many messages of a write were accepted, and how many of these were known before, by their key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Sent {
    pub accepted: usize,
    pub known: usize,
}

/// What the tree wants of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A mailbox or folder was made, or its description changed.
    Describe(Path, Described),
    /// Its name is gone, and what waits in it.
    Remove(Path, Described),
    /// Send messages.
    Publish(Publish),
    /// A writer does not want to wait any more.
    Withdraw(Ino, u64),
    /// Receive one message. With `wait`, until [`Command::EndPull`]; otherwise whatever waits now.
    #[allow(missing_docs)]
    Pull { mailbox: Ino, path: Path, pull: u64, wanted: Wanted, wait: bool },
    /// Nobody wants the message of a pull any more. One that is under way comes nevertheless.
    EndPull(Ino, u64),
    /// A delivered message is leased: it is kept from other readers until it is settled.
    Keep(DeliveryId),
    /// Settle a message, and report it if somebody waits.
    Settle(DeliveryId, Settle, Option<(Ino, u64)>),
    /// Answer a question that is in hand, and report what came of it. With `once`, one attempt.
    #[allow(missing_docs)]
    Reply { delivery: DeliveryId, body: Slice, mailbox: Ino, wait: u64, once: bool },
    /// What became of an [`Event::Reply`], by its number.
    Heard(u64, Result<(), Error>),
    /// Nobody waits for the reply to a question any more.
    Forget(Ino, u64),
    /// Answer this. It is tried for some seconds, except for what waits.
    Ask(Ask),
}

/// Takes commands. Never waits.
pub type Tell = Box<dyn Fn(Command) + Send + Sync>;

/// What the engine reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// There is a connection, or none.
    Connected(bool),
    /// A mailbox or folder is there, as some host has described it.
    Present(Path, Described),
    /// A name is gone.
    Gone(Path),
    /// All hosts can know of one [`Command::Describe`] or [`Command::Remove`] of something with that owner, or it has failed for
    /// good.
    Told(u32),
    /// What a write waits for: what became of its messages, and why not all were accepted.
    Published(Ino, u64, Sent, Result<(), Error>),
    /// A pull has got a message.
    Message(Ino, u64, Message),
    /// A pull ended without a message.
    Nothing(Ino, u64),
    /// A message is a dead letter: it was sent to the mailbox for these, or else dropped.
    Died(Ino, bool),
    /// What a write of `ack`, `nack` or `reject` waits for.
    Settled(Ino, u64, Result<(), Error>),
    /// What came of a [`Command::Reply`]. The question is still in hand after `NoMemory`, `WouldWait` and `Interrupted`.
    Replied(Ino, u64, Result<(), Error>),
    /// A reply to a question, which a [`Command::Heard`] with the number confirms.
    #[allow(missing_docs)]
    Reply { mailbox: Ino, question: u64, number: u64, body: Arc<[u8]> },
    /// What came of a [`Command::Ask`].
    Answered(Ino, u64, Result<Answer, Error>),
}
