//! What a mailbox is asked, and what it tells of itself.

use std::sync::Arc;

use super::Memory;
use crate::op::{Caller, Effects, Ticket, Timestamp};

/// An open file of a mailbox. Reused after it was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandleId(pub(super) usize);

/// How a mailbox was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `O_RDONLY`: a seekable file of one message at a time.
    Receive,
    /// `O_WRONLY`.
    Send,
    /// `O_RDWR`: a stream of messages both ways.
    Both,
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

/// A message as it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Never reused within the mailbox.
    pub id: u64,
    /// When it was taken into the queue.
    pub sent: Timestamp,
    /// Who sent it, as the kernel attests.
    pub sender: Caller,
    /// Its bytes.
    pub body: Arc<[u8]>,
}

/// What every call is given: the time, the mount's memory, and where effects go.
#[derive(Debug)]
pub struct Context<'a> {
    /// The time of the call.
    pub now: Timestamp,
    /// The mount-wide bound.
    pub memory: &'a Memory,
    /// Answers and wake-ups.
    pub fx: &'a mut Effects,
}

/// One READ.
#[derive(Debug, Clone, Copy)]
pub struct Receive {
    /// To be answered.
    pub ticket: Ticket,
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
    pub ticket: Ticket,
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
    pub sent: u64,
    pub received: u64,
    /// Dropped to make room, under [`WhenFull::DropOldest`].
    pub dropped: u64,
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
    pub(super) fn reads(self) -> bool {
        self != Mode::Send
    }

    pub(super) fn writes(self) -> bool {
        self != Mode::Receive
    }
}
